import numpy as np

from jaxcv.data import segmentation_data
from jaxcv.data.toy.digit_scenes import Scenes


def test_masks_cover_the_digits_of_their_scenes():
    train, test = segmentation_data("digits", image_size=64)
    assert test.class_names == ("background", *map(str, range(10))) and not train.mirrors
    batch, scenes = test.source.read(np.arange(6)), Scenes("test", 64).read(np.arange(6))
    np.testing.assert_array_equal(batch["image"], scenes["image"])
    for mask, boxes, classes, valid in zip(
        batch["mask"], scenes["boxes"], scenes["classes"], scenes["valid"], strict=True
    ):
        outside = np.ones_like(mask, bool)
        for x1, y1, x2, y2 in boxes[valid].astype(int):
            outside[y1:y2, x1:x2] = False
        assert not mask[outside].any()
        assert set(mask.ravel().tolist()) == {0, *(classes[valid] + 1).tolist()}
