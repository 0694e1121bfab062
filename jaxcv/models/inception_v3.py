"""Inception v3: inception modules with 5x5 and 7x7 convolutions factorised into 3x3 and 1x7, 7x1.

Szegedy et al.: Rethinking the inception architecture for computer vision. https://arxiv.org/abs/1512.00567
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxcv.models.inception import AuxiliaryLogits
from jaxcv.models.layers import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    AvgPool,
    ConvNormAct,
    Dense,
    Dropout,
    MaxPool,
    global_avg_pool,
    standardize,
)
from jaxcv.types import Scalar

_Unit = partial(ConvNormAct, epsilon=1e-3)

Step = tuple[int, *tuple[int | tuple[int, int], ...]]
"""Channels and kernel of a convolution, or the kernels of several in parallel over the same map."""

Branches = Mapping[str, tuple[Step, ...]]
"""The steps of each branch by its name."""


class Mixed(nn.Module):
    """Branches of convolutions over the same map and one with pooling, concatenated by channels.

    The units of a branch have its name and a number, parallel ones a letter too: `branch3x3_2a`.
    """

    branches: Branches
    pooled: int = 0
    """Channels of `branch_pool`, a mean of 3x3 before a 1x1 convolution. With 0 the module halves height and width:
    the last convolution of each branch has stride 2 and no padding, and the pooled branch is max pooling 3x3 by 2."""

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b h2 w2 c2"]:
        """`train` selects batch statistics over running ones."""
        last = _Unit if self.pooled else partial(_Unit, strides=2, padding="valid")
        outputs = []
        for branch, steps in self.branches.items():
            ends = [x]
            for i, (features, *kernels) in enumerate(steps, start=1):
                unit = last if i == len(steps) else _Unit
                name = branch if len(steps) == 1 else f"{branch}_{i}"
                named = zip(kernels, "ab" if len(kernels) > 1 else [""], strict=True)
                ends = [unit(features, k, name=name + letter)(ends[0], train=train) for k, letter in named]
            outputs += ends
        if self.pooled:
            x = _Unit(self.pooled, 1, name="branch_pool")(AvgPool(3, strides=1, padding=1)(x), train=train)
        else:
            x = MaxPool(3, strides=2)(x)
        return jnp.concatenate([*outputs, x], axis=-1)


_FORK = (384, (1, 3), (3, 1))


def _squares(pooled: int) -> tuple[Branches, int]:
    """Figure 5, on 35x35, but one branch keeps a 5x5."""
    double = ((64, 1), (96, 3), (96, 3))
    return {"branch1x1": ((64, 1),), "branch5x5": ((48, 1), (64, 5)), "branch3x3dbl": double}, pooled


def _strips(c: int) -> tuple[Branches, int]:
    """Figure 6, on 17x17: 7x7 as 1x7 and 7x1."""
    once = ((c, 1), (c, (1, 7)), (192, (7, 1)))
    twice = ((c, 1), (c, (7, 1)), (c, (1, 7)), (c, (7, 1)), (192, (1, 7)))
    return {"branch1x1": ((192, 1),), "branch7x7": once, "branch7x7dbl": twice}, 192


def _forks() -> tuple[Branches, int]:
    """Figure 7, on 8x8: 3x3 as 1x3 beside 3x1."""
    double = ((448, 1), (384, 3), _FORK)
    return {"branch1x1": ((320, 1),), "branch3x3": ((384, 1), _FORK), "branch3x3dbl": double}, 192


_MODULES = {
    "Mixed_5b": _squares(32),
    "Mixed_5c": _squares(64),
    "Mixed_5d": _squares(64),
    "Mixed_6a": ({"branch3x3": ((384, 3),), "branch3x3dbl": ((64, 1), (96, 3), (96, 3))}, 0),
    "Mixed_6b": _strips(128),
    "Mixed_6c": _strips(160),
    "Mixed_6d": _strips(160),
    "Mixed_6e": _strips(192),
    "Mixed_7a": (
        {"branch3x3": ((192, 1), (320, 3)), "branch7x7x3": ((192, 1), (192, (1, 7)), (192, (7, 1)), (192, 3))},
        0,
    ),
    "Mixed_7b": _forks(),
    "Mixed_7c": _forks(),
}


class AuxiliaryHead(nn.Module):
    """The auxiliary classifier (figure 8): mean of 5x5 by 3, `conv0` 1x1, `conv1` 5x5, `fc`.

    Raises ValueError where the map is smaller than the paper's 17x17, for which the kernels are too large.
    """

    num_classes: int

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b k"]:
        """`train` selects batch statistics over running ones."""
        if min(x.shape[1:3]) < 17:
            if not self.is_initializing():
                size = f"{x.shape[1]}x{x.shape[2]}"
                raise ValueError(f"a map of {size}: the auxiliary head expects at least 17x17, of images of 299x299")
            x = jnp.zeros((x.shape[0], 17, 17, x.shape[3]), x.dtype)  # parameters are the same at every size
        x = _Unit(128, 1, name="conv0")(AvgPool(5, strides=3)(x), train=train)
        x = _Unit(768, 5, padding="valid", name="conv1")(x, train=train)
        return Dense(self.num_classes, name="fc")(global_avg_pool(x))


class InceptionV3(nn.Module):
    """Eleven modules on three grids (35, 17, 8 for images of 299), as torchvision and TensorFlow have them.

    Takes [b h w 3] in [0, 1] (299 in the paper, at least 75), returns logits [b num_classes] and the features
    `Conv2d_1a_3x3 Conv2d_2a_3x3 Conv2d_2b_3x3 MaxPool_3a_3x3 Conv2d_3b_1x1 Conv2d_4a_3x3 MaxPool_5a_3x3
    Mixed_5b ... Mixed_7c pool`. With `aux_logits` and `train`, the first output is `AuxiliaryLogits`, with one head
    on Mixed_6e, whose loss torchvision weights by 0.4; images are then at least 299.

    torchvision's published weights were trained with `mean` and `std` of 0.5. Deviations from the paper's table 1, as
    in the released network: the stem, the 5x5 convolutions of the first modules, and their widths.
    """

    num_classes: int = 1000
    aux_logits: bool = False
    dropout: Scalar = 0.5
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w c"], *, train: bool = False
    ) -> tuple[Float[Array, "b k"] | AuxiliaryLogits, dict[str, Array]]:
        """`train` selects batch statistics over running ones, turns dropout and the auxiliary head on."""
        features: dict[str, Array] = {}

        def unit(name: str, channels: int, kernel_size: int, x: Array, **options: Any) -> Array:
            features[name] = _Unit(channels, kernel_size, name=name, **options)(x, train=train)
            return features[name]

        x = standardize(images, self.mean, self.std)
        x = unit("Conv2d_1a_3x3", 32, 3, x, strides=2, padding="valid")
        x = unit("Conv2d_2a_3x3", 32, 3, x, padding="valid")
        x = unit("Conv2d_2b_3x3", 64, 3, x)
        x = features["MaxPool_3a_3x3"] = MaxPool(3, strides=2)(x)
        x = unit("Conv2d_3b_1x1", 80, 1, x)
        x = unit("Conv2d_4a_3x3", 192, 3, x, padding="valid")
        x = features["MaxPool_5a_3x3"] = MaxPool(3, strides=2)(x)
        for name, (branches, pooled) in _MODULES.items():
            x = features[name] = Mixed(branches, pooled, name=name)(x, train=train)
        heads = ()
        if self.aux_logits and (train or self.is_initializing()):
            heads = (AuxiliaryHead(self.num_classes, name="AuxLogits")(features["Mixed_6e"], train=train),)
        x = features["pool"] = global_avg_pool(x)
        logits = Dense(self.num_classes, name="head")(Dropout(self.dropout)(x, train=train))
        return AuxiliaryLogits(logits, heads) if self.aux_logits and train else logits, features


inception_v3 = partial(InceptionV3)
