"""VOC's XML where labelImg, Roboflow, CVAT and Kaggle's authors leave it, and several folders as one set."""

import shutil

import pytest
from small_sets import findings, opened, picture, refused


def put(root, xml, image, *, size=(40, 20), box=(11, 6, 20, 10), name="cell"):
    """An annotation with one box, and its picture."""
    numbers = "".join(f"<{tag}>{v}</{tag}>" for tag, v in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
    text = f"<annotation><object><name>{name}</name><bndbox>{numbers}</bndbox></object></annotation>"
    (root / xml).parent.mkdir(parents=True, exist_ok=True)
    (root / xml).write_text(text)
    picture(root / image, size)


LAYOUTS = {
    "labelImg": ("{stem}.xml", "{stem}.jpg", False),
    "labelImg in capitals": ("{stem}.xml", "{stem}.JPG", False),
    "Roboflow": ("{split}/{stem}.xml", "{split}/{stem}.jpg", True),
    "Kaggle": ("annotations/{stem}.xml", "images/{stem}.png", False),
    "annots": ("annots/{stem}.xml", "images/{stem}.jpg", False),
    "folders of splits": ("annotations/{split}/{stem}.xml", "images/{split}/{stem}.jpg", True),
    "splits of folders": ("{split}/annotations/{stem}.xml", "{split}/images/{stem}.jpg", True),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_where_annotations_may_lie(tmp_path, layout):
    xml, image, splits = LAYOUTS[layout]
    for i in range(6):
        how = {"split": ["train", "valid", "test"][max(0, i - 3)], "stem": f"n{i}"}
        put(tmp_path, xml.format(**how), image.format(**how))
    train, test = opened(f"voc:{tmp_path}", image_size=40)
    assert [len(train), len(test)] == [4, 1] if splits else len(train) + len(test) == 6
    assert test.batches(1).batch(0)["boxes"][0, 0].tolist() == [10, 10, 20, 20]
    lines = findings(f"voc:{tmp_path}")
    if splits:
        assert "test: the folders of valid; those of test are not used" in lines
        assert any("1 annotations in no folder of a split not used" in line for line in lines)
    else:
        assert "test: no split of its own: a fifth, by the SHA-256 of the name" in lines


def test_val_missing_falls_to_test(tmp_path):
    for i, split in enumerate(("train", "train", "test")):
        put(tmp_path, f"{split}/{i}.xml", f"{split}/{i}.jpg")
    assert [len(split) for split in opened(f"voc:{tmp_path}")] == [2, 1]


def test_pictures_without_an_annotation_are_counted_and_annotations_without_one_refused(tmp_path):
    for i in range(3):
        put(tmp_path, f"{i}.xml", f"{i}.jpg")
    picture(tmp_path / "9.jpg")
    assert "train: 1 images without an annotation left out (9.jpg)" in findings(f"voc:{tmp_path}")
    (tmp_path / "1.jpg").unlink()
    refused(r"1\.xml: its image 1\.jpg is missing", f"voc:{tmp_path}")
    assert "faulty examples skipped" in " ".join(findings(f"voc:{tmp_path}", on_error="skip"))


def test_cvat(tmp_path):
    for i in range(6):
        put(tmp_path, f"Annotations/f{i}.xml", f"JPEGImages/f{i}.png")
    (tmp_path / "ImageSets/Main").mkdir(parents=True)
    (tmp_path / "ImageSets/Main/default.txt").write_text("".join(f"f{i}\n" for i in range(6)))
    assert sum(len(split) for split in opened(f"voc:{tmp_path}")) == 6


def test_several_folders_as_one_set(tmp_path):
    for year, lists in (
        ("VOC2007", {"trainval": "a b", "test": "c"}),
        ("VOC2012", {"train": "d", "val": "e", "trainval": "d e"}),
    ):
        root = tmp_path / year
        for name in " ".join(lists.values()).split():
            put(root, f"Annotations/{name}.xml", f"JPEGImages/{name}.jpg", name="dog")
        (root / "ImageSets/Main").mkdir(parents=True)
        for name, ids in lists.items():
            (root / f"ImageSets/Main/{name}.txt").write_text("\n".join(ids.split()))
    data = f"voc:{tmp_path}/VOC2007+{tmp_path}/VOC2012"
    assert [len(split) for split in opened(data)] == [4, 1], "07+12: all of 2012 is for training"
    (tmp_path / "VOC2007/ImageSets/Main/test.txt").unlink()
    (tmp_path / "VOC2007/ImageSets/Main/val.txt").write_text("b")
    (tmp_path / "VOC2007/ImageSets/Main/train.txt").write_text("a")
    assert [len(split) for split in opened(data)] == [2, 2]
    shutil.rmtree(tmp_path / "VOC2012")
    refused("VOC2012: no such folder; data=voc:PATH", data)
