"""Which trials share a compiled program."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jaxcv.train import Program, program
from jaxcv.train.experiment import ExperimentFunction


@dataclass(frozen=True)
class Plan:
    """Trials and the programs that train them."""

    trials: Sequence[Mapping[str, Any]]
    programs: Sequence[Program]
    """One for each trial; trials that differ only in traced hyperparameters have the same object."""

    def lines(self) -> list[str]:
        """For a person: how many of each, what is traced, and why the rest is not."""
        distinct = list({id(p): p for p in self.programs}.values())
        lines = [f"plan: {_count(len(self.trials), 'trial')}, {_count(len(distinct), 'program')} to compile"]
        lines.append("inputs of the compiled step: " + (", ".join(distinct[0].traced) or "none"))
        several = list(dict.fromkeys(name for p in distinct for name in p.variants if name is not None))
        if several:
            lines.append(f"a step is compiled once for each of: {', '.join(several)}; they take turns")
        swept = [n for n in distinct[0].static if len({repr(p.static.get(n)) for p in distinct}) > 1]
        if swept:
            lines.append("a program for each value of: " + ", ".join(swept))
        reasons = {name: reason for p in distinct for name, reason in p.reasons.items()}
        lines += [f"{name} is a constant of the compiled step: it {reason}" for name, reason in reasons.items()]
        return lines


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def plan(experiment: ExperimentFunction, trials: Sequence[Mapping[str, Any]]) -> Plan:
    """Assign a program to every trial; traces a step that is not known from before, compiles nothing."""
    return Plan(trials, [program(experiment, trial) for trial in trials])
