"""Checkpoints: the state and the position in the data together, written by orbax beside the training.

A checkpoint is committed whole or not at all. With every array its shape, dtype and CRC-32 are stored, because the
array files themselves carry no check sum: a flipped bit would otherwise be restored without a word.
"""

import copy
import functools
import logging
import sys
import threading
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxcv.errors import UserError
from jaxcv.train import hosts


def ocp() -> Any:
    """orbax, loaded when the first checkpoint is read or written: a fresh start need not wait for it."""
    import orbax.checkpoint

    return orbax.checkpoint


def managers() -> Any:
    """Orbax's checkpoint managers, as late."""
    from orbax.checkpoint import checkpoint_managers

    return checkpoint_managers


_saving = threading.Lock()
"""Orbax numbers the operations of a process and waits for them by number: two runs at once would wait for ever."""
_WORST = -1e300  # ranks a checkpoint that was not evaluated; JSON has no -inf


@functools.cache
def _hear_of_one_failure() -> None:
    """Not of every other write that fails after it: tensorstore tells a loop of orbax's that is closed by then.

    Nor does asyncio list those that failed in the same moment: the first is raised.
    """
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    before = sys.unraisablehook

    def hook(failure: Any) -> None:
        if not (isinstance(failure.exc_value, RuntimeError) and str(failure.exc_value) == "Event loop is closed"):
            before(failure)

    sys.unraisablehook = hook


class DamagedCheckpoint(Exception):
    """A checkpoint that cannot be read back as it was written."""


class Snapshot:
    """State and position at one step, copied: the loop may go on and overwrite its donated buffers."""

    def __init__(self, state: Any, position: dict[str, Any], *, rank: float | None = None):
        """As `Checkpoints.save`."""
        self.step, self.rank, self.position = int(state.step), rank, copy.deepcopy(position)
        self.arrays = {name: hosts.whole(leaf) for name, leaf in _leaves(state)}
        """All of them whole: their check sums do not depend on how they lay on the devices."""
        self.spread = {name: leaf for name, leaf in _leaves(state)} if hosts.several() else self.arrays
        """What is written: of several processes, each writes its part."""


class Checkpoints:
    """The checkpoints of one run: the two newest and the best.

    Use as a context manager; leaving it waits for what is still being written.
    """

    def __init__(self, folder: Path, *, read_only: bool = False):
        """`read_only` is for a second process: nothing is written, cleaned up or moved."""
        self.folder, self._read_only = Path(folder).absolute(), read_only

    @functools.cached_property
    def _manager(self) -> Any:
        logging.getLogger("absl").setLevel(logging.CRITICAL)  # orbax reports its every move there, and errors twice
        _hear_of_one_failure()
        best = managers().BestN(get_metric_fn=_rank_of, n=1, keep_checkpoints_without_metrics=False)
        options = ocp().CheckpointManagerOptions(
            preservation_policy=managers().AnyPreservationPolicy([managers().LatestN(2), best]),
            best_fn=_rank_of,  # without it the ranks are not stored
            enable_async_checkpointing=True,
            read_only=self._read_only,
        )
        return ocp().CheckpointManager(self.folder, options=options)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        if "_manager" in self.__dict__:
            self._manager.close()

    def save(self, state: Any, position: dict[str, Any], *, rank: float | None = None) -> None:
        """Start writing `state` (with its `step`) and the JSON-serialisable `position`; returns once they are copied.

        Args:
            state: a pytree of arrays with an attribute `step`.
            position: of the data, and whatever else is needed to go on.
            rank: of the evaluation made at this step, larger is better.
        """
        self.write(Snapshot(state, position, rank=rank))

    def write(self, snapshot: "Snapshot") -> None:
        """Start writing what was copied before."""
        arrays, position, rank, spread = snapshot.arrays, snapshot.position, snapshot.rank, snapshot.spread
        table = {n: [list(a.shape), str(a.dtype), zlib.crc32(a.tobytes())] for n, a in arrays.items()}
        with _saving:
            self._manager.save(
                snapshot.step,
                args=ocp().args.Composite(
                    state=ocp().args.PyTreeSave({name: a for name, a in spread.items() if a.size}),
                    position=ocp().args.JsonSave({"position": position, "arrays": table}),
                ),
                metrics={"rank": _WORST if rank is None else rank},
            )
            if threading.current_thread() is not threading.main_thread():  # one of several runs in this process
                self._manager.wait_until_finished()

    def wait(self) -> None:
        """Until everything saved is on disk."""
        self._manager.wait_until_finished()

    def steps(self) -> list[int]:
        """Steps of the committed checkpoints, oldest first."""
        return sorted(self._manager.all_steps()) if self.folder.exists() else []

    def best_step(self) -> int | None:
        """The step whose evaluation ranked highest; None before the first evaluation."""
        ranked = [(self._manager.metrics(step), step) for step in self.steps()]
        ranked = [(metrics["rank"], step) for metrics, step in ranked if metrics and metrics["rank"] > _WORST]
        return max(ranked)[1] if ranked else None

    def restore(self, step: int, spec: Any) -> tuple[Any, dict[str, Any]]:
        """State and position of one checkpoint, after comparing it with `spec`, the tree that is expected.

        Raises:
            UserError: names, shapes or dtypes differ from `spec`; says which.
            DamagedCheckpoint: it cannot be read, or its contents are not those that were written.
        """
        position, table = self._position(step)
        _compare(self.folder / str(step), table, spec)
        return _rebuild(spec, self._arrays(step, table)), position

    def _position(self, step: int) -> tuple[dict[str, Any], dict[str, Any]]:
        try:
            stored = self._manager.restore(step, args=ocp().args.Composite(position=ocp().args.JsonRestore()))[
                "position"
            ]
            return stored["position"], stored["arrays"]
        except Exception as error:  # whatever orbax and the file system come up with
            raise DamagedCheckpoint(f"{self.folder / str(step)}: {_first_line(error)}") from error

    def _arrays(self, step: int, table: dict[str, Any]) -> dict[str, np.ndarray]:
        specs = {n: jax.ShapeDtypeStruct(tuple(shape), np.dtype(kind)) for n, (shape, kind, _) in table.items()}
        try:
            wanted = {name: spec for name, spec in specs.items() if spec.size}
            # Whole and as they were, whatever the mesh that wrote them and that of this run.
            how = {name: ocp().RestoreArgs(restore_type=np.ndarray) for name in wanted}
            restore = ocp().args.PyTreeRestore(wanted, restore_args=how)
            arrays = self._manager.restore(step, args=ocp().args.Composite(state=restore))["state"]
        except Exception as error:  # as above
            raise DamagedCheckpoint(f"{self.folder / str(step)}: {_first_line(error)}") from error
        # orbax stores no empty arrays: their shape says everything.
        arrays = {n: np.array(arrays[n]) if s.size else np.zeros(s.shape, s.dtype) for n, s in specs.items()}
        for name, (_, _, crc) in table.items():
            if zlib.crc32(arrays[name].tobytes()) != crc:
                raise DamagedCheckpoint(f"{self.folder / str(step)}: {name} is not what was written")
        return arrays

    def arrays(self, step: int, wanted: Callable[[str], bool]) -> dict[str, np.ndarray]:
        """Arrays of one checkpoint by their dotted paths, whatever else it holds.

        Raises:
            DamagedCheckpoint: as `restore`.
        """
        arrays = self._arrays(step, self._position(step)[1])
        return {name: array for name, array in arrays.items() if wanted(name)}

    def restore_newest(self, spec: Any) -> tuple[Any, dict[str, Any], list[str]] | None:
        """State, position and warnings of the newest checkpoint that is whole; None where there is no checkpoint.

        Damaged ones are moved to `damaged-checkpoints` beside the folder, and each gives one line of warning.

        Raises:
            UserError: as `restore`; or every checkpoint is damaged.
        """
        warnings = []
        for step in reversed(self.steps()):
            try:
                state, position = self.restore(step, spec)
            except DamagedCheckpoint as error:
                aside = hosts.led(lambda step=step: str(_move_aside(self.folder / str(step))))
                warnings.append(f"damaged checkpoint, moved to {aside}: {error}")
                self._manager.reload()
                continue
            return state, position, warnings
        if warnings:
            raise UserError("no checkpoint could be read; --fresh starts over. " + "; ".join(warnings))
        return None


def weights_of(folder: Path) -> dict[str, np.ndarray]:
    """The variables that a run is evaluated with, by the paths that our own files of weights have.

    Args:
        folder: of a run, whose best checkpoint is taken, or the newest where none was evaluated; or of one checkpoint.

    Raises:
        UserError: there is none, or it is damaged.
    """
    run, step = (folder.parents[1], int(folder.name)) if folder.parent.name == "checkpoints" else (folder, None)
    with Checkpoints(run / "checkpoints", read_only=True) as checkpoints:
        steps = checkpoints.steps()
        if step is None and steps:
            best = checkpoints.best_step()
            step = steps[-1] if best is None else best
        if step not in steps:
            raise UserError(f"{folder}: no checkpoint of a run there" + (f"; {run} has {steps}" if steps else ""))
        assert step is not None
        try:
            found = checkpoints.arrays(step, lambda name: name.startswith(("params.", "collections.", "ema.")))
        except DamagedCheckpoint as error:
            raise UserError(f"damaged checkpoint: {error}; there are those of steps {steps}") from error
    averaged = {name.removeprefix("ema."): array for name, array in found.items() if name.startswith("ema.")}
    chosen = averaged or {name.removeprefix("collections."): array for name, array in found.items()}
    return {name.replace(".", "/"): array for name, array in chosen.items()}


def chosen_step(folder: Path, *, best: bool) -> int:
    """The step of a run's best checkpoint, or of its newest.

    Raises:
        UserError: there is none.
    """
    with Checkpoints(folder / "checkpoints", read_only=True) as checkpoints:
        steps = checkpoints.steps()
        step = checkpoints.best_step() if best else (steps[-1] if steps else None)
    if step is None:
        raise UserError(f"{folder} has no {'evaluated ' if best else ''}checkpoint yet")
    return step


def is_run(folder: Path) -> bool:
    """Whether a folder is a run's, or one checkpoint's of a run."""
    return (folder / "checkpoints").is_dir() or (folder.parent.name == "checkpoints" and folder.is_dir())


def _rank_of(metrics: dict[str, float]) -> float:
    return metrics["rank"]


def _move_aside(path: Path) -> Path:
    folder = path.parent.parent / "damaged-checkpoints"
    folder.mkdir(exist_ok=True)
    target = next(t for i in range(10_000) if not (t := folder / f"{path.name}-{i}").exists())
    path.rename(target)
    return target


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:300]


def _is_key(leaf: Any) -> bool:
    return jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _leaves(tree: Any) -> list[tuple[str, Any]]:
    """Every array of the tree under its dotted path; random keys as the numbers they consist of."""
    return [
        (jax.tree_util.keystr(path, simple=True, separator="."), jax.random.key_data(leaf) if _is_key(leaf) else leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    ]


def _spec_leaves(spec: Any) -> dict[str, tuple[tuple[int, ...], str]]:
    data = jax.eval_shape(lambda tree: dict(_leaves(tree)), spec)
    return {name: (leaf.shape, str(leaf.dtype)) for name, leaf in data.items()}


def _compare(path: Path, table: dict[str, Any], spec: Any) -> None:
    wanted = _spec_leaves(spec)
    stored = {name: (tuple(shape), kind) for name, (shape, kind, _) in table.items()}
    faults = [f"{name} is missing" for name in wanted if name not in stored]
    faults += [f"{name} is left over" for name in stored if name not in wanted]
    faults += [
        f"{name} is {stored[name][1]}{list(stored[name][0])}, expected {wanted[name][1]}{list(wanted[name][0])}"
        for name in wanted
        if name in stored and stored[name] != wanted[name]
    ]
    if faults:
        more = f" and {len(faults) - 5} more" if len(faults) > 5 else ""
        raise UserError(f"{path} does not fit this experiment: {'; '.join(faults[:5])}{more}. --fresh starts over")


def _rebuild(spec: Any, arrays: dict[str, np.ndarray]) -> Any:
    paths, structure = jax.tree_util.tree_flatten_with_path(spec)
    leaves = []
    for path, leaf in paths:
        array = jax.numpy.asarray(arrays[jax.tree_util.keystr(path, simple=True, separator=".")])
        leaves.append(jax.random.wrap_key_data(array) if _is_key(leaf) else array)
    return jax.tree_util.tree_unflatten(structure, leaves)
