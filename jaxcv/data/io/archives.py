"""Archives (zip, tar, tar.gz) to folders, whoever packed them: nothing is written outside the folder.

Names that lead out (`..`, absolute ones) and members that are neither files nor folders, such as links, are refused, as
is an archive that holds more than any true one: 64 times its own size and 128 MiB, or two million members.
"""

import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxcv.data.io.paths import join, writing
from jaxcv.data.io.text import one_line
from jaxcv.errors import DataError, UserError

_RATIO, _ROOM = 64, 2**27
_MEMBERS = 2_000_000


def unpack(archive: Path, *, to: Path, only: str = "") -> None:
    """Unpack an archive; files that are there are replaced.

    Args:
      archive: the file.
      to: the folder, made if it is not there.
      only: what the names of the members wanted begin with, after the first folder of the archive; empty: all.

    Raises:
      DataError: no archive, damaged, or refused; names the member.
      UserError: a folder that cannot be written to.
    """
    to.mkdir(parents=True, exist_ok=True)
    room = _RATIO * archive.stat().st_size + _ROOM
    try:
        for count, (name, stream) in enumerate(_members(archive)):
            path = join(to, name, to)
            if path is None:
                raise DataError(f"refused: {one_line(name)!r} leads out of the folder", file=archive)
            if count >= _MEMBERS:
                raise DataError(f"refused: more than {_MEMBERS:,} members", file=archive)
            if stream is None or not name.replace("\\", "/").partition("/")[2].startswith(only):
                continue
            with writing(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                target = open(path, "wb")
            with target:
                while chunk := stream.read(2**20):
                    room -= len(chunk)
                    if room < 0:
                        raise DataError("refused: unpacks to far more than its size", file=archive)
                    with writing(path):
                        target.write(chunk)
    except (DataError, UserError):
        raise
    except Exception as error:  # damaged archives fail in every way
        raise DataError(f"damaged archive ({one_line(error)}); fetch it anew", file=archive) from None


def _members(archive: Path) -> Iterator[tuple[str, Any]]:
    """Name of each, and its contents as an open file; None for folders."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as file:
            for member in file.infolist():
                if (member.external_attr >> 16) & 0o170000 not in (0, 0o100000, 0o040000):
                    raise DataError(f"refused: {one_line(member.filename)!r} is a link", file=archive)
                if member.is_dir():
                    yield member.filename, None
                    continue
                with file.open(member) as stream:
                    yield member.filename, stream
        return
    with tarfile.open(archive) as file:
        for member in file:
            if not (member.isfile() or member.isdir()):  # stricter than tarfile's data filter, which lets links in
                raise DataError(f"refused: {one_line(member.name)!r} is no file", file=archive)
            yield member.name, file.extractfile(member) if member.isfile() else None
