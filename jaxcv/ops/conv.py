"""Convolution, and its arithmetic: sizes, parameters, multiply-adds.

Images are NHWC, kernels HWIO. "Convolution" is cross-correlation, as everywhere in the field. On CPU, where XLA's
grouped convolutions are naive loops, a depthwise convolution is written as one multiply-add for each place of its
kernel, a few groups are convolved one after another, and images smaller than the kernel are multiplied as one matrix
(3x3 over 2x2 with 512 channels, 64 images: 2,264 ms as XLA's convolution). The arithmetic works on Python ints.
"""

import functools
import math
from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

_FEW_GROUPS = 8
"""Up to so many groups are convolved one by one on CPU: AlexNet's second layer in two takes a fifth of the time."""
Padding = Literal["valid", "same"] | int | tuple[tuple[int, int], tuple[int, int]]
"""`valid` none, `same` so that output side = ceil(input side / stride), `p` on all sides, or ((top, bottom), (left,
right))."""


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
    """Every filter slid over the images, products summed over the window and its channels.

    out[y, x, o] = sum over i, j, c of images[y s + i d - p, x s + j d - p, c] kernel[i, j, c, o].

    Args:
        images: `[b, h, w, c]`.
        kernel: `[fh, fw, c / feature_group_count, o]`: o filters.
        strides: Step in pixels, or (vertical, horizontal).
        padding: Zeros around the images.
        dilation: Distance in pixels between neighbouring places of the kernel.
        feature_group_count: Input and output channels fall into this many groups that do not see each other.

    Returns:
        `[b, oh, ow, o]` with the sides of `conv_output_size`; no bias is added.

    Raises:
        ValueError: If the channels do not fit the kernel and the groups.
    """
    in_channels, (*window, depth, out_channels) = images.shape[-1], kernel.shape
    groups = feature_group_count
    if in_channels != depth * groups or out_channels % groups:
        raise ValueError(
            f"kernel {kernel.shape} in {groups} groups wants {depth * groups} input channels, not {in_channels}, and "
            "output channels that the groups divide"
        )
    if groups > 1 and depth == 1 and _on_cpu():
        return depthwise_conv2d(images, kernel, strides=strides, padding=padding, dilation=dilation)
    if 1 < groups <= _FEW_GROUPS and _on_cpu():
        parts = zip(jnp.split(images, groups, axis=-1), jnp.split(kernel, groups, axis=-1), strict=True)
        convolved = [conv2d(x, k, strides=strides, padding=padding, dilation=dilation) for x, k in parts]
        return jnp.concatenate(convolved, axis=-1)
    strides, dilation = pair(strides), pair(dilation)
    reach = [(f - 1) * d + 1 for f, d in zip(window, dilation, strict=True)]
    if groups == 1 and min(h - r for h, r in zip(images.shape[1:3], reach, strict=True)) < 0 and _on_cpu():
        places = windows(images, window, strides, padding, 0.0, dilation=dilation)
        return jnp.concatenate(places, axis=-1) @ kernel.reshape(-1, out_channels)
    return lax.conv_general_dilated(
        images,
        kernel,
        strides,
        pads(images.shape[1:3], reach, strides, padding),
        rhs_dilation=dilation,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


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
        dilation: Distance in pixels between neighbouring places of the kernel.

    Returns:
        `[b, oh, ow, c m]`; no bias is added.

    References:
        Howard et al., MobileNets, https://arxiv.org/abs/1704.04861, equation 3.
    """
    in_channels, out_channels = images.shape[-1], kernel.shape[-1]
    if kernel.shape[2] != 1 or out_channels % in_channels:
        raise ValueError(f"a depthwise kernel for {in_channels} channels is [fh, fw, 1, m * {in_channels}]")
    if out_channels > in_channels:
        images = jnp.repeat(images, out_channels // in_channels, axis=-1)
    places = windows(images, kernel.shape[:2], pair(strides), padding, 0.0, dilation=pair(dilation))
    filters = kernel.reshape(-1, out_channels)
    return functools.reduce(jnp.add, [x * filters[None, None, i : i + 1] for i, x in enumerate(places)])


def conv_output_size(size: int, *, window: int, stride: int = 1, padding: int | Literal["valid", "same"] = 0) -> int:
    """Side of a convolution's or a pooling's output: floor((n + 2p - f) / s) + 1.

    Args:
        size: Input side n in pixels.
        window: Kernel side f in pixels.
        stride: s in pixels.
        padding: p pixels on either side; `valid` is 0, `same` gives ceil(n / s).

    Returns:
        Output side in pixels.

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
        out_channels: n_C[l], the number of filters. (The course's notes once set it equal to n_C[l-1].)
        window: Kernel side f.
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
    stage plus n_C[l-1] x positions x n_C[l] for the pointwise. The ratio is 1 / n_C[l] + 1 / f². (The course's notes
    give the plain formula for both.)

    Args:
        in_channels: n_C[l-1].
        out_channels: n_C[l].
        window: Kernel side f.
        output_size: (height, width) of the output.
        separable: Depthwise then pointwise.

    Returns:
        Number of multiply-adds, biases not counted.

    References:
        Howard et al., MobileNets, https://arxiv.org/abs/1704.04861, section 3.1.
    """
    per_position = conv_parameters(in_channels, out_channels, window=window, bias=False, separable=separable)
    return per_position * math.prod(output_size)


def _on_cpu() -> bool:
    return jax.default_backend() == "cpu"


def pair(value: int | tuple[int, int]) -> tuple[int, int]:
    """One number for both axes."""
    return (value, value) if isinstance(value, int) else value


def pads(
    sides: Sequence[int], window: Sequence[int], strides: Sequence[int], padding: Padding
) -> tuple[tuple[int, int], tuple[int, int]]:
    """((top, bottom), (left, right)) in pixels, whatever way the padding was given."""
    if padding == "valid":
        return (0, 0), (0, 0)
    if padding == "same":
        return _same(sides[0], window[0], strides[0]), _same(sides[1], window[1], strides[1])
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
    """The window's places one by one, each as a strided view of the images: [b, oh, ow, c]."""
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
