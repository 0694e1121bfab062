"""A server on this machine that can be told to misbehave."""

import http.server
import re
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Server:
    """What it serves, how it behaves, and what it was asked: paths and headers in order."""

    data: bytes = b""
    files: dict[str, bytes] = field(default_factory=dict)
    """Contents by path; `data` for any other path."""
    tag: str | None = '"one"'
    ranges: str = "honest"
    """`honest`; `ignored`; `blind` serves them without looking at If-Range; `shifted` sends another piece."""
    cuts: list[int] = field(default_factory=list)
    """After so many bytes each of the next answers breaks off."""
    codes: list[int] = field(default_factory=list)
    """What the next answers are instead of a file."""
    length: bool = True
    location: str = ""
    silent: bool = False
    asked: list[dict[str, str]] = field(default_factory=list)
    url: str = ""
    port: int = 0

    def answer(self, request: Any) -> None:
        self.asked.append({"path": request.path, **request.headers})
        if self.silent:
            request.close_connection = True
            return
        code = self.codes.pop(0) if self.codes else 200
        if code != 200:
            request.send_response(code)
            if code in (301, 302, 307):
                request.send_header("Location", self.location)
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        data, start = self.files.get(request.path, self.data), 0
        wanted = re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range") or "")
        current = self.ranges == "blind" or request.headers.get("If-Range") in (None, self.tag)
        if wanted and self.ranges != "ignored" and current:
            start = int(wanted[1]) + (7 if self.ranges == "shifted" else 0)
            if start >= len(data):
                request.send_error(416)
                return
            request.send_response(206)
            request.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        else:
            request.send_response(200)
        if self.length:
            request.send_header("Content-Length", str(len(data) - start))
        if self.tag is not None:
            request.send_header("ETag", self.tag)
        request.end_headers()
        end = start + self.cuts.pop(0) if self.cuts else len(data)
        request.wfile.write(data[start:end])
        request.close_connection = True


@contextmanager
def serving(data: bytes = b""):
    """Start one for as long as the block lasts."""
    state = Server(data)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            state.answer(self)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http_server:
        state.port = http_server.server_port
        state.url = f"http://127.0.0.1:{state.port}/w.pth"
        thread = threading.Thread(target=http_server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield state
        finally:
            http_server.shutdown()
            thread.join()
