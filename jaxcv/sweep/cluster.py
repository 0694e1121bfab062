"""Trials as tasks on a Ray cluster, whose nodes share the folder of the runs.

The driver claims trials and starts a task for each; the task becomes the trial's owner and trains it as every engine
does. When a node dies, Ray restarts the task on another, where it reads the previous owner from the ledger and resumes
from the checkpoint in the run's folder.

A trial may take several nodes. It then has a task on each, in a process of its own; these join as those of
`--distributed` do (`train.hosts`), and the first one is the owner. When one dies all end, and whoever claims the trial
next resumes it.
"""

import functools
import socket
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from jaxcv.errors import UserError
from jaxcv.sweep import owner
from jaxcv.sweep.command import Sweep, open_work
from jaxcv.sweep.ledger import Claim
from jaxcv.sweep.live import SweepReporter
from jaxcv.sweep.trial import Work, join_trial, run_trial
from jaxcv.sweep.watching import Watching
from jaxcv.train import hosts, runtime, sharding
from jaxcv.train.console import Reporter
from jaxcv.train.signals import Preempted

_POLL = 0.3
_STARTS = 5
"""Of the processes of a trial, after which one that never began to train has failed."""


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


@dataclass(frozen=True)
class Started:
    """A trial in its tasks."""

    claim: Claim
    tasks: Sequence[Any]
    """Of several nodes, those of the first first."""
    place: Any = None
    """Of several nodes, the placement group."""


def run_ray(
    work: Work,
    show: SweepReporter,
    *,
    task: Task,
    address: str | None = None,
    num_cpus: float = 1,
    num_gpus: float = 0,
    nodes: int = 1,
    fail_fast: bool = False,
) -> None:
    """Run all trials on a Ray cluster.

    Args:
        work: the sweep; every node must be able to reach its storage and its folder.
        show: the sweep's reporter.
        task: how a node runs trials.
        address: of the cluster's head, as `HOST:PORT` or "auto"; None: a cluster of this machine alone.
        num_cpus: cores per trial, on each of its nodes.
        num_gpus: GPUs, likewise.
        nodes: per trial.
        fail_fast: stop all trials at the first failure.

    Raises:
        UserError: If Ray is not installed, there is no cluster at the address, its nodes lack a trial's resources, or,
            with `fail_fast`, a trial failed.
    """
    ray = _ray()
    connected = _connect(ray, address)
    # JAX joins other processes once in its life, so those of a trial on several nodes are its own. Ray would restart
    # one of them alone.
    kept = {"max_retries": -1} if nodes == 1 else {"max_retries": 0, "max_calls": 1}
    remote = ray.remote(num_cpus=num_cpus, num_gpus=num_gpus, **kept)(_run)
    mine, watching = owner.this_process(), Watching(work.ledger, show)
    running: list[Started] = []
    done: set[Any] = set()
    starts: Counter[int] = Counter()
    last_beat = time.monotonic()
    try:
        while True:
            slots = _slots(ray, num_cpus, num_gpus, nodes)
            if slots == 0 and not running:
                where = (
                    "no node of the cluster has" if nodes == 1 else f"there are no {nodes} nodes in the cluster with"
                )
                raise UserError(f"{where} {num_cpus:g} CPUs and {num_gpus:g} GPUs: give --num-cpus, --num-gpus")
            while len(running) < slots:
                # Ray restarts a task whose node died, so a running trial must not be claimed a second time.
                held = {started.claim.id for started in running}
                if (claim := work.ledger.claim(where="the driver", held=held)) is None:
                    break
                arguments = (task, claim, mine)
                if nodes == 1:
                    running.append(Started(claim, [remote.remote(*arguments)]))
                else:
                    running.append(_start_on(ray, remote, arguments, nodes, {"CPU": num_cpus, "GPU": num_gpus}))
            if pending := [reference for one in running for reference in one.tasks if reference not in done]:
                done.update(ray.wait(pending, timeout=_POLL)[0])
            for started in [one for one in running if done.issuperset(one.tasks)]:
                running.remove(started)
                done.difference_update(started.tasks)
                _collect(ray, work, started)
                if _is_still_of(work, started.claim, mine):
                    _start_again(work, started.claim, starts)
            if time.monotonic() - last_beat > owner.BEAT:
                _beat(work, mine, [started.claim for started in running])
                last_beat = time.monotonic()
            watching.look()
            if fail_fast and watching.failed():
                raise UserError(watching.failed()[0].error)
            if watching.over:
                return
            if not running:
                time.sleep(_POLL)  # other launchers run the rest
    finally:
        pending = [reference for started in running for reference in started.tasks]
        for reference in pending:
            ray.cancel(reference)  # as Ctrl-C: the trial is released with a checkpoint
        if pending:
            ray.wait(pending, num_returns=len(pending), timeout=60)
        for started in running:
            if started.place is not None:
                ray.util.remove_placement_group(started.place)
        if connected:
            ray.shutdown()


def _start_on(ray: Any, remote: Any, arguments: tuple[Any, ...], nodes: int, needs: Mapping[str, float]) -> Started:
    """The tasks of a trial on so many nodes, each of which has what it needs; they wait until there are as many."""
    from ray.util.scheduling_strategies import (  # pyright: ignore[reportMissingImports]
        PlacementGroupSchedulingStrategy as Of,
    )

    place = ray.util.placement_group([{k: n for k, n in needs.items() if n}] * nodes, strategy="STRICT_SPREAD")
    on = [Of(place, placement_group_bundle_index=number) for number in range(nodes)]
    coordinator = ray.remote(num_cpus=0)(_address).options(scheduling_strategy=on[0]).remote()
    tasks = [
        remote.options(scheduling_strategy=on[number]).remote(*arguments, coordinator, number, nodes)
        for number in range(nodes)
    ]
    return Started(arguments[1], tasks, place)


def _address() -> str:
    """Of the node of the first process: host:port that is free."""
    import ray  # pyright: ignore[reportMissingImports]

    with socket.socket() as free:
        free.bind(("", 0))
        return f"{ray.util.get_node_ip_address()}:{free.getsockname()[1]}"


def _run(task: Task, claim: Claim, driver: Mapping[str, Any], *joins: Any) -> None:
    """The task: one trial in a process on a node; or one of several, which `joins` the others as in `initialize`."""
    import ray  # pyright: ignore[reportMissingImports]

    node = ray.get_runtime_context().get_node_id()[:8]
    sharding.choose(**task.devices)
    work = _open(_key(task), task, joins)
    where = f"{work.where}/{node}"
    if joins and not hosts.is_first():
        join_trial(work, claim)
    else:
        holder = work.ledger.storage.get_trial(claim.id).user_attrs.get("owner")
        if holder is not None and holder["token"] != driver["token"]:  # a restarted task: the owner died
            claim = replace(claim, before=holder)
        work.ledger.sign(claim, where)
        run_trial(replace(work, where=where), claim, Reporter(quiet=True))
    if joins:
        hosts.leave()


_works: dict[str, Work] = {}


def _open(key: str, task: Task, joins: tuple[Any, ...] = ()) -> Work:
    """The sweep, opened once per process, so that its trials share compiled programs."""
    if key not in _works:
        if task.tune:
            runtime.tune()
        if joins:
            hosts.initialize(*joins)
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


def _collect(ray: Any, work: Work, started: Started) -> None:
    """Record a failure that the tasks of a trial could not record themselves."""
    claim = started.claim
    for reference in started.tasks:
        try:
            ray.get(reference)
        except ray.exceptions.TaskCancelledError:
            pass
        except Exception as error:  # the task's own, or Ray's
            cause = getattr(error, "cause", None) or error
            if isinstance(cause, Preempted | hosts.ProcessLost):  # its node was stopped, or another of its nodes died
                continue
            if started.place is not None and not isinstance(error, ray.exceptions.RayTaskError):  # this one did
                continue
            lines = str(cause).strip().splitlines() or [""]
            if not work.ledger.storage.get_trial(claim.id).state.is_finished():
                work.ledger.fail(claim, f"{type(cause).__name__}: {lines[-1]}")
    if started.place is not None:
        ray.util.remove_placement_group(started.place)


def _start_again(work: Work, claim: Claim, starts: Counter[int]) -> None:
    """Release a trial whose processes ended before the first of them was its owner."""
    starts[claim.id] += 1
    if starts[claim.id] < _STARTS:
        work.ledger.give_back(claim)
    else:
        work.ledger.fail(claim, f"its processes ended {_STARTS} times before the first step: see the logs of Ray")


def _is_still_of(work: Work, claim: Claim, driver: Mapping[str, Any]) -> bool:
    """Whether a trial that has not ended is the driver's own: no task has signed for it."""
    trial = work.ledger.storage.get_trial(claim.id)
    return not trial.state.is_finished() and owner.same(trial.user_attrs.get("owner"), dict(driver))


def _beat(work: Work, mine: Mapping[str, Any], claims: Sequence[Claim]) -> None:
    """Send the heartbeats of trials that are still waiting for a node."""
    for claim in claims:
        if _is_still_of(work, claim, mine):
            work.ledger.storage.set_trial_user_attr(claim.id, "heartbeat", time.time())


def _slots(ray: Any, num_cpus: float, num_gpus: float, nodes: int) -> int:
    """Number of trials that the cluster can run at once."""
    wanted = {kind: number for kind, number in (("CPU", num_cpus), ("GPU", num_gpus)) if number > 0}
    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return groups_of([int(min((has.get(k, 0.0) / n for k, n in wanted.items()), default=1.0)) for has in alive], nodes)


def groups_of(room: Sequence[int], nodes: int) -> int:
    """How many groups of tasks on `nodes` different nodes each there can be, with `room` for so many tasks on each."""
    return next((n for n in range(sum(room) // nodes, 0, -1) if sum(min(has, n) for has in room) >= n * nodes), 0)


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
