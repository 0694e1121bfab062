"""A network of the zoo as the trunk of another: its feature maps, without its classifier."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxcv import ops
from jaxcv.models.layers import Conv, Dense


class Places(nn.Module):
    """What a few places of a map look like, and where these are: [b h w c] to [b num (c + 2)], and the heat maps.

    A 1x1 convolution makes `num` heat maps [b h w num]. The softmax of each weighs the features to a mean, and its
    `ops.soft_argmax` is the place. A flattened map in front of dense layers, the course's way, has to learn every place
    anew.

    Levine et al.: End-to-end training of deep visuomotor policies. https://arxiv.org/abs/1504.00702, section 5.1, for
    the places.
    """

    num: int = 16

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> tuple[Float[Array, "b d"], Float[Array, "b h w n"]]:
        """Looks and places of one map after another in a row."""
        maps = Conv(self.num, 1, name="maps")(x)
        looks = jnp.einsum("bhwn,bhwc->bnc", nn.softmax(maps, axis=(1, 2)), x)
        found = jnp.concatenate([looks, ops.soft_argmax(maps)], axis=-1)
        return found.reshape(x.shape[0], -1), maps


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

    def pass_over(call: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        if isinstance(context.module, Dense) and context.method_name == "__call__":
            return args[0]
        return call(*args, **kwargs)

    with nn.intercept_methods(pass_over):
        _, features = backbone(images, train=train)  # pyright: ignore[reportCallIssue]
    maps = {name: x for name, x in features.items() if x.ndim == 4}
    if not maps:
        raise ValueError(f"{type(backbone).__name__} returns no feature map among {', '.join(features)}")
    return maps
