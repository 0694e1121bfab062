"""Identification: who of several it is, by one picture or few of each; batches have `label`."""

from dataclasses import dataclass

import numpy as np

from jaxcv.errors import UserError
from jaxcv.metrics.metric import Metric
from jaxcv.metrics.pair_scores import Compared, compare, joined
from jaxcv.types import Batch, Embeddings, Scalar, Similarities

_TURNS = 10
"""Pictures of an identity that are enrolled in turn, at most."""


def identification(pick: str = "rank1", *, false_accept_rate: Scalar = 0.05) -> Metric:
    """How well pictures are recognised by one enrolled picture of each identity, in the mean over which it is.

    - `rank1`, `rank5`: fraction of the other pictures whose identity is the most similar, or among the five most.
    - `refused`: of pictures whose own identity is not enrolled, the fraction for whom nobody is similar enough, by the
      threshold at which this rate of *other* unknown people's pictures is accepted.
    - `recognized`: fraction of the others that are taken for the right identity by the same thresholds.

    Args:
        pick: One of these.
        false_accept_rate: In (0, 1).

    Returns:
        A metric of `Embeddings` and `label` `[b]`. NaN for a set in which no identity has two pictures, and of refusals
        where there are fewer than three identities.

    Raises:
        UserError: If `pick` is none of these.
    """
    names = ("rank1", "rank5", "refused", "recognized")
    if pick not in names:
        raise UserError(f"no metric of identification named {pick!r}: one of {', '.join(names)}")
    return Metric(compare, _Identification(float(false_accept_rate)), pick)


def recall_at(k: int) -> Metric:
    """Fraction of pictures among whose `k` most similar others is one of the same identity, in [0, 1].

    Args:
        k: At least 1.

    Returns:
        A metric of `Embeddings` and `label` `[b]`. Pictures that are the only one of their identity do not count; NaN
        where all are.
    """
    if k < 1:
        raise UserError(f"recall at k={k}: expected at least 1")
    return Metric(compare, _Recall(k), f"recall@{k}")


def few_shot(pick: str = "accuracy", *, way: int = 20, shot: int = 1) -> Metric:
    """Accuracy of N-way k-shot classification: each batch is an episode, as `Dataset.episode_batches` makes them.

    A query is given the class whose examples are most similar: by the cosine with the mean of their embeddings, or by
    the mean of their similarities.

    Args:
        pick: `accuracy`; or `margin`, the half width of its 95 % confidence interval, from the spread over episodes.
        way: Classes of an episode.
        shot: Examples of each, the first `way * shot` rows.

    Returns:
        A metric of `Embeddings` or `Similarities`, and `label` `[b]`.

    Raises:
        UserError: If `pick` is none of these.

    References:
        Snell, Swersky, Zemel, Prototypical networks, https://arxiv.org/abs/1703.05175 (means of embeddings).
    """
    if pick not in ("accuracy", "margin"):
        raise UserError(f"no metric of few shots named {pick!r}: accuracy or margin")
    return Metric(_Episode(way, shot), _few_shot_values, pick)


@dataclass(frozen=True)
class _Identification:
    false_accept_rate: float

    def __call__(self, batches: list[Compared]) -> dict[str, float]:
        names = ("rank1", "rank5", "refused", "recognized")
        if not batches:
            return dict.fromkeys(names, float("nan"))
        label, vectors, _ = joined(batches)
        assert vectors is not None
        present, of = np.unique(label, return_inverse=True)
        members = [np.flatnonzero(of == i) for i in range(len(present))]
        if max(map(len, members)) < 2:
            return dict.fromkeys(names, float("nan"))
        found: list[list[float]] = []
        for turn in range(min(_TURNS, max(map(len, members)))):
            enrolled = np.array([rows[turn % len(rows)] for rows in members])
            queries = np.setdiff1d(np.arange(len(label)), enrolled)
            found.append(self._one(vectors[queries] @ vectors[enrolled].T, of[queries]))
        return dict(zip(names, np.mean(found, 0).tolist(), strict=True))

    def _one(self, scores: np.ndarray, own: np.ndarray) -> list[float]:
        """Of one gallery: similarities of each query with each identity, and which is its own."""
        rows = np.arange(len(own))
        right = scores[rows, own]
        rank = (scores > right[:, None]).sum(1)
        ranks = [float((rank < 1).mean()), float((rank < 5).mean())]
        if scores.shape[1] < 3:
            return [*ranks, float("nan"), float("nan")]
        others = scores.copy()
        others[rows, own] = -np.inf
        stranger = others.max(1)  # how similar somebody is, were the query's own identity not enrolled
        threshold = np.empty(len(own))
        for identity in np.unique(own):
            rest = np.sort(stranger[own != identity])[::-1]
            threshold[own == identity] = np.nextafter(rest[int(self.false_accept_rate * len(rest))], np.float32(np.inf))
        refused, recognized = stranger < threshold, (rank < 1) & (right >= threshold)
        return [*ranks, float(refused.mean()), float(recognized.mean())]


@dataclass(frozen=True)
class _Recall:
    k: int

    def __call__(self, batches: list[Compared]) -> dict[str, float]:
        hits = []
        if batches:
            label, vectors, _ = joined(batches)
            assert vectors is not None
            some = np.bincount(np.unique(label, return_inverse=True)[1])[np.unique(label, return_inverse=True)[1]] > 1
            for start in range(0, len(label), 1024):
                rows = np.arange(start, min(start + 1024, len(label)))
                scores = vectors[rows] @ vectors.T
                scores[np.arange(len(rows)), rows] = -np.inf
                k = min(self.k, len(label) - 1)
                nearest = np.argpartition(-scores, k - 1, axis=1)[:, :k] if k else np.zeros((len(rows), 0), int)
                hits.append((label[nearest] == label[rows, None]).any(1)[some[rows]])
        every = np.concatenate(hits) if hits else np.zeros(0)
        return {f"recall@{self.k}": float(every.mean()) if every.size else float("nan")}


@dataclass(frozen=True)
class _Episode:
    way: int
    shot: int

    def __call__(self, predictions: Embeddings | Similarities, batch: Batch) -> float:
        known = self.way * self.shot
        label, vectors, scores = compare(predictions, batch)
        if vectors is not None:
            means = vectors[:known].reshape(self.way, self.shot, -1).mean(1)
            length = np.linalg.norm(means, axis=1, keepdims=True)
            found = vectors[known:] @ (means / np.maximum(length, 1e-8)).T
        else:
            assert scores is not None
            both = scores[known:, :known] + scores[:known, known:].T
            found = both.reshape(len(both), self.way, self.shot).mean(2)
        classes = label[:known].reshape(self.way, self.shot)[:, 0]
        return float((classes[found.argmax(1)] == label[known:]).mean())


def _few_shot_values(episodes: list[float]) -> dict[str, float]:
    """Mean, and half the width of its confidence interval."""
    n = len(episodes)
    spread = float(1.96 * np.std(episodes, ddof=1) / np.sqrt(n)) if n > 1 else float("nan")
    return {"accuracy": float(np.mean(episodes)) if n else float("nan"), "margin": spread}
