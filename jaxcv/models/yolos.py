"""YOLO v1, v2 and v3 as published, over any backbone.

Each takes [b h w c] in [0, 1], height and width divisible by its coarsest stride, and returns raw outputs, which
`predict.yolo` (or `yolo_v1`) turns into boxes. `backbone` is a network that returns `(logits, features)`; its dense
layers are left out. The features are the backbone's, and those named below.
"""

import math
from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxcv import ops
from jaxcv.models.darknet import DarknetUnit, darknet19, darknet53, darknet_tiny, extraction
from jaxcv.models.layers import Conv, Dense, Dropout, flatten, space_to_depth
from jaxcv.models.trunk import trunk_features
from jaxcv.types import Scalar


def objectness_prior(anchors: int, depth: int, prior: float) -> Any:
    """Initial biases of a head: a low objectness `prior`, so that empty slots do not dominate the first losses."""

    def init(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
        logit = math.log(prior / (1 - prior))
        return jnp.zeros((anchors, depth), dtype).at[:, 4].set(logit).reshape(shape)

    return init


class YOLOv1(nn.Module):
    """One grid, `num_boxes` boxes and one class in each cell, predicted by fully connected layers.

    Returns [b s s 5 * num_boxes + num_classes]; see `ops.decode_yolo_v1`. The grid's stride is twice that of the
    backbone's feature: 64 pixels, 7 x 7 cells at 448. Trains with `losses.yolo_v1`. Features: `conv24`, `fc`.

    Redmon et al.: You Only Look Once. https://arxiv.org/abs/1506.02640, figure 3.
    """

    num_classes: int = 20
    num_boxes: int = 2
    backbone: nn.Module | None = None
    """None: `extraction`."""
    feature: str | int = 32
    """Of the backbone: a name, or a stride for the last feature of that stride."""
    width: int = 1024
    """Channels of the four convolutions after the backbone."""
    fc_width: int = 4096
    """Of the fully connected layer; 0: a 1x1 convolution instead, for images of any size."""
    dropout: Scalar = 0.5

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w c"], *, train: bool = False
    ) -> tuple[Float[Array, "b s s2 p"], dict[str, Array]]:
        """`train` selects batch statistics over running ones, and turns dropout on."""
        network = extraction(name="backbone") if self.backbone is None else self.backbone
        features, (x,) = trunk_features(network, images, [self.feature], train=train)
        for i, strides in enumerate((1, 2, 1, 1), start=21):
            x = DarknetUnit(self.width, strides=strides, name=f"conv{i}")(x, train=train)
        features["conv24"] = x
        rows, columns, depth = *x.shape[1:3], 5 * self.num_boxes + self.num_classes
        if not self.fc_width:
            return Conv(depth, 1, name="head")(x), features
        x = features["fc"] = nn.leaky_relu(Dense(self.fc_width, name="fc")(flatten(x)), negative_slope=0.1)
        x = Dense(rows * columns * depth, name="head")(Dropout(self.dropout)(x, train=train))
        return x.reshape(-1, rows, columns, depth), features


class YOLOv2(nn.Module):
    """Anchor boxes on one grid of stride 32, with a passthrough of finer features.

    Returns [b h/32 w/32 a 5+k], raw: for each cell and anchor box `tx, ty, tw, th, to` and k class logits. Trains with
    `losses.yolo`. Features: `conv20`, `conv22`.

    Redmon, Farhadi: YOLO9000. https://arxiv.org/abs/1612.08242, section 2.
    """

    anchor_boxes: ops.AnchorBoxes
    """Widths and heights in pixels; the network only needs their number."""
    num_classes: int = 20
    backbone: nn.Module | None = None
    """None: `darknet19`."""
    coarse: str | int = 32
    """Feature of the backbone with the grid's stride: a name, or a stride for the last feature of that stride."""
    fine: str | int = 16
    """Feature of half that stride, for the passthrough."""
    width: int = 1024
    """Channels of the convolutions after the backbone; the passthrough has a sixteenth of them."""
    darknet_order: bool = False
    """The passthrough rearranges pixels as Darknet's `reorg` layer does, not as space to depth; for weights trained
    with Darknet."""
    prior: float = 0.01
    """Objectness of every slot before training (https://arxiv.org/abs/1708.02002, section 4.1)."""

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w c"], *, train: bool = False
    ) -> tuple[Float[Array, "b gh gw a p"], dict[str, Array]]:
        """`train` selects batch statistics over running ones.

        Raises:
            ValueError: If the fine feature is not twice as large as the coarse one.
        """
        network = darknet19(name="backbone") if self.backbone is None else self.backbone
        features, (x, fine) = trunk_features(network, images, (self.coarse, self.fine), train=train)
        if fine.shape[1:3] != (2 * x.shape[1], 2 * x.shape[2]):
            sizes = f"{fine.shape[1]}x{fine.shape[2]} and {x.shape[1]}x{x.shape[2]}"
            raise ValueError(f"features {self.fine!r} and {self.coarse!r} are {sizes}: expected a ratio of 2")
        for i in (19, 20):
            x = features[f"conv{i}"] = DarknetUnit(self.width, name=f"conv{i}")(x, train=train)
        fine = DarknetUnit(self.width // 16, 1, name="conv21")(fine, train=train)
        fine = darknet_reorganised(fine) if self.darknet_order else space_to_depth(fine, block=2)
        x = jnp.concatenate([fine, x], axis=-1)
        x = features["conv22"] = DarknetUnit(self.width, name="conv22")(x, train=train)
        a, depth = len(np.asarray(self.anchor_boxes)), 5 + self.num_classes
        x = Conv(a * depth, 1, bias_init=objectness_prior(a, depth, self.prior), name="head")(x)
        return x.reshape(*x.shape[:3], a, depth), features


def darknet_reorganised(x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
    """Darknet's `reorg` layer: [c h w] reshaped to [c/4 2h 2w], space to depth, reshaped to [4c h/2 w/2]."""
    b, h, w, c = x.shape
    wide = x.transpose(0, 3, 1, 2).reshape(b, c // 4, h, 2, w, 2)
    small = wide.transpose(0, 3, 5, 1, 2, 4).reshape(b, 4 * c, h // 2, w // 2)
    return small.transpose(0, 2, 3, 1)


class YOLOv3(nn.Module):
    """Anchor boxes on several grids, finer ones with the upsampled features of coarser ones.

    Returns a tuple of grids [b gh gw a 5+k], finest first (strides 8, 16 and 32); the anchor boxes are divided
    evenly, the first ones to the finest. Trains with `losses.yolo(class_loss="sigmoid", ignore_threshold=0.5)`.
    Features: `neck1` (finest) `neck2 ..`.

    Redmon, Farhadi: YOLOv3. https://arxiv.org/abs/1804.02767, section 2.3; `yolo_v3_tiny` is the tiny version.
    """

    anchor_boxes: ops.AnchorBoxes
    """Widths and heights in pixels, smallest first; the network only needs their number."""
    num_classes: int = 80
    backbone: nn.Module | None = None
    """None: `darknet53`, or for two grids `darknet_tiny`."""
    stages: tuple[str | int, ...] = (8, 16, 32)
    """Features of the backbone, finest first, each of twice the stride of the one before: names, or strides."""
    neck_channels: tuple[int, ...] = (128, 256, 512)
    """Channels of each grid's neck; every second convolution has twice as many."""
    neck_depths: tuple[int, ...] = (5, 5, 5)
    """Convolutions of each grid's neck, 1x1 and 3x3 in turn."""
    prior: float = 0.01
    """As in `YOLOv2`."""

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w c"], *, train: bool = False
    ) -> tuple[tuple[Array, ...], dict[str, Array]]:
        """`train` selects batch statistics over running ones.

        Raises:
            ValueError: If the anchor boxes cannot be divided evenly among the grids.
        """
        network = self.backbone
        if network is None:
            network = (darknet_tiny if len(self.stages) == 2 else darknet53)(name="backbone")
        features, maps = trunk_features(network, images, self.stages, train=train)
        total, levels = len(np.asarray(self.anchor_boxes)), len(self.stages)
        if total % levels:
            raise ValueError(f"{total} anchor boxes cannot be divided evenly among {levels} grids")
        a, depth = total // levels, 5 + self.num_classes
        outputs: list[Array] = []
        above = None
        for i in reversed(range(levels)):
            x, channels = maps[i], self.neck_channels[i]
            if above is not None:
                up = DarknetUnit(channels, 1, name=f"lateral{i + 1}")(above, train=train)
                x = jnp.concatenate([ops.upsample2x(up)[:, : x.shape[1], : x.shape[2]], x], axis=-1)
            for j in range(self.neck_depths[i]):
                unit = DarknetUnit(channels * (1 + j % 2), 1 + j % 2 * 2, name=f"neck{i + 1}_conv{j + 1}")
                x = unit(x, train=train)
            above = features[f"neck{i + 1}"] = x
            x = DarknetUnit(2 * channels, name=f"neck{i + 1}_last")(x, train=train)
            x = Conv(a * depth, 1, bias_init=objectness_prior(a, depth, self.prior), name=f"head{i + 1}")(x)
            outputs.insert(0, x.reshape(*x.shape[:3], a, depth))
        return tuple(outputs), features


yolo_v3_tiny = partial(YOLOv3, stages=(16, 32), neck_channels=(128, 256), neck_depths=(0, 1))
