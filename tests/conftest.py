"""Strictness for every test: checked shapes, no silent promotion, warnings as errors, two devices, one cache."""

import os
import tempfile
from pathlib import Path

# Before anything imports jax or jaxcv; test processes started by tests inherit both variables.
os.environ.setdefault("JAXCV_CACHE", str(Path(tempfile.gettempdir()) / f"jaxcv-test-cache-{os.getuid()}"))
os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=2")

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


@pytest.fixture
def real_data():
    """Folder of a real data set under JAXCV_DATA; the test is skipped where there is none."""

    def find(name: str) -> Path:
        folder = Path(os.environ.get("JAXCV_DATA", ""), name).absolute()
        if "JAXCV_DATA" not in os.environ or not folder.is_dir():
            pytest.skip(f"needs the environment variable JAXCV_DATA, a folder with {name}")
        return folder

    return find


@pytest.fixture
def load():
    """The function of an experiment file of this project, by name."""
    from jaxcv.launch import load_experiment

    return lambda name: load_experiment(ROOT / "experiments" / f"{name}.py")
