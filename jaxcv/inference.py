"""A trained run used again: evaluated, or shown pictures it has never seen."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError
from rich.table import Table

from jaxcv.train import preview, program, resolve
from jaxcv.train.checkpoint import Checkpoints, DamagedCheckpoint
from jaxcv.train.console import Reporter
from jaxcv.train.evaluate import evaluate
from jaxcv.train.experiment import ExperimentFunction
from jaxcv.train.report import Outcomes, Picture, write_report
from jaxcv.types import Classes, Detections, Landmarks, Localization, UserError


def load_run(
    experiment: ExperimentFunction, values: Mapping[str, Any], folder: Path, *, best: bool, reporter: Reporter
) -> Any:
    """The state in the newest (or best) checkpoint of a run; the run is only read.

    Where there is no run, but the experiment starts from somebody's weights, the state it would start from.

    Raises:
        UserError: there is no checkpoint, it does not fit, or it is damaged.
    """
    shared = program(experiment, values)
    if not (folder / "checkpoints").is_dir():
        if experiment(**values).initial is None:
            raise UserError(f"{folder} holds no trained run: train it first, with the same name=value words")
        state, report = shared.first_state(values)
        if chance := report.left_to_chance:
            raise UserError(f"{folder} holds no trained run, and its weights leave {chance[0]} to chance: train first")
        reporter.say(f"no trained run in {folder}: taking the weights as they are, {report.summary}")
        return state
    with Checkpoints(folder / "checkpoints", read_only=True) as checkpoints:
        steps = checkpoints.steps()
        step = checkpoints.best_step() if best else (steps[-1] if steps else None)
        if step is None:
            raise UserError(f"{folder} has no {'evaluated ' if best else ''}checkpoint yet")
        try:
            return checkpoints.restore(step, shared.state_spec(values))[0]
        except DamagedCheckpoint as error:
            raise UserError(f"damaged checkpoint: {error}; there are those of steps {steps}") from error


def evaluate_run(
    experiment: ExperimentFunction, overrides: Mapping[str, Any], folder: Path, *, best: bool, reporter: Reporter
) -> dict[str, float]:
    """Evaluate a run on its test data, print the table and write the report; returns the values.

    Files of the report have the names that the end of the run gives them, or the step in their names elsewhere.
    """
    values = resolve(experiment, overrides)
    state = load_run(experiment, values, folder, best=best, reporter=reporter)
    setup, shared = experiment(**values), program(experiment, values)
    with reporter.counting("preparing test data") as count:
        setup.test_data.prepare(count)
    outcomes: list[Outcomes | Picture] = []
    with reporter.counting("evaluating") as count:
        hyperparameters, variables, data = shared.hyperparameters(values), state.evaluation_variables, setup.test_data
        found, _ = evaluate(shared, setup, hyperparameters, variables, data, on_batch=count, outcomes=outcomes)
    step = int(state.step)
    trained = folder if (folder / "run.json").exists() else None  # weights as they are have no folder
    suffix = "" if step == setup.steps else f"_step_{step:07}"
    write_report(outcomes, data.class_names, trained, reporter, suffix=suffix)
    reporter.table(f"{folder} at step {step}", {"test": found})
    return found


def predict_run(
    experiment: ExperimentFunction,
    overrides: Mapping[str, Any],
    folder: Path,
    pictures: Sequence[Path],
    *,
    best: bool,
    reporter: Reporter,
    minimum: float = 0.3,
) -> list[Path]:
    """Draw what a run finds in pictures, into `predictions/` of its folder, and print it.

    Args:
        experiment: its function.
        overrides: of its hyperparameters.
        folder: of the run.
        pictures: image files of any size.
        best: the best checkpoint, not the newest.
        reporter: prints.
        minimum: detections with a smaller score are neither drawn nor printed.

    Returns:
        The pictures written.
    """
    for path in pictures:
        if not path.is_file():
            raise UserError(f"{path}: no such picture")
    values = resolve(experiment, overrides)
    state = load_run(experiment, values, folder, best=best, reporter=reporter)
    setup, shared = experiment(**values), program(experiment, values)
    names = setup.test_data.class_names
    hyperparameters, variables = shared.hyperparameters(values), state.evaluation_variables
    written = []
    for path in pictures:
        image, scale = setup.test_data.read_image(path)
        fields = setup.test_data.fields_of(image)
        fed = [fields[name] for name in setup.inputs]
        batch = shared.compile("infer", hyperparameters, variables, *fed)(hyperparameters, variables, *fed)
        found = type(batch)(*(np.asarray(array)[0] for array in batch))
        target = _free_name(folder / "predictions", path.stem, written)
        preview.draw(found, _original(path), names, minimum=minimum, scale=scale).save(target)
        written.append(target)
        _print(found, f"{path} -> {target}", names, scale, minimum, reporter)
    return written


def _free_name(folder: Path, stem: str, taken: Sequence[Path]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    names = (folder / f"{stem}{suffix}.png" for suffix in ("", *(f"-{i}" for i in range(2, 10_000))))
    return next(name for name in names if name not in taken)


def _original(path: Path) -> np.ndarray:
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except (UnidentifiedImageError, OSError) as error:
        raise UserError(f"{path}: not a readable picture ({error})") from error


def _print(
    found: Any, title: str, names: Sequence[str], scale: tuple[float, float], minimum: float, reporter: Reporter
) -> None:
    if isinstance(found, Detections):
        table = Table("class", "score", "x1", "y1", "x2", "y2", title=title, title_justify="left")
        for box, score, label, valid in zip(*found, strict=True):
            if valid and score >= minimum:
                corners = box * np.array([*scale, *scale])
                table.add_row(names[int(label)], f"{score:.3f}", *(f"{c:.1f}" for c in corners))
    elif isinstance(found, Localization):
        table = Table("class", "p_c", "x1", "y1", "x2", "y2", title=title, title_justify="left")
        if found.score > 0.5:
            corners = found.box * np.array([*scale, *scale])
            table.add_row(names[int(found.label)], f"{found.score:.3f}", *(f"{c:.1f}" for c in corners))
        else:
            table.add_row("no object", f"{found.score:.3f}")
    elif isinstance(found, Landmarks):
        table = Table("point", "x", "y", title=title, title_justify="left")
        for number, (point, visible) in enumerate(zip(*found, strict=True)):
            if visible:
                table.add_row(str(number), *(f"{c:.1f}" for c in point * np.array(scale)))
    elif isinstance(found, Classes):
        table = Table("class", "probability", title=title, title_justify="left")
        for label in np.argsort(-found.scores)[:5]:
            table.add_row(names[int(label)], f"{found.scores[label]:.3f}")
    else:
        raise TypeError(f"no table is known for {type(found).__name__}")
    reporter.console.print(table)
