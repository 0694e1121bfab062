"""Metrics of pixel classifiers: predictions are `Masks`, batches have `mask`, 255 where void."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int, Integer
from scipy import ndimage
from sklearn.metrics.cluster import contingency_matrix

from jaxcv import show
from jaxcv.errors import UserError
from jaxcv.metrics.metric import Metric
from jaxcv.types import Batch, Batches, Masks, Picture, Table

_VOID = 255
_NAMES = ("mIoU", "pixel_accuracy", "mean_accuracy", "dice")


def segmentation(pick: str = "mIoU") -> Metric:
    """How well the classes of pixels are predicted, over all pixels of the set that are not void.

    - `mIoU`: mean over classes of the intersection over the union, TP / (TP + FP + FN).
    - `pixel_accuracy`: fraction of the pixels whose class is right.
    - `mean_accuracy`: mean over classes of the fraction of the class's pixels that are right.
    - `dice`: mean over classes of 2 TP / (2 TP + FP + FN).

    Pixels are counted over the whole set, not image by image. A class that neither targets nor predictions show has no
    IoU and no Dice, and is left out of their means (mmseg's `IoUMetric`, torchmetrics' `MulticlassJaccardIndex`); one
    without a pixel in the targets has no accuracy.

    The run's end shows each class (`per_class.csv`) and what it is taken for (`previews/confusion.png`).

    Args:
        pick: One of these.

    Returns:
        A metric of `Masks` and `mask` `[b, h, w]`; NaN for a set without a pixel that is not void.

    Raises:
        UserError: If `pick` is none of these.

    References:
        Long et al., Fully convolutional networks, https://arxiv.org/abs/1411.4038, section 5, "metrics".
    """
    if pick not in _NAMES:
        raise UserError(f"no metric of pixels named {pick!r}: one of {', '.join(_NAMES)}")
    return Metric(pixel_confusion, _summary, pick, report=_report)


def rand(*, foreground: int = 1) -> Metric:
    """V_rand: whether pixels of one region are predicted to be of one region, and of two to be of two.

    Regions are the connected parts (by edges) of the class `foreground`. With p_ij the fraction of the pixels that are
    in region i of the prediction and region j of the target, V_rand = sum p_ij^2 / (0.5 sum_i p_i^2 + 0.5 sum_j p_j^2),
    the harmonic mean of the split and the merge score. Restricted to pixels that are of the foreground in the target;
    those of them that are predicted to be something else make one region (as in scikit-image's `adapted_rand_error`,
    which is 1 - V_rand). ISBI's script also thins the borders and takes the best of many thresholds.

    Args:
        foreground: Index of the class whose regions are compared, such as the cells between membranes.

    Returns:
        A metric of `Masks` and `mask` `[b, h, w]`: the mean over the images with foreground in the target, in [0, 1].

    References:
        Arganda-Carreras et al., Crowdsourcing the creation of image segmentation algorithms for connectomics, 2015.
    """
    return Metric(_Rand(foreground), _mean_rand, "rand")


def pixel_confusion(predictions: Masks, batch: Batch) -> Int[np.ndarray, "k k"]:
    """Pixels by class of the target (rows) and of the prediction (columns).

    Args:
        predictions: `label` `[b, h, w]`.
        batch: `mask` `[b, h, w]`.

    Returns:
        `[k, k]`, k one more than the largest class in either; void pixels are left out.
    """
    target, label = np.asarray(batch["mask"]), np.asarray(predictions.label)
    known = target != _VOID
    target, label = target[known].astype(np.int64), label[known].astype(np.int64)
    k = 1 + max(target.max(initial=-1), label.max(initial=-1))
    return np.bincount(target * k + label, minlength=k * k).reshape(k, k)


def class_scores(confusion: Int[np.ndarray, "k k"]) -> dict[str, np.ndarray]:
    """IoU, Dice, precision and recall of each class `[k]`; NaN where there is nothing to divide by."""
    right, target, predicted = confusion.diagonal(), confusion.sum(1), confusion.sum(0)
    union = target + predicted - right
    with np.errstate(invalid="ignore"):
        return {
            "iou": right / union,
            "dice": 2 * right / (target + predicted),
            "precision": right / predicted,
            "recall": right / target,
        }


def _total(batches: list[np.ndarray], k: int = 0) -> Int[np.ndarray, "k k"]:
    k = max([k, *(len(batch) for batch in batches)])
    return sum((np.pad(b, (0, k - len(b))) for b in batches), np.zeros((k, k), np.int64))


def _summary(batches: list[np.ndarray]) -> dict[str, float]:
    confusion = _total(batches)
    if not confusion.sum():
        return dict.fromkeys(_NAMES, float("nan"))
    scores = class_scores(confusion)
    values = {"mIoU": "iou", "mean_accuracy": "recall", "dice": "dice"}
    means = {name: float(np.nanmean(scores[which])) for name, which in values.items()}
    return {"pixel_accuracy": float(confusion.trace() / confusion.sum()), **means}


def _report(batches: list[np.ndarray], data: Batches) -> list[Table | Picture]:
    confusion = _total(batches, len(data.class_names))
    if not confusion.sum():
        return []
    names = [show.name_of(i, data.class_names) for i in range(len(confusion))]
    scores = class_scores(confusion)
    columns = [[None if np.isnan(v) else float(v) for v in scores[name]] for name in scores]
    rows = [(names[i], int(confusion[i].sum()), *(column[i] for column in columns)) for i in range(len(names))]
    known = [rows[i] for i in np.argsort(scores["iou"]).tolist() if not np.isnan(scores["iou"][i])]
    tables = show.class_tables(("class", "pixels", *scores), rows, worst_first=known, by="IoU", note="")
    pairs = np.repeat(np.arange(confusion.size), confusion.ravel())
    return [*tables, Picture("confusion", show.draw_confusion(pairs // len(names), pairs % len(names), names))]


@dataclass(frozen=True)
class _Rand:
    foreground: int

    def __call__(self, predictions: Masks, batch: Batch) -> list[float]:
        pairs = zip(np.asarray(batch["mask"]), np.asarray(predictions.label), strict=True)
        scores = [rand_score(target, label, foreground=self.foreground) for target, label in pairs]
        return [score for score in scores if score is not None]


def rand_score(
    target: Integer[np.ndarray, "h w"], prediction: Integer[np.ndarray, "h w"], *, foreground: int = 1
) -> float | None:
    """V_rand of one image, as `rand` defines it.

    Args:
        target: `[h, w]` classes.
        prediction: `[h, w]` classes.
        foreground: Index of the class whose regions are compared.

    Returns:
        In [0, 1]; None without foreground in the target.
    """
    inside = target == foreground
    if not inside.any():
        return None
    regions: list[Any] = [ndimage.label(mask == foreground) for mask in (target, prediction)]
    counts: Any = contingency_matrix(*(found[inside] for found, _ in regions), sparse=True)
    counts = counts.astype(np.float64)
    sides = sum(float(np.square(np.asarray(counts.sum(axis))).sum()) for axis in (0, 1))
    return float(2 * np.square(counts.data).sum() / sides)


def _mean_rand(batches: list[list[float]]) -> dict[str, float]:
    scores = [score for batch in batches for score in batch]
    return {"rand": float(np.mean(scores)) if scores else float("nan")}
