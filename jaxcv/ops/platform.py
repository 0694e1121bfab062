"""What depends on the platform that a program is lowered for; without the folder `jaxcv/cpu`, nothing does."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap

try:
    from jaxcv.cpu import on_cpu
except ImportError:

    def on_cpu(name: str, plain: Callable[..., Any]) -> Callable[..., Any]:
        """The operation as it is."""
        del name
        return plain


__all__ = ["kept_apart", "on_cpu"]


def kept_apart(function: Callable[..., Any], step: jax.Array) -> Callable[..., Any]:
    """The function, computed once on a CPU, not anew in each of the operations that use its results.

    XLA fuses a function such as an augmentation into all of its consumers, there into the gradient of the first layer,
    and drops `optimization_barrier` before that. So it becomes a branch whose condition XLA cannot know to be true.

    Args:
        function: of arrays.
        step: an integer of at least 0 that is no constant of the program.
    """

    def apart(*args: Any) -> Any:
        shapes = jax.eval_shape(function, *args)
        nothing = lambda *_: jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)  # noqa: E731
        return jax.lax.cond(_always(step), function, nothing, *args)

    return apart


@custom_vmap
def _always(step: jax.Array) -> jax.Array:
    """True: on a CPU by a comparison, elsewhere as a constant, with which the compiler drops the branch."""
    return on_cpu("always", lambda step: jnp.array(True))(step)


@_always.def_vmap
def _(size: int, batched: Any, step: jax.Array) -> tuple[jax.Array, bool]:
    del size, batched
    return _always(step[0]), False  # of many steps at once: a single branch
