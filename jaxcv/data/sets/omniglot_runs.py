"""Omniglot's twenty runs of one-shot classification, as published: `all_runs` with `run01` ... `run20`.

`runNN/training/class01.png` ... are one drawing of each of twenty characters by one hand, `runNN/test/item01.png` ...
the same twenty by another; a line of `runNN/class_labels.txt` is a test drawing and the training drawing of the same
character. The pictures come run after run, those of training before those of the test, in the order of their names.

References:
  B. Lake et al., Human-level concept learning through probabilistic program induction, Science, 2015.
"""

from functools import cache
from pathlib import Path

from jaxcv.data.collector import Collector
from jaxcv.data.example import Scan
from jaxcv.data.io.paths import check_inside, find_folder, list_folders, list_pictures
from jaxcv.data.io.text import Where, read_lines, shown
from jaxcv.errors import DataError


@cache
def scan_runs(root: Path, skip: bool) -> Scan:
    """List the runs; both splits are the same."""
    find_folder(root, "data=omniglot_runs:PATH needs the folder with run01 ... run20")
    runs = [folder for folder in list_folders(root, root) if (folder / "class_labels.txt").is_file()]
    if not runs:
        raise DataError("no folder with class_labels.txt in it, expected run01 ... run20", file=root)
    names: list[str] = []
    found: list[tuple[Path, int]] = []
    sizes: dict[str, tuple[int, int]] = {}
    for run in runs:
        known = list(list_pictures(run / "training", root).values())
        asked = list(list_pictures(run / "test", root).values())
        labels = {f"training/{path.name}": len(names) + i for i, path in enumerate(known)}
        names += [f"{run.name}/{path.stem}" for path in known]
        answers = _answers(run, root, labels)
        if missing := [path for path in asked if f"test/{path.name}" not in answers]:
            raise DataError("is not in class_labels.txt", file=missing[0])
        found += [(path, labels[f"training/{path.name}"]) for path in known]
        found += [(path, answers[f"test/{path.name}"]) for path in asked]
        sizes[run.name] = len(known), len(asked)
    if len(set(sizes.values())) > 1:
        raise DataError(f"runs of several sizes, expected as many drawings in each: {sizes}", file=root)
    collector = Collector(root, skip=skip)
    for split in collector.examples:
        collector.label(split, found)
    return collector.finish(names)


def _answers(run: Path, root: Path, labels: dict[str, int]) -> dict[str, int]:
    """The class of each test drawing."""
    file, answers = run / "class_labels.txt", {}
    check_inside(file, root)
    for line, text in read_lines(file):
        words, where = text.split(), Where(file, line)
        parts = ["/".join(word.split("/")[-2:]) for word in words]
        if len(parts) != 2 or not parts[0].startswith("test/"):
            raise where.refuse(f"{shown(text)}, expected `{run.name}/test/itemNN.png {run.name}/training/classNN.png`")
        if parts[1] not in labels or not (run / parts[0]).is_file():
            raise where.refuse(f"there is no picture {shown(words[0 if parts[1] in labels else 1])}")
        answers[parts[0]] = labels[parts[1]]
    return answers
