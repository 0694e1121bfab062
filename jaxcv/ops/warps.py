"""Warps: a map of the plane that moves pixels, and the same map for points.

A map goes from the output to the input, because pixels are fetched, not thrown; a point on the input goes to the
output through its inverse, `invert_affine` or `invert_elastic`. Coordinates are (x, y) in pixels with (0, 0) the upper
left corner of the picture, as in `jaxcv.ops.images`. Angles are degrees.

An elastic map moves each place p to p + d(p), d a cubic B-spline over a grid of vectors, `control`. With control
vectors of at most `elastic_limit` pixels along each axis, times a strength s < 1, d changes by at most s times the
distance of two places: the map is one to one, nothing folds, and its inverse exists everywhere.
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
"""Three bring the worst maps within the limit to the rounding of float32."""


@functools.partial(jax.jit, static_argnames=("center",))
def affine_matrix(
    angles: Float[Array, " b"],
    scales: Float[Array, " b"],
    shears: Float[Array, "b 2"],
    shifts: Float[Array, "b 2"],
    *,
    center: tuple[float, float],
) -> Float[Array, "b 2 3"]:
    """The maps that show pictures sheared, scaled and turned about a centre, then shifted.

    Args:
        angles: `[b]` degrees, clockwise to the eye.
        scales: `[b]` factors of size, above 0.
        shears: `[b, 2]` degrees along x and y, within (-90, 90).
        shifts: `[b, 2]` pixels to the right and down.
        center: (x, y) in pixels, what stays where it is but for the shift.

    Returns:
        `[b, 2, 3]`: takes (x, y, 1) in the output to (x, y) in the input. The same map as torchvision's `affine`.
    """
    turn, slant = jnp.deg2rad(angles), jnp.deg2rad(shears)
    scale = jnp.maximum(scales, _SMALLEST)
    turned, tangent, cosine = turn - slant[:, 1], jnp.tan(slant[:, 0]), jnp.cos(slant[:, 1])
    a, b = jnp.cos(turned) / cosine, -jnp.cos(turned) * tangent / cosine - jnp.sin(turn)
    c, d = jnp.sin(turned) / cosine, -jnp.sin(turned) * tangent / cosine + jnp.cos(turn)
    # The determinant of [[a, b], [c, d]] is 1: its inverse is made of the same four numbers.
    rows = [[d / scale, -b / scale], [-c / scale, a / scale]]
    x, y = center[0] + shifts[:, 0], center[1] + shifts[:, 1]
    offsets = [place - (row[0] * x + row[1] * y) for place, row in zip(center, rows, strict=True)]
    return jnp.stack([jnp.stack([*row, offset], -1) for row, offset in zip(rows, offsets, strict=True)], 1)


@jax.jit
def invert_affine(matrices: Float[Array, "*b 2 3"]) -> Float[Array, "*b 2 3"]:
    """The inverse maps.

    Args:
        matrices: `[..., 2, 3]`.

    Returns:
        `[..., 2, 3]`; finite but meaningless for a map that flattens the plane.
    """
    (a, b, x), (c, d, y) = ([matrices[..., i, j] for j in range(3)] for i in range(2))
    area = a * d - b * c
    flat = jnp.abs(area) < _SMALLEST**2
    area = jnp.where(flat, 1.0, area).astype(matrices.dtype)
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
        `[..., n, 2]`.
    """
    x, y = points[..., 0], points[..., 1]
    rows = ([matrices[..., i, j, None] for j in range(3)] for i in range(2))
    return jnp.stack([a * x + (b * y + c) for a, b, c in rows], axis=-1)


@functools.partial(jax.jit, static_argnames=("size",))
def affine_places(matrices: Float[Array, "b 2 3"], *, size: tuple[int, int]) -> Float[Array, "b h w 2"]:
    """Where affine maps take the centre of every pixel.

    Args:
        matrices: `[b, 2, 3]`.
        size: (height, width) in pixels.

    Returns:
        `[b, h, w, 2]` of (x, y).
    """
    y, x = (jnp.arange(side, dtype=matrices.dtype) + 0.5 for side in size)
    x, y = x[None, None, :], y[None, :, None]
    rows = ([matrices[:, i, j, None, None] for j in range(3)] for i in range(2))
    return jnp.stack([a * x + (b * y + c) for a, b, c in rows], axis=-1)


def elastic_limit(*, image_size: tuple[int, int], cells: int) -> float:
    """The length along each axis that control vectors must stay below.

    The slope of a cubic B-spline is an average of differences of neighbouring coefficients over the width of a cell,
    of which one counts for at most 3/4. With coefficients of at most a third of a cell no partial derivative reaches
    1/2, and no row or column of derivatives sums up to 1.

    Args:
        image_size: (height, width) in pixels.
        cells: Cells of the grid along each axis.

    Returns:
        Pixels: a third of the shorter side of a cell.
    """
    return min(image_size) / cells / 3


@functools.partial(jax.jit, static_argnames=("size",))
def elastic_places(control: Float[Array, "b g g 2"], *, size: tuple[int, int]) -> Float[Array, "b h w 2"]:
    """Where an elastic map takes the centre of every pixel.

    Args:
        control: `[b, cells + 3, cells + 3, 2]` vectors (x, y) in pixels; the grid's rows go down.
        size: (height, width) in pixels.

    Returns:
        `[b, h, w, 2]` of (x, y) in pixels.
    """
    y, x = (jnp.arange(side, dtype=control.dtype) + 0.5 for side in size)
    down, across = (_splines(t, side, control.shape[1])[0] for t, side in ((y, size[0]), (x, size[1])))
    moved = jnp.einsum("xi,byic->byxc", across, jnp.einsum("yj,bjic->byic", down, control))
    here = jnp.stack(jnp.broadcast_arrays(x[None, :], y[:, None]), axis=-1)
    return here[None] + moved


@functools.partial(jax.jit, static_argnames=("image_size",))
def elastic_points(
    points: Float[Array, "*b n 2"], control: Float[Array, "*b g g 2"], *, image_size: tuple[int, int]
) -> Float[Array, "*b n 2"]:
    """Points through an elastic map; beyond the picture it moves as at the picture's edge.

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

    def step(_: Array | int, found: Array) -> Array:
        moved, by_x, by_y = _displacement(found, control, image_size)
        error = found + moved - points
        a, b, c, d = 1 + by_x[..., 0], by_y[..., 0], by_x[..., 1], 1 + by_y[..., 1]
        area = a * d - b * c  # positive within the limit
        area = jnp.where(area < _SMALLEST, 1.0, area).astype(points.dtype)
        x, y = error[..., 0], error[..., 1]
        return found - jnp.stack([(d * x - b * y) / area, (a * y - c * x) / area], axis=-1)

    start = points - _displacement(points, control, image_size)[0]
    return lax.fori_loop(0, _NEWTON_STEPS, step, start)


@functools.partial(jax.jit, static_argnames=("interpolation",))
def warp(
    images: Shaped[Array, "b h w c"],
    places: Float[Array, "b oh ow 2"],
    *,
    interpolation: Interpolation = "bilinear",
    fill: Scalar | None = None,
    sources: Int[Array, "b oh ow"] | None = None,
) -> Shaped[Array, "b oh ow c"]:
    """Fetch each pixel of the output from its place in the input.

    Args:
        images: `[b, h, w, c]`; of any number format for `nearest`, float for `bilinear`.
        places: `[b, oh, ow, 2]` of (x, y) in pixels of the input; the centre of its first pixel is (0.5, 0.5).
        interpolation: `bilinear`, or `nearest`: the pixel in which the place lies.
        fill: What lies outside the picture; None repeats its edge.
        sources: `[b, oh, ow]` which of the `b` pictures each place is in; by default the output's own.

    Returns:
        `[b, oh, ow, c]` of the type of `images`.

    Raises:
        TypeError: If integers are to be interpolated: classes have no mean.
    """
    if interpolation == "bilinear" and not jnp.issubdtype(images.dtype, jnp.floating):
        raise TypeError(f"images of type {images.dtype} have no values between: interpolation='nearest'")
    b, h, w, c = images.shape

    def fetch(row: Array, column: Array) -> Array:
        if sources is None:
            return jax.vmap(lambda image, i: image[i])(images.reshape(b, h * w, c), row * w + column)
        return images.reshape(b * h * w, c)[(jnp.clip(sources, 0, b - 1) * h + row) * w + column]

    u, v = places[..., 0], places[..., 1]
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


def _splines(places: Array, side: int, count: int) -> tuple[Array, Array]:
    """The `count` cubic B-splines over a side at each place, and their slopes by pixel: `[..., count]` each."""
    cells = count - 3
    distance = (jnp.clip(places, 0, side) * (cells / side))[..., None] - (
        jnp.arange(count, dtype=places.dtype).reshape((1,) * places.ndim + (count,)) - 1
    )
    r = jnp.abs(distance)
    far = jnp.clip(2 - r, 0, 1)
    value = jnp.where(r < 1, 2 / 3 - r * r + r * r * r / 2, far * far * far / 6)
    slope = jnp.where(r < 1, distance * (1.5 * r - 2), -jnp.sign(distance) * far * far / 2)
    inside = ((places >= 0) & (places <= side))[..., None]
    return value, jnp.where(inside, slope, 0.0).astype(places.dtype) * (cells / side)


def _displacement(points: Array, control: Array, image_size: tuple[int, int]) -> tuple[Array, Array, Array]:
    """How far an elastic map moves points, and the derivatives of that by x and by y: `[..., n, 2]` each."""
    across, across_slope = _splines(points[..., 0], image_size[1], control.shape[-2])
    down, down_slope = _splines(points[..., 1], image_size[0], control.shape[-3])
    lines = jnp.einsum("...nj,...jic->...nic", down, control)
    slopes = jnp.einsum("...nj,...jic->...nic", down_slope, control)
    moved, by_x = (jnp.einsum("...ni,...nic->...nc", weights, lines) for weights in (across, across_slope))
    return moved, by_x, jnp.einsum("...ni,...nic->...nc", across, slopes)
