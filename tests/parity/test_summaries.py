"""Parameters and multiply-adds, as torchvision publishes them for its weights."""

import pytest

from jaxcv import models

torchvision = pytest.importorskip("torchvision")

NETWORKS = [
    "alexnet",
    *(f"vgg{depth}{norm}" for depth in (11, 13, 16, 19) for norm in ("", "_bn")),
    *(f"resnet{depth}" for depth in (18, 34, 50, 101, 152)),
    "googlenet",
    "inception_v3",
    "mobilenet_v2",
]


@pytest.mark.parametrize("name", NETWORKS)
def test_published_figures(name):
    published = torchvision.models.get_model_weights(name).IMAGENET1K_V1.meta
    fields = {"torchvision_compatible": True} if name == "googlenet" else {}
    if name == "inception_v3":
        fields = {"aux_logits": True}  # counted in its parameters, not in its operations
    size = 299 if name == "inception_v3" else 224
    table = models.summary(getattr(models, name)(**fields), (size, size, 3))
    assert table.parameters == published["num_params"]
    assert round(table.multiply_adds / 1e9, 3) == published["_ops"]
