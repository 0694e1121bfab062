"""One detector on sets of three formats, with nothing changed but `data=`, and on eighteen images by heart."""

import numpy as np
import pytest

from jaxcv.train import fit

SETS = [
    "coco:det_coco_fruits_nuts",
    "coco:det_coco_borrat_valid",
    "yolo:det_yolo_coco128_train2017",
    "voc:det_voc_bccd",
]


@pytest.mark.slow
@pytest.mark.parametrize("data", SETS)
def test_it_trains_unchanged(data, load, real_data, tmp_path):
    """Twelve steps of the default experiment: every loss finite and falling, average precision measured."""
    kind, _, name = data.partition(":")
    experiment = load("yolo")
    values = {"data": f"{kind}:{real_data(name)}", "on_error": "skip", "steps": 12}
    result = fit(experiment, values, tmp_path / "run")
    assert result.steps == 12
    assert np.isfinite([value for name, value in result.train.items() if name != "mAP50"]).all()
    assert 0 <= result.test["mAP50"] <= 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("yolo", {"sizes": (64, 96), "box_loss": "ciou", "mosaic": 0.5, "mixup": 0.1}),
        ("yolo", {"accumulate": 2, "clip": 5.0, "dtype": "bfloat16"}),
        ("yolo_v1", {"backbone": "", "width": 32, "fc_width": 32}),
        ("yolo_v2", {"backbone": "", "width": 32, "sizes": (64, 96)}),
        ("yolo_v3", {"backbone": "mobilenet_v1", "width": 32, "focal_gamma": 2.0}),
        ("yolo_v3", {"backbone": "", "tiny": True, "width": 32, "dtype": "bfloat16"}),
    ],
    ids=str,
)
def test_every_network_and_option_trains(name, options, load, tmp_path):
    values = {"image_size": 64, "batch_size": 4, "steps": 4} | options
    result = fit(load(name), values, tmp_path / "run")
    assert np.isfinite(list(result.train.values())).all()
    assert {"mAP50", "mAP75", "mAP"} <= set(result.test)


@pytest.mark.slow
def test_it_learns_eighteen_images_by_heart(load, real_data, tmp_path):
    """The classic check that network, loss, assignment, decoding and metric agree; some five minutes on two cores."""
    values = {
        "data": f"coco:{real_data('det_coco_fruits_nuts')}",
        "hold_out": False,
        "image_size": 320,
        "batch_size": 9,
        "steps": 400,
        "flip": 0.0,
        "crop": 0.0,
        "color": 0.0,
        "ema": 0.99,
    }
    assert fit(load("yolo"), values, tmp_path / "run").test["mAP50"] >= 0.95
