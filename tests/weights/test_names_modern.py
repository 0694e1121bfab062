"""Names of the Inception networks' and the MobileNets' layers elsewhere, typed by hand, and no name given twice."""

import jax
import pytest
from networks import abstract

from jaxcv import models
from jaxcv.weights.names import inception, mobilenet


@pytest.mark.parametrize(
    ("rule", "network", "path", "expected"),
    [
        (inception.torchvision, models.googlenet, "conv1/conv", "conv1.conv"),
        (inception.torchvision, models.googlenet, "conv2_reduce/norm", "conv2.bn"),
        (inception.torchvision, models.googlenet, "conv2/conv", "conv3.conv"),
        (inception.torchvision, models.googlenet, "inception3a/branch1x1/conv", "inception3a.branch1.conv"),
        (inception.torchvision, models.googlenet, "inception4c/branch3x3_reduce/norm", "inception4c.branch2.0.bn"),
        (inception.torchvision, models.googlenet, "inception5b/branch5x5/conv", "inception5b.branch3.1.conv"),
        (inception.torchvision, models.googlenet, "inception5b/branch_pool/norm", "inception5b.branch4.1.bn"),
        (inception.torchvision, models.googlenet, "aux2/conv/norm", "aux2.conv.bn"),
        (inception.torchvision, models.googlenet, "aux1/fc2", "aux1.fc2"),
        (inception.torchvision, models.googlenet, "head", "fc"),
        (inception.torchvision, models.inception_v3, "Conv2d_1a_3x3/norm", "Conv2d_1a_3x3.bn"),
        (inception.torchvision, models.inception_v3, "Mixed_7c/branch3x3dbl_3b/conv", "Mixed_7c.branch3x3dbl_3b.conv"),
        (inception.timm, models.inception_v3, "AuxLogits/conv1/norm", "AuxLogits.conv1.bn"),
        (inception.timm, models.inception_v3, "head", "fc"),
        (mobilenet.torchvision, models.mobilenet_v2, "stem/norm", "features.0.1"),
        (mobilenet.torchvision, models.mobilenet_v2, "block1/depthwise/conv", "features.1.conv.0.0"),
        (mobilenet.torchvision, models.mobilenet_v2, "block1/project/norm", "features.1.conv.2"),
        (mobilenet.torchvision, models.mobilenet_v2, "block17/expand/norm", "features.17.conv.0.1"),
        (mobilenet.torchvision, models.mobilenet_v2, "block17/project/conv", "features.17.conv.2"),
        (mobilenet.torchvision, models.mobilenet_v2, "last/conv", "features.18.0"),
        (mobilenet.torchvision, models.mobilenet_v2, "head", "classifier.1"),
        (mobilenet.timm, models.mobilenet_v1, "block1/depthwise/conv", "blocks.0.0.conv_dw"),
        (mobilenet.timm, models.mobilenet_v1, "block11/pointwise/norm", "blocks.3.5.bn2"),
        (mobilenet.timm, models.mobilenet_v2, "block1/project/conv", "blocks.0.0.conv_pw"),
        (mobilenet.timm, models.mobilenet_v2, "block4/project/norm", "blocks.2.0.bn3"),
        (mobilenet.timm, models.mobilenet_v2, "last/norm", "bn2"),
        (mobilenet.keras, models.mobilenet_v1, "stem/norm", "conv1_bn"),
        (mobilenet.keras, models.mobilenet_v1, "block13/depthwise/conv", "conv_dw_13"),
        (mobilenet.keras, models.mobilenet_v1, "block2/pointwise/norm", "conv_pw_2_bn"),
        (mobilenet.keras, models.mobilenet_v1, "head", "conv_preds"),
        (mobilenet.keras, models.mobilenet_v2, "stem/norm", "bn_Conv1"),
        (mobilenet.keras, models.mobilenet_v2, "block1/project/norm", "expanded_conv_project_BN"),
        (mobilenet.keras, models.mobilenet_v2, "block17/expand/conv", "block_16_expand"),
        (mobilenet.keras, models.mobilenet_v2, "last/conv", "Conv_1"),
        (mobilenet.keras, models.mobilenet_v2, "head", "predictions"),
    ],
)
def test_by_hand(rule, network, path, expected):
    assert rule(network(), path) == expected


@pytest.mark.parametrize(
    ("model", "rules"),
    [
        (models.googlenet(aux_logits=True, torchvision_compatible=True), [inception.torchvision]),
        (models.inception_v3(aux_logits=True), [inception.torchvision, inception.timm]),
        (models.mobilenet_v1(), [mobilenet.keras, mobilenet.timm]),
        (models.mobilenet_v2(), [mobilenet.torchvision, mobilenet.keras, mobilenet.timm]),
    ],
)
def test_every_layer_has_a_name_of_its_own(model, rules):
    variables = abstract(model, 75, 75, 3)[0]
    leaves = jax.tree_util.tree_leaves_with_path(variables["params"])
    paths = {"/".join(key.key for key in path[:-1]) for path, _ in leaves}
    for rule in rules:
        assert len({rule(model, path) for path in paths}) == len(paths)


def test_layers_that_read_a_flattened_map():
    assert inception.flattened(models.googlenet()) == {}
    assert inception.flattened(models.googlenet(aux_logits=True)) == {"aux1/fc1": 128, "aux2/fc1": 128}
