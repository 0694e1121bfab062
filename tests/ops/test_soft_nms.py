import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcv.ops import batched_nms, box_iou, matrix_nms, nms, soft_nms

BOXES = jnp.asarray([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 5.0], [50.0, 50.0, 60.0, 60.0]])
SCORES = jnp.asarray([0.9, 0.8, 0.5])


def crowd(seed, n):
    random = np.random.default_rng(seed)
    corners, sides = random.uniform(0, 60, (n, 2)), random.uniform(0, 40, (n, 2))
    boxes = np.concatenate([corners, corners + sides], -1).astype(np.float32)
    return boxes, random.uniform(size=n).astype(np.float32), random.integers(0, 3, n)


def overlaps(boxes, classes):
    iou = np.asarray(box_iou(jnp.asarray(boxes), jnp.asarray(boxes)), np.float64)
    return np.where(classes[:, None] == classes[None], iou, 0)


def slow_soft(boxes, scores, classes, method, sigma, iou_threshold, score_threshold):
    iou, left, kept = overlaps(boxes, classes), scores.astype(np.float64), []
    while left.max() > score_threshold:
        best = int(left.argmax())
        kept.append((best, left[best]))
        u = iou[best]
        left = left * (np.exp(-(u**2) / sigma) if method == "gaussian" else np.where(u > iou_threshold, 1 - u, 1))
        left[best] = -1
    return kept


def slow_matrix(boxes, scores, classes, method, sigma, score_threshold):
    def f(u):
        return np.exp(-sigma * u**2) if method == "gaussian" else 1 - u

    order = np.argsort(-scores, kind="stable")
    iou = overlaps(boxes[order], classes[order])
    lowered = []
    for j in range(len(order)):
        factors = [f(iou[i, j]) / f(max([iou[h, i] for h in range(i)], default=0.0)) for i in range(j)]
        lowered.append((int(order[j]), scores[order[j]] * min([1.0, *factors])))
    return sorted([x for x in lowered if x[1] > score_threshold], key=lambda x: (-x[1], x[0]))


def test_by_hand():
    """The second box has an IoU of one half with the first, the third none."""
    index, scores, valid = soft_nms(BOXES, SCORES, sigma=0.5, max_outputs=4)
    assert index.tolist() == [0, 2, 1, 0] and valid.tolist() == [True, True, True, False]
    np.testing.assert_allclose(scores, [0.9, 0.5, 0.8 * np.exp(-0.25 / 0.5), 0], rtol=1e-5)
    index, scores, _ = soft_nms(BOXES, SCORES, method="linear")
    np.testing.assert_allclose(scores, [0.9, 0.5, 0.4], rtol=1e-5)
    assert soft_nms(BOXES, SCORES, method="linear", iou_threshold=0.6)[0].tolist() == [0, 1, 2]
    index, scores, _ = matrix_nms(BOXES, SCORES, method="linear")
    assert index.tolist() == [0, 2, 1]
    np.testing.assert_allclose(scores, [0.9, 0.5, 0.4], rtol=1e-5)
    # In classes of their own nothing is lowered.
    for op in (soft_nms, matrix_nms):
        assert op(BOXES, SCORES, classes=jnp.arange(3))[1].tolist() == SCORES.tolist()


@pytest.mark.parametrize("method", ["linear", "gaussian"])
@pytest.mark.parametrize("n", [20, 300])
def test_agree_with_the_definition(n, method):
    boxes, scores, classes = crowd(n, n)
    arrays = jnp.asarray(boxes), jnp.asarray(scores)
    found = soft_nms(*arrays, classes=jnp.asarray(classes), method=method, score_threshold=0.05)
    expected = slow_soft(boxes, scores, classes, method, 0.5, 0.3, 0.05)
    count = int(found[2].sum())
    assert found[0][:count].tolist() == [i for i, _ in expected]
    np.testing.assert_allclose(found[1][:count], [s for _, s in expected], rtol=1e-4)
    few = soft_nms(*arrays, classes=jnp.asarray(classes), method=method, score_threshold=0.05, max_outputs=5)
    assert few[0].tolist() == [i for i, _ in expected[:5]]

    found = matrix_nms(*arrays, classes=jnp.asarray(classes), method=method)
    expected = slow_matrix(boxes, scores, classes, method, 2.0, 0.05)
    count = int(found[2].sum())
    assert count == len(expected) > 3
    np.testing.assert_allclose(found[1][:count], [s for _, s in expected], rtol=2e-4)
    assert found[0][:count].tolist() == [i for i, _ in expected]


@pytest.mark.parametrize("op", [soft_nms, matrix_nms])
def test_scores_have_their_gradient(op):
    """Of the lowered score in the box's own: the factor; boxes that are not kept have none."""
    boxes, scores, _ = crowd(1, 30)

    def total(scores):
        index, lowered, valid = op(jnp.asarray(boxes), scores, score_threshold=0.2)
        return lowered.sum(), (index, lowered, valid)

    gradient, (index, lowered, valid) = jax.grad(total, has_aux=True)(jnp.asarray(scores))
    index, lowered = np.asarray(index)[valid], np.asarray(lowered)[valid]
    expected = np.zeros(30)
    expected[index] = lowered / scores[index]
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-6)
    assert 2 < len(index) < 30


def test_of_the_greedy_one_too():
    boxes, scores, _ = crowd(2, 20)
    gradient = jax.grad(lambda s: (lambda i, v: jnp.where(v, s[i], 0.0).sum())(*nms(jnp.asarray(boxes), s)))(
        jnp.asarray(scores)
    )
    index, valid = nms(jnp.asarray(boxes), jnp.asarray(scores))
    assert np.flatnonzero(gradient).tolist() == sorted(np.asarray(index)[valid].tolist())


@pytest.mark.parametrize("op", [soft_nms, matrix_nms])
def test_odd_input(op):
    for length in (0, 3):
        index, scores, valid = op(jnp.zeros((0, 4)), jnp.zeros(0), max_outputs=length)
        assert index.shape == scores.shape == valid.shape == (length,) and not valid.any()
    index, scores, valid = op(jnp.tile(BOXES[:1], (4, 1)), jnp.asarray([0.5, jnp.nan, 0.9, 0.0]), max_outputs=6)
    assert index[0] == 2 and scores[0] == 0.9 and not np.isin([1, 3], np.asarray(index)[valid]).any()
    assert np.isfinite(scores).all()
    # Empty boxes overlap nothing.
    assert op(jnp.zeros((3, 4)), SCORES)[2].all()
    assert not op(BOXES, jnp.zeros(3))[2].any()


@pytest.mark.parametrize("op", [nms, batched_nms, soft_nms, matrix_nms])
def test_memory_grows_no_faster_than_the_boxes(op):
    def temporary(n):
        rest = [jnp.zeros(n, jnp.int32)] if op is batched_nms else []
        lowered = jax.jit(lambda *arrays: op(*arrays)).lower(jnp.zeros((n, 4)), jnp.zeros(n), *rest)
        memory = lowered.compile().memory_analysis()
        assert memory is not None
        return memory.temp_size_in_bytes

    assert temporary(16_000) < 4.5 * temporary(4_000)


def test_distance_criterion():
    """One half of IoU, less 2.5² / (10² + 10²) for centres 2.5 apart."""
    value = 0.5 - 6.25 / 200
    for limit, kept in ((value + 1e-3, 3), (value - 1e-3, 2)):
        assert nms(BOXES, SCORES, iou_threshold=limit, criterion="diou")[1].sum() == kept
    assert nms(BOXES, SCORES, iou_threshold=0.49)[1].sum() == 2
    # Boxes on one point are as far apart as nothing from nothing: they stay.
    assert nms(jnp.zeros((3, 4)), SCORES, criterion="diou")[1].all()
