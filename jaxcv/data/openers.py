"""How each kind of set is opened, by task: the one table `OPENERS`, and what its entries have in common."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from jaxcv.data.dataset import Dataset
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
from jaxcv.data.io.crops import Resize
from jaxcv.data.sets import cifar
from jaxcv.data.sets.imagenet import ImageNet
from jaxcv.data.sets.mnist import DIGITS, FASHION, fit_digits, load_mnist
from jaxcv.data.sets.omniglot_runs import scan_runs
from jaxcv.data.sets.pairs import PairedImages, scan_listed, scan_pairs
from jaxcv.data.sets.people import scan_faces, scan_omniglot
from jaxcv.data.sets.pets import scan_pets
from jaxcv.data.sets.photographs import TEST_SQUARES, PhotographWindows
from jaxcv.data.source import Source
from jaxcv.data.sources.image_files import ImageFiles
from jaxcv.data.sources.in_memory import InMemory, Labelled
from jaxcv.data.sources.records import Records
from jaxcv.data.toy.cartoon_faces import DrawnFaces
from jaxcv.data.toy.digit_masks import SceneMasks
from jaxcv.data.toy.digit_scenes import Scenes
from jaxcv.data.toy.digit_windows import SceneWindows
from jaxcv.data.toy.digits import digits_apart, enlarged_digits
from jaxcv.errors import UserError

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


def _annotated(task: Task) -> dict[str, Opener]:
    """Opens the formats that hold boxes, outlines and points."""

    def opener(scan: Callable[..., Scan]) -> Opener:
        return _files(task, lambda ask: scan(ask.path, task, ask.classes, ask.skip, ask.hold_out))

    return {
        "coco:PATH": opener(scan_coco),
        "yolo:PATH": opener(scan_yolo),
        "labelme:PATH": opener(scan_labelme),
        "cvat:PATH": opener(scan_cvat),
    }


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
    **_annotated("boxes"),
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
        **_annotated("mask"),
        "panoptic:PATH": _files("mask", lambda ask: scan_panoptic(ask.path, ask.skip)),
        **_stored("mask"),
    },
    "landmark": {
        "drawn": _toy(lambda ask, split: DrawnFaces(split, ask.image_size, ask.channels), mirrors=True),
        "points:PATH": _files("points", lambda ask: scan_tables(ask.path, ask.skip)),
        "pts:PATH": _files("points", lambda ask: scan_pts(ask.path, ask.skip)),
        **_annotated("points"),
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
GREY = {("classification", kind) for kind in ("digits", "mnist", "fashion_mnist", "npy")} | {("embedding", "digits")}
GREY |= {(task, "omniglot") for task in ("classification", "embedding", "verification")}
GREY |= {("embedding", "omniglot_runs")}
"""Sets of grey pictures."""
