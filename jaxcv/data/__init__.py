"""What lies on disk, as batches of fixed shape: read where it lies, in its own format.

The functions here, one for each task, open a set by the text of an experiment's `data` hyperparameter and give its two
splits, `(train, test)`. All are cheap: files are read when something is asked that needs them. The same text gives the
same objects for as long as the process lives, so scans, decoded images and anchor boxes are shared; files changed
meanwhile are not noticed. `from_records` does the same with Python objects: others' datasets, sources of grain, lists.
"""

from difflib import get_close_matches
from functools import cache
from pathlib import Path

from jaxcv.data.dataset import Dataset, DatasetBatches, Source
from jaxcv.data.sets.catalogue import SETS, place
from jaxcv.data.sets.mnist import open_mnist
from jaxcv.data.sources.records import from_records
from jaxcv.data.toy.digit_scenes import open_scenes
from jaxcv.data.toy.digits import open_digits
from jaxcv.types import UserError

__all__ = [
    "Dataset",
    "DatasetBatches",
    "Source",
    "classification_data",
    "detection_data",
    "embedding_data",
    "from_records",
    "landmark_data",
    "localization_data",
    "segmentation_data",
    "verification_data",
    "window_data",
]


@cache
def detection_data(
    data: str,
    *,
    image_size: int | None = None,
    classes: tuple[str, ...] = (),
    on_error: str = "raise",
    hold_out: bool = True,
) -> tuple[Dataset, Dataset]:
    """Open a detection set: `image` uint8 [b s s 3], `boxes`, `classes`, `valid`, `ignored`.

    Args:
      data: `digits` (embedded: handwritten digits over photographs), `voc:PATH` (PASCAL VOC folder), `coco:PATH` (COCO
        JSON, a folder or a file; see `jaxcv.data.formats.coco`) or `yolo:PATH` (text files and a YAML file; see
        `jaxcv.data.formats.yolo`).
      image_size: side of the network's input image in pixels; None: 128 for digits, 256 for the others.
      classes: class names in order; empty: what the set lists (voc: PATH/classes.txt, or the 20 VOC classes).
      on_error: `raise` at the first faulty file, or `skip` faulty examples, counted and reported.
      hold_out: of a coco or yolo set without a split of its own, whether a fifth is kept for testing; False: both
        splits hold everything, as for a test of whether a network can learn a few images by heart.

    Returns:
      The train and the test split.

    Raises:
      UserError: no such kind of set, or an option it does not have.
    """
    kind, path = _parse(data, "detection", ("digits", "voc:PATH", "coco:PATH", "yolo:PATH"), on_error)
    size = _size(image_size or (128 if kind == "digits" else 256))
    if kind == "digits":
        if classes:
            raise UserError(f"classes={classes}: data=digits has its own ten classes")
        return open_scenes(image_size=size)
    if kind == "voc":
        from jaxcv.data.formats.voc import open_voc

        return open_voc(path, image_size=size, classes=classes, on_error=on_error)
    if kind == "yolo":
        from jaxcv.data.formats.yolo import open_yolo

        return open_yolo(path, image_size=size, classes=classes, on_error=on_error, hold_out=hold_out)
    from jaxcv.data.formats.coco import open_coco

    return open_coco(path, image_size=size, classes=classes, on_error=on_error, hold_out=hold_out)


def localization_data(
    data: str, *, image_size: int | None = None, classes: tuple[str, ...] = (), on_error: str = "raise"
) -> tuple[Dataset, Dataset]:
    """Open a set for localization, one object or none an image: fields as of `detection_data`.

    Args:
      data: `digits` (embedded: one large digit over a photograph, or none in a fifth of the scenes), or what
        `detection_data` reads from a PATH; where an image has several objects, the largest is the one meant.
      image_size: side of the network's input image in pixels; None: 96 for digits, 128 for the others.
      classes: class names in order; empty: what the set lists.
      on_error: `raise` at the first faulty file, or `skip` faulty examples, counted and reported.

    Returns:
      The train and the test split.

    Raises:
      UserError: no such kind of set, or an option it does not have.
    """
    if data != "digits":
        return detection_data(data, image_size=image_size or 128, classes=classes, on_error=on_error)
    if classes:
        raise UserError(f"classes={classes}: data=digits has its own ten classes")
    _parse(data, "localization", ("digits",), on_error)
    return _single_digits(_size(image_size or 96))


@cache
def _single_digits(image_size: int) -> tuple[Dataset, Dataset]:
    return open_scenes(image_size=image_size, single=True)


@cache
def segmentation_data(
    data: str,
    *,
    image_size: int = 256,
    channels: int | None = None,
    classes: tuple[str, ...] = (),
    void: int | None = None,
    on_error: str = "raise",
) -> tuple[Dataset, Dataset]:
    """Open a set for semantic segmentation: `image` uint8 [b s s c], `mask` uint8 [b s s], 255 where void.

    Args:
      data: `masks:PATH` (folders of images and of masks, see `jaxcv.data.formats.mask_folders`), `camvid:PATH` (the same in SegNet's
        layout, with its eleven classes), `voc:PATH` (PASCAL VOC's palette masks), `coco:PATH` (COCO JSON with outlines)
        or `yolo:PATH` (text files with polygons); of the last three class 0 is `background`.
      image_size: side of the network's input image in pixels.
      channels: 1 for grey, 3 for RGB; None: 3.
      classes: class names in order; empty: what the set lists.
      void: the number in `masks` that stands for void, besides 255.
      on_error: `raise` at the first faulty file, or `skip` faulty examples, counted and reported.

    Returns:
      The train and the test split.

    Raises:
      UserError: no such kind of set, or an option it does not have.
    """
    known = ("masks:PATH", "camvid:PATH", "pets:PATH", "voc:PATH", "coco:PATH", "yolo:PATH")
    kind, path = _parse(data, "segmentation", known, on_error, channels)
    size, channels = _size(image_size), channels or 3
    if void is not None and (kind != "masks" or not 0 <= void <= 255):
        raise UserError(f"void={void}: expected a number from 0 to 255, for masks:PATH alone")
    if kind in ("masks", "camvid"):
        from jaxcv.data.formats.mask_folders import CAMVID, open_masks

        if kind == "camvid":
            classes, void = classes or CAMVID, 11
        options = {"channels": channels, "classes": classes, "void": void, "on_error": on_error}
        return open_masks(path, image_size=size, **options)
    if kind == "pets":
        from jaxcv.data.sets.pets import open_pet_masks

        return open_pet_masks(path, image_size=size, channels=channels, on_error=on_error)
    if kind == "voc":
        from jaxcv.data.formats.voc import open_voc_masks

        if classes:
            raise UserError(f"classes={classes}: the masks of VOC have their own twenty, and the background")
        return open_voc_masks(path, image_size=size, channels=channels, on_error=on_error)
    if kind == "yolo":
        from jaxcv.data.formats.yolo import open_yolo_masks

        return open_yolo_masks(path, image_size=size, channels=channels, classes=classes, on_error=on_error)
    from jaxcv.data.formats.coco import open_coco_masks

    return open_coco_masks(path, image_size=size, channels=channels, classes=classes, on_error=on_error)


@cache
def landmark_data(
    data: str, *, image_size: int = 128, channels: int | None = None, on_error: str = "raise"
) -> tuple[Dataset, Dataset]:
    """Open a set of key points: `image` uint8 [b s s c], `points` float32 [b p 2] (x, y in pixels), `visible` [b p].

    Args:
      data: `drawn` (embedded: cartoons of faces, 68 points), `points:PATH` (tables, .csv), `pts:PATH` (.pts files,
        300-W's; see `jaxcv.data.formats.landmarks` for both), or `coco:PATH` (COCO JSON, see `jaxcv.data.formats.coco_points`).
      image_size: side of the network's input image in pixels.
      channels: 1 for grey, 3 for RGB; None: 3.
      on_error: `raise` at the first faulty file, or `skip` faulty examples, counted and reported.

    Returns:
      The train and the test split.

    Raises:
      UserError: no such kind of set.
    """
    kind, path = _parse(data, "landmark", ("drawn", "points:PATH", "pts:PATH", "coco:PATH"), on_error, channels)
    if kind == "drawn":
        from jaxcv.data.toy.cartoon_faces import open_drawn_faces

        return open_drawn_faces(image_size=_size(image_size), channels=channels or 3)
    if kind == "coco":
        from jaxcv.data.formats.coco_points import open_coco_points as open_kind
    elif kind == "points":
        from jaxcv.data.formats.landmarks import open_points as open_kind
    else:
        from jaxcv.data.formats.landmarks import open_pts as open_kind
    return open_kind(path, image_size=_size(image_size), channels=channels or 3, on_error=on_error)


@cache
def classification_data(
    data: str, *, image_size: int = 32, channels: int | None = None, on_error: str = "raise"
) -> tuple[Dataset, Dataset]:
    """Open a classification set: `image` uint8 [b s s c], `label` int32 [b].

    Args:
      data: `digits` (embedded 8x8 digits), `mnist:PATH` (folder with the four IDX files), `cifar10:PATH`,
        `cifar100:PATH` (as published), `folder:PATH` (one folder a class, see `jaxcv.data.sources.class_folders`), `faces:PATH`,
        `omniglot:PATH` (see `jaxcv.data.sets.people`), `npy:PATH` (see `jaxcv.data.formats.numpy_arrays`), or `imagenet` (its class names
        alone, for networks that know them).
      image_size: side of the network's input image in pixels.
      channels: 1 for grey, 3 for RGB; None: 1 for digits, mnist, omniglot and npy, 3 for the others.
      on_error: `raise` at the first faulty file, or `skip` faulty pictures of folders, counted and reported.

    Returns:
      The train and the test split.

    Raises:
      UserError: no such kind of set, or an option it does not have.
    """
    paths = "mnist fashion_mnist cifar10 cifar100 folder faces omniglot npy pets".split()
    known = ("digits", *(f"{name}:PATH" for name in paths), "imagenet")
    kind, path = _parse(data, "classification", known, on_error, channels)
    size = _size(image_size)
    if kind == "digits":
        return open_digits(image_size=size, channels=channels or 1)
    if kind in ("mnist", "fashion_mnist"):
        return open_mnist(path, image_size=size, channels=channels or 1, fashion=kind == "fashion_mnist")
    if kind in ("cifar10", "cifar100"):
        from jaxcv.data.sets.cifar import open_cifar

        return open_cifar(kind, path, image_size=size, channels=channels or 3, on_error=on_error)
    if kind == "folder":
        from jaxcv.data.sources.class_folders import open_folder

        return open_folder(path, image_size=size, channels=channels or 3, on_error=on_error)
    if kind == "pets":
        from jaxcv.data.sets.pets import open_pets

        return open_pets(path, image_size=size, channels=channels or 3, on_error=on_error)
    if kind == "npy":
        from jaxcv.data.formats.numpy_arrays import open_npy

        return open_npy(path, image_size=size, channels=channels or 1)
    if kind == "imagenet":
        from jaxcv.data.sets.imagenet import open_imagenet

        return open_imagenet(image_size=size, channels=channels or 3)
    return _open_identities(kind, path, size, channels, False, on_error)


@cache
def embedding_data(
    data: str, *, image_size: int = 32, channels: int | None = None, on_error: str = "raise"
) -> tuple[Dataset, Dataset]:
    """Open a set to learn what makes two pictures alike: `image` uint8 [b s s c], `label` int32 [b].

    No class is in both splits.

    Args:
      data: `faces:PATH` (a folder for each person) or `omniglot:PATH`; see `jaxcv.data.sets.people`.
      image_size: side of the network's input image in pixels.
      channels: 1 for grey, 3 for RGB; None: 3 for faces, 1 for omniglot.
      on_error: `raise` at the first faulty file, or `skip` faulty pictures, counted and reported.

    Returns:
      The train and the test split.

    Raises:
      UserError: no such kind of set.
    """
    kind, path = _parse(data, "embedding", ("faces:PATH", "omniglot:PATH"), on_error, channels)
    return _open_identities(kind, path, _size(image_size), channels, True, on_error)


@cache
def verification_data(
    data: str, *, image_size: int = 32, channels: int | None = None, on_error: str = "raise"
) -> tuple[Dataset, Dataset]:
    """Open pairs of pictures: `image` and `other` uint8 [b s s c], `same` bool [b]: whether both are of one class.

    Args:
      data: `faces:PATH` or `omniglot:PATH`, as for `embedding_data`; or `faces:PATH/pairs.txt`, the list of pairs to
        test on. See `jaxcv.data.sets.pairs`.
      image_size: side of the network's input image in pixels.
      channels: 1 for grey, 3 for RGB; None: 3 for faces, 1 for omniglot.
      on_error: `raise` at the first faulty file, or `skip` faulty pictures, counted and reported.

    Returns:
      The train and the test split.

    Raises:
      UserError: no such kind of set.
    """
    from jaxcv.data.sets.pairs import open_pairs

    kind, path = _parse(data, "verification", ("faces:PATH", "omniglot:PATH"), on_error, channels)
    channels = channels or (1 if kind == "omniglot" else 3)
    return open_pairs(kind, path, image_size=_size(image_size), channels=channels, on_error=on_error)


@cache
def window_data(
    data: str,
    *,
    image_size: int = 25,
    channels: int = 1,
    photographs: tuple[str, ...] = (),
    squares: int = 200_000,
) -> tuple[Dataset, Dataset]:
    """Open windows with and without an object: `image` uint8 [b s s c], `label` int32 [b], 1 for the object.

    What a classifier learns from that is to scan pictures; files to predict on are read whole. See
    `jaxcv.data.toy.digit_windows`.

    Args:
      data: `digits` (embedded: digits over photographs) or `npy:PATH` (pictures of two classes, see `jaxcv.data.formats.numpy_arrays`).
      image_size: side of a window in pixels.
      channels: 1 for grey, 3 for RGB.
      photographs: of npy, folders and lists of pictures that show no object, of which every fifth is for testing;
        none: scikit-learn's two, for training alone. See `jaxcv.data.sets.photographs`.
      squares: of npy, how many squares of photographs there are to train on as windows without object; 0 for none.

    Returns:
      The train and the test split.

    Raises:
      UserError: no such kind of set.
    """
    kind, path = _parse(data, "window", ("digits", "npy:PATH"), "raise", channels)
    if squares < 0:
        raise UserError(f"squares={squares}: expected 0 or more")
    size, places = _size(image_size), tuple(Path(place).expanduser() for place in photographs)
    if kind == "digits":
        if photographs:
            raise UserError(f"photographs={photographs}: data=digits has its own")
        from jaxcv.data.toy.digit_windows import open_scene_windows

        return open_scene_windows(image_size=size, channels=channels)
    from jaxcv.data.sets.photographs import open_picture_windows

    return open_picture_windows(path, image_size=size, channels=channels, photographs=places, squares=squares)


def _open_identities(
    kind: str, path: Path, size: int, channels: int | None, apart: bool, on_error: str
) -> tuple[Dataset, Dataset]:
    from jaxcv.data.sets.people import open_faces, open_omniglot

    if kind == "faces":
        return open_faces(path, image_size=size, channels=channels or 3, apart=apart, on_error=on_error)
    return open_omniglot(path, image_size=size, channels=channels or 1, apart=apart, on_error=on_error)


def _size(image_size: int) -> int:
    if image_size < 8:
        raise UserError(f"image_size={image_size}: expected at least 8 pixels")
    return image_size


def _parse(
    data: str, task: str, known: tuple[str, ...], on_error: str, channels: int | None = None
) -> tuple[str, Path]:
    """Kind and path of a set, options checked; an empty path where the kind has none."""
    if on_error not in ("raise", "skip"):
        raise UserError(f"on_error={on_error!r}: expected 'raise' or 'skip'")
    if channels not in (None, 1, 3):
        raise UserError(f"channels={channels}: expected 1 or 3")
    kind, colon, path = data.partition(":")
    if (f"{kind}:PATH" if colon and path else data) in known:
        return kind, Path(path).expanduser()
    named = [name for name, found in SETS.items() if f"{found.kind}:PATH" in known]
    if data in named:
        return SETS[data].kind, place(data)
    known = (*known, *named)
    kinds = {name.partition(":")[0]: name for name in reversed(known)}
    near = get_close_matches(kind.lower(), kinds, n=1)
    hint = f"did you mean {kinds[near[0]]}? " if near else ""
    raise UserError(f"data={data}: {hint}{task} sets: {', '.join(known)}")
