"""Pictures named on the command line, and predictions for them as files for other programs."""

import glob
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from jaxcv.errors import UserError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff")
_WILD = "*?["


def expand(named: Sequence[Path]) -> list[Path]:
    """The files that are meant: files as they are, all pictures of folders and of those below, patterns with `*`.

    Raises:
        UserError: nothing is there; says what was looked for.
    """
    files: dict[Path, None] = {}
    for path in named:
        if path.is_file():
            there = [path]
        elif path.is_dir():
            there = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
            if not there:
                raise UserError(f"{path}: no picture in this folder ({', '.join(SUFFIXES)})")
        elif any(sign in str(path) for sign in _WILD):
            there = sorted(p for p in map(Path, glob.glob(str(path), recursive=True)) if p.is_file())
            if not there:
                raise UserError(f"{path}: no file is called like this")
        else:
            raise UserError(f"{path}: no such picture")
        files |= dict.fromkeys(there)
    return list(files)


def write_json(folder: Path, entries: Sequence[dict[str, Any]]) -> Path:
    """All pictures' predictions in `predictions.json`."""
    path = folder / "predictions.json"
    path.write_text(json.dumps(list(entries), indent=1) + "\n", encoding="utf-8")
    return path


def write_mask(folder: Path, stem: str, mask: Image.Image) -> Path:
    """A picture's classes in `masks/STEM.png`."""
    path = folder / "masks" / f"{stem}.png"
    path.parent.mkdir(exist_ok=True)
    mask.save(path)
    return path


def write_yolo(folder: Path, stem: str, entry: dict[str, Any]) -> Path:
    """A picture's boxes in `labels/STEM.txt`, a line each: class, centre, width and height as fractions, score."""
    path = folder / "labels" / f"{stem}.txt"
    path.parent.mkdir(exist_ok=True)
    width, height = entry["width"], entry["height"]
    lines = []
    for d in entry["detections"]:
        x1, y1, x2, y2 = d["box"]
        fractions = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
        lines.append(" ".join([str(d["index"]), *(f"{value:.6f}" for value in fractions), f"{d['score']:.4f}"]))
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path
