"""XLA's own convolution, and comparisons with it."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


class Geometry(NamedTuple):
    strides: tuple[int, int]
    pads: tuple[tuple[int, int], tuple[int, int]]
    dilation: tuple[int, int]


_HASTE = {"xla_backend_optimization_level": 0}


def theirs(x, w, at, groups=1):
    # Padded apart: XLA on CPU reads beside the image where a negative padding stands beside a positive one.
    x = lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), *((*p, 0) for p in at.pads), (0, 0, 0)))
    return lax.conv_general_dilated(
        x,
        w,
        at.strides,
        "VALID",
        rhs_dilation=at.dilation,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def random(*shapes):
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes]


def everything(f, dy):
    """Value and both gradients, compiled together."""

    def run(x, w, dy):
        out, back = jax.vjp(f, x, w)
        return out, *back(dy)

    return lambda x, w: jax.jit(run, compiler_options=_HASTE)(x, w, dy)


def agree(ours, reference, limit=1e-5):
    for a, b in zip(ours, reference, strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        scale = max(float(jnp.abs(b.astype(jnp.float32)).max(initial=0.0)), 1e-3)
        difference = jnp.abs(a.astype(jnp.float32) - b.astype(jnp.float32)).max(initial=0.0)
        assert float(difference) <= limit * scale
