"""Several sources one after another as one, or parts of them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int

from jaxcv.data.io.images import Progress
from jaxcv.data.raw.outlines import IGNORE
from jaxcv.data.source import BoxedSource, LabelledSource, Source, WindowedSource
from jaxcv.data.sources.resident import read
from jaxcv.data.sources.sampling import epoch_order, present_classes
from jaxcv.errors import UserError
from jaxcv.types import Batch, ImageFile, Placement

Part = int | float | Int[np.ndarray, "n"]
"""Of a set: so many examples, a fraction of them, or those of these numbers."""


@dataclass(frozen=True, eq=False)
class Joined:
    """The examples of several sources, or of a part of each. Classes of one name are one class.

    Which examples a number or a fraction takes is always the same, and those of a smaller one are among those of a
    larger one.
    """

    sources: tuple[Source, ...]
    parts: tuple[Part | None, ...]
    """Of each source; None: all."""

    @cached_property
    def _rows(self) -> tuple[Int[np.ndarray, "n"], Int[np.ndarray, "n"]]:
        """Of each example, which source it is of, and its number there."""
        rows = [_chosen(len(source), part) for source, part in zip(self.sources, self.parts, strict=True)]
        return np.repeat(np.arange(len(rows)), [len(each) for each in rows]), np.concatenate(rows)

    def __len__(self) -> int:
        return len(self._rows[0])

    def set_numbers(self) -> Int[np.ndarray, "n"]:
        """Which source each example is of; of a part of joined sources, which of these."""
        if len(self.sources) == 1 and isinstance(self.sources[0], Joined):
            return self.sources[0].set_numbers()[self._rows[1]]
        return self._rows[0]

    @cached_property
    def _names(self) -> tuple[str, ...]:
        named = [source.class_names() for source in self.sources]
        if not all(named) and any(named):
            raise UserError("sets with and without names of classes cannot be joined")
        return tuple(dict.fromkeys(name for names in named for name in names))

    def class_names(self) -> tuple[str, ...]:
        """Name of each class index: those of the first source, then what the others have besides."""
        return self._names

    @cached_property
    def _numbers(self) -> list[Int[np.ndarray, "k"]]:
        """For each class index of each source, the one here."""
        index = {name: i for i, name in enumerate(self._names)}
        return [np.array([index[n] for n in source.class_names()], np.int32) for source in self.sources]

    def found(self) -> Any:
        """What the sources found, and which examples are taken; see `jaxcv.data.sources.digest`."""
        return (*self.sources, self._rows)

    @property
    def swap(self) -> tuple[int, ...] | None:
        """For each point the one that it becomes in the mirror image; None where the sources do not agree."""
        swaps = {getattr(source, "swap", None) for source in self.sources}
        return swaps.pop() if len(swaps) == 1 else None

    @cached_property
    def _spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        first, *others = specs = [dict(source.spec()) for source in self.sources]
        for other in others:
            if other.keys() != first.keys():
                raise UserError(f"sets of {', '.join(first)} and of {', '.join(other)} cannot be joined")
        spec = {}
        for name, field in first.items():
            shapes = {each[name].shape for each in specs}
            rooms = name in ("boxes", "classes", "valid", "ignored")
            if len({shape[1:] if rooms else shape for shape in shapes}) > 1:
                raise UserError(f"sets whose {name} are {' and '.join(map(str, sorted(shapes)))} cannot be joined")
            spec[name] = jax.ShapeDtypeStruct(max(shapes), field.dtype)
        return spec

    def spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        """The fields of the sources, with as much room for boxes as any of them has."""
        return self._spec

    def read(self, indices: Int[np.ndarray, "b"]) -> Batch:
        """The examples at `indices`."""
        return self._read(indices, lambda source, rows, here: read(source, rows))

    def has_windows(self) -> bool:
        """Whether all sources have."""
        return all(isinstance(source, WindowedSource) and source.has_windows() for source in self.sources)

    def read_windows(
        self, indices: Int[np.ndarray, "b"], uniform: Float[np.ndarray, "b 4"], *, min_area: float, max_ratio: float
    ) -> Batch:
        """The examples at `indices`, of each a window that its row of `uniform` chooses."""
        how = {"min_area": min_area, "max_ratio": max_ratio}
        return self._read(indices, lambda source, rows, here: source.read_windows(rows, uniform[here], **how))

    def _read(self, indices: Int[np.ndarray, "b"], take: Callable[[Any, np.ndarray, np.ndarray], Batch]) -> Batch:
        """`take` gives the examples of one source, of rows `here` of the batch."""
        if len(self.sources) == 1:
            return take(self.sources[0], self._rows[1][indices], np.arange(len(indices)))
        which, rows = (each[indices] for each in self._rows)
        batch: Batch = {name: np.zeros((len(rows), *field.shape), field.dtype) for name, field in self._spec.items()}
        batch["example_valid"] = np.ones(len(rows), np.bool_)
        for number in np.unique(which).tolist():
            here = np.flatnonzero(which == number)
            for name, values in self._renamed(take(self.sources[number], rows[here], here), number).items():
                batch[name][here, *map(slice, values.shape[1:])] = values
        return batch

    def _renamed(self, batch: Batch, number: int) -> Batch:
        """Class indices of a source as those here."""
        to = self._numbers[number]
        if not len(to):
            return batch
        named = {name: to[batch[name]] for name in ("label", "classes") if name in batch}
        if "mask" in batch:
            table = np.full(IGNORE + 1, IGNORE, np.uint8)
            table[: len(to)] = to
            named["mask"] = table[batch["mask"]]
        return {**batch, **named}

    def labels(self) -> Int[np.ndarray, "n"]:
        """The class index of each example."""
        return self._of_each(lambda source: source.labels(), LabelledSource, rename=True)

    def hands(self) -> Int[np.ndarray, "n"] | None:
        """Whose drawing each example is; None where a source does not say."""
        known = [source.hands() if isinstance(source, LabelledSource) else None for source in self.sources]
        return None if any(each is None for each in known) else self._of_each(lambda source: source.hands())

    def _of_each(self, ask: Callable[[Any], Any], kind: Any = Source, *, rename: bool = False) -> np.ndarray:
        """What sources of a kind say of all their examples, for those that are taken."""
        found = []
        for number, source in enumerate(self.sources):
            if not isinstance(source, kind):
                raise UserError(f"{type(source).__name__} has no classes: what is asked for is of labelled pictures")
            said = np.asarray(ask(source))
            to = self._numbers[number]
            found.append((to[said] if rename and len(to) else said)[self._rows[1][self._rows[0] == number]])
        return np.concatenate(found)

    def present(self) -> tuple[Int[np.ndarray, "m"], Int[np.ndarray, "m"]]:
        """Examples and the classes that each shows, see `sampling.present_classes`."""
        found = []
        for number, source in enumerate(self.sources):
            examples, classes = present_classes(source)
            here, to = np.flatnonzero(self._rows[0] == number), self._numbers[number]
            start, end = (np.searchsorted(examples, self._rows[1][here], side) for side in ("left", "right"))
            size = end - start
            pairs = np.repeat(end - np.cumsum(size), size) + np.arange(size.sum())
            found.append((np.repeat(here, size), to[classes[pairs]] if len(to) else classes[pairs]))
        examples, classes = zip(*found, strict=True)
        return np.concatenate(examples), np.concatenate(classes)

    def box_sizes(self) -> Float[np.ndarray, "n 2"]:
        """Those of the sources, of parts too."""
        sizes = [source.box_sizes() for source in self.sources if isinstance(source, BoxedSource)]
        return np.concatenate([np.zeros((0, 2), np.float32), *sizes])

    def check(self, *, thorough: bool = False, progress: Progress | None = None) -> list[str]:
        """Checks the sources."""
        lines = [line for source in self.sources for line in source.check(thorough=thorough, progress=progress)]
        counts = np.bincount(self._rows[0]).tolist()
        taken = " and ".join(f"{n:,} of {len(s):,}" for n, s in zip(counts, self.sources, strict=True))
        return [*lines, f"{taken} examples are taken"] if any(p is not None for p in self.parts) else lines

    def read_image(self, path: ImageFile) -> tuple[np.ndarray, Placement]:
        """One file as the first source fits it, and where that lies in the file."""
        return self.sources[0].read_image(path)


def _chosen(count: int, part: Part | None) -> Int[np.ndarray, "n"]:
    """The numbers of the examples that a part of so many has."""
    if part is None:
        return np.arange(count)
    if isinstance(part, np.ndarray):
        if not len(part) or part.min() < 0 or part.max() >= count:
            raise UserError(f"a part of a set of {count:,} examples: expected numbers from 0 to {count - 1:,}")
        return part
    wanted = max(1, round(part * count)) if isinstance(part, float) else part
    if not 0 < part or wanted > count:
        raise UserError(
            f"a part of {part:g} of {count:,} examples: expected 1 to {count:,} of them, or a fraction of at most 1"
        )
    return np.sort(epoch_order(count, seed=0, epoch=0)[:wanted])
