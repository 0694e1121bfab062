"""GoogLeNet: modules of parallel branches with 1x1, 3x3 and 5x5 convolutions, cheap by 1x1 reductions.

Szegedy et al.: Going deeper with convolutions. https://arxiv.org/abs/1409.4842
"""

from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxcv import ops
from jaxcv.models.layers import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    AvgPool,
    ConvNormAct,
    Dense,
    Dropout,
    MaxPool,
    flatten,
    global_avg_pool,
    standardize,
)
from jaxcv.types import Scalar

# By fan-in: the 1x1 reductions have few outputs, so that by fan-out activations would grow without batch norm.
_Unit = partial(
    ConvNormAct, epsilon=1e-3, kernel_init=nn.initializers.variance_scaling(2.0, "fan_in", "truncated_normal")
)

# Table 1: #1x1, #3x3 reduce, #3x3, #5x5 reduce, #5x5, pool proj.
_MODULES = {
    "inception3a": (64, 96, 128, 16, 32, 32),
    "inception3b": (128, 128, 192, 32, 96, 64),
    "inception4a": (192, 96, 208, 16, 48, 64),
    "inception4b": (160, 112, 224, 24, 64, 64),
    "inception4c": (128, 128, 256, 24, 64, 64),
    "inception4d": (112, 144, 288, 32, 64, 64),
    "inception4e": (256, 160, 320, 32, 128, 128),
    "inception5a": (256, 160, 320, 32, 128, 128),
    "inception5b": (384, 192, 384, 48, 128, 128),
}


class AuxiliaryLogits(NamedTuple):
    """Outputs in training of a network with auxiliary heads, whose losses are added with a small weight."""

    main: Float[Array, "b k"]
    auxiliary: tuple[Float[Array, "b k"], ...]
    """From the first head to the last."""


class InceptionModule(nn.Module):
    """Four branches over the same map, joined by channels (figure 2b): 1x1; 1x1, 3x3; 1x1, 5x5; max pool, 1x1.

    Height and width stay; channels become channels[0] + channels[2] + channels[4] + channels[5].
    """

    channels: tuple[int, int, int, int, int, int]
    """#1x1, #3x3 reduce, #3x3, #5x5 reduce, #5x5, pool proj, as in the paper's table 1."""
    norm: bool = True
    large_kernel: int = 5
    """Kernel size of `branch5x5`."""

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b h w c2"]:
        """`train` selects batch statistics over running ones."""

        def unit(name: str, features: int, kernel_size: int, x: Array) -> Array:
            return _Unit(features, kernel_size, norm=self.norm, name=name)(x, train=train)

        one, reduce3, three, reduce5, five, pool = self.channels
        branches = [
            unit("branch1x1", one, 1, x),
            unit("branch3x3", three, 3, unit("branch3x3_reduce", reduce3, 1, x)),
            unit("branch5x5", five, self.large_kernel, unit("branch5x5_reduce", reduce5, 1, x)),
            unit("branch_pool", pool, 1, MaxPool(3, strides=1, padding=1)(x)),
        ]
        return jnp.concatenate(branches, axis=-1)


class AuxiliaryHead(nn.Module):
    """An auxiliary classifier (section 5): pooled to 4x4, `conv` 1x1, two dense layers `fc1`, `fc2`.

    The paper's pooling of 5x5 by 3 turns 14x14 into 4x4. Maps of another size, and with `adaptive` all, are pooled to
    4x4 by `ops.adaptive_avg_pool2d`, so that parameters do not depend on the size of the images.
    """

    num_classes: int
    norm: bool
    adaptive: bool
    dropout: Scalar

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b k"]:
        """`train` selects batch statistics over running ones, and turns dropout on."""
        if self.adaptive or x.shape[1:3] != (14, 14):
            x = ops.adaptive_avg_pool2d(x, output_size=4)
        else:
            x = AvgPool(5, strides=3)(x)
        x = _Unit(128, 1, norm=self.norm, name="conv")(x, train=train)
        x = nn.relu(Dense(1024, name="fc1")(flatten(x)))
        return Dense(self.num_classes, name="fc2")(Dropout(self.dropout)(x, train=train))


class GoogLeNet(nn.Module):
    """Nine inception modules on a small convolutional stem.

    Takes [b h w 3] in [0, 1] (224 in the paper, at least 15), returns logits [b num_classes] and the features
    `conv1 pool1 conv2 pool2 inception3a ... inception5b pool`. With `aux_logits` and `train`, the first output is
    `AuxiliaryLogits`, with the paper's two heads on inception4a and 4d, whose losses it weights by 0.3.

    By default the paper's network as it was published for Caffe: biases, local response normalisation (before the
    second convolution and after the third) and pooling that rounds up. Deviation: He's initialisation.
    """

    num_classes: int = 1000
    aux_logits: bool = False
    torchvision_compatible: bool = False
    """torchvision's network: batch normalisation, `branch5x5` with 3x3 kernels, a last pooling of 2x2, auxiliary
    heads that pool adaptively. Its published weights were trained with `mean` and `std` of 0.5."""
    norm: bool | None = None
    """Batch normalisation (https://arxiv.org/abs/1502.03167) in place of biases and local response normalisation;
    None: where `torchvision_compatible`."""
    dropout: Scalar = 0.4
    """Rate before the head. The auxiliary heads have 0.7, or 0 if this is 0."""
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w c"], *, train: bool = False
    ) -> tuple[Float[Array, "b k"] | AuxiliaryLogits, dict[str, Array]]:
        """`train` selects batch statistics over running ones, turns dropout and the auxiliary heads on."""
        norm = self.torchvision_compatible if self.norm is None else self.norm
        unit = partial(_Unit, norm=norm)

        def response_norm(x: Array) -> Array:
            # Caffe divides its alpha of 1e-4 by `size`; the op does not.
            return x if norm else ops.local_response_norm(x, size=5, alpha=1e-4 / 5, beta=0.75, k=1.0)

        def auxiliary(name: str, x: Array) -> Array:
            rate = 0.0 if isinstance(self.dropout, float | int) and self.dropout == 0 else 0.7
            return AuxiliaryHead(self.num_classes, norm, self.torchvision_compatible, rate, name=name)(x, train=train)

        features: dict[str, Array] = {}
        x = standardize(images, self.mean, self.std)
        x = features["conv1"] = unit(64, 7, strides=2, padding=3, name="conv1")(x, train=train)
        x = features["pool1"] = MaxPool(3, strides=2, ceil_mode=True)(x)
        x = unit(64, 1, name="conv2_reduce")(response_norm(x), train=train)
        x = features["conv2"] = unit(192, 3, name="conv2")(x, train=train)
        x = features["pool2"] = MaxPool(3, strides=2, ceil_mode=True)(response_norm(x))
        for name, channels in _MODULES.items():
            if name == "inception4a":
                x = MaxPool(3, strides=2, ceil_mode=True)(x)
            if name == "inception5a":
                x = MaxPool(2 if self.torchvision_compatible else 3, strides=2, ceil_mode=True)(x)
            large_kernel = 3 if self.torchvision_compatible else 5
            x = features[name] = InceptionModule(channels, norm, large_kernel, name=name)(x, train=train)
        heads = ()
        if self.aux_logits and (train or self.is_initializing()):
            heads = (auxiliary("aux1", features["inception4a"]), auxiliary("aux2", features["inception4d"]))
        x = features["pool"] = global_avg_pool(x)
        logits = Dense(self.num_classes, name="head")(Dropout(self.dropout)(x, train=train))
        return AuxiliaryLogits(logits, heads) if self.aux_logits and train else logits, features


googlenet = partial(GoogLeNet)
