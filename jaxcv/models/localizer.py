"""Localization: class and box of one object per image, or none."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxcv.models.cells import Cells, feature_maps
from jaxcv.models.layers import ConvNormAct


class Localizer(nn.Module):
    """A backbone and a head that predicts y = [p_c, b_x, b_y, b_h, b_w, c_1 .. c_n] once per image.

    Takes [b h w c] in [0, 1]; returns [b 5 + num_classes], raw: `losses.localization` and `predict.localization` apply
    a logistic function to p_c and a softmax to the classes. Features: the backbone's maps, `neck`, and `objectness`
    [b h w], a logit for each cell; p_c is their log sum exp.

    Instead of fully connected layers, which learn every position separately, each cell of the last map predicts y, its
    box relative to its own centre (`cells.Cells`).
    """

    backbone: nn.Module
    """Any classifier of `jaxcv.models`; its fully connected layers are left out."""
    num_classes: int
    neck_channels: int = 128
    """Channels of a 3x3 convolution before the head."""

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
