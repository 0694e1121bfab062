"""A trained run used again: evaluated, or shown pictures it has never seen."""

import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image, UnidentifiedImageError
from rich.table import Table

from jaxcv.cli.picture_files import expand, record, write_json, write_yolo
from jaxcv.errors import UserError
from jaxcv.train import Experiment, Program, preview, program, resolve
from jaxcv.train.checkpoint import Checkpoints, DamagedCheckpoint
from jaxcv.train.console import Reporter
from jaxcv.train.detection_report import write_detection_report
from jaxcv.train.evaluate import evaluate
from jaxcv.train.experiment import ExperimentFunction
from jaxcv.train.feed import open_feed
from jaxcv.train.report import Outcomes, Picture, write_report
from jaxcv.types import Classes, Detections, Landmarks, Localization
from jaxcv.weights import save

_BATCH = 32
"""Pictures that go through the network together."""
_PRINTED = 20
"""Up to so many pictures have their finds printed; of more, the files tell."""


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
        if unset := report.randomly_initialised:
            raise UserError(f"{folder} holds no trained run, and its weights lack {unset[0]}: train first")
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


def export_run(
    experiment: ExperimentFunction,
    overrides: Mapping[str, Any],
    folder: Path,
    file: Path,
    *,
    best: bool,
    reporter: Reporter,
) -> None:
    """Write the variables that a run is evaluated with to a file of weights, which `weights=` and `load` read.

    Args:
        experiment: its function.
        overrides: of its hyperparameters.
        folder: of the run.
        file: `.safetensors` or `.npz`.
        best: the best checkpoint, not the newest.
        reporter: prints.

    Raises:
        UserError: there is no checkpoint, or the file cannot be written.
    """
    state = load_run(experiment, resolve(experiment, overrides), folder, best=best, reporter=reporter)
    save(file, jax.device_get(state.evaluation_variables))
    reporter.say(f"{file}: the weights of {folder} at step {int(state.step)}")


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
    reports: list[Any] = []
    with reporter.counting("evaluating") as count:
        hyperparameters, variables, data = shared.hyperparameters(values), state.evaluation_variables, setup.test_data
        kept = {"outcomes": outcomes, "reports": reports}
        found, _ = evaluate(
            shared, setup, hyperparameters, variables, open_feed(data, len(data)), on_batch=count, **kept
        )
    step = int(state.step)
    trained = folder if (folder / "run.json").exists() else None  # weights as they are have no folder
    suffix = "" if step == setup.steps else f"_step_{step:07}"
    write_report(outcomes, data.class_names, trained, reporter, suffix=suffix)
    for report in reports:
        write_detection_report(report, data, trained, reporter, suffix=suffix)
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
    """Draw what a run finds in pictures, into `predictions/` of its folder, print it, and write it for other programs.

    `predictions/NAME.png` is the drawing, `predictions/predictions.json` holds all that was found, and of detectors
    `predictions/labels/NAME.txt` the boxes in YOLO's format. Pictures go through the network in batches.

    Args:
        experiment: its function.
        overrides: of its hyperparameters.
        folder: of the run.
        pictures: image files of any size, folders of them, or patterns.
        best: the best checkpoint, not the newest.
        reporter: prints.
        minimum: detections with a smaller score are neither drawn nor printed nor written.

    Returns:
        The pictures written.
    """
    files = expand(pictures)
    values = resolve(experiment, overrides)
    state = load_run(experiment, values, folder, best=best, reporter=reporter)
    setup, shared = experiment(**values), program(experiment, values)
    names, target = setup.test_data.class_names, folder / "predictions"
    target.mkdir(parents=True, exist_ok=True)
    written, entries = [], []
    with reporter.counting("predicting") as count, ThreadPoolExecutor(os.cpu_count()) as pool:
        for path, scale, found in _predictions(setup, shared, values, state, files, pool):
            original = _original(path)
            drawing = _free_name(target, path.stem, written)
            preview.draw(found, original, names, minimum=minimum, scale=scale).save(drawing, compress_level=1)
            written.append(drawing)
            entries.append(record(found, path, (original.shape[1], original.shape[0]), names, scale, minimum))
            if isinstance(found, Detections):
                write_yolo(target, drawing.stem, entries[-1])
            if len(files) <= _PRINTED:
                _print(found, f"{path} -> {drawing}", names, scale, minimum, reporter)
            count(len(written), len(files))
    reporter.say(f"{len(written)} pictures: {target}, and all that was found: {write_json(target, entries)}")
    return written


def _predictions(
    setup: Experiment, shared: Program, values: Mapping[str, Any], state: Any, files: Sequence[Path], pool: Any
) -> Iterator[tuple[Path, tuple[float, float], Any]]:
    """Each file, the factors from the network's pixels to its own, and its prediction; read ahead by threads."""
    rows = min(_BATCH, 1 << (len(files) - 1).bit_length())
    hyperparameters, variables = shared.hyperparameters(values), state.evaluation_variables
    groups = [files[i : i + rows] for i in range(0, len(files), rows)]
    reading: list[Any] = []
    for number in range(len(groups)):
        for group in groups[number + len(reading) : number + 2]:
            reading.append([pool.submit(setup.test_data.read_image, path) for path in group])
        read = [future.result() for future in reading.pop(0)]
        fields = [setup.test_data.fields_of(image) for image, _ in read]
        shapes = [tuple(field[name].shape for name in setup.inputs) for field in fields]
        for _, same in itertools.groupby(range(len(read)), key=shapes.__getitem__):  # a scanner takes any size
            places = list(same)
            count = rows if len(places) == len(read) else 1 << (len(places) - 1).bit_length()
            fed = []
            for name in setup.inputs:
                batch = np.concatenate([fields[place][name] for place in places])
                fed.append(np.pad(batch, [(0, count - len(batch))] + [(0, 0)] * (batch.ndim - 1)))
            found = shared.compile("infer", hyperparameters, variables, *fed)(hyperparameters, variables, *fed)
            found = jax.device_get(found)
            for row, place in enumerate(places):
                predicted = jax.tree.map(lambda array, row=row: array[row], found)
                yield groups[number][place], read[place][1], predicted


def _free_name(folder: Path, stem: str, taken: Sequence[Path]) -> Path:
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
