"""Image files and what their annotations say, as a `Source`: what every format becomes once it is scanned.

What is shown of a file depends on the task, unless `resize` says it (see `io.crops.RESIZES`). With boxes, all of it in
its proportions, between black borders. With a mask, all of it, squashed: images by mixing pixels, masks by taking the
nearest. With a label, its middle: the centre square of the shorter side for training, of 0.875 of it for testing. With
points, the square around their object, black beyond the picture. What lies outside a region has no class; a box of
which less than 0.3 is left is ignored.
Points are continuous, like the edges of boxes: the middle of the first pixel is (0.5, 0.5).

What was read is kept, of as many examples as there is room for (see `io.memory`), those that come first in the split;
of all once the set is to live on the device.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int, UInt8

from jaxcv.data.example import Example, LabelledFiles, Scan, Task, check_all, check_example, check_size, read_labels
from jaxcv.data.io.crops import RESIZES, Region, Resize, Size, fit_file, middle, window
from jaxcv.data.io.images import Progress, to_image
from jaxcv.data.io.kept import KeptScan
from jaxcv.data.io.memory import take
from jaxcv.data.io.text import list_counts, list_names
from jaxcv.data.io.workers import read_regions
from jaxcv.data.raw.outlines import IGNORE
from jaxcv.data.source import LABEL, box_fields, make_spec
from jaxcv.data.sources.resident import in_parts
from jaxcv.types import Batch, ImageFile, Placement

TEST_FRACTION = 0.875
"""Of the shorter side of a labelled test picture: 224 of 256 pixels, as in many papers."""


class Kept:
    """Arrays of one shape, made when first asked for: of the first examples as many are kept as may be."""

    def __init__(self, count: int, shape: tuple[int, ...], *, all_of_them: bool = False):
        """`count` examples of `shape` bytes each; all, or as many as there is room for, are kept."""
        self._total, count = count, count if all_of_them else take(self, count, math.prod(shape))
        self._kept = np.zeros((count, *shape), np.uint8)  # memory is taken as pages are filled
        self._there = np.zeros(count, np.bool_)

    def with_room_for_all(self) -> "Kept":
        """One that keeps every example, with what is there; itself if it does so already."""
        if (count := len(self._kept)) == self._total:
            return self
        shape = self._kept.shape[1:]
        every = Kept(self._total, shape, all_of_them=True)
        every._there[:count] = self._there  # before the pixels: another thread may be reading
        every._kept[:count] = self._kept
        return every

    def all(self, make: Callable[[np.ndarray], np.ndarray], progress: Progress) -> UInt8[np.ndarray, "n ..."]:
        """The arrays of all examples, made by all cores: itself, not a copy. There must be room for all."""
        in_parts(self._total, lambda part: self.read(part, make), progress)
        return self._kept

    def read(
        self, indices: Int[np.ndarray, "b"], make: Callable[[Int[np.ndarray, "k"]], np.ndarray]
    ) -> UInt8[np.ndarray, "b ..."]:
        """The arrays at `indices`, made by `make` where they are not there yet; may be called by several threads."""
        found = np.empty((len(indices), *self._kept.shape[1:]), np.uint8)
        kept = indices < len(self._kept)
        there = kept.copy()
        there[kept] = self._there[indices[kept]]
        found[there] = self._kept[indices[there]]
        if not there.all():
            found[~there] = make(indices[~there])
            new = kept & ~there
            self._kept[indices[new]] = found[new]
            self._there[indices[new]] = True  # after the pixels: another thread may be reading
        return found


MIN_VISIBLE = 0.3
"""Of a box's area, what a region must show; see `augment.detection`."""
USUAL: dict[Task, Resize] = {"label": "shortest", "boxes": "letterbox", "mask": "squash", "points": "letterbox"}
"""How pictures become square, where nobody says."""


def _given(region: Region, size: Size) -> Region:
    """This one, whatever the size of the picture."""
    return region


def cut_out(mask: Any, region: Region, *, size: int) -> UInt8[np.ndarray, "s s"]:
    """A region of a mask [h w] as one of `size` by `size`, by the nearest pixel; void beyond the picture."""
    left, top, width, height = region
    shown = to_image(IGNORE - mask).crop(
        (left, top, left + width, top + height)
    )  # beyond the picture it is filled with 0
    return IGNORE - np.asarray(shown.resize((size, size), 0))


def place(batch: Batch, row: int, example: Example, region: Region, image_size: int) -> None:
    """Write what an annotation says into a row of zeros, in pixels of a region that is resized to a square."""
    left, top, width, height = region
    scale = np.array([image_size / width, image_size / height], np.float32)
    if "label" in batch:
        batch["label"][row] = example.label
    if "boxes" in batch:
        moved = (example.boxes - np.array([left, top] * 2, np.float32)) * np.tile(scale, 2)
        boxes = moved.clip(0, image_size)
        before, after = ((box[:, 2:] - box[:, :2]).prod(1) for box in (moved, boxes))
        seen, kept = after > 0, after >= MIN_VISIBLE * before
        n, ignored = int(seen.sum()), (example.ignored | ~kept)[seen]
        batch["boxes"][row, :n] = boxes[seen]
        batch["classes"][row, :n] = example.classes[seen]
        batch["valid"][row, :n] = ~ignored
        batch["ignored"][row, :n] = ignored
    if "points" in batch:
        points = (example.points - np.array([left, top], np.float32)) * scale
        batch["points"][row] = np.where(example.visible[:, None], points, 0)
        batch["visible"][row] = example.visible


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """One split of a scan; `scan` reads the annotations and caches for itself."""

    split: str
    image_size: int
    channels: int
    task: Task
    scan: Callable[[], Scan]
    test_fraction: float = TEST_FRACTION
    """Of the shorter side of a labelled test picture."""
    inverted: bool = False
    """Whether dark becomes light."""
    white: int | float | None = None
    """The value that is white in files of more than 8 bits; None: that of their type."""
    resize: Resize | None = None
    """How a picture becomes a square; None: as of the module."""

    def __len__(self) -> int:
        return len(self._examples)

    @property
    def _examples(self) -> Sequence[Example]:
        return self.scan().splits[self.split]

    def class_names(self) -> tuple[str, ...]:
        """Name of each class index."""
        return self.scan().class_names

    def labels(self) -> Int[np.ndarray, "n"]:
        """The class index of each example."""
        examples = self._examples
        if isinstance(examples, LabelledFiles):
            return examples.labels
        return np.array([example.label for example in examples], np.int32)

    def box_classes(self) -> list[Int[np.ndarray, "k"]]:
        """The classes of the boxes that count, of each example."""
        return [example.classes[~example.ignored] for example in self._examples]

    def hands(self) -> Int[np.ndarray, "n"] | None:
        """Of drawings named NNNN_MM, whose they are: MM; None for other pictures."""
        if not self.inverted:
            return None
        return np.array([int(Path(str(e.image)).stem.rpartition("_")[2]) for e in self._examples])

    @property
    def swap(self) -> tuple[int, ...] | None:
        """For each point the one that it becomes in the mirror image; None where the files do not say."""
        return self.scan().swap

    def found(self) -> Any:
        """What the scan found, for a digest; see `jaxcv.data.sources.digest`."""
        examples = self._examples
        if isinstance(examples, LabelledFiles):
            return self.class_names(), [Path(file) for file in examples.files], examples.labels
        return self.class_names(), list(examples)

    @property
    def kept(self) -> KeptScan | None:
        """Where more can be kept with the scan, if that is kept."""
        return self.scan().kept

    @cached_property
    def _room(self) -> int:
        """Most boxes or points of one image in any split, at least 1."""
        every = [example for examples in self.scan().splits.values() for example in examples]
        return max(1, *(max(len(example.boxes), len(example.points)) for example in every))

    def spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        """One example: `image` uint8 [s s c], and the fields of the task."""
        return self._spec

    @cached_property
    def _spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        size, fields = self.image_size, {}
        if self.task == "label":
            fields = LABEL
        elif self.task == "mask":
            fields = {"mask": ((size, size), np.uint8)}
        elif self.task == "boxes":
            fields = box_fields(self._room)
        elif self.task == "points":
            fields = {"points": ((self._room, 2), np.float32), "visible": ((self._room,), np.bool_)}
        return make_spec(size, self.channels, **fields)

    def _region(self, example: Example | None) -> Callable[[Size], Region]:
        """What is shown of an example, or of a person's own file."""
        if self.task == "points" and example is not None:
            return partial(_given, example.region)
        resize = self.resize or USUAL[self.task]
        if self.task == "label" and resize == "shortest":
            fraction = self.test_fraction if self.split == "test" else 1.0
            return partial(middle, at_least=self.image_size, fraction=fraction)
        return RESIZES[resize]

    @cached_property
    def _kept(self) -> Kept:
        pixels = self.image_size**2 * (self.channels + (self.task == "mask"))
        return Kept(len(self), (pixels,))

    def _decode(self, indices: Int[np.ndarray, "b"]) -> UInt8[np.ndarray, "b p"]:
        """The pixels of the images, and behind them those of the masks."""
        examples = [self._examples[i] for i in indices.tolist()]
        regions = [self._region(example) for example in examples]
        pixels, sizes = self._read([example.image for example in examples], regions)
        for example, size in zip(examples, sizes, strict=True):
            check_size(example, size)
        if self.task != "mask":
            return pixels
        found = zip(examples, regions, sizes, strict=True)
        masks = [
            cut_out(read_labels(example, size), region(size), size=self.image_size) for example, region, size in found
        ]
        return np.concatenate([pixels, np.stack(masks).reshape(len(masks), -1)], 1)

    def _read(
        self, files: Sequence[str | Path], regions: list[Callable[[Size], Region]], **how: Any
    ) -> tuple[UInt8[np.ndarray, "b p"], list[Size]]:
        """A region of each file, and the sizes of the files."""
        how |= {"size": self.image_size, "channels": self.channels, "white": self.white}
        pixels, sizes = read_regions([*zip(files, regions, strict=True)], **how)
        return (255 - pixels if self.inverted else pixels).reshape(len(files), -1), sizes

    def read(self, indices: Int[np.ndarray, "b"]) -> Batch:
        """The examples at `indices`."""
        return self._fill(indices, self._kept.read(indices, self._decode))

    def arrays(self, progress: Progress) -> Batch:
        """All examples; what was kept is a part of them."""
        self.__dict__["_kept"] = kept = self._kept.with_room_for_all()
        return self._fill(np.arange(len(self)), kept.all(self._decode, progress))

    def has_windows(self) -> bool:
        """Whether a part of a picture still says what its annotation says."""
        return self.task == "label"

    def read_windows(
        self, indices: Int[np.ndarray, "b"], uniform: Float[np.ndarray, "b 4"], *, min_area: float, max_ratio: float
    ) -> Batch:
        """The examples at `indices`, of each a window of its whole picture; none is kept, for each is shown once."""
        examples, numbers = self._examples, indices.tolist()
        if isinstance(examples, LabelledFiles):
            files = [examples.files[i] for i in numbers]
        else:
            files = [examples[i].image for i in numbers]
        regions = [partial(window, uniform=row, min_area=min_area, max_ratio=max_ratio) for row in uniform]
        return self._fill(indices, self._read(files, regions, gap=1.0)[0])

    def _fill(self, indices: Int[np.ndarray, "b"], pixels: UInt8[np.ndarray, "b p"]) -> Batch:
        spec, end = self.spec(), self.image_size**2 * self.channels
        batch: Batch = {k: np.zeros((len(indices), *v.shape), v.dtype) for k, v in spec.items() if k != "image"}
        batch["image"] = pixels[:, :end].reshape(len(pixels), *spec["image"].shape)
        if self.task == "mask":
            batch["mask"] = pixels[:, end:].reshape(len(pixels), *spec["mask"].shape)
            return batch
        if isinstance(self._examples, LabelledFiles):
            batch["label"] = self._examples.labels[indices]
            return batch
        for row, i in enumerate(indices.tolist()):
            example = self._examples[i]
            place(batch, row, example, self._region(example)(example.size or (1, 1)), self.image_size)
        return batch

    def box_sizes(self) -> Float[np.ndarray, "n 2"]:
        """Sizes of all boxes that count, in pixels of the network's input image; none in a set without boxes."""
        found = [np.zeros((0, 2), np.float32)]
        for example in self._examples if self.task == "boxes" else []:
            sizes = example.boxes[~example.ignored, 2:] - example.boxes[~example.ignored, :2]
            sides = self._region(example)(example.size or (1, 1))[2:]
            found.append(sizes * np.array([self.image_size / side for side in sides], np.float32))
        return np.concatenate(found)

    @cached_property
    def _passed(self) -> set[bool]:
        """Whether the checks that found no fault were thorough: the trials of a sweep check once."""
        return set()

    def check(self, *, thorough: bool = False, progress: Progress | None = None) -> list[str]:
        """Every annotation, and of every image its header, size and ending; `thorough` decodes it too."""
        kept, name = self.kept, f"checked {self.split}"
        if not self._passed & {thorough, True} and not (kept and not thorough and kept.get(name)):
            check_all(self._examples, partial(check_example, thorough=thorough), progress)
            self._passed.add(thorough)
            if kept:
                kept.put(name, "yes")
        find = {"label": self._count_labels, "boxes": self._count_boxes, "points": self._count_points}
        lines = find[self.task]() if self.task in find else self._count_masks()
        return [f"{self.split}: {line}" for line in [*lines, *self.scan().notes[self.split]]]

    def _count_labels(self) -> list[str]:
        examples, names = self._examples, self.class_names()
        labels = examples.labels if isinstance(examples, LabelledFiles) else []
        splits = [each.labels for each in self.scan().splits.values() if isinstance(each, LabelledFiles)]
        apart = len(splits) == 2 and not np.isin(splits[0], splits[1]).any()
        counts = np.bincount(labels, minlength=len(names)).tolist()
        kept = [(name, n) for name, n in zip(names, counts, strict=True) if n or not apart]
        listed = list_counts([name for name, _ in kept], [n for _, n in kept])
        lines, missing = (
            [f"{len(self):,} images, {len(kept):,} classes ({listed})"],
            [name for name, n in kept if not n],
        )
        return lines + [f"no image of {list_names(missing)}"] * bool(missing)

    def _count_boxes(self) -> list[str]:
        names, examples = self.class_names(), self._examples
        out = np.concatenate([e.ignored for e in examples])
        counts = np.bincount(np.concatenate([e.classes for e in examples])[~out], minlength=len(names)).tolist()
        lines = [f"{len(self):,} images, {sum(counts):,} boxes ({list_counts(names, counts)})"]
        if ignored := int(out.sum()):
            lines.append(f"{ignored:,} difficult or crowd boxes, neither truth nor false alarm")
        if empty := sum(len(e.boxes) == 0 for e in examples):
            lines.append(f"{empty:,} images without a box")
        return lines

    def _count_masks(self) -> list[str]:
        names = self.class_names()
        listed = ", ".join(names[:20]) + (" ..." if len(names) > 20 else "")
        return [f"{len(self):,} images with masks, {len(names)} classes ({listed})"]

    def _count_points(self) -> list[str]:
        images = len({e.image for e in self._examples})
        among = "" if images == len(self) else f" in {images:,} images"
        lines = [f"{len(self):,} examples{among}, {self._room} points each"]
        if hidden := sum(int((~e.visible).sum()) for e in self._examples):
            lines.append(f"{hidden:,} points not annotated, or outside their image")
        return lines

    def read_image(self, path: ImageFile) -> tuple[np.ndarray, Placement]:
        """One file as its split shows it, and where that lies in the file."""
        how: Any = {"size": self.image_size, "channels": self.channels, "white": self.white}
        pixels, placement = fit_file(path, self._region(None), **how)
        return 255 - pixels if self.inverted else pixels, placement
