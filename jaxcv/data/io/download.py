"""Files from the network: fetched once, never taken unchecked, and gone on with where a connection broke.

What has come stands in NAME.part beside the place where the file will be, with a note of what the server said about it
in NAME.part.json. Only a file whose SHA-256 (or MD5, where no other hash was published) is right gets its name.
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
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from jaxcv.errors import UserError

try:
    import fcntl
except ImportError:  # not Unix: two processes that fetch the same file at once may both fail, with a clear message
    fcntl = None

Progress = Callable[[int, int], None]
"""Called with the bytes that are there and the bytes in all, 0 where the server does not say."""

ATTEMPTS = 5
PAUSE = 1.0
"""Seconds before the second attempt, twice as many before the third, and so on."""

_CHUNK = 2**18
_PASSING = (408, 429, 500, 502, 503, 504)  # answers that another attempt may change
_log = logging.getLogger(__name__)


def progress_bar(name: str) -> Progress:
    """A line on the terminal that says how much of a file has come; nothing where there is no terminal."""
    shown = [-1]

    def show(done: int, total: int) -> None:
        percent = 100 * done // total if total else done >> 20
        if percent != shown[0] and sys.stderr.isatty():
            share = f"{percent:3d} % of {total / 1e6:,.0f} MB" if total else f"{done / 1e6:,.0f} MB"
            sys.stderr.write(f"\r{name}: {share}{chr(10) if done == total else ''}")
            sys.stderr.flush()
        shown[0] = percent

    return show


class _Dropped(Exception):
    """Another attempt may do better."""


class Hash(NamedTuple):
    """What a file must be."""

    kind: str
    """`sha256`, `md5`, or nothing: whoever unpacks the file checks what it holds."""
    digits: str
    """Hexadecimal, those that the hash begins with."""

    def of(self, path: Path) -> str:
        """The whole hash of a file."""
        try:
            with open(path, "rb") as file:
                return hashlib.file_digest(file, self.kind).hexdigest() if self.kind else ""
        except OSError as error:
            raise UserError(f"{path}: cannot be read: {error.strerror}") from None

    def fits(self, path: Path) -> bool:
        """Whether a file has it."""
        return self.of(path).startswith(self.digits)

    def __str__(self) -> str:
        return {"sha256": "SHA-256", "md5": "MD5"}.get(self.kind, "")


def download(
    url: str,
    *,
    to: Path,
    sha256: str = "",
    md5: str = "",
    progress: Progress | None = None,
    timeout: float = 30.0,
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
        UserError: no network, no such file on the server, a wrong hash, a place that cannot be written to.
    """
    to = Path(to).expanduser()
    wanted = Hash("sha256" if sha256 else "md5" if md5 else "", (sha256 or md5).lower())
    most = {"sha256": 64, "md5": 32}.get(wanted.kind, 0)
    if wanted.kind and not re.fullmatch(f"[0-9a-f]{{8,{most}}}", wanted.digits):
        raise UserError(f"{url}: {wanted.digits!r} is no {wanted}; expected 8 to {most} hexadecimal digits")
    if _scheme(url) not in ("http", "https"):
        raise UserError(f"{url}: only http and https are fetched")
    if _is_there(to, wanted):
        return to
    part = to.with_name(f"{to.name}.part")
    with locked(to):
        if _is_there(to, wanted, quiet=True):  # another process was faster
            return to
        _complete(url, part, to, wanted, progress, timeout)
        with _writing(to):
            os.replace(part, to)
        _note(part).unlink(missing_ok=True)
    return to


def _scheme(url: str) -> str:
    try:
        return urlsplit(url).scheme
    except ValueError as error:
        raise UserError(f"{url}: not an address: {error}") from None


def _is_there(path: Path, wanted: Hash, *, quiet: bool = False) -> bool:
    if path.is_dir():
        raise UserError(f"{path}: is a folder; expected the name of the file to fetch")
    if not path.exists():
        return False
    found = wanted.of(path)
    if not (fits := found.startswith(wanted.digits)) and not quiet:
        _log.warning("%s: %s is %s, expected %s; the file is fetched again", path, wanted, found, wanted.digits)
    return fits


@contextlib.contextmanager
def locked(to: Path) -> Iterator[None]:
    """Keep other processes from making `to`, a file or a folder, at the same time; its folder is made."""
    with _writing(to):
        to.parent.mkdir(parents=True, exist_ok=True)
        lock = open(to.with_name(f".{to.name}.lock"), "wb")
    with lock:
        if fcntl is not None:
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _note(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from None


def _complete(url: str, part: Path, to: Path, wanted: Hash, progress: Progress | None, timeout: float) -> None:
    """Attempts until `part` has the right hash."""
    if wanted.kind and part.exists() and wanted.fits(part):  # all had come, and the process died
        return
    reason, glued = "", False
    for attempt in range(ATTEMPTS):
        time.sleep(PAUSE * attempt)
        if not wanted.kind:  # nothing would tell whether two pieces belong together
            _discard(part)
        try:
            glued |= _receive(url, part, progress, timeout)
        except _Dropped as dropped:
            reason = str(dropped)
            continue
        except urllib.error.HTTPError as error:
            error.close()
            reason = f"the server says {error.code} {error.reason}"
            break
        except urllib.error.URLError as error:
            what = error.reason.strerror or error.reason if isinstance(error.reason, OSError) else error.reason
            reason = f"no network, or no such server: {what}"
            break
        except (http.client.InvalidURL, UnicodeError) as error:
            raise UserError(f"{url}: not an address: {error}") from None
        found = wanted.of(part)
        if found.startswith(wanted.digits):
            return
        _discard(part)
        if not glued:
            raise UserError(
                f"{url}: {wanted} of what came is {found}, expected {wanted.digits}; it was thrown away and {to} not "
                "written"
            )
        # Its parts may be of different files, where the server does not say which is which.
        _log.warning("%s: wrong %s after going on with %s; it is fetched from the start", url, wanted, part)
        reason, glued = f"wrong {wanted}", False
    check = f": its {wanted} must begin with {wanted.digits}, which will be checked" if wanted.kind else ""
    kept = f"; {part.stat().st_size:,} bytes are kept, to go on from the next time" if part.exists() else ""
    raise UserError(f"{url}: cannot be fetched ({reason}){kept}. The file can be put at {to} by hand{check}")


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _note(part).unlink(missing_ok=True)


def _receive(url: str, part: Path, progress: Progress | None, timeout: float) -> bool:
    """One connection: the rest of the file if the server has that, else all of it. Whether it was the rest."""
    start, known = (part.stat().st_size if part.exists() else 0), _read_note(part)
    if start and known.get("url", url) != url:
        start = 0
    headers = {"User-Agent": "jaxcv", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
        if known.get("version"):
            headers["If-Range"] = known["version"]
    with _open(urllib.request.Request(url, headers=headers), part, timeout) as response:
        version, rest = _version(response), response.status == 206
        total = _number(response.headers.get("Content-Length"))
        if rest:
            sent = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range") or "")
            total = _number(sent[2]) if sent else 0
            if not start or not sent or int(sent[1]) != start or known.get("version", version) != version:
                _discard(part)
                raise _Dropped("the server sent another piece than it was asked for")
        elif response.status != 200:
            raise _Dropped(f"the server says {response.status} {response.reason}")
        done = start if rest else 0
        with _writing(part), open(part, "ab" if rest else "wb") as file:
            _note(part).write_text(json.dumps({"url": url, "version": version}), encoding="utf-8")
            for chunk in _chunks(response):
                file.write(chunk)
                done += len(chunk)
                if progress is not None:
                    progress(done, total)
        if done < total:
            raise _Dropped(f"the connection broke after {done:,} of {total:,} bytes")
    return rest


def _open(request: urllib.request.Request, part: Path, timeout: float) -> Any:
    try:
        return urllib.request.build_opener(_Redirects).open(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # there is nothing after what is here, and what is here is not the file
            _discard(part)
        if error.code in (416, *_PASSING):
            error.close()
            raise _Dropped(f"the server says {error.code} {error.reason}") from None
        raise
    except (urllib.error.URLError, http.client.InvalidURL):
        raise
    except (OSError, http.client.HTTPException) as error:
        raise _Dropped(f"no answer: {error or type(error).__name__}") from None


def _chunks(response: Any) -> Iterator[bytes]:
    while True:
        try:
            chunk = response.read(_CHUNK)
        except (OSError, http.client.HTTPException) as error:
            raise _Dropped(f"the connection broke: {error or type(error).__name__}") from None
        if not chunk:
            return
        yield chunk


def _version(response: Any) -> str:
    """What tells this file from a later one at the same address: what a server takes in If-Range."""
    tag = response.headers.get("ETag") or ""
    return tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified") or ""


def _number(text: str | None) -> int:
    return int(text) if text and text.isdecimal() else 0


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
