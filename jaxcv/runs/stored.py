"""The experiment as a run's folder holds it, composed without the data it was trained on.

`run.json` holds the text of the experiment's file, `sources.json` that of modules of one's own which it imports: these
texts are what is run, wherever the files are now and whatever stands in them. So a folder is a program: load only those
of people whom you trust.
"""

import ast
import contextlib
import functools
import importlib.abc
import importlib.machinery
import json
import linecache
import sys
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jaxcv.data.sources.known import Answers, answering
from jaxcv.errors import UserError
from jaxcv.train import sources
from jaxcv.train.experiment import Experiment, ExperimentFunction
from jaxcv.train.run import read_run


def facts_of(folder: str | Path) -> dict[str, Any]:
    """What `run.json` says.

    Raises:
        UserError: there is no run in the folder; says where there are some.
    """
    folder = Path(folder).expanduser()
    facts = read_run(folder)
    if facts is None:
        near = sorted(str(path.parent) for path in folder.glob("*/run.json"))
        there = f"; there are {', '.join(near[:5])}{' ...' * (len(near) > 5)}" if near else ""
        raise UserError(f"{folder}: {'holds no run' if folder.exists() else 'no such folder'}{there}")
    return facts


@functools.cache
def _module(name: str, file: str, source: str) -> types.ModuleType:
    """An experiment's file as a module, made of its text."""
    module = types.ModuleType(name)
    module.__file__ = file
    _show_in_tracebacks(file, source)
    exec(compile(source, file, "exec", dont_inherit=True), module.__dict__)
    return module


def _show_in_tracebacks(file: str, source: str) -> None:
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)


def stored_module(folder: str | Path) -> types.ModuleType:
    """The experiment's file as the run in `folder` holds it, with `experiment` in it.

    Raises:
        UserError: no run, no source, another version of a module that it imports is loaded already, or it names what
            this version of jaxcv has not.
    """
    folder = Path(folder).expanduser()
    facts = facts_of(folder)
    if not facts["source"]:
        raise UserError(f"{folder}: its experiment was in no file, so the run holds no source of it")
    modules = sources.read(folder) or {}
    _provide({name: modules[name] for name in _imported(facts["source"], modules)}, folder)
    with _of_another_version(folder):
        return _module(Path(facts["file"]).stem, facts["file"], facts["source"])


def stored_experiment(folder: str | Path) -> tuple[ExperimentFunction, dict[str, Any]]:
    """The experiment of the run in `folder`, which asks for no data, and the values it was trained with.

    Raises:
        UserError: as `stored_module`.
    """
    experiment = stored_module(folder).experiment
    return without_data(experiment, folder), {n: _tuples(v) for n, v in facts_of(folder)["values"].items()}


def compose(experiment: ExperimentFunction, values: Mapping[str, Any], folder: str | Path) -> Experiment:
    """The experiment of the run in `folder` at `values`.

    Raises:
        UserError: this version of jaxcv cannot compose it, such as one that gives a network a field it no longer has.
    """
    with _of_another_version(Path(folder)):
        return without_data(experiment, folder)(**values)


@contextlib.contextmanager
def _of_another_version(folder: Path) -> Iterator[None]:
    """What Python raises of a name or an argument that jaxcv no longer has, in one line."""
    try:
        yield
    except (TypeError, AttributeError, ImportError) as error:
        version = facts_of(folder).get("versions", {}).get("jaxcv-research", "unknown")
        why = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{folder}: its experiment, of jaxcv {version}, cannot be composed here: {why}") from error


def _tuples(value: Any) -> Any:
    """JSON's lists were tuples."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def without_data(experiment: ExperimentFunction, folder: str | Path) -> ExperimentFunction:
    """The same experiment, whose sets are those that the run in `folder` knows: their files are not looked at.

    Itself where the folder holds no run, or one of a time when runs did not keep what they know. A set opened with
    other arguments than the run's is opened from its files.
    """
    facts = read_run(Path(folder).expanduser()) or {}
    known = [one for one in facts.get("sets", {}).values() if one]
    return _answered(experiment, json.dumps(known)) if known else experiment


@functools.lru_cache(maxsize=32)
def _answered(experiment: ExperimentFunction, known: str) -> ExperimentFunction:
    answers = Answers(json.loads(known))

    @functools.wraps(experiment)
    def composed(**values: Any) -> Any:
        with answering(answers):
            return experiment(**values)

    return composed


def _imported(source: str, modules: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """Those of a run's own modules, written in Python, that a text imports, and those that they import."""
    modules = {name: module for name, module in modules.items() if "text" in module and module["file"].endswith(".py")}
    found: set[str] = set()
    todo = [source]
    while todo:
        for node in ast.walk(ast.parse(todo.pop())):
            named: list[str] = []
            if isinstance(node, ast.Import):
                named = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                named = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            parents = {".".join(name.split(".")[:end]) for name in named for end in range(1, name.count(".") + 2)}
            new = {name for name in parents if name in modules} - found
            found |= new
            todo += [modules[name]["text"] for name in new]
    return found


class _Stored(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """Imports the modules of runs from the texts that their folders hold."""

    def __init__(self) -> None:
        self.modules: dict[str, Mapping[str, Any]] = {}

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        module = self.modules.get(fullname)
        if module is None:
            return None
        file = module["file"]
        package = Path(file).name == "__init__.py"
        spec = importlib.machinery.ModuleSpec(fullname, self, origin=file, is_package=package)
        spec.has_location = True
        return spec

    def get_source(self, fullname: str) -> str:
        module = self.modules[fullname]
        _show_in_tracebacks(module["file"], module["text"])
        return module["text"]

    def is_package(self, fullname: str) -> bool:
        return Path(self.modules[fullname]["file"]).name == "__init__.py"


_stored = _Stored()


def _provide(modules: Mapping[str, Mapping[str, Any]], folder: Path) -> None:
    """Have these modules imported from their texts.

    Raises:
        UserError: another version of one is loaded already, by this program or for another run.
    """
    for name, module in modules.items():
        now = _stored.modules.get(name) or sources.loaded().get(name)
        if name in sys.modules and now is not None and now["digest"] != module["digest"]:
            change = sources.first_change(module["text"], now.get("text", ""))
            raise UserError(
                f"{folder}: it imports {name}, and another version of it is loaded (first change: {change!r}): "
                "load the run in a process of its own"
            )
        _stored.modules[name] = module
    if _stored not in sys.meta_path:
        sys.meta_path.insert(0, _stored)
