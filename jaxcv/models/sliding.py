"""Sliding windows made convolutional: one pass over a picture gives a window classifier's answer for every window.

A fully connected layer over an n x n map of n_C channels is a convolution with n x n x n_C filters that meets the map
at one place. Over a larger picture the map is larger, and the same filters meet every window's part of it; the layers
above become convolutions of 1x1. What windows share, and they overlap almost everywhere, is computed once.

A network's pooling and strides give it a stride of its own, 32 for AlexNet. Finer grids are exact too: a layer leaves
out only the places that no window reads, and the layers above find their inputs further apart, as with dilation. That
is what running the network over shifted copies of the picture and weaving the answers gives, without computing anything
twice.

No layer may be padded: a window cut out of the picture sees zeros around it, where in the picture its neighbours stand.
`models.alexnet(padding="valid")` and `models.vgg16(padding="valid")` have the parameters of the padded networks; their
windows are as large as what those really see. LeNet has no padding anyway.

    Sermanet, Eigen, Zhang, Mathieu, Fergus, LeCun: OverFeat, https://arxiv.org/abs/1312.6229, section 3.5 and figure 5.
    Giusti, Ciresan, Masci, Gambardella, Schmidhuber: Fast image scanning with deep max-pooling convolutional neural
    networks, https://arxiv.org/abs/1302.1700.
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
from jaxtyping import Array, Float

from jaxcv import ops
from jaxcv.models.layers import AvgPool, BatchNorm, Conv, ConvNormAct, Dense, Dropout, Flatten, MaxPool
from jaxcv.models.lenet import ConnectedConv

Side = int | tuple[int, int]
_ANYWHERE = (BatchNorm, ConvNormAct, Dense, Dropout)
"""Layers that treat every place alike, or are made of such that are looked at themselves."""


@dataclass(frozen=True)
class WindowNetwork:
    """A window classifier over whole pictures; made by `convolutionalize`. It has `apply`, as a Linen module does."""

    model: nn.Module
    window: tuple[int, int]
    """Height and width of a window in pixels."""
    strides: tuple[int, int]
    """(vertical, horizontal) distance between neighbouring windows in pixels."""
    seen: tuple[int, int]
    """Height and width of the part of a window, from its upper left corner, that the classifier looks at."""

    def apply(
        self, variables: Mapping[str, Any], images: Float[Array, "b h w c"], *, train: bool = False
    ) -> tuple[Float[Array, "b rows columns k"], dict[str, Array]]:
        """The classifier's answer for every window.

        Args:
            variables: those of `convolutionalize`.
            images: `[b, h, w, c]` in [0, 1], at least as large as a window.
            train: must be False: dropout and batch statistics of overlapping windows would not be those of crops.

        Returns:
            Logits `[b, rows, columns, k]`, rows = (h - window) // stride + 1; the window of row i and column j begins
            at pixel (i stride, j stride). And the features: one map for the whole picture each.

        Raises:
            ValueError: If `train`, or the picture is smaller than a window.
        """
        if train:
            raise ValueError("windows of one pass are evaluated, not trained: train the classifier on crops")
        if images.shape[1] < self.window[0] or images.shape[2] < self.window[1]:
            raise ValueError(f"a picture of {images.shape[1:3]} pixels has no window of {self.window}")
        # What lies beyond the part that the last window looks at would only make the maps larger.
        reach = [
            (n - w) // s * s + seen
            for n, w, s, seen in zip(images.shape[1:3], self.window, self.strides, self.seen, strict=True)
        ]
        with nn.intercept_methods(_Pass(self.strides)):
            found: Any = self.model.apply(variables, images[:, : reach[0], : reach[1]], train=False)
        return found


def convolutionalize(
    model: nn.Module, variables: Mapping[str, Any], *, window: Side | None = None, strides: Side | None = None
) -> tuple[WindowNetwork, dict[str, Any]]:
    """Turn the fully connected layers of a trained window classifier into convolutions.

    For the window at pixel (y, x), `apply` gives what the classifier gives for the crop
    `images[:, y : y + window, x : x + window]`, up to rounding. The first fully connected layer's `kernel` [n n c, d]
    becomes filters [n, n, c, d], n being the side of the map that a window gives; an average of the map down (or up) to
    another side before that layer, as AlexNet and VGG have it, is linear and becomes part of the filters. The layers
    above are 1x1 convolutions as they stand. Works inside `jit`.

    Args:
        model: LeNet, or AlexNet or VGG with `padding="valid"`; or any network of `jaxcv.models`' layers with one
            `Flatten`.
        variables: of the model.
        window: Side of a window in pixels, or (height, width): what the classifier was trained on. By default the
            smallest for which the map before the fully connected layers is not averaged: 32 for LeNet.
        strides: Distance between windows in pixels, or (vertical, horizontal). By default the network's own, the
            cheapest: 4 for LeNet, 32 for AlexNet and VGG.

    Returns:
        The network over pictures, and its variables.

    Raises:
        ValueError: If a layer is padded, or looks at neighbouring pixels in a way not known here, or the window does
            not fit the network.
    """
    shape = _shape(model, variables)
    own = math.prod(s[0] for _, s in shape.layers), math.prod(s[1] for _, s in shape.layers)
    strides = own if strides is None else _pair(strides)
    if min(strides) < 1:
        raise ValueError(f"strides={strides}: windows are at least one pixel apart")
    kernel = _leaf(variables, shape.dense)
    if kernel.shape[0] % shape.channels:
        raise ValueError(f"{'/'.join(shape.dense)} {kernel.shape} does not read maps of {shape.channels} channels")
    cells = kernel.shape[0] // shape.channels
    side = math.isqrt(cells) if shape.side is None else shape.side
    if window is None:
        if side * side != cells:
            raise ValueError(f"{'/'.join(shape.dense)} reads {cells} places, which is no square: say window=")
        window = shape.window((side, side))
    window = _pair(window)
    places = shape.map_of(window)
    if shape.side is None and math.prod(places) != cells:
        raise ValueError(
            f"a window of {window[0]}x{window[1]} pixels gives a map of {places[0]}x{places[1]}, but "
            f"{'/'.join(shape.dense)} reads {cells} places"
        )
    if shape.side is None:
        filters = kernel.reshape(*places, shape.channels, -1)
    else:
        rows, columns = (_averages(n, side, kernel.dtype) for n in places)
        filters = kernel.reshape(side, side, shape.channels, -1)
        filters = jnp.einsum("yxcd,yh,xw->hwcd", filters, rows, columns, precision="highest")
    return WindowNetwork(model, window, strides, shape.window(places)), _with_leaf(variables, shape.dense, filters)


class WindowScanner(nn.Module):
    """A window classifier that takes crops to learn from, and whole pictures to look for what it has learnt.

    Given images of the window's size, the classifier's logits [b k] and features. Given larger ones, logits [b n k] of
    every window at every scale and the windows [n 4], xyxy in pixels of the picture: what `predict.sliding_windows`
    takes; the features are then empty. A picture in which no window fits has none, n = 0.
    """

    classifier: nn.Module
    """As for `convolutionalize`."""
    window: tuple[int, int]
    """Height and width in pixels."""
    strides: tuple[int, int] | None = None
    """Distance between windows in pixels of the scaled picture; None: the classifier's own."""
    smallest: int | None = None
    """Height in pixels of the smallest object looked for; None: the window's."""
    ratio: float = 1.25
    """Of the sizes of neighbouring scales."""

    @nn.compact
    def __call__(self, images: Float[Array, "b h w c"], *, train: bool = False) -> tuple[Any, dict[str, Array]]:
        """`train` is for crops alone."""
        size = images.shape[1], images.shape[2]
        if size == self.window or self.is_initializing():
            return self.classifier(images, train=train)
        model, variables = self.classifier.unbind()
        net, filters = convolutionalize(model, variables, window=self.window, strides=self.strides)
        scales = ops.pyramid_scales(image_size=size, window=self.window, smallest=self.smallest, ratio=self.ratio)
        found = [net.apply(filters, level, train=train)[0] for level in ops.image_pyramid(images, scales=scales)]
        boxes = ops.window_boxes(image_size=size, window=net.window, strides=net.strides, scales=scales)
        if not found:
            head = self.classifier(jnp.zeros((images.shape[0], *self.window, images.shape[3]), images.dtype))[0]
            return (jnp.zeros((images.shape[0], 0, head.shape[-1]), head.dtype), boxes), {}
        logits = [level.reshape(level.shape[0], -1, level.shape[-1]) for level in found]
        return (jnp.concatenate(logits, axis=1), boxes), {}


@dataclass
class _Shape:
    """What matters of a network's form to its windows."""

    layers: list[tuple[tuple[int, int], tuple[int, int]]]
    """(window, strides) of every layer that looks at neighbours."""
    side: int | None = None
    channels: int = 0
    dense: tuple[str, ...] = ()
    """Path of the first fully connected layer's kernel."""

    def window(self, places: tuple[int, int]) -> tuple[int, int]:
        """The smallest window that gives a map of so many places."""
        for f, s in reversed(self.layers):
            places = (places[0] - 1) * s[0] + f[0], (places[1] - 1) * s[1] + f[1]
        return places

    def map_of(self, window: tuple[int, int]) -> tuple[int, int]:
        """Places of the map that a window gives."""
        sides = window
        for f, s in self.layers:
            if min(sides[0] - f[0], sides[1] - f[1]) < 0:
                raise ValueError(f"a window of {window[0]}x{window[1]} pixels is too small for the network")
            sides = (sides[0] - f[0]) // s[0] + 1, (sides[1] - f[1]) // s[1] + 1
        return sides


def _shape(model: nn.Module, variables: Mapping[str, Any]) -> _Shape:
    """Run the network over shapes alone and note what its layers look at."""
    found = _Shape([])

    def note(method: Any, args: Any, kwargs: Any, context: Any) -> Any:
        module = context.module
        if context.method_name != "__call__" or not module.path or isinstance(module, Dropout):
            return method(*args, **kwargs)
        if found.dense:
            return jnp.zeros((1, module.features), args[0].dtype) if isinstance(module, Dense) else args[0]
        if isinstance(module, Flatten):
            if found.channels:
                raise ValueError(f"{'/'.join(module.path)}: a second Flatten")
            found.side, found.channels = module.side, args[0].shape[-1]
            return args[0][:, 0, 0]
        if isinstance(module, Dense):
            if not found.channels:
                raise ValueError(f"{'/'.join(module.path)}: a fully connected layer must come after a `Flatten` layer")
            found.dense = ("params", *module.path, "kernel")
            return jnp.zeros((1, module.features), args[0].dtype)
        if (seen := _looks_at(module)) is not None:
            found.layers.append(seen[:2])
        if isinstance(module, Conv):
            return jnp.zeros((*args[0].shape[:3], module.features), args[0].dtype)
        return args[0] if isinstance(module, MaxPool | AvgPool) else method(*args, **kwargs)

    with nn.intercept_methods(note):
        jax.eval_shape(
            lambda v: model.apply(v, jnp.zeros((1, 64, 64, 1)), train=False), jax.tree.map(lambda x: x, dict(variables))
        )
    if not found.dense:
        raise ValueError(f"{type(model).__name__} has no fully connected layer after a `Flatten` layer")
    return found


def _looks_at(module: nn.Module) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]] | None:
    """(reach, strides, dilation) of a layer that looks at neighbours; None for one that does not.

    Raises:
        ValueError: It is padded, or of an unknown kind.
    """
    if isinstance(module, _ANYWHERE):
        return None
    name = "/".join(module.path)
    if isinstance(module, ConnectedConv):
        size, strides, dilation = _pair(module.kernel_size), (1, 1), _pair(module.dilation)
    elif isinstance(module, Conv):
        size, dilation = _pair(module.kernel_size), _pair(module.dilation)
        strides = _pair(module.strides)
    elif isinstance(module, MaxPool | AvgPool):
        size, dilation = _pair(module.window), (1, 1)
        strides = size if module.strides is None else _pair(module.strides)
        if isinstance(module, MaxPool) and module.ceil_mode:
            raise ValueError(f"{name} rounds its sides up: a window's last places would depend on what is beyond it")
    else:
        raise ValueError(f"{name} is a {type(module).__name__}, of which it is not known what it sees of a window")
    if getattr(module, "padding", "valid") not in ("valid", 0, ((0, 0), (0, 0))):
        raise ValueError(
            f"{name} is padded ({module.padding!r}): a crop sees zeros around it where the picture goes on, so no pass "
            'over the picture can equal it; build the network with padding="valid", which has the same parameters'
        )
    reach = (size[0] - 1) * dilation[0] + 1, (size[1] - 1) * dilation[1] + 1
    return reach, strides, dilation


class _Pass:
    """An interceptor of one pass: runs every layer on the grid of places that some window reads."""

    def __init__(self, strides: tuple[int, int]):
        self.wanted = strides
        self.own = (1, 1)
        """Distance in pixels between the layer's inputs as the classifier reads them from one window."""

    def __call__(self, method: Any, args: Any, kwargs: Any, context: Any) -> Any:
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
        if (seen := _looks_at(module)) is None:
            return method(*args, **kwargs)
        _, strides, dilation = seen
        # The map's places are `grid` pixels apart: all that windows `wanted` apart read, and no others.
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
            return _pooled(x, jnp.maximum, _pair(module.window), steps, apart)
        window = _pair(module.window)
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
        # One matrix product: the filters are far larger than the map.
        rows, columns = (n - (f - 1) * d for n, f, d in zip(x.shape[1:3], kernel.shape, apart, strict=False))
        places = [
            x[:, i : i + rows : steps[0], j : j + columns : steps[1]]
            for i in range(0, kernel.shape[0] * apart[0], apart[0])
            for j in range(0, kernel.shape[1] * apart[1], apart[1])
        ]
        return jnp.concatenate(places, axis=-1) @ kernel.reshape(-1, kernel.shape[-1])


def _by_phases(convolve: Callable[[Array], Any], x: Array, apart: tuple[int, int]) -> Array:
    """A convolution whose inputs are `apart`, as one of neighbours over each of the maps that make up this one.

    Neighbours can be convolved by the faster forms of `jaxcv.ops.conv_forms`.
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
    """`join` over a window whose places are `apart`, along the rows, then down the columns."""
    for axis in (2, 1):
        f, s, d = window[axis - 1], steps[axis - 1], apart[axis - 1]
        end = (x.shape[axis] - (f - 1) * d - 1) // s * s + 1
        x = functools.reduce(join, [lax.slice_in_dim(x, i * d, i * d + end, s, axis) for i in range(f)])
    return x


def _averages(size: int, out: int, dtype: Any) -> Array:
    """[out, size]: what `adaptive_avg_pool2d` makes of a side."""
    every = jnp.eye(size, dtype=dtype)[:, :, None, None]
    return ops.adaptive_avg_pool2d(every, output_size=(out, 1))[:, :, 0, 0].T


def _pair(value: Side) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value


def _leaf(tree: Any, path: tuple[str, ...]) -> Array:
    return functools.reduce(lambda branch, name: branch[name], path, tree)


def _with_leaf(tree: Mapping[str, Any], path: tuple[str, ...], leaf: Array) -> dict[str, Any]:
    name, *rest = path
    return {**tree, name: _with_leaf(tree[name], tuple(rest), leaf) if rest else leaf}
