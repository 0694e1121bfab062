import jax.numpy as jnp
import numpy as np
import pytest

from jaxcv import ops

SIZE = (24, 36)


def matrix(angle=0.0, scale=1.0, shear=(0.0, 0.0), shift=(0.0, 0.0), center=(0.0, 0.0)):
    one = [jnp.asarray([x], jnp.float32) for x in (angle, scale, shear, shift)]
    return ops.affine_matrix(*one, center=center)


def random_control(seed, strength, cells=4, b=1):
    """Vectors as long as they may be: all at a corner of what is allowed."""
    limit = strength * ops.elastic_limit(image_size=SIZE, cells=cells)
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], (b, cells + 3, cells + 3, 2))
    return jnp.asarray(limit * signs, jnp.float32)


def some_points(seed, n=200, b=1, beyond=10):
    low, high = [-beyond, -beyond], [SIZE[1] + beyond, SIZE[0] + beyond]
    return jnp.asarray(np.random.default_rng(seed).uniform(low, high, (b, n, 2)), jnp.float32)


def test_affine_matrix_by_hand():
    np.testing.assert_array_equal(matrix(center=(5.0, 3.0))[0], [[1, 0, 0], [0, 1, 0]])
    np.testing.assert_allclose(matrix(shift=(2.0, -1.0))[0], [[1, 0, -2], [0, 1, 1]])
    np.testing.assert_allclose(matrix(scale=2.0, center=(4.0, 6.0))[0], [[0.5, 0, 2], [0, 0.5, 3]])
    # A quarter turn clockwise shows at (x, y) what was at (y, -x).
    np.testing.assert_allclose(matrix(angle=90.0)[0], [[0, 1, 0], [-1, 0, 0]], atol=1e-6)
    np.testing.assert_allclose(matrix(shear=(45.0, 0.0))[0], [[1, 1, 0], [0, 1, 0]], atol=1e-6)


def test_inverse_and_points():
    matrices = matrix(30.0, 1.3, (10.0, 5.0), (3.0, -2.0), center=(18.0, 12.0))
    points = some_points(0)
    back = ops.affine_points(ops.affine_points(points, matrices), ops.invert_affine(matrices))
    np.testing.assert_allclose(back, points, atol=1e-4)
    np.testing.assert_allclose(
        ops.affine_points(jnp.asarray([[1.0, 2.0]]), jnp.asarray([[1.0, 2, 3], [4, 5, 6]])), [[8, 20]]
    )
    assert np.isfinite(ops.invert_affine(jnp.zeros((1, 2, 3)))).all()


def test_affine_positions_are_the_points_of_the_centres():
    matrices = matrix(30.0, 1.3, (10.0, 5.0), (3.0, -2.0), center=(18.0, 12.0))
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    centres = jnp.asarray(np.stack([x, y], -1).reshape(1, -1, 2), jnp.float32)
    positions = ops.affine_positions(matrices, size=SIZE)
    np.testing.assert_allclose(positions.reshape(1, -1, 2), ops.affine_points(centres, matrices), atol=1e-5)
    resting = ops.elastic_positions(jnp.zeros((1, 7, 7, 2)), size=SIZE)
    np.testing.assert_array_equal(resting.reshape(1, -1, 2), centres)
    control = random_control(0, 0.9)
    moved = ops.elastic_points(centres, control, image_size=SIZE)
    np.testing.assert_allclose(ops.elastic_positions(control, size=SIZE).reshape(1, -1, 2), moved, atol=1e-5)


def test_equal_vectors_shift_and_one_alone_is_a_bump():
    points = some_points(1)
    even = jnp.broadcast_to(jnp.asarray([1.0, -0.5]), (1, 7, 7, 2))
    np.testing.assert_allclose(ops.elastic_points(points, even, image_size=SIZE), points + even[:, 0, :1], atol=1e-5)
    # The second of the inner columns stands at a quarter of the width; there a cubic B-spline is 2/3, one cell off 1/6.
    bump = jnp.zeros((1, 7, 7, 2)).at[0, 3, 2, 0].set(1.0)
    positions = jnp.asarray([[[9.0, 12.0], [18.0, 12.0], [27.0, 12.0], [9.0, 18.0]]])
    moved = ops.elastic_points(positions, bump, image_size=SIZE) - positions
    np.testing.assert_allclose(moved[0, :, 0], [4 / 9, 1 / 9, 0, 1 / 9], atol=1e-6)
    np.testing.assert_array_equal(moved[0, :, 1], np.zeros(4))


@pytest.mark.parametrize("cells", [2, 5])
def test_elastic_maps_within_the_limit_do_not_fold_and_are_inverted(cells):
    control, points = random_control(2, 0.95, cells, b=40), some_points(3, b=40)
    moved = ops.elastic_points(points, control, image_size=SIZE)
    other = points[:, ::-1] * 0.02 + points * 0.98
    change = np.linalg.norm(ops.elastic_points(other, control, image_size=SIZE) - moved - (other - points), axis=-1)
    assert (change <= 0.95 * np.linalg.norm(other - points, axis=-1) + 1e-4).all()
    assert change.max() > 0.1, "nothing was bent"
    inverse = ops.invert_elastic(moved, control, image_size=SIZE)
    np.testing.assert_allclose(inverse, points, atol=1e-3)
    inverse = ops.invert_elastic(points, control, image_size=SIZE)
    np.testing.assert_allclose(ops.elastic_points(inverse, control, image_size=SIZE), points, atol=1e-4)


def test_warp_agrees_with_affine():
    images = jnp.asarray(np.random.default_rng(4).random((2, *SIZE, 3)), jnp.float32)
    matrices = jnp.concatenate([matrix(20.0, 0.9, center=(18.0, 12.0)), matrix(shift=(3.0, 30.0))])
    positions = ops.affine_positions(matrices, size=(20, 25))
    for fill in (None, 0.25):
        expected = ops.affine(images, matrices, size=(20, 25), fill=fill)
        np.testing.assert_allclose(ops.warp(images, positions, fill=fill), expected, atol=1e-5)


def test_nearest_by_hand():
    image = jnp.arange(6, dtype=jnp.uint8).reshape(1, 2, 3, 1)
    positions = jnp.asarray([[[[0.1, 0.9], [0.99, 0.0], [1.01, 0.0], [2.9, 1.5], [-0.1, 1.5], [1.5, 2.1]]]])
    sampled = ops.warp(image, positions, interpolation="nearest", fill=255)
    assert sampled.dtype == jnp.uint8
    assert sampled[0, 0, :, 0].tolist() == [0, 0, 1, 5, 255, 255]
    assert ops.warp(image, positions, interpolation="nearest")[0, 0, :, 0].tolist() == [0, 0, 1, 5, 3, 4]
    with pytest.raises(TypeError, match="uint8 cannot be interpolated"):
        ops.warp(image, positions)


def test_sources_are_pictures_of_the_batch():
    images = jnp.asarray(np.random.default_rng(5).random((3, 4, 5, 2)), jnp.float32)
    positions = jnp.asarray(np.random.default_rng(6).uniform(0, 4, (3, 6, 7, 2)), jnp.float32)
    sources = jnp.asarray(np.random.default_rng(7).integers(0, 3, (3, 6, 7)))
    every = np.stack([ops.warp(images[jnp.full(3, i)], positions) for i in range(3)])
    expected = np.take_along_axis(every, np.asarray(sources)[None, ..., None], 0)[0]
    np.testing.assert_allclose(ops.warp(images, positions, sources=sources), expected, atol=1e-6)


def test_positions_that_are_not_finite_are_clipped():
    images = jnp.ones((1, 4, 5, 2))
    positions = jnp.asarray([[[[np.nan, 1.0], [np.inf, -np.inf], [1e30, 2.0]]]], jnp.float32)
    assert np.isfinite(ops.warp(images, positions, interpolation="nearest")).all()
    assert (ops.warp(images, positions, fill=0.5)[0, 0, 0] == 0.5).all()
