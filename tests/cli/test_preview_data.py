"""The sheet of training examples that --preview-data draws before any training."""

import dataclasses

import jax
import numpy as np
import pytest
from PIL import Image, ImageColor

from jaxcv.cli import preview_data
from jaxcv.cli.main import load_experiment, main
from jaxcv.train import program, resolve, runtime
from jaxcv.train.preview import draw_truth, truth_sheet

RED, GREEN = ImageColor.getrgb("#e6194b"), ImageColor.getrgb("#3cb44b")
QUICK = {"xla_backend_optimization_level": 0}
GREY = np.full((32, 40, 3), 128, np.uint8)

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
    batch = jax.jit(shared.intermediates, compiler_options=QUICK)(hyperparameters, state, data.batch(1))[0]
    for row, example in enumerate(shown[24:]):
        np.testing.assert_allclose(example["image"], np.asarray(batch["image"][row]) * 255, atol=0.51)
        np.testing.assert_allclose(example["boxes"], batch["boxes"][row], atol=1e-3)
    plain = data.batch(1)["boxes"]
    assert 0 < sum(np.abs(example["boxes"] - plain[row]).max() > 1 for row, example in enumerate(shown[24:])) < 16


def test_one_run_at_a_time(file, tmp_path, capsys):
    assert main([str(file), "flip=0.1,0.2", "--preview-data", "--workdir", str(tmp_path)]) == 2
    assert "takes one run" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_boxes_that_count_are_colored_ignored_ones_grey_others_absent():
    boxes = np.array([[4, 8, 16, 24], [20, 8, 36, 24], [0, 0, 40, 32]], np.float32)
    example = {"image": GREY, "boxes": boxes, "classes": np.array([1, 0, 0]), "valid": np.array([True, False, False])}
    image = draw_truth(example | {"ignored": np.array([False, True, False])}, ("a", "b"))
    assert image.size == (320, 256)  # eight times
    assert image.getpixel((32, 120)) == GREEN and image.getpixel((160, 120)) == (0x88,) * 3
    assert not has(image, RED)


def test_masks_are_tinted_and_black_where_ignored():
    mask = np.zeros((32, 40), np.uint8)
    mask[:, 20:] = 1
    mask[16:, 20:] = 255
    image = draw_truth({"image": GREY, "mask": mask}, ("a", "b"))
    for place, color in (((80, 250), RED), ((240, 60), GREEN), ((240, 250), (0, 0, 0))):
        np.testing.assert_allclose(np.asarray(image)[place[::-1]], (np.array(color) + 128) / 2, atol=1.5)
    assert (
        len({str(draw_truth({"image": GREY, "mask": mask * 0 + i}, ()).getpixel((200, 200))) for i in range(30)}) == 30
    )


def test_points_are_dots_where_they_are_visible():
    points = np.array([[10, 10], [30, 20], [20, 5]], np.float32)
    image = draw_truth({"image": GREY, "points": points, "visible": np.array([True, True, False])}, ())
    assert image.getpixel((80, 80)) == (255, 0, 0) and image.getpixel((240, 160)) != (128,) * 3
    assert image.getpixel((160, 40)) == (128,) * 3


def test_labels_mixed_labels_and_pairs():
    one = draw_truth({"image": GREY[..., :1], "label": np.int32(1)}, ("a", "b"))
    mixed = draw_truth({"image": GREY[..., :1], "label": np.array([0.3, 0.7], np.float32)}, ("a", "b"))
    assert has(one, GREEN) and has(mixed, GREEN)
    strip = [(np.asarray(image)[2] == GREEN).all(-1).sum() for image in (one, mixed)]
    assert strip[1] > strip[0] + 20, "both names and shares are written"
    pair = draw_truth({"image": GREY, "other": GREY + 50, "same": np.bool_(False)}, ())
    assert pair.size == (640, 256) and has(pair, RED)
    assert pair.getpixel((200, 200)) == (128,) * 3 and pair.getpixel((600, 200)) == (178,) * 3


def test_a_sheet_is_nearly_square():
    assert truth_sheet([{"image": GREY[:, :32]}] * 5, ()).size == (3 * 260 + 4, 2 * 260 + 4)
