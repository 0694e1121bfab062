"""Files from the network: fetched once, never taken unchecked, and gone on with where a connection broke.

What has come stands in NAME.part beside the place where the file will be, with a note of what the server said about it
in NAME.part.json. Only a file whose SHA-256 is right gets its name.
"""

import contextlib
import hashlib
import http.client
import json
import logging
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from jaxcv.types import UserError

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


class _Dropped(Exception):
    """Another attempt may do better."""


def download(url: str, *, to: Path, sha256: str, progress: Progress | None = None, timeout: float = 30.0) -> Path:
    """Fetch a file, or find that it is there.

    Args:
        url: `http` or `https`; redirections lead to no other scheme, and not from https to http.
        to: the file. Its folder is made. One that is there with the right hash is taken, with another replaced.
        sha256: hexadecimal digits that its SHA-256 begins with, at least 8.
        progress: called while bytes come in.
        timeout: seconds without an answer or a byte.

    Returns:
        `to`.

    Raises:
        UserError: no network, no such file on the server, a wrong hash, a place that cannot be written to.
    """
    to, sha256 = Path(to).expanduser(), sha256.lower()
    if not re.fullmatch("[0-9a-f]{8,64}", sha256):
        raise UserError(f"{url}: {sha256!r} is no SHA-256; expected 8 to 64 hexadecimal digits")
    if _scheme(url) not in ("http", "https"):
        raise UserError(f"{url}: only http and https are fetched")
    if _is_there(to, sha256):
        return to
    part = to.with_name(f"{to.name}.part")
    with _writing(to):
        to.parent.mkdir(parents=True, exist_ok=True)
        lock = open(to.with_name(f".{to.name}.lock"), "wb")
    with lock:
        if fcntl is not None:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if _is_there(to, sha256, quiet=True):  # another process was faster
                return to
        _complete(url, part, to, sha256, progress, timeout)
        with _writing(to):
            os.replace(part, to)
        _note(part).unlink(missing_ok=True)
    return to


def _scheme(url: str) -> str:
    try:
        return urlsplit(url).scheme
    except ValueError as error:
        raise UserError(f"{url}: not an address: {error}") from None


def _is_there(path: Path, sha256: str, *, quiet: bool = False) -> bool:
    if path.is_dir():
        raise UserError(f"{path}: is a folder; expected the name of the file to fetch")
    if not path.exists():
        return False
    found = _sha256(path)
    if not found.startswith(sha256) and not quiet:
        _log.warning("%s: SHA-256 is %s, expected %s; the file is fetched again", path, found, sha256)
    return found.startswith(sha256)


def _sha256(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None


def _note(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from None


def _complete(url: str, part: Path, to: Path, sha256: str, progress: Progress | None, timeout: float) -> None:
    """Attempts until `part` has the right hash."""
    if part.exists() and _sha256(part).startswith(sha256):  # all had come, and the process died
        return
    reason, glued = "", False
    for attempt in range(ATTEMPTS):
        time.sleep(PAUSE * attempt)
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
        found = _sha256(part)
        if found.startswith(sha256):
            return
        _discard(part)
        if not glued:
            raise UserError(
                f"{url}: SHA-256 of what came is {found}, expected {sha256}; it was thrown away and {to} not written"
            )
        # Its parts may be of different files, where the server does not say which is which.
        _log.warning("%s: wrong SHA-256 after going on with %s; it is fetched from the start", url, part)
        reason, glued = "wrong SHA-256", False
    kept = f"; {part.stat().st_size:,} bytes are kept, to go on from the next time" if part.exists() else ""
    raise UserError(
        f"{url}: cannot be fetched ({reason}){kept}. The file can be put at {to} by hand: its SHA-256 must begin with "
        f"{sha256}, which will be checked"
    )


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
