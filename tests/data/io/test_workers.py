"""Processes that decode: the same bytes, the same faults, and nothing is left of them."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_sets import CocoSet, labels, noise, opened, picture

from jaxcv.data import classification_data, from_records, landmark_data, segmentation_data
from jaxcv.data.io import workers
from jaxcv.errors import DataError, UserError


@pytest.fixture(scope="module", autouse=True)
def two_workers():
    workers.start(2)
    yield
    workers.stop()


def folder(root):
    for split, count in (("train", 7), ("val", 2)):
        for name in ("ant", "bee"):
            for i in range(count):
                noise(root / split / name / f"y{'x' * i}.jpg", (40 + i, 30))
    return classification_data, f"folder:{root}"


def masks(root):
    for name in "abcdefghi":
        noise(root / f"images/{name}.png", (40, 20))
        labels(root / f"masks/{name}.png", np.arange(800).reshape(20, 40) % 3)
    return segmentation_data, f"masks:{root}"


def points(root):
    for name in ("train", "val"):
        files = [f"{name}{i}.png" for i in range(5)]
        (root / f"{name}.csv").write_text("".join(f"{file},{i},5,20,{i + 1},30,9\n" for i, file in enumerate(files)))
        for file in files:
            noise(root / file, (40, 20))
    return landmark_data, f"points:{root}"


def coco(root):
    return None, CocoSet(root).data


def taken(split, count=7, **how):
    iterator = iter(split.batches(4, seed=3, **how))
    try:
        return [next(iterator) for _ in range(count)]
    finally:
        iterator.close()


def without_workers(monkeypatch, split, **how):
    with monkeypatch.context() as patch:
        patch.setattr(workers, "_owner", 0)
        patch.setattr(workers, "start", lambda count: None)
        return taken(split, num_threads=0, **how)


def assert_same(found, expected):
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])


@pytest.mark.parametrize("threads", [0, 1, 4])
@pytest.mark.parametrize(
    ("make", "how"),
    [(folder, {"min_area": 0.2}), (folder, {}), (masks, {}), (points, {}), (coco, {})],
    ids=["windows", "whole", "masks", "points", "boxes"],
)
def test_the_same_bytes(make, how, threads, tmp_path, monkeypatch):
    """With nothing kept, everything kept from before, and something kept."""
    by, data = make(tmp_path)
    expected = without_workers(monkeypatch, opened(data, by=by, image_size=32)[0], **how)
    monkeypatch.setattr(workers, "read_region", None)  # none is decoded here
    train, _ = opened(data, by=by, image_size=32)
    for _ in range(2):
        assert_same(taken(train, num_threads=threads, workers=2, **how), expected)


def test_records_of_all_forms(monkeypatch, tmp_path):
    """Bytes and files are decoded elsewhere; pixels and Pillow's images are there, and stay."""
    file = noise(tmp_path / "a.png", (40, 20))
    records = [
        {"image": image, "label": 1}
        for image in (file, str(file), file.read_bytes(), Image.open(file), np.asarray(Image.open(file)))
    ]
    train, _ = from_records(records, image_size=16, class_names=("a", "b"))
    assert_same(taken(train, num_threads=3, min_area=0.3), without_workers(monkeypatch, train, min_area=0.3))
    records[3]["image"].close()


def test_what_is_resident(tmp_path, monkeypatch):
    by, data = folder(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(workers, "_owner", 0)
        patch.setattr(workers, "start", lambda count: None)
        expected = opened(data, by=by)[0].batches(4, workers=0).resident()
    assert_same([opened(data, by=by)[0].batches(4, workers=2).resident()], [expected])


def test_going_on(tmp_path, monkeypatch):
    train, _ = opened(folder(tmp_path)[1], by=classification_data)
    expected = without_workers(monkeypatch, train, min_area=0.2)
    begun, resumed = (iter(train.batches(4, seed=3, min_area=0.2, num_threads=3)) for _ in range(2))
    first = [next(begun) for _ in range(2)]
    resumed.set_state(json.loads(json.dumps(begun.get_state())))
    assert_same([*first, *(next(resumed) for _ in range(5))], expected)
    begun.close()
    resumed.close()


def test_a_fault_is_the_same(tmp_path, monkeypatch):
    by, data = folder(tmp_path)
    train, _ = opened(data, by=by)
    file = tmp_path / "train/ant/yxxx.jpg"
    file.write_bytes(file.read_bytes()[:700])
    faults = []
    for take in (lambda: without_workers(monkeypatch, train), lambda: taken(train, num_threads=2)):
        with pytest.raises(DataError, match="image is truncated") as caught:
            take()
        faults.append((str(caught.value), caught.value.file, caught.value.line))
    assert faults[0] == faults[1] and faults[0][1] == file


def test_what_is_set_of_pillow_holds(tmp_path, monkeypatch):
    train, _ = opened(folder(tmp_path)[1], by=classification_data)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(DataError, match="too large to be trusted: 4.x30, more than 1,000 pixels"):
        taken(train)


def of_first(process):
    return [process.pid, *map(int, Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split())]


def is_there(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def gone(pids):
    deadline = time.monotonic() + 20
    while any(map(is_there, pids)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not any(map(is_there, pids))


def test_a_killed_one_is_said_and_replaced(tmp_path):
    train, _ = opened(folder(tmp_path)[1], by=classification_data)
    expected = taken(train, num_threads=3, min_area=0.2)
    workers.stop()  # and with them what still reads ahead
    workers.start(2)
    taken(train, 2, num_threads=0, min_area=0.2)
    pids = of_first(workers._first[0])
    assert len(pids) == 2
    os.kill(pids[1], signal.SIGKILL)
    with pytest.raises(UserError, match="a process that decodes pictures has ended"):
        taken(train, 99, num_threads=3, min_area=0.2)
    assert_same(taken(train, num_threads=3, min_area=0.2), expected)
    pids = [pid for process in workers._first for pid in of_first(process)]
    workers.stop()
    assert gone(pids)
    assert_same(taken(train, num_threads=3, min_area=0.2), expected)
    workers.start(2)


SCRIPT = """
import os, sys, time
from jaxcv.data.io import workers
from jaxcv.data.io.crops import whole

asked = [(sys.argv[1], whole)] * 2
before, _ = workers.read_regions(asked, size=16)
workers.start(2)
assert (workers.read_regions(asked, size=16)[0] == before).all()
if (child := os.fork()) == 0:
    for _ in range(2):
        assert (workers.read_regions(asked, size=16)[0] == before).all()
        workers.start(2)
    os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
assert (workers.read_regions(asked, size=16)[0] == before).all()
print(workers._first[0].pid, flush=True)
time.sleep(60)
"""


def test_none_is_left_however_a_process_ends(tmp_path):
    """And one that it forks decodes by itself."""
    command = [sys.executable, "-c", SCRIPT, str(picture(tmp_path / "a.png"))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        first = int(process.stdout.readline())
        pids = [first, *map(int, Path(f"/proc/{first}/task/{first}/children").read_text().split())]
        assert len(pids) == 2 and all(map(is_there, pids))
        environment = Path(f"/proc/{pids[1]}/environ").read_bytes().split(b"\0")
        assert b"JAX_PLATFORMS=cpu" in environment
        assert os.getpgid(first) != os.getpgid(process.pid)  # Ctrl-C is not for them
        process.kill()
    assert gone(pids)


@pytest.mark.parametrize("text", ["-1", "two", "1.5"])
def test_no_number_is_refused(text, tmp_path, monkeypatch):
    train, _ = opened(folder(tmp_path)[1], by=classification_data)
    monkeypatch.setenv("JAXCV_WORKERS", text)
    with pytest.raises(UserError, match=f"JAXCV_WORKERS={text}: expected a number of processes"):
        train.batches(4)
    monkeypatch.setenv("JAXCV_WORKERS", "3")
    assert (
        train.batches(4).workers == 3 and train.batches(4).num_threads >= 4 and train.batches(4, workers=0).workers == 0
    )
