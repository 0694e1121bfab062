"""Where a loss or gradient first stopped being finite."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcv.errors import UserError
from jaxcv.train.compiled import Program
from jaxcv.train.experiment import Experiment
from jaxcv.train.state import TrainState
from jaxcv.types import Batch


class NonFinite(UserError):
    """Training stopped at a loss or gradient that is not finite."""


def diagnose(
    program: Program, hyperparameters: Mapping[str, Any], state: TrainState, batch: Batch, *, variant: str | None = None
) -> str:
    """Name what is not finite in the step from `state` on `batch`: the first of these that is found.

    A parameter, the input, a layer's output, a loss term (each with the first example concerned), a gradient.
    """
    for name, leaf in _named(state.params):
        if not np.isfinite(leaf).all():
            return f"parameter {name} was not finite before the step"
    intermediates = program.jitted_intermediates
    batch, outputs, features, terms, grads = intermediates(hyperparameters, state, batch, variant=variant)
    stages = [(f"input {n}", batch[n]) for n in program.at(hyperparameters).inputs]
    stages += [(f"layer {n}", f) for n, f in features.items()]
    stages += [(f"output {n}".rstrip(), o) for n, o in _named(outputs)]
    stages += [(f"loss term {n}", t[0] if isinstance(t, tuple) else t) for n, t in terms.items()]
    for name, array in stages:
        rows = _bad_rows(array)
        if rows.size:
            return f"{name} at example {rows[0]} of the batch ({rows.size} of {len(array)} examples)"
    for name, leaf in _named(grads):
        if not np.isfinite(leaf).all():
            return f"the gradient of parameter {name}, though the loss is finite"
    return "the sum of finite terms, or the norm of finite gradients, overflowed"


def save_evidence(folder: Path, state: TrainState, batch: Batch) -> Path:
    """Write state, key and batch of the step that failed to `folder/nonfinite.npz`, for numpy to read."""
    arrays = {f"batch/{name}": np.asarray(array) for name, array in batch.items()}
    for name, leaf in _named(state):
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        arrays[f"state/{name}"] = np.asarray(jax.random.key_data(leaf) if is_key else leaf)
    path = folder / "nonfinite.npz"
    np.savez_compressed(path, allow_pickle=False, **arrays)
    return path


def _named(tree: Any) -> list[tuple[str, Any]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return [(jax.tree_util.keystr(path, simple=True, separator="/"), leaf) for path, leaf in leaves]


def _bad_rows(array: Any) -> np.ndarray:
    array = np.asarray(array)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        return np.zeros(0, int)
    return np.flatnonzero(~np.isfinite(array.reshape(len(array), -1)).all(axis=1))


def not_finite(
    folder: Path, shared: Program, setup: Experiment, hyperparameters: Mapping[str, Any], state: TrainState
) -> NonFinite:
    """The error to stop a run with; what it needs to be understood is saved in the run's folder.

    The state has not changed since the step that went wrong, so that step can be looked into.
    """
    batch = setup.train_data.batch(int(state.step))
    path = save_evidence(folder, state, batch)
    culprit = diagnose(shared, hyperparameters, state, batch, variant=setup.variant(int(state.step)))
    return NonFinite(
        f"{folder}: loss or gradient not finite at step {int(state.step) + 1}: {culprit}. State, key and batch are "
        f"in {path}; a smaller learning rate or gradient clipping is the usual remedy"
    )
