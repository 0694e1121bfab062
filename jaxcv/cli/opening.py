"""The experiment that a command line is about: its file as a module, or that of a run and the run's values."""

import argparse
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxcv.cli import targets
from jaxcv.errors import UserError


def load_experiment(path: Path) -> Any:
    """The function `experiment` of a file.

    Raises:
        UserError: no such file, not Python, or it defines no `experiment`.
    """
    return load_module(path).experiment


def load_module(path: Path) -> Any:
    """An experiment's file as a module.

    Raises:
        UserError: as `load_experiment`.
    """
    path = targets.find(str(path))
    if path.is_dir():
        raise UserError(f"{path}: a run's folder, expected an experiment's file")
    from jaxcv.train import sources

    sources.import_from_text()
    spec = importlib.util.spec_from_file_location(path.stem, path, loader=sources.loader(path.stem, path))
    if spec is None or spec.loader is None:
        raise UserError(f"{path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent.absolute()))  # an experiment may import its neighbours
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        raise UserError(f"{error.filename}:{error.lineno}: {error.msg}") from error
    finally:
        sys.path.pop(0)
    if not callable(getattr(module, "experiment", None)):
        raise UserError(f"{path} defines no function `experiment`; README shows one")
    return module


def module_of(options: argparse.Namespace) -> tuple[Any, dict[str, Any] | None]:
    """The experiment's file as a module; and of a run's folder, the values that it was trained with.

    A run is used as its folder holds it; one that goes on needs its file.
    """
    if options.run is None:
        return load_module(options.file), None
    from jaxcv.runs import stored_experiment, stored_module
    from jaxcv.runs.stored import facts_of

    _, values = stored_experiment(options.run)
    uses = options.evaluate or options.predict or options.explain or options.export or options.help
    return stored_module(options.run) if uses else load_module(Path(facts_of(options.run)["file"])), values


def values_of_run(
    options: argparse.Namespace, experiment: Any, stored: dict[str, Any], chosen: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """The values of a run, with which its experiment can be composed; more steps may be asked of it.

    Raises:
        UserError: another hyperparameter, a sweep, or what jaxcv no longer has.
    """
    from jaxcv.runs import compose
    from jaxcv.train import resolve

    if len(chosen) > 1 or options.sweep or options.search or options.trials:
        raise UserError(f"{options.run}: a run is one; sweep its experiment's file")
    if other := [name for name in chosen[0] if name != "steps"]:
        raise UserError(f"{other[0]}={chosen[0][other[0]]}: {options.run} has its values; give others to its file")
    values = {**stored, **chosen[0]}
    compose(experiment, resolve(experiment, values), options.run)
    return values
