"""VGG: 3x3 convolutions and 2x2 pooling in five stages, and three fully connected layers.

Simonyan, Zisserman: Very deep convolutional networks for large-scale image recognition.
https://arxiv.org/abs/1409.1556, table 1.
"""

from functools import partial
from typing import Literal

import flax.linen as nn
from jaxtyping import Array, Float

from jaxcv.models.layers import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    AvgPool,
    ConvNormAct,
    Dense,
    Dropout,
    Flatten,
    MaxPool,
    standardize,
)
from jaxcv.ops.initializers import VarianceScaling
from jaxcv.types import Scalar


class VGG(nn.Module):
    """A network of the VGG family, by the number of convolutions in each stage.

    Takes [b h w c] in [0, 1], height and width at least 2^stages (32; 224 in the paper, for a 7x7 map before fc6);
    returns logits [b num_classes] and the features `conv1_1 .. pool1 conv2_1 .. pool5 fc6 fc7`, after the ReLU.
    Deviations from the paper: initial values follow He et al.; batch normalisation (`norm`) came later.
    """

    stage_sizes: tuple[int, ...] = (1, 1, 2, 2, 2)
    stage_channels: tuple[int, ...] = (64, 128, 256, 512, 512)
    norm: bool = False
    """Batch normalisation after every convolution, which keeps its then redundant bias, as in torchvision."""
    num_classes: int = 1000
    fc_width: int = 4096
    fc_map_size: int = 7
    """Height and width of the map before fc6; other maps are resized to it by `ops.adaptive_avg_pool2d`."""
    padding: int | Literal["valid"] = 1
    """Pixels of zeros around every map. "valid": none, for `convolutionalize`; a map loses two pixels at each layer, so
    images are at least 150 for vgg11 and 212 for vgg16, and 342 and 404 for a 7x7 map before fc6."""
    pooling: Literal["max", "avg"] = "max"
    """"avg" gives smoother pictures in style transfer: Gatys et al., CVPR 2016, section 2."""
    dropout: Scalar = 0.5
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    bgr: bool = False
    """The first layer reads blue, green, red, as Caffe's networks do; `mean` and `std` have that order too."""

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w c"], *, train: bool = False
    ) -> tuple[Float[Array, "b *grid k"], dict[str, Array]]:
        """`train` turns dropout on and selects batch statistics over running ones."""
        features: dict[str, Array] = {}
        pool = {"max": MaxPool, "avg": AvgPool}[self.pooling]
        x = standardize(images[..., ::-1] if self.bgr else images, self.mean, self.std)
        for i, (size, channels) in enumerate(zip(self.stage_sizes, self.stage_channels, strict=True), start=1):
            for j in range(1, size + 1):
                unit = ConvNormAct(channels, padding=self.padding, norm=self.norm, conv_bias=True, name=f"conv{i}_{j}")
                x = features[f"conv{i}_{j}"] = unit(x, train=train)
            x = features[f"pool{i}"] = pool(2, name=f"pool{i}")(x)
        x = Flatten(self.fc_map_size)(x)
        for name in ("fc6", "fc7"):
            dense = Dense(self.fc_width, kernel_init=VarianceScaling(2.0, "fan_in"), name=name)
            features[name] = nn.relu(dense(x))
            x = Dropout(self.dropout)(features[name], train=train)
        return Dense(self.num_classes, name="head")(x), features


vgg11 = partial(VGG, stage_sizes=(1, 1, 2, 2, 2))
vgg13 = partial(VGG, stage_sizes=(2, 2, 2, 2, 2))
vgg16 = partial(VGG, stage_sizes=(2, 2, 3, 3, 3))
vgg19 = partial(VGG, stage_sizes=(2, 2, 4, 4, 4))
vgg11_bn = partial(vgg11, norm=True)
vgg13_bn = partial(vgg13, norm=True)
vgg16_bn = partial(vgg16, norm=True)
vgg19_bn = partial(vgg19, norm=True)
