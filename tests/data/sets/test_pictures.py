"""Pictures of any kind as a set of one, colours matched, and folders of pictures without annotations."""

from typing import Any

import numpy as np
import pytest
from PIL import Image

from jaxcv.data import photograph_data, picture_data
from jaxcv.data.sets.pictures import match_colors, match_luminance, read_picture
from jaxcv.errors import DataError, UserError


@pytest.mark.parametrize(
    ("mode", "size", "expected"),
    [
        ("L", (80, 60), (48, 64, 3)),
        ("RGBA", (60, 80), (64, 48, 3)),
        ("P", (64, 64), (64, 64, 3)),
        ("I;16", (20, 20), (64, 64, 3)),
        ("RGB", (16, 16), (64, 64, 3)),
        ("CMYK", (6000, 4000), (43, 64, 3)),
    ],
)
def test_pictures_of_any_kind(tmp_path, mode, size, expected):
    file = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    Image.new(mode, size).save(file)
    train, test = picture_data(str(file), image_size=64)
    batches = train.batches(1, seed=0)
    assert batches.spec["image"].shape == (1, *expected)
    assert batches.batch(7)["image"].shape == (1, *expected) and len(test.batches(1)) == 1
    (line,) = train.describe()
    assert f"{expected[1]}x{expected[0]} pixels" in line


def test_what_cannot_be_repainted_is_refused_in_a_line(tmp_path):
    Image.new("RGB", (600, 20)).save(tmp_path / "long.png")
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(DataError, match=r"long.png: 600x20 pixels, 64x2 at image_size=64: expected 32 at least"):
        _ = picture_data(str(tmp_path / "long.png"), image_size=64)[0].batches(1).spec
    for name, message in (("text.png", "not an image file"), ("nothing.png", "image is missing")):
        with pytest.raises(DataError, match=message):
            _ = picture_data(str(tmp_path / name), image_size=64)[0].batches(1).spec
    with pytest.raises(UserError, match="image_size=8: expected at least 32"):
        picture_data("china", image_size=8)
    with pytest.raises(UserError, match="no picture named"):
        picture_data("")


def test_regions_are_squeezed_to_the_picture_and_styles_are_in_the_digest(tmp_path):
    half = np.zeros((30, 10), np.uint8)
    half[:, 5:] = 255
    Image.fromarray(half).save(tmp_path / "half.png")
    batches = picture_data("china", image_size=64, regions=(str(tmp_path / "half.png"),))[0].batches(1)
    assert {name: spec.shape for name, spec in batches.spec.items()} == {
        "image": (1, 43, 64, 3), "regions": (1, 1, 43, 64), "example_valid": (1,),
    }  # fmt: skip
    region = batches.batch(0)["regions"][0, 0]
    assert not region[:, :20].any() and (region[:, 44:] == 255).all()
    other = picture_data("china", image_size=64, others=(str(tmp_path / "half.png"),))[0].batches(1)
    assert len({batches.digest(), other.digest(), picture_data("china", image_size=64)[0].batches(1).digest()}) == 3


def test_colours_are_matched():
    sources: list[Any] = [picture_data(name)[0].source for name in ("china", "flower")]
    china, flower = (read_picture(source.file, 64) for source in sources)
    moved = match_colors(flower, china).reshape(-1, 3) / 255
    wanted = china.reshape(-1, 3) / 255
    np.testing.assert_allclose(moved.mean(0), wanted.mean(0), atol=0.05)  # not exactly: values are clipped
    grey = match_luminance(china, flower)
    assert (grey[..., 0] == grey[..., 1]).all() and abs(float(grey.mean()) - 255 * 0.27) < 40
    assert (match_luminance(np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4, 3), np.uint8)) == 0).all()


def test_a_folder_of_pictures(tmp_path):
    for i in range(10):
        (tmp_path / str(i % 2)).mkdir(exist_ok=True)
        Image.new("RGB", (50, 40), (i, i, i)).save(tmp_path / str(i % 2) / f"{i}.png")
    train, test = photograph_data(str(tmp_path), image_size=32, longest=40)
    assert (len(train), len(test)) == (8, 2)
    assert test.batches(2).batch(0)["image"][:, 0, 0, 0].tolist() == [8, 9]
    image, factors = train.batches(1).read_image(tmp_path / "0" / "0.png")
    assert image.shape == (32, 40, 3) and factors[1:3] == (50 / 40, 40 / 32)
    assert [len(split) for split in photograph_data("photographs")] == [1, 1]
    with pytest.raises(DataError, match="none is left for test"):
        (tmp_path / "one").mkdir()
        Image.new("RGB", (50, 40)).save(tmp_path / "one" / "a.png")
        len(photograph_data(str(tmp_path / "one"))[1])
