"""Records of a run: `metrics.jsonl`, TensorBoard events and preview pictures."""

import json
import math
import os
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxcv.train.run import read_records


class Records:
    """Appends to `metrics.jsonl`; everything but `time` is a function of source, values and step alone."""

    def __init__(self, folder: Path, *, step: int):
        """Records after `step` are dropped: the run goes on from there and will write them again."""
        self._path = folder / "metrics.jsonl"
        kept = [record for record in read_records(self._path) if record["step"] <= step]
        temporary = self._path.with_name("metrics.jsonl.tmp")
        with open(temporary, "w") as file:
            file.writelines(_line(record) for record in kept)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self._path)
        self._file = open(self._path, "a")  # noqa: SIM115
        self._events = Events(folder / "events", step=step)

    def write(self, step: int, split: str, values: dict[str, float], *, time: dict[str, float]) -> None:
        """One record."""
        self._file.write(_line({"step": step, "split": split, **values, "time": time}))
        self._events.scalars(step, split, values)

    def flush(self) -> None:
        """Have all records safe from the end of this process."""
        self._file.flush()

    def sync(self) -> None:
        """Have all records on disk, safe from the end of the machine: a checkpoint made later stands with them."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def picture(self, step: int, png: bytes, size: tuple[int, int]) -> None:
        """A preview for TensorBoard, width and height in pixels."""
        self._events.picture(step, png, size)

    def hyperparameters(self, values: Mapping[str, Any]) -> None:
        """All values, for TensorBoard's page of hyperparameters; once a run."""
        self._events.hyperparameters(values)

    def close(self) -> None:
        """Close both files."""
        self._file.close()
        self._events.close()


class NoRecords(Records):
    """Of a process that is not the first of several: the first one writes them."""

    def __init__(self) -> None:
        pass

    def write(self, step: int, split: str, values: dict[str, float], *, time: dict[str, float]) -> None:
        """Nothing."""

    def flush(self) -> None:
        """Nothing."""

    def sync(self) -> None:
        """Nothing."""

    def picture(self, step: int, png: bytes, size: tuple[int, int]) -> None:
        """Nothing."""

    def hyperparameters(self, values: Mapping[str, Any]) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


def _line(record: dict[str, Any]) -> str:
    # A metric without a value, such as the precision of a class that has no example, is null.
    finite = {n: None if isinstance(v, float) and not math.isfinite(v) else v for n, v in record.items()}
    return json.dumps(finite, allow_nan=False) + "\n"


class Events:
    """TensorBoard events; the library is loaded with the first one."""

    def __init__(self, folder: Path, *, step: int):
        self._folder, self._step, self._writer = folder, step, None
        self._file: _Careful | None = None

    def _open(self) -> Any:
        if self._writer is None:
            with _Unseen("torch"):
                from tensorboardX import SummaryWriter

            self._writer = SummaryWriter(str(self._folder), purge_step=self._step + 1 if self._step else None)
            events: Any = vars(self._writer.file_writer)["event_writer"]
            # Its thread would end at the first error, and whoever writes wait for ever.
            self._file = events._ev_writer = events._worker._record_writer = _Careful(events._ev_writer)
        self._raise()
        return self._writer

    def _raise(self) -> None:
        if self._file is not None and self._file.error is not None:
            raise self._file.error

    def scalars(self, step: int, split: str, values: dict[str, float]) -> None:
        """One point on the curve `split/name` of each value."""
        writer = self._open().file_writer
        from tensorboardX.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]

        points = [Summary.Value(tag=f"{split}/{name}", simple_value=value) for name, value in values.items()]
        writer.add_summary(Summary(value=points), step)

    def picture(self, step: int, png: bytes, size: tuple[int, int]) -> None:
        """The preview sheet of this step."""
        writer = self._open().file_writer  # whose add_image would compress the pixels a second time
        from tensorboardX.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]

        image = Summary.Image(height=size[1], width=size[0], colorspace=3, encoded_image_string=png)
        writer.add_summary(Summary(value=[Summary.Value(tag="previews", image=image)]), step)

    def hyperparameters(self, values: Mapping[str, Any]) -> None:
        """What the run was asked for; the page finds its results in the curves."""
        writer = self._open().file_writer
        from tensorboardX.summary import hparams

        plain = {n: v if isinstance(v, bool | int | float | str) else str(v) for n, v in values.items()}
        _, session, end = hparams(plain, {})
        writer.add_summary(session)
        writer.add_summary(end)

    def close(self) -> None:
        """Write what is pending."""
        if self._writer is not None:
            self._writer.close()
            self._raise()


class _Unseen:
    """A package that this thread does not find, though it is installed.

    tensorboardX imports torch to recognise its tensors, which no record holds: 2 to 4 seconds beside the first steps.
    """

    def __init__(self, package: str):
        self._package, self._thread = package, threading.get_ident()

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name == self._package and threading.get_ident() == self._thread:
            raise ModuleNotFoundError(f"{name} is not needed here", name=name)

    def __enter__(self) -> None:
        sys.meta_path.insert(0, self)

    def __exit__(self, *_: object) -> None:
        sys.meta_path.remove(self)


class _Careful:
    """Writes events in a thread of its own, and keeps the first error for the one that trains."""

    def __init__(self, file: Any):
        self._file, self.error = file, None

    def _try(self, method: Any, *args: Any) -> None:
        if self.error is None:
            try:
                method(*args)
            except OSError as error:
                self.error = error

    def write_event(self, event: Any) -> None:
        self._try(self._file.write_event, event)

    def flush(self) -> None:
        self._try(self._file.flush)

    def close(self) -> None:
        self._try(self._file.close)
