"""Sets without their files: what a run keeps of its sets, so that its experiment can be composed where they are absent.

Before it sees an example, an experiment asks its sets for class names, shapes and anchor boxes, which a scan of the
files finds. A run keeps the answers (`Facts`, JSON in its `run.json`); within `answering(...)` the openers of
`jaxcv.data` open nothing and give sets that answer as then. How a person's own picture is fitted depends on the kind of
set alone, so the sources themselves, which read nothing before they must, still do that.
"""

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, NoReturn

import jax
import numpy as np
from jaxtyping import Float, Int

from jaxcv.data.io.images import Progress
from jaxcv.data.source import Source, WindowedSource
from jaxcv.errors import DataError
from jaxcv.types import Batch, ImageFile, Placement

Facts = Mapping[str, Any]
"""Of one split: `opened` (how its set was opened, see `question`), `split`, `source` (the type of it), `examples`,
`class_names`, `fields` (shape and dtype by name), and `anchor_boxes` by their number."""


class Answers:
    """What is known of sets, by how they were opened."""

    def __init__(self, facts: Sequence[Facts]):
        self._facts = {(one["opened"], one["split"]): one for one in facts if one.get("opened")}

    def names(self, opened: str) -> bool:
        """Whether a set was opened so."""
        return any(opened == known for known, _ in self._facts)

    def of(self, source: Source, opened: str, split: str) -> Facts | None:
        """The facts of one split; None where nothing is known of such a source."""
        facts = self._facts.get((opened, split))
        return facts if facts is not None and facts["source"] == type(source).__name__ else None


_answers: ContextVar[Answers | None] = ContextVar("answers", default=None)


def answers() -> Answers | None:
    """What answers in place of files here and now; None: files do."""
    return _answers.get()


@contextlib.contextmanager
def answering(known: Answers) -> Iterator[None]:
    """Inside, sets that are known are opened without their files."""
    token = _answers.set(known)
    try:
        yield
    finally:
        _answers.reset(token)


def question(task: str, *asked: Any, **options: Any) -> str:
    """How a set was opened, as text: equal for equal arguments, in this process and in another."""
    return json.dumps([task, *asked, sorted(options.items())], default=str)


def describe(source: Source, anchor_boxes: Mapping[int, np.ndarray], opened: str, split: str) -> dict[str, Any]:
    """The facts of one split. Raises DataError: the files must be there, and are not."""
    fields = {name: [list(spec.shape), np.dtype(spec.dtype).name] for name, spec in source.spec().items()}
    return {
        "opened": opened,
        "split": split,
        "source": type(source).__name__,
        "examples": len(source),
        "class_names": list(source.class_names()),
        "fields": fields,
        "anchor_boxes": {str(k): boxes.tolist() for k, boxes in anchor_boxes.items()},
    }


@dataclass(frozen=True, eq=False)
class Absent:
    """A split whose files are not looked at: it answers from `facts`, and gives no example."""

    source: Source
    facts: Facts
    path: str

    def __len__(self) -> int:
        return self.facts["examples"]

    def class_names(self) -> tuple[str, ...]:
        """Name of each class index."""
        return tuple(self.facts["class_names"])

    def spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Shape and dtype of every field of one example."""
        fields = self.facts["fields"].items()
        return {name: jax.ShapeDtypeStruct(tuple(shape), np.dtype(dtype)) for name, (shape, dtype) in fields}

    def read(self, indices: Int[np.ndarray, "b"]) -> Batch:
        """Refused."""
        self._refuse()

    def box_sizes(self) -> Float[np.ndarray, "n 2"]:
        """Refused: anchor boxes that a run asked for are among the facts."""
        self._refuse()

    def has_windows(self) -> bool:
        """Whether the source has."""
        return isinstance(self.source, WindowedSource) and self.source.has_windows()

    def read_windows(
        self, indices: Int[np.ndarray, "b"], uniform: Float[np.ndarray, "b 4"], *, min_area: float, max_ratio: float
    ) -> Batch:
        """Refused."""
        self._refuse()

    def check(self, *, thorough: bool = False, progress: Progress | None = None) -> list[str]:
        """Refused."""
        self._refuse()

    def read_image(self, path: ImageFile) -> tuple[np.ndarray, Placement]:
        """One file as the source fits it, and where that lies in the file."""
        return self.source.read_image(path)

    def _refuse(self) -> NoReturn:
        raise DataError("the set was opened from what a run knows of it, which holds no example", file=self.path)
