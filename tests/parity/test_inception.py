"""GoogLeNet and Inception v3 against torchvision's, with the same random values, and auxiliary heads."""

import numpy as np
import pytest

from jaxcv import models

pytest.importorskip("torch")
torchvision = pytest.importorskip("torchvision")
from torch_networks import randomize, same_logits, same_step  # noqa: E402

# Our form of torchvision's network, the weight of its auxiliary losses, sides of images to evaluate and to train with.
CASES = {
    "googlenet": ({"torchvision_compatible": True}, 0.3, (224, 200), (128, 128)),
    "inception_v3": ({}, 0.4, (299, 299), (299, 299)),
}


def theirs(name):
    network = getattr(torchvision.models, name)(num_classes=10, transform_input=False, init_weights=False)
    return randomize(network, seed=0)


def images(sides):
    return np.random.default_rng(1).uniform(size=(2, *sides, 3)).astype(np.float32)


@pytest.mark.parametrize("name", CASES)
def test_logits(name):
    options, _, sides, _ = CASES[name]
    ours = getattr(models, name)(num_classes=10, **options)
    same_logits(name, theirs(name), ours, images(sides), tolerance=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_training_step_with_auxiliary_heads(name):
    options, weight, _, sides = CASES[name]
    ours = getattr(models, name)(num_classes=10, aux_logits=True, dropout=0.0, **options)
    same_step(name, theirs(name), ours, images(sides), auxiliary_weight=weight, tolerance=1e-6)
