import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcv.models.cells import Cells


def test_cells_by_hand():
    """Two cells, three times as sure of the right one: their middles' mean is x (0.25 + 3 * 0.75) / 4."""
    kernel = np.zeros((1, 1, 1, 6), np.float32)
    kernel[0, 0, 0, 0] = 1  # o is the input; the answers are the bias alone
    bias = np.array([0, 0.1, 0.2, -0.1, 0, 7], np.float32)
    params = {"params": {"answers": {"kernel": jnp.asarray(kernel), "bias": jnp.asarray(bias)}}}
    x = jnp.log(jnp.asarray([1.0, 3.0])).reshape(1, 1, 2, 1)
    score, answer, sure = jax.jit(Cells(1, points=2).apply)(params, x)
    np.testing.assert_allclose(score, [np.log(4)], rtol=1e-6)
    np.testing.assert_allclose(answer, [[0.625 + 0.1, 0.5 + 0.2, 0.625 - 0.1, 0.5, 7]], rtol=1e-6)
    np.testing.assert_allclose(sure, x[..., 0])


@pytest.mark.parametrize("size", [(6, 6), (3, 5)])
def test_cells_start_in_the_middle_undecided_and_at_what_was_asked(size):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(4, *size, 8)), jnp.float32)
    cells = Cells(2, start=(0.5, 0.25))
    (score, answer, _), _ = jax.jit(lambda: cells.init_with_output(jax.random.key(0), x))()
    np.testing.assert_allclose(score, np.zeros(4), atol=0.1)
    np.testing.assert_allclose(answer, np.tile([0.5, 0.5, 0.5, 0.25], (4, 1)), atol=0.1)


def test_answers_move_with_what_is_seen():
    """What is seen two cells to the right and one down is answered 2/w to the right and 1/h down."""
    patch = np.random.default_rng(0).normal(size=(2, 2, 4)).astype(np.float32)
    maps = np.zeros((2, 6, 8, 4), np.float32)
    maps[0, 1:3, 2:4], maps[1, 2:4, 4:6] = patch, patch
    cells = Cells(3, points=2)
    params = cells.init(jax.random.key(0), jnp.asarray(maps))
    far = jax.tree.map(lambda p: 300 * p, params)  # sure of one cell
    far["params"]["answers"]["bias"] = jnp.zeros(8)
    answer = np.asarray(jax.jit(lambda: cells.apply(far, jnp.asarray(maps)))()[1])
    np.testing.assert_allclose(answer[1] - answer[0], [2 / 8, 1 / 6, 2 / 8, 1 / 6, 0, 0, 0], atol=1e-3)
