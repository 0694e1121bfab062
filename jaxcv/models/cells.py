"""One answer out of the cells of a map, and the maps of a network of the zoo."""

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
    """One answer an image, out of the answers of all cells of a map: [b h w c] to [b], [b 2 + num], and [b h w].

    A cell says how sure it is, o, an x and a y relative to its own middle, as shares of the sides, and `num` other
    numbers: it need not know where it is. The answer is

        score = log sum exp(o),    answer = sum over the cells of softmax(o) (x, y, others).

    Sums instead of one cell's answer, since nobody says during training which cell is meant.
    """

    num: int
    points: int = 1
    """How many (x, y) stand in front of the other numbers."""
    start: tuple[float, ...] = ()
    """What the other numbers are at first; () is 0. The x and y are in the middle, the score is 0."""

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"]
    ) -> tuple[Float[Array, " b"], Float[Array, "b d"], Float[Array, "b h w"]]:
        """Score, answer, and each cell's o."""
        _, h, w, _ = x.shape

        def bias(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
            others = self.start or (0.0,) * self.num
            return jnp.asarray([-math.log(h * w), *(0.0,) * (2 * self.points), *others], dtype)

        # Small numbers at first: else the places of a new network cost more than all the rest.
        small = VarianceScaling(0.01, "fan_in")
        x = Conv(1 + 2 * self.points + self.num, 1, kernel_init=small, bias_init=bias, name="answers")(x)
        sure, answers = x[..., 0], x[..., 1:]
        score = nn.logsumexp(sure, axis=(1, 2))
        shares = nn.softmax(sure, axis=(1, 2))
        answer = jnp.einsum("bhw,bhwd->bd", shares, answers)
        # The mean of the cells' middles is the same for all points: added once.
        middle = ops.soft_argmax(sure[..., None])
        middle = jnp.pad(jnp.tile(middle[:, 0], (1, self.points)), ((0, 0), (0, self.num)))
        return score, answer + middle, sure


def feature_maps(backbone: nn.Module, images: Float[Array, "b h w c"], *, train: bool) -> dict[str, Array]:
    """The features of a network that are maps, [b h w c], in order; for use inside another module.

    Its fully connected layers are passed over, so they have no parameters: whatever is behind them serves
    classification.

    Args:
        backbone: any network of the zoo, or what returns `(outputs, features)`.
        images: in [0, 1].
        train: as of the network.

    Raises:
        ValueError: it has no such features.
    """
    with nn.intercept_methods(without_dense_layers):
        _, features = backbone(images, train=train)  # pyright: ignore[reportCallIssue]
    maps = {name: x for name, x in features.items() if x.ndim == 4}
    if not maps:
        raise ValueError(f"{type(backbone).__name__} returns no feature map among {', '.join(features)}")
    return maps
