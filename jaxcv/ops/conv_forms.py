"""How a convolution is computed on a CPU: the formulations, and which of them is taken for which shape.

XLA on CPU has one good convolution, its call into Eigen, and reaches it for some ways of writing one. So everything
is written in terms of that convolution, of matrix products and of multiply-adds, gradients included: the input's is a
convolution with the turned kernel, the kernel's one of the images with the slopes as the kernel. `conv2d` and its
relatives are differentiated through the functions here, so they are as fast inside `lax.scan` as outside.

Where there is a C++ compiler, kernels of our own (`jaxcv.native.kernels`) take what stays in a core's cache from the
images to the result. Without one, every shape has a formulation in XLA's terms.

The rules, and what put each there: milliseconds on 2 AMD EPYC (Zen 3) cores, jaxlib 0.10.2, float32; "in C++": on Zen 5
cores, in CPU time by two; in brackets those of the form that would be taken without the rule. [batch, side², channels
in -> out].

    1x1                       a matrix product; its kernel's gradient in C++ from four million multiply-adds:
                              [8, 56², 64 -> 64] 0.6 (1.4), [8, 56², 256 -> 64] 2.8 (5.2), [8, 14², 1024 -> 512] 4.2
                              (5.0); or else transposed from 20,000 pixels on:
                              [16, 56², 144 -> 24] 4.1 (8.0); but [8, 28², 512 -> 128] 9.4 (7.0)
    3x3, 32 channels and more Winograd in C++:         [16, 24², 32 -> 32] 0.30 (0.50), [8, 56², 64 -> 64] 2.9 (5.2),
                                                       [8, 28², 128 -> 128] 2.2 (4.4), [4, 28², 512 -> 512] 18 (34)
                              and kernel's gradient    [8, 56², 64 -> 64] 3.4 (4.5), [8, 28², 128 -> 128] 2.7 (4.2),
                              of 64 and more:          [8, 7², 512 -> 512] 3.6 (3.9), [4, 28², 512 -> 512] 22 (21)
       or else, from a        Winograd's products:     [4, 28², 512 -> 512] 42 (84), kernel's gradient 58 (110)
       gigaflop on                                     [8, 28², 128 -> 128] 7.5 (11), kernel's gradient 12 (15)
                              64 while it is small:    [8, 56², 64 -> 64] 8.5 (13), but kernel's gradient 24 (21)
    8 channels and fewer      several outputs in one:  5x5 [256, 32², 1 -> 6] 1.6 (8.3), input's gradient 4.7 (28)
                                                       3x3 [4, 224², 3 -> 64] 9.3 (12), input's gradient 20 (25)
    large kernel, stride      blocks of pixels:        7x7/2 [8, 224², 3 -> 64] 16 (20), input's gradient 40 (73)
    image below the kernel    one matrix product:      3x3 [64, 2², 256 -> 256] 3.4 (53)
    stride, input's gradient  a convolution a phase:   3x3/2 [8, 56², 128 -> 128] 12 (17)
    kernel's gradient         batch as channels:       3x3/2 [8, 56², 128 -> 128] 16 (38)
                              in C++ for long rows of up to 64 channels, where it is not Winograd's:
                              [8, 128², 32 -> 32] 5.6 (12; 6.7 as Winograd's), [32, 64², 16 -> 32] 3.3 (7.8),
                              7x7/2 [8, 224², 3 -> 64] 6.9 (11); but [32, 8², 128 -> 128] 2.3 (1.6)
    depthwise                 multiply-adds:           3x3 [16, 56², 96] 1.5 (76), input's gradient 1.5 (77),
                              kernel's gradient, 16 examples in registers: 3x3 [16, 56², 144] 26 (54 in one sum)
                              in C++: MobileNetV2's whole step 227 (278), with batch norm's sums in C++ too; its
                              temporary memory 864 MB (1,583)
"""

import functools
import math
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from jaxcv.native import kernels

_NHWC = ("NHWC", "HWIO", "NHWC")


Matrix = tuple[tuple[float | int, ...], ...]


class Geometry(NamedTuple):
    """Where a kernel is laid: all in pixels, (vertical, horizontal)."""

    strides: tuple[int, int]
    pads: tuple[tuple[int, int], tuple[int, int]]
    """((top, bottom), (left, right)); negative takes away."""
    dilation: tuple[int, int]


_BARE = Geometry((1, 1), ((0, 0), (0, 0)), (1, 1))
"""At every pixel, nothing around the images."""


def reach(window: tuple[int, ...], dilation: tuple[int, int]) -> tuple[int, int]:
    """Height and width that a dilated kernel covers."""
    return (window[0] - 1) * dilation[0] + 1, (window[1] - 1) * dilation[1] + 1


# Forward.


def forward(x: Array, w: Array, at: Geometry) -> Array:
    """[b h w c] by [fh fw c o]: [b oh ow o]."""
    if pointwise(w, at):
        return every(x, at.strides) @ w[0, 0]
    if by_blocks_fits(w, at):
        return by_blocks(x, w, at)
    if winograd_fits((x.shape[0], *sides(x.shape, w.shape, at)), w.shape, at, x.dtype):
        return winograd(x, w, at)
    if wide := neighbours(x.shape, w.shape, at):
        y = plain(widen_images(x, wide), widen_kernel(w, wide), wide.at)
        return y.reshape(*y.shape[:2], -1, w.shape[3])[:, :, : sides(x.shape, w.shape, at)[1]]
    return plain(x, w, at)


def plain(x: Array, w: Array, at: Geometry) -> Array:
    """XLA's own, or one matrix product where the image is smaller than the kernel."""
    small = min(n - f for n, f in zip(x.shape[1:3], reach(w.shape, at.dilation), strict=True)) < 0
    if small and math.prod(w.shape[:2]) <= 49 and min(sides(x.shape, w.shape, at)) > 0:
        views = [view for _, _, view in taps(x, w.shape, sides(x.shape, w.shape, at), at)]
        return jnp.concatenate(views, axis=-1) @ w.reshape(-1, w.shape[3])
    # jaxlib 0.10 reads beside the image where one side is padded by a negative number and the other is not.
    negative = [(min(low, 0), min(high, 0)) for low, high in at.pads]
    rest = [(max(low, 0), max(high, 0)) for low, high in at.pads]
    return lax.conv_general_dilated(
        pad(x, negative), w, at.strides, rest, rhs_dilation=at.dilation, dimension_numbers=_NHWC
    )


def pointwise(w: Array, at: Geometry) -> bool:
    """Whether one pixel makes one pixel."""
    return w.shape[:2] == (1, 1) and at.pads == ((0, 0), (0, 0))


def every(x: Array, strides: tuple[int, int]) -> Array:
    """Each `strides`-th pixel."""
    return x if strides == (1, 1) else x[:, :: strides[0], :: strides[1]]


def by_blocks_fits(w: Array, at: Geometry) -> bool:
    """Stems: few channels, a large kernel, a stride."""
    strided = at.strides[0] == at.strides[1] > 1 and at.dilation == (1, 1)
    return strided and w.shape[2] <= 4 and min(w.shape[:2]) >= 5


def by_blocks(x: Array, w: Array, at: Geometry) -> Array:
    """A strided convolution as one without stride over blocks of s x s pixels: few channels become s² times as many."""
    s, (fh, fw, c, o) = at.strides[0], w.shape
    rows, columns = sides(x.shape, w.shape, at)
    kh, kw = -(-fh // s), -(-fw // s)
    need = (rows + kh - 1) * s, (columns + kw - 1) * s
    x = pad(x, [(p[0], n - side - p[0]) for p, n, side in zip(at.pads, need, x.shape[1:3], strict=True)])
    x = x.reshape(x.shape[0], need[0] // s, s, need[1] // s, s, c).transpose(0, 1, 3, 2, 4, 5)
    w = jnp.pad(w, ((0, kh * s - fh), (0, kw * s - fw), (0, 0), (0, 0)))
    w = w.reshape(kh, s, kw, s, c, o).transpose(0, 2, 1, 3, 4, 5).reshape(kh, kw, s * s * c, o)
    return plain(x.reshape(*x.shape[:3], -1), w, _BARE)


class Wide(NamedTuple):
    """A convolution with neighbouring outputs of a row in the channels of one."""

    m: int
    """Outputs in one."""
    blocks: int
    """Columns of such outputs."""
    window: int
    """Width of the kernel, in blocks of the input."""
    left: int
    width: int
    """The input with what stands around it, in pixels."""
    at: Geometry


def neighbours(x: tuple[int, ...], w: tuple[int, ...], at: Geometry) -> Wide | None:
    """How to put outputs together where there are so few channels that vectors would stay empty."""
    (fh, fw, c, o), s = w, at.strides[1]
    rows, columns = sides(x, w, at)
    if c > 8 or o > 64 or at.dilation != (1, 1) or max(at.strides) > 2 or min(rows, columns, x[0]) < 1 or fw == 1:
        return None
    m = 4 if c * s == 1 else 1 if min(fh, fw) > 5 else 2
    if m * s == 1:
        return None
    blocks, window = -(-columns // m), -(-(fw + s * (m - 1)) // (s * m))
    at_ = Geometry((at.strides[0], 1), (at.pads[0], (0, 0)), (1, 1))
    return Wide(m, blocks, window, at.pads[1][0], (blocks + window - 1) * s * m, at_)


def widen_images(x: Array, wide: Wide) -> Array:
    """Pixels of a row lie beside each other, so a block of them is one pixel with more channels at no cost."""
    x = pad(x, ((0, 0), (wide.left, wide.width - x.shape[2] - wide.left)))
    return x.reshape(*x.shape[:2], wide.blocks + wide.window - 1, -1)


def widen_kernel(w: Array, wide: Wide) -> Array:
    """The kernel m times beside itself, each a stride further, zeros around: more products, but full vectors."""
    fh, fw, c, o = w.shape
    block = wide.width // (wide.blocks + wide.window - 1)
    s, room = block // wide.m, wide.window * block - fw
    copies = [jnp.pad(w, ((0, 0), (s * t, room - s * t), (0, 0), (0, 0))) for t in range(wide.m)]
    return jnp.stack(copies, axis=3).reshape(fh, wide.window, block * c, wide.m * o)


# Winograd's F(2 x 2, 3 x 3): 16 products instead of 36 for every four outputs. Lavin, Gray: Fast algorithms for
# convolutional neural networks, https://arxiv.org/abs/1509.09308, section 4.1. Tiles of pixels become 16 planes.

_BT = ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1))
_G = ((1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1))
_AT = ((1, 1, 1, 0), (0, 1, -1, -1))


def winograd_fits(
    out: tuple[int, ...], w: tuple[int, ...], at: Geometry, dtype: Any, *, gradient: bool = False
) -> bool:
    """Whether sparing products pays for the transformations.

    Args:
        out: examples, height and width of the result, or of the slopes.
        w: Of the kernel.
        at: Where it is laid.
        dtype: Of the images.
        gradient: Of the kernel's gradient.
    """
    (*window, c, o), few, pixels = w, min(w[2:]), math.prod(out)
    if window != [3, 3] or not at.strides == at.dilation == (1, 1) or dtype != jnp.float32:
        return False
    if kernels.ready():
        return few >= (64 if gradient else 32) and pixels >= 256 and min(out[1:]) > 1
    tiles = 16 * (c + o) * pixels  # bytes
    enough = 18 * pixels * c * o >= 1e9
    return enough and few >= (128 if gradient else 64) and (few >= 128 or tiles <= 64 << 20)


def winograd(x: Array, w: Array, at: Geometry, *, turn: bool = False) -> Array:
    """Y = A'[(G g G') * (B' d B)]A with d the 4 x 4 tiles of the images and g the kernel.

    `turn`: by the kernel turned by 180 degrees, outputs for inputs. Its channels change places inside the products: to
    transpose it first took longer than to multiply by it (512 channels: 6 ms for each of the 16).
    """
    rows, columns = sides(x.shape, w.shape, at)
    if kernels.ready():
        form = lambda x, w: plain(x, w[::-1, ::-1].swapaxes(2, 3) if turn else w, at)  # noqa: E731
        return kernels.call("winograd_forward", form, x, w, **_corner(at), turn=int(turn))
    v = _transform(_BT, x, at, (-(-rows // 2), -(-columns // 2)))
    u = _transform_kernel(w[::-1, ::-1] if turn else w)
    return _inverse(_AT, jnp.einsum("tnc,toc->tno" if turn else "tnc,tco->tno", v, u), (len(x), rows, columns))


def winograd_kernel_gradient(x: Array, dy: Array, at: Geometry) -> Array:
    """Its transpose in the kernel: G'[(B' d B) * (A dy A')]G."""
    if kernels.ready():
        return kernels.call("winograd_gradient", lambda x, dy: swapped(x, dy, (3, 3), at), x, dy, **_corner(at))
    count = -(-dy.shape[1] // 2), -(-dy.shape[2] // 2)
    v, z = _transform(_BT, x, at, count), _transform(_turn(_AT), dy, _BARE, count)
    u = jnp.einsum("tnc,tno->tco", v, z)
    return _inverse(_turn(_G), u.reshape(16, 1, -1), (1, 3, 3)).reshape(3, 3, *u.shape[1:])


def _transform_kernel(w: Array) -> Array:
    """[3 3 c o]: [16 c o], the kernel as a tile of c o channels."""
    return _transform(_G, w.reshape(1, 3, 3, -1), _BARE, (1, 1)).reshape(16, *w.shape[2:])


def _transform(matrix: Matrix, x: Array, at: Geometry, count: tuple[int, int]) -> Array:
    """matrix d matrix' of all tiles d, which begin at every second pixel, so many by rows and columns.

    [b h w c]: [16 b*count c].
    """
    return jnp.concatenate([jnp.stack(row) for row in _mix(matrix, _tiles(x, at, count, len(matrix[0])))])


def _inverse(matrix: Matrix, planes: Array, shape: tuple[int, int, int]) -> Array:
    """Tiles matrix m matrix' beside each other, [16 n c]: `[*shape c]`, batch, rows and columns."""
    (b, rows, columns), size = shape, len(matrix)
    high, wide = (-(-rows // 2), -(-columns // 2)) if size == 2 else (1, 1)

    mixed = _mix(matrix, [list(row) for row in planes.reshape(4, 4, b, high, wide, -1)])
    tiles = jnp.stack([jnp.stack(row, axis=3) for row in mixed], axis=2)
    return tiles.reshape(b, high * size, wide * size, -1)[:, :rows, :columns]


def _tiles(x: Array, at: Geometry, count: tuple[int, int], size: int) -> list[list[Array]]:
    """Places (i, j) of all `size` x `size` tiles, which begin at every second pixel: [b*count c] each."""
    x = pad(
        x, [(p[0], 2 * n + size - 2 - side - p[0]) for p, n, side in zip(at.pads, count, x.shape[1:3], strict=True)]
    )
    ends, (b, _, _, c) = [2 * n - 1 for n in count], x.shape
    return [
        [lax.slice(x, (0, i, j, 0), (b, i + ends[0], j + ends[1], c), (1, 2, 2, 1)).reshape(-1, c) for j in range(size)]
        for i in range(size)
    ]


def _turn(matrix: Matrix) -> Matrix:
    return tuple(zip(*matrix, strict=True))


def _mix(matrix: Matrix, parts: list[list[Array]]) -> list[list[Array]]:
    """matrix parts matrix', the parts being arrays."""

    def combined(row: tuple[float | int, ...], column: list[Array]) -> Array:
        return _sum(
            part if f == 1 else -part if f == -1 else f * part for f, part in zip(row, column, strict=True) if f
        )

    columns = [[combined(row, list(column)) for row in matrix] for column in zip(*parts, strict=True)]
    return [[combined(row, list(line)) for row in matrix] for line in zip(*columns, strict=True)]


# Gradient of the input.


def input_gradient(dy: Array, w: Array, x_sides: tuple[int, int], at: Geometry) -> Array:
    """[b oh ow o] by [fh fw c o]: [b h w c]."""
    if pointwise(w, at) and at.strides == (1, 1):
        return dy @ w[0, 0].T
    if wide := neighbours((dy.shape[0], *x_sides), w.shape, at):
        b, rows, columns, o = dy.shape
        dy = pad(dy, ((0, 0), (0, wide.blocks * wide.m - columns))).reshape(b, rows, wide.blocks, wide.m * o)
        wide_sides = x_sides[0], wide.blocks + wide.window - 1
        dx = turned_or_woven(dy, widen_kernel(w, wide), wide_sides, wide.at).reshape(b, x_sides[0], wide.width, -1)
        return pad(dx, ((0, 0), (-wide.left, wide.left + x_sides[1] - wide.width)))
    return turned_or_woven(dy, w, x_sides, at)


def turned_or_woven(dy: Array, w: Array, x_sides: tuple[int, int], at: Geometry) -> Array:
    """`by_phase` where there are strides and no dilation, else `turned`."""
    if winograd_fits((dy.shape[0], *x_sides), w.shape, at, dy.dtype):
        pads = [(2 - low, n + low - rows) for (low, _), n, rows in zip(at.pads, x_sides, dy.shape[1:3], strict=True)]
        return winograd(dy, w, Geometry((1, 1), (pads[0], pads[1]), (1, 1)), turn=True)
    form = turned if at.strides == (1, 1) or at.dilation != (1, 1) else by_phase
    return form(dy, w, x_sides, at)


def turned(dy: Array, w: Array, x_sides: tuple[int, int], at: Geometry) -> Array:
    """The slopes, zeros between them where the convolution skipped, convolved with the kernel turned by 180 degrees."""
    cover = reach(w.shape, at.dilation)
    pads = []
    for f, (low, _), n, rows, s in zip(cover, at.pads, x_sides, dy.shape[1:3], at.strides, strict=True):
        before = f - 1 - low
        pads.append((before, n - ((rows - 1) * s + 1) - before + f - 1))
    if at.strides != (1, 1):
        dy = lax.pad(dy, jnp.zeros((), dy.dtype), ((0, 0, 0), *((0, 0, s - 1) for s in at.strides), (0, 0, 0)))
    return plain(dy, w[::-1, ::-1].swapaxes(2, 3), Geometry((1, 1), (pads[0], pads[1]), at.dilation))


def by_phase(dy: Array, w: Array, x_sides: tuple[int, int], at: Geometry) -> Array:
    """Pixels y = a mod s take part in every s-th row of the kernel only: s x s small convolutions, woven together."""
    (sh, sw), (b, oh, ow, _), c = at.strides, dy.shape, w.shape[2]
    high, wide = -(-x_sides[0] // sh), -(-x_sides[1] // sw)
    rows = []
    for p in range(sh):
        columns = []
        for q in range(sw):
            i, j = (p + at.pads[0][0]) % sh, (q + at.pads[1][0]) % sw
            part = w[i::sh, j::sw]
            if 0 in part.shape[:2]:
                columns.append(jnp.zeros((b, high, wide, c), dy.dtype))
                continue
            first = (p + at.pads[0][0] - i) // sh, (q + at.pads[1][0] - j) // sw
            low = [f - 1 - k for f, k in zip(part.shape[:2], first, strict=True)]
            pads = [
                (before, n - rows_ - before + f - 1)
                for before, n, rows_, f in zip(low, (high, wide), (oh, ow), part.shape[:2], strict=True)
            ]
            geometry = Geometry((1, 1), (pads[0], pads[1]), (1, 1))
            kernel = part[::-1, ::-1].swapaxes(2, 3)
            if kernel.shape[:2] == (1, 1):
                columns.append(pad(dy, geometry.pads) @ kernel[0, 0])
            else:
                columns.append(plain(dy, kernel, geometry))
        rows.append(jnp.stack(columns, axis=3))
    woven = jnp.stack(rows, axis=2).reshape(b, high * sh, wide * sw, c)
    return woven[:, : x_sides[0], : x_sides[1]]


# Gradient of the kernel.

_LONG = 20_000
"""From so many pixels on, a pointwise kernel's gradient is taken transposed, which reaches Eigen."""


def kernel_gradient(x: Array, dy: Array, window: tuple[int, int], at: Geometry) -> Array:
    """[b h w c] by [b oh ow o]: [fh fw c o]."""
    if window == (1, 1) and at.pads == ((0, 0), (0, 0)):
        x = every(x, at.strides)
        return products(x.reshape(-1, x.shape[-1]), dy.reshape(-1, dy.shape[-1]))[None, None]
    if x.size == 0 or dy.size == 0:
        return jnp.zeros((*window, x.shape[-1], dy.shape[-1]), x.dtype)
    if winograd_fits(dy.shape[:3], (*window, x.shape[-1], dy.shape[-1]), at, x.dtype, gradient=True):
        return winograd_kernel_gradient(x, dy, at)
    if row_by_row_fits(x, dy, at):
        attributes = _places(at)
        return kernels.call("conv_gradient", lambda x, dy: swapped(x, dy, window, at), x, dy, **attributes)
    return swapped(x, dy, window, at)


def products(x: Array, dy: Array) -> Array:
    """[n c] by [n o]: [c o], sums over the n pixels."""
    if x.dtype != jnp.float32 or x.size * dy.shape[1] < 1 << 22 or not kernels.ready():
        return plain_products(x, dy)
    return kernels.call("matrix_gradient", plain_products, x, dy)


def plain_products(x: Array, dy: Array) -> Array:
    """The same without the kernel in C++, which cannot be transposed."""
    return x.T @ dy if len(x) < _LONG else (dy.T @ x).T


def row_by_row_fits(x: Array, dy: Array, at: Geometry) -> bool:
    """Whether the kernel in C++ is the faster one: long rows of few channels, which it adds up in registers."""
    few, usual = min(x.shape[-1], dy.shape[-1]) <= 64, at.dilation == (1, 1) and x.dtype == jnp.float32
    return few and usual and dy.shape[2] >= 16 and dy.shape[-1] % 16 == 0 and kernels.ready()


def swapped(x: Array, dy: Array, window: tuple[int, int], at: Geometry) -> Array:
    """A convolution in which the batch plays the channels, the channels the batch, and the slopes the kernel."""
    pads = []
    for f, (low, _), n, rows, s, d in zip(
        window, at.pads, x.shape[1:3], dy.shape[1:3], at.strides, at.dilation, strict=True
    ):
        pads.append((low, (f - 1) * d + (rows - 1) * s + 1 - n - low))
    geometry = Geometry(at.dilation, (pads[0], pads[1]), at.strides)
    return plain(x.transpose(3, 1, 2, 0), dy.transpose(1, 2, 0, 3), geometry).transpose(1, 2, 0, 3)


# Depthwise: one multiply-add for each place of the kernel.

_UNROLL = 16
"""So many examples are added up in registers before memory is written."""


def in_one_pass(x: Array, window: tuple[int, ...], at: Geometry) -> bool:
    """Whether there is a kernel for it."""
    usual = window[:2] in ((3, 3), (5, 5)) and at.dilation == (1, 1)
    return usual and x.dtype == jnp.float32 and x.size > 0 and kernels.ready()


def depthwise_forward(x: Array, w: Array, at: Geometry) -> Array:
    """[b h w c] by [fh fw c]: [b oh ow c]."""
    if in_one_pass(x, w.shape, at) and min(sides(x.shape, (*w.shape[:2], 1, 1), at)) > 0:
        return kernels.call("depthwise_forward", lambda x, w: multiply_adds(x, w, at), x, w, **_places(at))
    return multiply_adds(x, w, at)


def _places(at: Geometry) -> dict[str, int]:
    return {"sh": at.strides[0], "sw": at.strides[1], **_corner(at)}


def _corner(at: Geometry) -> dict[str, int]:
    return {"top": at.pads[0][0], "left": at.pads[1][0]}


def multiply_adds(x: Array, w: Array, at: Geometry) -> Array:
    """The depthwise convolution as a sum over the places of the kernel."""
    rows, columns = sides(x.shape, (*w.shape[:2], 1, 1), at)
    return _sum(x_ij * w[None, None, None, i, j] for i, j, x_ij in taps(x, w.shape, (rows, columns), at))


def depthwise_input_gradient(dy: Array, w: Array, x_sides: tuple[int, int], at: Geometry) -> Array:
    """[b oh ow c] by [fh fw c]: [b h w c]."""
    if at.strides == (1, 1) and in_one_pass(dy, w.shape, at):
        pads = [
            (f - 1 - p[0], n - m + p[0])
            for f, p, n, m in zip(w.shape[:2], at.pads, x_sides, dy.shape[1:3], strict=True)
        ]
        return depthwise_forward(dy, w[::-1, ::-1], Geometry((1, 1), (pads[0], pads[1]), (1, 1)))
    (sh, sw), (dh, dw), (b, oh, ow, c) = at.strides, at.dilation, dy.shape
    high, wide = -(-x_sides[0] // sh), -(-x_sides[1] // sw)
    cover = reach(w.shape, at.dilation)
    margins = [
        (f - min(low, 0), max((s - 1 + low) // s + n - rows, 0))
        for f, (low, _), s, n, rows in zip(cover, at.pads, at.strides, (high, wide), (oh, ow), strict=True)
    ]
    dy = pad(dy, margins)
    rows = []
    for p in range(sh):
        columns = []
        for q in range(sw):
            terms = []
            for i in range(w.shape[0]):
                for j in range(w.shape[1]):
                    y, x = p + at.pads[0][0] - i * dh, q + at.pads[1][0] - j * dw
                    if y % sh or x % sw:
                        continue
                    top, left = margins[0][0] + y // sh, margins[1][0] + x // sw
                    terms.append(dy[:, top : top + high, left : left + wide] * w[None, None, None, i, j])
            columns.append(_sum(terms) if terms else jnp.zeros((b, high, wide, c), dy.dtype))
        rows.append(columns[0] if sw == 1 else jnp.stack(columns, axis=3).reshape(b, high, wide * sw, c))
    woven = rows[0] if sh == 1 else jnp.stack(rows, axis=2).reshape(b, high * sh, wide * sw, c)
    return woven[:, : x_sides[0], : x_sides[1]]


def depthwise_kernel_gradient(x: Array, dy: Array, window: tuple[int, int], at: Geometry) -> Array:
    """[b h w c] by [b oh ow c]: [fh fw c]."""
    if dy.size == 0:
        return jnp.zeros((*window, dy.shape[-1]), x.dtype)
    if in_one_pass(x, window, at):
        return kernels.call("depthwise_gradient", lambda x, dy: sums_by_place(x, dy, window, at), x, dy, **_places(at))
    return sums_by_place(x, dy, window, at)


def sums_by_place(x: Array, dy: Array, window: tuple[int, int], at: Geometry) -> Array:
    """The depthwise kernel's gradient, one sum for each of its places."""
    b, oh, ow, c = dy.shape
    groups = [range(first, min(first + _UNROLL, b)) for first in range(0, b, _UNROLL)]
    partial = [_sum(x_ij[n] * dy[n] for n in group) for _, _, x_ij in taps(x, window, (oh, ow), at) for group in groups]
    return jnp.stack(partial).reshape(math.prod(window), -1, c).sum(1).reshape(*window, c)


# Parts.


def sides(x: tuple[int, ...], w: tuple[int, ...], at: Geometry) -> tuple[int, int]:
    """Height and width of the output."""
    cover = reach(w, at.dilation)
    high, wide = ((n + sum(p) - f) // s + 1 for n, p, f, s in zip(x[1:3], at.pads, cover, at.strides, strict=True))
    return high, wide


def pad(x: Array, pads: object, value: float = 0.0) -> Array:
    """((top, bottom), (left, right)) more pixels; negative takes away."""
    (top, bottom), (left, right) = pads  # type: ignore[misc]
    if (top, bottom, left, right) == (0, 0, 0, 0):
        return x
    return lax.pad(x, jnp.asarray(value, x.dtype), ((0, 0, 0), (top, bottom, 0), (left, right, 0), (0, 0, 0)))


def taps(x: Array, window: tuple[int, ...], out: tuple[int, int], at: Geometry, fill: float = 0.0) -> list:
    """(i, j, the pixels under place (i, j) of the kernel) for every place: strided views of the padded images."""
    x = pad(x, at.pads, fill)
    (b, _, _, c), (sh, sw), (dh, dw) = x.shape, at.strides, at.dilation
    return [
        (
            i,
            j,
            lax.slice(
                x,
                (0, i * dh, j * dw, 0),
                (b, i * dh + (out[0] - 1) * sh + 1, j * dw + (out[1] - 1) * sw + 1, c),
                (1, sh, sw, 1),
            ),
        )
        for i in range(window[0])
        for j in range(window[1])
    ]


def _sum(terms: object) -> Array:
    return functools.reduce(lax.add, list(terms))  # type: ignore[call-overload]
