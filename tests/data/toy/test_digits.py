"""The embedded digits, for classification and as scenes."""

import numpy as np
import pytest

from jaxcv.data import classification_data, detection_data
from jaxcv.data.io import paths
from jaxcv.data.toy.digit_scenes import Scenes, _overlap, backgrounds
from jaxcv.data.toy.digits import load_digits
from jaxcv.errors import UserError


def test_splits_are_disjoint():
    train, test = load_digits("train"), load_digits("test")
    assert train[0].shape == (1438, 8, 8) and test[0].shape == (359, 8, 8)
    every = np.concatenate([train[0], test[0]]).reshape(1797, -1)
    assert len(np.unique(every, axis=0)) == 1797
    assert np.bincount(np.concatenate([train[1], test[1]])).tolist() == [
        178,
        182,
        177,
        183,
        181,
        182,
        181,
        179,
        174,
        180,
    ]


def test_the_first_digit_is_the_zero_of_the_file():
    images, labels = load_digits("train")
    assert labels[:4].tolist() == [0, 1, 2, 3] and load_digits("test")[1][:3].tolist() == [4, 9, 4]
    assert images[0, 0].tolist() == [round(v * 255 / 16) for v in [0, 0, 5, 13, 9, 1, 0, 0]]


@pytest.mark.parametrize("image_size", [8, 32, 40])
def test_classification(image_size):
    train, test = classification_data("digits", image_size=image_size)
    assert (len(train), len(test), train.num_classes, train.mirrors) == (1438, 359, 10, False)
    assert train.class_names == tuple("0123456789") and train.image_size == image_size
    batch = next(iter(train.batches(6)))
    assert batch["image"].shape == (6, image_size, image_size, 1) and batch["image"].dtype == np.uint8
    assert batch["label"].tolist() == [0, 1, 2, 3, 5, 6] and batch["label"].dtype == np.int32
    assert batch["image"].max() > 200 and batch["image"][:, 0, 0].max() < 40
    assert train.describe()[0].startswith("train: 1,438 images, 10 classes (0 ")


def test_a_persons_image_is_read_grey(tmp_path):
    from PIL import Image

    Image.new("RGB", (64, 48), (255, 255, 255)).save(tmp_path / "a.png")
    train, _ = classification_data("digits")
    pixels, factors = train.batches(1).read_image(tmp_path / "a.png")
    assert pixels.shape == (32, 32, 1) and (pixels == 255).all() and factors[1:3] == (2.0, 1.5)


def test_without_scikit_learn(monkeypatch):
    monkeypatch.setattr(paths, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install scikit-learn"):
        paths.sklearn_file("data", "digits.csv.gz")


def test_scene_fields():
    train, test = detection_data("digits")
    assert (len(train), len(test), train.num_classes, train.mirrors, train.image_size) == (20_000, 500, 10, False, 128)
    batches = train.batches(4)
    batch = next(iter(batches))
    assert {k: (v.shape, v.dtype) for k, v in batch.items()} == {k: (v.shape, v.dtype) for k, v in batches.spec.items()}
    assert batch["image"].shape == (4, 128, 128, 3) and batch["boxes"].shape == (4, 6, 4)
    assert not batch["ignored"].any() and not batch["boxes"][~batch["valid"]].any()
    assert test.batches(4).check() == ["test: 500 rendered scenes of 1 to 6 out of 359 digits"]


@pytest.mark.parametrize("image_size", [64, 128, 200])
def test_scene_invariants(image_size):
    for dataset in detection_data("digits", image_size=image_size):
        batch = dataset.source.read(np.arange(100))
        count = batch["valid"].sum(1)
        assert count.min() >= 1 and count.max() <= 6 and set(count) > {1, 2, 3, 4}
        boxes = batch["boxes"][batch["valid"]]
        assert (boxes[:, :2] >= 0).all() and (boxes[:, 2:] <= image_size).all()
        height = boxes[:, 3] - boxes[:, 1]
        assert height.min() >= round(0.16 * image_size) and height.max() <= round(0.45 * image_size)
        assert height.min() < 0.2 * image_size and height.max() > 0.4 * image_size
        assert (boxes[:, 2] - boxes[:, 0]).min() >= 0.04 * image_size
        assert set(batch["classes"][batch["valid"]]) == set(range(10))
        for row in range(100):
            boxes = batch["boxes"][row][batch["valid"][row]].astype(int).tolist()
            placed = [(x0, y0, x1, y1) for x0, y0, x1, y1 in boxes]
            assert all(_overlap(a, b) <= 0.05 for i, a in enumerate(placed) for b in placed[:i])


def test_overlap():
    assert _overlap((0, 0, 10, 10), (5, 5, 7, 7)) == 1.0
    assert _overlap((0, 0, 10, 10), (8, 8, 12, 18)) == 4 / 40
    assert _overlap((0, 0, 10, 10), (10, 0, 20, 10)) == 0.0


def test_a_scene_depends_on_split_and_index_alone():
    train, test = Scenes("train", 64), Scenes("test", 64)
    together, alone = train.read(np.array([3, 9, 3])), train.read(np.array([9]))
    for name in together:
        np.testing.assert_array_equal(together[name][1], alone[name][0])
        np.testing.assert_array_equal(together[name][0], together[name][2])
    assert (together["image"][0] != together["image"][1]).any()
    assert (test.read(np.array([9]))["image"] != alone["image"]).any()


def test_boxes_are_tight_around_the_ink(monkeypatch):
    """On a black background, light ink is what is not black."""
    from PIL import Image

    import jaxcv.data.toy.digit_scenes as scenes

    black = [Image.new("RGB", (300, 300))]
    monkeypatch.setattr(scenes, "backgrounds", lambda split, image_size: black)
    batch = Scenes("train", 128).read(np.arange(60))
    for image, boxes, valid in zip(batch["image"], batch["boxes"], batch["valid"], strict=True):
        outside = image.max(-1) > 0
        for x0, y0, x1, y1 in boxes[valid].astype(int):
            ink = image[y0:y1, x0:x1].max(-1) > 60
            outside[y0:y1, x0:x1] = False
            assert all(edge.any() for edge in (ink[0], ink[-1], ink[:, 0], ink[:, -1]))
        assert not outside.any()


def test_digits_stand_out_from_the_background():
    plain, size = [], 128
    batch = Scenes("test", size).read(np.arange(100))
    for image, boxes, valid in zip(batch["image"], batch["boxes"], batch["valid"], strict=True):
        grey = image @ np.array([0.299, 0.587, 0.114])
        plain += [np.ptp(grey[int(b[1]) : int(b[3]), int(b[0]) : int(b[2])]) for b in boxes[valid]]
    assert np.min(plain) > 60 and np.mean(plain) > 120


def testbackgrounds_share_no_pixel():
    widths = {split: [p.width for p in backgrounds(split, 96)][0::8] for split in ("train", "test")}
    assert widths == {"train": [426, 426], "test": [214, 214]}  # of 640, at the scale 96/96


def test_boxes_alone_are_those_of_the_scenes():
    source = Scenes("test", 64)
    batch = source.read(np.arange(500))
    boxes = batch["boxes"][batch["valid"]]
    np.testing.assert_array_equal(source.box_sizes(), boxes[:, 2:] - boxes[:, :2])


def test_anchor_boxes():
    train, _ = detection_data("digits", image_size=128)
    boxes = train.anchor_boxes(k=5)
    assert boxes.shape == (5, 2) and boxes.min() > 5 and boxes.max() < 64
    assert (np.diff(boxes.prod(1)) > 0).all()
