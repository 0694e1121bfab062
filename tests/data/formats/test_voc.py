"""A small VOC folder written by the test, each fault in a copy of its own, and the real blood cells."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxcv.data import detection_data
from jaxcv.data.formats.voc import VOC_CLASSES, scan_voc
from jaxcv.data.io import workers
from jaxcv.data.sources import image_files
from jaxcv.errors import DataError
from jaxcv.metrics import coco_average_precision
from jaxcv.types import Detections

OBJECT = """  <object>
    <name>{name}</name>
    <difficult>{difficult}</difficult>
    <bndbox>
      <xmin>{box[0]}</xmin>
      <ymin>{box[1]}</ymin>
      <xmax>{box[2]}</xmax>
      <ymax>{box[3]}</ymax>
    </bndbox>
  </object>
"""
"""Ten lines, the first one line 4 of the file: its name on line 5, its box on line 7, the next name on line 15."""


def xml(image_id, objects, size=(40, 20)):
    parts = "".join(OBJECT.format(name=o[0], box=o[1:5], difficult=o[5] if len(o) > 5 else 0) for o in objects)
    head = f"<annotation>\n  <filename>{image_id}.png</filename>\n"
    return f"{head}  <size><width>{size[0]}</width><height>{size[1]}</height></size>\n{parts}</annotation>\n"


class Folder:
    """A VOC set of 40x20 images: a0, a1, a2 train, b0 tests."""

    def __init__(self, root):
        self.root = root
        for part in ("Annotations", "JPEGImages", "ImageSets/Main"):
            (root / part).mkdir(parents=True)
        self.put("a0", [("cell", 1, 1, 40, 20), ("plate", 11, 6, 20, 10)])
        self.put("a1", [("cell", 3, 3, 12, 12)])
        self.put("a2", [])
        self.put("b0", [("plate", 5, 5, 30, 15)])
        self.lists(trainval="a0 a1 a2", test="b0")

    def put(self, image_id, objects, size=(40, 20)):
        (self.root / "Annotations" / f"{image_id}.xml").write_text(xml(image_id, objects, size))
        pixels = np.random.default_rng(len(image_id) + ord(image_id[-1])).integers(0, 256, (20, 40, 3), np.uint8)
        Image.fromarray(pixels).save(self.image(image_id))

    def lists(self, **lists):
        for old in (self.root / "ImageSets/Main").iterdir():
            old.unlink()
        for name, ids in lists.items():
            (self.root / "ImageSets/Main" / f"{name}.txt").write_text("\n".join(ids.split()) + "\n")

    def image(self, image_id):
        return self.root / "JPEGImages" / f"{image_id}.png"

    def edit(self, image_id, old, new):
        file = self.root / "Annotations" / f"{image_id}.xml"
        assert old in file.read_text()
        file.write_text(file.read_text().replace(old, new, 1))

    def open(self, **options):
        """Both splits, as a new process would see the folder."""
        detection_data.cache_clear()
        scan_voc.cache_clear()
        return detection_data(f"voc:{self.root}", **{"image_size": 80, "resize": "squash", **options})

    def check(self, **options):
        return [line for split in self.open(**options) for line in split.batches(2).check(thorough=True)]

    def refuses(self, message, **options):
        """The quick check of either split finds the fault, and says this."""
        with pytest.raises(DataError, match=message) as caught:
            for split in self.open(**options):
                split.batches(2).check()
        assert "\n" not in str(caught.value)
        return caught.value


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path / "voc")


def test_boxes_are_edges_scaled_to_the_input(folder):
    train, test = folder.open()
    assert train.class_names == ("cell", "plate") and (len(train), len(test), train.num_classes) == (3, 1, 2)
    batches = train.batches(4)
    batch = batches.batch(0)
    # 1..40 x 1..20 is the whole image; 11..20 x 6..10 is 10 x 5 pixels at (10, 5); x is scaled by 2 and y by 4.
    assert batch["boxes"][0].tolist() == [[0, 0, 80, 80], [20, 20, 40, 40]]
    assert batch["boxes"][1].tolist() == [[4, 8, 24, 48], [0, 0, 0, 0]]
    assert batch["classes"].tolist() == [[0, 1], [0, 0], [0, 0], [0, 0]]
    assert batch["valid"].tolist() == [[True, True], [True, False], [False, False], [False, False]]
    assert batch["example_valid"].tolist() == [True, True, True, False] and not batch["ignored"].any()
    assert {k: (v.shape, v.dtype) for k, v in batch.items()} == {k: (v.shape, v.dtype) for k, v in batches.spec.items()}
    assert test.batches(1).batch(0)["boxes"].shape == (1, 2, 4), "as many as the fullest image of either split"


def test_images_are_squashed(folder):
    Image.fromarray(np.full((20, 40), 7, np.uint8)).save(folder.image("a0"))
    image = folder.open()[0].batches(3).batch(0)["image"]
    assert image.shape == (3, 80, 80, 3) and (image[0] == 7).all()


def test_findings(folder):
    assert folder.check() == [
        "train: 3 images, 3 boxes (cell 2, plate 1)",
        "train: 1 images without a box",
        "test: 1 images, 1 boxes (cell 0, plate 1)",
    ]


@pytest.mark.parametrize("box", [(5, 5, 5, 9), (5, 5, 9, 5), (5, 5, 5, 5)])
def test_zero_area_boxes_are_dropped_and_counted(folder, box):
    folder.put("a1", [("cell", *box), ("cell", 3, 3, 12, 12)])
    assert "train: 1 zero-area boxes dropped (a1)" in folder.check()
    assert folder.open()[0].batches(3).batch(0)["valid"].sum(1).tolist() == [2, 1, 0]


def test_boxes_beyond_the_border_are_cut_and_counted(folder):
    folder.put("a1", [("cell", -7, 1, 10, 10), ("cell", 0, 0, 41, 21), ("cell", 31, 11, 60, 20)])
    boxes = folder.open(image_size=40)[0].batches(3).batch(0)["boxes"]
    assert boxes[1].tolist() == [[0, 0, 10, 20], [0, 0, 40, 40], [30, 20, 40, 40]]
    assert "train: 2 boxes cut at the image border (a1)" in folder.check(), "counting from 0 is not worth a word"


def test_difficult_boxes_are_ignored_not_valid(folder):
    folder.put("a1", [("cell", 3, 3, 12, 12, 1), ("cell", 3, 3, 12, 12)])
    train, _ = folder.open()
    batch = train.batches(3).batch(0)
    assert batch["valid"][1].tolist() == [False, True] and batch["ignored"][1].tolist() == [True, False]
    assert "train: 1 difficult or crowd boxes, neither truth nor false alarm" in folder.check()
    assert len(train.source.box_sizes()) == 3


def test_anchor_boxes_see_the_boxes_that_count(folder):
    train, _ = folder.open()
    assert sorted(map(tuple, train.source.box_sizes().tolist())) == [(20, 20), (20, 40), (80, 80)]
    assert train.anchor_boxes(k=3).shape == (3, 2)


def test_splits(folder):
    assert [len(split) for split in folder.open()] == [3, 1]
    folder.lists(train="a0 a1", val="a2 b0", test="a2")
    assert [len(split) for split in folder.open(classes=("cell", "plate"))] == [2, 2]


@pytest.mark.parametrize("inside", ["VOC2007", "VOCdevkit/VOC2007"])
def test_the_folder_may_lie_deeper(tmp_path, inside):
    Folder(tmp_path / inside)
    assert len(detection_data(f"voc:{tmp_path}")[0]) == 3


def test_classes(folder):
    assert folder.open(classes=("plate", "wing", "cell"))[0].batches(3).batch(0)["classes"][0].tolist() == [2, 0]
    (folder.root / "classes.txt").write_text("plate\n\ncell\n")
    assert folder.open()[0].class_names == ("plate", "cell")


def test_the_twenty_classes_of_voc(folder):
    folder.put("a0", [("dog", 1, 1, 9, 9)])
    folder.put("a1", [("person", 1, 1, 9, 9)])
    folder.put("b0", [("cat", 1, 1, 9, 9)])
    train, _ = folder.open()
    assert train.class_names == VOC_CLASSES and len(VOC_CLASSES) == 20
    assert train.batches(3).batch(0)["classes"][:, 0].tolist() == [11, 14, 0]


def test_images_are_decoded_once(folder, monkeypatch):
    calls = []
    read = workers.read_region
    monkeypatch.setattr(
        workers, "read_region", lambda path, *how, **options: calls.append(path) or read(path, *how, **options)
    )
    train, _ = folder.open()
    first, second = list(train.batches(2)), list(train.batches(2))
    assert len(calls) == 3
    monkeypatch.setenv("JAXCV_MEMORY", "100")
    train, _ = folder.open()
    third = list(train.batches(2)) + list(train.batches(2))
    assert len(calls) == 9
    for a, b in zip(first + second, third, strict=True):
        np.testing.assert_array_equal(a["image"], b["image"])


def test_a_persons_image(folder, tmp_path):
    Image.fromarray(np.full((40, 20), 9, np.uint8)).save(tmp_path / "a.png")
    pixels, factors = folder.open()[0].batches(1).read_image(tmp_path / "a.png")
    assert pixels.shape == (80, 80, 3) and (pixels == 9).all() and factors[1:3] == (0.25, 0.5)


def test_progress(folder):
    seen = []
    folder.open()[0].batches(2).check(progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


FAULTS_OF_AN_ANNOTATION = {
    "broken tag": ("</name>", "</nam>", r"a0\.xml:5: broken XML: mismatched tag"),
    "cut off": ("</annotation>", "", r"a0\.xml:2\d: broken XML: no element found"),
    "negative size": ("<width>40</width>", "<width>-1</width>", r"a0\.xml:3: image size -1x20, expected at least 1x1"),
    "no name": ("<name>cell</name>", "", r"a0\.xml:4: <object> has no <name>"),
    "empty name": ("<name>cell</name>", "<name> </name>", r"a0\.xml:5: the name of a class is '', expected a text"),
    "no coordinate": ("<ymin>1</ymin>", "", r"a0\.xml:7: <bndbox> has no <ymin>"),
    "not a number": ("<xmin>1</xmin>", "<xmin>l</xmin>", r"a0\.xml:8: <xmin> is 'l', expected a number"),
    "not finite": ("<xmin>1</xmin>", "<xmin>nan</xmin>", r"a0\.xml:8: <xmin> is 'nan', expected a number"),
    "swapped": (
        "<xmin>1</xmin>",
        "<xmin>41</xmin>",
        r"a0\.xml:7: box xmin=41 ymin=1 xmax=40 ymax=20: negative width or height",
    ),
    "another size": (
        "<width>40</width>",
        "<width>41</width>",
        r"a0\.xml: the annotation says 41x20, a0\.png is 40x20",
    ),
}


@pytest.mark.parametrize("fault", FAULTS_OF_AN_ANNOTATION)
def test_a_faulty_annotation_is_refused_or_skipped(folder, fault, caplog):
    old, new, message = FAULTS_OF_AN_ANNOTATION[fault]
    folder.edit("a0", old, new)
    folder.refuses(message)
    folder.put("a3", [("plate", 3, 3, 12, 12)])
    folder.lists(trainval="a0 a1 a2 a3", test="b0")
    train, test = folder.open(on_error="skip")
    assert (len(train), len(test)) == (3, 1)
    skipped = train.batches(2).check()[-1]
    assert skipped.startswith("train: 1 faulty examples skipped, the first: ") and re.search(message, skipped)
    assert "train: 1 faulty examples skipped" in caplog.text


@pytest.mark.parametrize("size", ["", "<size/>", "<size><width>0</width><height>0</height></size>"])
def test_a_size_that_is_not_stated_is_taken_from_the_picture(folder, size):
    if size == "<size/>":
        folder.edit("a0", "<size><width>40</width><height>20</height></size>", size)
        folder.refuses(r"a0\.xml:3: <size> has no <width>")
        return
    folder.edit("a0", "<size><width>40</width><height>20</height></size>", size)
    assert folder.open()[0].batches(1).batch(0)["boxes"][0].tolist() == [[0, 0, 80, 80], [20, 20, 40, 40]]


@pytest.mark.parametrize("difficult", ["Unspecified", "", " ", "0"])
def test_difficult_that_is_not_said(folder, difficult):
    folder.edit("a0", "<difficult>0", f"<truncated>{difficult}</truncated><difficult>{difficult}")
    assert folder.open()[0].batches(1).batch(0)["valid"].sum() == 2


def test_corners_with_a_point_are_kept(folder):
    folder.put("a1", [("cell", "10.5", "5", "20.5", "10.0"), ("cell", 11, 6, 20, 10)])
    assert folder.open(image_size=40)[0].batches(3).batch(0)["boxes"][1].tolist() == [
        [10.5, 8, 20.5, 20],
        [10, 10, 20, 20],
    ]


def test_a_box_outside_the_image(folder):
    folder.put("a0", [("cell", 50, 5, 60, 9), ("plate", 1, 1, 9, 9)])
    folder.refuses(r"a0\.xml:7: box xmin=50 ymin=5 xmax=60 ymax=9: outside the 40x20 image")


def test_an_annotation_of_another_kind(folder):
    (folder.root / "Annotations/a0.xml").write_text("<doc></doc>")
    folder.refuses(r"a0\.xml:1: <doc> where VOC has <annotation>")


def test_entities_are_refused(folder):
    bomb = '<!DOCTYPE a [<!ENTITY x "boom">]>\n<annotation>&x;</annotation>'
    (folder.root / "Annotations/a0.xml").write_text(bomb)
    folder.refuses(r"a0\.xml: XML with entities or external references is refused")


def test_an_image_name_cannot_leave_the_folder(folder, tmp_path):
    folder.image("a0").rename(tmp_path / "secret.png")
    folder.edit("a0", "a0.png", "../../secret.png")
    folder.refuses(r"a0\.xml: its image JPEGImages/\.\./\.\./secret\.png is missing")


def test_a_missing_annotation(folder):
    (folder.root / "Annotations/a1.xml").unlink()
    folder.refuses(r"trainval\.txt:2: Annotations/a1\.xml is missing")
    assert len(folder.open(on_error="skip")[0]) == 2


def test_a_missing_image(folder):
    folder.image("a1").unlink()
    folder.refuses(r"a1\.xml: its image JPEGImages/a1\.png is missing")
    assert len(folder.open(on_error="skip")[0]) == 2


@pytest.mark.parametrize("split", ["a1", "b0"])
def test_a_truncated_image(folder, split):
    folder.image(split).write_bytes(folder.image(split).read_bytes()[:-500])
    folder.refuses(rf"{split}\.png: image is truncated")
    with pytest.raises(DataError, match=rf"{split}\.png: image"):
        for dataset in folder.open():
            list(dataset.batches(2))


def test_a_damaged_image_is_found_by_the_thorough_check_and_at_reading(folder):
    data = bytearray(folder.image("a1").read_bytes())
    data[300:340] = bytes(40)
    folder.image("a1").write_bytes(data)
    train, _ = folder.open()
    train.batches(2).check()
    for find in (lambda: train.batches(2).check(thorough=True), lambda: list(train.batches(2))):
        with pytest.raises(DataError, match=r"a1\.png: image"):
            find()
    assert len(folder.open(on_error="skip")[0]) == 2


def test_an_image_of_another_size_is_not_read(folder):
    folder.edit("a1", "<width>40</width>", "<width>41</width>")
    with pytest.raises(DataError, match=r"a1\.xml: the annotation says 41x20, a1\.png is 40x20"):
        list(folder.open()[0].batches(3))


def test_nothing_left_after_skipping(folder):
    folder.image("b0").unlink()
    folder.refuses(r"no example is left for test \(1 faulty, the first: .*b0\.xml: its image", on_error="skip")


def test_lists(folder):
    folder.lists(trainval="a0 a1 b0", test="a2 b0")
    folder.refuses(r"test\.txt:2: b0 stands also in trainval\.txt:3")
    folder.lists(trainval="a0", test="")
    folder.refuses(r"test\.txt: the list is empty")
    folder.lists(train="a0 a1", test="b0")
    assert [len(split) for split in folder.open()] == [2, 1], "test where there is no val"
    folder.lists(default="a0 a1 b0 a2")
    assert sum(len(split) for split in folder.open()) == 4
    assert folder.check()[-1] == "test: no split of its own: a fifth, by the SHA-256 of the name"


def test_folders(folder, tmp_path):
    with pytest.raises(DataError, match=r"nowhere: no such folder; data=voc:PATH"):
        len(detection_data(f"voc:{tmp_path}/nowhere")[0])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty: no annotation \(\.xml\) in it or below; the folder holds nothing"):
        len(detection_data(f"voc:{tmp_path}/empty")[0])
    (folder.root / "JPEGImages").rename(folder.root / "Images")
    assert len(folder.open()[0]) == 3
    for year in (2007, 2012):
        Folder(tmp_path / f"kit/VOC{year}")
    with pytest.raises(
        DataError, match=r"kit: several VOC folders: choose one, or take all with data=voc:.*VOC2007\+.*VOC2012"
    ):
        len(detection_data(f"voc:{tmp_path}/kit")[0])


def test_a_class_outside_the_list(folder):
    message = r"a0\.xml:5: class 'cell' is not in the list \(cells, plate\); did you mean 'cells'\?"
    folder.refuses(message, classes=("cells", "plate"))
    (folder.root / "classes.txt").write_text("cells\nplate\n")
    folder.refuses(message)
    folder.refuses(r"class 'a' is listed twice", classes=("a", "b", "a"))
    (folder.root / "classes.txt").write_text("\n")
    folder.refuses(r"classes\.txt: no class is listed, expected a name")


def test_a_class_only_the_test_split_has(folder):
    folder.put("b0", [("plat", 1, 1, 9, 9)])
    folder.refuses(
        r"b0\.xml:5: class 'plat' stands in the test split alone: did you mean 'plate'\? Correct it, or list every "
        r"class in .*classes\.txt to keep it"
    )
    (folder.root / "classes.txt").write_text("cell\nplate\nplat\n")
    assert folder.open()[1].batches(1).batch(0)["classes"][0, 0] == 2


def test_a_class_only_one_file_has(folder):
    ids = [f"c{i}" for i in range(18)]
    for image_id in ids:
        folder.put(image_id, [("cell", 1, 1, 9, 9), ("plate", 1, 1, 9, 9)])
    folder.put("a1", [("cell", 1, 1, 9, 9), ("Cell", 1, 1, 9, 9)])
    folder.lists(trainval="a0 a1 " + " ".join(ids[:-2]), test="b0 c16")
    assert folder.open()[0].num_classes == 3, "in a set of 20 files anything may stand alone"
    folder.lists(trainval="a0 a1 a2 " + " ".join(ids[:-2]), test="b0 c16")
    folder.refuses(r"a1\.xml:15: class 'Cell' stands in this file alone: did you mean 'cell'\? Correct it, or")


def test_no_object_at_all(folder):
    for image_id in ("a0", "a1", "b0"):
        folder.put(image_id, [])
    folder.refuses(r"voc: no annotation holds an object")
    folder.refuses(r"voc: 3 images to train on and not one box: no annotation has any", classes=("cell",))
    folder.put("a0", [("cell", 5, 5, 5, 9)])
    folder.refuses(r"3 images to train on and not one box: 1 zero-area boxes dropped \(a0\)", classes=("cell",))


def test_real_blood_cells(real_data):
    train, test = detection_data(f"voc:{real_data('det_voc_bccd')}", resize="squash")
    assert (len(train), len(test), train.class_names) == (292, 72, ("Platelets", "RBC", "WBC"))
    assert train.batches(32).check() + test.batches(32).check(thorough=True) == [
        "train: 292 images, 3,941 boxes (Platelets 292, RBC 3,348, WBC 301)",
        "train: 2 zero-area boxes dropped (BloodImage_00338, BloodImage_00343)",
        "test: 72 images, 945 boxes (Platelets 69, RBC 805, WBC 71)",
    ]  # 4,888 boxes less two
    spec = train.batches(32).spec
    assert (
        spec["image"].shape == (32, 256, 256, 3)
        and spec["boxes"].shape == (32, 30, 4) == test.batches(32).spec["boxes"].shape
    )
    assert isinstance(train.source, image_files.ImageFiles)
    example = train.source.scan().splits["train"][0]
    assert Path(example.image).name == f"{example.where.file.stem}.jpg" and example.size == (640, 480)
    batch = train.batches(1).batch(0)
    np.testing.assert_allclose(
        batch["boxes"][0, : len(example.boxes)], example.boxes * np.array([0.4, 256 / 480] * 2), rtol=1e-6
    )
    sizes = train.source.box_sizes()
    assert len(sizes) == 3_941 and sizes.min() > 0 and sizes.max() <= 256


def test_the_experiment_takes_the_rule_for_difficult_objects(folder, load):
    """A truth found at 0.9, and at 0.95 a false alarm inside a large difficult box: 0.5 of AP50, by the experiment."""
    folder.put("b0", [("plate", 1, 1, 20, 20, 1), ("plate", 31, 11, 40, 20)])
    train, test = folder.open()
    assert train.ignored == test.ignored == "difficult"
    experiment = load("yolo")(data=f"voc:{folder.root}", image_size=80)
    boxes = np.zeros((1, 2, 4), np.float32)
    batch = experiment.test_data.batch(0)
    assert batch["ignored"][0].tolist() == [True, False]
    boxes[0] = batch["boxes"][0, 1], [4, 8, 12, 24]
    found = Detections(boxes, np.asarray([[0.9, 0.95]], np.float32), np.ones((1, 2), np.int32), np.ones((1, 2), bool))
    first = {name: value[:1] for name, value in batch.items()}
    metric = experiment.metrics["mAP50"]
    assert metric.reduce([metric.measure(found, first)])[metric.pick] == pytest.approx(0.5)
    assert {m.reduce for m in experiment.metrics.values()} == {coco_average_precision(ignored="difficult").reduce}
    assert load("yolo")().metrics["mAP"].reduce == coco_average_precision(ignored="crowd").reduce
