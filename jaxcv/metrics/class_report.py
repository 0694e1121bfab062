"""What the run of a classifier shows at its end: how often each class is right, and what it is taken for instead."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from jaxcv import show
from jaxcv.types import Batches, Picture, Table

_COLUMNS = ("class", "examples", "precision", "recall", "f1", "most_confused_with", "times")


class ClassOutcomes(NamedTuple):
    """How the examples of a batch were classified."""

    target: Int[np.ndarray, "b"]
    prediction: Int[np.ndarray, "b"]
    """The most probable class; -1 where a score is NaN, which is no prediction."""
    rank: Int[np.ndarray, "b"]
    """How many classes come before the target, the lower index first among equals; huge without a prediction."""
    classes: int
    """How many there are."""


class ClassRow(NamedTuple):
    """How one class fares; None where there is nothing to divide by."""

    name: str
    examples: int
    precision: float | None
    """Fraction of the examples predicted to be of this class that are."""
    recall: float | None
    """Fraction of the examples of this class that were predicted to be."""
    f1: float | None
    """Their harmonic mean."""
    confused_with: str
    """The other class most often predicted for its examples, the first among equals; empty where none was."""
    times: int


def class_report(batches: list[ClassOutcomes], data: Batches) -> list[Table | Picture]:
    """`per_class`, and the picture `confusion`; nothing for a set without examples.

    Args:
        batches: what `class_outcomes` gave for each batch.
        data: the set, for its class names.
    """
    if not batches:
        return []
    outcomes = joined(batches)
    names = [show.name_of(i, data.class_names) for i in range(outcomes.classes)]
    rows = per_class(outcomes, names)
    known = [(row.f1, row) for row in rows if row.f1 is not None and row.examples]
    count, lines = len(outcomes.rank), [""]
    for k in (1, 5) if outcomes.classes > 5 else (1,):
        within = int((outcomes.rank < k).sum())
        lines.append(f"top-{k} accuracy {within / max(1, count):.4f} ({within:,} of {count:,})")
    if missing := int((outcomes.prediction < 0).sum()):
        lines.append(f"warning: {missing:,} examples have scores that are not numbers: they count as of no class")
    worst = [row for _, row in sorted(known, key=lambda pair: pair[0])]
    tables = show.class_tables(_COLUMNS, rows, worst_first=worst, by="F1", note="\n".join(lines))
    return [*tables, Picture("confusion", show.draw_confusion(outcomes.target, outcomes.prediction, names))]


def joined(batches: Sequence[ClassOutcomes]) -> ClassOutcomes:
    """A whole set, of at least one batch."""
    arrays = (np.concatenate(parts) for parts in list(zip(*batches, strict=True))[:3])
    return ClassOutcomes(*arrays, classes=max(part.classes for part in batches))


def per_class(outcomes: ClassOutcomes, names: Sequence[str]) -> list[ClassRow]:
    """One row a class, in the order of `names`."""
    target, prediction, k = outcomes.target, outcomes.prediction, len(names)
    examples, right = np.bincount(target, minlength=k), np.bincount(target[target == prediction], minlength=k)
    predicted = np.bincount(prediction[prediction >= 0], minlength=k)
    wrong = (prediction >= 0) & (prediction != target)
    pairs, counts = np.unique(target[wrong] * k + prediction[wrong], return_counts=True)
    most: dict[int, tuple[int, int]] = {}
    for pair, count in zip(pairs.tolist(), counts.tolist(), strict=True):
        if count > most.get(pair // k, (0, 0))[1]:
            most[pair // k] = (pair % k, count)
    return [
        ClassRow(
            name=name,
            examples=int(examples[i]),
            precision=_fraction(right[i], predicted[i]),
            recall=_fraction(right[i], examples[i]),
            f1=_fraction(2 * right[i], examples[i] + predicted[i]),
            confused_with=names[most[i][0]] if i in most else "",
            times=most[i][1] if i in most else 0,
        )
        for i, name in enumerate(names)
    ]


def _fraction(part: np.integer, whole: np.integer) -> float | None:
    return float(part / whole) if whole else None
