"""Any network of the zoo as the trunk of another: its features without its classifier."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxcv.models.layers import Dense


def trunk_features(
    network: nn.Module, images: Float[Array, "b h w c"], wanted: Sequence[str | int], *, train: bool
) -> tuple[dict[str, Array], list[Array]]:
    """All features of a network, and those that are wanted; its dense layers are left out, and have no parameters.

    To be called inside a module that has the network as an attribute. What a classifier does after its last dense
    layer is computed on zeros, and dropped by XLA. Auxiliary classifiers (GoogLeNet, Inception) hold convolutions too:
    give such networks without them.

    Args:
        network: `network(images, train=...) -> (logits, features)`.
        images: in [0, 1].
        wanted: the name of a feature, or a stride: the last feature of so many pixels of the picture, sides rounded up.
        train: handed down.

    Raises:
        ValueError: There is none of that name or stride; says which there are.
    """
    with nn.intercept_methods(without_dense_layers):
        _, features = network(images, train=train)
    height, width = images.shape[1:3]

    def find(name: str | int) -> Array:
        if isinstance(name, str):
            found = [features[name]] if name in features else []
        else:
            sides = (-(-height // name), -(-width // name))
            found = [x for x in features.values() if x.ndim == 4 and x.shape[1:3] == sides]
        if not found:
            there = ", ".join(f"{n} {x.shape[1]}x{x.shape[2]}" for n, x in features.items() if x.ndim == 4)
            what = f"feature {name!r}" if isinstance(name, str) else f"feature of stride {name}"
            raise ValueError(f"{type(network).__name__} has no {what} of {height}x{width} pixels; there are {there}")
        return found[-1]

    return features, [find(name) for name in wanted]


def without_dense_layers(method: Any, args: Any, kwargs: Any, context: Any) -> Any:
    """An interceptor for `nn.intercept_methods`: dense layers give zeros, and have no parameters."""
    if isinstance(context.module, Dense) and context.method_name == "__call__":
        (x,) = args
        return jnp.zeros((*x.shape[:-1], context.module.features), x.dtype)
    return method(*args, **kwargs)
