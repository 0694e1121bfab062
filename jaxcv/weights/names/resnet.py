"""Names of ResNet's layers in other libraries."""

from jaxcv.models import ResNet

_TORCHVISION = {"stem/conv": "conv1", "stem/norm": "bn1", "head": "fc"}
_KERAS = {"stem/conv": "conv1_conv", "stem/norm": "conv1_bn", "head": "predictions"}


def torchvision(model: ResNet, path: str) -> str:
    """torchvision's name of a module.

    `stage1/block2/unit3/norm` -> `layer1.1.bn3`, `stage2/block1/shortcut/conv` -> `layer2.0.downsample.0`.
    """
    if path in _TORCHVISION:
        return _TORCHVISION[path]
    stage, block, unit, is_norm = _parts(path)
    layer = f"{'bn' if is_norm else 'conv'}{unit}" if unit else f"downsample.{int(is_norm)}"
    return f"layer{stage}.{block - 1}.{layer}"


def timm(model: ResNet, path: str) -> str:
    """timm's name: the same as torchvision's."""
    return torchvision(model, path)


def keras(model: ResNet, path: str) -> str:
    """The name in `keras.applications`, of the first version: `conv2_block1_0_bn` is its first shortcut's norm.

    There every convolution has a bias and the norms have another epsilon, so the matching network is `resnet50(
    stride_first=True, unit=partial(ConvNormAct, conv_bias=True, epsilon=1.001e-5))`; its images are BGR minus a mean,
    in 0..255, as `keras.applications.resnet.preprocess_input` returns them.
    """
    if path in _KERAS:
        return _KERAS[path]
    stage, block, unit, is_norm = _parts(path)
    return f"conv{stage + 1}_block{block}_{unit}_{'bn' if is_norm else 'conv'}"


def _parts(path: str) -> tuple[int, int, int, bool]:
    """`stage1/block2/unit3/norm` -> 1, 2, 3, True; a shortcut is unit 0."""
    stage, block, unit, part = path.split("/")
    number = 0 if unit == "shortcut" else int(unit.removeprefix("unit"))
    return int(stage.removeprefix("stage")), int(block.removeprefix("block")), number, part == "norm"
