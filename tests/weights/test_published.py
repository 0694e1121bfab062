"""Published weights by name, from a server on this machine."""

import hashlib
import http.server
import threading

import numpy as np
import pytest

from jaxcv import models
from jaxcv.errors import UserError
from jaxcv.weights import fetch, load, published, save


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Serves the files of a folder instead of the real server."""
    folder = tmp_path / "served"
    folder.mkdir()
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(folder))

        def log_message(self, format, *args):
            asked.append(self.path)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http_server:
        monkeypatch.setenv("no_proxy", "*")
        monkeypatch.setenv("JAXCV_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(published, "SERVER", f"http://127.0.0.1:{http_server.server_port}/")
        thread = threading.Thread(target=http_server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield folder, asked
        finally:
            http_server.shutdown()
            thread.join()


def publish(folder, monkeypatch, name):
    save(folder / "x.npz", {"fc": np.arange(3.0)})
    data = (folder / "x.npz").read_bytes()
    file = f"some-net-{hashlib.sha256(data).hexdigest()[:8]}.pth"
    (folder / "x.npz").rename(folder / file)
    monkeypatch.setitem(published.FILES, name, file)
    return file


@pytest.mark.parametrize(
    ("name", "asked_for"), [("resnet50", "resnet50"), ("resnet50", "resnet50:v1"), ("resnet50:v2",) * 2]
)
def test_fetched_once_into_the_cache(server, tmp_path, monkeypatch, name, asked_for):
    folder, asked = server
    file = publish(folder, monkeypatch, name)
    seen = []
    for _ in range(2):
        path = fetch(asked_for, progress=lambda *n: seen.append(n))
        assert path == tmp_path / "cache" / "weights" / file
    np.testing.assert_array_equal(load(path)["fc"], np.arange(3.0), strict=True)
    assert asked == [f"/{file}"] and seen[-1] == (path.stat().st_size,) * 2
    assert fetch(asked_for, folder=tmp_path / "mine") == tmp_path / "mine" / file


def test_another_file_under_the_name_is_refused(server, tmp_path, monkeypatch):
    folder, _ = server
    file = publish(folder, monkeypatch, "vgg16")
    (folder / file).write_bytes(b"<html>Sign in</html>")
    with pytest.raises(UserError, match=f"{file}: SHA-256 of what came is .*, expected {file[-12:-4]}"):
        fetch("vgg16")
    assert not list((tmp_path / "cache").rglob("*.pth"))


def test_without_the_file_it_says_where_to_put_it(server, tmp_path):
    with pytest.raises(UserError, match="404 .*") as error:
        fetch("alexnet")
    place = tmp_path / "cache" / "weights" / "alexnet-owt-7be5be79.pth"
    assert f"put at {place} by hand: its SHA-256 must begin with 7be5be79" in str(error.value)


@pytest.mark.parametrize(("name", "near"), [("resnet-50", "resnet50"), ("ResNet18", "resnet18"), ("vgg16:v2", "vgg16")])
def test_an_unknown_name(name, near):
    with pytest.raises(
        UserError, match=f"no published weights '{name}': did you mean {near}. expected one of alexnet, vgg11"
    ):
        fetch(name)
    assert not published.is_published(name)


def test_every_name_is_that_of_a_network():
    assert {name.partition(":")[0] for name in published.FILES} <= set(models.__all__)
    assert all(published.is_published(name) for name in published.FILES)
