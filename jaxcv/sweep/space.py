"""The grammar of overrides: `lr=1e-3,1e-4 seed=0,1` is a grid of four trials, `lr=log(1e-4,1e-1)` a range to search.

A comma outside brackets and quotes separates alternatives; several names make the product. Values are Python literals
checked against the annotation; where the annotation is `str`, the text is the value, and a comma in the path of an
existing file or folder belongs to the path: `data=folder:cats,dogs`, `weights=lr=0.1,seed=0.npz`.

`uniform(a,b)` and `log(a,b)` are ranges, both ends included, of integers where the annotation is `int`;
`uniform(a,b,step)` has steps.
"""

import ast
import hashlib
import itertools
import math
import os
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxcv.errors import UserError, unknown_name
from jaxcv.train.experiment import Hyperparameter, check_value


class UnknownHyperparameter(UserError):
    """A name that the experiment does not have."""

    def __init__(self, message: str, name: str):
        super().__init__(message)
        self.name = name


_LONGEST_NAME = 200  # of a folder; file systems allow 255 bytes


@dataclass(frozen=True)
class Range:
    """Values from `low` to `high`, both included."""

    low: int | float
    high: int | float
    log: bool = False
    """Uniform on a logarithmic scale."""
    integer: bool = False
    step: int | float | None = None
    """Distance of neighbouring values; None: any value, or every integer."""

    def __str__(self) -> str:
        ends = [self.low, self.high, *([self.step] if self.step is not None else [])]
        return f"{'log' if self.log else 'uniform'}({','.join(f'{end:g}' for end in ends)})"


Space = Mapping[str, Sequence[Any] | Range]
"""By name: alternatives, or a range."""


def parse_overrides(tokens: Sequence[str], known: Mapping[str, Hyperparameter]) -> dict[str, list[Any] | Range]:
    """`name=value,...` tokens as alternatives or a range by name, in the order of the signature.

    Raises:
        UserError: If a token has no `=`, an unknown or repeated name, or a value that does not fit its annotation.
    """
    overrides: dict[str, list[Any] | Range] = {}
    for token in tokens:
        name, equals, text = token.partition("=")
        if not equals:
            raise UserError(f"{token!r}: expected name=value (hyperparameter) or --flag (launcher)")
        if name not in known:
            raise UnknownHyperparameter(unknown_name("hyperparameter", name, known), name)
        if name in overrides:
            raise UserError(f"{name} is given twice; alternatives are separated by commas: {name}=a,b")
        if (range_ := _parse_range(text, known[name])) is not None:
            overrides[name] = range_
            continue
        parts = split_alternatives(text)
        if (written := _as_tuple(parts, known[name])) is not None:
            raise UserError(f'{token}: {name} is a tuple, and a comma sweeps; write "{name}={written}"')
        values = [_parse(part, known[name]) for part in (_whole_paths(parts, name) if _is_text(known[name]) else parts)]
        if len(set(map(repr, values))) < len(values):
            raise UserError(f"{token}: the same value twice")
        overrides[name] = values
    return {name: overrides[name] for name in known if name in overrides}


def _as_tuple(parts: Sequence[str], h: Hyperparameter) -> str | None:
    """How alternatives without brackets are written as the tuple that is wanted; None where they are fine."""
    kinds = [option for option in _options(h) if typing.get_origin(option) is tuple]
    bare = [part for part in parts if part[:1] not in ("(", "[") and part != "None"]
    if not kinds or not bare or str in _options(h):
        return None
    texts = str in typing.get_args(kinds[0])
    elements = [repr(part.strip("\"'")) if texts else part for part in parts]
    return f"({','.join(elements)}{',' * (len(elements) == 1)})"


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


def note_on_commas(tokens: Sequence[str]) -> str:
    """A hint on quoting commas in paths, if one of the tokens may have one; else empty."""
    for token in tokens:
        name, _, text = token.partition("=")
        parts = [part for part in split_alternatives(text) if part[:1] not in ("'", '"', "(", "[")]
        like_paths = any("/" in part or re.match(r"[a-z]\w*:", part) for part in parts)
        if len(parts) > 1 and like_paths and not all(map(_exists, parts)):
            return f"a comma separates alternatives; if it belongs to a path, quote the value: {_quoted(name, text)}"
    return ""


def _whole_paths(parts: list[str], name: str) -> list[str]:
    """The alternatives, with those rejoined that together are the path of an existing file or folder.

    Raises:
        UserError: If each of them exists by itself, too.
    """
    alternatives, i = [], 0
    while i < len(parts):
        ends = range(len(parts), i + 1, -1)
        end = next((end for end in ends if _exists(",".join(parts[i:end]))), i + 1)
        pieces, whole = parts[i:end], ",".join(parts[i:end])
        if len(pieces) > 1 and all(map(_exists, pieces)):
            each = f"{name}={','.join(map(repr, pieces))}"
            raise UserError(
                f"{name}={whole}: a path of that name exists, and so does each of its parts; quote what is meant: "
                f'{_quoted(name, whole)} or "{each}"'
            )
        alternatives, i = [*alternatives, whole], end
    return alternatives


def _exists(text: str) -> bool:
    """Whether a text, without a prefix as in `voc:PATH`, is the path of an existing file or folder."""
    paths = text.strip(), re.sub(r"^[a-z]\w*:", "", text.strip())
    return any(os.path.exists(os.path.expanduser(path)) for path in paths if path)


def _quoted(name: str, text: str) -> str:
    """An override with its value quoted for a shell."""
    return f"\"{name}='{text}'\""


def _is_text(h: Hyperparameter) -> bool:
    return str in _options(h)


def _options(h: Hyperparameter) -> tuple[Any, ...]:
    union = typing.get_origin(h.annotation) in (typing.Union, types.UnionType)  # a tuple's arguments are its elements
    return typing.get_args(h.annotation) if union else (h.annotation,)


def _parse_range(text: str, h: Hyperparameter) -> Range | None:
    """The range of `log(a,b)` or `uniform(a,b)`; None for anything else."""
    form = re.search(r"\b(log|uniform)\s*\(", text)
    if form is None or str in _options(h):
        return None

    def refuse(why: str) -> typing.NoReturn:
        raise UserError(f"{h.name}={text}: {why}; for example {h.name}=log(1e-4,1e-1) or {h.name}=uniform(0,1)")

    whole = re.fullmatch(r"\s*(log|uniform)\s*\(([^()]*)\)\s*", text)
    if whole is None:
        refuse("a range stands alone")
    integer = int in _options(h) and float not in _options(h)
    if not integer and float not in _options(h):
        refuse(f"a range is for numbers, and {h.name} is {h.type_name}")
    try:
        numbers = [ast.literal_eval(part.strip()) for part in whole[2].split(",")]
    except (ValueError, SyntaxError):
        refuse("the ends are numbers")
    if not all(type(n) in (int, float) and math.isfinite(n) for n in numbers):
        refuse("the ends are numbers")
    if len(numbers) not in (2, 3):
        refuse("a range has two ends")
    if integer and not all(type(n) is int for n in numbers):
        refuse(f"{h.name} is int, so its ends are too")
    low, high, log = numbers[0], numbers[1], whole[1] == "log"
    if not low < high:
        refuse("the first end is below the second")
    if log and low <= 0:
        refuse("a logarithm needs ends above 0")
    for end in (low, high):
        check_value(h, end)
    if len(numbers) == 3 and (log or numbers[2] <= 0):
        refuse("log takes no step" if log else "a step is above 0")
    return Range(low, high, log, integer, numbers[2] if len(numbers) == 3 else None)


def _parse(text: str, h: Hyperparameter) -> Any:
    text = text.strip()
    options = _options(h)
    if bool in options and text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        if str in options or any(typing.get_origin(option) is typing.Literal for option in options):
            return check_value(h, text)
        example = f", for example {h.name}={h.default!r}" if h.default is not None else ""
        raise UserError(f"{h.name}={text}: expected {h.type_name}{example}") from None
    if str in options and not isinstance(value, str) and not any(type(value) is o for o in options):
        value = None if value is None and type(None) in options else text  # `data=10` is the text "10"
    return check_value(h, value)


def trials(grid: Space) -> list[dict[str, Any]]:
    """The product of all alternatives; the last name varies fastest. Without overrides, one empty trial.

    Raises:
        UserError: If there is a range, which cannot be listed.
    """
    lists: dict[str, Sequence[Any]] = {}
    for name, values in grid.items():
        if isinstance(values, Range):
            raise UserError(f"{name}={values} is a range: list values, or search it with --trials N")
        lists[name] = values
    return [dict(zip(lists, values, strict=True)) for values in itertools.product(*lists.values())]


def own_trials(
    sweep: Callable[[], Iterable[Mapping[str, Any]]], grid: Space, known: Mapping[str, Hyperparameter], file: str
) -> list[dict[str, Any]]:
    """The trials that an experiment file's own `sweep()` yields, each with all values of the command line.

    Args:
        sweep: yields overrides.
        grid: of the command line; takes precedence over yielded values.
        known: hyperparameters of the experiment.
        file: for messages.

    Raises:
        UserError: If a yielded object is not a mapping, or has an unknown name or a value of the wrong type, or none is
            yielded.
    """
    listed = []
    for number, yielded in enumerate(sweep(), start=1):
        if not isinstance(yielded, Mapping):
            raise UserError(f"{file}: sweep() yields {yielded!r} as trial {number}; expected a dict of hyperparameters")
        for name in yielded:
            if name not in known:
                raise UserError(f"{file}: sweep(), trial {number}: {unknown_name('hyperparameter', name, known)}")
        checked = {name: check_value(known[name], value) for name, value in yielded.items()}
        for typed in trials(grid):
            merged = {**checked, **typed}
            trial = {name: merged[name] for name in known if name in merged}
            if trial not in listed:
                listed.append(trial)
    if not listed:
        raise UserError(f"{file}: sweep() yields no trial")
    return listed


def folder_name(overrides: Mapping[str, Any]) -> str:
    """A run's folder is its overrides: `lr=0.001+seed=0`; `defaults` where there are none.

    It holds nothing that shells, scp or file systems take for a sign of their own: other characters become `_`, those
    of a tuple are left out, and long names are truncated; then a digest is appended, so that different overrides have
    different folders.
    """
    if not overrides:
        return "defaults"
    words = [f"{name}={value}" for name, value in overrides.items()]
    plain = [re.sub(r"[^A-Za-z0-9_.=-]+", "_", re.sub(r"[()\[\]'\"]", "", word.replace(", ", "-"))) for word in words]
    name = "+".join(plain)
    if plain != words or len(name) > _LONGEST_NAME:
        name = f"{name[:_LONGEST_NAME]}-{_digest(former_folder_name(overrides, whole=True))}"
    return name


def former_folder_name(overrides: Mapping[str, Any], *, whole: bool = False) -> str:
    """As runs were called while names had commas, colons and brackets; `whole`: with every character, however long."""
    exact = ",".join(f"{name}={value}" for name, value in overrides.items())
    if whole or not exact:
        return exact or "defaults"
    name = re.sub(r"[^A-Za-z0-9_.,=+:()-]+", "_", exact)
    return name if name == exact and len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}-{_digest(exact)}"


def run_folder(root: Path, overrides: Mapping[str, Any]) -> Path:
    """The folder of a run in `root`; the one that an earlier version made for it, if there is one."""
    former = root / former_folder_name(overrides)
    return former if (former / "run.json").is_file() else root / folder_name(overrides)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
