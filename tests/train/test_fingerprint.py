"""Executables found without tracing: what finds them again, and what must not."""

import dataclasses
import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import problems
import pytest

from jaxcv.train import fingerprint as module
from jaxcv.train.fingerprint import fingerprint

ROOT = Path(__file__).parents[2]


def scaled(outputs, batch, factor):
    return {"scaled": outputs.sum(-1) * jnp.float32(factor.sum())}


def closed(factor):
    return lambda outputs, batch: {"scaled": outputs.sum(-1) * factor}


def print_of(static=(), traced=("lr",), **changes):
    setup = dataclasses.replace(problems.experiment(), **changes)
    return fingerprint(problems.experiment, setup, dict(static), traced)


@pytest.fixture(autouse=True)
def _old_files(monkeypatch):
    """Tests that were written a moment ago have fingerprints too."""
    monkeypatch.setattr(module, "_BEGAN", float("inf"))
    monkeypatch.setattr(module, "_files", set)
    monkeypatch.setattr(module, "_stamp", lambda path: path)  # of functions under pytest's import hook there is no file


def test_the_same_experiment_has_the_same_fingerprint():
    assert print_of() == print_of() is not None
    same = [print_of(loss=partial(scaled, factor=np.arange(3.0))) for _ in range(2)]
    assert same[0] == same[1] is not None


@pytest.mark.parametrize(
    "changes",
    [
        {"loss": closed(1.0)},
        {"loss": closed(2.0)},
        {"loss": closed(1)},
        {"loss": closed(np.array([1.0, 2.0]))},
        {"loss": closed(np.array([1.0, 3.0]))},
        {"loss": closed(np.array([[1.0, 2.0]]))},
        {"loss": closed(np.array([1.0, 2.0], np.float32))},
        {"loss": closed(jnp.array([1.0, 2.0]))},
        {"loss": partial(scaled, factor=np.arange(3.0))},
        {"loss": partial(scaled, factor=np.arange(4.0))},
        {"loss": lambda outputs, batch: {"scaled": outputs.sum(-1)}},
        {"loss": lambda outputs, batch: {"scaled": outputs.sum(-1) + 1}},
        {"optimizer": optax.sgd(0.1)},
        {"optimizer": optax.sgd(0.2)},
        {"optimizer": optax.sgd(0.1, momentum=0.9)},
        {"model": problems.Net(poison=jnp.sin)},
        {"model": problems.Net(name="other")},
        {"trainable": "Dense_1"},
        {"ema": 0.5},
        {"ema": None},
        {"train_data": problems.TRAIN.batches(4, seed=0)},
        {"static": {"batch_size": 8}},
        {"static": {"batch_size": True}},
        {"traced": ("lr", "seed")},
    ],
    ids=str,
)
def test_whatever_changes_gives_another(changes, _seen={}):  # noqa: B006
    found = print_of(**changes)
    assert found is not None and found != print_of()
    assert _seen.setdefault(found, str(changes)) == str(changes), "two of these have the same"


def test_a_constant_of_the_file_gives_another(monkeypatch):
    monkeypatch.setitem(globals(), "OFFSET", 1.0)
    before = print_of(loss=with_offset)
    monkeypatch.setitem(globals(), "OFFSET", 2.0)
    assert before != print_of(loss=with_offset)


OFFSET = 1.0


def with_offset(outputs, batch):
    return {"scaled": outputs.sum(-1) + OFFSET}


def test_what_is_unknown_has_none(monkeypatch):
    class Local:
        def __call__(self, outputs, batch):
            return {}

    assert print_of(loss=Local()) is None
    assert print_of(loss=closed(iter([]))) is None
    assert print_of(loss=closed(np.array([object()]))) is None
    assert jax.jit(lambda x: x if print_of(loss=closed(x)) is None else 0 * x)(1.0) == 1.0


def test_a_file_edited_while_the_process_runs_has_none(tmp_path, monkeypatch):
    monkeypatch.undo()
    (tmp_path / "late.py").write_text("")
    with pytest.raises(module.Unknown):
        module._stamp(str(tmp_path / "late.py"))
    os.utime(tmp_path / "late.py", (1e9, 1e9))
    assert module._stamp(str(tmp_path / "late.py"))[1:] == (10**18, 0)


EXPERIMENT = """
import sys
sys.path.insert(0, {tests!r})
import dataclasses
import jax.numpy as jnp
import numpy as np
import problems
from neighbour import shift

def experiment(*, lr: float = 1e-2, kind: str = "a", seed: int = 0):
    factor = np.loadtxt({data!r})
    def loss(outputs, batch):
        return {{k: v * jnp.float32(factor) + shift(v) for k, v in problems.cross_entropy(outputs, batch).items()}}
    base = problems.experiment(lr=lr, seed=seed, steps=6, checkpoint_every=3, evaluate_every=6, log_every=1)
    return dataclasses.replace(base, loss=loss)
"""


def test_a_repeated_run_traces_nothing_and_any_edit_traces(tmp_path):
    """In processes of their own, each run once: what was kept is found again only while nothing has changed."""
    file, neighbour, data = tmp_path / "mine.py", tmp_path / "neighbour.py", tmp_path / "factor.txt"
    source = EXPERIMENT.format(tests=str(ROOT / "tests"), data=str(data))
    kept = tmp_path / "cache"
    environment = {**os.environ, "JAXCV_CACHE": str(kept), "XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"}

    def write(path, text):
        """As if it had been written before, but each time at another moment."""
        path.write_text(text)
        os.utime(path, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns - 10**10))

    def run(name, *values):
        command = [sys.executable, "launch.py", str(file), *values, "--workdir", str(tmp_path / name), "--no-tune"]
        subprocess.run([*command, "--quiet", "--fresh"], cwd=ROOT, env=environment, check=True)
        (folder,) = (p.parent for p in (tmp_path / name).rglob("run.json"))
        records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        traces = json.loads((folder / "run.json").read_text())["traces"]
        return traces, [{k: v for k, v in record.items() if k != "time"} for record in records]

    write(file, source)
    write(neighbour, "def shift(v):\n    return 0.0 * v\n")
    data.write_text("1.0")
    traces, first = run("first")
    assert traces == 1
    assert run("again") == (0, first), "found without tracing, and computes the same"
    traces, other = run("rate", "lr=0.05")
    assert traces == 0 and other != first, "another rate is an input of the same program"

    data.write_text("2.0")
    traces, doubled = run("data")
    assert traces == 1 and doubled[0]["loss"] == pytest.approx(2 * first[0]["loss"], rel=1e-5)
    write(neighbour, "def shift(v):\n    return 1.0 + 0.0 * v\n")
    traces, shifted = run("neighbour")
    assert traces == 1 and shifted[0]["loss"] == pytest.approx(1 + doubled[0]["loss"], rel=1e-5)
    write(file, source.replace("* jnp", "* 3 * jnp"))
    traces, tripled = run("source")
    assert traces == 1 and tripled[0]["loss"] == pytest.approx(1 + 3 * doubled[0]["loss"], rel=1e-5)

    for path in kept.rglob("untraced-*"):
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert run("damaged") == (1, tripled)
    assert run("mended") == (0, tripled)
