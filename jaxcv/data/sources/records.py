"""Examples of any indexable Python object: a Hugging Face dataset, a grain source, a torchvision dataset, a list.

What `len` and `[i]` work on will do. A record is a mapping, or a tuple of image and label; as it is read, these keys
are looked for: `image` (or `img`), `label` (or `labels`, `fine_label`), `mask` (or `annotation`, `segmentation_mask`).
Everything else has no common form: `convert` makes of a record a mapping with the keys that stand in `read_record`.

An image is an array [h w], [h w 1] or [h w 3] of uint8, a Pillow image, the bytes of an image file, or its path.
"""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int

from jaxcv.data.dataset import Dataset
from jaxcv.data.io.images import Progress, convert_image, open_image, read_image
from jaxcv.data.io.text import one_line
from jaxcv.data.sources.boxed import clip_box
from jaxcv.data.sources.masked import IGNORE
from jaxcv.data.sources.pointed import place_points, whole
from jaxcv.types import Batch, DataError, UserError

_IMAGES, _LABELS = ("image", "img"), ("label", "labels", "fine_label")
_MASKS = ("mask", "annotation", "segmentation_mask")
_ANCHOR_RECORDS = 2_000


def from_records(
    train: Any,
    test: Any = None,
    *,
    image_size: int,
    channels: int = 3,
    class_names: tuple[str, ...] = (),
    convert: Callable[[Any], Mapping[str, Any]] | None = None,
    max_boxes: int = 100,
    mirrors: bool = True,
) -> tuple[Dataset, Dataset]:
    """Two indexable objects as the train and the test split. Nothing is read before it is needed.

    Args:
      train: the training examples: has a length and is indexed by numbers.
      test: the others; None: every fifth record of `train` is for testing.
      image_size: side of the square that images are fitted to, in pixels: with boxes or a mask squashed, with points
        in the middle of black borders, with a label alone the middle of the image.
      channels: 3 for RGB, 1 for grey.
      class_names: name of each class index; empty: those of `train.features`, as Hugging Face has them, else numbers.
      convert: makes a mapping of a record; see `read_record`.
      max_boxes: how many boxes of one image there is room for.
      mirrors: whether the mirror image of an example is still a valid example of its class.

    Raises:
      UserError: an object that cannot be indexed.
    """
    for records in (train, test):
        if records is not None and not (hasattr(records, "__len__") and hasattr(records, "__getitem__")):
            raise UserError(f"{type(records).__name__}: expected an object with a length and records by number")
    parts = {"train": (train, None), "test": (test, None)}
    if test is None:
        parts = {"train": (train, lambda n: np.arange(n) % 5 != 4), "test": (train, lambda n: np.arange(n) % 5 == 4)}

    def open_split(split: str) -> Dataset:
        records, choose = parts[split]
        source = Records(split, records, choose, image_size, channels, class_names, convert or _usual, max_boxes)
        return Dataset(source, image_size, mirrors)

    return open_split("train"), open_split("test")


def _usual(record: Any) -> Mapping[str, Any]:
    """A record by the usual names of its keys."""
    if isinstance(record, tuple | list) and len(record) == 2:
        return {"image": record[0], "label": record[1]}
    if not isinstance(record, Mapping):
        raise ValueError(f"{type(record).__name__}, expected a mapping or (image, label); give `convert`")
    found = {}
    for key, names in (("image", _IMAGES), ("label", _LABELS), ("mask", _MASKS)):
        if (name := next((name for name in names if name in record), None)) is not None:
            found[key] = record[name]
    if len(found) < 2:
        keys = one_line(", ".join(map(str, record)), length=80)
        raise ValueError(f"keys {keys}, expected an image with a label or a mask; give `convert`")
    return found


@dataclass(frozen=True, eq=False)
class Records:
    """One split; see `from_records`."""

    split: str
    records: Any
    choose: Callable[[int], np.ndarray] | None
    image_size: int
    channels: int
    names: tuple[str, ...]
    convert: Callable[[Any], Mapping[str, Any]]
    max_boxes: int

    @cached_property
    def _places(self) -> np.ndarray:
        count = len(self.records)
        places = np.arange(count) if self.choose is None else np.flatnonzero(self.choose(count))
        if not len(places):
            raise DataError("there is no record", file=self.split)
        return places

    def __len__(self) -> int:
        return len(self._places)

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
        place = int(self._places[index])
        where = f"{self.split}[{place}]"
        try:
            record = self.convert(self.records[place])
            if not isinstance(record, Mapping) or "image" not in record:
                raise ValueError("`convert` gave no mapping with an image")
            return self._fit(record, where)
        except DataError as error:
            raise error if str(error.file) == where else DataError(one_line(error), file=where) from None
        except Exception as error:  # other people's code and data
            kind = "" if type(error) is ValueError else f"{type(error).__name__}: "
            raise DataError(f"{kind}{one_line(error)}; mend the record", file=where) from None

    def _fit(self, record: Mapping[str, Any], where: str) -> Batch:
        from PIL import Image

        image, side = _to_image(record["image"], self.channels), self.image_size
        size, bilinear = image.size, Image.Resampling.BILINEAR

        refuse = partial(DataError, file=where)
        example: Batch = {}
        if "label" in record:
            label, names = record["label"], self.class_names()
            if isinstance(label, bool) or int(label) != label or not 0 <= label < (len(names) or 2**31):
                raise ValueError(f"label {label}, expected 0 to {len(names) - 1 if names else 'the number of classes'}")
            example["label"] = np.int32(label)
        region = (0, 0, *size)
        if "points" in record:
            left, top, length = whole(size)
            region = (left, top, left + length, top + length)
            values = [None if v is None or not s else (float(v[0]), float(v[1])) for v, s in _with_visible(record)]
            points, visible = place_points(values, size=size, refuse=refuse)
            points = (points - np.array([left, top], np.float32)) * np.float32(side / length)
            example |= {"points": points * visible[:, None], "visible": visible}
        elif "boxes" in record:
            example |= self._boxes(record, size, refuse)
        elif "mask" not in record:
            length = min(size)
            left, top = (size[0] - length) // 2, (size[1] - length) // 2
            region = (left, top, left + length, top + length)
        if "mask" in record:
            mask = record["mask"]
            mask = np.asarray(mask) if isinstance(mask, np.ndarray) else np.asarray(_opened(mask))
            if (
                mask.shape != (size[1], size[0])
                or mask.dtype.kind not in "bui"
                or mask.min() < 0
                or mask.max() > IGNORE
            ):
                what = f"{mask.dtype} of shape {mask.shape}"
                raise ValueError(f"mask {what}, expected class indices [{size[1]} {size[0]}] up to {IGNORE}")
            labels = Image.fromarray(mask.astype(np.uint8)).crop(region)
            example["mask"] = np.asarray(labels.resize((side, side), Image.Resampling.NEAREST))
        pixels = np.asarray(image.crop(region).resize((side, side), bilinear))
        return {"image": pixels[..., None] if self.channels == 1 else pixels, **example}

    def _boxes(self, record: Mapping[str, Any], size: tuple[int, int], refuse: Callable[[str], DataError]) -> Batch:
        boxes = np.asarray(record["boxes"], np.float64).reshape(-1, 4)
        classes = np.asarray(record["classes"], np.int32).reshape(-1)
        ignored = np.asarray(record.get("ignored", np.zeros(len(boxes))), np.bool_).reshape(-1)
        count = len(self.class_names()) or 2**31
        if not len(boxes) == len(classes) == len(ignored) or ((classes < 0) | (classes >= count)).any():
            raise ValueError(f"{len(boxes)} boxes with {len(classes)} classes, expected one from 0 for each")
        m = self.max_boxes
        out = {"boxes": np.zeros((m, 4), np.float32), "classes": np.zeros(m, np.int32)}
        out |= {"valid": np.zeros(m, np.bool_), "ignored": np.zeros(m, np.bool_)}
        scale, row = self.image_size / np.array([*size, *size]), 0
        for box, index, aside in zip(boxes.tolist(), classes.tolist(), ignored.tolist(), strict=True):
            written = "box " + ", ".join(f"{edge:g}" for edge in box)
            clipped = clip_box((box[0], box[1], box[2], box[3]), size=size, written=written, refuse=refuse)
            if clipped is None:
                continue
            if row == m:
                raise ValueError(f"more than {m} boxes; make max_boxes larger")
            out["boxes"][row], out["classes"][row] = np.array(clipped[0]) * scale, index
            out["valid"][row], out["ignored"][row] = not aside, aside
            row += 1
        return out

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
                raise DataError(message, file=f"{self.split}[{self._places[i]}]")
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

    def read_image(self, path: str | Path) -> tuple[np.ndarray, tuple[float, float]]:
        """One file squashed to the input size, and the factors (x, y) from its pixels to the file's."""
        pixels, (width, height) = read_image(path, size=self.image_size, channels=self.channels)
        return pixels, (width / self.image_size, height / self.image_size)


def _shapes(fields: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {list(np.shape(value))}" for key, value in fields.items())


def _with_visible(record: Mapping[str, Any]) -> list[tuple[Any, Any]]:
    points = list(record["points"])
    return list(zip(points, record.get("visible", [True] * len(points)), strict=True))


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
        return value
    array = np.asarray(value)
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3)):
        raise ValueError(f"image {array.dtype} of shape {array.shape}, expected uint8 [h w], [h w 1] or [h w 3]")
    return Image.fromarray(array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array)


def _to_image(value: Any, channels: int) -> Any:
    return convert_image(_opened(value), channels)
