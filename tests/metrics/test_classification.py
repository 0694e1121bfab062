import numpy as np
import pytest
from sklearn.metrics import top_k_accuracy_score

from jaxcv.metrics import accuracy, top_k_accuracy
from jaxcv.types import Classes


def over(metric, scores, label, parts=1):
    scores, label = np.asarray(scores, np.float32), np.asarray(label)
    batches = zip(np.array_split(scores, parts), np.array_split(label, parts), strict=True)
    measured = [metric.measure(Classes(s.argmax(-1), s), {"label": t}) for s, t in batches]
    return metric.reduce(measured)[metric.pick]


def test_by_hand():
    scores = [[0.5, 0.3, 0.2], [0.1, 0.2, 0.7], [0.4, 0.35, 0.25], [0.2, 0.5, 0.3]]
    assert over(accuracy(), scores, [0, 2, 1, 0]) == 0.5
    assert over(top_k_accuracy(2), scores, [0, 2, 1, 0]) == 0.75
    assert over(top_k_accuracy(3), scores, [0, 2, 1, 0]) == 1.0
    assert type(over(accuracy(), scores, [0, 2, 1, 0])) is float


def test_among_equals_the_lower_index_goes_first():
    assert over(accuracy(), [[0.4, 0.4, 0.2]] * 2, [0, 1]) == 0.5


def test_nan_is_never_right():
    nan = [[np.nan] * 3] * 3
    assert over(accuracy(), nan, [0, 1, 2]) == 0 and over(top_k_accuracy(3), nan, [0, 1, 2]) == 0
    assert over(accuracy(), [[np.nan, 0.9, 0.1]], [1]) == 0


def test_more_places_than_classes():
    assert over(top_k_accuracy(5), [[0.5, 0.3, 0.2], [0.1, 0.2, 0.7], [np.nan] * 3], [2, 0, 1]) == pytest.approx(2 / 3)
    assert over(top_k_accuracy(5), [[1.0]] * 4, [0] * 4) == over(accuracy(), [[1.0]] * 4, [0] * 4) == 1.0


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("parts", [1, 7])
def test_agrees_with_sklearn_whatever_the_batches(k, parts):
    random = np.random.default_rng(0)
    scores, label = random.random((50, 6)), random.integers(0, 6, 50)
    expected = top_k_accuracy_score(label, scores, k=k, labels=range(6))
    assert over(top_k_accuracy(k), scores, label, parts) == pytest.approx(expected)


def test_a_set_without_examples_has_no_accuracy():
    assert np.isnan(accuracy().reduce([])["accuracy"])


def test_equal_metrics_share_their_work():
    assert accuracy() == top_k_accuracy(1) and top_k_accuracy(5) == top_k_accuracy(5)
    assert accuracy().measure == top_k_accuracy(5).measure and accuracy().reduce != top_k_accuracy(5).reduce
    with pytest.raises(ValueError, match="k >= 1, not 0"):
        top_k_accuracy(0)
