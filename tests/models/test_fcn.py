import networks
import numpy as np
import pytest

from jaxcv.models import FCN, ResNet, resnet50, vgg16
from jaxcv.models.fcn import bilinear
from jaxcv.ops import conv_transpose2d, upsample_bilinear

SMALL = ResNet(stage_sizes=(1, 1, 1, 1), width=4)


def test_the_papers_network_over_vgg16():
    """VGG-16 without its classifier, fc6 of 7x7x512, fc7, 21 scores, two more score layers, two 4x4 enlargements."""
    model = FCN(vgg16(), num_classes=21, stride=8, fc_width=4096, maps=("pool5", "pool4", "pool3"))
    dense = 7 * 7 * 512 * 4096 + 4096 + 4096 * 4096 + 4096
    scores = (4096 + 512 + 256) * 21 + 3 * 21 + 2 * 16 * 21 * 21
    assert networks.parameters(model, 224, 224, 3) == 14_714_688 + dense + scores


@pytest.mark.parametrize("sides", [(64, 64), (37, 100), (1, 1)])
def test_output_height_and_width_are_the_images(sides):
    _, outputs, features = networks.abstract(FCN(SMALL, num_classes=3), *sides, 3)
    assert outputs == (2, *sides, 3)
    height, width = (-(-n // 32) for n in sides)
    assert features["score32"] == (2, height, width, 3) and features["score8"] == (2, 4 * height, 4 * width, 3)


@pytest.mark.parametrize("stride", [32, 16, 8])
def test_before_training_finer_maps_add_nothing(stride):
    """The first values interpolate bilinearly: away from the edges 16s and 8s are 32s."""
    x = networks.images(1, 3, 3, 2)
    doubled = conv_transpose2d(x, bilinear(None, (4, 4, 2, 2)), strides=2, padding=1)
    np.testing.assert_allclose(doubled[:, 1:-1, 1:-1], upsample_bilinear(x, size=(6, 6))[:, 1:-1, 1:-1], rtol=1e-6)
    names = networks.abstract(FCN(SMALL, num_classes=3, stride=stride), 32, 32, 3)[0]["params"]
    assert {name for name in names if name.startswith("score")} == {f"score{s}" for s in (32, 16, 8) if s >= stride}


def test_resnet50_is_scored_by_one_more_layer():
    assert networks.parameters(FCN(resnet50(), stride=32), 64, 64, 3) == 23_508_032 + 2048 * 21 + 21
