"""Examples of any indexable Python object: a Hugging Face dataset, a grain source, a torchvision dataset, a list.

What `len` and `[i]` work on will do. A record is a mapping, or a tuple of image and label; as it is read, these keys
are looked for: `image` (or `img`), `label` (or `labels`, `fine_label`), `mask` (or `annotation`, `segmentation_mask`).
Everything else has no common form: `convert` makes of a record a mapping with the keys that stand in `read_record`.

An image is an array [h w], [h w 1] or [h w 3] of uint8, a Pillow image, the bytes of an image file, or its path.

Records are read by one thread at a time, until their pixels are there: many stand behind one file, one archive or one
connection, and two threads would read each other's bytes. Lists, tuples and arrays, and what says `thread_safe = True`
of itself or is given so, is read by all.
"""

import io
import threading
from collections.abc import Callable, Container, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int

from jaxcv.data.example import Example, Task, check_box, check_points
from jaxcv.data.io.crops import RESIZES, Resize, fit_file, resize_region
from jaxcv.data.io.images import Progress, convert_image, open_image, to_array, to_image, upright
from jaxcv.data.io.text import Where, one_line
from jaxcv.data.outlines import IGNORE
from jaxcv.data.source import LABEL, box_fields
from jaxcv.data.sources.image_files import USUAL, cut_out, place
from jaxcv.errors import DataError
from jaxcv.types import Batch, ImageFile, Placement

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
        features = getattr(self.records, "features", None)
        if self.names or not isinstance(features, Mapping):
            return self.names
        listed = next((getattr(features[name], "names", None) for name in _LABELS if name in features), None)
        return tuple(listed or ())

    def read_record(self, index: int) -> Batch:
        """One example without batch axis.

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
            return self._fit({**record, **pictures}, where)
        except DataError as error:
            raise error if error.file == where.file else where.refuse(one_line(error)) from None
        except Exception as error:  # other people's code and data
            kind = "" if type(error) is ValueError else f"{type(error).__name__}: "
            raise where.refuse(f"{kind}{one_line(error)}; mend the record") from None

    def _fit(self, record: Mapping[str, Any], where: Where) -> Batch:
        from PIL import Image

        image, side = convert_image(record["image"], self.channels), self.image_size
        size, names = image.size, self.class_names()
        example, fields, region = Example(where.file, where, size), {}, RESIZES[self._resize(record)]
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
        found: Batch = {"image": to_array(resize_region(image, region(size), size=side))}
        found |= {key: value[0] for key, value in batch.items()}
        if "mask" in record:
            mask = np.asarray(upright(record["mask"]) if isinstance(record["mask"], Image.Image) else record["mask"])
            if mask.shape != size[::-1] or mask.dtype.kind not in "bui" or mask.min() < 0 or mask.max() > IGNORE:
                what = f"mask {mask.dtype} of shape {mask.shape}"
                raise ValueError(f"{what}, expected class indices [{size[1]} {size[0]}] up to {IGNORE}")
            found["mask"] = cut_out(mask.astype(np.uint8), region(size), size=side)
        return found

    def _resize(self, fields: Container[str]) -> Resize:
        task: Task = next((kind for kind in ("points", "boxes", "mask") if kind in fields), "label")
        return self.resize or USUAL[task]

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
    def _first(self) -> Batch:
        return self.read_record(0)

    def spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Shape and dtype of every field, as the first record has them."""
        return {key: jax.ShapeDtypeStruct(np.shape(value), value.dtype) for key, value in self._first.items()}

    def read(self, indices: Int[np.ndarray, "b"]) -> Batch:
        """The examples at `indices`."""
        spec = self.spec()
        batch = {key: np.zeros((len(indices), *field.shape), field.dtype) for key, field in spec.items()}
        for row, i in enumerate(indices.tolist()):
            example = self.read_record(i)
            if {key: np.shape(value) for key, value in example.items()} != {k: v.shape for k, v in spec.items()}:
                message = f"fields {_shapes(example)}, expected {_shapes(spec)} as in the first record"
                raise DataError(message, file=f"{self.split}[{self._positions[i]}]")
            for key, value in example.items():
                batch[key][row] = value
        return batch

    def box_sizes(self) -> Float[np.ndarray, "n 2"]:
        """Sizes of the boxes in the first 2,000 records."""
        if "boxes" not in self.spec():
            return np.zeros((0, 2), np.float32)
        found = [self.read_record(i) for i in range(min(len(self), _ANCHOR_RECORDS))]
        boxes = np.concatenate([example["boxes"][example["valid"]] for example in found])
        return boxes[:, 2:] - boxes[:, :2]

    def check(self, *, thorough: bool = False, progress: Progress | None = None) -> list[str]:
        """The first record; `thorough` reads all."""
        for i in range(len(self) if thorough else 1):
            self.read(np.array([i]))
            if progress is not None:
                progress(i + 1, len(self))
        return [f"{self.split}: {len(self):,} records of {type(self.records).__name__}, fields {_shapes(self.spec())}"]

    def read_image(self, path: ImageFile) -> tuple[np.ndarray, Placement]:
        """One file as records are shown, and where that lies in the file."""
        return fit_file(path, RESIZES[self._resize(self.spec())], size=self.image_size, channels=self.channels)


def _shapes(fields: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {list(np.shape(value))}" for key, value in fields.items())


def _opened(value: Any) -> Any:
    """A Pillow image of whatever form an image may have."""
    from PIL import Image

    if isinstance(value, Mapping):  # as Hugging Face stores what it has not decoded
        value = value.get("bytes") or value.get("path")
    if isinstance(value, bytes | str | Path):
        path = Path("bytes") if isinstance(value, bytes) else Path(value)
        with open_image(path, io.BytesIO(value) if isinstance(value, bytes) else None) as image:
            image.load()
            return image.copy()
    if isinstance(value, Image.Image):
        value.load()  # Pillow reads the pixels of an open file when they are first asked for
        return value
    array = np.asarray(value)
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3)):
        raise ValueError(f"image {array.dtype} of shape {array.shape}, expected uint8 [h w], [h w 1] or [h w 3]")
    return to_image(array)
