"""Public sets from a server on this machine, and archives of all kinds of malice."""

import gzip
import hashlib
import io
import os
import tarfile
import threading
import zipfile
from typing import Any

import numpy as np
import pytest
from PIL import Image
from servers import serving
from small_sets import cifar_pickle, forget, noise

from jaxcv.data import classification_data, detection_data, segmentation_data, verification_data
from jaxcv.data.io import download as download_module
from jaxcv.data.io.archives import unpack
from jaxcv.data.sets import catalogue as named
from jaxcv.errors import DataError, UserError


@pytest.fixture
def server(monkeypatch, tmp_path):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("JAXCV_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(download_module, "PAUSE", 0.0)
    forget()
    with serving() as state:
        yield state
    forget()


def publish(server, monkeypatch, name, files, **changes):
    """Have this server publish a set, with the hashes of what it serves."""
    described = named.SETS[name]
    published = []
    for file, content in zip(described.files, files, strict=True):
        server.files[f"/{file.url}"] = content
        digest = hashlib.md5(content).hexdigest() if file.md5 else ""
        sha256 = hashlib.sha256(content).hexdigest() if file.sha256 else ""
        published.append(file._replace(md5=digest, sha256=sha256))
    url = f"http://127.0.0.1:{server.port}/"
    monkeypatch.setitem(named.SETS, name, described._replace(url=url, files=tuple(published), **changes))


def png(value, size=(8, 8), mode="RGB"):
    stream = io.BytesIO()
    Image.new(mode, size, value).save(stream, "PNG")
    return stream.getvalue()


def zipped(members):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)
    return stream.getvalue()


def tarred(members, mode: Any = "w:gz"):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as file:
        for name, content in members.items():
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def idx(count, *, images):
    head = bytes([0, 0, 8, 3 if images else 1]) + count.to_bytes(4, "big")
    body = b"".join((28).to_bytes(4, "big") for _ in range(2)) + bytes(784 * count) if images else bytes(range(count))
    return gzip.compress(head + body)


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_mnist_is_fetched_once_and_gone_on_with(server, monkeypatch, tmp_path, name):
    publish(server, monkeypatch, name, [idx(5, images=True), idx(5, images=False)] * 2)
    server.cuts = [20]
    train, test = classification_data(name)
    assert not server.asked, "opening fetches nothing"
    assert (len(train), len(test)) == (5, 5) and train.mirrors is (name == "fashion_mnist")
    assert train.class_names[9] == ("Ankle boot" if name == "fashion_mnist" else "9")
    assert len(server.asked) == 5 and server.asked[1]["Range"] == "bytes=20-"
    assert sorted(os.listdir(tmp_path / "cache/data")) == [f".{name}.lock", name]
    forget()
    assert len(classification_data(name)[0]) == 5 and len(server.asked) == 5
    assert len(classification_data(f"{name}:{tmp_path}/cache/data/{name}")[0]) == 5


def test_archives_are_unpacked_and_taken_away(server, monkeypatch, tmp_path):
    batch = cifar_pickle(np.zeros((2, 3072)), [0, 1])
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    publish(server, monkeypatch, "cifar10", [tarred({f"cifar-10-batches-py/{name}": batch for name in names})])
    train, test = classification_data("cifar10")
    assert (len(train), len(test)) == (10, 2)
    assert os.listdir(tmp_path / "cache/data/cifar10") == ["cifar-10-batches-py"]
    assert not (tmp_path / "cache/data/cifar10.archives").exists()


def test_two_archives_make_one_set(server, monkeypatch):
    def part(name, split):
        xml = "<annotation><size><width>8</width><height>8</height></size></annotation>"
        xml = xml.replace("</annotation>", "<object><name>dog</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>8</xmax>")
        return {
            f"VOCdevkit/VOC2007/Annotations/{name}.xml": f"{xml}<ymax>8</ymax></bndbox></object></annotation>".encode(),
            f"VOCdevkit/VOC2007/JPEGImages/{name}.png": png(5),
            f"VOCdevkit/VOC2007/ImageSets/Main/{split}.txt": f"{name}\n".encode(),
        }

    publish(server, monkeypatch, "voc2007", [tarred(part("a", "trainval"), "w"), tarred(part("b", "test"), "w")])
    train, test = detection_data("voc2007")
    assert (len(train), len(test), train.num_classes) == (1, 1, 20)
    assert train.batches(1).batch(0)["boxes"].tolist() == [[[0, 0, 256, 256]]]


def test_pictures_without_a_hash_of_their_archive_are_checked_one_by_one(server, monkeypatch, tmp_path):
    members = {"SegNet-x/README.md": b"", "SegNet-x/Other/large.bin": bytes(100)}
    for split in ("train", "val", "test"):
        members[f"SegNet-x/CamVid/{split}/1.png"] = png((1, 2, 3))
        members[f"SegNet-x/CamVid/{split}annot/1.png"] = png(11 if split == "val" else 3, mode="L")
    archive = zipped(members)
    contents = hashlib.sha256()
    for name in sorted(name.removeprefix("SegNet-x/CamVid/") for name in members if name.endswith("png")):
        content = members[f"SegNet-x/CamVid/{name}"]
        contents.update(f"{name} {hashlib.sha256(content).hexdigest()}\n".encode())
    publish(server, monkeypatch, "camvid", [archive], contents=contents.hexdigest())
    train, test = segmentation_data("camvid", image_size=8)
    assert (train.batches(1).batch(0)["mask"] == 3).all() and (test.batches(1).batch(0)["mask"] == 255).all()
    assert os.listdir(tmp_path / "cache/data/camvid/SegNet-x") == ["CamVid"]
    forget()
    monkeypatch.setenv("JAXCV_CACHE", str(tmp_path / "other"))
    server.files = {path: zipped({**members, "SegNet-x/CamVid/train/1.png": png((3, 2, 1))}) for path in server.files}
    with pytest.raises(UserError, match="the pictures in it have SHA-256 .*, expected .*; it was thrown away"):
        len(segmentation_data("camvid", image_size=8)[0])
    left = [path for path in (tmp_path / "other").rglob("*") if path.is_file() and not path.name.endswith(".lock")]
    assert not left


def test_faces_and_their_lists(server, monkeypatch):
    faces = {f"lfw_funneled/{who}/{who}_{i:04d}.jpg": png(9) for who in ("Ann_A", "Bob_B") for i in (1, 2)}
    lists = [b"1\nAnn_A\t1\t2\nAnn_A\t1\tBob_B\t1\n", b"1\nBob_B\t1\t2\n", b"1\t1\nAnn_A\t2\tBob_B\t2\n"]
    publish(server, monkeypatch, "lfw", [tarred(faces), *lists])
    assert [len(split) for split in verification_data("lfw")] == [2, 1]


def test_pets(server, monkeypatch):
    pictures, notes = {}, {"annotations/README": b"x"}
    for split, name, line in (("trainval", "Great_Pyrenees_1", "1 1 1"), ("test", "beagle_2", "2 2 1")):
        pictures[f"images/{name}.jpg"] = png((9, 9, 9))
        notes[f"annotations/trimaps/{name}.png"] = png(2 + (split == "test"), mode="L")
        notes[f"annotations/{split}.txt"] = f"# name\n{name} {line}\n".encode()
    publish(server, monkeypatch, "pets", [tarred(pictures), tarred(notes)])
    train, test = classification_data("pets")
    assert train.class_names == ("Great_Pyrenees", "beagle") and test.batches(1).batch(0)["label"] == [1]
    train, test = segmentation_data("pets", image_size=8)
    assert train.class_names == ("background", "pet")
    assert (train.batches(1).batch(0)["mask"] == 0).all() and (test.batches(1).batch(0)["mask"] == 255).all()


PETS = {
    "words": ("a b", "'a b', expected name, class from 1, species and breed"),
    "class": ("cat_1 0 1 1", "'cat_1 0 1 1', expected name"),
    "image": ("cat_9 1 1 1", r"images/cat_9\.jpg is missing"),
    "away": ("../../cat_1 1 1 1", r"images/\.\./\.\./cat_1\.jpg is missing"),
    "breed": ("dog_1 1 1 1", "class 1 is 'dog', elsewhere 'cat'"),
}


@pytest.mark.parametrize("fault", PETS)
def test_faulty_lists_of_pets(tmp_path, fault):
    line, message = PETS[fault]
    for name in ("cat_1", "dog_1"):
        noise(tmp_path / f"images/{name}.jpg")
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/trainval.txt").write_text(f"cat_1 1 1 1\n{line}\n")
    (tmp_path / "annotations/test.txt").write_text("cat_1 1 1 1\n")
    forget()
    with pytest.raises(DataError, match=rf"trainval\.txt:2: {message}"):
        len(classification_data(f"pets:{tmp_path}")[0])
    forget()
    assert len(classification_data(f"pets:{tmp_path}", on_error="skip")[0]) == 1


@pytest.mark.parametrize("name", named.SETS)
def test_offline_it_is_said_what_to_put_where(monkeypatch, tmp_path, name):
    def closed(*_, **__):
        raise OSError(101, "Network is unreachable")

    monkeypatch.setattr("socket.create_connection", closed)
    monkeypatch.setattr("socket.getaddrinfo", closed)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("JAXCV_CACHE", str(tmp_path))
    forget()
    opener = {"voc": detection_data, "coco": detection_data, "camvid": segmentation_data}
    train, _ = opener.get(named.SETS[name].kind, classification_data)(name)
    with pytest.raises(UserError, match=f"cannot be fetched .*The file can be put at {tmp_path}/data/{name}.archives/"):
        train.describe()
    forget()
    for file in named.SETS[name].files:
        assert name == "camvid" or len(file.md5) == 32 or len(file.sha256) == 64


def test_a_file_put_by_hand_is_taken(server, monkeypatch, tmp_path):
    files = [idx(5, images=True), idx(5, images=False)] * 2
    publish(server, monkeypatch, "mnist", files)
    folder = tmp_path / "cache/data/mnist.archives"
    folder.mkdir(parents=True)
    for file, content in zip(named.SETS["mnist"].files, files, strict=True):
        (folder / file.url).write_bytes(content)
    assert len(classification_data("mnist")[0]) == 5 and not server.asked


def test_two_at_once(server, monkeypatch, tmp_path):
    publish(server, monkeypatch, "mnist", [idx(5, images=True), idx(5, images=False)] * 2)
    folder, done = named.set_folder("mnist"), []
    threads = [threading.Thread(target=lambda: done.append(named._fetch("mnist", folder))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert len(done) == 3 and len(server.asked) == 4 and len(os.listdir(folder)) == 4


def link(name, kind, target="/etc/passwd"):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def linked_zip():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        info = zipfile.ZipInfo("a/link")
        info.external_attr = 0o120777 << 16
        file.writestr(info, "/etc/passwd")
    return stream.getvalue()


ARCHIVES = {
    "zip: up": (zipped({"a/ok": b"1", "../evil": b"2"}), r"refused: '\.\./evil' leads out of the folder"),
    "zip: up inside": (zipped({"a/../../evil": b"2"}), "leads out of the folder"),
    "zip: absolute": (zipped({"/tmp/evil": b"2"}), "leads out of the folder"),
    "zip: drive": (zipped({"C:\\evil": b"2"}), "leads out of the folder"),
    "zip: backslash": (zipped({"..\\evil": b"2"}), "leads out of the folder"),
    "zip: link": (linked_zip(), "refused: 'a/link' is a link"),
    "zip: truncated": (zipped({"a/b": bytes(9_000)})[:5_000], "damaged archive"),
    "tar: up": (tarred({"../evil": b"2"}), "leads out of the folder"),
    "tar: absolute": (tarred({"/tmp/evil": b"2"}), "leads out of the folder"),
    "tar: symbolic link": (tarred({link("a", tarfile.SYMTYPE): b""}), "refused: 'a' is no file"),
    "tar: hard link": (tarred({link("a", tarfile.LNKTYPE): b""}), "refused: 'a' is no file"),
    "tar: device": (tarred({link("a", tarfile.CHRTYPE): b""}), "refused: 'a' is no file"),
    "tar: pipe": (tarred({link("a", tarfile.FIFOTYPE): b""}), "refused: 'a' is no file"),
    "tar: truncated": (tarred({"a/b": os.urandom(90_000)})[:50_000], "damaged archive"),
    "text": (b"hello", "damaged archive"),
    "nothing": (b"", "damaged archive"),
}


@pytest.mark.parametrize("fault", ARCHIVES)
def test_malicious_and_damaged_archives(tmp_path, fault):
    content, message = ARCHIVES[fault]
    archive = tmp_path / "archive"
    archive.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        unpack(archive, to=tmp_path / "place/inside")
    assert "\n" not in str(caught.value)
    found = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")}
    assert found <= {"archive", "place", "place/inside", "place/inside/a", "place/inside/a/ok", "place/inside/a/b"}
    assert not os.path.exists("/tmp/evil")


def test_archives_that_unpack_to_too_much(tmp_path, monkeypatch):
    monkeypatch.setattr("jaxcv.data.io.archives._ROOM", 1_000)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a/zeros", bytes(10_000_000))
    for content in (stream.getvalue(), tarred({"a/zeros": bytes(10_000_000)})):
        (tmp_path / "archive").write_bytes(content)
        with pytest.raises(DataError, match="refused: unpacks to far more than its size"):
            unpack(tmp_path / "archive", to=tmp_path / "place")
        assert sum(path.stat().st_size for path in (tmp_path / "place").rglob("*") if path.is_file()) < 10_000_000
    monkeypatch.setattr("jaxcv.data.io.archives._MEMBERS", 3)
    (tmp_path / "archive").write_bytes(zipped({f"a/{i}": b"" for i in range(5)}))
    with pytest.raises(DataError, match="refused: more than 3 members"):
        unpack(tmp_path / "archive", to=tmp_path / "place")


def test_a_place_that_cannot_be_written_to(tmp_path):
    (tmp_path / "archive").write_bytes(zipped({"a/b": b"1", "a/b/c": b"2"}))
    with pytest.raises(UserError, match="a/b/c: cannot be written: (Not a directory|File exists)"):
        unpack(tmp_path / "archive", to=tmp_path / "place")


def test_part_of_an_archive(tmp_path):
    (tmp_path / "archive").write_bytes(tarred({"./x/keep/1": b"1", "./x/drop/2": b"2"}))
    unpack(tmp_path / "archive", to=tmp_path / "place", only="x/keep")
    assert [path.name for path in (tmp_path / "place").rglob("*") if path.is_file()] == ["1"]
