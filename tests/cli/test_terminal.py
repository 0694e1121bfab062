"""What a terminal of 60 columns shows of runs with long names, on a pseudo-terminal that an emulator reads."""

import contextlib
import fcntl
import os
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import pytest

pyte: Any = pytest.importorskip("pyte")
ROOT = Path(__file__).parents[2]

# The command, once for each argument. After each record it waits, and says so in the title, until its terminal has been
# looked at.
PROGRAM = """
import os, sys
from jaxcv.cli.main import main
from jaxcv.train.console import Reporter

step = Reporter.step

def waiting(self, now, steps, *values):
    step(self, now, steps, *values)
    self._bar.refresh()
    os.write(1, f"\\033]2;{words} step {now}\\007".encode())
    sys.stdin.readline()

Reporter.step = waiting
for words in sys.argv[1:]:
    assert main(["mine.py", *words.split("+")]) == 0
"""
MINE = '''
"""Two layers on digits."""
import flax.linen as nn
import optax
from jaxcv import losses
from jaxcv.data import classification_data
from jaxcv.train import Experiment

class Net(nn.Module):
    @nn.compact
    def __call__(self, images, *, train=False):
        return nn.Dense(10)(images.reshape(images.shape[0], -1)), {}

def experiment(*, learning_rate_of_everything: float = 1e-2, weight_decay_of_kernels: float = 0.0) -> Experiment:
    train, test = classification_data("digits", image_size=8)
    return Experiment(
        model=Net(), loss=losses.cross_entropy, train_data=train.batches(4, seed=0), test_data=test.batches(100),
        optimizer=optax.adamw(learning_rate_of_everything, weight_decay=weight_decay_of_kernels),
        steps=4, log_every=2, previews=0,
    )
'''


def screens(command, *, columns, **how):
    """What stands on a terminal whenever its title changes; then the command is told to go on."""
    screen = pyte.Screen(columns, 40)
    stream = pyte.ByteStream(screen)
    try:
        ours, theirs = os.openpty()
    except OSError as error:  # such as a chroot without /dev/pts
        pytest.skip(f"no pseudo-terminal here: {error}")
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    unset = {"COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"}
    environment = {name: value for name, value in os.environ.items() if name not in unset} | {"TERM": "xterm-256color"}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=theirs, stderr=theirs, env=environment, **how
    ) as process:
        assert process.stdin
        try:
            os.close(theirs)
            title = screen.title
            with contextlib.suppress(OSError):  # Linux says EIO when the last process has closed its end
                while received := os.read(ours, 65536):
                    stream.feed(received)
                    if screen.title != title:
                        title = screen.title
                        yield title, [line.rstrip() for line in screen.display]
                        process.stdin.write(b"\n")
                        process.stdin.flush()
            assert process.wait() == 0, "\n".join(screen.display)
        finally:
            process.kill()
            os.close(ours)


def test_bar_percent_and_eta_of_long_names(tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    names = ["weight_decay_of_kernels=0.0005", "learning_rate_of_everything=0.0123+weight_decay_of_kernels=0.0005"]
    seen = dict(screens([sys.executable, "-c", PROGRAM, *names], columns=60, cwd=tmp_path))
    for name in names:
        for step, numbers in ((2, r"50% ETA \d:\d\d"), (4, r"100% ETA 0:00")):
            (row,) = [line for line in seen.pop(f"{name} step {step}") if "%" in line]
            assert len(row) <= 60 and re.fullmatch(rf"{re.escape(name[:20])}\S*… ━.*━ +{numbers}", row), row
    assert not seen
