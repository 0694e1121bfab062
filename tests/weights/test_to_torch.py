"""Variables under torchvision's names, written as torch's file and read again."""

import jax
import numpy as np
import pytest

from jaxcv import models, weights
from jaxcv.errors import UserError
from jaxcv.weights.start import shapes


@pytest.mark.parametrize("name", ["alexnet", "resnet18", "mobilenet_v2"])
def test_there_and_back(name, tmp_path):
    model, rng = models.named(name)(num_classes=7), np.random.default_rng(0)
    variables = jax.tree.map(lambda x: rng.integers(0, 99, x.shape).astype(x.dtype), shapes(model))
    state = weights.to_torch(model, variables)
    weights.write_torch(tmp_path / "m.pth", state)
    read = weights.load(tmp_path / "m.pth")
    assert list(read) == list(state)
    again = weights.from_torchvision(name, read)
    jax.tree.map(np.testing.assert_array_equal, dict(again), variables)


def test_other_networks_keep_their_names_with_dots(tmp_path):
    variables = {"params": {"neck": {"conv": {"kernel": np.ones((3, 1, 2, 4)), "bias": np.arange(4, dtype=np.int32)}}}}
    state = weights.to_torch(object(), variables)
    assert {name: array.shape for name, array in state.items()} == {
        "neck.conv.weight": (4, 2, 3, 1),
        "neck.conv.bias": (4,),
    }
    with pytest.raises(UserError, match="mask is of type bool, expected one of float32"):
        weights.write_torch(tmp_path / "m.pth", {"mask": np.ones(1, bool)})
    with pytest.raises(UserError, match="cannot be written: No such file"):
        weights.write_torch(tmp_path / "none" / "m.pth", state)
    assert list(tmp_path.iterdir()) == []
