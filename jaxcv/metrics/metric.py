"""What a metric is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from jaxcv.types import Batch, Batches, Picture, Table


@dataclass(frozen=True)
class Metric:
    """A number over a whole data set, computed from its batches one after another.

    Two metrics with equal `measure` and `reduce` differ only in what they pick: compute once, pick twice. So these are
    module-level functions, or values that compare equal; `report` likewise.
    """

    measure: Callable[[Any, Batch], Any]
    """`(predictions, batch)` as numpy arrays, padded rows removed -> anything; called once a batch."""
    reduce: Callable[[list[Any]], dict[str, float]]
    """All that `measure` gave, in order -> named values; called once a set. NaN: the set does not define the value."""
    pick: str
    """Which of the named values is this metric."""
    report: Callable[[list[Any], Batches], Sequence[Table | Picture]] | None = None
    """All that `measure` gave, and the set -> what a run shows at its end beyond the values."""
    larger_is_better: bool = True
    """What is a better value: checkpoints and the trials of a sweep are ranked by it."""
    warn: Callable[[dict[str, float]], Sequence[str]] | None = None
    """The named values of one evaluation -> what a person should be warned of, one line each."""
