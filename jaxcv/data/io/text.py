"""Texts of unknown origin, with the numbers of their lines; what is wrong with them is said in one line.

Only an ordinary file of bounded size is read, so that neither a pipe nor a bomb can hold a program up.
"""

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxcv.data.io.kept import record
from jaxcv.errors import UNPRINTABLE, DataError

MAX_BYTES = 2**31  # of an annotation file; the largest of COCO has 2**29
_LARGE = 2**24  # characters from which on keys that stand twice are not looked for
MAX_NAME = 200  # characters of the name of a class


class Where(NamedTuple):
    """The position of something in a file."""

    file: Path
    line: int | None = None
    entry: str = ""  # such as `annotations[17]`, where the format has no lines

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


def check_name(name: str, where: Where) -> str:
    """The name of a class. Raises DataError: it is empty, too long, or cannot be shown in one line."""
    if len(name) > MAX_NAME:
        raise where.refuse(f"the name of a class has {len(name):,} characters, expected at most {MAX_NAME}")
    if not name or UNPRINTABLE.search(name):
        raise where.refuse(f"the name of a class is {shown(name)}, expected a text in one line that can be shown")
    return name


def check_names(names: Iterable[tuple[Where, str]], *, repeated: str = "$^") -> tuple[str, ...]:
    """The names of classes, each once but for those that match `repeated`. Raises DataError, see `check_name`."""
    first: dict[str, Where] = {}
    checked = []
    for where, name in names:
        checked.append(check_name(name, where))
        if name in first and not re.fullmatch(repeated, name, re.IGNORECASE):
            line = f", first on line {first[name].line}" if where.line else ""
            raise where.refuse(f"class {shown(name)} is listed twice{line}")
        first[name] = where
    return tuple(checked)


def check_once(first: dict[Any, Where], key: Any, where: Where, what: str) -> None:
    """Note where `key` stands. Raises DataError: it has been seen elsewhere."""
    if (other := first.setdefault(key, where)) != where:
        raise where.refuse(f"{what} stands also in {other.file.name}:{other.line}, expected once")


def numbered_names(names: Any, file: Path, *, most: int, repeated: str = "$^") -> dict[int, str]:
    """Class names by their numbers, of a list or a mapping in a YAML file. Raises DataError: see `check_names`."""
    found: Any = dict(enumerate(names)) if isinstance(names, list) else names
    if not isinstance(found, dict) or not found:
        raise DataError(f"names is {shown(names)}, expected a list of class names", file=file)
    whole: dict[Any, Any] = {
        int(key) if isinstance(key, str) and re.fullmatch("[0-9]{1,9}", key) else key: key for key in found
    }
    if len(whole) < len(found):
        raise DataError("names gives one number twice, such as 0 and '0'; expected each once", file=file)
    found = {number: found[key] for number, key in whole.items()}
    for key, name in found.items():
        if type(key) is not int or not 0 <= key <= most or type(name) not in (int, str):
            expected = f"a number from 0 to {most:,} and a class name"
            raise DataError(f"class {shown(key)}: {shown(name)}, expected {expected}", file=file)
    checked = check_names(((Where(file, entry=f"class {k}"), str(v)) for k, v in found.items()), repeated=repeated)
    return dict(zip(found, checked, strict=True))


def read_bytes(file: Path, *, limit: int = MAX_BYTES) -> bytes:
    """All of a file. Raises DataError: missing, no ordinary file, unreadable, or larger than `limit` bytes."""
    try:
        if not file.is_file():
            raise DataError("is no ordinary file" if file.exists() else "file is missing", file=file)
        if (size := file.stat().st_size) > limit:
            raise DataError(f"{size:,} bytes, expected at most {limit:,}", file=file)
        record([str(file)])
        return file.read_bytes()
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", file=file) from None


def read_text(file: Path, *, limit: int = MAX_BYTES) -> str:
    """A text in UTF-8, with or without a byte order mark; all lines end alike.

    Raises:
      DataError: what `read_bytes` raises, or bytes that are no UTF-8; names their line.
    """
    data = read_bytes(file, limit=limit)
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(f"byte 0x{data[error.start]:02x} is no UTF-8", file=file, line=line) from None


def read_lines(file: Path) -> list[tuple[int, str]]:
    """The lines of a text that are not blank, without space around them, and the number of each."""
    lines = enumerate(read_text(file).split("\n"), 1)
    return [(number, line.strip()) for number, line in lines if line.strip()]


def read_names(file: Path) -> tuple[str, ...]:
    """The class names of a file, one on each line. Raises DataError: see `read_text` and `check_names`; no name."""
    names = check_names((Where(file, number), name) for number, name in read_lines(file))
    if not names:
        raise DataError("no class is listed, expected a name on each line", file=file)
    return names


def read_json(file: Path) -> Any:
    """What a JSON file holds. Raises DataError: see `read_text`; broken JSON, with its line; a key given twice."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            keys = [key for key, _ in pairs]
            raise DataError(f"key {shown(max(keys, key=keys.count))} stands twice in one JSON object", file=file)
        return found

    text = read_text(file)
    try:  # the look at every pair would take most of the time that a large file takes
        return json.loads(text, object_pairs_hook=once if len(text) < _LARGE else None)
    except DataError:
        raise
    except json.JSONDecodeError as error:
        raise DataError(f"broken JSON: {error.msg} (column {error.colno})", file=file, line=error.lineno) from None
    except (ValueError, RecursionError, MemoryError) as error:  # a number of 5,000 digits; lists in lists without end
        raise DataError(f"JSON that cannot be read: {one_line(error)}", file=file) from None


def read_yaml(file: Path) -> dict[Any, Any]:
    """The mapping that a YAML file holds; all but whole numbers and null are texts, `no` and `1.5` too.

    Raises:
      DataError: see `read_text`; broken YAML, aliases, a key twice.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        def resolve(self, kind: Any, value: Any, implicit: Any) -> str:
            tag = super().resolve(kind, value, implicit)
            if tag.rpartition(":")[2] in ("bool", "float", "timestamp") or (
                tag.endswith(":int") and not re.fullmatch("-?(0|[1-9][0-9]*)", value)
            ):  # a class may be called no, 1e3 or 010
                return "tag:yaml.org,2002:str"
            return tag

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
        raise DataError(f"broken YAML: {one_line(error.problem)}", file=file, line=line) from None
    except (yaml.YAMLError, ValueError, RecursionError, TypeError, AttributeError, KeyError) as error:
        raise DataError(f"YAML that cannot be read: {one_line(error)}", file=file) from None
    if not isinstance(found, dict):
        raise DataError(f"holds {shown(found)} where keys with values are expected", file=file)
    return found
