"""A run of a very small detector whose data and files are gone."""

import shutil
from functools import partial

import jax
import numpy as np
import pytest
from PIL import Image
from small_sets import CocoSet, forget

import jaxcv
from jaxcv.cli.main import load_experiment
from jaxcv.train import fit, step

NEIGHBOUR = "SCALE = 1.0\n"
EXPERIMENT = '''
"""A very small detector of one's own pictures."""
from functools import partial
import optax
from my_neighbour import SCALE
from jaxcv import losses, models, predict
from jaxcv.data import detection_data
from jaxcv.train import Experiment

def experiment(*, data: str = "", sizes: tuple[int, ...] = (8, 8), lr: float = 1e-3, steps: int = 1) -> Experiment:
    train, test = detection_data(data, image_size=32)
    anchor_boxes = train.anchor_boxes(k=2)
    return Experiment(
        model=models.YOLO(
            train.num_classes, anchor_boxes, stage_channels=(*sizes, 8), stage_depths=(0, 0, 0), neck_channels=8
        ),
        loss=partial(losses.yolo, anchor_boxes=anchor_boxes),
        optimizer=optax.adam(lr * SCALE),
        train_data=train.batches(2, seed=0),
        test_data=test.batches(2),
        predict=partial(
            predict.yolo, anchor_boxes=anchor_boxes, image_size=(32, 32), confidence="class", score_threshold=0.0,
            max_outputs=5,
        ),
        steps=steps,
        previews=0,
    )
'''


@pytest.fixture(scope="session")
def moved(tmp_path_factory):
    """A run's folder as it is on another machine; and what the run itself predicts for a picture."""
    root = tmp_path_factory.mktemp("here")
    (root / "set").mkdir()
    data = CocoSet(root / "set").data
    (root / "my_neighbour.py").write_text(NEIGHBOUR)
    (root / "mine.py").write_text(EXPERIMENT)
    experiment = load_experiment(root / "mine.py")
    fit(experiment, {"data": data}, root / "run")
    setup = experiment(data=data)
    pixels = np.random.default_rng(0).integers(0, 255, (20, 40, 3), np.uint8)
    Image.fromarray(pixels).save(root / "picture.png")
    fed, placement = setup.test_data.read_image(root / "picture.png")
    folder = tmp_path_factory.mktemp("there") / "run"
    (root / "run").rename(folder)
    variables = jaxcv.load(folder).variables
    expected = jax.jit(partial(step.infer, setup))(variables, fed[None])
    shutil.move(root / "picture.png", folder.parent)
    shutil.rmtree(root)
    forget()
    return folder, pixels, jax.tree.map(lambda array: np.asarray(array[0]), expected), placement
