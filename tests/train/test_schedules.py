import jax
import numpy as np
import optax
import pytest

from jaxcv.train import schedules


@pytest.mark.parametrize(("warmup", "total", "end"), [(10, 100, 0.0), (1, 7, 0.1), (25, 26, 0.0)])
def test_warmup_cosine_equals_optax(warmup, total, end):
    ours = schedules.warmup_cosine(0.3, warmup_steps=warmup, total_steps=total, end=end)
    theirs = optax.warmup_cosine_decay_schedule(0.0, 0.3, warmup, total, end_value=end)
    steps = np.arange(total + 5)
    with jax.numpy_dtype_promotion("standard"):
        wanted = np.array([theirs(s) for s in steps])
    np.testing.assert_allclose(np.array([ours(s) for s in steps]), wanted, rtol=1e-5, atol=1e-7)


def test_peak_may_be_traced_and_differentiated():
    def rate(peak):
        return schedules.warmup_cosine(peak, warmup_steps=5, total_steps=10)(5)

    assert jax.jit(rate)(0.7) == pytest.approx(0.7)
    assert jax.grad(rate)(0.7) == pytest.approx(1.0)


def test_without_warmup_it_starts_at_the_peak():
    assert schedules.warmup_cosine(0.5, warmup_steps=0, total_steps=10)(0) == pytest.approx(0.5)
