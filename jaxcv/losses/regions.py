"""Losses of two-stage detectors: `(outputs, batch) -> {term: (values [b], weights [b])}`, float32.

The value of an image is the mean over its sample of anchor boxes or regions, the weight the size of that sample: the
trainer's mean is then the one over all samples of the batch, as in the papers' code. Ground truth is as in
`losses.yolo`; an image may have none: all of its samples are then background.
"""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from jaxcv.losses.assignment import Truths, truths_of
from jaxcv.ops import balanced_sample, box_iou, encode_boxes, match_boxes
from jaxcv.types import Batch, Proposals, Regions, Scalar, TwoStageOutputs

Terms = dict[str, tuple[Float[Array, " b"], Float[Array, " b"]]]


def fast_rcnn(
    outputs: Regions | TwoStageOutputs,
    batch: Batch,
    *,
    box_weight: Scalar = 1.0,
    beta: Scalar = 1 / 9,
    positive_iou: Scalar = 0.5,
    negative_iou: Scalar = 0.5,
    delta_weights: tuple[Scalar, Scalar, Scalar, Scalar] = (10.0, 10.0, 5.0, 5.0),
) -> Terms:
    """The multi-task loss L(p, u, t^u, v) = L_cls(p, u) + lambda [u >= 1] L_loc(t^u, v) of every region.

    A region's class u is that of the target it overlaps most, if by `positive_iou`, and background, 0, if by less than
    `negative_iou`; L_cls = -log p_u, and L_loc sums the smooth L1 of t^u - v over the four deltas, with v those from
    the region to its target. A background region that overlaps an ignored box by `negative_iou` is left out.

    Args:
        outputs: of `models.FastRCNN` or `RCNN` (or `FasterRCNN`): regions `[b, n]`.
        batch: `boxes` `[b, m, 4]` xyxy in pixels; `classes`, `valid` `[b, m]`; optionally `ignored` `[b, m]`.
        box_weight: lambda.
        beta: Where smooth L1 turns from x²/(2 beta) into |x| - beta/2. 1 in the paper, 1/9 in torchvision.
        positive_iou: As in `ops.match_boxes`.
        negative_iou: As in `ops.match_boxes`.
        delta_weights: Factors of the deltas, as given to `predict.rcnn`.

    Returns:
        `class` and `box`, each the mean over the regions of an image `[b]`, and their number `[b]`.

    References:
        Girshick, Fast R-CNN, https://arxiv.org/abs/1504.08083, equations 1 to 3.
    """
    regions = outputs.regions if isinstance(outputs, TwoStageOutputs) else outputs
    truths = truths_of(batch)
    matches = match_boxes(
        regions.boxes, truths.boxes, truths.valid, positive_iou=positive_iou, negative_iou=negative_iou
    )
    negative = matches.negative & ~_shielded(regions.boxes, truths, negative_iou)
    used = regions.valid & (matches.positive | negative)
    classes = jnp.take_along_axis(batch["classes"].astype(jnp.int32), matches.target, axis=1)
    label = jnp.where(matches.positive, classes + 1, 0)
    logits = regions.logits.astype(jnp.float32)
    errors = optax.softmax_cross_entropy_with_integer_labels(logits, label)
    own = jnp.take_along_axis(regions.deltas, label[..., None, None], axis=2)[..., 0, :].astype(jnp.float32)
    target = jnp.take_along_axis(truths.boxes, matches.target[..., None], axis=1)
    goal = encode_boxes(target, regions.boxes, weights=delta_weights)
    moved = jnp.where(matches.positive, _smooth_l1(own, goal, beta), 0.0)
    return {"class": _mean(errors, used), "box": _mean(box_weight * moved, used)}


def faster_rcnn(
    outputs: TwoStageOutputs,
    batch: Batch,
    *,
    anchors: int = 256,
    anchor_positive_fraction: Scalar = 0.5,
    anchor_positive_iou: Scalar = 0.7,
    anchor_negative_iou: Scalar = 0.3,
    proposal_weight: Scalar = 1.0,
    box_weight: Scalar = 1.0,
    beta: Scalar = 1 / 9,
) -> Terms:
    """The losses of both stages: of a random sample of anchor boxes, and `fast_rcnn` of the regions.

    The first stage's is 1/N sum_i L_cls(p_i, p_i*) + 1/N sum_i p_i* L_reg(t_i, t_i*) over a sample of N: an anchor box
    has the label p_i* = 1 where its IoU with a target is at least 0.7, or the highest of all with that target, 0 where
    it is below 0.3 with all of them, and takes no part otherwise. Deviations, as in torchvision: both sums are
    normalised by N, and anchor boxes that reach over the border count.

    Args:
        outputs: of `models.FasterRCNN`. Their `seeds` decide the sample.
        batch: As in `fast_rcnn`.
        anchors: N, of each image.
        anchor_positive_fraction: At most so many of them have an object.
        anchor_positive_iou: As in `ops.match_boxes`.
        anchor_negative_iou: As in `ops.match_boxes`.
        proposal_weight: Factor of `objectness` and `proposal_box`.
        box_weight: Of the second stage, as in `fast_rcnn`.
        beta: Of both stages, as in `fast_rcnn`.

    Returns:
        `objectness`, `proposal_box`, `class`, `box`, each the mean over an image's samples `[b]`, and how many `[b]`.

    References:
        Ren et al., Faster R-CNN, https://arxiv.org/abs/1506.01497, equation 1.
    """
    found, truths = outputs.proposals, truths_of(batch)

    def of_image(truths: Truths, one: Proposals) -> tuple[Array, Array, Array]:
        matches = match_boxes(
            found.anchors,
            truths.boxes,
            truths.valid,
            positive_iou=anchor_positive_iou,
            negative_iou=anchor_negative_iou,
            keep_best=True,
        )
        negative = matches.negative & ~_shielded(found.anchors, truths, anchor_negative_iou)
        key, fraction = jax.random.key(one.seeds), anchor_positive_fraction
        index, chosen = balanced_sample(key, matches.positive, negative, count=anchors, positive_fraction=fraction)
        positive, anchor = matches.positive[index], found.anchors[index]
        errors = optax.sigmoid_binary_cross_entropy(one.objectness[index], positive.astype(jnp.float32))
        goal = encode_boxes(truths.boxes[matches.target[index]], anchor)
        return errors, jnp.where(positive, _smooth_l1(one.deltas[index], goal, beta), 0.0), chosen

    per_image = found._replace(anchors=None)  # pyright: ignore[reportArgumentType]
    errors, moved, chosen = jax.vmap(of_image)(truths, per_image)
    terms: Terms = {
        "objectness": _mean(proposal_weight * errors, chosen),
        "proposal_box": _mean(proposal_weight * moved, chosen),
    }
    return terms | fast_rcnn(outputs, batch, box_weight=box_weight, beta=beta)


def _shielded(boxes: Array, truths: Truths, iou: Scalar) -> Array:
    """Which boxes overlap one that is neither target nor background."""
    overlaps = box_iou(truths.boxes, boxes) >= iou
    return (overlaps & (truths.shield & ~truths.valid)[..., None]).any(-2)


def _smooth_l1(found: Array, goal: Array, beta: Scalar) -> Array:
    return (optax.huber_loss(found, goal, delta=beta) / beta).sum(-1)  # pyright: ignore[reportArgumentType]


def _mean(values: Array, used: Array) -> tuple[Array, Array]:
    count = used.sum(-1).astype(jnp.float32)
    return jnp.where(used, values, 0.0).sum(-1) / jnp.maximum(count, 1.0), count
