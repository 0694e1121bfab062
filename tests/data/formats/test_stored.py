"""Pictures encoded in large files: what Hugging Face, TFDS and WebDataset write."""

import io
import json
import struct
import tarfile
from functools import partial
from typing import Any

import numpy as np
import pytest
from array_record.python.array_record_module import ArrayRecordWriter
from PIL import Image

from jaxcv.data import classification_data, detection_data, segmentation_data
from jaxcv.data.formats import array_records, arrow, web_dataset
from jaxcv.errors import DataError

NAMES = ("ant", "bee")
COUNTS = {"train": 7, "validation": 4}


def encoded(value, size=(40, 20), form="PNG"):
    stream = io.BytesIO()
    Image.new("RGB", size, (value, value, value)).save(stream, form)
    return stream.getvalue()


def rows(split):
    start = 0 if split == "train" else 100
    return [{"image": encoded(start + 10 * i), "label": i % 2} for i in range(COUNTS[split])]


def _varint(value):
    found = b""
    while value > 127:
        found, value = found + bytes([value & 127 | 128]), value >> 7
    return found + bytes([value])


def _field(number, content):
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def example(features):
    """A serialised tf.train.Example."""
    entries = b""
    for name, value in features.items():
        if isinstance(value, bytes):
            packed = _field(1, _field(1, value))
        elif isinstance(value, list):
            packed = _field(2, _field(1, struct.pack(f"<{len(value)}f", *value)))
        else:
            packed = _field(3, _field(1, _varint(value)))
        entries += _field(1, _field(1, name.encode()) + _field(2, packed))
    return _field(1, entries)


def write_array_records(root):
    for split in COUNTS:
        writer = ArrayRecordWriter(str(root / f"set-{split}.array_record-00000-of-00001"), "group_size:1")
        for row in rows(split):
            writer.write(example(row))
        writer.close()
    (root / "label.labels.txt").write_text("ant\nbee\n")


def write_tars(root, *, described=False):
    for split in COUNTS:
        with tarfile.open(root / f"{split}-000000.tar", "w") as tar:
            for i, row in enumerate(rows(split)):
                label = json.dumps({"label": row["label"]}) if described else str(row["label"])
                for ending, content in (("png", row["image"]), ("json" if described else "cls", label.encode())):
                    member = tarfile.TarInfo(f"{split}/{i:03}.{ending}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    (root / "classes.txt").write_text("ant\nbee\n")


def table(some, features) -> Any:
    pa: Any = pytest.importorskip("pyarrow")
    described = json.dumps({"info": {"features": features}})
    return pa.Table.from_pylist(some).replace_schema_metadata({"huggingface": described})


LABELS = {"image": {"_type": "Image"}, "label": {"names": [*NAMES], "_type": "ClassLabel"}}


def write_parquet(root):
    pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq  # pyright: ignore[reportMissingImports]

    (root / "data").mkdir()
    for split in COUNTS:
        every = [{**row, "image": {"bytes": row["image"], "path": None}} for row in rows(split)]
        for shard in (0, 1):
            part = table(every[:3] if shard == 0 else every[3:], LABELS)
            pq.write_table(part, root / f"data/{split}-0000{shard}-of-00002.parquet", row_group_size=2)


def write_saved(root):
    pa: Any = pytest.importorskip("pyarrow")
    for split in COUNTS:
        (root / split).mkdir()
        part = table([{**row, "image": {"bytes": row["image"], "path": None}} for row in rows(split)], LABELS)
        with pa.ipc.new_stream(str(root / split / "data-00000-of-00001.arrow"), part.schema) as writer:
            writer.write_table(part)
        state = {"_data_files": [{"filename": "data-00000-of-00001.arrow"}], "_indices_files": None}
        (root / split / "state.json").write_text(json.dumps(state))


KINDS = {
    "parquet": write_parquet, "hf": write_saved, "arrayrecord": write_array_records, "wds": write_tars,
    "wds json": partial(write_tars, described=True),
}  # fmt: skip


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXCV_CACHE", str(tmp_path / "cache"))
    for scan in (array_records.scan_array_records, arrow.scan_arrow, web_dataset.scan_tars):
        scan.cache_clear()


@pytest.mark.parametrize("kind", KINDS)
def test_labelled_pictures(kind, tmp_path):
    """By number in any order, by several threads, and at random windows of the encoded pictures."""
    root = tmp_path / "set"
    root.mkdir()
    KINDS[kind](root)
    train, test = classification_data(f"{kind.partition(' ')[0]}:{root}", image_size=16)
    assert (len(train), len(test), train.class_names) == (7, 4, NAMES)
    arrays = train.batches(2).resident()
    assert arrays["image"][:, 3, 3, 0].tolist() == [10 * i for i in range(7)]
    assert arrays["label"].tolist() == train.source.labels().tolist() == [0, 1] * 3 + [0]  # pyright: ignore
    assert test.batches(4).batch(0)["image"][:, 0, 0, 0].tolist() == [100, 110, 120, 130]
    train, _ = classification_data(f"{kind.partition(' ')[0]}:{root}", image_size=16)
    shown = train.batches(7, seed=0, min_area=0.1, num_threads=2).batch(0)
    assert sorted(shown["image"][:, 8, 8, 0].tolist()) == [10 * i for i in range(7)]


@pytest.mark.parametrize("kind", ["parquet", "wds", "arrayrecord"])
def test_nothing_there(kind, tmp_path):
    train, _ = classification_data(f"{kind}:{tmp_path}")
    with pytest.raises(DataError, match=r"no \*\.\w+.* in it"):
        len(train)
    train, _ = classification_data(f"{kind}:{tmp_path}/nowhere")
    with pytest.raises(DataError, match="nowhere: no such file or folder"):
        len(train)


def test_a_damaged_picture_names_its_record_or_is_left_out(tmp_path):
    write_tars(tmp_path)
    path = tmp_path / "train-000000.tar"
    at = path.read_bytes().find(rows("train")[2]["image"])
    path.write_bytes(path.read_bytes()[: at + 20] + b"\0" * 30 + path.read_bytes()[at + 50 :])
    train, _ = classification_data(f"wds:{tmp_path}", image_size=16)
    with pytest.raises(DataError, match=r"train\[2\]: bytes: not an image file"):
        train.batches(7).check(thorough=True)
    train, _ = classification_data(f"wds:{tmp_path}", image_size=16, on_error="skip")
    assert train.batches(7).batch(0)["example_valid"].tolist() == [True, True, False, True, True, True, True]


def test_boxes_as_hugging_face_and_tfds_write_them(tmp_path):
    """COCO's x, y, width and height in pixels; and fractions y0, x0, y1, x1."""
    objects = {"bbox": [[4.0, 2.0, 20.0, 10.0]], "category": [1]}
    features = {"objects": {"bbox": {}, "category": {"feature": {"names": [*NAMES], "_type": "ClassLabel"}}}}
    options = {"image_size": 40, "resize": "squash"}
    writer = ArrayRecordWriter(str(tmp_path / "a.array_record"), "group_size:1")
    for value in range(10):
        writer.write(
            example({"image": encoded(value), "objects/bbox": [0.1, 0.1, 0.6, 0.6], "objects/label": value % 2})
        )
    writer.close()
    train, test = detection_data(f"arrayrecord:{tmp_path}", **options)
    assert (len(train), len(test), train.class_names) == (8, 2, ("0", "1"))
    first = train.batches(1).batch(0)
    np.testing.assert_allclose(first["boxes"][0, 0], [4, 4, 24, 24], rtol=1e-6)
    pa: Any = pytest.importorskip("pyarrow")
    part = table([{"image": {"bytes": encoded(5)}, "objects": objects}] * 5, features)
    with pa.ipc.new_stream(str(tmp_path / "all.arrow"), part.schema) as stream:
        stream.write_table(part)
    train, test = detection_data(f"hf:{tmp_path}", **options)
    assert (len(train), len(test), train.class_names) == (4, 1, NAMES)
    found = test.batches(1).batch(0)
    assert found["boxes"][0, 0].tolist() == [4, 4, 24, 24] and found["classes"][0, 0] == 1


def test_masks_in_tars(tmp_path):
    mask = io.BytesIO()
    Image.fromarray(np.repeat(np.array([[0, 1]], np.uint8), 20, 1).repeat(20, 0)).save(mask, "PNG")
    with tarfile.open(tmp_path / "all.tar", "w") as tar:
        for i in range(5):
            for ending, content in (("png", encoded(9 * i)), ("seg.png", mask.getvalue())):
                member = tarfile.TarInfo(f"{i}.{ending}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    (tmp_path / "classes.txt").write_text("sky\nroad\n")
    train, test = segmentation_data(f"wds:{tmp_path}", image_size=20, resize="letterbox")
    assert (len(train), len(test), train.class_names) == (4, 1, ("sky", "road"))
    assert test.batches(1).batch(0)["mask"][0, :, 0].tolist() == [255] * 5 + [0] * 10 + [255] * 5
