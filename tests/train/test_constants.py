"""No program runs with yesterday's constants: whatever reaches a step is edited, and a new process must see it.

The experiment's loss is a product of factors, each of which comes another way. All processes share one cache of
compiled programs. An edit doubles one factor, so the next process must measure twice the loss.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

EXPERIMENT = """
import sys
sys.path.insert(0, {tests!r})
import dataclasses
import functools
import os
from pathlib import Path
import jax
import jax.numpy as jnp
import problems
import helper
import settings
from helper import by_numpy, by_jnp, by_class, by_default

HERE = Path(__file__).parent
TABLE = jnp.array([3.0, 1.0])  # of this very file
inner = jax.jit(lambda x: x * TABLE[1])

def closed_over(table):
    return jax.jit(lambda x: x * table[1])

@functools.cache
def table():
    return [float(word) for word in (HERE / "cached.txt").read_text().split()]

def experiment(*, lr: float = 1e-2, weighting: str = "none", seed: int = 0):
    rows = jnp.array({{"none": [5.0, 1.0], "double": [5.0, 2.0]}}[weighting])
    settings.CONFIG.weighting = weighting

    def loss(outputs, batch):
        import late
        x = problems.cross_entropy(outputs, batch)["cross_entropy"]
        x = by_default(by_class(by_jnp(by_numpy(inner(x)))))
        x = closed_over(rows)(x) * helper.FACTOR * late.factor() * settings.CONFIG.scale
        x = settings.scaled(x) * table()[1] * float((HERE / "traced.txt").read_text())
        return {{"x": x * float(os.environ.get("A_FACTOR", "1"))}}

    base = problems.experiment(lr=lr, seed=seed, steps=1)
    return dataclasses.replace(base, loss=loss, evaluate_every=1)
"""
FILES = {
    "mine.py": EXPERIMENT,
    "helper.py": """
import jax
import jax.numpy as jnp
import numpy as np

FACTOR = 1.0
NUMPY = np.array([7.0, 1.0], np.float32)
JNP = jnp.array([7.0, 1.0])

class Weights:
    one = 1.0

def by_numpy(x):
    return x * NUMPY[1]

@jax.jit
def by_jnp(x):
    return x * JNP[1]

def by_class(x):
    return x * Weights().one

def by_default(x, factor=1.0):
    return x * factor
""",
    "late.py": "def factor():\n    return 1.0\n",
    "settings.py": """
import dataclasses
import jax

@dataclasses.dataclass
class Config:
    scale: float = 1.0
    weighting: str = "none"

CONFIG = Config()

@jax.jit
def scaled(x):
    return x * {"none": 1.0, "double": 2.0}[CONFIG.weighting]
""",
    "cached.txt": "7.0 1.0",
    "traced.txt": "1.0",
}
EDITS = {
    "an array that an inner jit of the experiment's file closes over": ("mine.py", "[3.0, 1.0]", "[3.0, 2.0]"),
    "an array of the experiment": ("mine.py", '"none": [5.0, 1.0]', '"none": [5.0, 2.0]'),
    "a numpy global of a function that the loss calls": (
        "helper.py",
        "NUMPY = np.array([7.0, 1.0]",
        "NUMPY = np.array([7.0, 2.0]",
    ),
    "a jnp global that an inner jit closes over": (
        "helper.py",
        "JNP = jnp.array([7.0, 1.0]",
        "JNP = jnp.array([7.0, 2.0]",
    ),
    "an attribute of an imported helper": ("helper.py", "FACTOR = 1.0", "FACTOR = 2.0"),
    "an attribute of a class": ("helper.py", "one = 1.0", "one = 2.0"),
    "a default argument": ("helper.py", "factor=1.0", "factor=2.0"),
    "a helper imported inside the loss": ("late.py", "1.0", "2.0"),
    "a configuration object": ("settings.py", "scale: float = 1.0", "scale: float = 2.0"),
    "a table in functools.cache": ("cached.txt", "7.0 1.0", "7.0 2.0"),
    "a file read while tracing": ("traced.txt", "1.0", "2.0"),
}


def write(folder):
    folder.mkdir()
    for name, text in FILES.items():
        (folder / name).write_text(text.format(tests=str(ROOT / "tests")) if name == "mine.py" else text)
    return folder


def losses(folder, workdir, *values, **variables):
    """The first training loss of every run that one process makes, in the order of the folders' names."""
    environment = {**os.environ, "JAXCV_CACHE": str(folder.parent / "cache"), "XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "launch.py", str(folder / "mine.py"), *values, "--workdir", str(workdir), "--no-tune"]
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # most people's bytecode is kept
    subprocess.run([*command, "--quiet", "--fresh"], cwd=ROOT, env={**environment, **variables}, check=True)
    files = sorted(path for path in workdir.rglob("metrics.jsonl") if "~" not in str(path.parent))
    return [json.loads(file.read_text().splitlines()[0])["loss"] for file in files]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A folder whose programs are in the cache, and the loss there."""
    folder = write(tmp_path_factory.mktemp("constants") / "project")
    (first,) = losses(folder, folder.parent / "first")
    assert losses(folder, folder.parent / "again") == [first]
    return folder, first


@pytest.mark.parametrize("way", EDITS)
def test_an_edited_constant_is_seen_by_the_next_process(project, tmp_path, way):
    folder, first = project
    name, old, new = EDITS[way]
    text = (folder / name).read_text()
    assert text.count(old) == 1
    before = (folder / name).stat()
    try:
        (folder / name).write_text(text.replace(old, new))
        # Within the same second at the same size: what Python compares of a file with its own bytecode is equal.
        os.utime(folder / name, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert losses(folder, tmp_path / "run") == [pytest.approx(2 * first, rel=1e-6)]
    finally:
        (folder / name).write_text(text)
        os.utime(folder / name, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_an_environment_variable_is_seen_by_the_next_process(project, tmp_path):
    folder, first = project
    assert losses(folder, tmp_path / "run", A_FACTOR="2.0") == [pytest.approx(2 * first, rel=1e-6)]


def test_trials_of_one_sweep_each_have_their_own_constants(project, tmp_path):
    """One in an array that an inner jit closes over, one in what a jitted function of a module looks up."""
    folder, first = project
    doubled, plain = losses(folder, tmp_path / "run", "weighting=none,double")
    assert (plain, doubled) == (pytest.approx(first), pytest.approx(4 * first, rel=1e-6))
