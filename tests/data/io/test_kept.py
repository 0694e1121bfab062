"""Scans that are kept: taken again by another process, and never once anything that they looked at has changed."""

import os
import pickle

import numpy as np
import pytest
from small_sets import CocoSet, YoloSet, examples, forget, labels, opened, picture

from jaxcv.data import classification_data, landmark_data, segmentation_data
from jaxcv.data.example import Scan
from jaxcv.data.formats import image_folder
from jaxcv.data.io import kept
from jaxcv.data.sources import image_files


@pytest.fixture
def scans(monkeypatch, tmp_path):
    """How many scans were really made; all are kept at once."""
    made = []
    monkeypatch.setenv("JAXCV_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(kept, "_WORTH", 0.0)
    monkeypatch.setattr(kept, "_SETTLED", -1e6)
    write = kept._write
    monkeypatch.setattr(kept, "_write", lambda file, x: made.extend([1] * (file.suffix == ".pickle")) or write(file, x))
    yield made
    forget()


def assert_same(a, b):
    for one, other in zip(a, b, strict=True):
        assert one.class_names == other.class_names and one.describe() == other.describe()
        for x, y in zip(examples(one), examples(other), strict=True):
            for left, right in zip(x, y, strict=True):
                if isinstance(left, np.ndarray):
                    assert left.dtype == right.dtype and left.shape == right.shape
                    np.testing.assert_array_equal(left, right)
                elif not callable(left):
                    assert left == right
        p, q = one.batches(2).batch(0), other.batches(2).batch(0)
        assert all(np.array_equal(p[name], q[name]) for name in p)


def kept_points(root):
    folder = CocoSet(root, "person_keypoints")
    for split in folder.json:
        folder.json[split]["annotations"] = folder.json[split]["annotations"][:1]
        folder.change("annotations.0.keypoints", [3, 3, 2, 9, 9, 1, 0, 0, 0], split=split)
    return folder.data


def kept_masks(root):
    for name in ("train/image/a", "train/image/b", "val/image/c"):
        picture(root / f"{name}.png")
        labels(root / f"{name.replace('image', 'label')}.png", np.repeat([0, 1], 20)[None].repeat(20, 0))
    return f"masks:{root}"


def kept_classes(root):
    for i in range(12):
        picture(root / f"c{i % 2}/{i}.png", value=i)
    return f"folder:{root}"


SETS = {
    "boxes": (lambda root: CocoSet(root).data, None),
    "outlines": (lambda root: CocoSet(root).data, segmentation_data),
    "points": (kept_points, landmark_data),
    "masks": (kept_masks, segmentation_data),
    "classes": (kept_classes, classification_data),
    "labels": (lambda root: YoloSet(root).data, None),
}


@pytest.mark.parametrize("name", SETS)
def test_what_is_kept_is_what_was_found(tmp_path, scans, name):
    make, by = SETS[name]
    data = make(tmp_path / "set")
    first = opened(data, by=by)
    first[0].describe()
    assert len(scans) == 1
    digest = first[0].batches(1).digest()
    again = opened(data, by=by)
    assert_same(first, again)
    assert len(scans) == 1 and again[0].batches(1).digest() == digest


@pytest.fixture
def folder(tmp_path):
    return YoloSet(tmp_path / "set")


CHANGES = {
    "a label of the same length": lambda root: (root / "labels/train/a1.txt").write_text("1 .1 .1 .4 .1 .4 .6 .1 .6\n"),
    "a label more": lambda root: (root / "labels/train/a2.txt").write_text("0 .5 .5 .5 .5\n"),
    "a picture more": lambda root: picture(root / "images/train/a9.png"),
    "a picture of another size": lambda root: picture(root / "images/train/a0.png", (20, 40)),
    "a picture less": lambda root: (root / "images/train/a1.png").unlink(),
    "other names": lambda root: (root / "data.yaml").write_text(
        "names: [call, plate]\ntrain: images/train\nval: images/val\n"),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_nothing_is_kept_of_what_has_changed(folder, scans, change):
    opened(folder.data)[0].describe()
    CHANGES[change](folder.root)
    found = [split.describe() for split in opened(folder.data)]
    assert len(scans) == 2
    os.environ["JAXCV_CACHE"] += "other"
    assert [split.describe() for split in opened(folder.data)] == found and len(scans) == 3


def test_times_alone_and_options_and_readers(folder, scans, monkeypatch):
    opened(folder.data)[0].describe()
    opened(folder.data, hold_out=False)[0].describe()
    assert len(scans) == 2
    os.utime(folder.root / "images/train/a0.png", ns=(1, 1))
    opened(folder.data)[0].describe()
    assert len(scans) == 3
    monkeypatch.setattr(kept, "_source", lambda: "another version")
    opened(folder.data)[0].describe()
    assert len(scans) == 4


@pytest.mark.parametrize("damage", [b"", b"no pickle", pickle.dumps(("", [], [], Scan((), {}, {})))])
def test_a_damaged_file_is_made_again(folder, scans, damage):
    opened(folder.data)[0].describe()
    (file,) = (folder.root.parent / "cache/scans").glob("*.pickle")
    file.write_bytes(damage)
    assert len(opened(folder.data)[0]) == 3 and len(scans) == 2


def test_a_set_that_was_just_changed_is_not_kept(folder, scans, monkeypatch):
    monkeypatch.setattr(kept, "_SETTLED", 2.0)
    for _ in range(2):
        opened(folder.data)[0].describe()
    assert not scans and not (folder.root.parent / "cache/scans").exists()


def test_pictures_are_looked_at_once(tmp_path, scans, monkeypatch):
    data = kept_classes(tmp_path / "set")
    opened(data, by=classification_data)[0].batches(2).check()
    monkeypatch.setattr("jaxcv.data.example.check_image", lambda *args, **options: pytest.fail("looked at again"))
    train, _ = opened(data, by=classification_data)
    assert train.batches(2).check() and image_folder.scan_folder
    with pytest.raises(pytest.fail.Exception):
        train.batches(2).check(thorough=True)


def test_a_fast_scan_of_many_files_is_kept_for_the_sake_of_checking_them(tmp_path, scans, monkeypatch):
    monkeypatch.setattr(kept, "_WORTH", 1e6)
    data, checked = kept_classes(tmp_path / "set"), []
    check = image_files.check_example
    monkeypatch.setattr(image_files, "check_example", lambda *args, **how: checked.append(1) or check(*args, **how))
    for most, times in ((1_000, 24), (5, 36), (5, 36)):
        monkeypatch.setattr(kept, "_MANY", most)
        for _ in range(2 if most == 1_000 else 1):
            forget()
            for part in classification_data(data, image_size=32):
                part.batches(2).check()
        assert len(checked) == times and bool(scans) == (most == 5)
