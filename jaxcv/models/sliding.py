"""Convolutional sliding windows: one pass over a picture computes a window classifier's outputs for every window.

A fully connected layer over an n x n map of n_C channels is a convolution with n x n x n_C filters at a single
position. Over a larger picture the map is larger, and the same filters are applied to every window's part of it; the
layers after it become 1x1 convolutions. What overlapping windows have in common is computed once.

Pooling and strides give a network a stride of its own, 32 for AlexNet. Smaller distances between windows are exact too:
a layer skips only the positions that no window reads, and the layers after it are dilated. The results are those of
running the network over shifted copies of the picture and interleaving the outputs, with nothing computed twice.

No layer may be padded: a crop is padded with zeros where the picture has neighbouring pixels.
`models.alexnet(padding="valid")` and `models.vgg16(padding="valid")` have the parameters of the padded networks, and
windows of the size of their receptive fields. LeNet has no padding.

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
from jaxcv.models.sliding_layers import Pass, Size, shape_of
from jaxcv.ops.conv import pair


@dataclass(frozen=True)
class WindowNetwork:
    """A window classifier over whole pictures, made by `convolutionalize`; `apply` is like a Linen module's."""

    model: nn.Module
    window: tuple[int, int]
    """Height and width of a window in pixels."""
    strides: tuple[int, int]
    """(vertical, horizontal) distance between neighbouring windows in pixels."""
    seen: tuple[int, int]
    """Height and width of the part of a window, from its upper left corner, that the classifier reads."""

    def apply(
        self, variables: Mapping[str, Any], images: Float[Array, "b h w c"], *, train: bool = False
    ) -> tuple[Float[Array, "b rows columns k"], dict[str, Array]]:
        """The classifier's logits for every window.

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
        # Pixels beyond what the last window reads would only enlarge the maps.
        reach = [
            (n - w) // s * s + seen
            for n, w, s, seen in zip(images.shape[1:3], self.window, self.strides, self.seen, strict=True)
        ]
        with nn.intercept_methods(Pass(self.strides)):
            outputs: Any = self.model.apply(variables, images[:, : reach[0], : reach[1]], train=False)
        return outputs


def convolutionalize(
    model: nn.Module, variables: Mapping[str, Any], *, window: Size | None = None, strides: Size | None = None
) -> tuple[WindowNetwork, dict[str, Any]]:
    """Turn the fully connected layers of a trained window classifier into convolutions.

    For the window at pixel (y, x), `apply` returns the classifier's logits for the crop
    `images[:, y : y + window, x : x + window]`, up to rounding. The first fully connected layer's `kernel` [n n c, d]
    becomes filters [n, n, c, d], n being the height and width of a window's map; adaptive average pooling before that
    layer, as AlexNet and VGG have it, is linear and becomes part of the filters. The layers after it are 1x1
    convolutions without change. Works inside `jit`.

    Args:
        model: LeNet, or AlexNet or VGG with `padding="valid"`; or any network of `jaxcv.models`' layers with one
            `Flatten`.
        variables: of the model.
        window: Size of a window in pixels, or (height, width): what the classifier was trained on. By default the
            smallest for which the map before the fully connected layers is not resized: 32 for LeNet.
        strides: Distance between windows in pixels, or (vertical, horizontal). By default the network's own, the
            cheapest: 4 for LeNet, 32 for AlexNet and VGG.

    Returns:
        The network over pictures, and its variables.

    Raises:
        ValueError: If a layer is padded or of an unknown kind, or the window does not fit the network.
    """
    shape = shape_of(model, variables)
    own = math.prod(s[0] for _, s in shape.layers), math.prod(s[1] for _, s in shape.layers)
    strides = own if strides is None else pair(strides)
    if min(strides) < 1:
        raise ValueError(f"strides={strides}: expected at least one pixel")
    kernel = _leaf(variables, shape.dense)
    if kernel.shape[0] % shape.channels:
        raise ValueError(f"{'/'.join(shape.dense)} {kernel.shape} does not read maps of {shape.channels} channels")
    cells = kernel.shape[0] // shape.channels
    size = math.isqrt(cells) if shape.size is None else shape.size
    if window is None:
        if size * size != cells:
            raise ValueError(f"{'/'.join(shape.dense)} reads {cells} positions, not a square map: window= is needed")
        window = shape.window((size, size))
    window = pair(window)
    map_size = shape.map_of(window)
    if shape.size is None and math.prod(map_size) != cells:
        raise ValueError(
            f"a window of {window[0]}x{window[1]} pixels gives a map of {map_size[0]}x{map_size[1]}, but "
            f"{'/'.join(shape.dense)} reads {cells} positions"
        )
    if shape.size is None:
        filters = kernel.reshape(*map_size, shape.channels, -1)
    else:
        rows, columns = (_averages(n, size, kernel.dtype) for n in map_size)
        filters = kernel.reshape(size, size, shape.channels, -1)
        filters = jnp.einsum("yxcd,yh,xw->hwcd", filters, rows, columns, precision="highest")
    return WindowNetwork(model, window, strides, shape.window(map_size)), _with_leaf(variables, shape.dense, filters)


class WindowScanner(nn.Module):
    """A window classifier that is trained on crops and applied to every window of whole pictures.

    Given images of the window's size, the classifier's logits [b k] and features. Given larger ones, logits [b n k] of
    every window at every scale and the windows [n 4], xyxy in pixels of the picture: what `predict.sliding_windows`
    takes; the features are then empty. n is 0 for a picture in which no window fits.
    """

    classifier: nn.Module
    """As for `convolutionalize`."""
    window: tuple[int, int]
    """Height and width in pixels."""
    strides: tuple[int, int] | None = None
    """Distance between windows in pixels of the scaled picture; None: the classifier's own."""
    smallest: int | None = None
    """Height in pixels of the smallest window on the picture; None: the window's own."""
    ratio: float = 1.25
    """Ratio of neighbouring scales, above 1."""

    @nn.compact
    def __call__(self, images: Float[Array, "b h w c"], *, train: bool = False) -> tuple[Any, dict[str, Array]]:
        """`train` is as of the classifier.

        Raises:
            ValueError: If `train` with images larger than the window, or as `convolutionalize`.
        """
        size = images.shape[1], images.shape[2]
        if size == self.window or self.is_initializing():
            return self.classifier(images, train=train)
        model, variables = self.classifier.unbind()
        net, filters = convolutionalize(model, variables, window=self.window, strides=self.strides)
        scales = ops.pyramid_scales(image_size=size, window=self.window, smallest=self.smallest, ratio=self.ratio)
        maps = [net.apply(filters, level, train=train)[0] for level in ops.image_pyramid(images, scales=scales)]
        boxes = ops.window_boxes(image_size=size, window=net.window, strides=net.strides, scales=scales)
        if not maps:
            head = self.classifier(jnp.zeros((images.shape[0], *self.window, images.shape[3]), images.dtype))[0]
            return (jnp.zeros((images.shape[0], 0, head.shape[-1]), head.dtype), boxes), {}
        logits = [level.reshape(level.shape[0], -1, level.shape[-1]) for level in maps]
        return (jnp.concatenate(logits, axis=1), boxes), {}


def _averages(size: int, out: int, dtype: Any) -> Array:
    """[out, size]: the matrix of `adaptive_avg_pool2d` along one axis."""
    every = jnp.eye(size, dtype=dtype)[:, :, None, None]
    return ops.adaptive_avg_pool2d(every, output_size=(out, 1))[:, :, 0, 0].T


def _leaf(tree: Any, path: tuple[str, ...]) -> Array:
    return functools.reduce(lambda branch, name: branch[name], path, tree)


def _with_leaf(tree: Mapping[str, Any], path: tuple[str, ...], leaf: Array) -> dict[str, Any]:
    name, *rest = path
    return {**tree, name: _with_leaf(tree[name], tuple(rest), leaf) if rest else leaf}
