"""Random windows of files: where they lie, what they show, and the same bytes for any threads and hosts."""

import json
from functools import partial
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from jaxcv.data import classification_data
from jaxcv.data.io.crops import read_region, resize_region, window
from jaxcv.errors import DataError, UserError

OPTIONS: dict[str, Any] = {"min_area": 0.08, "max_ratio": 4 / 3}
NUMBERS = st.floats(0, 1, exclude_max=True)


def place_window(uniform, size, **options):
    return window(size, uniform, **options)


def read_window(path, uniform, *, size, channels=3, **options):
    return read_region(path, partial(window, uniform=uniform, **options), size=size, channels=channels, gap=1.0)[0]


def ramp(width, height):
    """Red counts columns, green rows: a pixel tells where it was."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    return np.stack([x, y, np.full_like(x, 9)], -1).astype(np.uint8)


def pictures(folder, *, count=6, side=(90, 70)):
    random = np.random.default_rng(0)
    for i in range(count):
        for part in ("train", "val"):
            place = folder / part / "ab"[i % 2]
            place.mkdir(parents=True, exist_ok=True)
            pixels = Image.fromarray(random.integers(0, 256, (7, 9, 3), np.uint8)).resize(side)
            pixels.save(place / f"{i}.jpg", quality=90)
    return folder


def test_windows_by_hand():
    whole = place_window(np.zeros(4), (100, 50), min_area=0.25, max_ratio=1.0)
    assert whole == (0, 0, 71, 50)  # a square of the whole area would be 71 by 71: its height does not fit
    quarter = place_window(np.array([1 - 1e-9, 0.5, 0.5, 1 - 1e-9]), (100, 100), min_area=0.25, max_ratio=2.0)
    assert quarter == (25, 50, 50, 50)
    wide = place_window(np.array([1 - 1e-9, 1 - 1e-9, 0.0, 0.0]), (200, 200), min_area=0.25, max_ratio=4.0)
    assert wide == (0, 0, 200, 50)
    assert place_window(np.full(4, 0.999), (1, 1), min_area=1e-6, max_ratio=1.0) == (0, 0, 1, 1)


@settings(deadline=None, max_examples=200)
@given(
    uniform=st.tuples(*[NUMBERS] * 4),
    size=st.tuples(*[st.integers(1, 3_000)] * 2),
    min_area=st.floats(1e-4, 1),
    max_ratio=st.floats(1, 5),
)
def test_windows_lie_inside(uniform, size, min_area, max_ratio):
    left, top, w, h = place_window(np.array(uniform), size, min_area=min_area, max_ratio=max_ratio)
    assert 0 <= left <= left + w <= size[0] and 0 <= top <= top + h <= size[1] and min(w, h) >= 1
    if w < size[0] and h < size[1]:  # nothing was cut: area and ratio are as drawn, but for whole pixels
        assert (w + 1) * (h + 1) >= min_area * size[0] * size[1]
        assert (w - 1) / (h + 1) <= max_ratio and (h - 1) / (w + 1) <= max_ratio


def test_areas_and_places_are_drawn_evenly():
    draws = np.random.default_rng(0).random((4_000, 4))
    found = np.array([place_window(u, (1_000, 1_000), min_area=0.2, max_ratio=1.0) for u in draws])
    area = found[:, 2] * found[:, 3] / 1e6
    assert abs(area.mean() - 0.6) < 0.02 and area.min() < 0.21 and area.max() > 0.99
    assert abs((found[:, 0] + found[:, 2] / 2).mean() - 500) < 10


@settings(deadline=None, max_examples=50)
@given(uniform=st.tuples(*[NUMBERS] * 4))
def test_a_window_shows_what_lies_there(uniform, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "ramp.png"
    if not path.exists():
        Image.fromarray(ramp(200, 150)).save(path)
    left, top, w, h = place_window(np.array(uniform), (200, 150), **OPTIONS)
    shown = read_window(path, np.array(uniform), size=64, **OPTIONS)
    assert shown.shape == (64, 64, 3) and (shown[..., 2] == 9).all()
    scale = max(k for k in (1, 2, 4, 8) if k == 1 or min(w, h) // k >= 64)  # what is averaged first
    x = np.clip(left + (np.arange(64) + 0.5) * w / 64 - 0.5, left, left + w - 1)
    y = np.clip(top + (np.arange(64) + 0.5) * h / 64 - 0.5, top, top + h - 1)
    assert np.abs(shown[..., 0] - x[None]).max() <= 2 * scale
    assert np.abs(shown[..., 1] - y[:, None]).max() <= 2 * scale


def test_resizing_by_hand():
    image = Image.fromarray(np.array([[0, 100], [200, 40]], np.uint8))
    assert np.asarray(resize_region(image, (0, 0, 2, 2), size=2)).tolist() == [[0, 100], [200, 40]]
    assert np.asarray(resize_region(image, (0, 0, 2, 2), size=1)).tolist() == [[85]]
    assert np.asarray(resize_region(image, (0, 0, 2, 1), size=4))[0].tolist() == [0, 25, 75, 100]
    assert np.asarray(resize_region(image, (-1, -1, 3, 3), size=3)).tolist() == [[0, 0, 0], [0, 0, 100], [0, 200, 40]]


def test_large_windows_are_averaged_first(tmp_path):
    """A chequered picture is grey from afar; of two pixels out of eight it would not be."""
    cheques = (np.indices((512, 512)).sum(0) % 2 * 255).astype(np.uint8)
    for name in ("a.png", "a.jpg"):
        Image.fromarray(cheques).convert("RGB").save(tmp_path / name, quality=100)
        shown = read_window(tmp_path / name, np.zeros(4), size=64, min_area=1.0, max_ratio=1.0)
        assert np.abs(shown.astype(int) - 127).max() <= 2


@pytest.mark.parametrize("hosts", [1, 2, 4])
@pytest.mark.parametrize("threads", [0, 3])
def test_the_same_bytes_for_any_hosts_threads_and_wherever_resumed(hosts, threads, tmp_path, monkeypatch):
    train, _ = classification_data(f"folder:{pictures(tmp_path)}", image_size=16)
    alone = iter(train.batches(4, seed=3, min_area=0.2, num_threads=0))
    expected = [next(alone)["image"] for _ in range(5)]  # across three epochs
    monkeypatch.setattr(jax, "process_count", lambda: hosts)
    parts = []
    for host in range(hosts):
        monkeypatch.setattr(jax, "process_index", lambda host=host: host)
        batches = train.batches(4, seed=3, min_area=0.2, num_threads=threads)
        begun, resumed = iter(batches), iter(train.batches(4, seed=3, min_area=0.2, num_threads=threads))
        first = [next(begun)["image"] for _ in range(2)]
        resumed.set_state(json.loads(json.dumps(begun.get_state())))
        parts.append([*first, *(next(resumed)["image"] for _ in range(3))])
        begun.close()
        resumed.close()
    for number, whole in enumerate(expected):
        np.testing.assert_array_equal(whole, np.concatenate([part[number] for part in parts]))


def test_each_epoch_and_seed_has_its_own_windows(tmp_path):
    train, test = classification_data(f"folder:{pictures(tmp_path, count=1)}", image_size=16)
    shown = [train.batches(1, seed=seed, min_area=0.2).batch(i)["image"] for seed in (0, 1) for i in (0, 1)]
    assert len({image.tobytes() for image in shown}) == 4
    whole = train.batches(1, seed=0, min_area=1.0, max_ratio=1.0).batch(0)
    assert whole["image"].shape == (1, 16, 16, 3) and whole["label"].tolist() == [0]
    with pytest.raises(UserError, match=r"min_area=0\.2: windows are for training"):
        test.batches(1, min_area=0.2)


def test_wrong_options_are_refused(tmp_path):
    train, _ = classification_data(f"folder:{pictures(tmp_path)}", image_size=16)
    wrong: list[tuple[dict[str, Any], str]]
    wrong = [({"min_area": 0.0}, "min_area=0:"), ({"min_area": 0.5, "max_ratio": 0.5}, "max_ratio=0.5")]
    for option, message in wrong:
        with pytest.raises(UserError, match=message):
            train.batches(2, seed=0, **option).batch(0)
    digits, _ = classification_data("digits", image_size=8)
    with pytest.raises(UserError, match="class folders only"):
        digits.batches(2, seed=0, min_area=0.5)


@pytest.mark.parametrize("spoil", ["truncate", "empty", "text", "missing", "halves"])
def test_faulty_files_are_named(spoil, tmp_path):
    path = tmp_path / "a.jpg"
    Image.fromarray(ramp(90, 70)).save(path)
    data = path.read_bytes()
    spoilt = {"truncate": data[:-200], "empty": b"", "text": b"not a picture", "halves": data[:300] + data[-300:]}
    path.unlink() if spoil == "missing" else path.write_bytes(spoilt[spoil])
    for _ in range(2):
        try:
            shown = read_window(path, np.full(4, 0.5), size=16, **OPTIONS)
        except DataError as error:
            assert str(path) in str(error) and "\n" not in str(error)
        else:  # a hole that libjpeg mends: Pillow does not notice it either
            assert spoil == "halves" and shown.shape == (16, 16, 3)


def test_an_inverted_set_is_inverted_in_windows_too(tmp_path):
    for drawer in range(1, 6):
        place = tmp_path / "Alphabet" / "character01"
        place.mkdir(parents=True, exist_ok=True)
        Image.new("1", (20, 20), 1).save(place / f"0001_{drawer:02}.png")
    train, _ = classification_data(f"omniglot:{tmp_path}", image_size=8)
    assert not train.batches(2, seed=0, min_area=0.5).batch(0)["image"].any()
