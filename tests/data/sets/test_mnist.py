"""IDX files written by the test, and the real ones where they are."""

import gzip
import struct

import numpy as np
import pytest

from jaxcv.data import classification_data
from jaxcv.data.sets.mnist import fit_digits, read_idx
from jaxcv.data.sources.in_memory import InMemory
from jaxcv.errors import DataError


def idx(array):
    return struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def write_set(folder, *, packed):
    for name, count in (("train", 6), ("t10k", 3)):
        images = np.arange(count * 28 * 28).reshape(count, 28, 28) % 255
        for stem, array in (
            (f"{name}-images-idx3-ubyte", images),
            (f"{name}-labels-idx1-ubyte", np.arange(count) % 10),
        ):
            if packed:
                (folder / f"{stem}.gz").write_bytes(gzip.compress(idx(array)))
            else:
                (folder / stem).write_bytes(idx(array))
    return folder


@pytest.mark.parametrize("packed", [True, False])
def test_a_small_set(tmp_path, packed):
    train, test = classification_data(f"mnist:{write_set(tmp_path, packed=packed)}")
    assert (len(train), len(test), train.num_classes, train.mirrors) == (6, 3, 10, False)
    batch = next(iter(train.batches(2)))
    assert batch["image"].shape == (2, 32, 32, 1) and batch["label"].tolist() == [0, 1]
    np.testing.assert_array_equal(batch["image"][0, 2:30, 2:30, 0], np.arange(784).reshape(28, 28) % 255)
    assert batch["image"].astype(int).sum() == (np.arange(2 * 784) % 255).sum(), "the border is zero"


@pytest.mark.parametrize("image_size", [28, 32, 14, 56])
def test_sizes(tmp_path, image_size):
    from PIL import Image

    train, _ = classification_data(f"mnist:{write_set(tmp_path, packed=False)}", image_size=image_size)
    batches = train.batches(2)
    assert batches.batch(0)["image"].shape == (2, image_size, image_size, 1) == batches.spec["image"].shape
    Image.new("RGB", (56, 28), (255, 255, 255)).save(tmp_path / "a.png")
    pixels, _ = batches.read_image(tmp_path / "a.png")
    assert pixels.shape == (image_size, image_size, 1)
    assert pixels[0, 0, 0] == (0 if image_size == 32 else 255), "a person's image gets the same border"


def test_fit_digits_pads_only_28_to_32():
    image = np.full((1, 28, 28), 9, np.uint8)
    assert fit_digits(image, size=32).sum() == 28 * 28 * 9
    assert (fit_digits(image, size=36) == 9).all()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "starts with nothing, expected 00000803"),
        (b"\0\0\x08\x01" + bytes(20), "starts with 00000801, expected 00000803"),
        (idx(np.zeros((2, 3, 4)))[:-1], "2x3x4 = 24 bytes, the file holds 23"),
        (idx(np.zeros((2, 3, 4))) + b"\0", "2x3x4 = 24 bytes, the file holds 25"),
    ],
)
def test_faulty_files(tmp_path, data, message):
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(DataError, match=rf"/a: .*{message}"):
        read_idx(tmp_path / "a", ndim=3)


@pytest.mark.parametrize("data", [b"no gzip", gzip.compress(bytes(1000), mtime=0)[:-12]])
def test_faulty_gzip(tmp_path, data):
    (tmp_path / "a.gz").write_bytes(data)
    with pytest.raises(DataError, match=r"/a\.gz: cannot be read"):
        read_idx(tmp_path / "a.gz", ndim=3)


def test_missing_files_and_folders(tmp_path):
    train, _ = classification_data(f"mnist:{tmp_path}/nowhere")
    with pytest.raises(DataError, match=r"nowhere: no such folder; data=mnist:PATH"):
        train.batches(2).check()
    (tmp_path / "t10k-images-idx3-ubyte").touch()
    with pytest.raises(
        DataError, match=r"train-images-idx3-ubyte.* is missing; the folder holds t10k-images-idx3-ubyte"
    ):
        len(classification_data(f"mnist:{tmp_path}")[0])


def test_labels_that_do_not_fit(tmp_path):
    write_set(tmp_path, packed=False)
    label_file = tmp_path / "train-labels-idx1-ubyte"
    label_file.write_bytes(idx(np.array([0, 1, 11, 3, 4, 5])))
    with pytest.raises(DataError, match="label 11 of picture 2, expected 0 to 9"):
        len(classification_data(f"mnist:{tmp_path}", image_size=28)[0])
    label_file.write_bytes(idx(np.arange(5)))
    with pytest.raises(DataError, match=r"labels-idx1-ubyte: 5 labels for 6 pictures, expected one for each"):
        len(classification_data(f"mnist:{tmp_path}", image_size=28)[0])


def test_real_mnist(real_data):
    train, test = classification_data(f"mnist:{real_data('cls_idx_mnist')}")
    assert (len(train), len(test)) == (60_000, 10_000)
    assert train.describe()[0].endswith(
        "(0 5,923, 1 6,742, 2 5,958, 3 6,131, 4 5,842, 5 5,421, 6 5,918, 7 6,265, 8 5,851, 9 5,949)"
    )
    batch = train.batches(10).batch(0)
    assert batch["label"].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert isinstance(train.source, InMemory)
    images, _ = train.source.load()
    assert abs(images[:10_000].mean() / 255 - 0.1307) < 1e-2 and abs(images.mean() / 255 - 0.1307) < 1e-4
    assert sum(int(b["example_valid"].sum()) for b in test.batches(64)) == 10_000
