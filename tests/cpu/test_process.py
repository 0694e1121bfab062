"""What is done to the process before training, each time in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OURS = "--xla_cpu_experimental_ynn_fusion_type=-LIBRARY_FUSION_TYPE_INDIVIDUAL_CONVOLUTION"


def said(code, **variables):
    environment = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "GLIBC_TUNABLES", "LD_PRELOAD")}
    environment = {k: v for k, v in environment.items() if not k.startswith("MALLOC_")}
    script = f"from jaxcv import cpu\nimport jax, os\n{code}"
    command = [sys.executable, "-c", script]
    environment = {**environment, "JAX_PLATFORMS": "cpu", "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", **variables}
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout


CONVOLVE = """
import jax.numpy as jnp
from compiled import convolutions_of_the_library
convolve = jax.jit(lambda x, w: jax.lax.conv(x, w, (1, 1), "SAME"))
text = convolve.lower(jnp.ones((8, 32, 32, 16)), jnp.ones((16, 32, 3, 3))).compile().as_text()
print("slow" if convolutions_of_the_library(text) else "fast")
"""


def test_flags_and_memory_before_jax_starts():
    lines = said(f"print(*cpu.tune(), os.environ['XLA_FLAGS'], *cpu.tune(), sep='\\n'){CONVOLVE}").splitlines()
    assert lines[0] == f"XLA_FLAGS {OURS}" and lines[2] == OURS
    assert lines[1].startswith(("allocations are kept between steps", "memory unchanged"))
    assert lines[3:5] == lines[:2]  # once is enough
    assert lines[5] == "fast"
    if said(CONVOLVE) != "slow\n":
        pytest.skip("this jaxlib leaves no convolution to the slow library on this processor")


def test_the_users_own_settings_stand():
    own = "--xla_cpu_experimental_ynn_fusion_type=LIBRARY_FUSION_TYPE_DOT"
    code = "print(*cpu.tune(), os.environ['XLA_FLAGS'], cpu.compiler_options(), sep='\\n')"
    lines = said(code, XLA_FLAGS=own, MALLOC_ARENA_MAX="2").splitlines()
    assert lines == [
        "XLA's flags unchanged: XLA_FLAGS is set",
        "memory unchanged: MALLOC_ARENA_MAX is set",
        own,
        "None",
    ]
    lines = said(code, XLA_FLAGS="--xla_cpu_enable_fast_math=false").splitlines()
    assert lines[2] == f"--xla_cpu_enable_fast_math=false {OURS}"


def test_what_is_too_late_is_said():
    lines = said("jax.devices()\nprint(*cpu.tune(), 'XLA_FLAGS' in os.environ, sep='\\n')").splitlines()
    assert lines[0].startswith("too late for XLA's flags") and "compiler_options" in lines[0]
    assert lines[1].endswith("from now on") and lines[2] == "False"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_kept_is_used_again():
    """Freed memory serves the next step: no page is touched for the first time."""
    code = """
import ctypes, resource
cpu.tune()
libc = ctypes.CDLL("libc.so.6")
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
def step():
    block = libc.malloc(256 << 20)
    ctypes.memset(block, 1, 256 << 20)
    libc.free(block)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
print(-step() + step())
"""
    if "kept" in said("print(*cpu.tune())"):
        assert int(said(code)) < 1000  # 65,536 without


def test_memory_is_asked_for_from_the_c_library_of_this_process():
    """Every way out says so in one line, and changes nothing."""
    for variables in ({"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}, {"MALLOC_ARENA_MAX": "2"}):
        assert said("print(cpu.tune()[1])", **variables).strip() == f"memory unchanged: {next(iter(variables))} is set"


def test_the_launcher_stays_in_the_process_that_was_started():
    """Debuggers, profilers and coverage see the process: it is not replaced, and starts no other."""
    code = f"""
import runpy, subprocess, sys
def refuse(event, arguments):
    assert event not in ("os.exec", "os.posix_spawn", "os.fork") or "c++" in str(arguments), event
sys.addaudithook(refuse)
sys.argv = ["launch.py", "experiments/lenet.py", "--help"]
os.chdir({str(ROOT)!r})
try:
    runpy.run_path("launch.py", run_name="__main__")
except SystemExit as end:
    assert end.code == 0
print(cpu.tune()[1])
"""
    assert said(code).splitlines()[-1].startswith(("allocations are kept between steps", "memory unchanged"))
