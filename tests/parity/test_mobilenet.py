"""MobileNetV2 against torchvision's, with the same random values."""

import numpy as np
import pytest

from jaxcv import models

pytest.importorskip("torch")
torchvision = pytest.importorskip("torchvision")
from torch_networks import randomize, same_logits, same_step  # noqa: E402

IMAGES = np.random.default_rng(1).uniform(size=(2, 128, 96, 3)).astype(np.float32)


def theirs():
    return randomize(torchvision.models.mobilenet_v2(num_classes=10), seed=0)


def test_logits():
    same_logits("mobilenet_v2", theirs(), models.mobilenet_v2(num_classes=10), IMAGES, tolerance=1e-4)


def test_training_step():
    ours = models.mobilenet_v2(num_classes=10, dropout=0.0)
    same_step("mobilenet_v2", theirs(), ours, IMAGES, tolerance=1e-6)
