"""What lies on disk, as batches of fixed shape: read where it lies, in its own format.

The functions here, one for each task, open a set by the text of an experiment's `data` hyperparameter and give its two
splits, `(train, test)`; `OPENERS` lists the kinds of sets. Files are read when something is asked that needs them. The
same text gives the same objects for as long as the process lives, so scans, decoded images and anchor boxes are shared;
files changed meanwhile are not noticed. `from_records` does the same with Python objects.

A text may name several sets, `folder:A+hf:B`, which `join` makes one; with shares of what trains, `0.7:folder:A+
0.3:hf:B`; and of each a part of what trains, `folder:A@1000` or `folder:A@10%`.

Common arguments: `image_size`, height and width of the network's input image in pixels; `channels`, 1 for grey, 3 for
RGB, None for what suits the set; `resize`, how pictures become square: `squash`, stretched; `letterbox`, between black
borders; `shortest`, the centre square of the shorter side; None for what suits the task (boxes are letterboxed, masks
squashed, of classes the middle is shown). `classes`, names in order, empty for what the set lists; `on_error`, `raise`
at the first faulty file or `skip` faulty examples, counted and reported; `scale`, of image files deeper than 8 bits,
the value that is white where it is not that of their type, such as 4095 of 12 bits in 16. All raise UserError where
there is no such kind of set, or an option it does not have. docs/data.md has a table of all layouts.
"""

import re
import threading
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from difflib import get_close_matches
from functools import cache, partial, wraps
from pathlib import Path
from typing import Any, NamedTuple, ParamSpec

import numpy as np

from jaxcv.data.dataset import Dataset, DatasetBatches, join
from jaxcv.data.example import Scan, Task
from jaxcv.data.formats.array_records import scan_array_records
from jaxcv.data.formats.arrow import scan_arrow
from jaxcv.data.formats.coco import scan_coco
from jaxcv.data.formats.cvat import scan_cvat
from jaxcv.data.formats.image_folder import scan_folder
from jaxcv.data.formats.labelme import scan_labelme
from jaxcv.data.formats.landmarks import scan_pts, scan_tables
from jaxcv.data.formats.mask_folders import CAMVID, scan_masks
from jaxcv.data.formats.numpy_arrays import array_names, load_array
from jaxcv.data.formats.panoptic import scan_panoptic
from jaxcv.data.formats.stored import Stored, StoredRecords
from jaxcv.data.formats.voc import scan_voc, scan_voc_masks
from jaxcv.data.formats.web_dataset import scan_tars
from jaxcv.data.formats.yolo import scan_yolo
from jaxcv.data.io.crops import RESIZES, Resize
from jaxcv.data.sets import cifar
from jaxcv.data.sets.catalogue import SETS, set_folder
from jaxcv.data.sets.imagenet import ImageNet
from jaxcv.data.sets.mnist import DIGITS, FASHION, fit_digits, load_mnist
from jaxcv.data.sets.omniglot_runs import scan_runs
from jaxcv.data.sets.pairs import PairedImages, scan_listed, scan_pairs
from jaxcv.data.sets.people import scan_faces, scan_omniglot
from jaxcv.data.sets.pets import scan_pets
from jaxcv.data.sets.photographs import TEST_SQUARES, PhotographWindows
from jaxcv.data.sets.pictures import OnePicture, PictureFolder, picture_file
from jaxcv.data.source import Source
from jaxcv.data.sources.image_files import ImageFiles
from jaxcv.data.sources.in_memory import InMemory, Labelled
from jaxcv.data.sources.known import Absent, answers, question
from jaxcv.data.sources.records import Records, by_usual_names
from jaxcv.data.sources.sampling import Sampling
from jaxcv.data.toy.cartoon_faces import DrawnFaces
from jaxcv.data.toy.digit_masks import SceneMasks
from jaxcv.data.toy.digit_scenes import Scenes
from jaxcv.data.toy.digit_windows import SceneWindows
from jaxcv.data.toy.digits import digits_apart, enlarged_digits
from jaxcv.errors import UserError, unknown_name

__all__ = [
    "Dataset", "DatasetBatches", "Resize", "Sampling", "Source", "classification_data", "detection_data",
    "embedding_data", "from_records", "join", "landmark_data", "localization_data", "photograph_data", "picture_data",
    "segmentation_data", "verification_data", "window_data",
]  # fmt: skip

Splits = tuple[Dataset, Dataset]


class Request(NamedTuple):
    """What a set is opened with."""

    path: Path
    image_size: int
    channels: int
    skip: bool
    classes: tuple[str, ...] = ()
    hold_out: bool = True
    void: int | None = None
    values: tuple[int, ...] = ()
    scale: int | float | None = None
    photographs: tuple[Path, ...] = ()
    squares: int = 0
    unseen: str = ""
    hold_last: int = 0
    resize: Resize | None = None


Opener = Callable[[Request], Splits]


def _splits(make: Callable[[str], Source], ask: Request, *, mirrors: bool = True, ignored: Any = "crowd") -> Splits:
    train, test = (Dataset(make(split), ask.image_size, mirrors, ignored) for split in ("train", "test"))
    return train, test


def _files(
    task: Task, scan: Callable[[Request], Scan], *, mirrors: bool = True, ignored: str = "crowd", **fit: Any
) -> Opener:
    """Opens the image files that a scan lists."""

    def make(ask: Request, split: str) -> ImageFiles:
        return ImageFiles(
            split, ask.image_size, ask.channels, task, partial(scan, ask), white=ask.scale, resize=ask.resize, **fit
        )

    return lambda ask: _splits(partial(make, ask), ask, mirrors=mirrors, ignored=ignored)


def _arrays(
    names: Callable[[Request], tuple[str, ...]], load: Callable[[Request, str], Labelled], *, mirrors: bool, **fit: Any
) -> Opener:
    """Opens images that fit in memory."""

    def make(ask: Request, split: str) -> InMemory:
        found = partial(names, ask), partial(load, ask, split)
        return InMemory(split, ask.image_size, ask.channels, *found, resize=ask.resize or "squash", **fit)

    return lambda ask: _splits(partial(make, ask), ask, mirrors=mirrors)


def _cifar(name: str) -> Opener:
    how: dict[str, Any] = {"mirrors": True, "file_size": cifar.SIDE, "in_color": True}
    names, load = partial(cifar.cifar_names, name), partial(cifar.load_cifar, name)
    arrays = _arrays(lambda ask: names(ask.path), lambda ask, split: load(ask.path, split), **how)
    return lambda ask: (_FOLDER if any((ask.path / split).is_dir() for split in ("train", "test")) else arrays)(ask)


def _mnist(names: tuple[str, ...], *, mirrors: bool) -> Opener:
    how: dict[str, Any] = {"mirrors": mirrors, "fit": fit_digits, "file_size": 28}
    return _arrays(lambda ask: names, lambda ask, split: load_mnist(ask.path, split), **how)


def _imagenet(ask: Request) -> Splits:
    data = Dataset(ImageNet(ask.image_size, ask.channels), ask.image_size)
    return data, data


def _people(apart: bool) -> dict[str, Opener]:
    drawings = {"mirrors": False, "test_fraction": 1.0, "inverted": True}
    return {
        "faces:PATH": _files("label", lambda ask: scan_faces(ask.path, apart, ask.skip, ask.unseen), test_fraction=1.0),
        "omniglot:PATH": _files("label", lambda ask: scan_omniglot(ask.path, apart, ask.skip, ask.unseen), **drawings),
    }


def _pairs(kind: str) -> Opener:
    def make(ask: Request, split: str) -> PairedImages:
        scan, fit = partial(scan_pairs, kind, ask.path, ask.skip), {"test_fraction": 1.0, "inverted": kind != "faces"}
        images = ImageFiles(split, ask.image_size, ask.channels, "label", lambda: scan().pictures, **fit)
        return PairedImages(split, images, lambda: scan().pairs[split])

    return lambda ask: _splits(partial(make, ask), ask, mirrors=kind == "faces")


def _embedding() -> dict[str, Opener]:
    """A list of pairs may be named in place of a folder of faces."""
    kinds, listed = _people(apart=True), _files("label", lambda ask: scan_listed(ask.path, ask.skip), test_fraction=1.0)
    faces = kinds["faces:PATH"]
    kinds["faces:PATH"] = lambda ask: (listed if ask.path.is_file() else faces)(ask)
    runs = _files("label", lambda ask: scan_runs(ask.path, ask.skip), mirrors=False, test_fraction=1.0, inverted=True)
    return {"digits": _digits_apart, **kinds, "omniglot_runs:PATH": runs}


def _digits_apart(ask: Request) -> Splits:
    if ask.unseen and not (ask.unseen.isdecimal() and 0 < int(ask.unseen) < len(DIGITS)):
        raise UserError(f"unseen={ask.unseen!r}: expected a number of digits, from 1 to {len(DIGITS) - 1}")
    unseen = int(ask.unseen or 3)
    load = partial(_arrays, lambda ask: DIGITS, lambda ask, split: digits_apart(split, ask.image_size, unseen))
    return load(mirrors=False)(ask)


def _photographs(ask: Request) -> Splits:
    arrays: dict[str, Dataset] = dict(zip(("train", "test"), _ARRAY(ask), strict=True))
    squares = {"train": ask.squares, "test": TEST_SQUARES if ask.photographs else 0}
    how = (ask.path, ask.image_size, ask.channels, ask.photographs)
    return _splits(lambda split: PhotographWindows(arrays[split].source, *how, squares[split], split), ask)


def _toy(make: Callable[[Request, str], Source], *, mirrors: bool = False) -> Opener:
    """Opens an embedded set."""
    return lambda ask: _splits(partial(make, ask), ask, mirrors=mirrors)


def _stored(task: Task) -> dict[str, Opener]:
    """Opens records in large files."""

    def opener(scan: Callable[[Path], Stored]) -> Opener:
        def make(ask: Request, split: str, alone: Any) -> Records:
            records = StoredRecords(partial(scan, ask.path), split, task)
            how = (ask.image_size, ask.channels, ask.classes, dict, _MOST_BOXES, alone, ask.resize, ask.scale, ask.skip)
            return Records(split, records, records.choose, *how, task)

        return lambda ask: _splits(partial(make, ask, alone=nullcontext()), ask)

    kinds = {"hf": scan_arrow, "parquet": scan_arrow, "arrayrecord": scan_array_records, "wds": scan_tars}
    return {f"{kind}:PATH": opener(scan) for kind, scan in kinds.items()}


_MOST_BOXES = 100
"""Of one image, in sets that are not scanned for them."""
_FOLDER = _files("label", lambda ask: scan_folder(ask.path, ask.skip))
_ARRAY = _arrays(lambda ask: array_names(ask.path), lambda ask, split: load_array(ask.path, split), mirrors=True)
_BOXES: dict[str, Opener] = {
    "voc:PATH": _files(
        "boxes", lambda ask: scan_voc(ask.path, ask.classes, ask.skip, ask.hold_out), ignored="difficult"
    ),
    "coco:PATH": _files("boxes", lambda ask: scan_coco(ask.path, "boxes", ask.classes, ask.skip, ask.hold_out)),
    "yolo:PATH": _files("boxes", lambda ask: scan_yolo(ask.path, "boxes", ask.classes, ask.skip, ask.hold_out)),
    "labelme:PATH": _files("boxes", lambda ask: scan_labelme(ask.path, "boxes", ask.classes, ask.skip, ask.hold_out)),
    "cvat:PATH": _files("boxes", lambda ask: scan_cvat(ask.path, "boxes", ask.classes, ask.skip, ask.hold_out)),
    **_stored("boxes"),
}
OPENERS: dict[str, dict[str, Opener]] = {
    "detection": {
        "digits": _toy(lambda ask, split: Scenes(split, ask.image_size, resize=ask.resize or "letterbox")),
        **_BOXES,
    },
    "localization": {
        "digits": _toy(lambda ask, split: Scenes(split, ask.image_size, True, ask.resize or "letterbox")),
        **_BOXES,
    },
    "segmentation": {
        "digits": _toy(lambda ask, split: SceneMasks(split, ask.image_size, ask.resize or "squash")),
        "masks:PATH": _files(
            "mask", lambda ask: scan_masks(ask.path, ask.classes, ask.void, ask.skip, ask.values, ask.hold_last)
        ),
        "camvid:PATH": _files("mask", lambda ask: scan_masks(ask.path, ask.classes or CAMVID, 11, ask.skip)),
        "pets:PATH": _files("mask", lambda ask: scan_pets(ask.path, True, ask.skip)),
        "voc:PATH": _files("mask", lambda ask: scan_voc_masks(ask.path, ask.skip)),
        "coco:PATH": _files("mask", lambda ask: scan_coco(ask.path, "mask", ask.classes, ask.skip)),
        "panoptic:PATH": _files("mask", lambda ask: scan_panoptic(ask.path, ask.skip)),
        "yolo:PATH": _files("mask", lambda ask: scan_yolo(ask.path, "mask", ask.classes, ask.skip)),
        "labelme:PATH": _files("mask", lambda ask: scan_labelme(ask.path, "mask", ask.classes, ask.skip)),
        "cvat:PATH": _files("mask", lambda ask: scan_cvat(ask.path, "mask", ask.classes, ask.skip)),
        **_stored("mask"),
    },
    "landmark": {
        "drawn": _toy(lambda ask, split: DrawnFaces(split, ask.image_size, ask.channels), mirrors=True),
        "points:PATH": _files("points", lambda ask: scan_tables(ask.path, ask.skip)),
        "pts:PATH": _files("points", lambda ask: scan_pts(ask.path, ask.skip)),
        "coco:PATH": _files("points", lambda ask: scan_coco(ask.path, "points", (), ask.skip)),
        "yolo:PATH": _files("points", lambda ask: scan_yolo(ask.path, "points", (), ask.skip)),
        "labelme:PATH": _files("points", lambda ask: scan_labelme(ask.path, "points", (), ask.skip)),
        "cvat:PATH": _files("points", lambda ask: scan_cvat(ask.path, "points", (), ask.skip)),
        **_stored("points"),
    },
    "classification": {
        "digits": _arrays(lambda ask: DIGITS, lambda ask, split: enlarged_digits(split, ask.image_size), mirrors=False),
        "mnist:PATH": _mnist(DIGITS, mirrors=False),
        "fashion_mnist:PATH": _mnist(FASHION, mirrors=True),
        "cifar10:PATH": _cifar("cifar10"),
        "cifar100:PATH": _cifar("cifar100"),
        "folder:PATH": _FOLDER,
        **_people(apart=False),
        "npy:PATH": _ARRAY,
        "pets:PATH": _files("label", lambda ask: scan_pets(ask.path, False, ask.skip)),
        "imagenet": _imagenet,
        **_stored("label"),
    },
    "embedding": _embedding(),
    "verification": {"faces:PATH": _pairs("faces"), "omniglot:PATH": _pairs("omniglot")},
    "window": {
        "digits": _toy(lambda ask, split: SceneWindows(split, ask.image_size, ask.channels)),
        "npy:PATH": _photographs,
    },
}
"""How each kind of set is opened, by task."""
_GREY = {("classification", kind) for kind in ("digits", "mnist", "fashion_mnist", "npy")} | {("embedding", "digits")}
_GREY |= {(task, "omniglot") for task in ("classification", "embedding", "verification")}
_GREY |= {("embedding", "omniglot_runs")}
"""Sets of grey pictures."""


class _Named(NamedTuple):
    """One of the sets that a text names: `SHARE:KIND:PATH@PART`."""

    share: float | None
    data: str
    part: int | float | None


def _named(task: str, data: str) -> list[_Named]:
    """The sets that a text joins by `+`; a `+` with no known kind behind it belongs to a path."""
    kinds = [re.escape(key.removesuffix("PATH")) for key in OPENERS[task] if ":" in key]
    alone = [key for key in OPENERS[task] if ":" not in key]
    alone += [name for name, found in SETS.items() if f"{found.kind}:PATH" in OPENERS[task]]
    starts = "|".join([*kinds, *(rf"{re.escape(name)}(?=[+@]|$)" for name in alone)])
    sets = []
    for text in re.split(rf"\+(?=(?:[\d.]+:)?(?:{starts}))", data):
        share, name, part = re.findall(r"^(?:(\d+|\d*\.\d+):)?(.*?)(?:@(\d+%?|\d*\.\d+%))?$", text, re.DOTALL)[0]
        size = float(part[:-1]) / 100 if part.endswith("%") else int(part) if part else None
        sets.append(_Named(float(share) if share else None, name, size))
    return sets


def _open(
    task: str, data: str, image_size: int, channels: int | None = None, on_error: str = "raise", **how: Any
) -> Splits:
    """Both splits of the sets that a text names. A part is taken of what trains alone."""
    sets = _named(task, data)
    if sets == [_Named(None, data, None)]:
        return _open_one(task, data, image_size, channels, on_error, **how)
    kinds = {named.data.partition(":")[0] for named in sets}
    grey = all((task, SETS[kind].kind if kind in SETS else kind) in _GREY for kind in kinds)
    opened = [
        _open_one(task, named.data, image_size, channels or (1 if grey else 3), on_error, **how) for named in sets
    ]
    pairs = zip(sets, opened, strict=True)
    trains = [train if named.part is None else train.subset(named.part) for named, (train, _) in pairs]
    shares = tuple(named.share for named in sets if named.share is not None)
    if len(shares) not in (0, len(sets)):
        raise UserError(f"data={data}: expected a share of each set, SHARE:KIND:PATH, or of none")
    train, test = join(*trains, shares=shares), join(*(test for _, test in opened))
    asked = question(task, data, image_size, channels, on_error, **how)
    return _told(train, asked, "train", train.path), _told(test, asked, "test", test.path)


def _open_one(
    task: str, data: str, image_size: int, channels: int | None = None, on_error: str = "raise", **how: Any
) -> Splits:
    """Both splits of a set, options checked."""
    known = OPENERS[task]
    kind, colon, text = data.partition(":")
    named = [name for name, found in SETS.items() if f"{found.kind}:PATH" in known]
    key, path = f"{kind}:PATH" if colon and text else data, Path(text).expanduser()
    if data in named:
        kind, path = SETS[data].kind, set_folder(data)
        key = f"{kind}:PATH"
    if key not in known:
        every = [*known, *named]
        kinds = {name.partition(":")[0]: name for name in reversed(every)}
        near = get_close_matches(kind.lower(), kinds, n=1)
        hint = f"did you mean {kinds[near[0]]}? " if near else ""
        raise UserError(f"data={data}: {hint}{task} sets: {', '.join(every)}")
    void, classes, photographs, values = (how.get(name) for name in ("void", "classes", "photographs", "values"))
    hold_last = how.get("hold_last", 0)
    faults = {
        f"on_error={on_error!r}: expected 'raise' or 'skip'": on_error not in ("raise", "skip"),
        f"scale={how.get('scale')}: expected a number above 0, for image files alone": how.get("scale") is not None
        and (not how["scale"] > 0 or not colon or key == "npy:PATH" or kind.startswith(("mnist", "fashion", "cifar"))),
        f"channels={channels}: expected 1 or 3": channels not in (None, 1, 3),
        f"image_size={image_size}: expected at least 8 pixels": image_size < 8,
        f"void={void}: expected a number from 0 to 255, for masks:PATH alone": void is not None
        and (kind != "masks" or not 0 <= void <= 255),
        f"values={values}: expected numbers from 0 to 255, each once, for masks:PATH alone": values
        and (kind != "masks" or len({*values}) < len(values) or not {*values} <= {*range(256)}),
        f"hold_last={hold_last}: expected a number of examples, for masks:PATH alone": hold_last < 0
        or (hold_last > 0 and kind != "masks"),
        f"classes={classes}: {data} has its own classes": classes
        and (key == "digits" or (task, kind) == ("segmentation", "voc")),
        f"photographs={photographs}: data=digits has its own": photographs and key == "digits",
    }
    for fault, is_there in faults.items():
        if is_there:
            raise UserError(fault)
    if (resize := how.get("resize")) not in (None, *RESIZES):
        raise UserError(unknown_name("resize", resize, list(RESIZES)))
    channels = channels or (1 if (task, kind) in _GREY else 3)
    opened = question(task, data, image_size, channels, on_error, **how)
    if resize is None and task in ("detection", "localization") and (run := answers()) is not None:
        # A run of a version that had no `resize` and squashed all pictures with boxes.
        former = question(task, data, image_size, channels, on_error, **{k: v for k, v in how.items() if k != "resize"})
        if run.names(former):
            opened, how["resize"] = former, "squash"
    train, test = known[key](Request(path, image_size, channels, on_error == "skip", **how))
    where = str(path.resolve()) if key.endswith(":PATH") else ""
    return _told(train, opened, "train", where), _told(test, opened, "test", where)


def _told(split: Dataset, opened: str, name: str, path: str) -> Dataset:
    """A split that knows how it was opened; and answers from what a run knows of it, where files are not looked at."""
    split = replace(split, path=path, opened=opened, split=name)
    facts = None if (known := answers()) is None else known.of(split.source, opened, name)
    if facts is not None:
        split = replace(split, source=Absent(split.source, facts, path))
        for k, boxes in facts["anchor_boxes"].items():
            split._anchor_boxes[int(k)] = np.asarray(boxes, np.float32)
    return split


Options = ParamSpec("Options")


def _shared(opener: Callable[Options, Splits]) -> Callable[Options, Splits]:
    """The same sets for the same arguments; others where a run's knowledge answers in place of files."""

    @cache
    def kept(known: Any, *args: Any, **options: Any) -> Splits:
        return opener(*args, **options)

    @wraps(opener)
    def opened(*args: Options.args, **options: Options.kwargs) -> Splits:
        return kept(answers(), *args, **options)

    opened.cache_clear = kept.cache_clear  # pyright: ignore[reportAttributeAccessIssue]
    return opened


@_shared
def detection_data(
    data: str, *, image_size: int | None = None, classes: tuple[str, ...] = (), on_error: str = "raise",
    hold_out: bool = True, scale: int | float | None = None, resize: Resize | None = None,
) -> Splits:  # fmt: skip
    """Open a detection set: `image` uint8 [b s s 3], `boxes`, `classes`, `valid`, `ignored`.

    `data`: `digits` (embedded: handwritten digits over photographs), `voc:PATH`, `coco:PATH`, `yolo:PATH`,
    `labelme:PATH` or `cvat:PATH`; see `jaxcv.data.formats`. `image_size`: None for 128 of digits, 256 of the others.
    `hold_out`: of a set without a split of its own, whether a fifth is kept for testing; False: both splits hold
    everything.
    """
    how: dict[str, Any] = {"classes": classes, "hold_out": hold_out, "scale": scale, "resize": resize}
    return _open("detection", data, image_size or (128 if data == "digits" else 256), None, on_error, **how)


@_shared
def localization_data(
    data: str,
    *,
    image_size: int | None = None,
    classes: tuple[str, ...] = (),
    on_error: str = "raise",
    scale: int | float | None = None,
    resize: Resize | None = None,
) -> Splits:
    """Open a set for localization, one object or none an image: fields as of `detection_data`.

    `data`: `digits` (embedded: one large digit over a photograph, or none), or what `detection_data` reads from a PATH,
    where the largest object of an image is the one meant. `image_size`: None for 96 of digits, 128 of the others.
    """
    size = image_size or (96 if data == "digits" else 128)
    return _open("localization", data, size, None, on_error, classes=classes, scale=scale, resize=resize)


@_shared
def segmentation_data(
    data: str, *, image_size: int = 256, channels: int | None = None, classes: tuple[str, ...] = (),
    void: int | None = None, values: tuple[int, ...] = (), hold_last: int = 0, own_size: bool = False,
    on_error: str = "raise", scale: int | float | None = None, resize: Resize | None = None,
) -> Splits:  # fmt: skip
    """Open a set for semantic segmentation: `image` uint8 [b s s c], `mask` uint8 [b s s], 255 where void.

    `data`: `digits` (embedded: handwritten digits over photographs), `masks:PATH` (folders of images and of masks),
    `camvid:PATH` (the same in SegNet's layout, with its eleven classes), `pets:PATH`, `voc:PATH` (palette masks),
    `panoptic:PATH` (COCO's pictures of segments), `coco:PATH` (outlines), `yolo:PATH`, `labelme:PATH` or `cvat:PATH`
    (polygons); of the last four class 0 is `background`. `void`: the number in `masks` that stands for void, besides
    255. `values`: the number of each class in `masks`, where greys are no class numbers: (0, 128, 255). `hold_last`: of
    masks without a split of their own, how many pairs are for testing, the last by name, numbers in names by value; 0:
    a fifth. `own_size`: pictures of --predict are not squashed to the network's input.
    """
    how: dict[str, Any] = {"classes": classes, "void": void, "values": values, "hold_last": hold_last, "scale": scale}
    train, test = _open("segmentation", data, image_size, channels, on_error, resize=resize, **how)
    return replace(train, own_size=own_size), replace(test, own_size=own_size)


@_shared
def landmark_data(
    data: str,
    *,
    image_size: int = 128,
    channels: int | None = None,
    on_error: str = "raise",
    scale: int | float | None = None,
) -> Splits:
    """Open a set of key points: `image` uint8 [b s s c], `points` float32 [b p 2] (x, y in pixels), `visible` [b p].

    `data`: `drawn` (embedded: cartoons of faces, 68 points), `points:PATH` (tables, .csv), `pts:PATH` (.pts files,
    300-W's), `coco:PATH`, `yolo:PATH` (poses), `labelme:PATH` or `cvat:PATH`; see `jaxcv.data.formats`.
    """
    return _open("landmark", data, image_size, channels, on_error, scale=scale)


@_shared
def classification_data(
    data: str,
    *,
    image_size: int = 32,
    channels: int | None = None,
    on_error: str = "raise",
    scale: int | float | None = None,
    resize: Resize | None = None,
) -> Splits:
    """Open a classification set: `image` uint8 [b s s c], `label` int32 [b].

    `data`: `digits` (embedded 8x8 digits), `mnist:PATH` (folder with the four IDX files), `fashion_mnist:PATH`,
    `cifar10:PATH`, `cifar100:PATH` (as published), `folder:PATH` (one folder a class), `faces:PATH`, `omniglot:PATH`,
    `npy:PATH`, `pets:PATH`, or `imagenet` (its class names alone, for networks that know them); see
    `jaxcv.data.formats` and `jaxcv.data.sets`.
    """
    return _open("classification", data, image_size, channels, on_error, scale=scale, resize=resize)


@_shared
def embedding_data(
    data: str, *, unseen: str = "", image_size: int = 32, channels: int | None = None, on_error: str = "raise",
    resize: Resize | None = None,
) -> Splits:  # fmt: skip
    """Open a set to learn what makes two pictures alike: `image` uint8 [b s s c], `label` int32 [b].

    `data`: `digits` (embedded), `faces:PATH` (a folder for each person) or `omniglot:PATH`; see
    `jaxcv.data.sets.people`. No class is in both splits: for testing is a fifth of them (of digits 7, 8 and 9), or
    `unseen`, the number of the last ones, or the name of a class or of an alphabet.
    `faces:PATH/pairs.txt`, a list of pairs in a folder of faces, has these for testing, rows 2 i and 2 i + 1, and the
    people who are not in it for training. `omniglot_runs:PATH` is for testing alone: batches of 40 are Omniglot's runs.
    """
    return _open("embedding", data, image_size, channels, on_error, unseen=unseen, resize=resize)


@_shared
def verification_data(
    data: str, *, image_size: int = 32, channels: int | None = None, on_error: str = "raise"
) -> Splits:
    """Open pairs of pictures: `image` and `other` uint8 [b s s c], `same` bool [b]: whether both are of one class.

    `data`: `faces:PATH` or `omniglot:PATH`, as for `embedding_data`; or `faces:PATH/pairs.txt`, the list of pairs to
    test on. See `jaxcv.data.sets.pairs`.
    """
    return _open("verification", data, image_size, channels, on_error)


@_shared
def window_data(
    data: str, *, image_size: int = 25, channels: int = 1, photographs: tuple[str, ...] = (), squares: int = 200_000
) -> Splits:
    """Open windows with and without an object: `image` uint8 [b s s c], `label` int32 [b], 1 for the object.

    `data`: `digits` (embedded: digits over photographs) or `npy:PATH` (pictures of two classes). Of npy: `photographs`,
    folders and lists of pictures that show no object, every fifth for testing; none: scikit-learn's two, for training
    alone; `squares`: how many squares of them there are to train on. Files to predict on are read whole.
    """
    if squares < 0:
        raise UserError(f"squares={squares}: expected 0 or more")
    given = tuple(Path(folder).expanduser() for folder in photographs)
    return _open("window", data, image_size, channels, photographs=given, squares=squares)


@cache
def picture_data(
    picture: str, *, image_size: int = 256, regions: tuple[str, ...] = (), others: tuple[str, ...] = ()
) -> Splits:
    """Open one picture as both splits: `image` uint8 [1 h w 3], in its proportions, `regions` uint8 [1 s h w].

    `picture`: a path, or `china` or `flower`, which come with scikit-learn. `image_size`: of its longer side.
    `regions`: grey pictures, white where something belongs. `others`: more pictures that a run depends on.
    """
    if image_size < 32:
        raise UserError(f"image_size={image_size}: expected at least 32 pixels")
    file, *more = (picture_file(name) for name in (picture, *regions, *others))
    masks, rest = tuple(more[: len(regions)]), tuple(more[len(regions) :])
    train, test = (Dataset(OnePicture(s, file, image_size, masks, rest), image_size) for s in ("train", "test"))
    return replace(train, path=str(file.resolve())), replace(test, path=str(file.resolve()))


@_shared
def photograph_data(data: str, *, image_size: int = 256, longest: int = 1024) -> Splits:
    """Open pictures without annotations: `image` uint8 [b s s 3], the centre square of each.

    `data`: a folder of pictures, in it or below it, every fifth for testing; or `photographs`, the two that come with
    scikit-learn. `longest`: a picture to predict on keeps its proportions, and its longer side is at most so long.
    """
    if image_size < 32 or image_size % 4:
        raise UserError(f"image_size={image_size}: expected at least 32 pixels, and a multiple of 4")
    folder = picture_file("china").parent if data == "photographs" else Path(data).expanduser()
    train, test = (Dataset(PictureFolder(s, folder, image_size, longest), image_size) for s in ("train", "test"))
    opened, where = question("photographs", data, image_size, longest=longest), str(folder.resolve())
    return _told(train, opened, "train", where), _told(test, opened, "test", where)


def from_records(
    train: Any, test: Any = None, *, image_size: int, channels: int = 3, class_names: tuple[str, ...] = (),
    convert: Callable[[Any], Mapping[str, Any]] | None = None, max_boxes: int = 100, mirrors: bool = True,
    thread_safe: bool | None = None, resize: Resize | None = None,
) -> Splits:  # fmt: skip
    """Two indexable objects as the train and the test split. Nothing is read before it is needed.

    Args:
      train: the training examples: has a length and is indexed by numbers. See `jaxcv.data.sources.records`.
      test: the others; None: every fifth record of `train` is for testing.
      image_size: height and width that images are fitted to, in pixels.
      channels: 3 for RGB, 1 for grey.
      class_names: name of each class index; empty: those of `train.features`, as Hugging Face has them, else numbers.
      convert: makes a mapping of a record; see `Records.read_record`.
      max_boxes: how many boxes of one image there is room for.
      mirrors: whether the mirror image of an example is still a valid example of its class.
      thread_safe: whether several threads may read records, and `convert` them, at the same time; None: what `train`
        and `test` say of themselves as `thread_safe`, and lists, tuples and arrays.
      resize: as of `jaxcv.data`; None: with boxes or points letterboxed, with a mask squashed, with a label alone the
        middle of the image.

    Raises:
      UserError: an object that cannot be indexed.
    """
    for records in (train, test):
        if records is not None and not (hasattr(records, "__len__") and hasattr(records, "__getitem__")):
            raise UserError(f"{type(records).__name__}: expected an object with a length and records by number")
    parts = {"train": (train, None), "test": (test, None)}
    if test is None:
        parts = {"train": (train, lambda n: np.arange(n) % 5 != 4), "test": (train, lambda n: np.arange(n) % 5 == 4)}
    if thread_safe is None:
        known = (list, tuple, np.ndarray, type(None))
        thread_safe = all(getattr(each, "thread_safe", isinstance(each, known)) for each in (train, test))
    alone = nullcontext() if thread_safe else threading.Lock()
    how = (image_size, channels, class_names, convert or by_usual_names, max_boxes, alone, resize)
    opened = (Dataset(Records(split, *part, *how), image_size, mirrors) for split, part in parts.items())
    return next(opened), next(opened)
