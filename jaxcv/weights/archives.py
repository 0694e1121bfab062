"""Zip archives and other files that may be damaged or hostile: nothing is written to disk, and sizes are checked first.

Every fault is one `DataError` that names the file.
"""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jaxcv.errors import DataError, UserError

_ROOM, _RATIO = 2**30, 100


@contextmanager
def named_errors(path: Path) -> Iterator[None]:
    """Whatever a reader raises for a file becomes a `DataError` of one line.

    Every exception is meant: zipfile, zlib, pickle, h5py and safetensors each have their own for damaged input, and
    all that is inside the `with` is reading.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        what = f"there is no {error}" if isinstance(error, KeyError) else str(error) or type(error).__name__
        raise DataError(f"is truncated or damaged ({short(what)}); fetch the file again", file=path) from None


def short(text: str) -> str:
    """Text from a file on one line, unprintable characters escaped, cut where it gets long."""
    text = " ".join(text.split())
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return text if len(text) <= 120 else f"{text[:117]}..."


@contextmanager
def open_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    """A zip archive whose entries have been looked at: plain names, not encrypted, of a size that can be true.

    Raises:
        DataError: anything else.
    """
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        what = f"is truncated or damaged: no directory of the archive at its end ({short(str(error))})"
        raise DataError(f"{what}; fetch the file again", file=path) from None
    with archive:
        entries = archive.infolist()
        for entry in entries:
            name, parts = short(entry.filename), entry.filename.replace("\\", "/").split("/")
            if parts[0] == "" or ".." in parts:
                raise DataError(f"refused: the archive's entry {name!r} points out of the archive", file=path)
            if entry.flag_bits & 1 or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise DataError(f"the archive's entry {name!r} is encrypted or packed in an unusual way", file=path)
        check_total(path, sum(entry.file_size for entry in entries))
        yield archive


def check_total(path: Path, total: int) -> None:
    """Refuse a file whose contents say that they unpack to over a GiB and to over a hundred times the file."""
    size = path.stat().st_size
    if total > max(_ROOM, _RATIO * size):
        raise DataError(f"refused: {size:,} bytes that would unpack to {total:,} are no weights", file=path)


def read_entry(archive: zipfile.ZipFile, name: str) -> bytes:
    """One entry whole, its checksum verified.

    A read of as many bytes as the directory says stops there, whatever the packed bytes would go on to.
    """
    entry = archive.NameToInfo[name]
    with archive.open(entry) as stream:
        data = stream.read(entry.file_size)
    if len(data) != entry.file_size:
        raise EOFError(f"{short(name)} ends after {len(data):,} of {entry.file_size:,} bytes")
    return data
