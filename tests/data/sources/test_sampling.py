"""Sets joined, parts of them, and examples shown more or less often: functions of (seed, epoch, position)."""

from typing import Any

import jax
import numpy as np
import pytest
from small_sets import CocoSet, forget, noise, opened

from jaxcv.data import classification_data, detection_data, join
from jaxcv.data.dataset import Dataset
from jaxcv.data.sources.in_memory import InMemory
from jaxcv.data.sources.sampling import expected_times, present_classes
from jaxcv.errors import UserError

NAMES = ("a", "b", "c")


def pictures(counts, names=NAMES, start=0):
    """Every picture is of the grey of its number; `counts` of each class."""
    labels = np.repeat(np.arange(len(counts)), counts)
    grey = start + np.arange(len(labels), dtype=np.uint8)
    images = np.broadcast_to(grey[:, None, None], (len(labels), 8, 8))
    return Dataset(InMemory("train", 8, 1, lambda: names, lambda: (images, labels)), 8)


def epoch(batches, number=0):
    """The examples of one epoch, from batches of one."""
    return batches.indices(np.arange(len(batches)) + number * len(batches))[:, 0]


def shown(data, *, epochs=1, seed=0, **sampling):
    """How often each example is shown."""
    batches = data.batches(1, seed=seed, **sampling)
    return np.sum([np.bincount(epoch(batches, e), minlength=len(data)) for e in range(epochs)], 0)


def test_balanced_shows_every_class_equally_often():
    data = pictures((80, 15, 5))
    times = shown(data, sampling="balanced")
    assert times.sum() == 100
    counts = [times[:80].sum(), times[80:95].sum(), times[95:].sum()]
    assert max(counts) - min(counts) <= 1
    assert times[:80].max() == 1 and set(times[80:95].tolist()) <= {2, 3} and set(times[95:].tolist()) <= {6, 7}
    over = shown(data, epochs=30, sampling="balanced")
    assert over[:80].min() > 5, "examples of frequent classes take turns"


def test_repeat_factors_are_those_of_the_paper():
    data = pictures((80, 19, 1))
    times, _ = expected_times(data.source, "repeat_factor", 0.16, ())
    # max(1, sqrt(t / f)): f is 0.8, 0.19 and 0.01.
    np.testing.assert_allclose(times, np.repeat([1, 1, 4], (80, 19, 1)))
    assert shown(data, sampling="repeat_factor", rare=0.16).tolist() == [1] * 99 + [4]
    assert len(data.batches(10, seed=0, sampling="repeat_factor", rare=0.16)) == 11  # 103 examples
    assert shown(data, sampling="repeat_factor", rare=1e-9).tolist() == [1] * 100


def test_boxes_count_by_picture(tmp_path):
    train, _ = opened(CocoSet(tmp_path).data, by=detection_data)
    times, _ = expected_times(train.source, "balanced", 0.001, ())
    np.testing.assert_allclose(times, [2.25, 0.75, 0], err_msg="both classes, one of them, none")
    present = [set(), {0}, {0, 1}, {0}, {1, 2}]

    class Boxes:
        def __len__(self):
            return len(present)

        def class_names(self):
            return NAMES

        def spec(self):
            return {"image": jax.ShapeDtypeStruct((2, 2, 3), np.uint8), "classes": jax.ShapeDtypeStruct((4,), np.int32)}

        def check(self, *, thorough=False, progress=None):
            return []

        def read_image(self, path):
            raise NotImplementedError

        def read(self, indices):
            batch = {"classes": np.full((len(indices), 4), 2), "valid": np.zeros((len(indices), 4), np.bool_)}
            for row, i in enumerate(indices.tolist()):
                classes = sorted(present[i]) * 2
                batch["classes"][row, : len(classes)] = classes
                batch["valid"][row, : len(classes)] = True
            return batch

    examples, classes = present_classes(join(Dataset(Boxes(), 2), Dataset(Boxes(), 2).subset(np.array([4, 2]))).source)
    assert examples.tolist() == [1, 2, 2, 3, 4, 4, 5, 5, 6, 6] and classes.tolist() == [0, 0, 1, 0, 1, 2, 1, 2, 0, 1]
    times, rarest = expected_times(Boxes(), "balanced", 0.001, ())
    # Class 0 in 3 pictures, class 1 in 2, class 2 in 1: 1/3 + 1/2 of the third picture.
    np.testing.assert_allclose(times, np.array([0, 1 / 3, 1 / 3 + 1 / 2, 1 / 3, 1 / 2 + 1]) * 5 / 3)
    assert rarest.tolist() == [-1, 0, 1, 0, 2]
    times, _ = expected_times(Boxes(), "repeat_factor", 0.8, ())
    np.testing.assert_allclose(times, [1, np.sqrt(0.8 / 0.6), np.sqrt(2), np.sqrt(0.8 / 0.6), 2])


def test_an_order_depends_on_seed_epoch_and_position_alone():
    data = pictures((80, 15, 5))
    how: Any = {"sampling": "balanced"}
    one = np.concatenate([epoch(data.batches(1, seed=3, **how), e) for e in range(2)])
    batches = data.batches(8, seed=3, **how)
    np.testing.assert_array_equal(batches.indices(np.arange(25)).ravel(), one)  # across the end of an epoch
    np.testing.assert_array_equal(batches.indices(np.array([17]))[0], one[17 * 8 : 18 * 8])  # resumed
    left = iter(batches)
    left.set_state({"next_batch": 17, "examples": 100})
    np.testing.assert_array_equal(next(left)["image"][:, 0, 0, 0], one[17 * 8 : 18 * 8])  # streamed
    left.close()
    assert (one[:100] != one[100:]).any() and (epoch(data.batches(1, seed=4, **how)) != one[:100]).any()


def test_joined_sets_share_classes_by_name():
    first, second = pictures((2, 1, 0)), pictures((1, 0, 2), ("c", "x", "a"), start=100)
    data = join(first, second)
    assert data.class_names == ("a", "b", "c", "x") and len(data) == 6
    batch = data.batches(6).batch(0)
    assert batch["image"][:, 0, 0, 0].tolist() == [0, 1, 2, 100, 101, 102]
    assert batch["label"].tolist() == [0, 0, 1, 2, 0, 0] == data.source.labels().tolist()  # pyright: ignore[reportAttributeAccessIssue]
    assert batch["example_valid"].all()
    np.testing.assert_array_equal(data.batches(2).resident()["label"], batch["label"])
    assert sorted(epoch(data.batches(1, seed=0)).tolist()) == list(range(6))
    assert data.batches(2).digest() != join(second, first).batches(2).digest()


def test_shares_of_an_epoch():
    data = join(pictures((90,), ("a",)), pictures((10,), ("b",)), shares=(1, 3))
    times = shown(data)
    assert times[:90].sum() == 25 and times[:90].max() == 1 and times[90:].sum() == 75
    half: Any = data.subset(0.5)
    first = half.source.set_numbers() == 0
    assert 40 <= first.sum() < 50 and abs(shown(half)[first].sum() - 12.5) < 1, "a part has the shares of the whole"
    both = join(pictures((80, 10)), pictures((9, 1)), shares=(0.5, 0.5))
    times = shown(both, sampling="balanced")
    parts = [times[a:b].sum() for a, b in ((0, 80), (80, 90), (90, 99), (99, 100))]
    assert sum(parts[:2]) == 50 and sum(parts[2:]) == 50 and abs(parts[0] + parts[2] - 50) < 25
    assert data.batches(4).indices(np.arange(25)).ravel().tolist() == list(range(100)), "evaluation goes through all"


def test_parts_are_nested():
    data = pictures((80, 15, 5))
    small, large = (set(data.subset(part).batches(1).resident()["image"][:, 0, 0, 0].tolist()) for part in (10, 0.25))
    assert len(small) == 10 and len(large) == 25 and small < large
    assert len(data.subset(np.array([7, 3]))) == 2
    assert data.subset(np.array([7, 99])).batches(2).batch(0)["label"].tolist() == [0, 2]


def test_sets_named_in_one_text(tmp_path):
    for name, folder, side in (("cat", "A", 0), ("dog", "A", 0), ("cat", "B+C", 1), ("cow", "B+C", 1)):
        for split in ("train", "val"):
            for i in range(3):
                noise(tmp_path / folder / split / name / f"{side}{i}.png", size=(8, 8))
    forget()
    a, b = f"folder:{tmp_path}/A", f"folder:{tmp_path}/B+C"
    train, test = classification_data(f"{a}+{b}", image_size=8)
    assert train.class_names == test.class_names == ("cat", "dog", "cow")
    assert (len(train), len(test)) == (12, 12) and train.path == f"{tmp_path}/A + {tmp_path}/B+C"
    train, test = classification_data(f"0.2:{a}+.8:{b}@50%", image_size=8)
    assert (len(train), len(test)) == (9, 12) and train.shares == (0.2, 0.8)
    batches = train.batches(4, seed=0, min_area=0.5)
    assert batches.batch(0)["image"].shape == (4, 8, 8, 3)
    assert any("3 of 6" in line for line in batches.check()) and "sampling: an example" in batches.check()[-1]
    assert len(classification_data(f"{a}@2", image_size=8)[0]) == 2
    train, _ = classification_data(f"digits@10+{a}", image_size=8)
    assert train.batches(2).spec["image"].shape[-1] == 3 and train.class_names[:2] == ("0", "1")


def test_one_picture_is_shown_by_other_windows(tmp_path):
    for name, count in (("a", 3), ("b", 1)):
        for i in range(count):
            noise(tmp_path / name / f"{i}.png")
    train, _ = opened(f"folder:{tmp_path}", by=classification_data, image_size=8)
    batches = train.batches(1, seed=0, sampling="balanced", min_area=0.1)
    rows = batches.indices(np.arange(8))[:, 0]
    twice = np.flatnonzero(rows == np.bincount(rows).argmax())[:2]
    first, second = (batches.batch(int(i))["image"] for i in twice)
    assert (first != second).any()


@pytest.mark.parametrize(
    ("message", "make"),
    [
        ("needs a seed", lambda: pictures((2, 1)).batches(1, sampling="balanced")),
        ("rare=0", lambda: len(pictures((2, 1)).batches(1, seed=0, sampling="repeat_factor", rare=0.0))),
        ("shares", lambda: join(pictures((2, 1)), shares=(1, 2))),
        ("share of each set", lambda: classification_data("0.5:digits+digits")),
        ("a part of 9 of 3", lambda: len(pictures((2, 1)).subset(9))),
        ("cannot be joined", lambda: join(pictures((2, 1)), detection_data("digits")[0]).batches(1).spec),
    ],
    ids=["seed", "rare", "shares", "half shares", "part", "fields"],
)
def test_what_cannot_be_is_refused(message, make):
    with pytest.raises(UserError, match=message):
        make()
