"""COCO sets written here, a fault each, and the two real ones."""

import json
import re
import shutil
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_mask
from small_sets import CocoSet, examples, findings, opened, picture, refused

from jaxcv.data import detection_data, segmentation_data
from jaxcv.data.raw.outlines import Outline, compress, extent, fill, run_lengths
from jaxcv.errors import DataError


@pytest.fixture
def folder(tmp_path):
    return CocoSet(tmp_path / "coco")


def test_boxes_classes_and_splits(folder):
    train, test = opened(folder.data, image_size=80)
    assert train.class_names == test.class_names == ("cell", "plate"), "in the order of their ids, without gaps"
    assert (len(train), len(test)) == (3, 1)
    batch = train.batches(4).batch(0)
    assert batch["boxes"][0].tolist() == [[0, 0, 80, 80], [20, 20, 40, 40]]
    assert batch["boxes"][1].tolist() == [[4, 8, 24, 48], [0, 0, 0, 0]]
    assert batch["classes"].tolist() == [[0, 1], [0, 0], [0, 0], [0, 0]]
    assert batch["valid"].tolist() == [[True, True], [True, False], [False, False], [False, False]]
    assert batch["image"][:3, 0, 0, 0].tolist() == [48, 49, 50] and not batch["ignored"].any()
    assert test.batches(1).batch(0)["boxes"].shape == (1, 2, 4)
    assert findings(folder.data) == [
        "train: 3 images, 3 boxes (cell 2, plate 1)",
        "train: 1 images without a box",
        "test: 1 images, 1 boxes (cell 0, plate 1)",
    ]


def test_crowds_are_ignored(folder):
    folder.add(3, 3, [1, 1, 9, 9], iscrowd=1)
    batch = opened(folder.data)[0].batches(3).batch(0)
    assert batch["ignored"][2].tolist() == [True, False] and not batch["valid"][2].any()
    assert "train: 1 difficult or crowd boxes, neither truth nor false alarm" in findings(folder.data)


def test_boxes_without_area_are_dropped_and_others_cut(folder):
    folder.add(3, 3, [5, 5, 0, 9])
    folder.add(3, 3, [39.995, 5, 3, 9])
    folder.add(3, 3, [-3, 5, 10, 30])
    batch = opened(folder.data, image_size=40)[0].batches(3).batch(0)
    assert batch["boxes"][2].tolist() == [[0, 10, 7, 40], [0, 0, 0, 0]]
    found = findings(folder.data)
    assert "train: 2 zero-area boxes dropped (a2)" in found and "train: 1 boxes cut at the image border (a2)" in found


def test_a_box_is_taken_from_the_outline_where_there_is_none(folder):
    runs = [3 * 20 + 4, 6, 14, 6, 40 * 20 - (3 * 20 + 4) - 26]  # columns 3 and 4, rows 4 to 9
    folder.change("annotations.0.bbox")
    folder.change("annotations.1.bbox", [])
    folder.change("annotations.1.segmentation", {"size": [20, 40], "counts": runs})
    batch = opened(folder.data, image_size=40)[0].batches(3).batch(0)
    assert batch["boxes"][0].tolist() == [[0, 0, 40, 40], [3, 8, 5, 20]]


LAYOUTS = {
    "images/train2017/{}": "annotations/instances_train2017.json",
    "train/{}": "train/_annotations.coco.json",
    "images/{}": "train.json",
    "train/images/{}": "train/train.json",
    "{}": "train.json",
}


@pytest.mark.parametrize("images", LAYOUTS)
def test_where_files_may_lie(tmp_path, folder, images):
    root = tmp_path / "other"
    for split, now in (("train2017", "train"), ("val2017", "valid")):
        file = root / LAYOUTS[images].replace("train", now)
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder.root / f"annotations/instances_{split}.json", file)
        for image in (folder.root / split).iterdir():
            to = root / images.replace("train", now).format(image.name)
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(image, to)
    assert [len(split) for split in opened(f"coco:{root}")] == [3, 1]


def test_one_file_alone_is_split_by_the_hash_of_the_name(folder):
    for i in range(4, 24):
        folder.json["train2017"]["images"].append({"id": i, "file_name": f"c{i}.png", "width": 40, "height": 20})
        picture(folder.root / f"train2017/c{i}.png")
    folder.write()
    file = folder.root / "annotations/instances_train2017.json"
    train, test = opened(f"coco:{file}")
    assert (len(train), len(test)) == (20, 3)
    names = [example.image.name for example in examples(test)]
    assert findings(f"coco:{file}")[-1] == "test: no split of its own: a fifth, by the SHA-256 of the name"
    folder.json["train2017"]["images"].reverse()
    folder.write()
    again = examples(opened(f"coco:{file}")[1])
    assert {example.image.name for example in again} == set(names)
    whole = opened(f"coco:{file}", hold_out=False)
    assert [len(split) for split in whole] == [23, 23]
    assert "test: the training split itself, as asked for" in whole[1].describe()


def test_val_comes_before_test_and_other_files_are_not_used(folder):
    for name in ("captions_train2017", "person_keypoints_train2017", "panoptic_val2017"):
        (folder.root / f"annotations/{name}.json").write_text("{}")
    shutil.copy(folder.root / "annotations/instances_val2017.json", folder.root / "annotations/instances_test.json")
    assert findings(folder.data)[1] == "train: 1 images without a box"
    assert findings(folder.data)[2] == "train: annotation files not used: annotations/instances_test.json"
    assert len(opened(folder.data)[1]) == 1


def test_ids_may_be_texts_and_start_at_zero(folder):
    folder.change("images.0.id", "first")
    folder.change("categories.1.id", 0)
    for i in (0, 2):
        folder.change(f"annotations.{i}.category_id", 0)
    for i in (0, 1):
        folder.change(f"annotations.{i}.image_id", "first")
    folder.change("categories.1.id", 0, split="val2017")
    train, _ = opened(folder.data)
    assert train.class_names == ("cell", "plate") and train.batches(1).batch(0)["valid"].sum() == 2


def test_the_parent_of_all_others_is_no_class(folder):
    for split in folder.json:
        folder.json[split]["categories"] = [
            {"id": 0, "name": "things", "supercategory": "none"},
            *({**c, "supercategory": "things"} for c in folder.json[split]["categories"]),
        ]
    folder.write()
    train, _ = opened(folder.data)
    assert train.class_names == ("cell", "plate")
    assert "train: category things, parent of all others, is no class" in train.describe()
    folder.change("annotations.0.category_id", 0)
    assert opened(folder.data)[0].class_names == ("things", "cell", "plate"), "it has an object"


def test_classes_may_be_listed(folder):
    train, _ = opened(folder.data, classes=("plate", "wing", "cell"))
    assert train.batches(1).batch(0)["classes"].tolist() == [[2, 0]]
    message = r"annotations\[0\]: class 'cell' is not in the list \(cells, plate\); did you mean 'cells'\?"
    refused(message, folder.data, classes=("cells", "plate"))
    refused("classes: class 'cell' is listed twice", folder.data, classes=("cell", "cell"))


def test_sizes_may_be_missing(folder):
    for key in ("width", "height"):
        folder.change(f"images.0.{key}")
    assert opened(folder.data, image_size=80)[0].batches(1).batch(0)["boxes"][0, 1].tolist() == [20, 20, 40, 40]


def test_names_with_folders_and_none(folder):
    """As other tools and LVIS have them."""
    for split in folder.json:
        for listed in folder.json[split]["images"]:
            listed["coco_url"] = f"http://images.cocodataset.org/{split}/{listed.pop('file_name')}"
    folder.write()
    assert [len(split) for split in opened(folder.data)] == [3, 1]
    folder.change("images.0.file_name", "deeper/a0.PNG")
    (folder.root / "train2017/deeper").mkdir()
    (folder.root / "train2017/a0.png").rename(folder.root / "train2017/deeper/a0.png")
    assert opened(folder.data, image_size=80)[0].batches(1).batch(0)["boxes"][0, 1].tolist() == [20, 20, 40, 40]


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("task", ["boxes", "polygons", "run lengths"])
def test_boxes_in_the_frame_that_the_size_says(folder, turn, task):
    """A bright rectangle and its box, stored with each EXIF orientation; both as shown and as stored."""
    exif, shown = Image.Exif(), np.zeros((20, 40, 3), np.uint8)
    exif[0x0112] = turn
    shown[3:11, 5:25] = 255
    stored = Image.fromarray(shown)
    back: Any = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    stored = stored.transpose(back[turn]) if turn > 1 else stored
    stored.save(folder.root / "train2017/a0.png", exif=exif)
    for pixels in (shown, np.asarray(stored)):
        height, width = pixels.shape[:2]
        (top, *_, bottom), (left, *_, right) = (np.flatnonzero(pixels[..., 0].any(axis)).tolist() for axis in (1, 0))
        folder.change("images.0.width", width)
        folder.change("images.0.height", height)
        folder.json["train2017"]["annotations"] = folder.json["train2017"]["annotations"][:1]
        folder.change("annotations.0.bbox", [left, top, right + 1 - left, bottom + 1 - top])
        edges = [left, top, right + 1, top, right + 1, bottom + 1, left, bottom + 1]
        outline = [edges] if task == "polygons" else run_lengths(pixels[..., 0] > 0)
        folder.change("annotations.0.segmentation", outline)
        by = detection_data if task == "boxes" else segmentation_data
        if turn in (2, 3, 4):
            refused(rf"a0\.png has EXIF orientation {turn}, and the stated size does not tell", folder.data, by=by)
            continue
        batch = opened(folder.data, by=by, image_size=40)[0].batches(1).batch(0)
        if task == "boxes":
            assert batch["boxes"][0, 0].tolist() == [5, 6, 25, 22]
        else:
            np.testing.assert_array_equal(batch["mask"][0] > 0, batch["image"][0, :, :, 0] > 127)


FAULTS = {
    "no box": (
        "annotations.0.bbox",
        ...,
        r"annotations\[0\]: bbox is None, expected|has no bbox, expected a list of 4",
    ),
    "three numbers": (
        "annotations.0.bbox",
        [1, 2, 3],
        r"annotations\[0\]: bbox is \[1, 2, 3\], expected a list of 4 num",
    ),
    "text": ("annotations.1.bbox", "1 2 3 4", r"annotations\[1\]: bbox is '1 2 3 4', expected a list of 4 numbers"),
    "not finite": ("annotations.0.bbox", [1, 2, float("nan"), 4], r"bbox 1, 2, nan, 4: not a finite number"),
    "infinite": ("annotations.0.bbox", [1, 2, 10**400, 4], r"bbox 1, 2, inf, 4: not a finite number"),
    "negative": ("annotations.0.bbox", [9, 2, -3, 4], r"bbox 9, 2, -3, 4: negative width or height"),
    "outside": ("annotations.0.bbox", [50, 2, 3, 4], r"bbox 50, 2, 3, 4: outside the 40x20 image"),
    "class": ("annotations.0.category_id", 9, r"annotations\[0\]: category_id is 9, expected the id of a category"),
    "class of a list": ("annotations.0.category_id", [3], r"category_id is \[3\], expected a whole number or a text"),
    "crowd": ("annotations.0.iscrowd", "yes", r"annotations\[0\]: iscrowd is 'yes', expected 0 or 1"),
    "image": ("annotations.2.image_id", 99, r"annotations\[2\]: image_id is 99, expected the id of an image"),
    "no image": ("annotations.2.image_id", ..., r"annotations\[2\]: has no image_id"),
    "size": ("images.0.width", 0, r"images\[0\]: width is 0, expected a whole number from 1"),
    "huge size": ("images.0.width", 10**9, r"images\[0\]: width is 1000000000, expected a whole number from 1 to 1,0"),
    "other size": ("images.0.width", 41, r"the annotation says 41x20, a0\.png is 40x20"),
    "missing file": ("images.0.file_name", "x.png", r"images\[0\]: its image 'x\.png' is missing in .*train2017"),
    "leading out": ("images.0.file_name", "../../x.png", r"images\[0\]: file_name is .*within"),
    "absolute": ("images.0.file_name", "/etc/passwd", r"images\[0\]: file_name is '/etc/passwd', expected the name of"),
    "zero byte": ("images.0.file_name", "a\0b", r"images\[0\]: file_name is .*expected the name of a file"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_entry_is_refused_or_skipped(folder, fault):
    path, value, message = FAULTS[fault]
    folder.change("annotations.0.segmentation")
    folder.change(path, value)
    refused(message, folder.data)
    lines = findings(folder.data, on_error="skip")
    (skipped,) = [line for line in lines if "faulty" in line]
    assert skipped.startswith("train: 1 faulty examples skipped, the first: ") and re.search(message, skipped)
    assert lines[0].startswith("train: 3 images" if "image" in fault.split() else "train: 2 images")


FAULTS_OF_THE_FILE = {
    "no category": ("categories", [], "categories is empty, expected the classes"),
    "no list": (
        "images",
        {"a": 1},
        "images is a mapping, expected COCO's list of them; the keys there are: images, cat",
    ),
    "no key": ("annotations", ..., "has no key annotations, expected COCO's list"),
    "no object": ("images.1", 5, r"images\[1\] is 5, expected a JSON object"),
    "twice": ("images.1.id", 1, r"images\[1\]: id 1 is given twice"),
    "class twice": ("categories.1.id", 7, r"categories\[1\]: id 7 is given twice"),
    "name twice": ("categories.1.name", "plate", r"categories\[1\]: class 'plate' is listed twice"),
    "no name": ("categories.1.name", " ", r"categories\[1\]: name is '', expected a text"),
    "no id": ("images.1.id", ..., r"images\[1\]: has no id, expected a whole number or a text"),
    "other classes": ("categories.1.name", "cells", "category 'cell' is not in both this file and instances_train2017"),
}


@pytest.mark.parametrize("fault", FAULTS_OF_THE_FILE)
def test_a_faulty_file_is_refused(folder, fault):
    path, value, message = FAULTS_OF_THE_FILE[fault]
    folder.change(path, value)
    refused(message, folder.data)
    refused(message, folder.data, on_error="skip")


def test_broken_json(folder):
    file = folder.root / "annotations/instances_train2017.json"
    whole = json.dumps(folder.json["train2017"], indent=1)
    file.write_text(whole[:-40])
    refused(r"instances_train2017\.json:\d+: broken JSON: .* \(column \d+\)", folder.data)
    file.write_bytes(whole.encode("utf-16"))
    refused(r"instances_train2017\.json:1: byte 0xff is no UTF-8", folder.data)
    file.write_text("[" * 100_000)
    refused("JSON that cannot be read: ", folder.data)
    file.write_text("9" * 5_000)
    refused("JSON that cannot be read: ", folder.data)
    file.write_text("[]")
    refused(r"holds \[\] where COCO has keys images, categories, annotations", folder.data)


def test_folders(folder, tmp_path):
    refused("nowhere: no such folder; data=coco:PATH", f"coco:{tmp_path}/nowhere")
    (tmp_path / "empty").mkdir()
    refused(
        r"no annotation file \(\.json\) in it or one folder below; the folder holds nothing", f"coco:{tmp_path}/empty"
    )
    shutil.copy(folder.root / "annotations/instances_val2017.json", folder.root / "annotations/instances_val.json")
    refused("several files, .*instances_val.json.*: choose one with data=coco:.*/FILE", folder.data)
    (folder.root / "annotations/instances_val.json").unlink()
    secret = picture(tmp_path / "secret.png")
    (folder.root / "train2017/a0.png").unlink()
    (folder.root / "train2017/a0.png").symlink_to(secret)
    refused(r"a0\.png: a symbolic link that leads out of .*; put the files themselves there", folder.data)


def test_masks(folder):
    """Outlines in the order of their size, the crowd below all, in an image of 40x20 pixels."""
    folder.add(1, 3, [0, 0, 30, 20], iscrowd=1)
    train, test = opened(folder.data, by=segmentation_data, image_size=40)
    assert train.class_names == ("background", "cell", "plate") and (len(train), len(test)) == (3, 1)
    batch = train.batches(3).batch(0)
    assert batch["mask"].shape == (3, 40, 40) and batch["mask"].dtype == np.uint8
    mask = batch["mask"][0, ::2]
    assert (mask[5:10, 10:20] == 2).all() and (mask == 2).sum() == 50 and (mask == 1).sum() == 750
    assert (batch["mask"][1, ::2][2:12, 2:12] == 1).all() and (batch["mask"][1] == 1).sum() == 200
    assert not batch["mask"][2].any() and batch["image"][:, 0, 0, 0].tolist() == [48, 49, 50]
    folder.change("annotations.0.segmentation", [[0, 0, 9, 0, 9, 9, 0, 9]])
    mask = opened(folder.data, by=segmentation_data, image_size=40)[0].batches(1).batch(0)["mask"][0, ::2]
    assert (mask == 255).sum() == 30 * 20 - 9 * 9 - 50
    assert findings(folder.data, by=segmentation_data) == [
        "train: 3 images with masks, 3 classes (background, cell, plate)",
        "test: 1 images with masks, 3 classes (background, cell, plate)",
    ]


def test_run_lengths_are_decoded_as_pycocotools_does(folder):
    wanted = np.random.default_rng(0).random((20, 40)) < 0.3
    packed: Any = coco_mask.encode(np.asfortranarray(wanted.astype(np.uint8)))
    runs = np.diff(np.array([0, *np.flatnonzero(np.diff(wanted.T.ravel())) + 1, 800])).tolist()
    for counts in (packed["counts"].decode(), runs if not wanted[0, 0] else [0, *runs]):
        folder.change("annotations.0.segmentation", {"size": [20, 40], "counts": counts})
        folder.change("annotations.0.category_id", 7)
        folder.json["train2017"]["annotations"] = [folder.json["train2017"]["annotations"][0]]
        folder.write()
        mask = opened(folder.data, by=segmentation_data, image_size=40)[0].batches(1).batch(0)["mask"][0, ::2]
        np.testing.assert_array_equal(mask == 2, wanted)


SHAPES = {
    "missing": (..., "segmentation is None, expected polygons or run lengths"),
    "empty": ([], r"segmentation is \[\] without polygons, expected lists of numbers"),
    "two points": ([[1, 2, 3, 4]], "a polygon of 4 numbers, expected x and y of at least 3 points"),
    "odd": ([[1, 2, 3, 4, 5, 6, 7]], "a polygon of 7 numbers"),
    "far out": ([[1, 2, 3, 4, 1e9, 6]], r"a polygon whose x of point 2 is 1e\+09, far out of the 40x20 image"),
    "nan": ([[1, 2, 3, 4, 5, float("nan")]], r"a polygon whose y of point 2 is nan"),
    "text": ([["a"]], "segmentation is a list without polygons"),
    "other size": (
        {"size": [20, 41], "counts": [820]},
        r"run lengths for a picture of \[20, 41\], expected",
    ),
    "no size": ({"counts": [800]}, "run lengths for a picture of None"),
    "too few": ({"size": [20, 40], "counts": [1, 2]}, "run lengths of 3 pixels, the image has 800"),
    "negative": ({"size": [20, 40], "counts": [801, -1]}, "run lengths that are damaged"),
    "huge": ({"size": [20, 40], "counts": [10**30]}, "run lengths that are damaged"),
    "no run": ({"size": [20, 40], "counts": None}, "run lengths that are damaged"),
    "cut off": ({"size": [20, 40], "counts": "o"}, "run lengths that are damaged"),
    "endless": ({"size": [20, 40], "counts": "o" * 99}, "run lengths that are damaged"),
    "not ascii": ({"size": [20, 40], "counts": "é"}, "run lengths that are damaged"),
    "short text": ({"size": [20, 40], "counts": "52"}, "run lengths of 7 pixels"),
}


@pytest.mark.parametrize("fault", SHAPES)
def test_a_faulty_outline(folder, fault):
    value, message = SHAPES[fault]
    folder.change("annotations.2.segmentation", value)
    refused(rf"annotations\[2\]: {message}", folder.data, by=segmentation_data)
    assert len(opened(folder.data, by=segmentation_data, on_error="skip")[0]) == 2
    assert len(opened(folder.data)[0]) == 3, "boxes do not need it"


def test_a_mask_of_another_size(folder):
    folder.change("images.0.width", 41)
    refused("the annotation says 41x20, a0.png is 40x20", folder.data, by=segmentation_data)
    with pytest.raises(DataError, match="the annotation says 41x20, a0.png"):
        opened(folder.data, by=segmentation_data)[0].batches(1).batch(0)


def test_too_many_classes_for_a_mask(folder):
    for split in folder.json:
        folder.json[split]["categories"] += [{"id": i, "name": str(i)} for i in range(10, 270)]
    folder.write()
    refused("262 classes, masks hold at most 254", folder.data, by=segmentation_data)
    assert opened(folder.data)[0].num_classes == 262


def test_too_many_boxes(folder, monkeypatch):
    for module in ("collector", "formats.coco"):
        monkeypatch.setattr(f"jaxcv.data.{module}.MAX_BOXES", 1)
    refused("2 boxes for a0.png, expected at most 1", folder.data)
    assert len(opened(folder.data, on_error="skip")[0]) == 2


def test_real_fruits_and_nuts(real_data):
    train, test = detection_data(f"coco:{real_data('det_coco_fruits_nuts')}")
    assert train.describe()[0] == "train: 15 images, 144 boxes (date 61, fig 37, hazelnut 46)"
    assert test.batches(4).check(thorough=True)[0] == "test: 3 images, 21 boxes (date 10, fig 4, hazelnut 7)"
    assert (15 + 3, 144 + 21, 61 + 10, 37 + 4, 46 + 7) == (18, 165, 71, 41, 53)
    everything, same = detection_data(f"coco:{real_data('det_coco_fruits_nuts')}", hold_out=False)
    assert len(everything) == len(same) == 18
    train, _ = segmentation_data(f"coco:{real_data('det_coco_fruits_nuts')}", image_size=128)
    mask = train.source.read(np.arange(15))["mask"]
    assert 0.05 < (mask > 0).mean() < 0.5 and set(np.unique(mask)) == {0, 1, 2, 3}


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=12))
def test_the_extent_of_run_lengths(runs):
    """By the pixels that are inside."""
    runs = [*runs, -sum(runs) % 6]
    size = (sum(runs) // 6, 6)
    if not size[0]:
        return
    inside = fill(compress(Outline([], runs), size=size), size=size)
    assert inside.shape == (6, size[0]) and inside.sum() == sum(runs[1::2])
    if not inside.any():
        assert extent(Outline([], runs), size=size) == (0, 0, 0, 0)
        return
    rows, columns = (np.flatnonzero(inside.any(axis)) for axis in (1, 0))
    assert extent(Outline([], runs), size=size) == (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)


def test_real_teacher_with_run_lengths(real_data):
    data = f"coco:{real_data('det_coco_borrat_valid')}"
    train, test = detection_data(data)
    assert (len(train), len(test), train.class_names) == (63, 17, ("human",))
    assert train.describe()[0] == "train: 63 images, 63 boxes (human 63)"
    train, test = segmentation_data(data, image_size=256)
    assert train.class_names == ("background", "human")
    for split in (train, test):
        boxes = detection_data(data)[split is test].source.read(np.arange(len(split)))["boxes"][:, 0]
        masks = split.source.read(np.arange(len(split)))["mask"]
        for box, mask in zip(boxes, masks, strict=True):
            x0, y0, x1, y1 = box.round().astype(int)
            assert (mask[y0:y1, x0:x1] == 1).sum() > 0.99 * (mask == 1).sum() > 0.3 * (x1 - x0) * (y1 - y0)
