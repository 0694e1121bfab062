"""Keys: every example of a batch has its own, whatever the batch's size."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, UInt32

from jaxcv.types import Scalar

PRNGKey = Key[Array, ""] | UInt32[Array, "2"]
"""A key of either kind: `jax.random.key(0)` or `jax.random.PRNGKey(0)`."""


def uniform_rows(key: PRNGKey, rows: int, count: int) -> Float[Array, "rows count"]:
    """`count` numbers in [0, 1) for each of `rows` examples; a row depends on the key and its place alone.

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
