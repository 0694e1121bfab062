"""The same bytes however the batch is spread over devices; several hosts are several devices."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxcv import augment
from jaxcv.data import detection_data

B, SIDE = 8, 64


def some_batch():
    rng = np.random.default_rng(0)
    return {
        "image": rng.random((B, SIDE, SIDE, 3), np.float32),
        "label": np.arange(B) % 5,
        "boxes": np.tile(np.asarray([[4, 4, 20, 24], [10, 2, 30, 9]], np.float32), (B, 1, 1)),
        "classes": np.tile(np.arange(2), (B, 1)),
        "valid": np.ones((B, 2), bool),
        "mask": rng.integers(0, 9, (B, SIDE, SIDE), np.uint8),
        "points": rng.uniform(0, SIDE, (B, 5, 2)).astype(np.float32),
    }


def one(key, batch):
    """What an experiment does."""
    return augment.detection(key, batch, flip=0.5, crop=0.3, color=0.2, rotate=10.0)


ONE = jax.jit(one)


def everything(key, batch):
    """All there is, one after another."""
    keys = jax.random.split(key, 7)
    points = batch["points"]
    batch = augment.mosaic(keys[0], {name: x for name, x in batch.items() if name != "points"}, probability=0.5)
    batch = augment.detection(keys[1], batch, flip=0.5, crop=0.3, color=0.2)
    batch = augment.warp(keys[2], batch | {"points": points}, min_area=0.5, rotate=20.0, shear=5.0, elastic=0.5)
    batch = augment.colors(keys[3], batch, contrast=0.3, hue=0.1)
    batch = augment.pca_colors(keys[4], batch, components=0.1 * jnp.eye(3))
    return augment.cutmix(keys[5], augment.mixup(keys[6], batch, num_classes=5, alpha=0.5), num_classes=5)


def spread_over(devices, function):
    mesh = Mesh(np.array(jax.devices()[:devices]), ("data",))
    whole, split = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec("data"))
    return jax.jit(function, in_shardings=(whole, split))(jax.random.key(1), some_batch())


def compare(function, *counts):
    first, *others = (jax.tree.map(np.asarray, spread_over(count, function)) for count in counts)
    assert np.abs(first["image"] - some_batch()["image"]).max() > 0.1
    for other in others:
        jax.tree.map(np.testing.assert_array_equal, first, other)


@pytest.mark.devices(2)
def test_two_devices_give_the_bytes_of_one():
    compare(one, 1, 2)


@pytest.mark.devices(2)
@pytest.mark.parametrize(("hosts", "threads"), [(1, 3), (2, 0), (2, 2), (4, 1)])
def test_augmented_examples_have_the_same_bytes_whatever_the_threads_hosts_and_start(hosts, threads, monkeypatch):
    """Each host reads its rows with threads of its own, stops and goes on; the step augments what they read."""
    whole = detection_data("digits", image_size=SIDE)[0].batches(B, seed=3, num_threads=0)
    expected = [augmented(1, step, whole.batch(step)) for step in range(3)]
    monkeypatch.setattr(jax, "process_count", lambda: hosts)
    parts = []
    for host in range(hosts):
        monkeypatch.setattr(jax, "process_index", lambda host=host: host)
        first = iter(detection_data("digits", image_size=SIDE)[0].batches(B, seed=3, num_threads=threads))
        read = [next(first) for _ in range(1 + host % 2)]
        resumed = iter(detection_data("digits", image_size=SIDE)[0].batches(B, seed=3, num_threads=threads))
        resumed.set_state(json.loads(json.dumps(first.get_state())))
        parts.append([*read, *(next(resumed) for _ in range(3 - len(read)))])
        first.close()
        resumed.close()
    monkeypatch.undo()
    for step, rows in enumerate(zip(*parts, strict=True)):
        batch = {name: np.concatenate([part[name] for part in rows]) for name in rows[0]}
        jax.tree.map(np.testing.assert_array_equal, expected[step], augmented(min(hosts, 2), step, batch))


def augmented(devices, step, batch):
    """What the training step makes of a batch, spread over devices."""
    mesh = Mesh(np.array(jax.devices()[:devices]), ("data",))
    rows = jax.device_put(
        {**batch, "image": batch["image"] / np.float32(255)}, NamedSharding(mesh, PartitionSpec("data"))
    )
    key = jax.device_put(jax.random.fold_in(jax.random.key(1), step), NamedSharding(mesh, PartitionSpec()))
    out = jax.tree.map(np.asarray, ONE(key, rows))
    assert np.abs(out["image"] - np.asarray(rows["image"])).max() > 0.1
    return out


@pytest.mark.slow
@pytest.mark.devices(4)
def test_four_devices_give_the_bytes_of_one():
    compare(everything, 1, 2, 4)
