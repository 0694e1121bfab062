"""Random starting values of parameters, those of a whole network drawn by one small program.

Compiling an `init` that draws every parameter by itself takes XLA longer than compiling the training step: the code of
the random generator stands in the program twice for each. `initialize` collects the draws while `model.init` is traced
and makes them in one.
"""

import contextlib
import math
import zlib
from collections.abc import Iterator, Sequence
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
        """Values of the given shape: kernel sides, input channels, output channels."""
        draw = _Draw(tuple(shape), dtype, math.sqrt(self.scale / self._fan(shape)) / _TRUNCATED_STD)
        if math.prod(shape) == 0:
            return jnp.zeros(shape, dtype)
        if _collecting:
            placeholder = jnp.zeros(draw.shape, dtype)
            _collecting[-1].append((placeholder, draw))
            return placeholder
        return draw.finish(_rows(key[None], [draw]))

    def _fan(self, shape: Sequence[int]) -> int:
        *window, inputs, outputs = shape
        return max(1, math.prod(window) * (inputs if self.mode == "fan_in" else outputs))


he_normal = VarianceScaling(2.0, "fan_out")
"""He et al., https://arxiv.org/abs/1502.01852, over the outgoing connections, as torchvision's networks start."""
lecun_normal = VarianceScaling(1.0, "fan_in")
"""LeCun et al., Efficient BackProp, 1998: the default of Flax."""


def initialize(model: Any, key: Any, *inputs: Any) -> dict[str, Any]:
    """Variables of a network, `model.init` with one draw for all parameters that a `VarianceScaling` starts.

    Each parameter's numbers are a function of key, path and shape, so a layer of the same name starts the same in
    whatever network it stands. To be called in a trace: the placeholders are then never computed. Where one does not
    come out of `init` as it went in (a network that scans over its layers changes it on the way), all is left to
    `init`.

    Args:
        model: a Linen module.
        key: a random key.
        inputs: what the model is fed, or zeros of that shape.
    """
    params_key, dropout_key = jax.random.split(key)
    rngs = {"params": params_key, "dropout": dropout_key}
    with _collect() as draws:
        variables = model.init(rngs, *inputs, train=False)
    found, tree = jax.tree_util.tree_flatten_with_path(variables)
    leaves = [leaf for _, leaf in found]
    place = {id(leaf): i for i, leaf in enumerate(leaves)}
    if any(id(placeholder) not in place for placeholder, _ in draws):
        return dict(model.init(rngs, *inputs, train=False))
    if draws:
        places = [place[id(placeholder)] for placeholder, _ in draws]
        names = [jax.tree_util.keystr(found[i][0], simple=True, separator="/") for i in places]
        hashes = jnp.asarray([zlib.crc32(name.encode()) for name in names], jnp.uint32)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(params_key, hashes)
        rows, start = _rows(keys, [draw for _, draw in draws]), 0
        for i, (_, draw) in zip(places, draws, strict=True):
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
        """The parameter, from its rows of standard numbers."""
        return (rows.reshape(-1)[: math.prod(self.shape)].reshape(self.shape) * self.factor).astype(self.dtype)


_collecting: list[list[tuple[Array, _Draw]]] = []


@contextlib.contextmanager
def _collect() -> Iterator[list[tuple[Array, _Draw]]]:
    _collecting.append([])
    try:
        yield _collecting[-1]
    finally:
        _collecting.pop()


def _rows(keys: Array, draws: Sequence[_Draw]) -> Array:
    """All rows of all draws [n 1024]: row r of a draw with key k is drawn with `fold_in(k, r)`."""
    counts = [draw.count for draw in draws]  # known, so nothing is left for the compiler to fold
    rows = np.concatenate([np.arange(count, dtype=np.int32) for count in counts])
    keys = keys[np.repeat(np.arange(len(counts)), counts)]
    keys = jax.vmap(jax.random.fold_in)(keys, rows)
    return jax.vmap(lambda key: jax.random.truncated_normal(key, -2.0, 2.0, (_ROW,)))(keys)
