"""Names of the layers of GoogLeNet and Inception v3 in other libraries."""

from jaxcv.models import GoogLeNet, InceptionV3

_STEM = {"conv1": "conv1", "conv2_reduce": "conv2", "conv2": "conv3", "head": "fc"}
_BRANCHES = {
    "branch1x1": "branch1",
    "branch3x3_reduce": "branch2.0",
    "branch3x3": "branch2.1",
    "branch5x5_reduce": "branch3.0",
    "branch5x5": "branch3.1",
    "branch_pool": "branch4.1",
}


def torchvision(model: GoogLeNet | InceptionV3, path: str) -> str:
    """torchvision's name of a module.

    GoogLeNet: `conv2/norm` -> `conv3.bn`, `inception3a/branch5x5/conv` -> `inception3a.branch3.1.conv`. Inception v3
    has torchvision's names, but for `norm` and `head`.
    """
    parts = ["bn" if part == "norm" else part for part in path.split("/")]
    if isinstance(model, InceptionV3):
        return ".".join("fc" if part == "head" else part for part in parts)
    if parts[0].startswith("inception"):
        parts[1] = _BRANCHES[parts[1]]
    else:
        parts[0] = _STEM.get(parts[0], parts[0])
    return ".".join(parts)


def timm(model: InceptionV3, path: str) -> str:
    """timm's name: the same as torchvision's."""
    return torchvision(model, path)


def flattened(model: GoogLeNet) -> dict[str, int]:
    """Channels of the flattened maps that the auxiliary heads' first dense layers read."""
    return {"aux1/fc1": 128, "aux2/fc1": 128} if model.aux_logits else {}
