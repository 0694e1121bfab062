"""Verification and identification by embeddings or similarities; batches have `label`."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from jaxcv.errors import UserError
from jaxcv.metrics.metric import Metric
from jaxcv.types import Batch, Embeddings, Scalar, Similarities

RATES = (1e-1, 1e-2, 1e-3, 1e-4)
_TARS = {f"TAR@FAR={rate:g}": rate for rate in RATES}
_NAMES = ("EER", "AUC", "accuracy", *_TARS)
_MOST = 1 << 23
"""Pairs that are compared at most, of each kind."""
_FOLDS = 10
_COLLAPSED = 1e-3
"""Of cosines: below this distance of two identities, a network tells nobody from anybody."""


class Compared(NamedTuple):
    """What the pictures of a batch say of each other."""

    label: np.ndarray
    """`[b]`."""
    vectors: np.ndarray | None
    """`[b, d]`, of embeddings."""
    scores: np.ndarray | None
    """`[b, b]`, of similarities."""


class ScoredPairs(NamedTuple):
    """Pairs of pictures by number, in the order of the set, and how alike they are."""

    first: np.ndarray
    second: np.ndarray
    same: np.ndarray
    score: np.ndarray


def verification(pick: str = "EER", *, pairs: Literal["all", "listed"] = "all") -> Metric:
    """How well pairs of pictures of one identity are told from pairs of two, by the cosine of their embeddings.

    - `EER`: the error rate at the threshold where as many pairs of two identities are accepted as of one are refused,
      interpolated linearly between two thresholds; the smaller the better.
    - `AUC`: area under the ROC curve.
    - `accuracy`: LFW's: in ten parts of the pairs, each by the threshold that is best for the other nine; the mean over
      the parts, in which pairs of one identity and of two weigh the same (in LFW's lists they are as many). The parts
      are ten runs of the pairs in their order where these are listed, else drawn.
    - `TAR@FAR=0.1`, `0.01`, `0.001`, `0.0001`: fraction of the pairs of one identity that are accepted at the
      smallest threshold that accepts no more than this fraction of the pairs of two; NaN where these are fewer than
      one in that fraction.

    The run's end draws the ROC curve, the most confused pairs and a map of the embeddings, and writes
    `verification.csv`. Whoever trains is warned of a collapse: all embeddings the same.

    Args:
        pick: One of these.
        pairs: `all` pairs of the set (of embeddings; of similarities, of each batch), up to 2^23 of each kind, drawn
            where there are more; or the `listed` ones, rows 2 i and 2 i + 1 of the set.

    Returns:
        A metric of `Embeddings` or `Similarities`, and `label` `[b]`. NaN for a set without pairs of both kinds.

    Raises:
        UserError: If `pick` or `pairs` is none of these.

    References:
        G. Huang et al., Labeled Faces in the Wild, 2007, section IV.
    """
    from jaxcv.metrics.verification_report import VerificationReport

    if pick not in _NAMES:
        raise UserError(f"no metric of verification named {pick!r}: one of {', '.join(_NAMES)}")
    if pairs not in ("all", "listed"):
        raise UserError(f"pairs={pairs!r}: expected 'all' or 'listed'")
    listed = pairs == "listed"
    return Metric(
        compare,
        _Verification(listed),
        pick,
        report=VerificationReport(listed),
        larger_is_better=pick != "EER",
        warn=warn_of_collapse,
    )


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


def compare(predictions: Embeddings | Similarities, batch: Batch) -> Compared:
    """Labels, and vectors or scores, of a batch.

    Args:
        predictions: Embeddings `[b, d]`, or similarities `[b, b]`.
        batch: `label` `[b]`.

    Returns:
        The same as numpy arrays; of similarities, the columns of the rows that are left.
    """
    label = np.asarray(batch["label"])
    if isinstance(predictions, Similarities):
        return Compared(label, None, np.asarray(predictions.scores)[:, : len(label)])
    return Compared(label, np.asarray(predictions.vectors), None)


def scored_pairs(batches: list[Compared], *, listed: bool = False) -> ScoredPairs:
    """The pairs of a set; see `verification`."""
    found, offset = [], 0
    for group in _groups(batches):
        label = group.label
        if listed:
            first, second = np.arange(len(label) // 2 * 2).reshape(-1, 2).T
        else:
            first, second = _all_pairs(label)
        if group.vectors is not None:
            score = np.empty(len(first), np.float32)
            for start in range(0, len(first), 1 << 18):
                part = slice(start, start + (1 << 18))
                score[part] = np.einsum("nd,nd->n", group.vectors[first[part]], group.vectors[second[part]])
        else:
            assert group.scores is not None
            score = (group.scores[first, second] + group.scores[second, first]) / 2
        found.append(ScoredPairs(first + offset, second + offset, label[first] == label[second], score))
        offset += len(label)
    if not found:
        none = np.zeros(0, np.int64)
        return ScoredPairs(none, none, np.zeros(0, bool), np.zeros(0, np.float32))
    return ScoredPairs(*map(np.concatenate, zip(*found, strict=True)))


def _groups(batches: list[Compared]) -> list[Compared]:
    """Within which pictures are compared: the set, of embeddings; each batch, of similarities."""
    if not batches or batches[0].vectors is None:
        return batches
    return [joined(batches)]


def joined(batches: list[Compared]) -> Compared:
    """The embeddings of a whole set, of at least one batch."""
    vectors = [batch.vectors for batch in batches if batch.vectors is not None]
    if len(vectors) != len(batches):
        raise UserError("identification and recall are of embeddings; similarities know only the pictures of a batch")
    return Compared(np.concatenate([batch.label for batch in batches]), np.concatenate(vectors), None)


def _all_pairs(label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    n, random = len(label), np.random.default_rng(0)
    if n * (n - 1) // 2 <= _MOST:
        first, second = np.triu_indices(n, 1)
        return first.astype(np.int32), second.astype(np.int32)
    order = np.argsort(label, kind="stable")
    runs = np.split(order, np.flatnonzero(np.diff(label[order])) + 1)
    same = np.concatenate([run[np.stack(np.triu_indices(len(run), 1))] for run in runs], 1)
    if same.shape[1] > _MOST:
        same = same[:, (random.random(_MOST) * same.shape[1]).astype(np.int64)]
    drawn = (random.random((2, _MOST)) * n).astype(np.int64)
    drawn = drawn[:, label[drawn[0]] != label[drawn[1]]]
    first, second = np.concatenate([same, drawn], 1)
    return first.astype(np.int32), second.astype(np.int32)


def roc(pairs: ScoredPairs) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """False and true accept rates, and thresholds, from the strictest on; scikit-learn's."""
    from sklearn.metrics import roc_curve

    return roc_curve(pairs.same, pairs.score, drop_intermediate=False)


def equal_error_rate(false_accepts: np.ndarray, true_accepts: np.ndarray) -> float:
    """Where the curve crosses that of as many false refusals."""
    gap = false_accepts + true_accepts - 1  # false accepts less false refusals: from -1 to 1
    after = int(np.argmax(gap >= 0))
    before = max(after - 1, 0)
    step = gap[after] - gap[before]
    part = -gap[before] / step if step > 0 else 0.0
    return float(false_accepts[before] + part * (false_accepts[after] - false_accepts[before]))


def fold_accuracy(pairs: ScoredPairs, *, listed: bool) -> float:
    """LFW's accuracy; see `verification`."""
    n = len(pairs.same)
    fold = np.arange(n) * _FOLDS // max(n, 1)
    if not listed:
        fold = fold[np.argsort(np.random.default_rng(0).random(n), kind="stable")]
    accuracies = []
    for number in range(_FOLDS):
        there, rest = fold == number, fold != number
        found = [_rates(pairs.score[part], pairs.same[part]) for part in (rest, there)]
        if any(each is None for each in found):
            continue
        (thresholds, right), _ = found[0], found[1]  # pyright: ignore[reportGeneralTypeIssues]
        accepted = pairs.score[there] >= thresholds[int(np.argmax(right))]
        same = pairs.same[there]
        accuracies.append((accepted[same].mean() + (~accepted[~same]).mean()) / 2)
    return float(np.mean(accuracies)) if accuracies else float("nan")


def _rates(score: np.ndarray, same: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Thresholds halfway between scores, and the accuracy at each; None without pairs of both kinds."""
    if not same.any() or same.all():
        return None
    order = np.argsort(-score, kind="stable")
    score, same = score[order], same[order]
    right = np.cumsum(same) / same.sum() + 1 - np.cumsum(~same) / (~same).sum()
    right[:-1][score[1:] == score[:-1]] = -1.0  # of equal scores all are accepted or none
    return (score + np.append(score[1:], score[-1])) / 2, right / 2


@dataclass(frozen=True)
class _Verification:
    listed: bool

    def __call__(self, batches: list[Compared]) -> dict[str, float]:
        pairs = scored_pairs(batches, listed=self.listed)
        return verification_values(pairs, listed=self.listed)


def verification_values(pairs: ScoredPairs, *, listed: bool) -> dict[str, float]:
    """All that `verification` picks from, and `same` and `different`, the mean scores of both kinds of pairs."""
    same, different = int(pairs.same.sum()), int((~pairs.same).sum())
    if not same or not different or not np.isfinite(pairs.score).all():
        return dict.fromkeys([*_NAMES, "same", "different"], float("nan"))
    false_accepts, true_accepts, _ = roc(pairs)
    values = {
        "EER": equal_error_rate(false_accepts, true_accepts),
        "AUC": float(np.trapezoid(true_accepts, false_accepts)),
        "accuracy": fold_accuracy(pairs, listed=listed),
        "same": float(pairs.score[pairs.same].mean()),
        "different": float(pairs.score[~pairs.same].mean()),
    }
    for name, rate in _TARS.items():
        allowed = true_accepts[false_accepts <= rate * (1 + 1e-9)]
        values[name] = float(allowed.max()) if rate * different >= 1 else float("nan")
    return values


def warn_of_collapse(values: dict[str, float]) -> list[str]:
    """A line where all embeddings are the same, as happens where the hardest triplets are too hard.

    Args:
        values: As `verification_values` gives them.
    """
    if not values.get("different", 0.0) > 1 - _COLLAPSED or not values["same"] - values["different"] < _COLLAPSED:
        return []
    return [
        "the embeddings have collapsed: pictures of two identities have a mean cosine of "
        f"{values['different']:.6f}, and a triplet loss sits at its margin; try a smaller lr, or mining=semihard"
    ]


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
        for turn in range(min(_FOLDS, max(map(len, members)))):
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
