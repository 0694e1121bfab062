"""How each layer runs in one pass over all windows of a picture, for `jaxcv.models.sliding`.

At a layer, the positions that one window reads are `own` pixels apart, the product of the strides so far. The positions
that all windows read are `grid` pixels apart, the greatest common divisor of `own` and the distance between windows.
Every layer is computed on that grid, with a dilation of `own / grid`.
"""

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from jaxcv.models.layers import AvgPool, BatchNorm, Conv, ConvNormAct, Dense, Dropout, Flatten, MaxPool
from jaxcv.models.lenet import ConnectedConv
from jaxcv.ops.conv import pair

Size = int | tuple[int, int]
_POINTWISE = (BatchNorm, ConvNormAct, Dense, Dropout)
"""Layers that act on every position alone. ConvNormAct's parts are examined one by one."""


@dataclass
class Shape:
    """How a network maps a window to the inputs of its first fully connected layer."""

    layers: list[tuple[tuple[int, int], tuple[int, int]]]
    """(window, strides) of every layer that is not pointwise."""
    size: int | None = None
    """Of the `Flatten` layer."""
    channels: int = 0
    """Of the map before it."""
    dense: tuple[str, ...] = ()
    """Path of the first fully connected layer's kernel."""

    def window(self, size: tuple[int, int]) -> tuple[int, int]:
        """Height and width of the smallest window whose map has this size."""
        for f, s in reversed(self.layers):
            size = (size[0] - 1) * s[0] + f[0], (size[1] - 1) * s[1] + f[1]
        return size

    def map_of(self, window: tuple[int, int]) -> tuple[int, int]:
        """Height and width of a window's map. Raises ValueError if the window is too small."""
        size = window
        for f, s in self.layers:
            if min(size[0] - f[0], size[1] - f[1]) < 0:
                raise ValueError(f"a window of {window[0]}x{window[1]} pixels is too small for the network")
            size = (size[0] - f[0]) // s[0] + 1, (size[1] - f[1]) // s[1] + 1
        return size


def shape_of(model: nn.Module, variables: Mapping[str, Any]) -> Shape:
    """Trace the network without computing it, and record the geometry of its layers.

    Raises:
        ValueError: If the network has not one `Flatten` layer with a fully connected one after it, or as `geometry_of`.
    """
    shape = Shape([])

    def record(method: Any, args: Any, kwargs: Any, context: Any) -> Any:
        module = context.module
        if context.method_name != "__call__" or not module.path or isinstance(module, Dropout):
            return method(*args, **kwargs)
        if shape.dense:
            return jnp.zeros((1, module.features), args[0].dtype) if isinstance(module, Dense) else args[0]
        if isinstance(module, Flatten):
            if shape.channels:
                raise ValueError(f"{'/'.join(module.path)}: a second Flatten")
            shape.size, shape.channels = module.size, args[0].shape[-1]
            return args[0][:, 0, 0]
        if isinstance(module, Dense):
            if not shape.channels:
                raise ValueError(f"{'/'.join(module.path)}: a fully connected layer must come after a `Flatten` layer")
            shape.dense = ("params", *module.path, "kernel")
            return jnp.zeros((1, module.features), args[0].dtype)
        if (geometry := geometry_of(module)) is not None:
            shape.layers.append(geometry[:2])
        if isinstance(module, Conv):
            return jnp.zeros((*args[0].shape[:3], module.features), args[0].dtype)
        return args[0] if isinstance(module, MaxPool | AvgPool) else method(*args, **kwargs)

    with nn.intercept_methods(record):
        jax.eval_shape(
            lambda v: model.apply(v, jnp.zeros((1, 64, 64, 1)), train=False), jax.tree.map(lambda x: x, dict(variables))
        )
    if not shape.dense:
        raise ValueError(f"{type(model).__name__} has no fully connected layer after a `Flatten` layer")
    return shape


def geometry_of(module: nn.Module) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]] | None:
    """(reach, strides, dilation) of a layer, the reach being its window with dilation; None for a pointwise one.

    Raises:
        ValueError: If it is padded, or of an unknown kind.
    """
    if isinstance(module, _POINTWISE):
        return None
    name = "/".join(module.path)
    if isinstance(module, ConnectedConv):
        size, strides, dilation = pair(module.kernel_size), (1, 1), pair(module.dilation)
    elif isinstance(module, Conv):
        size, dilation = pair(module.kernel_size), pair(module.dilation)
        strides = pair(module.strides)
    elif isinstance(module, MaxPool | AvgPool):
        size, dilation = pair(module.window), (1, 1)
        strides = size if module.strides is None else pair(module.strides)
        if isinstance(module, MaxPool) and module.ceil_mode:
            raise ValueError(f"{name} has ceil_mode: a window's last outputs would depend on pixels beyond the window")
    else:
        raise ValueError(f"{name} is a {type(module).__name__}, whose receptive field is not known")
    if getattr(module, "padding", "valid") not in ("valid", 0, ((0, 0), (0, 0))):
        raise ValueError(
            f"{name} is padded ({module.padding!r}): a crop is padded with zeros where the picture goes on, so that "
            'their outputs differ; build the network with padding="valid", which has the same parameters'
        )
    reach = (size[0] - 1) * dilation[0] + 1, (size[1] - 1) * dilation[1] + 1
    return reach, strides, dilation


class Pass:
    """Method interceptor that computes every layer on the grid of positions that some window reads."""

    def __init__(self, strides: tuple[int, int]):
        self.wanted = strides
        self.own = (1, 1)
        """Distance in pixels between neighbouring inputs of the layer for one window."""

    def __call__(self, method: Any, args: Any, kwargs: Any, context: Any) -> Any:
        """A layer's output on the grid; `method` is the layer's own `__call__`."""
        module = context.module
        if context.method_name != "__call__" or not module.path:
            return method(*args, **kwargs)
        if isinstance(module, Flatten):
            return args[0]
        x = args[0]
        if isinstance(module, Dense):
            kernel: Any = module.get_variable("params", "kernel")
            if kernel.ndim == 2:
                return method(*args, **kwargs)
            y = self._first_dense(x, kernel.astype(x.dtype))
            bias: Any = module.get_variable("params", "bias") if module.use_bias else jnp.zeros(1)
            return y + bias.astype(x.dtype).reshape(1, 1, 1, -1)
        if (geometry := geometry_of(module)) is None:
            return method(*args, **kwargs)
        _, strides, dilation = geometry
        # Positions of the map are `grid` pixels apart: those that windows `wanted` apart read, and no others.
        grid = self._grid(self.own)
        apart = self.own[0] // grid[0], self.own[1] // grid[1]
        self.own = self.own[0] * strides[0], self.own[1] * strides[1]
        new = self._grid(self.own)
        steps = new[0] // grid[0], new[1] // grid[1]
        if isinstance(module, Conv | ConnectedConv):
            spread = dilation[0] * apart[0], dilation[1] * apart[1]
            more: dict[str, Any] = {"strides": steps} if isinstance(module, Conv) else {}
            params = {"params": module.variables["params"]}
            if steps == (1, 1) and dilation == (1, 1):
                return _by_phases(lambda x: module.clone(parent=None, **more).apply(params, x), x, apart)
            return module.clone(dilation=spread, parent=None, **more).apply(params, x)
        if isinstance(module, MaxPool):
            return _pooled(x, jnp.maximum, pair(module.window), steps, apart)
        window = pair(module.window)
        y = _pooled(x, jnp.add, window, steps, apart) / math.prod(window)
        if not module.coefficients:
            return y
        scale, bias = (jnp.asarray(module.get_variable("params", name), x.dtype) for name in ("scale", "bias"))
        return y * scale.reshape(1, 1, 1, -1) + bias.reshape(1, 1, 1, -1)

    def _grid(self, own: tuple[int, int]) -> tuple[int, int]:
        return math.gcd(own[0], self.wanted[0]), math.gcd(own[1], self.wanted[1])

    def _first_dense(self, x: Array, kernel: Array) -> Array:
        grid = self._grid(self.own)
        apart = self.own[0] // grid[0], self.own[1] // grid[1]
        steps = self.wanted[0] // grid[0], self.wanted[1] // grid[1]
        # As one matrix product: convolution is slow with such large filters over so small a map.
        rows, columns = (n - (f - 1) * d for n, f, d in zip(x.shape[1:3], kernel.shape, apart, strict=False))
        values = [
            x[:, i : i + rows : steps[0], j : j + columns : steps[1]]
            for i in range(0, kernel.shape[0] * apart[0], apart[0])
            for j in range(0, kernel.shape[1] * apart[1], apart[1])
        ]
        return jnp.concatenate(values, axis=-1) @ kernel.reshape(-1, kernel.shape[-1])


def _by_phases(convolve: Callable[[Array], Any], x: Array, apart: tuple[int, int]) -> Array:
    """A convolution of dilation `apart`, as an undilated one over each phase of the map (every `apart`-th position).

    Undilated convolutions have faster forms in `jaxcv.cpu.convolution`.
    """
    if apart == (1, 1):
        return convolve(x)
    (b, h, w, c), (r, s) = x.shape, apart
    rows, columns = -(-h // r), -(-w // s)
    x = jnp.pad(x, ((0, 0), (0, rows * r - h), (0, columns * s - w), (0, 0)))
    x = x.reshape(b, rows, r, columns, s, c).transpose(2, 4, 0, 1, 3, 5).reshape(r * s * b, rows, columns, c)
    y = convolve(x)
    lost = (rows - y.shape[1]) * r, (columns - y.shape[2]) * s
    y = y.reshape(r, s, b, *y.shape[1:]).transpose(2, 3, 0, 4, 1, 5)
    y = y.reshape(b, y.shape[1] * r, y.shape[3] * s, -1)
    return y[:, : h - lost[0], : w - lost[1]]


def _pooled(x: Array, join: Any, window: tuple[int, int], steps: tuple[int, int], apart: tuple[int, int]) -> Array:
    """`join` over a window of dilation `apart`, along the rows, then down the columns."""
    for axis in (2, 1):
        f, s, d = window[axis - 1], steps[axis - 1], apart[axis - 1]
        end = (x.shape[axis] - (f - 1) * d - 1) // s * s + 1
        x = functools.reduce(join, [lax.slice_in_dim(x, i * d, i * d + end, s, axis) for i in range(f)])
    return x
