import numpy as np
import pytest

from jaxcv.show import draw_confusion


def corners(picture, side, cells):
    """Colours of the cells [cells cells 3], taken from a corner where no digit is."""
    pixels = np.asarray(picture).astype(int)
    top = len(pixels) - 12 - cells * side  # below the matrix are 12 rows
    left = int(np.argmax((pixels[top + 1] == 50).all(-1))) + 1  # before it is a dark line
    return pixels[top + 2 :: side, left + 2 :: side][:cells, :cells]


def test_the_picture_is_blue_where_right_red_where_wrong_and_deeper_with_the_fraction():
    target, prediction = np.array([0] * 4 + [1] * 100), np.array([0, 0, 0, 1] + [1] * 99 + [0])
    picture = draw_confusion(target, prediction, ["ant", "bee", "cow"])
    colors = corners(picture, 44, 3)
    right, wrong, rare = colors[0, 0], colors[0, 1], colors[1, 0]
    assert right[2] > right[0] + 80
    assert wrong[0] > wrong[2] + 60 and rare[0] > rare[2] + 10 and rare[2] > wrong[2]
    assert (colors[:2, 2] == 255).all()
    assert (colors[2] == 232).all(), "no example"


@pytest.mark.parametrize("k", [1, 2, 12, 13, 30, 31, 120, 121, 1000, 2500])
def test_any_number_of_classes_can_be_drawn(k):
    rng = np.random.default_rng(0)
    target = rng.integers(0, k, 500)
    prediction = np.where(rng.random(500) < 0.7, target, rng.integers(-1, k, 500))
    picture = draw_confusion(target, prediction, [f"a class with a long name, number {i}" for i in range(k)])
    assert picture.width < 2300 and picture.height < 2300
    assert len({color for _, color in picture.getcolors(10**6) or []}) > 3


def test_examples_without_a_prediction_have_a_column():
    target, prediction = np.arange(12), np.array([-1, *range(1, 12)])
    widths = [draw_confusion(target, column, "abcdefghijkl").width for column in (target, prediction)]
    assert widths[1] - widths[0] >= 44
