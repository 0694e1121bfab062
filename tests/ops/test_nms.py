import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from jaxcv.ops import batched_nms, nms

few = hypothesis.settings(max_examples=25, deadline=None, derandomize=True)
pytestmark = pytest.mark.usefixtures("form")


def slow_nms(boxes, scores, classes=None, *, iou_threshold=0.5, score_threshold=-np.inf):
    """The definition, one pair at a time."""
    boxes, scores = np.asarray(boxes, np.float64), np.asarray(scores)
    classes = np.zeros(len(boxes)) if classes is None else np.asarray(classes)
    kept = []
    for i in sorted(np.flatnonzero(scores > score_threshold), key=lambda i: (-scores[i], i)):
        if all(classes[i] != classes[j] or overlap(boxes[i], boxes[j]) <= iou_threshold for j in kept):
            kept.append(int(i))
    return kept


def overlap(a, b):
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(width, 0) * max(height, 0)
    either = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both
    return both / either if either else 0.0


def kept(result):
    indices, valid = np.asarray(result[0]), np.asarray(result[1])
    assert (np.sort(valid)[::-1] == valid).all() and (indices[~valid] == 0).all()
    return indices[valid].tolist()


def crowd(seed, n, k=4):
    random = np.random.default_rng(seed)
    corners, sides = random.integers(0, 60, (n, 2)), random.integers(0, 40, (n, 2))
    boxes = jnp.asarray(np.concatenate([corners, corners + sides], -1), jnp.float32)
    scores = jnp.asarray(random.integers(0, n, n) / n, jnp.float32)
    return boxes, scores, jnp.asarray(random.integers(-1, k - 1, n), jnp.int32)


def test_by_hand():
    boxes = jnp.asarray([[0.0, 0.0, 10.0, 10.0], [1.0, 0.0, 11.0, 10.0], [20.0, 20.0, 30.0, 30.0]])
    scores = jnp.asarray([0.6, 0.9, 0.8])
    indices, valid = nms(boxes, scores, iou_threshold=0.5, score_threshold=0.1, max_outputs=4)
    assert indices.tolist() == [1, 2, 0, 0] and valid.tolist() == [True, True, False, False]
    assert kept(nms(boxes, scores, iou_threshold=9 / 11 + 1e-4)) == [1, 2, 0]
    assert kept(nms(boxes, scores, score_threshold=0.8)) == [1]
    assert kept(batched_nms(boxes, scores, jnp.asarray([0, 1, 0]))) == [1, 2, 0]


def test_course_example():
    """Drop p_c <= 0.6, then per object keep the largest: two cars of three and two boxes."""
    boxes = jnp.asarray([[0, 0, 10, 10], [1, 1, 11, 11], [0, 1, 10, 11], [30, 0, 40, 10], [30, 1, 40, 11]], jnp.float32)
    scores = jnp.asarray([0.7, 0.9, 0.65, 0.8, 0.6])
    assert kept(nms(boxes, scores, iou_threshold=0.5, score_threshold=0.6)) == [1, 3]


def test_the_iou_must_exceed_and_the_score_too():
    boxes = jnp.asarray([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 5.0]])
    assert kept(nms(boxes, jnp.asarray([0.9, 0.8]), iou_threshold=0.5)) == [0, 1]
    assert kept(nms(boxes, jnp.asarray([0.9, 0.5]), iou_threshold=0.5, score_threshold=0.5)) == [0]


def test_suppressed_boxes_suppress_nothing():
    boxes = jnp.asarray([[0.0, 0.0, 10.0, 10.0], [4.0, 0.0, 14.0, 10.0], [8.0, 0.0, 18.0, 10.0]])
    assert kept(nms(boxes, jnp.asarray([0.9, 0.8, 0.7]), iou_threshold=0.4)) == [0, 2]


def test_odd_scores():
    boxes = jnp.asarray([[0.0, i * 20, 10.0, i * 20 + 10] for i in range(5)])
    scores = jnp.asarray([np.nan, -np.inf, -3.0, np.inf, -3.0])
    assert kept(nms(boxes, scores)) == [3, 2, 4]
    assert kept(batched_nms(boxes, scores, jnp.zeros(5, jnp.int32))) == [3, 2, 4]


def test_classes_far_apart_cost_no_precision():
    """The offset trick would shift class 10,000 by 10⁸ pixels, where float32 counts in eights."""
    boxes = jnp.asarray([[0, 0, 4, 4], [3, 0, 7, 4], [9e3, 9e3, 1e4, 1e4]], jnp.float32)
    classes = jnp.asarray([10_000, 10_000, 0])
    assert kept(batched_nms(boxes, jnp.asarray([0.9, 0.8, 0.7]), classes)) == [0, 1, 2]


@pytest.mark.parametrize("n", [1, 5])
def test_identical_boxes_and_degenerate_boxes(n):
    assert kept(nms(jnp.tile(jnp.asarray([[1.0, 1.0, 5.0, 5.0]]), (n, 1)), jnp.ones(n))) == [0]
    # Empty boxes overlap nothing, not even themselves.
    assert kept(nms(jnp.zeros((n, 4)), jnp.ones(n))) == list(range(n))


def test_nothing_to_choose_from():
    for length in (0, 3):
        indices, valid = nms(jnp.zeros((0, 4)), jnp.zeros(0), max_outputs=length)
        assert indices.shape == valid.shape == (length,) and not valid.any()
    assert kept(nms(jnp.ones((3, 4)), jnp.full(3, jnp.nan))) == []


@few
@hypothesis.given(
    st.integers(0, 10_000), st.sampled_from([0.0, 0.3, 0.5, 1.0]), st.sampled_from([-np.inf, 0.0, 0.4]), st.booleans()
)
def test_agrees_with_the_definition(seed, iou_threshold, score_threshold, by_class):
    boxes, scores, classes = crowd(seed, 12)
    options = {"iou_threshold": iou_threshold, "score_threshold": score_threshold}
    if by_class:
        found = kept(batched_nms(boxes, scores, classes, **options))
        assert found == slow_nms(boxes, scores, classes, **options)
    else:
        assert kept(nms(boxes, scores, **options)) == slow_nms(boxes, scores, **options)
        assert kept(nms(boxes, scores, **options, max_outputs=3)) == slow_nms(boxes, scores, **options)[:3]


@pytest.mark.parametrize("iou_threshold", [0.1, 0.7])
def test_many_boxes_agree_with_the_definition(iou_threshold):
    n = 300  # more than one block
    boxes, scores, classes = crowd(n, n)
    options = {"iou_threshold": iou_threshold, "score_threshold": 0.1}
    assert kept(nms(boxes, scores, **options)) == slow_nms(boxes, scores, **options)
    whole = slow_nms(boxes, scores, classes, **options)
    assert kept(batched_nms(boxes, scores, classes, **options)) == whole
    assert kept(batched_nms(boxes, scores, classes, **options, max_outputs=20)) == whole[:20]
    assert kept(batched_nms(boxes, scores, classes, **options, max_outputs=n + 5)) == whole


def test_more_kept_boxes_than_fit_one_look():
    """Half of the boxes lie apart, the other half on top of them."""
    n = 700
    corners = np.arange(n // 2)[:, None] * 20.0
    apart = np.concatenate([corners, corners, corners + 10, corners + 10], -1)
    boxes = jnp.asarray(np.concatenate([apart, apart + 1]), jnp.float32)
    scores = jnp.asarray(1 - np.arange(n) / n, jnp.float32)
    assert kept(nms(boxes, scores)) == list(range(n // 2))
    assert kept(nms(boxes, scores, iou_threshold=0.7)) == list(range(n))
    other = jnp.asarray(np.arange(n) < 400, jnp.int32)  # on top of another class nothing is dropped
    assert kept(batched_nms(boxes, scores, other)) == [*range(n // 2), *range(400, n)]


def test_a_chain():
    """Each box overlaps the next alone, so that the fate of the last hangs on the first."""
    n = 300
    x = np.arange(n) * 4.0
    boxes = jnp.asarray(np.stack([x, 0 * x, x + 10, 0 * x + 10], -1), jnp.float32)
    scores = jnp.asarray(1 - np.arange(n) / n, jnp.float32)
    assert kept(nms(boxes, scores, iou_threshold=0.3)) == list(range(0, n, 2))


def test_thresholds_that_are_the_overlap_of_some_pair():
    """Whether a box goes then hangs on the last digit: one rounding for each operation, as in torchvision."""
    n, random = 300, np.random.default_rng(3)
    corners, sides = random.uniform(0, 90, (n, 2)), random.uniform(10, 40, (n, 2))
    boxes = np.concatenate([corners, corners + sides], -1).astype(np.float32)
    scores = (random.permutation(n) / n).astype(np.float32)
    x1, y1, x2, y2 = boxes.T
    areas, zero = (x2 - x1) * (y2 - y1), np.float32(0)
    width = np.maximum(np.minimum(x2[:, None], x2) - np.maximum(x1[:, None], x1), zero)
    height = np.maximum(np.minimum(y2[:, None], y2) - np.maximum(y1[:, None], y1), zero)
    iou = width * height / (areas[:, None] + areas - width * height)
    assert iou.dtype == np.float32
    overlaps = iou[np.argsort(-scores)[:4]]  # with the best, so that others' fates hang on them
    changes = 0
    for threshold in overlaps[(overlaps > 0.1) & (overlaps < 0.9)]:
        expected = {}
        for limit in (threshold, np.nextafter(threshold, zero)):
            left = np.argsort(-scores)
            expected[limit] = []
            while len(left):
                expected[limit].append(int(left[0]))
                left = left[1:][~(iou[left[0], left[1:]] > limit)]
            assert kept(nms(jnp.asarray(boxes), jnp.asarray(scores), iou_threshold=float(limit))) == expected[limit]
        changes += len({str(x) for x in expected.values()}) == 2
    assert changes > 30


@pytest.mark.parametrize(("n", "length"), [(12, 4), (300, 300), (300, 20)])
def test_vmap_is_a_loop(n, length):
    boxes, scores, classes = (jnp.stack(field) for field in zip(*(crowd(i, n) for i in range(3)), strict=True))
    together = jax.vmap(lambda *row: batched_nms(*row, max_outputs=length))(boxes, scores, classes)
    for i in range(3):
        alone = batched_nms(boxes[i], scores[i], classes[i], max_outputs=length)
        np.testing.assert_array_equal(together[0][i], alone[0])
        np.testing.assert_array_equal(together[1][i], alone[1])


@pytest.mark.parametrize("n", [12, 300])
def test_thresholds_may_be_traced(n):
    boxes, scores, _ = crowd(1, n)
    traces = []

    @jax.jit
    def traced(iou_threshold, score_threshold):
        traces.append(1)
        return nms(boxes, scores, iou_threshold=iou_threshold, score_threshold=score_threshold)

    for iou_threshold, score_threshold in ((0.3, 0.2), (0.6, 0.0)):
        expected = nms(boxes, scores, iou_threshold=iou_threshold, score_threshold=score_threshold)
        np.testing.assert_array_equal(traced(iou_threshold, score_threshold)[0], expected[0])
    assert len(traces) == 1


@pytest.mark.parametrize("n", [12, 300])
def test_gradients_pass_by(n):
    boxes, scores, _ = crowd(2, n)

    def best_three(boxes, scores):
        index, valid = nms(boxes, scores, max_outputs=n)
        return jnp.where(valid, scores[index], 0.0).sum() + jnp.where(valid[:, None], boxes[index], 0.0).sum()

    by_boxes, by_scores = jax.grad(best_three, argnums=(0, 1))(boxes, scores)
    assert by_scores.sum() == len(slow_nms(boxes, scores)) and by_boxes.sum() == 4 * by_scores.sum()
