"""Features of a frozen network in place of its work: computed once per example, then read like any other field."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
from jaxtyping import Int

from jaxcv.data.io.images import Progress
from jaxcv.data.sources.extended import Extended
from jaxcv.data.sources.resident import read, resident
from jaxcv.types import Batch

_CHUNK = 32


@runtime_checkable
class Extractor(Protocol):
    """A function of images whose result has a known shape; `jaxcv.weights.extractor` makes them."""

    def __call__(self, images: Any) -> Any:
        """Features [b ...] of uint8 images [b h w c]."""
        ...

    def spec(self, image: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        """Shape and dtype of one example's features, given those of its image."""
        ...


@dataclass(frozen=True, eq=False)
class CachedFeatures(Extended):
    """A source whose examples also have the field `features`, kept in memory once computed.

    The pictures are those that the source reads: an augmentation in the training step comes too late to change them.
    """

    extract: Extractor
    _kept: list[np.ndarray] = field(default_factory=list, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def spec(self) -> Mapping[str, jax.ShapeDtypeStruct]:
        """The source's fields, and `features`."""
        fields = self.source.spec()
        return {**fields, "features": self.extract.spec(fields["image"])}

    def read(self, indices: Int[np.ndarray, "b"]) -> Batch:
        """The examples at `indices`; the first call computes the features of all."""
        return {**read(self.source, indices), "features": self.features()[indices]}

    def arrays(self, progress: Progress) -> Batch:
        """All examples: the source's arrays, and the features."""
        return {**resident(self.source), "features": self.features(progress)}

    def features(self, progress: Progress | None = None) -> np.ndarray:
        """Features of every example, in order [n ...]."""
        with self._lock:
            if not self._kept:
                self._kept.append(self._compute(progress or (lambda done, total: None)))
            return self._kept[0]

    def _compute(self, progress: Callable[[int, int], None]) -> np.ndarray:
        size, spec = len(self.source), self.spec()["features"]
        kept = np.empty((size, *spec.shape), spec.dtype)
        for start in range(0, size, _CHUNK):
            # The last chunk goes back a little, so that all have one shape and compile once.
            chunk = np.arange(max(0, min(start, size - _CHUNK)), min(start + _CHUNK, size))
            kept[chunk] = np.asarray(self.extract(read(self.source, chunk)["image"]))
            progress(int(chunk[-1]) + 1, size)
        return kept
