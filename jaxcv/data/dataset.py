"""One split of a data set, as an experiment sees it: a `Source` from which it makes batches of many kinds."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int

from jaxcv.data.batches import DatasetBatches
from jaxcv.data.io.workers import wanted
from jaxcv.data.source import BoxedSource, LabelledSource, Source, WindowedSource
from jaxcv.data.sources.border_weights import BorderWeighted
from jaxcv.data.sources.cached_features import CachedFeatures, Extractor
from jaxcv.data.sources.cached_proposals import CachedProposals
from jaxcv.data.sources.digest import digest
from jaxcv.data.sources.extended import Extended
from jaxcv.data.sources.joined import Joined, Part
from jaxcv.data.sources.known import describe
from jaxcv.data.sources.orders import Episodes, Identities, Members, Order, Tuples
from jaxcv.data.sources.region_proposers import PROPOSERS
from jaxcv.data.sources.resident import cores
from jaxcv.data.sources.sampling import Sampling
from jaxcv.errors import UserError, unknown_name
from jaxcv.ops import kmeans_anchor_boxes
from jaxcv.types import Scalar


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
        workers: int | None = None,
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
          workers: processes that decode pictures, see `jaxcv.data.io.workers`, for more than about three cores; None is
            JAXCV_WORKERS, which `--workers` sets, else 0. Batches are the same for any number.
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
        workers = wanted() if workers is None else workers
        threads = max(cores(), 1 + workers) if num_threads is None else num_threads
        return DatasetBatches(
            self.source, batch_size, seed, threads, min_area, max_ratio, self.path, self.own_size, self.known,
            sampling=sampling, rare=rare, shares=() if seed is None else self.shares, workers=workers,
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
        source = self.source.source if isinstance(self.source, Extended) else self.source
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

        Raises:
          UserError: there are more classes than background and cells, or a number is not above 0.
        """
        key = factor, sigma = float(factor), float(sigma)
        if not (factor > 0 and sigma > 0):
            raise UserError(f"border weights of factor {factor:g} and sigma {sigma:g}: expected both above 0")
        if self.num_classes != 2:
            raise UserError(f"border weights: expected two classes, background and cells, found {self.num_classes}")
        if key not in self._featured:
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
