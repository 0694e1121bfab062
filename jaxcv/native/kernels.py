"""The kernels of `kernels.cc` as JAX functions: each does what a plain formulation does, in one pass over memory.

They serve float32 on a single CPU device, where there is a C++ compiler; `ready` says whether they do.
"""

import ctypes
import functools
import threading
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxcv import native

_NAMES = (
    "conv_gradient",
    "matrix_gradient",
    "depthwise_forward",
    "depthwise_gradient",
    "winograd_forward",
    "winograd_gradient",
    "batch_norm_statistics",
    "batch_norm_sums",
)


@functools.cache
def ready() -> bool:
    """Whether the kernels can be called here. The first call compiles them if need be, and makes them known to XLA."""
    return jax.default_backend() == "cpu" and jax.device_count() == 1 and version() is not None


_once = threading.Lock()


def version() -> str | None:
    """What their names in compiled programs end in, so that a program never meets kernels of another version."""
    with _once:  # programs are loaded by several threads
        return _register()


@functools.cache
def _register() -> str | None:
    library = native.build("kernels.cc", include=jax.ffi.include_dir())
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


def call(name: str, plain: Callable[..., Any], *args: jax.Array, **attributes: int) -> Any:
    """`plain(*args)`, computed by a kernel; differentiated as `plain` is.

    Args:
        name: of the kernel.
        plain: the formulation that the kernel stands for.
        args: float32 arrays.
        attributes: the kernel's further arguments.
    """

    def types(*arrays: jax.Array) -> Any:
        return jax.tree.map(lambda out: jax.ShapeDtypeStruct(out.shape, out.dtype), jax.eval_shape(plain, *arrays))

    @jax.custom_jvp
    def fast(*arrays: jax.Array) -> Any:
        function = jax.ffi.ffi_call(f"jaxcv_{name}_{version()}", types(*arrays), vmap_method="sequential")
        numbers: dict[str, Any] = {key: np.int64(value) for key, value in attributes.items()}
        return function(*arrays, **numbers)

    fast.defjvp(lambda primals, tangents: jax.jvp(plain, primals, tangents))
    return fast(*args)
