"""Public sets by name: fetched when first needed, checked, and unpacked; `catalogue.toml` lists them.

They are kept in `data/NAME` of the cache (`$JAXCV_CACHE`, else `~/.cache/jaxcv`), and read from there like any other
folder; archives are taken away once they are unpacked. Without network the message says which file to put where.
"""

import hashlib
import os
import shutil
import tomllib
from functools import partial
from pathlib import Path
from typing import NamedTuple

from jaxcv.data.io.archives import unpack
from jaxcv.data.io.download import download, locked, progress_bar
from jaxcv.data.io.paths import cache_folder, fetch_when_missing, writing
from jaxcv.errors import UserError


class PublicFile(NamedTuple):
    """One file of a set."""

    url: str  # seen from the set's
    md5: str = ""
    sha256: str = ""
    name: str = ""  # what it is called here; empty: as there


class PublicSet(NamedTuple):
    """One public set."""

    kind: str  # how it is read, as in `kind:PATH`
    url: str
    files: tuple[PublicFile, ...]
    packed: bool = True
    only: str = ""  # what the names of the members wanted begin with
    contents: str = ""  # SHA-256 of the names and SHA-256s of all pictures, where the archive has no hash


SETS = {
    name: PublicSet(**{**fields, "files": tuple(PublicFile(**file) for file in fields["files"])})
    for name, fields in tomllib.loads(Path(__file__).with_name("catalogue.toml").read_text("utf-8")).items()
}


def set_folder(name: str) -> Path:
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
        shutil.rmtree(new, ignore_errors=True)
        try:
            with writing(new):
                new.mkdir()
                for file in files:
                    if described.packed and file.suffix != ".txt":
                        unpack(file, to=new, only=described.only)
                    else:
                        shutil.copyfile(file, new / file.name)
                if described.contents and (found := hash_pictures(new)) != described.contents:
                    message = f"the pictures in it have SHA-256 {found}, expected {described.contents}"
                    shutil.rmtree(archives)
                    raise UserError(f"{described.url}{described.files[0].url}: {message}; it was thrown away")
                os.replace(new, folder)
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
