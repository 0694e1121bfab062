"""One's own code is checked where it meets the framework, at trace time: one line, with the name and what was expected.

In a process of its own, as a person has it: under pytest the annotations of shapes would speak first.
"""

import subprocess
import sys

import pytest

EXPERIMENT = """
import flax.linen as nn
import jax.numpy as jnp
import optax
from jaxcv import losses
from jaxcv.data import classification_data
from jaxcv.train import Experiment

class Net(nn.Module):
    kind: str
    @nn.compact
    def __call__(self, images, *, train=False):
        if self.kind == "pair":
            images = jnp.concatenate([images, images[:, :4]], axis=2)
        x = nn.Dense(10)(images.reshape(images.shape[0], -1))
        return x if self.kind == "bare" else (x, {"logits": x})

def loss(kind, outputs, batch):
    each = losses.cross_entropy(outputs, batch)["cross_entropy"]
    return {"array": each, "scalar": {"mine": each.mean()}, "short": {"mine": each[:1]}}.get(kind, {"mine": each})

def experiment(*, kind: str = "", steps: int = 1) -> Experiment:
    from functools import partial
    train, test = classification_data("digits", image_size=8)
    return Experiment(
        model=Net(kind), loss=partial(loss, kind), optimizer=optax.sgd(0.1), train_data=train.batches(4, seed=0),
        test_data=test.batches(100), steps=steps, previews=0,
    )
"""
PROGRAM = """
import sys
import jax.numpy as jnp
import numpy as np
from jaxcv import models, ops
from jaxcv.cli.main import main

file, folder = sys.argv[1:]
for kind in ("bare", "pair", "array", "scalar", "short"):
    main([file, f"kind={kind}", "--workdir", folder, "--no-tune"])
main(["yolo", "image_size=100", "--workdir", folder, "--no-tune"])
model = models.lenet5()
boxes = jnp.ones((3, 5))
for call in (
    lambda: model.init(np.zeros(2, np.uint32), jnp.zeros((1, 32, 32, 1), jnp.uint8)),
    lambda: ops.box_iou(boxes, boxes),
    lambda: ops.nms(boxes, jnp.ones(3)),
    lambda: ops.complete_box_iou(boxes, boxes),
):
    try:
        call()
    except TypeError as error:
        print(f"TypeError: {error}".partition("\\n")[0], file=sys.stderr)
"""
LOSS = 'expected loss(outputs, batch) -> {"name": [b] or (values, weights)}, one value an example: the trainer averages'


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mine")
    (folder / "mine.py").write_text(EXPERIMENT)
    command = [sys.executable, "-c", PROGRAM, str(folder / "mine.py"), str(folder / "runs")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return [line.replace(str(folder), "") for line in done.stderr.splitlines()]


@pytest.mark.parametrize(
    ("number", "line"),
    list(
        enumerate(
            [
                "error: Net returns float32[4, 10]; expected (outputs, features), where features is a dict of stages",
                "error: Net cannot take image [8, 8, 1]: Cannot concatenate* in mine.py:14; --debug shows more",
                f"error: the loss returns float32[4]; {LOSS}",
                f"error: loss term 'mine' is a scalar, of 4 examples; {LOSS}",
                f"error: loss term 'mine' is float32[1], of 4 examples; {LOSS}",
                "error: YOLO cannot take image [100, 100, 3]: Cannot concatenate* in yolo.py:55; --debug shows more",
                "TypeError: images of uint8: a model takes float32 in [0, 1]; divide by 255",
                "TypeError: boxes of 5 coordinates: expected [..., 4]",
                "TypeError: boxes of 5 coordinates: expected [..., 4]",
                "TypeError: boxes of 5 coordinates: expected [..., 4]",
            ]
        )
    ),
)
def test_the_line_that_is_shown(lines, number, line):
    assert len(lines) == 10, lines
    start, star, end = line.partition("*")  # JAX's own words in between
    assert lines[number] == line if not star else lines[number].startswith(start) and lines[number].endswith(end)
