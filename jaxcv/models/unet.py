"""U-Net: an encoder and a decoder, each level of which is concatenated with the encoder's map of the same size.

Ronneberger, Fischer, Brox: U-Net: convolutional networks for biomedical image segmentation.
https://arxiv.org/abs/1505.04597
"""

from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxcv.errors import UserError
from jaxcv.models.layers import Conv, ConvNormAct, ConvTranspose, Dropout, MaxPool, standardize
from jaxcv.types import Scalar


class UNet(nn.Module):
    """Semantic segmentation: class logits for each pixel.

    Takes [b h w c] in [0, 1], height and width divisible by 2^depth; returns logits [b h w num_classes] and features
    `down1` .. `down<depth>`, `bottom`, `up<depth>` .. `up1`, each after the second convolution of its level.

    The paper's network is `UNet(padding="valid", norm=False)` for grey images: 31,030,658 parameters, 572 x 572 pixels
    to 388 x 388. Its maps are cropped in the middle, and it takes 188 pixels and any multiple of 16 more (at other
    depths 12 2^depth - 4, and multiples of 2^depth). Deviations of the default: convolutions are padded, so that the
    output has the size of the image and no map is cropped; batch normalisation after each. `Tiled` makes both take
    images of any size.
    """

    num_classes: int = 2
    width: int = 64
    """Channels at full resolution, 64 in the paper; each level down doubles them."""
    depth: int = 4
    """Levels below the first."""
    norm: bool = True
    padding: Literal["same", "valid"] = "same"
    """Of the convolutions."""
    dropout: Scalar = 0.0
    """At the end of the encoder: of the last two levels' maps, as in the authors' network."""
    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.25,)

    @property
    def step(self) -> int:
        """Pixels by which an image may be shifted so that the output is shifted likewise."""
        return 2**self.depth

    @property
    def margin(self) -> int:
        """Pixels that the output lacks at each side: 92 of the paper's network."""
        return 0 if self.padding == "same" else 6 * self.step - 4

    def fitting(self, size: int) -> int:
        """The smallest height or width of at least `size` pixels that the network takes."""
        if self.padding == "same":
            return -(-max(size, 1) // self.step) * self.step
        # Every two convolutions take 4 pixels, and what is left is even; 4 pixels at the bottom give 4 at the top.
        least = 12 * self.step - 4
        return least + -(-max(size - least, 0) // self.step) * self.step

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w c"], *, train: bool = False
    ) -> tuple[Float[Array, "b oh ow k"], dict[str, Array]]:
        """`train` selects batch statistics over running ones, and turns dropout on.

        Raises:
            UserError: If the network does not take images of this height or width.
        """
        if wrong := [n for n in images.shape[1:3] if self.fitting(n) != n]:
            sizes = f"multiples of 2^depth = {self.step}"
            if self.padding == "valid":
                sizes = f"{self.fitting(0)} + a multiple of {self.step}, such as {self.fitting(wrong[0])}"
            raise UserError(f"images of {images.shape[1:3]}: expected {sizes}, or models.Tiled around the network")

        def level(x: Array, name: str, channels: int) -> Array:
            for i in (1, 2):
                unit = ConvNormAct(channels, padding=self.padding, norm=self.norm, name=f"{name}_conv{i}")
                x = unit(x, train=train)
            features[name] = x
            return x

        features: dict[str, Array] = {}
        x = standardize(images, self.mean, self.std)
        for i in range(1, self.depth + 1):
            x = level(x, f"down{i}", self.width << (i - 1))
            if i == self.depth:
                x = features[f"down{i}"] = Dropout(self.dropout)(x, train=train)
            x = MaxPool(2, name=f"pool{i}")(x)
        x = Dropout(self.dropout)(level(x, "bottom", self.width << self.depth), train=train)
        for i in reversed(range(1, self.depth + 1)):
            channels = self.width << (i - 1)
            x = ConvTranspose(channels, 2, strides=2, name=f"up{i}_transposed")(x)
            x = level(jnp.concatenate([_middle(features[f"down{i}"], x), x], axis=-1), f"up{i}", channels)
        return Conv(self.num_classes, 1, name="head")(x), features


def _middle(x: Array, like: Array) -> Array:
    """The middle of a map, of another's height and width."""
    (h, w), (height, width) = x.shape[1:3], like.shape[1:3]
    top, left = (h - height) // 2, (w - width) // 2
    return x[:, top : top + height, left : left + width]
