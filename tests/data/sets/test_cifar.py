"""CIFAR's files in both formats, written here, and pickles that are something else; arrays of pictures."""

import os
import pickle
import pickletools

import numpy as np
import pytest
from PIL import Image
from small_sets import cifar_pickle, findings, opened, picture, refused

from jaxcv.data import classification_data

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 3072), np.uint8)
NAMES = {10: "batches.meta", 100: "meta"}


def write(root, classes, *, binary=False, names=True):
    """Four pictures a file, with classes 0, 1, 2, 3 or the last."""
    root.mkdir(parents=True, exist_ok=True)
    files = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"] if classes == 10 else ["train", "test"]
    labels = [0, 1, 2, classes - 1]
    for file in files:
        if binary:
            coarse = [[7, c] if classes == 100 else [c] for c in labels]
            rows = np.concatenate([np.array(coarse, np.uint8), PIXELS], 1)
            (root / f"{file}.bin").write_bytes(rows.tobytes())
        else:
            (root / file).write_bytes(cifar_pickle(PIXELS, labels, key=b"labels" if classes == 10 else b"fine_labels"))
    if names and binary:
        file = "batches.meta.txt" if classes == 10 else "fine_label_names.txt"
        (root / file).write_text("\n".join(f"name{i}" for i in range(classes)) + "\n\n")
    elif names:
        key = b"label_names" if classes == 10 else b"fine_label_names"
        content = {key: [b"name%d" % i for i in range(classes)]}
        (root / NAMES[classes]).write_bytes(pickle.dumps(content, protocol=2))
    return f"cifar{classes}:{root}"


def open_set(data, **options):
    return opened(data, by=classification_data, **options)


def refuses(message, data, **options):
    refused(message, data, by=classification_data, **options)


@pytest.mark.parametrize("classes", [10, 100])
@pytest.mark.parametrize("binary", [False, True])
def test_both_formats(tmp_path, classes, binary):
    data = write(tmp_path / "cifar/inside", classes, binary=binary)
    for path in (data, data.removesuffix("/inside")):
        train, test = open_set(path)
        assert (len(train), len(test), train.num_classes) == (20 if classes == 10 else 4, 4, classes)
    assert train.class_names[:2] == ("name0", "name1")
    batch = test.batches(4).batch(0)
    assert batch["image"].shape == (4, 32, 32, 3) and batch["label"].tolist() == [0, 1, 2, classes - 1]
    np.testing.assert_array_equal(batch["image"][3], PIXELS[3].reshape(3, 32, 32).transpose(1, 2, 0))
    grey = open_set(data, channels=1)[1].batches(4).batch(0)["image"][..., 0]
    np.testing.assert_array_equal(grey[0], np.asarray(Image.fromarray(batch["image"][0]).convert("L")))
    assert open_set(data, image_size=16)[0].batches(1).batch(0)["image"].shape == (1, 16, 16, 3)
    assert findings(data, by=classification_data)[1].startswith(f"test: 4 images, {classes} classes (")


def test_without_names(tmp_path):
    assert open_set(write(tmp_path, 10, names=False))[0].class_names == tuple("0123456789")


def test_pickles_of_python_3(tmp_path):
    data = write(tmp_path, 10)
    content = pickle.dumps({"data": PIXELS, "labels": [0, 1, 2, 9]}, protocol=2)
    (tmp_path / "test_batch").write_bytes(content)
    image = open_set(data)[1].batches(4).batch(0)["image"]
    np.testing.assert_array_equal(image[0], PIXELS[0].reshape(3, 32, 32).transpose(1, 2, 0))


def test_a_persons_picture(tmp_path):
    train, _ = open_set(write(tmp_path / "set", 10), image_size=16)
    Image.fromarray(np.full((64, 64, 3), [200, 100, 0], np.uint8)).save(tmp_path / "a.png")
    pixels, factors = train.batches(1).read_image(tmp_path / "a.png")
    assert (pixels == [200, 100, 0]).all() and pixels.shape == (16, 16, 3) and factors[1:3] == (4.0, 4.0)


def test_class_folders(tmp_path):
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            picture(tmp_path / split / name / "0.png")
    assert open_set(f"cifar10:{tmp_path}")[0].class_names == ("cat", "dog")


def test_missing_files(tmp_path):
    refuses(
        "files are missing; expected data_batch_1, .*test_batch, or the same with .bin; the fol", f"cifar10:{tmp_path}"
    )
    refuses("nowhere: no such folder; data=cifar100:PATH needs", f"cifar100:{tmp_path}/nowhere")


class Evil:
    def __reduce__(self):
        return (os.system, ("touch /tmp/jaxcv-was-here",))


def nested(depth):
    return b"\x80\x02" + b")" + b"\x85" * depth + b"."


PICKLES = {
    "code that runs": (
        pickle.dumps({b"data": Evil()}),
        r"refused: it asks for (posix|nt)\.system, nothing was run",
    ),
    "eval": (b"c__builtin__\neval\n(S'1'\ntR.", r"it asks for __builtin__\.eval"),
    "instance": (b"(i__builtin__\neval\np0\n.", "it asks for code INST"),
    "persistent": (b"Pid\n.", "it asks for code PERSID"),
    "memo bomb": (b"\x80\x02}r\xff\xff\xff\x7f.", "memo positions out of line"),
    "nested": (nested(100_000), "more tuples than such a file has"),
    "truncated": (cifar_pickle(PIXELS, [0, 1, 2, 3])[:5_000], "no pickle that can be read"),
    "empty": (b"", "no pickle that can be read"),
    "text": (b"hello", "it asks for code OBJ, nothing was run"),
    "list": (pickle.dumps([1]), r"holds \[1\], expected a mapping"),
    "no data": (pickle.dumps({}, protocol=2), r"data is None, expected an array \[n 3072\] of bytes"),
    "number": (pickle.dumps({b"data": 5}, protocol=2), "data is 5, expected an array"),
    "other shape": (cifar_pickle(PIXELS[:, :7], [0]), r"data is an array \[4, 7\], expected an array \[n 3072\]"),
    "other type": (cifar_pickle(PIXELS, [0], dtype=b"O8"), "an array that does not hold bytes"),
    "other length": (cifar_pickle(PIXELS, [0, 1]), "2 labels for 4 pictures"),
    "no labels": (cifar_pickle(PIXELS, [], key=b"names"), "labels is None, expected a list of numbers"),
    "label": (cifar_pickle(PIXELS, [0, 1, 2, 10]), "label 10 of picture 3, expected 0 to 9"),
    "negative": (cifar_pickle(PIXELS, [0, 1, 2, -1]), "labels is .*, expected a list of numbers"),
    "no picture": (cifar_pickle(PIXELS[:0], []), "0 labels for 0 pictures"),
}


@pytest.mark.parametrize("fault", PICKLES)
def test_other_pickles(tmp_path, fault):
    content, message = PICKLES[fault]
    data = write(tmp_path, 10)
    (tmp_path / "data_batch_3").write_bytes(content)
    refuses(rf"data_batch_3: .*({message})", data)
    assert not os.path.exists("/tmp/jaxcv-was-here")


def test_faulty_names(tmp_path):
    data = write(tmp_path, 10)
    (tmp_path / "batches.meta").write_bytes(pickle.dumps({b"label_names": [b"a", b"a"]}, protocol=2))
    refuses("batches.meta: 1 class names, expected 10", data)
    (tmp_path / "batches.meta").write_bytes(pickle.dumps({b"label_names": 7}, protocol=2))
    refuses("batches.meta: 0 class names, expected 10", data)


def test_faulty_binaries(tmp_path):
    data = write(tmp_path, 10, binary=True)
    (tmp_path / "test_batch.bin").write_bytes(bytes(3072))
    refuses(r"test_batch\.bin: 3,072 bytes, expected a multiple of 3,073", data)
    (tmp_path / "test_batch.bin").write_bytes(b"")
    refuses(r"test_batch\.bin: 0 bytes", data)
    (tmp_path / "test_batch.bin").write_bytes(b"\x0a" + bytes(3072))
    refuses(r"test_batch\.bin: label 10 of picture 0, expected 0 to 9", data)


def test_the_pickle_written_here_is_what_python_2_wrote():
    """The same codes, but for the memo, as in the published files."""
    codes = [code.name for code, _, _ in pickletools.genops(cifar_pickle(PIXELS, [1, 2, 3, 4]))]
    assert codes[:4] == ["PROTO", "EMPTY_DICT", "MARK", "BINSTRING"] and codes[4] == "GLOBAL" and codes[-1] == "STOP"
    loaded = pickle.loads(cifar_pickle(PIXELS, [1, 2, 3, 4]), encoding="bytes")
    np.testing.assert_array_equal(loaded[b"data"], PIXELS)


def arrays(root, images, labels=None, names=None):
    np.save(root / "images.npy", images)
    if labels is not None:
        np.save(root / "labels.npy", labels)
    if names is not None:
        (root / "classes.txt").write_text(names)
    return f"npy:{root}"


def test_arrays(tmp_path):
    grey = np.arange(10, dtype=np.uint8)[:, None, None].repeat(8, 1).repeat(8, 2)
    data = arrays(tmp_path, grey, np.arange(10) % 3)
    train, test = open_set(data, image_size=8)
    assert (len(train), len(test), train.class_names) == (8, 2, ("0", "1", "2"))
    assert test.batches(2).batch(0)["image"][:, 0, 0, 0].tolist() == [4, 9]
    assert test.batches(2).batch(0)["label"].tolist() == [1, 0]
    arrays(tmp_path, np.stack([grey] * 3, -1), np.arange(10) % 2, "no\nyes\n")
    train, _ = open_set(f"{data}/images.npy", image_size=16, channels=3)
    assert train.class_names == ("no", "yes") and train.batches(1).batch(0)["image"].shape == (1, 16, 16, 3)
    arrays(tmp_path, (grey[..., None] / 9).astype(np.float32))
    assert open_set(data, image_size=8)[1].batches(2).batch(0)["image"][1].max() == 255


ARRAYS = {
    "flat": (np.zeros((5, 5), np.uint8), np.zeros(5, int), r"images\.npy: shape \(5, 5\), expected pictures \[n h w\]"),
    "five channels": (np.zeros((5, 8, 8, 5), np.uint8), None, r"images\.npy: shape \(5, 8, 8, 5\), expected"),
    "none": (np.zeros((0, 8, 8), np.uint8), None, r"images\.npy: shape \(0, 8, 8\), expected"),
    "nan": (np.full((5, 8, 8), np.nan), np.zeros(5, int), r"images\.npy: floats below 0, above 1 or NaN"),
    "large": (np.full((5, 8, 8), 255.0), np.zeros(5, int), r"images\.npy: floats .*, expected 0 to 1"),
    "numbers": (np.zeros((5, 8, 8), int), np.zeros(5, int), r"images\.npy: int64 values, expected uint8 or floats"),
    "no labels": (np.zeros((5, 8, 8), np.uint8), None, r"images\.npy: there is no labels\.npy beside it"),
    "few labels": (
        np.zeros((5, 8, 8), np.uint8),
        np.zeros(4, int),
        r"labels\.npy: int64 of shape \(4,\), expected a w",
    ),
    "text labels": (np.zeros((5, 8, 8), np.uint8), np.array(list("abcde")), r"labels\.npy: <U1 of shape \(5,\)"),
    "negative": (
        np.zeros((5, 8, 8), np.uint8),
        np.full(5, -1),
        r"labels\.npy: label -1 of picture 0, expected 0 to",
    ),
    "few pictures": (np.zeros((2, 8, 8), np.uint8), np.zeros(2, int), "2 pictures, of which none is left for test"),
    "objects": (np.array([[["a", 1]]], object), None, r"images\.npy: no array that can be read \(.*"),
}


@pytest.mark.parametrize("fault", ARRAYS)
def test_faulty_arrays(tmp_path, fault):
    images, labels, message = ARRAYS[fault]
    refuses(message, arrays(tmp_path, images, labels))


def test_files_that_are_no_arrays(tmp_path):
    data = arrays(tmp_path, np.zeros((5, 8, 8), np.uint8), np.full(5, 2), "a\nb\n")
    refuses(r"classes\.txt: 2 names, but there is a label 2", data)
    whole = (tmp_path / "images.npy").read_bytes()
    for content in (b"", b"hello", whole[:-9], whole.replace(b"(5, 8, 8)", b"(999999999, 8, 8)"), whole[:20]):
        (tmp_path / "images.npy").write_bytes(content)
        refuses(r"images\.npy: no array that can be read \(.*\)", data)
    np.save(tmp_path / "more.npy", np.zeros(1))
    refuses(r"expected one \.npy file of pictures besides labels\.npy; the folder holds", data)
    refuses("nowhere: no such folder; data=npy:PATH needs", f"npy:{tmp_path}/nowhere")


def test_real_crops_of_faces(real_data):
    root = real_data("faces_lfw_subset")
    train, test = classification_data(f"npy:{root}", image_size=25)
    assert (len(train), len(test), train.class_names) == (160, 40, ("other", "face"))
    assert train.describe() == ["train: 160 images, 2 classes (other 80, face 80)"]
    stored = np.load(root / "lfw_subset.npy")
    np.testing.assert_allclose(test.source.read(np.arange(1))["image"][0, ..., 0], stored[4] * 255, atol=0.5)


def test_real_small_pictures(real_data):
    train, test = classification_data(f"cifar10:{real_data('cls_folder_cifar10')}")
    assert (len(train), len(test), train.num_classes) == (3500, 800, 10)
