"""The kernels of `cpp/kernels.cc` as JAX functions: each makes one pass over memory where XLA makes several.

They are for float32, and int32 indices, in programs for a single CPU device, and need a C++ compiler; see `ready`.
"""

import contextlib
import contextvars
import ctypes
import functools
import threading
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from jaxcv.cpu.build import build
from jaxcv.cpu.geometry import Geometry

_NAMES = (
    "conv_gradient",
    "matrix_gradient",
    "depthwise_forward",
    "depthwise_gradient",
    "winograd_forward",
    "winograd_gradient",
    "strided",
    "batch_norm_statistics",
    "batch_norm_sums",
    "window_maxima_gradient",
)

_allowed = contextvars.ContextVar("allowed", default=True)


@contextlib.contextmanager
def allowed(yes: bool) -> Iterator[None]:
    """Whether forms that are traced in this context may call kernels."""
    token = _allowed.set(yes)
    try:
        yield
    finally:
        _allowed.reset(token)


def ready() -> bool:
    """Whether kernels can be called. The first call compiles them if necessary, and registers them with XLA."""
    return _allowed.get() and version() is not None


_once = threading.Lock()


def version() -> str | None:
    """Suffix of the kernels' names in XLA, so that cached programs call no other version; None without kernels."""
    with _once:  # programs are lowered by several threads
        return _register()


@functools.cache
def _register() -> str | None:
    library = build("kernels.cc", include=jax.ffi.include_dir())
    if library is None:
        return None
    try:
        functions = ctypes.cdll.LoadLibrary(str(library))
    except OSError:
        return None
    suffix = library.stem.rpartition("-")[2]
    for name in _NAMES:
        target = jax.ffi.pycapsule(getattr(functions, name))
        jax.ffi.register_ffi_target(f"jaxcv_{name}_{suffix}", target, platform="cpu")
    return suffix


def call(name: str, out: Any, *args: jax.Array, **attributes: int) -> Any:
    """Call a kernel.

    Args:
        name: of the kernel.
        out: shape and dtype of the result, or a tuple of them.
        args: arrays.
        attributes: the kernel's integer attributes.

    Returns:
        An array like `out`, or a tuple of them.
    """
    function = jax.ffi.ffi_call(f"jaxcv_{name}_{version()}", out, vmap_method="sequential")
    numbers: dict[str, Any] = {key: np.int64(value) for key, value in attributes.items()}
    return function(*args, **numbers)


def output(*shape: int) -> jax.ShapeDtypeStruct:
    """Shape and dtype of a float32 result."""
    return jax.ShapeDtypeStruct(shape, np.float32)


def strides_and_corner(at: Geometry) -> dict[str, int]:
    """Strides and padding as attributes of the C++ kernels."""
    return {"sh": at.strides[0], "sw": at.strides[1], "top": at.pads[0][0], "left": at.pads[1][0]}
