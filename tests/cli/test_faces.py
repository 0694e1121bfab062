"""People enrolled, verified and recognised on the command line, by a tiny run over faces drawn here."""

import numpy as np
import pytest
from PIL import Image

from jaxcv.cli.face_space import distance, fit_space
from jaxcv.cli.main import main
from jaxcv.weights import load_gallery

EXPERIMENT = '''
from functools import partial
from jaxcv import losses, metrics, models, predict
from jaxcv.data import embedding_data
from jaxcv.train import Experiment, optimizers

def experiment(*, data: str = "", steps: int = 2) -> Experiment:
    """Tiny.

    Args:
        data: a set.
        steps: updates.
    """
    train, test = embedding_data(data, unseen="2", image_size=16, channels=1)
    return Experiment(
        model=models.EmbeddingNet(models.PlainDarknet(layers=((8, 3), "M")), dimensions=8, standardize=False),
        loss=losses.triplet, optimizer=optimizers.adamw(1e-3, steps=steps),
        train_data=train.identity_batches(8, pictures=2, seed=0), test_data=test.batches(16),
        predict=predict.embeddings, metrics={"EER": metrics.verification("EER")}, steps=steps, previews=0,
    )
'''


def face(person, number):
    """Two eyes and a mouth, where and how dark says who it is."""
    pixels = np.full((32, 32), 170, np.uint8)
    x, y = 8 + person % 3, 9 + person % 4
    pixels[y : y + 4, x : x + 4] = pixels[y : y + 4, 28 - x : 32 - x] = 20 + 3 * number
    pixels[22 + person % 5 : 25 + person % 5, 10:22] = 40 + 15 * (person % 4)
    return Image.fromarray(pixels)


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """A trained run, and what calls it."""
    root = tmp_path_factory.mktemp("people")
    for person in range(8):
        for number in range(4):
            path = root / f"set/p{person}/{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            face(person, number).save(path)
    (root / "tiny.py").write_text(EXPERIMENT)
    words = [str(root / "tiny.py"), f"data=faces:{root}/set", "--workdir", str(root / "runs"), "--no-tune"]
    assert main([*words, "--quiet"]) == 0
    return root, lambda *more: main([*words, *map(str, more)])


def test_from_enrolment_to_recognition(people, capsys):
    root, call = people
    assert call("--enroll", root / "set", "--false-accepts", 0.3) == 0
    gallery = load_gallery(next((root / "runs").rglob("gallery.safetensors")))
    assert sorted(set(gallery.names)) == [f"p{i}" for i in range(8)] and gallery.vectors.shape == (32, 8)
    assert call("--recognize", root / "set/p3/2.png") == 0
    assert "2.png: p3" in capsys.readouterr().out.replace("\n", "")
    run = next((root / "runs").rglob("gallery.safetensors")).parent
    assert main([str(run), "--recognize", str(root / "set/p3/2.png"), "--no-tune"]) == 0, "a run's folder says it all"
    assert "2.png: p3" in capsys.readouterr().out.replace("\n", "")
    assert call("--verify", root / "set/p3/2.png", root / "set/p3/2.png") == 0
    assert "the same; 1.000, accepted from" in capsys.readouterr().out.replace("\n", " ")


def test_what_cannot_be_used(people, capsys, tmp_path):
    root, call = people
    assert call("--enroll", root / "set", "--false-accepts", 0.3) == 0
    capsys.readouterr()
    Image.new("L", (32, 32), 90).save(tmp_path / "blank.png")
    stripes = np.tile(np.repeat(np.array([0, 255], np.uint8), 2), (32, 8))
    Image.fromarray(stripes).save(tmp_path / "stripes.png")
    (tmp_path / "empty").mkdir()
    for words, message in {
        ("--recognize", tmp_path / "blank.png"): "blank.png: no face, or nothing like the pictures trained on",
        ("--verify", tmp_path / "stripes.png", root / "set/p3/2.png"): "stripes.png: no face",
        ("--enroll", tmp_path / "empty"): "no picture in this folder",
        ("--enroll", tmp_path / "nowhere"): "no such folder; --enroll needs",
        ("--recognize", tmp_path / "nobody.png"): "nobody.png",
        ("--enroll", root / "set", "--false-accepts", 1.5): "expected a fraction from 0 to below 1",
        ("--recognize", root / "set/p3/2.png", "steps=3"): "holds no trained run",
    }.items():
        assert call(*words) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1


def test_the_space_of_pictures():
    images = np.stack([np.asarray(face(person, number))[..., None] for person in range(6) for number in range(4)])
    space = fit_space(images[:16], images[16:])
    assert all(distance(space, image) <= space.limit for image in images)
    assert distance(space, np.full((32, 32, 1), 90, np.uint8)) == np.inf
    assert distance(space, images[0].transpose(1, 0, 2)) > space.limit
