"""Fetching from a server on this machine that can be told to misbehave."""

import hashlib
import io
import os
import socket
import sys
import threading

import numpy as np
import pytest
from servers import serving

from jaxcv.data.io import download as module
from jaxcv.data.io.download import download
from jaxcv.errors import UserError

DATA = np.random.default_rng(0).bytes(300_000)
OTHER = np.random.default_rng(1).bytes(300_000)
SHA = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(module, "PAUSE", 0.0)
    with serving(DATA) as state:
        yield state


def whole(path):
    return path.read_bytes() == DATA and {p.name for p in path.parent.iterdir()} == {path.name, f".{path.name}.lock"}


def refused(message, url, to, **options):
    with pytest.raises(UserError, match=message) as error:
        download(url, to=to, **{"sha256": SHA, **options})
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("digits", [8, 64])
def test_a_file_is_fetched_once(server, tmp_path, digits):
    to, seen = tmp_path / "new" / "folder" / "w.pth", []
    for _ in range(2):
        assert download(server.url, to=to, sha256=SHA[:digits].upper(), progress=lambda *n: seen.append(n)) == to
    assert whole(to) and len(server.asked) == 1
    done, totals = zip(*seen, strict=True)
    assert list(done) == sorted(done) and done[-1] == len(DATA) and set(totals) == {len(DATA)}


def test_without_a_length(server, tmp_path):
    server.length, seen = False, []
    download(server.url, to=tmp_path / "w.pth", sha256=SHA, progress=lambda *n: seen.append(n))
    assert whole(tmp_path / "w.pth") and seen[-1] == (len(DATA), 0)


def test_a_broken_connection_is_gone_on_with(server, tmp_path):
    server.cuts = [100_000, 50_000]
    download(server.url, to=tmp_path / "w.pth", sha256=SHA)
    assert whole(tmp_path / "w.pth")
    assert [a.get("Range") for a in server.asked] == [None, "bytes=100000-", "bytes=150000-"]
    assert [a.get("If-Range") for a in server.asked] == [None, '"one"', '"one"']


def test_it_is_gone_on_with_by_the_next_process(server, tmp_path):
    server.cuts = [60_000] + [0] * 4
    text = refused(r"cannot be fetched .the connection broke after 60,000 of 300,000", server.url, tmp_path / "w.pth")
    assert "60,000 bytes are kept, to go on from the next time" in text and len(server.asked) == module.ATTEMPTS
    assert (tmp_path / "w.pth.part").read_bytes() == DATA[:60_000] and not (tmp_path / "w.pth").exists()
    download(server.url, to=tmp_path / "w.pth", sha256=SHA)
    assert whole(tmp_path / "w.pth") and server.asked[-1]["Range"] == "bytes=60000-"


def test_a_part_that_is_whole_is_taken(server, tmp_path):
    (tmp_path / "w.pth.part").write_bytes(DATA)
    download(server.url, to=tmp_path / "w.pth", sha256=SHA)
    assert whole(tmp_path / "w.pth") and not server.asked


@pytest.mark.parametrize("ranges", ["ignored", "shifted"])
def test_a_server_that_does_not_honour_ranges(server, tmp_path, caplog, ranges):
    server.ranges, server.cuts = ranges, [100_000]
    download(server.url, to=tmp_path / "w.pth", sha256=SHA)
    assert whole(tmp_path / "w.pth")
    again = [] if ranges == "ignored" else [None]
    assert [a.get("Range") for a in server.asked] == [None, "bytes=100000-", *again]
    assert not caplog.records, "known by what it says it sends, not only by the hash"


@pytest.mark.parametrize("ranges", ["honest", "blind"])
def test_a_file_that_changed_meanwhile_is_not_glued(server, tmp_path, caplog, ranges):
    server.data, server.tag, server.ranges, server.cuts = OTHER, '"old"', ranges, [100_000] + [0] * 4
    refused("the connection broke", server.url, tmp_path / "w.pth")
    server.data, server.tag = DATA, '"new"'
    asked = len(server.asked)
    download(server.url, to=tmp_path / "w.pth", sha256=SHA)
    assert whole(tmp_path / "w.pth") and not caplog.records, "known by the tag, not only by the hash"
    assert len(server.asked) - asked == (1 if ranges == "honest" else 2)


@pytest.mark.parametrize("tag", [None, 'W/"weak"'])
def test_without_a_tag_the_hash_finds_it(server, tmp_path, caplog, tag):
    server.data, server.tag, server.ranges, server.cuts = OTHER, tag, "blind", [100_000] + [0] * 4
    refused("the connection broke", server.url, tmp_path / "w.pth")
    server.data = DATA
    download(server.url, to=tmp_path / "w.pth", sha256=SHA)
    assert whole(tmp_path / "w.pth") and "wrong SHA-256 after going on" in caplog.text
    assert "If-Range" not in server.asked[-2] and "Range" not in server.asked[-1]


def test_a_part_of_another_address_or_of_nobody(server, tmp_path):
    """One is not gone on with; the other is, and found to be wrong."""
    for note in (f'{{"url": "{server.url}2"}}', "[]", "nonsense"):
        (tmp_path / "w.pth.part").write_bytes(OTHER[:1000])
        (tmp_path / "w.pth.part.json").write_text(note)
        download(server.url, to=tmp_path / "w.pth", sha256=SHA)
        assert whole(tmp_path / "w.pth")
        (tmp_path / "w.pth").unlink()
    assert [a.get("Range") for a in server.asked] == [None, *["bytes=1000-", None] * 2]


def test_a_part_that_is_too_long(server, tmp_path):
    (tmp_path / "w.pth.part").write_bytes(OTHER + b"more")
    download(server.url, to=tmp_path / "w.pth", sha256=SHA)
    assert whole(tmp_path / "w.pth")


def test_wrong_bytes(server, tmp_path):
    server.data, found = OTHER, hashlib.sha256(OTHER).hexdigest()
    text = refused(f"SHA-256 of what came is {found}, expected {SHA}", server.url, tmp_path / "w.pth")
    assert "thrown away" in text and [p.name for p in tmp_path.iterdir()] == [".w.pth.lock"]
    assert len(server.asked) == 1


def test_a_wrong_file_in_the_cache_is_replaced_loudly(server, tmp_path, caplog):
    (tmp_path / "w.pth").write_bytes(OTHER)
    download(server.url, to=tmp_path / "w.pth", sha256=SHA[:10])
    assert whole(tmp_path / "w.pth")
    assert f"expected {SHA[:10]}; the file is fetched again" in caplog.text and caplog.records[0].levelname == "WARNING"


def test_a_wrong_file_stays_while_it_cannot_be_replaced(server, tmp_path):
    (tmp_path / "w.pth").write_bytes(OTHER)
    server.codes = [404]
    refused("404 Not Found", server.url, tmp_path / "w.pth")
    assert (tmp_path / "w.pth").read_bytes() == OTHER


@pytest.mark.parametrize(("code", "asked"), [(404, 1), (403, 1), (410, 1), (503, module.ATTEMPTS), (204, 5)])
def test_a_server_that_has_no_file(server, tmp_path, code, asked):
    server.codes = [code] * 9
    text = refused(f"/w.pth: cannot be fetched .the server says {code} ", server.url, tmp_path / "w.pth")
    assert f"can be put at {tmp_path / 'w.pth'} by hand: its SHA-256 must begin with {SHA}, which" in text
    assert len(server.asked) == asked


def test_a_server_that_comes_to_itself(server, tmp_path):
    server.codes = [503, 429, 200, 500]
    server.cuts = [10_000]
    download(server.url, to=tmp_path / "w.pth", sha256=SHA)
    assert whole(tmp_path / "w.pth") and len(server.asked) == 5


def test_a_server_that_says_nothing(server, tmp_path):
    server.silent = True
    refused("cannot be fetched .no answer: .*closed connection", server.url, tmp_path / "w.pth")
    assert len(server.asked) == module.ATTEMPTS


def test_no_network(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with socket.socket() as closed:  # a port nobody listens on
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/w.pth"
        text = refused("no network, or no such server: Connection refused", url, tmp_path / "w.pth")
    assert text.startswith(url) and str(tmp_path / "w.pth") in text and "kept" not in text

    def unknown(*_, **__):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    refused("no network, or no such server: Name or service not known", "https://x.invalid/w", tmp_path / "w.pth")


def test_a_server_that_does_not_answer_in_time(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(module, "PAUSE", 0.0)
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        url = f"http://127.0.0.1:{mute.getsockname()[1]}/w.pth"
        refused("no answer: timed out", url, tmp_path / "w.pth", timeout=0.05)


def test_redirections(server, tmp_path):
    server.codes, server.location = [302], f"http://127.0.0.1:{server.port}/elsewhere"
    server.cuts = [1_000]
    download(server.url, to=tmp_path / "w.pth", sha256=SHA)
    assert whole(tmp_path / "w.pth")
    assert [a["path"] for a in server.asked] == ["/w.pth", "/elsewhere", "/w.pth"]


@pytest.mark.parametrize("scheme", ["file", "ftp", "data"])
def test_other_schemes(server, tmp_path, scheme):
    secret = tmp_path / "secret"
    secret.write_bytes(DATA)
    refused("only http and https are fetched", f"{scheme}://{secret}", tmp_path / "w.pth")
    server.codes, server.location = [302], f"{scheme}://127.0.0.1{secret}"
    refused("not allowed|only http and https", server.url, tmp_path / "w.pth")
    assert not (tmp_path / "w.pth").exists()


def test_no_way_back_from_https():
    handler, request = module._Redirects(), module.urllib.request.Request("https://a.example/w")
    with open(os.devnull, "rb") as answer, pytest.raises(UserError, match="leads to http://b.example/w; refused"):
        handler.redirect_request(request, answer, 302, "Found", {}, "http://b.example/w")
    with open(os.devnull, "rb") as answer:
        followed = handler.redirect_request(request, answer, 302, "Found", {}, "https://b.example/w")
    assert followed.full_url == "https://b.example/w"


@pytest.mark.parametrize(
    ("url", "options", "message"),
    [
        ("http://127.0.0.1/w", {"sha256": "123"}, "'123' is no SHA-256; expected 8 to 64"),
        ("http://127.0.0.1/w", {"sha256": "x" * 64}, "is no SHA-256"),
        ("w.pth", {}, "only http and https"),
        ("http://127.0.0.1:port/w", {}, "not an address"),
        ("http://[::1/w", {}, "not an address"),
        ("http://127.0.0.1/a b", {}, "not an address"),
    ],
)
def test_what_cannot_be_asked_for(tmp_path, monkeypatch, url, options, message):
    monkeypatch.setenv("no_proxy", "*")
    refused(message, url, tmp_path / "w.pth", **options)


def test_places_that_cannot_be_written_to(server, tmp_path):
    (tmp_path / "file").touch()
    refused("file/w.pth: cannot be written: (Not a directory|File exists)", server.url, tmp_path / "file" / "w.pth")
    refused("is a folder; expected the name of the file", server.url, tmp_path)
    assert not server.asked


def test_a_full_disk(server, tmp_path):
    """As far as a process can have one: no file may grow beyond 100 kB."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        refused("w.pth.part: cannot be written: File too large", server.url, tmp_path / "w.pth")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    download(server.url, to=tmp_path / "w.pth", sha256=SHA)
    assert whole(tmp_path / "w.pth") and "Range" in server.asked[-1]


def test_two_at_once_do_not_spoil_each_other(server, tmp_path):
    """A lock on the file's behalf, held by threads here as by processes elsewhere: one fetches, the others find it."""
    pytest.importorskip("fcntl")
    gate, found = threading.Barrier(4), []

    def fetch():
        gate.wait(timeout=10)
        found.append(download(server.url, to=tmp_path / "w.pth", sha256=SHA))

    threads = [threading.Thread(target=fetch) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert found == [tmp_path / "w.pth"] * 4 and whole(tmp_path / "w.pth") and len(server.asked) == 1


def test_md5_where_no_other_hash_is_known(server, tmp_path):
    md5 = hashlib.md5(DATA).hexdigest()
    server.cuts = [100_000]
    download(server.url, to=tmp_path / "w.pth", md5=md5)
    assert whole(tmp_path / "w.pth") and server.asked[-1]["Range"] == "bytes=100000-"
    server.data = OTHER
    with pytest.raises(UserError, match=f"MD5 of what came is {hashlib.md5(OTHER).hexdigest()}, expected {md5}"):
        download(server.url, to=tmp_path / "v.pth", md5=md5)
    with pytest.raises(UserError, match="is no MD5; expected 8 to 32 hexadecimal digits"):
        download(server.url, to=tmp_path / "v.pth", md5=md5 + "0")


def test_without_a_hash_nothing_is_gone_on_with(server, tmp_path):
    server.cuts = [100_000]
    download(server.url, to=tmp_path / "w.pth")
    assert whole(tmp_path / "w.pth") and "Range" not in server.asked[-1] and len(server.asked) == 2
    server.codes = [404]
    assert download(server.url, to=tmp_path / "w.pth") == tmp_path / "w.pth" and len(server.asked) == 2
    with pytest.raises(UserError, match=r"404 .*The file can be put at .*v\.pth by hand$"):
        download(server.url, to=tmp_path / "v.pth")


def test_a_progress_bar_is_for_terminals(server, tmp_path, monkeypatch):
    terminal = io.StringIO()
    monkeypatch.setattr(sys, "stderr", terminal)
    download(server.url, to=tmp_path / "a", sha256=SHA, progress=module.progress_bar("a"))
    assert terminal.getvalue() == ""
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    download(server.url, to=tmp_path / "b", sha256=SHA, progress=module.progress_bar("digits: b"))
    lines = terminal.getvalue().split("\r")
    assert lines[-1] == "digits: b: 100 % of 0 MB\n" and 1 < len(lines) <= 102
    server.length = False
    download(server.url, to=tmp_path / "c", sha256=SHA, progress=module.progress_bar("c"))
    assert terminal.getvalue().endswith("\rc: 0 MB")
