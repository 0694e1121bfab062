"""MobileNetV2 against torchvision's, with the same random values."""

import pytest

from jaxcv import models

pytest.importorskip("torch")
torchvision = pytest.importorskip("torchvision")
import torch_networks  # noqa: E402


def theirs():
    return torch_networks.randomize(torchvision.models.mobilenet_v2(num_classes=10))


def test_evaluation():
    ours = models.mobilenet_v2(num_classes=10)
    torch_networks.same_evaluation("mobilenet_v2", theirs(), ours, size=224, mean=ours.mean, std=ours.std)


def test_training_step():
    ours = models.mobilenet_v2(num_classes=10, dropout=0.0, mean=(0.0,), std=(1.0,))
    torch_networks.same_training_step(
        "mobilenet_v2", theirs(), ours, lambda outputs, cross_entropy: cross_entropy(outputs), size=128
    )
