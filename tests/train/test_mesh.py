"""One run on several devices: the losses and parameters of one device, and no message that is not needed."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import points_on_hosts
import problems
import pytest

from jaxcv import losses
from jaxcv.errors import UserError
from jaxcv.train import feed, fit, program, resolve, sharding
from jaxcv.train import step as pure
from jaxcv.train.checkpoint import Checkpoints
from jaxcv.train.run import read_records


def plain(*, steps: int = 50, seed: int = 0):
    """SGD: Adam would blow up the rounding of gradients that are zero."""
    setup = problems.experiment(seed=seed, steps=steps, log_every=1, evaluate_every=25, checkpoint_every=25)
    return dataclasses.replace(setup, optimizer=optax.sgd(0.02, momentum=0.9), previews=0)


def on(mesh, **how):
    return sharding.How(sharding.make_mesh(mesh), **how)


def records(folder):
    return [(r["split"], r["step"], r["loss"]) for r in read_records(folder / "metrics.jsonl")]


def variables(folder, experiment, step=50):
    with Checkpoints(folder / "checkpoints", read_only=True) as checkpoints:
        state, _ = checkpoints.restore(step, program(experiment, {}).state_spec(resolve(experiment, {})))
    return {"params": state.params, **state.collections, "ema": state.ema}


def assert_alike(one, other, experiment):
    for a, b in zip(records(one), records(other), strict=True):
        assert a[:2] == b[:2]
        np.testing.assert_allclose(a[2], b[2], rtol=1e-5)
    for a, b in zip(*(jax.tree.leaves(variables(f, experiment)) for f in (one, other)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)  # gradients that are zero round


@pytest.mark.devices(4)
def test_a_run_of_one_mesh_goes_on_on_another_as_on_one_device(tmp_path, monkeypatch):
    """Batch norm, dropout and a moving average; parameters split, then data streamed; test batches on 3 devices."""
    monkeypatch.setattr(sharding, "_SMALLEST", 32)
    fit(plain, {}, tmp_path / "one", how=on("data=1"))
    fit(plain, {}, tmp_path / "going", how=on("data=2,fsdp=2"), watch=lambda step, test: step == 25)
    fit(plain, {}, tmp_path / "going", how=on("data=4"), resident="no")
    assert_alike(tmp_path / "one", tmp_path / "going", plain)


@pytest.mark.slow
@pytest.mark.devices(8)
@pytest.mark.parametrize("mesh", ["data=8", "data=4,fsdp=2"])
@pytest.mark.parametrize("layout", ["whole", "split"])
def test_any_mesh_trains_like_one_device(mesh, layout, tmp_path, monkeypatch):
    monkeypatch.setattr(sharding, "_SMALLEST", 32)
    fit(plain, {}, tmp_path / "one", how=on("data=1"))
    if layout == "split":
        monkeypatch.setattr(feed, "memory", lambda: 4000)  # each device has a part of the 60 examples
    fit(plain, {}, tmp_path / "several", how=on(mesh), resident="yes")
    assert_alike(tmp_path / "one", tmp_path / "several", plain)


def accumulated(*, lr: float = 0.1, seed: int = 0):
    """Weights that differ from part to part, rows that are compared with each other, and no statistics of a batch."""

    def loss(outputs, batch):
        weights = 1.0 + 3.0 * batch["label"].astype(jnp.float32)
        cross = problems.cross_entropy(outputs, batch)["cross_entropy"]
        return {"cross": (cross, weights), **losses.triplet(outputs, batch, mining="hard", form="active")}

    class Dense(problems.nn.Module):
        @problems.nn.compact
        def __call__(self, images, *, train=False):
            return problems.nn.Dense(2)(images.reshape(len(images), -1)), {}

    setup = problems.experiment(seed=seed)
    return dataclasses.replace(setup, model=Dense(), loss=loss, optimizer=optax.sgd(lr))


@pytest.mark.parametrize(
    "how", [{"accumulate": 4, "remat": True}, pytest.param({"remat": True}, marks=pytest.mark.slow)], ids=str
)
def test_a_step_in_parts_and_with_less_kept_is_the_same_step(how):
    values = resolve(accumulated, {})
    batch = accumulated().train_data.batch(0)
    found = []
    for way in ({}, how):
        shared = program(accumulated, values, check=False, how=on("data=1", **way))
        hyperparameters = shared.hyperparameters(values)
        state = jax.jit(shared.init)(hyperparameters)
        found.append(jax.jit(shared.step)(hyperparameters, state, batch))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7),
        *((state.params, logs) for state, logs in found),
    )


@pytest.mark.slow
@pytest.mark.devices(8)
def test_a_checkpoint_of_eight_devices_goes_on_on_fewer_with_the_same_examples(tmp_path):
    """The records tell which examples each step has seen."""
    experiment, values = points_on_hosts.experiment, {"batch_size": 16}
    fit(experiment, values, tmp_path / "one", how=on("data=1"))
    for count in (1, 2, 4):
        goes_on = tmp_path / str(count)
        fit(experiment, values, goes_on, how=on("data=8"), watch=lambda step, test: step == 20)
        fit(experiment, values, goes_on, how=on(f"data={count}"))
        for a, b in zip(*(read_records(f / "metrics.jsonl") for f in (tmp_path / "one", goes_on)), strict=True):
            found = [{k: v for k, v in record.items() if k not in ("time", "split")} for record in (a, b)]
            assert found[0] == pytest.approx(found[1], rel=1e-5, abs=1e-6)


NETWORKS: dict[str, dict] = {
    "lenet": {},
    "resnet": {"network": "resnet18", "image_size": 64},
    "yolo": {"image_size": 32},
    "unet": {"image_size": 16, "width": 4, "depth": 2, "norm": False},
}
NARROW: dict[str, dict] = {
    "resnet": {"width": 8},
    "yolo": {"stage_channels": (8, 16, 32), "neck_channels": 16},
    "unet": {},
}
"""Of those that are trained in float64: over 50 steps batch normalisation makes differences of 0.1 out of float32's
rounding; and in U-Net taken in parts, biases are apart by 8e-5 of the largest one, and 6e-16 in float64."""
WAYS = {
    "one device": ("data=1", {}),
    "data-parallel": ("data=8", {}),
    "FSDP": ("data=4,fsdp=2", {}),
    "one device, in parts": ("data=1", {"accumulate": 2}),
    "data-parallel, in parts": ("data=8", {"accumulate": 2}),
}


def trained(experiment, mesh, how, steps, double=False):
    """Losses and variables; batch statistics among them."""
    values = resolve(experiment, {})
    shared = program(experiment, values, check=False, how=on(mesh, **how))
    hyperparameters, data = shared.hyperparameters(values), experiment().train_data
    state = shared.first_state(values)[0]
    digits = _doubled if double else lambda tree: tree
    # What is a float32 of its own in an experiment's loss or optimizer joins the others.
    with jax.enable_x64(double), jax.numpy_dtype_promotion("standard" if double else "strict"):
        state = sharding.place(shared.how.mesh, digits(state))
        step = shared.compile("step", hyperparameters, state, digits(data.batch(0)))
        losses = []
        for number in range(steps):
            state, logs = step(hyperparameters, state, digits(data.batch(number)))
            losses.append(float(logs["loss"]))
        return np.array(losses), [np.asarray(x) for x in jax.tree.leaves((state.params, state.collections, state.ema))]


def _doubled(tree):
    """In float64, pictures too."""

    def of(x):
        kind = getattr(x, "dtype", None)
        return x / np.float64(255) if kind == np.uint8 else np.asarray(x, np.float64) if kind == np.float32 else x

    return jax.tree.map(of, tree)


def deviations(experiment, steps=50, *, double=False):
    """Of each way from one device: relative of the losses; of arrays, as a fraction of their largest number."""
    statistics = program(experiment, {}).state_spec(resolve(experiment, {})).collections
    alone = "one device, in parts" if statistics else "one device"
    pairs = [("data-parallel", "one device"), ("FSDP", "one device"), ("data-parallel, in parts", alone)]
    found = {}
    for name in dict.fromkeys(name for pair in pairs for name in pair):
        mesh, how = WAYS[name]
        found[name] = trained(experiment, mesh, how, steps, double)
    result = {}
    for way, other in pairs:
        (losses, arrays), (wanted, others) = found[way], found[other]
        apart = [
            np.abs(a - b).max() / max(np.abs(b).max(), 1e-3) for a, b in zip(arrays, others, strict=True) if a.size
        ]
        result[way, other] = float(np.max(np.abs(losses / wanted - 1))), float(max(apart))
    return result


COLLECTIVE = r"= (.*?) (all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(?:-start)?\("
BYTES = {"f32": 4, "s32": 4, "u32": 4, "pred": 1, "u8": 1}


def messages(text):
    """Kind and bytes of every collective operation of a compiled program."""
    found = []
    for shapes, kind in re.findall(COLLECTIVE, text):
        sizes = [
            BYTES[dtype] * int(np.prod([int(n) for n in dims.split(",") if n]))
            for dtype, dims in re.findall(r"(\w+)\[([\d,]*)\]", shapes)
        ]
        found.append((kind, sum(sizes)))
    return found


@pytest.mark.devices(8)
@pytest.mark.parametrize(
    "name", [*(pytest.param(name, marks=pytest.mark.slow) for name in ("resnet", "yolo", "unet")), "lenet"]
)
def test_networks_train_on_any_mesh_as_on_one_device(name, load, quick_to_compile, monkeypatch):
    """And data-parallel, the devices send each other the gradients and the statistics, and nothing else.

    Mean and mean square of every channel, which the layer keeps as mean and variance, are as large as these.
    """

    def plainly(*, seed: int = 0):
        setup = load(name)(batch_size=16, seed=seed, **NETWORKS[name])
        own: dict = {"optimizer": optax.sgd(1e-3, momentum=0.9)}
        if double:
            own |= {"model": setup.model.clone(**NARROW[name]), "augment": None}
        if name == "resnet":
            own["loss"] = lambda logits, batch: {
                "cross": optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"])
            }
        return dataclasses.replace(setup, **own)

    double = name in NARROW
    if double:
        monkeypatch.setattr(pure, "_cast", lambda x, dtype: x)
    for way, apart in deviations(plainly, double=double).items():
        assert max(apart) < 1e-5, (way, apart)
    values = resolve(plainly, {})
    shared = program(plainly, values, check=False, how=on("data=8"))
    state = shared.state_spec(values)
    needed = sum(4 * x.size for x in jax.tree.leaves((state.params, state.collections)))
    sent = messages(shared.compile_step(values).as_text())
    assert {kind for kind, _ in sent} == {"all-reduce"}
    assert needed <= sum(size for _, size in sent) <= 1.01 * needed


@pytest.mark.devices(4)
def test_what_lies_where(monkeypatch):
    monkeypatch.setattr(sharding, "_SMALLEST", 32)
    mesh = sharding.make_mesh("data=2,fsdp=2")
    tree = {"kernel": jnp.ones((3, 16, 8)), "odd": jnp.ones((7, 9)), "small": jnp.ones(4), "key": jax.random.key(0)}
    found = {name: x.sharding.spec for name, x in sharding.place(mesh, tree).items()}
    whole = jax.sharding.PartitionSpec()
    split = jax.sharding.PartitionSpec(None, "fsdp")
    assert found == {"kernel": split, "odd": whole, "small": whole, "key": whole}
    fields = {"image": np.arange(10), "example_valid": np.ones(10, bool)}
    there = sharding.place_examples(mesh, fields, "split")
    assert there["image"].shape == (12,) and there["image"].addressable_shards[0].data.shape == (3,)
    take = sharding.gather(mesh, "split", lambda d, i: {n: x[i] for n, x in d.items()}, 6)
    rows = jax.jit(take)(there, jnp.asarray([9, 0, 3, 2, 8, 5]))
    assert np.asarray(rows["image"]).tolist() == [9, 0, 3, 2, 8, 5] and np.asarray(rows["example_valid"]).all()


@pytest.mark.parametrize(
    ("rows", "devices", "parts", "message"),
    [
        (100, 8, 1, "a batch of 100 cannot be divided among 8 devices: take batches of 96 or 104, or --mesh data=5"),
        (7, 8, 1, "a batch of 7 cannot be divided among 8 devices: take batches of 8, or --mesh data=7"),
        (13, 8, 1, "a batch of 13 cannot be divided among 8 devices: take batches of 8 or 16, or --mesh data=1"),
        (24, 8, 2, "among 8 devices, each in 2 parts: take batches of 16 or 32, or --mesh data=6"),
        (15, 1, 2, "a batch of 15 cannot be divided among 2 parts: take batches of 14 or 16"),
        (16, 8, 2, None),
        (17, 1, 1, None),
    ],
)
def test_a_batch_that_does_not_divide_is_refused_with_sizes_that_do(rows, devices, parts, message):
    line = sharding._refusal(rows, devices, parts)
    assert line == message or str(line).endswith(str(message))


def test_a_run_whose_batch_does_not_divide_is_refused_before_it_begins(tmp_path):
    with pytest.raises(UserError, match="a batch of 8 cannot be divided among 3 parts: take batches of 6 or 9"):
        fit(plain, {}, tmp_path / "run", how=on("data=1", accumulate=3))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("text", ["data", "data=0", "model=2", "data=2,data=2", "data=-1", "8", "", "data=999"])
def test_a_mesh_that_cannot_be_is_refused(text):
    with pytest.raises(UserError, match="mesh"):
        sharding.make_mesh(text)
