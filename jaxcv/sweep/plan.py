"""Which trials share a compiled program."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jaxcv.errors import UserError
from jaxcv.train import Program, program
from jaxcv.train.experiment import ExperimentFunction
from jaxcv.train.sharding import How

_SHOWN = 12


@dataclass(frozen=True)
class Plan:
    """Trials and the programs that train them."""

    trials: Sequence[Mapping[str, Any]]
    programs: Sequence[Program]
    """One per trial; trials that differ only in traced hyperparameters have the same object."""
    count: int | None = None
    """Number of trials, where those above are only representatives."""
    faults: Sequence[str] = ()
    """Errors of trials that have no program, one line each; these trials will fail."""

    @property
    def groups(self) -> list[tuple[Program, list[int]]]:
        """Every program with the indices of its trials."""
        groups: dict[int, tuple[Program, list[int]]] = {}
        for index, needed in enumerate(self.programs):
            groups.setdefault(id(needed), (needed, []))[1].append(index)
        return list(groups.values())

    def lines(self) -> list[str]:
        """For the terminal: numbers of trials and programs, groups, what is traced, and why the rest is static."""
        groups, distinct = self.groups, [shared for shared, _ in self.groups]
        count = len(self.trials) + len(self.faults) if self.count is None else self.count
        lines = [f"plan: {_count(count, 'trial')}, {_count(len(distinct), 'program')} to compile"]
        lines.append("inputs of the compiled step: " + (", ".join(distinct[0].traced) or "none"))
        several = list(dict.fromkeys(name for p in distinct for name in p.variants if name is not None))
        if several:
            lines.append(f"a step is compiled once for each of: {', '.join(several)}; they alternate")
        swept = [n for n in distinct[0].static if len({repr(p.static.get(n)) for p in distinct}) > 1]
        if swept:
            lines.append("a program for each value of: " + ", ".join(swept))
            for number, (shared, indices) in enumerate(groups[:_SHOWN], start=1):
                settings = ", ".join(f"{name}={shared.static.get(name)}" for name in swept)
                lines.append(
                    f"  group {number}: {settings}" + (f": {len(indices)} trials" if self.count is None else "")
                )
            if len(groups) > _SHOWN:
                lines.append(f"  and {len(groups) - _SHOWN} more groups")
        reasons = {name: reason for p in distinct for name, reason in p.reasons.items()}
        lines += [f"{name} is a constant of the compiled step: it {reason}" for name, reason in reasons.items()]
        kinds: dict[str, list[str]] = {}
        for name, value in distinct[0].static.items():
            if name not in reasons:
                kinds.setdefault(type(value).__name__, []).append(name)
        if kinds:
            why = "; ".join(f"{', '.join(names)} ({kind})" for kind, names in kinds.items())
            lines.append(f"constants of the compiled step, because only floats and the seed can be inputs: {why}")
        lines += [f"will fail: {fault}" for fault in self.faults[:_SHOWN]]
        return lines


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def plan(
    experiment: ExperimentFunction,
    trials: Sequence[Mapping[str, Any]],
    *,
    count: int | None = None,
    how: How | None = None,
) -> Plan:
    """Assign a program to every trial; traces new steps, and compiles nothing.

    Args:
        experiment: an experiment file's function.
        trials: overrides, one mapping per trial.
        count: number of trials, if those given are only representatives.
        how: on which devices; None: as `train.sharding.choose` was told.

    Returns:
        The plan.

    Raises:
        Exception: The experiment's first error, if it raises for every trial.
    """
    planned, faults, first = [], [], None
    for trial in trials:
        try:
            known = program(experiment, trial, check=False, how=how)
            if not any(known is other for _, other in planned):
                known = program(experiment, trial, how=how)  # the others' own values are checked when they run
            planned.append((trial, known))
        except Exception as error:  # the experiment's own, of whatever kind
            first = first or error
            faults.append(f"{', '.join(f'{n}={v}' for n, v in trial.items())}: {one_line(error)}")
    if first is not None and not planned:
        raise first
    return Plan([trial for trial, _ in planned], [known for _, known in planned], count, faults)


def one_line(error: Exception) -> str:
    """An error in one line."""
    lines = str(error).strip().splitlines() or [""]
    return lines[0] if isinstance(error, UserError) else f"{type(error).__name__}: {lines[0]}".strip(": ")
