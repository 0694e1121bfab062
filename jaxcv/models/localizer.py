"""Localization: which object a picture shows, and where, for one object or none."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxcv.models.layers import ConvNormAct, Dense, flatten
from jaxcv.models.trunk import feature_maps


class Localizer(nn.Module):
    """A convolutional trunk and fully connected layers that answer y = [p_c, b_x, b_y, b_h, b_w, c_1 .. c_n].

    Takes [b h w c] in [0, 1], always the same sides; returns [b 5 + num_classes], raw: `losses.localization` and
    `predict.localization` put p_c and the box through a logistic function, the classes through a softmax. Features:
    the trunk's maps, `neck`, `hidden`.

    The head reads the last map twice: flattened, behind a 1x1 convolution, for what depends on the place; and the
    largest value of each channel, for what does not.
    """

    backbone: nn.Module
    """Any network of the zoo; its own fully connected layers are left out."""
    num_classes: int
    neck_channels: int = 32
    hidden: int = 256

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w c"], *, train: bool = False
    ) -> tuple[Float[Array, "b d"], dict[str, Array]]:
        """`train` selects batch statistics over running ones."""
        features = feature_maps(self.backbone, images, train=train)
        x = list(features.values())[-1]
        features["neck"] = ConvNormAct(self.neck_channels, 1, name="neck")(x, train=train)
        x = jnp.concatenate([flatten(features["neck"]), x.max((1, 2))], axis=-1)
        features["hidden"] = nn.relu(Dense(self.hidden, name="hidden_dense")(x))
        return Dense(5 + self.num_classes, name="head")(features["hidden"]), features
