"""Where an operation has a form for the CPU, it is chosen here; without the folder `jaxcv/cpu`, nothing has."""

from collections.abc import Callable
from typing import Any

try:
    from jaxcv.cpu import on_cpu
except ImportError:

    def on_cpu(name: str, plain: Callable[..., Any]) -> Callable[..., Any]:
        """The operation as it is."""
        del name
        return plain


__all__ = ["on_cpu"]
