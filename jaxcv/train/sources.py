"""The source that a run stands for: every loaded module outside installed packages.

A result belongs to the code that computed it. So a run's folder keeps `sources.json`: the experiment's own modules with
their text, and a digest of each file of jaxcv where it is not an installed package. When the run is taken up again, the
first file that has changed is named, with its first changed line.
"""

import difflib
import functools
import hashlib
import json
import os
import site
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from importlib import machinery
from pathlib import Path
from typing import Any

_STARTED = ("__main__", "__mp_main__")
"""The program that was started; the second name is multiprocessing's, once something imports it."""
_LIBRARY = str(Path(__file__).parents[1]) + os.sep
_INSTALLED = tuple(
    {
        os.path.join(os.path.realpath(folder), "")
        for folder in (
            *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
            *site.getsitepackages(),
            site.getusersitepackages(),
        )
    }
)


@functools.cache
def is_installed(folder: str) -> bool:
    """Whether a folder is one of the standard library or of installed packages."""
    return os.path.join(os.path.realpath(folder), "").startswith(_INSTALLED)


def loaded() -> dict[str, dict[str, Any]]:
    """Every loaded module outside installed packages: its `file`, `digest`, and but for jaxcv's own its `text`.

    The program that was started is none of them: an experiment's own file is kept in `run.json`.
    """
    return {name: dict(_content(file, id(spec))) for name, file, spec in _own_modules()}


def _own_modules() -> Iterator[tuple[str, str, Any]]:
    for name, module in sorted(sys.modules.copy().items()):
        file = getattr(module, "__file__", None)
        if isinstance(file, str) and name not in _STARTED and _is_own(file):
            yield name, os.path.abspath(file), getattr(module, "__spec__", None)


@functools.cache
def _is_own(file: str) -> bool:
    return not is_installed(os.path.dirname(file))


@functools.cache
def _content(file: str, spec: int) -> Mapping[str, Any]:
    """As it was when first looked at: a module is what was loaded, whatever is written into its file later.

    `spec` differs after a module was loaded again.
    """
    return _read(file)


def _read(file: str) -> dict[str, Any]:
    try:
        content = Path(file).read_bytes()
    except OSError:  # taken away since, or inside an archive
        return {"file": file, "digest": None}
    found: dict[str, Any] = {"file": file, "digest": hashlib.sha256(content).hexdigest()[:16]}
    return found if file.startswith(_LIBRARY) else {**found, "text": content.decode("utf-8", "replace")}


def difference(before: Mapping[str, Mapping[str, Any]], now: Mapping[str, Mapping[str, Any]]) -> str | None:
    """The first module that is not what it was, with its first changed line; None where all are.

    A module that is not loaded yet (one that is imported inside a loss) is looked up in its file. One that was not
    loaded before is no difference: whatever imports it now is.
    """
    for name, old in before.items():
        new = now.get(name) or _read(old["file"])
        if new["digest"] in (None, old["digest"]):
            continue
        changed = first_change(old.get("text", ""), new.get("text", ""))
        return f"another {new['file']}" + (f" (first change: {changed!r})" if changed else "")
    return None


def first_change(old: str, new: str) -> str:
    """The first line that was taken away or added, with its sign; empty where the texts are equal."""
    lines = difflib.unified_diff(old.splitlines(), new.splitlines(), lineterm="", n=0)
    return next((line.strip() for line in lines if line[:1] in "+-" and line[:3] not in ("+++", "---")), "")


def write(folder: Path, modules: Mapping[str, Any]) -> None:
    """Keep the modules in a run's folder, those that are there already among them."""
    known = read(folder) or {}
    merged = {**known, **{name: module for name, module in modules.items() if name not in known}}
    if merged != known:
        replace(folder, merged)


def replace(folder: Path, modules: Mapping[str, Any]) -> None:
    """Keep these modules and no others."""
    temporary = folder / "sources.json.tmp"
    lines = (f"{json.dumps(name)}: {json.dumps(module)}" for name, module in modules.items())
    temporary.write_text("{" + ",\n".join(lines) + "}\n")
    os.replace(temporary, folder / "sources.json")


def read(folder: Path) -> dict[str, Any] | None:
    """What `write` kept; None where nothing was, or it is damaged."""
    try:
        found = json.loads((folder / "sources.json").read_text())
        return found if all({"file", "digest"} <= set(module) for module in found.values()) else None
    except (OSError, ValueError, AttributeError, TypeError):
        return None


class _Source(machinery.SourceFileLoader):
    """Compiles a module's text each time it is imported.

    Python takes its own bytecode for that of a file of the same size and second: an edit within a second goes unseen.
    """

    def path_stats(self, path: str) -> Any:
        """Nothing that bytecode could be compared with, so none is read or written."""
        raise OSError(f"{path}: bytecode is not used")


def loader(name: str, file: Path) -> machinery.SourceFileLoader:
    """What loads one file from its text."""
    return _Source(name, str(file))


def import_from_text() -> None:
    """From now on modules outside installed packages, but for jaxcv's own, are compiled from their text."""
    if any(getattr(hook, "from_text", False) for hook in sys.path_hooks):
        return
    find = machinery.FileFinder.path_hook(
        (machinery.ExtensionFileLoader, machinery.EXTENSION_SUFFIXES),
        (_Source, machinery.SOURCE_SUFFIXES),
        (machinery.SourcelessFileLoader, machinery.BYTECODE_SUFFIXES),
    )

    def hook(folder: str) -> Any:
        if is_installed(folder or os.curdir) or os.path.join(os.path.abspath(folder), "").startswith(_LIBRARY):
            raise ImportError(folder)
        return find(folder)

    hook.from_text = True  # pyright: ignore[reportFunctionMemberAccess]
    sys.path_hooks.insert(0, hook)
    for folder in [folder for folder in sys.path_importer_cache if not is_installed(folder)]:
        del sys.path_importer_cache[folder]
