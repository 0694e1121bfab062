"""MobileNets: depthwise convolutions within channels, and 1x1 convolutions across them.

Howard et al.: MobileNets. https://arxiv.org/abs/1704.04861
Sandler et al.: MobileNetV2: inverted residuals and linear bottlenecks. https://arxiv.org/abs/1801.04381
"""

from functools import partial

import flax.linen as nn
from jaxtyping import Array, Float

from jaxcv import ops
from jaxcv.models.layers import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Activation,
    ConvNormAct,
    Dense,
    Dropout,
    global_avg_pool,
    standardize,
)
from jaxcv.types import Scalar

# Version 1, table 1: channels and stride of each block.
BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1))

# Version 2, table 2: expansion, channels, number of blocks, stride of the first.
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


class DepthwiseSeparable(nn.Module):
    """A 3x3 convolution of each channel, `depthwise`, then one of 1x1 over all, `pointwise` (figure 3)."""

    features: int
    strides: int = 1
    norm: bool = True
    padding: ops.Padding = "same"
    epsilon: float = 1e-3
    activation: Activation = nn.relu6

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b oh ow d"]:
        """`train` selects batch statistics over running ones."""
        unit = partial(
            ConvNormAct,
            norm=self.norm,
            epsilon=self.epsilon,
            activation=self.activation,
            # By fan-in: for depthwise kernels torch's rule, fan-out, gives too small a variance.
            kernel_init=nn.initializers.variance_scaling(2.0, "fan_in", "truncated_normal"),
        )
        depthwise = unit(x.shape[-1], strides=self.strides, padding=self.padding, groups=x.shape[-1], name="depthwise")
        return unit(self.features, 1, name="pointwise")(depthwise(x, train=train), train=train)


class MobileNetV1(nn.Module):
    """Thirteen depthwise separable blocks behind a strided convolution.

    Takes [b h w 3] in [0, 1] (224 in the paper, at least 1), returns logits [b num_classes] and the features
    `stem block1 ... block13 pool`. By default all is as in TensorFlow's published networks: ReLU6,
    `same` padding, images scaled to [-1, 1]. timm's have `padding=1, epsilon=1e-5`.
    """

    num_classes: int = 1000
    width: float = 1.0
    """The paper's width multiplier alpha: all channels times this, rounded down, but at least 8."""
    blocks: tuple[tuple[int, int], ...] = BLOCKS
    """Channels and stride of each."""
    norm: bool = True
    """Batch normalisation; without it convolutions have biases, for weights with the normalisation folded in."""
    padding: ops.Padding = "same"
    """Of the 3x3 convolutions."""
    epsilon: float = 1e-3
    dropout: Scalar = 1e-3
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w c"], *, train: bool = False
    ) -> tuple[Float[Array, "b k"], dict[str, Array]]:
        """`train` selects batch statistics over running ones, and turns dropout on."""
        features: dict[str, Array] = {}

        def scaled(channels: int) -> int:
            return max(8, int(channels * self.width))

        x = standardize(images, self.mean, self.std)
        unit = partial(ConvNormAct, norm=self.norm, epsilon=self.epsilon, activation=nn.relu6)
        stem = unit(scaled(32), strides=2, padding=self.padding, name="stem")
        x = features["stem"] = stem(x, train=train)
        for i, (channels, strides) in enumerate(self.blocks, start=1):
            block = DepthwiseSeparable(
                scaled(channels), strides, self.norm, self.padding, self.epsilon, name=f"block{i}"
            )
            x = features[f"block{i}"] = block(x, train=train)
        x = features["pool"] = global_avg_pool(x)
        return Dense(self.num_classes, name="head")(Dropout(self.dropout)(x, train=train)), features


class InvertedResidual(nn.Module):
    """Expanded by `expand` 1x1, filtered by `depthwise` 3x3, projected by a linear `project` 1x1 (table 1).

    Where the shape does not change, the input is added. With an expansion of 1 there is no `expand`.
    """

    features: int
    strides: int = 1
    expansion: int = 6
    padding: ops.Padding = 1
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b oh ow d"]:
        """`train` selects batch statistics over running ones."""
        unit = partial(ConvNormAct, epsilon=self.epsilon, activation=nn.relu6)
        wide, y = x.shape[-1] * self.expansion, x
        if self.expansion != 1:
            y = unit(wide, 1, name="expand")(y, train=train)
        y = unit(wide, strides=self.strides, padding=self.padding, groups=wide, name="depthwise")(y, train=train)
        y = unit(self.features, 1, activation=None, name="project")(y, train=train)
        return x + y if x.shape == y.shape else y


class MobileNetV2(nn.Module):
    """Seventeen inverted residual blocks between a strided convolution and one of 1x1.

    Takes [b h w 3] in [0, 1] (224 in the paper, at least 1), returns logits [b num_classes] and the features
    `stem block1 ... block17 last pool`. By default all is as in torchvision; Keras has `padding="same",
    epsilon=1e-3` and a `mean` and `std` of 0.5.
    """

    num_classes: int = 1000
    width: float = 1.0
    """Width multiplier: all channels times this, to the nearest multiple of 8 that is not over 10 % smaller; `last` is
    never narrowed (section 6.1)."""
    stages: tuple[tuple[int, int, int, int], ...] = STAGES
    """Expansion, channels, number of blocks and stride of the first, for each."""
    padding: ops.Padding = 1
    """Of the 3x3 convolutions."""
    epsilon: float = 1e-5
    dropout: Scalar = 0.2
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w c"], *, train: bool = False
    ) -> tuple[Float[Array, "b k"], dict[str, Array]]:
        """`train` selects batch statistics over running ones, and turns dropout on."""
        features: dict[str, Array] = {}
        unit = partial(ConvNormAct, epsilon=self.epsilon, activation=nn.relu6)
        x = standardize(images, self.mean, self.std)
        stem = unit(_rounded(32 * self.width), strides=2, padding=self.padding, name="stem")
        x = features["stem"] = stem(x, train=train)
        blocks = [(t, c, s if i == 0 else 1) for t, c, n, s in self.stages for i in range(n)]
        for i, (expansion, channels, strides) in enumerate(blocks, start=1):
            block = InvertedResidual(
                _rounded(channels * self.width), strides, expansion, self.padding, self.epsilon, name=f"block{i}"
            )
            x = features[f"block{i}"] = block(x, train=train)
        last = unit(_rounded(1280 * max(1.0, self.width)), 1, name="last")
        x = features["last"] = last(x, train=train)
        x = features["pool"] = global_avg_pool(x)
        return Dense(self.num_classes, name="head")(Dropout(self.dropout)(x, train=train)), features


def _rounded(channels: float) -> int:
    """The nearest multiple of 8, halves up; the next larger one where that is more than 10 % smaller."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * channels else nearest + 8


mobilenet_v1 = partial(MobileNetV1)
mobilenet_v2 = partial(MobileNetV2)
