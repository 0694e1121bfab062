"""Which examples an epoch shows, and in which order: a function of `(seed, epoch)` alone.

`uniform` shows every example once. Otherwise an example is expected to be shown a number of times in an epoch, and is
shown that many times, rounded up or down at random:

    balanced       every class equally often. An example of several classes counts for each of them; one of none is not
                   shown. An epoch has as many examples as the set.
    repeat_factor  those of rare classes more than once: max(1, sqrt(rare / f)) times, f the fraction of the examples
                   that show the rarest of its classes. Gupta, Dollar, Girshick, LVIS, CVPR 2019,
                   https://arxiv.org/abs/1908.03195, section 5.2. An epoch is that much longer.

Sets that are joined have `shares` of an epoch. Only `random`, `argsort` and `lexsort` of numpy draw, whose numbers do
not change from version to version.
"""

from functools import lru_cache
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float, Int

from jaxcv.data.source import Source
from jaxcv.data.sources.resident import in_parts, read
from jaxcv.errors import UserError, unknown_name

Sampling = Literal["uniform", "balanced", "repeat_factor"]


def epoch_order(size: int, *, seed: int, epoch: int) -> Int[np.ndarray, "size"]:
    """The order of one epoch: a permutation of `size` examples, a function of `(seed, epoch)` alone.

    Sorting random numbers, not `Generator.permutation`: numpy keeps its stream of uniform numbers from version to
    version, its shuffles it does not.
    """
    random = np.random.default_rng([seed % 2**64, epoch]).random(size)
    order = np.argsort(random, kind="stable")
    order.flags.writeable = False
    return order


@lru_cache(maxsize=4)
def epoch_uniform(size: int, *, seed: int, epoch: int) -> Float[np.ndarray, "size 4"]:
    """Four numbers in [0, 1) for each example in one epoch: a function of `(seed, epoch)` and its index alone."""
    numbers = np.random.default_rng([seed % 2**64, epoch, 1]).random((size, 4))
    numbers.flags.writeable = False
    return numbers


@lru_cache(maxsize=8)
def expected_times(
    source: Any, sampling: Sampling, rare: float, shares: tuple[int | float, ...]
) -> tuple[Float[np.ndarray, "n"], Int[np.ndarray, "n"]]:
    """How often an epoch shows each example, and the rarest of its classes, or set, by which the draw is evened out.

    Raises:
      UserError: a set without classes; numbers that are none of what they should be.
    """
    if sampling not in get_args(Sampling):
        raise UserError(unknown_name("sampling", sampling, list(get_args(Sampling))))
    if not rare > 0:
        raise UserError(f"rare={rare:g}: expected a fraction of the examples, above 0")
    count = len(source)
    times, rarest = np.ones(count), np.zeros(count, np.int64)
    if sampling != "uniform":
        examples, classes = present_classes(source)
        shown = np.maximum(np.bincount(classes), 1)  # examples that show each class
        if not len(classes):
            raise UserError(f"sampling={sampling}: no example shows a class")
        order = np.argsort(-shown[classes], kind="stable")
        rarest[:] = -1
        rarest[examples[order]] = classes[order]  # of several the last stays
        if sampling == "balanced":
            times = np.bincount(examples, 1 / shown[classes], minlength=count)
            times *= count / times.sum()
        else:
            times = np.where(rarest < 0, 1.0, np.maximum(1.0, np.sqrt(rare * count / shown[rarest])))
    if shares:
        which, total = _beneath(source).set_numbers(), times.sum()
        sums = np.bincount(which, times, minlength=len(shares))
        if not sums.all():
            raise UserError(f"sampling={sampling}: no example of one of the sets shows a class")
        times = times * (total * np.array(shares) / np.sum(shares) / sums)[which]
        rarest = which * (2 + rarest.max()) + rarest
    return times, rarest


def epoch_length(times: Float[np.ndarray, "n"]) -> int:
    """Examples in an epoch."""
    return max(1, round(float(times.sum())))


def sampled_order(
    source: Any, sampling: Sampling, rare: float, shares: tuple[int | float, ...], *, seed: int, epoch: int
) -> Int[np.ndarray, "k"]:
    """The examples of one epoch, each as often as `expected_times` says, rounded up or down; so is each class's sum.

    Marks at equal distances, from a random start, on a line on which the examples of a class lie side by side.
    """
    times, rarest = expected_times(source, sampling, rare, shares)
    random, size = np.random.default_rng([seed % 2**64, epoch, 5]), epoch_length(times)
    line = np.lexsort((random.random(len(times)), rarest))
    line = line[times[line] > 0]
    ends = np.cumsum(times[line])
    marks = (np.arange(size) + random.random()) * (ends[-1] / size)
    chosen = line[np.searchsorted(ends[:-1], marks, "right")]
    order = chosen[np.argsort(random.random(size), kind="stable")]
    order.flags.writeable = False
    return order


@lru_cache(maxsize=8)
def present_classes(source: Any) -> tuple[Int[np.ndarray, "m"], Int[np.ndarray, "m"]]:
    """Examples, in order, and classes that each shows, every pair once; ignored boxes do not count.

    Reads no picture if it can.

    Raises:
      UserError: a set without classes.
    """
    source = _beneath(source)
    if hasattr(source, "present"):
        return source.present()
    fields = source.spec()
    if "label" in fields:
        return np.arange(len(source)), np.asarray(source.labels())
    if "classes" not in fields:
        raise UserError("sampling: a set of labels or boxes can be sampled by class, this one has neither")
    found = getattr(source, "box_classes", lambda: None)() or _read_classes(source)
    examples, classes = np.repeat(np.arange(len(found)), [len(each) for each in found]), np.concatenate(found)
    kinds = 1 + classes.max(initial=0)
    return np.divmod(np.unique(examples * kinds + classes), kinds)


def _beneath(source: Any) -> Any:
    """The source on which one with features or proposals stands."""
    while isinstance(getattr(source, "source", None), Source):
        source = source.source
    return source


def _read_classes(source: Source) -> list[Int[np.ndarray, "k"]]:
    """The classes of the boxes of each example, of all that are read for it."""
    found: list[Int[np.ndarray, "k"]] = [np.zeros(0, np.int32)] * len(source)

    def look(part: Int[np.ndarray, "b"]) -> None:
        batch = read(source, part)
        for i, classes, valid in zip(part.tolist(), batch["classes"], batch["valid"], strict=True):
            found[i] = classes[valid]

    in_parts(len(source), look, lambda done, total: None)
    return found
