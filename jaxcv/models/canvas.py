"""Style transfer: a picture that is trained itself, beside the frozen network that looks at it."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxcv import ops
from jaxcv.errors import UserError
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
    """Divide the features of each layer by a number, so that the Gram matrices of the content and the styles have a
    norm of 1 on average, and weights of layers mean the same in every network. Gatys et al. scale their VGG so that the
    mean of every filter is 1, with the same purpose."""
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
        shape = (images.shape[1], images.shape[2], 1 if self.luminance else 3)
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
        layers = self.content_layers, self.style_layers
        return {"wanted": aims(self.trunk, content, styles, *layers, balanced=self.balanced)}


def aims(
    trunk: nn.Module,
    content: Float[Array, "b h w 3"],
    styles: Sequence[Any],
    content_layers: Sequence[str],
    style_layers: Sequence[str],
    *,
    balanced: bool,
) -> dict[str, dict[str, Array]]:
    """By layer: feature maps of the content, Gram matrices [s c c] of the styles, and what both were divided by."""
    layers = list(dict.fromkeys([*content_layers, *style_layers]))
    maps, *of_styles = (feature_maps(trunk, picture, layers) for picture in (content, *styles))
    scales = {name: jnp.ones(()) for name in layers}
    if balanced:
        every = (maps, *of_styles)
        norms = {
            name: jnp.stack([_norm(ops.gram_matrix(each[name], normalize=True)) for each in every]) for name in layers
        }
        scales = {name: jnp.sqrt(jnp.maximum(x.mean(), 1e-12)) for name, x in norms.items()}
    grams = {
        name: jnp.stack([ops.gram_matrix(each[name] / scales[name], normalize=True)[0] for each in of_styles])
        for name in style_layers
    }
    return {"content": {name: maps[name] / scales[name] for name in content_layers}, "grams": grams, "scales": scales}


def _norm(grams: Float[Array, "b c c"]) -> Float[Array, ""]:
    return jnp.sqrt(jnp.square(grams).sum((1, 2))).mean()


def feature_maps(trunk: nn.Module, images: Float[Array, "b h w 3"], layers: Sequence[str]) -> dict[str, Array]:
    """Feature maps [b h w c] of a frozen network by layer; to be called inside a module.

    Raises:
        UserError: the network has no such layer; says which it has.
    """
    try:
        _, found = trunk_features(trunk, images, layers, train=False)
    except ValueError as error:
        raise UserError(str(error)) from None
    return dict(zip(layers, found, strict=True))


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
