"""The backbones of YOLO v1 to v3, as classifiers: two without and one with residual connections.

Each takes [b h w c] in [0, 1], height and width divisible by 32, and returns logits [b num_classes] and features.
"""

from functools import partial

import flax.linen as nn
from jaxtyping import Array, Float

from jaxcv.models.layers import ConvNormAct, Dense, MaxPool, global_avg_pool, standardize
from jaxcv.ops.initializers import lecun_normal

# Batch normalisation and a leaky ReLU; the momentum of the running averages suits runs of some 1,000 steps.
DarknetUnit = partial(
    ConvNormAct,
    momentum=0.97,
    activation=partial(nn.leaky_relu, negative_slope=0.1),
    kernel_init=lecun_normal,
)

# Channels and kernel of each convolution; "M" is a 2x2 pooling of stride 2, "m" one of stride 1.
EXTRACTION = (
    *((64, 7, 2), "M", (192, 3), "M", (128, 1), (256, 3), (256, 1), (512, 3), "M"),
    *(*((256, 1), (512, 3)) * 4, (512, 1), (1024, 3), "M", *((512, 1), (1024, 3)) * 2),
)
DARKNET19 = (
    *((32, 3), "M", (64, 3), "M", (128, 3), (64, 1), (128, 3), "M", (256, 3), (128, 1), (256, 3), "M"),
    *((512, 3), (256, 1), (512, 3), (256, 1), (512, 3), "M", (1024, 3), (512, 1), (1024, 3), (512, 1), (1024, 3)),
)
TINY = (*((16, 3), "M", (32, 3), "M", (64, 3), "M", (128, 3), "M", (256, 3), "M", (512, 3), "m", (1024, 3)),)


class PlainDarknet(nn.Module):
    """Convolutions one after the other with max pooling between; features `conv1 conv2 ..` and `pool`.

    `extraction` is the backbone of YOLO v1 (https://arxiv.org/abs/1506.02640, figure 3), with batch normalisation,
    as in its published configuration but not in the paper; `darknet19` that of v2 (https://arxiv.org/abs/1612.08242,
    table 6), with the average before the last 1x1 convolution instead of after it, which is equivalent; `darknet_tiny`
    that of tiny YOLO v3.
    """

    layers: tuple[str | tuple[int, ...], ...] = DARKNET19
    """Channels, kernel and perhaps stride of each convolution; "M" is a 2x2 pooling of stride 2, "m" of stride 1."""
    num_classes: int = 1000
    width: int = 100
    """Channels in percent, at least 8."""
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w c"], *, train: bool = False
    ) -> tuple[Float[Array, "b k"], dict[str, Array]]:
        """`train` selects batch statistics over running ones."""
        features: dict[str, Array] = {}
        x, count = standardize(images, self.mean, self.std), 0
        for layer in self.layers:
            if isinstance(layer, str):
                x = MaxPool(2, strides=2)(x) if layer == "M" else MaxPool(2, strides=1, padding="same")(x)
                continue
            count += 1
            channels, kernel, strides = (*layer, 1)[:3]
            unit = DarknetUnit(max(8, channels * self.width // 100), kernel, strides=strides, name=f"conv{count}")
            x = features[f"conv{count}"] = unit(x, train=train)
        features["pool"] = global_avg_pool(x)
        return Dense(self.num_classes, name="head")(features["pool"]), features


class Darknet53(nn.Module):
    """Residual bottlenecks in five stages, each after a strided convolution; features `stem stage1 .. stage5 pool`.

    Redmon, Farhadi: YOLOv3. https://arxiv.org/abs/1804.02767, table 1.
    """

    stage_sizes: tuple[int, ...] = (1, 2, 8, 8, 4)
    num_classes: int = 1000
    stem_channels: int = 32
    """Channels of the first convolution; each stage doubles them."""
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w c"], *, train: bool = False
    ) -> tuple[Float[Array, "b k"], dict[str, Array]]:
        """`train` selects batch statistics over running ones."""
        features: dict[str, Array] = {}
        x = standardize(images, self.mean, self.std)
        x = features["stem"] = DarknetUnit(self.stem_channels, name="stem")(x, train=train)
        for i, size in enumerate(self.stage_sizes, start=1):
            channels = self.stem_channels << i
            x = DarknetUnit(channels, strides=2, name=f"stage{i}_down")(x, train=train)
            for j in range(1, size + 1):
                y = DarknetUnit(channels // 2, 1, name=f"stage{i}_reduce{j}")(x, train=train)
                x = x + DarknetUnit(channels, name=f"stage{i}_conv{j}")(y, train=train)
            features[f"stage{i}"] = x
        features["pool"] = global_avg_pool(x)
        return Dense(self.num_classes, name="head")(features["pool"]), features


extraction = partial(PlainDarknet, layers=EXTRACTION)
darknet19 = partial(PlainDarknet, layers=DARKNET19)
darknet_tiny = partial(PlainDarknet, layers=TINY)
darknet53 = partial(Darknet53)
