"""The sweep's ledger: an Optuna study in which every trial has an owner, a folder, values, and an end.

All trials are entered as waiting when the study is made. A launcher claims abandoned trials, whose owner died, before
waiting ones, and resumes them under the same number from their checkpoint. So a kill at any moment loses and repeats
nothing, and several launchers can work on one study. The attributes of a trial:

    owner       the process that runs it (`jaxcv.sweep.owner`); None if it was released
    heartbeat   the owner's last heartbeat, seconds since 1970
    folder      of its run
    starts      for each resumption after its owner's death: the two machines, and the step
    error       why it failed
    stopped_at  the step at which it was pruned
"""

import contextlib
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from jaxcv.errors import UserError
from jaxcv.sweep import owner, storages
from jaxcv.sweep.sampling import distributions, draw
from jaxcv.sweep.search import Search, encode
from jaxcv.sweep.space import run_folder

optuna.logging.set_verbosity(optuna.logging.ERROR)


@dataclass(frozen=True)
class Claim:
    """A trial that this process owns."""

    id: int
    """Optuna's id, unique in the storage."""
    number: int
    overrides: Mapping[str, Any]
    before: Mapping[str, Any] | None
    """The owner that died or released it; None if it has not been run."""
    folder: Path


class Ledger:
    """One sweep's trials, in any Optuna storage."""

    def __init__(
        self, search: Search, root: Path, *, storage: str | None = None, name: str | None = None, maximize: bool = True
    ):
        """Open or create the study, and enter the missing trials.

        Args:
            search: the trials.
            root: folder of the run folders.
            storage: URL of an Optuna storage, or `journal:FILE`; None: a SQLite file in `root`.
            name: of the study; default: `sweep-<digest of the search>`.
            maximize: whether larger values are better.

        Raises:
            UserError: If the storage cannot be opened, or the study has another direction.
        """
        self.search, self.root, self.maximize = search, Path(root), maximize
        self.name = name or f"sweep-{search.digest}"
        self._distributions = distributions(search)
        self.root.mkdir(parents=True, exist_ok=True)
        self._private = storage is None
        """Whether the storage is a file in this folder, so that its lock excludes all other launchers."""
        self.url = storage or f"sqlite:///{(self.root / f'{self.name}.db').absolute()}"
        direction = "maximize" if maximize else "minimize"
        study_name = self.name if self._private else f"{self.root.name}-{self.name}"
        with self._lock():
            self.study = storages.open_study(study_name, self.url, direction, ours=self._private)
            self.storage, self._study_id = self.study._storage, self.study._study_id
            if self.study.direction.name.lower() != direction:
                raise UserError(
                    f"{study_name} in {self.url} was created to {self.study.direction.name.lower()} its values"
                )
            self._fill()

    def close(self) -> None:
        """Close the storage."""
        storages.close(self.storage)

    def trials(self) -> list[FrozenTrial]:
        """All trials in their order."""
        trials = self.storage.get_all_trials(self._study_id, deepcopy=False)
        return sorted((t for t in trials if t.number < self._target(trials)), key=lambda t: t.number)

    def claim(
        self,
        *,
        where: str | None = None,
        prefer: Callable[[Mapping[str, Any]], bool] | None = None,
        held: Collection[int] = (),
    ) -> Claim | None:
        """Claim the first abandoned trial, else the first waiting one; None if there is neither.

        Args:
            where: name of this machine in messages.
            prefer: waiting trials for whose overrides it is true come first; ignored where overrides are not known yet.
            held: Optuna's ids of trials that are not to be claimed even if their owner died.
        """
        with self._lock():
            trials = self.trials()
            mine = owner.this_process(where)
            for trial in trials:
                if (
                    trial.state is TrialState.RUNNING
                    and trial._trial_id not in held
                    and self.is_abandoned(trial)
                    and (claim := self._take(trial, mine, trial.user_attrs.get("owner"))) is not None
                ):
                    return claim
            if prefer is not None and not self.search.learns:
                trials = sorted(trials, key=lambda trial: not prefer(self.search.decode(trial.params)))
            for trial in trials:
                # Atomic in every storage: true for one launcher only.
                if trial.state is TrialState.WAITING and self.storage.set_trial_state_values(
                    trial._trial_id, TrialState.RUNNING
                ):
                    return self._take(trial, mine, None)
        return None

    def is_abandoned(self, trial: FrozenTrial) -> bool:
        """Whether the owner of a running trial has died or released it."""
        holder = trial.user_attrs.get("owner")
        if holder is not None:
            return not owner.is_alive(holder, trial.user_attrs.get("heartbeat"))
        if self._private or "owner" in trial.user_attrs:  # killed while claiming, or released
            return True
        begun = trial.datetime_start.timestamp() if trial.datetime_start else 0.0
        return time.time() - begun > owner.SILENCE

    def _take(self, trial: FrozenTrial, mine: dict[str, Any], before: Mapping[str, Any] | None) -> Claim | None:
        self.storage.set_trial_user_attr(trial._trial_id, "owner", mine)
        if before is not None and not self._private:  # another launcher, with another lock, may claim it too
            time.sleep(1.0)
            if not owner.same(self.storage.get_trial(trial._trial_id).user_attrs.get("owner"), mine):
                return None
        overrides = self._overrides(trial)
        folder = run_folder(self.root, overrides)
        if trial.user_attrs.get("folder") != str(folder):
            self.storage.set_trial_user_attr(trial._trial_id, "folder", str(folder))
        return Claim(trial._trial_id, trial.number, overrides, before, folder)

    def _overrides(self, trial: FrozenTrial) -> dict[str, Any]:
        """The trial's overrides; TPE and CMA-ES draw them now, unless they are stored."""
        if not self.search.learns:
            return self.search.decode(trial.params)
        params = draw(self.search, self.study, trial._trial_id, trial.number)
        return self.search.decode(params)

    # Updates of a claimed trial.

    def sign(self, claim: Claim, where: str) -> None:
        """Make this process the owner."""
        self.storage.set_trial_user_attr(claim.id, "owner", owner.this_process(where))

    def taken_up(self, claim: Claim, step: int, where: str) -> list[dict[str, Any]]:
        """Record that it resumes from `step` after its owner's death; returns all such records."""
        starts = self.storage.get_trial(claim.id).user_attrs.get("starts", [])
        starts = [*starts, {"from": (claim.before or {}).get("host"), "host": where, "step": step}]
        self.storage.set_trial_user_attr(claim.id, "starts", starts)
        return starts

    def report(self, claim: Claim, step: int, value: float) -> None:
        """Record an intermediate value; idempotent."""
        self.storage.set_trial_intermediate_value(claim.id, step, float(value))

    def finish(self, claim: Claim, value: float) -> None:
        """Record its end, with its final value."""
        self.storage.set_trial_state_values(claim.id, TrialState.COMPLETE, [float(value)])

    def prune(self, claim: Claim, step: int, value: float | None) -> None:
        """Record that it was stopped early, with a checkpoint of `step`."""
        self.storage.set_trial_user_attr(claim.id, "stopped_at", step)
        self.storage.set_trial_state_values(claim.id, TrialState.PRUNED, None if value is None else [float(value)])

    def fail(self, claim: Claim, error: str) -> None:
        """Record that it ended with an error."""
        self.storage.set_trial_user_attr(claim.id, "error", error[:2000])
        self.storage.set_trial_state_values(claim.id, TrialState.FAIL)

    def give_back(self, claim: Claim) -> None:
        """Release it unfinished, so that any launcher can resume it at once."""
        self.storage.set_trial_user_attr(claim.id, "owner", None)

    @contextlib.contextmanager
    def heartbeat(self, claim: Claim) -> Iterator[None]:
        """Store heartbeats of the trial's owner while the block runs."""
        over = threading.Event()

        def beat() -> None:
            while not over.wait(owner.BEAT):
                with contextlib.suppress(Exception):  # the storage may be unreachable for a while; the run continues
                    self.storage.set_trial_user_attr(claim.id, "heartbeat", time.time())

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    # Filling the study.

    def _target(self, trials: Sequence[FrozenTrial]) -> int:
        return self.search.count + sum("retry_of" in t.user_attrs for t in trials)

    def _fill(self) -> None:
        """Enter the missing trials as waiting.

        Their numbers are indices into the list of trials, so only one launcher may do so: the lock ensures that in a
        shared folder; otherwise all others wait for the launcher that created the study.
        """
        deadline = time.monotonic() + owner.SILENCE
        while (maker := self.study.user_attrs.get("maker")) and not self.study.user_attrs.get("filled"):
            if maker["namespace"] == owner.pid_namespace() or time.monotonic() > deadline:
                break
            time.sleep(0.5)
        if not maker:
            self.study.set_user_attr("maker", owner.this_process())
        trials = self.storage.get_all_trials(self._study_id, deepcopy=False)
        for number in range(len(trials), self._target(trials)):
            self._enter(self.search.listed[number] if self.search.listed else {}, {})
        if not self.study.user_attrs.get("filled"):
            self.study.set_user_attr("filled", True)

    def retry_failed(self) -> int:
        """Enter every failed trial once more, under a new number; returns how many."""
        with self._lock():
            trials = self.trials()
            again = {t.user_attrs.get("retry_of") for t in trials}
            failed = [t for t in trials if t.state is TrialState.FAIL and t.number not in again]
            for trial in failed:
                self._enter(self.search.decode(trial.params), {"retry_of": trial.number})
        return len(failed)

    def _enter(self, overrides: Mapping[str, Any], attributes: dict[str, Any]) -> None:
        params = {name: encode(value) for name, value in overrides.items()}
        waiting = optuna.create_trial(
            state=TrialState.WAITING,
            params=params,
            distributions={name: self._distributions[name] for name in params},
            user_attrs=attributes,
        )
        self.storage.create_new_trial(self._study_id, template_trial=waiting)

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        """A lock among the launchers that share the folder; released when its process ends, even if it is killed."""
        try:
            import fcntl
        except ImportError:  # no such lock on this system
            yield
            return
        with open(self.root / f".{self.name}.lock", "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
