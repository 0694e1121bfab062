"""Exported runs give the framework's own answers in a process that knows nothing of jaxcv."""

import json
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

import jaxcv
from jaxcv.cli.main import load_experiment, main
from jaxcv.errors import UserError
from jaxcv.runs import Run, export, exporting
from jaxcv.train import step
from jaxcv.weights import load as load_weights

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def detector(moved):
    return moved[0]


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    path = tmp_path_factory.mktemp("picture") / "a.png"
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (32, 32, 3), np.uint8)).save(path)
    return path


def answers_elsewhere(file, picture):
    """Those of the script in `docs/`, which must not find jaxcv."""
    program = "import runpy, sys; sys.modules['jaxcv'] = None; sys.argv[:] = sys.argv[1:]; runpy.run_path(sys.argv[0])"
    command = [sys.executable, "-c", program, str(ROOT / "docs/exported.py"), str(file), str(picture)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return {name: np.asarray(values) for name, values in json.loads(done.stdout).items()}


def assert_same_answers(run, file, picture):
    found = answers_elsewhere(file, picture)
    expected = {name: values for name, values in run.predict(picture)._asdict().items() if values is not None}
    assert set(found) == set(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, atol=1e-4, rtol=1e-4, err_msg=name)


def test_stablehlo_for_all_platforms_and_any_number_of_pictures(detector, picture, tmp_path, capsys):
    pytest.importorskip("flatbuffers")
    file = tmp_path / "m.stablehlo"
    assert main([str(detector), "--export", str(file)]) == 0
    said = capsys.readouterr().out.replace("\n", "")
    assert "any number of pictures on cpu, cuda, tpu; within" in said
    run = jaxcv.load(detector, best=False)
    assert_same_answers(run, file, picture)
    exported = jax.export.deserialize(bytearray(file.read_bytes()))
    assert exported.platforms == ("cpu", "cuda", "tpu")
    calls = set(re.findall(r"custom_call @(\w+)", exported.mlir_module()))
    assert calls == {"shape_assertion"}, "no kernel, only JAX's check of the number of pictures"
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    several = exported.call(images)
    for row, image in enumerate(images):
        np.testing.assert_allclose(several["scores"][row], run.predict(image).scores, atol=1e-4)
    described = json.loads(Path(f"{file}.json").read_text())
    assert described["input"] == {"shape": ["b", 32, 32, 3], "dtype": "uint8", "channels": "RGB"}
    assert described["type"] == "Detections" and described["class_names"] == ["cell", "plate"]
    assert described["fitted"] == {"resize": "letterbox", "fraction": 1.0}


def test_onnx(detector, picture, tmp_path):
    pytest.importorskip("jax2onnx")
    pytest.importorskip("onnxruntime")
    run = jaxcv.load(detector, best=False)
    (line,) = export(run, tmp_path / "m.onnx")
    assert "one picture at a time; within" in line
    assert_same_answers(run, tmp_path / "m.onnx", picture)


SMALL = {"lenet": {}, "unet": {"image_size": 16, "width": 4, "depth": 1}}
PACKAGES = {".stablehlo": ("flatbuffers",), ".onnx": ("jax2onnx", "onnxruntime")}


@pytest.fixture(scope="module", params=SMALL)
def untrained(request):
    """A classifier and a segmenter, with fresh variables."""
    setup = load_experiment(ROOT / f"experiments/{request.param}.py")(**SMALL[request.param])
    return Run(Path(request.param), setup, SMALL[request.param], 0, step.init(setup).evaluation_variables)


@pytest.mark.parametrize("ending", PACKAGES)
def test_classifiers_and_segmenters(untrained, ending, tmp_path):
    for package in PACKAGES[ending]:
        pytest.importorskip(package)
    file, picture = tmp_path / f"m{ending}", tmp_path / "a.png"
    shape = untrained.setup.test_data.spec["image"].shape[1:]
    pixels = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    Image.fromarray(pixels.squeeze()).save(picture)
    export(untrained, file)
    assert_same_answers(untrained, file, picture)
    outputs = json.loads(Path(f"{file}.json").read_text())["outputs"]
    assert outputs["label"]["shape"] == ["b", *(shape[:2] if untrained.folder.name == "unet" else [])]


def test_a_pixel_of_which_two_classes_are_equally_probable(untrained):
    """Rounding may decide for the other one: answers differ by the fraction of such pixels, not by a whole class."""
    shape = untrained.setup.test_data.spec["image"].shape[1:]

    def again(images):
        found = untrained.infer(untrained.variables, images)._asdict()
        return found | {"label": found["label"].at[..., :1].add(1)}

    expected = 1 / shape[1] if untrained.folder.name == "unet" else 1.0
    assert exporting._difference(untrained, again, shape) == pytest.approx(expected, abs=1e-6)


def test_weights_and_other_endings(detector, tmp_path):
    run = jaxcv.load(detector)
    export(run, tmp_path / "m.safetensors")
    assert load_weights(tmp_path / "m.safetensors").keys() == {
        "/".join(key.key for key in path) for path, _ in jax.tree_util.tree_leaves_with_path(run.variables)
    }
    export(run, tmp_path / "m.pth")
    (kernel,) = (array for name, array in load_weights(tmp_path / "m.pth").items() if name == "stage1_down.conv.weight")
    np.testing.assert_array_equal(
        kernel.transpose(2, 3, 1, 0), run.variables["params"]["stage1_down"]["conv"]["kernel"]
    )
    with pytest.raises(UserError, match=r"m.pt: expected an ending of .stablehlo, .onnx, .safetensors, .npz, .pth"):
        export(run, tmp_path / "m.pt")


def test_answers_that_differ_are_not_kept(detector, tmp_path, monkeypatch):
    pytest.importorskip("flatbuffers")
    run = jaxcv.load(detector)
    monkeypatch.setattr("jaxcv.runs.exporting.TOLERANCE", -1.0)
    with pytest.raises(UserError, match="differ by .* so it was not kept"):
        export(run, tmp_path / "m.stablehlo")
    assert list(tmp_path.iterdir()) == []
