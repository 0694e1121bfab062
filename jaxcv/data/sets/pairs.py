"""Pairs of pictures, to be told whether they show the same.

Pairs by rule: half of them of one class, each picture with every later one of its class, or `MAX_SAME` of those spread
evenly; with the first picture of each goes one of another class, drawn by numpy's generator from seed 0.

Pairs by list, LFW's format: a line `name i j` is two pictures of one person, `name i other j` of two; the first line is
a count. The picture `i` of a person is the one whose name ends with this number. A folder of faces with
`pairsDevTrain.txt` and `pairsDevTest.txt` has these as its splits. With `pairs.txt` alone, or where that file is named
itself, it is the test split, and training pairs are made by rule from the people who are not in it.

References:
  G. Huang et al., Labeled Faces in the Wild, University of Massachusetts, 2007.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Int

from jaxcv.data.example import LabelledFiles, Scan
from jaxcv.data.io.images import Progress
from jaxcv.data.io.paths import check_inside
from jaxcv.data.io.text import Where, read_lines, shown
from jaxcv.data.sets.people import scan_faces, scan_omniglot
from jaxcv.data.source import Source
from jaxcv.errors import DataError
from jaxcv.types import Batch, ImageFile, Placement

MAX_SAME = 3_000


class Pairs(NamedTuple):
    """Which pictures of a source are compared."""

    first: Int[np.ndarray, "n"]
    second: Int[np.ndarray, "n"]
    same: Bool[np.ndarray, "n"]


class ScannedPairs(NamedTuple):
    """Pictures, and pairs of them by split."""

    pictures: Scan
    pairs: dict[str, Pairs]


@cache
def scan_pairs(kind: str, path: Path, skip: bool) -> ScannedPairs:
    """List pictures of `faces` or `omniglot`, and pairs, of both splits; `path` may be a list in a folder of faces."""
    root = path.parent if path.is_file() else path
    scan: Any = (scan_omniglot if kind == "omniglot" else scan_faces)(root, True, skip)
    lists = {"train": root / "pairsDevTrain.txt", "test": root / "pairsDevTest.txt"}
    if path.is_file() or not all(file.is_file() for file in lists.values()):
        lists = {"test": path if path.is_file() else root / "pairs.txt"}
    if kind == "omniglot" or not lists["test"].is_file():
        return ScannedPairs(scan, {split: draw_pairs(found.labels) for split, found in scan.splits.items()})
    # Lists may pair anybody with anybody: both splits look pictures up among all.
    labels = np.concatenate([scan.splits[split].labels for split in ("train", "test")])
    every = LabelledFiles(scan.splits["train"].files + scan.splits["test"].files, labels.tolist())
    notes = {split: [note for note in found if "fifth" not in note] for split, found in scan.notes.items()}
    pairs = {}
    for split, file in lists.items():
        check_inside(file, root)
        pairs[split], note = _read_pairs(file, scan, every, skip)
        notes[split] += [f"pairs of {file.name}{note}"]
    if "train" not in pairs:
        taken = np.concatenate([labels[pairs["test"].first], labels[pairs["test"].second]])
        pairs["train"] = draw_pairs(labels, among=~np.isin(labels, taken))
        notes["train"].append(f"pairs by rule, of people who are not in {lists['test'].name}")
    for split, found in pairs.items():
        if not len(found.same):
            raise DataError(f"no pair is left for {split}, expected two pictures of one person", file=root)
    return ScannedPairs(Scan(scan.class_names, {"train": every, "test": every}, notes), pairs)


@cache
def scan_listed(file: Path, skip: bool) -> Scan:
    """Single pictures of a folder of faces with a list of pairs in it.

    For testing the rows 2 i and 2 i + 1 are a pair of the list, in its order; for training there are all pictures of
    the people who are not in it.
    """
    pictures, pairs = scan_pairs("faces", file, skip)
    every, rows = pictures.splits["test"], np.stack([pairs["test"].first, pairs["test"].second], 1).ravel()
    assert isinstance(every, LabelledFiles)
    others = np.flatnonzero(~np.isin(every.labels, every.labels[rows]))
    chosen = {"train": others, "test": rows}
    splits = {
        s: LabelledFiles([every.files[i] for i in taken], every.labels[taken].tolist()) for s, taken in chosen.items()
    }
    if not len(others):
        raise DataError("everybody is in it: nobody is left to train on", file=file)
    return Scan(pictures.class_names, splits, {**pictures.notes, "train": [f"people who are not in {file.name}"]})


def draw_pairs(labels: Int[np.ndarray, "n"], *, among: Bool[np.ndarray, "n"] | None = None) -> Pairs:
    """Pairs by rule, see the module; in turn one of the same class and one of two.

    `labels` are the classes of the pictures, `among` says which of these may be taken; None: all.
    """
    usable = np.arange(len(labels)) if among is None else np.flatnonzero(among)
    members = [usable[labels[usable] == label] for label in np.unique(labels[usable])]
    if len(members) < 2:
        return Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.bool_))
    same = np.concatenate([each[np.stack(np.triu_indices(len(each), 1))] for each in members], axis=1)
    spread = np.linspace(0, same.shape[1] - 1, min(same.shape[1], MAX_SAME)).round().astype(np.int64)
    firsts, seconds = same[:, spread]
    # Sorted by class, those of another class are all but a run of positions.
    usable = usable[np.argsort(labels[usable], kind="stable")]
    start = np.searchsorted(labels[usable], labels[firsts], "left")
    count = np.searchsorted(labels[usable], labels[firsts], "right") - start
    random = np.random.default_rng(0).random(len(firsts))
    position = (random * (len(usable) - count)).astype(np.int64)
    others = usable[np.where(position < start, position, position + count)]
    return Pairs(np.repeat(firsts, 2), np.stack([seconds, others], 1).ravel(), np.arange(2 * len(firsts)) % 2 == 0)


def _read_pairs(file: Path, scan: Scan, every: LabelledFiles, skip: bool) -> tuple[Pairs, str]:
    """The pairs of a list, and what to say of those left out."""
    known: dict[tuple[str, int], int] = {}
    for i, (path, label) in enumerate(zip(every.files, every.labels.tolist(), strict=True)):
        if number := re.search("([0-9]{1,9})$", Path(path).stem):
            known[scan.class_names[label], int(number[1])] = i
    pairs: list[tuple[int, int, bool]] = []
    faults: list[DataError] = []
    for line, text in read_lines(file):
        words, where = [word.strip() for word in text.split("\t" if "\t" in text else None)], Where(file, line)
        if all(word.isdecimal() for word in words) and len(words) < 3:  # the count on top
            continue
        if len(words) not in (3, 4) or not all(words[i].isdecimal() for i in (1, -1)):
            expected = "expected `name i j`, or `name i other j` with numbers of pictures"
            raise where.refuse(f"{shown(text)}, {expected}")
        keys = [(words[0], int(words[1][:18])), (words[-2 if len(words) == 4 else 0], int(words[-1][:18]))]
        try:
            for name, number in keys:
                if (name, number) not in known:
                    raise where.refuse(f"there is no picture {number} of {shown(name)}")
            if keys[0] == keys[1]:
                raise where.refuse(f"picture {keys[0][1]} of {shown(keys[0][0])} is paired with itself")
            pairs.append((known[keys[0]], known[keys[1]], keys[0][0] == keys[1][0]))
        except DataError as fault:
            if not skip:
                raise
            faults.append(fault)
    first, second = (np.array([pair[i] for pair in pairs], np.int64) for i in (0, 1))
    note = f"; {len(faults):,} faulty skipped, the first: {faults[0]}" if faults else ""
    return Pairs(first, second, np.array([pair[2] for pair in pairs], np.bool_)), note


@dataclass(frozen=True, eq=False)
class PairedImages:
    """Pairs of the pictures of a source, as a `Source`; `pairs` caches for itself."""

    split: str
    images: Source
    pairs: Callable[[], Pairs]

    def __len__(self) -> int:
        return len(self.pairs().same)

    def class_names(self) -> tuple[str, ...]:
        """What `same` says."""
        return ("different", "same")

    def found(self) -> Any:
        """Pictures and pairs, for a digest; see `jaxcv.data.sources.digest`."""
        return self.images, self.pairs()

    def spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        """One example: `image` and `other` uint8 [s s c], and `same` bool."""
        image = self.images.spec()["image"]
        return {"image": image, "other": image, "same": jax.ShapeDtypeStruct((), np.bool_)}

    def read(self, indices: Int[np.ndarray, "b"]) -> Batch:
        """The pairs at `indices`."""
        first, second, same = self.pairs()
        images, others = (self.images.read(chosen[indices])["image"] for chosen in (first, second))
        return {"image": images, "other": others, "same": same[indices]}

    def check(self, *, thorough: bool = False, progress: Progress | None = None) -> list[str]:
        """What the source of the pictures checks."""
        same = self.pairs().same
        lines = self.images.check(thorough=thorough, progress=progress)
        return [f"{self.split}: {len(same):,} pairs, {int(same.sum()):,} of them of one class", *lines]

    def read_image(self, path: ImageFile) -> tuple[np.ndarray, Placement]:
        """One file as the source fits it."""
        return self.images.read_image(path)
