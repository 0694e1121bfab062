"""What lies on disk, as batches of fixed shape: read where it lies, in its own format.

`detection_data` and `classification_data` open a set by the text of an experiment's `data` hyperparameter and give
its two splits, `(train, test)`. Both are cheap: files are read when something is asked that needs them. The same text
gives the same objects for as long as the process lives, so scans, decoded images and anchor boxes are shared; files
changed meanwhile are not noticed.
"""

from difflib import get_close_matches
from functools import cache
from pathlib import Path

from jaxcv.data.digits import open_digits
from jaxcv.data.mnist import open_mnist
from jaxcv.data.pipeline import Dataset, DatasetBatches, Source
from jaxcv.data.scenes import open_scenes
from jaxcv.types import UserError

__all__ = ["Dataset", "DatasetBatches", "Source", "classification_data", "detection_data"]


@cache
def detection_data(
    data: str, *, image_size: int | None = None, classes: tuple[str, ...] = (), on_error: str = "raise"
) -> tuple[Dataset, Dataset]:
    """Open a detection set: `image` uint8 [b s s 3], `boxes`, `classes`, `valid`, `ignored`.

    Args:
      data: `digits` (embedded: handwritten digits over photographs) or `voc:PATH` (PASCAL VOC folder).
      image_size: side of the network's input image in pixels; None: 128 for digits, 256 for voc.
      classes: class names in order, for `voc`; empty: PATH/classes.txt, the 20 VOC classes, or what the files hold.
      on_error: `raise` at the first faulty file, or `skip` faulty examples, counted and reported.

    Returns:
      The train and the test split.

    Raises:
      UserError: no such kind of set, or an option it does not have.
    """
    if on_error not in ("raise", "skip"):
        raise UserError(f"on_error={on_error!r}: expected 'raise' or 'skip'")
    match data.partition(":"):
        case ("digits", "", ""):
            if classes:
                raise UserError(f"classes={classes}: data=digits has its own ten classes")
            return open_scenes(image_size=_size(image_size or 128))
        case ("voc", ":", path) if path:
            from jaxcv.data.voc import open_voc

            return open_voc(
                Path(path).expanduser(), image_size=_size(image_size or 256), classes=classes, on_error=on_error
            )
        case _:
            raise _unknown(data, "detection", ("digits", "voc:PATH"))


@cache
def classification_data(
    data: str, *, image_size: int = 32, channels: int | None = None, on_error: str = "raise"
) -> tuple[Dataset, Dataset]:
    """Open a classification set: `image` uint8 [b s s c], `label` int32 [b].

    Args:
      data: `digits` (embedded 8x8 digits), `mnist:PATH` (folder with the four IDX files), `folder:PATH` (one folder a
        class, see `jaxcv.data.folder`), or `imagenet` (its class names alone, for networks that know them).
      image_size: side of the network's input image in pixels.
      channels: 1 for grey, 3 for RGB; None: 1 for digits and mnist, 3 for the others.
      on_error: `raise` at the first faulty file, or `skip` faulty examples of a `folder`, counted and reported.

    Returns:
      The train and the test split.

    Raises:
      UserError: no such kind of set, or an option it does not have.
    """
    if on_error not in ("raise", "skip"):
        raise UserError(f"on_error={on_error!r}: expected 'raise' or 'skip'")
    if channels not in (None, 1, 3):
        raise UserError(f"channels={channels}: expected 1 or 3")
    match data.partition(":"):
        case ("digits", "", ""):
            return open_digits(image_size=_size(image_size), channels=channels or 1)
        case ("mnist", ":", path) if path:
            return open_mnist(Path(path).expanduser(), image_size=_size(image_size), channels=channels or 1)
        case ("folder", ":", path) if path:
            from jaxcv.data.folder import open_folder

            folder = Path(path).expanduser()
            return open_folder(folder, image_size=_size(image_size), channels=channels or 3, on_error=on_error)
        case ("imagenet", "", ""):
            from jaxcv.data.imagenet import open_imagenet

            return open_imagenet(image_size=_size(image_size), channels=channels or 3)
        case _:
            raise _unknown(data, "classification", ("digits", "mnist:PATH", "folder:PATH", "imagenet"))


def _size(image_size: int) -> int:
    if image_size < 8:
        raise UserError(f"image_size={image_size}: expected at least 8 pixels")
    return image_size


def _unknown(data: str, task: str, known: tuple[str, ...]) -> UserError:
    kinds = {name.partition(":")[0]: name for name in known}
    near = get_close_matches(data.partition(":")[0].lower(), kinds, n=1)
    hint = f"did you mean {kinds[near[0]]}? " if near else ""
    return UserError(f"data={data}: {hint}{task} sets: {', '.join(known)}")
