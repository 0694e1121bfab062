"""Random starting values of parameters, those of a whole network drawn by one small program.

Compiling an `init` that draws every parameter by itself takes XLA longer than compiling the training step: the program
contains the random generator's code twice for each parameter. `initialize` collects the draws while `model.init` is
traced and makes them all by one generator.
"""

import contextlib
import math
import zlib
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

_ROW = 1024
_TRUNCATED_STD = 0.87962566103423978
"""Standard deviation of a normal distribution cut off at -2 and 2."""


@dataclass(frozen=True)
class VarianceScaling:
    """Truncated normal numbers with variance `scale / fan`, as `jax.nn.initializers.variance_scaling` defines it.

    Called as Flax does: `(key, shape, dtype)`.
    """

    scale: float
    mode: Literal["fan_in", "fan_out"]

    def __call__(self, key: Any, shape: Sequence[int], dtype: Any = jnp.float32, out_sharding: Any = None) -> Array:
        """Values of the given shape: kernel height and width, input channels, output channels."""
        draw = _Draw(tuple(shape), dtype, math.sqrt(self.scale / self._fan(shape)) / _TRUNCATED_STD)
        if math.prod(shape) == 0:
            return jnp.zeros(shape, dtype)
        if (draws := _collecting.get()) is not None:
            placeholder = jnp.zeros(draw.shape, dtype)
            draws.append((placeholder, draw))
            return placeholder
        return draw.finish(_rows(key[None], [draw]))

    def _fan(self, shape: Sequence[int]) -> int:
        *window, inputs, outputs = shape
        return max(1, math.prod(window) * (inputs if self.mode == "fan_in" else outputs))


he_normal = VarianceScaling(2.0, "fan_out")
"""He et al., https://arxiv.org/abs/1502.01852, by fan-out, as torchvision's networks are initialised."""
lecun_normal = VarianceScaling(1.0, "fan_in")
"""LeCun et al., Efficient BackProp, 1998: the default of Flax."""


def initialize(model: Any, key: Any, *inputs: Any) -> dict[str, Any]:
    """Variables of a network: `model.init`, with one draw for all parameters that a `VarianceScaling` initialises.

    Each parameter's numbers are a function of key, path and shape: a layer of the same name and shape starts with the
    same numbers in every network. To be called in a trace, so that the placeholders are never computed. Where `init`
    does not return a placeholder unchanged (a network that scans over its layers stacks them), plain `model.init` is
    used.

    Args:
        model: a Linen module.
        key: a random key.
        inputs: what the model is fed, or zeros of that shape.

    Returns:
        The variables, by collection: `params` and perhaps `batch_stats`.
    """
    params_key, dropout_key = jax.random.split(key)
    rngs = {"params": params_key, "dropout": dropout_key}
    with _collect() as draws:
        variables = model.init(rngs, *inputs, train=False)
    with_paths, tree = jax.tree_util.tree_flatten_with_path(variables)
    leaves = [leaf for _, leaf in with_paths]
    index = {id(leaf): i for i, leaf in enumerate(leaves)}
    if any(id(placeholder) not in index for placeholder, _ in draws):
        return dict(model.init(rngs, *inputs, train=False))
    if draws:
        indices = [index[id(placeholder)] for placeholder, _ in draws]
        names = [jax.tree_util.keystr(with_paths[i][0], simple=True, separator="/") for i in indices]
        hashes = jnp.asarray([zlib.crc32(name.encode()) for name in names], jnp.uint32)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(params_key, hashes)
        rows, start = _rows(keys, [draw for _, draw in draws]), 0
        for i, (_, draw) in zip(indices, draws, strict=True):
            leaves[i] = draw.finish(rows[start : start + draw.count])
            start += draw.count
    return dict(jax.tree.unflatten(tree, leaves))


@dataclass(frozen=True, eq=False)
class _Draw:
    """One parameter's numbers, to be drawn in rows of 1024 with a key each."""

    shape: tuple[int, ...]
    dtype: Any
    factor: float

    @property
    def count(self) -> int:
        """Rows."""
        return -(-math.prod(self.shape) // _ROW)

    def finish(self, rows: Array) -> Array:
        """The parameter, from its rows of standard truncated normal numbers."""
        return (rows.reshape(-1)[: math.prod(self.shape)].reshape(self.shape) * self.factor).astype(self.dtype)


_collecting: ContextVar[list[tuple[Array, _Draw]] | None] = ContextVar("collecting", default=None)
"""Of the network that is being initialised: of this thread alone."""


@contextlib.contextmanager
def _collect() -> Iterator[list[tuple[Array, _Draw]]]:
    draws: list[tuple[Array, _Draw]] = []
    token = _collecting.set(draws)
    try:
        yield draws
    finally:
        _collecting.reset(token)


def _rows(keys: Array, draws: Sequence[_Draw]) -> Array:
    """All rows of all draws [n 1024]: row r of a draw with key k is drawn with `fold_in(k, r)`."""
    counts = [draw.count for draw in draws]  # numpy: constants, so that XLA has no arithmetic to fold
    rows = np.concatenate([np.arange(count, dtype=np.int32) for count in counts])
    keys = keys[np.repeat(np.arange(len(counts)), counts)]
    keys = jax.vmap(jax.random.fold_in)(keys, rows)
    return jax.vmap(lambda key: jax.random.truncated_normal(key, -2.0, 2.0, (_ROW,)))(keys)
