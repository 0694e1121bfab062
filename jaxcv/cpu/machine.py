"""The identity of this machine's processor, and the cache folder."""

import functools
import hashlib
import os
import platform
from pathlib import Path


def cache_folder() -> Path:
    """jaxcv's cache: `$JAXCV_CACHE`, else `$XDG_CACHE_HOME/jaxcv`, else `~/.cache/jaxcv`."""
    if folder := os.environ.get("JAXCV_CACHE"):
        return Path(folder).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "jaxcv"


@functools.cache
def machine_name() -> str:
    """Twelve hexadecimal digits that differ between processors which cannot run each other's compiled programs."""
    features = ""
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as lines:
            features = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    except OSError:
        pass  # not Linux: only the names below
    text = "|".join((platform.system(), platform.machine(), platform.processor(), features))
    return hashlib.sha256(text.encode()).hexdigest()[:12]
