"""A trained run as an object: `jaxcv.load(folder)`."""

import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxcv import show
from jaxcv.errors import UserError
from jaxcv.runs.stored import compose, facts_of, stored_experiment
from jaxcv.train import Experiment, runtime, step
from jaxcv.train.checkpoint import chosen_step, weights_of
from jaxcv.train.run import read_records
from jaxcv.types import Batches, ImageFile, Placement

_BATCH = 32
"""Pictures that go through the network together."""


def load(folder: str | Path, *, best: bool = True) -> "Run":
    """The run in a folder, wherever that was made and whether or not its data is here.

    The experiment is composed from the source that the folder holds, which is run: load folders of people whom you
    trust. A picture is fitted and a prediction decoded as in training.

    Args:
        folder: such as `runs/yolo/defaults`; a copy of it will do.
        best: its best checkpoint; else its newest.

    Raises:
        UserError: no run, no checkpoint, a damaged one, or one whose experiment this version of jaxcv cannot compose.
    """
    folder = Path(folder).expanduser()
    experiment, values = stored_experiment(folder)
    at = chosen_step(folder, best=best)
    flat = weights_of(folder / "checkpoints" / str(at))
    return Run(folder, compose(experiment, values, folder), values, at, nested(flat))


def nested(flat: dict[str, np.ndarray]) -> dict[str, Any]:
    """Variables as a tree, of arrays by their paths `params/head/kernel`."""
    tree: dict[str, Any] = {}
    for path, array in flat.items():
        *above, name = path.split("/")
        branch = tree
        for part in above:
            branch = branch.setdefault(part, {})
        branch[name] = array
    return tree


class Run:
    """A trained network with all that its predictions need; made by `load`."""

    def __init__(self, folder: Path, setup: Experiment, values: dict[str, Any], step: int, variables: Any):
        self.folder, self.step, self.values = folder, step, values
        self.setup = setup
        """The experiment at `values`; its sets know what they held and give no example."""
        self.variables = jax.tree.map(jax.numpy.asarray, variables)
        """What the run is evaluated with: `run.model.apply(run.variables, images, train=False)`."""

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r}, step={self.step})"

    @property
    def model(self) -> Any:
        """The network, a Linen module."""
        return self.setup.model

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name of each class index."""
        return self.setup.test_data.class_names

    @cached_property
    def metrics(self) -> list[dict[str, Any]]:
        """Every record of the run, oldest first, for `pandas.DataFrame(run.metrics)`; seconds as `time/NAME`."""
        records = read_records(self.folder / "metrics.jsonl")
        return [
            {**{n: v for n, v in one.items() if n != "time"}, **{f"time/{n}": v for n, v in one["time"].items()}}
            for one in records
        ]

    @property
    def facts(self) -> dict[str, Any]:
        """What `run.json` says."""
        return facts_of(self.folder)

    @cached_property
    def infer(self) -> Callable[..., Any]:
        """The compiled function of `variables` and a batch, uint8 [b h w c] as the network is fed it, to predictions.

        Boxes and points are in pixels of the network's input.
        """
        runtime.enable_compile_cache()
        return jax.jit(partial(step.infer, self.setup), compiler_options=runtime.compiler_options())

    def predict(self, pictures: ImageFile | Iterable[ImageFile], *, min_score: float = 0.0) -> Any:
        """What the run predicts for pictures, in their own pixels, on the host.

        Args:
            pictures: the pixels of one, uint8 [h w c] or [h w], or its file; or several, of any sizes.
            min_score: detections with a smaller score are left out.

        Returns:
            A prediction (`Classes`, `Detections`, ... without batch axis and padding); or a list of them.

        Raises:
            DataError: a file that is no picture.
            TypeError: pixels that are not uint8.
            UserError: min_score is no number from 0 to 1.
        """
        if not 0 <= min_score <= 1:
            raise UserError(f"min_score={min_score:g}: expected a score, from 0 to 1")
        alone = isinstance(pictures, ImageFile) and getattr(pictures, "ndim", 3) != 4
        listed: list[ImageFile] = [pictures] if alone else list(pictures)  # pyright: ignore
        infer = partial(self.infer, self.variables)
        found = [
            show.in_pixels(prediction, placement, minimum=min_score)
            for _, placement, prediction in predictions(infer, self.setup.test_data, self.setup.inputs, listed)
        ]
        return found[0] if alone else found


def predictions(
    infer: Callable[..., Any], data: Batches, inputs: Sequence[str], pictures: Sequence[ImageFile]
) -> Iterator[tuple[int, Placement, Any]]:
    """Each picture's number, where the network's input lies in it, and its prediction on the host.

    Pictures are read ahead by threads, and go through the network in batches of equal shapes.

    Args:
        infer: of the inputs of a batch, numpy arrays, to predictions.
        data: fits the pictures.
        inputs: fields of a batch that the network is fed.
        pictures: of any sizes.
    """
    rows = min(_BATCH, 1 << (len(pictures) - 1).bit_length()) if pictures else 1
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        waiting, reading = deque(pictures), deque()
        done = 0
        while waiting or reading:
            while waiting and len(reading) < 2 * rows:
                reading.append(pool.submit(data.read_image, waiting.popleft()))
            read = [reading.popleft().result() for _ in range(min(rows, len(reading)))]
            fields = [data.fields_of(image) for image, _ in read]
            shapes = [tuple(field[name].shape for name in inputs) for field in fields]
            for _, same in itertools.groupby(range(len(read)), key=shapes.__getitem__):  # a scanner takes any size
                positions = list(same)
                count = rows if len(positions) == len(read) else 1 << (len(positions) - 1).bit_length()
                fed = []
                for name in inputs:
                    batch = np.concatenate([fields[i][name] for i in positions])
                    fed.append(np.pad(batch, [(0, count - len(batch))] + [(0, 0)] * (batch.ndim - 1)))
                found = jax.device_get(infer(*fed))
                for row, i in enumerate(positions):
                    yield done + i, read[i][1], jax.tree.map(lambda array, row=row: array[row], found)
            done += len(read)
