"""Names of VGG's layers in other libraries."""

from jaxcv.models import VGG

_TORCHVISION = {"fc6": "classifier.0", "fc7": "classifier.3", "head": "classifier.6"}
_TIMM = {"fc6": "pre_logits.fc1", "fc7": "pre_logits.fc2", "head": "head.fc"}
_KERAS = {"fc6": "fc1", "fc7": "fc2", "head": "predictions"}


def torchvision(model: VGG, path: str) -> str:
    """torchvision's name of a module: indices into two lists of layers."""
    return _TORCHVISION[path] if path in _TORCHVISION else _features(model, path)


def timm(model: VGG, path: str) -> str:
    """timm's name; fc6 and fc7 are convolutions there, fc6 with a kernel as large as its input."""
    return _TIMM[path] if path in _TIMM else _features(model, path)


def keras(model: VGG, path: str) -> str:
    """The name in `keras.applications`. Its networks read BGR minus a mean, in 0..255.

    `weights.network` sets the fields `bgr`, `mean` and `std` for a file with these names.
    """
    if path in _KERAS:
        return _KERAS[path]
    stage, number = _numbers(path)
    return f"block{stage}_conv{number}"


def flattened(model: VGG) -> dict[str, int]:
    """Channels of the flattened map that fc6 reads."""
    return {"fc6": model.stage_channels[-1]}


def _features(model: VGG, path: str) -> str:
    """Index in the list of layers: in each stage, repeated convolution, (norm,) and ReLU, then a pooling."""
    stage, number = _numbers(path)
    layers = 3 if model.norm else 2
    before = sum(size * layers + 1 for size in model.stage_sizes[: stage - 1]) + (number - 1) * layers
    return f"features.{before + path.endswith('/norm')}"


def _numbers(path: str) -> tuple[int, int]:
    """`conv3_2/norm` -> 3, 2."""
    stage, number = path.split("/")[0].removeprefix("conv").split("_")
    return int(stage), int(number)
