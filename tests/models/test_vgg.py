from functools import partial

import jax
import numpy as np
import pytest
from networks import abstract, filled, gradients, images, parameters

from jaxcv import models

SMALL = partial(
    models.VGG, stage_sizes=(1, 2), stage_channels=(4, 8), fc_width=16, fc_map_size=2, num_classes=3, norm=True
)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("vgg11", 132_863_336),
        ("vgg13", 133_047_848),
        ("vgg16", 138_357_544),
        ("vgg16_bn", 138_365_992),
        ("vgg19", 143_667_240),
    ],
)
def test_parameters(name, expected):
    assert parameters(getattr(models, name)(), 224, 224, 3) == expected


@pytest.mark.parametrize(("depth", "convolutions"), [(11, 8), (13, 10), (16, 13), (19, 16)])
def test_layers_and_what_norm_adds(depth, convolutions):
    plain, normed = (abstract(getattr(models, f"vgg{depth}{end}")(), 224, 224, 3)[0] for end in ("", "_bn"))
    assert sum(name.startswith("conv") for name in plain["params"]) == convolutions
    assert set(plain["params"]) == set(normed["params"])
    for name, layer in normed["params"].items():
        if name.startswith("conv"):
            assert set(layer) == {"conv", "norm"} and set(plain["params"][name]) == {"conv"}
            assert layer["conv"] == plain["params"][name]["conv"]
        else:
            assert layer == plain["params"][name]
    assert set(normed["batch_stats"]) == {name for name in plain["params"] if name.startswith("conv")}


def test_features_of_vgg16():
    _, logits, features = abstract(models.vgg16(), 224, 224, 3)
    expected = {}
    for stage, (size, channels) in enumerate(zip((2, 2, 3, 3, 3), (64, 128, 256, 512, 512), strict=True), start=1):
        side = 224 // 2 ** (stage - 1)
        expected |= {f"conv{stage}_{i}": (2, side, side, channels) for i in range(1, size + 1)}
        expected |= {f"pool{stage}": (2, side // 2, side // 2, channels)}
    assert features == {**expected, "fc6": (2, 4096), "fc7": (2, 4096)}
    assert logits == (2, 1000)


def test_small_pictures_want_fewer_parameters():
    convolutions = 14_714_688
    for side, width in ((7, 4096), (1, 512)):
        found = parameters(models.vgg16(fc_map_size=side, fc_width=width, num_classes=10), 32, 32, 3)
        assert found == convolutions + (512 * side**2 + 1) * width + (width + 1) * width + (width + 1) * 10


@pytest.mark.parametrize(("norm", "sides"), [(False, (8, 8)), (True, (13, 10))])
def test_every_parameter_learns(norm, sides):
    """But a convolution's bias before a norm: that takes it out again."""
    model = SMALL(dropout=0.0, norm=norm)
    for path, gradient in gradients(model, filled(model, *sides, 3), images(4, *sides, 3)).items():
        idle = norm and path.endswith("conv/bias")
        assert np.isfinite(gradient).all() and (np.abs(gradient).max() > 1e-5) != idle, path


def test_training_has_dropout_and_changes_batch_statistics():
    pictures, variables = images(2, 8, 8, 3), filled(SMALL(), 8, 8, 3)

    @partial(jax.jit, static_argnames=("rate", "train"))
    def apply(key, rate=0.5, train=True):
        model = SMALL(dropout=rate)
        return model.apply(variables, pictures, train=train, mutable=["batch_stats"], rngs={"dropout": key})

    keys = [jax.random.key(seed) for seed in (1, 2)]
    ((first, _), changed), ((second, _), _) = (apply(key) for key in keys)
    assert np.abs(first - second).max() > 1e-3
    old, new = (jax.tree.leaves(v["batch_stats"]) for v in (variables, changed))
    assert all(not np.array_equal(a, b) for a, b in zip(old, new, strict=True))
    for off in ({"rate": 0.0}, {"train": False}):
        ((first, _), kept), ((second, _), _) = (apply(key, **off) for key in keys)
        np.testing.assert_array_equal(first, second)
    jax.tree.map(np.testing.assert_array_equal, kept["batch_stats"], variables["batch_stats"])
