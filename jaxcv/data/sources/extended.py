"""A source whose examples have one more field than those of another; all else is that one's."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from jaxcv.data.io.images import Progress
from jaxcv.data.source import BoxedSource, Source
from jaxcv.types import ImageFile, Placement


@dataclass(frozen=True, eq=False)
class Extended:
    """What a source with a further field takes over; `spec`, `read` and `arrays` are its own."""

    source: Source
    """The one beneath."""

    def __len__(self) -> int:
        return len(self.source)

    def class_names(self) -> tuple[str, ...]:
        """Name of each class index."""
        return self.source.class_names()

    def found(self) -> Any:
        """What the source found, for a digest; see `jaxcv.data.sources.digest`."""
        return (self.source,)

    def box_sizes(self) -> Float[np.ndarray, "n 2"]:
        """Those of the source."""
        return self.source.box_sizes() if isinstance(self.source, BoxedSource) else np.zeros((0, 2), np.float32)

    def check(self, *, thorough: bool = False, progress: Progress | None = None) -> list[str]:
        """Checks the source."""
        return self.source.check(thorough=thorough, progress=progress)

    def read_image(self, path: ImageFile) -> tuple[np.ndarray, Placement]:
        """One file as the source fits it; `fields_of` adds the further field where a model is fed it."""
        return self.source.read_image(path)
