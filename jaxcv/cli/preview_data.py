"""What a run would train on: a sheet of its first examples as the training step augments them, with their targets."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcv.errors import UserError
from jaxcv.show import example_sheet
from jaxcv.train import program, resolve, runtime
from jaxcv.train import step as pure
from jaxcv.train.console import Reporter
from jaxcv.train.experiment import ExperimentFunction
from jaxcv.types import Batch


def augmented(experiment: ExperimentFunction, values: Mapping[str, Any], count: int) -> list[Batch]:
    """The first `count` examples of a run at `values`, as the loss sees them: numpy, pictures uint8.

    Raises:
        UserError: a fault in the data.
    """
    setup, shared = experiment(**values), program(experiment, values)

    def prepared(hyperparameters, step, batch):
        state: Any = shared.init(hyperparameters)
        return pure.augmented(shared.at(hyperparameters), state.replace(step=step), batch)

    prepare = jax.jit(prepared, compiler_options=runtime.compiler_options())
    hyperparameters, examples = shared.hyperparameters(values), []
    for step in range(-(-count // setup.train_data.spec["image"].shape[0])):
        batch = prepare(hyperparameters, jnp.asarray(step, jnp.int32), setup.train_data.batch(step))
        batch = {name: np.asarray(field) for name, field in batch.items()}
        for name in ("image", "other"):
            if name in batch and batch[name].dtype != np.uint8:
                batch[name] = np.round(np.clip(batch[name], 0, 1) * 255).astype(np.uint8)
        examples += [{name: field[row] for name, field in batch.items()} for row in range(len(batch["image"]))]
    return examples[:count]


def show(
    experiment: ExperimentFunction, overrides: Mapping[str, Any], target: Path, reporter: Reporter, *, count: int = 64
) -> None:
    """Write the sheet to `target`.

    Raises:
        UserError: a fault in the data, or pictures that are not pictures.
    """
    values = resolve(experiment, overrides)
    setup = experiment(**values)
    setup.train_data.check()
    with reporter.counting("preparing train data") as progress:
        setup.train_data.prepare(progress)
    examples = augmented(experiment, values, count)
    channels = examples[0]["image"].shape[-1]
    if channels not in (1, 3):
        raise UserError(f"--preview-data draws pictures of 1 or 3 channels, not {channels}")
    target.parent.mkdir(parents=True, exist_ok=True)
    example_sheet(examples, setup.train_data.class_names).save(target, compress_level=1)  # a third of the time
    how = "as they are" if setup.augment is None else "as the step augments them"
    reporter.say(f"{target}: {len(examples)} training examples {how}")
