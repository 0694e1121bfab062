"""Opening a set by the text of `data`."""

import re

import pytest

from jaxcv.data import classification_data, detection_data
from jaxcv.types import UserError


@pytest.mark.parametrize(
    ("open_data", "data", "message"),
    [
        (detection_data, "digit", "data=digit: did you mean digits? detection sets: digits, voc:PATH"),
        (detection_data, "Digits", "data=Digits: did you mean digits? detection sets: digits, voc:PATH"),
        (detection_data, "voc", "data=voc: did you mean voc:PATH? detection sets: digits, voc:PATH"),
        (detection_data, "voc:", "data=voc:: did you mean voc:PATH? detection sets: digits, voc:PATH"),
        (detection_data, "digits:x", "data=digits:x: did you mean digits? detection sets: digits, voc:PATH"),
        (detection_data, "imagenet", "data=imagenet: detection sets: digits, voc:PATH"),
        (
            classification_data,
            "minst:x",
            "data=minst:x: did you mean mnist:PATH? classification sets: digits, mnist:PATH, folder:PATH, imagenet",
        ),
    ],
)
def test_an_unknown_set_is_refused_with_the_nearest(open_data, data, message):
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        open_data(data)


def test_options_are_checked():
    with pytest.raises(UserError, match="on_error='ignore': expected 'raise' or 'skip'"):
        detection_data("digits", on_error="ignore")
    with pytest.raises(UserError, match="has its own ten classes"):
        detection_data("digits", classes=("a",))
    with pytest.raises(UserError, match="image_size=4"):
        detection_data("digits", image_size=4)


def test_opening_is_lazy_and_shared(tmp_path):
    assert detection_data("digits", image_size=128) is detection_data("digits", image_size=128)
    train, _ = detection_data(f"voc:{tmp_path}/nowhere")
    assert train.image_size == 256 and train.batches(4, seed=0).batch_size == 4
    with pytest.raises(UserError, match="no such folder"):
        len(train)
