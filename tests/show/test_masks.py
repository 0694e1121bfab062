import json

import numpy as np

from jaxcv import show
from jaxcv.types import Masks, Placement

GREY = np.full((64, 64, 3), 128, np.uint8)
LABEL = np.zeros((2, 4), np.uint8)
LABEL[:, 3] = 1
PREDICTION = Masks(LABEL, np.ones(LABEL.shape, np.float32))


def test_areas_are_in_the_pixels_of_the_image():
    found = show.in_pixels(PREDICTION, Placement((40, 40), 10.0, 20.0))
    areas = show.record(found, ("road",))["areas"]
    assert areas[0] == {"class": "road", "index": 0, "pixels": 1200, "fraction": 0.75}
    assert areas[1] == {"class": "1", "index": 1, "pixels": 400, "fraction": 0.25}
    json.dumps(areas)
    assert show.table(found, "t", ("road",)).rows == [("road", "1,200", "0.750"), ("1", "400", "0.250")]


def test_the_palette_mask_holds_class_numbers_at_the_size_of_the_image():
    picture = show.palette_mask(show.in_pixels(PREDICTION, Placement((40, 30), 10.0, 15.0)))
    assert picture.mode == "P" and picture.size == (40, 30)
    assert np.asarray(picture)[:, :30].max() == 0 and np.asarray(picture)[:, 30:].min() == 1
    assert picture.convert("RGB").getpixel((0, 0)) == (0xE6, 0x19, 0x4B)


def test_a_mask_of_a_letterboxed_picture_and_of_its_middle():
    """What the network was not shown is void; what lies beyond the picture is cut off."""
    square = Masks(np.arange(16, dtype=np.uint8).reshape(4, 4), np.ones((4, 4), np.float32))
    wide = show.in_pixels(square, Placement((8, 4), 2.0, 2.0, 0.0, -2.0))
    assert wide.label[::2, ::2].tolist() == [[4, 5, 6, 7], [8, 9, 10, 11]] and wide.label.shape == (4, 8)
    middle = show.in_pixels(square, Placement((8, 4), 1.0, 1.0, 2.0, 0.0))
    assert middle.label[0].tolist() == [255, 255, 0, 1, 2, 3, 255, 255] and middle.score[0, 0] == 0


def test_the_sheet_has_image_target_prediction_and_error():
    mask = np.zeros((1, 64, 64), np.uint8)
    mask[:, :, 32:] = 1
    mask[:, 56:] = 255
    prediction = Masks(np.zeros_like(mask), np.ones(mask.shape, np.float32))
    page = show.sheet([({"image": GREY[None], "mask": mask}, prediction)], ("a", "b"), count=1)
    assert page is not None and page.size == (1060, 268)
    image, target, predicted, error = (np.asarray(page)[6:262, 6 + 262 * i :][:, :256].astype(int) for i in range(4))
    assert (image[:200] == 128).all()
    assert (target[128, 200] != predicted[128, 200]).any() and (target[128, 20] == predicted[128, 20]).all()
    right, wrong, void = error[128, 20], error[128, 200], error[230, 20]
    assert wrong[0] > 150 > wrong[1] and right.min() > 150 and void.max() < 80
