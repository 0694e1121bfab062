"""What a person can mend, as errors whose text is one line, and how a message is made. Imports nothing of jaxcv."""

import difflib
import functools
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
        self.file, self.line, self._message = Path(file), line, message
        text = f"{file}{'' if line is None else f':{line}'}: {message}"
        super().__init__(UNPRINTABLE.sub(lambda found: repr(found[0])[1:-1], text))

    def __reduce__(self) -> tuple[functools.partial["DataError"], tuple[str]]:  # from one process to another
        return functools.partial(DataError, file=self.file, line=self.line), (self._message,)


_ELSEWHERE = {
    **dict.fromkeys(("learning_rate", "lr0", "eta"), "lr"),
    **dict.fromkeys(("batch", "bs", "batchsize"), "batch_size"),
    **dict.fromkeys(("imgsz", "img_size", "size", "resolution"), "image_size"),
    **dict.fromkeys(("iterations", "iters", "num_steps", "max_steps"), "steps"),
    **dict.fromkeys(("dataset", "data_dir", "path"), "data"),
    **dict.fromkeys(("pretrained", "checkpoint", "init"), "weights"),
    **dict.fromkeys(("wd", "l2"), "weight_decay"),
    "model": "network",
    "precision": "dtype",
}
"""What other programs call a hyperparameter, by what it is called here."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> str:
    """The message for a name that nobody knows: what it is called here, the nearest match, else all there are."""
    known = list(known)
    if name in ("epochs", "epoch", "num_epochs") and "steps" in known:
        return f"unknown {kind} {name!r}: training is counted in steps, which are batches: steps=N"
    if name in ("workers", "num_workers"):
        return f"unknown {kind} {name!r}: it changes no result, and is a flag: --workers N"
    if _ELSEWHERE.get(name) in known:
        return f"unknown {kind} {name!r}: did you mean {_ELSEWHERE[name]}?"
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"unknown {kind} {name!r}: " + (f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}")


def argument_meanings(doc: str) -> dict[str, str]:
    """What the section Args of a docstring, without its indentation, says of each argument."""
    section = re.search(r"^Args:\n((?:[ \t]+.*\n?|\n)+)", doc, re.MULTILINE)
    meanings: dict[str, str] = {}
    name = None
    for line in section.group(1).splitlines() if section else []:
        if entry := re.match(r"    (\w+):\s*(.*)", line):
            name = entry.group(1)
            meanings[name] = entry.group(2)
        elif name and line.strip():
            meanings[name] += " " + line.strip()
    return meanings
