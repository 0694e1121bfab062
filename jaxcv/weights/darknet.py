"""Darknet's `.weights` files: numbers without names, in the order of the network's layers.

A header of three int32 (major, minor and revision of Darknet) and the number of images trained with (int64 from version
0.2 on, int32 before), then float32: for each convolution with batch normalisation its bias, scale, mean and variance,
for others their bias; then the kernel, [out in height width]. The file does not say what its numbers are, so the only
check is that their count is the network's.
"""

import math
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxcv.errors import DataError, UserError
from jaxcv.weights.names import darknet as names


def is_darknet(source: str | Path) -> bool:
    """Whether a file is one of Darknet's, by its name."""
    return Path(source).suffix == ".weights"


def read_darknet(path: str | Path, model: Any, shapes: Any) -> dict[str, np.ndarray]:
    """The arrays of a file by jaxcv's names, `params/conv1/conv/kernel`, in jaxcv's layout.

    Args:
        path: a file of the network, of any number of classes; or one that ends with some layer before the heads, such
            as published backbones (`darknet19_448.conv.23`).
        model: `darknet19`, `darknet53`, `YOLOv2`, `YOLOv3` and others of their families, over backbones of Darknet's.
        shapes: a function from a network to the shapes of its variables.

    Returns:
        Name to float32 array; layers that the file does not have are left out.

    Raises:
        UserError: If the order of the network's layers is not known.
        DataError: If there is no such file, it is not Darknet's, or the count of its numbers is not the network's.
    """
    path = Path(path).expanduser()
    order = names.order(model)
    if not order:
        raise UserError(f"{path}: the order of {type(model).__name__}'s layers in Darknet's files is not known")
    numbers = _numbers(path)
    layout = _file_order(order, shapes(model))
    total = sum(math.prod(shape) for _, shape in layout)
    if len(numbers) != total and hasattr(model, "num_classes"):
        layout = _with_its_classes(model, order, shapes, len(numbers)) or layout
    arrays, start = {}, 0
    for name, shape in layout:
        if start == len(numbers):
            return arrays  # a backbone: `match` decides whether these layers suffice
        end = start + math.prod(shape)
        if end > len(numbers):
            raise DataError(
                f"holds {len(numbers):,} numbers and ends within {name}; {type(model).__name__} with "
                f"{model.num_classes} classes has {total:,}: another network, or truncated",
                file=path,
            )
        value = numbers[start:end]
        if name.endswith("kernel"):
            *window, inputs, outputs = shape if len(shape) == 4 else (1, 1, *shape)
            value = value.reshape(outputs, inputs, *window).transpose(2, 3, 1, 0)
        arrays[name], start = value.reshape(shape), end
    if start != len(numbers):
        raise DataError(f"holds {len(numbers):,} numbers, {len(numbers) - start:,} more than the network", file=path)
    return arrays


def _numbers(path: Path) -> np.ndarray:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", file=path) from None
    head = np.frombuffer(data[:12], "<i4")
    if len(head) < 3 or not all(0 <= number < 1000 for number in head):
        raise DataError("does not begin with a version of Darknet: not one of its files, or damaged", file=path)
    start = 20 if head[0] * 10 + head[1] >= 2 else 16
    if len(data) < start or (len(data) - start) % 4:
        raise DataError(f"{len(data):,} bytes are not a header and whole float32: truncated", file=path)
    return np.frombuffer(data, "<f4", offset=start)


def _file_order(order: list[str], variables: Any) -> list[tuple[str, tuple[int, ...]]]:
    """Name and shape of every array, in the order of the file."""
    layout = []
    for path in order:
        params, statistics = variables["params"], variables.get("batch_stats", {})
        for key in path.split("/"):
            params, statistics = params[key], statistics.get(key, {})
        if "norm" in params:
            parts = [("params", "norm/bias"), ("params", "norm/scale")]
            parts += [("batch_stats", "norm/mean"), ("batch_stats", "norm/var"), ("params", "conv/kernel")]
        else:
            parts = [("params", "bias"), ("params", "kernel")]
        for kind, name in parts:
            leaf: Any = params if kind == "params" else statistics
            for key in name.split("/"):
                leaf = leaf[key]
            layout.append((f"{kind}/{path}/{name}", tuple(leaf.shape)))
    return layout


def _with_its_classes(
    model: Any, order: list[str], shapes: Any, count: int
) -> list[tuple[str, tuple[int, ...]]] | None:
    """Names and shapes of the arrays if the count is this network's with another number of classes; else None."""

    def total(classes: int) -> int:
        return sum(math.prod(shape) for _, shape in _file_order(order, shapes(model.clone(num_classes=classes))))

    one = total(1)
    more, rest = divmod(count - one, total(2) - one)
    if rest or more < 0 or more > 100_000:
        return None
    return _file_order(order, shapes(model.clone(num_classes=1 + more)))


def write_darknet(path: str | Path, model: Any, variables: Any, *, seen: int = 0) -> None:
    """Write variables in Darknet's format, version 0.2.0: the inverse of reading.

    Args:
        path: of the file.
        model: as for `read_darknet`.
        variables: of the network.
        seen: number of images it was trained with.

    Raises:
        UserError: If the order of the network's layers is not known.
    """
    order = names.order(model)
    if not order:
        raise UserError(f"{path}: the order of {type(model).__name__}'s layers in Darknet's files is not known")
    leaves = {
        "/".join(key.key for key in keys): np.asarray(leaf)
        for keys, leaf in jax.tree_util.tree_leaves_with_path(dict(variables))
    }
    with open(path, "wb") as file:
        file.write(np.asarray([0, 2, 0], "<i4").tobytes() + np.asarray([seen], "<i8").tobytes())
        for name, _ in _file_order(order, variables):
            value = leaves[name]
            if name.endswith("kernel"):
                value = value.reshape(*(1,) * (4 - value.ndim), *value.shape).transpose(3, 2, 0, 1)
            file.write(np.ascontiguousarray(value, "<f4").tobytes())
