"""A small network and torch's tensors for it."""

import numpy as np

from jaxcv import models

TINY = models.ResNet(stage_sizes=(1, 1), num_classes=3, width=4)


def tensors():
    """torch's tensors for TINY: every entry another number, in torch's layouts."""
    rng = np.random.default_rng(0)

    def norm(name, c):
        parts = ("weight", "bias", "running_mean", "running_var")
        yield from ((f"{name}.{part}", rng.uniform(0.5, 1.5, c)) for part in parts)
        yield f"{name}.num_batches_tracked", np.asarray(7)

    def everything():
        yield "conv1.weight", rng.normal(size=(4, 3, 7, 7))
        yield from norm("bn1", 4)
        for layer, (c, o) in (("layer1.0", (4, 4)), ("layer2.0", (4, 8))):
            yield f"{layer}.conv1.weight", rng.normal(size=(o, c, 3, 3))
            yield from norm(f"{layer}.bn1", o)
            yield f"{layer}.conv2.weight", rng.normal(size=(o, o, 3, 3))
            yield from norm(f"{layer}.bn2", o)
        yield "layer2.0.downsample.0.weight", rng.normal(size=(8, 4, 1, 1))
        yield from norm("layer2.0.downsample.1", 8)
        yield "fc.weight", rng.normal(size=(3, 8))
        yield "fc.bias", rng.normal(size=3)

    return {name: np.asarray(tensor, np.float32) for name, tensor in everything()}
