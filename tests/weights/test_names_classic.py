"""Names of AlexNet's, VGG's and ResNet's layers elsewhere, typed by hand, and no name given twice."""

import jax
import pytest
from networks import abstract

from jaxcv import models
from jaxcv.weights.names import alexnet, resnet, vgg


@pytest.mark.parametrize(
    ("rule", "network", "path", "expected"),
    [
        (alexnet.torchvision, models.alexnet, "conv1", "features.0"),
        (alexnet.torchvision, models.alexnet, "conv5", "features.10"),
        (alexnet.torchvision, models.alexnet, "fc6", "classifier.1"),
        (alexnet.torchvision, models.alexnet, "head", "classifier.6"),
        (vgg.torchvision, models.vgg11, "conv3_2/conv", "features.8"),
        (vgg.torchvision, models.vgg16, "conv5_3/conv", "features.28"),
        (vgg.torchvision, models.vgg16_bn, "conv5_3/conv", "features.40"),
        (vgg.torchvision, models.vgg16_bn, "conv5_3/norm", "features.41"),
        (vgg.torchvision, models.vgg19, "conv5_4/conv", "features.34"),
        (vgg.torchvision, models.vgg19, "fc7", "classifier.3"),
        (vgg.timm, models.vgg16, "conv1_1/conv", "features.0"),
        (vgg.timm, models.vgg16, "fc6", "pre_logits.fc1"),
        (vgg.timm, models.vgg16, "fc7", "pre_logits.fc2"),
        (vgg.timm, models.vgg16, "head", "head.fc"),
        (vgg.keras, models.vgg16, "conv5_3/conv", "block5_conv3"),
        (vgg.keras, models.vgg16, "fc7", "fc2"),
        (vgg.keras, models.vgg16, "head", "predictions"),
        (resnet.torchvision, models.resnet50, "stem/conv", "conv1"),
        (resnet.torchvision, models.resnet50, "stem/norm", "bn1"),
        (resnet.torchvision, models.resnet50, "stage1/block1/unit1/conv", "layer1.0.conv1"),
        (resnet.torchvision, models.resnet50, "stage4/block3/unit3/norm", "layer4.2.bn3"),
        (resnet.torchvision, models.resnet50, "stage2/block1/shortcut/conv", "layer2.0.downsample.0"),
        (resnet.torchvision, models.resnet50, "stage2/block1/shortcut/norm", "layer2.0.downsample.1"),
        (resnet.timm, models.resnet18, "head", "fc"),
        (resnet.keras, models.resnet50, "stem/norm", "conv1_bn"),
        (resnet.keras, models.resnet50, "stage1/block2/unit3/conv", "conv2_block2_3_conv"),
        (resnet.keras, models.resnet50, "stage4/block1/shortcut/norm", "conv5_block1_0_bn"),
        (resnet.keras, models.resnet50, "head", "predictions"),
    ],
)
def test_by_hand(rule, network, path, expected):
    assert rule(network(), path) == expected


@pytest.mark.parametrize(
    ("network", "rules"),
    [
        (models.alexnet, [alexnet.torchvision]),
        (models.vgg13, [vgg.torchvision, vgg.timm, vgg.keras]),
        (models.vgg19_bn, [vgg.torchvision, vgg.timm]),
        (models.resnet34, [resnet.torchvision, resnet.timm, resnet.keras]),
        (models.resnet20, [resnet.torchvision]),
    ],
)
def test_every_layer_has_a_name_of_its_own(network, rules):
    variables = abstract(network(), 224, 224, 3)[0]
    leaves = jax.tree_util.tree_leaves_with_path(variables["params"])
    paths = {"/".join(key.key for key in path[:-1]) for path, _ in leaves}
    for rule in rules:
        assert len({rule(network(), path) for path in paths}) == len(paths)


def test_layers_that_read_a_flattened_map():
    assert alexnet.flattened(models.alexnet()) == {"fc6": 256}
    assert vgg.flattened(models.vgg16(stage_channels=(8, 8, 8, 8, 24))) == {"fc6": 24}
