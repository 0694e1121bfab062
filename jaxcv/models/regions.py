"""The second stage of the R-CNN family: which regions are trained on, and what is said of each."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from jaxcv import ops
from jaxcv.models.layers import Dense, Dropout
from jaxcv.ops.initializers import VarianceScaling
from jaxcv.types import Regions, Scalar


class RegionHead(nn.Module):
    """What a detector says of the features of each region: two hidden layers, then class logits and box deltas.

    `fc6` and `fc7` with a ReLU and dropout, then beside each other `classes`, k + 1 logits, and `deltas`, four for each
    class (Girshick, Fast R-CNN, https://arxiv.org/abs/1504.08083, figure 1).
    """

    num_classes: int
    """Without background."""
    fc_widths: tuple[int, ...] = (1024, 1024)
    dropout: Scalar = 0.0
    """0.5 in VGG-16's fc6 and fc7."""

    @nn.compact
    def __call__(
        self, x: Float[Array, "b n *shape"], boxes: Float[Array, "b n 4"], valid: Shaped[Array, "b n"], *, train: bool
    ) -> Regions:
        """Features of regions, and the regions themselves."""
        x = x.reshape(*x.shape[:2], -1)
        for i, width in enumerate(self.fc_widths, start=6):
            x = nn.relu(Dense(width, kernel_init=VarianceScaling(2.0, "fan_in"), name=f"fc{i}")(x))
            x = Dropout(self.dropout)(x, train=train)
        k = self.num_classes + 1
        # Standard deviations of 0.01 and 0.001, section 2.3.
        classes = Dense(k, kernel_init=VarianceScaling(1e-4 * x.shape[-1], "fan_in"), name="classes")
        deltas = Dense(4 * k, kernel_init=VarianceScaling(1e-6 * x.shape[-1], "fan_in"), name="deltas")
        logits, moves = (layer(x).astype(jnp.float32) for layer in (classes, deltas))
        return Regions(boxes, valid, logits, moves.reshape(*moves.shape[:2], k, 4))


def sampled_regions(
    key: Array,
    proposals: Float[Array, "b n 4"],
    valid: Shaped[Array, "b n"],
    targets: Float[Array, "b m 4"] | None,
    target_valid: Shaped[Array, "b m"] | None,
    *,
    count: int,
    positive_fraction: Scalar = 0.25,
    positive_iou: Scalar = 0.5,
    negative_iou: Scalar = 0.5,
) -> tuple[Float[Array, "b s 4"], Shaped[Array, "b s"]]:
    """The regions of a training step: a random sample of the proposals and the targets themselves.

    At most a quarter have an IoU of at least 0.5 with a target; the others have less (Fast R-CNN, section 2.3, without
    its lower bound of 0.1; the targets as proposals are torchvision's).

    Args:
        key: A random key; each image has its own.
        proposals: `[b, n, 4]` xyxy in pixels.
        valid: `[b, n]`.
        targets: `[b, m, 4]`; those without area, or not finite, do not count.
        target_valid: `[b, m]`.
        count: Regions of an image.
        positive_fraction: Of `count`.
        positive_iou: As in `ops.match_boxes`.
        negative_iou: As in `ops.match_boxes`.

    Returns:
        boxes `[b, count, 4]`, without gradient, and which of them are valid.

    Raises:
        ValueError: If there are no targets.
    """
    if targets is None or target_valid is None:
        raise ValueError('training takes the targets too: inputs=("image", "boxes", "valid")')
    finite: Array = jnp.where(jnp.isfinite(targets), targets, 0.0).astype(jnp.float32)
    there = target_valid.astype(bool) & (ops.box_area(finite) > 0)
    candidates = jax.lax.stop_gradient(jnp.concatenate([proposals, finite], axis=1))
    matches = ops.match_boxes(candidates, finite, there, positive_iou=positive_iou, negative_iou=negative_iou)
    there = jnp.concatenate([valid.astype(bool), there], axis=1)

    def sample(key: Array, positive: Array, negative: Array) -> tuple[Array, Array]:
        return ops.balanced_sample(key, positive, negative, count=count, positive_fraction=positive_fraction)

    keys = jax.random.split(key, len(candidates))
    index, chosen = jax.vmap(sample)(keys, matches.positive & there, matches.negative & there)
    boxes = jnp.take_along_axis(candidates, index[..., None], axis=1)
    return jnp.where(chosen[..., None], boxes, 0.0), chosen
