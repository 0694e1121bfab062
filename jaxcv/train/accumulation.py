"""Gradients of several batches for one update of the parameters: what of training then counts updates, not batches.

`optax.MultiSteps(optimizer, k).gradient_transformation()` averages the gradients of `k` batches. The schedules, the
clipping and the momentum of the optimizer within it see updates; `Experiment.steps` and all intervals count batches;
the moving average of the variables moves once an update.
"""

import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxcv.errors import UserError


def updates_made(opt_state: Any, step: jax.Array) -> jax.Array:
    """How many updates of the parameters `step` batches have made."""
    counts = _counts(opt_state)
    return functools.reduce(jnp.maximum, counts) if counts else step


def has_updated(old: Any, new: Any, updates: Any) -> jax.Array | None:
    """Whether a batch made an update; None: every batch does.

    Args:
        old: state of the optimizer before the batch.
        new: after it.
        updates: of the parameters. Another part of the network may have an optimizer that does not accumulate.
    """
    counts = list(zip(_counts(old), _counts(new), strict=True))
    if not counts:
        return None
    moved = [before != after for before, after in counts] + [jnp.any(u != 0) for u in jax.tree.leaves(updates)]
    return functools.reduce(jnp.logical_or, moved)


def _counts(opt_state: Any) -> list[jax.Array]:
    leaves = jax.tree.leaves(opt_state, is_leaf=_is_state)
    return [leaf.gradient_step for leaf in leaves if _is_state(leaf)]


def _is_state(x: Any) -> bool:
    return isinstance(x, optax.MultiStepsState)


def check(optimizer: Any, steps: int) -> str | None:
    """A line on the batches of a run that make no update; None where there are none.

    Raises:
        UserError: the run is too short for one update.
    """
    batches = max(_batches_per_update(optimizer), default=1)
    if batches > steps:
        raise UserError(
            f"gradients of {batches} batches are accumulated for an update, and the run has {steps} steps (batches): "
            "it would make none; lower accumulate or raise steps"
        )
    if rest := steps % batches:
        return f"gradients of {batches} batches make an update; the last {rest} of {steps} steps (batches) make none"
    return None


def _batches_per_update(optimizer: Any) -> Iterator[int]:
    """Of every `optax.MultiSteps` that a gradient transformation consists of, the number of batches it begins with."""
    todo, seen = [optimizer], set()
    while todo:
        x = todo.pop()
        if id(x) in seen:
            continue
        seen.add(id(x))
        if isinstance(x, optax.MultiSteps):
            every = getattr(x, "_every_k_schedule", None)  # optax has no public name for it
            if callable(every):
                yield int(every(jnp.zeros((), jnp.int32)))  # pyright: ignore[reportArgumentType]
        elif isinstance(x, functools.partial):
            todo += [x.func, *x.args, *x.keywords.values()]
        elif isinstance(x, dict):
            todo += x.values()
        elif isinstance(x, tuple | list):
            todo += x
        else:
            todo += [getattr(x, name) for name in ("__self__", "__func__", "__wrapped__") if hasattr(x, name)]
            for cell in getattr(x, "__closure__", None) or ():
                try:
                    todo.append(cell.cell_contents)
                except ValueError:  # nothing in it yet
                    continue
