"""The names of layers in other libraries, one file per family of networks.

A naming scheme is a function from jaxcv's module path (`stage1/block1/unit1/conv`) to the other library's name
(`layer1.0.conv1`), given the network. In the scheme `jaxcv` names are paths.
"""

from collections.abc import Callable
from typing import Any

from jaxcv import models
from jaxcv.weights.names import alexnet, faster_rcnn, inception, mobilenet, resnet, vgg

SCHEMES: dict[type, dict[str, Callable[[Any, str], str]]] = {
    models.AlexNet: {"torchvision": alexnet.torchvision},
    models.VGG: {"torchvision": vgg.torchvision, "timm": vgg.timm, "keras": vgg.keras},
    models.ResNet: {"torchvision": resnet.torchvision, "timm": resnet.timm, "keras": resnet.keras},
    models.GoogLeNet: {"torchvision": inception.torchvision},
    models.InceptionV3: {"torchvision": inception.torchvision, "timm": inception.timm},
    models.MobileNetV1: {"keras": mobilenet.keras, "timm": mobilenet.timm},
    models.MobileNetV2: {
        "torchvision": mobilenet.torchvision,
        "timm": mobilenet.timm,
        "keras": mobilenet.keras,
    },
    models.FasterRCNN: {"torchvision": faster_rcnn.torchvision, "torchvision_v1": faster_rcnn.torchvision_v1},
}

FLATTENED = {models.AlexNet: alexnet.flattened, models.VGG: vgg.flattened, models.GoogLeNet: inception.flattened}
FLATTENED |= {models.FasterRCNN: faster_rcnn.flattened}


def of(model: Any) -> dict[str, Callable[[str], str]]:
    """The schemes known for a network, by name."""
    theirs = SCHEMES.get(type(model), {})
    return {"jaxcv": lambda path: path} | {
        scheme: (lambda path, function=function: function(model, path)) for scheme, function in theirs.items()
    }


def flattened(model: Any) -> dict[str, int]:
    """Module path of each dense layer that reads a flattened map, and the number of that map's channels."""
    return FLATTENED[type(model)](model) if type(model) in FLATTENED else {}
