"""Style transfer's costs by hand, and what they owe pictures of other sizes, regions, layers and styles."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcv import ops
from jaxcv.losses import content, style, style_transfer, total_variation

# Two positions with two channels: G = [[1+9, 2+12], [2+12, 4+16]], and a target of [[1, 0], [0, 0]] at one position.
MAP = jnp.asarray([[[[1.0, 2.0], [3.0, 4.0]]]])
OUTPUTS = {
    "image": jnp.asarray([[[[0.0], [0.5]], [[1.0], [0.5]]]]),
    "features": {"a": MAP, "b": 2 * MAP},
    "content": {"a": MAP - 1, "b": 2 * MAP},
    "grams": {"a": jnp.asarray([[[1.0, 0], [0, 0]]]) / 4, "b": ops.gram_matrix(2 * MAP, normalize=True)},
}


def test_gram_matrix_by_hand():
    np.testing.assert_allclose(ops.gram_matrix(MAP)[0], [[10, 14], [14, 20]])


def test_content_by_hand():
    """Four values that differ by 1: 4 / (2 * 1 * 2 * 2); Gatys' is 4 / 2."""
    np.testing.assert_allclose(content(OUTPUTS, {}, layers={"a": 1.0})["content"], [0.5])
    np.testing.assert_allclose(content(OUTPUTS, {}, layers={"a": 1.0}, normalization="gatys")["content"], [2.0])
    np.testing.assert_allclose(content(OUTPUTS, {}, layers={"a": 3.0, "b": 5.0})["content"], [1.5])


def test_style_by_hand():
    """The sum of (G[S] - G[G])^2 with G[S] = [[1, 0], [0, 0]] is 81 + 2 * 196 + 400; its factor is 1 / (2 * 4)^2."""
    expected = (81 + 2 * 196 + 400) / 64
    np.testing.assert_allclose(style(OUTPUTS, {}, layers={"a": 1.0})["style"], [expected], rtol=1e-6)
    np.testing.assert_allclose(style(OUTPUTS, {}, layers={"a": 0.5, "b": 9.0})["style"], [expected / 2], rtol=1e-6)
    with pytest.raises(ValueError, match="2 weights for 1 styles"):
        style(OUTPUTS, {}, layers={"a": 1.0}, styles=(0.5, 0.5))


def test_a_style_repeated_twice_as_wide_costs_nothing():
    rng = np.random.default_rng(0)
    small = jnp.asarray(rng.normal(size=(1, 3, 4, 5)), jnp.float32)
    outputs = {"image": small, "features": {"a": small}}
    outputs["grams"] = {"a": ops.gram_matrix(jnp.concatenate([small, small], 2), normalize=True)}
    np.testing.assert_allclose(style(outputs, {}, layers={"a": 1.0})["style"], [0], atol=1e-9)


def test_regions_keep_styles_apart():
    """The left half has style 0 and the right half style 1: each costs nothing there, and much the other way round."""
    rng = np.random.default_rng(0)
    left, right = (jnp.asarray(rng.normal(size=(1, 4, 4, 3)), jnp.float32) for _ in range(2))
    outputs = {"image": left, "features": {"a": jnp.concatenate([left, right], 2)}}
    outputs["grams"] = {"a": jnp.concatenate([ops.gram_matrix(x, normalize=True) for x in (left, right)])}
    regions = np.zeros((1, 2, 4, 8), np.uint8)
    regions[0, 0, :, :4] = regions[0, 1, :, 4:] = 255
    cost = jax.jit(lambda r: style(outputs, {"regions": r}, layers={"a": 1.0}, styles=(1.0, 1.0))["style"])
    np.testing.assert_allclose(cost(regions), [0], atol=1e-9)
    assert cost(regions[:, ::-1]) > 0.01
    everywhere = np.full_like(regions, 255)
    np.testing.assert_allclose(
        cost(everywhere), style(outputs, {}, layers={"a": 1.0}, styles=(1.0, 1.0))["style"], rtol=1e-5
    )
    assert np.isfinite(cost(0 * regions))


def test_variation_by_hand():
    """Differences 1, 0 down and 0.5, -0.5 to the right, over four values."""
    np.testing.assert_allclose(total_variation(OUTPUTS, {})["variation"], [(1 + 0.25 + 0.25) / 4])


def test_the_sum_has_its_factors():
    found = style_transfer(
        OUTPUTS, {}, alpha=2.0, beta=3.0, variation=5.0, content_layers={"a": 1.0}, style_layers={"a": 1.0}
    )
    np.testing.assert_allclose(found["content"], [1.0])
    np.testing.assert_allclose(found["style"], [3 * 873 / 64], rtol=1e-6)
    np.testing.assert_allclose(found["variation"], [5 * 0.375])


@pytest.mark.parametrize("shape", [(1, 1, 1, 2), (1, 0, 3, 2)])
def test_gradients_are_finite_on_pictures_of_a_pixel_and_of_none(shape):
    def cost(x):
        outputs = {"image": x, "features": {"a": x}, "content": {"a": x}, "grams": {"a": jnp.zeros((1, 2, 2))}}
        return total_variation(outputs, {})["variation"].sum() + style(outputs, {}, layers={"a": 1.0})["style"].sum()

    assert np.isfinite(jax.grad(cost)(jnp.ones(shape))).all()
