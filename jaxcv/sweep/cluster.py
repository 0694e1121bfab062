"""Trials as tasks on a Ray cluster, whose nodes share the folder of the runs.

The driver claims trials and starts a task for each; the task becomes the trial's owner and trains it as every engine
does. When a node dies, Ray restarts the task on another, where it reads the previous owner from the ledger and resumes
from the checkpoint in the run's folder.
"""

import functools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from jaxcv.errors import UserError
from jaxcv.sweep import owner
from jaxcv.sweep.command import Sweep, open_work
from jaxcv.sweep.ledger import Claim
from jaxcv.sweep.live import SweepReporter
from jaxcv.sweep.trial import Work, run_trial
from jaxcv.sweep.watching import Watching
from jaxcv.train import runtime, sharding
from jaxcv.train.console import Reporter
from jaxcv.train.signals import Preempted

_POLL = 0.3


@dataclass(frozen=True)
class Task:
    """What a node needs to run trials of a sweep."""

    sweep: Sweep
    """Without its experiment, which every process loads from the file."""
    load: Callable[[Path], Any]
    """Returns the experiment of a file."""
    tune: bool = True
    """Whether to apply `runtime.tune` on the node."""
    devices: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of `sharding.choose` there."""


def run_ray(
    work: Work,
    show: SweepReporter,
    *,
    task: Task,
    address: str | None = None,
    num_cpus: float = 1,
    num_gpus: float = 0,
    fail_fast: bool = False,
) -> None:
    """Run all trials on a Ray cluster.

    Args:
        work: the sweep; every node must be able to reach its storage and its folder.
        show: the sweep's reporter.
        task: how a node runs trials.
        address: of the cluster's head, as `HOST:PORT` or "auto"; None: a cluster of this machine alone.
        num_cpus: cores per trial.
        num_gpus: GPUs per trial.
        fail_fast: stop all trials at the first failure.

    Raises:
        UserError: If Ray is not installed, there is no cluster at the address, no node has a trial's resources, or,
            with `fail_fast`, a trial failed.
    """
    ray = _ray()
    connected = _connect(ray, address)
    remote = ray.remote(num_cpus=num_cpus, num_gpus=num_gpus, max_retries=-1)(_run)
    mine, watching = owner.this_process(), Watching(work.ledger, show)
    running: dict[Any, Claim] = {}
    last_beat = time.monotonic()
    try:
        while True:
            slots = _slots(ray, num_cpus, num_gpus)
            if slots == 0 and not running:
                raise UserError(
                    f"no node of the cluster has {num_cpus:g} CPUs and {num_gpus:g} GPUs: give --num-cpus, --num-gpus"
                )
            while len(running) < slots:
                # Ray restarts a task whose node died, so a running trial must not be claimed a second time.
                held = {claim.id for claim in running.values()}
                if (claim := work.ledger.claim(where="the driver", held=held)) is None:
                    break
                running[remote.remote(task, claim, mine)] = claim
            done, _ = ray.wait(list(running), timeout=_POLL) if running else ([], [])
            for reference in done:
                _collect(ray, work, running.pop(reference), reference)
            if time.monotonic() - last_beat > owner.BEAT:
                _beat(work, mine, running)
                last_beat = time.monotonic()
            watching.look()
            if fail_fast and watching.failed():
                raise UserError(watching.failed()[0].error)
            if watching.over:
                return
            if not running:
                time.sleep(_POLL)  # other launchers run the rest
    finally:
        for reference in running:
            ray.cancel(reference)  # as Ctrl-C: the trial is released with a checkpoint
        if running:
            ray.wait(list(running), num_returns=len(running), timeout=60)
        if connected:
            ray.shutdown()


def _run(task: Task, claim: Claim, driver: Mapping[str, Any]) -> None:
    """The task: one trial in a process on a node."""
    import ray  # pyright: ignore[reportMissingImports]

    node = ray.get_runtime_context().get_node_id()[:8]
    sharding.choose(**task.devices)
    work = _open(_key(task), task)
    where = f"{work.where}/{node}"
    holder = work.ledger.storage.get_trial(claim.id).user_attrs.get("owner")
    if holder is not None and holder["token"] != driver["token"]:  # a restarted task: the owner died
        claim = replace(claim, before=holder)
    work.ledger.sign(claim, where)
    run_trial(replace(work, where=where), claim, Reporter(quiet=True))


_works: dict[str, Work] = {}


def _open(key: str, task: Task) -> Work:
    """The sweep, opened once per process, so that its trials share compiled programs."""
    if key not in _works:
        if task.tune:
            runtime.tune()
        runtime.enable_compile_cache()
        experiment = _experiment(task.load, task.sweep.file)
        _works[key] = open_work(replace(task.sweep, experiment=experiment))
    return _works[key]


def _key(task: Task) -> str:
    return repr(
        (task.sweep.file, task.sweep.root, task.sweep.storage, task.sweep.search.digest, task.sweep.search.count)
    )


@functools.cache
def _experiment(load: Callable[[Path], Any], file: Path) -> Any:
    return load(file)


def _collect(ray: Any, work: Work, claim: Claim, reference: Any) -> None:
    """Record a failure that a task could not record itself."""
    try:
        ray.get(reference)
    except ray.exceptions.TaskCancelledError:
        pass
    except Exception as error:  # the task's own, or Ray's
        cause = getattr(error, "cause", None) or error
        if isinstance(cause, Preempted):  # its node was stopped: the trial was released
            return
        lines = str(cause).strip().splitlines() or [""]
        if not work.ledger.storage.get_trial(claim.id).state.is_finished():
            work.ledger.fail(claim, f"{type(cause).__name__}: {lines[-1]}")


def _beat(work: Work, mine: Mapping[str, Any], running: Mapping[Any, Claim]) -> None:
    """Send the heartbeats of tasks that are still waiting for a node."""
    for claim in running.values():
        holder = work.ledger.storage.get_trial(claim.id).user_attrs.get("owner")
        if holder is not None and holder["token"] == mine["token"]:
            work.ledger.storage.set_trial_user_attr(claim.id, "heartbeat", time.time())


def _slots(ray: Any, num_cpus: float, num_gpus: float) -> int:
    """Number of trials that the cluster can run at once."""
    wanted = {kind: number for kind, number in (("CPU", num_cpus), ("GPU", num_gpus)) if number > 0}
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return sum(int(min((has.get(k, 0.0) / n for k, n in wanted.items()), default=1.0)) for has in nodes)


def _connect(ray: Any, address: str | None) -> bool:
    """Connect to the cluster; False if this process already was. Raises UserError."""
    if ray.is_initialized():
        return False
    try:
        ray.init(address=address, log_to_driver=False, include_dashboard=False if address is None else None)
    except (ConnectionError, ValueError, RuntimeError) as error:
        lines = str(error).strip().splitlines() or [""]
        raise UserError(f"--address {address}: {lines[0]}") from error
    return True


def _ray() -> Any:
    try:
        import ray  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError("--engine ray needs Ray: pip install 'jaxcv-research[ray]'") from error
    return ray
