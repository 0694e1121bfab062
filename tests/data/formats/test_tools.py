"""What LabelMe, CVAT and COCO's panoptic sets write, and what is wrong with it."""

import json

import numpy as np
import pytest
from PIL import Image
from small_sets import examples, findings, opened, picture, refused

from jaxcv.data import landmark_data, segmentation_data

SQUARE = [[10, 5], [20, 5], [20, 10], [10, 10]]


def shape(label, points, kind="polygon", **more):
    return {"label": label, "points": points, "shape_type": kind, **more}


def put_labelme(root, name, shapes, *, image="{}.jpg", size=(40, 20), **more):
    picture(root / image.format(name))
    stated = {"imageWidth": size[0], "imageHeight": size[1]} if size else {}
    content = {"version": "5.4.1", "shapes": shapes, "imagePath": f"{name}.jpg", "imageData": None, **stated, **more}
    (root / f"{name}.json").parent.mkdir(parents=True, exist_ok=True)
    (root / f"{name}.json").write_text(json.dumps(content))


@pytest.fixture
def labelme(tmp_path):
    put_labelme(tmp_path, "train/a", [shape("cat", SQUARE), shape("dog", [[30, 20], [0, 0]], "rectangle")])
    put_labelme(tmp_path, "train/b", [shape("dog", [[20, 10], [25, 10]], "circle"), shape("cat", [[1, 1]], "point")])
    put_labelme(
        tmp_path, "val/c", [shape("cat", SQUARE, group_id=1), shape("cat", [[0, 0], [4, 0], [0, 4]], group_id=1)]
    )
    return tmp_path


def test_labelme(labelme):
    train, test = opened(f"labelme:{labelme}", image_size=40)
    assert train.class_names == ("cat", "dog") and (len(train), len(test)) == (2, 1)
    batch = train.batches(2).batch(0)
    assert batch["boxes"][0].tolist() == [[10, 10, 20, 20], [0, 0, 30, 40]]
    np.testing.assert_allclose(batch["boxes"][1, 0], [15, 10, 25, 30], atol=0.01)
    assert test.batches(1).batch(0)["boxes"][0, 0].tolist() == [0, 0, 20, 20], "a group is one object"
    assert "train: 1 shapes of the kind 'point' left out (b)" in findings(f"labelme:{labelme}")
    mask = opened(f"labelme:{labelme}", by=segmentation_data, image_size=40)[0].batches(1).batch(0)["mask"][0, ::2]
    assert (mask[5:10, 10:20] == 1).all() and (mask == 2).sum() == 30 * 20 - 50


def test_labelme_points(tmp_path):
    for name in ("train/a", "val/b"):
        put_labelme(tmp_path, name, [shape("left eye", [[5, 4]], "point"), shape("right eye", [[9.5, 4]], "point")])
    put_labelme(tmp_path, "train/c", [shape("right eye", [[3, 3]], "point")], size=None)
    train, _ = opened(f"labelme:{tmp_path}", by=landmark_data)
    assert train.swap == (1, 0) and [e.visible.tolist() for e in examples(train)] == [[True, True], [False, True]]
    assert examples(train)[0].points.tolist() == [[5, 4], [9.5, 4]]


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([5], r"shapes\[0\]: 5, expected an object with a text `label`"),
        ([shape("cat", [[1, "2"]])], r"shapes\[0\]: points is a list, expected pairs of numbers"),
        ([shape("cat", [[1, 2]], "rectangle")], r"shapes\[0\]: a rectangle of 1 points, expected 2"),
        ([shape("cat", [[1, 2], [3, 4]])], r"shapes\[0\]: a polygon of 4 numbers"),
        ([shape("cat", [[1, 2], [900, 4], [3, 3]])], r"shapes\[0\]: a polygon whose x of point 1 is 900, far out"),
    ],
)
def test_labelme_faults(labelme, shapes, message):
    put_labelme(labelme, "train/a", shapes)
    refused(rf"a\.json: {message}", f"labelme:{labelme}")
    assert len(opened(f"labelme:{labelme}", on_error="skip")[0]) == 1


CVAT = """<annotations><version>1.1</version><meta><task><labels>
<label><name>dog</name></label><label><name>cat</name></label></labels></task></meta>
<image id="0" name="a.png" subset="Train" width="40" height="20">
<box label="cat" source="manual" occluded="0" xtl="10.00" ytl="5.00" xbr="20.00" ybr="10.00" z_order="0"/>
<polygon label="dog" points="0,0;30,0;30,20;0,20"/>
<polyline label="dog" points="0,0;30,0"/>
</image>
<image id="1" name="deep/b.png" subset="Train" width="40" height="20">
<box label="cat" xtl="10" ytl="8" xbr="20" ybr="12" rotation="90.0"/>
<mask label="dog" rle="1, 2, 1" left="3" top="2" width="2" height="2"/>
</image>
<image id="2" name="c.png" subset="Validation" width="40" height="20">
<ellipse label="cat" cx="20" cy="10" rx="5" ry="5"/>
<skeleton label="cat"><points label="left ear" points="4,5" outside="0"/>
<points label="right ear" points="8,5" outside="0"/></skeleton>
</image></annotations>"""


@pytest.fixture
def cvat(tmp_path):
    for name in ("a", "deep/b", "c"):
        picture(tmp_path / f"images/{name}.png")
    (tmp_path / "annotations.xml").write_text(CVAT)
    return tmp_path


def test_cvat(cvat):
    train, test = opened(f"cvat:{cvat}", image_size=40)
    assert train.class_names == ("dog", "cat") and (len(train), len(test)) == (2, 1)
    batch = train.batches(2).batch(0)
    assert batch["boxes"][0].tolist() == [[10, 10, 20, 20], [0, 0, 30, 40]] and batch["classes"][0].tolist() == [1, 0]
    np.testing.assert_allclose(batch["boxes"][1], [[13, 10, 17, 30], [3, 4, 5, 8]], atol=1e-4)
    np.testing.assert_allclose(test.batches(1).batch(0)["boxes"][0, 0], [15, 10, 25, 30], atol=0.01)
    assert "train: 1 shapes of the kind polyline left out (a.png)" in findings(f"cvat:{cvat}/annotations.xml")
    masks = opened(f"cvat:{cvat}", by=segmentation_data, image_size=40)[0].batches(2).batch(0)["mask"][:, ::2]
    assert (masks[0, 5:10, 10:20] == 2).all() and np.argwhere(masks[1] == 1).tolist() == [[2, 4], [3, 3]]


def test_cvat_points(cvat):
    xml = (cvat / "annotations.xml").read_text()
    points = '<skeleton label="cat"><points label="left ear" points="1,1" outside="0"/></skeleton>'
    (cvat / "annotations.xml").write_text(xml.replace("</image>", f"{points}</image>", 1))
    train, test = opened(f"cvat:{cvat}", by=landmark_data)
    assert train.swap == (1, 0) and examples(train)[0].visible.tolist() == [True, False]
    assert examples(test)[0].points.tolist() == [[4, 5], [8, 5]]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('xtl="10.00"', "", r":4: <box> has no attribute xtl"),
        ('xtl="10.00"', 'xtl="x"', r":4: xtl is 'x', expected a number"),
        ('name="a.png"', 'name="../../a.png"', r":3: its image '../../a.png' is missing in"),
        ("0,0;30,0;30,20", "0,0;30", r":5: points is '0,0;30;0,20', expected pairs x,y;x,y"),
        ('width="40"', 'width="41"', "the annotation says 41x20, a.png is 40x20"),
        ('rle="1, 2, 1"', 'rle="1, 2"', r":10: runs of 3 pixels, expected 2x2 of them"),
    ],
)
def test_cvat_faults(cvat, old, new, message):
    (cvat / "annotations.xml").write_text(CVAT.replace(old, new, 1))
    refused(message, f"cvat:{cvat}")
    assert len(opened(f"cvat:{cvat}", on_error="skip")[0]) == 1


@pytest.fixture
def panoptic(tmp_path):
    for split, name in (("train2017", "a"), ("val2017", "b")):
        picture(tmp_path / split / f"{name}.jpg")
        numbers = np.zeros((20, 40), np.uint32)
        numbers[:10], numbers[10:, :20] = 300, 70_000
        colors = np.stack([numbers % 256, numbers // 256 % 256, numbers // 65536], -1).astype(np.uint8)
        (tmp_path / f"annotations/panoptic_{split}").mkdir(parents=True)
        Image.fromarray(colors).save(tmp_path / f"annotations/panoptic_{split}/{name}.png")
        content = {
            "images": [{"id": 1, "file_name": f"{name}.jpg", "width": 40, "height": 20}],
            "categories": [{"id": 200, "name": "sky", "isthing": 0}, {"id": 1, "name": "cat", "isthing": 1}],
            "annotations": [{"image_id": 1, "file_name": f"{name}.png", "segments_info": [
                {"id": 300, "category_id": 200, "iscrowd": 0}, {"id": 70_000, "category_id": 1, "iscrowd": 0}]}],
        }  # fmt: skip
        (tmp_path / f"annotations/panoptic_{split}.json").write_text(json.dumps(content))
    return tmp_path


def test_panoptic(panoptic):
    train, test = opened(f"panoptic:{panoptic}", by=segmentation_data, image_size=40)
    assert train.class_names == ("cat", "sky") and (len(train), len(test)) == (1, 1)
    mask = train.batches(1).batch(0)["mask"][0, ::2]
    assert (mask[:10] == 1).all() and (mask[10:, :20] == 0).all() and (mask[10:, 20:] == 255).all()
    file = panoptic / "annotations/panoptic_train2017.json"
    whole = file.read_text()
    file.write_text(whole.replace("70000", "70001"))
    with pytest.raises(Exception, match=r"a\.png: segment 70000 at x=0 y=10 is not in its segments_info"):
        findings(f"panoptic:{panoptic}", by=segmentation_data)
    file.write_text(whole.replace('"category_id": 1,', '"category_id": 7,'))
    refused(
        r"annotations\[0\]\.segments_info\[1\]: category_id is 7, expected",
        f"panoptic:{panoptic}",
        by=segmentation_data,
    )
