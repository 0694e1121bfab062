"""Convolutions against XLA's own, in value and derivatives of both orders, whatever form they are computed in."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from convolutions import Geometry, agree, everything, random, theirs
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from jaxcv import ops

pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))
margins = st.tuples(st.integers(-1, 3), st.integers(-1, 3))


@st.composite
def convolutions(draw):
    sides, window = draw(st.tuples(*[st.integers(1, 12)] * 2)), draw(st.tuples(*[st.integers(1, 7)] * 2))
    strides, pads, dilation = draw(pairs), draw(st.tuples(margins, margins)), draw(pairs)
    groups, depth, each = draw(st.sampled_from([(1, 1, 6), (1, 3, 8), (1, 9, 70), (2, 3, 4), (4, 1, 2), (12, 2, 1)]))
    batch = draw(st.sampled_from([0, 1, 3]))
    x, w = (batch, *sides, groups * depth), (*window, depth, groups * each)
    assume(all(n + sum(p) > (f - 1) * d for n, p, f, d in zip(sides, pads, window, dilation, strict=True)))
    return x, w, (strides, pads, dilation), groups


@settings(max_examples=25, deadline=None, derandomize=True)
@given(convolutions())
@example(((2, 9, 10, 3), (3, 3, 3, 4), ((3, 2), ((0, 1), (3, 0)), (1, 1)), 1))
@example(((2, 15, 15, 3), (7, 7, 3, 8), ((2, 2), ((3, 3), (3, 3)), (1, 1)), 1))
@example(((2, 12, 12, 1), (5, 5, 1, 6), ((1, 1), ((0, 0), (0, 0)), (1, 1)), 1))
def test_any_convolution_is_xlas(convolution):
    x_shape, w_shape, geometry, groups = convolution
    at = Geometry(*geometry)
    x, w = random(x_shape, w_shape)
    dy = random(jax.eval_shape(lambda x, w: theirs(x, w, at, groups), x, w).shape)[0]

    def ours(x, w):
        return ops.conv2d(x, w, strides=at.strides, padding=at.pads, dilation=at.dilation, feature_group_count=groups)

    agree(everything(ours, dy)(x, w), everything(lambda x, w: theirs(x, w, at, groups), dy)(x, w))


@pytest.mark.parametrize("groups", [1, 6])
def test_half_precision_vmap_and_loops(groups):
    at = Geometry((2, 1), ((1, 1), (0, 2)), (1, 1))
    x, w = random((3, 2, 7, 8, 6), (3, 3, 3, 6 // groups, 6))

    def ours(x, w):
        return ops.conv2d(x, w, strides=at.strides, padding=at.pads, feature_group_count=groups)

    dy = random((3, *jax.eval_shape(ours, x[0], w[0]).shape))[0]

    def all_three(x, w, dy):
        out, back = jax.vjp(ours, x, w)
        return out, *back(dy)

    alone = [all_three(*(v[i] for v in (x, w, dy))) for i in range(3)]
    stacked = [jnp.stack(values) for values in zip(*alone, strict=True)]
    agree(jax.jit(jax.vmap(all_three))(x, w, dy), stacked)
    agree(jax.lax.map(lambda a: all_three(*a), (x, w, dy)), stacked)
    half = [v[0].astype(jnp.bfloat16) for v in (x, w, dy)]
    wide = all_three(*(v.astype(jnp.float32) for v in half))
    agree(all_three(*half), [v.astype(jnp.bfloat16) for v in wide], limit=2e-2)


@pytest.mark.parametrize("groups", [1, 3])
def test_second_derivatives(groups):
    x, w = random((2, 6, 5, 3), (3, 3, 3 // groups, 3))
    at = Geometry((2, 2), ((1, 1), (1, 1)), (1, 1))

    def energy(f, x, w):
        return jnp.sum(jnp.tanh(f(x, w)))

    def curvature(f):
        return jax.grad(lambda x: jnp.sum(jnp.square(jax.grad(lambda w: energy(f, x, w))(w))))(x)

    ours = lambda x, w: ops.conv2d(x, w, strides=2, padding=1, feature_group_count=groups)  # noqa: E731
    agree([curvature(ours)], [curvature(lambda x, w: theirs(x, w, at, groups))], limit=1e-4)


@pytest.mark.parametrize("strides", [1, 2, (3, 2)])
@pytest.mark.parametrize("padding", ["valid", "same", 1, ((0, 1), (2, -1))])
def test_transposed_convolution_adds_the_filters_up(strides, padding):
    x, w = random((2, 4, 3, 5), (3, 4, 5, 6))
    sh, sw = (strides, strides) if isinstance(strides, int) else strides
    full = np.zeros((2, 3 * sh + 3, 2 * sw + 4, 6), np.float32)
    for i in range(4):
        for j in range(3):
            full[:, i * sh : i * sh + 3, j * sw : j * sw + 4] += np.einsum("bc,fgco->bfgo", x[:, i, j], w)
    extra = (full.shape[1] - 4 * sh, full.shape[2] - 3 * sw)
    top, bottom, left, right = {
        "valid": (0, 0, 0, 0),
        "same": (extra[0] // 2, extra[0] - extra[0] // 2, extra[1] // 2, extra[1] - extra[1] // 2),
        1: (1, 1, 1, 1),
    }.get(padding if isinstance(padding, str | int) else "", (0, 1, 2, -1))
    wanted = np.pad(full, ((0, 0), (0, max(-bottom, 0)), (0, max(-right, 0)), (0, 0)))
    wanted = wanted[:, top : wanted.shape[1] - max(bottom, 0), left : wanted.shape[2] - max(right, 0)]

    def ours(x, w):
        return ops.conv_transpose2d(x, w, strides=strides, padding=padding)

    np.testing.assert_allclose(ours(x, w), wanted, rtol=1e-4, atol=1e-4)
    dy = random(wanted.shape)[0]
    at = Geometry((sh, sw), ((top, bottom), (left, right)), (1, 1))
    back = jax.vjp(ours, x, w)[1](dy)
    agree([back[0]], [theirs(dy, w.swapaxes(2, 3), at)])
    numeric = jax.vjp(lambda w: theirs(dy, w.swapaxes(2, 3), at), w)[1](x)[0]
    agree([back[1]], [numeric])


def test_a_transposed_convolution_that_cannot_be():
    with pytest.raises(ValueError, match="expected 5 input channels, not 4"):
        ops.conv_transpose2d(jnp.zeros((1, 2, 2, 4)), jnp.zeros((2, 2, 5, 3)))
    with pytest.raises(ValueError, match="leaves nothing"):
        ops.conv_transpose2d(jnp.zeros((1, 1, 1, 1)), jnp.zeros((2, 2, 1, 1)), padding=1)
