"""From the text of an experiment's `data` hyperparameter to both splits: `KIND:PATH`, or several joined.

`folder:A+hf:B` is one set of two, `0.7:folder:A+0.3:hf:B` with shares of what trains; `@1000` or `@10%` behind a set
takes a part of what trains.
"""

import re
from collections.abc import Callable
from dataclasses import replace
from difflib import get_close_matches
from functools import cache, wraps
from pathlib import Path
from typing import Any, NamedTuple, ParamSpec

import numpy as np

from jaxcv.data.dataset import Dataset, join
from jaxcv.data.io.crops import RESIZES
from jaxcv.data.openers import GREY, OPENERS, Request, Splits
from jaxcv.data.sets.catalogue import SETS, set_folder
from jaxcv.data.sources.known import Absent, answers, question
from jaxcv.errors import UserError, unknown_name


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


def open_sets(
    task: str, data: str, image_size: int, channels: int | None = None, on_error: str = "raise", **how: Any
) -> Splits:
    """Both splits of the sets that a text names. A part is taken of what trains alone."""
    sets = _named(task, data)
    if sets == [_Named(None, data, None)]:
        return _open_one(task, data, image_size, channels, on_error, **how)
    kinds = {named.data.partition(":")[0] for named in sets}
    grey = all((task, SETS[kind].kind if kind in SETS else kind) in GREY for kind in kinds)
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
    return told(train, asked, "train", train.path), told(test, asked, "test", test.path)


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
    channels = channels or (1 if (task, kind) in GREY else 3)
    opened = question(task, data, image_size, channels, on_error, **how)
    if resize is None and task in ("detection", "localization") and (run := answers()) is not None:
        # A run of a version that had no `resize` and squashed all pictures with boxes.
        former = question(task, data, image_size, channels, on_error, **{k: v for k, v in how.items() if k != "resize"})
        if run.names(former):
            opened, how["resize"] = former, "squash"
    train, test = known[key](Request(path, image_size, channels, on_error == "skip", **how))
    where = str(path.resolve()) if key.endswith(":PATH") else ""
    return told(train, opened, "train", where), told(test, opened, "test", where)


def told(split: Dataset, opened: str, name: str, path: str) -> Dataset:
    """A split that knows how it was opened; and answers from what a run knows of it, where files are not looked at."""
    split = replace(split, path=path, opened=opened, split=name)
    facts = None if (known := answers()) is None else known.of(split.source, opened, name)
    if facts is not None:
        split = replace(split, source=Absent(split.source, facts, path))
        for k, boxes in facts["anchor_boxes"].items():
            split._anchor_boxes[int(k)] = np.asarray(boxes, np.float32)
    return split


Options = ParamSpec("Options")


def shared(opener: Callable[Options, Splits]) -> Callable[Options, Splits]:
    """The same sets for the same arguments; others where a run's knowledge answers in place of files."""

    @cache
    def kept(known: Any, *args: Any, **options: Any) -> Splits:
        return opener(*args, **options)

    @wraps(opener)
    def opened(*args: Options.args, **options: Options.kwargs) -> Splits:
        return kept(answers(), *args, **options)

    opened.cache_clear = kept.cache_clear  # pyright: ignore[reportAttributeAccessIssue]
    return opened
