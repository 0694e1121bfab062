"""Test-time augmentation: a network is asked about several views of an image, and its answers are combined.

A view is the image mirrored, or made larger or smaller about its middle within the same frame; beyond a smaller one's
edges it is black. Pure, with static shapes; boxes and points come back to where they are in the image.
"""

from collections.abc import Sequence
from functools import partial, singledispatch
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxcv.errors import UserError
from jaxcv.ops import batched_nms
from jaxcv.types import Classes, Detections, Embeddings, Localization, Masks


class View(NamedTuple):
    """One way to look at an image."""

    mirrored: bool = False
    """Left and right are interchanged."""
    zoom: float = 1.0
    """Above 1 its middle fills the frame; below 1 it is smaller than the frame."""


def views(words: str) -> tuple[View, ...]:
    """The image itself, and what the words add: `flip` its mirror image, a number another size, `flip,0.8` all four.

    Args:
        words: separated by commas; sizes are factors from 0.25 to 4.

    Returns:
        The views, the image itself first.

    Raises:
        UserError: another word.
    """
    zooms, mirrors = [1.0], [False]
    for word in filter(None, words.split(",")):
        try:
            zoom = float(word)
        except ValueError:
            zoom = None
        if word == "flip":
            mirrors = [False, True]
        elif zoom is not None and 0.25 <= zoom <= 4:
            zooms += [zoom] if zoom not in zooms else []
        else:
            raise UserError(f"view {word!r}: expected flip, or a size from 0.25 to 4, such as flip,0.8,1.25")
    return tuple(View(mirrored, zoom) for zoom in zooms for mirrored in mirrors)


@partial(jax.jit, static_argnames="view")
def seen(images: Float[Array, "b h w c"], view: View) -> Float[Array, "b h w c"]:
    """The images as a view shows them.

    Args:
        images: `[b h w c]`.
        view: static.

    Returns:
        Images of the same shape; black beyond the edges of one that is made smaller.
    """
    if view.mirrored:
        images = images[:, :, ::-1]
    if view.zoom == 1.0:
        return images
    size = np.asarray(images.shape[1:3], np.float32)
    zoom = jnp.full(2, view.zoom, jnp.float32)
    middle = jnp.asarray(size / 2 * np.float32(1 - view.zoom))
    return jax.image.scale_and_translate(images, images.shape, (1, 2), zoom, middle, "linear", antialias=True)


def combined(found: Sequence[Any], views: Sequence[View], size: tuple[int, int]) -> Any:
    """One prediction for a batch, from one for each view of it.

    Probabilities and vectors are averaged; of a pixel, the class wins for which most probability speaks; boxes of all
    views are suppressed by those of their class with a higher score, from an IoU of 0.5 on.

    Args:
        found: predictions, all of one type, with the batch first.
        views: of each.
        size: height and width of the images.

    Returns:
        A prediction of the same type.

    Raises:
        UserError: predictions of a type for which this is not known.
    """
    return _combine(found[0], found, views, size)


@singledispatch
def _combine(first: Any, found: Sequence[Any], views: Sequence[View], size: tuple[int, int]) -> Any:
    raise UserError(f"several views of a picture cannot be combined for {type(first).__name__}")


@_combine.register
def _classes(first: Classes, found: Sequence[Classes], views: Sequence[View], size: tuple[int, int]) -> Classes:
    scores = _mean([one.scores for one in found])
    return Classes(jnp.argmax(scores, -1).astype(first.label.dtype), scores)


@_combine.register
def _embeddings(
    first: Embeddings, found: Sequence[Embeddings], views: Sequence[View], size: tuple[int, int]
) -> Embeddings:
    mean = _mean([one.vectors for one in found])
    square = jnp.sum(mean * mean, -1, keepdims=True)
    return Embeddings(mean * jax.lax.rsqrt(jnp.maximum(square, 1e-12)))


@_combine.register
def _localization(
    first: Localization, found: Sequence[Localization], views: Sequence[View], size: tuple[int, int]
) -> Localization:
    scores = _mean([one.scores for one in found])
    weights = [one.score[..., None] for one in found]
    boxes = [_back(one.box, view, size) for one, view in zip(found, views, strict=True)]
    total = jnp.maximum(_sum(weights), 1e-8)
    box = _sum([weight * box for weight, box in zip(weights, boxes, strict=True)]) / total
    label = jnp.argmax(scores, -1).astype(first.label.dtype)
    return Localization(_mean([one.score for one in found]), box, label, scores)


@_combine.register
def _masks(first: Masks, found: Sequence[Masks], views: Sequence[View], size: tuple[int, int]) -> Masks:
    labels, scores = [], []
    for one, view in zip(found, views, strict=True):
        rows, columns, inside = _where_seen(view, size)
        labels.append(one.label[..., rows[:, None], columns])
        scores.append(jnp.where(jnp.broadcast_to(inside, one.score.shape), one.score[..., rows[:, None], columns], 0.0))
    votes = [
        _sum([jnp.where(other == label, score, 0.0) for other, score in zip(labels, scores, strict=True)])
        for label in labels
    ]
    best = jnp.argmax(jnp.stack(votes), 0)[None]
    label = jnp.take_along_axis(jnp.stack(labels), best, 0)[0]
    seen_by = sum(_where_seen(view, size)[2].astype(np.float32) for view in views)
    return Masks(
        label, jnp.take_along_axis(jnp.stack(votes), best, 0)[0] / jnp.broadcast_to(jnp.asarray(seen_by), label.shape)
    )


@_combine.register
def _detections(
    first: Detections, found: Sequence[Detections], views: Sequence[View], size: tuple[int, int]
) -> Detections:
    edges = jnp.broadcast_to(jnp.asarray([size[1], size[0]] * 2, first.boxes.dtype), first.boxes.shape)
    boxes = [jnp.clip(_back(one.boxes, view, size), 0, edges) for one, view in zip(found, views, strict=True)]
    rest = ([getattr(one, name) for one in found] for name in ("scores", "classes", "valid"))
    merged = Detections(jnp.concatenate(boxes, -2), *(jnp.concatenate(arrays, -1) for arrays in rest))
    suppress = partial(_suppressed, count=first.boxes.shape[-2])
    return jax.vmap(suppress)(merged) if first.boxes.ndim == 3 else suppress(merged)


def _suppressed(every: Detections, *, count: int) -> Detections:
    scores = jnp.where(every.valid, every.scores, -1.0)
    which, valid = batched_nms(
        every.boxes, scores, every.classes, iou_threshold=0.5, score_threshold=0.0, max_outputs=count
    )
    valid = valid & every.valid[which]
    return Detections(
        jnp.where(valid[:, None], every.boxes[which], 0.0),
        jnp.where(valid, every.scores[which], 0.0),
        jnp.where(valid, every.classes[which], -1),
        valid,
    )


def _back(boxes: Any, view: View, size: tuple[int, int]) -> Array:
    """Boxes `[... 4]` of a view, where they are in the image."""
    middle = jnp.broadcast_to(jnp.asarray([size[1] / 2, size[0] / 2] * 2, boxes.dtype), boxes.shape)
    boxes = (boxes - middle) / view.zoom + middle
    if view.mirrored:
        x1, y1, x2, y2 = (boxes[..., i] for i in range(4))
        boxes = jnp.stack([size[1] - x2, y1, size[1] - x1, y2], -1)
    return boxes


def _where_seen(view: View, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each row and column of the image, that of the view; and which pixels [h w] the view shows."""
    found, inside = [], []
    for length in size:
        at = np.floor((np.arange(length) + 0.5 - length / 2) * view.zoom + length / 2).astype(np.int32)
        inside.append((at >= 0) & (at < length))
        found.append(np.clip(at, 0, length - 1))
    rows, columns = found
    if view.mirrored:
        columns, inside[1] = columns[::-1], inside[1][::-1]
    return rows, columns, inside[0][:, None] & inside[1]


def _sum(arrays: Sequence[Any]) -> Array:
    return jax.tree.reduce(jnp.add, list(arrays))


def _mean(arrays: Sequence[Any]) -> Array:
    return _sum(arrays) / len(arrays)
