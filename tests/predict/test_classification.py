import jax.numpy as jnp
import numpy as np

from jaxcv import predict


def test_by_hand():
    found = predict.classes(jnp.log(jnp.asarray([[0.2, 0.5, 0.3], [0.4, 0.4, 0.2]])))
    assert found.label.tolist() == [1, 0]
    np.testing.assert_allclose(found.scores, [[0.2, 0.5, 0.3], [0.4, 0.4, 0.2]], rtol=1e-6)


def test_half_precision_and_huge_logits():
    found = predict.classes(jnp.asarray([1e4, -1e4, 0.0], jnp.bfloat16))
    assert found.scores.dtype == jnp.float32 and found.label == 0
    np.testing.assert_array_equal(found.scores, [1, 0, 0])
