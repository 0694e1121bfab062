"""YOLO sets written here, a fault each, and the real COCO128."""

import re
import shutil

import numpy as np
import pytest
from PIL import Image
from small_sets import YoloSet, box_sizes, edit, examples, findings, noise, opened, picture, refused

from jaxcv.data import detection_data, landmark_data, segmentation_data


@pytest.fixture
def folder(tmp_path):
    return YoloSet(tmp_path / "yolo")


def test_boxes_classes_and_splits(folder):
    train, test = opened(folder.data, image_size=80)
    assert train.class_names == test.class_names == ("cell", "plate") and (len(train), len(test)) == (3, 1)
    batch = train.batches(4).batch(0)
    assert batch["boxes"][0].tolist() == [[0, 0, 80, 80], [20, 20, 40, 40]]
    np.testing.assert_allclose(batch["boxes"][1, 0], [8, 8, 32, 48], rtol=1e-6)  # the extent of a polygon
    assert batch["valid"].tolist() == [[True, True], [True, False], [False, False], [False, False]]
    assert batch["classes"].tolist() == [[0, 1], [0, 0], [0, 0], [0, 0]]
    assert findings(folder.data) == [
        "train: 3 images, 3 boxes (cell 2, plate 1)",
        "train: 1 images without a box",
        "test: 1 images, 1 boxes (cell 0, plate 1)",
    ]


def test_labels_and_images_that_lack_each_other(folder):
    (folder.root / "labels/train/a2.txt").unlink()
    folder.put("z9", "0 .5 .5 1 1\n")
    folder.put("classes", "cell\nplate\n")
    found = findings(folder.data)
    assert found[0] == "train: 3 images, 3 boxes (cell 2, plate 1)"
    assert "train: 1 images without a label file taken as empty (a2)" in found
    assert "train: 1 label files without an image left out (z9)" in found
    edit(folder.root / "data.yaml", "names", "skip_if_label_file_missing: true\nnames")
    found = findings(folder.data)
    assert found[0] == "train: 2 images, 3 boxes (cell 2, plate 1)"
    assert "train: 1 images without a label file left out (a2)" in found


def test_boxes_without_area_repeated_ones_and_others_cut(folder):
    folder.put("a1", "0 .5 .5 0 .5\n0 1 .5 .5 .5\n\n1 .5 .5 .5 .5\n1 .5 .5 .5 .5\n")
    batch = opened(folder.data, image_size=40)[0].batches(3).batch(0)
    assert batch["boxes"][1].tolist() == [[30, 10, 40, 30], [10, 10, 30, 30]]
    found = findings(folder.data)
    assert "train: 1 zero-area boxes dropped (a1)" in found
    assert "train: 1 boxes cut at the image border (a1)" in found
    assert "train: 1 lines that stand there twice (a1)" in found


@pytest.mark.parametrize(
    "text",
    [
        "path: .\nnames: {0: cell, 1: plate}\ntrain: images/train\ntest: images/val",
        "names: [cell, plate]\nnc: 2\ntrain: ../images/train\nval: ../images/val",
        "path: /content/yolo\nnames: [cell, plate]\ntrain: [images/train]\nval: images/val\ntest:",
        "names: [cell, plate]\ntrain: train.txt\nval: images/val",
    ],
)
def test_how_a_set_may_be_described(folder, text):
    folder.describe(text)
    (folder.root / "train.txt").write_text("./images/train/a0.png\n\nimages/train/a1.png\nimages/train/a2.png\n")
    for data in (folder.data, f"yolo:{folder.root}/data.yaml", f"yolo:{folder.root.parent}"):
        assert [len(split) for split in opened(data)] == [3, 1]


def test_without_a_yaml_file(folder):
    (folder.root / "data.yaml").unlink()
    refused(r"no class names, expected a YAML file with names and train, or classes\.txt", folder.data)
    (folder.root / "classes.txt").write_text("cell\nplate\n")
    assert [len(split) for split in opened(folder.data)] == [3, 1]
    assert opened(folder.data)[0].class_names == ("cell", "plate")


def test_labels_beside_the_images_and_below_one_another(tmp_path):
    root = tmp_path / "darknet"
    for i in range(10):
        picture(root / f"data/part{i % 2}/{i}.jpg")
        (root / f"data/part{i % 2}/{i}.txt").write_text(f"{i % 2} .5 .5 .5 .5")
    (root / "d.yaml").write_text("names: [a, b]\ntrain: data\nval: nowhere")
    train, test = opened(f"yolo:{root}")
    assert (len(train), len(test)) == (8, 2)
    assert test.describe()[1:] == [
        "test: val: 'nowhere' of d.yaml is not there",
        "test: no split of its own: a fifth, by the SHA-256 of the name",
    ]
    assert [len(split) for split in opened(f"yolo:{root}", hold_out=False)] == [10, 10]


def test_the_same_images_for_both(folder):
    folder.describe("names: [cell, plate]\ntrain: images/train\nval: images/train")
    train, test = opened(folder.data)
    assert len(train) == len(test) == 3
    assert "test: 3 images are in the training split too, as data.yaml says" in test.describe()


def test_numbers_of_classes_may_have_gaps(folder):
    folder.describe("names: {7: plate, 0: cell, 9: wing}\ntrain: images/train\nval: images/val")
    for name, split in (("a0", "train"), ("b0", "val")):
        text = (folder.root / f"labels/{split}/{name}.txt").read_text()
        folder.put(name, text.replace("\n1 ", "\n7 ").replace("1 0.5", "7 0.5"), split=split)
    train, _ = opened(folder.data)
    assert train.class_names == ("cell", "plate", "wing")
    assert train.batches(1).batch(0)["classes"].tolist() == [[0, 1]]
    folder.put("a1", "1 .5 .5 .5 .5")
    refused(r"a1\.txt:1: class 1, expected 0 to 2|expected 0, 7, 9", folder.data)


LINES = {
    "letters": ("0 .5 .5 x .5", "'x' where a number is expected"),
    "four": ("0 .5 .5 .5", "4 numbers, expected class x y width height, or class and x y of at least 3 points"),
    "six": ("0 .5 .5 .5 .5 .9", "6 numbers, expected"),
    "even polygon": ("0 .1 .1 .2 .2 .3 .3 .4", "8 numbers, expected"),
    "class": ("2 .5 .5 .5 .5", "class 2, expected 0 to 1"),
    "negative class": ("-1 .5 .5 .5 .5", "class -1, expected 0 to 1"),
    "broken class": ("0.5 .5 .5 .5 .5", "class 0.5, expected 0 to 1"),
    "pixels": ("0 20 10 5 5", "20 where fractions of the image from 0 to 1 are expected"),
    "nan": ("0 nan .5 .5 .5", "nan where fractions"),
    "infinite": ("0 .5 .5 inf .5", "inf where fractions"),
    "negative": ("0 .5 .5 -.5 .5", r"box 0\.5 0\.5 -0\.5 0\.5: negative width or height"),
    "outside": ("0 1.5 .5 .5 .5", r"box 1\.5 0\.5 0\.5 0\.5: outside the 40x20 image"),
}


@pytest.mark.parametrize("fault", LINES)
def test_a_faulty_line_is_refused_or_skipped(folder, fault):
    line, message = LINES[fault]
    folder.put("a1", f"0 .5 .5 .5 .5\n{line}\n")
    refused(rf"a1\.txt:2: {message}", folder.data)
    lines = findings(folder.data, on_error="skip")
    assert lines[0].startswith("train: 2 images")
    (skipped,) = [line for line in lines if "faulty" in line]
    assert re.search(message, skipped)


YAMLS = {
    "broken": ("names: [cell", r"data\.yaml:\d: broken YAML: "),
    "list": ("- a\n- b", r"data\.yaml: holds \['a', 'b'\] where keys with values are expected"),
    "python": (
        "names: !!python/object/apply:os.system [ls]\ntrain: images/train",
        r"data\.yaml:1: broken YAML: could not",
    ),
    "bomb": (
        "a: &a [x, x]\nb: &b [*a, *a]\nnames: *b\ntrain: images",
        r"data\.yaml:2: broken YAML: aliases are refused",
    ),
    "deep": ("names: " + "[" * 600, r"data\.yaml: YAML that cannot be read: "),
    "no names": ("names: 5\ntrain: images/train", "names is 5, expected a list of class names"),
    "empty": ("names: {}\ntrain: images/train", "names is a mapping, expected a list of class names"),
    "nested": ("names: [[a]]\ntrain: images/train", r"class 0: \['a'\], expected a number from 0 to .*"),
    "key": ("names: {a: b}\ntrain: images/train", "class 'a': 'b', expected a number from 0 to .* and a class name"),
    "twice": ("names: [a, a]\ntrain: images/train\nval: images/val", "class 'a' is listed twice"),
    "count": ("names: [a]\nnc: 2\ntrain: images/train", "nc is 2, but names has 1"),
    "nowhere": ("names: [a]\ntrain: elsewhere", "train is 'elsewhere', and no images are there"),
    "away": ("names: [a]\ntrain: /etc", "train is '/etc', and no images are there"),
    "number": ("names: [a]\ntrain: [5]", "train or val is 5, expected a folder of images"),
    "list away": ("names: [a]\ntrain: list.txt", r"list\.txt:1: /etc/passwd is missing, or lies outside"),
}


@pytest.mark.parametrize("fault", YAMLS)
def test_a_faulty_description(folder, fault):
    text, message = YAMLS[fault]
    (folder.root / "list.txt").write_text("/etc/passwd\n")
    folder.describe(text)
    refused(message, f"yolo:{folder.root}/data.yaml")


def test_folders_and_files(folder, tmp_path):
    refused("nowhere: no such folder; data=yolo:PATH", f"yolo:{tmp_path}/nowhere")
    (tmp_path / "empty").mkdir()
    refused("neither a YAML file with names and train nor a folder images", f"yolo:{tmp_path}/empty")
    folder.put("a1", "0 .5 .5 .5 .5 \x00")
    refused(r"a1\.txt:1: '.*' where a number is expected", folder.data)
    (folder.root / "labels/train/a1.txt").write_bytes(b"0 .5\n\xff\xfe")
    refused(r"a1\.txt:2: byte 0xff is no UTF-8", folder.data)
    secret = picture(tmp_path / "secret.png")
    (folder.root / "images/train/x.png").symlink_to(secret)
    refused(r"x\.png: a symbolic link that leads out of", folder.data)
    (folder.root / "images/train/x.png").unlink()
    folder.put("a1", "0 .5 .5 .5 .5\n")
    noise(folder.root / "images/train/a1.png").write_bytes(noise(tmp_path / "a.png").read_bytes()[:5_000])
    refused(r"a1\.png: image is truncated", folder.data)
    assert len(opened(folder.data, on_error="skip")[0]) == 2


def test_masks_from_polygons(folder):
    folder.put("a0", "1 0 0 .5 0 .5 .5 0 .5\n")
    folder.put("b0", "", split="val")
    train, test = opened(folder.data, by=segmentation_data, image_size=40)
    assert train.class_names == ("background", "cell", "plate") and (len(train), len(test)) == (3, 1)
    mask = train.batches(3).batch(0)["mask"]
    assert (mask[0, :20, :20] == 2).all() and (mask[0] == 2).sum() == 400 and not mask[2].any()
    folder.put("a2", "0 .5 .5 .5 .5\n")
    refused(r"a2\.txt:1: a box where a mask needs a polygon: class x0 y0", folder.data, by=segmentation_data)


DESCRIPTIONS = {
    "absolute": "path: {root}\ntrain: {root}/images/train\nval: {root}/images/val\nnames: [cell, plate]",
    "of another machine": "train: /content/yolo/images/train\nval: C:\\\\sets\\\\images\\\\val\nnames: [cell, plate]",
    "keys as texts": "names: {{'0': cell, '1': plate}}\ntrain: images/train\nval: images/val",
    "val that is not there": "names: [cell, plate]\ntrain: images/train\nval: ../valid/images\ntest: images/val",
    "no val": "names: [cell, plate]\ntrain: images/train\ntest: images/val",
    "lists of folders": "names: [cell, plate]\ntrain: [images/train]\nval: [images/val]",
    "lists of files": "names: [cell, plate]\ntrain: train.txt\nval: [val.txt]",
}


@pytest.mark.parametrize("how", DESCRIPTIONS)
def test_descriptions_as_tools_write_them(folder, how):
    folder.describe(DESCRIPTIONS[how].format(root=folder.root))
    (folder.root / "train.txt").write_text("".join(f"{folder.root}/images/train/a{i}.png\n" for i in range(3)))
    (folder.root / "val.txt").write_text("./images/val/b0.png\n")
    train, test = opened(folder.data)
    assert (len(train), len(test), train.class_names) == (3, 1, ("cell", "plate"))
    if how == "val that is not there":
        assert "test: val: '../valid/images' of data.yaml is not there" in test.describe()


def test_two_folders_that_lead_to_one_are_refused(folder):
    folder.describe("train: /a/images/train\nval: /b/images/train\nnames: [cell, plate]")
    refused("train and val both lead to .*images/train, expected one folder each", folder.data)


def test_classes_called_no_and_1e3(folder):
    folder.describe("names: [no, 010]\ntrain: images/train\nval: images/val")
    assert opened(folder.data)[0].class_names == ("no", "010")


def test_spellings_of_one_name(folder):
    """A picture in decomposed letters with an ending in capitals, its labels in composed ones."""
    picture(folder.root / "images/train/cafe\u0301.PNG")
    folder.put("caf\u00e9", "0 .5 .5 .5 .5\n").rename(folder.root / "labels/train/caf\u00e9.TXT")
    train, _ = opened(folder.data)
    assert len(train) == 4 and train.batches(4).batch(0)["valid"].sum() == 4
    assert not any("without" in line for line in train.describe()[2:])


def pose(tmp_path, line, more=""):
    for split in ("train", "val"):
        picture(tmp_path / f"images/{split}/a.png", (100, 100))
        file = tmp_path / f"labels/{split}/a.txt"
        file.parent.mkdir(parents=True)
        file.write_text(line)
    (tmp_path / "data.yaml").write_text(f"names: [cat]\ntrain: images/train\nval: images/val\n{more}")
    return f"yolo:{tmp_path}"


def test_poses(tmp_path):
    data = pose(tmp_path, "0 .5 .5 .2 .3 .5 .45 .55 .6", "kpt_shape: [2, 2]\nkpt_names: {0: [left_eye, right_eye]}\n")
    batch = opened(data, image_size=100)[0].batches(1).batch(0)
    np.testing.assert_allclose(batch["boxes"][0], [[40, 35, 60, 65]], rtol=1e-5)
    train, _ = opened(data, by=landmark_data, image_size=100)
    (example,) = examples(train)
    np.testing.assert_allclose(example.points, [[50, 45], [55, 60]], rtol=1e-5)
    assert example.visible.all() and train.swap == (1, 0)
    refused("a box where a mask needs a polygon", data, by=segmentation_data)


def test_poses_with_flags_and_faults(tmp_path):
    data = pose(tmp_path, "0 .5 .5 .2 .3 .5 .45 2 0 0 0", "kpt_shape: [2, 3]\nflip_idx: [1, 0]\n")
    train, _ = opened(data, by=landmark_data)
    assert examples(train)[0].visible.tolist() == [True, False] and train.swap == (1, 0)
    edit(tmp_path / "data.yaml", "[1, 0]", "[1, 1]")
    refused(r"flip_idx is \[1, 1\], expected each of 0 to 1 once", data, by=landmark_data)
    edit(tmp_path / "data.yaml", "[2, 3]\nflip_idx: [1, 1]", "[3, 2]")
    assert opened(data, by=landmark_data)[0].swap is None, "no names, no swap"
    edit(tmp_path / "data.yaml", "[3, 2]", "[3, 3]")
    refused(r"a\.txt:1: 11 numbers, expected 14: class x y width height and kpt_shape's 3 points of 3", data)


def test_rotated_boxes(tmp_path):
    data = pose(tmp_path, "0 .5 .2 .8 .5 .5 .8 .2 .5")
    batch = opened(data, image_size=100)[0].batches(1).batch(0)
    np.testing.assert_allclose(batch["boxes"][0], [[20, 20, 80, 80]], rtol=1e-5)
    train, _ = opened(data, by=segmentation_data, image_size=100)
    assert train.batches(1).batch(0)["mask"].sum() == pytest.approx(1800, rel=0.03)


def test_a_picture_with_an_exif_orientation_is_refused(folder):
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(folder.root / "images/train/a0.png", exif=exif)
    refused(r"a0\.txt: a0\.png has EXIF orientation 6, and no size is stated that would tell", folder.data)


def test_of_two_descriptions_the_one_that_fits_the_task(folder):
    shutil.copytree(folder.root, folder.root.parent / "two/boxes")
    root = folder.root.parent / "two"
    shutil.copytree(root / "boxes", root / "outlines")
    for split, name in (("train", "a0"), ("train", "a1"), ("val", "b0")):
        (root / f"outlines/labels/{split}/{name}.txt").write_text("0 .1 .1 .4 .1 .4 .6 .1 .6\n")
    assert opened(f"yolo:{root}")[0].batches(1).batch(0)["valid"].sum() == 2
    assert len(opened(f"yolo:{root}", by=segmentation_data)[0]) == 3
    shutil.copytree(root / "boxes", root / "again")
    refused("several descriptions, again/data.yaml, boxes/data.yaml, outlines.*: choose one with", f"yolo:{root}")


def test_real_coco128(real_data):
    root = real_data("det_yolo_coco128_train2017")
    for data in (f"yolo:{root}", f"yolo:{root}/object_detection"):
        train, test = detection_data(data)
        assert (len(train), len(test), train.num_classes) == (99, 29, 80)
        assert [len(box_sizes(split)) for split in (train, test)] == [716, 213]
        # The README counts 941 lines: twelve of them belong to the two label files without an image.
        assert train.describe() == [
            "train: 99 images, 716 boxes (0 to 195 each)",
            "train: 2 images without a box",
            "train: 2 images without a label file taken as empty (000000000250, 000000000508)",
            "train: 2 label files without an image left out (000000000656, 000000000659)",
            "train: 12 objects in them (000000000656, 000000000659)",
        ]
    assert test.batches(8).check(thorough=True)[0] == "test: 29 images, 213 boxes (0 to 59 each)"
    grey = [e.image.name for e in examples(test)].index("000000000086.jpg")
    with Image.open(root / "images/train2017/000000000086.jpg") as image:
        assert image.mode == "L"
    pixels = test.source.read(np.array([grey]))["image"][0]
    assert pixels.shape == (256, 256, 3) and (pixels[..., :1] == pixels).all() and pixels.std() > 10


def test_real_coco128_outlines(real_data):
    train, test = segmentation_data(f"yolo:{real_data('det_yolo_coco128_train2017')}", image_size=64)
    assert (len(train), len(test), train.num_classes) == (77, 23, 81)
    assert "train: 28 images without a label file left out" in train.describe()[1]
    empty = [int((split.source.read(np.arange(len(split)))["mask"].max((1, 2)) == 0).sum()) for split in (train, test)]
    assert sum(empty) == 2, "the two empty label files"
