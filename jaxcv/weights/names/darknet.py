"""The order of layers in Darknet's files, which have no names."""

from collections.abc import Callable
from typing import Any

from jaxcv.models import Darknet53, PlainDarknet, YOLOv2, YOLOv3


def order(model: Any) -> list[str]:
    """Module paths in the order of the network's configuration file in Darknet; empty if not known."""
    known: dict[type, Callable[[Any], list[str]]] = {
        PlainDarknet: _plain,
        Darknet53: _darknet53,
        YOLOv2: _v2,
        YOLOv3: _v3,
    }
    return known[type(model)](model) if type(model) in known else []


def _plain(model: PlainDarknet) -> list[str]:
    count = sum(not isinstance(layer, str) for layer in model.layers)
    return [*(f"conv{i}" for i in range(1, count + 1)), "head"]


def _darknet53(model: Darknet53) -> list[str]:
    paths = ["stem"]
    for i, size in enumerate(model.stage_sizes, start=1):
        paths.append(f"stage{i}_down")
        for j in range(1, size + 1):
            paths += [f"stage{i}_reduce{j}", f"stage{i}_conv{j}"]
    return [*paths, "head"]


def _trunk(default: list[str], model: Any) -> list[str]:
    paths = default if model.backbone is None else order(model.backbone)
    return [f"backbone/{path}" for path in paths if path != "head"]


def _v2(model: YOLOv2) -> list[str]:
    trunk = _trunk(_plain(PlainDarknet()), model)
    return [*trunk, "conv19", "conv20", "conv21", "conv22", "head"] if trunk else []


def _v3(model: YOLOv3) -> list[str]:
    tiny = len(model.stages) == 2
    trunk = _trunk([f"conv{i}" for i in range(1, 8)] if tiny else _darknet53(Darknet53()), model)
    paths = []
    for i in range(len(model.stages), 0, -1):
        paths += [f"lateral{i}"] * (i < len(model.stages))
        paths += [f"neck{i}_conv{j}" for j in range(1, model.neck_depths[i - 1] + 1)]
        paths += [f"neck{i}_last", f"head{i}"]
    return [*trunk, *paths] if trunk else []
