"""What a person can mend, as errors whose text is one line, and how a message is made. Imports nothing of jaxcv."""

import difflib
import re
from collections.abc import Iterable
from pathlib import Path


class UserError(ValueError):
    """Something the person at the terminal can mend; shown as one line, exit code 2, no traceback."""


UNPRINTABLE = re.compile("[\0-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""What breaks a line, turns its direction or cannot be encoded: found in texts and names of unknown origin."""


class DataError(UserError):
    """A fault in a data set. Names the file, the line where there is one, what stands there and what was expected."""

    def __init__(self, message: str, *, file: str | Path, line: int | None = None):
        self.file, self.line = Path(file), line
        text = f"{file}{'' if line is None else f':{line}'}: {message}"
        super().__init__(UNPRINTABLE.sub(lambda found: repr(found[0])[1:-1], text))


def unknown_name(kind: str, name: str, known: Iterable[str]) -> str:
    """The message for a name that nobody knows: the nearest match, else all there are."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"unknown {kind} {name!r}: " + (f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}")
