import jax
import networks
import numpy as np
import pytest

from jaxcv.errors import UserError
from jaxcv.models import DeconvNet

SMALL = DeconvNet(num_classes=3, stage_sizes=(1, 2), stage_channels=(3, 4), fc_width=5, map_size=2, norm=False)


def test_the_courses_network():
    """Its layers in order; what each mirror image gives back; and as many parameters as VGG-16 and its mirror image."""
    model = DeconvNet(norm=False)
    variables, outputs, features = networks.abstract(model, 224, 224, 3)
    assert outputs == (2, 224, 224, 21) and features["fc6"] == (2, 1, 1, 4096)
    up = [features[f"deconv{i}_{j}"] for i, n in ((5, 3), (4, 3), (3, 3), (2, 2), (1, 1)) for j in range(1, n + 1)]
    assert [shape[1] for shape in up] == [14] * 3 + [28] * 3 + [56] * 3 + [112] * 2 + [224]
    assert [shape[3] for shape in up] == [512, 512, 512, 512, 512, 256, 256, 256, 128, 128, 64, 64]
    assert [features[f"unpool{i}"][1:] for i in (5, 1)] == [(14, 14, 512), (224, 224, 64)]
    counts = networks.sizes(variables["params"])
    assert sum(n for name, n in counts.items() if name.startswith("conv")) == 14_714_688  # VGG-16's convolutions
    assert counts["fc6"] == 7 * 7 * 512 * 4096 + 4096 and counts["fc7"] == 4096 * 4096 + 4096
    assert counts["fc6_transposed"] == 7 * 7 * 4096 * 512 + 512 and counts["head"] == 9 * 64 * 21 + 21
    assert "deconv1_2" not in features


def test_sizes():
    assert networks.abstract(SMALL, 12, 16, 3)[1] == (2, 12, 16, 3)
    with pytest.raises(UserError, match=r"images of \(16, 14\): expected multiples of 4, at least 8"):
        networks.abstract(SMALL, 16, 14, 3)
    with pytest.raises(UserError, match=r"images of \(4, 8\)"):
        networks.abstract(SMALL, 4, 8, 3)


def test_every_parameter_learns():
    variables, pictures = networks.filled(SMALL, 8, 8, 3), networks.images(2, 8, 8, 3)

    def loss(params):
        return -jax.nn.log_softmax(SMALL.apply({"params": params}, pictures, train=True)[0])[..., 0].mean()

    gradient = jax.jit(jax.grad(loss))(variables["params"])
    assert all(np.abs(leaf).sum() > 0 for leaf in jax.tree.leaves(gradient))
