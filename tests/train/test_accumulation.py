"""Gradients of several batches for one update: what counts updates, and what is said of it."""

import dataclasses

import flax.linen as nn
import jax
import numpy as np
import optax
import problems
import pytest

from jaxcv.errors import UserError
from jaxcv.train import Experiment, fit, parts, program, resolve


class Linear(nn.Module):
    """Without batch statistics, so that four batches of two are one of eight."""

    @nn.compact
    def __call__(self, images, *, train=False):
        return nn.Dense(2)(images.reshape(images.shape[0], -1)), {}


def experiment(
    *,
    accumulate: int = 1,
    batch_size: int = 8,
    steps: int = 6,
    inside: str = "sgd",
    ema: float | None = 0.999,
    lr: float = 0.1,
    seed: int = 0,
) -> Experiment:
    clipped = optax.chain(optax.clip_by_global_norm(0.5), optax.sgd(optax.linear_schedule(0.1, 0.0, 6), momentum=0.9))
    optimizer = {"sgd": optax.sgd(lr), "momentum": optax.sgd(lr, momentum=0.9), "clipped": clipped}[
        inside.removesuffix(" by part")
    ]
    if accumulate > 1:
        optimizer = optax.MultiSteps(optimizer, accumulate).gradient_transformation()
    if inside.endswith("by part"):
        optimizer = parts.by_part({".*/kernel": optimizer, ".*": optimizer})
    return dataclasses.replace(
        problems.experiment(ema=ema, seed=seed),
        model=Linear(),
        optimizer=optimizer,
        train_data=problems.TRAIN.batches(batch_size, seed=seed),
        steps=steps,
        evaluate_every=steps,
        log_every=steps,
        checkpoint_every=steps,
    )


def trained(values, batches):
    values = resolve(experiment, values)
    shared = program(experiment, values)
    hyperparameters = shared.hyperparameters(values)
    state, step = jax.jit(shared.init)(hyperparameters), jax.jit(shared.step)
    for batch in batches:
        state, _ = step(hyperparameters, state, batch)
    return state


@pytest.mark.parametrize("inside", ["sgd", "momentum", "clipped", "momentum by part"])
def test_four_batches_of_two_are_one_of_eight_in_the_moving_average_too(inside):
    whole = [experiment().train_data.batch(number) for number in range(6)]
    quarters = [{n: x[i : i + 2] for n, x in batch.items()} for batch in whole for i in range(0, 8, 2)]
    one = trained({"inside": inside}, whole)
    four = trained({"inside": inside, "accumulate": 4, "batch_size": 2, "steps": 24}, quarters)
    for tree in ("params", "ema"):
        pairs = zip(*(map(jax.tree.leaves, (getattr(one, tree), getattr(four, tree)))), strict=True)
        for a, b in pairs:
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)


def test_between_two_updates_nothing_moves():
    batches = [experiment(batch_size=2).train_data.batch(number) for number in range(7)]
    four, seven = (trained({"accumulate": 4, "batch_size": 2}, batches[:n]) for n in (4, 7))
    assert problems.leaves((four.params, four.ema)) == problems.leaves((seven.params, seven.ema))


def test_a_run_without_an_update_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"7 batches .* the run has 6 steps .* lower accumulate or raise steps"):
        fit(experiment, {"accumulate": 7}, tmp_path / "run")
    with pytest.raises(UserError, match="7 batches"):
        fit(experiment, {"accumulate": 7, "inside": "clipped by part"}, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_remainder_is_said(tmp_path):
    said = []

    class Listening(problems_reporter()):
        def say(self, text, **_):
            said.append(text)

    fit(experiment, {"accumulate": 4}, tmp_path / "run", reporter=Listening(quiet=True))
    assert [x for x in said if "accum" in x or "last 2" in x] == [
        "gradients of 4 batches make an update; the last 2 of 6 steps (batches) make none"
    ]


def problems_reporter():
    from jaxcv.train.console import Reporter

    return Reporter
