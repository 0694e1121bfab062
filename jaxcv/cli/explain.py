"""`--explain`: what the answers of a classifier's run depend on."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcv import models, show
from jaxcv.cli.inference import free_name, load_run
from jaxcv.cli.picture_files import expand
from jaxcv.errors import UserError
from jaxcv.runs import predictions, without_data
from jaxcv.train import Experiment, resolve
from jaxcv.train.console import Reporter
from jaxcv.train.experiment import ExperimentFunction
from jaxcv.train.runtime import compiler_options
from jaxcv.types import Classes


def explain_run(
    experiment: ExperimentFunction,
    overrides: Mapping[str, Any],
    folder: Path,
    pictures: Sequence[Path],
    *,
    best: bool,
    reporter: Reporter,
) -> list[Path]:
    """Draw saliency and grad-CAM of the most probable class, into `explanations/` of a run's folder, and print it.

    Args:
        experiment: its function.
        overrides: of its hyperparameters.
        folder: of the run.
        pictures: image files of any size, folders of them, or patterns; drawn as the network is fed them.
        best: the best checkpoint, not the newest.
        reporter: prints.

    Returns:
        The pictures written.

    Raises:
        UserError: there is no checkpoint, or the experiment is no classifier of pictures.
    """
    files, experiment = expand(pictures), without_data(experiment, folder)
    values = resolve(experiment, overrides)
    state = load_run(experiment, values, folder, best=best, reporter=reporter)
    setup, target, written = experiment(**values), folder / "explanations", []
    target.mkdir(parents=True, exist_ok=True)
    compiled = jax.jit(partial(explained, setup), compiler_options=compiler_options())
    infer, names = partial(compiled, state.evaluation_variables), setup.test_data.class_names
    for number, _, found in predictions(infer, setup.test_data, setup.inputs, files):
        label = int(found["classes"].label)
        answer = f"{show.name_of(label, names)} {found['classes'].scores[label]:.2f}"
        drawing = free_name(target, files[number].stem, written)
        pixels = np.round(255 * found["image"]).astype(np.uint8)
        show.draw_explanation(pixels, found["saliency"], found["grad_cam"], answer=answer).save(drawing)
        written.append(drawing)
        reporter.say(f"{files[number]}: {answer} -> {drawing}")
    return written


def explained(setup: Experiment, variables: Any, *fed: jax.Array) -> dict[str, Any]:
    """Of a batch of pictures: what they were fed as, the answers, and what these depend on.

    Raises:
        UserError: the experiment is no classifier of pictures.
    """
    if setup.inputs != ("image",):
        raise UserError(f"--explain: this experiment is fed {', '.join(setup.inputs)}, not pictures alone")
    images = jnp.asarray(fed[0])
    images = images.astype(jnp.float32) / 255 if images.dtype == jnp.uint8 else images
    outputs = setup.model.apply(variables, images, train=False)
    classes = setup.predict(outputs[0]) if isinstance(outputs, tuple) and setup.predict else None
    if not isinstance(classes, Classes):
        said = "nothing" if setup.predict is None else type(classes).__name__
        raise UserError(f"--explain is for classifiers; this experiment predicts {said}")
    asked = setup.model, variables, images, jnp.asarray(classes.label)
    return {
        "image": images,
        "classes": classes,
        "saliency": models.saliency(*asked),
        "grad_cam": models.grad_cam(*asked),
    }
