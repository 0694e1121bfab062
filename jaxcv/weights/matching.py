"""Match tensors by another library's names to the variables of a network, completely or not at all.

For every variable a naming scheme says which tensor belongs there; its layout is then converted (from torch's OIHW and
[out, in], or Keras's HWIO and depthwise [h w c m]). Missing, misshapen and unused tensors are listed by name.

A network saved as a part of another module has that part's name before every name, once or several times: `module.`,
`model.`, `student.`, `module.net.`. A prefix that all tensors have is removed if more of them match without it, and the
report says so.
"""

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcv.errors import UserError
from jaxcv.types import matches
from jaxcv.weights import names

IGNORED = r".*num_batches_tracked|(AuxLogits|aux[12])\..*"
"""Tensors that may be unused: torch's batch counters, and auxiliary heads if the network has none."""

_TORCH = ("torchvision", "torchvision_v1", "timm")
_TORCH_LEAVES = {"kernel": ["weight"], "scale": ["weight"], "bias": ["bias"]}
_TORCH_LEAVES |= {"mean": ["running_mean"], "var": ["running_var"]}
_KERAS_LEAVES = {"kernel": ["kernel", "depthwise_kernel"], "bias": ["bias"], "scale": ["gamma"]}
_KERAS_LEAVES |= {"mean": ["moving_mean"], "var": ["moving_variance"]}


@dataclass(frozen=True)
class Entry:
    """The status of one variable, or of one unused tensor."""

    path: str
    """Of the variable, such as `params/stem/conv/kernel`; empty for an unused tensor."""
    source: str
    """Name of the tensor, such as `conv1.weight`."""
    status: str
    """`matched`, `reshaped`, `randomly initialised` (skipped on purpose), `new, zero` (a head), `missing`,
    `wrong shape`, `not finite`, `unused`, `ignored`."""
    shape: tuple[int, ...] = ()
    """Of the variable, or of the unused tensor."""
    tensor_shape: tuple[int, ...] = ()
    """Of the tensor in the file."""


@dataclass(frozen=True)
class Report:
    """The status of every variable and every tensor."""

    scheme: str
    entries: tuple[Entry, ...]
    prefix: str = ""
    """Before every name in the file, and removed."""

    def having(self, *statuses: str) -> list[Entry]:
        """The entries with one of the given statuses."""
        return [entry for entry in self.entries if entry.status in statuses]

    @property
    def randomly_initialised(self) -> list[str]:
        """Paths of the variables that are not from the file: skipped ones, and a new head."""
        return [entry.path for entry in self.having("randomly initialised", "new, zero")]

    @property
    def summary(self) -> str:
        """One line: the number of each status, and the modules that were randomly initialised."""
        counts = Counter(entry.status for entry in self.entries)
        without = f" without their prefix {self.prefix!r}" if self.prefix else ""
        line = f"{self.scheme} names{without}: " + ", ".join(f"{count} {status}" for status, count in counts.items())
        parts = sorted({path.split("/")[1] for path in self.randomly_initialised})
        return line + (f" ({', '.join(parts)})" if parts else "")

    def lines(self) -> Iterator[str]:
        """The table: path, source, shapes, status."""
        for entry in self.entries:
            shapes = "x".join(map(str, entry.shape))
            if entry.tensor_shape not in ((), entry.shape):
                shapes += f" from {'x'.join(map(str, entry.tensor_shape))}"
            yield f"{entry.path or '-':<56} {entry.source or '-':<48} {shapes:<28} {entry.status}"


def match(
    model: Any,
    variables: Any,
    tensors: Mapping[str, np.ndarray],
    *,
    scheme: str | None = None,
    skip: str = "",
    ignore: str = IGNORED,
    file: str = "weights",
) -> tuple[dict[str, Any], Report]:
    """The variables with the values of a file's tensors.

    Args:
        model: the network; its class determines the names.
        variables: its variables, arrays or shapes of them.
        tensors: the file's, by name.
        scheme: `jaxcv`, `torchvision`, `timm` or `keras`; None: the one with most matches.
        skip: pattern over module paths, such as `head` or `stage4|head`, whose variables keep their values.
        ignore: pattern over tensor names that may be unused.
        file: name of the source in messages.

    Returns:
        The variables, and the report.

    Raises:
        UserError: If tensors are missing, unused, not finite or of another shape; they are listed by name.
    """
    known = names.of(model)
    if scheme is not None and scheme not in known:
        raise UserError(f"{file}: no {scheme} names are known for {type(model).__name__}, only {', '.join(known)}")
    tensors, prefix = without_prefix(model, variables, tensors, scheme=scheme)
    if scheme is None:
        scheme = max(known, key=lambda s: _hits(s, known[s], variables, tensors))
    entries, unused = [], dict(tensors)
    statistics = variables.get("batch_stats", {})
    flattened = names.flattened(model) if scheme in _TORCH else {}

    def leaf(key_path: Any, ours: Any) -> Any:
        keys = tuple(key.key for key in key_path)
        path, module = "/".join(keys), "/".join(keys[1:-1])
        wanted = _candidates(scheme, known[scheme], keys, statistics)
        source = next((name for name in wanted if name in tensors), None)
        if source is not None:
            unused.pop(source, None)
        if skip and matches(skip, module):
            entries.append(Entry(path, prefix + source if source else "", "randomly initialised", ours.shape))
            return ours
        if source is None:
            entries.append(Entry(path, " or ".join(wanted), "missing", ours.shape))
            return ours
        theirs, source = np.asarray(tensors[source]), prefix + source
        value, reshaped = _convert(theirs, keys[-1], ours.shape, scheme, flattened.get(module))
        if value is None:
            entries.append(Entry(path, source, "wrong shape", ours.shape, theirs.shape))
            return ours
        if not np.isfinite(value).all():
            entries.append(Entry(path, source, "not finite", ours.shape, theirs.shape))
            return ours
        entries.append(Entry(path, source, "reshaped" if reshaped else "matched", ours.shape, theirs.shape))
        return jnp.array(value, ours.dtype)  # a copy: the caller may change the tensor

    result = jax.tree_util.tree_map_with_path(leaf, dict(variables))
    for name, tensor in unused.items():
        status = "ignored" if re.fullmatch(ignore, name) else "unused"
        entries.append(Entry("", prefix + name, status, np.shape(tensor)))
    report = Report(scheme, tuple(entries), prefix)
    _refuse_partial(report, file, type(model).__name__)
    return result, report


def common_prefixes(tensors: Mapping[str, Any]) -> list[str]:
    """Common prefixes of all names that end at a separator, such as `module.` and `module.net.`; shortest first."""
    common = os.path.commonprefix([re.sub("[^./]+$", "", name) for name in tensors])
    return [common[: mark.end()] for mark in re.finditer("[./]", common)]


def without_prefix(
    model: Any, variables: Any, tensors: Mapping[str, np.ndarray], *, scheme: str | None = None
) -> tuple[Mapping[str, np.ndarray], str]:
    """The tensors without a common prefix of their names if more of them match so, and that prefix.

    Args:
        model: the network.
        variables: its variables, arrays or shapes of them, of which only the names are read.
        tensors: a file's, by name.
        scheme: as in `match`; None: any known for the network.
    """
    prefixes = common_prefixes(tensors)
    if not prefixes:
        return tensors, ""
    known = names.of(model)
    schemes = [scheme] if scheme is not None else [*known]

    def hits(prefix: str) -> tuple[int, Mapping[str, np.ndarray], str]:
        short = {name[len(prefix) :]: tensor for name, tensor in tensors.items()}
        return max(_hits(s, known[s], variables, short) for s in schemes), short, prefix

    _, short, prefix = max([hits(prefix) for prefix in ["", *prefixes]], key=lambda one: one[0])  # the first of equals
    return short, prefix


def _refuse_partial(report: Report, file: str, network: str) -> None:
    faults = []
    if missing := report.having("missing"):
        faults.append(f"no tensor for {_few([f'{e.path} (looked for {e.source})' for e in missing])}")
    if wrong := report.having("wrong shape"):
        listed = [f"{e.source} is {e.tensor_shape}, {e.path} is {e.shape}" for e in wrong]
        faults.append(f"wrong shape: {_few(listed)}")
    if broken := report.having("not finite"):
        faults.append(f"infinite or NaN values in {_few([e.source for e in broken])}")
    if unused := report.having("unused"):
        faults.append(f"unused: {_few([e.source for e in unused])}")
        parts = Counter(e.source.partition(".")[0] for e in unused if "." in e.source)
        if missing and not report.having("matched", "reshaped") and len(parts) > 1:
            faults.append(f"its names begin with {_few([f'{part}.' for part in parts])}: save the network alone")
    if faults:
        raise UserError(
            f"{file}: does not fit {network} ({report.scheme} names): {'; '.join(faults)}. Nothing was loaded; is it "
            "the right network, with the right options? `skip` leaves parts randomly initialised"
        )


def _few(items: list[str]) -> str:
    return ", ".join(items[:3]) + (f" and {len(items) - 3} more" if len(items) > 3 else "")


def _candidates(scheme: str, name_of: Callable[[str], str], keys: tuple[str, ...], statistics: Any) -> list[str]:
    """Possible names in a file of a variable such as (params, stem, conv, kernel)."""
    module, leaf = "/".join(keys[1:-1]), keys[-1]
    if scheme == "jaxcv":
        return ["/".join(keys)]
    theirs = name_of(module)
    if scheme in _TORCH:
        return [f"{theirs}.{name}" for name in _TORCH_LEAVES.get(leaf, [leaf])]
    for key in keys[1:-1]:
        statistics = statistics.get(key, {})
    of_norm = leaf == "bias" and "mean" in statistics
    return [f"{theirs}/{name}" for name in (["beta"] if of_norm else _KERAS_LEAVES.get(leaf, [leaf]))]


def _convert(
    tensor: np.ndarray, leaf: str, shape: tuple[int, ...], scheme: str, channels: int | None
) -> tuple[np.ndarray | None, bool]:
    """A tensor in jaxcv's layout, and whether it was reshaped rather than transposed only; None where it does not fit.

    `channels`: of the map that a dense layer reads flattened; torch flattens [c h w], jaxcv [h w c].
    """
    if leaf == "kernel" and scheme in _TORCH and tensor.ndim in (2, 4):
        if tensor.ndim == 2 and channels is not None and tensor.shape[1] % channels == 0:
            tensor = tensor.reshape(len(tensor), channels, -1).swapaxes(1, 2).reshape(tensor.shape)
        tensor = tensor.T if tensor.ndim == 2 else tensor.transpose(2, 3, 1, 0)
    if tensor.shape == shape:
        return tensor, False
    if scheme == "keras" and tensor.ndim == len(shape) == 4 and shape[2] == 1:  # depthwise [h w c m]
        tensor = tensor.reshape(*tensor.shape[:2], 1, -1)
    if leaf == "kernel" and tensor.ndim == 4 and len(shape) == 2 and tensor.shape[-1] == shape[1]:
        tensor = tensor.reshape(-1, shape[1])  # a dense layer stored as a convolution over the whole map
    if [n for n in tensor.shape if n != 1] == [n for n in shape if n != 1]:
        return tensor.reshape(shape), True
    return None, False


def _hits(scheme: str, name_of: Callable[[str], str], variables: Any, tensors: Mapping[str, Any]) -> int:
    """Number of variables that a file has under the names of a scheme."""
    statistics = variables.get("batch_stats", {})
    paths = [tuple(key.key for key in path) for path, _ in jax.tree_util.tree_leaves_with_path(dict(variables))]
    return sum(any(name in tensors for name in _candidates(scheme, name_of, keys, statistics)) for keys in paths)
