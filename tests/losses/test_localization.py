import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcv.losses import localization


def logit(p):
    return np.log(p / (1 - np.asarray(p)))


# Picture of 40 x 20: box (4, 5)-(12, 15) has its centre at (0.2, 0.5) and is 0.5 high and 0.2 wide.
BATCH = {
    "image": jnp.zeros((2, 20, 40, 3)),
    "boxes": jnp.asarray([[[0.0, 0, 2, 2], [4, 5, 12, 15]], [[1, 1, 9, 9], [0, 0, 0, 0]]]),
    "classes": jnp.asarray([[0, 2], [1, 0]]),
    "valid": jnp.asarray([[True, True], [False, False]]),
}
SAID = [0.8, 0.3, 0.4, 0.5, 0.4]  # p_c, b_x, b_y, b_h, b_w
CLASSES = [0.2, 0.3, 0.5]
OUTPUTS = jnp.asarray([[logit(SAID[0]), *SAID[1:], *np.log(CLASSES)]] * 2, jnp.float32)


def test_log_form_by_hand():
    found = localization(OUTPUTS, BATCH)
    np.testing.assert_allclose(found["object"], [-np.log(0.8), -np.log(0.2)], rtol=1e-5)
    np.testing.assert_allclose(found["box"], [(0.1**2 + 0.1**2 + 0 + 0.2**2) / 4, 0], rtol=1e-5)
    np.testing.assert_allclose(found["class"], [-np.log(0.5), 0], rtol=1e-5)


def test_all_squares_are_the_course_formula():
    found = localization(OUTPUTS, BATCH, form="squares")
    y, said = np.array([1, 0.2, 0.5, 0.5, 0.2, 0, 0, 1]), np.array([*SAID, *CLASSES])
    total = sum(found.values())
    np.testing.assert_allclose(total, [np.square(said - y).sum(), 0.8**2], rtol=1e-5)
    np.testing.assert_allclose(total, [0.04 + 0.06 + 0.38, 0.64], rtol=1e-5)


@pytest.mark.parametrize("form", ["log", "squares"])
def test_weights_are_factors_and_may_be_traced(form):
    plain = localization(OUTPUTS, BATCH, form=form)
    weigh = jax.jit(
        lambda a, b, c: localization(OUTPUTS, BATCH, form=form, object_weight=a, box_weight=b, class_weight=c)
    )
    found = weigh(2.0, 3.0, 0.5)
    for name, factor in {"object": 2.0, "box": 3.0, "class": 0.5}.items():
        np.testing.assert_allclose(found[name], factor * plain[name], rtol=1e-5)


@pytest.mark.parametrize("form", ["log", "squares"])
def test_without_an_object_only_p_c_learns_whatever_the_padding_holds(form):
    batch = {**BATCH, "boxes": jnp.full((2, 2, 4), jnp.nan), "classes": jnp.full((2, 2), -1)}
    value, gradient = jax.value_and_grad(lambda x: sum(v.sum() for v in localization(x, batch, form=form).values()))(
        OUTPUTS
    )
    assert np.isfinite(value) and np.isfinite(gradient).all()
    assert (np.asarray(gradient)[:, 0] > 0).all() and (np.asarray(gradient)[:, 1:] == 0).all()


@pytest.mark.parametrize("form", ["log", "squares"])
def test_wild_outputs_have_finite_gradients(form):
    gradient = jax.grad(lambda x: sum(v.sum() for v in localization(x, BATCH, form=form).values()))(1e4 * OUTPUTS)
    assert np.isfinite(gradient).all()
