"""`--predict` of pixel classifiers: at the picture's own size, resized or in tiles, with masks as files."""

import json

import numpy as np
import pytest
from PIL import Image

from jaxcv.cli.main import main

EXPERIMENT = '''
"""A very small pixel classifier."""
import optax
from jaxcv import losses, metrics, models, predict
from jaxcv.data import segmentation_data
from jaxcv.train import Experiment

def experiment(*, steps: int = 1, seed: int = 0) -> Experiment:
    """Args:
        steps: of training.
        seed: of everything.
    """
    train, test = segmentation_data("digits", image_size=32, own_size=OWN)
    return Experiment(
        model=models.Tiled(models.UNet(num_classes=11, width=2, depth=1), tile=32, overlap=8),
        loss=losses.pixels,
        optimizer=optax.adam(1e-3),
        train_data=train.batches(2, seed=seed),
        test_data=test.batches(100),
        predict=predict.masks,
        metrics={"mIoU": metrics.segmentation()},
        steps=steps,
        seed=seed,
        previews=0,
    )
'''


@pytest.mark.parametrize("own", [False, True])
def test_masks_have_the_pictures_own_size(own, tmp_path, capsys):
    file, picture = tmp_path / "tiny.py", tmp_path / "picture.png"
    file.write_text(EXPERIMENT.replace("OWN", str(own)))
    random = np.random.default_rng(0)
    Image.fromarray(random.integers(0, 256, (70, 45, 3)).astype(np.uint8)).save(picture)
    assert main([str(file), "--workdir", str(tmp_path)]) == 0
    assert main([str(file), "--workdir", str(tmp_path), "--predict", str(picture)]) == 0
    predictions = tmp_path / "tiny/defaults/predictions"
    with Image.open(predictions / "masks/picture.png") as mask:
        assert mask.mode == "P" and mask.size == (45, 70)
        label = np.asarray(mask)
    (entry,) = json.loads((predictions / "predictions.json").read_text())
    assert {area["index"]: area["pixels"] for area in entry["areas"]} == {
        i: int((label == i).sum()) for i in np.unique(label).tolist()
    }
    assert (tmp_path / "tiny/defaults/per_class.csv").exists() and "fraction" in capsys.readouterr().out
