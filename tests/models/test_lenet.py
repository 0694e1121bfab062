import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import abstract, filled, gradients, images, sizes

from jaxcv import models
from jaxcv.models.layers import standardize
from jaxcv.models.lenet import CONNECTIONS, ConnectedConv, scaled_tanh


def test_the_table_of_the_course():
    """Activation sizes and parameters for 32x32x3, as in the course's figure."""
    variables, logits, features = abstract(models.lenet5(), 32, 32, 3)
    assert {name: shape[1:] for name, shape in features.items()} == {
        "conv1": (28, 28, 6),
        "pool1": (14, 14, 6),
        "conv2": (10, 10, 16),
        "pool2": (5, 5, 16),
        "fc3": (120,),
        "fc4": (84,),
    }
    assert logits == (2, 10)
    parameters = sizes(variables["params"])
    assert parameters == {"conv1": 456, "conv2": 2_416, "fc3": 48_120, "fc4": 10_164, "head": 850}
    assert sum(parameters.values()) == 62_006


def test_the_table_of_1998():
    variables, logits, features = abstract(models.lenet5_1998(), 32, 32, 1)
    assert {name: shape[1:] for name, shape in features.items()} == {
        "c1": (28, 28, 6),
        "s2": (14, 14, 6),
        "c3": (10, 10, 16),
        "s4": (5, 5, 16),
        "c5": (1, 1, 120),
        "f6": (84,),
    }
    assert logits == (2, 10)
    parameters = sizes(variables["params"])
    assert parameters == {"c1": 156, "s2": 12, "c3": 1_516, "s4": 32, "c5": 48_120, "f6": 10_164, "head": 850}


def test_connections_are_those_of_the_paper():
    assert [len(maps) for maps in CONNECTIONS] == [3] * 6 + [4] * 9 + [6]
    rows = ["".join("X" if row in maps else "." for maps in CONNECTIONS) for row in range(6)]
    assert rows == [
        "X...XXX..XXXX.XX",
        "XX...XXX..XXXX.X",
        "XXX...XXX..X.XXX",
        ".XXX..XXXX..X.XX",
        "..XXX..XXXX.XX.X",
        "...XXX..XXXX.XXX",
    ]


def test_a_filter_sees_its_maps_alone():
    layer, image = ConnectedConv(CONNECTIONS, 5), images(1, 6, 6, 6)
    variables = layer.init(jax.random.key(0), image)
    apply = jax.jit(lambda x: jnp.asarray(layer.apply(variables, x)))
    before = apply(image)
    for seen in range(6):
        changed = np.abs(apply(image.at[..., seen].add(1.0)) - before).max((0, 1, 2)) > 1e-3
        assert changed.tolist() == [seen in maps for maps in CONNECTIONS]


def test_filters_start_with_one_over_their_inputs_as_variance():
    layer = ConnectedConv(((0, 1, 2),) * 20 + ((0, 1, 2, 3, 4, 5),) * 10, 5)
    kernel = np.asarray(layer.init(jax.random.key(0), images(1, 5, 5, 6))["params"]["kernel"])
    np.testing.assert_allclose([kernel[..., :60].std(), kernel[..., 60:].std()], [75**-0.5, 150**-0.5], rtol=0.1)


def test_squashing():
    x = jnp.asarray([-1.0, 0.0, 1.0, 100.0])
    np.testing.assert_allclose(scaled_tanh(x), [-1.0, 0.0, 1.0, 1.7159], atol=1e-4)


@pytest.mark.parametrize("network", [models.lenet5, models.lenet5_1998])
@pytest.mark.parametrize("channels", [1, 3])
def test_grey_and_colour(network, channels):
    variables, logits, _ = abstract(network(num_classes=4), 32, 32, channels)
    assert logits == (2, 4)
    first = variables["params"]["c1" if network is models.lenet5_1998 else "conv1"]
    assert first["kernel"].shape == (5, 5, channels, 6)


@pytest.mark.parametrize("network", [models.lenet5, models.lenet5_1998])
def test_every_parameter_learns(network):
    for path, gradient in gradients(network(), filled(network(), 32, 32, 1), images(2, 32, 32, 1)).items():
        assert np.isfinite(gradient).all() and np.abs(gradient).max() > 1e-6, path


def test_standardisation_travels_with_the_model():
    image = jnp.full((1, 32, 32, 1), 0.5)
    plain = models.lenet5(mean=(0.0,), std=(1.0,))
    variables = filled(plain, 32, 32, 1)
    other = models.lenet5(mean=(0.25,), std=(0.5,))
    np.testing.assert_allclose(other.apply(variables, image)[0], plain.apply(variables, image)[0], rtol=1e-6)


def test_ink_of_1998_has_the_values_of_the_paper():
    model = models.lenet5_1998()
    image = jnp.asarray([0.0, 1.0]).reshape(1, 1, 2, 1)
    np.testing.assert_allclose(standardize(image, model.mean, model.std).ravel(), [-0.1, 1.175], rtol=1e-6)
