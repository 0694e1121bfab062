"""Examples of any indexable Python object: a Hugging Face dataset, a grain source, a torchvision dataset, a list.

What `len` and `[i]` work on will do. A record is a mapping, or a tuple of image and label; as it is read, these keys
are looked for: `image` (or `img`), `label` (or `labels`, `fine_label`), `mask` (or `annotation`, `segmentation_mask`).
Everything else has no common form: `convert` makes of a record a mapping with the keys that stand in `read_record`.

An image is an array [h w], [h w 1] or [h w 3] of uint8, a Pillow image, the bytes of an image file, or its path. Of
encoded ones a random window is cut out at full resolution.

Records are read by one thread at a time, until their bytes or pixels are there: many stand behind one file, one archive
or one connection, and two threads would read each other's bytes. Lists, tuples and arrays, and what says
`thread_safe = True` of itself or is given so, is read by all.
"""

import logging
import threading
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int

from jaxcv.data.example import Example, Task, check_all, check_box, check_points
from jaxcv.data.io.crops import RESIZES, Region, Resize, Size, fit_file, window
from jaxcv.data.io.images import Progress, open_any, upright
from jaxcv.data.io.text import Where, one_line
from jaxcv.data.io.workers import read_regions
from jaxcv.data.raw.outlines import IGNORE
from jaxcv.data.source import LABEL, box_fields
from jaxcv.data.sources.image_files import USUAL, cut_out, place
from jaxcv.errors import DataError
from jaxcv.types import Batch, ImageFile, Placement

_log = logging.getLogger(__name__)
_LABELS = ("label", "labels", "fine_label")
_KEYS = {"image": ("image", "img"), "label": _LABELS, "mask": ("mask", "annotation", "segmentation_mask")}
_ANCHOR_RECORDS = 2_000


def by_usual_names(record: Any) -> Mapping[str, Any]:
    """A record by the usual names of its keys."""
    if isinstance(record, tuple | list) and len(record) == 2:
        return {"image": record[0], "label": record[1]}
    if not isinstance(record, Mapping):
        raise ValueError(f"{type(record).__name__}, expected a mapping or (image, label); give `convert`")
    there = {key: next((name for name in names if name in record), None) for key, names in _KEYS.items()}
    found = {key: record[name] for key, name in there.items() if name is not None}
    if len(found) < 2:
        keys = one_line(", ".join(map(str, record)), length=80)
        raise ValueError(f"keys {keys}, expected an image with a label or a mask; give `convert`")
    return found


@dataclass(frozen=True, eq=False)
class Records:
    """One split; see `jaxcv.data.from_records`."""

    split: str
    records: Any
    choose: Callable[[int], np.ndarray] | None
    """Which of so many records belong to the split; None: all."""
    image_size: int
    channels: int
    names: tuple[str, ...]
    convert: Callable[[Any], Mapping[str, Any]]
    max_boxes: int
    alone: AbstractContextManager[Any] = field(default_factory=threading.Lock)
    """Held while a record is read; shared by both splits, which may stand behind the same file."""
    resize: Resize | None = None
    """How a picture becomes a square; None: as usual for what a record holds."""
    white: int | float | None = None
    """See `io.images`."""
    skip: bool = False
    """Whether a faulty record becomes an example that is not valid."""
    task: Task | None = None
    """What a record is known to hold; None: the first one tells."""

    @cached_property
    def _positions(self) -> np.ndarray:
        count = len(self.records)
        positions = np.arange(count) if self.choose is None else np.flatnonzero(self.choose(count))
        if not len(positions):
            raise DataError("there is no record", file=self.split)
        return positions

    def __len__(self) -> int:
        return len(self._positions)

    def class_names(self) -> tuple[str, ...]:
        """Name of each class index; empty where nobody says them."""
        if self.names or (stated := getattr(self.records, "class_names", None)) is not None:
            return self.names or stated
        features = getattr(self.records, "features", None)
        if not isinstance(features, Mapping):
            return ()
        listed = next((getattr(features[name], "names", None) for name in _LABELS if name in features), None)
        return tuple(listed or ())

    def read_record(self, index: int, region: Callable[[Size], Region] | None = None, gap: float = 2.0) -> Batch:
        """One example without batch axis; `region` is shown of its picture, by default as `resize` says.

        What `convert` may return, all in pixels of the image: `image`, and any of `label` (a class index); `boxes`
        [n 4] xyxy, `classes` [n] and perhaps `ignored` [n]; `mask` [h w] of class indices, 255 for void; `points`
        [p 2] and perhaps `visible` [p].

        Raises:
          DataError: whatever is wrong with the record; names its number.
        """
        position = int(self._positions[index])
        where = Where(Path(f"{self.split}[{position}]"))
        try:
            with self.alone:
                record = self.convert(self.records[position])
                if not isinstance(record, Mapping) or "image" not in record:
                    raise ValueError("`convert` gave no mapping with an image")
                pictures = {"image": _opened(record["image"])}
                if "mask" in record and not isinstance(record["mask"], np.ndarray):
                    pictures["mask"] = _opened(record["mask"])
            return self._fit({**record, **pictures}, where, region or RESIZES[self._resize(record)], gap)
        except DataError as error:
            raise error if error.file == where.file else where.refuse(one_line(error)) from None
        except Exception as error:  # other people's code and data
            kind = "" if type(error) is ValueError else f"{type(error).__name__}: "
            raise where.refuse(f"{kind}{one_line(error)}; mend the record") from None

    def _fit(self, record: Mapping[str, Any], where: Where, region: Callable[[Size], Region], gap: float) -> Batch:
        side, names = self.image_size, self.class_names()
        how: Any = {"size": side, "channels": self.channels, "white": self.white, "gap": gap}
        (pixels,), (size,) = read_regions([(record["image"], region)], **how)
        example, fields = Example(where.file, where, size), {}
        if "label" in record:
            label = record["label"]
            if isinstance(label, bool) or int(label) != label or not 0 <= label < (len(names) or 2**31):
                raise ValueError(f"label {label}, expected 0 to {len(names) - 1 if names else 'the number of classes'}")
            example, fields = example._replace(label=int(label)), dict(LABEL)
        if "points" in record:
            visible = record.get("visible", [True] * len(record["points"]))
            pairs = zip(record["points"], visible, strict=True)
            values = [None if v is None or not shown else (float(v[0]), float(v[1])) for v, shown in pairs]
            points, seen = check_points(values, size=size, where=where)
            example = example._replace(points=points, visible=seen)
            fields |= {"points": (points.shape, np.float32), "visible": (seen.shape, np.bool_)}
        elif "boxes" in record:
            example, fields = self._boxed(example, record, len(names) or 2**31), fields | box_fields(self.max_boxes)
        batch = {key: np.zeros((1, *shape), dtype) for key, (shape, dtype) in fields.items()}
        place(batch, 0, example, region(size), side)
        found: Batch = {"image": pixels}
        found |= {key: value[0] for key, value in batch.items()}
        if "mask" in record:
            mask = record["mask"]
            if not isinstance(mask, np.ndarray):
                with open_any(mask) as file:
                    mask = np.asarray(upright(file))
            if mask.shape != size[::-1] or mask.dtype.kind not in "bui" or mask.min() < 0 or mask.max() > IGNORE:
                what = f"mask {mask.dtype} of shape {mask.shape}"
                raise ValueError(f"{what}, expected class indices [{size[1]} {size[0]}] up to {IGNORE}")
            found["mask"] = cut_out(mask.astype(np.uint8), region(size), size=side)
        return found

    def _resize(self, fields: Collection[str]) -> Resize:
        kinds: list[Task] = ["points", "boxes", "mask"]
        usual: list[Resize] = [USUAL[kind] for kind in kinds if kind in fields] or [USUAL["label"]]
        return self.resize or (USUAL[self.task] if self.task else usual[0])

    def _boxed(self, example: Example, record: Mapping[str, Any], count: int) -> Example:
        boxes = np.asarray(record["boxes"], np.float64).reshape(-1, 4)
        classes = np.asarray(record["classes"], np.int32).reshape(-1)
        ignored = np.asarray(record.get("ignored", np.zeros(len(boxes))), np.bool_).reshape(-1)
        if not len(boxes) == len(classes) == len(ignored) or ((classes < 0) | (classes >= count)).any():
            raise ValueError(f"{len(boxes)} boxes with {len(classes)} classes, expected one from 0 for each")
        size, kept = example.size or (1, 1), {}
        for row, (x0, y0, x1, y1) in enumerate(boxes.tolist()):
            written = f"box {x0:g}, {y0:g}, {x1:g}, {y1:g}"
            if checked := check_box((x0, y0, x1, y1), size=size, written=written, where=example.where):
                kept[row] = checked[0]
        if len(kept) > self.max_boxes:
            raise ValueError(f"more than {self.max_boxes} boxes; make max_boxes larger")
        edges = np.array([*kept.values()], np.float32).reshape(-1, 4)
        return example._replace(boxes=edges, classes=classes[[*kept]], ignored=ignored[[*kept]])

    @cached_property
    def _spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        return {key: jax.ShapeDtypeStruct(np.shape(value), value.dtype) for key, value in self.read_record(0).items()}

    def spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Shape and dtype of every field, as the first record has them."""
        return self._spec

    def read(self, indices: Int[np.ndarray, "b"]) -> Batch:
        """The examples at `indices`."""
        return self._read(indices, lambda row: {})

    def has_windows(self) -> bool:
        """Whether a part of a picture still says what its record says."""
        return self.task == "label" if self.task else not {*self.spec()} - {"image", "label"}

    def read_windows(
        self, indices: Int[np.ndarray, "b"], uniform: Float[np.ndarray, "b 4"], *, min_area: float, max_ratio: float
    ) -> Batch:
        """The examples at `indices`, of each a window of its whole picture."""
        cut = partial(window, min_area=min_area, max_ratio=max_ratio)
        return self._read(indices, lambda row: {"region": partial(cut, uniform=uniform[row]), "gap": 1.0})

    def _read(self, indices: Int[np.ndarray, "b"], how: Callable[[int], Mapping[str, Any]]) -> Batch:
        spec = self.spec()
        batch = {key: np.zeros((len(indices), *field.shape), field.dtype) for key, field in spec.items()}
        valid = np.ones(len(indices), np.bool_)
        for row, i in enumerate(indices.tolist()):
            try:
                example = self.read_record(i, **how(row))
            except DataError as fault:
                if not self.skip:
                    raise
                _log.warning("skipped: %s", fault)
                valid[row] = False
                continue
            if {key: np.shape(value) for key, value in example.items()} != {k: v.shape for k, v in spec.items()}:
                message = f"fields {_shapes(example)}, expected {_shapes(spec)} as in the first record"
                raise DataError(message, file=f"{self.split}[{self._positions[i]}]")
            for key, value in example.items():
                batch[key][row] = value
        return batch if valid.all() else {**batch, "example_valid": valid}

    def labels(self) -> Int[np.ndarray, "n"]:
        """The class index of each example, the pictures not decoded."""
        known = getattr(self.records, "labels", None)
        if callable(known):
            return np.asarray(known())[self._positions]
        with self.alone:
            return np.array([self.convert(self.records[int(i)])["label"] for i in self._positions], np.int32)

    def box_classes(self) -> list[Int[np.ndarray, "k"]] | None:
        """The classes of the boxes of each example, the pictures not decoded; None where that cannot be."""
        known = getattr(self.records, "box_classes", None)
        if not callable(known):
            return None
        every: Any = known()
        return [every[int(i)] for i in self._positions]

    def hands(self) -> None:
        """Nobody says whose drawing an example is."""

    def box_sizes(self) -> Float[np.ndarray, "n 2"]:
        """Sizes of the boxes in the first 2,000 records."""
        if "boxes" not in self.spec():
            return np.zeros((0, 2), np.float32)
        found = [self.read_record(i) for i in range(min(len(self), _ANCHOR_RECORDS))]
        boxes = np.concatenate([example["boxes"][example["valid"]] for example in found])
        return boxes[:, 2:] - boxes[:, :2]

    def check(self, *, thorough: bool = False, progress: Progress | None = None) -> list[str]:
        """The first record; `thorough` reads all."""
        check_all(range(len(self) if thorough else 1), lambda i: self.read(np.array([i])), progress)
        return [f"{self.split}: {len(self):,} records of {type(self.records).__name__}, fields {_shapes(self.spec())}"]

    def read_image(self, path: ImageFile) -> tuple[np.ndarray, Placement]:
        """One file as records are shown, and where that lies in the file."""
        return fit_file(
            path,
            RESIZES[self._resize({} if self.task or self.resize else self.spec())],
            size=self.image_size,
            channels=self.channels,
            white=self.white,
        )


def _shapes(fields: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {list(np.shape(value))}" for key, value in fields.items())


def _opened(value: Any) -> Any:
    """What `open_any` takes, of whatever form an image has: its bytes or pixels are there, or in a file of its own."""
    from PIL import Image

    if isinstance(value, Mapping):  # as Hugging Face stores what it has not decoded
        value = value.get("bytes") or value.get("path")
    if isinstance(value, bytes | str | Path):
        return value
    if isinstance(value, Image.Image):
        value.load()  # Pillow reads the pixels of an open file when they are first asked for
        return value
    array = np.asarray(value)
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3)):
        raise ValueError(f"image {array.dtype} of shape {array.shape}, expected uint8 [h w], [h w 1] or [h w 3]")
    return array
