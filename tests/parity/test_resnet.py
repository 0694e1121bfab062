"""Residual networks against torchvision's."""

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")
from torchvision_networks import compare  # noqa: E402


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"])
def test_resnet(name):
    compare(name, 64, 32)
