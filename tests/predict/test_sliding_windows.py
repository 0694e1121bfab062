import jax.numpy as jnp
import numpy as np

from jaxcv import predict


def test_the_best_of_overlapping_windows_and_none_of_the_background():
    boxes = jnp.array([[0.0, 0, 10, 10], [1, 0, 11, 10], [20, 20, 30, 30], [40, 40, 50, 50]])
    share = np.array([[0.2, 0.8], [0.1, 0.9], [0.4, 0.6], [0.95, 0.05]])
    logits = jnp.asarray(np.log(share), jnp.float32)[None]
    found = predict.sliding_windows((logits, boxes), score_threshold=0.5, max_outputs=3)
    np.testing.assert_array_equal(found.valid, [[True, True, False]])
    np.testing.assert_allclose(found.boxes[0], [[1, 0, 11, 10], [20, 20, 30, 30], [0, 0, 0, 0]])
    np.testing.assert_allclose(found.scores[0], [0.9, 0.6, 0], atol=1e-6)
    np.testing.assert_array_equal(found.classes[0], [1, 1, -1])
    apart = predict.sliding_windows((logits, boxes), iou_threshold=0.9, score_threshold=0.7, background=0)
    assert int(apart.valid.sum()) == 2
    turned = predict.sliding_windows((logits, boxes), background=1, score_threshold=0.5)
    np.testing.assert_array_equal(turned.boxes[0, :1], [[40, 40, 50, 50]])
    assert int(turned.valid.sum()) == 1


def test_a_window_alone_is_dropped_where_neighbours_must_agree():
    # Three that overlap by 0.8 and more, one by 0.67 that is of another class, one alone, one that is below.
    left = np.array([0, 1, 1, 2, 40, 0])
    boxes = jnp.asarray(np.stack([left, left * 0, left + 10, left * 0 + 10], axis=1), jnp.float32)
    share = np.array([[0.1, 0.9, 0], [0.2, 0.8, 0], [0.3, 0.7, 0], [0.2, 0, 0.8], [0.05, 0.95, 0], [0.6, 0.4, 0]])
    outputs = (jnp.log(jnp.asarray(share + 1e-9, jnp.float32))[None], boxes)

    def found(**options):
        detections = predict.sliding_windows(outputs, max_outputs=4, iou_threshold=0.3, **options)
        return detections.boxes[0, :, 0][detections.valid[0]].tolist(), detections.classes[0].tolist()

    assert found() == ([40, 0, 2], [1, 1, 2, -1])
    assert found(min_neighbors=1) == found(min_neighbors=2) == ([0], [1, -1, -1, -1])
    assert found(min_neighbors=3) == ([], [-1] * 4)
    assert found(min_neighbors=1, neighbor_iou=0.9) == ([1], [1, -1, -1, -1])  # two at the same position


def test_without_windows_no_row_is_valid():
    found = predict.sliding_windows((jnp.zeros((2, 0, 2)), jnp.zeros((0, 4))), min_neighbors=1, max_outputs=3)
    assert not found.valid.any() and found.boxes.shape == (2, 3, 4) and not found.boxes.any()
