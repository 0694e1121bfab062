"""Memory of this process in huge pages that are kept, not mapped anew in every step.

XLA allocates the temporary memory of a program at every call, up to some gigabytes. glibc maps and unmaps so much each
time, a page fault every 4 KB; told to keep it, it tears it up between small blocks, so that the process grows to some
times its need, and searches long lists under one lock. So there are two ways, the better one first:

1. `native/heap.c` in front of malloc, which takes a start of the process with `LD_PRELOAD`: `launch.py` starts itself
   again so, other programs say `LD_PRELOAD=$(python -m jaxcv.heap)`.
2. glibc told to keep what it has (`use_huge_pages`), in a process that runs already.

Training step on 2 AMD EPYC (Zen 5) cores, milliseconds and resident gigabytes, the first way against the second: U-Net
396 and 2.8 (518 and 3.2), MobileNetV2 290 and 3.2 (360 and 4.6), ResNet-50 590 (675).
"""

import ctypes
import importlib.util
import os
import sys
from collections.abc import Mapping

from jaxcv import interrupts

_HUGE_PAGE = 1 << 21
_MADV_HUGEPAGE = 14
# glibc's malloc.h. One arena, nothing mapped apart, nothing given back, grown by 256 MB at a time.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -2, -4, -8


def preload() -> str | None:
    """The library to start a process with; None where there is none to be had, or the user has settings of their own.

    Linux with glibc on a CPU, and a C compiler for the first time.
    """
    if not sys.platform.startswith("linux") or _own_settings(os.environ) or not hasattr(_libc(), "__libc_malloc"):
        return None
    from jaxcv import native

    library = native.build("heap.c")
    return None if library is None else str(library)


def preloaded() -> bool:
    """Whether this process was started with the library."""
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="replace") as lines:
            return any("/native-" in line and "/heap-" in line for line in lines)
    except OSError:
        return False


def start_again() -> None:
    """Put this very command in the place of this process, with the library preloaded; returns if that cannot be.

    The process keeps its number. Programs it starts itself do not inherit the library. Whatever was done before is done
    twice, so a program begins with this; nothing where JAX would find a GPU or TPU.
    """
    if preloaded():
        os.environ.pop("LD_PRELOAD", None)
        return
    accelerators = any(importlib.util.find_spec(name) for name in ("jax_plugins", "libtpu"))
    if not os.environ.get("JAX_PLATFORMS", "" if accelerators else "cpu").startswith("cpu"):
        return
    library = preload()
    if library is not None:
        interrupts.hold()
        sys.stdout.flush()
        sys.stderr.flush()
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, "LD_PRELOAD": library})


def use_huge_pages() -> str:
    """Let malloc keep what it has and have it in huge pages; says what was done. Linux with glibc only.

    The user's own `GLIBC_TUNABLES` or `MALLOC_*` variables, or another allocator, are left alone.
    """
    if preloaded():
        return "large allocations are kept between steps, in huge pages"
    if own := _own_settings(os.environ):
        return f"memory as {', '.join(own)} says"
    if not sys.platform.startswith("linux"):
        return "memory left as it is: huge pages are for Linux"
    libc = _libc()
    if libc is None or not hasattr(libc, "gnu_get_libc_version"):
        return "memory left as it is: no glibc"
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    size = _half_of_memory()
    settings = ((_M_ARENA_MAX, 1), (_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, -1), (_M_TOP_PAD, 256 << 20))
    if not all([libc.mallopt(name, value) for name, value in settings]):
        return "memory left as it is: mallopt refused"
    block = libc.malloc(size)  # address space only: nothing is touched
    if not block:
        return "allocations are kept between steps; no huge pages, the address space is limited"
    first = -(-block // _HUGE_PAGE) * _HUGE_PAGE
    refused = libc.madvise(first, (block + size - first) & -_HUGE_PAGE, _MADV_HUGEPAGE)
    libc.free(block)
    done = "allocations are kept between steps" + ("; no huge pages here" if refused else ", in huge pages")
    return f"{done}; faster with LD_PRELOAD=$(python -m jaxcv.heap)" if preload() else done


def _own_settings(environment: Mapping[str, str]) -> list[str]:
    names = ("GLIBC_TUNABLES", "LD_PRELOAD")
    return sorted(name for name in environment if name in names or name.startswith("MALLOC_"))


def _libc() -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL("libc.so.6", use_errno=True)
    except OSError:
        return None


def _half_of_memory() -> int:
    """Bytes: half of the machine's or of the container's memory."""
    sizes = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    try:
        with open("/sys/fs/cgroup/memory.max", encoding="ascii") as file:
            sizes.append(int(file.read()))
    except (OSError, ValueError):
        pass  # no container, or no limit
    return min(sizes) // 2


if __name__ == "__main__":
    print(preload() or "")
