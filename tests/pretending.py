"""Sweeps whose trainings are pretended: what is tested is who trains what, and what is written down about it."""

import json
import multiprocessing
import time
from pathlib import Path
from typing import Any

import problems
from optuna.trial import TrialState

from jaxcv.sweep import make_search, parse_overrides
from jaxcv.sweep.command import Sweep, open_work
from jaxcv.sweep.engine import work_off
from jaxcv.train import Result, hyperparameters
from jaxcv.train.console import Reporter

KNOWN = hyperparameters(problems.experiment)
QUIET = Reporter(quiet=True)
RANGES = ["lr=log(1e-4,1e-1)", "decay=uniform(0,1e-2)", "seed=0,1"]
EVALUATED = (2, 4, 6, 12, 18)
"""Steps at which a pretended training of 18 steps is evaluated."""


def quality(overrides: Any, step: int) -> float:
    """The higher the nearer `lr` is to 0.01, and growing with the steps."""
    return step / 18 / (1.0 + abs(overrides["lr"] - 0.01)) + overrides.get("seed", 0) * 1e-3


class Pretender:
    """Stands in for `fit`; keeps its records in the folder, so that it can be interrupted and go on."""

    def __init__(self, at: Any = lambda calls, step: None):
        """`at(calls, step)` is called before every evaluation and may raise."""
        self.calls: list[dict[str, Any]] = []
        self.steps = 0
        self._at = at

    def __call__(self, experiment: Any, overrides: Any, folder: Path, *, watch: Any, **_: Any) -> Result:
        self.calls.append(dict(overrides))
        folder.mkdir(parents=True, exist_ok=True)
        path, test, stopped = folder / "metrics.jsonl", {}, None
        records = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        for step in EVALUATED:
            known = next((r for r in records if r["step"] == step), None)
            if known is None:
                self._at(self.calls, step)
                self.steps += step - max([s for s in EVALUATED if s < step], default=0)
                known = {"step": step, "split": "test", "accuracy": quality(overrides, step)}
                records.append(known)
                path.write_text("".join(json.dumps(r) + "\n" for r in records))
            test = {"accuracy": known["accuracy"]}
            if watch(step, test) and step < EVALUATED[-1]:
                stopped = step
                break
        return Result(folder, dict(overrides), EVALUATED[-1], test=test, stopped_at=stopped)


def pretended(root: Path, tokens: Any, train: Any, *, prune: Any = None, storage: Any = None, **search: Any) -> Any:
    """The work of a sweep, its ledger open."""
    space = parse_overrides(["steps=18", "evaluate_every=2", *tokens], KNOWN)
    asked = Sweep(
        problems.experiment,
        Path("problems.py"),
        make_search(space, **search),
        root,
        prune=prune,
        storage=storage,
        train=train,
    )
    return open_work(asked)


def summary(work: Any) -> list[Any]:
    """All that the ledger knows but who and when."""
    return [(t.number, t.state.name, t.params, t.values, t.intermediate_values) for t in work.ledger.trials()]


def launch(root: Path, tokens: Any, search: Any, barrier: Any) -> None:
    """A launcher of its own; run in another process."""
    barrier.wait()
    work = pretended(root, tokens, Pretender(lambda calls, step: time.sleep(0.003)), **search)
    work_off(work, QUIET)


def share_twenty(root: Path, search: dict[str, Any], launchers: int = 2) -> None:
    """Two launchers at once on one study of twenty trials: all are run, none twice, and both have their share."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(launchers)
    processes = [context.Process(target=launch, args=(root, RANGES, search, barrier)) for _ in range(launchers)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    work = pretended(root, RANGES, Pretender(), **search)
    trials = work.ledger.trials()
    assert [t.number for t in work.ledger.study.get_trials()] == list(range(20)), "not one too many"
    assert {t.state for t in trials} == {TrialState.COMPLETE}
    assert len({str(t.params) for t in trials}) == 20, "no duplicate"
    shares = [sum(t.user_attrs["owner"]["pid"] == process.pid for t in trials) for process in processes]
    assert sum(shares) == 20 and min(shares) >= 2, f"the work was shared: {shares}"
    work.ledger.close()
