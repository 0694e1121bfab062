import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcv import losses

RANDOM = np.random.default_rng(0)
LOGITS = jnp.asarray(RANDOM.normal(size=(2, 4, 5, 3)), jnp.float32)
MASK = RANDOM.integers(0, 3, (2, 4, 5)).astype(np.uint8)
MASK[0, 1:3] = 255
ALL = {"pixel_cross_entropy": {"class_weights": (1.0, 2.0, 0.5), "focus": 2.0}, "dice": {}, "lovasz": {}}


def total(name, logits, mask, **options):
    ((values, weights),) = getattr(losses, name)(logits, {"mask": jnp.asarray(mask)}, **options).values()
    return (values * weights).sum() / jnp.maximum(weights.sum(), 1e-8)


def test_numbers_by_hand():
    """Two pixels of class 0 and 1; probabilities of the first 3/4 and of the second 1/2."""
    logits = jnp.log(jnp.asarray([[[[3.0, 1.0], [1.0, 1.0]]]]))
    batch = {"mask": jnp.asarray([[[0, 1]]], jnp.uint8)}
    values, weights = losses.pixel_cross_entropy(logits, batch)["cross_entropy"]
    np.testing.assert_allclose(values, [[[np.log(4 / 3), np.log(2)]]], rtol=1e-6)
    assert weights.tolist() == [[[1, 1]]]
    focal, _ = losses.pixel_cross_entropy(logits, batch, focus=2.0)["cross_entropy"]
    np.testing.assert_allclose(focal, [[[np.log(4 / 3) / 16, np.log(2) / 4]]], rtol=1e-5)
    values, _ = losses.dice(logits, batch, smooth=1.0)["dice"]
    np.testing.assert_allclose(values, [[1 - 2.5 / 3.25, 1 - 2.0 / 2.75]], rtol=1e-5)
    # Errors of class 0 are 1/4 (its own) and 1/2: 1 - IoU is 1/2 of the wrong one alone, 1 with both.
    values, _ = losses.lovasz(logits, batch)["lovasz"]
    np.testing.assert_allclose(values, [[0.5 * 0.5 + 0.25 * 0.5, 0.5 * 1.0]], rtol=1e-5)


def test_the_lovasz_loss_of_hard_predictions_is_one_minus_the_iou():
    predicted = np.random.default_rng(1).integers(0, 3, MASK.shape)
    values, weights = losses.lovasz(100.0 * jax.nn.one_hot(predicted, 3), {"mask": jnp.asarray(MASK)})["lovasz"]
    for b, k in np.argwhere(np.asarray(weights) > 0):
        is_, was = (MASK[b] == k), (predicted[b] == k) & (MASK[b] != 255)
        assert values[b, k] == pytest.approx(1 - (is_ & was).sum() / (is_ | was).sum(), abs=1e-6)


@pytest.mark.parametrize("name", ALL)
def test_void_pixels_change_neither_loss_nor_gradient(name):
    void = jnp.asarray(MASK == 255)[..., None]
    other = jnp.where(void, jnp.nan, LOGITS)
    grad = jax.value_and_grad(lambda logits: total(name, logits, MASK, **ALL[name]))
    (value, gradient), (same, moved) = grad(LOGITS), grad(jnp.where(void, -LOGITS, LOGITS))
    assert value == same and value > 0
    np.testing.assert_array_equal(gradient, moved)
    assert not np.asarray(gradient)[MASK == 255].any()
    value, gradient = grad(other)
    assert value == same and np.isfinite(gradient).all()


@pytest.mark.parametrize("name", ALL)
def test_nothing_but_void_is_a_loss_of_zero_with_finite_gradients(name):
    nothing = np.full_like(MASK, 255)
    value, gradient = jax.value_and_grad(lambda logits: total(name, logits, nothing, **ALL[name]))(LOGITS)
    assert value == 0 and not np.asarray(gradient).any()


def test_focal_gradients_are_finite_where_the_network_is_sure():
    logits = jnp.asarray([[[[200.0, 0.0], [0.0, 200.0]]]])
    mask = np.zeros((1, 1, 2), np.uint8)
    gradient = jax.grad(lambda x: total("pixel_cross_entropy", x, mask, focus=0.5))(logits)
    assert np.isfinite(gradient).all()


def test_regions_are_added_and_wrong_class_weights_refused():
    batch = {"mask": jnp.asarray(MASK), "pixel_weights": jnp.full(MASK.shape, 2.0)}
    terms = losses.pixels(LOGITS, batch, region="dice", region_weight=0.5)
    assert set(terms) == {"cross_entropy", "dice"} and terms["cross_entropy"][1].max() == 2
    np.testing.assert_allclose(terms["dice"][0], 0.5 * losses.dice(LOGITS, batch)["dice"][0], rtol=1e-6)
    with pytest.raises(ValueError, match="2 class weights for 3 classes"):
        losses.pixels(LOGITS, batch, class_weights=(1.0, 2.0))
