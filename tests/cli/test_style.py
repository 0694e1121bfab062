"""`style_transfer.py` on the command line, with the first layers of a small trunk: any pictures, plan, sweep, kill."""

import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from jaxcv.cli.main import main
from jaxcv.train.checkpoint import weights_of
from jaxcv.train.run import read_records

TINY = [
    *("experiments/style_transfer.py", "network=vgg11", "content_layers=('conv2_1',)"),
    *("style_layers=('conv1_1','conv2_1')", "layer_weights=(0.5,0.5)", "image_size=48", "--no-tune"),
]
"""Of the trunk, XLA compiles what these layers need."""


@pytest.fixture
def call(tmp_path, monkeypatch, request):
    monkeypatch.chdir(request.config.rootpath)
    return lambda *words: main([*TINY, "steps=2", *map(str, words), "--workdir", str(tmp_path / "runs")])


def picture(path, mode, size):
    ramp = Image.fromarray(np.linspace(0, 255, 64, dtype=np.uint8).reshape(8, 8)).resize(size)
    if mode == "RGBA":
        ramp = Image.merge("RGBA", [ramp, ramp.rotate(90, expand=False), ramp, ramp])
    ramp.convert(mode).save(path)
    return path


def test_pictures_of_any_kind_as_content_and_as_style(call, tmp_path, capsys):
    """A JPEG of 6000 x 4000 pixels, a small grey one, one with transparency; all are square, and share a program."""
    large = picture(tmp_path / "large.jpg", "RGB", (6000, 4000))
    small, clear = picture(tmp_path / "grey.png", "L", (16, 16)), picture(tmp_path / "clear.png", "RGBA", (40, 40))
    for content, style in ((small, large), (clear, small), (large, clear)):
        assert call(f"content={content}", f"style={style}", "--quiet") == 0, (content, style)
    picture(tmp_path / "thin.png", "RGB", (600, 20))
    capsys.readouterr()
    assert call(f"content={clear}", f"style={tmp_path}/thin.png", "--quiet") == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "thin.png: 600x20 pixels" in line


def test_the_plan_and_a_sweep_with_its_contact_sheet(call, tmp_path, capsys):
    """One program serves both factors; the page has a row for each alpha and a column for each beta."""
    assert call("alpha=1,10", "beta=1,100", "--dry-run") == 0
    said = capsys.readouterr().out
    assert "4 trials" in said and "picture" in said
    assert not (tmp_path / "runs").exists()
    assert call("alpha=1,10", "beta=1,100", "--lanes", 1) == 0
    assert "previews of all trials" in capsys.readouterr().out.replace("\n", " ")
    (page,) = (tmp_path / "runs/style_transfer").glob("sweep-*-previews.png")
    with Image.open(page) as image, Image.open(next((tmp_path / "runs").rglob("step_0000002.png"))) as preview:
        width = min(480, preview.width)
        assert image.width == 2 * (width + 6) + 6 and image.height > 2 * 20


@pytest.mark.slow
def test_a_kill_leaves_no_trace(tmp_path, request):
    """After its first checkpoint: the picture that is made in the end, and the records, are those of a run unharmed."""
    steps = 1200
    words = [sys.executable, "launch.py", *TINY, f"steps={steps}", "lr=0.01", "--quiet", "--workdir"]

    def start(name):
        return subprocess.Popen([*words, str(tmp_path / name)], cwd=request.config.rootpath)

    def folder(name):
        return next((tmp_path / name / "style_transfer").iterdir())

    assert start("unharmed").wait() == 0
    killed = start("killed")
    while killed.poll() is None and not list((tmp_path / "killed").rglob("checkpoints/[0-9]*")):
        time.sleep(0.01)
    assert killed.poll() is None, "killed before its end"
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert read_records(folder("killed") / "metrics.jsonl")[-1]["step"] < steps
    assert start("killed").wait() == 0
    ours, theirs = (
        [{k: v for k, v in one.items() if k != "time"} for one in read_records(folder(name) / "metrics.jsonl")]
        for name in ("killed", "unharmed")
    )
    assert ours == theirs
    ours, theirs = (weights_of(folder(name) / f"checkpoints/{steps}") for name in ("killed", "unharmed"))
    assert ours.keys() == theirs.keys() and any("picture" in name for name in ours)
    assert all(np.array_equal(x, theirs[name]) for name, x in ours.items())
