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
