"""Warps: affine and elastic maps of the plane, applied to images and to points.

A map takes output coordinates to input coordinates (inverse warping), as resampling needs it; points on the input go
to the output through the inverse, `invert_affine` or `invert_elastic`. Coordinates are (x, y) in pixels with (0, 0) the
upper left corner of the image, as in `jaxcv.ops.images`. Angles are degrees.

An elastic map takes each position p to p + d(p), d a cubic B-spline over a grid of vectors, `control`. If these are
below s times `elastic_limit` pixels along each axis, s < 1, then d is Lipschitz with constant s, and so the map is one
to one and has an inverse everywhere.
"""

import functools
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, Shaped

from jaxcv.ops.images import _around
from jaxcv.types import Scalar

Interpolation = Literal["bilinear", "nearest"]

_SMALLEST = 1e-6
_NEWTON_STEPS = 5
"""Three converge to the rounding of float32 for all maps within `elastic_limit`."""


@functools.partial(jax.jit, static_argnames=("center",))
def affine_matrix(
    angles: Float[Array, " b"],
    scales: Float[Array, " b"],
    shears: Float[Array, "b 2"],
    shifts: Float[Array, "b 2"],
    *,
    center: tuple[float, float],
) -> Float[Array, "b 2 3"]:
    """Affine maps that shear, scale and rotate images about a centre, then shift them.

    Args:
        angles: `[b]` degrees, clockwise.
        scales: `[b]` factors of size, above 0.
        shears: `[b, 2]` degrees along x and y, within (-90, 90).
        shifts: `[b, 2]` pixels to the right and down.
        center: (x, y) in pixels, the fixed point of shear, scale and rotation.

    Returns:
        `[b, 2, 3]`: takes (x, y, 1) in the output to (x, y) in the input. The same map as torchvision's `affine`.
    """
    angle, slant = jnp.deg2rad(angles), jnp.deg2rad(shears)
    scale = jnp.maximum(scales, _SMALLEST)
    skewed, tangent, cosine = angle - slant[:, 1], jnp.tan(slant[:, 0]), jnp.cos(slant[:, 1])
    a, b = jnp.cos(skewed) / cosine, -jnp.cos(skewed) * tangent / cosine - jnp.sin(angle)
    c, d = jnp.sin(skewed) / cosine, -jnp.sin(skewed) * tangent / cosine + jnp.cos(angle)
    # The determinant of [[a, b], [c, d]] is 1: its inverse is made of the same four numbers.
    rows = [[d / scale, -b / scale], [-c / scale, a / scale]]
    x, y = center[0] + shifts[:, 0], center[1] + shifts[:, 1]
    offsets = [fixed - (row[0] * x + row[1] * y) for fixed, row in zip(center, rows, strict=True)]
    return jnp.stack([jnp.stack([*row, offset], -1) for row, offset in zip(rows, offsets, strict=True)], 1)


@jax.jit
def invert_affine(matrices: Float[Array, "*b 2 3"]) -> Float[Array, "*b 2 3"]:
    """The inverse maps.

    Args:
        matrices: `[..., 2, 3]`.

    Returns:
        `[..., 2, 3]`; finite but meaningless for a singular map.
    """
    (a, b, x), (c, d, y) = ([matrices[..., i, j] for j in range(3)] for i in range(2))
    area = a * d - b * c
    singular = jnp.abs(area) < _SMALLEST**2
    area = jnp.where(singular, 1.0, area).astype(matrices.dtype)
    p, q, r, s = d / area, -b / area, -c / area, a / area
    rows = [[p, q, -(p * x + q * y)], [r, s, -(r * x + s * y)]]
    return jnp.stack([jnp.stack(row, -1) for row in rows], -2)


@jax.jit
def affine_points(points: Float[Array, "*b n 2"], matrices: Float[Array, "*b 2 3"]) -> Float[Array, "*b n 2"]:
    """Points through affine maps.

    Args:
        points: `[..., n, 2]` of (x, y).
        matrices: `[..., 2, 3]`.

    Returns:
        `[..., n, 2]` of (x, y).
    """
    x, y = points[..., 0], points[..., 1]
    rows = ([matrices[..., i, j, None] for j in range(3)] for i in range(2))
    return jnp.stack([a * x + (b * y + c) for a, b, c in rows], axis=-1)


@functools.partial(jax.jit, static_argnames=("size",))
def affine_positions(matrices: Float[Array, "b 2 3"], *, size: tuple[int, int]) -> Float[Array, "b h w 2"]:
    """Where affine maps take the centre of every pixel.

    Args:
        matrices: `[b, 2, 3]`.
        size: (height, width) in pixels.

    Returns:
        `[b, h, w, 2]` of (x, y).
    """
    y, x = (jnp.arange(n, dtype=matrices.dtype) + 0.5 for n in size)
    x, y = x[None, None, :], y[None, :, None]
    rows = ([matrices[:, i, j, None, None] for j in range(3)] for i in range(2))
    return jnp.stack([a * x + (b * y + c) for a, b, c in rows], axis=-1)


def elastic_limit(*, image_size: tuple[int, int], cells: int) -> float:
    """The length along each axis that control vectors must stay below for an elastic map to be invertible.

    The derivative of a cubic B-spline is a weighted mean of differences of neighbouring coefficients over the width of
    a cell, with weights of at most 3/4. With coefficients of at most a third of a cell every partial derivative is
    below 1/2, and every row and column of the Jacobian of d sums to less than 1.

    Args:
        image_size: (height, width) in pixels.
        cells: Cells of the grid along each axis.

    Returns:
        Pixels: a third of a cell's height or width, whichever is smaller.
    """
    return min(image_size) / cells / 3


@functools.partial(jax.jit, static_argnames=("size",))
def elastic_positions(control: Float[Array, "b g g 2"], *, size: tuple[int, int]) -> Float[Array, "b h w 2"]:
    """Where an elastic map takes the centre of every pixel.

    Args:
        control: `[b, cells + 3, cells + 3, 2]` vectors (x, y) in pixels; rows first.
        size: (height, width) in pixels.

    Returns:
        `[b, h, w, 2]` of (x, y) in pixels.
    """
    y, x = (jnp.arange(n, dtype=control.dtype) + 0.5 for n in size)
    down, across = (_splines(t, n, control.shape[1])[0] for t, n in ((y, size[0]), (x, size[1])))
    moved = jnp.einsum("xi,byic->byxc", across, jnp.einsum("yj,bjic->byic", down, control))
    here = jnp.stack(jnp.broadcast_arrays(x[None, :], y[:, None]), axis=-1)
    return here[None] + moved


@functools.partial(jax.jit, static_argnames=("image_size",))
def elastic_points(
    points: Float[Array, "*b n 2"], control: Float[Array, "*b g g 2"], *, image_size: tuple[int, int]
) -> Float[Array, "*b n 2"]:
    """Points through an elastic map; a point outside the image is displaced like the nearest one on its edge.

    Args:
        points: `[..., n, 2]` of (x, y) in pixels.
        control: `[..., cells + 3, cells + 3, 2]` vectors in pixels.
        image_size: (height, width) in pixels.

    Returns:
        `[..., n, 2]`.
    """
    return points + _displacement(points, control, image_size)[0]


@functools.partial(jax.jit, static_argnames=("image_size",))
def invert_elastic(
    points: Float[Array, "*b n 2"], control: Float[Array, "*b g g 2"], *, image_size: tuple[int, int]
) -> Float[Array, "*b n 2"]:
    """The points that an elastic map takes to these, by Newton's method.

    Args:
        points: `[..., n, 2]` of (x, y) in pixels.
        control: `[..., cells + 3, cells + 3, 2]` vectors in pixels, within `elastic_limit`.
        image_size: (height, width) in pixels.

    Returns:
        `[..., n, 2]`.
    """

    def step(_: Array | int, guess: Array) -> Array:
        moved, by_x, by_y = _displacement(guess, control, image_size)
        error = guess + moved - points
        a, b, c, d = 1 + by_x[..., 0], by_y[..., 0], by_x[..., 1], 1 + by_y[..., 1]
        area = a * d - b * c  # positive within the limit
        area = jnp.where(area < _SMALLEST, 1.0, area).astype(points.dtype)
        x, y = error[..., 0], error[..., 1]
        return guess - jnp.stack([(d * x - b * y) / area, (a * y - c * x) / area], axis=-1)

    start = points - _displacement(points, control, image_size)[0]
    return lax.fori_loop(0, _NEWTON_STEPS, step, start)


@functools.partial(jax.jit, static_argnames=("interpolation",))
def warp(
    images: Shaped[Array, "b h w c"],
    positions: Float[Array, "b oh ow 2"],
    *,
    interpolation: Interpolation = "bilinear",
    fill: Scalar | None = None,
    sources: Int[Array, "b oh ow"] | None = None,
) -> Shaped[Array, "b oh ow c"]:
    """Sample images at given positions.

    Args:
        images: `[b, h, w, c]`; of any number format for `nearest`, float for `bilinear`.
        positions: `[b, oh, ow, 2]` of (x, y) in pixels of the input; the centre of its first pixel is (0.5, 0.5).
        interpolation: `bilinear`, or `nearest`: the pixel in which the position lies.
        fill: Value of positions outside the image; None repeats its edge.
        sources: `[b, oh, ow]` which of the `b` images each position is in; by default the one of the same index.

    Returns:
        `[b, oh, ow, c]` of the type of `images`.

    Raises:
        TypeError: If `images` are integers and `interpolation` is `bilinear`.
    """
    if interpolation == "bilinear" and not jnp.issubdtype(images.dtype, jnp.floating):
        raise TypeError(f"images of type {images.dtype} cannot be interpolated: expected interpolation='nearest'")
    b, h, w, c = images.shape

    def fetch(row: Array, column: Array) -> Array:
        if sources is None:
            return jax.vmap(lambda image, i: image[i])(images.reshape(b, h * w, c), row * w + column)
        return images.reshape(b * h * w, c)[(jnp.clip(sources, 0, b - 1) * h + row) * w + column]

    u, v = positions[..., 0], positions[..., 1]
    left, right, fx, inside_x = _around(u, w)
    above, below, fy, inside_y = _around(v, h)
    if interpolation == "nearest":
        row, column = (jnp.clip(jnp.floor(t), 0, n - 1).astype(jnp.int32) for t, n in ((v, h), (u, w)))
        picture = fetch(row, column)
    else:
        fx, fy = fx[..., None].astype(images.dtype), fy[..., None].astype(images.dtype)
        top = fetch(above, left) * (1 - fx) + fetch(above, right) * fx
        bottom = fetch(below, left) * (1 - fx) + fetch(below, right) * fx
        picture = top * (1 - fy) + bottom * fy
    if fill is None:
        return picture
    return jnp.where((inside_x & inside_y)[..., None], picture, jnp.asarray(fill, images.dtype))


def _splines(positions: Array, size: int, count: int) -> tuple[Array, Array]:
    """The `count` cubic B-splines along an axis at each position, and their derivatives: `[..., count]` each."""
    cells = count - 3
    distance = (jnp.clip(positions, 0, size) * (cells / size))[..., None] - (
        jnp.arange(count, dtype=positions.dtype).reshape((1,) * positions.ndim + (count,)) - 1
    )
    r = jnp.abs(distance)
    far = jnp.clip(2 - r, 0, 1)
    value = jnp.where(r < 1, 2 / 3 - r * r + r * r * r / 2, far * far * far / 6)
    derivative = jnp.where(r < 1, distance * (1.5 * r - 2), -jnp.sign(distance) * far * far / 2)
    inside = ((positions >= 0) & (positions <= size))[..., None]
    return value, jnp.where(inside, derivative, 0.0).astype(positions.dtype) * (cells / size)


def _displacement(points: Array, control: Array, image_size: tuple[int, int]) -> tuple[Array, Array, Array]:
    """How far an elastic map moves points, and the partial derivatives of that by x and by y: `[..., n, 2]` each."""
    across, across_derivative = _splines(points[..., 0], image_size[1], control.shape[-2])
    down, down_derivative = _splines(points[..., 1], image_size[0], control.shape[-3])
    lines = jnp.einsum("...nj,...jic->...nic", down, control)
    by_y = jnp.einsum("...nj,...jic->...nic", down_derivative, control)
    moved, by_x = (jnp.einsum("...ni,...nic->...nc", weights, lines) for weights in (across, across_derivative))
    return moved, by_x, jnp.einsum("...ni,...nic->...nc", across, by_y)
