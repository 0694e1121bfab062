"""What the process needs to compile: where compiled programs are kept, and which compiler settings to use.

Compiled programs are kept on disk by JAX's own compilation cache alone, whose key is the lowered program with all its
constants: nothing else decides that an old program is good enough. One folder per kind of machine, because a program
compiled for one processor may not run on another.
"""

import importlib.metadata
import importlib.util
import os
import time
from pathlib import Path

import jax

from jaxcv import heap
from jaxcv.machine import cache_folder, machine_name

# jaxlib 0.10 hands single convolutions on CPU to a library that is several times slower than XLA's own code for the
# gradients that training needs. These fusions stay; convolutions go back to XLA. An unknown option aborts a
# compilation, so it is given only to the versions that were tried.
_CPU_OPTIONS = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_DOT,LIBRARY_FUSION_TYPE_REDUCE"}
_CPU_OPTIONS_KNOWN_TO = ("0.10.",)
_CPU_FLAG = "--xla_cpu_experimental_ynn_fusion_type=-LIBRARY_FUSION_TYPE_INDIVIDUAL_CONVOLUTION"


def enable_compile_cache() -> Path:
    """Keep every compiled program on disk; returns the folder. A folder that the user set for JAX is left as it is."""
    if jax.config.values["jax_compilation_cache_dir"] is None:
        folder = cache_folder() / f"xla-{machine_name()}"
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return Path(str(jax.config.values["jax_compilation_cache_dir"]))


def tune() -> list[str]:
    """Prepare this process for training on a CPU; returns what was done, and what could not be done any more.

    Best called before JAX has computed anything: XLA's flags are read when its backend starts, and memory handed out
    before keeps its small pages. Nothing the user has set is touched, and nothing is done where JAX finds a GPU or TPU.
    `launch.py` calls it unless told `--no-tune`.
    """
    if _tuned:
        return list(_tuned)
    from jax._src import xla_bridge  # no public function tells whether the backend has started

    started = xla_bridge.backends_are_initialized()
    if (jax.default_backend() if started else _likely_backend()) != "cpu":
        return ["nothing to tune: JAX does not compute on the CPU"]
    flags = os.environ.get("XLA_FLAGS", "")
    if not importlib.metadata.version("jaxlib").startswith(_CPU_OPTIONS_KNOWN_TO):
        _tuned.append("XLA's flags as they are: none is known to help this version")
    elif "ynn_fusion_type" in flags:
        _tuned.append("XLA's flags as XLA_FLAGS says")
    elif started:
        _tuned.append(
            "too late for XLA's flags, JAX has started: give jax.jit compiler_options=jaxcv.runtime.compiler_options()"
        )
    else:
        os.environ["XLA_FLAGS"] = f"{flags} {_CPU_FLAG}".strip()
        _tuned.append(f"XLA_FLAGS {_CPU_FLAG}")
    _tuned.append(heap.use_huge_pages() + (" from now on" if started else ""))
    return list(_tuned)


def preload() -> str | None:
    """The library that a process is best started with (`LD_PRELOAD`); None where there is none, or nothing to gain."""
    return heap.preload() if _likely_backend() == "cpu" else None


_tuned: list[str] = []


def _likely_backend() -> str:
    """What JAX will compute on, without starting it."""
    asked = jax.config.values["jax_platforms"]
    if asked:
        return str(asked).split(",")[0]
    plugins = [entry.name for entry in importlib.metadata.entry_points(group="jax_plugins")]
    return "accelerator" if plugins or importlib.util.find_spec("libtpu") else "cpu"


def compiler_options() -> dict[str, str] | None:
    """Options for `jit(compiler_options=...)` on this backend; None where XLA's defaults are best.

    A fusion setting in the user's own `XLA_FLAGS` wins.
    """
    if jax.default_backend() != "cpu" or "ynn_fusion_type" in os.environ.get("XLA_FLAGS", ""):
        return None
    return dict(_CPU_OPTIONS) if importlib.metadata.version("jaxlib").startswith(_CPU_OPTIONS_KNOWN_TO) else None


def seconds_since_start() -> float:
    """Seconds since this process began, the interpreter's and the imports' share included."""
    try:
        with open("/proc/self/stat", encoding="ascii") as file:
            ticks = int(file.read().rpartition(")")[2].split()[19])
        with open("/proc/uptime", encoding="ascii") as file:
            return float(file.read().split()[0]) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return time.monotonic() - _IMPORTED


_IMPORTED = time.monotonic()
