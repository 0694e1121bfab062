"""A run's folder alone gives the run back: its data gone, its experiment's files gone."""

import json
import shutil

import jax
import numpy as np
import pytest

import jaxcv
from jaxcv.errors import DataError, UserError
from jaxcv.types import Detections


def test_predictions_in_the_pictures_own_pixels_without_the_data(moved):
    folder, pixels, expected, placement = moved
    run = jaxcv.load(folder)
    found = run.predict(pixels)
    assert isinstance(found, Detections) and len(found.boxes) == expected.valid.sum() > 0
    np.testing.assert_allclose(found.boxes, placement.boxes(expected.boxes[expected.valid]), atol=1e-4)
    assert found.boxes[:, [0, 2]].max() <= 40 and found.boxes[:, [1, 3]].max() <= 20
    file = folder.parent / "picture.png"
    several = run.predict([file, str(file), pixels])
    assert [len(one.boxes) for one in several] == [len(found.boxes)] * 3
    np.testing.assert_allclose(several[2].scores, found.scores, atol=1e-6)
    least = float(np.median(found.scores))
    assert (run.predict(pixels, min_score=least).scores >= least).all()


def rewritten(folder, target, change):
    """A copy of a run's folder with another `run.json`."""
    shutil.copytree(folder, target)
    facts = json.loads((target / "run.json").read_text())
    change(facts)
    (target / "run.json").write_text(json.dumps(facts))
    return target


def test_a_run_from_before_resize_still_stretches_pictures(moved, tmp_path):
    def forget_resize(facts):
        for one in facts["sets"].values():
            *asked, options = json.loads(one["opened"])
            one["opened"] = json.dumps([*asked, [pair for pair in options if pair[0] != "resize"]])

    pixels = moved[1]
    run = jaxcv.load(rewritten(moved[0], tmp_path / "run", forget_resize))
    placed = run.setup.test_data.read_image(pixels)[1]
    assert (placed.x, placed.y, placed.top) == (40 / 32, 20 / 32, 0), "squashed"
    placed = jaxcv.load(moved[0]).setup.test_data.read_image(pixels)[1]
    assert placed.x == placed.y and placed.top != 0, "letterboxed"


def test_an_experiment_that_cannot_be_composed_any_more(moved, tmp_path):
    def of_an_old_field(facts):
        facts["source"] = facts["source"].replace("neck_channels=8", "neck_channels=8, dtype='float32'")

    folder = rewritten(moved[0], tmp_path / "run", of_an_old_field)
    with pytest.raises(UserError, match=r"run: its experiment, of jaxcv .*, cannot be composed here: .*'dtype'"):
        jaxcv.load(folder)


def test_what_a_run_says_of_itself(moved):
    run = jaxcv.load(moved[0], best=False)
    assert run.class_names == ("cell", "plate")
    assert run.values["sizes"] == (8, 8) and run.values["lr"] == 1e-3
    assert run.metrics[-1]["split"] == "test" and "time/seconds" in run.metrics[-1]
    outputs, _ = run.model.apply(run.variables, jax.numpy.zeros((1, 32, 32, 3)), train=False)
    assert outputs.shape[-1] == 5 + 2


def test_examples_are_refused_and_other_questions_need_the_data(moved):
    run = jaxcv.load(moved[0])
    with pytest.raises(DataError, match="which holds no example"):
        run.setup.test_data.batch(0)
    with pytest.raises(DataError, match="no such folder"):
        stored, values = jaxcv.runs.stored_experiment(moved[0])
        stored(**{**values, "data": f"{values['data']}x"})


def test_pictures_that_are_none(moved, tmp_path):
    run = jaxcv.load(moved[0])
    with pytest.raises(TypeError, match=r"a picture float32\[4, 4, 3\]: expected uint8 \[h, w\]"):
        run.predict(np.zeros((4, 4, 3), np.float32))
    with pytest.raises(DataError, match="image is missing"):
        run.predict(tmp_path / "none.png")
    with pytest.raises(UserError, match="min_score=90: expected a score, from 0 to 1"):
        run.predict([], min_score=90.0)


def test_folders_that_are_no_runs(moved, tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        jaxcv.load(tmp_path / "none")
    with pytest.raises(UserError, match=f"holds no run; there are {moved[0]}"):
        jaxcv.load(moved[0].parent)


def test_another_version_of_a_module_is_refused(moved, tmp_path):
    other = tmp_path / "run"
    shutil.copytree(moved[0], other)
    sources = json.loads((other / "sources.json").read_text())
    sources["my_neighbour"] |= {"text": "SCALE = 2.0\n", "digest": "0" * 16}
    (other / "sources.json").write_text(json.dumps(sources))
    jaxcv.load(moved[0])
    with pytest.raises(UserError, match="imports my_neighbour, and another version of it is loaded"):
        jaxcv.load(other)


def test_importing_jaxcv_costs_nothing_and_unknown_names_are_refused():
    with pytest.raises(AttributeError, match="has no attribute 'lode'"):
        _ = jaxcv.lode
    assert jaxcv.__version__
