"""Metrics of classifiers: predictions are `Classes`, batches have `label`."""

from dataclasses import dataclass

import numpy as np

from jaxcv.metrics.class_report import ClassOutcomes, class_report
from jaxcv.metrics.metric import Metric
from jaxcv.types import Batch, Classes


def accuracy() -> Metric:
    """Fraction of examples whose most probable class is the right one, in [0, 1].

    Returns:
        A metric of `Classes` and `label` `[b]`.
    """
    return top_k_accuracy(1)


def top_k_accuracy(k: int) -> Metric:
    """Fraction of examples whose right class is among the `k` most probable, in [0, 1].

    Among equal probabilities the lower index goes first; an example with a NaN is never right. NaN for a set without
    examples. With no more than `k` classes everything without a NaN is right, and the value says nothing.

    The run's end shows each class (`per_class.csv`) and what it is taken for (`previews/confusion.png`).

    Args:
        k: At least 1.

    Returns:
        A metric of `Classes` and `label` `[b]`.
    """
    if k < 1:
        raise ValueError(f"top-k accuracy wants k >= 1, not {k}")
    name = "accuracy" if k == 1 else f"top{k}"
    return Metric(class_outcomes, _FractionWithin(k, name), name, report=class_report)


def class_outcomes(predictions: Classes, batch: Batch) -> ClassOutcomes:
    """How each example of a batch was classified.

    Args:
        predictions: Scores `[b, k]`.
        batch: `label` `[b]`.

    Returns:
        Target, prediction and rank `[b]`.
    """
    scores, target = np.asarray(predictions.scores), np.asarray(batch["label"]).astype(np.int64)
    own = np.take_along_axis(scores, target[:, None], axis=1)
    ahead = (scores > own) | ((scores == own) & (np.arange(scores.shape[1])[None] < target[:, None]))
    answered = ~np.isnan(scores).any(axis=1)
    return ClassOutcomes(
        target=target,
        prediction=np.where(answered, predictions.label, -1).astype(np.int64),
        rank=np.where(answered, ahead.sum(axis=1), np.iinfo(np.int64).max),
        classes=scores.shape[1],
    )


@dataclass(frozen=True)
class _FractionWithin:
    k: int
    name: str

    def __call__(self, batches: list[ClassOutcomes]) -> dict[str, float]:
        ranks = np.concatenate([batch.rank for batch in batches]) if batches else np.zeros(0)
        return {self.name: float((ranks < self.k).mean()) if ranks.size else float("nan")}
