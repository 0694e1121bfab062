"""Residual networks against torchvision's."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")
from torchvision_networks import compare  # noqa: E402


def test_in_single_precision():
    compare("resnet18", 64, 96, dtype=np.float32, tolerance=1e-3)


@pytest.mark.parametrize("depth", [18, 34, 50, 101, 152])
def test_in_double_precision(depth):
    compare(f"resnet{depth}", 64, 32, dtype=np.float64, tolerance=1e-6)
