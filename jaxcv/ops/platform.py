"""The choice of an operation's CPU form. Without the folder `jaxcv/cpu` every operation is the plain one."""

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
