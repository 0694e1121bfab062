"""Python objects as data sets: lists, grain, what looks like Hugging Face's and torchvision's."""

import contextlib
import dataclasses
import io
import time
from types import SimpleNamespace
from typing import Any

import grain
import numpy as np
import problems
import pytest
from PIL import Image
from small_sets import box_sizes, noise, picture

from jaxcv.data import from_records
from jaxcv.errors import DataError, UserError
from jaxcv.train import fit


def shade(value, size=(40, 20)):
    return np.full((size[1], size[0], 3), value, np.uint8)


def rows(count, **fields):
    return [{"image": shade(10 * i), "label": i % 3, **fields} for i in range(count)]


def read(records, *, convert=None, index=0, **options):
    train, _ = from_records(records, records, convert=convert, **{"image_size": 40, **options})
    return {key: value[0] for key, value in train.source.read(np.array([index])).items()}


def refused(message, records, **options):
    with pytest.raises(DataError, match=message) as caught:
        read(records, **options)
    assert "\n" not in str(caught.value)


class Dataset:
    """What Hugging Face's looks like: rows by number, and features that know the names."""

    features = {"image": None, "label": SimpleNamespace(names=["ant", "bee", "cat"])}

    def __init__(self, count):
        self.rows = rows(count)

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        if not isinstance(index, int):
            raise TypeError("expected a number of Python's")
        return self.rows[index]


def test_labels():
    train, test = from_records(Dataset(10), Dataset(4), image_size=20, mirrors=False)
    assert (len(train), len(test), train.class_names, train.mirrors) == (10, 4, ("ant", "bee", "cat"), False)
    batches = test.batches(3)
    batch = batches.batch(1)
    assert {k: (v.shape, v.dtype) for k, v in batch.items()} == {k: (v.shape, v.dtype) for k, v in batches.spec.items()}
    assert batch["image"].shape == (3, 20, 20, 3) and batch["image"][:, 0, 0, 0].tolist() == [30, 0, 0]
    assert batch["label"].tolist() == [0, 0, 0] and batch["example_valid"].tolist() == [True, False, False]
    assert test.batches(2).check(thorough=True) == ["test: 4 records of Dataset, fields image [20, 20, 3], label []"]
    seen = []
    test.batches(2).check(thorough=True, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (4, 4)


def test_without_a_test_set_every_fifth_record_is_for_testing():
    train, test = from_records(rows(10), image_size=20)
    assert train.source.read(np.arange(8))["image"][:, 0, 0, 0].tolist() == [0, 10, 20, 30, 50, 60, 70, 80]
    assert test.source.read(np.arange(2))["image"][:, 0, 0, 0].tolist() == [40, 90]


def test_grain():
    source = grain.MapDataset.range(6).map(lambda i: {"image": shade(10 * int(i)), "label": int(i) % 2})
    train, test = from_records(source, image_size=20, class_names=("even", "odd"))
    assert (len(train), len(test)) == (5, 1)
    assert next(iter(train.batches(5)))["label"].tolist() == [0, 1, 0, 1, 1]


@pytest.mark.parametrize(
    "image",
    [
        shade(70),
        shade(70)[..., 0],
        shade(70)[..., :1],
        Image.new("RGB", (40, 20), (70, 70, 70)),
        Image.new("L", (40, 20), 70),
        {"bytes": "png", "path": None},
        {"bytes": None, "path": "file"},
        "file",
        "png",
    ],
    ids="colour grey one-channel pillow pillow-grey bytes path file png".split(),
)
def test_forms_of_an_image(tmp_path, image):
    path = picture(tmp_path / "a.png", value=70)
    if isinstance(image, dict):
        image = {"bytes": path.read_bytes() if image["bytes"] else None, "path": str(path)}
    elif isinstance(image, str):
        image = path.read_bytes() if image == "png" else path
    for record in ({"img": image, "labels": 1}, (image, 1)):
        example = read([record], image_size=10)
        assert (example["image"] == 70).all() and example["image"].shape == (10, 10, 3) and example["label"] == 1
    assert read([(image, 1)], image_size=10, channels=1)["image"].shape == (10, 10, 1)


def test_the_middle_of_a_labelled_picture_is_taken():
    ramp = np.repeat(np.arange(40, dtype=np.uint8)[None], 20, 0)
    np.testing.assert_array_equal(read([(ramp, 0)], image_size=20, channels=1)["image"][0, :, 0], np.arange(10, 30))


def test_boxes():
    record = {"image": shade(5), "boxes": [[0, 0, 40, 20], [5, 5, 5, 9], [10, 5, 20, 30]], "classes": [1, 0, 2]}
    example = read(
        [record], convert=lambda r: {**r, "ignored": [False, False, True]}, image_size=80, max_boxes=3, resize="squash"
    )
    assert example["boxes"].tolist() == [[0, 0, 80, 80], [20, 20, 40, 80], [0, 0, 0, 0]]
    assert example["classes"].tolist() == [1, 2, 0]
    assert example["valid"].tolist() == [True, False, False] and example["ignored"].tolist() == [False, True, False]
    train, _ = from_records([record] * 4, image_size=80, convert=dict, resize="squash")
    assert box_sizes(train).tolist() == [[80, 80], [20, 60]] * 4 and train.anchor_boxes(k=1).shape == (1, 2)
    empty = read([{"image": shade(5), "boxes": [], "classes": []}], convert=dict)
    assert not empty["valid"].any() and empty["boxes"].shape == (100, 4)


def test_masks_and_points():
    mask = np.zeros((20, 40), np.uint8)
    mask[:, 20:] = 3
    for given in (mask, Image.fromarray(mask)):
        example = read([{"image": shade(5), "mask": given}], image_size=10)
        assert example["mask"][0].tolist() == [0] * 5 + [3] * 5
    record = {"image": shade(5), "points": [(0.5, 0.5), (30, 10), (39, 19)], "visible": [1, 1, 0]}
    example = read([record], convert=dict, image_size=80)
    assert example["points"].tolist() == [[1, 21], [60, 40], [0, 0]] and example["visible"].tolist() == [
        True,
        True,
        False,
    ]
    assert not example["image"][:19].any() and (example["image"][21:59] == 5).all()


FAULTS = {
    "no image": ({"label": 1}, "keys label, expected an image with a label or a mask; give `convert`"),
    "number": (5, "int, expected a mapping or .image, label.; give `convert`"),
    "floats": ({"image": np.zeros((4, 4)), "label": 1}, "image float64 of shape .4, 4., expected uint8"),
    "channels": ({"image": np.zeros((4, 4, 2), np.uint8), "label": 1}, "image uint8 of shape"),
    "negative": ({"image": shade(1), "label": -1}, "label -1, expected 0 to"),
    "half": ({"image": shade(1), "label": 0.5}, "label 0.5, expected"),
    "truth": ({"image": shade(1), "label": True}, "label True, expected"),
    "text": ({"image": shade(1), "label": "ant"}, r"train\[0\]: invalid literal"),
    "missing": ({"image": "nowhere.png", "label": 1}, r"train\[0\]: nowhere\.png: image is missing"),
    "bytes": ({"image": b"hello", "label": 1}, r"train\[0\]: bytes: not an image file"),
    "mask size": (
        {"image": shade(1), "mask": np.zeros((4, 4), np.uint8)},
        r"mask uint8 of shape \(4, 4\), expected cl",
    ),
    "mask kind": ({"image": shade(1), "mask": np.zeros((20, 40))}, r"mask float64"),
    "mask value": ({"image": shade(1), "mask": np.full((20, 40), 256)}, r"mask int64 of .* up to 255"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faulty_records(fault):
    record, message = FAULTS[fault]
    refused(message, [record])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"boxes": [[0, 0, np.nan, 4]], "classes": [0]}, r"train\[0\]: box 0, 0, nan, 4: not a finite number"),
        ({"boxes": [[9, 0, 4, 4]], "classes": [0]}, r"box 9, 0, 4, 4: negative width or height"),
        ({"boxes": [[0, 0, 4, 4]], "classes": []}, "1 boxes with 0 classes, expected one from 0 for each"),
        ({"boxes": [[0, 0, 4, 4]], "classes": [-1]}, "1 boxes with 1 classes, expected one from 0"),
        ({"boxes": [[0, 0, 4, 4]] * 3, "classes": [0] * 3}, "more than 2 boxes; make max_boxes larger"),
        ({"boxes": [0, 0, 4], "classes": [0]}, r"train\[0\]: cannot reshape"),
        ({"boxes": [[0, 0, 4, 4]]}, "KeyError: 'classes'"),
        ({"points": [(np.inf, 0)]}, "x of point 0 is inf, not a finite number"),
        ({"points": []}, "0 points, expected 1 to"),
    ],
)
def test_faulty_fields(fields, message):
    refused(message, [{"image": shade(1), **fields}], convert=dict, max_boxes=2)


def test_faults_elsewhere(tmp_path):
    with pytest.raises(UserError, match="generator: expected an object with a length and records by number"):
        from_records((i for i in range(3)), image_size=8)
    with pytest.raises(DataError, match="test: there is no record"):
        len(from_records(rows(3), image_size=8)[1])
    mixed = [*rows(2), {"image": shade(1), "mask": np.zeros((20, 40), np.uint8)}]
    refused(r"train\[2\]: fields image .*mask .*, expected image .*, label \[\] as in the first record", mixed, index=2)
    refused(r"train\[0\]: `convert` gave no mapping with an image", rows(1), convert=lambda r: {"label": 1})
    refused(r"train\[1\]: ZeroDivisionError: .* by zero; mend the record", rows(2), convert=broken, index=1)
    cut = noise(tmp_path / "a.png").read_bytes()[:3_000]
    refused(r"train\[0\]: bytes: image is truncated", [(cut, 1)])
    refused("label 3, expected 0 to 2", [(shade(1), 3)], class_names=("a", "b", "c"))


def broken(record):
    return {"image": record["image"], "label": 1 // (1 - record["label"])}


def test_training_on_a_list(tmp_path):
    noisy = np.random.default_rng(0).integers(0, 156, (40, 4, 4), np.uint8)
    records = [(image + 100 * (i % 2), i % 2) for i, image in enumerate(noisy)]

    def experiment(*, seed: int = 0):
        train, test = from_records(records, image_size=4, channels=1, class_names=("dark", "light"))
        base = problems.experiment(seed=seed, steps=20)
        return dataclasses.replace(base, train_data=train.batches(8, seed=seed), test_data=test.batches(8))

    fit(experiment, {}, tmp_path / "run")
    assert (tmp_path / "run/run.json").is_file()


def test_bytes_are_a_file_too():
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), (1, 2, 3)).save(stream, "PNG")
    assert read([(stream.getvalue(), 0)], image_size=8)["image"][0, 0].tolist() == [1, 2, 3]


class BehindOneFile:
    """160 records behind one handle, whose position two threads would move under each other."""

    def __init__(self, path, lazily):
        self.file, self.lazily, self.length = open(path, "rb"), lazily, 64 * 1024  # noqa: SIM115

    def __len__(self):
        return 160

    def __getitem__(self, i):
        self.file.seek(i * self.length)
        time.sleep(0.0005)
        if self.lazily:
            part: Any = Whole(self.file, self.length)
            return {"image": Image.open(part), "label": i}
        return {"image": self.file.read(self.length), "label": i}


class Whole(io.RawIOBase):
    """A part of an open file as a file, which shares its position."""

    def __init__(self, file, length):
        self.file, self.start, self.length = file, file.tell(), length

    def seekable(self):
        return True

    def readable(self):
        return True

    def tell(self):
        return self.file.tell() - self.start

    def seek(self, to, whence=0):
        return self.file.seek(to + (self.start if whence == 0 else 0), whence) - self.start

    def read(self, size=-1):
        time.sleep(0.0002)
        return self.file.read(self.length if size < 0 else size)


@pytest.mark.parametrize("lazily", [False, True])
def test_records_behind_one_handle_come_out_under_their_own_labels(tmp_path, lazily):
    with open(tmp_path / "all", "wb") as file:
        for i in range(160):
            stream = io.BytesIO()
            Image.new("RGB", (64, 64), (i, i, i)).save(stream, "PNG", compress_level=0)
            file.write(stream.getvalue().ljust(64 * 1024, b"\0"))
    records = BehindOneFile(tmp_path / "all", lazily)
    train, test = from_records(records, records, image_size=8)
    for split in (train, test):
        arrays = split.batches(16).resident()
        np.testing.assert_array_equal(arrays["image"][:, 0, 0, 0], arrays["label"])
    train, _ = from_records(records, records, image_size=8)
    for batch, _ in zip(train.batches(40, seed=0, num_threads=8), range(5), strict=False):
        np.testing.assert_array_equal(batch["image"][:, 0, 0, 0], batch["label"])
    records.file.close()


def test_what_may_be_read_by_many():
    class Says(list):
        thread_safe = False

    def alone(records, **options):
        source: Any = from_records(records, image_size=8, **options)[0].source
        return not isinstance(source.alone, contextlib.nullcontext)

    listed = [{"image": np.zeros((8, 8), np.uint8), "label": 0}] * 10
    assert not alone(listed) and alone(Says(listed)) and not alone(Says(listed), thread_safe=True)
