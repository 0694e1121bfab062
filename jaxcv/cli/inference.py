"""A trained run used again: evaluated, or shown pictures it has never seen."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from jaxcv import show
from jaxcv.cli.picture_files import expand, write_json, write_mask, write_yolo
from jaxcv.errors import UserError
from jaxcv.runs import Run, export, predictions, without_data
from jaxcv.train import program, reports, resolve
from jaxcv.train.checkpoint import Checkpoints, DamagedCheckpoint
from jaxcv.train.console import Reporter
from jaxcv.train.evaluate import evaluate
from jaxcv.train.experiment import ExperimentFunction
from jaxcv.train.feed import open_feed
from jaxcv.types import Masks, Picture, Table

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
    """Write a run as a file that its ending chooses; see `jaxcv.runs.exporting`.

    Args:
        experiment: its function.
        overrides: of its hyperparameters.
        folder: of the run.
        file: such as `m.stablehlo`, `m.onnx`, `m.safetensors` or `m.npz`.
        best: the best checkpoint, not the newest.
        reporter: prints.

    Raises:
        UserError: there is no checkpoint, or the file cannot be written.
    """
    experiment, values = without_data(experiment, folder), resolve(experiment, overrides)
    state = load_run(experiment, values, folder, best=best, reporter=reporter)
    run = Run(folder, experiment(**values), values, int(state.step), state.evaluation_variables)
    for line in export(run, file):
        reporter.say(line)


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

    What the best checkpoint predicts has a folder of its own, `predictions_best/`.

    `predictions/NAME.png` is the drawing, `predictions/predictions.json` holds the predictions, and of detectors
    `predictions/labels/NAME.txt` the boxes in YOLO's format, of pixel classifiers `predictions/masks/NAME.png` the
    class numbers with a palette, at the picture's own size. Pictures go through the network in batches.

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
    files, experiment = expand(pictures), without_data(experiment, folder)
    values = resolve(experiment, overrides)
    state = load_run(experiment, values, folder, best=best, reporter=reporter)
    setup, shared = experiment(**values), program(experiment, values)
    names, target = setup.test_data.class_names, folder / ("predictions_best" if best else "predictions")
    target.mkdir(parents=True, exist_ok=True)
    written, entries = [], []
    hyperparameters, variables = shared.hyperparameters(values), state.evaluation_variables

    def infer(*fed: np.ndarray) -> Any:
        return shared.compile("infer", hyperparameters, variables, *fed)(hyperparameters, variables, *fed)

    with reporter.counting("predicting") as count:
        for number, placement, prediction in predictions(infer, setup.test_data, setup.inputs, files):
            path = files[number]
            original = _original(path)
            drawing = _free_name(target, path.stem, written)
            prediction = show.in_pixels(prediction, placement, minimum=minimum)
            show.render(prediction, original, names, minimum=minimum).save(drawing, compress_level=1)
            written.append(drawing)
            (width, height), fields = placement.size, show.record(prediction, names, minimum=minimum)
            entries.append({"image": str(path), "width": width, "height": height, **fields})
            if "detections" in fields:
                write_yolo(target, drawing.stem, entries[-1])
            if isinstance(prediction, Masks):
                write_mask(target, drawing.stem, show.palette_mask(prediction))
            if len(files) <= _PRINTED:
                reporter.show(show.table(prediction, f"{path} -> {drawing}", names, minimum=minimum))
            count(len(written), len(files))
    reporter.say(f"{len(written)} pictures: {target}, and all predictions: {write_json(target, entries)}")
    return written


def _free_name(folder: Path, stem: str, taken: Sequence[Path]) -> Path:
    names = (folder / f"{stem}{suffix}.png" for suffix in ("", *(f"-{i}" for i in range(2, 10_000))))
    return next(name for name in names if name not in taken)


def _original(path: Path) -> np.ndarray:
    try:
        with Image.open(path) as image:
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except (UnidentifiedImageError, OSError) as error:
        raise UserError(f"{path}: not a readable picture ({error})") from error
