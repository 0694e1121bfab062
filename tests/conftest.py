"""Strictness for every test: checked shapes, no silent promotion, warnings as errors, one cache.

Tests run as users do: on one device, with the kernels on. One that needs several says `@pytest.mark.devices(2)`, and
runs in a process of its own that has them.
"""

import importlib
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

# Before anything imports jax or jaxcv; test processes started by tests inherit it.
os.environ.setdefault("JAXCV_CACHE", str(Path(tempfile.gettempdir()) / f"jaxcv-test-cache-{os.getuid()}"))
# A shell that runs the tests in the background has them ignore Ctrl-C, and so the processes they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

from jaxtyping import install_import_hook  # noqa: E402

install_import_hook("jaxcv", "beartype.beartype")

import jax  # noqa: E402
import pytest  # noqa: E402

from jaxcv.train import runtime  # noqa: E402

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
runtime.enable_compile_cache()

ROOT = Path(__file__).parent.parent


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a test that is marked with a number of devices in a process that has as many."""
    if (marker := pyfuncitem.get_closest_marker("devices")) is None:
        return None
    flag = f"--xla_force_host_platform_device_count={marker.args[0]}"
    if os.environ.get("XLA_FLAGS") == flag:
        assert jax.device_count() == marker.args[0]
        return None
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "", pyfuncitem.nodeid]
    environment = {**os.environ, "XLA_FLAGS": flag, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, cwd=pyfuncitem.config.rootpath, env=environment, capture_output=True, text=True)
    if done.returncode or "1 passed" not in done.stdout:
        pytest.fail(f"on {marker.args[0]} devices:\n{done.stdout}{done.stderr}", pytrace=False)
    return True


@pytest.fixture
def real_data():
    """Folder of a real data set under JAXCV_DATA; the test is skipped where there is none."""

    def find(name: str) -> Path:
        folder = Path(os.environ.get("JAXCV_DATA", ""), name).absolute()
        if "JAXCV_DATA" not in os.environ or not folder.is_dir():
            pytest.skip(f"needs the environment variable JAXCV_DATA, a folder with {name}")
        return folder

    return find


@pytest.fixture(autouse=True, scope="module")
def few_programs():
    """Let go of compiled programs between modules where they are many.

    Each one is mapped into memory in several pieces; Linux allows a process 65,530 of them, and XLA crashes beyond.
    """
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > 15_000:
        jax.clear_caches()


@pytest.fixture
def quick_to_compile(monkeypatch):
    """Programs of runs are compiled without optimisation: for tests of what a large network does, not how fast."""
    options = runtime.compiler_options
    monkeypatch.setattr(runtime, "compiler_options", lambda: {**(options() or {}), "xla_backend_optimization_level": 0})


@pytest.fixture(scope="module", params=["for a CPU", "for accelerators"])
def form(request):
    """Suppression and the gradient of regions in the form that is lowered for a CPU, and in that for accelerators."""
    nms, roi = (importlib.import_module(f"jaxcv.ops.{name}") for name in ("nms", "roi"))
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "for accelerators":
            patch.setattr(nms, "_suppress", nms._in_sweeps)
            patch.setattr(nms, "_BLOCK", 40)  # so that small tests have one and large ones several
            patch.setattr(roi, "_spread", roi._in_one_scatter)
        jax.clear_caches()
        yield
    jax.clear_caches()


@pytest.fixture
def load():
    """The function of an experiment file of this project, by name."""
    from jaxcv.cli.main import load_experiment

    return lambda name: load_experiment(ROOT / "experiments" / f"{name}.py")
