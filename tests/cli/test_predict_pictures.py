"""`--predict` on files, folders and patterns, and the report at a detector's end; with a very small detector."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from jaxcv.cli.inference import predict_run
from jaxcv.cli.main import load_experiment, main
from jaxcv.sweep import plan
from jaxcv.train import fit
from jaxcv.train.console import Reporter

EXPERIMENT = '''
"""A very small detector."""
from functools import partial
import optax
from jaxcv import losses, metrics, models, predict
from jaxcv.data import detection_data
from jaxcv.train import Experiment

def experiment(*, threshold: float = 0.0, sizes: tuple[int, ...] = (), steps: int = 1, seed: int = 0) -> Experiment:
    """Args:
        threshold: of the scores.
        sizes: to train at.
        steps: of training.
        seed: of everything.
    """
    from jaxcv import augment
    train, test = detection_data("digits", image_size=32)
    anchor_boxes = train.anchor_boxes(k=2)
    return Experiment(
        model=models.YOLO(10, anchor_boxes, stage_channels=(8, 8, 8), stage_depths=(0, 0, 0), neck_channels=8),
        loss=partial(losses.yolo, anchor_boxes=anchor_boxes),
        optimizer=optax.adam(1e-3),
        train_data=train.batches(2, seed=seed),
        test_data=test.batches(100),
        augment={f"{n}x{n}": partial(augment.detection, crop=0.1, size=(n, n)) for n in sizes} or None,
        predict=partial(
            predict.yolo, anchor_boxes=anchor_boxes, image_size=(32, 32), confidence="class",
            score_threshold=threshold, max_outputs=20,
        ),
        metrics={"mAP50": metrics.coco_average_precision("AP50"), "voc": metrics.voc_average_precision()},
        steps=steps,
        seed=seed,
        previews=0,
    )
'''


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    file = folder / "tiny.py"
    file.write_text(EXPERIMENT)
    assert main([str(file), "--workdir", str(folder)]) == 0
    return file, folder


def picture(path, size=(40, 30), value=90):
    path.parent.mkdir(exist_ok=True, parents=True)
    Image.new("RGB", size, (value, value, value)).save(path)
    return path


def test_report_of_a_detector(tiny):
    run = tiny[1] / "tiny/defaults"
    with open(run / "per_class.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == list("0123456789")
    assert sum(int(row["truths"]) for row in rows) > 1000
    for name in ("precision_recall", "confusion", "worst"):
        with Image.open(run / f"previews/{name}.png") as drawn:
            assert min(drawn.size) > 300, name


def test_folders_patterns_and_files_of_every_size(tiny, tmp_path, capsys):
    file, folder = tiny
    picture(tmp_path / "some/a.jpg")
    picture(tmp_path / "some/below/b.png", size=(33, 77))
    picture(tmp_path / "some/below/a.bmp")
    (tmp_path / "some/notes.txt").write_text("no picture")
    large = picture(tmp_path / "large.jpg", size=(4000, 3000))
    named = [str(tmp_path / "some"), str(tmp_path / "l*.jpg"), str(tmp_path / "some/a.jpg")]
    assert main([str(file), "--workdir", str(folder), "--predict", *named, "--min-score", "0"]) == 0
    predictions = folder / "tiny/defaults/predictions"
    entries = json.loads((predictions / "predictions.json").read_text())
    assert [entry["image"] for entry in entries] == [
        str(tmp_path / "some/a.jpg"),
        *(str(tmp_path / f"some/below/{name}") for name in ("a.bmp", "b.png")),
        str(large),
    ]
    assert [(e["width"], e["height"]) for e in entries] == [(40, 30), (40, 30), (33, 77), (4000, 3000)]
    with Image.open(predictions / "large.png") as drawn:
        assert drawn.size == (4000, 3000)
    for entry, stem in zip(entries, ("a", "a-2", "b", "large"), strict=True):
        assert (predictions / f"{stem}.png").exists()
        lines = (predictions / f"labels/{stem}.txt").read_text().splitlines()
        assert len(lines) == len(entry["detections"]) > 0
        scores = [d["score"] for d in entry["detections"]]
        assert scores == sorted(scores, reverse=True)
        for line, d in zip(lines, entry["detections"], strict=True):
            label, x, y, w, h, score = line.split()
            assert (label, d["class"]) == (str(d["index"]), str(d["index"]))
            box = np.asarray([float(x), float(y)]).repeat(2).reshape(2, 2).T.reshape(-1)
            box = box + np.asarray([-1, -1, 1, 1]) * np.asarray([float(w), float(h)] * 2) / 2
            expected = np.asarray(d["box"]) / ([entry["width"], entry["height"]] * 2)
            np.testing.assert_allclose(box, expected, atol=2e-4)
            assert 0 <= min(d["box"]) and expected.max() <= 1 and float(score) == pytest.approx(d["score"], abs=1e-4)
    assert str(large) in capsys.readouterr().out.replace("\n", "")


def test_a_batch_says_what_single_pictures_say(tiny, tmp_path):
    file, folder = tiny
    random = np.random.default_rng(0)
    for i in range(5):
        Image.fromarray(random.integers(0, 255, (32, 32, 3), np.uint8)).save(tmp_path / f"{i}.png")
    predictions = folder / "tiny/defaults/predictions/predictions.json"
    command = [str(file), "--workdir", str(folder), "--min-score", "0", "--predict"]
    assert main([*command, str(tmp_path)]) == 0
    together = json.loads(predictions.read_text())
    assert main([*command, str(tmp_path / "3.png")]) == 0
    (alone,) = json.loads(predictions.read_text())
    np.testing.assert_allclose(
        [d["box"] for d in alone["detections"]], [d["box"] for d in together[3]["detections"]], atol=0.05
    )


def test_nothing_found_and_nothing_there(tiny, tmp_path, capsys):
    file, folder = tiny
    black = picture(tmp_path / "black.png", value=0)
    assert main([str(file), "--workdir", str(folder), "--predict", str(black)]) == 0
    predictions = folder / "tiny/defaults/predictions"
    assert json.loads((predictions / "predictions.json").read_text())[0]["detections"] == []
    assert (predictions / "labels/black.txt").read_text() == ""
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.png").write_bytes(black.read_bytes()[:60])
    for name, message in {
        "empty": "no picture in this folder",
        "no*.png": "no file is called like this",
        "none.png": "no such picture",
        "broken.png": "broken.png",
    }.items():
        assert main([str(file), "--workdir", str(folder), "--predict", str(tmp_path / name)]) == 2
        assert message in capsys.readouterr().err


def test_training_at_several_sizes(tiny, tmp_path):
    """Each size is a step of its own, named in the plan."""
    experiment = load_experiment(tiny[0])
    several = {"sizes": (16, 32), "steps": 11}
    lines = plan(experiment, [several]).lines()
    assert "a step is compiled once for each of: 16x16, 32x32; they alternate" in lines
    setup = experiment(**several)
    turns = [setup.variant(step) for step in range(400)]
    assert set(turns) == {"16x16", "32x32"} and turns == [experiment(**several).variant(step) for step in range(400)]
    assert all(len(set(turns[i : i + 10])) == 1 for i in range(0, 400, 10))
    assert turns != [experiment(**several, seed=1).variant(step) for step in range(400)]
    seeds = (
        s for s in range(20) if experiment(**several, seed=s).variant(0) != experiment(**several, seed=s).variant(10)
    )
    result = fit(experiment, several | {"seed": next(seeds)}, tmp_path / "run")
    assert result.traces <= 2
    assert np.isfinite(list(result.train.values())).all()


def test_a_scanner_takes_pictures_of_every_size(load, tmp_path):
    """Pictures between which the size changes, one by one and together."""
    scanner, values = load("sliding_window"), {"steps": 1, "width": 4, "smallest": 100, "batch_size": 8, "score": 0.4}
    fit(scanner, values, tmp_path)
    sizes = {"a": (120, 90), "b": (120, 90), "c": (260, 120), "d": (90, 200)}
    files = [picture(tmp_path / "in" / f"{name}.png", size, 60) for name, size in sizes.items()]
    options = {"best": False, "reporter": Reporter(quiet=True), "minimum": 0.0}
    for chosen in (files, files[2:3]):
        predict_run(scanner, values, tmp_path, chosen, **options)
        found = json.loads((tmp_path / "predictions" / "predictions.json").read_text())
        assert [entry["width"] for entry in found] == [sizes[file.stem][0] for file in chosen]
        if chosen is files:
            together = found[2]
    assert found[0]["detections"] == together["detections"]
