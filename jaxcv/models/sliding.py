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
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxcv import ops
from jaxcv.models.sliding_layers import Pass, Side, shape_of
from jaxcv.ops.conv import pair


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
        with nn.intercept_methods(Pass(self.strides)):
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
    shape = shape_of(model, variables)
    own = math.prod(s[0] for _, s in shape.layers), math.prod(s[1] for _, s in shape.layers)
    strides = own if strides is None else pair(strides)
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
    window = pair(window)
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


def _averages(size: int, out: int, dtype: Any) -> Array:
    """[out, size]: what `adaptive_avg_pool2d` makes of a side."""
    every = jnp.eye(size, dtype=dtype)[:, :, None, None]
    return ops.adaptive_avg_pool2d(every, output_size=(out, 1))[:, :, 0, 0].T


def _leaf(tree: Any, path: tuple[str, ...]) -> Array:
    return functools.reduce(lambda branch, name: branch[name], path, tree)


def _with_leaf(tree: Mapping[str, Any], path: tuple[str, ...], leaf: Array) -> dict[str, Any]:
    name, *rest = path
    return {**tree, name: _with_leaf(tree[name], tuple(rest), leaf) if rest else leaf}
