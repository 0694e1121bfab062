"""`launch.py runs/lenet/defaults`: a run's folder in place of an experiment's file."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import jaxcv
from jaxcv.cli.main import main
from jaxcv.errors import UserError
from jaxcv.weights import load as load_weights

MINE = '''
"""Two layers on digits."""
import flax.linen as nn
import optax
from jaxcv import losses, metrics, predict
from jaxcv.data import classification_data
from jaxcv.train import Experiment

class Net(nn.Module):
    @nn.compact
    def __call__(self, images, *, train=False):
        x = nn.relu(nn.Dense(8)(images.reshape(images.shape[0], -1)))
        return nn.Dense(10)(x), {"hidden": x}

def experiment(*, lr: float = 1e-2, steps: int = 2, seed: int = 0) -> Experiment:
    train, test = classification_data("digits", image_size=8)
    return Experiment(
        model=Net(), loss=losses.cross_entropy, optimizer=optax.adam(lr), train_data=train.batches(4, seed=seed),
        test_data=test.batches(100), predict=predict.classes, metrics={"accuracy": metrics.accuracy()},
        steps=steps, seed=seed, previews=0,
    )
'''


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("here")
    (root / "mine.py").write_text(MINE)
    assert main([str(root / "mine.py"), "lr=0.02", "--workdir", str(root / "runs"), "--quiet"]) == 0
    return root / "runs/mine/lr=0.02"


def test_evaluate_export_and_predict(run, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    picture = tmp_path / "a.png"
    Image.fromarray(np.full((20, 30), 200, np.uint8)).save(picture)
    file = tmp_path / "w.npz"
    assert main([str(copy), "--evaluate", "--export", str(file), "--predict", str(picture), "--best"]) == 0
    assert "accuracy" in capsys.readouterr().out
    assert set(load_weights(file)) == {f"params/Dense_{i}/{part}" for i in (0, 1) for part in ("bias", "kernel")}
    entry = json.loads((copy / "predictions_best/predictions.json").read_text())[0]
    (label, *_), found = entry["classes"], jaxcv.load(copy).predict(picture)
    assert label["index"] == found.label and label["score"] == pytest.approx(found.scores.max(), abs=1e-6)
    assert main([str(copy), "--predict", str(picture), "--quiet"]) == 0
    assert (copy / "predictions/a.png").exists() and (copy / "predictions_best/a.png").exists()


def test_a_run_begun_in_one_folder_goes_on_from_another(tmp_path, monkeypatch):
    """Its file was named by a relative path."""
    (tmp_path / "mine.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    assert main(["mine.py", "--quiet"]) == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert main(["../runs/mine/defaults", "steps=4", "--quiet"]) == 0
    assert jaxcv.load("../runs/mine/defaults", best=False).step == 4


def test_more_steps_after_the_end(run, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    assert main([str(copy)]) == 0
    assert "finished before" in capsys.readouterr().out
    assert main([str(copy), "steps=4", "--quiet"]) == 0
    assert jaxcv.load(copy, best=False).step == 4
    assert jaxcv.load(copy).values["lr"] == 0.02
    more = tmp_path / "more"
    words = [str(run.parents[2] / "mine.py"), "lr=0.02", "steps=3", "--workdir", str(more), "--quiet"]
    assert main([*words, "--resume", str(run)]) == 0
    assert jaxcv.load(next((more / "mine").iterdir()), best=False).step == 3


def test_what_a_run_cannot_be_told(run, capsys):
    for words, line in {
        "lr=0.1": f"lr=0.1: {run} has its values; give others to its file",
        "steps=3,4": f"{run}: a run is one; sweep its experiment's file",
    }.items():
        assert main([str(run), words]) == 2
        assert capsys.readouterr().err == f"error: {line}\n"
    assert main([str(Path(run).parent)]) == 2
    assert capsys.readouterr().err == f"error: {run.parent}: holds no run; there are {run}\n"


@pytest.mark.parametrize(
    "now, said",
    {
        "Net(width=8)": r".*\.__init__\(\) got an unexpected keyword argument 'width'",
        "models.lenet_1989()": "module 'jaxcv.models' has no attribute 'lenet_1989'",
    }.items(),
    ids=["field", "network"],
)
def test_what_an_old_run_names_and_jaxcv_no_longer_has(run, tmp_path, capsys, now, said):
    """One line, whatever is asked of the run; its file says the same as its folder."""
    old, file = tmp_path / "old", tmp_path / "mine.py"
    shutil.copytree(run, old)
    file.write_text(MINE.replace("import losses", "import losses, models").replace("model=Net()", f"model={now}"))
    facts = json.loads((old / "run.json").read_text())
    (old / "run.json").write_text(json.dumps({**facts, "file": str(file), "source": file.read_text()}))
    with pytest.raises(UserError) as refused:
        jaxcv.load(old)
    assert re.fullmatch(f"{old}: its experiment, of jaxcv .*, cannot be composed here: {said}", str(refused.value))
    for words in (["--predict", "a.png"], ["--evaluate"], ["--export", "m.npz"], ["--explain", "a.png"], ["steps=4"]):
        assert main([str(old), *words]) == 2
        assert capsys.readouterr().err == f"error: {refused.value}\n"
