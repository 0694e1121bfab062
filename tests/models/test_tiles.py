import jax
import jax.numpy as jnp
import networks
import numpy as np
import pytest

from jaxcv.models import Tiled, UNet

PICTURE = networks.images(2, 53, 39, 1)
VALID = UNet(num_classes=3, width=2, depth=2, norm=False, padding="valid")


@pytest.fixture(scope="module")
def variables():
    return {"params": {"network": networks.filled(VALID, 44, 44, 1)["params"]}}


def test_tiles_give_what_the_whole_image_gives(variables):
    """Without padding exactly: every pixel has the same neighbours, mirrored borders among them."""
    whole, _ = jax.jit(Tiled(VALID).apply)(variables, PICTURE)
    tiles, _ = jax.jit(Tiled(VALID, tile=16).apply)(variables, PICTURE)
    assert whole.shape == (2, 53, 39, 3)
    np.testing.assert_array_equal(whole.argmax(-1), tiles.argmax(-1))
    np.testing.assert_allclose(whole, tiles, rtol=1e-5, atol=1e-5)


def test_borders_are_mirrored(variables):
    """What a network without padding says of an image is what it says of the middle of the image mirrored by hand."""
    margin = VALID.margin
    more = VALID.fitting(53 + 2 * margin) - 53 - margin, VALID.fitting(39 + 2 * margin) - 39 - margin
    around = np.pad(PICTURE, ((0, 0), (margin, more[0]), (margin, more[1]), (0, 0)), mode="reflect")
    by_hand, _ = VALID.apply({"params": variables["params"]["network"]}, jnp.asarray(around))
    whole, _ = Tiled(VALID).apply(variables, PICTURE)
    np.testing.assert_allclose(whole, by_hand[:, :53, :39], rtol=1e-5, atol=1e-5)


def test_padded_networks_agree_away_from_the_borders():
    """Where the padding of the whole image, which tiles do not have, is out of sight."""
    network = UNet(num_classes=3, width=2, depth=1)
    picture = networks.images(1, 70, 64, 1)
    variables = {name: {"network": tree} for name, tree in networks.filled(network, 8, 8, 1).items()}
    whole, _ = jax.jit(Tiled(network).apply)(variables, picture)
    tiles, _ = jax.jit(Tiled(network, tile=24, overlap=10).apply)(variables, picture)
    np.testing.assert_allclose(whole[:, 10:-10, 10:-10], tiles[:, 10:-10, 10:-10], rtol=1e-5, atol=1e-5)


def mirrored(x):
    return x[:, :, ::-1]


def turned(x):
    return x.swapaxes(1, 2)[:, ::-1]


@pytest.mark.parametrize(("views", "moved"), [(2, mirrored), (8, mirrored), (8, turned)])
def test_the_prediction_of_another_view_is_that_view_of_the_prediction(variables, views, moved):
    seen = jax.jit(Tiled(VALID, views=views).apply)
    one, other = seen(variables, PICTURE)[0], seen(variables, moved(PICTURE))[0]
    np.testing.assert_allclose(moved(one), other, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(jnp.exp(one).sum(-1), 1.0, rtol=1e-5)
    plain, _ = Tiled(VALID).apply(variables, PICTURE)
    assert np.abs(jax.nn.log_softmax(plain) - one).max() > 1e-3


@pytest.mark.parametrize("sides", [(1, 1), (5, 300), (97, 64)])
@pytest.mark.parametrize("network", [UNet(depth=2), UNet(depth=3, padding="valid")], ids=["same", "valid"])
def test_any_size_is_taken(network, sides):
    assert networks.abstract(Tiled(network), *sides, 3)[1] == (2, *sides, 2)
