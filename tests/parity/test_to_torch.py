"""What `--export m.pth` writes, as torch and torchvision take it."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcv import models, weights

torch: Any = pytest.importorskip("torch")
torchvision: Any = pytest.importorskip("torchvision")


@pytest.mark.parametrize("name", ["alexnet", "resnet18"])
def test_torchvision_loads_it_and_gives_the_same_logits(name, tmp_path):
    model = models.named(name)(num_classes=5, mean=(0.0,) * 3, std=(1.0,) * 3)
    images = np.random.default_rng(0).random((1, 96, 96, 3), np.float32)
    variables = model.init(jax.random.key(0), jnp.asarray(images))
    weights.write_torch(tmp_path / "m.pth", weights.to_torch(model, variables))
    theirs = torchvision.models.get_model(name, num_classes=5).eval()
    theirs.load_state_dict(torch.load(tmp_path / "m.pth", weights_only=True))
    with torch.no_grad():
        expected = theirs(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()
    found, _ = model.apply(variables, jnp.asarray(images), train=False)
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=1e-3)
