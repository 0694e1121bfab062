"""Which trials a sweep consists of.

Trial `n` is a function of the space, the sampler's seed, `n` and, for TPE and CMA-ES, the results of ended trials. So a
sweep that was killed and restarted has the same trials as one that was not: always for grids, a file's own trials and
random search; for TPE and CMA-ES if trials run one after another.
"""

import hashlib
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jaxcv.errors import UserError
from jaxcv.sweep.space import Range, Space, former_folder_name, trials

KINDS = ("grid", "random", "tpe", "cmaes")
_DIGITS = 5
"""Significant digits of a value drawn from a range, which becomes part of a folder's name."""
_LISTABLE = 100_000
"""Spaces of at most so many combinations are sampled without replacement."""


@dataclass(frozen=True)
class Search:
    """The trials of a sweep, `count` of them."""

    kind: str
    """One of `KINDS`."""
    count: int
    space: Space = field(default_factory=dict)
    """Alternatives and ranges that random search, TPE and CMA-ES draw from."""
    listed: Sequence[Mapping[str, Any]] = ()
    """Overrides of every trial, except for TPE and CMA-ES."""
    seed: int = 0
    """Of the sampler."""

    @property
    def learns(self) -> bool:
        """Whether a trial's values depend on the results of others."""
        return self.kind in ("tpe", "cmaes")

    @property
    def digest(self) -> str:
        """Eight hexadecimal digits that identify space and kind, whatever the number of trials."""
        if self.kind == "grid":
            text = "\n".join(sorted(former_folder_name(trial) for trial in self.listed))
        else:
            text = repr((self.kind, self.seed, [(n, str(v)) for n, v in self.space.items()]))
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    def decode(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Overrides from Optuna's parameters, in the order of the signature."""
        overrides = {}
        for name in self._names():
            if name in params:
                known = self._alternatives(name)
                overrides[name] = next(
                    (v for v in known if encode(v) == params[name] and _same_kind(v, params[name])), None
                )
                if overrides[name] is None:
                    overrides[name] = params[name]
        return overrides

    def representatives(self) -> list[dict[str, Any]]:
        """Trials that together need every program of the sweep, as far as known before it runs."""
        if self.listed:
            return [dict(trial) for trial in self.listed]
        few = {n: v if _is_static(v) else [_first(v)] for n, v in self.space.items()}
        return list(itertools.islice(iter(trials(few)), 256))

    def _names(self) -> list[str]:
        return list(self.space) if self.kind != "grid" else list(dict.fromkeys(n for t in self.listed for n in t))

    def _alternatives(self, name: str) -> Sequence[Any]:
        if self.kind == "grid":
            return [trial[name] for trial in self.listed if name in trial]
        values = self.space[name]
        return () if isinstance(values, Range) else values


def make_search(
    space: Space,
    *,
    kind: str | None = None,
    count: int | None = None,
    seed: int = 0,
    own: Sequence[Mapping[str, Any]] | None = None,
) -> Search:
    """The search for the given options.

    Args:
        space: alternatives and ranges by name.
        kind: one of `KINDS`; None: a grid without ranges, TPE with them.
        count: number of trials; a grid has all of them.
        seed: of the sampler.
        own: trials of the experiment file's `sweep()`, instead of a space.

    Raises:
        UserError: If the kind is unknown, a grid has a range, or a search has no number of trials or nothing to search.
    """
    ranges = [f"{name}={values}" for name, values in space.items() if isinstance(values, Range)]
    kind = kind or ("tpe" if ranges else "grid")
    if kind not in KINDS:
        raise UserError(f"--search {kind}: expected one of {', '.join(KINDS)}")
    if own is not None:
        if kind != "grid" or ranges:
            raise UserError(
                f"{ranges[0] if ranges else f'--search {kind}'}: --sweep runs the file's own list of trials"
            )
        return Search("grid", len(own), listed=own)
    if kind == "grid":
        if ranges:
            raise UserError(f"{ranges[0]}: a grid takes values, not ranges; --search random or tpe searches them")
        listed = trials(space)
        if count is not None and count < len(listed):
            raise UserError(f"--trials {count}: the grid has {len(listed)} trials; --search random takes some of them")
        return Search("grid", len(listed), listed=listed)
    if count is None:
        searched = ranges[0] if ranges else f"--search {kind}"
        raise UserError(f"{searched}: how many trials? Give --trials N")
    if count < 1:
        raise UserError(f"--trials {count}: expected at least 1")
    if not any(isinstance(values, Range) or len(values) > 1 for values in space.values()):
        raise UserError(f"--search {kind}: nothing to search; give a range or alternatives, as lr=log(1e-4,1e-1)")
    if kind != "random":
        return Search(kind, count, space, seed=seed)
    listed = list(itertools.islice(_drawn(space, seed), count))
    return Search(kind, len(listed), space, listed, seed)


def encode(value: Any) -> Any:
    """A value as Optuna can store it: anything but numbers, strings, booleans and None becomes its `repr`."""
    return value if value is None or isinstance(value, bool | int | float | str) else repr(value)


def _drawn(space: Space, seed: int) -> Iterator[dict[str, Any]]:
    """Random trials, without replacement if the space is finite and small enough to list."""
    lists = [_finite(values) for values in space.values()]
    sizes = [len(values) for values in lists if values is not None]
    if len(sizes) == len(lists) and math.prod(sizes) <= _LISTABLE:
        for index in np.random.default_rng(seed).permutation(math.prod(sizes)).tolist():
            indices = np.unravel_index(index, sizes)
            yield {n: values[int(i)] for n, values, i in zip(space, lists, indices, strict=True) if values is not None}
        return
    for number in itertools.count():
        rng = np.random.default_rng([seed, number])
        yield {name: _draw(values, rng) for name, values in space.items()}


def _finite(values: Sequence[Any] | Range) -> Sequence[Any] | None:
    if not isinstance(values, Range):
        return values
    if values.log or not (values.integer or values.step) or (count := _size(values)) >= _LISTABLE:
        return None
    return [_value(values, i) for i in range(count)]


def _size(values: Range) -> int:
    """Number of values of a range with steps."""
    return int((values.high - values.low) / (values.step or 1) + 1e-9) + 1


def _value(values: Range, i: int) -> int | float:
    value = values.low + (values.step or 1) * i
    return int(value) if values.integer else round(float(value), 12)


def _draw(values: Sequence[Any] | Range, rng: np.random.Generator) -> Any:
    if not isinstance(values, Range):
        return values[int(rng.integers(len(values)))]
    if values.integer and values.log:
        drawn = math.exp(rng.uniform(math.log(values.low - 0.5), math.log(values.high + 0.5)))
        return int(min(max(round(drawn), values.low), values.high))
    if values.integer or values.step is not None:
        return _value(values, int(rng.integers(_size(values))))
    drawn = rng.uniform(math.log(values.low), math.log(values.high)) if values.log else None
    return rounded(math.exp(drawn) if drawn is not None else rng.uniform(values.low, values.high), values)


def rounded(value: float, ends: Any) -> float:
    """A number rounded to the digits of folder names, and clipped to `low` and `high` of `ends`."""
    return min(max(float(f"{value:.{_DIGITS}g}"), float(ends.low)), float(ends.high))


def _same_kind(value: Any, stored: Any) -> bool:
    """Whether the types agree: 1, 1.0 and True are equal."""
    return type(encode(value)) is type(stored)


def _is_static(values: Sequence[Any] | Range) -> bool:
    return not isinstance(values, Range) and not all(isinstance(v, float) for v in values)


def _first(values: Sequence[Any] | Range) -> Any:
    if not isinstance(values, Range):
        return values[0]
    return int(values.low) if values.integer else float(values.low)
