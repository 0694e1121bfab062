"""Which examples of a test set a preview shows: the worst of each class, the worst first."""

import math
from typing import Any

import jax
import numpy as np

from jaxcv.types import Batch


class Worst:
    """The examples with the largest losses, of as many classes as there is room for; only these are kept."""

    def __init__(self, count: int, *, by_loss: bool = True):
        """Room for `count` examples; not by loss: the first ones, as pages of an animation show the same ones."""
        self._count, self._by_loss = count, by_loss
        self._seen = 0
        self._kept: dict[int, list[tuple[float, int, Any]]] = {}
        """By class: loss, number and fields of its examples, the worst first."""

    def add(self, batch: Batch, predictions: Any, losses: np.ndarray) -> None:
        """Look at the examples of a batch, numpy, padding rows removed."""
        first, self._seen = self._seen, self._seen + len(losses)
        if not self._count or (not self._by_loss and first >= self._count):
            return
        if self._by_loss:
            badness, classes = np.nan_to_num(losses, nan=np.inf), _classes(batch)
        else:
            badness, classes = -np.arange(first, self._seen, dtype=np.float64), np.zeros(len(losses), np.int64)
        for label in np.unique(classes).tolist():
            rows = np.flatnonzero(classes == label)
            rows = rows[np.argsort(-badness[rows], kind="stable")[: self._count]]
            mine = self._kept.setdefault(label, [])
            mine += [(float(badness[i]), first + int(i), None) for i in rows]
            mine.sort(key=_worst_first)
        self._drop()
        for mine in self._kept.values():
            for place, (value, number, fields) in enumerate(mine):
                if fields is None:
                    row = number - first
                    fields = jax.tree.map(lambda array, row=row: np.array(array[row]), (batch, predictions))
                    mine[place] = value, number, fields

    def examples(self) -> list[tuple[Batch, Any]]:
        """One batch of those that are left, and its predictions; none where there is no example."""
        found = sorted((one for mine in self._kept.values() for one in mine), key=_worst_first)[: self._count]
        if not found:
            return []
        return [jax.tree.map(lambda *arrays: np.stack(arrays), *(fields for *_, fields in found))]

    def _drop(self) -> None:
        """What cannot be shown: classes whose worst example is not bad enough, and all but a few of the others."""
        if len(self._kept) > self._count:
            order = sorted(self._kept, key=lambda label: _worst_first(self._kept[label][0]))
            self._kept = {label: self._kept[label] for label in order[: self._count]}
        room = math.ceil(self._count / max(1, len(self._kept)))
        for mine in self._kept.values():
            del mine[room:]


def _worst_first(one: tuple[float, int, Any]) -> tuple[float, int]:
    return -one[0], one[1]


def _classes(batch: Batch) -> np.ndarray:
    """A class for each example: its label, that of its first box, or the same for all."""
    if "label" in batch and np.ndim(batch["label"]) == 1:
        return np.asarray(batch["label"]).astype(np.int64)
    if "classes" in batch and "valid" in batch and batch["valid"].shape[-1]:
        valid = np.asarray(batch["valid"])
        return np.where(valid.any(-1), np.asarray(batch["classes"])[np.arange(len(valid)), valid.argmax(-1)], -1)
    return np.zeros(len(batch["image"]), np.int64)
