"""Which point becomes which in a mirror image, by the names that a file gives its points."""

import re
from collections.abc import Sequence

_GENERIC = re.compile("[a-z_ -]*[0-9]+")
_OTHER_WORDS = ("bright", "upright", "cleft")


def swap_by_names(names: Sequence[str]) -> tuple[int, ...] | None:
    """For each point the one that it becomes: `left_eye` that called `right_eye`, `nose` itself.

    None where that cannot be said: without names, with numbers for names, or a point on one side whose partner is not
    there; such pictures may not be mirrored.
    """
    if not names or any(_GENERIC.fullmatch(name.lower()) or not name for name in names):
        return None
    words = [_words(name) for name in names]
    there = {key: i for i, key in enumerate(words)}
    swap = [there.get(tuple(map(_other_side, key))) for key in words]
    found = [i for i in swap if i is not None]
    return tuple(found) if len(found) == len(names) == len(there) else None


def _words(name: str) -> tuple[str, ...]:
    apart = re.sub("(?<=[a-z0-9])(?=[A-Z])", " ", name).lower()
    return tuple(re.findall("[^\\W_]+", apart))


def _other_side(word: str) -> str:
    if word in ("l", "r"):
        return "r" if word == "l" else "l"
    for side, other in (("left", "right"), ("right", "left")):
        if word.startswith(side) or (word.endswith(side) and word not in _OTHER_WORDS):
            return word.replace(side, other)
    return word
