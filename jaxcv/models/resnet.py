"""Residual networks: every block adds its output to its input.

He, Zhang, Ren, Sun: Deep residual learning for image recognition. https://arxiv.org/abs/1512.03385.
"""

from collections.abc import Callable
from functools import partial
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxcv.models.layers import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    ConvNormAct,
    Dense,
    MaxPool,
    global_avg_pool,
    space_to_depth,
    standardize,
)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions, `unit1` and `unit2`, and the shortcut (figure 5, left), with `channels` outputs."""

    channels: int
    strides: int = 1
    stride_first: bool = True
    """Unused, the stride is always that of unit1; the field makes blocks interchangeable."""
    projection: bool = True
    """Where the shape changes, the shortcut is a 1x1 convolution with batch normalisation (the paper's option B); else
    (option A) every `strides`-th pixel, padded with channels of zeros, which has no parameters."""
    zero_init: bool = False
    """The last `scale` starts at zero, so that the block starts as its shortcut: https://arxiv.org/abs/1706.02677,
    section 5.1."""
    unit: Callable[..., nn.Module] = ConvNormAct
    """Module class of the block's convolutions."""
    expansion: ClassVar[int] = 1
    """Output channels as a multiple of `channels`."""

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b oh ow d"]:
        """`train` selects batch statistics over running ones."""
        last = nn.initializers.zeros_init() if self.zero_init else nn.initializers.ones_init()
        y = self.unit(self.channels, 3, strides=self.strides, padding=1, name="unit1")(x, train=train)
        y = self.unit(self.channels, 3, padding=1, activation=None, scale_init=last, name="unit2")(y, train=train)
        return nn.relu(y + _shortcut(self, x, self.channels, train=train))


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1: `unit1` and `unit2` with `channels`, `unit3` with four times as many (figure 5, right)."""

    channels: int
    strides: int = 1
    stride_first: bool = False
    """The stride is unit1's, as in the paper ("v1"), instead of unit2's ("v1.5", torchvision's)."""
    projection: bool = True
    """As in `BasicBlock`."""
    zero_init: bool = False
    """As in `BasicBlock`."""
    unit: Callable[..., nn.Module] = ConvNormAct
    """As in `BasicBlock`."""
    expansion: ClassVar[int] = 4
    """Output channels as a multiple of `channels`."""

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b oh ow d"]:
        """`train` selects batch statistics over running ones."""
        last = nn.initializers.zeros_init() if self.zero_init else nn.initializers.ones_init()
        first, second = (self.strides, 1) if self.stride_first else (1, self.strides)
        out = self.channels * self.expansion
        y = self.unit(self.channels, 1, strides=first, padding=0, name="unit1")(x, train=train)
        y = self.unit(self.channels, 3, strides=second, padding=1, name="unit2")(y, train=train)
        y = self.unit(out, 1, padding=0, activation=None, scale_init=last, name="unit3")(y, train=train)
        return nn.relu(y + _shortcut(self, x, out, train=train))


def _shortcut(block: BasicBlock | Bottleneck, x: Array, channels: int, *, train: bool) -> Array:
    if block.strides == 1 and x.shape[-1] == channels:
        return x
    if block.projection:
        unit = block.unit(channels, 1, strides=block.strides, padding=0, activation=None, name="shortcut")
        return unit(x, train=train)
    x = x[:, :: block.strides, :: block.strides]
    return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, channels - x.shape[-1])))


class Stage(nn.Module):
    """Blocks of one resolution, `block1 block2 ..`; the first has the stride."""

    block: Callable[..., nn.Module]
    """`block(channels, strides=..., name=...)`."""
    size: int
    channels: int
    strides: int = 1

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b oh ow d"]:
        """`train` selects batch statistics over running ones."""
        for i in range(self.size):
            block = self.block(self.channels, strides=self.strides if i == 0 else 1, name=f"block{i + 1}")
            x = block(x, train=train)
        return x


class ResNet(nn.Module):
    """A residual network, by the number of blocks in each stage.

    Takes [b h w c] in [0, 1], any height and width; returns logits [b num_classes] and the features `conv1`, `pool1`
    (after max pooling; not with `small_images`), `conv2_x conv3_x ..` (the ends of `stage1 stage2 ..`), and `pool`, the
    global average [b d].
    """

    stage_sizes: tuple[int, ...] = (2, 2, 2, 2)
    block: type[BasicBlock] | type[Bottleneck] = BasicBlock
    num_classes: int = 1000
    width: int = 64
    """Channels of the stem and of the blocks of stage1; each further stage has twice as many."""
    small_images: bool = False
    """The stem is a 3x3 convolution without stride or pooling (section 4.2), instead of 7x7/2 and pooling."""
    pixel_block: int = 1
    """The stem works on blocks of so many by so many pixels (space to depth), which is cheaper than strides."""
    stride_first: bool = False
    """Bottlenecks have their stride in the first convolution, as in the paper ("v1"), not in the 3x3 ("v1.5")."""
    projection: bool = True
    """Shortcuts between shapes are 1x1 convolutions (option B), or have no parameters (option A)."""
    zero_init: bool = False
    """Every block starts as its shortcut."""
    unit: Callable[..., nn.Module] = ConvNormAct
    """Module class of the convolutions: `partial(ConvNormAct, momentum=0.99)`, or any with the same fields."""
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w c"], *, train: bool = False
    ) -> tuple[Float[Array, "b k"], dict[str, Array]]:
        """`train` selects batch statistics over running ones."""
        features: dict[str, Array] = {}
        x = standardize(images, self.mean, self.std)
        if self.pixel_block > 1:
            x = space_to_depth(x, block=self.pixel_block)
        window, strides, padding = (3, 1, 1) if self.small_images else (7, 2, 3)
        stem = self.unit(self.width, window, strides=strides, padding=padding, name="stem")
        x = features["conv1"] = stem(x, train=train)
        if not self.small_images:
            x = features["pool1"] = MaxPool(3, strides=2, padding=1, name="pool1")(x)
        block = partial(
            self.block,
            stride_first=self.stride_first,
            projection=self.projection,
            zero_init=self.zero_init,
            unit=self.unit,
        )
        for i, size in enumerate(self.stage_sizes):
            stage = Stage(block, size, self.width * 2**i, strides=1 if i == 0 else 2, name=f"stage{i + 1}")
            x = features[f"conv{i + 2}_x"] = stage(x, train=train)
        x = features["pool"] = global_avg_pool(x)
        return Dense(self.num_classes, name="head")(x), features


resnet18 = partial(ResNet, stage_sizes=(2, 2, 2, 2), block=BasicBlock)
resnet34 = partial(ResNet, stage_sizes=(3, 4, 6, 3), block=BasicBlock)
resnet50 = partial(ResNet, stage_sizes=(3, 4, 6, 3), block=Bottleneck)
resnet101 = partial(ResNet, stage_sizes=(3, 4, 23, 3), block=Bottleneck)
resnet152 = partial(ResNet, stage_sizes=(3, 8, 36, 3), block=Bottleneck)

# Section 4.2: 6n + 2 layers for 32x32 pictures, shortcuts without parameters. The paper subtracts the mean of every
# pixel; here the network standardises by the training set's mean and standard deviation of each channel.
_CIFAR = partial(
    ResNet,
    width=16,
    num_classes=10,
    small_images=True,
    projection=False,
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2470, 0.2435, 0.2616),
)
resnet20 = partial(_CIFAR, stage_sizes=(3, 3, 3))
resnet32 = partial(_CIFAR, stage_sizes=(5, 5, 5))
resnet44 = partial(_CIFAR, stage_sizes=(7, 7, 7))
resnet56 = partial(_CIFAR, stage_sizes=(9, 9, 9))
resnet110 = partial(_CIFAR, stage_sizes=(18, 18, 18))
