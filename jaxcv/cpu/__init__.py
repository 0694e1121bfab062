"""Optimisations for XLA:CPU that no other backend needs. Without this folder everything works, slower on a CPU.

    forms        the one function that `ops` calls, and the operations that have a CPU form, an equivalent computation
    seam         a primitive that chooses the form when a program is lowered, with its derivatives and batching
    convolution  which form a convolution and its gradients take; the measurements behind the rules
    geometry, wide, winograd, depthwise    the forms
    kernels, build, cpp/                   kernels in C++, compiled on this machine
    process, memory, machine               XLA's flag, malloc's settings, the processor's identity

Memory: mallopt, called within the process, makes glibc keep freed memory (`memory`). Allocators by `LD_PRELOAD` and
settings that are read when a process starts would need a restart, and are no faster. Training steps of U-Net (width
32, batch 8, 128 pixels) and ResNet-50 (batch 8, 224 pixels): milliseconds, page faults per step, resident gigabytes. 2
AMD EPYC cores with AVX-512, glibc 2.36, jaxlib 0.10.2, Debian 12's allocators; one process per sample, settings
alternating; the lowest of two to seven samples, because the machine had other load:

                                                          U-Net              ResNet-50
    mallopt in the process: `keep_memory`                 540     0  2.2     1037     0  3.2 to 4.7
      with a second arena                                 548     0  1.7          57616  2.5
      with the default number of arenas                   640 78366  1.1
    a custom allocator for large blocks, preloaded        533     5  1.3     1031    21  2.5 to 2.9
    jemalloc 5.3, thp:always, no memory returned          529    16  1.6     1025     2  3.0
    mimalloc 2.0.9, large pages, no memory reset          619 24757  1.1
    tcmalloc 2.10, no memory released                     617     0  1.0
    GLIBC_TUNABLES: hugetlb=1, arena_max=1, mmap_max=0    518    17  1.6     1038   146  3.2
    GLIBC_TUNABLES: hugetlb=1 alone                       553   655  1.1            728  1.9
    glibc's defaults                                      637 78352  1.1
"""

from jaxcv.cpu.forms import on_cpu
from jaxcv.cpu.machine import machine_name
from jaxcv.cpu.process import compiler_options, tune

__all__ = ["compiler_options", "machine_name", "on_cpu", "tune"]
