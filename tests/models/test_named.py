"""Networks by their names, and which of them are trunks of detectors."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from jaxcv import models
from jaxcv.errors import UserError
from jaxcv.models.trunk import trunk_features


def test_names_of_families():
    assert models.names(models.AlexNet) == ["alexnet", "alexnet_2012"]
    assert set(models.names(models.MobileNetV1, models.MobileNetV2)) == {"mobilenet_v1", "mobilenet_v2"}
    assert {"lenet5", "resnet20", "vgg16_bn", "darknet53"} <= set(models.names())
    assert not {"yolo_v3_tiny", "summary", "ResNet"} & set(models.names())


def test_named():
    assert models.named("vgg16") is models.vgg16
    with pytest.raises(
        UserError, match=r"unknown network 'vgg12': did you mean .*\? There are vgg11, vgg11_bn, .*19_bn$"
    ):
        models.named("vgg12", models.names(models.VGG))
    with pytest.raises(UserError, match="unknown network 'x': there are alexnet, .*vgg19_bn$"):
        models.named("x")
    with pytest.raises(UserError, match="network 'lenet5' does not fit here; those that do are darknet19, "):
        models.named("lenet5", models.TRUNKS)


@pytest.mark.parametrize("name", models.names())
def test_trunks_are_those_with_the_strides_of_a_detector(name):
    images = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)

    class Detector(nn.Module):
        backbone: nn.Module

        def __call__(self, images, *, train=False):
            return trunk_features(self.backbone, images, (8, 16, 32), train=train)[1]

    def maps():
        detector = Detector(models.named(name)(num_classes=2))
        return jax.eval_shape(lambda x: detector.init_with_output(jax.random.key(0), x)[0], images)

    if name in models.TRUNKS:
        assert [x.shape[1:3] for x in maps()] == [(8, 8), (4, 4), (2, 2)]
    else:
        with pytest.raises(ValueError):
            maps()
