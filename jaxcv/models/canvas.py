"""Style transfer: a picture that is trained itself, beside the frozen network that looks at it."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxcv import ops
from jaxcv.models.trunk import trunk_features

_LUMA = (0.299, 0.587, 0.114)


class Canvas(nn.Module):
    """A picture as parameters, and its features in a frozen network.

    Takes the content picture [1 h w 3] in [0, 1], read for its size, and with `luminance` for its colours; returns what
    `losses.style_transfer` is given, and the features by layer. Train `picture` alone: `trunk` is the network. What the
    features are compared with is computed once, by `targets`, and kept in the collection of that name.

    Gatys, Ecker, Bethge: Image style transfer using convolutional neural networks, CVPR 2016. Deviation: the picture
    may be a sum of octaves, each of half the height and width of the one before.
    """

    trunk: nn.Module
    content_layers: tuple[str, ...]
    style_layers: tuple[str, ...]
    styles: int = 1
    """Number of style pictures."""
    balanced: bool = True
    """Divide the features of each layer by their mean in the content and style pictures, so that weights of layers mean
    the same in every network: Gatys et al. scale their VGG so that every filter's mean is 1."""
    octaves: int = 1
    """Pictures that are enlarged and summed: with several, coarse structure moves as fast as fine detail."""
    luminance: bool = False
    """The picture is grey, and what is made has the content's colours: Gatys et al., Preserving color in neural
    artistic style transfer, https://arxiv.org/abs/1606.05897, section 3.2."""

    @nn.compact
    def __call__(
        self, images: Float[Array, "1 h w 3"], *, train: bool = False
    ) -> tuple[dict[str, Any], dict[str, Array]]:
        """`train` changes nothing."""
        shape = (*images.shape[1:3], 1 if self.luminance else 3)
        octaves = self.param("picture", lambda key: noise(key, shape, self.octaves))
        picture = assemble(octaves, shape).astype(images.dtype)[None]
        seen = jnp.broadcast_to(picture, images.shape)
        layers = list(dict.fromkeys([*self.content_layers, *self.style_layers]))
        features = feature_maps(self.trunk, seen, layers)
        targets = self.variable("targets", "wanted", self._empty, features).value
        features = {name: x / targets["scales"][name].astype(x.dtype) for name, x in features.items()}
        made = images + picture - luma(images) if self.luminance else picture
        return {"image": made, "features": features, **targets}, features

    def _empty(self, features: dict[str, Array]) -> dict[str, dict[str, Array]]:
        channels = {name: features[name].shape[-1] for name in self.style_layers}
        return {
            "content": {name: jnp.zeros_like(features[name]) for name in self.content_layers},
            "grams": {name: jnp.zeros((self.styles, c, c), jnp.float32) for name, c in channels.items()},
            "scales": {name: jnp.ones(()) for name in features},
        }

    def targets(self, content: Float[Array, "1 h w 3"], styles: Sequence[Any]) -> dict[str, Any]:
        """What the features should be, for the collection `targets`: the content's maps, the styles' Gram matrices.

        Args:
            content: in [0, 1]; with `luminance`, grey in three equal channels.
            styles: pictures [1 h w 3] of any sizes.
        """
        layers = list(dict.fromkeys([*self.content_layers, *self.style_layers]))
        maps, *of_styles = (feature_maps(self.trunk, picture, layers) for picture in (content, *styles))
        scales = {name: jnp.ones(()) for name in layers}
        if self.balanced:
            means = {name: jnp.stack([jnp.abs(each[name]).mean() for each in (maps, *of_styles)]) for name in layers}
            scales = {name: jnp.maximum(x.mean(), 1e-6) for name, x in means.items()}
        return {
            "wanted": {
                "content": {name: maps[name] / scales[name] for name in self.content_layers},
                "grams": gram_targets([{n: x / scales[n] for n, x in each.items()} for each in of_styles],
                                      self.style_layers),
                "scales": scales,
            }
        }  # fmt: skip


def feature_maps(trunk: nn.Module, images: Float[Array, "b h w 3"], layers: Sequence[str]) -> dict[str, Array]:
    """Feature maps [b h w c] of a frozen network by layer; to be called inside a module."""
    _, found = trunk_features(trunk, images, layers, train=False)
    return dict(zip(layers, found, strict=True))


def gram_targets(styles: Sequence[dict[str, Array]], layers: Sequence[str]) -> dict[str, Float[Array, "s c c"]]:
    """Gram matrices by layer of the maps of style pictures, which may have different sizes."""
    return {name: jnp.stack([ops.gram_matrix(each[name], normalize=True)[0] for each in styles]) for name in layers}


def luma(images: Float[Array, "*b h w 3"]) -> Float[Array, "*b h w 1"]:
    """ITU-R 601."""
    red, green, blue = (images[..., i : i + 1] for i in range(3))
    return _LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue


def noise(key: Any, shape: tuple[int, int, int], octaves: int) -> dict[str, Array]:
    """Octaves of a random picture: grey on average, every octave with the same contrast."""
    keys = jax.random.split(key, octaves)
    found = {}
    for i in range(octaves):
        size = (max(1, -(-shape[0] // 2**i)), max(1, -(-shape[1] // 2**i)), shape[2])
        found[str(i)] = 0.5 * (i == 0) + 0.2 / octaves * jax.random.normal(keys[i], size)
    return found


def assemble(octaves: dict[str, Array], shape: tuple[int, int, int]) -> Float[Array, "h w c"]:
    """The picture of octaves."""
    enlarged = [jax.image.resize(x, shape, "linear") for _, x in sorted(octaves.items())[1:]]
    return sum(enlarged, octaves["0"])


def disassemble(picture: Float[Array, "h w c"], octaves: dict[str, Array]) -> dict[str, Array]:
    """Octaves of a given picture: all of it in the finest, zeros in the others."""
    return {name: picture if name == "0" else jnp.zeros_like(x) for name, x in octaves.items()}
