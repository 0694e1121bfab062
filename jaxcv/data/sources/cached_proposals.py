"""Region proposals beside every example: computed once for each picture, and kept on disk."""

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from tempfile import NamedTemporaryFile

import jax
import numpy as np
from jaxtyping import Float, Int, UInt8, UInt16

from jaxcv.data.io.images import Progress
from jaxcv.data.io.paths import cache_folder
from jaxcv.data.sources import region_proposers
from jaxcv.data.sources.extended import Extended
from jaxcv.data.sources.resident import in_parts, read, resident
from jaxcv.types import Batch


@dataclass(frozen=True, eq=False)
class CachedProposals(Extended):
    """A source whose examples also have `proposals` [n 4], xyxy in pixels of the network's input, zeros where fewer.

    An augmentation in the training step moves them with the picture.
    """

    kind: str
    """Of `region_proposers.PROPOSERS`."""
    count: int
    """Proposals of a picture: the first so many."""
    digest: Callable[[], str]
    """Of the source: what was computed for another is not used."""
    _kept: list[np.ndarray] = field(default_factory=list, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        """The source's fields, and `proposals`."""
        return {**self.source.spec(), "proposals": jax.ShapeDtypeStruct((self.count, 4), np.float32)}

    def read(self, indices: Int[np.ndarray, "b"]) -> Batch:
        """The examples at `indices`; their proposals are computed anew before those of all are there."""
        batch = read(self.source, indices)
        if self._kept:
            return {**batch, "proposals": self._kept[0][indices].astype(np.float32)}
        return {**batch, "proposals": np.stack([self.propose(image) for image in batch["image"]]).astype(np.float32)}

    def arrays(self, progress: Progress) -> Batch:
        """All examples: the source's arrays, and the proposals."""
        return {**resident(self.source), "proposals": self.proposals(progress).astype(np.float32)}

    def propose(self, image: UInt8[np.ndarray, "h w c"]) -> Float[np.ndarray, "n 4"]:
        """The proposals of one picture, which may be grey."""
        boxes = region_proposers.PROPOSERS[self.kind](np.broadcast_to(image, (*image.shape[:2], 3)))[: self.count]
        return np.concatenate([boxes, np.zeros((self.count - len(boxes), 4), np.float32)])

    def proposals(self, progress: Progress | None = None) -> UInt16[np.ndarray, "e n 4"]:
        """Those of every example, in order; of an earlier process, where they are on disk."""
        with self._lock:
            if not self._kept:
                self._kept.append(self._load(progress or (lambda done, total: None)))
            return self._kept[0]

    def _load(self, progress: Progress) -> UInt16[np.ndarray, "e n 4"]:
        sha = sha256(repr((self.digest(), len(self), self.kind, self.count)).encode())
        sha.update(Path(region_proposers.__file__).read_bytes())
        # The digest of a set that is rendered says how many pictures it has, not which.
        sha.update(read(self.source, np.arange(min(4, len(self))))["image"].tobytes())
        file = cache_folder() / "proposals" / f"{self.kind}-{sha.hexdigest()[:20]}.npy"
        with suppress(OSError, ValueError):  # none there, or cut off
            kept = np.load(file)
            if kept.shape == (len(self), self.count, 4):
                return kept
        found = self._compute(progress)
        with suppress(OSError):  # a folder that cannot be written, a full disk: they are computed again next time
            file.parent.mkdir(parents=True, exist_ok=True)
            with NamedTemporaryFile(dir=file.parent, delete=False) as stream:
                np.save(stream, found)
            os.replace(stream.name, file)
        return found

    def _compute(self, progress: Progress) -> UInt16[np.ndarray, "e n 4"]:
        found = np.zeros((len(self), self.count, 4), np.uint16)

        def propose(part: Int[np.ndarray, "b"]) -> None:
            for i, image in zip(part.tolist(), read(self.source, part)["image"], strict=True):
                found[i] = self.propose(image)

        in_parts(len(self), propose, progress)
        return found
