"""Any network of `jaxcv.models` as a backbone: its features without its classifier."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxcv.models.layers import Dense


def trunk_features(
    network: nn.Module, images: Float[Array, "b h w c"], wanted: Sequence[str | int], *, train: bool
) -> tuple[dict[str, Array], list[Array]]:
    """All features of a network, and selected ones; its dense layers are left out, and have no parameters.

    To be called inside a module that has the network as an attribute. Dense layers return zeros; XLA removes what is
    computed from those. Auxiliary classifiers (GoogLeNet, Inception) hold convolutions too: turn them off.

    Args:
        network: `network(images, train=...) -> (logits, features)`.
        images: in [0, 1].
        wanted: each the name of a feature, or a stride: the last feature of that stride, height and width rounded up.
        train: given to the network.

    Raises:
        ValueError: If there is none of that name or stride.
    """
    with nn.intercept_methods(without_dense_layers):
        _, features = network(images, train=train)
    height, width = images.shape[1:3]

    def find(name: str | int) -> Array:
        if isinstance(name, str):
            matching = [features[name]] if name in features else []
        else:
            size = (-(-height // name), -(-width // name))
            matching = [x for x in features.values() if x.ndim == 4 and x.shape[1:3] == size]
        if not matching:
            there = ", ".join(f"{n} {x.shape[1]}x{x.shape[2]}" for n, x in features.items() if x.ndim == 4)
            what = f"feature {name!r}" if isinstance(name, str) else f"feature of stride {name}"
            raise ValueError(f"{type(network).__name__} has no {what} of {height}x{width} pixels; it has {there}")
        return matching[-1]

    return features, [find(name) for name in wanted]


def without_dense_layers(method: Any, args: Any, kwargs: Any, context: Any) -> Any:
    """An interceptor for `nn.intercept_methods`: dense layers return zeros, and have no parameters."""
    if isinstance(context.module, Dense) and context.method_name == "__call__":
        (x,) = args
        return jnp.zeros((*x.shape[:-1], context.module.features), x.dtype)
    return method(*args, **kwargs)
