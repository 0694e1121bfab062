"""Names of Faster R-CNN's layers in torchvision, over a ResNet with a feature pyramid."""

from jaxcv.models import FasterRCNN, ResNet
from jaxcv.weights.names import resnet

_NAMES = {
    "rpn/conv": "rpn.head.conv.0.0",
    "rpn/objectness": "rpn.head.cls_logits",
    "rpn/deltas": "rpn.head.bbox_pred",
    "head/fc6": "roi_heads.box_head.fc6",
    "head/fc7": "roi_heads.box_head.fc7",
    "head/classes": "roi_heads.box_predictor.cls_score",
    "head/deltas": "roi_heads.box_predictor.bbox_pred",
}


def torchvision(model: FasterRCNN, path: str) -> str:
    """torchvision's name of a module: `fpn/lateral2` -> `backbone.fpn.inner_blocks.1.0`."""
    part, _, rest = path.partition("/")
    if part == "backbone":
        return f"backbone.body.{resnet.torchvision(ResNet(), rest)}"
    if part == "fpn":
        kind = "inner_blocks" if rest.startswith("lateral") else "layer_blocks"
        return f"backbone.fpn.{kind}.{int(rest.lstrip('lateroup')) - 1}.0"
    return _NAMES.get(path, path)


def torchvision_v1(model: FasterRCNN, path: str) -> str:
    """The name in files published before torchvision 0.14, such as `fasterrcnn_resnet50_fpn_coco-258fb6c6.pth`."""
    if path == "rpn/conv":
        return "rpn.head.conv"
    name = torchvision(model, path)
    return name.removesuffix(".0") if path.startswith("fpn/") else name


def flattened(model: FasterRCNN) -> dict[str, int]:
    """Module path of the dense layer that reads a flattened map, and the map's channels."""
    return {} if model.pyramid_channels is None else {"head/fc6": model.pyramid_channels}
