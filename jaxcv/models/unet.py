"""U-Net: an encoder and a decoder, each level of which is concatenated with the encoder's map of the same size.

Ronneberger, Fischer, Brox: U-Net: convolutional networks for biomedical image segmentation.
https://arxiv.org/abs/1505.04597
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxcv.models.layers import Conv, ConvNormAct, ConvTranspose, MaxPool, standardize


class UNet(nn.Module):
    """Semantic segmentation: class logits for each pixel.

    Takes [b h w c] in [0, 1], height and width divisible by 2^depth; returns logits [b h w num_classes] and features
    `down1` .. `down<depth>`, `bottom`, `up<depth>` .. `up1`, each after the second convolution of its level.

    Deviations from the paper: convolutions are padded, so that the output has the size of the image and no map
    is cropped; batch normalisation after each (unless `norm=False`).
    """

    num_classes: int = 2
    width: int = 64
    """Channels at full resolution, 64 in the paper; each level down doubles them."""
    depth: int = 4
    """Levels below the first."""
    norm: bool = True
    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.25,)

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w c"], *, train: bool = False
    ) -> tuple[Float[Array, "b h w k"], dict[str, Array]]:
        """`train` selects batch statistics over running ones.

        Raises:
            ValueError: If height or width is not divisible by 2^depth.
        """
        multiple = 2**self.depth
        if any(n % multiple for n in images.shape[1:3]):
            raise ValueError(f"images of {images.shape[1:3]}: expected multiples of 2^depth = {multiple}")

        def level(x: Array, name: str, channels: int) -> Array:
            for i in (1, 2):
                x = ConvNormAct(channels, norm=self.norm, name=f"{name}_conv{i}")(x, train=train)
            features[name] = x
            return x

        features: dict[str, Array] = {}
        x = standardize(images, self.mean, self.std)
        for i in range(1, self.depth + 1):
            x = MaxPool(2, name=f"pool{i}")(level(x, f"down{i}", self.width << (i - 1)))
        x = level(x, "bottom", self.width << self.depth)
        for i in reversed(range(1, self.depth + 1)):
            channels = self.width << (i - 1)
            x = ConvTranspose(channels, 2, strides=2, name=f"up{i}_transposed")(x)
            x = level(jnp.concatenate([features[f"down{i}"], x], axis=-1), f"up{i}", channels)
        return Conv(self.num_classes, 1, name="head")(x), features
