"""The picture and the two web pages of a sweep in a real browser: they show its trials.

pip install playwright tensorboard optuna-dashboard; apt install chromium
"""

import contextlib
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pretending import QUIET, pretended

from jaxcv.sweep import command, outcomes, pictures
from jaxcv.sweep.engine import work_off
from jaxcv.train import fit

RATES = ["0.0011", "0.0023", "0.0047", "0.0089"]


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium."""
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    program = next((p for name in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(name))), None)
    if program is None:
        pytest.skip("needs a browser: apt install chromium")
    quiet = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
    with api.sync_playwright() as playwright:
        with contextlib.closing(
            playwright.chromium.launch(
                executable_path=program, args=[*quiet, "--disable-component-update", "--disable-sync"]
            )
        ) as opened:
            yield opened


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A finished sweep of four short trainings, with its picture."""
    root = tmp_path_factory.mktemp("runs") / "problems"
    work = pretended(root, [f"lr={','.join(RATES)}", "log_every=2"], fit)
    work_off(work, QUIET)
    found = outcomes.rows(work.ledger)
    return work, pictures.draw(work.ledger, found, "accuracy", root / "sweep.png")


@contextlib.contextmanager
def serving(line):
    """The server that a printed command starts, on a free port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = line.split(": ", 1)[1].split()
    process = subprocess.Popen(
        [Path(sys.executable).parent / words[0], *words[1:], "--host", "127.0.0.1", "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            assert process.poll() is None, f"{words[0]} ended"
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


# Both pages are made of web components: their text stands in shadow trees.
TEXT = """() => { const walk = n => (n.shadowRoot ? walk(n.shadowRoot) : '') + [...n.childNodes].map(
    c => c.nodeType == 3 ? c.textContent + ' ' : ['SCRIPT', 'STYLE'].includes(c.nodeName) ? '' : walk(c)).join('');
    return walk(document.body); }"""


def wait_for(page, parts, seconds=60):
    """The page's text once it has all parts."""
    deadline = time.monotonic() + seconds
    text = ""
    while time.monotonic() < deadline:
        text = page.evaluate(TEXT)
        if all(part in text for part in parts):
            return text
        page.wait_for_timeout(300)
    missing = [part for part in parts if part not in text]
    raise AssertionError(f"not shown: {missing}")


def test_hparams_page_of_tensorboard(browser, swept):
    pytest.importorskip("tensorboard", reason="needs pip install 'jaxcv-research[dashboard]'")
    work, _ = swept
    with serving(command.dashboard_commands(work.ledger)[0]) as address:
        page = browser.new_page()
        page.goto(f"{address}/#hparams")
        text = wait_for(page, ["Hyperparameters", "lr", "test/accuracy", *(f"lr={rate}" for rate in RATES)])
    for rate in RATES:
        assert f"{float(rate):.5g}" in text


def test_optuna_dashboard(browser, swept):
    pytest.importorskip("optuna_dashboard", reason="needs pip install 'jaxcv-research[dashboard]'")
    work, _ = swept
    with serving(command.dashboard_commands(work.ledger)[1]) as address:
        page = browser.new_page()
        page.goto(f"{address}/dashboard/")
        wait_for(page, [work.ledger.name])
        page.goto(f"{address}/dashboard/studies/1/trials")
        text = wait_for(page, [f"Trial {number}" for number in range(4)])
        assert text.count("Complete") >= 4


def test_the_picture(browser, swept):
    _, picture = swept
    page = browser.new_page()
    page.goto(picture.as_uri())
    width, height = page.evaluate("() => [document.images[0].naturalWidth, document.images[0].naturalHeight]")
    assert width >= 1600 and height >= 1000
    # Of the four curves, each has a colour of its own.
    colors = page.evaluate("""() => { const image = document.images[0], canvas = document.createElement('canvas');
        canvas.width = image.naturalWidth; canvas.height = image.naturalHeight;
        const pen = canvas.getContext('2d'); pen.drawImage(image, 0, 0);
        const pixels = pen.getImageData(0, 0, canvas.width, canvas.height).data, seen = {};
        for (let i = 0; i < pixels.length; i += 4) {
            const [r, g, b] = pixels.slice(i, i + 3);
            const key = [r, g, b].join();
            if (Math.max(r, g, b) - Math.min(r, g, b) > 60) seen[key] = (seen[key] || 0) + 1;
        }
        return Object.values(seen).filter(n => n > 150).length; }""")
    assert colors >= 4
