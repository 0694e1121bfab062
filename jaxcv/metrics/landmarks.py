"""Metrics of landmarks: predictions are `Landmarks`, batches have `points` and perhaps `visible`."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from jaxcv import show
from jaxcv.errors import UserError
from jaxcv.metrics.metric import Metric
from jaxcv.types import Batch, Batches, Landmarks, Picture, Scalar

_NAMES = ("NME", "AUC", "failures", "mean_shape_NME")


class PointOutcomes(NamedTuple):
    """Targets and predictions of a batch, in pixels of the network's input."""

    target: np.ndarray
    """`[b, p, 2]`."""
    visible: np.ndarray
    """`[b, p]`."""
    prediction: np.ndarray
    """`[b, p, 2]`."""


def landmark_error(pick: str = "NME", *, ends: tuple[int, int] | None = None, threshold: Scalar = 0.1) -> Metric:
    """Distances of predicted points from their targets, relative to the size of the object.

    The error of an example is the mean Euclidean distance over its visible points, divided by the distance between two
    of its targets, `ends`. For the 68 points of a face these are the outer corners of the eyes, points 36 and 45
    counted from 0: the inter-ocular distance of 300-W (pupils, the other custom, give errors some 1.4 times as large).

    - `NME`: mean error over the set.
    - `failures`: fraction of the examples with an error above `threshold`.
    - `AUC`: area under the cumulative curve, the fraction of examples with an error of at most e, for e from 0 to
      `threshold`, divided by `threshold`: 1 is perfect. The larger the better, so this one may rank runs.
    - `mean_shape_NME`: the NME of a predictor that gives for every image the set's own mean shape, point by point.
      It has seen the targets, so it is a harder baseline than the mean of the training set.

    The run's end draws the cumulative curve, beside the mean shape's, into `previews/error_curve.png`.

    Args:
        pick: One of these.
        ends: The two points. None: (36, 45) where there are 68 points; else the square root of the area of the box
            around the visible points stands for the distance.
        threshold: The largest error that is no failure; above 0.

    Returns:
        A metric of `Landmarks` and `points` `[b, p, 2]`, perhaps `visible` `[b, p]`. An example counts if it has a
        visible point, its ends are visible and lie apart; NaN where none does. A prediction that is not finite is an
        infinite error.

    Raises:
        UserError: If `pick` is none of these.
    """
    if pick not in _NAMES:
        raise UserError(f"no metric of landmarks named {pick!r}: one of {', '.join(_NAMES)}")
    options = ends, float(threshold)
    return Metric(collect_points, _Summary(*options), pick, report=_Report(*options))


def collect_points(predictions: Landmarks, batch: Batch) -> PointOutcomes:
    """Targets and predictions of a batch.

    Args:
        predictions: `points` `[b, p, 2]`.
        batch: `points` `[b, p, 2]`, perhaps `visible` `[b, p]`.

    Returns:
        Both, as numpy arrays.
    """
    target = np.asarray(batch["points"])
    visible = np.asarray(batch["visible"]) if "visible" in batch else np.ones(target.shape[:2], bool)
    return PointOutcomes(target, visible, np.asarray(predictions.points))


def normalized_errors(outcomes: PointOutcomes, *, ends: tuple[int, int] | None = None) -> np.ndarray:
    """The error of each example that counts, as `landmark_error` defines it.

    Args:
        outcomes: `[b]` examples.
        ends: As for `landmark_error`.

    Returns:
        `[n]`, n at most b.
    """
    target, visible, prediction = outcomes
    target = np.where(visible[..., None], target, 0).astype(np.float64)
    if ends is None and target.shape[1] == 68:
        ends = (36, 45)
    if ends is None:
        low = np.where(visible[..., None], target, np.inf).min(1, initial=1e30)
        high = np.where(visible[..., None], target, -np.inf).max(1, initial=-1e30)
        size = np.sqrt(np.prod(np.maximum(high - low, 0.0), axis=-1))  # no visible point: high is below low
    else:
        size = np.linalg.norm(target[:, ends[0]] - target[:, ends[1]], axis=-1) * visible[:, list(ends)].all(1)
    kept = visible.any(1) & (size > 0)
    target, visible, prediction, size = target[kept], visible[kept], prediction[kept], size[kept]
    distances = np.linalg.norm(np.where(visible[..., None], prediction - target, 0.0), axis=-1)
    errors = distances.sum(1) / np.maximum(visible.sum(1), 1) / size
    return np.where(np.isfinite(errors), errors, np.inf)


def _joined(batches: list[PointOutcomes]) -> tuple[PointOutcomes, PointOutcomes] | None:
    """The whole set, and the same with its mean shape as every prediction."""
    if not batches:
        return None
    every = PointOutcomes(*(np.concatenate(parts) for parts in zip(*batches, strict=True)))
    seen = every.visible[..., None]
    mean = np.where(seen, every.target, 0.0).sum(0) / np.maximum(seen.sum(0), 1)
    return every, every._replace(prediction=np.broadcast_to(mean, every.target.shape))


@dataclass(frozen=True)
class _Summary:
    ends: tuple[int, int] | None
    threshold: float

    def __call__(self, batches: list[PointOutcomes]) -> dict[str, float]:
        joined = _joined(batches)
        errors, mean = (normalized_errors(x, ends=self.ends) for x in joined) if joined else (np.zeros(0),) * 2
        if not errors.size:
            return dict.fromkeys(_NAMES, float("nan"))
        return {
            "NME": float(errors.mean()),
            # The integral of a step function: each example is under the curve from its error to the threshold.
            "AUC": float(np.maximum(1 - errors / self.threshold, 0).mean()),
            "failures": float((errors > self.threshold).mean()),
            "mean_shape_NME": float(mean.mean()),
        }


@dataclass(frozen=True)
class _Report:
    ends: tuple[int, int] | None
    threshold: float

    def __call__(self, batches: list[PointOutcomes], data: Batches) -> list[Picture]:
        joined = _joined(batches)
        errors, mean = (normalized_errors(x, ends=self.ends) for x in joined) if joined else (np.zeros(0),) * 2
        if not errors.size:
            return []
        curves = {"predictions": errors, "mean shape": mean}
        return [Picture("error_curve", show.draw_error_curves(curves, threshold=self.threshold))]
