"""Windows with an object from an array of pictures, and windows without from whole photographs.

`data=npy:PATH`: the pictures of an array, of class 0 nothing and 1 the object. They show few of the many things that
are no face, so three quarters of an epoch are other windows without object: squares of photographs, and every third of
them a picture of the array so spoilt that it shows the object no more. The photographs are scikit-learn's, for training
alone; or all those of given folders and lists, of which every fifth is for testing. With a loss on the hardest of each
batch (`losses.hard_negative_cross_entropy`) the classifier meets its own false alarms.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Int, UInt8

from jaxcv.data.example import check_all
from jaxcv.data.io.images import Progress
from jaxcv.data.io.memory import kept
from jaxcv.data.io.paths import ENDINGS, list_pictures, sklearn_file, walk
from jaxcv.data.io.text import read_lines
from jaxcv.data.source import LABEL, Source, make_spec
from jaxcv.data.sources.windows import cut, read_padded, read_picture
from jaxcv.errors import DataError
from jaxcv.types import Batch, ImageFile, Placement

TEST_SQUARES = 1_000  # of the photographs for testing, beside the array's pictures


@cache
def list_photographs(folders: tuple[Path, ...]) -> tuple[str, ...]:
    """All pictures in folders, to their depths, and in lists, one path on each line, in the order of their names.

    Raises:
      DataError: no such folder or list, or nothing in it.
    """
    found: list[str] = []
    for given in folders:
        if not given.exists():
            raise DataError("no such folder or list", file=given)
        here = [given.parent / name for _, name in read_lines(given)] if not given.is_dir() else []
        for inside in walk(given, given) if given.is_dir() else []:
            here += list_pictures(inside, given).values()
        if not here:
            raise DataError(f"no pictures in it; expected files named {' '.join(sorted(ENDINGS))}", file=given)
        found += map(str, here)
    return tuple(sorted(found))


@kept
def _read(path: str, channels: int) -> UInt8[np.ndarray, "h w c"]:
    return read_picture(path, channels)[0]


@dataclass(frozen=True, eq=False)
class PhotographWindows:
    """Pictures of an array, and squares of photographs as further examples of nothing."""

    pictures: Source
    path: Path
    image_size: int
    channels: int
    photographs: tuple[Path, ...]
    squares: int  # of photographs, to train on; 0: the array's pictures alone
    split: str

    def __len__(self) -> int:
        if self.split == "test":
            return len(self.pictures) + self.squares
        return self.squares + self.squares // 3 or len(self.pictures)

    def class_names(self) -> tuple[str, ...]:
        """Those of the array: nothing, then the object."""
        names = self.pictures.class_names()
        if len(names) != 2:
            raise DataError(f"{len(names)} classes, expected two: 0 nothing and 1 the object", file=self.path)
        return names

    def spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        """One example: `image` uint8 [s s c] and `label` int32."""
        return make_spec(self.image_size, self.channels, **LABEL)

    def files(self) -> tuple[str, ...]:
        """The photographs of this split."""
        if not self.photographs:
            return tuple(str(sklearn_file("images", name)) for name in ("china.jpg", "flower.jpg"))
        found = list_photographs(self.photographs)
        files = tuple(name for i, name in enumerate(found) if (i % 5 == 4) == (self.split == "test"))
        if not files:
            raise DataError(f"{len(found)} pictures, of which none is left for {self.split}", file=self.photographs[0])
        return files

    def found(self) -> Any:
        """The array's pictures and the photographs, for a digest; see `jaxcv.data.sources.digest`."""
        return self.pictures, [Path(file) for file in self.files()] if self.squares else None, self.squares

    def read(self, indices: Int[np.ndarray, "b"]) -> Batch:
        """Every fourth one of the array's while training, all of them first for testing; the others squares."""
        if self.split == "test" or not self.squares:
            own, position = indices < len(self.pictures), indices
        else:
            own, position = indices % 4 == 0, indices // 4
        batch = self.pictures.read(np.where(own, position % len(self.pictures), 0))
        for row in np.flatnonzero(~own).tolist():
            batch["image"][row] = self._square(int(indices[row]))
            batch["label"][row] = 0
        return batch

    def _square(self, index: int) -> np.ndarray:
        u, v, w, x = np.random.default_rng([2, index]).random(4).tolist()
        if self.split == "train" and index % 3 == 0:
            return self._spoilt(u, v, w, x)
        files = self.files()
        photo = _read(files[int(u * len(files))], self.channels)
        shortest = min(photo.shape[:2])
        # Small ones more often, as in a scan, where there are far more of them.
        side = min(self.image_size, shortest) * max(1.0, shortest / self.image_size) ** v**2
        left, top = w * (photo.shape[1] - side), x * (photo.shape[0] - side)
        return cut(photo, (left, top, left + side, top + side), self.image_size)

    def _spoilt(self, u: float, v: float, w: float, x: float) -> np.ndarray:
        """One of the array's pictures so that it shows the object no more, but all that it is made of."""
        image = self.pictures.read(np.array([int(u * len(self.pictures))]))["image"][0]
        side, how = self.image_size, int(v * 3)
        if how == 0:  # rotated by 90, 180 or 270 degrees
            return np.rot90(image, 1 + int(w * 3)).copy()
        if how == 1:  # rolled along both axes
            move = [round(side * (0.3 + 0.4 * t)) if t < 1 else 0 for t in (w, x)]
            return np.roll(image, move, (0, 1))
        part = side * (0.35 + 0.25 * v % 1)  # a part of it, enlarged
        left, top = w * (side - part), x * (side - part)
        return cut(image, (left, top, left + part, top + part), side)

    def check(self, *, thorough: bool = False, progress: Progress | None = None) -> list[str]:
        """What the array's reader finds; and that there are photographs, or `thorough`, that each can be read."""
        self.class_names()
        found = self.pictures.check(thorough=thorough, progress=progress)
        if not self.squares:
            return found
        files = self.files()
        if thorough:
            check_all(files, lambda file: _read(file, self.channels), progress)
        return [*found, f"{self.split}: and {self.squares:,} squares of {len(files):,} photographs without object"]

    def read_image(self, path: ImageFile) -> tuple[np.ndarray, Placement]:
        """A whole picture."""
        return read_padded(path, self.channels)
