"""Fast style transfer: a network that repaints a picture in one pass, and the frozen one that judges it."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxcv import ops
from jaxcv.models.canvas import aims, feature_maps
from jaxcv.models.layers import Conv, parameter


class InstanceNorm(nn.Module):
    """`ops.instance_norm` with trained `scale` and `bias`; the same in training and evaluation."""

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Every channel of every image by its own statistics."""
        scale = parameter(self, "scale", nn.initializers.ones_init(), (x.shape[-1],))
        bias = parameter(self, "bias", nn.initializers.zeros_init(), (x.shape[-1],))
        return ops.instance_norm(x, scale, bias)


class TransformerNet(nn.Module):
    """Picture to picture: three convolutions down to a quarter, residual blocks, and up again.

    Takes [b h w 3] in [0, 1], h and w multiples of 4 and at least 16; returns the same shape in (0, 1), and the
    features `down`, `blocks`.

    Johnson, Alahi, Fei-Fei: Perceptual losses for real-time style transfer and super-resolution, ECCV 2016, and its
    supplement, table 1. Deviations: instance normalisation, as in Ulyanov et al., https://arxiv.org/abs/1607.08022;
    every convolution is padded by reflection; nearest neighbours and a convolution in place of transposed ones, which
    leave a checkerboard (Odena et al., Distill 2016); a sigmoid in place of a scaled tanh. The picture is not added to
    what the last convolution gives: a network that begins as the identity keeps the photograph's texture.
    """

    width: int = 32
    """Channels at full height and width; twice and four times as many below."""
    blocks: int = 5

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w 3"], *, train: bool = False
    ) -> tuple[Float[Array, "b h w 3"], dict[str, Array]]:
        """`train` changes nothing."""
        features: dict[str, Array] = {}
        x = self._unit(2 * images - 1, "down1", self.width, window=9)
        x = self._unit(x, "down2", 2 * self.width, strides=2)
        x = features["down"] = self._unit(x, "down3", 4 * self.width, strides=2)
        for i in range(1, self.blocks + 1):
            y = self._unit(x, f"block{i}_1", 4 * self.width)
            x = x + self._unit(y, f"block{i}_2", 4 * self.width, relu=False)
        features["blocks"] = x
        x = self._unit(ops.upsample2x(x), "up1", 2 * self.width)
        x = self._unit(ops.upsample2x(x), "up2", self.width)
        x = Conv(3, 9, padding="valid", name="out")(_reflected(x, 4))
        return nn.sigmoid(x), features

    def _unit(
        self, x: Array, name: str, channels: int, *, window: int = 3, strides: int = 1, relu: bool = True
    ) -> Array:
        conv = Conv(channels, window, strides=strides, padding="valid", use_bias=False, name=name)
        x = InstanceNorm(name=f"{name}_norm")(conv(_reflected(x, window // 2)))
        return nn.relu(x) if relu else x


def _reflected(x: Array, pixels: int) -> Array:
    return jnp.pad(x, ((0, 0), (pixels, pixels), (pixels, pixels), (0, 0)), mode="reflect")


class FastStyle(nn.Module):
    """A network that repaints, `painter`, and the frozen `trunk` whose features its pictures are judged by.

    Takes pictures [b h w 3] in [0, 1]; returns what `losses.style_transfer` is given, and the features by layer. The
    Gram matrices of the styles are computed once, by `targets`, and kept in the collection of that name.
    """

    painter: nn.Module
    trunk: nn.Module
    content_layers: tuple[str, ...]
    style_layers: tuple[str, ...]
    styles: int = 1
    """Number of style pictures, whose styles are mixed."""

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w 3"], *, train: bool = False
    ) -> tuple[dict[str, Any], dict[str, Array]]:
        """`train` changes nothing."""
        made, _ = self.painter(images, train=train)
        layers = list(dict.fromkeys([*self.content_layers, *self.style_layers]))
        features = feature_maps(self.trunk, made, layers)
        wanted = feature_maps(self.trunk, images, self.content_layers)
        kept = self.variable("targets", "wanted", self._empty, features).value
        features = {name: x / kept["scales"][name].astype(x.dtype) for name, x in features.items()}
        content = {name: jax.lax.stop_gradient(x) / kept["scales"][name].astype(x.dtype) for name, x in wanted.items()}
        return {"image": made, "features": features, "content": content, "grams": kept["grams"]}, features

    def _empty(self, features: dict[str, Array]) -> dict[str, dict[str, Array]]:
        channels = {name: features[name].shape[-1] for name in self.style_layers}
        grams = {name: jnp.zeros((self.styles, c, c), jnp.float32) for name, c in channels.items()}
        return {"grams": grams, "scales": {name: jnp.ones(()) for name in features}}

    def targets(self, content: Float[Array, "b h w 3"], styles: Sequence[Any]) -> dict[str, Any]:
        """As `Canvas.targets`; of `content`, some of the training pictures, only the features' means are used."""
        found = aims(self.trunk, content, styles, self.content_layers, self.style_layers, balanced=True)
        return {"wanted": {name: found[name] for name in ("grams", "scales")}}
