"""One prediction per image from all cells of a feature map, and the feature maps of any network of `jaxcv.models`."""

import math
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxcv import ops
from jaxcv.models.layers import Conv
from jaxcv.models.trunk import without_dense_layers
from jaxcv.ops.initializers import VarianceScaling


class Cells(nn.Module):
    """One prediction per image, from those of all cells of a map: [b h w c] to [b], [b 2 points + num], and [b h w].

    Each cell predicts an attention logit o, `points` times (x, y) relative to its own centre, as fractions of the
    image's width and height, and `num` other numbers. With x and y moved to the origin of the image, the outputs are

        score = log sum exp(o),    prediction = sum over the cells of softmax(o) (x, y, others).

    The sums let the network learn which cell to use: no target says which.
    """

    num: int
    points: int = 1
    """How many (x, y) come before the other numbers."""
    start: tuple[float, ...] = ()
    """Initial values of the other numbers; () is 0. Initially each (x, y) is the image's centre, and the score 0."""

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"]
    ) -> tuple[Float[Array, " b"], Float[Array, "b d"], Float[Array, "b h w"]]:
        """Score, prediction, and each cell's o."""
        _, h, w, _ = x.shape

        def bias(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
            others = self.start or (0.0,) * self.num
            return jnp.asarray([-math.log(h * w), *(0.0,) * (2 * self.points), *others], dtype)

        # A small initial variance: else the initial errors of x and y exceed all the other losses.
        small = VarianceScaling(0.01, "fan_in")
        x = Conv(1 + 2 * self.points + self.num, 1, kernel_init=small, bias_init=bias, name="answers")(x)
        logits, cells = x[..., 0], x[..., 1:]
        score = nn.logsumexp(logits, axis=(1, 2))
        weights = nn.softmax(logits, axis=(1, 2))
        mean = jnp.einsum("bhw,bhwd->bd", weights, cells)
        # The weighted mean of the cells' centres is the same for all points.
        centre = ops.soft_argmax(logits[..., None])
        centre = jnp.pad(jnp.tile(centre[:, 0], (1, self.points)), ((0, 0), (0, self.num)))
        return score, mean + centre, logits


def feature_maps(backbone: nn.Module, images: Float[Array, "b h w c"], *, train: bool) -> dict[str, Array]:
    """The features of a network that are maps, [b h w c], in order; for use inside another module.

    Fully connected layers return zeros and have no parameters.

    Args:
        backbone: any module that returns `(outputs, features)`, as all of `jaxcv.models` do.
        images: in [0, 1].
        train: given to the backbone.

    Raises:
        ValueError: If it has no such features.
    """
    with nn.intercept_methods(without_dense_layers):
        _, features = backbone(images, train=train)  # pyright: ignore[reportCallIssue]
    maps = {name: x for name, x in features.items() if x.ndim == 4}
    if not maps:
        raise ValueError(f"{type(backbone).__name__} returns no feature map among {', '.join(features)}")
    return maps
