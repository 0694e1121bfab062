"""Pictures without annotations, in their own proportions: one that is repainted, or a folder of them to learn from.

A picture is a path, or `china` or `flower`, the photographs that come with scikit-learn.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Int, UInt8

from jaxcv.data.io.crops import fit_file, middle
from jaxcv.data.io.images import Progress, check_image, convert_image, open_any, open_image, to_array, upright_size
from jaxcv.data.io.paths import find_folder, list_pictures, sklearn_file, walk
from jaxcv.data.source import make_spec
from jaxcv.errors import DataError, UserError
from jaxcv.types import Batch, ImageFile, Placement

EMBEDDED = ("china", "flower")
SMALLEST = 32
"""Pixels of the shorter side after resizing: networks halve it five times."""


def picture_file(name: str) -> Path:
    """The file that a picture's name means. Raises UserError: none is named."""
    if not name:
        raise UserError(f"no picture named: expected a path, or one of {', '.join(EMBEDDED)}")
    return sklearn_file("images", f"{name}.jpg") if name in EMBEDDED else Path(name).expanduser()


@lru_cache(maxsize=64)
def _size(file: Path, longer: int) -> tuple[int, int]:
    """Width and height of a picture whose longer side is resized to `longer`."""
    with open_image(file) as image:
        width, height = image.size
    factor = longer / max(width, height)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    if min(size) < SMALLEST:
        raise DataError(
            f"{width}x{height} pixels, {size[0]}x{size[1]} at image_size={longer}: expected {SMALLEST} at least "
            "along both axes; cut a part out of it, or take a larger image_size",
            file=file,
        )
    return size


def fit_picture(
    file: ImageFile, longer: int, *, size: tuple[int, int] | None = None, channels: int = 3
) -> UInt8[np.ndarray, "h w c"]:
    """A whole picture, to be read only.

    Args:
      file: an image file of any mode; transparency is dropped.
      longer: pixels that its longer side gets.
      size: width and height instead.
      channels: 1 or 3.

    Raises:
      DataError: missing, not an image, damaged; or less than 32 pixels wide or high after resizing.
    """
    from PIL import Image

    if size is None:
        assert not isinstance(file, np.ndarray), "pixels come with the size that they get"
        size = _size(Path(file), longer)
    with open_any(file) as image:
        image.draft(image.mode, (2 * size[0], 2 * size[1]))  # a JPEG is decoded at about the size that is needed
        image = convert_image(image, channels)
        method = Image.Resampling.LANCZOS if size[0] < image.width else Image.Resampling.BICUBIC
        pixels = to_array(image.resize(size, method, reducing_gap=3.0))
    pixels.flags.writeable = False
    return pixels


read_picture = lru_cache(maxsize=16)(fit_picture)
"""As `fit_picture`, of a file that is read again and again."""


def match_colors(picture: UInt8[np.ndarray, "h w 3"], like: UInt8[np.ndarray, "i j 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """A picture with the mean and the covariance of another one's colours.

    By the symmetric linear map: Gatys et al., Preserving color in neural artistic style transfer,
    https://arxiv.org/abs/1606.05897, section 3.1, "image analogies".
    """

    def statistics(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rows = x.reshape(-1, 3) / 255.0
        return rows.mean(0), np.cov(rows.T) + 1e-5 * np.eye(3)

    def root(matrix: np.ndarray, power: float) -> np.ndarray:
        values, vectors = np.linalg.eigh(matrix)
        return (vectors * values**power) @ vectors.T

    (mean, covariance), (target_mean, target) = statistics(picture), statistics(like)
    moved = (picture / 255.0 - mean) @ (root(covariance, -0.5) @ root(target, 0.5)) + target_mean
    return np.round(255 * moved.clip(0, 1)).astype(np.uint8)


def match_luminance(
    picture: UInt8[np.ndarray, "h w 3"], like: UInt8[np.ndarray, "i j 3"]
) -> UInt8[np.ndarray, "h w 3"]:
    """The luminance of a picture in three equal channels, with the mean and deviation of another one's: section 3.2."""
    grey, target = (x @ np.array([0.299, 0.587, 0.114]) for x in (picture, like))
    moved = (grey - grey.mean()) * (target.std() / max(grey.std(), 1e-3)) + target.mean()
    return np.repeat(np.round(moved.clip(0, 255)).astype(np.uint8)[..., None], 3, axis=-1)


@dataclass(frozen=True, eq=False)
class OnePicture:
    """A picture as a set of one example: `image` uint8 [h w 3], and `regions` uint8 [s h w] where there are some."""

    split: str
    file: Path
    image_size: int
    """Pixels of the longer side."""
    regions: tuple[Path, ...] = ()
    """Grey pictures, white where a style belongs; each is squeezed to the picture's height and width."""
    others: tuple[Path, ...] = ()
    """Further files that a run depends on, for the digest."""

    def __len__(self) -> int:
        return 1

    def class_names(self) -> tuple[str, ...]:
        """None."""
        return ()

    def found(self) -> Any:
        """The files, for a digest."""
        for file in (self.file, *self.regions, *self.others):
            check_image(file)
        return self.file, self.regions, self.others

    def spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Reads the picture's header."""
        width, height = _size(self.file, self.image_size)
        fields = {"image": jax.ShapeDtypeStruct((height, width, 3), np.uint8)}
        if self.regions:
            fields["regions"] = jax.ShapeDtypeStruct((len(self.regions), height, width), np.uint8)
        return fields

    def read(self, indices: Int[np.ndarray, "b"]) -> Batch:
        """The picture, so many times."""
        size = _size(self.file, self.image_size)
        batch = {"image": read_picture(self.file, self.image_size)}
        if self.regions:
            masks = [read_picture(file, self.image_size, size=size, channels=1)[..., 0] for file in self.regions]
            batch["regions"] = np.stack(masks)
        return {name: np.repeat(field[None], len(indices), axis=0) for name, field in batch.items()}

    def check(self, *, thorough: bool = False, progress: Progress | None = None) -> list[str]:
        """Reads every file."""
        self.read(np.arange(1))
        for file in self.others:
            read_picture(file, self.image_size)
        (height, width, _), files = self.spec()["image"].shape, [str(file) for file in (self.file, *self.others)]
        return [f"{self.split}: {' with '.join(files)}, at {width}x{height} pixels"]

    def read_image(self, path: ImageFile) -> tuple[np.ndarray, Placement]:
        """One file, squeezed to the picture's size, and where that lies in the file."""
        width, height = _size(self.file, self.image_size)
        with open_any(path) as image:
            x, y = upright_size(image)
        pixels = fit_picture(path, self.image_size, size=(width, height))
        return pixels, Placement((x, y), x / width, y / height)


@dataclass(frozen=True, eq=False)
class PictureFolder:
    """All pictures of a folder and those below it: `image` uint8 [s s 3], centre squares; every fifth for testing."""

    split: str
    folder: Path
    image_size: int
    longest: int
    """Pixels of the longer side of a person's own picture, which keeps its proportions."""

    @cached_property
    def files(self) -> tuple[Path, ...]:
        """Of the split. Raises DataError: no folder, or too few pictures in it."""
        root = find_folder(self.folder, "data=PATH needs a folder of pictures")
        every = [file for inside in walk(root, root) for file in list_pictures(inside, root).values()]
        fifth = min(5, max(2, len(every)))  # of fewer than five, the last
        found = tuple(file for i, file in enumerate(every) if (i % fifth == fifth - 1) == (self.split == "test"))
        if not found:
            raise DataError(f"{len(every)} pictures, of which none is left for {self.split}; add some", file=root)
        return found

    def __len__(self) -> int:
        return len(self.files)

    def class_names(self) -> tuple[str, ...]:
        """None."""
        return ()

    def found(self) -> Any:
        """The files, for a digest."""
        return list(self.files)

    def spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        """One example."""
        return make_spec(self.image_size, 3)

    def read(self, indices: Int[np.ndarray, "b"]) -> Batch:
        """The examples at `indices`."""
        region: Callable[..., Any] = partial(middle, at_least=self.image_size)
        found = [fit_file(self.files[i], region, size=self.image_size, channels=3)[0] for i in indices.tolist()]
        return {"image": np.stack(found)}

    def check(self, *, thorough: bool = False, progress: Progress | None = None) -> list[str]:
        """Headers and endings; `thorough` decodes every picture."""
        for i, file in enumerate(self.files):
            check_image(file, thorough=thorough)
            if progress is not None:
                progress(i + 1, len(self.files))
        return [f"{self.split}: {len(self.files):,} pictures of {self.folder}"]

    def read_image(self, path: ImageFile) -> tuple[np.ndarray, Placement]:
        """One whole file in its own proportions, and where that lies in the file."""
        with open_any(path) as image:
            x, y = upright_size(image)
        longest = min(self.longest, max(x, y))
        width, height = (max(SMALLEST, round(side * longest / max(x, y) / 4) * 4) for side in (x, y))
        return fit_picture(path, longest, size=(width, height)), Placement((x, y), x / width, y / height)
