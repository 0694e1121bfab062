"""Pieces that several networks are built from."""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float


def standardize(
    images: Float[Array, "b h w c"], mean: Sequence[float], std: Sequence[float]
) -> Float[Array, "b h w c"]:
    """`(images - mean) / std` per channel; one number stands for every channel."""
    return (images - jnp.asarray(mean, images.dtype).reshape(1, 1, 1, -1)) / jnp.asarray(std, images.dtype).reshape(
        1, 1, 1, -1
    )


def space_to_depth(x: Float[Array, "b h w c"], *, block: int) -> Float[Array, "b h2 w2 c2"]:
    """Every `block` x `block` square of pixels as one with all their channels, row by row."""
    b, h, w, c = x.shape
    x = x.reshape(b, h // block, block, w // block, block, c)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(b, h // block, w // block, block * block * c)


class ConvNormAct(nn.Module):
    """Convolution without bias, batch normalisation, leaky ReLU (slope 0.1): Darknet's unit.

    Maps [b h w c] to [b ceil(h/strides) ceil(w/strides) features]; same padding. YOLO9000, https://arxiv.org/abs/1612.08242.
    """

    features: int
    kernel_size: int = 3
    strides: int = 1
    momentum: float = 0.97
    negative_slope: float = 0.1

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b h2 w2 features"]:
        """`train` selects batch statistics over running ones."""
        sides = (self.kernel_size, self.kernel_size)
        x = nn.Conv(self.features, sides, strides=(self.strides, self.strides), use_bias=False)(x)
        x = nn.BatchNorm(use_running_average=not train, momentum=self.momentum, epsilon=1e-5)(x)
        return nn.leaky_relu(x, self.negative_slope)
