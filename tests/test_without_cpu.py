"""The package as it is without the folder `jaxcv/cpu`: ops, a network and a training step still work, on XLA's own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CODE = """
import importlib.util
import jax
import jax.numpy as jnp
import numpy as np
from jaxcv import models, ops
from jaxcv.cli.main import load_experiment
from jaxcv.train import make_train_step, program, resolve, runtime

assert importlib.util.find_spec("jaxcv.cpu") is None
assert runtime.tune() == [] and runtime.compiler_options() is None
x, w = jnp.ones((1, 6, 6, 4)), jnp.ones((3, 3, 2, 4))
np.testing.assert_array_equal(ops.conv2d(x, w, feature_group_count=2), np.full((1, 4, 4, 4), 18))
np.testing.assert_array_equal(ops.depthwise_conv2d(x, w[:, :, :1], strides=3), np.full((1, 2, 2, 4), 9))
np.testing.assert_array_equal(ops.conv_transpose2d(x, jnp.ones((2, 2, 4, 3)), strides=2), np.full((1, 12, 12, 3), 4))
np.testing.assert_array_equal(ops.gram_matrix(x), np.full((1, 4, 4), 36))
image = jnp.ones((1, 32, 32, 3))
model = models.mobilenet_v2(num_classes=3)
variables = jax.jit(model.init)(jax.random.key(0), image)
assert "custom_call" not in jax.jit(model.apply).lower(variables, image).as_text()

experiment = load_experiment(FILE)
values = resolve(experiment, {"batch_size": 4, "steps": 2})
step, shared = make_train_step(experiment, values), program(experiment, values)
hyperparameters = shared.hyperparameters(values)
state = jax.jit(shared.init)(hyperparameters)
batch = experiment(**values).train_data.batch(0)
for _ in range(2):
    state, logs = step(hyperparameters, state, batch)
assert all(np.isfinite(value).all() for value in jax.tree.leaves(logs)), logs
print("fine")
"""

ALONE = """
import sys
# An editable installation of the project would fill in what the copy lacks.
sys.meta_path[:] = [finder for finder in sys.meta_path if not finder.__module__.startswith("__editable__")]
"""


@pytest.fixture(scope="module")
def without(tmp_path_factory):
    """A copy of the package that lacks the folder."""
    copy = tmp_path_factory.mktemp("without")
    shutil.copytree(ROOT / "jaxcv", copy / "jaxcv", ignore=shutil.ignore_patterns("cpu", "__pycache__"))
    (copy / "sitecustomize.py").write_text(ALONE)
    return copy


def test_everything_is_there_but_the_speed(without):
    code = CODE.replace("FILE", f"__import__('pathlib').Path({str(ROOT / 'experiments' / 'lenet.py')!r})")
    environment = {**os.environ, "PYTHONPATH": str(without), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=without, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout == "fine\n"


def test_a_run_from_the_command_line(without):
    shutil.copy(ROOT / "launch.py", without)
    command = [sys.executable, "launch.py", str(ROOT / "experiments" / "lenet.py"), "steps=2", "batch_size=4"]
    environment = {**os.environ, "PYTHONPATH": str(without), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, cwd=without, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "tuned" not in done.stdout
