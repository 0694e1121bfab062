"""What lies on disk, as batches of fixed shape: read where it lies, in its own format.

The functions here, one for each task, open a set by the text of an experiment's `data` hyperparameter and give its two
splits, `(train, test)`; `openers` lists the kinds of sets. Files are read when something is asked that needs them. The
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

import threading
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from jaxcv.data.batches import DatasetBatches
from jaxcv.data.dataset import Dataset, join
from jaxcv.data.io.crops import Resize
from jaxcv.data.openers import Splits
from jaxcv.data.opening import open_sets, shared, told
from jaxcv.data.sets.pictures import OnePicture, PictureFolder, picture_file
from jaxcv.data.source import Source
from jaxcv.data.sources.known import question
from jaxcv.data.sources.records import Records, by_usual_names
from jaxcv.data.sources.sampling import Sampling
from jaxcv.errors import UserError

__all__ = [
    "Dataset", "DatasetBatches", "Resize", "Sampling", "Source", "classification_data", "detection_data",
    "embedding_data", "from_records", "join", "landmark_data", "localization_data", "photograph_data", "picture_data",
    "segmentation_data", "verification_data", "window_data",
]  # fmt: skip


@shared
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
    return open_sets("detection", data, image_size or (128 if data == "digits" else 256), None, on_error, **how)


@shared
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
    return open_sets("localization", data, size, None, on_error, classes=classes, scale=scale, resize=resize)


@shared
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
    train, test = open_sets("segmentation", data, image_size, channels, on_error, resize=resize, **how)
    return replace(train, own_size=own_size), replace(test, own_size=own_size)


@shared
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
    return open_sets("landmark", data, image_size, channels, on_error, scale=scale)


@shared
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
    return open_sets("classification", data, image_size, channels, on_error, scale=scale, resize=resize)


@shared
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
    return open_sets("embedding", data, image_size, channels, on_error, unseen=unseen, resize=resize)


@shared
def verification_data(
    data: str, *, image_size: int = 32, channels: int | None = None, on_error: str = "raise"
) -> Splits:
    """Open pairs of pictures: `image` and `other` uint8 [b s s c], `same` bool [b]: whether both are of one class.

    `data`: `faces:PATH` or `omniglot:PATH`, as for `embedding_data`; or `faces:PATH/pairs.txt`, the list of pairs to
    test on. See `jaxcv.data.sets.pairs`.
    """
    return open_sets("verification", data, image_size, channels, on_error)


@shared
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
    return open_sets("window", data, image_size, channels, photographs=given, squares=squares)


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


@shared
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
    return told(train, opened, "train", where), told(test, opened, "test", where)


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
