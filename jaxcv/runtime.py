"""What the process needs to compile: where compiled programs are kept, and which compiler settings to use.

Compiled programs are cached on disk, in one folder per kind of machine, because a program compiled for one processor
may not run on another.
"""

import contextlib
import ctypes
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import pickle
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxcv import heap
from jaxcv.machine import cache_folder, machine_name
from jaxcv.native import kernels

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


def compile_or_load(traced: Any, alias: str | None = None) -> Any:
    """The executable of a traced function: from disk if this very program was compiled before, else compiled and kept.

    JAX's own cache spares the compiling but not the lowering, which takes as long as all the rest of a warm start. Here
    the key is the jaxpr itself with its constants, so a program that would differ in anything has another key. Used on
    a single CPU device; elsewhere, JAX's cache alone.

    Args:
        traced: what `jax.jit(f).trace(...)` gives.
        alias: a name under which `load_untraced` shall find it.
    """
    path = _executable_path(traced)
    if path is None:
        return traced.lower().compile()
    # Processes that begin together compile once: the others wait, and load.
    with contextlib.nullcontext() if path.exists() else _alone(path):
        return _load_or_compile(traced, path, alias)


def _load_or_compile(traced: Any, path: Path, alias: str | None) -> Any:
    from jax.experimental import serialize_executable

    if (payload := _read(path)) is not None:
        compiled = serialize_executable.deserialize_and_load(payload, traced.in_tree, traced.out_tree)
    else:
        lowered = traced.lower()
        with _without_jaxs_cache():  # what comes out of it cannot be stored again
            compiled = lowered.compile()
        try:
            payload, _, _ = serialize_executable.serialize(compiled)
        except (ValueError, NotImplementedError):  # host callbacks cannot be stored
            return compiled
        _write(path, payload)
    _keep_alias(alias, path, traced, compiled)
    return compiled


def _keep_alias(alias: str | None, path: Path, traced: Any, compiled: Any) -> None:
    if alias is not None:
        memory = compiled.memory_analysis()
        facts = (path.name, traced.in_tree, traced.out_tree, memory.temp_size_in_bytes if memory else 0)
        # A class of the experiment file's own cannot be named from outside.
        with contextlib.suppress(pickle.PicklingError, AttributeError, TypeError, ValueError):
            _write(path.with_name(alias), pickle.dumps(facts))


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One process at a time; released by the end of the process, however it ends."""
    try:
        import fcntl
    except ImportError:  # no such lock on this system
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_name(f"lock-{path.name}"), "w") as file:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _without_jaxs_cache() -> Iterator[None]:
    """Compile anew. JAX looks at the setting once, at its first compilation, unless it is told to look again."""
    from jax.experimental.compilation_cache import compilation_cache

    cached = jax.config.values["jax_enable_compilation_cache"]
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()
    try:
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", cached)
        compilation_cache.reset_cache()


def load_untraced(alias: str, *, touch: bool = False) -> Any | None:
    """The executable that was kept under a name, with nothing traced; None where there is none that is whole.

    Args:
        alias: the name.
        touch: whether to have its temporary memory at hand too. A fresh page of 2 MB took up to 4 ms: with ResNet-50's
            600 of them, half of the first step.
    """
    try:
        folder = _executables()
        if folder is None or (facts := _read(folder / alias)) is None:
            return None
        name, in_tree, out_tree, temporary = pickle.loads(facts)
        if (payload := _read(folder / name)) is None:
            return None
    except (OSError, pickle.UnpicklingError, AttributeError, ImportError, ValueError):
        return None
    from jax.experimental import serialize_executable

    kernels.ready()  # the program may call them
    if touch and _tuned:  # else the memory would be given back
        threading.Thread(target=_touch, args=(temporary,), daemon=True).start()
    return serialize_executable.deserialize_and_load(payload, in_tree, out_tree)


def keep_note(name: str, content: Any) -> None:
    """Keep something small, as JSON, beside the executables."""
    if (folder := _executables()) is not None:
        _write(folder / name, json.dumps(content).encode())


def read_note(name: str) -> Any | None:
    """What was kept under that name; None where nothing was, or it is damaged."""
    folder = _executables()
    content = None if folder is None else _read(folder / name)
    return None if content is None else json.loads(content)


def _read(path: Path) -> bytes | None:
    """What a file holds after its own hash; None where there is none or it is damaged."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    return content[32:] if hashlib.sha256(content[32:]).digest() == content[:32] else None


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_bytes(hashlib.sha256(content).digest() + content)
    os.replace(temporary, path)


def _touch(size: int) -> None:
    """Have the pages of a block of memory at hand before somebody asks for it."""
    libc = ctypes.CDLL(None)  # with whatever stands in front of malloc
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
    if size and (block := libc.malloc(size)):
        libc.memset(block, 0, size)
        libc.free(block)


def _executables() -> Path | None:
    """Where executables are kept; None where they are not."""
    if (
        jax.default_backend() != "cpu"
        or len(jax.devices()) > 1
        or not jax.config.values["jax_enable_compilation_cache"]
    ):
        return None
    return cache_folder() / f"executables-{machine_name()}"


def _executable_path(traced: Any) -> Path | None:
    """Where the executable of this very program is kept; None where executables are not kept."""
    folder = _executables()
    if folder is None:
        return None
    # Names of functions carry their address in this process; what they compute stands in the jaxpr beside them.
    text = re.sub(r" at 0x[0-9a-f]+", "", str(traced.jaxpr))
    settings = [
        importlib.metadata.version("jaxlib"),
        importlib.metadata.version("jax"),
        os.environ.get("XLA_FLAGS", ""),
        str(os.cpu_count()),
        str(compiler_options()),
        str(traced.in_avals),
        str(traced.donate_argnums),
        str(traced.in_tree),
        text,
    ]
    key = hashlib.sha256("\0".join(settings).encode())
    for constant in traced.jaxpr.consts:
        array = np.asarray(constant)
        key.update(f"{array.dtype}{array.shape}".encode() + array.tobytes())
    return folder / key.hexdigest()[:40]


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
