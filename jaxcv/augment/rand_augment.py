"""RandAugment: a few of fourteen operations, drawn anew for each picture."""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from jaxcv.augment.filters import grays, smoothed
from jaxcv.augment.randomness import PRNGKey, uniform_rows
from jaxcv.ops import affine_positions, warp
from jaxcv.types import Batch, Scalar

OPERATIONS = (
    "identity", "shear_x", "shear_y", "translate_x", "translate_y", "rotate", "brightness", "color", "contrast",
    "sharpness", "posterize", "solarize", "autocontrast", "equalize",
)  # fmt: skip
_MOVES, _BLENDS = 6, 10
"""Where the operations on colours begin, and of these the ones that are tables of levels."""
LARGEST = 30
"""The magnitude at which operations are strongest."""
_SHEAR, _SHIFT, _TURN, _BLEND, _BITS = 0.3, 150 / 331, 30.0, 0.9, 4
"""Then: a side by the other, a fraction of the side, degrees, a distance from 1, bits that are lost."""


@functools.partial(jax.jit, static_argnames=("operations",))
def rand_augment(
    key: PRNGKey, batch: Batch, *, operations: int = 2, magnitude: Scalar = 9.0, fill: Scalar = 0.5
) -> Batch:
    """Change each picture by operations drawn out of fourteen, one after another, all of one magnitude.

    They are the paper's: nothing, shear and shift along x and y, rotate, brightness, colour, contrast, sharpness,
    posterize, solarize, autocontrast, equalize; the first ten but nothing either way. As in torchvision, whose
    `RandAugment` has the same ranges, pictures are moved by whole pixels, the nearest.

    Args:
        key: A random key.
        batch: `image` `[b, h, w, c]` float32 in [0, 1] with a label. Other fields pass through: boxes, masks and points
            would not move along.
        operations: How many on each picture, N of the paper.
        magnitude: In [0, 30], M of the paper.
        fill: What lies outside the picture, grey as in the paper's code.

    Returns:
        The batch with the same shapes.

    References:
        Cubuk et al., RandAugment, https://arxiv.org/abs/1909.13719, section 3.
    """
    image = batch["image"]
    uniform = uniform_rows(key, len(image), 2 * operations).reshape(len(image), operations, 2)

    def step(image: Array, drawn: Array) -> tuple[Array, None]:
        chosen = jnp.minimum((drawn[:, 0] * len(OPERATIONS)).astype(jnp.int32), len(OPERATIONS) - 1)
        strength = jnp.where(drawn[:, 1] < 0.5, -1.0, 1.0) * magnitude / LARGEST
        return operated(image, chosen, strength, fill=fill), None

    return {**batch, "image": lax.scan(step, image, jnp.swapaxes(uniform, 0, 1))[0]}


def operated(
    image: Float[Array, "b h w c"], chosen: Int[Array, " b"], strength: Float[Array, " b"], *, fill: Scalar = 0.5
) -> Float[Array, "b h w c"]:
    """One operation on each picture, by its number in OPERATIONS, of a strength in [-1, 1]."""
    kind = chosen[:, None, None, None]
    colored = jnp.where(kind < _BLENDS, _blended(image, kind, strength), _leveled(image, kind, jnp.abs(strength)))
    changed = jnp.where(kind < _MOVES, _moved(image, chosen, strength, fill), colored)
    return jnp.where(kind == 0, image, changed)


def _moved(image: Array, chosen: Array, strength: Array, fill: Scalar) -> Array:
    h, w = image.shape[1:3]
    is_, still = (lambda name: chosen == OPERATIONS.index(name)), jnp.zeros_like(strength)
    angle = jnp.deg2rad(jnp.where(is_("rotate"), _TURN * strength, still))
    slant = [jnp.where(is_(name), _SHEAR * strength, still) for name in ("shear_x", "shear_y")]
    sides = (("translate_x", w), ("translate_y", h))
    shift = [jnp.where(is_(name), jnp.trunc(_SHIFT * side * strength), still) for name, side in sides]
    cos, sin, x, y = jnp.cos(angle), jnp.sin(angle), w / 2, h / 2
    # From a pixel of the result to the picture: about its centre, but sheared about its corner.
    rows = (
        [cos, slant[0] - sin, x - x * cos + y * sin - shift[0]],
        [slant[1] + sin, cos, y - x * sin - y * cos - shift[1]],
    )
    matrices = jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=1)
    return warp(image, affine_positions(matrices, size=(h, w)), interpolation="nearest", fill=fill)


def _blended(image: Array, kind: Array, strength: Array) -> Array:
    """Between the picture and what it is without its light, colours, contrasts or edges, or beyond it."""
    gray = lax.optimization_barrier(grays(image))
    without = {
        "brightness": jnp.zeros_like(image),
        "color": jnp.broadcast_to(gray, image.shape),
        "contrast": jnp.broadcast_to(gray.mean((1, 2), keepdims=True), image.shape),
        "sharpness": _softened(image),
    }
    end = image
    for name, picture in without.items():
        end = jnp.where(kind == OPERATIONS.index(name), picture, end)
    factor = (1 + _BLEND * strength)[:, None, None, None]
    return jnp.clip(factor * image + (1 - factor) * end, 0.0, 1.0)


def _softened(image: Array) -> Array:
    """A little smoothed, but for the outermost pixels."""
    h, w = image.shape[1:3]
    y, x = (jnp.arange(side) for side in (h, w))
    edge = ((y == 0) | (y == h - 1))[:, None] | ((x == 0) | (x == w - 1))[None]
    return jnp.where(edge[None, :, :, None], image, (4 * image + 9 * smoothed(image)) / 13)


def _leveled(image: Array, kind: Array, strength: Array) -> Array:
    """Each pixel by a table of its own value, in 256 levels where it is of levels that the paper speaks."""
    strength = strength[:, None, None, None]
    level = jnp.round(image * 255)
    coarse = 2 ** jnp.round(_BITS * strength)
    least, most = (find(image, axis=(1, 2), keepdims=True) for find in (jnp.min, jnp.max))
    reach = jnp.where(most > least, most - least, 1.0)
    found = {
        "posterize": jnp.floor(level / coarse) * coarse / 255,
        "solarize": jnp.where(image >= 1 - strength, 1 - image, image),
        "autocontrast": jnp.where(most > least, (image - least) / reach, image),
        "equalize": _equalized(level.astype(jnp.int32), image),
    }
    out = image
    for name, picture in found.items():
        out = jnp.where(kind == OPERATIONS.index(name), picture, out)
    return out


def _equalized(level: Array, image: Array) -> Array:
    """The levels of each channel spread so that all are about equally frequent, rounded as Pillow rounds them."""
    b, h, w, c = level.shape
    flat = jnp.moveaxis(level, -1, 1).reshape(b * c, h * w)
    count = jax.vmap(lambda values: jnp.zeros(256, jnp.int32).at[values].add(1))(flat)
    highest = jnp.take_along_axis(count, flat.max(1, keepdims=True), axis=1)
    step = (h * w - highest) // 255
    below = jnp.cumsum(count, axis=1) - count
    table = jnp.clip((below + step // 2) // jnp.maximum(step, 1), 0, 255)
    spread = jnp.moveaxis(jnp.take_along_axis(table, flat, axis=1).reshape(b, c, h, w), 1, -1)
    there = jnp.moveaxis(step.reshape(b, c, 1, 1), 1, -1) > 0
    return jnp.where(there, spread.astype(image.dtype) / 255, image)
