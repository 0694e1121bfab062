"""Settings of glibc's malloc that keep freed memory, in huge pages, instead of mapping it again in every step.

XLA allocates the temporary memory of a program at every call, up to some gigabytes, and by default glibc maps and
unmaps such blocks each time, with a page fault every 4 KB. The settings are made in the running process, without a
restart. Measurements are in `jaxcv/cpu/__init__.py`.
"""

import ctypes
import os
import sys
from collections.abc import Mapping

_HUGE_PAGE = 1 << 21
_MADV_HUGEPAGE = 14
# From glibc's malloc.h: a single arena (others map blocks above 64 MB each time, whatever the settings), no blocks by
# mmap, no memory returned to the system, growth by 256 MB at a time.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -2, -4, -8
_SETTINGS = ((_M_ARENA_MAX, 1), (_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, -1), (_M_TOP_PAD, 256 << 20))


def keep_memory() -> str:
    """Make malloc keep freed memory, in huge pages; returns what was done, for the log. Linux with glibc only.

    Nothing is changed where the user has set `GLIBC_TUNABLES`, `LD_PRELOAD` or `MALLOC_*`.
    """
    if own := _own_settings(os.environ):
        return f"memory unchanged: {', '.join(own)} is set"
    if not sys.platform.startswith("linux"):
        return "memory unchanged: not Linux"
    libc = _libc()
    if libc is None or not hasattr(libc, "gnu_get_libc_version"):
        return "memory unchanged: no glibc"
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    if not all([libc.mallopt(name, value) for name, value in _SETTINGS]):
        return "memory unchanged: mallopt failed"
    size = _half_of_memory()
    block = libc.malloc(size)  # reserves address space only
    if not block:
        return "allocations are kept between steps; no huge pages, because the address space is limited"
    first = -(-block // _HUGE_PAGE) * _HUGE_PAGE
    refused = libc.madvise(first, (block + size - first) & -_HUGE_PAGE, _MADV_HUGEPAGE)
    libc.free(block)
    return "allocations are kept between steps" + ("; no huge pages on this system" if refused else ", in huge pages")


def _own_settings(environment: Mapping[str, str]) -> list[str]:
    names = ("GLIBC_TUNABLES", "LD_PRELOAD")
    return sorted(name for name in environment if name in names or name.startswith("MALLOC_"))


def _libc() -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL("libc.so.6", use_errno=True)
    except OSError:
        return None


def _half_of_memory() -> int:
    """Half of the machine's or the container's memory, in bytes."""
    sizes = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    try:
        with open("/sys/fs/cgroup/memory.max", encoding="ascii") as file:
            sizes.append(int(file.read()))
    except (OSError, ValueError):
        pass  # no container, or no limit
    return min(sizes) // 2
