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

from jaxcv import show
from jaxcv.cli.picture_files import expand, write_json, write_yolo
from jaxcv.errors import UserError
from jaxcv.train import Experiment, Program, program, reports, resolve
from jaxcv.train.checkpoint import Checkpoints, DamagedCheckpoint
from jaxcv.train.console import Reporter
from jaxcv.train.evaluate import evaluate
from jaxcv.train.experiment import ExperimentFunction
from jaxcv.train.feed import open_feed
from jaxcv.types import Picture, Table
from jaxcv.weights import save

_BATCH = 32
"""Pictures that go through the network together."""
_PRINTED = 20
"""Up to so many pictures have their predictions printed; of more, the files tell."""


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
    report: list[Table | Picture] = []
    with reporter.counting("evaluating") as count:
        hyperparameters, variables, data = shared.hyperparameters(values), state.evaluation_variables, setup.test_data
        feed = open_feed(data, len(data))
        test, _ = evaluate(shared, setup, hyperparameters, variables, feed, on_batch=count, reports=report)
    step = int(state.step)
    trained = folder if (folder / "run.json").exists() else None  # weights as they are have no folder
    reports.write(report, trained, reporter, suffix="" if step == setup.steps else f"_step_{step:07}")
    reporter.table(f"{folder} at step {step}", {"test": test})
    return test


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
    """Draw what a run predicts for pictures, into `predictions/` of its folder, print it, and write it as files.

    `predictions/NAME.png` is the drawing, `predictions/predictions.json` holds the predictions, and of detectors
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
        for path, scale, prediction in _predictions(setup, shared, values, state, files, pool):
            original = _original(path)
            drawing = _free_name(target, path.stem, written)
            options = {"minimum": minimum, "scale": scale}
            show.render(prediction, original, names, **options).save(drawing, compress_level=1)
            written.append(drawing)
            height, width = original.shape[:2]
            fields = show.record(prediction, names, size=(width, height), **options)
            entries.append({"image": str(path), "width": width, "height": height, **fields})
            if "detections" in fields:
                write_yolo(target, drawing.stem, entries[-1])
            if len(files) <= _PRINTED:
                reporter.show(show.table(prediction, f"{path} -> {drawing}", names, **options))
            count(len(written), len(files))
    reporter.say(f"{len(written)} pictures: {target}, and all predictions: {write_json(target, entries)}")
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
            positions = list(same)
            count = rows if len(positions) == len(read) else 1 << (len(positions) - 1).bit_length()
            fed = []
            for name in setup.inputs:
                batch = np.concatenate([fields[i][name] for i in positions])
                fed.append(np.pad(batch, [(0, count - len(batch))] + [(0, 0)] * (batch.ndim - 1)))
            infer = shared.compile("infer", hyperparameters, variables, *fed)
            predictions = jax.device_get(infer(hyperparameters, variables, *fed))
            for row, i in enumerate(positions):
                prediction = jax.tree.map(lambda array, row=row: array[row], predictions)
                yield groups[number][i], read[i][1], prediction


def _free_name(folder: Path, stem: str, taken: Sequence[Path]) -> Path:
    names = (folder / f"{stem}{suffix}.png" for suffix in ("", *(f"-{i}" for i in range(2, 10_000))))
    return next(name for name in names if name not in taken)


def _original(path: Path) -> np.ndarray:
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except (UnidentifiedImageError, OSError) as error:
        raise UserError(f"{path}: not a readable picture ({error})") from error
