"""What a reader of files offers to the pipeline."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

import jax
import numpy as np
from jaxtyping import Float, Int

from jaxcv.data.io.images import Progress
from jaxcv.types import Batch


@runtime_checkable
class Source(Protocol):
    """One split of one data set. Making one is cheap; files are read when a method needs them."""

    def __len__(self) -> int:
        """Number of examples, at least 1."""
        ...

    def class_names(self) -> tuple[str, ...]:
        """Name of each class index."""
        ...

    def spec(self) -> Mapping[str, jax.ShapeDtypeStruct]:
        """Shape and dtype of every field of one example, without batch axis and without `example_valid`."""
        ...

    def read(self, indices: Int[np.ndarray, "b"]) -> Batch:
        """The examples at `indices`, stacked. Called from several threads. Raises DataError."""
        ...

    def box_sizes(self) -> Float[np.ndarray, "n 2"]:
        """Width and height of the boxes to make anchor boxes from, in pixels of the network's input image."""
        ...

    def check(self, *, thorough: bool = False, progress: Progress | None = None) -> list[str]:
        """What `Batches.check` promises, for this split."""
        ...

    def read_image(self, path: str | Path) -> tuple[np.ndarray, tuple[float, float]]:
        """What `Batches.read_image` promises."""
        ...


@runtime_checkable
class WindowedSource(Source, Protocol):
    """A source that can show a random part of each picture, cut out of its file."""

    def read_windows(
        self,
        indices: Int[np.ndarray, "b"],
        uniform: Float[np.ndarray, "b 4"],
        *,
        min_area: float,
        max_ratio: float,
    ) -> Batch:
        """The examples at `indices`, of each a window that its row of `uniform` chooses; see `windows.place_window`."""
        ...
