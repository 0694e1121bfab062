"""Windows with and without an object: what is in them, which split they come from, and what is refused."""

from typing import Any

import numpy as np
import pytest
from PIL import Image

from jaxcv.data import window_data
from jaxcv.data.io.crops import MARGIN
from jaxcv.data.sets.photographs import list_photographs
from jaxcv.data.sources.windows import LARGEST_PICTURE, cut
from jaxcv.data.toy.digit_scenes import Scenes
from jaxcv.errors import DataError, UserError


def array(folder, *, classes=2):
    """An array of twenty pictures: those of class 1 bright, the others dark."""
    folder.mkdir(parents=True, exist_ok=True)
    labels = np.arange(20) % classes
    noise = np.random.default_rng(0).integers(0, 50, (20, 12, 12))
    np.save(folder / "pictures.npy", (noise + 200 * (labels[:, None, None] == 1)).astype(np.uint8))
    np.save(folder / "labels.npy", labels)
    return f"npy:{folder}"


def source(split) -> Any:
    """What reads a split, with the methods that only such a reader has."""
    return split.source


def photographs(folder, *, count=10):
    """Grey pictures, each of a level of its own, in a folder and one below it."""
    for i in range(count):
        place = folder / ("a" if i % 2 else "b/c")
        place.mkdir(parents=True, exist_ok=True)
        Image.new("L", (40 + i, 30), 60 + 10 * i).save(place / f"{i:02}.png")
    return folder


def test_a_quarter_of_an_epoch_is_the_array_and_the_rest_shows_no_object(tmp_path):
    train, test = window_data(array(tmp_path), image_size=12, squares=30)
    assert (len(train), len(test)) == (40, 4)
    batch = train.source.read(np.arange(40))
    assert batch["image"].shape == (40, 12, 12, 1) and batch["image"].dtype == np.uint8
    own = source(train).pictures.read(np.arange(10))
    np.testing.assert_array_equal(batch["image"][::4], own["image"])
    np.testing.assert_array_equal(batch["label"][::4], own["label"])
    assert own["label"].any() and not batch["label"][np.arange(40) % 4 > 0].any()
    assert np.unique(batch["image"][1::4].reshape(10, -1), axis=0).shape[0] == 10
    assert (test.source.read(np.arange(4))["label"] == np.arange(20)[4::5] % 2).all()
    alone, _ = window_data(array(tmp_path), image_size=12, squares=0)
    assert len(alone) == 16


def test_every_fifth_photograph_is_for_testing(tmp_path):
    folder = photographs(tmp_path / "photographs")
    listed = tmp_path / "more.txt"
    Image.new("RGB", (20, 20), (250, 250, 250)).save(tmp_path / "white.png")
    listed.write_text("white.png\n")
    train, test = window_data(array(tmp_path / "array"), image_size=12, photographs=(str(folder), str(listed)))
    names = [[path.rsplit("/", 1)[1] for path in source(split).files()] for split in (train, test)]
    every = list_photographs((folder, listed))
    assert len(every) == 11 and sorted(names[0] + names[1]) == sorted(path.rsplit("/", 1)[1] for path in every)
    assert names[1] == [path.rsplit("/", 1)[1] for path in every[4::5]]
    # A photograph's grey tells where a square was cut out; of training's own, every third is a spoilt picture.
    level = {60 + 10 * int(name[:2]) if name[0] != "w" else 250: name for name in names[0] + names[1]}
    squares = [i for i in range(1, 400) if i % 4 and i % 3]
    cut = train.source.read(np.array(squares))["image"]
    assert (cut.min((1, 2, 3)) == cut.max((1, 2, 3))).all()
    assert {level[int(value)] for value in np.unique(cut)} == set(names[0])
    cut = test.source.read(np.arange(4, len(test)))
    assert {level[int(value)] for value in np.unique(cut["image"])} == set(names[1]) and not cut["label"].any()
    assert "1,000 squares of 2 photographs" in test.batches(8).check(thorough=True)[-1]


def test_squares_of_pictures_too_small_are_enlarged(tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    for i in range(5):
        Image.new("L", (7, 5), 99).save(folder / f"{i}.png")
    train, _ = window_data(array(tmp_path / "array"), image_size=12, photographs=(str(folder),))
    assert (train.source.read(np.array([1, 2, 5]))["image"] == 99).all()


def test_spoilt_pictures_hold_what_the_pictures_hold(tmp_path):
    train, _ = window_data(array(tmp_path), image_size=12, squares=3_000)
    spoilt = [i for i in range(3_000) if i % 4 and i % 3 == 0]
    batch = train.source.read(np.array(spoilt))
    assert not batch["label"].any()
    own = {image.tobytes() for image in source(train).pictures.read(np.arange(16))["image"]}
    assert not own & {image.tobytes() for image in batch["image"]}
    bright = batch["image"].mean((1, 2, 3)) > 125
    assert 0.35 < bright.mean() < 0.65  # made of both classes


def test_windows_of_scenes_hold_a_digit_or_hardly_any():
    train, test = window_data("digits", image_size=24, channels=3)
    assert len(test) == 2 * len(Scenes("test", 128)) and len(train) == len(Scenes("train", 128))
    assert not train.mirrors and train.class_names == ("other", "digit")
    batch = test.source.read(np.arange(8))
    np.testing.assert_array_equal(batch["label"], [0, 1] * 4)
    scene = Scenes("test", 128).read(np.array([1]))
    boxes = scene["boxes"][0][scene["valid"][0]]
    shown = [np.abs(_around(scene["image"][0], box).astype(int) - batch["image"][1]).max() for box in boxes]
    assert min(shown) == 0
    with pytest.raises(UserError, match="digits has its own"):
        window_data("digits", photographs=("anywhere",))


def _around(image, box):
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    half = MARGIN * max(box[2] - box[0], box[3] - box[1]) / 2
    return cut(image, (float(x - half), float(y - half), float(x + half), float(y + half)), 24)


def test_a_picture_to_scan_keeps_its_pixels_and_gets_a_rounded_size(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (100, 150), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "small.png")
    Image.new("L", (2 * LARGEST_PICTURE, 600), 30).save(tmp_path / "large.png")
    data = window_data("digits")[1].batches(2)
    image, factors = data.read_image(tmp_path / "small.png")
    assert image.shape == (128, 256, 1) and factors[1:3] == (1, 1)
    np.testing.assert_array_equal(image[:100, :150, 0], pixels)
    np.testing.assert_array_equal(image[100:, :150, 0], np.broadcast_to(pixels[-1], (28, 150)))
    image, factors = data.read_image(tmp_path / "large.png")
    assert image.shape == (384, LARGEST_PICTURE, 1) and factors[1:3] == (2, 2)


def test_what_is_wrong_is_said_by_name(tmp_path):
    with pytest.raises(DataError, match="3 classes, expected two"):
        window_data(array(tmp_path / "three", classes=3))[0].batches(2).check()
    good, empty = array(tmp_path / "two"), tmp_path / "empty"
    empty.mkdir()
    lost = tmp_path / "list.txt"
    lost.write_text("nowhere.png\n" * 6)
    for place, message in [(tmp_path / "none", "no such folder or list"), (empty, "no pictures"), (lost, "missing")]:
        train, _ = window_data(good, photographs=(str(place),))
        with pytest.raises(DataError, match=message):
            train.batches(2).check(thorough=True)
    with pytest.raises(UserError, match="squares=-1"):
        window_data(good, squares=-1)
