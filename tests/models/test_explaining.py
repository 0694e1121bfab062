"""Saliency and grad-CAM by hand, on a network whose gradients are known."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcv import models
from jaxcv.errors import UserError


class Known(nn.Module):
    """Two maps, red and green above a half, doubled; the logits are weighted sums of them and a product."""

    @nn.compact
    def __call__(self, images, *, train: bool = False):
        self.param("unused", nn.initializers.zeros_init(), ())
        maps = nn.relu(images[..., :2] - 0.5)
        twice = 2 * maps
        red, green = twice[..., 0].sum((1, 2)), twice[..., 1].sum((1, 2))
        return jnp.stack([3 * red, red - green, red * green], -1), {"maps": maps, "sums": twice.sum((1, 2))}


IMAGES = np.zeros((2, 2, 3, 3), np.float32)
IMAGES[0, 0, 1, 0], IMAGES[0, 1, 2, 1], IMAGES[1, 1, 0, 0] = 1.0, 0.75, 0.75
KNOWN, VARIABLES = Known(), {"params": {"unused": jnp.zeros(())}}


def ask(function, labels, **options):
    return jax.jit(lambda x: function(KNOWN, VARIABLES, x, jnp.asarray(labels), **options))(IMAGES)


def test_saliency_by_hand():
    """d 3 red / d pixel is 3 x 2 where red is above a half; of class 2, 2 x the other's sum: 2 x 0.5, and 2 x 1."""
    found = ask(models.saliency, [0, 0])
    np.testing.assert_allclose(found, [[[0, 6, 0], [0, 0, 0]], [[0, 0, 0], [6, 0, 0]]])
    np.testing.assert_allclose(ask(models.saliency, [2, 1])[0], [[0, 1, 0], [0, 0, 2]])


def test_grad_cam_by_hand():
    """The map of red times its weight 6, that of green times -2, which is cut off at 0."""
    np.testing.assert_allclose(ask(models.grad_cam, [0, 0])[0], [[0, 3, 0], [0, 0, 0]])
    found = ask(models.grad_cam, [1, 1], layer="maps")
    np.testing.assert_allclose(found, [[[0, 1, 0], [0, 0, 0]], [[0, 0, 0], [0.5, 0, 0]]])
    np.testing.assert_allclose(ask(models.grad_cam, [2, 2])[0], [[0, 0.5, 0], [0, 0, 0.5]])


def test_layers_that_cannot_be_asked_are_refused():
    for layer in ("sums", "nothing"):
        with pytest.raises(UserError, match=f"Known has no feature map '{layer}'; it has maps"):
            ask(models.grad_cam, [0, 0], layer=layer)


def test_a_network_of_the_zoo():
    """Of LeNet's last map, against the dense layers written out here."""
    lenet = models.lenet5()
    images, labels = jax.random.uniform(jax.random.key(0), (2, 32, 32, 1)), jnp.array([3, 1])
    variables = jax.jit(lenet.init)(jax.random.key(1), images)
    found = jax.jit(lambda v, x: models.grad_cam(lenet, v, x, labels))(variables, images)

    def logit(maps):
        x = maps.reshape(2, -1)
        for name in ("fc3", "fc4", "head"):
            layer = variables["params"][name]
            x = (x if name == "fc3" else nn.relu(x)) @ layer["kernel"] + layer["bias"][None]
        return x[jnp.arange(2), labels].sum()

    maps = lenet.apply(variables, images)[1]["pool2"]  # pyright: ignore[reportArgumentType]
    weights = jax.grad(logit)(maps).mean((1, 2), keepdims=True)
    np.testing.assert_allclose(found, nn.relu((maps * weights).sum(-1)), rtol=1e-4, atol=1e-6)
