"""Where things are: mirror, crop, rotate, shear, scale, shift and bend, in one resampling."""

import functools
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxcv.augment.moving import move
from jaxcv.augment.randomness import PRNGKey, uniform_rows
from jaxcv.ops import affine_matrix, elastic_limit
from jaxcv.types import Batch, Scalar

BEND_CELLS = 4
_BEND_DRAWS = 2 * (BEND_CELLS + 3) ** 2
COLUMNS = 15
"""Numbers an example takes: 0 angle, 1 size, 2 mirror, 3-4 shift, 5-7 brightness, contrast and saturation, 8 hue,
9 shear, 10 upside down, 11 area, 12 ratio, 13-14 position of the window; after them those of bending, if any."""


@functools.partial(jax.jit, static_argnames=("size", "swap"))
def warp(
    key: PRNGKey,
    batch: Batch,
    *,
    flip: Scalar = 0.0,
    flip_vertical: Scalar = 0.0,
    min_area: Scalar | None = None,
    max_ratio: Scalar | None = None,
    shift: Scalar | None = None,
    scale: Scalar | None = None,
    rotate: Scalar | None = None,
    shear: Scalar | None = None,
    elastic: Scalar | None = None,
    fill: Scalar | None = None,
    min_visible: Scalar = 0.3,
    swap: tuple[int, ...] | None = None,
    size: tuple[int, int] | None = None,
) -> Batch:
    """Mirror, crop, scale, shear, rotate, shift and bend pictures and what is on them, by one bilinear resampling.

    The same map moves `boxes`, `mask` (the nearest pixel's class, 255 outside) and `points`.
    A box becomes the upright box around what became of it, cut to the picture; one that keeps less than `min_visible`
    of its area is no truth any more (`valid` False), but ignored if the batch has `ignored` and some of it is seen.
    Points outside the picture are not `visible`. Options left at None cost nothing: without turning, shearing and
    bending the resampling is faster, with mirroring alone there is none.

    Args:
        key: A random key.
        batch: `image` `[b, h, w, c]` float32 in [0, 1] and any of `boxes` `[b, m, 4]` with `valid` and perhaps
            `ignored` `[b, m]`, `mask` `[b, h, w]`, `points` `[b, p, 2]` perhaps with `visible` `[b, p]`. Other fields
            pass through.
        flip: Probability of mirroring left and right, in [0, 1].
        flip_vertical: Probability of mirroring top and bottom, in [0, 1].
        min_area: A window of between this fraction of the picture's area and all of it is shown, evenly; in (0, 1].
        max_ratio: The window's width by height is up to this many times the picture's, or that divided by this, evenly
            on a log scale; at least 1. A side that would not fit is the picture's.
        shift: Up to this fraction of the side, either way, along each axis.
        scale: The picture is shown at a factor in [1 / (1 + scale), 1 + scale] of its size, evenly on a log scale.
        rotate: Up to this many degrees, either way.
        shear: Along x by up to this many degrees, either way; below 90.
        elastic: How near to folding the picture is bent, in [0, 1), by a cubic B-spline over 4x4 cells.
        fill: What lies outside the picture; None repeats its edge.
        min_visible: Fraction of its area in [0, 1] that a truth must keep.
        swap: For each point the one that it becomes in the mirror image, such as `FACE_68`.
        size: (height, width) of the output in pixels; by default that of the input.

    Returns:
        The batch, of the same shapes but for `size`. At strength 0 the same pixels; boxes that count for nothing hold
        zeros.

    References:
        Szegedy et al., Going deeper with convolutions, https://arxiv.org/abs/1409.4842, section 6 (`min_area`; of its
        windows that do not fit, torchvision draws others).
        Ronneberger et al., U-Net, https://arxiv.org/abs/1505.04597, section 3.1 (`elastic`; there a 3x3 grid of normal
        displacements, which may fold).
    """
    uniform = draw(key, batch, elastic=elastic)
    return warped(
        uniform,
        batch,
        flip=flip,
        flip_vertical=flip_vertical,
        min_area=min_area,
        max_ratio=max_ratio,
        shift=shift,
        scale=scale,
        rotate=rotate,
        shear=shear,
        elastic=elastic,
        fill=fill,
        min_visible=min_visible,
        swap=swap,
        size=size,
    )


@functools.partial(jax.jit, static_argnames=("size", "swap"))
def crop(
    key: PRNGKey,
    batch: Batch,
    *,
    size: tuple[int, int] | None = None,
    padding: Scalar = 0,
    flip: Scalar = 0.0,
    fill: Scalar | None = 0.0,
    min_visible: Scalar = 0.3,
    swap: tuple[int, ...] | None = None,
) -> Batch:
    """Cut a window at a random position out of each picture: whole pixels, none resampled.

    Boxes, masks and points move along, as in `warp`.

    Args:
        key: A random key.
        batch: `image` `[b, h, w, c]` float32 in [0, 1] and what `warp` takes. Other fields pass through.
        size: (height, width) of the window in pixels; by default the picture's. A larger one than the padded picture
            has it in the middle.
        padding: Pixels added on every side first.
        flip: Probability of mirroring left and right, in [0, 1].
        fill: What lies outside the picture; None repeats its edge.
        min_visible: Fraction of its area in [0, 1] that a truth must keep.
        swap: For each point the one that it becomes in the mirror image, such as `FACE_68`.

    Returns:
        The batch, of the same shapes but for `size`.

    References:
        He et al., Deep Residual Learning, https://arxiv.org/abs/1512.03385, section 4.2 (padding 4, mirror).
    """
    b, h, w, _ = batch["image"].shape
    size = size or (h, w)
    uniform = uniform_rows(key, b, 3)
    room = jnp.stack([w + 2 * padding - size[1], h + 2 * padding - size[0]]).astype(jnp.float32)[None]
    corner = jnp.where(room < 0, jnp.floor(room / 2), jnp.floor(uniform[:, :2] * (room + 1))) - padding
    windows = jnp.concatenate([corner, corner + jnp.asarray([size[1], size[0]], jnp.float32)[None]], axis=-1)
    matrices = mirror(window_matrix(windows, size), uniform[:, 2] < flip, size)
    return move(uniform, batch, matrices, size=size, upright=True, fill=fill, min_visible=min_visible, swap=swap)


def draw(key: PRNGKey, batch: Batch, *, elastic: Scalar | None, columns: int = COLUMNS) -> Float[Array, "b n"]:
    """The numbers in [0, 1) of each example."""
    return uniform_rows(key, len(batch["image"]), columns + (0 if elastic is None else _BEND_DRAWS))


def still(uniform: Float[Array, "b n"]) -> Float[Array, "b n"]:
    """The numbers of `warped` with which nothing is resampled; mirroring and colours as they are."""
    middle = [0, 1, 3, 4, 9, 12, *range(COLUMNS, uniform.shape[1])]
    return uniform.at[:, jnp.asarray(middle)].set(0.5).at[:, 11].set(0.0)


def warped(
    uniform: Float[Array, "b n"],
    batch: Batch,
    *,
    flip: Scalar = 0.0,
    flip_vertical: Scalar = 0.0,
    min_area: Scalar | None = None,
    max_ratio: Scalar | None = None,
    shift: Scalar | None = None,
    scale: Scalar | None = None,
    rotate: Scalar | None = None,
    shear: Scalar | None = None,
    elastic: Scalar | None = None,
    fill: Scalar | None = None,
    min_visible: Scalar = 0.3,
    swap: tuple[int, ...] | None = None,
    size: tuple[int, int] | None = None,
) -> Batch:
    """`warp` by numbers that were drawn already."""
    h, w = batch["image"].shape[1:3]
    size = size or (h, w)
    windows = windows_by_area(
        uniform[:, 11:15],
        (h, w),
        min_area=1.0 if min_area is None else min_area,
        max_ratio=1.0 if max_ratio is None else max_ratio,
    )
    columns = jnp.stack([uniform[:, i] for i in (0, 1, 9, 3, 4)], axis=-1)
    turned = about_centre(columns, size, rotate=rotate, scale=scale, shear=shear, shift=shift)
    matrices = compose(window_matrix(windows, size), turned)
    matrices = mirror(matrices, uniform[:, 2] < flip, size)
    matrices = mirror(matrices, uniform[:, 10] < flip_vertical, size, vertical=True)
    upright = rotate is None and shear is None
    return move(
        uniform,
        batch,
        matrices,
        size=size,
        upright=upright,
        in_place=upright and size == (h, w) and min_area is max_ratio is shift is scale is None,
        control=None if elastic is None else bend(uniform[:, COLUMNS:], elastic, size),
        fill=fill,
        min_visible=min_visible,
        swap=swap,
    )


def about_centre(
    uniform: Float[Array, "b 5"],
    size: tuple[int, int],
    *,
    rotate: Scalar | None = None,
    scale: Scalar | None = None,
    shear: Scalar | None = None,
    shift: Scalar | None = None,
) -> Float[Array, "b 2 3"]:
    """Maps that rotate, scale, shear (along x) and shift about the centre; `uniform` in this order."""
    signed = 2 * uniform - 1
    still = jnp.zeros(len(uniform))
    return affine_matrix(
        still if rotate is None else rotate * signed[:, 0],
        jnp.exp(jnp.log1p(0.0 if scale is None else scale) * signed[:, 1]),
        jnp.stack([still if shear is None else shear * signed[:, 2], still], axis=-1),
        (0.0 if shift is None else shift) * signed[:, 3:5] * jnp.asarray([size[1], size[0]], jnp.float32)[None],
        center=(size[1] / 2, size[0] / 2),
    )


def windows_by_area(
    uniform: Float[Array, "b 4"], image_size: tuple[int, int], *, min_area: Scalar, max_ratio: Scalar
) -> Float[Array, "b 4"]:
    """Windows of random area, ratio and position in the picture, xyxy in its pixels; `uniform` in this order."""
    area = 1 - uniform[:, 0] * (1 - min_area)
    ratio = jnp.exp(jnp.log(max_ratio) * (2 * uniform[:, 1] - 1))
    fractions = jnp.minimum(jnp.sqrt(jnp.stack([area * ratio, area / ratio], axis=-1)), 1.0)
    corner = uniform[:, 2:4] * (1 - fractions)
    sides = jnp.asarray([image_size[1], image_size[0]], jnp.float32)[None]
    return jnp.concatenate([corner * sides, (corner + fractions) * sides], axis=-1)


def window_matrix(windows: Float[Array, "b 4"], size: tuple[int, int]) -> Float[Array, "b 2 3"]:
    """Maps from a picture of `size` to the window that fills it."""
    x1, y1, x2, y2 = (windows[:, i] for i in range(4))
    none = jnp.zeros_like(x1)
    rows = [(x2 - x1) / size[1], none, x1], [none, (y2 - y1) / size[0], y1]
    return jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=1)


def compose(outer: Float[Array, "b 2 3"], inner: Float[Array, "b 2 3"]) -> Float[Array, "b 2 3"]:
    """First the inner map, then the outer one."""
    # Written out: a matrix product may round what is exact, such as doing nothing.
    columns = [outer[:, :, 0] * inner[:, None, 0, i] + outer[:, :, 1] * inner[:, None, 1, i] for i in range(3)]
    columns[2] = columns[2] + outer[:, :, 2]
    return jnp.stack(columns, axis=-1)


def mirror(
    matrices: Float[Array, "b 2 3"], chosen: Bool[Array, " b"], size: tuple[int, int], *, vertical: bool = False
) -> Float[Array, "b 2 3"]:
    """The chosen maps with their output mirrored left and right, or top and bottom."""
    axis, side = (1, size[0]) if vertical else (0, size[1])
    columns = [matrices[:, :, i] for i in range(3)]
    columns[2] = columns[2] + side * columns[axis]
    columns[axis] = -columns[axis]
    return jnp.where(chosen[:, None, None], jnp.stack(columns, axis=-1), matrices)


def bend(uniform: Float[Array, "b n"], strength: Scalar, size: tuple[int, int]) -> Float[Array, "b g g 2"]:
    """Control vectors of elastic maps, at `strength` of what would let them fold."""
    side = math.isqrt(uniform.shape[1] // 2)
    reach = jnp.clip(strength, 0.0, 0.99) * elastic_limit(image_size=size, cells=BEND_CELLS)
    return (reach * (2 * uniform - 1)).reshape(-1, side, side, 2)
