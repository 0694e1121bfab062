"""A network as a table of its layers, from shapes alone."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxcv.models.layers import AvgPool, MaxPool


@dataclass(frozen=True)
class Row:
    """One layer, or one part of a network; per example."""

    path: str
    kind: str
    shape: tuple[int, ...]
    """Of its output, without the batch."""
    parameters: int
    multiply_adds: int

    @property
    def size(self) -> int:
        """Numbers in its output."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Summary:
    """Rows in the order of the computation; `str()` is the table."""

    network: str
    inputs: tuple[tuple[int, ...], ...]
    rows: tuple[Row, ...]
    parameters: int
    """Of the whole network, including parts that evaluation does not use (auxiliary heads)."""
    parts: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Output shape of each module, by path."""

    @property
    def multiply_adds(self) -> int:
        """Of one example in evaluation."""
        return sum(row.multiply_adds for row in self.rows)

    def to_depth(self, depth: int) -> "Summary":
        """Merge the rows whose paths have the same first `depth` names."""
        merged: dict[str, Row] = {}
        for row in self.rows:
            path = "/".join(row.path.split("/")[:depth])
            before = merged.pop(path, None)  # a module that is called again moves to its last call
            merged[path] = Row(
                path,
                row.kind if path == row.path else "",
                self.parts.get(path, row.shape),
                row.parameters + (before.parameters if before else 0),
                row.multiply_adds + (before.multiply_adds if before else 0),
            )
        return Summary(self.network, self.inputs, tuple(merged.values()), self.parameters, self.parts)

    def shortened(self, rows: int = 40) -> "Summary":
        """The largest depth with at most so many rows, and at least 1."""
        deepest = max((row.path.count("/") + 1 for row in self.rows), default=1)
        for depth in range(deepest, 1, -1):
            if len((short := self.to_depth(depth)).rows) <= rows:
                return short
        return self.to_depth(1)

    def __str__(self) -> str:
        lines = [("layer", "kind", "activation", "size", "parameters", "multiply-adds")]
        lines += [("input", "", _text(shape), f"{math.prod(shape):,}", "0", "0") for shape in self.inputs]
        lines += [
            (r.path, r.kind, _text(r.shape), f"{r.size:,}", f"{r.parameters:,}", f"{r.multiply_adds:,}")
            for r in self.rows
        ]
        unused = self.parameters - sum(row.parameters for row in self.rows)
        if unused:
            lines.append(("(not in evaluation)", "", "", "", f"{unused:,}", ""))
        lines.append((self.network, "", "", "", f"{self.parameters:,}", f"{self.multiply_adds:,}"))
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        text = [
            "  ".join(cell.ljust(width) if i < 2 else cell.rjust(width) for i, (cell, width) in enumerate(cells))
            for cells in (zip(line, widths, strict=True) for line in lines)
        ]
        rule = "-" * sum(widths, 2 * (len(widths) - 1))
        return "\n".join([text[0], rule, *text[1:-1], rule, text[-1]])


def summary(model: nn.Module, *shapes: tuple[int, ...]) -> Summary:
    """Activation shape and size, parameters and multiply-adds of every layer, in evaluation of one example.

    A layer is a module that has parameters of its own, or pools. Multiply-adds are those of its `kernel`: entries of
    the kernel times positions of the output (of the input for a transposed convolution); normalisation, activation and
    biases are not counted, as in the papers.

    Args:
        model: any Linen module that is called like those of `jaxcv.models`.
        shapes: of each input without the batch, such as `(224, 224, 3)`.

    Returns:
        The table.
    """
    inputs = [jax.ShapeDtypeStruct((1, *shape), jnp.float32) for shape in shapes]
    variables = jax.eval_shape(lambda *x: model.init(jax.random.key(0), *x, train=False), *inputs)
    params = variables.get("params", {})
    calls: list[Row] = []
    parts: dict[str, tuple[int, ...]] = {}

    def record(method: Any, args: Any, kwargs: Any, context: Any) -> Any:
        out = method(*args, **kwargs)
        module, path = context.module, context.module.path
        own = _own(params, path)
        if context.method_name != "__call__" or not path:
            return out
        array = jax.tree.leaves(out)[0]
        parts["/".join(path)] = array.shape[1:]
        if own or isinstance(module, MaxPool | AvgPool):
            again = any(row.path == "/".join(path) for row in calls)
            positions = (args[0] if "Transpose" in type(module).__name__ else array).shape[1:-1]
            work = own["kernel"].size * math.prod(positions) if "kernel" in own else 0
            count = 0 if again else sum(leaf.size for leaf in own.values())
            calls.append(Row("/".join(path), type(module).__name__, array.shape[1:], count, work))
        return out

    with nn.intercept_methods(record):
        jax.eval_shape(lambda v, *x: model.apply(v, *x, train=False), variables, *inputs)
    total = sum(leaf.size for leaf in jax.tree.leaves(params))
    return Summary(type(model).__name__, tuple(shapes), tuple(calls), total, parts)


def _own(params: Any, path: tuple[str, ...]) -> dict[str, Any]:
    """A module's parameters without those of its submodules."""
    for name in path:
        params = params.get(name, {}) if isinstance(params, Mapping) else {}
    return dict(_leaves(params))


def _leaves(params: Any) -> Iterator[tuple[str, Any]]:
    for name, leaf in params.items():
        if not isinstance(leaf, Mapping):
            yield name, leaf


def _text(shape: tuple[int, ...]) -> str:
    return "(" + ", ".join(map(str, shape)) + ")"
