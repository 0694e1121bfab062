"""GoogLeNet and Inception v3 against torchvision's, with the same random values."""

import pytest

from jaxcv import models

pytest.importorskip("torch")
torchvision = pytest.importorskip("torchvision")
import torch_networks  # noqa: E402

# Our form of torchvision's network, the weight of its auxiliary losses, and the smallest side to train with.
CASES = {
    "googlenet": ({"torchvision_compatible": True}, 0.3, 128),
    "inception_v3": ({}, 0.4, 299),
}


def theirs(name):
    network = getattr(torchvision.models, name)(num_classes=10, transform_input=False, init_weights=False)
    return torch_networks.randomize(network)


@pytest.mark.parametrize("name", CASES)
def test_evaluation(name):
    ours = getattr(models, name)(num_classes=10, **CASES[name][0])
    size = {"googlenet": 224, "inception_v3": 299}[name]
    torch_networks.same_evaluation(name, theirs(name), ours, size=size, mean=ours.mean, std=ours.std)


@pytest.mark.parametrize("name", CASES)
def test_training_step_with_auxiliary_heads(name):
    options, weight, size = CASES[name]
    ours = getattr(models, name)(num_classes=10, aux_logits=True, dropout=0.0, mean=(0.0,), std=(1.0,), **options)

    def loss(outputs, cross_entropy):
        main, *auxiliary = outputs
        heads = auxiliary[0] if isinstance(auxiliary[0], tuple) else auxiliary
        assert len(heads) == (2 if name == "googlenet" else 1)
        return cross_entropy(main) + weight * sum(cross_entropy(head) for head in heads)

    torch_networks.same_training_step(name, theirs(name), ours, loss, size=size)
