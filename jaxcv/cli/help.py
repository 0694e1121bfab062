"""The help of an experiment, read off the text of its file: nothing is imported, so it comes at once."""

import ast
import inspect
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jaxcv.errors import argument_meanings


def of_file(file: Path) -> str | None:
    """Docstring and hyperparameters of an experiment; None where its file does not define it as a plain function."""
    try:
        tree = ast.parse(file.read_text("utf-8"))
    except (OSError, SyntaxError, ValueError):
        return None
    found = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "experiment"]
    if len(found) != 1 or found[0].decorator_list:
        return None
    arguments = found[0].args
    if arguments.posonlyargs or arguments.args or arguments.vararg or arguments.kwarg:
        return None
    if not all(default is not None and a.annotation for a, default in _pairs(arguments)):
        return None
    meanings = argument_meanings(ast.get_docstring(found[0]) or "")
    rows = [(a.arg, ast.unparse(a.annotation), ast.unparse(d), meanings.get(a.arg, "")) for a, d in _pairs(arguments)]
    return page(ast.get_docstring(tree) or "", rows)


def of_module(module: Any, known: Any) -> str:
    """The same of an experiment that is imported, with `known` hyperparameters."""
    rows = [(name, h.type_name, repr(h.default), h.meaning) for name, h in known.items()]
    return page(inspect.cleandoc(module.__doc__ or ""), rows)


def page(claim: str, rows: Iterable[tuple[str, str, str, str]]) -> str:
    """The text of the help.

    Args:
        claim: the file's docstring.
        rows: name, type, default and meaning of each hyperparameter.
    """
    rows = list(rows)
    lines = [claim.strip(), "", "hyperparameters (name=value; a comma sweeps):"]
    width = max((len(name) for name, *_ in rows), default=0)
    for name, kind, default, meaning in rows:
        lines.append(f"  {name:<{width}}  {kind} = {default}")
        lines += textwrap.wrap(meaning, 100, initial_indent=" " * (width + 6), subsequent_indent=" " * (width + 6))
    return "\n".join(lines)


def _pairs(arguments: ast.arguments) -> list[tuple[Any, Any]]:
    return list(zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True))
