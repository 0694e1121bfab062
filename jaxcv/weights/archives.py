"""Zip archives and other files that may be damaged or malicious: never unpacked to disk, sizes checked first.

Every fault is a `DataError` of one line that names the file.
"""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jaxcv.errors import DataError, UserError

_MAX_BYTES, _MAX_RATIO = 2**30, 100


@contextmanager
def named_errors(path: Path) -> Iterator[None]:
    """Whatever a reader raises for a file becomes a `DataError` of one line.

    All exceptions are caught, because zipfile, zlib, pickle, h5py and safetensors each raise their own for damaged
    input; only reading belongs inside the `with`.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        what = f"there is no {error}" if isinstance(error, KeyError) else str(error) or type(error).__name__
        raise DataError(f"is truncated or damaged ({short(what)}); fetch the file again", file=path) from None


def short(text: str) -> str:
    """Text from a file on one line, unprintable characters escaped, at most 120 characters."""
    text = " ".join(text.split())
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return text if len(text) <= 120 else f"{text[:117]}..."


@contextmanager
def open_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a zip archive and check its entries: plain names, not encrypted, credible sizes.

    Raises:
        DataError: If it is damaged, or an entry fails a check.
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
                raise DataError(f"refused: the archive's entry {name!r} is a path outside the archive", file=path)
            if entry.flag_bits & 1 or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise DataError(f"the archive's entry {name!r} is encrypted or packed in an unusual way", file=path)
        check_total(path, sum(entry.file_size for entry in entries))
        yield archive


def check_total(path: Path, total: int) -> None:
    """Raise DataError if a file's contents would take more than 1 GiB and more than a hundred times its size."""
    size = path.stat().st_size
    if total > max(_MAX_BYTES, _MAX_RATIO * size):
        raise DataError(f"refused: {size:,} bytes that would unpack to {total:,} are no weights", file=path)


def read_entry(archive: zipfile.ZipFile, name: str) -> bytes:
    """One whole entry, its checksum verified.

    At most as many bytes are decompressed as the archive's directory says.
    """
    entry = archive.NameToInfo[name]
    with archive.open(entry) as stream:
        data = stream.read(entry.file_size)
    if len(data) != entry.file_size:
        raise EOFError(f"{short(name)} ends after {len(data):,} of {entry.file_size:,} bytes")
    return data
