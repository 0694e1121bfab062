"""Verification and identification: numbers typed by hand, scikit-learn's, and loops over everything."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxcv.data.dataset import Dataset
from jaxcv.data.sources.in_memory import InMemory
from jaxcv.errors import UserError
from jaxcv.metrics import few_shot, identification, recall_at, verification
from jaxcv.metrics.pair_scores import ScoredPairs, _all_pairs, scored_pairs
from jaxcv.metrics.roc import equal_error_rate, fold_accuracy, roc, verification_values
from jaxcv.metrics.verification import warn_of_collapse
from jaxcv.types import Embeddings, Picture, Similarities, Table


def pairs_of(scores, same):
    n = np.arange(len(same))
    return ScoredPairs(n, n, np.array(same, bool), np.array(scores, np.float32))


def embedded(vectors, label, parts=1):
    """Measured in so many batches."""
    vectors = np.asarray(vectors, np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    chunks = zip(np.array_split(vectors, parts), np.array_split(np.asarray(label), parts), strict=True)
    return [verification().measure(Embeddings(v), {"label": y}) for v, y in chunks]


def test_by_hand():
    """Two of one identity above one of two, and one below."""
    values = verification_values(pairs_of([0.9, 0.8, 0.7, 0.4, 0.3], [1, 1, 0, 1, 0]), listed=False)
    assert values["AUC"] == pytest.approx(5 / 6)
    # Nobody of two is accepted at 0.8, of one two of three; at 0.7 half, and two of three: the errors cross between.
    assert values["EER"] == pytest.approx(1 / 3)
    assert values["same"] == pytest.approx(0.7) and values["different"] == pytest.approx(0.5)
    assert all(np.isnan(values[f"TAR@FAR={rate}"]) for rate in ("0.1", "0.01", "0.001", "0.0001")), "two pairs are few"
    many = verification_values(pairs_of([*np.linspace(0, 1, 100), 0.955, 0.5], [0] * 100 + [1, 1]), listed=False)
    assert (many["TAR@FAR=0.1"], many["TAR@FAR=0.01"]) == (0.5, 0.0) and np.isnan(many["TAR@FAR=0.001"])


def test_perfect_and_undefined():
    values = verification_values(pairs_of([0.9, 0.1], [1, 0]), listed=True)
    assert (values["EER"], values["AUC"]) == (0.0, 1.0)
    worst = verification_values(pairs_of([0.1, 0.9], [1, 0]), listed=True)
    assert (worst["EER"], worst["AUC"]) == (1.0, 0.0)
    for pairs in (pairs_of([0.5], [1]), pairs_of([0.5], [0]), pairs_of([], []), pairs_of([0.5, np.nan], [0, 1])):
        assert np.isnan(verification_values(pairs, listed=False)["EER"])
    assert np.isnan(verification().reduce([])["EER"])
    assert not verification().larger_is_better and verification("AUC").larger_is_better
    with pytest.raises(UserError, match="no metric of verification named 'eer'"):
        verification("eer")


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=4, max_size=20), st.lists(st.booleans(), min_size=20, max_size=20))
def test_the_equal_error_rate_is_where_both_are_equal(scores, same):
    pairs = pairs_of(np.array(scores) / 6, same[: len(scores)])
    if pairs.same.all() or not pairs.same.any():
        return
    false, true, thresholds = roc(pairs)
    rate = equal_error_rate(false, true)
    both = []
    for threshold in thresholds:  # of every threshold, by counting
        accepted = pairs.score >= threshold
        both.append((accepted[~pairs.same].mean(), (~accepted[pairs.same]).mean()))
    assert min(max(f, r) for f, r in both) >= rate - 1e-9 >= max(min(f, r) for f, r in both) - 2e-9


def test_accuracy_in_ten_parts():
    """In each, the threshold of the other nine: a part that is shifted alone is judged by theirs."""
    score = np.tile([0.8, 0.2], 100)
    same = np.tile([True, False], 100)
    assert fold_accuracy(pairs_of(score, same), listed=True) == 1.0
    shifted = score.copy()
    shifted[:20] += 0.6  # the pairs of two at 0.8, of one at 1.4
    assert fold_accuracy(pairs_of(shifted, same), listed=True) == pytest.approx(0.95)


def test_all_pairs_of_all_batches_and_listed_ones():
    label = [0, 0, 1, 1, 2]
    vectors = np.random.default_rng(0).normal(size=(5, 3))
    pairs = scored_pairs(embedded(vectors, label, parts=2))
    assert list(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))[:4] == [(0, 1), (0, 2), (0, 3), (0, 4)]
    assert pairs.same.sum() == 2 and len(pairs.same) == 10
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(pairs.score, (unit @ unit.T)[pairs.first, pairs.second], rtol=1e-5)
    listed = scored_pairs(embedded(vectors, label, parts=1), listed=True)
    assert (listed.first.tolist(), listed.second.tolist()) == ([0, 2], [1, 3])
    assert listed.same.tolist() == [True, True]
    alike = np.array([[0, 0.5, 0.9], [0.7, 0, 0.1], [0.9, 0.1, 0]], np.float32)
    one = verification().measure(Similarities(alike), {"label": np.array([3, 3, 5])})
    np.testing.assert_allclose(scored_pairs([one, one]).score, [0.6, 0.9, 0.1] * 2, rtol=1e-6)


def test_large_sets_are_drawn_from(monkeypatch):
    monkeypatch.setattr("jaxcv.metrics.pair_scores._MOST", 40)
    label = np.repeat(np.arange(10), 3)
    first, second = _all_pairs(label)
    same = label[first] == label[second]
    assert same.sum() == 30 and 20 < (~same).sum() <= 40 and (first != second).all()


def test_identification_by_one_picture():
    """Two people on their own axes, and one whose second picture looks like the first of another."""
    vectors = [[1, 0, 0], [1, 0.1, 0], [0, 1, 0], [0, 1, 0.1], [0, 0, 1], [0.9, 0, 0.5]]
    label = [4, 4, 7, 7, 9, 9]
    values = identification().reduce(embedded(vectors, label, parts=3))
    assert values["rank5"] == 1.0
    # Enrolled first pictures: the query [0.9, 0, 0.5] is nearer to 4. Second ones: [0, 0, 1] is nearest to 9.
    assert values["rank1"] == pytest.approx((2 / 3 + 1) / 2)
    assert recall_at(1).reduce(embedded(vectors, label))["recall@1"] == pytest.approx(5 / 6)
    assert recall_at(5).reduce(embedded(vectors, label))["recall@5"] == 1.0
    assert np.isnan(identification().reduce([])["rank1"])
    assert np.isnan(identification().reduce(embedded(vectors[:2], [0, 1]))["rank1"]), "nobody has a second picture"
    assert np.isnan(identification("refused").reduce(embedded(vectors[:4], label[:4]))["refused"]), "nobody is left"
    with pytest.raises(UserError, match="similarities know only"):
        recall_at(1).reduce(
            [verification().measure(Similarities(np.eye(2, dtype=np.float32)), {"label": np.eye(2)[0]})]
        )


def test_strangers_are_refused_at_about_the_rate():
    random = np.random.default_rng(1)
    centres = random.normal(size=(40, 24))
    label = np.repeat(np.arange(40), 10)
    vectors = centres[label] + 0.4 * random.normal(size=(400, 24))
    values = identification("refused", false_accept_rate=0.1).reduce(embedded(vectors, label))
    assert values["refused"] == pytest.approx(0.9, abs=0.03) and values["recognized"] > 0.95


def test_few_shots():
    """Three classes by two pictures each, one query a class; the last one looks like the first class."""
    known = [[1, 0, 0], [1, 0.2, 0], [0, 1, 0], [0, 1, 0], [0, 0, 1], [0.2, 0, 1]]
    asked = [[1, 0.1, 0.1], [0.1, 1, 0], [1, 0, 0.1]]
    metric, label = few_shot(way=3, shot=2), np.array([5, 5, 2, 2, 8, 8, 5, 2, 8])
    vectors = np.asarray(known + asked, np.float32)
    assert metric.measure(Embeddings(vectors), {"label": label}) == pytest.approx(2 / 3)
    assert metric.measure(Similarities(vectors @ vectors.T), {"label": label}) == pytest.approx(2 / 3)
    values = metric.reduce([0.5, 1.0, 0.75, 0.75])
    assert values["accuracy"] == 0.75 and values["margin"] == pytest.approx(1.96 * np.std([2, 4, 3, 3], ddof=1) / 8)
    assert np.isnan(metric.reduce([])["accuracy"])


def test_the_report():
    random, label = np.random.default_rng(0), np.repeat(np.arange(4), 3)
    batches = embedded(random.normal(size=(4, 6))[label] + 0.5 * random.normal(size=(12, 6)), label, parts=3)
    images = np.broadcast_to(np.arange(12, dtype=np.uint8)[:, None, None] * 20, (12, 8, 8))
    shown = Dataset(InMemory("test", 8, 1, lambda: ("a", "b", "c", "d"), lambda: (images, label)), 8).batches(5)
    metric = verification()
    assert metric.report is not None
    items = metric.report(batches, shown)
    (rows,) = ({row[0]: row[1] for row in item.rows} for item in items if isinstance(item, Table))
    assert rows["pairs"] == "12 pairs of one identity, 54 of two" and rows["TAR@FAR=0.001"] is None
    pictures = {item.name: item.image for item in items if isinstance(item, Picture)}
    assert list(pictures) == ["roc", "confused", "map"] and pictures["confused"].height > 4 * 256
    again = [item.image for item in metric.report(batches, shown) if isinstance(item, Picture)]
    assert [image.tobytes() for image in pictures.values()] == [image.tobytes() for image in again]
    assert metric.report([], shown) == []


def test_a_collapse_is_warned_of():
    label = [0, 0, 1, 1]
    same = verification().reduce(embedded(np.ones((4, 3)), label))
    assert len(warn_of_collapse(same)) == 1 and "have collapsed" in warn_of_collapse(same)[0]
    assert warn_of_collapse(verification().reduce(embedded(np.eye(4), label))) == []
    assert warn_of_collapse(verification().reduce([])) == []
