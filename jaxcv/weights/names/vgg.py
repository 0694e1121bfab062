"""What VGG's layers are called elsewhere."""

from jaxcv.models import VGG

_TORCHVISION = {"fc6": "classifier.0", "fc7": "classifier.3", "head": "classifier.6"}
_TIMM = {"fc6": "pre_logits.fc1", "fc7": "pre_logits.fc2", "head": "head.fc"}
_KERAS = {"fc6": "fc1", "fc7": "fc2", "head": "predictions"}


def torchvision(model: VGG, path: str) -> str:
    """torchvision's name of the module at one of our paths: places in two lists of layers."""
    return _TORCHVISION[path] if path in _TORCHVISION else _features(model, path)


def timm(model: VGG, path: str) -> str:
    """timm's name; fc6 and fc7 are convolutions there, fc6 with a kernel as large as the map it sees."""
    return _TIMM[path] if path in _TIMM else _features(model, path)


def keras(model: VGG, path: str) -> str:
    """The name in `keras.applications`. Its networks read BGR minus a mean, in 0..255.

    So the kernel of conv1_1 has its input channels in reverse for ours, and `mean` and `std` are to be theirs: see
    `keras.applications.vgg16.preprocess_input`.
    """
    if path in _KERAS:
        return _KERAS[path]
    stage, place = _numbers(path)
    return f"block{stage}_conv{place}"


def flattened(model: VGG) -> dict[str, int]:
    """fc6 reads a flattened map of so many channels."""
    return {"fc6": model.stage_channels[-1]}


def _features(model: VGG, path: str) -> str:
    """Each stage is a list of convolution, (norm,) ReLU, again and again, and a pooling."""
    stage, place = _numbers(path)
    layers = 3 if model.norm else 2
    before = sum(size * layers + 1 for size in model.stage_sizes[: stage - 1]) + (place - 1) * layers
    return f"features.{before + path.endswith('/norm')}"


def _numbers(path: str) -> tuple[int, int]:
    """`conv3_2/norm` -> 3, 2."""
    stage, place = path.split("/")[0].removeprefix("conv").split("_")
    return int(stage), int(place)
