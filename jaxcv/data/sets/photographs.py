"""Windows with an object from an array of pictures, and windows without from whole photographs.

`data=npy:PATH`: the pictures of an array, whose classes are 0 nothing and 1 the object (`jaxcv.data.formats.numpy_arrays`). An array of
pictures has few of the many things that are no face, so three quarters of an epoch are other windows without object:
squares of photographs that show none, and every third of them a picture of the array so spoilt that it shows the
object no more. The photographs are those of scikit-learn, and the test squares then come from nowhere; or all those of
given folders and lists, of which every fifth is for testing. There are more squares than a run can look at: with a
loss on the hardest of each batch (`losses.hard_negative_cross_entropy`) the classifier meets its own false alarms.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8

from jaxcv.data.dataset import Dataset
from jaxcv.data.example import check_all
from jaxcv.data.formats.numpy_arrays import open_npy
from jaxcv.data.io.images import Progress
from jaxcv.data.io.text import ENDINGS, list_folder, read_lines
from jaxcv.data.source import Source
from jaxcv.data.toy.digit_windows import Windows, read_picture, resized
from jaxcv.data.toy.digits import sklearn_file
from jaxcv.types import Batch, DataError

TEST_SQUARES = 1_000
"""Of the photographs for testing, beside the array's pictures."""


def open_picture_windows(
    path: Path, *, image_size: int, channels: int, photographs: tuple[Path, ...], squares: int
) -> tuple[Dataset, Dataset]:
    """Windows to train on and to test on.

    Args:
      path: of the array.
      image_size: side of a window in pixels.
      channels: 1 for grey, 3 for RGB.
      photographs: folders of pictures without object, read to their depths, or files that list such pictures, one path
        on each line; none: those of scikit-learn, all for training.
      squares: how many of them there are to train on; 0: the array's pictures alone.
    """
    train, test = open_npy(path, image_size=image_size, channels=channels)
    parts = [
        PictureWindows(train.source, path, image_size, channels, photographs, squares, "train"),
        PictureWindows(
            test.source, path, image_size, channels, photographs, TEST_SQUARES if photographs else 0, "test"
        ),
    ]
    return Dataset(parts[0], image_size), Dataset(parts[1], image_size)


@cache
def list_photographs(places: tuple[Path, ...]) -> tuple[str, ...]:
    """All pictures in folders and lists, in the order of their names.

    Raises:
      DataError: no such place, or nothing in it.
    """
    found: list[str] = []
    for place in places:
        if place.is_dir():
            here = list(_pictures(place, place))
        elif place.is_file():
            here = [str(place.parent / name) for _, name in read_lines(place)]
        else:
            raise DataError("no such folder or list; name one of pictures without the object", file=place)
        if not here:
            raise DataError(f"no pictures in it; expected files named {' '.join(sorted(ENDINGS))}", file=place)
        found += here
    return tuple(sorted(found))


def _pictures(folder: Path, root: Path) -> Sequence[str]:
    found: list[str] = []
    for entry in list_folder(folder, root):
        if entry.is_dir():
            found += _pictures(Path(entry.path), root)
        elif Path(entry.name).suffix.lower() in ENDINGS and not entry.name.startswith("."):
            found.append(entry.path)
    return found


@cache
def _read(path: str, channels: int) -> UInt8[np.ndarray, "h w c"]:
    return read_picture(path, channels)[0]


@dataclass(frozen=True, eq=False)
class PictureWindows(Windows):
    """Pictures of an array, and squares of photographs as further examples of nothing."""

    pictures: Source
    path: Path
    image_size: int
    channels: int
    photographs: tuple[Path, ...]
    squares: int
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

    def files(self) -> tuple[str, ...]:
        """The photographs of this split."""
        if not self.photographs:
            return tuple(str(sklearn_file("images", name)) for name in ("china.jpg", "flower.jpg"))
        found = list_photographs(self.photographs)
        files = tuple(name for i, name in enumerate(found) if (i % 5 == 4) == (self.split == "test"))
        if not files:
            raise DataError(f"{len(found)} pictures, of which none is left for {self.split}", file=self.photographs[0])
        return files

    def read(self, indices: Int[np.ndarray, "b"]) -> Batch:
        """Every fourth one of the array's while training, all of them first for testing; the others squares."""
        if self.split == "test" or not self.squares:
            own, place = indices < len(self.pictures), indices
        else:
            own, place = indices % 4 == 0, indices // 4
        batch = self.pictures.read(np.where(own, place % len(self.pictures), 0))
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
        return resized(photo, (left, top, left + side, top + side), self.image_size)

    def _spoilt(self, u: float, v: float, w: float, x: float) -> np.ndarray:
        """One of the array's pictures so that it shows the object no more, but all that it is made of."""
        image = self.pictures.read(np.array([int(u * len(self.pictures))]))["image"][0]
        side, how = self.image_size, int(v * 3)
        if how == 0:  # on its head, or on its side
            return np.rot90(image, 1 + int(w * 3)).copy()
        if how == 1:  # cut and put together the wrong way
            move = [round(side * (0.3 + 0.4 * t)) if t < 1 else 0 for t in (w, x)]
            return np.roll(image, move, (0, 1))
        part = side * (0.35 + 0.25 * v % 1)  # a part of it, as large as a whole
        left, top = w * (side - part), x * (side - part)
        return resized(image, (left, top, left + part, top + part), side)

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
