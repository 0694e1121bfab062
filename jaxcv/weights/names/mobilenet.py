"""Names of the MobileNets' layers in other libraries."""

from jaxcv.models import MobileNetV1, MobileNetV2

_ORDER = {"expand": 0, "depthwise": 1, "project": 2}
_TIMM_STAGES = (1, 2, 2, 6, 2)  # version 1 has no stages of its own


def torchvision(model: MobileNetV2, path: str) -> str:
    """torchvision's name of a module: indices into a list of blocks, each a list of layers.

    `block2/expand/norm` -> `features.2.conv.0.1`, `block2/project/conv` -> `features.2.conv.2`.
    """
    if path == "head":
        return "classifier.1"
    *block, unit, part = path.split("/")
    norm = int(part == "norm")
    if not block:
        return f"features.{0 if unit == 'stem' else sum(_blocks(model)) + 1}.{norm}"
    number = _number(block[0])
    index = _ORDER[unit] - (number == 1)  # the first block has no `expand`
    # The last convolution and its norm are separate layers, not a nested list.
    layer = f"{index + norm}" if unit == "project" else f"{index}.{norm}"
    return f"features.{number}.conv.{layer}"


def timm(model: MobileNetV1 | MobileNetV2, path: str) -> str:
    """timm's name: `block5/depthwise/norm` -> `blocks.2.1.bn1` (version 1), `blocks.2.1.bn2` (version 2)."""
    if path == "head":
        return "classifier"
    *block, unit, part = path.split("/")
    if not block:
        return {"stem/conv": "conv_stem", "stem/norm": "bn1", "last/conv": "conv_head", "last/norm": "bn2"}[path]
    sizes = _blocks(model) if isinstance(model, MobileNetV2) else _TIMM_STAGES
    number, stage = _number(block[0]) - 1, 0
    while number >= sizes[stage]:
        number, stage = number - sizes[stage], stage + 1
    if isinstance(model, MobileNetV1) or stage == 0:  # depthwise separable, without `expand`
        layer = {"depthwise": ("conv_dw", "bn1"), "pointwise": ("conv_pw", "bn2"), "project": ("conv_pw", "bn2")}
    else:
        layer = {"expand": ("conv_pw", "bn1"), "depthwise": ("conv_dw", "bn2"), "project": ("conv_pwl", "bn3")}
    return f"blocks.{stage}.{number}.{layer[unit][part == 'norm']}"


def keras(model: MobileNetV1 | MobileNetV2, path: str) -> str:
    """The name in `keras.applications`.

    `block3/pointwise/norm` -> `conv_pw_3_bn` (version 1), `block3/project/norm` -> `block_2_project_BN` (version 2).
    """
    if isinstance(model, MobileNetV1):
        if path == "head":
            return "conv_preds"
        *block, unit, part = path.split("/")
        name = {"depthwise": "conv_dw", "pointwise": "conv_pw"}[unit] + f"_{_number(block[0])}" if block else "conv1"
        return name + ("_bn" if part == "norm" else "")
    ends = {"stem/conv": "Conv1", "stem/norm": "bn_Conv1", "last/conv": "Conv_1", "last/norm": "Conv_1_bn"}
    ends["head"] = "predictions"
    if path in ends:
        return ends[path]
    block, unit, part = path.split("/")
    name = f"block_{_number(block) - 1}" if _number(block) > 1 else "expanded_conv"
    return f"{name}_{unit}" + ("_BN" if part == "norm" else "")


def _blocks(model: MobileNetV2) -> list[int]:
    return [count for _, _, count, _ in model.stages]


def _number(block: str) -> int:
    return int(block.removeprefix("block"))
