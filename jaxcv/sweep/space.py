"""The grammar of overrides: `lr=1e-3,1e-4 seed=0,1` is a grid of four trials.

A comma outside brackets and quotes separates alternatives; several names make the product. Values are Python literals
checked against the annotation; where the annotation is `str`, the text stands for itself.
"""

import ast
import hashlib
import itertools
import re
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from jaxcv.train.experiment import Hyperparameter, check_value
from jaxcv.types import UserError, unknown_name

_LONGEST_NAME = 200  # of a folder; file systems allow 255 bytes


def parse_overrides(tokens: Sequence[str], known: Mapping[str, Hyperparameter]) -> dict[str, list[Any]]:
    """`name=value,...` tokens as alternatives by name, in the order of the signature.

    Raises:
        UserError: no `=`, an unknown or repeated name, or a value that does not fit its annotation.
    """
    found: dict[str, list[Any]] = {}
    for token in tokens:
        name, equals, text = token.partition("=")
        if not equals:
            raise UserError(f"{token!r}: expected name=value (hyperparameter) or --flag (launcher)")
        if name not in known:
            raise UserError(unknown_name("hyperparameter", name, known))
        if name in found:
            raise UserError(f"{name} is given twice; alternatives are separated by commas: {name}=a,b")
        found[name] = [_parse(part, known[name]) for part in split_alternatives(text)]
        if len(set(map(repr, found[name]))) < len(found[name]):
            raise UserError(f"{token}: the same value twice")
    return {name: found[name] for name in known if name in found}


def split_alternatives(text: str) -> list[str]:
    """Split at commas outside brackets and quotes."""
    parts, depth, quote, start = [], 0, "", 0
    for i, char in enumerate(text):
        if quote:
            quote = "" if char == quote else quote
        elif char in "\"'":
            quote = char
        elif char in "([{":
            depth += 1
        elif char in ")]}":
            depth -= 1
        elif char == "," and depth == 0:
            parts.append(text[start:i])
            start = i + 1
    return [*parts, text[start:]]


def _parse(text: str, h: Hyperparameter) -> Any:
    text = text.strip()
    union = typing.get_origin(h.annotation) in (typing.Union, types.UnionType)  # a tuple's arguments are its elements
    options = typing.get_args(h.annotation) if union else (h.annotation,)
    if re.fullmatch(r"(log|uniform)\(.*\)", text) and str not in options:
        raise UserError(f"{h.name}={text}: ranges cannot be searched yet; list the values: {h.name}=a,b,c")
    if bool in options and text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        if str in options or typing.get_origin(h.annotation) is typing.Literal:
            return check_value(h, text)
        example = f", for example {h.name}={h.default!r}" if h.default is not None else ""
        raise UserError(f"{h.name}={text}: expected {h.type_name}{example}") from None
    if str in options and not isinstance(value, str) and not any(type(value) is o for o in options):
        value = None if value is None and type(None) in options else text  # `data=10` is the text "10"
    return check_value(h, value)


def trials(grid: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """The product of all alternatives; the last name varies fastest. One empty trial where nothing is overridden."""
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def folder_name(overrides: Mapping[str, Any]) -> str:
    """A run's folder is its overrides: `lr=0.001,seed=0`; `defaults` where there are none.

    Characters that file systems or shells dislike become `_`, and a long name is cut; both get a digest so that
    different overrides never share a folder.
    """
    exact = ",".join(f"{name}={value}" for name, value in overrides.items())
    if not exact:
        return "defaults"
    name = re.sub(r"[^A-Za-z0-9_.,=+:()-]+", "_", exact)
    if name != exact or len(name) > _LONGEST_NAME:
        name = f"{name[:_LONGEST_NAME]}-{hashlib.sha256(exact.encode()).hexdigest()[:8]}"
    return name
