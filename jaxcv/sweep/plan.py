"""Which trials share a compiled program."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jaxcv.errors import UserError
from jaxcv.train import Program, program
from jaxcv.train.experiment import ExperimentFunction

_SHOWN = 12


@dataclass(frozen=True)
class Plan:
    """Trials and the programs that train them."""

    trials: Sequence[Mapping[str, Any]]
    programs: Sequence[Program]
    """One for each trial; trials that differ only in traced hyperparameters have the same object."""
    count: int | None = None
    """Of trials, where those above only stand for them."""
    faults: Sequence[str] = ()
    """Of trials that can have no program, in one line each; they will fail when their turn comes."""

    @property
    def groups(self) -> list[tuple[Program, list[int]]]:
        """Every program with the places of its trials."""
        found: dict[int, tuple[Program, list[int]]] = {}
        for place, needed in enumerate(self.programs):
            found.setdefault(id(needed), (needed, []))[1].append(place)
        return list(found.values())

    def lines(self) -> list[str]:
        """For a person: how many of each, the groups, what is traced, and why the rest is not."""
        groups, distinct = self.groups, [found for found, _ in self.groups]
        count = len(self.trials) + len(self.faults) if self.count is None else self.count
        lines = [f"plan: {_count(count, 'trial')}, {_count(len(distinct), 'program')} to compile"]
        lines.append("inputs of the compiled step: " + (", ".join(distinct[0].traced) or "none"))
        several = list(dict.fromkeys(name for p in distinct for name in p.variants if name is not None))
        if several:
            lines.append(f"a step is compiled once for each of: {', '.join(several)}; they take turns")
        swept = [n for n in distinct[0].static if len({repr(p.static.get(n)) for p in distinct}) > 1]
        if swept:
            lines.append("a program for each value of: " + ", ".join(swept))
            for number, (found, places) in enumerate(groups[:_SHOWN], start=1):
                settings = ", ".join(f"{name}={found.static.get(name)}" for name in swept)
                lines.append(
                    f"  group {number}: {settings}" + (f": {len(places)} trials" if self.count is None else "")
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


def plan(experiment: ExperimentFunction, trials: Sequence[Mapping[str, Any]], *, count: int | None = None) -> Plan:
    """Assign a program to every trial; traces a step that is not known from before, compiles nothing.

    Args:
        experiment: an experiment file's function.
        trials: overrides, one mapping a trial.
        count: how many trials there will be, where those given stand for them.

    Raises:
        Exception: what the experiment raised, if it did so at every trial.
    """
    found, faults, first = [], [], None
    for trial in trials:
        try:
            known = program(experiment, trial, check=False)
            if not any(known is other for _, other in found):
                known = program(experiment, trial)  # the others' own values are checked when they run
            found.append((trial, known))
        except Exception as error:  # the experiment's own, of whatever kind
            first = first or error
            faults.append(f"{', '.join(f'{n}={v}' for n, v in trial.items())}: {one_line(error)}")
    if first is not None and not found:
        raise first
    return Plan([trial for trial, _ in found], [known for _, known in found], count, faults)


def one_line(error: Exception) -> str:
    """An error as it is shown in a list."""
    lines = str(error).strip().splitlines() or [""]
    return lines[0] if isinstance(error, UserError) else f"{type(error).__name__}: {lines[0]}".strip(": ")
