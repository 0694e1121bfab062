"""The allocator in front of malloc, each time in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from jaxcv import heap

ROOT = Path(__file__).parent.parent
CLEAN = {k: v for k, v in os.environ.items() if k not in ("GLIBC_TUNABLES", "LD_PRELOAD") and k[:7] != "MALLOC_"}
ENVIRONMENT = CLEAN | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}


@pytest.fixture(scope="module")
def library():
    found = heap.preload()
    if found is None:
        pytest.skip("no C compiler, or no glibc, or settings of the user's own")
    return found


def run(code, **variables):
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=ENVIRONMENT | variables, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


STRESS = """
import ctypes, random, threading, os
from jaxcv import heap
assert heap.preloaded()
libc = ctypes.CDLL(None)
for name, arguments in {"malloc": 1, "calloc": 2, "aligned_alloc": 2, "realloc": 2, "malloc_usable_size": 1}.items():
    function = getattr(libc, name)
    function.restype = ctypes.c_size_t
    function.argtypes = [ctypes.c_size_t] * arguments
libc.free.argtypes = [ctypes.c_size_t]
libc.free.restype = None
SIZES = [0, 1, 100, 65535, (1 << 20) - 1, 1 << 20, 3_000_001, 20 << 20, (64 << 20) + 5]

def marked(block, size, mark):
    ends = {0, size // 2, size - 1}
    return all(ctypes.c_ubyte.from_address(block + i).value == mark for i in ends if 0 <= i < size)

def fill(block, size, mark):
    for i in {0, size // 2, size - 1}:
        if 0 <= i < size:
            ctypes.c_ubyte.from_address(block + i).value = mark

def work(seed):
    draw, held = random.Random(seed), []
    for turn in range(600):
        if len(held) > 12 or (held and draw.random() < 0.4):
            block, size, mark = held.pop(draw.randrange(len(held)))
            assert marked(block, size, mark), (seed, turn, size)
            if draw.random() < 0.3:
                new = draw.choice(SIZES[1:])
                block = libc.realloc(block, new)
                assert marked(block, 1 if min(new, size) else 0, mark)
            libc.free(block)
            continue
        size, kind = draw.choice(SIZES), draw.randrange(3)
        if kind == 0:
            block = libc.malloc(size)
        elif kind == 1:
            block = libc.calloc(size, 1)
            assert marked(block, size, 0), "calloc gives zeros, also where something was before"
        else:
            alignment = draw.choice([64, 4096, 1 << 21])
            block = libc.aligned_alloc(alignment, size)
            assert block % alignment == 0
        assert libc.malloc_usable_size(block) >= size
        mark = draw.randrange(1, 256)
        fill(block, size, mark)
        held.append((block, size, mark))
    for block, size, mark in held:
        assert marked(block, size, mark)
        libc.free(block)

errors = []
def guarded(seed):
    try:
        work(seed)
    except BaseException as error:
        errors.append(repr(error))
threads = [threading.Thread(target=guarded, args=(seed,)) for seed in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
assert not errors, errors
assert not libc.malloc(1 << 60) and not libc.calloc(1 << 40, 1 << 40), "what cannot be had is refused"
child = os.fork()
if child == 0:
    work(9)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
print("fine")
"""


def test_blocks_keep_what_is_written_into_them(library):
    assert run(STRESS, LD_PRELOAD=library) == "fine\n"


def test_a_giant_block_is_used_again_whatever_was_allocated_meanwhile(library):
    """Small blocks do not settle in its place: no page is touched for the first time."""
    code = """
import ctypes, resource
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
def step():
    block = libc.malloc(256 << 20)
    ctypes.memset(block, 1, 256 << 20)
    libc.free(block)
    return block
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
first = step()
kept = [bytes(n) for n in range(1000, 3_000_000, 100_003)]
between = faults()
assert step() == first
print(faults() - between)
"""
    assert int(run(code, LD_PRELOAD=library)) < 500  # 65,536 pages of 4 KB


def dry_run(*flags, **variables):
    command = [sys.executable, "launch.py", "experiments/lenet.py", "--dry-run", *flags]
    done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT | variables, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_launcher_starts_itself_again_with_it(library):
    assert "large allocations are kept between steps" in dry_run()
    assert "large allocations" not in dry_run("--no-tune")
    assert "memory as MALLOC_ARENA_MAX says" in dry_run(MALLOC_ARENA_MAX="2")
    assert "allocations are kept between steps" in (said := dry_run(JAXCV_NATIVE="0")) and "large" not in said


def test_programs_started_from_there_do_not_inherit_it(library):
    code = "from jaxcv import heap; import os; heap.start_again(); print(heap.preloaded(), 'LD_PRELOAD' in os.environ)"
    assert run(code, LD_PRELOAD=library) == "True False\n"
    assert run(code) == "True False\n", "started again"
    assert run(code, JAX_PLATFORMS="cuda") == "False False\n"
    assert run(code, JAXCV_NATIVE="0") == "False False\n"


def test_a_compiler_that_fails_is_no_error(tmp_path):
    code = "from jaxcv import heap; print(heap.preload())"
    assert run(code, CC="false", JAXCV_CACHE=str(tmp_path)) == "None\n"
    assert run(code, CC="no-such-compiler", JAXCV_CACHE=str(tmp_path)) == "None\n"
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
