"""Examples of a source as batches of fixed shape, in an order that can be left and found again.

`seed` given, they are endless and shuffled, for training; without, one pass in order, for evaluation, the last batch
padded with zeros. Every batch carries `example_valid` [b], False on padding.

Example `i` of epoch `e` is a function of `(seed, e, i)` alone: not of the number of reading threads, nor
of hosts (each host reads its own rows of the same batch). Training batches run across the end of an epoch, so every
one is full. Nothing is read, and `seed` is not looked at, before the first batch is asked for: inside a jit trace it
may be a tracer.
"""

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from typing import Any

import jax
import numpy as np
from jaxtyping import Int

from jaxcv.data.io import workers
from jaxcv.data.io.images import Progress, read_image
from jaxcv.data.source import Source
from jaxcv.data.sources.cached_features import CachedFeatures
from jaxcv.data.sources.cached_proposals import CachedProposals
from jaxcv.data.sources.digest import digest
from jaxcv.data.sources.orders import Order, epoch_rows
from jaxcv.data.sources.resident import read, resident
from jaxcv.data.sources.sampling import (
    Sampling,
    epoch_length,
    epoch_order,
    epoch_uniform,
    expected_times,
    sampled_order,
)
from jaxcv.errors import UserError
from jaxcv.types import Batch, ImageFile, Placement, Scalar

_PART = 2**20
"""Bytes of examples that a thread reads at once, or one example: Python's work for each part is not less for few."""


@dataclass(frozen=True, eq=False)
class DatasetBatches:
    """The `Batches` protocol over a source; made by `Dataset.batches`."""

    source: Source
    batch_size: int
    seed: Scalar | None
    num_threads: int
    min_area: Scalar | None = None
    max_ratio: Scalar = 4 / 3
    path: str = ""
    own_size: bool = False
    known: Callable[[], dict[str, Any]] | None = None
    """What a run keeps of the split; see `Dataset.known`."""
    order: Order | None = None
    """Which examples meet in a batch; None: as they come."""
    sampling: Sampling = "uniform"
    rare: Scalar = 0.001
    shares: tuple[int | float, ...] = ()
    workers: int = 0
    """Processes that decode pictures."""

    def digest(self) -> str:
        """Of what the scan found; see `jaxcv.types.Batches.digest`."""
        return digest(self.source)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name of each class index."""
        return self.source.class_names()

    @property
    def spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Shape and dtype of every field of a batch, over all hosts."""
        fields = {**self.source.spec(), "example_valid": jax.ShapeDtypeStruct((), np.bool_)}
        return {k: jax.ShapeDtypeStruct((self.batch_size, *v.shape), v.dtype) for k, v in fields.items()}

    def __len__(self) -> int:
        if self.order is not None:
            return self.order.length(len(self.source))
        return math.ceil(self._epoch / self.batch_size)

    @property
    def _drawn(self) -> tuple[Any, Sampling, float, tuple[int | float, ...]] | None:
        """What says how often examples are shown; None: each once."""
        if self.sampling == "uniform" and not self.shares:
            return None
        return self.source, self.sampling, float(self.rare), self.shares

    @property
    def _epoch(self) -> int:
        """Examples in an epoch."""
        return len(self.source) if self._drawn is None else epoch_length(expected_times(*self._drawn)[0])

    def __iter__(self) -> "PositionedIterator":
        return PositionedIterator(self)

    def batch(self, index: int) -> Batch:
        """Batch number `index` alone, of all hosts: equal to what iteration gives on one."""
        return self._read(index, whole=True)

    @property
    def num_examples(self) -> int:
        """Examples of the split."""
        return len(self.source)

    def indices(self, numbers: Int[np.ndarray, "k"]) -> Int[np.ndarray, "k b"]:
        """The rows of batches by their numbers; see `jaxcv.types.ResidentBatches.indices`."""
        return self._rows(numbers, whole=True)[1]

    def resident_bytes(self) -> int | None:
        """Bytes of all examples; None where each epoch shows another window of a picture."""
        return len(self.source) * self._example_bytes if self.min_area is None else None

    def resident(self, progress: Progress | None = None) -> Batch:
        """All examples as arrays, read once; see `jaxcv.types.ResidentBatches.resident`."""
        workers.start(self.workers)
        return resident(self.source, progress)

    def check(self, *, thorough: bool = False, progress: Progress | None = None) -> list[str]:
        """Look for faults before the first step; see `jaxcv.types.Batches.check`."""
        lines = self.source.check(thorough=thorough, progress=progress)
        if self.order is not None:
            epoch_rows(self.order, len(self), seed=int(self.seed or 0), epoch=0)
        if self._drawn is not None:
            times = expected_times(*self._drawn)[0]
            shown = f"an example {times.min():.3g} to {times.max():.3g} times in an epoch of {self._epoch:,}"
            lines.append(f"sampling: {shown}")
        return lines

    def prepare(self, progress: Progress | None = None) -> None:
        """What must be computed once before the first batch; see `jaxcv.types.Batches.prepare`."""
        if isinstance(self.source, CachedFeatures):
            self.source.features(progress)
        if isinstance(self.source, CachedProposals):
            self.source.proposals(progress)

    def fields_of(self, image: np.ndarray) -> Batch:
        """A batch of one that a model can be fed, from an image of `read_image`."""
        nothing = {name: np.zeros((1, *v.shape), v.dtype) for name, v in self.source.spec().items()}
        fields = {**nothing, "image": image[None]}  # a detector that is fed its targets in training gets none
        if isinstance(self.source, CachedFeatures):
            fields["features"] = np.asarray(self.source.extract(fields["image"]))
        if isinstance(self.source, CachedProposals):
            fields["proposals"] = self.source.propose(image)[None]
        return fields

    def read_image(self, path: ImageFile) -> tuple[np.ndarray, Placement]:
        """One file as the model is fed it, and where that lies in the file."""
        if self.own_size:
            pixels = read_image(path, channels=self.spec["image"].shape[-1])
            return pixels, Placement(pixels.shape[1::-1])
        return self.source.read_image(path)

    @property
    def _example_bytes(self) -> int:
        return sum(math.prod(v.shape[1:]) * np.dtype(v.dtype).itemsize for v in self.spec.values())

    @cached_property
    def _parts(self) -> int:
        """Parts of a batch that threads read."""
        return -(-self.batch_size // jax.process_count() // max(1, _PART // self._example_bytes))

    @cached_property
    def _order_of(self) -> Callable[[int], np.ndarray]:
        """The examples of an epoch in their order. The last two are kept, by each of many runs side by side its own."""
        seed, drawn = int(self.seed or 0), self._drawn
        draw = partial(epoch_order, self._epoch) if drawn is None else partial(sampled_order, *drawn)
        return lru_cache(maxsize=2)(lambda epoch: draw(seed=seed, epoch=epoch))

    def _rows(self, numbers: Int[np.ndarray, "k"], *, whole: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Epoch, example, and place in the epoch of each of this process's rows of batches, or of all [k b].

        The example is -1 where there is none. An evaluation's batches need not divide: the last processes then have
        fewer examples.
        """
        hosts, host = (1, 0) if whole else (jax.process_count(), jax.process_index())
        if self.seed is not None and self.batch_size % hosts:
            raise UserError(f"batch_size={self.batch_size} cannot be divided among {hosts} processes")
        count, size = -(-self.batch_size // hosts), self._epoch
        mine = host * count + np.arange(count)
        real = mine < self.batch_size
        if self.order is not None:
            epochs, positions = np.divmod(numbers, len(self))
            how, seed = (self.order, len(self)), int(self.seed or 0)
            found = [epoch_rows(*how, seed=seed, epoch=e)[p] for e, p in np.stack([epochs, positions], 1).tolist()]
            rows = np.where(real, np.stack(found)[:, np.minimum(mine, self.batch_size - 1)], -1)
            return np.broadcast_to(epochs[:, None], rows.shape), rows, rows
        positions = numbers[:, None] * self.batch_size + mine
        if self.seed is None:
            return np.zeros_like(positions), np.where((positions < size) & real, positions, -1), positions
        epochs, positions = np.divmod(positions, size)
        indices = np.empty_like(positions)
        for epoch in np.unique(epochs).tolist():
            here = epochs == epoch
            indices[here] = self._order_of(epoch)[positions[here]]
        return epochs, indices, indices if self._drawn is None else positions

    def _read(self, number: int, part: int = 0, parts: int = 1, *, whole: bool = False) -> Batch:
        """One of the equal parts of this process's rows of a batch, or of all its rows."""
        found = self._rows(np.array([number]), whole=whole)
        size = len(found[0][0])
        epochs, indices, places = (rows[0, size * part // parts : size * (part + 1) // parts] for rows in found)
        if self.min_area is None or self.seed is None:
            return self._pad(read(self.source, indices[indices >= 0]) if (indices >= 0).any() else {}, len(indices))
        options, uniform = _window_options(float(self.min_area), float(self.max_ratio)), np.empty((len(indices), 4))
        for epoch in np.unique(epochs).tolist():
            here = epochs == epoch
            # Of examples shown more than once in an epoch, each time another window.
            uniform[here] = epoch_uniform(self._epoch, seed=int(self.seed), epoch=epoch)[places[here]]
        source: Any = self.source  # which `Dataset.batches` has asked for its windows
        return self._pad(source.read_windows(indices, uniform, **options), len(indices))

    def _pad(self, batch: Batch, rows: int) -> Batch:
        """The batch filled with zeros up to `rows`, and `example_valid`."""
        count = len(next(iter(batch.values()), ()))
        batch = {"example_valid": np.ones(count, np.bool_), **batch}
        if count == rows:
            return batch
        padded = {name: np.zeros((rows, *field.shape[1:]), field.dtype) for name, field in self.spec.items()}
        for name, values in batch.items():
            padded[name][:count] = values
        return padded


def _window_options(min_area: float, max_ratio: float) -> dict[str, float]:
    if not 0 < min_area <= 1:
        raise UserError(f"min_area={min_area:g}: expected a fraction of the picture, above 0 and up to 1")
    if not 1 <= max_ratio < math.inf:
        raise UserError(f"max_ratio={max_ratio:g}: expected at least 1")
    return {"min_area": min_area, "max_ratio": max_ratio}


class PositionedIterator:
    """Batches read ahead by threads; the position is the number of batches handed out."""

    def __init__(self, batches: DatasetBatches):
        self._batches, self._position, self._reader = batches, 0, None

    def __iter__(self) -> "PositionedIterator":
        return self

    def __next__(self) -> Batch:
        try:
            batch = self._next()
        except BaseException:  # the end, a DataError, Ctrl-C: stay at this batch, leave no thread behind
            self.close()
            raise
        self._position += 1
        return batch

    def _next(self) -> Batch:
        batches, count, threads = self._batches, self._batches._parts, self._batches.num_threads
        if self._reader is None:
            import grain  # see `jaxcv.train.feed.Streamed`

            workers.start(batches.workers)
            numbers = grain.MapDataset.range(len(batches) * count if batches.seed is None else sys.maxsize)
            parts = numbers.map(lambda number: batches._read(number // count, number % count, count))
            options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=max(2 * threads, count))
            self._reader = iter(parts.to_iter_dataset(options))
            self._reader.set_state({"next_index": self._position * count})
        read = [next(self._reader) for _ in range(count)]
        return read[0] if len(read) == 1 else {k: np.concatenate([part[k] for part in read]) for k in read[0]}

    def get_state(self) -> dict[str, Any]:
        """The position: JSON-serialisable."""
        return {"next_batch": self._position, "examples": len(self._batches.source)}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go to a position that `get_state` gave.

        Raises:
          UserError: the set has another number of examples than when the position was taken.
        """
        if state["examples"] != len(self._batches.source):
            raise UserError(
                f"the stored position belongs to a set of {state['examples']:,} examples, this one has "
                f"{len(self._batches.source):,}: restore the data, or start again with --fresh"
            )
        self.close()
        self._position = int(state["next_batch"])

    def close(self) -> None:
        """Stop reading ahead. Asking for the next batch starts again from here."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None
