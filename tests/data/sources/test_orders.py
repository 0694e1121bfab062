"""Orders in which identities meet: what each batch holds, and that it is a function of (seed, epoch, position)."""

import numpy as np
import pytest

from jaxcv.data import embedding_data
from jaxcv.data.dataset import Dataset
from jaxcv.data.sources.in_memory import InMemory
from jaxcv.data.sources.orders import Episodes, Members, epoch_rows
from jaxcv.errors import UserError
from jaxcv.types import ResidentBatches

LABELS = np.repeat([2, 0, 5, 7, 1], [6, 4, 3, 1, 6])
NAMES = ("x/a", "x/b", "y/a", "", "", "y/b", "", "y/c")


def pictures(labels=LABELS, names=NAMES):
    """Every picture is of the grey of its number."""
    images = np.broadcast_to(np.arange(len(labels), dtype=np.uint8)[:, None, None], (len(labels), 8, 8))
    return Dataset(InMemory("train", 8, 1, lambda: names, lambda: (images, labels)), 8, path="SET")


def test_batches_of_identities():
    data = pictures()
    batches = data.identity_batches(9, pictures=3, seed=0)
    assert isinstance(batches, ResidentBatches) and len(batches) == 3
    seen = []
    for number in range(12):
        batch = batches.batch(number)
        label = batch["label"].reshape(3, 3)
        assert (label == label[:, :1]).all() and len(set(label[:, 0].tolist())) == 3
        seen += label[:, 0].tolist()
        np.testing.assert_array_equal(LABELS[batch["image"][:, 0, 0, 0]], batch["label"])
        rows = batches.indices(np.array([number]))[0]
        np.testing.assert_array_equal(rows, batch["image"][:, 0, 0, 0])
        for row, whose in zip(rows.reshape(3, 3), label[:, 0], strict=True):
            assert len(set(row.tolist())) == min(3, (LABELS == whose).sum()), "none twice while there are others"
    counts = np.bincount(seen, minlength=8)[[0, 1, 2, 5, 7]]
    assert counts.min() >= 5 and counts.max() <= 9, "everybody has a turn before others have two"


def test_the_position_says_everything():
    """Not what was read before; another seed gives another order."""
    one, two = (pictures().identity_batches(8, pictures=2, seed=5) for _ in range(2))
    later = one.batch(10)["image"]
    iterator = iter(two)
    for _ in range(10):
        next(iterator)
    np.testing.assert_array_equal(later, next(iterator)["image"])
    other = pictures().identity_batches(8, pictures=2, seed=6)
    assert (other.indices(np.arange(4)) != one.indices(np.arange(4))).any()
    assert (one.indices(np.arange(3)) != one.indices(np.arange(3, 6))).any(), "epochs differ"


def test_identities_of_one_group():
    batches = pictures().identity_batches(4, pictures=2, grouped=True, seed=0)
    for number in range(8):
        groups = {NAMES[label].split("/")[0] for label in batches.batch(number)["label"].tolist()}
        assert len(groups) == 1


@pytest.mark.parametrize("size", [2, 3])
def test_pairs_and_triplets(size):
    data = pictures()
    batches = (data.pair_batches if size == 2 else data.triplet_batches)(6 * size, seed=1)
    anchors = []
    for number in range(2 * len(batches)):
        rows = batches.indices(np.array([number]))[0].reshape(-1, size)
        label = LABELS[rows]
        anchors += rows[:, 0].tolist()
        if size == 3:
            assert (label[:, 0] == label[:, 1]).all() and (label[:, 0] != label[:, 2]).all()
            assert (rows[:, 0] != rows[:, 1]).all()
        else:
            assert (label[:, 0] == label[:, 1]).tolist() == [True, False] * 3
            assert (rows[:, 0] != rows[:, 1]).all()
    assert set(anchors) <= set(range(20)) - {13}, "the one who is alone has no positive"


def test_episodes():
    batches = pictures().episode_batches(way=2, shot=2, queries=1, count=6)
    assert len(batches) == 6 and batches.spec["image"].shape[0] == 6
    groups = set()
    for number in range(6):
        batch = batches.batch(number)
        label = batch["label"]
        assert label[0] == label[1] == label[4] and label[2] == label[3] == label[5] and label[0] != label[2]
        assert len(set(batch["image"][:, 0, 0, 0].tolist())) == 6
        groups.add(frozenset(NAMES[i].split("/")[0] for i in label.tolist()))
    assert groups == {frozenset({"x"}), frozenset({"y"})}, "of one group each, and all groups"
    np.testing.assert_array_equal(batches.batch(3)["image"], batches.batch(3)["image"])


def test_the_hands_of_an_episode():
    """All that the classes are known by is by one hand, the queries by another."""
    labels, hands = np.repeat(np.arange(5), 4), np.tile([7, 1, 9, 3], 5)
    order = Episodes(lambda: Members(labels), 3, 1, 1, 10, lambda: hands)
    for rows in epoch_rows(order, 10, seed=0, epoch=0):
        known, asked = set(hands[rows[:3]].tolist()), set(hands[rows[3:]].tolist())
        assert len(known) == len(asked) == 1 and known != asked


def test_what_cannot_be():
    data = pictures()
    for fault, make in {
        "batch_size=10 with 4 pictures of each identity: expected a multiple of that, at least 8": lambda: (
            data.identity_batches(10, seed=0)
        ),
        "batch_size=4 with 4": lambda: data.identity_batches(4, seed=0),
        "a batch of 6 identities: the set has 5": lambda: data.identity_batches(12, pictures=2, seed=0).check(),
        "batch_size=8: expected a multiple of 3": lambda: data.triplet_batches(8, seed=0),
        "SET: x/a is the only identity": lambda: pictures(np.zeros(4, int)).pair_batches(4, seed=0).check(),
        "two pictures of one of them": lambda: pictures(np.arange(4)).pair_batches(4, seed=0).check(),
        "take fewer, way=N": lambda: data.episode_batches(way=4, shot=1).check(),
        "way=0, shot=1": lambda: data.episode_batches(way=0, shot=1),
    }.items():
        with pytest.raises(UserError, match=fault) as caught:
            make()
        assert "\n" not in str(caught.value)


def test_digits_as_identities():
    def identities(**options):
        splits = embedding_data("digits", **options)
        return [set(split.batches(len(split)).batch(0)["label"].tolist()) for split in splits]

    assert identities() == [set(range(7)), {7, 8, 9}]
    assert identities(unseen="2") == [set(range(8)), {8, 9}]
    with pytest.raises(UserError, match="unseen='ten': expected a number of digits, from 1 to 9"):
        embedding_data("digits", unseen="ten")
