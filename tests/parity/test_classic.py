"""AlexNet, VGG and local response normalisation against torchvision and torch."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxcv import ops

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")
from torchvision_networks import compare  # noqa: E402


def test_alexnet():
    compare("alexnet", 96, 130)


@pytest.mark.parametrize("name", [f"vgg{depth}{norm}" for depth in (11, 13, 16, 19) for norm in ("", "_bn")])
def test_vgg(name):
    compare(name, 64, 32, fc_width=64)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 9])
def test_local_response_norm(size):
    images = np.random.default_rng(0).normal(size=(2, 3, 4, 7)).astype(np.float32)
    theirs = torch.nn.LocalResponseNorm(size, alpha=0.2 * size, beta=0.6, k=1.5)  # theirs is divided by the size
    expected = theirs(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).permute(0, 2, 3, 1)
    found = ops.local_response_norm(jnp.asarray(images), size=size, alpha=0.2, beta=0.6, k=1.5)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
