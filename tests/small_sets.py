"""Small data sets written by the tests that read them, and what every reader's fault looks like."""

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import jaxcv.data
from jaxcv.errors import DataError

CACHES: list[Any] = [
    scan
    for path in sorted(Path(jaxcv.data.__file__).parent.rglob("[!_]*.py"))
    for name in [".".join(path.relative_to(Path(jaxcv.data.__file__).parent).with_suffix("").parts)]
    for scan in vars(importlib.import_module(f"jaxcv.data.{name}")).values()
    if hasattr(scan, "cache_clear") and not name.startswith(("toy", "dataset", "batches", "opening", "sets.imagenet"))
]
"""What a process keeps of the sets it has opened."""


def picture(path: Path, size: tuple[int, int] = (40, 20), value: int = 9, mode: str = "RGB", **options: Any) -> Path:
    """A picture of one colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, (value,) * len(mode) if len(mode) > 1 else value).save(path, **options)
    return path


def noise(path: Path, size: tuple[int, int] = (64, 64), **options: Any) -> Path:
    """A picture that does not compress, so that cutting its file cuts its pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(path.name)).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return path


def labels(path: Path, values: Any, *, palette: bool = False, **options: Any) -> Path:
    """A mask of these numbers, in shades of grey or as indices of a palette."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.asarray(values, np.uint8))
    if palette:
        image = image.convert("L")
        image.putpalette([(37 * i + channel) % 256 for i in range(256) for channel in range(3)])
    image.save(path, **options)
    return path


def forget() -> None:
    """See the files as a new process would."""
    for scan in CACHES:
        scan.cache_clear()
    for name in jaxcv.data.__all__:
        getattr(getattr(jaxcv.data, name), "cache_clear", lambda: None)()


def opened(data: str, *, by: Any = None, **options: Any) -> Any:
    """Both splits, freshly read; boxes squashed, so that their numbers are easily typed."""
    forget()
    by = by or jaxcv.data.detection_data
    squashed = {"resize": "squash"} if by in (jaxcv.data.detection_data, jaxcv.data.localization_data) else {}
    return by(data, **{**squashed, **options})


def examples(split: Any) -> tuple[Any, ...]:
    """What was read of a split."""
    return split.source.scan().splits[split.source.split]


def box_sizes(split: Any) -> np.ndarray:
    """Those that anchor boxes are made from."""
    return split.source.box_sizes()


def findings(data: str, *, by: Any = None, **options: Any) -> list[str]:
    """What the thorough check of both splits says."""
    return [line for split in opened(data, by=by, **options) for line in split.batches(2).check(thorough=True)]


def refused(message: str, data: str, *, by: Any = None, **options: Any) -> None:
    """The quick check of either split says this, in one line."""
    with pytest.raises(DataError, match=message) as caught:
        for split in opened(data, by=by, **options):
            split.batches(2).check()
    assert "\n" not in str(caught.value)


def edit(file: Path, old: str, new: str) -> None:
    """Replace the first occurrence of a text that must be there."""
    text = file.read_text("utf-8")
    assert old in text
    file.write_text(text.replace(old, new, 1), "utf-8")


class CocoSet:
    """A COCO set of 40x20 images a0, a1, a2 to train on, b0 to test on."""

    def __init__(self, root: Path, words: str = "instances"):
        self.root, self.data, self.words = root, f"coco:{root}", words
        self.json: dict[str, dict[str, Any]] = {}
        for split, names in (("train2017", ["a0", "a1", "a2"]), ("val2017", ["b0"])):
            images = [
                {"id": i, "file_name": f"{name}.png", "width": 40, "height": 20} for i, name in enumerate(names, 1)
            ]
            categories = [{"id": 7, "name": "plate"}, {"id": 3, "name": "cell"}]
            self.json[split] = {"images": images, "categories": categories, "annotations": []}
            for name in names:
                picture(root / split / f"{name}.png", value=ord(name[1]))
        self.add(1, 3, [0, 0, 40, 20])
        self.add(1, 7, [10, 5, 10, 5])
        self.add(2, 3, [2, 2, 10, 10])
        self.add(1, 7, [4, 4, 26, 11], split="val2017")

    def add(self, image: int, category: int, bbox: Any, *, split: str = "train2017", **fields: Any) -> None:
        x, y, w, h = bbox
        outline = [[x, y, x + w, y, x + w, y + h, x, y + h]]
        entry = {"image_id": image, "category_id": category, "bbox": bbox, "segmentation": outline, **fields}
        self.json[split]["annotations"].append(entry)
        self.write()

    def change(self, path: str, value: Any = ..., *, split: str = "train2017") -> None:
        """Set a value at a place such as `annotations.0.bbox`; without a value, take it away."""
        *places, last = [int(part) if part.isdecimal() else part for part in path.split(".")]
        at: Any = self.json[split]
        for place in places:
            at = at[place]
        if value is ...:
            del at[last]
        else:
            at[last] = value
        self.write()

    def write(self) -> None:
        (self.root / "annotations").mkdir(exist_ok=True)
        for split, content in self.json.items():
            (self.root / f"annotations/{self.words}_{split}.json").write_text(json.dumps(content))


class YoloSet:
    """A YOLO set of 40x20 images: train a0, a1, a2, val b0."""

    def __init__(self, root: Path):
        self.root, self.data = root, f"yolo:{root}"
        for split, name in (("train", "a0"), ("train", "a1"), ("train", "a2"), ("val", "b0")):
            picture(root / "images" / split / f"{name}.png", value=ord(name[1]))
        self.put("a0", "0 0.5 0.5 1 1\n1 0.375 0.375 0.25 0.25\n")
        self.put("a1", "0 .1 .1 .4 .1 .4 .6 .1 .6\n")
        self.put("a2", "")
        self.put("b0", "1 0.5 0.5 0.5 0.5\n", split="val")
        self.describe("names: [cell, plate]\ntrain: images/train\nval: images/val\n")

    def put(self, name: str, text: str, *, split: str = "train") -> Path:
        file = self.root / "labels" / split / f"{name}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def describe(self, text: str) -> None:
        (self.root / "data.yaml").write_text(text)


class PointSet:
    """A table of two points for six 40x20 images of three people, and the same points as `.pts` files."""

    def __init__(self, root: Path):
        self.root, self.data = root, f"points:{root}"
        names = [f"{person}_{i}" for person in ("ann", "bob", "cid") for i in (1, 2)]
        self.rows = [",0,1,2,3", *(f"{name}.png,{i},1,30,1{i}" for i, name in enumerate(names))]
        for value, name in enumerate(names):
            picture(root / "training" / f"{name}.png", value=value)
        self.write()

    def write(self) -> None:
        (self.root / "training_points.csv").write_text("\n".join(self.rows) + "\n")


def pts(path: Path, points: list[tuple[float, float]], *, count: int | None = None) -> Path:
    """A `.pts` file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = "\n".join(f"{x} {y}" for x, y in points)
    path.write_text(f"version: 1\nn_points: {len(points) if count is None else count}\n{{\n{lines}\n}}\n")
    return path


def cifar_pickle(pixels: Any, labels: Any, *, key: bytes = b"labels", dtype: bytes = b"u1") -> bytes:
    """A batch as Python 2 pickled it: a mapping of texts to an array of bytes and a list of numbers."""
    data = np.asarray(pixels, np.uint8)

    def text(value: bytes) -> bytes:
        return b"T" + len(value).to_bytes(4, "little") + value

    def number(value: int) -> bytes:
        return b"J" + int(value).to_bytes(4, "little", signed=True)

    made = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00t" + text(b"b") + b"tR"
    kind = (
        b"cnumpy\ndtype\n("
        + text(dtype)
        + b"K\x00K\x01tR(K\x03"
        + text(b"|")
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    )
    shape = b"(" + b"".join(map(number, data.shape)) + b"t"
    array = made + b"(K\x01" + shape + kind + b"\x89" + text(data.tobytes()) + b"tb"
    listed = b"](" + b"".join(map(number, labels)) + b"e"
    return b"\x80\x02}(" + text(b"data") + array + text(key) + listed + b"u."
