"""Files from the network: fetched once, never taken unchecked, and gone on with where a connection broke.

What has come stands in NAME.part beside the file to be, with the address and the version that the server stated in
NAME.part.json. Only a file whose SHA-256 (or MD5, where no other hash was published) is right gets its name.
"""

import contextlib
import hashlib
import http.client
import json
import logging
import os
import re
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from jaxcv.data.io.paths import writing
from jaxcv.errors import UserError

try:
    import fcntl
except ImportError:  # not Unix: two processes that fetch the same file at once may both fail, with a clear message
    fcntl = None

Progress = Callable[[int, int], None]
"""Called with the bytes that are there and the bytes in all, 0 where the server does not say."""

ATTEMPTS = 5
PAUSE = 1.0  # seconds before the second attempt, twice as many before the third, and so on
_CHUNK = 2**18
_PASSING = (408, 416, 429, 500, 502, 503, 504)  # answers that another attempt may change
_HASHES = {"sha256": ("SHA-256", 64), "md5": ("MD5", 32)}  # how each is called, and its hexadecimal digits
_log = logging.getLogger(__name__)


def progress_bar(name: str) -> Progress:
    """A line on the terminal that says how much of a file has come; nothing where there is no terminal."""
    last = -1

    def show(done: int, total: int) -> None:
        nonlocal last
        percent = 100 * done // total if total else done >> 20
        if percent != last and sys.stderr.isatty():
            amount = f"{percent:3d} % of {total / 1e6:,.0f} MB" if total else f"{done / 1e6:,.0f} MB"
            sys.stderr.write(f"\r{name}: {amount}{chr(10) if done == total else ''}")
            sys.stderr.flush()
        last = percent

    return show


def download(
    url: str, *, to: Path, sha256: str = "", md5: str = "", progress: Progress | None = None, timeout: float = 30.0
) -> Path:
    """Fetch a file, or find that it is there.

    Args:
        url: `http` or `https`; redirections lead to no other scheme, and not from https to http.
        to: the file. Its folder is made. One that is there with the right hash is taken, with another replaced.
        sha256: hexadecimal digits that its SHA-256 begins with, at least 8.
        md5: the same of its MD5, where no other hash is known. Without either, what came is taken for the file, and
            nothing is gone on with: the caller must check it.
        progress: called while bytes come in.
        timeout: seconds without an answer or a byte.

    Returns:
        `to`.

    Raises:
        UserError: no network, no such file on the server, a wrong hash, a path that cannot be written to.
    """
    to, kind, wanted = Path(to).expanduser(), "sha256" if sha256 else "md5" if md5 else "", (sha256 or md5).lower()
    name, most = _HASHES.get(kind, ("", 0))
    if kind and not re.fullmatch(f"[0-9a-f]{{8,{most}}}", wanted):
        raise UserError(f"{url}: {wanted!r} is no {name}; expected 8 to {most} hexadecimal digits")
    if _scheme(url) not in ("http", "https"):
        raise UserError(f"{url}: only http and https are fetched")
    if to.is_dir():
        raise UserError(f"{to}: is a folder; expected the name of the file to fetch")
    if to.exists():
        if (found := _hash(to, kind)).startswith(wanted):
            return to
        _log.warning("%s: %s is %s, expected %s; the file is fetched again", to, name, found, wanted)
    with locked(to):
        if not (to.exists() and _hash(to, kind).startswith(wanted)):  # else another process was faster
            part = to.with_name(f"{to.name}.part")
            _complete(url, part, to, kind, wanted, progress, timeout)
            with writing(to):
                os.replace(part, to)
            _discard(part)
    return to


def _scheme(url: str) -> str:
    try:
        return urlsplit(url).scheme
    except ValueError as error:
        raise UserError(f"{url}: not an address: {error}") from None


def _hash(path: Path, kind: str) -> str:
    """The hexadecimal digits of a file's hash; none where no hash is known."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, kind).hexdigest() if kind else ""
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None


@contextlib.contextmanager
def locked(to: Path) -> Iterator[None]:
    """Keep other processes from making `to`, a file or a folder, at the same time; its folder is made."""
    with writing(to):
        to.parent.mkdir(parents=True, exist_ok=True)
        lock = open(to.with_name(f".{to.name}.lock"), "wb")
    with lock:
        if fcntl is not None:
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class _Failed(Exception):
    """An attempt that came to nothing, and why; the other argument: whether another may do better."""


def _complete(
    url: str, part: Path, to: Path, kind: str, wanted: str, progress: Progress | None, timeout: float
) -> None:
    """Attempts until `part` has the right hash."""
    if kind and part.exists() and _hash(part, kind).startswith(wanted):  # all had come, and the process died
        return
    reason, resumed, name = "", False, _HASHES.get(kind, ("",))[0]
    for attempt in range(ATTEMPTS):
        time.sleep(PAUSE * attempt)
        if not kind:  # nothing would tell whether two pieces belong together
            _discard(part)
        try:
            resumed |= _receive(url, part, progress, timeout)
        except _Failed as failed:
            reason, again = failed.args
            if again:
                continue
            break
        found = _hash(part, kind)
        if found.startswith(wanted):
            return
        _discard(part)
        if not resumed:
            raise UserError(f"{url}: {name} of what came is {found}, expected {wanted}; it was thrown away")
        # Its pieces may be of different files, where the server does not say which is which.
        _log.warning("%s: wrong %s after going on with %s; it is fetched from the start", url, name, part)
        reason, resumed = f"wrong {name}", False
    check = f": its {name} must begin with {wanted}, which will be checked" if kind else ""
    kept = f"; {part.stat().st_size:,} bytes are kept, to go on from the next time" if part.exists() else ""
    raise UserError(f"{url}: cannot be fetched ({reason}){kept}. The file can be put at {to} by hand{check}")


def _note(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _note(part).unlink(missing_ok=True)


def _receive(url: str, part: Path, progress: Progress | None, timeout: float) -> bool:
    """One connection: the rest of the file if the server has that, else all of it. Whether it was the rest."""
    start, known = (part.stat().st_size if part.exists() else 0), _read_note(part)
    start = start if known.get("url", url) == url else 0
    headers = {"User-Agent": "jaxcv", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
        if known.get("version"):
            headers["If-Range"] = known["version"]
    with _answering("no answer", url, part):
        request = urllib.request.Request(url, headers=headers)
        response = urllib.request.build_opener(_Redirects).open(request, timeout=timeout)
    with response:
        # What tells this file from a later one at the same address: what a server takes in If-Range.
        tag, dated = (response.headers.get(name) or "" for name in ("ETag", "Last-Modified"))
        version, rest = tag if tag and not tag.startswith("W/") else dated, response.status == 206
        sent = (response.headers.get("Content-Range") or "").startswith(f"bytes {start}-")
        if rest and not (start and sent and known.get("version", version) == version):
            _discard(part)
            raise _Failed("the server sent another piece than it was asked for", True)
        if response.status not in (200, 206):
            raise _Failed(f"the server says {response.status} {response.reason}", True)
        done = start if rest else 0
        total = done + response.length if response.length else 0
        with writing(part), open(part, "ab" if rest else "wb") as file:
            _note(part).write_text(json.dumps({"url": url, "version": version}), encoding="utf-8")
            while chunk := _read(response, url, part):
                file.write(chunk)
                done += len(chunk)
                if progress is not None:
                    progress(done, total)
        if done < total:
            raise _Failed(f"the connection broke after {done:,} of {total:,} bytes", True)
    return rest


def _read(response: Any, url: str, part: Path) -> bytes:
    with _answering("the connection broke", url, part):
        return response.read(_CHUNK)


@contextlib.contextmanager
def _answering(what: str, url: str, part: Path) -> Iterator[None]:
    """Raises _Failed for all that may go wrong with a server, UserError for an address that cannot be one."""
    try:
        yield
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # there is nothing after what is here, and what is here is not the file
            _discard(part)
        raise _Failed(f"the server says {error.code} {error.reason}", error.code in _PASSING) from None
    except urllib.error.URLError as error:
        why = error.reason.strerror or error.reason if isinstance(error.reason, OSError) else error.reason
        raise _Failed(f"no network, or no such server: {why}", False) from None
    except (http.client.InvalidURL, UnicodeError) as error:
        raise UserError(f"{url}: not an address: {error}") from None
    except (OSError, http.client.HTTPException) as error:
        raise _Failed(f"{what}: {error or type(error).__name__}", True) from None


def _read_note(part: Path) -> dict[str, str]:
    try:
        note = json.loads(_note(part).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}


class _Redirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        schemes = _scheme(req.full_url), _scheme(newurl)
        if schemes not in (("http", "http"), ("http", "https"), ("https", "https")):
            fp.close()
            raise UserError(f"{req.full_url}: leads to {newurl}; refused, only http and https are fetched")
        return super().redirect_request(req, fp, code, msg, headers, newurl)
