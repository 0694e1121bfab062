import jax
import jax.numpy as jnp
import numpy as np

from jaxcv import augment


def batch():
    """Three pictures of one colour each, with a box of their own class; the last has none."""
    boxes = np.zeros((3, 2, 4), np.float32)
    boxes[:2, 0] = [[1, 1, 4, 4], [2, 3, 7, 8]]
    valid = np.zeros((3, 2), bool)
    valid[:2, 0] = True
    image = np.broadcast_to(np.asarray([0.0, 0.4, 1.0], np.float32)[:, None, None, None], (3, 8, 8, 3))
    fields = {"image": image, "boxes": boxes, "valid": valid, "classes": np.asarray([[1, 0], [2, 0], [0, 0]])}
    return jax.tree.map(jnp.asarray, fields | {"label": np.arange(3)})


def test_mixup_of_boxes_by_hand():
    out = augment.mixup_boxes(jax.random.key(0), batch())
    np.testing.assert_allclose(out["image"][:, 0, 0, 0], [0.2, 0.7, 0.5], atol=1e-6)
    assert out["boxes"].shape == (3, 4, 4)
    assert out["valid"].tolist() == [
        [True, False, True, False],
        [True, False, False, False],
        [False, False, True, False],
    ]
    assert out["classes"].tolist() == [[1, 0, 2, 0], [2, 0, 0, 0], [0, 0, 1, 0]]
    np.testing.assert_array_equal(out["boxes"][0, 2], [2, 3, 7, 8])
    assert out["label"].tolist() == [0, 1, 2]


def test_those_that_are_not_chosen_stay():
    before = batch()
    out = augment.mixup_boxes(jax.random.key(0), before, probability=0.0)
    np.testing.assert_array_equal(out["image"], before["image"])
    np.testing.assert_array_equal(out["boxes"][:, :2], before["boxes"])
    assert not out["valid"][:, 2:].any()


def test_shares_lie_where_they_are_asked_for():
    pictures = {"image": jnp.zeros((200, 2, 2, 1)).at[::2].set(1.0)}
    rest = {"boxes": jnp.zeros((200, 1, 4)), "valid": jnp.zeros((200, 1), bool), "classes": jnp.zeros((200, 1), int)}
    shares = np.asarray(augment.mixup_boxes(jax.random.key(1), pictures | rest, fraction=0.3)["image"][::2, 0, 0, 0])
    assert 0.3 <= shares.min() < 0.35 and 0.65 < shares.max() <= 0.7


def test_detection_to_another_size_and_upside_down():
    """Pixels and boxes together: a bright square is where its box says, at twice the side, top and bottom changed."""
    image = jnp.zeros((2, 8, 8, 3)).at[:, 1:3, 4:8].set(1.0)
    fields = {"image": image, "boxes": jnp.asarray([[[4.0, 1, 8, 3]]] * 2), "valid": jnp.ones((2, 1), bool)}
    out = augment.detection(jax.random.key(0), fields, flip_vertical=1.0, size=(16, 24))
    assert out["image"].shape == (2, 16, 24, 3)
    np.testing.assert_allclose(out["boxes"][0, 0], [12, 10, 24, 14], atol=1e-4)
    assert out["image"][0, 11:13, 14:23].min() > 0.9 and out["image"][0, :9].max() < 0.1
    still = augment.detection(jax.random.key(0), fields)
    np.testing.assert_array_equal(still["image"], image)
