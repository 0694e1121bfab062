"""Opening a set by the text of `data`."""

import re

import numpy as np
import pytest
from PIL import Image

from jaxcv.data import classification_data, detection_data, embedding_data, landmark_data, segmentation_data
from jaxcv.errors import UserError

STORED = "hf:PATH, parquet:PATH, arrayrecord:PATH, wds:PATH"
DETECTION = (
    "detection sets: digits, voc:PATH, coco:PATH, yolo:PATH, labelme:PATH, cvat:PATH, "
    f"{STORED}, voc2007, voc2012, coco2017"
)


@pytest.mark.parametrize(
    ("open_data", "data", "message"),
    [
        (detection_data, "digit", f"data=digit: did you mean digits? {DETECTION}"),
        (detection_data, "Digits", f"data=Digits: did you mean digits? {DETECTION}"),
        (detection_data, "voc", f"data=voc: did you mean voc:PATH? {DETECTION}"),
        (detection_data, "voc:", f"data=voc:: did you mean voc:PATH? {DETECTION}"),
        (detection_data, "digits:x", f"data=digits:x: did you mean digits? {DETECTION}"),
        (detection_data, "imagenet", f"data=imagenet: {DETECTION}"),
        (detection_data, "voc2006", f"data=voc2006: did you mean voc2007? {DETECTION}"),
        (detection_data, "camvid", f"data=camvid: {DETECTION}"),
        (
            classification_data,
            "minst:x",
            "data=minst:x: did you mean mnist:PATH? classification sets: digits, mnist:PATH, fashion_mnist:PATH, "
            "cifar10:PATH, cifar100:PATH, folder:PATH, faces:PATH, omniglot:PATH, npy:PATH, pets:PATH, imagenet, "
            f"{STORED}, mnist, fashion_mnist, cifar10, cifar100, pets, omniglot, lfw",
        ),
        (
            embedding_data,
            "orl:x",
            "data=orl:x: embedding sets: digits, faces:PATH, omniglot:PATH, omniglot_runs:PATH, omniglot, lfw",
        ),
        (
            segmentation_data,
            "mask:x",
            "data=mask:x: did you mean masks:PATH? segmentation sets: digits, masks:PATH, camvid:PATH, pets:PATH, "
            "voc:PATH, coco:PATH, yolo:PATH, labelme:PATH, cvat:PATH, panoptic:PATH, "
            f"{STORED}, voc2007, voc2012, coco2017, pets, camvid",
        ),
        (
            landmark_data,
            "csv:x",
            "data=csv:x: landmark sets: drawn, points:PATH, pts:PATH, coco:PATH, yolo:PATH, "
            f"labelme:PATH, cvat:PATH, {STORED}, coco2017",
        ),
    ],
)
def test_an_unknown_set_is_refused_with_the_nearest(open_data, data, message):
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        open_data(data)


def test_options_are_checked():
    with pytest.raises(UserError, match="on_error='ignore': expected 'raise' or 'skip'"):
        detection_data("digits", on_error="ignore")
    with pytest.raises(UserError, match="has its own classes"):
        detection_data("digits", classes=("a",))
    with pytest.raises(UserError, match="image_size=4"):
        detection_data("digits", image_size=4)


def test_opening_is_lazy_and_shared(tmp_path):
    assert detection_data("digits", image_size=128) is detection_data("digits", image_size=128)
    train, _ = detection_data(f"voc:{tmp_path}/nowhere")
    assert train.image_size == 256 and train.batches(4, seed=0).batch_size == 4
    with pytest.raises(UserError, match="no such folder"):
        len(train)


def test_twelve_bits_in_sixteen(tmp_path):
    for split in ("train", "val"):
        for name, values in (("a", 4095), ("b", 2048)):
            file = tmp_path / split / name / "0.png"
            file.parent.mkdir(parents=True)
            Image.fromarray(np.full((8, 8), values, np.uint16)).save(file)
    train, _ = classification_data(f"folder:{tmp_path}", image_size=8, scale=4095)
    assert train.batches(2).batch(0)["image"][:, 0, 0, 0].tolist() == [255, 128]
    train, _ = classification_data(f"folder:{tmp_path}", image_size=8)
    assert train.batches(2).batch(0)["image"][:, 0, 0, 0].tolist() == [16, 8]
    for data, scale in ((f"folder:{tmp_path}", 0), ("digits", 4095), ("mnist:x", 4095)):
        with pytest.raises(UserError, match=f"scale={scale}: expected a number above 0, for image files alone"):
            classification_data(data, scale=scale)
