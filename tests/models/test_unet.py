import jax
import jax.numpy as jnp
import networks
import numpy as np
import pytest

from jaxcv.models import UNet


def test_size_of_the_usual_network():
    """Two convolutions a level with batch norm and no bias, transposed convolutions with one: 31,037,633."""
    variables, outputs, features = networks.abstract(UNet(num_classes=1, width=64), 64, 96, 3)
    assert sum(networks.sizes(variables["params"]).values()) == 31_037_633
    assert outputs == (2, 64, 96, 1)
    assert features["down1"] == (2, 64, 96, 64) and features["bottom"] == (2, 4, 6, 1024)
    assert features["up4"] == (2, 8, 12, 512) and features["up1"] == (2, 64, 96, 64)


def test_the_papers_network():
    """Figure 1: 572 x 572 grey pixels, 388 x 388 x 2 logits, maps of 28 x 28 x 1024 at the bottom."""
    model = UNet(padding="valid", norm=False)
    variables, outputs, features = networks.abstract(model, 572, 572, 1)
    assert sum(networks.sizes(variables["params"]).values()) == 31_030_658
    assert outputs == (2, 388, 388, 2) and features["bottom"] == (2, 28, 28, 1024)
    assert features["down1"] == (2, 568, 568, 64) and features["up4"] == (2, 52, 52, 512)
    assert model.margin == 92 and networks.abstract(model, model.fitting(0), 188, 1)[1] == (2, 4, 4, 2)
    with pytest.raises(ValueError, match=r"images of \(570, 572\): expected 188 \+ a multiple of 16, such as 572"):
        networks.abstract(model, 570, 572, 1)


@pytest.mark.parametrize("model", [UNet(depth=1), UNet(depth=3), UNet(depth=1, padding="valid"), UNet(padding="valid")])
def test_documented_sizes_are_taken(model):
    for size in (1, 17, 200):
        n = model.fitting(size)
        assert n >= size and networks.abstract(model, n, n, 3)[1] == (2, n - 2 * model.margin, n - 2 * model.margin, 2)


def test_sizes_that_cannot_be_halved_are_refused():
    with pytest.raises(ValueError, match=r"images of \(20, 16\): expected multiples of 2\^depth = 8"):
        networks.abstract(UNet(depth=3), 20, 16, 3)


def test_every_parameter_learns():
    model = UNet(num_classes=3, width=4, depth=2)
    variables = networks.filled(model, 8, 8, 3)
    pictures = networks.images(2, 8, 8, 3)

    def loss(params):
        (logits, _), changed = model.apply(
            {**variables, "params": params}, pictures, train=True, mutable=["batch_stats"]
        )
        return -jax.nn.log_softmax(logits)[..., 0].mean(), changed

    gradient, changed = jax.jit(jax.grad(loss, has_aux=True))(variables["params"])
    assert all(np.abs(leaf).sum() > 0 for leaf in jax.tree.leaves(gradient))
    moved = jax.tree.map(lambda a, b: bool(jnp.any(a != b)), changed["batch_stats"], variables["batch_stats"])
    assert all(jax.tree.leaves(moved))
