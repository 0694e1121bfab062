"""Areas and overlaps of boxes in half precision and of integers against torchvision, which widens them too."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from jaxcv import ops

torch: Any = pytest.importorskip("torch")
torchvision: Any = pytest.importorskip("torchvision")


def boxes():
    random = np.random.default_rng(0)
    corners = random.integers(0, 16, (60, 2)) * 64
    return np.concatenate([corners, corners + random.integers(1, 8, (60, 2)) * 64], -1)


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "int32"])
@pytest.mark.parametrize("name", ["box_area", "box_iou", "generalized_box_iou", "distance_box_iou", "complete_box_iou"])
def test_values_and_precision(kind, name):
    theirs = torch.from_numpy(boxes()).to(getattr(torch, kind))
    ours = jnp.asarray(boxes(), getattr(jnp, kind))
    second = [] if name == "box_area" else [theirs]
    wanted = getattr(torchvision.ops, name)(theirs, *second)
    found = getattr(ops, name)(ours, *[ours] * len(second))
    assert found.dtype == jnp.float32
    if kind != "int32":
        assert wanted.dtype == torch.float32
    np.testing.assert_allclose(found, wanted.to(torch.float32).numpy(), rtol=1e-3, atol=1e-3)
