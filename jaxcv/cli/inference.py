"""A trained run used again: evaluated, or shown pictures it has never seen."""

import contextlib
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from jaxcv import show
from jaxcv.cli.picture_files import expand, write_json, write_mask, write_yolo
from jaxcv.cli.videos import Drawing, Video, is_video
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
_FRAMES = 32
"""Of a video, that are held in memory together."""


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
    timed: bool = False,
) -> list[Path]:
    """Draw what a run predicts for pictures, into `predictions/` of its folder, print it, and write it as files.

    What the best checkpoint predicts has a folder of its own, `predictions_best/`.

    `predictions/NAME.png` is the drawing, `predictions/predictions.json` holds the predictions, and of detectors
    `predictions/labels/NAME.txt` the boxes in YOLO's format, of pixel classifiers `predictions/masks/NAME.png` the
    class numbers with a palette, at the picture's own size. Pictures go through the network in batches. A video becomes
    `predictions/NAME.mp4`, and each of its frames an entry with its number.

    Args:
        experiment: its function.
        overrides: of its hyperparameters.
        folder: of the run.
        pictures: image files of any size, folders of them, patterns, or videos.
        best: the best checkpoint, not the newest.
        reporter: prints.
        minimum: detections with a smaller score are neither drawn nor printed nor written.
        timed: whether to say how long a picture takes.

    Returns:
        The pictures and videos written.
    """
    files, experiment = expand(pictures), without_data(experiment, folder)
    values = resolve(experiment, overrides)
    state = load_run(experiment, values, folder, best=best, reporter=reporter)
    setup, shared = experiment(**values), program(experiment, values)
    names, target = setup.test_data.class_names, folder / ("predictions_best" if best else "predictions")
    target.mkdir(parents=True, exist_ok=True)
    written, entries = [], []
    hyperparameters, variables = shared.hyperparameters(values), state.evaluation_variables
    times = _Times()

    def infer(*fed: np.ndarray) -> Any:
        compiled = shared.compile("infer", hyperparameters, variables, *fed)
        return times.of(lambda *fed: compiled(hyperparameters, variables, *fed), fed)

    def drawn(original: np.ndarray, prediction: Any) -> tuple[Image.Image, dict[str, Any]]:
        """The drawing of a prediction in pixels, and its entry."""
        height, width = original.shape[:2]
        fields = show.record(prediction, names, minimum=minimum)
        return show.render(prediction, original, names, minimum=minimum), {"width": width, "height": height, **fields}

    films, files = [file for file in files if is_video(file)], [file for file in files if not is_video(file)]
    found = predictions(infer, setup.test_data, setup.inputs, files)
    with reporter.counting("predicting") as count:
        for number, placement, prediction in found:
            path = files[number]
            prediction = show.in_pixels(prediction, placement, minimum=minimum)
            drawing = free_name(target, path.stem, written)
            image, entry = drawn(_original(path), prediction)
            image.save(drawing, compress_level=1)
            written.append(drawing)
            entries.append({"image": str(path), **entry})
            if "detections" in entry:
                write_yolo(target, drawing.stem, entries[-1])
            if isinstance(prediction, Masks):
                write_mask(target, drawing.stem, show.palette_mask(prediction))
            if len(files) <= _PRINTED:
                reporter.show(show.table(prediction, f"{path} -> {drawing}", names, minimum=minimum))
            count(len(written), len(files))
    for path in films:
        film, drawing = Video(path), free_name(target, path.stem, written, ".mp4")
        with contextlib.closing(Drawing(drawing, film.rate)) as out, reporter.counting(path.name) as count:
            done = 0
            for frames in film.frames(together=_FRAMES):
                for i, placement, prediction in predictions(infer, setup.test_data, setup.inputs, frames):
                    image, entry = drawn(frames[i], show.in_pixels(prediction, placement, minimum=minimum))
                    out.add(np.asarray(image))
                    entries.append({"image": str(path), "frame": done + i, **entry})
                done += len(frames)
                count(done, max(done, film.count))
        written.append(drawing)
        reporter.say(f"{path} -> {drawing}: {done:,} frames")
    what = f"{len(written)} pictures" if not films else f"{len(files)} pictures, {len(films)} videos"
    reporter.say(f"{what}: {target}, and all predictions: {write_json(target, entries)}")
    if timed:
        reporter.say(times.line(len(entries)))
    return written


class _Times:
    """How long the network takes, and everything."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._last: tuple[Callable[..., Any], tuple[np.ndarray, ...]] | None = None

    def of(self, function: Callable[..., Any], fed: tuple[np.ndarray, ...]) -> Any:
        """What a function gives for a batch, which is kept."""
        self._last = function, fed
        return function(*fed)

    def line(self, pictures: int) -> str:
        """The median time of ten calls for the last batch, for a picture of it; and the mean time of everything."""
        took = time.perf_counter() - self._began
        if self._last is None:
            return "time: no picture"
        function, fed = self._last
        calls = []
        for _ in range(10):
            began = time.perf_counter()
            jax.block_until_ready(function(*fed))
            calls.append(time.perf_counter() - began)
        rows = len(fed[0])
        alone = 1e3 * statistics.median(calls) / rows
        return (
            f"time: the network takes {alone:.2f} ms a picture, in batches of {rows}; everything, with compiling, "
            f"reading, drawing and writing, {1e3 * took / max(1, pictures):.1f} ms"
        )


def free_name(folder: Path, stem: str, taken: Sequence[Path], ending: str = ".png") -> Path:
    """A file for the drawing of a picture, where several may have one name."""
    names = (folder / f"{stem}{suffix}{ending}" for suffix in ("", *(f"-{i}" for i in range(2, 10_000))))
    return next(name for name in names if name not in taken)


def _original(path: Path) -> np.ndarray:
    try:
        with Image.open(path) as image:
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except (UnidentifiedImageError, OSError) as error:
        raise UserError(f"{path}: not a readable picture ({error})") from error
