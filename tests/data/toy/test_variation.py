import numpy as np
import pytest
from PIL import Image

from jaxcv.data import detection_data, localization_data
from jaxcv.data.toy.digit_scenes import Scenes
from jaxcv.data.toy.variation import BACKGROUND_UNIFORMS, varied_background, varied_glyph


def photo(seed, size=(50, 40)):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), np.uint8))


@pytest.mark.parametrize("fill", [0.0, 0.5, 1 - 2**-53])
def test_backgrounds_keep_their_size_at_the_ends_of_the_numbers(fill):
    square, photos = photo(0, (32, 32)), [photo(1), photo(2)]
    one = np.asarray(varied_background(square, photos, [fill] * BACKGROUND_UNIFORMS))
    assert one.shape == (32, 32, 3)
    assert np.array_equal(one, np.asarray(square)) == (fill == 0), "the first numbers: as it was, no patch"


def test_a_patch_covers_a_part():
    black, white = Image.new("RGB", (40, 40)), Image.new("RGB", (40, 40), "white")
    for shape in (0.0, 0.5, 0.9):  # an ellipse and leaves, which fill less of their rectangle, and a rectangle
        u = [0.0, 0.3, 0.0, 0.07, 0.07, 0.5, 0.5, 0.0, shape, 0.9]
        covered = (np.asarray(varied_background(black, [white], u)) == 255).all(-1)
        rows, columns = np.flatnonzero(covered.any(1)), np.flatnonzero(covered.any(0))
        window = covered[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert 0 < covered.mean() < 0.5 and bool(window.all()) == (shape > 0.8)


def test_glyphs_are_turned_and_stay_tight():
    bar = Image.new("L", (8, 40), 255)
    straight, turned = varied_glyph(bar, [0.5, 0.5]), varied_glyph(bar, [0.9, 0.5])
    assert straight.size == (8, 40) and turned.width > 12
    ink = np.asarray(turned) > 127
    assert all(side.any() for side in (ink[0], ink[-1], ink[:, 0], ink[:, -1]))


def test_only_training_scenes_of_one_digit_vary():
    ones, many = localization_data("digits", image_size=64), detection_data("digits", image_size=64)
    for (train, test), varied in ((ones, True), (many, False)):
        read = [split.source.read(np.arange(40))["image"] for split in (train, test)]
        assert read[0].shape == read[1].shape == (40, 64, 64, 3)
        again = Scenes("train", 64, varied).read(np.arange(40))["image"]
        np.testing.assert_array_equal(read[0], again)
        assert (train.source.varied, test.source.varied) == (varied, False)  # pyright: ignore[reportAttributeAccessIssue]
