"""How a convolution is computed on a CPU: which form is chosen for which shape.

XLA on CPU has one fast convolution, its call into Eigen, and uses it for some ways of writing a convolution only. So
everything is written in terms of that convolution, matrix products and multiply-adds, gradients included: the input's
is a convolution with the flipped kernel, the kernel's one of the images with the cotangents as the kernel. The forward
pass and the two gradients are each other's transposes, so derivatives of any order use these forms, and they are as
fast inside `lax.scan` as outside.

Where there is a C++ compiler, C++ kernels (`kernels.py`) compute in tiles that stay in a core's cache from the images
to the result. Without one, every shape has a form in XLA's terms.

The rules, and the measurements behind each: milliseconds on 2 AMD EPYC (Zen 3) cores, jaxlib 0.10.2, float32; "in C++":
on Zen 5 cores, half of the CPU time of two cores; in brackets, without the rule. [batch, (height = width)², channels in
-> out].

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
    4x4/2, in C++:            Winograd for each phase: [16, 64², 64 -> 64] 7.6 (13), its transpose 8.5 (14)
    2x2/2, transposed:        a product for each line: [16, 32², 64 -> 64] 3.7 (4.3)
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

import math

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from jaxcv.cpu import kernels, winograd
from jaxcv.cpu.geometry import BARE, Geometry, every, output_size, pad, plain, reach
from jaxcv.cpu.wide import neighbours, widen_images, widen_kernel


def forward(x: Array, w: Array, at: Geometry) -> Array:
    """[b h w c] by [fh fw c o]: [b oh ow o]."""
    if pointwise(w, at):
        return every(x, at.strides) @ w[0, 0]
    if few_taps_fit(x.shape[:3], w, at):
        return few_taps(x, w, (len(x), *output_size(x.shape, w.shape, at), w.shape[3]), at)
    if by_blocks_fits(w, at):
        return by_blocks(x, w, at)
    if winograd.fits((x.shape[0], *output_size(x.shape, w.shape, at)), w.shape, at, x.dtype):
        return winograd.convolve(x, w, at)
    if wide := neighbours(x.shape, w.shape, at):
        y = plain(widen_images(x, wide), widen_kernel(w, wide), wide.at)
        return y.reshape(*y.shape[:2], -1, w.shape[3])[:, :, : output_size(x.shape, w.shape, at)[1]]
    return plain(x, w, at)


def pointwise(w: Array, at: Geometry) -> bool:
    """Whether each output depends on one pixel."""
    return w.shape[:2] == (1, 1) and at.pads == ((0, 0), (0, 0))


def by_blocks_fits(w: Array, at: Geometry) -> bool:
    """Stems: few channels, a large kernel, a stride."""
    strided = at.strides[0] == at.strides[1] > 1 and at.dilation == (1, 1)
    return strided and w.shape[2] <= 4 and min(w.shape[:2]) >= 5


def by_blocks(x: Array, w: Array, at: Geometry) -> Array:
    """A convolution of stride s as one without stride after space to depth by s, with s² times as many channels."""
    s, (fh, fw, c, o) = at.strides[0], w.shape
    rows, columns = output_size(x.shape, w.shape, at)
    kh, kw = -(-fh // s), -(-fw // s)
    need = (rows + kh - 1) * s, (columns + kw - 1) * s
    x = pad(x, [(p[0], n - size - p[0]) for p, n, size in zip(at.pads, need, x.shape[1:3], strict=True)])
    x = x.reshape(x.shape[0], need[0] // s, s, need[1] // s, s, c).transpose(0, 1, 3, 2, 4, 5)
    w = jnp.pad(w, ((0, kh * s - fh), (0, kw * s - fw), (0, 0), (0, 0)))
    w = w.reshape(kh, s, kw, s, c, o).transpose(0, 2, 1, 3, 4, 5).reshape(kh, kw, s * s * c, o)
    return plain(x.reshape(*x.shape[:3], -1), w, BARE)


def few_taps_fit(x: tuple[int, ...], w: Array, at: Geometry, *, up: tuple[int, int] | None = None) -> bool:
    """Whether the C++ kernel is faster for a kernel of one or two strides.

    Args:
        x: batch size, height and width of the images that are read.
        w: the kernel [fh fw c o].
        at: strides, padding and dilation.
        up: for the transpose, height and width of its result.
    """
    s, c = at.strides[0], w.shape[2]
    if at.strides != (s, s) or s < 2 or at.dilation != (1, 1) or w.dtype != jnp.float32 or min(w.shape[2:]) < 16:
        return False
    if w.shape[:2] == (s, s):
        covered = at.pads == BARE.pads and up == (s * x[1], s * x[2])
        return covered and x[2] >= 8 and s * c % 32 == 0 and kernels.ready()
    small = math.prod(x) // (1 if up else s * s)
    return w.shape[:2] == (2 * s, 2 * s) and small >= 256 and min(p[0] for p in at.pads) >= 0 and kernels.ready()


def few_taps(x: Array, w: Array, out: tuple[int, ...], at: Geometry, *, up: bool = False) -> Array:
    """A convolution whose kernel is one or two strides long, or with `up` its transpose."""
    place = {"s": at.strides[0], "top": at.pads[0][0], "left": at.pads[1][0], "up": int(up)}
    return kernels.call("strided", kernels.output(*out), x, w, **place)


# Gradient of the input.


def input_gradient(dy: Array, w: Array, size: tuple[int, int], at: Geometry) -> Array:
    """[b oh ow o] by [fh fw c o]: [b h w c]."""
    if pointwise(w, at) and at.strides == (1, 1):
        return dy @ w[0, 0].T
    if few_taps_fit(dy.shape[:3], w, at, up=size):
        return few_taps(dy, w, (len(dy), *size, w.shape[2]), at, up=True)
    if wide := neighbours((dy.shape[0], *size), w.shape, at):
        b, rows, columns, o = dy.shape
        dy = pad(dy, ((0, 0), (0, wide.blocks * wide.m - columns))).reshape(b, rows, wide.blocks, wide.m * o)
        wide_size = size[0], wide.blocks + wide.window - 1
        dx = flipped_or_by_phase(dy, widen_kernel(w, wide), wide_size, wide.at).reshape(b, size[0], wide.width, -1)
        return pad(dx, ((0, 0), (-wide.left, wide.left + size[1] - wide.width)))
    return flipped_or_by_phase(dy, w, size, at)


def flipped_or_by_phase(dy: Array, w: Array, size: tuple[int, int], at: Geometry) -> Array:
    """`by_phase` where there are strides and no dilation, else `flipped`."""
    if winograd.fits((dy.shape[0], *size), w.shape, at, dy.dtype):
        pads = [(2 - low, n + low - rows) for (low, _), n, rows in zip(at.pads, size, dy.shape[1:3], strict=True)]
        return winograd.convolve(dy, w, Geometry((1, 1), (pads[0], pads[1]), (1, 1)), flip=True)
    form = flipped if at.strides == (1, 1) or at.dilation != (1, 1) else by_phase
    return form(dy, w, size, at)


def flipped(dy: Array, w: Array, size: tuple[int, int], at: Geometry) -> Array:
    """The cotangents, with zeros between them for strides, convolved with the flipped kernel."""
    cover = reach(w.shape, at.dilation)
    pads = []
    for f, (low, _), n, rows, s in zip(cover, at.pads, size, dy.shape[1:3], at.strides, strict=True):
        before = f - 1 - low
        pads.append((before, n - ((rows - 1) * s + 1) - before + f - 1))
    if at.strides != (1, 1):
        dy = lax.pad(dy, jnp.zeros((), dy.dtype), ((0, 0, 0), *((0, 0, s - 1) for s in at.strides), (0, 0, 0)))
    return plain(dy, w[::-1, ::-1].swapaxes(2, 3), Geometry((1, 1), (pads[0], pads[1]), at.dilation))


def by_phase(dy: Array, w: Array, size: tuple[int, int], at: Geometry) -> Array:
    """Pixels y = a mod s meet only every s-th row of the kernel: s x s small convolutions, interleaved."""
    (sh, sw), (b, oh, ow, _), c = at.strides, dy.shape, w.shape[2]
    high, wide = -(-size[0] // sh), -(-size[1] // sw)
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
    interleaved = jnp.stack(rows, axis=2).reshape(b, high * sh, wide * sw, c)
    return interleaved[:, : size[0], : size[1]]


# Gradient of the kernel.

_LONG = 20_000
"""From so many pixels on, a pointwise kernel's gradient is computed transposed, for which XLA calls Eigen."""


def kernel_gradient(x: Array, dy: Array, window: tuple[int, int], at: Geometry) -> Array:
    """[b h w c] by [b oh ow o]: [fh fw c o]."""
    if window == (1, 1) and at.pads == ((0, 0), (0, 0)):
        x = every(x, at.strides)
        return products(x.reshape(-1, x.shape[-1]), dy.reshape(-1, dy.shape[-1]))[None, None]
    if winograd.fits(dy.shape[:3], (*window, x.shape[-1], dy.shape[-1]), at, x.dtype, gradient=True):
        return winograd.kernel_gradient(x, dy, at)
    if row_by_row_fits(x, dy, at):
        out = kernels.output(*window, x.shape[-1], dy.shape[-1])
        return kernels.call("conv_gradient", out, x, dy, **kernels.strides_and_corner(at))
    return swapped(x, dy, window, at)


def products(x: Array, dy: Array) -> Array:
    """[n c] by [n o]: [c o], sums over the n pixels."""
    if x.dtype == jnp.float32 and x.size * dy.shape[1] >= 1 << 22 and kernels.ready():
        return kernels.call("matrix_gradient", kernels.output(x.shape[1], dy.shape[1]), x, dy)
    return x.T @ dy if len(x) < _LONG else (dy.T @ x).T


def row_by_row_fits(x: Array, dy: Array, at: Geometry) -> bool:
    """Whether the C++ kernel is faster: long rows of few channels, whose sums stay in registers."""
    few, usual = min(x.shape[-1], dy.shape[-1]) <= 64, at.dilation == (1, 1) and x.dtype == jnp.float32
    return few and usual and dy.shape[2] >= 16 and dy.shape[-1] % 16 == 0 and kernels.ready()


def swapped(x: Array, dy: Array, window: tuple[int, int], at: Geometry) -> Array:
    """The gradient as a convolution with the cotangents as kernel, the batch as channels, the channels as batch."""
    pads = []
    for f, (low, _), n, rows, s, d in zip(
        window, at.pads, x.shape[1:3], dy.shape[1:3], at.strides, at.dilation, strict=True
    ):
        pads.append((low, (f - 1) * d + (rows - 1) * s + 1 - n - low))
    geometry = Geometry(at.dilation, (pads[0], pads[1]), at.strides)
    return plain(x.transpose(3, 1, 2, 0), dy.transpose(1, 2, 0, 3), geometry).transpose(1, 2, 0, 3)
