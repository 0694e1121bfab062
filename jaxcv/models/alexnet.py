"""AlexNet: five convolutions, three fully connected layers.

Krizhevsky, Sutskever, Hinton: ImageNet classification with deep convolutional neural networks. NeurIPS 2012.
Krizhevsky: One weird trick for parallelizing convolutional neural networks, https://arxiv.org/abs/1404.5997.
"""

from functools import partial
from typing import Literal

import flax.linen as nn
from jaxtyping import Array, Float

from jaxcv import ops
from jaxcv.models.layers import IMAGENET_MEAN, IMAGENET_STD, Conv, Dense, Dropout, Flatten, MaxPool, standardize
from jaxcv.ops.initializers import VarianceScaling
from jaxcv.types import Scalar


class AlexNet(nn.Module):
    """The one-column network of 2014, as in torchvision; `alexnet_2012` is the paper's.

    Takes [b h w c] in [0, 1], height and width at least 63 (224 in the paper, for a 6x6 map before fc6); returns logits
    [b num_classes] and the features `conv1 pool1 conv2 pool2 conv3 conv4 conv5 pool5 fc6 fc7`, after the ReLU.
    Deviation from both papers: initial values follow He et al. instead of one standard deviation for all.
    """

    num_classes: int = 1000
    channels: tuple[int, int, int, int, int] = (64, 192, 384, 256, 256)
    groups: tuple[int, int, int, int, int] = (1, 1, 1, 1, 1)
    """Groups of each convolution; the paper splits three layers in 2, one half for each of its two GPUs."""
    padding: int | Literal["valid"] = 2
    """Pixels of zeros around the image: 224 + 2 + 2 gives conv1 the same 55x55 output as the paper's 227. "valid": no
    layer is padded, for `convolutionalize`; images of at least 195, and 355 for a 6x6 map before fc6."""
    response_norm: bool = False
    """Local response normalisation after conv1 and conv2: features `norm1`, `norm2`."""
    fc_width: int = 4096
    fc_map_size: int = 6
    """Height and width of the map before fc6; other maps are resized to it by `ops.adaptive_avg_pool2d`."""
    dropout: Scalar = 0.5
    dropout_at: tuple[str, ...] = ("pool5", "fc6")
    """Features with dropout behind them; in the paper, fc6 and fc7."""
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w c"], *, train: bool = False
    ) -> tuple[Float[Array, "b *grid k"], dict[str, Array]]:
        """`train` turns dropout on."""
        features: dict[str, Array] = {}
        x = standardize(images, self.mean, self.std)
        for i, (channels, groups) in enumerate(zip(self.channels, self.groups, strict=True), start=1):
            window, strides, padding = {1: (11, 4, self.padding), 2: (5, 1, 2)}.get(i, (3, 1, 1))
            padding = "valid" if self.padding == "valid" else padding
            conv = Conv(channels, window, strides=strides, padding=padding, groups=groups, name=f"conv{i}")
            x = features[f"conv{i}"] = nn.relu(conv(x))
            if i <= 2 and self.response_norm:
                x = features[f"norm{i}"] = ops.local_response_norm(x)
            if i in (1, 2, 5):
                x = features[f"pool{i}"] = MaxPool(3, strides=2, name=f"pool{i}")(x)

        def dropped(x: Array, name: str) -> Array:
            return Dropout(self.dropout)(x, train=train) if name in self.dropout_at else x

        x = dropped(Flatten(self.fc_map_size)(x), "pool5")
        for name in ("fc6", "fc7"):
            dense = Dense(self.fc_width, kernel_init=VarianceScaling(2.0, "fan_in"), name=name)
            features[name] = nn.relu(dense(x))
            x = dropped(features[name], name)
        return Dense(self.num_classes, name="head")(x), features


alexnet = partial(AlexNet)
alexnet_2012 = partial(
    AlexNet,
    channels=(96, 256, 384, 384, 256),
    groups=(1, 2, 1, 2, 2),
    padding=0,
    response_norm=True,
    dropout_at=("fc6", "fc7"),
)
"""The paper's network, for images of 227x227."""
