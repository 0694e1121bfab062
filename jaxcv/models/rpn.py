"""Region proposal network: a small network slid over feature maps scores and refines anchor boxes.

Ren, He, Girshick, Sun: Faster R-CNN. https://arxiv.org/abs/1506.01497, section 3.1.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxcv import ops
from jaxcv.models.layers import Conv
from jaxcv.ops.initializers import VarianceScaling
from jaxcv.types import Proposals, Scalar


class RPN(nn.Module):
    """A 3x3 convolution `conv` and two of 1x1 beside each other, `objectness` and `deltas`, shared by all levels.

    At every position p_i = sigma(objectness) is the probability of an object for each anchor box, and t_i, the deltas,
    lead from it to the object's box: t_x = (x - x_a) / w_a, t_y = (y - y_a) / h_a, t_w = log(w / w_a),
    t_h = log(h / h_a) (equation 2). Deviation, as in torchvision: one logit an anchor box, not a softmax over two.
    """

    anchor_boxes: ops.AnchorBoxes
    """Widths and heights in pixels, divided evenly among the levels, the first ones to the finest."""
    max_candidates: tuple[int, int] = (2000, 1000)
    """Of a level, in training and in evaluation; see `ops.region_proposals`."""
    max_proposals: tuple[int, int] = (2000, 1000)
    """In training and in evaluation."""
    iou_threshold: Scalar = 0.7

    @nn.compact
    def __call__(
        self, levels: Sequence[Float[Array, "b _ _ c"]], image_size: tuple[int, int], *, train: bool
    ) -> Proposals:
        """The proposals of images of (height, width) pixels; draws `seeds` from the "dropout" stream in training.

        Raises:
            ValueError: If the anchor boxes cannot be divided evenly among the levels.
        """
        total, channels = len(np.asarray(self.anchor_boxes)), levels[0].shape[-1]
        a = total // len(levels)
        if a * len(levels) != total:
            raise ValueError(f"{total} anchor boxes cannot be divided evenly among {len(levels)} levels")
        small = VarianceScaling(1e-4 * channels, "fan_in")  # a standard deviation of 0.01, as in the paper
        conv = Conv(channels, padding=1, name="conv")
        objectness = Conv(a, 1, kernel_init=small, name="objectness")
        deltas = Conv(4 * a, 1, kernel_init=small, name="deltas")
        logits, moves, anchors = [], [], []
        for i, x in enumerate(levels):
            sizes = self.anchor_boxes[a * i : a * (i + 1)]  # pyright: ignore[reportIndexIssue]
            hidden = nn.relu(conv(x))
            logits.append(objectness(hidden).reshape(x.shape[0], -1).astype(jnp.float32))
            moves.append(deltas(hidden).reshape(x.shape[0], -1, 4).astype(jnp.float32))
            anchors.append(ops.anchor_grid(sizes, grid_size=x.shape[1:3], image_size=image_size))
        every, scores, changes = jnp.concatenate(anchors), jnp.concatenate(logits, 1), jnp.concatenate(moves, 1)

        def propose(objectness: Array, deltas: Array) -> tuple[Array, Array, Array]:
            return ops.region_proposals(
                objectness,
                deltas,
                every,
                image_size=image_size,
                level_sizes=tuple(len(x) for x in anchors),
                iou_threshold=self.iou_threshold,
                max_candidates=self.max_candidates[not train],
                max_outputs=self.max_proposals[not train],
            )

        boxes, probabilities, valid = jax.vmap(propose)(scores, changes)
        b = len(scores)
        seeds = jax.random.bits(self.make_rng("dropout"), (b,)) if train else jnp.zeros((b,), jnp.uint32)
        return Proposals(every, scores, changes, boxes, probabilities, valid, seeds)
