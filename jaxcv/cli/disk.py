"""What the system refuses to read or write, in one line: the path and the reason."""

import errno
import os
import re

_REASONS = {
    getattr(errno, name)
    for name in (
        "ENOSPC EDQUOT EFBIG EACCES EPERM EROFS ENOTDIR EISDIR EEXIST ENAMETOOLONG ELOOP EIO ESTALE EMFILE ENFILE"
    ).split()
    if hasattr(errno, name)
}
_TEXTS = {
    "database or disk is full": errno.ENOSPC,
    "readonly database": errno.EROFS,
    "unable to open database file": errno.EACCES,
    "disk I/O error": errno.EIO,
}
"""SQLite's words."""


def refusal(error: BaseException, *, folder: str = "") -> str | None:
    """The line for an error that the file system caused, directly or below another error; None for any other.

    Args:
        error: what was raised.
        folder: where it may have been, if the error does not know.
    """
    seen: set[int] = set()
    todo: list[BaseException | None] = [error]
    while todo:
        one = todo.pop(0)
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        if (found := _reason(one)) is not None:
            number, path = found
            reason = os.strerror(number)
            return f"{path or folder}: {reason}. What was written before is whole; the same command goes on from there"
        todo += [one.__cause__, one.__context__, *getattr(one, "exceptions", ())]
    return None


def _reason(error: BaseException) -> tuple[int, str] | None:
    if isinstance(error, OSError) and error.errno is not None and error.errno in _REASONS:
        return error.errno, str(error.filename or "")
    text = str(error)
    # tensorstore, below orbax: `Failed writing: "/runs/x/...": No space left on device [os_error_code='28']`
    number = re.search(r"\[(?:OS error |os_error_code=')(\d+)", text)
    if number is not None and int(number[1]) in _REASONS:
        return int(number[1]), next(iter(re.findall(r'"(/[^"]*)"', text)), "")
    known = next((number for words, number in _TEXTS.items() if words in text), None)
    return None if known is None else (known, "")
