"""The same examples in the same order, however they come to the device and however many steps it takes at once."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import problems
import pytest

from jaxcv.data.dataset import Dataset
from jaxcv.train import Experiment, feed, fit, make_train_step, program, resolve
from jaxcv.train.feed import Resident, Streamed, is_resident, open_feed
from jaxcv.train.run import read_records

SIZE = 60


class Numbered(problems.Points):
    """Points whose label is their number."""

    def read(self, indices):
        return {**super().read(indices), "label": indices.astype(np.int32)}


DATA = Dataset(Numbered(SIZE), image_size=4)


def numbers(*, steps: int = 24, seed: int = 3, threads: int = 2) -> Experiment:
    """Its `loss` is no loss, but tells which examples each step has seen, in base 61."""

    def loss(outputs, batch):
        weights = jnp.asarray([1.0, 61.0, 61.0**2])
        label = batch["label"].astype(jnp.float32) + 1
        return {"ids": 3 * label * weights + 0 * outputs[0].sum()}

    return Experiment(
        model=problems.Net(),
        loss=loss,
        optimizer=optax.sgd(0.0),
        train_data=DATA.batches(3, seed=seed, num_threads=threads),
        test_data=DATA.batches(3),
        steps=steps,
        seed=seed,
        log_every=1,
        evaluate_every=12,
        checkpoint_every=5,
        previews=0,
    )


def seen(folder):
    return [int(record["ids"]) for record in read_records(folder / "metrics.jsonl") if record["split"] == "train"]


def expected(steps=24, seed=3):
    batches = DATA.batches(3, seed=seed)
    return [int(((batches.batch(i)["label"] + 1) * 61 ** np.arange(3)).sum()) for i in range(steps)]


@pytest.mark.parametrize("resident", ["yes", "no"])
@pytest.mark.parametrize("chunk", [1, 7, 100])
def test_example_ids_do_not_depend_on_residence_or_chunks(tmp_path, resident, chunk):
    fit(numbers, {}, tmp_path / "run", resident=resident, chunk=chunk)
    assert seen(tmp_path / "run") == expected()


@pytest.mark.parametrize("threads", [1, 16])
def test_nor_on_the_number_of_readers(tmp_path, threads):
    fit(numbers, {"threads": threads}, tmp_path / "run", resident="no")
    assert seen(tmp_path / "run") == expected()


@pytest.mark.parametrize(("before", "after"), [("yes", "no"), ("no", "yes"), ("no", "no")])
def test_nor_on_where_a_run_was_resumed(tmp_path, before, after):
    """At step 10, in the middle of what would have been a chunk."""
    stop = fit(numbers, {"steps": 24}, tmp_path / "run", resident=before, watch=lambda step, test: step == 12, chunk=4)
    assert stop.stopped_at == 12
    fit(numbers, {"steps": 24}, tmp_path / "run", resident=after)
    assert seen(tmp_path / "run") == expected()


def test_a_set_that_does_not_fit_is_streamed(monkeypatch):
    monkeypatch.setattr(feed, "memory", lambda: 4 * 10**9)
    data = DATA.batches(4, seed=0)
    assert is_resident(data, len(data)) and isinstance(open_feed(data, 100), Resident)
    assert not is_resident(data, len(data) - 1), "too few steps to see every example"
    assert not is_resident(data, 100, "no") and isinstance(open_feed(data, 100, "no"), Streamed)
    monkeypatch.setattr(type(data), "resident_bytes", lambda self: 2 * 10**9)
    assert not is_resident(data, 100) and is_resident(data, 100, "yes")


def own(*, lr: float = 1e-2, seed: int = 0) -> Experiment:
    """Not the others': traces are counted there."""
    return problems.experiment(lr=lr, seed=seed)


class Convolution(nn.Module):
    """With Flax's own layer."""

    @nn.compact
    def __call__(self, images, *, train=False):
        x = nn.Conv(4, (3, 3))(images).mean((1, 2))
        return nn.Dense(2)(x), {}


def plain(*, lr: float = 1e-2, seed: int = 0) -> Experiment:
    base = problems.experiment(steps=12, seed=seed, log_every=1, evaluate_every=6, checkpoint_every=3)
    return Experiment(
        model=Convolution(),
        loss=base.loss,
        optimizer=optax.adam(lr),
        train_data=base.train_data,
        test_data=base.test_data,
        steps=12,
        seed=seed,
        log_every=1,
        evaluate_every=6,
    )


def test_convolutions_of_lax_take_their_steps_outside_loops_on_a_cpu(tmp_path):
    """XLA's gradients of them within loops are slow; and what is computed is the same."""
    values = resolve(plain, {})
    assert program(plain, values).takes_steps_outside_loops(values)
    ours = resolve(own, {})
    assert not program(own, ours).takes_steps_outside_loops(ours)
    fit(plain, {}, tmp_path / "run")
    shared = program(plain, values)
    hyperparameters, state, losses = shared.hyperparameters(values), shared.first_state(values)[0], []
    step, data = make_train_step(plain, values), plain().train_data
    for number in range(12):
        state, logs = step(hyperparameters, state, data.batch(number))
        losses.append(float(logs["loss"]))
    found = [r["loss"] for r in read_records(tmp_path / "run" / "metrics.jsonl") if r["split"] == "train"]
    np.testing.assert_allclose(found, losses, rtol=1e-5)


def test_step_and_chunk_work_inside_jit_scan_vmap_and_grad():
    values = resolve(own, {})
    shared, step = program(own, values), make_train_step(own, values)
    hyperparameters = {name: jnp.asarray(value) for name, value in shared.hyperparameters(values).items()}
    batches = [problems.experiment().train_data.batch(i) for i in range(3)]
    state, losses = shared.first_state(values)[0], []
    for batch in batches:
        state, logs = step(hyperparameters, state, batch)
        losses.append(float(logs["loss"]))
    first, stacked = shared.first_state(values)[0], jax.tree.map(lambda *x: np.stack(x), *batches)

    @jax.jit
    def scanned(state):
        return jax.lax.scan(lambda state, batch: step(hyperparameters, state, batch), state, stacked)[1]["loss"]

    np.testing.assert_allclose(scanned(first), losses, rtol=1e-5)
    many = jax.tree.map(lambda x: jnp.stack([x, x]), hyperparameters)
    together = jax.vmap(step, in_axes=(0, None, None))(many, first, batches[0])[1]["loss"]
    np.testing.assert_allclose(together, losses[:1] * 2, rtol=1e-5)

    data = dict(problems.experiment().train_data.resident())  # pyright: ignore[reportAttributeAccessIssue]
    indices = problems.experiment().train_data.indices(np.arange(3))  # pyright: ignore[reportAttributeAccessIssue]

    def last_loss(lr):
        return shared.chunk({**hyperparameters, "lr": lr}, first, data, jnp.asarray(indices, jnp.int32))[1]["loss"][-1]

    np.testing.assert_allclose(last_loss(hyperparameters["lr"]), losses[-1], rtol=1e-5)
    assert np.isfinite(jax.grad(last_loss)(hyperparameters["lr"]))
