"""DeconvNet: VGG-16 down to a fully connected middle, and its mirror image of unpoolings and transposed convolutions.

Noh, Hong, Han: Learning deconvolution network for semantic segmentation. https://arxiv.org/abs/1505.04366
"""

import flax.linen as nn
from jaxtyping import Array, Float

from jaxcv import ops
from jaxcv.errors import UserError
from jaxcv.models.layers import BatchNorm, ConvNormAct, ConvTranspose, standardize


class DeconvNet(nn.Module):
    """Semantic segmentation: class logits for each pixel.

    Takes [b h w c] in [0, 1], height and width multiples of 2^stages (32) and of at least `map_size` times that;
    returns logits [b h w num_classes] and the features `conv1_1 .. pool5 fc6 fc7 fc6_transposed unpool5 deconv5_1 ..
    deconv1_1`, after the ReLU.

    Down: 3x3 convolutions 64 x2, 128 x2, 256 x3, 512 x3, 512 x3, each stage followed by 2x2 max pooling. Middle: fully
    connected fc6 and fc7, as convolutions of the whole map and of one pixel, and the transpose of fc6 back to the map.
    Up: five times unpooling to where the largest values stood and the transposed convolutions of that stage, 512 x3,
    512 x3, 256 x3, 128 x2, 64 and c. Each layer is the mirror image of one below: it takes that one's outputs and gives
    its inputs, so the last of a stage gives the next narrower width, that of the pooling to be undone. The last layer
    of all, which would give back the colours, gives the c classes.

    Deviation from the paper: it has one more layer of 64 channels, and a 1x1 convolution to the classes.
    """

    num_classes: int = 21
    stage_sizes: tuple[int, ...] = (2, 2, 3, 3, 3)
    stage_channels: tuple[int, ...] = (64, 128, 256, 512, 512)
    fc_width: int = 4096
    map_size: int = 7
    """Height and width of fc6's kernel: of the last map for images of 224 pixels. On larger images it is shifted."""
    norm: bool = True
    """Batch normalisation after every layer but the last, as in the paper."""
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)

    margin = 0

    @property
    def step(self) -> int:
        """Pixels by which an image may be shifted so that the output is shifted likewise."""
        return 2 ** len(self.stage_sizes)

    def fitting(self, size: int) -> int:
        """The smallest height or width of at least `size` pixels that the network takes."""
        return max(-(-size // self.step), self.map_size) * self.step

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w c"], *, train: bool = False
    ) -> tuple[Float[Array, "b h w k"], dict[str, Array]]:
        """`train` selects batch statistics over running ones.

        Raises:
            UserError: If the network does not take images of this height or width.
        """
        if any(self.fitting(n) != n for n in images.shape[1:3]):
            least = self.map_size * self.step
            raise UserError(
                f"images of {images.shape[1:3]}: expected multiples of {self.step}, at least {least}, or models.Tiled"
            )
        features: dict[str, Array] = {}
        positions, stages = [], list(enumerate(zip(self.stage_sizes, self.stage_channels, strict=True), start=1))
        x = standardize(images, self.mean, self.std)
        for i, (count, channels) in stages:
            for j in range(1, count + 1):
                unit = ConvNormAct(channels, norm=self.norm, name=f"conv{i}_{j}")
                x = features[f"conv{i}_{j}"] = unit(x, train=train)
            x, where = ops.max_pool2d_positions(x, window=2)
            features[f"pool{i}"] = x
            positions.append(where)
        for name, window in (("fc6", self.map_size), ("fc7", 1)):
            unit = ConvNormAct(self.fc_width, window, padding="valid", norm=self.norm, name=name)
            x = features[name] = unit(x, train=train)
        x = self._up(x, "fc6_transposed", self.stage_channels[-1], self.map_size, "valid", features, train=train)
        for i, (count, channels) in reversed(stages):
            size = 2 * x.shape[1], 2 * x.shape[2]
            x = features[f"unpool{i}"] = ops.max_unpool2d(x, positions[i - 1], size=size, window=2)
            for j in range(1, count + (i > 1)):
                width = channels if j < count else self.stage_channels[i - 2]
                x = self._up(x, f"deconv{i}_{j}", width, 3, 1, features, train=train)
        return ConvTranspose(self.num_classes, 3, strides=1, padding=1, name="head")(x), features

    def _up(
        self,
        x: Array,
        name: str,
        channels: int,
        window: int,
        padding: ops.Padding,
        features: dict[str, Array],
        *,
        train: bool,
    ) -> Array:
        """A transposed convolution, normalisation and ReLU."""
        layer = ConvTranspose(channels, window, strides=1, padding=padding, use_bias=not self.norm, name=name)
        x = layer(x)
        x = BatchNorm(relu=True, name=f"{name}_norm")(x, train=train) if self.norm else nn.relu(x)
        features[name] = x
        return x
