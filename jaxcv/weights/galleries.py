"""Galleries: the embeddings of people who are enrolled, with their names, in one file that holds numbers alone."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from jaxcv.errors import DataError, UserError
from jaxcv.weights.formats import load, save

_FIELDS = ("vectors", "names", "threshold")


class Gallery(NamedTuple):
    """Who is known, one picture a row."""

    vectors: Float[np.ndarray, "n d"]
    """Of length one, float32."""
    names: tuple[str, ...]
    """Whose each is, `[n]`; of one person there may be several."""
    threshold: float
    """Smallest cosine with which somebody is recognised."""


def save_gallery(path: str | Path, gallery: Gallery) -> None:
    """Write a gallery to one file, atomically.

    Args:
        path: ending in `.npz` or `.safetensors`.
        gallery: at least one row.

    Raises:
        UserError: If it has no row, or another number of names; or the file cannot be written.
    """
    if not len(gallery.vectors) or len(gallery.names) != len(gallery.vectors):
        raise UserError(f"{path}: {len(gallery.vectors)} embeddings with {len(gallery.names)} names are no gallery")
    text = np.frombuffer(json.dumps(gallery.names).encode(), np.uint8)
    fields = (np.asarray(gallery.vectors, np.float32), text, np.asarray(gallery.threshold, np.float32))
    save(path, {"gallery": dict(zip(_FIELDS, fields, strict=True))})


def load_gallery(path: str | Path) -> Gallery:
    """A gallery from its file. Nothing in the file is ever executed.

    Args:
        path: what `save_gallery` wrote.

    Raises:
        DataError: If there is no such file, it is damaged, or is no gallery.
    """
    path = Path(path).expanduser()
    fields = {name.removeprefix("gallery/"): value for name, value in load(path).items()}
    if missing := [name for name in _FIELDS if name not in fields]:
        raise DataError(f"holds no {missing[0]}, so it is no gallery; --enroll FOLDER makes one", file=path)
    vectors, text, threshold = (fields[name] for name in _FIELDS)
    try:
        names = json.loads(text.astype(np.uint8).tobytes().decode())
    except ValueError:
        names = None
    if vectors.ndim != 2 or threshold.size != 1 or not isinstance(names, list) or len(names) != len(vectors):
        raise DataError(f"{vectors.shape} numbers without a name for each row are no gallery", file=path)
    if not np.isfinite(vectors).all() or not all(isinstance(name, str) for name in names):
        raise DataError("holds numbers that are not finite, or names that are no text", file=path)
    return Gallery(vectors.astype(np.float32), tuple(names), float(threshold.reshape(())))
