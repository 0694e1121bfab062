"""The words every room shares: batches, predictions, and the data protocol.

Images are NHWC: `uint8` on the host, `float32` in [0, 1] on the device. Boxes are `xyxy` in pixels of the network's
input image, `float32`, padded to a fixed count with a `bool` mask. Everything else in jaxcv may import this module;
it imports nothing of jaxcv.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Integer, UInt32

if TYPE_CHECKING:  # every room imports this module, and few have pictures
    from PIL import Image

Scalar = float | int | Float[Array, ""] | Int[Array, ""]
"""A hyperparameter: a Python number outside a trace, a weakly typed scalar tracer inside one."""

Batch = dict[str, Any]
"""Field name to array of fixed shape, first axis the examples.

`image` [b h w c]; by task `label` [b], `boxes` [b m 4], `classes` [b m], `valid` [b m] (which of the m boxes are
truths), `ignored` [b m] (boxes that are neither truth nor false alarm: VOC's difficult, COCO's crowd), `mask` [b h w]
(255 = ignore) and perhaps `pixel_weights` [b h w], `points` [b p 2]. `example_valid` [b] is False on the rows that pad
a short last batch.
"""


ImageFile = str | Path | np.ndarray
"""A picture of any size: its file, or its pixels, uint8 [h w], [h w 1] or [h w 3]."""


class Placement(NamedTuple):
    """Where the network's input lies in a picture: (u, v) of the input is (left + x u, top + y v) of the picture."""

    size: tuple[int, int]
    """Width and height of the picture, upright, in pixels."""
    x: float = 1.0
    """Pixels of the picture for one of the input, along its width."""
    y: float = 1.0
    left: float = 0.0
    top: float = 0.0

    def points(self, points: np.ndarray) -> np.ndarray:
        """Points [... 2] of the input, in pixels of the picture."""
        return points * np.array([self.x, self.y]) + np.array([self.left, self.top])

    def boxes(self, boxes: np.ndarray) -> np.ndarray:
        """Boxes xyxy [... 4] of the input, in pixels of the picture and clipped to it."""
        moved = self.points(boxes.reshape(-1, 2)).reshape(boxes.shape)
        return np.clip(moved, 0, np.tile(self.size, 2)).astype(np.float32)


class Detections(NamedTuple):
    """Boxes found in a batch of images (or in one), padded to a fixed count: best score first, padding last."""

    boxes: Float[Array, "*b n 4"] | Float[np.ndarray, "*b n 4"]
    """xyxy in pixels of the network's input image; zeros where not `valid`."""
    scores: Float[Array, "*b n"] | Float[np.ndarray, "*b n"]
    """Confidence in [0, 1]; zero where not `valid`."""
    classes: Int[Array, "*b n"] | Int[np.ndarray, "*b n"]
    """Index into the data set's class names; -1 where not `valid`."""
    valid: Bool[Array, "*b n"] | Bool[np.ndarray, "*b n"]
    """False on padding."""
    proposals: Float[Array, "*b p 4"] | Float[np.ndarray, "*b p 4"] | None = None
    """The best regions that a two-stage detector looked at, to be drawn: xyxy as the boxes, those of padding zeros."""


class Classes(NamedTuple):
    """One class per image."""

    label: Int[Array, "*b"] | Int[np.ndarray, "*b"]
    """Index of the most probable class."""
    scores: Float[Array, "*b k"] | Float[np.ndarray, "*b k"]
    """Probability of each class; sums to 1."""


class Localization(NamedTuple):
    """One object per image, or none."""

    score: Float[Array, "*b"] | Float[np.ndarray, "*b"]
    """p_c: probability that there is an object. Up to 0.5, the rest means nothing."""
    box: Float[Array, "*b 4"] | Float[np.ndarray, "*b 4"]
    """xyxy in pixels of the network's input image."""
    label: Int[Array, "*b"] | Int[np.ndarray, "*b"]
    """Index of the most probable class."""
    scores: Float[Array, "*b k"] | Float[np.ndarray, "*b k"]
    """Probability of each class; sums to 1."""


class Landmarks(NamedTuple):
    """Known points of one object per image."""

    points: Float[Array, "*b p 2"] | Float[np.ndarray, "*b p 2"]
    """(x, y) in pixels of the network's input image, the middle of the first pixel being (0.5, 0.5)."""
    visible: Bool[Array, "*b p"] | Bool[np.ndarray, "*b p"]
    """False where a point is not known."""


class Stylised(NamedTuple):
    """A picture in place of another one."""

    picture: Float[Array, "*b h w 3"] | Float[np.ndarray, "*b h w 3"]
    """In [0, 1]."""


class Proposals(NamedTuple):
    """What a region proposal network says of a batch of images, with a anchor boxes and n proposals an image."""

    anchors: Float[Array, "a 4"]
    """xyxy in pixels of the network's input image, the same for all images."""
    objectness: Float[Array, "b a"]
    """Logits."""
    deltas: Float[Array, "b a 4"]
    """From the anchor boxes to the objects; see `jaxcv.ops.decode_boxes`."""
    boxes: Float[Array, "b n 4"]
    """The proposals, best first; zeros where not `valid`."""
    scores: Float[Array, "b n"]
    """Probabilities of an object; 0 where not `valid`."""
    valid: Bool[Array, "b n"]
    seeds: UInt32[Array, " b"]
    """Of the sample of anchor boxes that the loss takes of each image: random in training, 0 in evaluation."""


class Regions(NamedTuple):
    """What the second stage of a detector says of n regions an image: a sample in training, all in evaluation."""

    boxes: Float[Array, "b n 4"]
    """The regions, xyxy in pixels of the network's input image; constants, without gradient."""
    valid: Bool[Array, "b n"]
    """False on padding."""
    logits: Float[Array, "b n k+1"]
    """Of background, class 0, and the k classes after it."""
    deltas: Float[Array, "b n k+1 4"]
    """From the region to the object, for each class; those of background mean nothing."""


class TwoStageOutputs(NamedTuple):
    """Outputs of Faster R-CNN."""

    proposals: Proposals
    regions: Regions


class Embeddings(NamedTuple):
    """One vector per image, to be compared with others."""

    vectors: Float[Array, "*b d"] | Float[np.ndarray, "*b d"]
    """Of length one, but for vectors of zeros; their products are cosines, larger the more alike."""


class Similarities(NamedTuple):
    """Every image of a batch compared with every one."""

    scores: Float[Array, "*b n"] | Float[np.ndarray, "*b n"]
    """Probability of showing the same."""


class Masks(NamedTuple):
    """A class for each pixel."""

    label: Integer[Array, "*b h w"] | Integer[np.ndarray, "*b h w"]
    """Index of the most probable class; 255 where a target is void."""
    score: Float[Array, "*b h w"] | Float[np.ndarray, "*b h w"]
    """Its probability."""


Cell = str | int | float | None
"""Of a table; None where a value is not defined."""


class Table(NamedTuple):
    """Rows that are written to a file, shown on a terminal, or both."""

    name: str
    """Of its file in the run's folder, without ending; empty: there is no file."""
    title: str
    """Lines above it on a terminal; empty: it is not shown there."""
    columns: tuple[str, ...]
    rows: Sequence[Sequence[Cell]]


class Picture(NamedTuple):
    """An image that is written to a file."""

    name: str
    """Of its file in `previews/` of the run's folder, without ending."""
    image: "Image.Image"


def matches(pattern: str, path: str) -> bool:
    """Whether a pattern over parameter paths, such as `head` or `stage4|head`, names this path or one above it."""
    return re.match(f"(?:{pattern})(?:/|$)", path) is not None


@runtime_checkable
class BatchIterator(Protocol):
    """Batches in order, with a position that can be stored as JSON and gone back to."""

    def __next__(self) -> Batch:
        """The next batch, numpy arrays on the host."""
        ...

    def __iter__(self) -> Iterator[Batch]:
        """Itself."""
        ...

    def get_state(self) -> dict[str, Any]:
        """The position: JSON-serialisable."""
        ...

    def set_state(self, state: dict[str, Any]) -> None:
        """Go to a position that `get_state` gave, in this process or another."""
        ...


@runtime_checkable
class Batches(Protocol):
    """What the trainer asks of data. Opening one is cheap: files are read when batches are."""

    @property
    def path(self) -> str:
        """Where the set lies, without links and relative parts; empty where it is embedded, or nobody says."""
        ...

    def digest(self) -> str:
        """Of what the scan of the set found: classes, files with their sizes, annotations. Raises DataError."""
        ...

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name of each class index; empty where there are no classes."""
        ...

    @property
    def spec(self) -> Mapping[str, jax.ShapeDtypeStruct]:
        """Shape and dtype of every field of a batch, batch axis included."""
        ...

    def __len__(self) -> int:
        """Batches in one pass over the set."""
        ...

    def __iter__(self) -> BatchIterator:
        """From the start: endless when training, one padded pass when evaluating. In several processes, its rows."""
        ...

    def batch(self, index: int) -> Batch:
        """Batch number `index` alone, of all processes; in one, equal to what iteration gives."""
        ...

    def check(self, *, thorough: bool = False, progress: Callable[[int, int], None] | None = None) -> list[str]:
        """Look for faults before the first step. Raises DataError at the first fault; returns one line a finding.

        Quick: every annotation, and of every image its presence, header and ending. Thorough: decode every image too;
        `progress` is then called with the number done and the total.
        """
        ...

    def prepare(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Do what must be done once before the first batch and takes long, such as features of a frozen network."""
        ...

    def fields_of(self, image: np.ndarray) -> Batch:
        """A batch of one without truth, from an image of `read_image`: every field that a model may be fed."""
        ...

    def read_image(self, path: ImageFile) -> tuple[np.ndarray, Placement]:
        """One file as the model is fed it: uint8 [h w c], and where that lies in the file."""
        ...


@runtime_checkable
class ResidentBatches(Batches, Protocol):
    """Batches whose examples can also be had as whole arrays, to live on the device. Without this, data is streamed."""

    @property
    def num_examples(self) -> int:
        """Examples of the split."""
        ...

    def indices(self, numbers: Int[np.ndarray, "k"]) -> Int[np.ndarray, "k b"]:
        """The examples that are the rows of batches by number; -1 for rows that pad a short last batch.

        `batch(number)` holds those of its number; rows of -1 are zeros, `example_valid` among them.
        """
        ...

    def resident_bytes(self) -> int | None:
        """Bytes of all examples as `resident` gives them; None where an example is not the same in every epoch."""
        ...

    def resident(self, progress: Callable[[int, int], None] | None = None) -> Mapping[str, np.ndarray]:
        """Every field of `spec` for all examples of the split, first axis the examples; to be read, not written.

        `example_valid` [n] is False for an example that could not be read. The same arrays for every batch size, seed
        and call. `progress` is called with the number of examples done and the total.

        Raises:
          DataError: an example that cannot be read.
        """
        ...
