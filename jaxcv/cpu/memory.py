"""Memory of this process in huge pages that are kept, not mapped anew in every step.

XLA allocates the temporary memory of a program at every call, up to some gigabytes, and glibc maps and unmaps so much
each time: a page fault every 4 KB. So glibc is told to keep what it has, in a process that runs already: nothing has to
be started again. The comparison that settled it stands in `jaxcv/cpu/__init__.py`.
"""

import ctypes
import os
import sys
from collections.abc import Mapping

_HUGE_PAGE = 1 << 21
_MADV_HUGEPAGE = 14
# glibc's malloc.h. One arena (the others map what is larger than 64 MB anew each time, whatever they are told), nothing
# mapped apart, nothing given back, grown by 256 MB at a time.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -2, -4, -8
_SETTINGS = ((_M_ARENA_MAX, 1), (_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, -1), (_M_TOP_PAD, 256 << 20))


def keep_memory() -> str:
    """Let malloc keep what it has and have it in huge pages; says what was done. Linux with glibc only.

    The user's own `GLIBC_TUNABLES` or `MALLOC_*` variables, or another allocator, are left alone.
    """
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
    if not all([libc.mallopt(name, value) for name, value in _SETTINGS]):
        return "memory left as it is: mallopt refused"
    size = _half_of_memory()
    block = libc.malloc(size)  # address space only: nothing is touched
    if not block:
        return "allocations are kept between steps; no huge pages, the address space is limited"
    first = -(-block // _HUGE_PAGE) * _HUGE_PAGE
    refused = libc.madvise(first, (block + size - first) & -_HUGE_PAGE, _MADV_HUGEPAGE)
    libc.free(block)
    return "allocations are kept between steps" + ("; no huge pages here" if refused else ", in huge pages")


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
