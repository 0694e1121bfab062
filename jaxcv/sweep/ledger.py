"""The sweep's ledger: an Optuna study in which every trial has an owner, a folder, values, and an end.

All trials stand in it from the beginning, waiting. A launcher takes the first that waits, and before that any whose
owner died: it goes on under its own number, from its checkpoint. So a kill at any place loses nothing and repeats
nothing, and launchers on one study share the work. A trial carries these attributes:

    owner       the process that has it (`jaxcv.sweep.owner`), or none where it was given back
    heartbeat   when that was last heard of, seconds since 1970
    folder      of its run
    starts      from and to which machine it was taken up when its owner died, and at which step
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
from jaxcv.sweep.space import folder_name

optuna.logging.set_verbosity(optuna.logging.ERROR)


@dataclass(frozen=True)
class Claim:
    """A trial that is this process's to run."""

    id: int
    """Optuna's, of the whole storage."""
    number: int
    overrides: Mapping[str, Any]
    before: Mapping[str, Any] | None
    """The owner that died or gave it back; None where nobody had it."""
    folder: Path


class Ledger:
    """One sweep's trials, in any Optuna storage."""

    def __init__(
        self, search: Search, root: Path, *, storage: str | None = None, name: str | None = None, maximize: bool = True
    ):
        """Open the study, or make it, with all trials that it lacks.

        Args:
            search: what the trials are.
            root: folder of the run folders.
            storage: URL of an Optuna storage, or `journal:FILE`; None: a SQLite file in `root`.
            name: of the study; default: `sweep-<digest of the search>`.
            maximize: whether larger values are better.

        Raises:
            UserError: the storage cannot be opened.
        """
        self.search, self.root, self.maximize = search, Path(root), maximize
        self.name = name or f"sweep-{search.digest}"
        self._distributions = distributions(search)
        self.root.mkdir(parents=True, exist_ok=True)
        self._private = storage is None
        """Whether everybody who reaches the storage also shares this folder, with its lock."""
        self.url = storage or f"sqlite:///{(self.root / f'{self.name}.db').absolute()}"
        direction = "maximize" if maximize else "minimize"
        study_name = self.name if self._private else f"{self.root.name}-{self.name}"
        with self._lock():
            self.study = storages.open_study(study_name, self.url, direction, ours=self._private)
            self.storage, self._study_id = self.study._storage, self.study._study_id
            if self.study.direction.name.lower() != direction:
                raise UserError(
                    f"{study_name} in {self.url} was begun with values to {self.study.direction.name.lower()}"
                )
            self._fill()

    def close(self) -> None:
        """Let go of the storage."""
        storages.close(self.storage)

    def trials(self) -> list[FrozenTrial]:
        """All trials in their order."""
        found = self.storage.get_all_trials(self._study_id, deepcopy=False)
        return sorted((t for t in found if t.number < self._target(found)), key=lambda t: t.number)

    def claim(
        self,
        *,
        where: str | None = None,
        prefer: Callable[[Mapping[str, Any]], bool] | None = None,
        held: Collection[int] = (),
    ) -> Claim | None:
        """A trial to run: the first of those whose owner died, else the first that waits; None where there is none.

        Args:
            where: what a person calls this machine.
            prefer: of overrides, where they are known before: those for which it is true wait in front of the others.
            held: Optuna's ids of trials that are in hand already, even if their owner died: somebody sees to them.
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
                # True for one launcher alone, in any storage.
                if trial.state is TrialState.WAITING and self.storage.set_trial_state_values(
                    trial._trial_id, TrialState.RUNNING
                ):
                    return self._take(trial, mine, None)
        return None

    def is_abandoned(self, trial: FrozenTrial) -> bool:
        """Whether nobody works any more on a trial that runs."""
        holder = trial.user_attrs.get("owner")
        if holder is not None:
            return not owner.is_alive(holder, trial.user_attrs.get("heartbeat"))
        if self._private or "owner" in trial.user_attrs:  # between claiming and signing, or given back
            return True
        begun = trial.datetime_start.timestamp() if trial.datetime_start else 0.0
        return time.time() - begun > owner.SILENCE

    def _take(self, trial: FrozenTrial, mine: dict[str, Any], before: Mapping[str, Any] | None) -> Claim | None:
        self.storage.set_trial_user_attr(trial._trial_id, "owner", mine)
        if before is not None and not self._private:  # another launcher without our lock may have had the same thought
            time.sleep(1.0)
            if not owner.same(self.storage.get_trial(trial._trial_id).user_attrs.get("owner"), mine):
                return None
        overrides = self._overrides(trial)
        folder = self.root / folder_name(overrides)
        if trial.user_attrs.get("folder") != str(folder):
            self.storage.set_trial_user_attr(trial._trial_id, "folder", str(folder))
        return Claim(trial._trial_id, trial.number, overrides, before, folder)

    def _overrides(self, trial: FrozenTrial) -> dict[str, Any]:
        """The trial's values; where the search learns, they are drawn now unless they were before."""
        if not self.search.learns:
            return self.search.decode(trial.params)
        params = draw(self.search, self.study, trial._trial_id, trial.number)
        return self.search.decode(params)

    # What becomes of a claimed trial.

    def sign(self, claim: Claim, where: str) -> None:
        """This process has it from now on."""
        self.storage.set_trial_user_attr(claim.id, "owner", owner.this_process(where))

    def taken_up(self, claim: Claim, step: int, where: str) -> list[dict[str, Any]]:
        """It goes on from `step` after its owner's end; returns all such events."""
        starts = self.storage.get_trial(claim.id).user_attrs.get("starts", [])
        starts = [*starts, {"from": (claim.before or {}).get("host"), "host": where, "step": step}]
        self.storage.set_trial_user_attr(claim.id, "starts", starts)
        return starts

    def report(self, claim: Claim, step: int, value: float) -> None:
        """An intermediate value; telling it again changes nothing."""
        self.storage.set_trial_intermediate_value(claim.id, step, float(value))

    def finish(self, claim: Claim, value: float) -> None:
        """It ran to its end."""
        self.storage.set_trial_state_values(claim.id, TrialState.COMPLETE, [float(value)])

    def prune(self, claim: Claim, step: int, value: float | None) -> None:
        """It was stopped early, with a checkpoint of `step`."""
        self.storage.set_trial_user_attr(claim.id, "stopped_at", step)
        self.storage.set_trial_state_values(claim.id, TrialState.PRUNED, None if value is None else [float(value)])

    def fail(self, claim: Claim, error: str) -> None:
        """It ended with an error."""
        self.storage.set_trial_user_attr(claim.id, "error", error[:2000])
        self.storage.set_trial_state_values(claim.id, TrialState.FAIL)

    def give_back(self, claim: Claim) -> None:
        """It is not finished, and whoever comes next may go on with it at once."""
        self.storage.set_trial_user_attr(claim.id, "owner", None)

    @contextlib.contextmanager
    def heartbeat(self, claim: Claim) -> Iterator[None]:
        """Tell the storage from time to time that the trial's owner lives."""
        over = threading.Event()

        def beat() -> None:
            while not over.wait(owner.BEAT):
                with contextlib.suppress(Exception):  # the storage may be away for a while: the run goes on
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
        """Enter the trials that are missing, as waiting.

        Their numbers are places in the list of trials, so only one launcher does so: the lock sees to that where the
        folder is shared, and elsewhere all others wait for the one that made the study.
        """
        deadline = time.monotonic() + owner.SILENCE
        while (maker := self.study.user_attrs.get("maker")) and not self.study.user_attrs.get("filled"):
            if maker["place"] == owner.place() or time.monotonic() > deadline:
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
        """Enter every failed trial once more, under a new number; how many."""
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
        """One launcher at a time, of those that share the folder; released by the end of its process, whatever end."""
        try:
            import fcntl
        except ImportError:  # no such lock on this system
            yield
            return
        with open(self.root / f".{self.name}.lock", "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
