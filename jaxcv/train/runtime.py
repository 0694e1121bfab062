"""What a process needs to compile: where compiled programs are kept, and what `jaxcv.cpu` does to it on a CPU.

Compiled programs are kept on disk by JAX's own compilation cache alone, whose key is the lowered program with all its
constants: nothing else decides that an old program is good enough. One folder per kind of machine, because a program
compiled for one processor may not run on another.
"""

import os
import platform
import tempfile
import time
from pathlib import Path

import jax

from jaxcv.errors import UserError

try:
    from jaxcv.cpu import compiler_options, machine_name, tune
except ImportError:  # without the folder `jaxcv/cpu`, XLA is taken as it comes

    def compiler_options() -> dict[str, str] | None:
        """XLA's defaults."""
        return None

    def machine_name() -> str:
        """The kind of processor."""
        return platform.machine()

    def tune() -> list[str]:
        """Nothing is done."""
        return []


__all__ = ["cache_folder", "compiler_options", "enable_compile_cache", "machine_name", "seconds_since_start", "tune"]


def cache_folder() -> Path:
    """What jaxcv keeps between runs: `$JAXCV_CACHE`, else `$XDG_CACHE_HOME/jaxcv`, else `~/.cache/jaxcv`."""
    if folder := os.environ.get("JAXCV_CACHE"):
        return Path(folder).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "jaxcv"


def make_deterministic() -> None:
    """Have programs of this process compute the same bits each time, on a GPU too; to be called before JAX starts."""
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_DETERMINISTIC}".strip()


def is_deterministic() -> bool:
    """Whether a program computes the same bits each time: on a CPU it does, on a GPU where it is told to."""
    return jax.default_backend() != "gpu" or _DETERMINISTIC in os.environ.get("XLA_FLAGS", "")


_DETERMINISTIC = "--xla_gpu_deterministic_ops=true"


def enable_compile_cache() -> Path:
    """Keep every compiled program on disk; returns the folder. A folder that the user set for JAX is left as it is.

    Raises:
        UserError: nothing can be written there.
    """
    if jax.config.values["jax_compilation_cache_dir"] is None:
        folder = cache_folder() / f"xla-{machine_name()}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            advice = "let the environment variable JAXCV_CACHE name a folder that can be written"
            raise UserError(f"{folder}: compiled programs cannot be kept there ({error.strerror}); {advice}") from error
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return Path(str(jax.config.values["jax_compilation_cache_dir"]))


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
