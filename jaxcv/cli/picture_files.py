"""Pictures named on the command line, and what was found in them as files for other programs."""

import glob
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxcv.errors import UserError
from jaxcv.types import Classes, Detections

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff")
_WILD = "*?["


def expand(named: Sequence[Path]) -> list[Path]:
    """The files that are meant: files as they are, all pictures of folders and of those below, patterns with `*`.

    Raises:
        UserError: nothing is there; says what was looked for.
    """
    found: dict[Path, None] = {}
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
        found |= dict.fromkeys(there)
    return list(found)


def record(
    found: Any, path: Path, size: tuple[int, int], names: Sequence[str], scale: tuple[float, float], minimum: float
) -> dict[str, Any]:
    """One picture's prediction for JSON: boxes xyxy in the file's pixels, cut to it.

    Args:
        found: the prediction for one picture.
        path: of the picture.
        size: its width and height.
        names: of the classes.
        scale: factors (x, y) from the prediction's pixels to the file's.
        minimum: detections with a smaller score are left out.
    """
    entry: dict[str, Any] = {"image": str(path), "width": size[0], "height": size[1]}
    if isinstance(found, Detections):
        limits = np.array([*size, *size])
        entry["detections"] = [
            {
                "class": names[int(label)],
                "index": int(label),
                "score": round(float(score), 6),
                "box": [round(float(c), 2) for c in np.clip(box * np.array([*scale, *scale]), 0, limits)],
            }
            for box, score, label, valid in zip(*found, strict=True)
            if valid and score >= minimum
        ]
    elif isinstance(found, Classes):
        best = np.argsort(-found.scores)[:5]
        entry["classes"] = [{"class": names[i], "index": int(i), "score": float(found.scores[i])} for i in best]
    else:
        fields = found._asdict() if hasattr(found, "_asdict") else {"output": found}
        entry |= {name: np.asarray(value).tolist() for name, value in fields.items()}
    return entry


def write_json(folder: Path, entries: Sequence[dict[str, Any]]) -> Path:
    """All pictures' predictions in `predictions.json`."""
    path = folder / "predictions.json"
    path.write_text(json.dumps(list(entries), indent=1) + "\n", encoding="utf-8")
    return path


def write_yolo(folder: Path, stem: str, entry: dict[str, Any]) -> Path:
    """A picture's boxes in `labels/STEM.txt`, a line each: class, centre, width and height as shares, score."""
    path = folder / "labels" / f"{stem}.txt"
    path.parent.mkdir(exist_ok=True)
    width, height = entry["width"], entry["height"]
    lines = []
    for d in entry["detections"]:
        x1, y1, x2, y2 = d["box"]
        shares = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
        lines.append(" ".join([str(d["index"]), *(f"{share:.6f}" for share in shares), f"{d['score']:.4f}"]))
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path
