import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcv import ops


def slow_pool(images, window, stride, pads, function, fill):
    padded = np.pad(images, ((0, 0), *pads, (0, 0)), constant_values=fill)
    rows, columns = ((n - window) // stride + 1 for n in padded.shape[1:3])
    out = np.zeros((len(images), rows, columns, images.shape[-1]), np.float32)
    for i, j in itertools.product(range(rows), range(columns)):
        patch = padded[:, i * stride : i * stride + window, j * stride : j * stride + window]
        out[:, i, j] = function(patch, axis=(1, 2))
    return out


CASES = [
    (2, 2, "valid", ((0, 0), (0, 0))),
    (3, 2, 1, ((1, 1), (1, 1))),
    (3, 2, "same", ((1, 1), (0, 1))),
    (3, 1, ((0, 2), (1, 0)), ((0, 2), (1, 0))),
    (2, 3, "valid", ((0, 0), (0, 0))),
]


@pytest.mark.parametrize(("window", "strides", "padding", "pads"), CASES)
def test_pooling_agrees_with_the_definition(window, strides, padding, pads):
    images = np.random.default_rng(0).normal(size=(2, 7, 8, 3)).astype(np.float32)
    options = {"window": window, "strides": strides, "padding": padding}
    largest = ops.max_pool2d(jnp.asarray(images), **options)
    np.testing.assert_array_equal(largest, slow_pool(images, window, strides, pads, np.max, -np.inf))
    mean = ops.avg_pool2d(jnp.asarray(images), **options)
    np.testing.assert_allclose(mean, slow_pool(images, window, strides, pads, np.mean, 0), rtol=1e-5, atol=1e-6)


def test_the_default_stride_is_the_window():
    image = jnp.arange(16.0).reshape(1, 4, 4, 1)
    np.testing.assert_array_equal(ops.max_pool2d(image, window=2)[0, ..., 0], [[5, 7], [13, 15]])
    np.testing.assert_array_equal(ops.avg_pool2d(image, window=2)[0, ..., 0], [[2.5, 4.5], [10.5, 12.5]])
    assert ops.max_pool2d(image, window=(2, 4)).shape == (1, 2, 1, 1)


def test_the_gradient_goes_to_the_winner():
    image = jnp.asarray([[0.0, 3.0], [1.0, 2.0]]).reshape(1, 2, 2, 1)
    gradient = jax.grad(lambda x: ops.max_pool2d(x, window=2).sum())(image)
    np.testing.assert_array_equal(gradient[0, ..., 0], [[0, 1], [0, 0]])
    level = jax.grad(lambda x: ops.max_pool2d(x, window=2, padding=1).sum())(jnp.zeros((1, 4, 4, 1)))
    assert np.isfinite(level).all() and level.sum() == 9


def test_the_course_table():
    """CONV1 (28,28,6) 4,704 / 456 .. softmax 10 / 850, for 32 x 32 x 3."""
    conv1 = ops.conv_output_size(32, window=5)
    pool1 = ops.conv_output_size(conv1, window=2, stride=2)
    conv2 = ops.conv_output_size(pool1, window=5)
    pool2 = ops.conv_output_size(conv2, window=2, stride=2)
    assert [conv1, pool1, conv2, pool2] == [28, 14, 10, 5]
    assert [conv1**2 * 6, pool1**2 * 6, conv2**2 * 16, pool2**2 * 16] == [4704, 1176, 1600, 400]
    assert ops.conv_parameters(3, 6, window=5) == 456
    assert ops.conv_parameters(6, 16, window=5) == 2416
    # A fully connected layer is a 1 x 1 convolution of a 1 x 1 picture.
    dense = [ops.conv_parameters(i, o, window=1) for i, o in ((400, 120), (120, 84), (84, 10))]
    assert dense == [48_120, 10_164, 850]


def test_cost_of_separable_convolutions():
    """The course's example: 6 x 6 x 3 to 4 x 4 x 5 with 3 x 3 filters, 2,160 multiplications against 672."""
    plain = ops.conv_multiply_adds(3, 5, window=3, output_size=(4, 4))
    separable = ops.conv_multiply_adds(3, 5, window=3, output_size=(4, 4), separable=True)
    assert (plain, separable) == (2160, 432 + 240)
    assert separable / plain == pytest.approx(1 / 5 + 1 / 9)


@pytest.mark.parametrize(
    ("size", "window", "stride", "padding", "expected"),
    [
        (7, 3, 2, 0, 3),
        (6, 3, 1, 1, 6),
        (224, 7, 2, 3, 112),
        (7, 3, 2, "same", 4),
        (8, 2, 2, "valid", 4),
        (5, 1, 4, "same", 2),
    ],
)
def test_output_size(size, window, stride, padding, expected):
    assert ops.conv_output_size(size, window=window, stride=stride, padding=padding) == expected


def test_a_window_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="a window of 5 does not fit into 3"):
        ops.conv_output_size(3, window=5)
    with pytest.raises(ValueError, match="does not fit"):
        ops.max_pool2d(jnp.zeros((1, 2, 2, 1)), window=3)


@pytest.mark.parametrize(("sides", "groups"), [((2, 2), 1), ((1, 4), 1), ((3, 2), 2), ((6, 7), 2), ((6, 7), 4)])
@pytest.mark.parametrize(("strides", "padding", "dilation"), [(1, 1, 1), (2, "same", 1), (1, ((2, 2), (2, 3)), 2)])
def test_convolution_is_lax_own_in_value_and_gradients(sides, groups, strides, padding, dilation):
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.normal(size=(2, *sides, 4)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(3, 3, 4 // groups, 8)), jnp.float32)
    pads = "SAME" if padding == "same" else [(1, 1), (1, 1)] if padding == 1 else padding

    def theirs(images, kernel):
        return jax.lax.conv_general_dilated(
            images,
            kernel,
            (strides, strides),
            pads,
            rhs_dilation=(dilation, dilation),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )

    def ours(images, kernel):
        options = {"strides": strides, "padding": padding, "dilation": dilation, "feature_group_count": groups}
        return ops.conv2d(images, kernel, **options)

    wanted = theirs(images, kernel)
    np.testing.assert_allclose(ours(images, kernel), wanted, rtol=1e-5, atol=1e-5)
    weight = jnp.asarray(rng.normal(size=wanted.shape), jnp.float32)
    gradients = [jax.grad(lambda *a, f=f: (weight * f(*a)).sum(), (0, 1))(images, kernel) for f in (ours, theirs)]
    for a, b in zip(*gradients, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
