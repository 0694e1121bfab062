"""What gives examples by number: the protocol between whoever reads data and `jaxcv.data.dataset`."""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
from jaxtyping import Float, Int

from jaxcv.data.io.images import Progress
from jaxcv.types import Batch, ImageFile, Placement


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
        """The examples at `indices`, stacked. Called from several threads. Raises DataError.

        May hold `example_valid` [b] besides the fields of `spec`: False, and zeros, where an example could not be read.
        """
        ...

    def check(self, *, thorough: bool = False, progress: Progress | None = None) -> list[str]:
        """What `Batches.check` promises, for this split."""
        ...

    def read_image(self, path: ImageFile) -> tuple[np.ndarray, Placement]:
        """What `Batches.read_image` promises."""
        ...


@runtime_checkable
class BoxedSource(Source, Protocol):
    """A source whose examples have boxes."""

    def box_sizes(self) -> Float[np.ndarray, "n 2"]:
        """Width and height of the boxes to make anchor boxes from, in pixels of the network's input image."""
        ...


@runtime_checkable
class LabelledSource(Source, Protocol):
    """A source that knows the class of every example without reading it."""

    def labels(self) -> Int[np.ndarray, "n"]:
        """The class index of each example."""
        ...

    def hands(self) -> Int[np.ndarray, "n"] | None:
        """Whose drawing each example is; None where nobody says."""
        ...


@runtime_checkable
class ArraySource(Source, Protocol):
    """A source that has better means to give all its examples than to read one after the other."""

    def arrays(self, progress: Progress) -> Batch:
        """Every field for all examples, first axis the examples. Called once, see `sources.resident`."""
        ...


@runtime_checkable
class WindowedSource(Source, Protocol):
    """A source that can show a random part of each picture, cut out of its file."""

    def has_windows(self) -> bool:
        """Whether the examples of this set may be shown so."""
        ...

    def read_windows(
        self, indices: Int[np.ndarray, "b"], uniform: Float[np.ndarray, "b 4"], *, min_area: float, max_ratio: float
    ) -> Batch:
        """The examples at `indices`, of each a window that its row of `uniform` chooses; see `io.crops.window`."""
        ...


def make_spec(image_size: int, channels: int, **fields: tuple[tuple[int, ...], Any]) -> dict[str, jax.ShapeDtypeStruct]:
    """The spec of `image` uint8 [s s c] and other fields, given as shape and dtype."""
    image = {"image": ((image_size, image_size, channels), np.uint8)}
    return {name: jax.ShapeDtypeStruct(*field) for name, field in (image | fields).items()}


def box_fields(count: int) -> dict[str, tuple[tuple[int, ...], Any]]:
    """The fields of so many boxes, for `make_spec`."""
    flags = {"valid": ((count,), np.bool_), "ignored": ((count,), np.bool_)}
    return {"boxes": ((count, 4), np.float32), "classes": ((count,), np.int32), **flags}


LABEL = {"label": ((), np.int32)}
"""The field of a class, for `make_spec`."""
