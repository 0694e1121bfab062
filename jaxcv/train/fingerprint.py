"""What a compiled program depends on, as a number that is known without tracing it.

A program is a function of source code, of the static hyperparameters, and of what `experiment` composes from both and
from the data. So the fingerprint takes in the files of all loaded modules (any edit, wherever, gives another one), the
static values and the names of the traced ones, every constant, closure and argument in the objects of the `Experiment`,
the shapes of its batches, and versions, settings and machine. An object of a kind unknown here has no fingerprint, and
its program is traced.
"""

import dataclasses
import functools
import hashlib
import os
import re
import site
import sys
import sysconfig
import time
import types
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from jaxcv import runtime
from jaxcv.native import kernels
from jaxcv.train.experiment import Experiment

_PLAIN = (bool, int, float, complex, str, bytes, type(None), type(...))
_GLOBALS = (*_PLAIN, tuple, list, dict, np.ndarray)
_OURS = Path(__file__).parents[1]
_LAUNCHER = str(_OURS.parent / "launch.py")
"""The few lines that start `jaxcv.launch`; a sweep's workers start that without them."""
_STANDARD = sysconfig.get_path("stdlib")
_INSTALLED = tuple({*site.getsitepackages(), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
_BEGAN = time.time() - runtime.seconds_since_start()
_NOT_COMPILED = {"train_data", "test_data", "metrics", "initial"}
"""Fields of an experiment that no traced function looks at, but for the shapes of a batch."""


class Unknown(Exception):
    """There is no fingerprint: an object of a kind that is not known, or source that changed meanwhile."""


def fingerprint(function: Any, setup: Experiment, static: Mapping[str, Any], traced: tuple[str, ...]) -> str | None:
    """Forty hexadecimal digits that differ between programs that may differ; None where that cannot be told.

    Args:
        function: the experiment function.
        setup: what it returned for `static` and any values of `traced`, the same ones every time.
        static: hyperparameters that are constants of the program.
        traced: names of its inputs.
    """
    fields = {f.name: getattr(setup, f.name) for f in dataclasses.fields(setup) if f.name not in _NOT_COMPILED}
    try:
        digest = _Digest()
        digest.add((function, fields, dict(setup.train_data.spec), dict(static), traced, _settings()))
        for path in sorted(digest.files | _files()):
            digest.add(_stamp(path))
        return digest.sha.hexdigest()[:40]
    except (Unknown, OSError, RecursionError):
        return None


class _Digest:
    """A hash over Python objects, each with its type, and the source files of the functions among them."""

    def __init__(self) -> None:
        self.sha = hashlib.sha256()
        self.files: set[str] = set()
        self._seen: dict[int, tuple[int, Any]] = {}  # the object too, lest its address be given to another

    def add(self, x: Any) -> None:
        """Take in an object and all that it holds."""
        self._write(type(x).__qualname__)
        if type(x) in _PLAIN:
            self._write(repr(x))
        elif id(x) in self._seen:
            self._write(f"seen {self._seen[id(x)][0]}")
        else:
            self._seen[id(x)] = len(self._seen), x
            for part in self._parts(x):
                self.add(part)

    def _write(self, text: str) -> None:
        data = text.encode("utf-8", "surrogatepass")
        self.sha.update(len(data).to_bytes(8, "little") + data)

    def _parts(self, x: Any) -> tuple[Any, ...]:
        """What distinguishes an object from others of its type."""
        if isinstance(x, jax.core.Tracer):
            raise Unknown(x)
        if isinstance(x, type | types.ModuleType) or _in_library(x):
            name = getattr(x, "__qualname__", x.__name__)
            if "<locals>" in name:
                raise Unknown(x)
            return getattr(x, "__module__", ""), name
        if isinstance(x, types.FunctionType):
            self.files.add(x.__code__.co_filename)
            named = {n: x.__globals__.get(n) for n in sorted(_names(x.__code__))}
            constants = {n: value for n, value in named.items() if type(value) in _GLOBALS}
            cells = x.__closure__ or ()
            return x.__module__, x.__qualname__, x.__code__, x.__defaults__, x.__kwdefaults__, cells, constants
        if isinstance(x, types.CodeType):
            return x.co_code, x.co_consts, x.co_names, x.co_varnames, x.co_freevars, x.co_flags
        if isinstance(x, types.CellType):
            try:
                return (x.cell_contents,)
            except ValueError:  # nothing in it yet
                return ()
        if isinstance(x, types.MethodType):
            return x.__func__, x.__self__
        if type(x) is functools.partial:
            return x.func, x.args, x.keywords
        if isinstance(x, tuple | list):
            return type(x), len(x), *x
        if isinstance(x, dict | types.MappingProxyType):
            return type(x), len(x), *(part for item in x.items() for part in item)
        if type(x) is frozenset and all(type(part) in _PLAIN for part in x):
            return tuple(sorted(map(repr, x)))
        if isinstance(x, jax.ShapeDtypeStruct):
            return x.shape, str(x.dtype)
        if isinstance(x, np.dtype):
            return (x.str, x.name)
        if isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            return str(x.dtype), jax.random.key_data(x)
        if isinstance(x, np.ndarray | np.generic | jax.Array):
            array = np.asarray(x)
            if array.dtype.hasobject:
                raise Unknown(x)
            return str(array.dtype), array.shape, array.tobytes(), getattr(x, "weak_type", False)
        if isinstance(x, re.Pattern):
            return x.pattern, x.flags
        if isinstance(x, Enum):
            return type(x), x.name
        if dataclasses.is_dataclass(x):  # networks are
            return type(x), {f.name: getattr(x, f.name, None) for f in dataclasses.fields(x)}
        raise Unknown(x)


def _names(code: types.CodeType) -> set[str]:
    inner = [_names(constant) for constant in code.co_consts if isinstance(constant, types.CodeType)]
    return set(code.co_names).union(*inner)


def _in_library(x: Any) -> bool:
    """Whether an installed module, or one of ours, has this very object under its name: its file says what it is."""
    module = sys.modules.get(getattr(x, "__module__", None) or "")
    path = getattr(module, "__file__", None) or ""
    name = getattr(x, "__qualname__", None) or getattr(x, "__name__", None)
    if not callable(x) or not isinstance(name, str) or not path.startswith((str(_OURS), _STANDARD, *_INSTALLED)):
        return False
    return getattr(module, name, None) is x


def _settings() -> tuple[Any, ...]:
    """Of JAX, XLA, Python and the machine."""
    config = sorted((n, repr(v)) for n, v in jax.config.values.items() if "cache" not in n)
    installed = sorted(name for folder in {*_INSTALLED} if os.path.isdir(folder) for name in os.listdir(folder))
    devices = [f"{d.platform} {d.device_kind} {d.id}" for d in jax.devices()]
    options = repr(runtime.compiler_options())
    own = kernels.version() if kernels.ready() else None
    return sys.version, config, installed, devices, options, own, os.environ.get("XLA_FLAGS"), os.cpu_count()


def _files() -> set[str]:
    """Files of all loaded modules outside the standard library, and of all of ours."""
    loaded = {path for module in list(sys.modules.values()) if (path := getattr(module, "__file__", None))}
    own = {path for path in loaded if not path.startswith((_STANDARD, *_INSTALLED)) and path != _LAUNCHER}
    return own | _library_files() | {str(path) for path in _OURS.rglob("*.py")}


def remember_libraries() -> None:
    """Take what is loaded of installed packages for all that programs depend on; else the first fingerprint does.

    A launcher calls this when it has loaded the experiment: so a single run, a sweep and its workers, which load more
    of what no program depends on, find each other's programs.
    """
    _library_files()


@functools.cache
def _library_files() -> frozenset[str]:
    """Of installed packages, as of the first call: what they load later, they load every time."""
    loaded = {path for module in list(sys.modules.values()) if (path := getattr(module, "__file__", None))}
    return frozenset(path for path in loaded if path.startswith(_INSTALLED))


def _stamp(path: str) -> tuple[str, int, int]:
    """Raises `Unknown` where a file changed after this process began: it may have read what stood there before."""
    found = os.stat(path)
    if found.st_mtime > _BEGAN:
        raise Unknown(path)
    return path, found.st_mtime_ns, found.st_size
