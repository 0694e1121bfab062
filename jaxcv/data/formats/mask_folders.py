"""Folders of images and of masks, pictures whose pixels are class numbers, grey or by palette; or colours.

`data=masks:PATH`. Folders with pictures, at any depth, hold masks if the name of the folder, or of one above it, says
so (mask, label, annot, annotation, gt, SegmentationClass, alone, in the plural or at the end, as in `trainannot`); else
images. Folders of instances (panoptic, SegmentationObject) are left out. The split is the word train, val, valid,
validation or test in those names; `val` comes before `test`, and where there is none with masks, a fifth of the pairs
is for testing, by the SHA-256 of their names, or with `hold_last` so many of the last, numbers in names by value. A
mask belongs to the image of the same name, or of the same name without an ending such as `_mask`. Images without a mask
and masks without an image are left out and counted.

Classes come from the first there is of: the `classes` argument; `label_colors.txt`, red, green, blue and name on each
line, for masks in colours; `classes.txt`, a name on each line, from 0; a YAML file with `names` or `classes`, a mapping
of numbers to names; `values`, the number of each class; the numbers that occur in any mask, in order, which are then
their names. Greys far apart, such as 0, 128 and 255, are no class numbers: `values` or `void` must say what they are.
255 is void, unless it is one of two numbers, as in masks of 0 and 255, or one of `values`; so are the number given as
`void` and a class called void, unlabelled or ignore. Void becomes 255, classes are counted from 0 without gaps. A
number that is neither is refused.

JPEG does not keep numbers: masks of black and white are two classes, divided at 128, all others are refused.
"""

import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, UInt8

from jaxcv.data.collector import Collector
from jaxcv.data.example import Example, Scan, find_faults
from jaxcv.data.formats.kept import kept
from jaxcv.data.io.images import open_image, read_image, read_mask
from jaxcv.data.io.paths import choose_splits, find_folder, list_files, list_pictures, split_word, stem, walk
from jaxcv.data.io.text import Where, check_names, list_names, numbered_names, read_lines, read_names, read_yaml, shown
from jaxcv.data.raw.frames import check_frame
from jaxcv.data.raw.outlines import IGNORE
from jaxcv.errors import DataError

CAMVID = (
    "sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist",
)  # fmt: skip
"""The eleven classes of SegNet's CamVid; 11 is void there."""
_MASK_FOLDER = re.compile(
    r"(?:.*[_-])?(?:mask|label|annot|annotation|gt|groundtruth|segmentationclass|trimap)s?(?:[_-].*|\d*)|[a-z]+annot"
)
_LEFT_OUT = r"panoptic.*|.*instance.*|segmentationobject|__macosx"
_ENDING = re.compile(r"(.+)[_-](?:mask|labels?|l|gt|seg|segmentation|annot|labelids)", re.IGNORECASE)
_VOID = "void|unlabell?ed|ignored?"


class Labels(NamedTuple):
    """What the numbers in masks mean."""

    names: tuple[str, ...]
    table: Mapping[int, int]  # class index of each number, 255 for void
    colors: Mapping[int, int] | None = None  # number of each colour, where masks are coloured
    lossy: bool = False  # whether masks are JPEGs, in black and white

    def read(self, mask: Path) -> UInt8[np.ndarray, "h w"]:
        """Class index of each pixel of a mask file. Raises DataError."""
        if self.lossy:
            return (read_image(mask, channels=1)[..., 0] >= 128).astype(np.uint8)
        values = read_mask(mask, colors=self.colors)
        table = np.full(256, -1, np.int16)
        table[list(self.table)] = list(self.table.values())
        classes = table[values]
        if (classes < 0).any():
            y, x = np.argwhere(classes < 0)[0].tolist()
            known = list_names([str(value) for value in self.table])
            raise DataError(f"label {values[y, x]} at x={x} y={y}, expected one of {known}", file=mask)
        return classes.astype(np.uint8)


def number_labels(names: tuple[str, ...], numbers: list[int] | None = None, *, void: int | None = None) -> Labels:
    """Labels of names and their numbers, by default counted from 0 without the void one."""
    numbers = numbers or [number for number in range(len(names) + 1) if number != void][: len(names)]
    named = dict(zip(numbers, names, strict=True))
    real = {n: name for n, name in named.items() if n != void and not re.fullmatch(_VOID, name, re.IGNORECASE)}
    table = {number: IGNORE for number in (IGNORE, void, *numbers) if number is not None}
    return Labels(tuple(real.values()), table | {number: index for index, number in enumerate(real)})


@kept
def scan_masks(
    folder: Path,
    classes: tuple[str, ...],
    void: int | None,
    skip: bool,
    values: tuple[int, ...] = (),
    hold_last: int = 0,
) -> Scan:
    """List the pairs of both splits; `void`, `values` and `hold_last`: see the module."""
    find_folder(folder, "data=masks:PATH needs a folder with folders of images and of masks")
    collector = Collector(folder, skip=skip)
    pairs = _pairs(folder, collector)
    masks = [mask for found in pairs.values() for _, mask in found]
    listed = None if classes or values else _listed(masks[0].parent, folder, void)
    lossy = [mask for mask in masks if _is_lossy(mask)]
    if values and classes and len(values) != len(classes):
        raise DataError(f"{len(values)} values for {len(classes)} classes, expected one for each", file=folder)
    if lossy and (listed is None or listed.colors is None):
        labels = _black_and_white(masks, lossy, collector, listed.names if listed else classes)
    elif classes or values:
        labels = number_labels(classes or tuple(map(str, values)), [*values], void=void)
    else:
        labels = listed or _occurring(masks, void, collector)
    for split, found in pairs.items():
        for image, mask in found:
            with collector.faults_of(split):
                check_frame(image, mask)
                collector.examples[split].append(Example(image, Where(mask), mask=partial(labels.read, mask)))
    if "test" not in pairs:
        collector.hold_out(last=hold_last)
    return collector.finish(labels.names)


class _Pictures(NamedTuple):
    """Image files by name without ending, of one split."""

    images: dict[str, Path]
    masks: dict[str, Path]

    def match(self) -> list[tuple[Path, Path]]:
        """Images and their masks."""
        masks = {match[1]: path for name, path in self.masks.items() if (match := _ENDING.fullmatch(name))}
        masks |= self.masks
        return [(image, masks[name]) for name, image in self.images.items() if name in masks]


def _pairs(folder: Path, collector: Collector) -> dict[str, list[tuple[Path, Path]]]:
    """Images and their masks by split, `train` alone where the set has no split."""
    found: dict[str, _Pictures] = {}
    for inside in walk(folder, folder, leave_out=_LEFT_OUT):
        parts = [part.lower() for part in inside.relative_to(folder).parts]
        pictures = found.setdefault(split_word(inside.relative_to(folder)), _Pictures({}, {}))
        is_mask = any(_MASK_FOLDER.fullmatch(part) for part in parts)
        here = list_pictures(inside, folder)
        stems = {stem(path) for path in here.values()}
        for path in here.values():
            kind, name = (pictures.masks if is_mask else pictures.images), stem(path)
            if (ending := _ENDING.fullmatch(name)) and ending[1] in stems:
                kind, name = pictures.masks, ending[1]  # a mask among the images
            if name in kind:
                raise DataError(f"{kind[name]} has the same name; keep one, or move one out of {folder}", file=path)
            kind[name] = path
    matched = {word: pictures.match() for word, pictures in found.items()}
    there = [word for word, pairs in matched.items() if pairs]
    used = choose_splits(there) or dict(zip(["train"], ["train"] if "train" in there else there, strict=False))
    if not used:
        images, masks = (sum(len(pictures[i]) for pictures in found.values()) for i in (0, 1))
        message = f"no image with a mask of the same name ({images} images, {masks} masks)"
        raise DataError(f"{message}; masks lie in a folder called masks or labels", file=folder)
    for word, pictures in found.items():
        split = "test" if word == used.get("test") else "train"
        for i, what in enumerate(("images without a mask left out", "masks without an image left out")):
            paired = {pair[i] for pair in matched[word]}
            for path in pictures[i].values():
                collector.count(split, what, str(path.relative_to(folder)), int(path not in paired))
        if matched[word] and word not in used.values():
            collector.say("train", f"{len(matched[word]):,} pairs not used: {word or 'those in no folder of a split'}")
    return {split: matched[word] for split, word in used.items()}


def _listed(folder: Path, root: Path, void: int | None) -> Labels | None:
    """Class names from a file beside the masks or above them."""
    while True:
        if (file := folder / "label_colors.txt").exists():
            return _colored(file)
        if (file := folder / "classes.txt").exists():
            return number_labels(read_names(file), void=void)
        for file in list_files(folder, root, ".yaml", ".yml"):
            content = read_yaml(file)
            listed = content.get("names", content.get("classes"))
            if listed and isinstance(listed, list | dict):
                names = numbered_names(listed, file, most=255, repeated=_VOID)
                return number_labels(tuple(names.values()), list(names), void=void)
        if folder == root:
            return None
        folder = folder.parent


def _colored(file: Path) -> Labels:
    """Labels of a list of colours and names."""
    names, colors = [], {}
    for line, text in read_lines(file):
        where, match = Where(file, line), re.fullmatch(r"([0-9]{1,3})\s+([0-9]{1,3})\s+([0-9]{1,3})\s+(.+)", text)
        red, green, blue = map(int, match.groups()[:3]) if match else (256, 0, 0)
        if match is None or max(red, green, blue) > 255 or len(names) == 255:
            raise where.refuse(f"{shown(text)}, expected red, green, blue and a name, of 255 at most")
        code = red * 65536 + green * 256 + blue
        if code in colors:
            raise where.refuse(f"colour {red} {green} {blue} is given to {shown(names[colors[code]][1])} too")
        colors[code] = len(names)
        names.append((where, match[4]))
    return number_labels(check_names(names, repeated=_VOID))._replace(colors=colors)


def _histogram(masks: list[Path], read: Callable[[Path], np.ndarray], collector: Collector) -> Int[np.ndarray, "256"]:
    """How many masks have each number, of those that can be read."""
    counts = [0] * 256

    def look(mask: Path) -> None:
        for number in np.flatnonzero(np.bincount(read(mask).ravel(), minlength=256)).tolist():
            counts[number] += 1

    for fault in find_faults(masks, look):
        if fault is not None and not collector.skip:
            raise fault
    return np.array(counts)


def _occurring(masks: list[Path], void: int | None, collector: Collector) -> Labels:
    """Labels of the numbers that are found in the masks."""
    counts = _histogram(masks, read_mask, collector)
    numbers = every = np.flatnonzero(counts).tolist()
    if len(numbers) > 2 or void is not None:
        numbers = [number for number in numbers if number not in (IGNORE, void)]
    if not numbers:
        raise DataError("no class in any mask, every pixel is void", file=collector.root)
    if len(every) == 1:
        raise DataError(f"every pixel of every mask is {every[0]}, expected two classes at least", file=collector.root)
    if len(every) > 2 and void is None and _are_greys(numbers) and not _has_palette(masks[0]):
        listed = ",".join(map(str, every[:8])) + (" ..." if len(every) > 8 else "")
        expected = f"say what they are with values={listed}, or void={every[-1]}"
        raise DataError(f"masks hold the greys {listed}, which are no class numbers; {expected}", file=collector.root)
    if IGNORE in every and IGNORE not in numbers:
        collector.say("train", f"255 in {counts[IGNORE]:,} of {len(masks):,} masks is void")
    return number_labels(tuple(map(str, numbers)), numbers, void=void)


def _are_greys(numbers: list[int]) -> bool:
    """Whether numbers are spread like shades: class numbers are small, or most of them occur."""
    return max(numbers) >= 32 and 4 * len(numbers) < max(numbers) + 1


def _has_palette(mask: Path) -> bool:
    with open_image(mask) as image:
        return image.mode in ("P", "PA")


def _is_lossy(mask: Path) -> bool:
    """Whether a picture is a JPEG, or a WebP that is stored like one, whatever its name."""
    try:
        if not mask.is_file():  # a pipe would wait for ever
            return False
        with open(mask, "rb", buffering=0) as stream:
            head = stream.read(16)
    except OSError:  # reading it will say so
        return False
    return head[:3] == b"\xff\xd8\xff" or (head[:4] == b"RIFF" and head[12:] == b"VP8 ")


def _black_and_white(masks: list[Path], lossy: list[Path], collector: Collector, names: tuple[str, ...]) -> Labels:
    """Two classes of masks that are all JPEGs, almost all of whose pixels are dark or bright."""
    counts, total = np.zeros(256, np.int64), 0

    def look(mask: Path) -> UInt8[np.ndarray, "h w"]:
        values = read_image(mask, channels=1)[..., 0]
        counts[:] += np.bincount(values.ravel(), minlength=256)
        return values

    _histogram(masks, look, collector)
    total, dark, bright = counts.sum(), counts[:64].sum(), counts[192:].sum()
    if len(lossy) < len(masks) or not bright or not dark or dark + bright < 0.9 * total or len(names) not in (0, 2):
        expected = "expected black and white in all masks, for two classes, or masks saved as PNG"
        raise DataError(f"a JPEG does not keep class numbers; {expected}", file=lossy[0])
    collector.say("train", "masks are JPEGs: divided at 128 into black and white")
    return Labels(names or ("0", "255"), {}, lossy=True)
