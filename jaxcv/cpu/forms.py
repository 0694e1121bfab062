"""The operations that have a form for the CPU, by name."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from jaxcv.cpu import convolution, depthwise, kernels, regions, suppression
from jaxcv.cpu.geometry import Geometry
from jaxcv.cpu.seam import Form, Transpose, choose


def on_cpu(name: str, plain: Callable[..., Any]) -> Callable[..., Any]:
    """The operation `plain`, with its CPU form in programs that are lowered for a CPU.

    Args:
        name: a key of `FORMS`.
        plain: the operation for other platforms, in JAX's operations: arrays by position, hashable values by keyword.

    Returns:
        A function with the arguments and results of `plain`.
    """
    return choose(FORMS[name], plain)


# Convolutions: `groups=`, and `strides=, pads=, dilation=` of a `Geometry`.


def _forward(
    out: Any, _: Any, x: Array, w: Array, *, groups: int, size: tuple[int, int] | None = None, **geometry: Any
) -> Array:
    """[b h w c] by [fh fw c/groups o]: [b oh ow o]."""
    del size  # of a transposed convolution; here `out` has the shape
    at, each = Geometry(**geometry), w.shape[3] // groups
    if 0 in (out.size, x.size, w.size):
        return jnp.zeros(out.shape, out.dtype)
    if _depthwise(groups, w.shape):
        return depthwise.forward(_repeated(x, each), w[:, :, 0], at)
    return _by_group(lambda x, w: convolution.forward(x, w, at), groups, x, w)


def _input_gradient(
    out: Any, _: Any, dy: Array, w: Array, *, groups: int, size: tuple[int, int] | None = None, **geometry: Any
) -> Array:
    """[b oh ow o] by [fh fw c/groups o]: [b h w c]."""
    del size
    at = Geometry(**geometry)
    if 0 in (out.size, dy.size, w.size):
        return jnp.zeros(out.shape, out.dtype)
    if _depthwise(groups, w.shape):
        dx = depthwise.input_gradient(dy, w[:, :, 0], out.shape[1:3], at)
        return dx if dx.shape == out.shape else dx.reshape(*out.shape, -1).sum(-1)
    return _by_group(lambda dy, w: convolution.input_gradient(dy, w, out.shape[1:3], at), groups, dy, w)


def _kernel_gradient(
    out: Any, _: Any, x: Array, dy: Array, *, groups: int, size: tuple[int, int] | None = None, **geometry: Any
) -> Array:
    """[b h w c] by [b oh ow o]: [fh fw c/groups o]."""
    del size
    at, each = Geometry(**geometry), dy.shape[3] // groups
    if 0 in (out.size, x.size, dy.size):
        return jnp.zeros(out.shape, out.dtype)
    if _depthwise(groups, out.shape):
        return depthwise.kernel_gradient(_repeated(x, each), dy, out.shape[:2], at)[:, :, None]
    return _by_group(lambda x, dy: convolution.kernel_gradient(x, dy, out.shape[:2], at), groups, x, dy)


def _depthwise(groups: int, w: tuple[int, ...]) -> bool:
    return groups > 1 and w[2] == 1


def _repeated(x: Array, times: int) -> Array:
    return jnp.repeat(x, times, axis=-1) if times > 1 else x


def _by_group(form: Callable[[Array, Array], Array], groups: int, a: Array, b: Array) -> Array:
    if groups == 1:
        return form(a, b)
    parts = zip(jnp.split(a, groups, axis=-1), jnp.split(b, groups, axis=-1), strict=True)
    return jnp.concatenate([form(*part) for part in parts], axis=-1)


# Batch normalisation.

_LARGE = 1 << 16
"""Number of values from which on the C++ kernel is faster than XLA."""


def _statistics(out: Any, plain: Callable[..., Any], x: Array) -> Any:
    """Mean and variance of every channel."""
    if x.dtype != jnp.float32 or x.size < _LARGE or not kernels.ready():
        return plain(x)
    return kernels.call("batch_norm_statistics", out, x.reshape(-1, x.shape[-1]))


def _sums(
    out: Any, plain: Callable[..., Any], x: Array, dy: Array, mean: Array, factor: Array, bias: Array, *, relu: bool
) -> Any:
    """Sums of dy and of dy (x - mean) over all but the channels; with `relu` where the normalised value is positive."""
    if x.dtype != jnp.float32 or x.size < _LARGE or not kernels.ready():
        return plain(x, dy, mean, factor, bias, relu=relu)
    rows = x.reshape(-1, x.shape[-1]), dy.reshape(-1, x.shape[-1])
    return kernels.call("batch_norm_sums", out, *rows, mean, factor, bias, relu=int(relu))


# Regions of interest.


def _maxima_gradient(out: Any, plain: Callable[..., Any], maps: Array, *rest: Array) -> Array:
    if maps.dtype != jnp.float32 or not kernels.ready():
        return plain(maps, *rest)
    return kernels.call("window_maxima_gradient", out, maps, *rest)


# Non-maximum suppression: tracing the accelerators' form for its shapes would take longer than lowering the CPU's.


def _indices_and_valid(*_: Array, length: int, **__: Any) -> tuple[Array, Array]:
    return jnp.zeros(length, jnp.int32), jnp.zeros(length, bool)


_CONVOLUTION = Form(_forward, (Transpose(lambda: _INPUT_GRADIENT), Transpose(lambda: _KERNEL_GRADIENT)))
_INPUT_GRADIENT = Form(
    _input_gradient, (Transpose(lambda: _CONVOLUTION), Transpose(lambda: _KERNEL_GRADIENT, swap=True))
)
_KERNEL_GRADIENT = Form(
    _kernel_gradient, (Transpose(lambda: _INPUT_GRADIENT, swap=True), Transpose(lambda: _CONVOLUTION))
)

FORMS = {
    "convolution": _CONVOLUTION,
    "transposed_convolution": _INPUT_GRADIENT,
    "products": Form(lambda out, _, a, b: convolution.products(a, b), (None, None)),
    "batch_norm_statistics": Form(_statistics),
    "batch_norm_sums": Form(_sums),
    "always": Form(lambda out, _, step: step >= 0),  # see `ops.platform.kept_apart`
    "spread": Form(lambda out, _, *arrays, **static: regions.spread(*arrays, **static)),
    "maxima_gradient": Form(_maxima_gradient),
    "suppression": Form(
        lambda out, _, *arrays, **static: suppression.greedy(*arrays, **static), shape=_indices_and_valid
    ),
}
