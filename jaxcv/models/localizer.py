"""Localization: which object a picture shows, and where, for one object or none."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxcv.models.cells import Cells, feature_maps
from jaxcv.models.layers import ConvNormAct


class Localizer(nn.Module):
    """A convolutional trunk and a head that answers y = [p_c, b_x, b_y, b_h, b_w, c_1 .. c_n], once an image.

    Takes [b h w c] in [0, 1]; returns [b 5 + num_classes], raw: `losses.localization` and `predict.localization` put
    p_c through a logistic function and the classes through a softmax. Features: the trunk's maps, `neck`, and
    `objectness` [b h w], how sure each cell is; p_c is their log sum exp.

    Where the course has fully connected layers, which have to learn every place anew, every cell of the last map
    answers for itself, its box relative to its own middle (`trunk.Cells`).
    """

    backbone: nn.Module
    """Any network of the zoo; its own fully connected layers are left out."""
    num_classes: int
    neck_channels: int = 128
    """Of a 3x3 convolution in front of the answers."""

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w c"], *, train: bool = False
    ) -> tuple[Float[Array, "b d"], dict[str, Array]]:
        """`train` selects batch statistics over running ones."""
        features = feature_maps(self.backbone, images, train=train)
        x = list(features.values())[-1]
        x = features["neck"] = ConvNormAct(self.neck_channels, name="neck")(x, train=train)
        cells = Cells(2 + self.num_classes, start=(0.5, 0.5) + (0.0,) * self.num_classes, name="head")
        p_c, answer, features["objectness"] = cells(x)
        return jnp.concatenate([p_c[:, None], answer], axis=-1), features
