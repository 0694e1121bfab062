"""Pairs of pictures and how alike they are: what every metric of networks that compare pictures measures."""

from typing import NamedTuple

import numpy as np

from jaxcv.errors import UserError
from jaxcv.types import Batch, Embeddings, Similarities

_MOST = 1 << 23
"""Pairs that are compared at most, of each kind."""


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
