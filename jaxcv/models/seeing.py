"""What a frozen network sees: where its units are excited by pictures, and pictures that excite them most."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxcv.errors import UserError
from jaxcv.models.layers import AvgPool, Conv, MaxPool


class Seer(nn.Module):
    """A frozen `network` with a trained picture, in `pictures`, for each of the first `units` channels of some layers.

    Takes [b h w c] in [0, 1], returns a dict and the network's features of the images. The n units, layer after layer:
    `pictures` [n h w c] and `excitements` [n], their activations there averaged over the positions, which is what
    `losses.excitement` makes large; `peaks` [b n], the largest activation in each image, with its `places` [b n 2],
    (x, y) as fractions of width and height; `own_peaks` [n], the largest in their own pictures.

    Erhan et al., Visualizing higher-layer features of a deep network, 2009; Zeiler, Fergus, Visualizing and
    understanding convolutional networks, ECCV 2014.
    """

    network: nn.Module
    layers: tuple[str, ...]
    units: int = 6

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w c"], *, train: bool = False
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """`train` changes nothing."""
        _, features = self.network(images, train=False)
        chosen = [self._maps(features, layer) for layer in self.layers]
        shape = (sum(x.shape[-1] for x in chosen), *images.shape[1:])
        pictures = self.param("pictures", lambda key: {"all": 0.5 + 0.2 * jax.random.normal(key, shape)})["all"]
        _, seen = self.network(pictures.astype(images.dtype), train=False)
        own, start = [], 0
        for layer, maps in zip(self.layers, chosen, strict=True):
            count = maps.shape[-1]
            rows = self._maps(seen, layer)[start : start + count]
            own.append(jnp.stack([rows[i, ..., i] for i in range(count)]))
            start += count
        places = [_place(x) for x in chosen]
        outputs = {
            "pictures": pictures,
            "excitements": jnp.concatenate([x.mean((1, 2)) for x in own]),
            "own_peaks": jnp.concatenate([x.max((1, 2)) for x in own]),
            "peaks": jnp.concatenate([x.max((1, 2)) for x in chosen], axis=-1),
            "places": jnp.concatenate(places, axis=1),
        }
        return outputs, features

    def _maps(self, features: dict[str, Array], layer: str) -> Float[Array, "b h w u"]:
        """The chosen channels of a layer; a fully connected one has a single position."""
        if layer not in features:
            raise UserError(f"{type(self.network).__name__} has no feature {layer!r}; it has {', '.join(features)}")
        x = features[layer][..., : self.units]
        return x if x.ndim == 4 else x[:, None, None, :]


def _place(maps: Float[Array, "b h w u"]) -> Float[Array, "b u 2"]:
    b, height, width, units = maps.shape
    best = maps.reshape(b, height * width, units).argmax(1)
    y, x = (v.astype(jnp.float32) for v in (best // width, best % width))
    return jnp.stack([(x + 0.5) / width, (y + 0.5) / height], -1)


def receptive_fields(network: nn.Module, image_shape: tuple[int, int, int]) -> dict[str, tuple[int, int]]:
    """Of each feature, the pixels along an axis that a unit depends on at most, and the number of channels.

    Every convolution or pooling before it adds its window less one, times the stride so far; a dense layer depends on
    the whole image. Layers are told apart by the sizes of their maps: of parallel paths all are counted.

    Args:
        network: of convolutions and poolings of `models.layers`.
        image_shape: height, width and channels of the images.
    """
    known: list[tuple[Any, int, int]] = []  # what a module returned, the pixels it depends on, and the stride so far

    def at(x: Any) -> tuple[int, int]:
        same = [each for each in known if each[0] is x] or [
            each for each in known if each[0].shape[1:3] == x.shape[1:3]
        ]
        return max(((reach, stride) for _, reach, stride in same), default=(1, 1))

    def look(method: Any, args: Any, kwargs: Any, context: Any) -> Any:
        out, module = method(*args, **kwargs), context.module
        if context.method_name != "__call__" or not isinstance(out, jax.Array) or out.ndim != 4:
            return out
        reach, stride = at(args[0] if isinstance(module, Conv | MaxPool | AvgPool) else out)
        if isinstance(module, Conv | MaxPool | AvgPool):
            window = module.kernel_size if isinstance(module, Conv) else module.window
            step = window if module.strides is None else module.strides
            largest, steps = (max(v) if isinstance(v, tuple) else v for v in (window, step))
            reach, stride = reach + (largest - 1) * stride, stride * steps
        known.append((out, reach, stride))
        return out

    fields: dict[str, tuple[int, int]] = {}

    def run() -> None:
        with nn.intercept_methods(look):
            (_, features), _ = network.init_with_output(jax.random.key(0), jnp.zeros((1, *image_shape)), train=False)
        for name, x in features.items():
            if x.ndim != 4:
                fields[name] = max(image_shape[:2]), x.shape[-1]
                continue
            fields[name] = min(at(x)[0], max(image_shape[:2])), x.shape[-1]

    jax.eval_shape(run)
    return fields
