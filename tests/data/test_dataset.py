"""Order, position and padding, on a source whose example `i` is the number `i`."""

import gc
import json
import subprocess
import sys
import threading
import time

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_sets import CocoSet, opened

from jaxcv.data import batches as batches_module
from jaxcv.data import segmentation_data
from jaxcv.data.dataset import Dataset
from jaxcv.data.sources.sampling import epoch_order
from jaxcv.errors import DataError, UserError
from jaxcv.types import Batches, BatchIterator, Placement, ResidentBatches


class Numbers:
    def __init__(self, count, fault=None):
        self.count, self.fault, self.reads = count, fault, 0

    def __len__(self):
        return self.count

    def class_names(self):
        return ("zero", "one")

    def spec(self):
        return {"label": jax.ShapeDtypeStruct((), np.int32), "image": jax.ShapeDtypeStruct((2, 2, 1), np.uint8)}

    def read(self, indices):
        self.reads += 1
        if self.fault is not None and self.fault in indices:
            raise DataError("image is truncated", file="cells/7.jpg", line=3)
        return {
            "label": indices.astype(np.int32),
            "image": np.broadcast_to(
                (indices % 251 + 1).astype(np.uint8)[:, None, None, None], (len(indices), 2, 2, 1)
            ),
        }

    def box_sizes(self):
        return np.array([[2, 2], [2, 2], [8, 4], [8, 4]], np.float32)

    def check(self, *, thorough=False, progress=None):
        return [f"{self.count} numbers"]

    def read_image(self, path):
        return np.zeros((2, 2, 1), np.uint8), Placement((2, 2))


def numbers(count, batch_size, *, fault=None, **options):
    return Dataset(Numbers(count, fault), 2).batches(batch_size, **options)


def take(iterator, count):
    return [next(iterator) for _ in range(count)]


def labels(batches):
    return [batch["label"].tolist() for batch in batches]


def assert_same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == b[name].dtype
        np.testing.assert_array_equal(a[name], b[name])


def test_protocols():
    batches = numbers(5, 2, seed=0)
    iterator = iter(batches)
    assert isinstance(batches, Batches) and isinstance(iterator, BatchIterator)
    assert isinstance(batches, ResidentBatches)
    assert batches.class_names == ("zero", "one") and Dataset(Numbers(5), 2).num_classes == 2
    assert batches.check(thorough=True) == ["5 numbers"] == Dataset(Numbers(5), 2).describe()


def test_one_pass_in_order_with_padding():
    batches = numbers(5, 2)
    assert len(batches) == 3
    passed = list(batches)
    assert labels(passed) == [[0, 1], [2, 3], [4, 0]]
    assert [b["example_valid"].tolist() for b in passed] == [[True, True], [True, True], [True, False]]
    assert passed[-1]["image"][:, 0, 0, 0].tolist() == [5, 0]
    assert labels(batches) == labels(passed), "a second pass"


def test_one_batch_larger_than_the_set():
    (batch,) = numbers(3, 8)
    assert batch["label"].tolist() == [0, 1, 2, 0, 0, 0, 0, 0] and batch["example_valid"].sum() == 3


def test_spec_is_what_comes():
    for seed in (None, 1):
        batches = numbers(5, 2, seed=seed)
        batch = next(iter(batches))
        assert {k: (v.shape, v.dtype) for k, v in batch.items()} == {
            k: (v.shape, v.dtype) for k, v in batches.spec.items()
        }
        assert batch["example_valid"].all()


@settings(deadline=None, max_examples=40)
@given(count=st.integers(1, 40), batch_size=st.integers(1, 17), seed=st.integers(0, 2**32))
def test_every_epoch_is_a_permutation(count, batch_size, seed):
    batches = numbers(count, batch_size, seed=seed)
    seen = np.concatenate([batches.batch(i)["label"] for i in range(-(-3 * count // batch_size))])[: 3 * count]
    for epoch in seen.reshape(3, count):
        assert sorted(epoch) == list(range(count))


def test_epochs_and_seeds_have_their_own_order():
    orders = {(s, e): tuple(epoch_order(50, seed=s, epoch=e)) for s in range(4) for e in range(4)}
    assert len(set(orders.values())) == 16
    batches = numbers(50, 25, seed=3)
    assert labels([batches.batch(6), batches.batch(7)]) == [list(orders[3, 3][:25]), list(orders[3, 3][25:])]


def test_the_order_of_a_seed_does_not_change_between_versions():
    assert epoch_order(8, seed=0, epoch=0).tolist() == [3, 2, 1, 6, 0, 7, 4, 5]
    assert epoch_order(8, seed=7, epoch=2).tolist() == [6, 4, 0, 5, 7, 1, 3, 2]


def test_places_are_shuffled_evenly():
    first = np.bincount([epoch_order(4, seed=s, epoch=0)[0] for s in range(2_000)])
    assert abs(first - 500).max() < 100  # five standard deviations


@pytest.mark.parametrize("seed", [None, 5])
@settings(deadline=None, max_examples=25)
@given(position=st.integers(0, 9), ahead=st.integers(0, 9), threads=st.integers(0, 3))
def test_state_goes_back_to_any_position(seed, position, ahead, threads):
    expected = [numbers(23, 2, seed=seed).batch(i) for i in range(12)]
    iterator = iter(numbers(23, 2, seed=seed))
    take(iterator, position)
    state = json.loads(json.dumps(iterator.get_state()))
    take(iterator, min(ahead, 12 - position))
    other = iter(numbers(23, 2, seed=seed, num_threads=threads))
    for restored in (iterator, other):
        restored.set_state(state)
        assert restored.get_state() == state
        for i in (position, position + 1):
            assert_same(next(restored), expected[i])
        restored.close()


def test_state_of_another_set_is_refused():
    state = iter(numbers(23, 2, seed=1)).get_state()
    with pytest.raises(UserError, match=r"23 examples.* 24"):
        iter(numbers(24, 2, seed=1)).set_state(state)


def test_state_after_the_end():
    iterator = iter(numbers(5, 2))
    assert len(list(iterator)) == 3
    with pytest.raises(StopIteration):
        next(iterator)
    iterator.set_state({"next_batch": 2, "examples": 5})
    assert labels(iterator) == [[4, 0]]


@pytest.mark.parametrize("seed", [None, 2])
def test_the_same_whatever_the_number_of_threads(seed):
    alone = take(iter(numbers(40, 3, seed=seed, num_threads=0)), 13)
    for threads in (1, 2, 5):
        iterator = iter(numbers(40, 3, seed=seed, num_threads=threads))
        for a, b in zip(alone, take(iterator, 13), strict=True):
            assert_same(a, b)
        iterator.close()


def gathered(batches, number):
    """A batch out of the arrays of all examples, as a program on the device makes it."""
    indices, arrays = batches.indices(np.array([number]))[0], batches.resident()
    return {
        k: np.where((indices >= 0).reshape(-1, *[1] * (v.ndim - 1)), v[indices], v.dtype.type(0))
        for k, v in arrays.items()
    }


@pytest.mark.parametrize("seed", [None, 0, 7])
@pytest.mark.parametrize("threads", [0, 1, 2, 16])
@pytest.mark.parametrize("small", [0, 2**20])
def test_the_same_examples_by_number_in_turn_and_resident(seed, threads, small, monkeypatch):
    """Over the end of an epoch and to the padding at the end, with large batches that are read in parts and small."""
    monkeypatch.setattr(batches_module, "_PART", small)
    streamed, other = (numbers(23, 10, seed=seed, num_threads=threads) for _ in range(2))
    passed = take(iter(streamed), 3 if seed is None else 7)
    if seed is not None:
        order = np.concatenate([epoch_order(23, seed=seed, epoch=epoch) for epoch in range(4)])
        assert np.concatenate(labels(passed)).tolist() == order[:70].tolist()
    for number, batch in enumerate(passed):
        assert_same(batch, numbers(23, 10, seed=seed).batch(number))
        assert_same(batch, gathered(other, number))
        assert_same(batch, other.batch(number))  # now out of the arrays
        indices = streamed.indices(np.array([number]))[0]
        assert indices[batch["example_valid"]].tolist() == batch["label"][batch["example_valid"]].tolist()
        assert (indices[~batch["example_valid"]] == -1).all() and indices.shape == (10,)


def test_resident_arrays_are_shared():
    """By all that is made of one source, which reads each example once; their bytes are known before."""
    dataset, steps = Dataset(Numbers(500), 2), []
    train, test = dataset.batches(4, seed=1), dataset.batches(7)
    arrays = train.resident(lambda *step: steps.append(step))
    reads = dataset.source.reads  # pyright: ignore[reportAttributeAccessIssue]
    assert test.resident() is arrays and steps[-1] == (500, 500)
    next(iter(test))
    assert dataset.source.reads == reads  # pyright: ignore[reportAttributeAccessIssue]
    assert train.resident_bytes() == 500 * (4 + 4 + 1) == sum(array.nbytes for array in arrays.values())


@pytest.mark.parametrize("small", [0, 2**20])
def test_an_example_that_could_not_be_read_is_not_valid(small, monkeypatch):
    class Holes(Numbers):
        def read(self, indices):
            return {**super().read(indices), "example_valid": indices % 5 != 3}

    monkeypatch.setattr(batches_module, "_PART", small)
    batches = Dataset(Holes(9), 2).batches(4, num_threads=2)
    expected = [[True, True, True, False], [True] * 4, [False] * 4]
    assert [batch["example_valid"].tolist() for batch in batches] == expected
    assert batches.resident()["example_valid"].tolist() == [True] * 3 + [False] + [True] * 4 + [False]
    assert [batch["example_valid"].tolist() for batch in batches] == expected


def test_a_fault_among_all_examples_is_raised():
    for _ in range(2):
        with pytest.raises(DataError, match="cells/7.jpg:3: image is truncated"):
            numbers(20, 2, fault=7).resident()


@pytest.mark.parametrize("seed", [None, 4])
@pytest.mark.parametrize("hosts", [1, 2, 4])
@pytest.mark.parametrize(("threads", "small"), [(0, 2**20), (3, 2**20), (3, 0)])
def test_hosts_read_the_rows_of_the_same_batch(seed, hosts, threads, small, monkeypatch):
    """Whatever their number, that of their threads, and wherever they went on: together the bytes of one host alone."""
    monkeypatch.setattr(batches_module, "_PART", small)
    whole = take(iter(numbers(10, 4, seed=seed, num_threads=0)), 3)
    monkeypatch.setattr(jax, "process_count", lambda: hosts)
    parts = []
    for host in range(hosts):
        monkeypatch.setattr(jax, "process_index", lambda host=host: host)
        batches = numbers(10, 4, seed=seed, num_threads=threads)
        assert batches.spec["label"].shape == (4,)
        begun = iter(batches)
        first = take(begun, 1 + host % 2)  # they stop at different places, and each goes on from its own
        resumed = iter(numbers(10, 4, seed=seed, num_threads=threads))
        resumed.set_state(json.loads(json.dumps(begun.get_state())))
        parts.append([*first, *take(resumed, 3 - len(first))])
        begun.close()
        resumed.close()
        assert all(len(batch["label"]) == 4 // hosts for batch in parts[-1])
        for number, batch in enumerate(whole):  # which any process may also have whole
            assert_same(batch, gathered(batches, number))
            assert_same(batch, batches.batch(number))
    for expected, *rows in zip(whole, *parts, strict=True):
        assert_same(expected, {key: np.concatenate([part[key] for part in rows]) for key in rows[0]})
    if hosts > 1:
        with pytest.raises(UserError, match=rf"batch_size=3 .* {hosts} processes"):
            next(iter(numbers(10, 3, seed=0)))


@pytest.mark.parametrize("small", [0, 2**20])
@pytest.mark.parametrize("threads", [0, 2])
def test_a_fault_in_a_reading_thread_arrives_unchanged(threads, small, monkeypatch):
    monkeypatch.setattr(batches_module, "_PART", small)
    iterator = iter(numbers(20, 2, fault=7, num_threads=threads))
    assert labels(take(iterator, 3)) == [[0, 1], [2, 3], [4, 5]]
    for _ in range(2):  # it stays at the faulty batch
        with pytest.raises(DataError) as caught:
            next(iterator)
        assert type(caught.value) is DataError and str(caught.value) == "cells/7.jpg:3: image is truncated"
        assert caught.value.line == 3
    assert iterator.get_state()["next_batch"] == 3


def _readers():
    return [t for t in threading.enumerate() if t.name.startswith("grain")]


def test_no_thread_is_left():
    def settle():
        deadline = time.monotonic() + 5
        while _readers() and time.monotonic() < deadline:
            time.sleep(0.01)
        return _readers()

    gc.collect()
    assert not settle()
    list(numbers(9, 2))
    assert not settle(), "after a full pass"
    iterator = iter(numbers(9, 2, seed=0))
    next(iterator)
    iterator.close()
    assert not settle(), "after close"
    assert next(iterator)["label"].shape == (2,)
    del iterator
    gc.collect()
    assert not settle(), "after the iterator is gone"


def test_opening_touches_neither_files_nor_seed():
    source = Numbers(9)

    def body(x):
        dataset = Dataset(source, 2)
        dataset.batches(2, seed=x)
        return x * dataset.anchor_boxes(k=2)

    boxes = jax.jit(body)(1.0)
    assert source.reads == 0
    np.testing.assert_allclose(boxes, [[2, 2], [8, 4]])


def test_anchor_boxes_are_computed_once():
    dataset = Dataset(Numbers(9), 2)
    boxes = dataset.anchor_boxes(k=2)
    assert isinstance(boxes, np.ndarray) and boxes.dtype == np.float32
    assert dataset.anchor_boxes(k=2) is boxes and dataset.anchor_boxes(k=1).shape == (1, 2)


def test_batch_size_must_be_positive():
    with pytest.raises(UserError, match="batch_size=0"):
        numbers(9, 0)


def test_a_program_ends_clean_and_imports_little():
    program = """
import sys, jax
import jaxcv.data
heavy = {"grain", "PIL", "sklearn", "defusedxml", "rich", "matplotlib"} & set(sys.modules)
assert not heavy, heavy
train, test = jaxcv.data.classification_data("digits")
iterator = iter(train.batches(8, seed=0))
next(iterator)
next(iter(test.batches(8)))
assert "sklearn" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_digest_is_the_same_for_the_same_outlines_and_another_for_others(tmp_path):
    """Of masks that are drawn, what they are drawn from counts; of a file its name and size."""
    folder = CocoSet(tmp_path / "coco")
    digests = [opened(folder.data, by=segmentation_data)[0].batches(2).digest() for _ in range(2)]
    folder.change("annotations.0.segmentation", [[1, 0, 40, 0, 40, 20, 0, 20]])
    assert digests[0] == digests[1] != opened(folder.data, by=segmentation_data)[0].batches(2).digest()
