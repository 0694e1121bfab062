"""What every reader of annotations ends with: both splits as lists of examples, faults refused or counted.

`Collector` gathers; `Collection` is the result. An example is a tuple that names its image file as `image`; what else
it has is a matter between the reader and the source that serves it.
"""

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int, UInt8

from jaxcv.data.io.images import Progress
from jaxcv.data.io.text import held_out, list_names
from jaxcv.types import DataError

SPLITS = ("train", "test")
TEST_NAMES = ("val", "valid", "validation", "test")
"""Names of the split to test on, the preferred first: a set's `test` is often meant for the last word."""
_log = logging.getLogger(__name__)


def split_word(path: Path) -> str:
    """The split that a path speaks of, `train` or one of `TEST_NAMES`; empty where it speaks of none.

    The last part with one such word counts, as in `train2017`, `images_val`, `trainannot`, `training` and `testset`.
    """
    for part in reversed(path.parts):
        words = {*re.findall(f"(?<![a-z])(train|{'|'.join(TEST_NAMES)})(?:ing|set|annot)?(?![a-z])", part.lower())}
        if len(words) == 1:
            return words.pop()
    return ""


class Collection(NamedTuple):
    """Both splits of a set, annotations read."""

    class_names: tuple[str, ...]
    splits: Mapping[str, tuple[Any, ...]]
    """Examples by split."""
    notes: Mapping[str, list[str]]
    """What was dropped, cut or skipped, by split."""


def find_faults(items: Sequence[Any], look: Callable[[Any], object]) -> Iterator[DataError | None]:
    """What `look` finds wrong with each item, in order; two are looked at at once."""
    with ThreadPoolExecutor(2) as pool:
        for start in range(0, len(items), 64):  # whoever stops listening waits for no more than these
            yield from pool.map(partial(_fault, look), items[start : start + 64])


def _fault(look: Callable[[Any], object], item: Any) -> DataError | None:
    try:
        look(item)
    except DataError as error:
        return error


def check_all(items: Sequence[Any], look: Callable[[Any], object], progress: Progress | None = None) -> None:
    """Look at each item. Raises the first DataError, in order."""
    for done, fault in enumerate(find_faults(items, look), 1):
        if fault is not None:
            raise fault
        if progress is not None:
            progress(done, len(items))


class Collector:
    """Examples, faults and notes of both splits while a set is read."""

    def __init__(self, root: Path, *, skip: bool):
        self.root, self.skip = root, skip
        self.examples: dict[str, list[Any]] = {split: [] for split in SPLITS}
        self.faults: dict[str, list[DataError]] = {split: [] for split in SPLITS}
        self._notes: dict[str, dict[str, list[str]]] = {split: {} for split in SPLITS}
        self._said: dict[str, list[str]] = {split: [] for split in SPLITS}

    @contextmanager
    def faults_of(self, split: str) -> Iterator[None]:
        """Keep a DataError when skipping, else let it through."""
        try:
            yield
        except DataError as error:
            if not self.skip:
                raise
            self.faults[split].append(error)

    def count(self, split: str, what: str, where: str, number: int = 1) -> None:
        """Note that `number` times `what` happened in the file `where`."""
        if number:
            self._notes[split].setdefault(what, []).extend([where] * number)

    def say(self, split: str, note: str) -> None:
        """Note a decision about the whole split."""
        self._said[split].append(note)

    def hold_out(self, name: Callable[[Any], str], *, hold_out: bool = True, by: str = "of the name") -> None:
        """Split what was collected for training, when the set has no split of its own.

        A fifth of the names is for testing, by SHA-256: the same on every machine, whatever the order of the files.
        """
        if not hold_out:
            self.examples["test"] = list(self.examples["train"])
            self.say("test", "the training split itself, as asked for")
            return
        chosen = held_out({name(example) for example in self.examples["train"]})
        for example in self.examples["train"]:
            if name(example) in chosen:
                self.examples["test"].append(example)
        self.examples["train"] = [e for e in self.examples["train"] if name(e) not in chosen]
        self.say("test", f"no split of its own: a fifth, by the SHA-256 {by}")

    def finish(self, class_names: Iterable[str], look: Callable[[Any], object]) -> Collection:
        """The collection; when skipping, without the examples that `look` finds faulty.

        Raises:
          DataError: nothing is left of a split.
        """
        for split, examples in self.examples.items():
            faults = self.faults[split]
            if self.skip:
                found = list(find_faults(examples, look))
                faults += [fault for fault in found if fault is not None]
                examples[:] = [example for example, fault in zip(examples, found, strict=True) if fault is None]
            if not examples:
                why = f"{len(faults)} faulty, the first: {faults[0]}" if faults else "none faulty; add some"
                raise DataError(f"no example is left for {split} ({why})", file=self.root)
            if faults:
                message = "%s: %s: %d faulty examples skipped, the first: %s"
                _log.warning(message, self.root, split, len(faults), faults[0])
        splits = {split: tuple(examples) for split, examples in self.examples.items()}
        return Collection(tuple(class_names), splits, {split: self._lines(split) for split in SPLITS})

    def _lines(self, split: str) -> list[str]:
        lines = list(self._said[split])
        for what, where in self._notes[split].items():
            lines.append(f"{len(where):,} {what} ({list_names(list(dict.fromkeys(where)))})")
        if faults := self.faults[split]:
            lines.append(f"{len(faults):,} faulty examples skipped, the first: {faults[0]}")
        return lines


class Kept:
    """Arrays of one shape, made when first asked for: of the first examples as many are kept as may be."""

    def __init__(self, count: int, shape: tuple[int, ...], *, limit: int):
        """`count` examples of `shape` bytes each; `limit`: most bytes kept."""
        count = min(count, limit // int(np.prod(shape)))
        self._kept = np.zeros((count, *shape), np.uint8)  # memory is taken as pages are filled
        self._there = np.zeros(count, np.bool_)

    def read(self, indices: Int[np.ndarray, "b"], make: Callable[[int], np.ndarray]) -> UInt8[np.ndarray, "b ..."]:
        """The arrays at `indices`, made by `make` where they are not there yet; may be called by several threads."""
        found = np.empty((len(indices), *self._kept.shape[1:]), np.uint8)
        for row, i in enumerate(indices.tolist()):
            if i < len(self._kept) and self._there[i]:
                found[row] = self._kept[i]
                continue
            found[row] = make(i)
            if i < len(self._kept):
                self._kept[i] = found[row]
                self._there[i] = True  # after the pixels: another thread may be reading
        return found
