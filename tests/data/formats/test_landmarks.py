"""Tables, `.pts` files and COCO key points written here, a fault each, and the real faces."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_sets import CocoSet, PointSet, edit, examples, findings, opened, picture, pts, refused

from jaxcv.data import landmark_data
from jaxcv.data.example import check_points
from jaxcv.data.io.crops import around, square
from jaxcv.data.io.text import Where
from jaxcv.errors import DataError


def open_set(data, **options):
    return opened(data, by=landmark_data, **{"image_size": 40, **options})


def found(data, **options):
    return findings(data, by=landmark_data, **options)


def refuses(message, data, **options):
    refused(message, data, by=landmark_data, **options)


@pytest.fixture
def table(tmp_path):
    return PointSet(tmp_path / "faces")


@pytest.fixture
def coco(tmp_path):
    """Two people in a0, one in b0, three points each."""
    folder = CocoSet(tmp_path / "coco", "person_keypoints")
    for split in folder.json:
        folder.json[split]["annotations"] = []
        folder.json[split]["categories"] = [{"id": 1, "name": "person", "keypoints": ["nose", "left", "right"]}]
    folder.add(1, 1, [10, 4, 8, 8], keypoints=[12, 5, 2, 14, 5, 1, 0, 0, 0])
    folder.add(1, 1, [30, 4, 4, 8], keypoints=[32, 5, 2, 0, 0, 0, 33, 11, 2])
    folder.add(1, 1, [0, 0, 40, 20], split="val2017", keypoints=[1, 1, 2, 2, 2, 2, 3, 3, 2])
    return folder


def test_a_table(table):
    """An image of 40x20 in the middle of a square of 40: 10 rows of black above; the first pixel's middle is 0.5."""
    train, test = open_set(table.data)
    batches = train.batches(8)
    batch = batches.batch(0)
    assert {k: (v.shape, v.dtype) for k, v in batch.items()} == {k: (v.shape, v.dtype) for k, v in batches.spec.items()}
    rows = {}
    for each in (batch, test.batches(8).batch(0)):
        rows |= {
            int(image[20, 0, 0]): points.tolist() for image, points in zip(each["image"], each["points"], strict=True)
        }
    assert rows[1] == [[1.5, 11.5], [30.5, 21.5]]
    assert batch["visible"][batch["example_valid"]].all() and train.class_names == ()
    assert (
        not batch["image"][:, :10].any() and (batch["image"][1, 10:30] > 0).all() and not batch["image"][1, 30:].any()
    )
    assert train.source.box_sizes().shape == (0, 2)
    half = open_set(table.data, image_size=20)[0].batches(8).batch(0)
    np.testing.assert_allclose(half["points"], batch["points"] / 2)
    assert open_set(table.data, channels=1)[0].batches(8).batch(0)["image"].shape == (8, 40, 40, 1)
    pixels, factors = train.batches(1).read_image(table.root / "training/ann_1.png")
    assert pixels.shape == (40, 40, 3) and factors[1:3] == (1.0, 1.0)


def test_a_marked_pixel_is_where_its_point_says(tmp_path):
    table = PointSet(tmp_path)
    for i in range(6):
        pixels = np.zeros((20, 40, 3), np.uint8)
        pixels[10 + i, 30] = 255
        Image.fromarray(pixels).save(tmp_path / "training" / table.rows[i + 1].split(",")[0])
    for split in open_set(table.data, image_size=80):
        batch = split.batches(len(split)).batch(0)
        for image, points in zip(batch["image"].astype(float), batch["points"], strict=True):
            weight = image[..., 0] / image[..., 0].sum()
            middle = [(weight.sum(axis) * (np.arange(80) + 0.5)).sum() for axis in (0, 1)]
            np.testing.assert_allclose(points[1], middle, atol=0.02)


def test_people_stay_together_when_there_are_enough(table):
    train, test = open_set(table.data)
    assert (len(train), len(test)) == (3, 3), "of three people none can be spared"
    for person in ("dan", "eve", "flo"):
        for i in (1, 2):
            picture(table.root / f"training/{person}-{i}.png")
            table.rows.append(f"{person}-{i}.png,1,1,2,2")
    table.write()
    train, test = open_set(table.data)
    people = [{re.split("[_-]", e.image.name)[0] for e in examples(s)} for s in (train, test)]
    assert [len(names) for names in people] == [4, 2] and not people[0] & people[1]
    assert test.describe()[-1].startswith(
        "test: no split of its own: a fifth, by the SHA-256 of the film, or of the name"
    )


def test_tables_of_both_splits(table):
    picture(table.root / "test/zed.png")
    (table.root / "test_points.csv").write_text("zed.png,1,2,3,4\n")
    train, test = open_set(table.data)
    assert (len(train), len(test)) == (6, 1)
    assert test.batches(1).batch(0)["points"][0].tolist() == [[1.5, 12.5], [3.5, 14.5]], "no heading is needed"
    (table.root / "val_points.csv").write_text("zed.png,5,6,7,8\n")
    assert open_set(table.data)[1].batches(1).batch(0)["points"][0, 0].tolist() == [5.5, 16.5]
    assert "train: tables not used: test_points.csv" in found(table.data)
    assert len(open_set(f"{table.data}/training_points.csv")[0]) == 3


def test_points_that_are_missing_or_outside(table):
    table.rows[2] = "ann_2.png,,,30,25"
    table.write()
    lines = found(table.data)
    assert sum("points not annotated, or outside their image" in line for line in lines) == 1
    every = [split.batches(len(split)).batch(0) for split in open_set(table.data)]
    hidden = [
        (b["points"][i], b["visible"][i]) for b in every for i in range(len(b["image"])) if not b["visible"][i].all()
    ]
    ((points, visible),) = hidden
    assert not visible.any() and not points.any()


@pytest.mark.parametrize(
    ("heading", "swap"),
    [
        ("name,left_eye_x,left_eye_y,right_eye_x,right_eye_y", (1, 0)),
        ("name,RightEyeX,RightEyeY,LeftEyeX,LeftEyeY", (1, 0)),
        ("name,l.ear x,l.ear y,r.ear x,r.ear y", (1, 0)),
        ("name,nose_x,nose_y,chin_x,chin_y", (0, 1)),
        ("name,left_eye_x,left_eye_y,nose_x,nose_y", None),
        (",0,1,2,3", None),
        ("name,p1_x,p1_y,p2_x,p2_y", None),
        ("", None),
    ],
)
def test_points_swap_by_their_names(table, heading, swap):
    table.rows[0] = heading
    table.write()
    assert [split.swap for split in open_set(table.data)] == [swap, swap]


def test_seventeen_points_of_something_else_have_no_swap_of_people(coco, load):
    """Only what the file calls left and right is swapped, and without names nothing is mirrored."""
    dog = [f"{side}_{part}" for part in "abcdefgh" for side in ("right", "left")] + ["tail"]
    for names, swap in ((dog, (1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14, 16)), (None, None)):
        for split in coco.json:
            coco.json[split]["categories"][0].pop("keypoints", None)
            if names:
                coco.json[split]["categories"][0]["keypoints"] = names
            for each in coco.json[split]["annotations"]:
                each["keypoints"] = [3, 3, 2] * 17
        coco.write()
        train, _ = open_set(coco.data)
        assert train.swap == swap
        augment = load("landmarks")(data=coco.data).augment.keywords
        assert augment["swap"] == swap and (augment["flip"] > 0) == bool(names)


ROWS = {
    "letters": ("ann_2.png,x,1,2,3", r":3: point 0 is 'x', '1', expected two numbers or nothing"),
    "half": ("ann_2.png,,1,2,3", r":3: point 0 is '', '1', expected two numbers or nothing"),
    "short": ("ann_2.png,1,1", r":3: 1 points, expected 2 as elsewhere"),
    "odd": ("ann_2.png,1,1,2", r":3: 3 cells after the image's name, expected x and y of each point"),
    "nan": ("ann_2.png,1,nan,2,3", r":3: y of point 0 is nan, not a finite number"),
    "far": ("ann_2.png,1,1,900,3", r":3: x of point 1 is 900\.5, far out of the 40x20 image"),
    "infinite": ("ann_2.png,1,1,1e999,3", r":3: x of point 1 is inf, not a finite number"),
    "missing": ("nobody.png,1,1,2,3", r":3: its image 'nobody\.png' is missing in .*training"),
    "away": ("../../x.png,1,1,2,3", r":3: its image '\.\./\.\./x\.png' is missing in"),
    "no name": (",1,1,2,3", r":3: its image '' is missing in"),
}


@pytest.mark.parametrize("fault", ROWS)
def test_a_faulty_row_is_refused_or_skipped(table, fault):
    row, message = ROWS[fault]
    table.rows[2] = row
    table.write()
    refuses(rf"training_points\.csv{message}", table.data)
    lines = found(table.data, on_error="skip")
    assert any(re.search(f"1 faulty examples skipped, the first: .*{message}", line) for line in lines)


def test_faulty_tables(table, tmp_path):
    file = table.root / "training_points.csv"
    file.write_text("a,b,c\n")
    refuses("holds no line with an image's name and points", table.data)
    file.write_text("ann_1.png,1,2,3\n")
    refuses(r"csv:1: 3 cells after the image's name, expected x and y of each point", table.data)
    file.write_bytes(b"ann_1.png,1,2\n\xff")
    refuses(r"csv:2: byte 0xff is no UTF-8", table.data)
    file.write_text('ann_1.png,1,"' + "2" * 200_000)
    refuses(r"csv:\d: cannot be read as a table: field larger", table.data)
    (table.root / "b.csv").write_text("")
    refuses(r"several files, b\.csv, training_points\.csv: choose one with data=points:.*/FILE", table.data)
    (tmp_path / "empty").mkdir()
    refuses(r"no table \(\.csv\) in it; the folder holds nothing", f"points:{tmp_path}/empty")
    refuses("nowhere: no such folder; data=points:PATH", f"points:{tmp_path}/nowhere")


def test_pts_files(tmp_path):
    """The middle of the first pixel is (1, 1); the square is 1.25 times as large as the box of the points."""
    for film in ("a", "b"):
        for frame in (1, 2):
            picture(tmp_path / film / f"imgs/{frame}.png", (60, 40), value=50)
            pts(tmp_path / film / f"annot/{frame}.pts", [(11, 6), (31, 22)])
    train, test = open_set(f"pts:{tmp_path}", image_size=25)
    assert (len(train), len(test)) == (2, 2), "a film stays together"
    batch = train.batches(2).batch(0)
    # Continuous (10.5, 5.5) and (30.5, 21.5); side 25 around (20.5, 13.5): from (8, 1).
    np.testing.assert_allclose(batch["points"][0], [[2.5, 4.5], [22.5, 20.5]])
    assert (batch["image"] == 50).all()


@pytest.mark.parametrize("folders", [("trainset", "testset"), ("train", "val")])
def test_pts_beside_their_images(tmp_path, folders):
    for folder in folders:
        for i in range(3):
            picture(tmp_path / folder / f"i_{i}.jpg")
            pts(tmp_path / folder / f"i_{i}.pts", [(4, 4), (14, 14)])
    pts(tmp_path / "lone.pts", [(4, 4), (14, 14)])
    train, test = open_set(f"pts:{tmp_path}")
    assert (len(train), len(test)) == (3, 3)
    assert "train: 1 files in no folder of a split not used (lone.pts)" in train.describe()


PTS = {
    "count": ("n_points: 2", "n_points: 3", r"1\.pts: 'n_points: 3', but 2 points in braces"),
    "no count": ("n_points: 2", "", r"1\.pts: '', but 2 points in braces"),
    "letters": ("14 14", "14 x", r"1\.pts:5: '14 x' where x and y of a point are expected"),
    "three": ("14 14", "14 14 14", r"1\.pts:5: '14 14 14' where x and y"),
    "no brace": ("{", "", r"1\.pts: no points in braces, expected a line {, the points and a line }"),
    "cut off": ("14 14\n}", "14", r"1\.pts: no points in braces"),
    "nan": ("14 14", "nan 14", r"1\.pts: x of point 1 is nan, not a finite number"),
    "far": ("14 14", "14 -1e9", r"1\.pts: y of point 1 is -1e\+09, far out of the 40x20 image"),
}


@pytest.mark.parametrize("fault", PTS)
def test_a_faulty_pts_file_is_refused_or_skipped(tmp_path, fault):
    old, new, message = PTS[fault]
    for i in range(6):
        picture(tmp_path / f"{i}.png")
        pts(tmp_path / f"{i}.pts", [(4, 4), (14, 14)])
    edit(tmp_path / "1.pts", old, new)
    data = f"pts:{tmp_path}"
    refuses(message, data)
    assert [len(split) for split in open_set(data, on_error="skip")] == [4, 1]


def test_folders_of_pts(tmp_path):
    refuses(r"no \.pts file in it or below; the folder holds nothing", f"pts:{tmp_path}")
    pts(tmp_path / "a/annot/1.pts", [(4, 4)])
    refuses(r"1\.pts: its image 1\.jpg is missing", f"pts:{tmp_path}")
    picture(tmp_path / "a/annot/1.png")
    pts(tmp_path / "a/annot/1.pts", [(-4, -4)])
    refuses(r"1\.pts: no point lies inside its image", f"pts:{tmp_path}")


def test_coco_key_points(coco):
    """Each person is an example: a square 1.25 times as large as the longer side of the box, in the middle of it."""
    train, test = open_set(coco.data, image_size=10)
    assert (len(train), len(test)) == (2, 1)
    batch = train.batches(2).batch(0)
    # The first box of 8x8 at (10, 4): side 10 from (9, 3).
    np.testing.assert_allclose(batch["points"][0], [[3.5, 2.5], [5.5, 2.5], [0, 0]])
    np.testing.assert_allclose(batch["points"][1], [[5.5, 2.5], [0, 0], [6.5, 8.5]])
    assert batch["visible"].tolist() == [[True, True, False], [True, False, True]]
    assert found(coco.data)[0] == "train: 2 examples in 1 images, 3 points each"
    coco.add(1, 1, [1, 1, 5, 5], keypoints=[0] * 9)
    coco.add(1, 1, [1, 1, 5, 5], keypoints=[1, 1, 2] * 3, iscrowd=1)
    coco.add(2, 1, [1, 1, 5, 5])
    assert "train: 3 objects without key points left out (a0, a1)" in found(coco.data)
    coco.change("annotations.0.bbox")
    points = open_set(coco.data)[0].batches(1).batch(0)["points"]
    assert points[0, 1, 0] > points[0, 0, 0], "around the points where there is no box"


KEYPOINTS = {
    "short": (
        [1, 2, 2] * 2,
        r"keypoints is \[1, 2, 2, 1, 2, 2\], expected a list of x, y and a flag 0, 1 or 2 for each of 3 points",
    ),
    "flag": ([1, 2, 3] * 3, "keypoints is a list, expected a list of x, y and a flag"),
    "text": ("1 2 3", "keypoints is '1 2 3', expected a list"),
    "nan": ([1, float("nan"), 2] * 3, "y of point 0 is nan, not a finite number"),
    "far": ([1, 2, 2, 1e9, 2, 2, 1, 1, 2], "x of point 1 is 1e"),
}


@pytest.mark.parametrize("fault", KEYPOINTS)
def test_faulty_key_points(coco, fault):
    value, message = KEYPOINTS[fault]
    coco.change("annotations.0.keypoints", value)
    refuses(rf"annotations\[0\]: {message}", coco.data)


def test_faulty_boxes_and_categories_of_key_points(coco):
    coco.change("annotations.0.bbox", [1, 2, -3, 4])
    refuses(r"annotations\[0\]: bbox 1, 2, -3, 4: negative width or height", coco.data)
    coco.change("annotations.0.bbox", [10, 4, 8, 8])
    for split in coco.json:
        coco.json[split]["categories"].append({"id": 2, "name": "dog", "keypoints": ["tail"]})
    coco.write()
    refuses("categories with several sets of key points, expected one", coco.data)


def test_regions():
    assert square((40, 20)) == (0, -10, 40, 40) and square((20, 41)) == (-11, 0, 41, 41)
    assert around((10.0, 4.0, 18.0, 12.0)) == (9, 3, 10, 10) and around((5.0, 5.0, 5.0, 5.0)) == (1, 1, 8, 8)
    with pytest.raises(DataError, match="0 points, expected 1 to 10,000"):
        check_points([], size=(4, 4), where=Where(Path("x")))


def test_real_faces(real_data):
    root = real_data("landmarks_youtube_faces")
    train, test = landmark_data(f"points:{root}", image_size=96)
    assert (len(train), len(test)) == (156, 30)
    assert train.batches(8).check(thorough=True) == ["train: 156 examples, 68 points each"]
    people = [{re.sub("_[0-9]+$", "", example.image.stem) for example in examples(split)} for split in (train, test)]
    assert len(people[0] | people[1]) == 31 and not people[0] & people[1]
    with Image.open(root / "training/Adam_Sandler_42.jpg") as image:
        assert (image.format, image.mode) == ("PNG", "RGBA"), "whatever its name says"
    batch = train.source.read(np.arange(156))
    assert batch["visible"].all() and batch["points"].shape == (156, 68, 2)
    left, right = batch["points"][:, 36:42].mean(1), batch["points"][:, 42:48].mean(1)
    assert (left[:, 0] < right[:, 0]).all() and (batch["points"][:, 8, 1] > left[:, 1]).all(), "chin below the eyes"
    assert (batch["image"].reshape(156, -1).std(1) > 10).all()


def test_real_frames_as_pts_and_as_json(real_data):
    root = real_data("landmarks_pts_samples")
    train, test = landmark_data(f"pts:{root}")
    assert (len(train), len(test)) == (2, 2)
    films = [{e.image.parent.parent.name for e in examples(s)} for s in (train, test)]
    assert films in ([{"001"}, {"401"}], [{"401"}, {"001"}])
    by_json = landmark_data(f"coco:{root}")
    assert sum(len(split) for split in by_json) == 3
    stated = {f["file_name"]: f for f in json.loads((root / "anno_300vw.json").read_text())["images"]}
    by_image = {e.image.relative_to(root).as_posix(): e for s in by_json for e in examples(s)}
    assert stated.keys() == by_image.keys()
    for split in (train, test):
        for example in examples(split):
            if other := by_image.get(example.image.relative_to(root).as_posix()):
                # The same numbers, which one format counts from 1 and the other from 0.
                np.testing.assert_allclose(example.points + 1, other.points, atol=1e-3)
