"""Memory of this process in huge pages that are kept, not mapped anew in every step.

XLA allocates the temporary memory of a program at every call, up to some gigabytes, and glibc maps and unmaps so much
each time: a page fault every 4 KB. MobileNetV2's training step on 2 cores made 257,000 of them and took 1.4 times as
long as with this.
"""

import ctypes
import os
import sys

_HUGE_PAGE = 1 << 21
_MADV_HUGEPAGE = 14
# glibc's malloc.h. One arena, nothing mapped apart, nothing given back, grown by 256 MB at a time.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -2, -4, -8


def use_huge_pages() -> str:
    """Let malloc keep what it has and have it in huge pages; says what was done. Linux with glibc only.

    The user's own `GLIBC_TUNABLES` or `MALLOC_*` variables, or another allocator, are left alone.
    """
    own = [name for name in os.environ if name == "GLIBC_TUNABLES" or name.startswith("MALLOC_")]
    if own:
        return f"memory as {', '.join(sorted(own))} says"
    if os.environ.get("LD_PRELOAD"):
        return "memory left to the allocator in LD_PRELOAD"
    if not sys.platform.startswith("linux"):
        return "memory left as it is: huge pages are for Linux"
    try:
        libc = ctypes.CDLL("libc.so.6", use_errno=True)
        libc.gnu_get_libc_version  # noqa: B018
    except (OSError, AttributeError):
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
    return "allocations are kept between steps" + ("; no huge pages here" if refused else ", in huge pages")


def _half_of_memory() -> int:
    """Bytes: half of the machine's or of the container's memory."""
    sizes = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    try:
        with open("/sys/fs/cgroup/memory.max", encoding="ascii") as file:
            sizes.append(int(file.read()))
    except (OSError, ValueError):
        pass  # no container, or no limit
    return min(sizes) // 2
