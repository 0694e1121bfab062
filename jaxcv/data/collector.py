"""What readers of annotations find in both splits, checked and made the `Scan` that every format returns.

Faults are refused or counted, and a test split is held out where a set has none.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from jaxcv.data.example import (
    MAX_BOXES,
    SPLITS,
    Example,
    LabelledFiles,
    Scan,
    Task,
    check_box,
    check_class,
    check_example,
    check_outline,
    check_points,
    find_faults,
)
from jaxcv.data.io.crops import around, square
from jaxcv.data.io.kept import record
from jaxcv.data.io.paths import choose_splits, held_out, look_anew, natural
from jaxcv.data.io.text import Where, check_names, list_names
from jaxcv.data.raw import Raw
from jaxcv.data.raw.frames import upright
from jaxcv.data.raw.outlines import IGNORE, compress, draw, extent
from jaxcv.errors import DataError

_log = logging.getLogger(__name__)


class Collector:
    """What a reader of annotations finds in both splits: raw images or examples, faults and notes."""

    def __init__(self, root: Path, *, skip: bool):
        look_anew()
        self.root, self.skip = root, skip
        self.examples: dict[str, Any] = {split: [] for split in SPLITS}
        self.swap: tuple[int, ...] | None = None
        self._task: Task | None = None
        self.faults: dict[str, list[DataError]] = {split: [] for split in SPLITS}
        self._notes: dict[str, dict[str, list[str]]] = {split: {} for split in SPLITS}

    @contextmanager
    def faults_of(self, split: str) -> Iterator[None]:
        """Keep a DataError when skipping, else let it through."""
        try:
            yield
        except DataError as error:
            if not self.skip:
                raise
            self.faults[split].append(error)

    def splits(self, words: Iterable[str]) -> dict[str, str]:
        """The split of each word of `paths.split_word` that is used; `train` of all, where they are not two splits."""
        every = [*words]
        used = {word: split for split, word in choose_splits(every).items()} or dict.fromkeys(every, "train")
        if "test" in used.values() and (others := sorted({*every} - used.keys() - {""})):
            chosen = next(word for word, split in used.items() if split == "test")
            self.say("test", f"the folders of {chosen}; those of {list_names(others)} are not used")
        return used

    def count(self, split: str, what: str, where: str, number: int = 1) -> None:
        """Note that `number` times `what` happened in the file `where`."""
        if number:
            self._notes[split].setdefault(what, []).extend([where] * number)

    def say(self, split: str, note: str) -> None:
        """Note a decision about the whole split."""
        self._notes[split][note] = []

    def label(self, split: str, files: Iterable[tuple[str | Path, int]]) -> None:
        """Make examples of image files and their classes."""
        listed = list(files)
        self.examples[split] = LabelledFiles((file for file, _ in listed), (label for _, label in listed))

    def validate(self, task: Task, names: tuple[str, ...]) -> tuple[str, ...]:
        """Make examples of the raw images collected, every number checked; the class names, `background` with masks."""
        self._task = task
        check_names((Where(self.root, entry="classes"), name) for name in names)
        if task == "mask" and len(names) >= IGNORE:
            raise DataError(f"{len(names)} classes, masks hold at most {IGNORE - 1}", file=self.root)
        index = {name: i for i, name in enumerate(names)}
        make = {"boxes": self._boxed, "mask": self._masked, "points": self._pointed}[task]
        for split, raws in self.examples.items():
            self.examples[split] = []
            for raw in raws:
                if isinstance(raw, Example):  # checked by its reader
                    self.examples[split].append(raw)
                    continue
                with self.faults_of(split):
                    self.examples[split] += make(split, upright(raw), index)
        if task == "points":
            self._count_points()
        return ("background", *names) if task == "mask" else names

    def _boxed(self, split: str, raw: Raw, index: Mapping[str, int]) -> list[Example]:
        if len(raw.objects) > MAX_BOXES:
            found = f"{len(raw.objects):,} boxes for {raw.image.name}"
            raise DataError(f"{found}, expected at most {MAX_BOXES:,}", file=raw.where.file)
        boxes, classes, ignored = [], [], []
        for each in raw.objects:
            label = check_class(each.name, index, each.named or each.where)
            edges = each.box
            if edges is None:
                edges = extent(check_outline(each.outline, size=raw.size, where=each.where), size=raw.size)
            checked = check_box(edges, size=raw.size, written=each.written, where=each.where)
            if checked is None:
                self.count(split, "zero-area boxes dropped", raw.image.stem)
                continue
            self.count(split, "boxes cut at the image border", raw.image.stem, int(checked[1]))
            boxes.append(checked[0])
            classes.append(label)
            ignored.append(each.ignored)
        edges = np.array(boxes, np.float32).reshape(-1, 4)
        found = {"boxes": edges, "classes": np.array(classes, np.int32), "ignored": np.array(ignored, np.bool_)}
        return [Example(raw.image, Where(raw.where.file), raw.size, group=raw.group, **found)]

    def _masked(self, split: str, raw: Raw, index: Mapping[str, int]) -> list[Example]:
        outlines = []
        for each in raw.objects:
            label = 1 + check_class(each.name, index, each.named or each.where)
            outline = compress(check_outline(each.outline, size=raw.size, where=each.where), size=raw.size)
            outlines.append((outline, IGNORE if each.ignored else label))
        drawn = partial(draw, outlines, size=raw.size)
        return [Example(raw.image, Where(raw.where.file), raw.size, mask=drawn, group=raw.group)]

    def _pointed(self, split: str, raw: Raw, index: Mapping[str, int]) -> list[Example]:
        found = []
        for each in raw.objects:
            points, visible = check_points(each.points, size=raw.size, where=each.where)
            if each.box is not None and check_box(each.box, size=raw.size, written=each.written, where=each.where):
                region = around(each.box)
            elif raw.whole:
                region = square(raw.size)
            elif visible.any():
                region = around((*points[visible].min(0).tolist(), *points[visible].max(0).tolist()))
            else:
                raise each.where.refuse("no point lies inside its image, expected at least one")
            placed = {"region": region, "points": points, "visible": visible}
            found.append(Example(raw.image, each.where, raw.size, group=raw.group, **placed))
        return found

    def _count_points(self) -> None:
        """Keep the examples that have as many points as most have."""
        counts = Counter(len(example.points) for examples in self.examples.values() for example in examples)
        usual = counts.most_common(1)[0][0] if counts else 0
        for split, examples in self.examples.items():
            for example in examples:
                with self.faults_of(split):
                    if (count := len(example.points)) != usual:
                        raise example.where.refuse(f"{count} points, expected {usual} as elsewhere")
            examples[:] = [example for example in examples if len(example.points) == usual]

    def hold_out(self, *, really: bool = True, by: str = "of the name", last: int = 0) -> None:
        """Split what was collected for training, when the set has no split of its own; see `paths.held_out`.

        `last`: so many examples are for testing, the last by name, numbers in names compared by their value.
        """
        if not really:
            self.examples["test"] = list(self.examples["train"])
            self.say("test", "the training split itself, as asked for")
            return
        if last:
            every = sorted(self.examples["train"], key=lambda each: natural(each.image.as_posix()))
            if last >= len(every):
                raise DataError(f"hold_last={last}: there are {len(every)} examples", file=self.root)
            self.examples |= {"train": every[:-last], "test": every[-last:]}
            self.say("test", f"no split of its own: the last {last} by name, numbers by their value")
            return
        names = [each.group or each.image.relative_to(self.root).as_posix() for each in self.examples["train"]]
        chosen, every = held_out(names), list(zip(names, self.examples["train"], strict=True))
        self.examples["test"] += [example for name, example in every if name in chosen]
        self.examples["train"] = [example for name, example in every if name not in chosen]
        self.say("test", f"no split of its own: a fifth, by the SHA-256 {by}")

    def finish(self, class_names: Iterable[str]) -> Scan:
        """The scan; when skipping, without the examples whose image is faulty. Raises DataError: an empty split."""
        for split, examples in self.examples.items():
            record(examples.files if isinstance(examples, LabelledFiles) else _files_of(examples))
            faults = self.faults[split]
            if self.skip:
                found = list(find_faults(examples, partial(check_example, thorough=True)))
                faults += filter(None, found)
                sound = [examples[i] for i, fault in enumerate(found) if fault is None]
                self.examples[split] = sound
                if isinstance(examples, LabelledFiles):
                    self.label(split, ((example.image, example.label) for example in sound))
            if not self.examples[split]:
                why = f"{len(faults)} faulty, the first: {faults[0]}" if faults else "none faulty"
                raise DataError(f"no example is left for {split} ({why})", file=self.root)
            if split == "train" and self._task and not any(map(_has_truth, self.examples[split])):
                why = "; ".join([_line(*note) for note in self._notes[split].items()]) or "no annotation has any"
                what = {"boxes": "box", "mask": "object", "points": "visible point"}[self._task]
                raise DataError(
                    f"{len(self.examples[split]):,} images to train on and not one {what}: {why}", file=self.root
                )
            if faults:
                note = f"{len(faults):,} faulty examples skipped, the first: {faults[0]}"
                _log.warning("%s: %s: %s", self.root, split, note)
                self.say(split, note)
        lines = {split: [_line(*note) for note in notes.items()] for split, notes in self._notes.items()}
        return Scan(tuple(class_names), self.examples, lines, self.swap)


def _line(what: str, where: list[str]) -> str:
    return f"{len(where):,} {what} ({list_names(list(dict.fromkeys(where)))})" if where else what


def _has_truth(example: Example) -> bool:
    """Whether there is anything to learn from an example that is not of a class alone."""
    if isinstance(example.mask, partial):  # the outlines to draw
        return bool(example.mask.args[0])
    return bool(example.visible.any() or not example.ignored.all())


def _files_of(examples: Iterable[Example]) -> Iterator[str]:
    for example in examples:
        yield str(example.image)
        yield from (str(arg) for arg in getattr(example.mask, "args", ()) if isinstance(arg, Path))
        yield from [str(example.where.file)] * (example.where.file != example.image)
