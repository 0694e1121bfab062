"""`--explain`: what the answer of a tiny classifier depends on, drawn."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxcv.cli.explain import explained
from jaxcv.cli.main import load_experiment, main
from jaxcv.errors import UserError
from jaxcv.show import draw_explanation

MINE = """
import flax.linen as nn
import optax
from jaxcv import losses, metrics, predict
from jaxcv.data import classification_data
from jaxcv.train import Experiment

class Net(nn.Module):
    @nn.compact
    def __call__(self, images, *, train=False):
        maps = nn.relu(nn.Conv(4, (3, 3))(images))
        return nn.Dense(10)(maps.reshape(images.shape[0], -1)), {"maps": maps}

def experiment(*, steps: int = 2) -> Experiment:
    train, test = classification_data("digits", image_size=8)
    return Experiment(
        model=Net(), loss=losses.cross_entropy, optimizer=optax.adam(1e-2), train_data=train.batches(4, seed=0),
        test_data=test.batches(100), predict=predict.classes, metrics={"accuracy": metrics.accuracy()},
        steps=steps, previews=0,
    )
"""


def test_from_run_to_picture(tmp_path, capsys):
    (tmp_path / "mine.py").write_text(MINE)
    words = [str(tmp_path / "mine.py"), "--workdir", str(tmp_path / "runs"), "--no-tune"]
    assert main([*words, "--quiet"]) == 0
    for name in ("a.png", "b.png"):
        Image.fromarray(np.eye(30, dtype=np.uint8) * 200).save(tmp_path / name)
    run = tmp_path / "runs/mine/defaults"
    assert main([str(run), "--explain", str(tmp_path / "a.png"), str(tmp_path / "b.png")]) == 0
    assert "a.png: " in capsys.readouterr().out
    with Image.open(run / "explanations/a.png") as image:
        assert image.size == (3 * 262 + 6, 262 + 6)
    assert (run / "explanations/b.png").exists()
    assert main([str(run), "--explain", "steps=3"]) == 2
    assert "--explain: no picture named" in capsys.readouterr().err
    setup, image = load_experiment(tmp_path / "mine.py")(), jnp.zeros((1, 8, 8, 1))
    variables = jax.jit(setup.model.init)(jax.random.key(0), image)
    for fields, message in (({"predict": None}, "predicts nothing"), ({"inputs": ("image", "boxes")}, "image, boxes")):
        with pytest.raises(UserError, match=message):
            explained(replace(setup, **fields), variables, image)


def test_the_drawing_of_nothing_at_all():
    drawn = draw_explanation(np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8)), np.zeros((2, 2)), answer="0 1.00")
    assert np.asarray(drawn)[:, 270:500].max() < 256 and drawn.height == 268
