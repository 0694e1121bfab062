"""The terms of a loss as values and weights per example, checked against what `Experiment.loss` promises."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxcv.errors import UserError
from jaxcv.types import Batch

_CONTRACT = 'loss(outputs, batch) -> {"name": [b] or (values, weights)}, one value an example: the trainer averages'
_OWN_LOGS = ("grad_norm", "learning_rate", "finite", "step", "split", "time")


def weighted(terms: Any, batch: Batch) -> dict[str, tuple[jax.Array, jax.Array]]:
    """Every loss term as values and weights per example; rows that pad the batch weigh nothing and cannot spoil it.

    Raises:
        UserError: the terms are not what `Experiment.loss` says; by name.
    """
    real, count = batch.get("example_valid"), len(batch["image"])
    if not isinstance(terms, Mapping) or not terms:
        what = "an empty dict" if isinstance(terms, Mapping) else shown(terms)
        raise UserError(f"the loss returns {what}; expected {_CONTRACT}")
    result = {}
    for name, term in terms.items():
        if not isinstance(name, str) or name in _OWN_LOGS or (name == "loss" and len(terms) > 1):
            raise UserError(f"loss term {name!r}: the records use this name themselves; choose another")
        pair: Any = term if isinstance(term, tuple) else (term,)
        if len(pair) not in (1, 2) or not all(hasattr(part, "shape") and hasattr(part, "dtype") for part in pair):
            raise UserError(f"loss term {name!r} is {shown(term)}; expected {_CONTRACT}")
        values, weights = pair if len(pair) == 2 else (pair[0], jnp.ones_like(pair[0]))
        if values.shape[:1] != (count,) or not jnp.issubdtype(values.dtype, jnp.floating):
            raise UserError(f"loss term {name!r} is {shown(values)}, of {count} examples; expected {_CONTRACT}")
        if weights.shape != values.shape:
            raise UserError(
                f"loss term {name!r} has values {shown(values)} and weights {shown(weights)}: "
                "expected the same shape for both"
            )
        if weights.dtype == bool or jnp.issubdtype(weights.dtype, jnp.integer):
            weights = weights.astype(values.dtype)
        if real is not None:
            mask = real.reshape(-1, *(1,) * (values.ndim - 1))
            values, weights = jnp.where(mask, values, 0.0), jnp.where(mask, weights, 0.0)
        result[name] = (values, weights)
    return result


def shown(value: Any) -> str:
    """What a loss or a model returned, for a message: a scalar, or type and shape."""
    if not hasattr(value, "shape") or not hasattr(value, "dtype"):
        return f"a {type(value).__name__}" + (f" of {len(value)}" if isinstance(value, tuple | list) else "")
    return "a scalar" if value.shape == () else f"{value.dtype}{list(value.shape)}"


def mean(values: jax.Array, weights: jax.Array) -> jax.Array:
    """The weighted mean; 0 where nothing weighs."""
    return jnp.sum(values * weights) / jnp.maximum(jnp.sum(weights), 1e-8)
