"""Files that somebody or something has spoilt: every reader refuses in one line, or reads what is still sound.

Each set is written once; an attack spoils one of its files, both splits are opened, checked and read, and the file is
put back. Whatever comes out must be finite, of the promised shapes and in range; whatever is raised must be one line
that names a file of the set. The attacks drawn by hypothesis and those typed by hand are more than two hundred.
"""

import io
import os
import re
import struct
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sets import CocoSet, PointSet, YoloSet, cifar_pickle, forget, labels, noise, picture, pts

from jaxcv.data import (
    classification_data,
    detection_data,
    embedding_data,
    landmark_data,
    segmentation_data,
    verification_data,
)
from jaxcv.data.images import check_image, fit_image, read_image, read_mask, read_region
from jaxcv.types import DataError

SECONDS = 5.0
"""More than any attack takes, by far."""


def voc(root):
    xml = "<annotation><size><width>64</width><height>64</height></size>{}</annotation>"
    box = (
        "<object><name>dog</name><bndbox><xmin>{}</xmin><ymin>1</ymin><xmax>60</xmax><ymax>60</ymax></bndbox></object>"
    )
    for part in ("Annotations", "ImageSets/Main"):
        (root / part).mkdir(parents=True)
    for i in range(4):
        noise(root / f"JPEGImages/{i}.jpg")
        (root / f"Annotations/{i}.xml").write_text(xml.format(box.format(i + 1) * (i + 1)))
    (root / "ImageSets/Main/trainval.txt").write_text("0\n1\n2\n")
    (root / "ImageSets/Main/test.txt").write_text("3\n")
    return "voc", "Annotations/0.xml", "Annotations/2.xml", "ImageSets/Main/trainval.txt", "JPEGImages/1.jpg"


def coco(root):
    folder = CocoSet(root)
    folder.change("annotations.1.segmentation", {"size": [20, 40], "counts": [100, 200, 500]})
    folder.add(2, 3, [1, 1, 5, 5], iscrowd=1)
    return "coco", "annotations/instances_train2017.json", "annotations/instances_val2017.json", "train2017/a0.png"


def coco_points(root):
    folder = CocoSet(root, "person_keypoints")
    for split in folder.json:
        for entry in folder.json[split]["annotations"]:
            entry["keypoints"] = [3, 3, 2, 9, 9, 1, 0, 0, 0]
    folder.write()
    return "coco", "annotations/person_keypoints_train2017.json"


def yolo(root):
    YoloSet(root)
    return "yolo", "data.yaml", "labels/train/a0.txt", "labels/train/a1.txt", "labels/val/b0.txt", "images/train/a1.png"


def yolo_masks(root):
    folder = YoloSet(root)
    folder.put("a0", "1 0 0 .5 0 .5 .5 0 .5\n")
    folder.put("b0", "0 .1 .1 .9 .1 .5 .9\n", split="val")
    return "yolo", "data.yaml", "labels/train/a0.txt"


def masks(root):
    for split, count in (("train", 3), ("val", 1)):
        for i in range(count):
            picture(root / f"{split}/{i}.png")
            labels(root / f"{split}annot/{i}.png", np.full((20, 40), i), palette=i == 1)
    (root / "label_colors.txt").write_text("0 0 0 sky\n1 1 1 sea\n2 2 2 land\n37 38 39 sun\n")
    return "masks", "label_colors.txt", "trainannot/0.png", "trainannot/1.png", "valannot/0.png"


def points(root):
    PointSet(root)
    return "points", "training_points.csv", "training/ann_1.png"


def pts_files(root):
    for i in range(6):
        picture(root / f"{i}.png")
        pts(root / f"{i}.pts", [(4, 4), (14, 14), (20, 9)])
    return "pts", "0.pts", "5.pts", "3.png"


def folder(root):
    for name in ("train/ant/a.jpg", "train/bee/b.png", "val/ant/c.gif", "val/bee/d.webp"):
        noise(root / name, (24, 20))
    return "folder", "train/ant/a.jpg", "train/bee/b.png", "val/ant/c.gif", "val/bee/d.webp"


def faces(root):
    for person in range(4):
        for i in range(2):
            picture(root / f"s{person}/{i}.pgm", (8, 8), value=9, mode="L")
    return "faces", "s0/1.pgm"


def pairs(root):
    faces(root)
    (root / "pairs.txt").write_text("1 1\ns0 0 1\ns0 1 s1 0\n")
    return "faces", "s0/1.pgm", "pairs.txt"


def omniglot(root):
    for character in range(2):
        for drawer in (1, 2, 5):
            picture(root / f"Greek/character{character}/{character:04d}_{drawer:02d}.png", (8, 8), 255, "L")
    return "omniglot", "Greek/character1/0001_01.png"


def mnist(root):
    root.mkdir()
    for part in ("train", "t10k"):
        (root / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">IIII", 0x803, 5, 28, 28) + bytes(5 * 784))
        (root / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, 5) + bytes(range(5)))
    return "mnist", "train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"


def cifar(root):
    root.mkdir()
    for file in ("train", "test"):
        (root / file).write_bytes(cifar_pickle(np.arange(6144).reshape(2, 3072) % 256, [1, 99], key=b"fine_labels"))
    return "cifar100", "train", "test"


def npy(root):
    root.mkdir()
    np.save(root / "images.npy", np.zeros((10, 8, 8), np.uint8))
    np.save(root / "labels.npy", np.arange(10) % 3)
    return "npy", "images.npy", "labels.npy"


SETS = {
    "voc": (voc, detection_data),
    "coco": (coco, detection_data),
    "coco masks": (coco, segmentation_data),
    "coco points": (coco_points, landmark_data),
    "yolo": (yolo, detection_data),
    "yolo masks": (yolo_masks, segmentation_data),
    "masks": (masks, segmentation_data),
    "points": (points, landmark_data),
    "pts": (pts_files, landmark_data),
    "folder": (folder, classification_data),
    "faces": (faces, embedding_data),
    "pairs": (pairs, verification_data),
    "omniglot": (omniglot, classification_data),
    "mnist": (mnist, classification_data),
    "cifar": (cifar, classification_data),
    "npy": (npy, classification_data),
}


class Target:
    """A set on disk, and the way to open it."""

    def __init__(self, root, write, by):
        kind, *files = write(root)
        self.root, self.data, self.by = root, f"{kind}:{root}", by
        self.files = [root / file for file in files]

    def read(self, **options):
        """Everything of both splits; a line where it is refused."""
        forget()
        start, line = time.monotonic(), ""
        try:
            for split in self.by(self.data, image_size=16, **options):
                split.batches(2).check(thorough=True)
                sound(split, split.source.read(np.arange(len(split))))
        except DataError as error:
            line = str(error)
            assert "\n" not in line and str(self.root) in line and len(line) < 1_500, line
        assert time.monotonic() - start < SECONDS
        return line


def sound(split, batch):
    """Whether a batch is what its spec promises, finite and in range."""
    spec = {name: ((len(split), *field.shape), field.dtype) for name, field in split.source.spec().items()}
    assert {name: (field.shape, field.dtype) for name, field in batch.items()} == spec
    for name in ("boxes", "points"):
        if name in batch:
            assert np.isfinite(batch[name]).all()
    if "boxes" in batch:
        boxes = batch["boxes"][batch["valid"] | batch["ignored"]]
        assert (boxes >= 0).all() and (boxes <= 16).all() and (boxes[:, 2:] > boxes[:, :2]).all()
    for name in ("label", "classes"):
        if name in batch:
            assert (batch[name] >= 0).all() and (batch[name] < split.num_classes).all()
    if "mask" in batch:
        assert ((batch["mask"] < split.num_classes) | (batch["mask"] == 255)).all()
    if "points" in batch:
        assert np.abs(batch["points"][batch["visible"]]).max(initial=0) < 64


@pytest.fixture(scope="module")
def targets(tmp_path_factory):
    root = tmp_path_factory.mktemp("sets")
    return {name: Target(root / name.replace(" ", "_"), *how) for name, how in SETS.items()}


@pytest.mark.parametrize("name", SETS)
def test_unspoilt_they_are_read(targets, name):
    assert targets[name].read() == ""
    if name not in ("mnist", "cifar", "npy", "pairs"):
        assert targets[name].read(on_error="skip") == ""


TOKENS = ["nan", "-1", "1e999", "0", "99999999999999999999", "null", "[]", "{}", '"x"', "\x00", "é", "", "-0.0", "2 2"]


@st.composite
def attacks(draw):
    """What is done to the contents of a file, as a function of bytes."""
    where = draw(st.floats(0, 1, exclude_max=True))
    kind = draw(st.sampled_from(["cut", "flip", "insert", "number", "number", "number", "line", "twice"]))
    if kind == "cut":
        return lambda data: data[: int(where * len(data))]
    if kind == "flip":
        byte = draw(st.integers(1, 255))
        return lambda data: bytes(b ^ byte if i == int(where * len(data)) else b for i, b in enumerate(data))
    if kind == "insert":
        junk = draw(st.sampled_from([b"\xff\xfe", b"\x00" * 9, b"<!ENTITY", b"}", b"\n\n", "é".encode("latin-1")]))
        return lambda data: data[: (at := int(where * len(data)))] + junk + data[at:]
    if kind == "number":
        token = draw(st.sampled_from(TOKENS)).encode()

        def replace(data):
            found = list(re.finditer(rb"-?\d+(\.\d+)?", data))
            if not found:
                return token + data
            match = found[int(where * len(found))]
            return data[: match.start()] + token + data[match.end() :]

        return replace

    def lines(data):
        split = data.split(b"\n") if data.count(b"\n") > 1 else re.split(rb"(?<=[,>])", data)
        at = int(where * len(split))
        chosen = split[at : at + 1] * (0 if kind == "line" else 2)
        return (b"\n" if data.count(b"\n") > 1 else b"").join([*split[:at], *chosen, *split[at + 1 :]])

    return lines


outcomes: dict[str, int] = {"read": 0, "refused": 0}


@pytest.mark.parametrize("name", SETS)
@settings(max_examples=15, deadline=None, derandomize=True)
@given(data=st.data())
def test_spoilt_files_are_refused_in_a_line_or_read(targets, name, data):
    """15 for each of 16 sets, most read both ways: 240 spoilt sets."""
    target = targets[name]
    file = data.draw(st.sampled_from(target.files))
    attack = data.draw(attacks())
    whole = file.read_bytes()
    try:
        file.write_bytes(attack(whole))
        line = target.read()
        outcomes["refused" if line else "read"] += 1
        if name not in ("mnist", "cifar", "npy"):
            left_out = target.read(on_error="skip")
            assert line or not left_out, "what can be read whole can be read with faults skipped"
    finally:
        file.write_bytes(whole)


def test_the_attacks_were_worth_the_name():
    """Where all of them were run, most were refused, and some left what could be read."""
    if sum(outcomes.values()) >= 240:
        assert outcomes["refused"] > 100 and outcomes["read"] > 20, outcomes


def gone(file):
    file.unlink()


def a_folder(file):
    file.unlink()
    file.mkdir()


def a_pipe(file):
    file.unlink()
    os.mkfifo(file)


def a_link_out(file):
    file.unlink()
    file.symlink_to("/etc/hosts")


def a_circle(file):
    file.unlink()
    file.symlink_to(file.name)


def a_link_to_endless_zeros(file):
    file.unlink()
    file.symlink_to("/dev/zero")


def empty(file):
    file.write_bytes(b"")


def other_encoding(file):
    file.write_bytes(file.read_bytes().decode("latin-1").encode("utf-16"))


def another_kind(file):
    file.write_bytes(b"PK\x03\x04 is how an archive begins")


ATTACKS = [gone, a_folder, a_pipe, a_link_out, a_circle, a_link_to_endless_zeros, empty, other_encoding, another_kind]
MAY_BE_MISSED = (gone, a_folder, empty, another_kind)
"""One picture of many, labels of one image, a list of pairs: what the set can do without."""


@pytest.mark.parametrize("name", SETS)
def test_files_that_are_something_else(targets, name):
    """Nine attacks on each of 16 sets, on its files in turn; none may block, leave the set, or end in an exception."""
    target = targets[name]
    for number, attack in enumerate(ATTACKS):
        file = target.files[number % len(target.files)]
        whole = file.read_bytes()
        try:
            attack(file)
            line = target.read()
            assert line or attack in MAY_BE_MISSED, f"{attack.__name__} of {file} went unseen"
            if number % 3 == 0 and name not in ("mnist", "cifar", "npy", "pairs"):
                target.read(on_error="skip")
        finally:
            if file.is_dir() and not file.is_symlink():
                file.rmdir()
            file.unlink(missing_ok=True)
            file.write_bytes(whole)


@pytest.mark.parametrize("name", SETS)
def test_folders_that_lead_in_a_circle(targets, name):
    """A link inside the set to a folder above it: whatever is made of it, it ends."""
    target = targets[name]
    for folder in {file.parent for file in target.files}:
        link = folder / "loop"
        link.symlink_to(target.root)
        try:
            target.read()
        finally:
            link.unlink()


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_head(width, height, color=2):
    head = struct.pack(">IIBBBBB", width, height, 8, color, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head)


def with_exif(exif):
    stream = io.BytesIO()
    Image.new("RGB", (16, 16), (9, 9, 9)).save(stream, "JPEG")
    data = stream.getvalue()
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:]


ENDLESS = chunk(b"IDAT", zlib.compress(bytes(10**7))) + chunk(b"IEND", b"")
REFUSED = {
    "png bomb": png_head(50_000, 50_000) + ENDLESS,
    "png of 9,500 a side": png_head(9_500, 9_500) + ENDLESS,
    "png of no size": png_head(0, 0) + ENDLESS,
    "png without pixels": png_head(8, 8) + chunk(b"IEND", b""),
    "png text bomb": png_head(8, 8) + chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(10**8))) + ENDLESS,
    "gif bomb": b"GIF89a"
    + struct.pack("<HH", 65_535, 65_535)
    + b"\x80\0\0"
    + b"\0" * 6
    + b",\0\0\0\0\xff\xff\xff\xff\0",
    "bmp bomb": b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 2**30, 2**30, 1, 24, 0, 0, 0, 0, 0, 0),
    "pgm bomb": b"P5 999999 999999 255\n",
    "pgm of letters": b"P5 many more 255\n",
    "pgm cut off": b"P5 100 100 255\n" + bytes(99),
    "tiff of absurd offsets": b"II*\0\xff\xff\xff\xff",
    "tiff in a circle": b"II*\0\x08\0\0\0\0\0\x08\0\0\0",
    "jpeg head alone": b"\xff\xd8\xff\xe0",
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "html": b"<html>404 Not Found</html>",
    "git lfs pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
    "webp head": b"RIFF\xff\xff\xff\xffWEBPVP8 ",
}
EXIF = {
    "garbage": b"Exif\0\0MM\0*\0\0\0\x08\0\x05" + b"\xff" * 20,
    "short": b"Exif\0\0II",
    "offset": b"Exif\0\0II*\0\xff\xff\xff\xff",
    "circle": b"Exif\0\0II*\0\x08\0\0\0\x01\0i\x87\x04\0\x01\0\0\0\x08\0\0\0\0\0\0\0",
    "empty": b"Exif\0\0",
    "huge count": b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\xff\xff\xff\xff\x06\0\0\0\0\0\0\0",
}
READERS = [
    read_image,
    lambda path: read_image(path, size=8),
    lambda path: fit_image(path, size=8),
    lambda path: read_region(path, region=(-2, 1, 9), size=8),
    read_mask,
    lambda path: check_image(path, thorough=True),
]


@pytest.mark.parametrize("what", REFUSED)
def test_pictures_that_are_none(tmp_path, what):
    path = tmp_path / "a.png"
    path.write_bytes(REFUSED[what])
    for read in READERS:
        start = time.monotonic()
        with pytest.raises(DataError, match=r"a\.png: ") as caught:
            read(path)
        assert "\n" not in str(caught.value) and time.monotonic() - start < SECONDS


@pytest.mark.parametrize("what", EXIF)
def test_damaged_exif_spoils_no_picture(tmp_path, what):
    path = tmp_path / "a.jpg"
    path.write_bytes(with_exif(EXIF[what]))
    for read in READERS:
        read(path)
    assert np.abs(read_image(path)[0].astype(int) - 9).max() <= 1


@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data())
def test_spoilt_pictures(data, tmp_path_factory):
    """60 of five formats, cut or with some bytes changed."""
    kind = data.draw(st.sampled_from(["png", "jpg", "gif", "bmp", "webp", "tiff", "pgm"]))
    path = Path(tmp_path_factory.getbasetemp()) / f"spoilt.{kind}"
    noise(path, (24, 24))
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    for place in data.draw(st.lists(st.integers(0, 400), max_size=6)):
        if place < len(content):
            content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    for read in READERS:
        try:
            read(path)
        except DataError as error:
            assert "\n" not in str(error) and str(path) in str(error)


BOMBS = {
    "laughs": '<!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]><annotation>&b;</annotation>',
    "quadratic": f'<!DOCTYPE a [<!ENTITY a "{"x" * 9_000}">]><annotation>{"&a;" * 9_000}</annotation>',
    "external": '<!DOCTYPE a [<!ENTITY a SYSTEM "file:///etc/passwd">]><annotation>&a;</annotation>',
    "external dtd": '<!DOCTYPE a SYSTEM "http://127.0.0.1:1/a.dtd"><annotation/>',
    "parameter": '<!DOCTYPE a [<!ENTITY % a SYSTEM "file:///etc/passwd"> %a;]><annotation/>',
    "deep": "<annotation>" * 20_000,
    "wide": f"<annotation>{'<object/>' * 10_000}</annotation>",
    "encoding": '<?xml version="1.0" encoding="utf-99"?><annotation/>',
    "nul": "<annotation>\0</annotation>",
    "huge number": "<annotation><size><width>" + "9" * 5_000 + "</width><height>1</height></size></annotation>",
    "huge size": "<annotation><size><width>1e300</width><height>1e300</height></size></annotation>",
    "nothing": "",
}


@pytest.mark.parametrize("what", BOMBS)
def test_xml_bombs(targets, what):
    target = targets["voc"]
    file = target.files[0]
    whole = file.read_bytes()
    try:
        file.write_text(BOMBS[what])
        line = target.read()
        assert line.startswith(str(file)), line
        assert target.read(on_error="skip") == ""
    finally:
        file.write_bytes(whole)


HUGE = {
    "boxes": ("coco", 0, lambda t: t.replace('"bbox": [0, 0, 40, 20]', '"bbox": [0, 0, 1e308, 1e308]')),
    "negative boxes": ("coco", 0, lambda t: t.replace('"bbox": [0, 0, 40, 20]', '"bbox": [-1e308, 0, 1e308, 1]')),
    "a picture": (
        "coco masks",
        0,
        lambda t: t.replace('"width": 40', '"width": 999999').replace("[20, 40]", "[20, 999999]"),
    ),
    "runs": ("coco masks", 0, lambda t: t.replace("[100, 200, 500]", "[2147483648, 2147483648]")),
    "corners": ("coco masks", 0, lambda t: t.replace("[[0, 0, 40, 0, 40, 20, 0, 20]]", "[[0, 0, 1e9, 0, 1e9, 1e9]]")),
    "key points": (
        "coco points",
        0,
        lambda t: t.replace("[3, 3, 2, 9, 9, 1, 0, 0, 0]", "[1, 1, 2" + ", 1" * 99_999 + "]"),
    ),
    "lines": ("yolo", 1, lambda t: "".join(f"0 .5 .5 .5 .{i:06d}\n" for i in range(100_000, 110_002))),
    "classes": ("yolo", 0, lambda t: "nc: 999999999999\ntrain: images/train\nval: images/val\n"),
    "digits": ("yolo", 1, lambda t: "0 .5 .5 ." + "5" * 100_000 + " .5\nx"),
    "points": ("points", 0, lambda t: "a.png" + ",1,1" * 20_000),
    "stated points": ("pts", 0, lambda t: t.replace("n_points: 3", "n_points: 999999999999")),
    "colours": ("masks", 0, lambda t: "1 2 3 x\n" * 300),
    "idx": ("mnist", 0, None),
}


@pytest.mark.parametrize("what", HUGE)
def test_huge_counts(targets, what):
    name, number, change = HUGE[what]
    target = targets[name]
    file = target.files[number]
    whole = file.read_bytes()
    try:
        if change is None:
            file.write_bytes(whole[:4] + b"\xff" * 12 + whole[16:])
        else:
            text = change(whole.decode())
            assert text != whole.decode()
            file.write_text(text)
        line = target.read()
        assert line if what not in ("boxes", "negative boxes") else True
    finally:
        file.write_bytes(whole)
