"""Landmark detection: n points of an object, as 2n numbers or as n heat maps."""

import flax.linen as nn
from jaxtyping import Array, Float

from jaxcv import ops
from jaxcv.models.cells import Cells, feature_maps
from jaxcv.models.layers import Conv, ConvNormAct, Dropout
from jaxcv.types import Scalar


class LandmarkRegressor(nn.Module):
    """Landmark detection by regression: a backbone, and 2n outputs.

    Takes [b h w c] in [0, 1]; returns [b n 2] of (x, y) as fractions of the image's width and height, initially its
    centre. Features: the backbone's maps, `neck`, and `attention` [b h w], whose softmax is each cell's weight.

    Instead of fully connected layers, which learn every position separately, each cell of the last map predicts the
    points relative to its own centre (`cells.Cells`).
    """

    backbone: nn.Module
    """Any classifier of `jaxcv.models`; its fully connected layers are left out."""
    num_points: int
    neck_channels: int = 256
    """Channels of a 3x3 convolution before the head."""
    dropout: Scalar = 0.0

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w c"], *, train: bool = False
    ) -> tuple[Float[Array, "b n 2"], dict[str, Array]]:
        """`train` selects batch statistics over running ones, and turns dropout on."""
        features = feature_maps(self.backbone, images, train=train)
        x = list(features.values())[-1]
        x = features["neck"] = ConvNormAct(self.neck_channels, name="neck")(x, train=train)
        x = Dropout(self.dropout)(x, train=train)
        _, answer, features["attention"] = Cells(0, points=self.num_points, name="head")(x)
        return answer.reshape(-1, self.num_points, 2), features


class LandmarkHeatmaps(nn.Module):
    """Landmarks as heat maps, from a feature pyramid over the backbone's maps.

    Takes [b h w c] in [0, 1], height and width divisible by the backbone's stride, so that each of its maps is twice as
    large as the next coarser one; returns logits [b h/stride w/stride num_points], whose `ops.soft_argmax` is the
    points. Features: the backbone's maps, and `up<i>`, the map after i upsamplings.

    The pyramid: 1x1 convolution of each map, upsampling, sum, 3x3 convolution.

    Lin et al.: Feature pyramid networks. https://arxiv.org/abs/1612.03144, section 3.
    """

    backbone: nn.Module
    """Any classifier of `jaxcv.models`; its fully connected layers are left out."""
    num_points: int
    stride: int = 4
    """Of the heat maps, in pixels of the image."""
    channels: int = 64

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w c"], *, train: bool = False
    ) -> tuple[Float[Array, "b gh gw n"], dict[str, Array]]:
        """`train` selects batch statistics over running ones.

        Raises:
            ValueError: If the backbone has no map of the stride, or its maps do not double in size.
        """
        features = feature_maps(self.backbone, images, train=train)
        levels = {x.shape[1:3]: x for x in features.values()}  # the last map of every size
        goal = (images.shape[1] // self.stride, images.shape[2] // self.stride)
        coarse, *finer = sorted((s for s in levels if s[0] <= goal[0] and s[1] <= goal[1]), key=lambda s: s[0])
        sizes = [coarse, *finer]
        doubles = all((2 * a, 2 * b) == next_ for (a, b), next_ in zip(sizes[:-1], sizes[1:], strict=True))
        if sizes[-1] != goal or not doubles:
            raise ValueError(f"heat maps of {goal}: the backbone's maps are {sizes}, expected doublings up to that")
        x = ConvNormAct(self.channels, 1, name="lateral0")(levels[coarse], train=train)
        for i, size in enumerate(finer, start=1):
            lateral = ConvNormAct(self.channels, 1, activation=None, name=f"lateral{i}")(levels[size], train=train)
            x = nn.relu(ops.upsample2x(x) + lateral)
            x = features[f"up{i}"] = ConvNormAct(self.channels, name=f"join{i}")(x, train=train)
        return Conv(self.num_points, 1, name="head")(x), features
