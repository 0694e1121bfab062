"""Any source of examples as batches of fixed shape, in an order that can be left and found again.

A `Source` knows one split of one data set and reads examples by index. A `Dataset` wraps a source and gives batches:
`batches(b, seed=0)` is endless and shuffled, for training; `batches(b)` is one pass in order, for evaluation, its last
batch padded with zeros. Every batch carries `example_valid` [b], False on padding.

Example `i` of epoch `e` is a function of `(seed, e, i)` alone: not of the number of reading threads, nor
of hosts (each host reads its own rows of the same batch). Training batches run across the end of an epoch, so every
one is full. Nothing is read, and `seed` is not looked at, before the first batch is asked for: inside a jit trace it
may be a tracer.
"""

import math
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache, partial
from typing import Any, Literal

import jax
import numpy as np
from jaxtyping import Float, Int

from jaxcv.data.digest import digest
from jaxcv.data.io.images import Progress, read_image
from jaxcv.data.source import BoxedSource, LabelledSource, Source, WindowedSource
from jaxcv.data.sources.border_weights import BorderWeighted
from jaxcv.data.sources.cached_features import CachedFeatures, Extractor
from jaxcv.data.sources.cached_proposals import CachedProposals
from jaxcv.data.sources.joined import Joined, Part
from jaxcv.data.sources.known import describe
from jaxcv.data.sources.orders import Episodes, Identities, Members, Order, Tuples, epoch_rows
from jaxcv.data.sources.region_proposers import PROPOSERS
from jaxcv.data.sources.resident import cores, read, resident
from jaxcv.data.sources.sampling import (
    Sampling,
    epoch_length,
    epoch_order,
    epoch_uniform,
    expected_times,
    sampled_order,
)
from jaxcv.errors import UserError, unknown_name
from jaxcv.ops import kmeans_anchor_boxes
from jaxcv.types import Batch, ImageFile, Placement, Scalar

_SMALL_BATCH = 2**20
"""Bytes up to which a batch is read at once: to put together what each thread read would take longer."""
_ADDED = BorderWeighted | CachedFeatures | CachedProposals
"""Sources that add a field to the examples of another."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """One split of a data set, as an experiment sees it."""

    source: Source
    image_size: int
    """Side of the network's input image, in pixels."""
    mirrors: bool = True
    """Whether the mirror image of an example is still a valid example of its class: not so for digits."""
    ignored: Literal["crowd", "difficult"] = "crowd"
    """What `ignored` boxes are, for `metrics.coco_average_precision`: COCO's crowd, or VOC's difficult."""
    path: str = ""
    """Where the set lies, without links and relative parts; empty where it is embedded, or nobody says."""
    opened: str = ""
    """How the set was opened, as `known.question` writes it; empty: a run cannot be used without its data."""
    split: str = ""
    """Its name, where `opened` is given."""
    own_size: bool = False
    """Whether a person's own pictures are given to the network at their own height and width."""
    shares: tuple[int | float, ...] = ()
    """Of joined sets, the parts of a training epoch, in proportion; empty: what each has of examples."""
    _anchor_boxes: dict[int, np.ndarray] = field(default_factory=dict, repr=False, init=False)
    _featured: dict[Any, "Dataset"] = field(default_factory=dict, repr=False, init=False)

    def __len__(self) -> int:
        return len(self.source)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name of each class index."""
        return self.source.class_names()

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.source.class_names())

    @property
    def swap(self) -> tuple[int, ...] | None:
        """For each point the one that it becomes in the mirror image; None where the set does not say."""
        return getattr(self.source, "swap", None)

    def batches(
        self,
        batch_size: int,
        *,
        seed: Scalar | None = None,
        min_area: Scalar | None = None,
        max_ratio: Scalar = 4 / 3,
        num_threads: int | None = None,
        sampling: Sampling = "uniform",
        rare: Scalar = 0.001,
    ) -> "DatasetBatches":
        """Batches of `batch_size` examples.

        Args:
          batch_size: examples of one batch over all hosts.
          seed: makes the order of a training run: endless and shuffled. None: one pass in order, for evaluation.
          min_area: of class folders, for training: show a random window of each picture, another one in each epoch, cut
            out of the file at full resolution. It has between this fraction of the picture's area and all of it; in
            (0, 1], 0.08 in most papers. None: the whole picture, fitted once and kept in memory.
          max_ratio: the window's width by height is between 1 / max_ratio and this; at least 1.
          num_threads: threads that read ahead; 0 reads when asked, None is one for each core. Batches are the same for
            any number.
          sampling: for training, how often examples are shown: once an epoch (`uniform`), so that all classes are shown
            equally often, or those of rare classes more often; see `jaxcv.data.sources.sampling`.
          rare: the fraction of the examples up to which `repeat_factor` calls a class rare; 0.001 in the paper, for
            1,203 classes.

        Raises:
          UserError: batch_size below 1; windows of a set that has none; windows or a sampling without a seed.
        """
        if batch_size < 1:
            raise UserError(f"batch_size={batch_size}: expected at least 1")
        if min_area is not None and not (isinstance(self.source, WindowedSource) and self.source.has_windows()):
            raise UserError(f"min_area={min_area}: windows are cut out of class folders only; use augment.warp")
        if min_area is not None and seed is None:
            raise UserError(f"min_area={min_area}: windows are for training, and need a seed")
        if sampling != "uniform" and seed is None:
            raise UserError(f"sampling={sampling}: is for training, and needs a seed")
        threads = cores() if num_threads is None else num_threads
        return DatasetBatches(
            self.source, batch_size, seed, threads, min_area, max_ratio, self.path, self.own_size, self.known,
            sampling=sampling, rare=rare, shares=() if seed is None else self.shares,
        )  # fmt: skip

    def subset(self, part: Part) -> "Dataset":
        """A part of this split: so many examples, a fraction of them, or those of these numbers.

        The same ones each time, and those of a smaller part among those of a larger one. Anchor boxes are of the whole.

        Raises:
          UserError: when it is read, more examples than there are.
        """
        return replace(self, source=Joined((self.source,), (part,)), opened="")

    def identity_batches(
        self, batch_size: int, *, pictures: int = 4, grouped: bool = False, seed: Scalar
    ) -> "DatasetBatches":
        """P x K batches for training: `batch_size // pictures` identities, and so many pictures of each.

        Args:
          batch_size: examples of one batch over all hosts: a multiple of `pictures`.
          pictures: of each identity.
          grouped: whether the identities of a batch are of one group: have the same name before a `/`, as the
            characters of an alphabet.
          seed: makes the order.

        Raises:
          UserError: batch_size is no multiple of `pictures`, or holds fewer than two identities.
        """
        if pictures < 1 or batch_size % pictures or batch_size < 2 * pictures:
            raise UserError(
                f"batch_size={batch_size} with {pictures} pictures of each identity: expected a multiple of that, at "
                f"least {2 * max(pictures, 1)}"
            )
        return self._ordered(Identities(self._members, batch_size // pictures, pictures, grouped), batch_size, seed)

    def pair_batches(self, batch_size: int, *, seed: Scalar) -> "DatasetBatches":
        """Pairs for training, in turn of one identity and of two: the rows 2 i and 2 i + 1 belong together.

        Raises:
          UserError: batch_size is no multiple of 2.
        """
        return self._tuples(batch_size, 2, seed)

    def triplet_batches(self, batch_size: int, *, seed: Scalar) -> "DatasetBatches":
        """Random triplets for training: the rows 3 i, 3 i + 1 and 3 i + 2 are anchor, positive and negative.

        Raises:
          UserError: batch_size is no multiple of 3.
        """
        return self._tuples(batch_size, 3, seed)

    def episode_batches(self, *, way: int, shot: int, queries: int = 1, count: int = 20) -> "DatasetBatches":
        """N-way k-shot episodes for evaluation, one a batch; always the same ones.

        A batch holds `shot` pictures of each of `way` identities, sorted by identity, and behind them `queries` others
        of each, likewise. The identities are of one group: have the same name before a `/`. Of drawings, what the
        identities are known by is by other hands than the queries, the same ones for all, as in Omniglot's protocol.

        Args:
          way: identities.
          shot: pictures by which each is known.
          queries: pictures of each to be identified.
          count: episodes.

        Raises:
          UserError: one of the numbers is below 1.
        """
        if min(way, shot, queries, count) < 1:
            raise UserError(f"way={way}, shot={shot}, queries={queries}, count={count}: expected at least 1 of each")
        order = Episodes(self._members, way, shot, queries, count, self._hands)
        return self._ordered(order, way * (shot + queries), None)

    def _tuples(self, batch_size: int, size: int, seed: Scalar) -> "DatasetBatches":
        if batch_size < size or batch_size % size:
            raise UserError(f"batch_size={batch_size}: expected a multiple of {size}")
        return self._ordered(Tuples(self._members, batch_size, size), batch_size, seed)

    def _ordered(self, order: Order, batch_size: int, seed: Scalar | None) -> "DatasetBatches":
        return replace(self.batches(batch_size, seed=seed), order=order)

    def _hands(self) -> Int[np.ndarray, "n"] | None:
        return self.source.hands() if isinstance(self.source, LabelledSource) else None

    def _members(self) -> Members:
        if not isinstance(self.source, LabelledSource):
            raise UserError(f"{type(self.source).__name__} has no classes: identities are of labelled pictures")
        members = Members(self.source.labels(), self.class_names)
        if len(members.present) < 2:
            where = f"{self.path}: " if self.path else ""
            raise UserError(f"{where}{self.class_names[members.present[0]]} is the only identity: expected two or more")
        return members

    def anchor_boxes(self, *, k: int) -> Float[np.ndarray, "k 2"]:
        """Width and height of the `k` boxes that stand best for this split's boxes, in pixels.

        Computed once per `k`, on concrete numbers also when called inside a jit trace.
        """
        if k not in self._anchor_boxes:
            sizes = self.source.box_sizes() if isinstance(self.source, BoxedSource) else np.zeros((0, 2), np.float32)
            with ThreadPoolExecutor(1) as pool:  # another thread is inside no trace, so this is one compiled program
                self._anchor_boxes[k] = np.asarray(pool.submit(kmeans_anchor_boxes, sizes, k=k).result(), np.float32)
        return self._anchor_boxes[k]

    def with_features(self, extract: Extractor) -> "Dataset":
        """This split with a field `features`, what `extract` makes of each image: computed once and kept in memory.

        The same extractor gives the same object, so the trials of a sweep share the work.

        Args:
          extract: a frozen network, see `jaxcv.weights.extractor`; feed the trained part with `inputs=("features",)`.
        """
        if extract not in self._featured:
            self._featured[extract] = replace(self, source=CachedFeatures(self.source, extract))
        return self._featured[extract]

    def known(self) -> dict[str, Any]:
        """What a run keeps of this split, to be used without it; see `jaxcv.data.sources.known`. Raises DataError."""
        source = self.source.source if isinstance(self.source, _ADDED) else self.source
        return describe(source, self._anchor_boxes, self.opened, self.split)

    def with_proposals(self, kind: str, *, count: int) -> "Dataset":
        """This split with a field `proposals` [b count 4], boxes that may hold an object: computed once, kept on disk.

        Args:
          kind: `components` or `selective_search`; see `jaxcv.data.sources.region_proposers`.
          count: proposals of a picture, the best; rows of zeros where there are fewer.

        Raises:
          UserError: no such kind.
        """
        if kind not in PROPOSERS:
            raise UserError(unknown_name("proposals", kind, list(PROPOSERS)))
        if (key := (kind, count)) not in self._featured:
            source = CachedProposals(self.source, kind, count, partial(digest, self.source))
            self._featured[key] = replace(self, source=source)
        return self._featured[key]

    def with_border_weights(self, factor: float, *, sigma: float = 5.0) -> "Dataset":
        """This split with a field `pixel_weights` [b h w] that balances classes and favours borders between cells.

        Args:
          factor: of the second term, 10 in the paper; see `jaxcv.data.sources.border_weights`.
          sigma: in pixels, above 0.
        """
        if (key := (factor, sigma)) not in self._featured:
            self._featured[key] = replace(self, source=BorderWeighted(self.source, factor, sigma))
        return self._featured[key]

    def describe(self) -> list[str]:
        """What the split holds, one line a finding; reads annotations, no images."""
        return self.source.check(thorough=False)


def join(*splits: Dataset, shares: tuple[int | float, ...] = ()) -> Dataset:
    """Several splits one after another as one; classes of one name are one class.

    Args:
      splits: of one image size, and of the same fields. What `ignored` boxes are, and how a person's own picture is
        fitted, is as of the first.
      shares: in what proportion each is shown while training, such as (0.7, 0.3); empty: each example equally often.

    Raises:
      UserError: shares that are not above 0 and one for each; when they are read, splits that do not fit together.
    """
    if not splits or (shares and (len(shares) != len(splits) or min(shares) <= 0)):
        raise UserError(f"shares={shares} of {len(splits)} sets: expected one above 0 for each")
    if len(splits) == 1:
        return splits[0]
    return replace(
        splits[0],
        source=Joined(tuple(split.source for split in splits), (None,) * len(splits)),
        mirrors=all(split.mirrors for split in splits),
        path=" + ".join(split.path for split in splits if split.path),
        opened="",
        shares=shares,
    )


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
        """Parts of a batch that threads read: each example on its own, or of small ones the whole batch at once."""
        rows = -(-self.batch_size // jax.process_count())
        return rows if rows * self._example_bytes > _SMALL_BATCH else 1

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
        epochs, indices, places = (np.array_split(rows[0], parts)[part] for rows in found)
        if self.min_area is None or self.seed is None or not isinstance(self.source, WindowedSource):
            return self._pad(read(self.source, indices[indices >= 0]) if (indices >= 0).any() else {}, len(indices))
        options, uniform = _window_options(float(self.min_area), float(self.max_ratio)), np.empty((len(indices), 4))
        for epoch in np.unique(epochs).tolist():
            here = epochs == epoch
            # Of examples shown more than once in an epoch, each time another window.
            uniform[here] = epoch_uniform(self._epoch, seed=int(self.seed), epoch=epoch)[places[here]]
        return self._pad(self.source.read_windows(indices, uniform, **options), len(indices))

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
        import grain  # not by a thread that reads: while it is loaded, the imports of other threads may go astray

        self._grain: Any = grain
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
            grain = self._grain
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
