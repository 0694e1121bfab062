from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import abstract, filled, gradients, images, parameters

from jaxcv import models
from jaxcv.models import BasicBlock, Bottleneck, ConvNormAct

SMALL = partial(models.ResNet, stage_sizes=(1, 2), width=4, num_classes=3)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnet18", 11_689_512),
        ("resnet34", 21_797_672),
        ("resnet50", 25_557_032),
        ("resnet101", 44_549_160),
        ("resnet152", 60_192_808),
    ],
)
def test_parameters(name, expected):
    assert parameters(getattr(models, name)(), 224, 224, 3) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnet20", 269_722),
        ("resnet32", 464_154),
        ("resnet44", 658_586),
        ("resnet56", 853_018),
        ("resnet110", 1_727_962),
    ],
)
def test_parameters_for_cifar(name, expected):
    assert parameters(getattr(models, name)(), 32, 32, 3) == expected


def test_option_b_adds_two_projections():
    added = (16 * 32 + 2 * 32) + (32 * 64 + 2 * 64)
    assert parameters(models.resnet20(projection=True), 32, 32, 3) == 269_722 + added


def test_features_of_resnet50():
    variables, logits, features = abstract(models.resnet50(), 224, 224, 3)
    assert {name: shape[1:] for name, shape in features.items()} == {
        "conv1": (112, 112, 64),
        "pool1": (56, 56, 64),
        "conv2_x": (56, 56, 256),
        "conv3_x": (28, 28, 512),
        "conv4_x": (14, 14, 1024),
        "conv5_x": (7, 7, 2048),
        "pool": (2048,),
    }
    assert logits == (2, 1000)
    assert set(variables["params"]) == {"stem", "stage1", "stage2", "stage3", "stage4", "head"}
    assert list(variables["params"]["stage4"]) == ["block1", "block2", "block3"]
    assert set(variables["params"]["stage4"]["block1"]) == {"unit1", "unit2", "unit3", "shortcut"}
    assert set(variables["params"]["stage4"]["block2"]) == {"unit1", "unit2", "unit3"}
    assert set(variables["params"]["stage4"]["block2"]["unit3"]) == {"conv", "norm"}


def test_features_of_resnet20():
    _, logits, features = abstract(models.resnet20(), 32, 32, 3)
    assert {name: shape[1:] for name, shape in features.items()} == {
        "conv1": (32, 32, 16),
        "conv2_x": (32, 32, 16),
        "conv3_x": (16, 16, 32),
        "conv4_x": (8, 8, 64),
        "pool": (64,),
    }
    assert logits == (2, 10)


@pytest.mark.parametrize(("stride_first", "sides"), [(True, (4, 4)), (False, (8, 4))])
def test_where_the_stride_is(stride_first, sides):
    """v1: in the first 1x1; v1.5: in the 3x3."""
    block = Bottleneck(2, strides=2, stride_first=stride_first)

    def inside(image):
        return block.init_with_output(jax.random.key(0), image, train=False, capture_intermediates=True)[1]

    found = jax.eval_shape(inside, jnp.zeros((1, 8, 8, 3)))["intermediates"]
    assert [found[f"unit{i}"]["__call__"][0].shape[1] for i in (1, 2, 3)] == [*sides, 4]


def test_versions_share_parameters_and_differ_in_what_they_compute():
    v1, v1_5 = (SMALL(block=Bottleneck, stage_sizes=(1, 1), stride_first=first) for first in (True, False))
    assert abstract(v1, 32, 32, 3)[0] == abstract(v1_5, 32, 32, 3)[0]
    pictures, variables = images(2, 32, 32, 3), filled(v1, 32, 32, 3)
    a, b = (jax.jit(model.apply)(variables, pictures)[1] for model in (v1, v1_5))
    np.testing.assert_allclose(a["conv2_x"], b["conv2_x"], rtol=1e-5, atol=1e-6)
    assert np.abs(a["conv3_x"] - b["conv3_x"]).max() > 1e-2


@pytest.mark.parametrize("block", [BasicBlock, Bottleneck])
def test_blocks_alone(block):
    """A block has a shortcut of its own exactly where the shape changes."""
    for channels, strides, expected in ((8, 1, block.expansion > 1), (8, 2, True), (8 // block.expansion, 1, False)):
        image = jnp.zeros((2, 6, 6, 8))
        initial = partial(block(channels, strides=strides).init_with_output, train=True)
        out, variables = jax.eval_shape(initial, jax.random.key(0), image)
        assert out.shape == (2, 6 // strides, 6 // strides, channels * block.expansion)
        assert ("shortcut" in variables["params"]) == expected


def test_shortcut_without_parameters():
    """A block whose own convolutions add nothing is its shortcut: every second pixel, zeros behind the channels."""
    block = BasicBlock(5, strides=2, projection=False, zero_init=True)
    image = images(1, 4, 5, 2) - 0.5
    found, variables = jax.jit(partial(block.init_with_output, train=False))(jax.random.key(0), image)
    assert set(variables["params"]) == {"unit1", "unit2"}
    assert found.shape == (1, 2, 3, 5)
    np.testing.assert_array_equal(found[..., :2], nn.relu(image[:, ::2, ::2]))
    assert not found[..., 2:].any()


def _starts(model):
    """What each parameter is before training, as far as it is a constant."""
    names = {}

    def keep(path, leaf):
        names["/".join(key.key for key in path)] = leaf

    jax.tree_util.tree_map_with_path(keep, jax.jit(model.init)(jax.random.key(0), images(1, 16, 16, 3))["params"])
    return names


@pytest.mark.parametrize("block", [BasicBlock, Bottleneck])
@pytest.mark.parametrize("zero_init", [False, True])
def test_zero_init_is_of_the_last_scale_of_every_block(block, zero_init):
    last = f"unit{3 if block is Bottleneck else 2}/norm/scale"
    model = SMALL(block=block, zero_init=zero_init, unit=partial(ConvNormAct, kernel_init=nn.initializers.ones_init()))
    scales = {name: leaf for name, leaf in _starts(model).items() if name.endswith("scale")}
    assert sum(name.endswith(last) for name in scales) == 3
    for name, leaf in scales.items():
        assert (leaf == (0.0 if zero_init and name.endswith(last) else 1.0)).all(), name


@pytest.mark.parametrize(
    "options",
    [
        {"block": BasicBlock},
        {"block": Bottleneck, "stage_sizes": (1, 1), "small_images": True, "projection": False, "width": 8},
        {"block": Bottleneck, "stage_sizes": (1, 1), "unit": partial(ConvNormAct, norm=False), "stride_first": True},
    ],
)
def test_every_parameter_learns(options):
    model = SMALL(**options)
    for path, gradient in gradients(model, filled(model, 33, 40, 3), images(4, 33, 40, 3)).items():
        assert np.isfinite(gradient).all() and np.abs(gradient).max() > 1e-6, path


def test_the_stem_may_work_on_blocks_of_pixels():
    """Each block's pixels are channels: a stem of ones then counts what three by three blocks hold."""
    model = SMALL(small_images=True, pixel_block=4, unit=partial(ConvNormAct, norm=False), mean=(0.0,), std=(1.0,))
    params = dict(filled(model, 12, 20, 3)["params"])
    stem = params["stem"]["conv"]
    assert stem["kernel"].shape == (3, 3, 4 * 4 * 3, 4)
    params["stem"] = {"conv": jax.tree.map(jnp.ones_like, stem)}
    image = images(2, 12, 20, 3)
    _, features = jax.jit(lambda: model.apply({"params": params}, image))()  # pyright: ignore[reportGeneralTypeIssues]
    assert features["conv1"].shape == (2, 3, 5, 4)
    np.testing.assert_allclose(features["conv1"][:, 1, 1], np.tile(image[:, :, :12].sum((1, 2, 3))[:, None] + 1, 4))


def test_training_changes_batch_statistics_and_evaluation_does_not():
    model = SMALL(block=Bottleneck)
    pictures, variables = images(2, 32, 32, 3), filled(model, 32, 32, 3)
    apply = jax.jit(model.apply, static_argnames=("train", "mutable"))
    _, changed = apply(variables, pictures, train=True, mutable=("batch_stats",))
    old, new = (jax.tree.leaves(v["batch_stats"]) for v in (variables, changed))
    assert all(not np.array_equal(a, b) for a, b in zip(old, new, strict=True))
    _, kept = apply(variables, pictures, mutable=("batch_stats",))
    jax.tree.map(np.testing.assert_array_equal, kept["batch_stats"], variables["batch_stats"])
