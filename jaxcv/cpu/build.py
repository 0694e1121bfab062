"""Compile the C++ kernels on this machine when they are first needed.

They are optional: without a compiler, or with `JAXCV_NATIVE=0`, everything works, slower. Compiled files are in the
cache folder, one for each processor, compiler and source.
"""

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from jaxcv.cpu.machine import cache_folder, machine_name

SOURCES = Path(__file__).parent / "cpp"
_FLAGS = ("-O3", "-shared", "-fPIC", "-march=native", "-std=c++17")


def build(name: str, *, include: str) -> Path | None:
    """The shared library of `name`, a file in `cpp/`, compiled by `$CXX` or `c++`; None if that is not possible.

    Args:
        name: such as `kernels.cc`.
        include: a folder of headers, whose path must differ between versions of the headers.
    """
    compiler = shutil.which(os.environ.get("CXX") or "c++") if os.environ.get("JAXCV_NATIVE") != "0" else None
    if compiler is None:
        return None
    flags = [*_FLAGS, f"-I{include}"]
    source, made_with = SOURCES / name, os.stat(compiler)
    headers = (header.read_bytes() for header in sorted(SOURCES.glob("*.h")))
    parts = [source.read_bytes(), *headers, compiler.encode(), str((made_with.st_size, made_with.st_mtime_ns)).encode()]
    key = hashlib.sha256(b"\0".join([*parts, *(flag.encode() for flag in flags)])).hexdigest()[:16]
    library = cache_folder() / f"native-{machine_name()}" / f"{source.stem}-{key}.so"
    if library.exists():
        return library
    try:
        library.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=library.parent) as folder:
            made = Path(folder, library.name)
            command = [compiler, *flags, "-o", str(made), str(source)]
            subprocess.run(command, check=True, capture_output=True, timeout=120)
            os.replace(made, library)
    except (OSError, subprocess.SubprocessError):
        return None
    return library
