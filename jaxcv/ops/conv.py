"""Convolution, and its arithmetic: sizes, parameters, multiply-adds.

Images are NHWC, kernels HWIO. "Convolution" is cross-correlation, as everywhere in the field. The arithmetic works on
Python ints.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jaxcv.ops.platform import on_cpu

Padding = Literal["valid", "same"] | int | tuple[tuple[int, int], tuple[int, int]]
"""`valid`: none; `same`: such that output size = ceil(input size / stride); an int: so many pixels at every edge; or
((top, bottom), (left, right))."""


@functools.partial(jax.jit, static_argnames=("strides", "padding", "dilation", "feature_group_count"))
def conv2d(
    images: Float[Array, "b h w c"],
    kernel: Float[Array, "fh fw i o"],
    *,
    strides: int | tuple[int, int] = 1,
    padding: Padding = "valid",
    dilation: int | tuple[int, int] = 1,
    feature_group_count: int = 1,
) -> Float[Array, "b oh ow o"]:
    """Convolution: at every position, the products of filter and window summed.

    out[y, x, o] = sum over i, j, c of images[y s + i d - p, x s + j d - p, c] kernel[i, j, c, o].

    Args:
        images: `[b, h, w, c]`.
        kernel: `[fh, fw, c / feature_group_count, o]`: o filters.
        strides: Step in pixels, or (vertical, horizontal).
        padding: Zeros around the images.
        dilation: Distance in pixels between neighbouring elements of the kernel.
        feature_group_count: Input and output channels are divided into so many groups, convolved independently.

    Returns:
        `[b, oh, ow, o]`, height and width by `conv_output_size`; no bias is added.

    Raises:
        ValueError: If the channels do not fit the kernel and the groups, or the kernel not into the padded images.
    """
    in_channels, (*window, depth, out_channels) = images.shape[-1], kernel.shape
    groups = feature_group_count
    if in_channels != depth * groups or out_channels % groups:
        raise ValueError(
            f"kernel {kernel.shape} in {groups} groups: expected {depth * groups} input channels, not {in_channels}, "
            f"and a multiple of {groups} output channels, not {out_channels}"
        )
    strides, dilation = pair(strides), pair(dilation)
    cover = [(f - 1) * d + 1 for f, d in zip(window, dilation, strict=True)]
    around = pads(images.shape[1:3], cover, strides, padding)
    return _convolve(images, kernel, strides=strides, pads=around, dilation=dilation, groups=groups)


def _plain(
    x: Array,
    w: Array,
    *,
    strides: tuple[int, int],
    pads: tuple[tuple[int, int], tuple[int, int]],
    dilation: tuple[int, int],
    groups: int,
) -> Array:
    # XLA on CPU reads out of bounds where one edge has negative padding and the opposite one has not.
    x = x[
        :,
        max(-pads[0][0], 0) : x.shape[1] - max(-pads[0][1], 0),
        max(-pads[1][0], 0) : x.shape[2] - max(-pads[1][1], 0),
    ]
    rest = [(max(low, 0), max(high, 0)) for low, high in pads]
    dimensions = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(
        x, w, strides, rest, rhs_dilation=dilation, dimension_numbers=dimensions, feature_group_count=groups
    )


_convolve = on_cpu("convolution", _plain)


@functools.partial(jax.jit, static_argnames=("strides", "padding", "dilation"))
def depthwise_conv2d(
    images: Float[Array, "b h w c"],
    kernel: Float[Array, "fh fw 1 o"],
    *,
    strides: int | tuple[int, int] = 1,
    padding: Padding = "valid",
    dilation: int | tuple[int, int] = 1,
) -> Float[Array, "b oh ow o"]:
    """Every channel convolved with its own filters: `conv2d` with as many groups as channels.

    Args:
        images: `[b, h, w, c]`.
        kernel: `[fh, fw, 1, c m]`; filters c' m to c' m + m - 1 belong to channel c'.
        strides: Step in pixels, or (vertical, horizontal).
        padding: Zeros around the images.
        dilation: Distance in pixels between neighbouring elements of the kernel.

    Returns:
        `[b, oh, ow, c m]`, height and width by `conv_output_size`; no bias is added.

    Raises:
        ValueError: If the channels do not fit the kernel, or the kernel not into the padded images.

    References:
        Howard et al., MobileNets, https://arxiv.org/abs/1704.04861, equation 3.
    """
    in_channels, out_channels = images.shape[-1], kernel.shape[-1]
    if kernel.shape[2] != 1 or out_channels % in_channels:
        raise ValueError(f"kernel {kernel.shape}: expected [fh, fw, 1, m * {in_channels}] for {in_channels} channels")
    options = {"strides": strides, "padding": padding, "dilation": dilation}
    return conv2d(images, kernel, feature_group_count=in_channels, **options)


@functools.partial(jax.jit, static_argnames=("strides", "padding", "output_padding"))
def conv_transpose2d(
    images: Float[Array, "b h w c"],
    kernel: Float[Array, "fh fw d o"],
    *,
    strides: int | tuple[int, int] = 1,
    padding: Padding = "valid",
    output_padding: int | tuple[int, int] = 0,
) -> Float[Array, "b oh ow o"]:
    """Transposed convolution: every pixel times the filter, summed in the output.

    out[y s + i - p, x s + j - p, o] += images[y, x, c] kernel[i, j, c, o]: the input's gradient of the convolution with
    these strides and padding.

    Args:
        images: `[b, h, w, c]`.
        kernel: `[fh, fw, c, o]`. torch's [c, o, fh, fw] in another order; Flax's is flipped.
        strides: Distance in the output between neighbouring pixels of the input, or (vertical, horizontal).
        padding: Pixels taken away around the output; negative ones are added as zeros; `same` gives input size x
            stride.
        output_padding: So many pixels fewer are taken away at the bottom and the right, or (bottom, right): of the
            sizes that the convolution maps to one, which is meant.

    Returns:
        `[b, oh, ow, o]`, height and width (n - 1) s + f less the padding plus the output padding; no bias is added.

    Raises:
        ValueError: If the channels do not fit, or padding leaves nothing.

    References:
        Dumoulin, Visin, A guide to convolution arithmetic for deep learning, https://arxiv.org/abs/1603.07285, ch. 4.
    """
    if images.shape[-1] != kernel.shape[2]:
        raise ValueError(f"kernel {kernel.shape}: expected {kernel.shape[2]} input channels, not {images.shape[-1]}")
    full = [(n - 1) * s + f for n, s, f in zip(images.shape[1:3], pair(strides), kernel.shape, strict=False)]
    if padding == "same":
        extra = [f - n * s for f, n, s in zip(full, images.shape[1:3], pair(strides), strict=True)]
        around = ((extra[0] // 2, extra[0] - extra[0] // 2), (extra[1] // 2, extra[1] - extra[1] // 2))
    else:
        around = pads(full, kernel.shape[:2], pair(strides), padding)
    bottom, right = pair(output_padding)
    around = (around[0][0], around[0][1] - bottom), (around[1][0], around[1][1] - right)
    out = full[0] - sum(around[0]), full[1] - sum(around[1])
    if min(out) < 1:
        raise ValueError(f"padding {padding!r} leaves nothing of {full[0]} x {full[1]} pixels")
    geometry = {"strides": pair(strides), "pads": around, "dilation": (1, 1), "groups": 1}
    return _transposed(images, kernel.swapaxes(2, 3), size=out, **geometry)


def _plain_transposed(x: Array, w: Array, *, size: tuple[int, int], **geometry: Any) -> Array:
    images = jax.ShapeDtypeStruct((x.shape[0], *size, w.shape[2]), x.dtype)  # not len: it may be symbolic
    return jax.linear_transpose(lambda images: _plain(images, w, **geometry), images)(x)[0]


_transposed = on_cpu("transposed_convolution", _plain_transposed)


def conv_output_size(size: int, *, window: int, stride: int = 1, padding: int | Literal["valid", "same"] = 0) -> int:
    """Height or width of the output of a convolution or pooling: floor((n + 2p - f) / s) + 1.

    Args:
        size: Input height or width n in pixels.
        window: Kernel height or width f in pixels.
        stride: s in pixels.
        padding: p pixels at either edge; `valid` is 0, `same` gives ceil(n / s).

    Returns:
        Output height or width in pixels.

    Raises:
        ValueError: If the window does not fit into the padded input.
    """
    before, after = (
        _same(size, window, stride) if padding == "same" else (0, 0) if padding == "valid" else (padding,) * 2
    )
    room = size + before + after - window
    if room < 0:
        raise ValueError(f"a window of {window} does not fit into {size} + {before} + {after} pixels")
    return room // stride + 1


def conv_parameters(
    in_channels: int, out_channels: int, *, window: int, bias: bool = True, separable: bool = False
) -> int:
    """Parameters of a convolution: f x f x n_C[l-1] x n_C[l], and n_C[l] biases.

    Args:
        in_channels: n_C[l-1].
        out_channels: n_C[l], the number of filters.
        window: Height and width f of the kernel.
        bias: Whether each filter has a bias; the depthwise stage of the separable form has none.
        separable: Depthwise then pointwise: f x f x n_C[l-1] + n_C[l-1] x n_C[l].

    Returns:
        Number of parameters.
    """
    if separable:
        return window * window * in_channels + in_channels * out_channels + bias * out_channels
    return window * window * in_channels * out_channels + bias * out_channels


def conv_multiply_adds(
    in_channels: int, out_channels: int, *, window: int, output_size: tuple[int, int], separable: bool = False
) -> int:
    """Multiply-adds of a convolution of one image: parameters of the filters x positions.

    Plain: f x f x n_C[l-1] x positions x n_C[l]. Depthwise separable: f x f x n_C[l-1] x positions for the depthwise
    stage plus n_C[l-1] x positions x n_C[l] for the pointwise. The ratio is 1 / n_C[l] + 1 / f².

    Args:
        in_channels: n_C[l-1].
        out_channels: n_C[l].
        window: Height and width f of the kernel.
        output_size: (height, width) of the output.
        separable: Depthwise then pointwise.

    Returns:
        Number of multiply-adds, biases not counted.

    References:
        Howard et al., MobileNets, https://arxiv.org/abs/1704.04861, section 3.1.
    """
    per_position = conv_parameters(in_channels, out_channels, window=window, bias=False, separable=separable)
    return per_position * math.prod(output_size)


def pair(value: int | tuple[int, int]) -> tuple[int, int]:
    """(vertical, horizontal); one number stands for both."""
    return (value, value) if isinstance(value, int) else value


def pads(
    size: Sequence[int], window: Sequence[int], strides: Sequence[int], padding: Padding
) -> tuple[tuple[int, int], tuple[int, int]]:
    """The padding as ((top, bottom), (left, right)) in pixels."""
    if padding == "valid":
        return (0, 0), (0, 0)
    if padding == "same":
        return _same(size[0], window[0], strides[0]), _same(size[1], window[1], strides[1])
    if isinstance(padding, int):
        return (padding, padding), (padding, padding)
    return padding


def _same(size: int, window: int, stride: int) -> tuple[int, int]:
    total = max((-(-size // stride) - 1) * stride + window - size, 0)
    return total // 2, total - total // 2


def windows(
    images: Array,
    window: Sequence[int],
    strides: tuple[int, int],
    padding: Padding,
    fill: float,
    *,
    dilation: tuple[int, int] = (1, 1),
) -> list[Array]:
    """For each element of the window, row by row, the values it meets: strided slices [b, oh, ow, c]."""
    b, h, w, c = images.shape
    reach = [(f - 1) * d + 1 for f, d in zip(window, dilation, strict=True)]
    around = pads((h, w), reach, strides, padding)
    if around != ((0, 0), (0, 0)):
        images = jnp.pad(images, ((0, 0), *around, (0, 0)), constant_values=fill)
        h, w = images.shape[1:3]
    rows, columns = (conv_output_size(n, window=f, stride=s) for n, f, s in zip((h, w), reach, strides, strict=True))
    ends = (rows - 1) * strides[0] + 1, (columns - 1) * strides[1] + 1
    return [
        lax.slice(images, (0, i, j, 0), (b, i + ends[0], j + ends[1], c), (1, *strides, 1))
        for i in range(0, reach[0], dilation[0])
        for j in range(0, reach[1], dilation[1])
    ]
