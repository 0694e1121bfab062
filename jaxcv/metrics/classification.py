"""Metrics of classifiers: predictions are `Classes`, batches have `label`."""

from dataclasses import dataclass

import numpy as np

from jaxcv.metrics.metric import Metric
from jaxcv.types import Batch, Classes


def accuracy() -> Metric:
    """Share of examples whose most probable class is the right one, in [0, 1].

    Returns:
        A metric of `Classes` and `label` `[b]`.
    """
    return top_k_accuracy(1)


def top_k_accuracy(k: int) -> Metric:
    """Share of examples whose right class is among the `k` most probable, in [0, 1].

    Among equal probabilities the lower index goes first; NaN is never right. NaN for a set without examples. With no
    more than `k` classes everything but NaN is right, and the value says nothing.

    Args:
        k: At least 1.

    Returns:
        A metric of `Classes` and `label` `[b]`.
    """
    if k < 1:
        raise ValueError(f"top-k accuracy wants k >= 1, not {k}")
    name = "accuracy" if k == 1 else f"top{k}"
    return Metric(label_rank, _ShareWithin(k, name), name)


def label_rank(predictions: Classes, batch: Batch) -> np.ndarray:
    """How many classes come before the right one.

    Args:
        predictions: Scores `[b, k]`.
        batch: `label` `[b]`.

    Returns:
        `[b]` ints; 0 where the right class is the most probable, more than any `k` where its score is NaN.
    """
    scores, label = np.asarray(predictions.scores), np.asarray(batch["label"])[:, None]
    own = np.take_along_axis(scores, label, axis=1)
    ahead = ~(scores < own) & ~((scores == own) & (np.arange(scores.shape[1])[None] >= label))
    return np.where(np.isnan(own[:, 0]), np.iinfo(np.int64).max, ahead.sum(1))


@dataclass(frozen=True)
class _ShareWithin:
    k: int
    name: str

    def __call__(self, ranks: list[np.ndarray]) -> dict[str, float]:
        every = np.concatenate(ranks) if ranks else np.zeros(0)
        return {self.name: float((every < self.k).mean()) if every.size else float("nan")}
