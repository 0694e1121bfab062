"""FCN: a classifier made convolutional, its coarse scores enlarged and joined with those of finer maps.

Long, Shelhamer, Darrell: Fully convolutional networks for semantic segmentation. https://arxiv.org/abs/1411.4038
"""

from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxcv import ops
from jaxcv.models.layers import Conv, ConvTranspose, Dropout
from jaxcv.models.tiles import mirrored_window
from jaxcv.models.trunk import trunk_features
from jaxcv.types import Scalar


def bilinear(key: Any, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
    """First values of a transposed convolution [4 4 k k] of stride 2 that interpolates each channel bilinearly."""
    del key
    taps = np.array([0.25, 0.75, 0.75, 0.25])
    return jnp.asarray(np.einsum("i,j,ck->ijck", taps, taps, np.eye(shape[2], shape[3])), dtype)


class FCN(nn.Module):
    """Semantic segmentation over any trunk: class logits for each pixel.

    Takes [b h w c] in [0, 1] of any height and width: images are continued by mirroring to multiples of 32, and the
    output is cut. Returns logits [b h w num_classes], the trunk's features, and `score32`, `score16`, `score8`.

    Scores of stride 32 are a 1x1 convolution of the trunk's last map (with `fc_width`, of the paper's fc6 and fc7 as
    convolutions before it). FCN-16s and 8s enlarge them twofold, by a transposed convolution that begins as bilinear
    interpolation, and add those of the finer map. The last enlargement is fixed, bilinear.

    Deviations from the paper: fc6 is padded, instead of the image by 100 pixels; 16s and 8s are trained at once, from
    scores of zero, not one after another.
    """

    trunk: nn.Module
    """Any classifier of `jaxcv.models` with maps of stride 8, 16 and 32; its fully connected layers are left out."""
    num_classes: int = 21
    stride: Literal[32, 16, 8] = 8
    """Of the finest map that is scored."""
    maps: tuple[str | int, ...] = (32, 16, 8)
    """Of the trunk, that of stride 32 first: names, or strides for the last map of that stride. On VGG the paper takes
    ("pool5", "pool4", "pool3")."""
    fc_width: int = 0
    """Channels of fc6 (7x7) and fc7, 4096 in the paper; 0: the trunk's last map is scored itself."""
    dropout: Scalar = 0.5
    """After fc6 and fc7."""

    margin = 0
    step = 32

    def fitting(self, size: int) -> int:
        """The smallest height or width of at least `size` pixels at which nothing is mirrored."""
        return -(-max(size, 1) // self.step) * self.step

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w c"], *, train: bool = False
    ) -> tuple[Float[Array, "b h w k"], dict[str, Array]]:
        """`train` is given to the trunk, and turns dropout on."""
        height, width = images.shape[1:3]
        images = mirrored_window(images, (0, 0), (self.fitting(height), self.fitting(width)))
        strides = [s for s in (32, 16, 8) if s >= self.stride]
        features, (x, *finer) = trunk_features(self.trunk, images, self.maps[: len(strides)], train=train)
        for name, window in (("fc6", 7), ("fc7", 1)) if self.fc_width else ():
            x = features[name] = nn.relu(Conv(self.fc_width, window, name=name)(x))
            x = Dropout(self.dropout)(x, train=train)
        score = features["score32"] = Conv(self.num_classes, 1, name="score32")(x)
        for stride, x in zip(strides[1:], finer, strict=True):
            double = ConvTranspose(
                self.num_classes, 4, padding=1, use_bias=False, kernel_init=bilinear, name=f"up{stride}"
            )
            zeros = nn.initializers.zeros_init()
            own = Conv(self.num_classes, 1, kernel_init=zeros, name=f"score{stride}")(x)
            score = features[f"score{stride}"] = double(score) + own
        logits = ops.upsample_bilinear(score, size=images.shape[1:3])
        return logits[:, :height, :width], features
