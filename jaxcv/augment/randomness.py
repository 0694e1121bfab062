"""Keys: every example of a batch has its own, whatever the batch's size. And what to do with the numbers."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Key, UInt32

from jaxcv.types import Scalar

PRNGKey = Key[Array, ""] | UInt32[Array, "2"]
"""A key of either kind: `jax.random.key(0)` or `jax.random.PRNGKey(0)`."""


def uniform_rows(key: PRNGKey, rows: int, count: int) -> Float[Array, "rows count"]:
    """`count` numbers in [0, 1) for each of `rows` examples; a row depends on the key and its position alone.

    Args:
        key: A random key.
        rows: Examples.
        count: Numbers an example.

    Returns:
        `[rows, count]` float32.
    """
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, jnp.arange(rows))
    return jax.vmap(lambda one: jax.random.uniform(one, (count,)))(keys)


def around_one(uniform: Float[Array, "*n"], strength: Scalar) -> Float[Array, "*n"]:
    """Factors spread evenly over [1 - strength, 1 + strength), not below 0.

    Args:
        uniform: `[...]` in [0, 1).
        strength: At least 0.

    Returns:
        `[...]`, exactly 1 at strength 0.
    """
    return jnp.maximum(1 + strength * (2 * uniform - 1), 0.0)


def compiled_apart(uniform: Float[Array, "rows count"], function: Callable[..., Any], *operands: Any) -> Any:
    """`function(*operands)`, in a branch that is always taken, which XLA cannot know.

    Else, on CPU, XLA fuses a picture into whatever reads it and makes it anew for each reader, four times for each
    resampling: two resamplings one after another took three times as long. Also, how XLA rounds what it fuses may
    differ with the batch's size.

    Args:
        uniform: Random numbers, at least one.
        function: From arrays to arrays.
        operands: Its arguments.
    """
    shapes = jax.eval_shape(function, *operands)
    nothing = lambda *_: jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)  # noqa: E731
    return lax.cond(uniform[0, 0] >= 0, function, nothing, *operands)
