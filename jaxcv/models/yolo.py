"""A one-stage detector: every cell of a grid predicts boxes relative to a few anchor boxes.

Redmon, Farhadi: YOLO9000: better, faster, stronger. https://arxiv.org/abs/1612.08242, sections 2 and 3.
"""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxcv import ops
from jaxcv.models.darknet import DarknetUnit
from jaxcv.models.layers import Conv, space_to_depth, standardize
from jaxcv.models.yolos import objectness_prior


class YOLO(nn.Module):
    """YOLOv2's head on a small residual backbone, with features of two scales joined.

    Takes [b h w c] in [0, 1], height and width divisible by 16. Returns [b h/8 w/8 a 5+k], raw: for each cell and
    anchor box `tx, ty, tw, th, to` and k class logits; `ops.decode_yolo` turns them into boxes. Features: `stage1`
    (stride 4), `stage2` (8), `stage3` (16), `neck` (8).

    Deviations from the paper: a narrow backbone of three stages with Darknet-53's bottlenecks (YOLOv3, section 2.4)
    instead of Darknet-19, whose stem works on 2x2 pixel blocks, which is cheaper on every backend; fine and coarse
    features are joined by upsampling the coarse ones (YOLOv3, section 2.3) instead of reorganising the fine ones.
    """

    num_classes: int
    anchor_boxes: ops.AnchorBoxes
    """Widths and heights in pixels; the network only needs their number, the loss and the decoding their values."""
    stage_channels: tuple[int, int, int] = (32, 64, 128)
    stage_depths: tuple[int, int, int] = (1, 2, 2)
    """Residual bottlenecks after each stage's strided unit."""
    neck_channels: int = 64
    prior: float = 0.01
    """Objectness of every slot before training (https://arxiv.org/abs/1708.02002, section 4.1)."""
    mean: tuple[float, ...] = (0.45,)
    std: tuple[float, ...] = (0.25,)

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w c"], *, train: bool = False
    ) -> tuple[Float[Array, "b gh gw a p"], dict[str, Array]]:
        """`train` selects batch statistics over running ones."""
        features: dict[str, Array] = {}
        x = space_to_depth(standardize(images, self.mean, self.std), block=2)
        for i, (channels, depth) in enumerate(zip(self.stage_channels, self.stage_depths, strict=True), start=1):
            x = DarknetUnit(channels, strides=2, name=f"stage{i}_down")(x, train=train)
            for j in range(depth):
                y = DarknetUnit(channels // 2, kernel_size=1, name=f"stage{i}_reduce{j + 1}")(x, train=train)
                x = x + DarknetUnit(channels, name=f"stage{i}_conv{j + 1}")(y, train=train)
            features[f"stage{i}"] = x
        coarse = DarknetUnit(self.neck_channels // 2, kernel_size=1, name="neck_reduce")(x, train=train)
        x = jnp.concatenate([features["stage2"], ops.upsample2x(coarse)], axis=-1)
        x = features["neck"] = DarknetUnit(self.neck_channels, name="neck")(x, train=train)
        a, depth = len(np.asarray(self.anchor_boxes)), 5 + self.num_classes
        x = Conv(a * depth, 1, bias_init=objectness_prior(a, depth, self.prior), name="head")(x)
        return x.reshape(*x.shape[:3], a, depth), features
