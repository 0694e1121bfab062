"""Tensors under somebody else's names, put into the variables of one of our networks, completely or not at all.

For every leaf of our tree the rules of a naming scheme say which tensor belongs there; its layout is then turned into
ours (torch: OIHW and [out, in]; Keras: HWIO, depthwise [h w c m]). What a file lacks, has in another shape, or has too
much is named, leaf by leaf.

A network saved as a part of something else has that part's name before every name, once or several times: `module.`,
`model.`, `student.`, `module.net.`. A prefix that all tensors have is taken off where more tensors find a place
without it, and the report says so.
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
"""Tensors that a network can do without: torch's batch counters, and auxiliary heads where the network has none."""

_TORCH = ("torchvision", "timm")
_TORCH_LEAVES = {"kernel": ["weight"], "scale": ["weight"], "bias": ["bias"]}
_TORCH_LEAVES |= {"mean": ["running_mean"], "var": ["running_var"]}
_KERAS_LEAVES = {"kernel": ["kernel", "depthwise_kernel"], "bias": ["bias"], "scale": ["gamma"]}
_KERAS_LEAVES |= {"mean": ["moving_mean"], "var": ["moving_variance"]}


@dataclass(frozen=True)
class Entry:
    """What became of one leaf of our tree, or of one tensor of the file."""

    path: str
    """Ours, such as `params/stem/conv/kernel`; empty for a tensor that is left over."""
    source: str
    """Theirs, such as `conv1.weight`."""
    status: str
    """`matched`, `reshaped`, `randomly initialised` (skipped on purpose), `new, zero` (a head), `missing`,
    `wrong shape`, `not finite`, `left over`, `ignored`."""
    shape: tuple[int, ...] = ()
    """Ours, or that of a tensor that is left over."""
    found: tuple[int, ...] = ()
    """The tensor's own shape."""


@dataclass(frozen=True)
class Report:
    """Where every variable came from, and every tensor went."""

    scheme: str
    entries: tuple[Entry, ...]
    prefix: str = ""
    """What stands before every name in the file, and was taken off."""

    def having(self, *statuses: str) -> list[Entry]:
        """The entries with one of the given statuses."""
        return [entry for entry in self.entries if entry.status in statuses]

    @property
    def randomly_initialised(self) -> list[str]:
        """Paths of the variables that the file has nothing for: fresh ones, and a new head."""
        return [entry.path for entry in self.having("randomly initialised", "new, zero")]

    @property
    def summary(self) -> str:
        """One line: how many of each status, and what was randomly initialised."""
        counts = Counter(entry.status for entry in self.entries)
        without = f" without their prefix {self.prefix!r}" if self.prefix else ""
        line = f"{self.scheme} names{without}: " + ", ".join(f"{count} {status}" for status, count in counts.items())
        parts = sorted({path.split("/")[1] for path in self.randomly_initialised})
        return line + (f" ({', '.join(parts)})" if parts else "")

    def lines(self) -> Iterator[str]:
        """The table: path, source, shapes, status."""
        for entry in self.entries:
            shapes = "x".join(map(str, entry.shape))
            if entry.found not in ((), entry.shape):
                shapes += f" from {'x'.join(map(str, entry.found))}"
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
        model: the network; its family decides which names are looked for.
        variables: its variables, arrays or shapes of them.
        tensors: the file's, by name.
        scheme: `jaxcv`, `torchvision`, `timm` or `keras`; None: the one that finds most.
        skip: pattern over our module paths, such as `head` or `stage4|head`: these keep the values they have.
        ignore: pattern over tensor names that may be left over.
        file: what messages call the source.

    Returns:
        The variables, and what came from where.

    Raises:
        UserError: variables without a tensor, tensors of another shape, or tensors that nobody asked for; by name.
    """
    known = names.of(model)
    if scheme is not None and scheme not in known:
        raise UserError(f"{file}: no {scheme} names are known for {type(model).__name__}; there are {', '.join(known)}")
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
        return jnp.array(value, ours.dtype)  # a copy: the caller may change theirs

    result = jax.tree_util.tree_map_with_path(leaf, dict(variables))
    for name, tensor in unused.items():
        status = "ignored" if re.fullmatch(ignore, name) else "left over"
        entries.append(Entry("", prefix + name, status, np.shape(tensor)))
    report = Report(scheme, tuple(entries), prefix)
    _refuse_half(report, file, type(model).__name__)
    return result, report


def common_prefixes(tensors: Mapping[str, Any]) -> list[str]:
    """What could be taken off every name and leave one, such as `module.` and `module.net.`; shortest first."""
    common = os.path.commonprefix([re.sub("[^./]+$", "", name) for name in tensors])
    return [common[: mark.end()] for mark in re.finditer("[./]", common)]


def without_prefix(
    model: Any, variables: Any, tensors: Mapping[str, np.ndarray], *, scheme: str | None = None
) -> tuple[Mapping[str, np.ndarray], str]:
    """The tensors by the names that they would have if the network had been saved alone, and what was taken off.

    Args:
        model: the network.
        variables: its variables, arrays or shapes of them, of which only the names are read.
        tensors: a file's, by name.
        scheme: whose names; None: any known for the network.
    """
    prefixes = common_prefixes(tensors)
    if not prefixes:
        return tensors, ""
    known = names.of(model)
    schemes = [scheme] if scheme is not None else [*known]

    def found(prefix: str) -> tuple[int, Mapping[str, np.ndarray], str]:
        short = {name[len(prefix) :]: tensor for name, tensor in tensors.items()}
        return max(_hits(s, known[s], variables, short) for s in schemes), short, prefix

    _, short, prefix = max([found(prefix) for prefix in ["", *prefixes]], key=lambda one: one[0])  # the first of equals
    return short, prefix


def _refuse_half(report: Report, file: str, network: str) -> None:
    faults = []
    if missing := report.having("missing"):
        faults.append(f"no tensor for {_few([f'{e.path} (looked for {e.source})' for e in missing])}")
    if wrong := report.having("wrong shape"):
        listed = [f"{e.source} is {e.found}, {e.path} is {e.shape}" for e in wrong]
        faults.append(f"wrong shape: {_few(listed)}")
    if broken := report.having("not finite"):
        faults.append(f"infinite or NaN values in {_few([e.source for e in broken])}")
    if over := report.having("left over"):
        faults.append(f"nobody asked for {_few([e.source for e in over])}")
        parts = Counter(e.source.partition(".")[0] for e in over if "." in e.source)
        if missing and not report.having("matched", "reshaped") and len(parts) > 1:
            faults.append(f"its names begin with {_few([f'{part}.' for part in parts])}: save the network's part alone")
    if faults:
        raise UserError(
            f"{file}: does not fit {network} ({report.scheme} names): {'; '.join(faults)}. Nothing was loaded; is it "
            "the right network, with the right options? `skip` leaves parts randomly initialised"
        )


def _few(items: list[str]) -> str:
    return ", ".join(items[:3]) + (f" and {len(items) - 3} more" if len(items) > 3 else "")


def _candidates(scheme: str, name_of: Callable[[str], str], keys: tuple[str, ...], statistics: Any) -> list[str]:
    """The names under which a leaf of ours, such as (params, stem, conv, kernel), may stand in a file."""
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
    """A tensor in our layout, and whether its shape changed other than by turning; None where it does not fit.

    `channels`: of the map that a dense layer reads flattened; torch flattens [c h w], we [h w c].
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
        tensor = tensor.reshape(-1, shape[1])  # a dense layer kept as a convolution over the whole map
    if [n for n in tensor.shape if n != 1] == [n for n in shape if n != 1]:
        return tensor.reshape(shape), True
    return None, False


def _hits(scheme: str, name_of: Callable[[str], str], variables: Any, tensors: Mapping[str, Any]) -> int:
    """How many of our leaves a file has under the names of a scheme."""
    statistics = variables.get("batch_stats", {})
    paths = [tuple(key.key for key in path) for path, _ in jax.tree_util.tree_leaves_with_path(dict(variables))]
    return sum(any(name in tensors for name in _candidates(scheme, name_of, keys, statistics)) for keys in paths)
