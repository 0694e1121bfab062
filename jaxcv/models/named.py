"""Networks that classify, by their names in `jaxcv.models`."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from jaxcv.errors import UserError, unknown_name

TRUNKS = (
    *("darknet19", "darknet53", "darknet_tiny", "extraction", "googlenet", "mobilenet_v1", "mobilenet_v2"),
    *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
    *("vgg11", "vgg11_bn", "vgg13", "vgg13_bn", "vgg16", "vgg16_bn", "vgg19", "vgg19_bn"),
)
"""Those with features of strides 8, 16 and 32, on which detectors stand."""
DETECTORS = ("fasterrcnn_resnet50_fpn",)
"""Whole detectors of which others publish weights."""


def names(*families: type) -> list[str]:
    """Names of all networks that classify, or of certain families: `names(models.VGG)` is `["vgg11", ...]`."""
    from jaxcv import models

    variants = {name: v for name in models.__all__ if isinstance(v := getattr(models, name), partial)}
    classifiers = {name: v.func for name, v in variants.items() if "anchor_boxes" not in v.func.__dataclass_fields__}
    return [name for name, family in classifiers.items() if not families or family in families]


def named(name: str, known: Iterable[str] | None = None) -> Callable[..., Any]:
    """The network of a name: what makes the module from its fields.

    Args:
        name: such as `resnet50`.
        known: the names that may be given, such as `names(models.VGG)` or `TRUNKS`; None: all.

    Raises:
        UserError: another name; says which one is near, and which there are.
    """
    from jaxcv import models

    known = names() if known is None else list(known)
    if name not in known:
        if name in names():
            raise UserError(f"network {name!r} does not fit here; those that do are {', '.join(known)}")
        message, there = unknown_name("network", name, known), f"there are {', '.join(known)}"
        raise UserError(message if there in message else f"{message} {there.capitalize()}")
    return getattr(models, name)
