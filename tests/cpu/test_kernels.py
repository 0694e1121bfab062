"""The kernels in C++ against the forms they stand for: values, derivatives of both orders, batches of batches."""

import functools
import itertools

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from jaxcv.cpu import convolution, depthwise, kernels, winograd
from jaxcv.cpu.geometry import BARE, Geometry, output_size, pad, plain
from jaxcv.ops import batch_norm, conv2d, depthwise_conv2d, roi_pool

few = hypothesis.settings(max_examples=60, deadline=None, derandomize=True)


@pytest.fixture(autouse=True)
def compiler():
    if kernels.version() is None:
        pytest.skip("no C++ compiler")


def array(rng, *shape):
    return jnp.asarray(rng.normal(size=shape), jnp.float32)


def close(found, expected, scale=None):
    scale = np.abs(expected).max() if scale is None else scale
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * float(scale) + 1e-6)


SHAPES = st.tuples(
    st.integers(1, 3),
    st.integers(1, 12),
    st.integers(1, 12),
    st.sampled_from([1, 3, 8, 16, 17, 40]),
    st.sampled_from([3, 5]),
    st.sampled_from([(1, 1), (2, 2), (1, 2), (3, 1)]),
    st.tuples(*[st.integers(-1, 4)] * 4),
)


def by_hand(x, kernel, dy, at):
    """Value, and both gradients along dy, position by position."""
    (h, w), f, (oh, ow) = x.shape[1:3], kernel.shape[0], dy.shape[1:3]
    (top, _), (left, _) = at.pads
    out, dx, dkernel = np.zeros(dy.shape), np.zeros(x.shape), np.zeros(kernel.shape)
    for i, j in np.ndindex(f, f):
        for y, column in np.ndindex(oh, ow):
            row, place = y * at.strides[0] - top + i, column * at.strides[1] - left + j
            if 0 <= row < h and 0 <= place < w:
                out[:, y, column] += x[:, row, place] * kernel[i, j]
                dx[:, row, place] += dy[:, y, column] * kernel[i, j]
                dkernel[i, j] += (x[:, row, place] * dy[:, y, column]).sum(0)
    return out, dx, dkernel


@few
@hypothesis.given(SHAPES, st.integers(0, 1000))
def test_depthwise(shape, seed):
    b, h, w, c, f, strides, (top, bottom, left, right) = shape
    at = Geometry(strides, ((top, bottom), (left, right)), (1, 1))
    out = output_size((b, h, w, c), (f, f, 1, 1), at)
    hypothesis.assume(min(out) > 0 and min(h + min(top, 0) + min(bottom, 0), w + min(left, 0) + min(right, 0)) > 0)
    rng = np.random.default_rng(seed)
    x, kernel, dy = array(rng, b, h, w, c), array(rng, f, f, c), array(rng, b, *out, c)
    assert depthwise.in_one_pass(x, kernel.shape, at)
    expected = by_hand(np.asarray(x), np.asarray(kernel), np.asarray(dy), at)
    close(depthwise.forward(x, kernel, at), expected[0])
    if strides == (1, 1):
        close(depthwise.input_gradient(dy, kernel, (h, w), at), expected[1])
    close(depthwise.kernel_gradient(x, dy, (f, f), at), expected[2])


def test_padding_wider_than_the_kernel():
    rng = np.random.default_rng(0)
    at = Geometry((1, 2), ((4, 0), (0, 2)), (1, 1))
    x, kernel, dy = array(rng, 1, 1, 1, 2), array(rng, 3, 3, 2), array(rng, 1, 3, 1, 2)
    expected = by_hand(np.asarray(x), np.asarray(kernel), np.asarray(dy), at)
    close(depthwise.input_gradient(dy, kernel, (1, 1), at), expected[1])
    close(depthwise.multiply_adds(x, kernel, at), expected[0])


@hypothesis.settings(max_examples=8, deadline=None, derandomize=True)
@hypothesis.given(
    st.integers(1, 3),
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    st.tuples(st.sampled_from([1, 8, 17]), st.sampled_from([1, 16, 24])),
    st.tuples(*[st.integers(-1, 4)] * 4),
    st.integers(0, 1000),
)
def test_winograd(b, sides, channels, pads, seed):
    """Odd sizes, negative padding, channels that do not fill vectors: value and both gradients."""
    at, (c, o) = Geometry((1, 1), (pads[:2], pads[2:]), (1, 1)), channels
    out = output_size((b, *sides, c), (3, 3, c, o), at)
    hypothesis.assume(min(out) > 0)
    rng = np.random.default_rng(seed)
    x, w, dy = array(rng, b, *sides, c), array(rng, 3, 3, c, o), array(rng, b, *out, o)
    # Padded beforehand: the gradient of a padded convolution may need padding that is negative at one edge only, for
    # which jaxlib 0.10 reads out of bounds.
    y, pull = jax.vjp(lambda x, w: plain(pad(x, at.pads), w, BARE), x, w)
    dx, dw = pull(dy)
    close(winograd.convolve(x, w, at), y)
    close(winograd.kernel_gradient(x, dy, at), dw)
    back = [(2 - low, n + low - rows) for (low, _), n, rows in zip(at.pads, sides, out, strict=True)]
    close(winograd.convolve(dy, w, Geometry((1, 1), (back[0], back[1]), (1, 1)), flip=True), dx)


@pytest.mark.parametrize("shape", [(2, 23, 20, 130, 150), (3, 31, 30, 8, 40), (1, 3, 4, 20, 300)])
def test_winograd_in_parts(shape):
    """More tiles than are taken at a time, more channels than a task has, and several tasks that add up."""
    b, h, w, c, o = shape
    at = Geometry((1, 1), ((1, 1), (1, 1)), (1, 1))
    rng = np.random.default_rng(0)
    x, kernel, dy = array(rng, b, h, w, c), array(rng, 3, 3, c, o), array(rng, b, h, w, o)
    y, pull = jax.vjp(lambda x, w: plain(x, w, at), x, kernel)
    close(winograd.convolve(x, kernel, at), y)
    close(winograd.convolve(dy, kernel, at, flip=True), pull(dy)[0])
    found = jax.jit(lambda x, dy: winograd.kernel_gradient(x, dy, at))
    close(found(x, dy), pull(dy)[1])
    assert len({np.asarray(found(x, dy)).tobytes() for _ in range(20)}) == 1


@pytest.mark.parametrize(
    ("window", "pads", "channels"),
    [
        (2, ((0, 0), (0, 0)), (16, 24)),
        (4, ((1, 1), (1, 1)), (32, 64)),
        (4, ((0, 1), (2, 0)), (17, 40)),
        (4, ((3, 3), (1, -1)), (16, 19)),
        (6, ((1, 2), (2, 1)), (16, 16)),
    ],
)
def test_kernels_of_one_or_two_strides(window, pads, channels):
    """The convolution and its transpose, at sizes that do not fill tiles."""
    s = 3 if window == 6 else 2
    at, sides = Geometry((s, s), pads, (1, 1)), (44, 38) if window == 2 else (43, 38)
    rng = np.random.default_rng(0)
    x, w = array(rng, 3, *sides, channels[0]), array(rng, window, window, *channels)
    y, pull = jax.vjp(lambda x: plain(pad(x, at.pads), w, Geometry((s, s), BARE.pads, (1, 1))), x)
    dy = array(rng, *y.shape)
    assert convolution.few_taps_fit(dy.shape[:3], w, at, up=sides)
    close(convolution.few_taps(dy, w, x.shape, at, up=True), pull(dy)[0])
    if window != 2:
        assert convolution.few_taps_fit(x.shape[:3], w, at)
        close(convolution.few_taps(x, w, y.shape, at), y)


@few
@hypothesis.given(st.integers(1, 600), st.integers(1, 140), st.integers(1, 150), st.integers(0, 1000))
def test_products_of_many_rows(n, c, o, seed):
    rng = np.random.default_rng(seed)
    x, dy = array(rng, n, c), array(rng, n, o)
    found = kernels.call("matrix_gradient", kernels.output(c, o), x, dy)
    close(found, np.asarray(x, np.float64).T @ np.asarray(dy, np.float64), scale=10 * np.sqrt(n))


def test_a_kernel_multiplies_where_it_is_worth_it():
    rng = np.random.default_rng(3)
    x, dy = array(rng, 5000, 70), array(rng, 5000, 90)
    assert "jaxcv_matrix_gradient" in jax.jit(convolution.products).lower(x, dy).as_text()
    close(convolution.products(x, dy), np.asarray(x, np.float64).T @ np.asarray(dy, np.float64))


def test_second_derivatives_of_winograd():
    at = Geometry((1, 1), ((1, 1), (0, 1)), (1, 1))
    rng = np.random.default_rng(1)
    x, w = array(rng, 2, 15, 14, 32), array(rng, 3, 3, 32, 32)

    def ours(x, w):
        return conv2d(x, w, padding=at.pads)

    def curvature(form):
        return jax.jit(jax.grad(lambda x, w: (jax.grad(lambda x: (form(x, w) ** 2).sum())(x) ** 2).sum(), (0, 1)))

    found, expected = (curvature(form)(x, w) for form in (ours, lambda x, w: plain(x, w, at)))
    jax.tree.map(close, found, expected)
    text = curvature(ours).lower(x, w).as_text()
    assert "jaxcv_winograd_forward" in text


@few
@hypothesis.given(
    st.integers(1, 3),
    st.tuples(st.integers(1, 9), st.integers(1, 40)),
    st.tuples(st.sampled_from([1, 3, 8, 17]), st.sampled_from([16, 32, 48])),
    st.tuples(st.integers(1, 7), st.integers(1, 7)),
    st.sampled_from([(1, 1), (2, 2), (1, 2), (3, 1)]),
    st.tuples(*[st.integers(-1, 8)] * 4),
    st.integers(0, 1000),
)
def test_conv_gradient(b, sides, channels, window, strides, pads, seed):
    at = Geometry(strides, (pads[:2], pads[2:]), (1, 1))
    c, o = channels
    out = output_size((b, *sides, c), (*window, c, o), at)
    hypothesis.assume(min(out) > 0)
    rng = np.random.default_rng(seed)
    x, dy = array(rng, b, *sides, c), array(rng, b, *out, o)
    found = kernels.call(
        "conv_gradient",
        kernels.output(*window, c, o),
        x,
        dy,
        sh=strides[0],
        sw=strides[1],
        top=pads[0],
        left=pads[2],
    )
    expected = np.zeros((*window, c, o))
    for i, j, (y, column) in itertools.product(range(window[0]), range(window[1]), np.ndindex(*out)):
        row, place = y * strides[0] - pads[0] + i, column * strides[1] - pads[2] + j
        if 0 <= row < sides[0] and 0 <= place < sides[1]:
            expected[i, j] += np.asarray(x[:, row, place], np.float64).T @ np.asarray(dy[:, y, column], np.float64)
    close(found, expected)


def test_rows_of_few_channels_are_added_up_in_registers():
    rng = np.random.default_rng(2)
    x, dy = array(rng, 2, 20, 24, 5), array(rng, 2, 10, 24, 32)
    at = Geometry((2, 1), ((0, 1), (1, 1)), (1, 1))
    jitted = jax.jit(lambda x, dy: convolution.kernel_gradient(x, dy, (3, 3), at))
    assert "jaxcv_conv_gradient" in jitted.lower(x, dy).as_text()
    close(jitted(x, dy), convolution.swapped(x, dy, (3, 3), at))
    assert len({np.asarray(jitted(x, dy)).tobytes() for _ in range(20)}) == 1


@few
@hypothesis.given(st.integers(1, 300), st.sampled_from([1, 7, 16, 40]), st.booleans(), st.integers(0, 1000))
def test_batch_norm_sums(n, c, relu, seed):
    rng = np.random.default_rng(seed)
    x, dy, mean, factor, bias = array(rng, n, c) + 3, array(rng, n, c), array(rng, c), array(rng, c), array(rng, c)

    found = kernels.call("batch_norm_sums", (kernels.output(c),) * 2, x, dy, mean, factor, bias, relu=int(relu))
    wide = [np.asarray(value, np.float64) for value in (x, dy, mean, factor, bias)]
    cut = np.where(((wide[0] - wide[2]) * wide[3] + wide[4] > 0) | (not relu), wide[1], 0)
    close(found[0], cut.sum(0), scale=10 * np.sqrt(n))
    close(found[1], (cut * (wide[0] - wide[2])).sum(0), scale=10 * np.sqrt(n))


@few
@hypothesis.given(st.integers(1, 9000), st.sampled_from([1, 7, 16, 40, 600]), st.integers(0, 1000))
def test_batch_norm_statistics(n, c, seed):
    """Means far from zero take nothing from the variance: chunks are measured from their own."""
    rng = np.random.default_rng(seed)
    middle, width = array(rng, c) * 100, jnp.exp(array(rng, c))
    x = jnp.asarray(rng.normal(size=(n, c)), jnp.float32) * width[None] + middle[None]
    mean, variance = kernels.call("batch_norm_statistics", (kernels.output(c),) * 2, x)
    wide = np.asarray(x, np.float64)
    np.testing.assert_allclose(mean, wide.mean(0), rtol=2e-7, atol=1e-6)
    np.testing.assert_allclose(variance, wide.var(0), rtol=1e-5, atol=1e-6)


def test_batch_norm_with_relu():
    rng = np.random.default_rng(4)
    x, scale, bias = array(rng, 4, 30, 31, 24), array(rng, 24), array(rng, 24)

    def both(norm):
        return jax.jit(jax.value_and_grad(lambda *args: (norm(*args)[0] ** 3).sum(), (0, 1, 2)))(x, scale, bias)

    def apart(x, scale, bias):
        y, mean, variance = batch_norm(x, scale, bias)
        return jax.nn.relu(y), mean, variance

    together = functools.partial(batch_norm, relu=True)
    jax.tree.map(close, both(together), both(apart))
    assert "jaxcv_batch_norm_statistics" in jax.jit(together).lower(x, scale, bias).as_text()


def test_gradient_of_maxima(monkeypatch):
    rng = np.random.default_rng(5)
    maps = jnp.round(array(rng, 2, 9, 11, 20), 1)  # many are equal
    boxes = jnp.asarray(rng.uniform(-3, 12, (2, 15, 4)), jnp.float32)
    weights = array(rng, 2, 15, 3, 2, 20)

    def gradient(maps):
        return jax.grad(lambda maps: (weights * roi_pool(maps, boxes, output_size=(3, 2))).sum())(maps)

    found, program = jax.jit(gradient)(maps), jax.jit(gradient).lower(maps)
    assert "jaxcv_window_maxima_gradient" in program.as_text()
    monkeypatch.setattr(kernels, "version", lambda: None)
    jax.clear_caches()
    close(found, jax.jit(gradient)(maps))


def twice(function):
    """A gradient of a gradient, and the product of the Hessian with a vector, forward over reverse."""

    def gradient(x):
        return jax.grad(lambda x: jnp.sin(function(x)).sum())(x)

    return lambda x: (jax.grad(lambda x: jnp.cos(gradient(x)).sum())(x), jax.jvp(gradient, (x,), (jnp.cos(x),))[1])


def test_second_derivatives_and_batches(monkeypatch):
    rng = np.random.default_rng(0)
    x, kernel, scale = array(rng, 2, 70, 60, 8), array(rng, 3, 3, 1, 8), array(rng, 8)

    def network(x):
        return batch_norm(depthwise_conv2d(x, kernel, padding="same"), scale, scale)[0]

    batches = jnp.stack([x, x[::-1] * 2])
    found = jax.jit(twice(network))(x), jax.jit(jax.vmap(jax.grad(lambda x: jnp.sin(network(x)).sum())))(batches)
    text = jax.jit(network).lower(x).as_text()
    assert "jaxcv_depthwise_forward" in text
    monkeypatch.setattr(kernels, "version", lambda: None)
    jax.clear_caches()
    expected = jax.jit(twice(network))(x), jax.jit(jax.vmap(jax.grad(lambda x: jnp.sin(network(x)).sum())))(batches)
    assert "jaxcv_" not in jax.jit(network).lower(x).as_text()
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=2e-4 * np.abs(b).max()), found, expected)


def test_the_same_bytes_again():
    rng = np.random.default_rng(1)
    x, dy = array(rng, 4, 30, 30, 24), array(rng, 4, 30, 30, 24)
    at = Geometry((1, 1), ((1, 1), (1, 1)), (1, 1))
    runs = {np.asarray(depthwise.kernel_gradient(x, dy, (3, 3), at)).tobytes() for _ in range(20)}
    assert len(runs) == 1


@pytest.mark.devices(2)
def test_off_where_a_program_is_for_more_than_one_device():
    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    x, scale = jax.device_put(jnp.ones((4, 32, 32, 32)), split), jnp.ones(32)
    assert "jaxcv_" not in jax.jit(batch_norm).lower(x, scale, scale).as_text()
    assert "jaxcv_" in jax.jit(batch_norm).lower(jnp.ones(x.shape), scale, scale).as_text()
