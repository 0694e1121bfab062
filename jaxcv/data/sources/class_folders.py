"""Class folders: one folder a class, named after it, its pictures directly inside; `folder_scan` has the rules.

Pictures are fitted by `images.fit_image`: the centre square of the shorter side for training; of 0.875 of it for
testing, or of all of it where that share has fewer pixels than the network's input. So a picture at most 1.14 times as
large as the input is used whole.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Float, Int, UInt8

from jaxcv.data.dataset import Dataset
from jaxcv.data.example import Kept, check_all
from jaxcv.data.formats.image_folder import ClassFolders, scan_folder
from jaxcv.data.io.crops import read_window
from jaxcv.data.io.images import Progress, check_image, fit_image
from jaxcv.data.io.text import list_counts, list_names
from jaxcv.types import Batch

CACHE_BYTES = 2**29
"""Most memory that fitted pictures of one split may take; those that come first in the split are kept."""
TEST_SHARE = 0.875
"""Of the shorter side of a test picture: 224 of 256 pixels, as in many papers."""


def open_folder(
    folder: Path, *, image_size: int, channels: int = 3, on_error: str = "raise"
) -> tuple[Dataset, Dataset]:
    """Open class folders: the train and the test split. Files are read when first needed.

    Args:
      folder: see `folder_scan`.
      image_size: side of the square the pictures are fitted to, in pixels.
      channels: 3 for RGB, grey pictures too; 1 for grey.
      on_error: `raise`, or `skip` faulty pictures: to know them all, each is decoded once when the set is opened.
    """
    scan = partial(scan_folder, folder, on_error == "skip")
    train, test = (
        Dataset(FolderImages(split, image_size, channels, scan), image_size=image_size) for split in ("train", "test")
    )
    return train, test


@dataclass(frozen=True, eq=False)
class FolderImages:
    """One split of class folders; `scan` lists them and caches for itself."""

    split: str
    image_size: int
    channels: int
    scan: Callable[[], ClassFolders]
    test_share: float = TEST_SHARE
    """Of the shorter side of a test picture."""
    apart: bool = False
    """Whether the splits share no class."""
    inverted: bool = False
    """Whether dark becomes light."""

    def __len__(self) -> int:
        return len(self._files)

    @property
    def _files(self) -> tuple[str, ...]:
        return self.scan().files[self.split]

    def class_names(self) -> tuple[str, ...]:
        """Name of each class index."""
        return self.scan().class_names

    def spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        """One example: `image` uint8 [s s c] and `label` int32."""
        image = jax.ShapeDtypeStruct((self.image_size, self.image_size, self.channels), np.uint8)
        return {"image": image, "label": jax.ShapeDtypeStruct((), np.int32)}

    @cached_property
    def _kept(self) -> Kept:
        return Kept(len(self), self.spec()["image"].shape, limit=CACHE_BYTES)

    def read(self, indices: Int[np.ndarray, "b"]) -> Batch:
        """The examples at `indices`."""
        images = self._kept.read(indices, lambda i: self._fit(self._files[i])[0])
        return {"image": images, "label": self.scan().labels[self.split][indices]}

    def read_windows(
        self, indices: Int[np.ndarray, "b"], uniform: Float[np.ndarray, "b 4"], *, min_area: float, max_ratio: float
    ) -> Batch:
        """The examples at `indices`, of each a window of its whole picture; none is kept, for each is shown once."""
        images = np.empty((len(indices), *self.spec()["image"].shape), np.uint8)
        options = {"size": self.image_size, "channels": self.channels, "min_area": min_area, "max_ratio": max_ratio}
        for row, i in enumerate(indices.tolist()):
            images[row] = read_window(self._files[i], uniform[row], **options)
        if self.inverted:
            images = 255 - images
        return {"image": images, "label": self.scan().labels[self.split][indices]}

    def _fit(self, path: str | Path) -> tuple[UInt8[np.ndarray, "s s c"], float]:
        share = self.test_share if self.split == "test" else 1.0
        pixels, factor = fit_image(path, size=self.image_size, channels=self.channels, share=share)
        return 255 - pixels if self.inverted else pixels, factor

    @cached_property
    def _passed(self) -> set[bool]:
        """Whether the checks that found no fault were thorough: the trials of a sweep check once."""
        return set()

    def box_sizes(self) -> Float[np.ndarray, "n 2"]:
        """No boxes in a set for classification."""
        return np.zeros((0, 2), np.float32)

    def check(self, *, thorough: bool = False, progress: Progress | None = None) -> list[str]:
        """Of every picture its presence, header and ending; `thorough` decodes it too."""
        files, names = self._files, self.class_names()
        if not self._passed & {thorough, True}:
            check_all(files, lambda file: check_image(Path(file), thorough=thorough), progress)
            self._passed.add(thorough)
        counts = np.bincount(self.scan().labels[self.split], minlength=len(names)).tolist()
        if self.apart:
            names, counts = zip(*((name, n) for name, n in zip(names, counts, strict=True) if n), strict=True)
        listed = list_counts(names, counts)
        lines = [f"{self.split}: {len(files):,} images, {len(names):,} classes ({listed})"]
        if 0 in counts:
            missing = [name for name, count in zip(names, counts, strict=True) if count == 0]
            lines.append(f"{self.split}: no image of {list_names(missing)}")
        return lines + [f"{self.split}: {note}" for note in self.scan().notes[self.split]]

    def read_image(self, path: str | Path) -> tuple[np.ndarray, tuple[float, float]]:
        """One file as its split is fitted, and the factors (x, y) from its pixels to the file's; not where they lie."""
        pixels, factor = self._fit(path)
        return pixels, (factor, factor)
