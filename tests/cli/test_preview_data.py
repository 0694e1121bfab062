"""The sheet of training examples that --preview-data draws before any training."""

import dataclasses

import jax
import numpy as np
import pytest
from PIL import Image, ImageColor

from jaxcv.cli import preview_data
from jaxcv.cli.main import load_experiment, main
from jaxcv.train import program, resolve, runtime
from jaxcv.train import step as pure

RED, GREEN = ImageColor.getrgb("#e6194b"), ImageColor.getrgb("#3cb44b")
QUICK = {"xla_backend_optimization_level": 0}

EXPERIMENT = '''
"""Boxes, or all the other truths at once, on noise, with a network that does nothing."""

from functools import partial

import flax.linen as nn
import numpy as np
import optax

from jaxcv import augment
from jaxcv.data import from_records
from jaxcv.train import Experiment

TASKS = {"boxes": augment.detection, "others": augment.warp}


class Records:
    def __init__(self, task):
        self.task = task

    def __len__(self):
        return 20

    def __getitem__(self, i):
        random = np.random.default_rng(i)
        image = random.integers(0, 255, (32, 32, 3), np.uint8)
        if self.task == "boxes":
            return {"image": image, "boxes": np.array([[4, 4, 20, 12], [16, 2, 30, 30]]), "classes": np.arange(2)}
        mask = random.integers(0, 2, (32, 32), np.uint8)
        return {"image": image, "label": i % 2, "mask": mask, "points": random.uniform(4, 28, (3, 2))}


class Nothing(nn.Module):
    @nn.compact
    def __call__(self, images, *, train=False):
        return self.param("bias", nn.initializers.zeros, ()) + images, {}


def experiment(*, task: str = "boxes", flip: float = 0.5, batch_size: int = 24, seed: int = 0) -> Experiment:
    train, test = from_records(Records(task), image_size=32, class_names=("a", "b"), convert=lambda record: record)
    return Experiment(
        model=Nothing(),
        loss=lambda outputs, batch: {"size": outputs.mean((1, 2, 3))},
        optimizer=optax.sgd(0.1),
        train_data=train.batches(batch_size, seed=seed),
        test_data=test.batches(4),
        augment=partial(TASKS[task], flip=flip),
        steps=1,
        seed=seed,
    )
'''


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("experiments") / "tasks.py"
    path.write_text(EXPERIMENT)
    return path


@pytest.fixture(autouse=True)
def quick_to_compile(monkeypatch):
    """It is the pictures that are tested here, not the speed."""
    monkeypatch.setattr(runtime, "compiler_options", lambda: QUICK)


def has(image, color):
    return (np.asarray(image) == color).all(-1).any()


@pytest.mark.parametrize("task", ["boxes", "others"])
def test_a_sheet_of_64_and_no_run(task, file, tmp_path, capsys):
    assert main([str(file), f"task={task}", "--preview-data", "--workdir", str(tmp_path)]) == 0
    target = tmp_path / "tasks" / f"task={task}.data.png"
    assert f"{target}: 64 training examples" in capsys.readouterr().out
    assert list((tmp_path / "tasks").iterdir()) == [target]
    with Image.open(target) as sheet:
        assert sheet.size == (8 * 260 + 4, 8 * 260 + 4)
        starts = range(4, sheet.width, 260)
        cells = [np.asarray(sheet.crop((x, y, x + 256, y + 256))) for y in starts for x in starts]
    assert all(has(cell, RED) or has(cell, GREEN) for cell in cells)
    if task == "others":
        assert all((cell.max(-1) == 0).any() for cell in cells), "points have black outlines"


def test_it_shows_what_the_step_trains_on(file):
    experiment = load_experiment(file)
    values = resolve(experiment, {"task": "boxes"})
    shown = preview_data.augmented(experiment, values, 40)
    assert len(shown) == 40
    shared, data = program(experiment, values), experiment(**values).train_data
    hyperparameters = shared.hyperparameters(values)
    state = dataclasses.replace(jax.jit(shared.init, compiler_options=QUICK)(hyperparameters), step=np.int32(1))

    def augmented(hyperparameters, state, batch):
        return pure.intermediates(shared.at(hyperparameters), state, batch)[0]

    batch = jax.jit(augmented, compiler_options=QUICK)(hyperparameters, state, data.batch(1))
    for row, example in enumerate(shown[24:]):
        np.testing.assert_allclose(example["image"], np.asarray(batch["image"][row]) * 255, atol=0.51)
        np.testing.assert_allclose(example["boxes"], batch["boxes"][row], atol=1e-3)
    plain = data.batch(1)["boxes"]
    assert 0 < sum(np.abs(example["boxes"] - plain[row]).max() > 1 for row, example in enumerate(shown[24:])) < 16


def test_one_run_at_a_time(file, tmp_path, capsys):
    assert main([str(file), "flip=0.1,0.2", "--preview-data", "--workdir", str(tmp_path)]) == 2
    assert "takes one run" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
