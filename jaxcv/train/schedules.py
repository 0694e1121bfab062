"""Learning-rate schedules whose numbers may be traced.

Some of optax's schedules branch in Python on their values, which would turn a hyperparameter into a constant of the
compiled step. These do not.
"""

import jax.numpy as jnp
import optax

from jaxcv.types import Scalar


def warmup_cosine(peak: Scalar, *, warmup_steps: int, total_steps: int, end: Scalar = 0.0) -> optax.Schedule:
    """Linear from 0 to `peak` over `warmup_steps`, then half a cosine down to `end` at `total_steps`.

    Step `warmup_steps` has exactly `peak`; after `total_steps` the rate stays at `end`. Loshchilov, Hutter: SGDR,
    https://arxiv.org/abs/1608.03983, equation 5 without restarts.

    Args:
        peak: the largest rate; may be traced.
        warmup_steps: length of the linear part, 0 for none.
        total_steps: length of the whole.
        end: the last rate; may be traced.
    """

    def schedule(count):
        step = jnp.asarray(count, jnp.float32)
        warm = step / max(warmup_steps, 1)
        progress = jnp.clip((step - warmup_steps) / max(total_steps - warmup_steps, 1), 0.0, 1.0)
        cosine = end + (peak - end) * 0.5 * (1.0 + jnp.cos(jnp.pi * progress))
        return jnp.where(step < warmup_steps, peak * warm, cosine)

    return schedule
