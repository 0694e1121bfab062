"""One example with all that it holds."""

import numpy as np
from PIL import ImageColor

from jaxcv.show import draw_example, example_sheet

RED, GREEN = ImageColor.getrgb("#e6194b"), ImageColor.getrgb("#3cb44b")
GREY = np.full((32, 40, 3), 128, np.uint8)


def has(image, color):
    return (np.asarray(image) == color).all(-1).any()


def test_boxes_that_count_are_colored_ignored_ones_grey_others_absent():
    boxes = np.array([[4, 8, 16, 24], [20, 8, 36, 24], [0, 0, 40, 32]], np.float32)
    example = {"image": GREY, "boxes": boxes, "classes": np.array([1, 0, 0]), "valid": np.array([True, False, False])}
    image = draw_example(example | {"ignored": np.array([False, True, False])}, ("a", "b"))
    assert image.size == (320, 256)  # eight times
    assert image.getpixel((32, 120)) == GREEN and image.getpixel((160, 120)) == (0x88,) * 3
    assert not has(image, RED)


def test_masks_are_tinted_and_black_where_ignored():
    mask = np.zeros((32, 40), np.uint8)
    mask[:, 20:] = 1
    mask[16:, 20:] = 255
    image = draw_example({"image": GREY, "mask": mask}, ("a", "b"))
    for place, color in (((80, 250), RED), ((240, 60), GREEN), ((240, 250), (0, 0, 0))):
        np.testing.assert_allclose(np.asarray(image)[place[::-1]], (np.array(color) + 128) / 2, atol=1.5)
    assert (
        len({str(draw_example({"image": GREY, "mask": mask * 0 + i}, ()).getpixel((200, 200))) for i in range(30)})
        == 30
    )


def test_points_are_dots_where_they_are_visible():
    points = np.array([[10, 10], [30, 20], [20, 5]], np.float32)
    image = draw_example({"image": GREY, "points": points, "visible": np.array([True, True, False])}, ())
    assert image.getpixel((80, 80)) == (255, 0, 0) and image.getpixel((240, 160)) != (128,) * 3
    assert image.getpixel((160, 40)) == (128,) * 3


def test_labels_mixed_labels_and_pairs():
    one = draw_example({"image": GREY[..., :1], "label": np.int32(1)}, ("a", "b"))
    mixed = draw_example({"image": GREY[..., :1], "label": np.array([0.3, 0.7], np.float32)}, ("a", "b"))
    assert has(one, GREEN) and has(mixed, GREEN)
    strip = [(np.asarray(image)[2] == GREEN).all(-1).sum() for image in (one, mixed)]
    assert strip[1] > strip[0] + 20, "both names and fractions are written"
    pair = draw_example({"image": GREY, "other": GREY + 50, "same": np.bool_(False)}, ())
    assert pair.size == (640, 256) and has(pair, RED)
    assert pair.getpixel((200, 200)) == (128,) * 3 and pair.getpixel((600, 200)) == (178,) * 3


def test_a_sheet_is_nearly_square():
    assert example_sheet([{"image": GREY[:, :32]}] * 5, ()).size == (3 * 260 + 4, 2 * 260 + 4)
