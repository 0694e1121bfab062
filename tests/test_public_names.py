"""Public names and how they are called, in one file: what changes it changes other people's programs.

`python tests/test_public_names.py` writes it again; say in CHANGELOG.md what has gone or is called otherwise.
"""

import importlib
import inspect
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
FILE = ROOT / "docs/public_names.txt"
ROOMS = (
    "augment",
    "data",
    "errors",
    "losses",
    "metrics",
    "models",
    "ops",
    "predict",
    "runs",
    "show",
    "train",
    "weights",
)


def default(value: Any) -> str:
    return (
        repr(value) if isinstance(value, bool | int | float | str | tuple | None) and "<" not in repr(value) else "..."
    )


def call(thing: Any) -> str:
    """Names and defaults of the parameters."""
    if not callable(thing):
        return f": {type(thing).__name__}"
    try:
        parameters = inspect.signature(thing).parameters.values()
    except (TypeError, ValueError):
        return ""
    plain = []
    for p in parameters:
        value = inspect.Parameter.empty if p.default is inspect.Parameter.empty else _Written(default(p.default))
        plain.append(p.replace(annotation=inspect.Parameter.empty, default=value))
    return str(inspect.Signature(plain))


class _Written(str):
    def __repr__(self) -> str:
        return str(self)


def names() -> str:
    lines = []
    for room in ROOMS:
        module = importlib.import_module(f"jaxcv.{room}")
        listed = getattr(module, "__all__", None) or [n for n, v in vars(module).items() if isinstance(v, type)]
        for name in sorted(listed):
            thing = getattr(module, name)
            written = "" if inspect.ismodule(thing) else call(thing)
            lines.append(f"jaxcv.{room}.{name}{written}")
    return "\n".join(lines) + "\n"


def test_public_names_are_those_of_the_file():
    found, listed = names().splitlines(), FILE.read_text().splitlines()
    assert not set(listed) - set(found), "gone, or called otherwise"
    assert not set(found) - set(listed), "new: python tests/test_public_names.py"


if __name__ == "__main__":
    FILE.write_text(names())
