"""Published ImageNet weights say what is on four photographs."""

import json

import jax
import numpy as np
import pytest
from PIL import Image

from jaxcv import models, weights


def photograph(path):
    """The middle of a photograph, [224 224 3] in [0, 1]."""
    image = Image.open(path).convert("RGB")
    side = int(0.875 * min(image.size))
    left, top = ((length - side) // 2 for length in image.size)
    middle = image.crop((left, top, left + side, top + side))
    return np.asarray(middle.resize((224, 224), Image.Resampling.BILINEAR), np.float32) / 255


@pytest.mark.parametrize(
    ("file", "options"),
    [("mobilenet_v1_1.0_224_foldedbn", {"norm": False}), ("mobilenet_v1_0.25_224_keras", {"width": 0.25})],
)
def test_photographs(real_data, file, options):
    folder = real_data("weights")
    expected = json.loads((folder / "expected_top3.json").read_text(encoding="utf-8"))["photos"]
    variables = weights.from_keras("mobilenet_v1", weights.load(folder / f"{file}.npz"), **options)
    images = np.stack([photograph(folder / "photos" / name) for name in expected])
    logits, _ = jax.jit(models.mobilenet_v1(**options).apply)(variables, images)
    for found, answers in zip(jax.nn.softmax(logits), expected.values(), strict=True):
        assert found.argmax() == answers[file][0][0]
        for label, _, probability in answers[file]:
            assert abs(found[label] - probability) < 0.002
