"""A network of the zoo as the trunk of another: its feature maps, without its classifier."""

from typing import Any

import flax.linen as nn
from jaxtyping import Array, Float

from jaxcv.models.layers import Dense


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
