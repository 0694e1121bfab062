"""Names of AlexNet's layers in other libraries."""

from jaxcv.models import AlexNet

_TORCHVISION = {
    "conv1": "features.0",
    "conv2": "features.3",
    "conv3": "features.6",
    "conv4": "features.8",
    "conv5": "features.10",
    "fc6": "classifier.1",
    "fc7": "classifier.4",
    "head": "classifier.6",
}


def torchvision(model: AlexNet, path: str) -> str:
    """torchvision's name of a module: indices into two lists of layers."""
    return _TORCHVISION[path]


def flattened(model: AlexNet) -> dict[str, int]:
    """Channels of the flattened map that fc6 reads."""
    return {"fc6": model.channels[-1]}
