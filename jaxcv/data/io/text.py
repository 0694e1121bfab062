"""Texts of unknown origin, with the numbers of their lines: what is wrong with them is said in one line.

What is read is an ordinary file of bounded size, so that neither a pipe nor a bomb can hold a program up.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxcv.errors import UNPRINTABLE, DataError

MAX_BYTES = 2**31
"""Of an annotation file; the largest of COCO has 2**29."""
MAX_NAME = 200
"""Characters of the name of a class."""


class Where(NamedTuple):
    """The position of something in a file."""

    file: Path
    line: int | None = None
    entry: str = ""
    """Such as `annotations[17]`, where the format has no lines."""

    def refuse(self, message: str) -> DataError:
        """The fault of what stands here."""
        return DataError(f"{self.entry}: {message}" if self.entry else message, file=self.file, line=self.line)


def one_line(text: object, *, length: int = 200) -> str:
    """An error's text or a name without line breaks or other characters that cannot be shown, cut where it is long."""
    line = UNPRINTABLE.sub(lambda found: repr(found[0])[1:-1], " ".join(str(text).split()))
    return line if len(line) <= length else f"{line[: length - 4]} ..."


def shown(value: Any) -> str:
    """A value from a file, for a message: what holds many others is only named, for it may be without end."""
    if isinstance(value, str):
        return f"'{one_line(value, length=60)}'"
    if value is None or isinstance(value, bool | float) or (isinstance(value, int) and abs(value) < 10**18):
        return str(value)
    if isinstance(value, list) and len(value) <= 6 and not any(isinstance(each, list | dict) for each in value):
        return f"[{', '.join(map(shown, value))}]"
    names = {int: "a huge number", dict: "a mapping", list: "a list"}
    return names.get(type(value), f"a value of type {type(value).__name__}")


def list_names(names: Sequence[str]) -> str:
    """The first few, for a message."""
    return (", ".join(map(one_line, names[:8])) + (" ..." if len(names) > 8 else "")) or "nothing"


def list_counts(names: Sequence[str], counts: Sequence[int]) -> str:
    """How many there are of each class; of more than twenty classes the least and the most."""
    if len(names) > 20:
        return f"{min(counts):,} each" if min(counts) == max(counts) else f"{min(counts):,} to {max(counts):,} each"
    return ", ".join(f"{one_line(name)} {count:,}" for name, count in zip(names, counts, strict=True))


def read_number(text: str) -> float | None:
    """A number as files write it; None for all else, also for what Python takes besides: 1_0, digits of other scripts.

    `nan`, `inf` and what overflows are numbers here: `jaxcv.data.example` knows what is finite.
    """
    try:
        return float(text) if text.isascii() and "_" not in text else None
    except ValueError:
        return None


def wrong_name(name: str) -> str:
    """What is wrong with the name of a class, for a message; empty where nothing is."""
    if len(name) > MAX_NAME:
        return f"the name of a class has {len(name):,} characters, expected at most {MAX_NAME}; shorten it"
    if not name or UNPRINTABLE.search(name):
        return f"the name of a class is {shown(name)}, expected a text in one line that can be shown; rename it"
    return ""


def read_bytes(file: Path, *, limit: int = MAX_BYTES) -> bytes:
    """All of a file. Raises DataError: missing, no ordinary file, unreadable, or larger than `limit` bytes."""
    try:
        if not file.is_file():
            what = "is no ordinary file" if file.exists() else "file is missing"
            raise DataError(f"{what}; put the file itself there", file=file)
        if (size := file.stat().st_size) > limit:
            raise DataError(f"{size:,} bytes, expected at most {limit:,}; is it the right file?", file=file)
        return file.read_bytes()
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}; see who may read it", file=file) from None


def read_text(file: Path, *, limit: int = MAX_BYTES) -> str:
    """A text in UTF-8, with or without a byte order mark; all lines end alike.

    Raises:
      DataError: what `read_bytes` raises, or bytes that are no UTF-8; names their line.
    """
    data = read_bytes(file, limit=limit)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        message = f"byte 0x{data[error.start]:02x} is no UTF-8; save the file in this encoding"
        raise DataError(message, file=file, line=data.count(b"\n", 0, error.start) + 1) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_lines(file: Path) -> list[tuple[int, str]]:
    """The lines of a text that are not blank, without space around them, and the number of each."""
    lines = enumerate(read_text(file).split("\n"), 1)
    return [(number, line.strip()) for number, line in lines if line.strip()]


def read_names(file: Path) -> tuple[str, ...]:
    """The class names of a file, one on each line.

    Raises:
      DataError: see `read_text`; no name, one that stands there twice, or that cannot be one.
    """
    lines: dict[str, int] = {}
    for number, name in read_lines(file):
        fault = wrong_name(name)
        if name in lines:
            fault = f"class {shown(name)} is listed twice, first on line {lines[name]}; rename one or take it out"
        if fault:
            raise DataError(fault, file=file, line=number)
        lines[name] = number
    if not lines:
        raise DataError("no class is listed, expected a name on each line; add them", file=file)
    return tuple(lines)


def read_json(file: Path) -> Any:
    """What a JSON file holds. Raises DataError: see `read_text`; broken JSON, with its line; a key given twice."""
    text = read_text(file)

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            keys = [key for key, _ in pairs]
            twice = max(keys, key=keys.count)
            raise DataError(f"key {shown(twice)} stands twice in one JSON object; keep one", file=file)
        return found

    try:
        return json.loads(text, object_pairs_hook=once)
    except DataError:
        raise
    except json.JSONDecodeError as error:
        message = f"broken JSON: {error.msg} (column {error.colno}); mend it or fetch the file again"
        raise DataError(message, file=file, line=error.lineno) from None
    except (ValueError, RecursionError, MemoryError) as error:  # a number of 5,000 digits; lists in lists without end
        raise DataError(f"JSON that cannot be read: {one_line(error)}; fetch the file again", file=file) from None


def read_yaml(file: Path) -> dict[Any, Any]:
    """The mapping that a YAML file holds; objects and keys that stand there twice are refused.

    Raises:
      DataError: see `read_text`; broken or refused YAML, with the line.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):  # a few lines of them may stand for a billion values
                raise yaml.MarkedYAMLError(None, None, "aliases are refused", self.peek_event().start_mark)
            return super().compose_node(parent, index)

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            found = super().construct_mapping(node, deep)
            if len(found) < len(node.value):
                raise yaml.MarkedYAMLError(None, None, "a key stands there twice", node.start_mark)
            return found

    text = read_text(file, limit=2**18)
    try:
        found = yaml.load(text, Loader)
    except yaml.MarkedYAMLError as error:
        line = None if error.problem_mark is None else error.problem_mark.line + 1
        raise DataError(f"broken YAML: {one_line(error.problem)}; mend it", file=file, line=line) from None
    except (yaml.YAMLError, ValueError, RecursionError, TypeError, AttributeError, KeyError) as error:
        raise DataError(f"YAML that cannot be read: {one_line(error)}; mend it", file=file) from None
    if not isinstance(found, dict):
        raise DataError(f"holds {shown(found)} where keys with values are expected; write them anew", file=file)
    return found
