import jax
import jax.numpy as jnp
import numpy as np

from jaxcv import models


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def test_the_table_of_the_course():
    """Activation sizes and parameters for 32x32x3, as in the course's figure."""
    model = models.lenet5(num_classes=10)
    image = jnp.zeros((2, 32, 32, 3))
    variables = model.init(jax.random.key(0), image)
    logits, features = model.apply(variables, image)
    assert isinstance(features, dict)
    assert {name: jnp.shape(f)[1:] for name, f in features.items()} == {
        "conv1": (28, 28, 6),
        "pool1": (14, 14, 6),
        "conv2": (10, 10, 16),
        "pool2": (5, 5, 16),
        "fc3": (120,),
        "fc4": (84,),
    }
    assert jnp.shape(logits) == (2, 10)
    parameters = {name: count(p) for name, p in variables["params"].items()}
    assert parameters == {"conv1": 456, "conv2": 2_416, "fc3": 48_120, "fc4": 10_164, "head": 850}


def test_standardisation_travels_with_the_model():
    image = jnp.full((1, 32, 32, 1), 0.5)
    plain = models.lenet5(mean=(0.0,), std=(1.0,))
    variables = plain.init(jax.random.key(0), image)
    other = models.lenet5(mean=(0.25,), std=(0.5,))
    np.testing.assert_allclose(other.apply(variables, image)[0], plain.apply(variables, image)[0], rtol=1e-6)
