import numpy as np
import pytest

from jaxcv.augment import FACE_68
from jaxcv.data import landmark_data, localization_data
from jaxcv.data.toy.cartoon_faces import face_points
from jaxcv.data.toy.digit_scenes import EMPTY, SINGLE_HEIGHT
from jaxcv.errors import UserError


def test_a_face_in_the_middle_of_everything_is_its_own_mirror_image():
    """The order of the points is 300-W's: what changes places in a mirror does."""
    points = face_points(np.full(20, 0.5))
    assert points.shape == (68, 2)
    np.testing.assert_allclose(points[list(FACE_68)] * [-1, 1], points, atol=1e-9)


def test_the_parts_of_a_face_lie_where_they_should():
    for seed in range(20):
        p = face_points(np.random.default_rng(seed).random(20))
        brows, eyes, nose, mouth, chin = (
            p[i, 1].mean() for i in (slice(17, 27), slice(36, 48), slice(31, 36), slice(48, 68), slice(8, 9))
        )
        assert brows < eyes < nose < mouth < chin
        assert p[36, 0] < p[39, 0] < p[27, 0] < p[42, 0] < p[45, 0], "corners of the eyes, and the nose between"


def test_drawn_faces_are_the_same_every_time_and_share_nothing_between_splits():
    train, test = landmark_data("drawn", image_size=32)
    one, again = (train.source.read(np.array([3, 5])) for _ in range(2))
    np.testing.assert_array_equal(one["image"], again["image"])
    assert one["image"].shape == (2, 32, 32, 3) and one["points"].shape == (2, 68, 2)
    assert not np.array_equal(one["points"], test.source.read(np.array([3, 5]))["points"])
    assert (len(train), len(test)) == (2_000, 200)
    assert one["visible"].mean() > 0.9
    grey, _ = landmark_data("drawn", image_size=32, channels=1)
    assert grey.source.read(np.array([0]))["image"].shape == (1, 32, 32, 1)


def test_single_digits_have_one_box_or_none():
    train, _ = localization_data("digits", image_size=64)
    batch = train.source.read(np.arange(300))
    assert batch["boxes"].shape == (300, 1, 4)
    assert abs((~batch["valid"]).mean() - EMPTY) < 0.08
    boxes = batch["boxes"][batch["valid"]]
    height = (boxes[:, 3] - boxes[:, 1]) / 64
    assert SINGLE_HEIGHT[0] - 0.02 < height.min() < 0.3 and 0.6 < height.max() < SINGLE_HEIGHT[1] + 0.02
    assert (boxes >= 0).all() and (boxes <= 64).all()
    assert train is localization_data("digits", image_size=64)[0]


def test_localization_reads_what_detection_reads():
    with pytest.raises(UserError, match="digits has its own classes"):
        localization_data("digits", classes=("a",))
    with pytest.raises(UserError, match="localization sets"):
        localization_data("mnist:x")
