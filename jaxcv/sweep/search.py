"""Which trials a sweep consists of.

Trial `n` is a function of the space, the sampler's seed, `n` and, where the search learns, of the trials that have
ended. So a sweep that was killed and started again has the trials of one that was not: a grid, the file's own trials
and a random search always; TPE and CMA-ES where trials run one after another.
"""

import hashlib
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jaxcv.errors import UserError
from jaxcv.sweep.space import Range, Space, folder_name, trials

KINDS = ("grid", "random", "tpe", "cmaes")
_DIGITS = 5
"""Of a value drawn from a range: it becomes the name of a folder."""
_LISTABLE = 100_000


@dataclass(frozen=True)
class Search:
    """The trials of a sweep, `count` of them."""

    kind: str
    """One of `KINDS`."""
    count: int
    space: Space = field(default_factory=dict)
    """What random, TPE and CMA-ES draw from."""
    listed: Sequence[Mapping[str, Any]] = ()
    """Overrides of every trial, where they are known before the first one has run."""
    seed: int = 0
    """Of the sampler."""

    @property
    def learns(self) -> bool:
        """Whether a trial's values depend on how others went."""
        return self.kind in ("tpe", "cmaes")

    @property
    def digest(self) -> str:
        """Eight hexadecimal digits of what is searched and how, whatever the number of trials drawn."""
        if self.kind == "grid":
            text = "\n".join(sorted(folder_name(trial) for trial in self.listed))
        else:
            text = repr((self.kind, self.seed, [(n, str(v)) for n, v in self.space.items()]))
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    def decode(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Overrides out of Optuna's parameters, in the order of the signature."""
        found = {}
        for name in self._names():
            if name in params:
                known = self._alternatives(name)
                found[name] = next(
                    (v for v in known if encode(v) == params[name] and _same_kind(v, params[name])), None
                )
                if found[name] is None:
                    found[name] = params[name]
        return found

    def representatives(self) -> list[dict[str, Any]]:
        """Trials that between them need every program of the sweep, as far as that can be known before."""
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
    """What to run, from what was asked for.

    Args:
        space: alternatives and ranges by name.
        kind: one of `KINDS`; None: a grid without ranges, TPE with them.
        count: of trials; of a grid, all of them.
        seed: of the sampler.
        own: trials of the experiment file's `sweep()`, instead of a space.

    Raises:
        UserError: an unknown kind, a range in a grid, a search without number of trials or with nothing to search.
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
    """A value as Optuna can store it: what is no number, text, truth value or None becomes its text."""
    return value if value is None or isinstance(value, bool | int | float | str) else repr(value)


def _drawn(space: Space, seed: int) -> Iterator[dict[str, Any]]:
    """Random trials, one after another; without repeating any where there are finitely many."""
    lists = [_finite(values) for values in space.values()]
    sizes = [len(values) for values in lists if values is not None]
    if len(sizes) == len(lists) and math.prod(sizes) <= _LISTABLE:
        for index in np.random.default_rng(seed).permutation(math.prod(sizes)).tolist():
            places = np.unravel_index(index, sizes)
            yield {n: values[int(p)] for n, values, p in zip(space, lists, places, strict=True) if values is not None}
        return
    for number in itertools.count():
        rng = np.random.default_rng([seed, number])
        yield {name: _draw(values, rng) for name, values in space.items()}


def _finite(values: Sequence[Any] | Range) -> Sequence[Any] | None:
    if not isinstance(values, Range):
        return values
    if values.log or not (values.integer or values.step) or (count := _places(values)) >= _LISTABLE:
        return None
    return [_place(values, i) for i in range(count)]


def _places(values: Range) -> int:
    """How many values a range in steps has."""
    return int((values.high - values.low) / (values.step or 1) + 1e-9) + 1


def _place(values: Range, i: int) -> int | float:
    found = values.low + (values.step or 1) * i
    return int(found) if values.integer else round(float(found), 12)


def _draw(values: Sequence[Any] | Range, rng: np.random.Generator) -> Any:
    if not isinstance(values, Range):
        return values[int(rng.integers(len(values)))]
    if values.integer and values.log:
        drawn = math.exp(rng.uniform(math.log(values.low - 0.5), math.log(values.high + 0.5)))
        return int(min(max(round(drawn), values.low), values.high))
    if values.integer or values.step is not None:
        return _place(values, int(rng.integers(_places(values))))
    drawn = rng.uniform(math.log(values.low), math.log(values.high)) if values.log else None
    return rounded(math.exp(drawn) if drawn is not None else rng.uniform(values.low, values.high), values)


def rounded(value: float, ends: Any) -> float:
    """A number cut to the digits that go into the name of a folder, still between the ends `low` and `high`."""
    return min(max(float(f"{value:.{_DIGITS}g}"), float(ends.low)), float(ends.high))


def _same_kind(value: Any, stored: Any) -> bool:
    """1, 1.0 and True are equal, but not the same."""
    return type(encode(value)) is type(stored)


def _is_static(values: Sequence[Any] | Range) -> bool:
    return not isinstance(values, Range) and not all(isinstance(v, float) for v in values)


def _first(values: Sequence[Any] | Range) -> Any:
    if not isinstance(values, Range):
        return values[0]
    return int(values.low) if values.integer else float(values.low)
