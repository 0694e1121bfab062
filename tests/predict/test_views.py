"""Several views of an image, one prediction."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcv.errors import UserError
from jaxcv.predict import View, combined, seen, views
from jaxcv.types import Classes, Detections, Embeddings, Landmarks, Localization, Masks

SIZE = 40, 60
"""Height and width."""
SEEN = views("flip,0.5,2")


def test_words():
    assert views("") == (View(),)
    assert views("flip,0.5") == (View(), View(True), View(False, 0.5), View(True, 0.5))
    for word in ("flp", "0.1", "9", "nan"):
        with pytest.raises(UserError, match=f"view '{word}': expected flip, or a size from 0.25 to 4"):
            views(word)


def marked(box):
    """An image that is white in a box."""
    image = np.zeros((1, *SIZE, 1), np.float32)
    x1, y1, x2, y2 = box
    image[:, y1:y2, x1:x2] = 1
    return jnp.asarray(image)


def white(image):
    """The box of what is white."""
    rows, columns = (np.flatnonzero(np.asarray(image)[0, ..., 0].max(axis) > 0.5) for axis in (1, 0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float32)


def test_boxes_come_back_from_every_view_and_are_one():
    box = [24, 14, 32, 26]
    found = []
    for i, view in enumerate(SEEN):
        boxes = jnp.zeros((1, 2, 4)).at[0, 0].set(jnp.asarray(white(seen(marked(box), view))))
        score = jnp.asarray([[0.5 + i / 100, 0.0]], jnp.float32)
        valid = jnp.asarray([[True, False]])
        found.append(Detections(boxes, score, jnp.where(valid, 3, -1), valid))
    one = jax.jit(lambda found: combined(found, SEEN, SIZE))(found)
    assert one.valid.tolist() == [[True, False]] and one.classes.tolist() == [[3, -1]]
    assert float(one.scores[0, 0]) == pytest.approx(0.55)
    np.testing.assert_allclose(one.boxes, [[box, [0] * 4]], atol=1)
    alone = jax.tree.map(lambda array: array[0], found)
    assert combined(alone, SEEN, SIZE).boxes.shape == (2, 4)


def test_pixels_vote():
    found = []
    for view in SEEN:
        label = (seen(marked([10, 8, 30, 20]), view)[..., 0] > 0.5).astype(jnp.int32)
        found.append(Masks(label, jnp.full(label.shape, 0.5, jnp.float32)))
    one = combined(found, SEEN, SIZE)
    np.testing.assert_array_equal(white(one.label[..., None]), [10, 8, 30, 20])
    assert float(one.score.min()) > 0.1 and float(one.score.max()) == pytest.approx(0.5)
    label = jnp.asarray([[[0]], [[1]], [[1]]])
    three = [Masks(label[i : i + 1], jnp.full((1, 1, 1), [0.7, 0.4, 0.4][i], jnp.float32)) for i in range(3)]
    voted = combined(three, [View()] * 3, (1, 1))
    assert int(voted.label[0, 0, 0]) == 1 and float(voted.score[0, 0, 0]) == pytest.approx(0.8 / 3)


def test_probabilities_and_vectors_are_averaged():
    scores = [jnp.asarray([[0.6, 0.4]]), jnp.asarray([[0.1, 0.9]])]
    one = combined([Classes(jnp.argmax(s, -1), s) for s in scores], SEEN[:2], SIZE)
    assert one.label.tolist() == [1] and one.scores[0].tolist() == pytest.approx([0.35, 0.65])
    vectors = combined([Embeddings(jnp.asarray([v])) for v in ([1.0, 0.0], [0.0, 1.0])], SEEN[:2], SIZE)
    assert vectors.vectors[0].tolist() == pytest.approx([0.5**0.5] * 2)
    boxes = [jnp.asarray([[10.0, 0, 20, 10]]), jnp.asarray([[40.0, 0, 50, 10]])]  # the mirror image of it
    found = [
        Localization(jnp.asarray([p]), box, jnp.asarray([0]), scores[0])
        for p, box in zip((0.9, 0.5), boxes, strict=True)
    ]
    one = combined(found, SEEN[:2], SIZE)
    assert one.box[0].tolist() == pytest.approx([10, 0, 20, 10]) and float(one.score[0]) == pytest.approx(0.7)


def test_points_are_refused():
    points = Landmarks(jnp.zeros((1, 2, 2)), jnp.ones((1, 2), bool))
    with pytest.raises(UserError, match="cannot be combined for Landmarks"):
        combined([points], SEEN[:1], SIZE)
