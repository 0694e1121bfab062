"""Pictures in a NumPy array: crops of faces, or whatever fits in memory.

`data=npy:PATH`: a `.npy` file of pictures [n h w], [n h w 1] or [n h w 3], uint8 or floats from 0 to 1, or a folder
with one such file; beside it `labels.npy`, the class index [n] of each. Names may stand in `classes.txt`, one on each
line. Every fifth picture is for testing.

scikit-image's `lfw_subset.npy` needs no labels: of its 200 pictures the first 100 are faces, the others are not.
"""

from functools import cache
from pathlib import Path

import numpy as np

from jaxcv.data.io.paths import find_folder, holds, list_files
from jaxcv.data.io.text import one_line, read_names
from jaxcv.data.sources.in_memory import Labelled, every_fifth
from jaxcv.errors import DataError


def _read(file: Path) -> np.ndarray:
    if not file.is_file():
        raise DataError("no such file", file=file)
    try:
        with open(file, "rb") as stream:
            if stream.read(6) != b"\x93NUMPY":
                raise ValueError("it does not begin as one")
        # Mapped, a header that promises more than the file holds is found before room is made for it.
        return np.array(np.load(file, mmap_mode="r", allow_pickle=False))
    except Exception as error:  # a header is Python's syntax, and fails in all its ways
        raise DataError(f"no array that can be read ({one_line(error)})", file=file) from None


@cache
def _find(path: Path) -> Path:
    """The file of the pictures."""
    if path.is_file():
        return path
    find_folder(path, "data=npy:PATH needs a .npy file of pictures, or a folder with one and labels.npy")
    files = [file for file in list_files(path, path, ".npy") if file.name != "labels.npy"]
    if len(files) != 1:
        raise DataError(f"expected one .npy file of pictures besides labels.npy; {holds(path)}", file=path)
    return files[0]


@cache
def _everything(path: Path) -> Labelled:
    file = _find(path)
    images, listed = _read(file), file.with_name("labels.npy")
    if images.ndim not in (3, 4) or 0 in images.shape or (images.ndim == 4 and images.shape[3] not in (1, 3)):
        raise DataError(f"shape {images.shape}, expected pictures [n h w], [n h w 1] or [n h w 3]", file=file)
    if images.dtype.kind == "f":
        if not (images >= 0).all() or not (images <= 1).all():  # not so either for NaN
            raise DataError("floats below 0, above 1 or NaN, expected 0 to 1", file=file)
        images = np.round(images * 255).astype(np.uint8)
    if images.dtype != np.uint8:
        raise DataError(f"{images.dtype} values, expected uint8 or floats from 0 to 1", file=file)
    if images.ndim == 4 and images.shape[3] == 1:
        images = images[..., 0]
    if not listed.is_file():
        if file.name == "lfw_subset.npy" and len(images) == 200:
            return images, np.repeat(np.array([1, 0], np.int32), 100)
        raise DataError("there is no labels.npy beside it, expected the class index of each picture", file=file)
    labels = _read(listed)
    if labels.shape != (len(images),) or labels.dtype.kind not in "iu":
        expected = f"expected a whole number for each of {len(images):,} pictures"
        raise DataError(f"{labels.dtype} of shape {labels.shape}, {expected}", file=listed)
    return check_labelled(images, labels, 100_000, listed)


def check_labelled(images: np.ndarray, labels: np.ndarray, classes: int, file: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images and int32 class indices. Raises DataError: not one label for each image, none, or not below `classes`."""
    if len(labels) != len(images) or not len(labels):
        raise DataError(f"{len(labels):,} labels for {len(images):,} pictures, expected one for each", file=file)
    if len(wrong := np.flatnonzero((labels < 0) | (labels >= classes))):
        found = f"label {labels[wrong[0]]} of picture {wrong[0]}"
        raise DataError(f"{found}, expected 0 to {classes - 1:,}", file=file)
    return images, labels.astype(np.int32)


@cache
def array_names(path: Path) -> tuple[str, ...]:
    """The class names."""
    file, most = _find(path), int(_everything(path)[1].max())
    if (listed := file.with_name("classes.txt")).exists():
        names = read_names(listed)
        if len(names) <= most:
            raise DataError(f"{len(names)} names, but there is a label {most}", file=listed)
        return names
    return ("other", "face") if file.name == "lfw_subset.npy" else tuple(map(str, range(most + 1)))


@cache
def load_array(path: Path, split: str) -> Labelled:
    """One split: every fifth picture is for testing."""
    array_names(path)
    return every_fifth(_everything(path), split, path)
