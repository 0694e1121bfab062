"""Values typed by hand that nobody should write: each refused with file, line, value and what was expected, or counted.

What a change does to a file is a text and the text in its place, or bytes that are all of the file. With faults
skipped, the rest of the set is read and a note says what was left out, where one image can be left out at all.
"""

import json
import os
import pickle
import re
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_sets import noise, picture
from spoilt import SETS, Target

ROOT = str(Path(__file__).parents[2])


def value(old, *values):
    """Pairs of a text and each of `values` in the place of its `@`-marked part."""
    before, _, rest = old.partition("@")
    middle, _, after = rest.partition("@")
    return [(before + middle + after, before + new + after) for new in values]


NOT_FINITE = ("NaN", "Infinity", "-Infinity", "1e400", "1" + "0" * 400)
NO_NUMBER = ("true", "null", '"5"', "[]", "{}", "[[[]]]")
XMIN, WIDTH, NAME = "<xmin>@1@</xmin>", "<width>@64@</width>", "<name>@dog@</name>"
VOC = [
    *(
        (*v, "<xmin> is .*, expected a number")
        for v in value(XMIN, "nan", "inf", "", "True", "0x1", "1,5", "1_0", "\u0661", "\uff11", "1e400", "1+2j")
    ),
    (*value(XMIN, "1" + "0" * 30)[0], r"xmin=1e\+30 .*far out"),
    (*value(XMIN, "-1e9")[0], r"xmin=-1e\+09 .*far out of the 64x64 image"),
    ("<xmax>60</xmax>", "<xmax>1e9</xmax>", r"xmax=1e\+09 .*far out"),
    ("<ymax>60</ymax>", "<ymax>0</ymax>", "negative width or height"),
    ("<xmin>1</xmin>", "", "<bndbox> has no <xmin>"),
    ("<xmin>1</xmin>", "<xmin>1</xmin><xmin>30</xmin>", "<bndbox> has a second <xmin>"),
    ("<bndbox>", "<bndbox/><bndbox>", "<object> has a second <bndbox>"),
    ("<size>", "<size/><size>", "<annotation> has a second <size>"),
    *((*v, "image size .*, expected at least 1x1") for v in value(WIDTH, "-64", "0.5", "64.5", "1" + "0" * 30)),
    *((*v, "<width> is .*, expected a number") for v in value(WIDTH, "nan", "", "x")),
    (*value(NAME, "")[0], "the name of a class is '', expected a text"),
    (*value(NAME, "do\ng")[0], r"the name of a class is 'do g', expected a text in one line"),
    (*value(NAME, "do\u202eg")[0], r"the name of a class is 'do\\u202eg'"),
    (*value(NAME, "d" * 10**6)[0], "the name of a class has 1,000,000 characters, expected at most 200"),
    (*value(NAME, "<name>dog</name>")[0], "the name of a class is ''"),
    ("<bndbox>", "<difficult>yes</difficult><bndbox>", "<difficult> is 'yes', expected a number"),
    ("<bndbox>", "<difficult>nan</difficult><bndbox>", "<difficult> is 'nan', expected a number"),
    ("dog", b"<annotation>h\xfcnd</annotation>", r"0\.xml:1: byte 0xfc is no UTF-8"),
    ("dog", b"<a/>", "<a> where VOC has <annotation>"),
]
BBOX, IMAGE_ID = '"bbox": [@0@, 0, 40, 20]', '"image_id": @1@, "category_id": 3'
CATEGORY, CROWD = '"category_id": @3@, "bbox": [0', '"bbox": [0, 0, 40, 20]@@'
COCO = [
    *((*v, r"annotations\[0\]: bbox .*not a finite number") for v in value(BBOX, *NOT_FINITE)),
    *((*v, r"annotations\[0\]: bbox is .*, expected a list of 4 numbers") for v in value(BBOX, *NO_NUMBER)),
    *((*v, r"annotations\[0\]: bbox .*far out of the 40x20 image") for v in value(BBOX, "1" + "0" * 30,
        "-900")),
    *((*v, r"annotations\[0\]: bbox .*negative width") for v in value('"bbox": [0, 0, @40@, 20]', "-40", "-1e-9")),
    *((*v, r"annotations\[0\]: category_id is .*, expected") for v in value(CATEGORY, *NO_NUMBER, "1.5", "-3", "NaN")),
    *((*v, r"annotations\[0\]: image_id is .*, expected the id of an image") for v in value(IMAGE_ID, *NO_NUMBER, "9")),
    *((*v, r"annotations\[0\]: iscrowd is .*, expected 0 or 1") for v in value(CROWD, *(f', "iscrowd": {x}' for x in (
        "2", "-1", "0.5", "NaN", "null", '"1"', "[]")))),
    *((*v, r"images\[0\]: width is .*, expected a whole number from 1") for v in value('"width": @40@', *NO_NUMBER, *(
        "0", "-40", "1.5", "NaN", "Infinity", "1" + "0" * 30))),
    *((*v, r"images\[0\]: file_name is .*, expected the name of a file within") for v in value('"@a0.png@"', *(
        "../../../../../../etc/passwd", "/etc/passwd", r"..\\..\\etc\\passwd", "C:\\\\a0.png", r"a\u0000.png",
        r"\ud800.png", "a" * 2000))),
    *((*v, r"images\[0\]: file_name is .*, expected a text") for v in value('"file_name": @"a0.png"@', *(
        "5", "null", '" "', "[]", "true"))),
    *((*v, r"images\[0\]: id is .*, expected a whole number or a text") for v in value('"id": @1@, "file', *(
        "null", "true", "1.5", "NaN", "[1]"))),
    *((*v, r"categories\[0\]: id is .*, expected a whole number or a text") for v in value('"id": @7@', "null", "1.5")),
    *((*v, r"categories\[0\]: name is .*, expected a text") for v in value('"name": @"plate"@', "5", "null", '""',
        "[]")),
    *((*v, r"categories\[0\]: the name of a class is ") for v in value('"name": "@plate@"', r"pla\nte", r"\ud800")),
    ('"id": 2', '"id": 1', r"images\[1\]: id 1 is given twice"),
    ('"a1.png"', '"a0.png"', r"images\[1\]: file_name 'a0.png' is given twice, expected one id"),
    ('"id": 3, "name"', '"id": 7, "name"', r"categories\[1\]: id 7 is given twice, first to categories\[0\]"),
    ('"annotations":', '"annotations": [], "annotations":',
        "key 'annotations' stands twice in one JSON object"),
    ('"bbox": [0', '"bbox": [], "bbox": [0', "key 'bbox' stands twice in one JSON object"),
    ('"bbox": [0,', f'"bbox": [{"9" * 5000},', "JSON that cannot be read: "),
    ("}", b"[" * 100_000, "JSON that cannot be read: maximum recursion"),
    ("}", b'{"a":' * 100_000, "JSON that cannot be read: maximum recursion"),
    ("}", b"// no comment\n{}", ":1: broken JSON: Expecting value"),
    ("}", b"{'images': []}", ":1: broken JSON: Expecting property name"),
    ("}", b'{"images": []}{}', ":1: broken JSON: Extra data"),
    ("}", b"\x1f\x8b\x08", ":1: byte 0x8b is no UTF-8"),
    ("}", '{"images": []}'.encode("utf-16"), ":1: byte 0xff is no UTF-8"),
    ("}", b'{"images": "\xe9"}', ":1: byte 0xe9 is no UTF-8"),
    *(("}", text, "holds .* where COCO has keys") for text in (b"NaN", b"[]", b"null", b"5", b'"a"')),
]  # fmt: skip
OUTLINE, COUNTS, RLE = '"segmentation": @[[0, 0, 40, 0, 40, 20, 0, 20]]@', '"counts": @[100, 200, 500]@', "[@20@, 40]"
COCO_MASKS = [
    *((*v, r"annotations\[0\]: segmentation is ") for v in value(OUTLINE, "NaN", "true", "null", '"a"', "5", "[]",
        "[[]]", "[5]", "[[true, 0, 1, 1, 2, 2]]", '[["0", 0, 1, 1, 2, 2]]')),
    *((*v, r"annotations\[0\]: a polygon of .* numbers, expected x") for v in value(OUTLINE, "[[1, 2, 3, 4]]",
        "[[1, 2, 3, 4, 5, 6, 7]]")),
    *((*v, r"annotations\[0\]: a polygon whose [xy] of point \d is .*(far out|not a finite)") for v in value(OUTLINE, *(
        f"[[1, 2, 3, 4, 5, {n}]]" for n in (*NOT_FINITE, "-900", "1" + "0" * 30)))),
    *((*v, r"annotations\[1\]: run lengths that are damaged") for v in value(COUNTS, "null", "5", "{}",
        "[100, NaN, 700]",
        "[100, true, 699]", "[100, 0.5, 699.5]", "[900, -100]", '"\\u2603"', '"oooooooooooooooo"', "[1e30]")),
    *((*v, r"annotations\[1\]: run lengths of .* pixels, the image has 800") for v in value(COUNTS, "[]", "[799]", '""',
        "[800, 800]")),
    *((*v, r"annotations\[1\]: run lengths for a picture of ") for v in value(RLE, "21", "-20", "null", "NaN", "[20]")),
]  # fmt: skip
KEYPOINTS = "[@3, 3, 2@, 9, 9, 1, 0, 0, 0]"
COCO_POINTS = [
    *((*v, r"annotations\[0\]: [xy] of point 0 is .*, (not a finite number|far out)") for v in value(KEYPOINTS,
        "NaN, 3, 2", "3, Infinity, 2", "-900, 3, 2", "3, 1e30, 2")),
    *((*v, r"annotations\[0\]: keypoints is .*, expected a list of x, y and a flag") for v in value(KEYPOINTS,
        "3, 3, 3", "3, 3, -1", "3, 3, 0.5", "3, 3, NaN", "true, 3, 2", "3, null, 2", '3, "3", 2', "3, 3, 2, 3")),
]  # fmt: skip
LINE = "@0 0.5@ 0.5 1 1"
YOLO = [
    *((*v, r"a0\.txt:1: .* where fractions of the image from 0 to 1 are expected") for v in value(LINE,
        "0 nan", "0 inf", "0 -inf", "0 320", "0 1e400", "0 1" + "0" * 30)),
    *((*v, r"a0\.txt:1: .* where a number is expected") for v in value(LINE,
        "0 x", "0 0,5", "0 0x1p-1", "0 True", "0 0_1", "0 \u0661", "0 .5\0", "zero 0.5")),
    *((*v, r"a0\.txt:1: class .*, expected 0 to 1") for v in value(LINE,
        "2 0.5", "-1 0.5", "0.5 0.5", "nan 0.5", "inf 0.5", "1e30 0.5")),
    *((*v, r"a0\.txt:1: \d+ numbers, expected class x y width height") for v in value(LINE, "0.5", "0 0 0.5",
        "0 " * 999)),
    ("0.5 0.5 1 1", "0.5 0.5 -1 1", r"a0\.txt:1: box .*negative width or height"),
    ("0.5 0.5 1 1", "-.9 0.5 .1 .1", r"a0\.txt:1: box .*outside the 40x20 image"),
    ("0", "0 .5 .5 1 1\n".encode("utf-16"), r"a0\.txt:1: byte 0xff is no UTF-8"),
]  # fmt: skip
NAMES, TRAIN = "names: @[cell, plate]@\n", "train: @images/train@"
YAML = [
    *((*v, r"data\.yaml:\d: broken YAML: ") for v in value(NAMES, "!!python/object/apply:os.system [id]", "[cell",
        "&a [cell, *a]", "{0: cell, 0: plate}", "!!binary x", "\t- a")),
    *((*v, r"data\.yaml: YAML that cannot be read: ") for v in value(NAMES, "[" * 3_000, "[\x01]")),
    *((*v, r"data\.yaml: class .*, expected a number from 0 to .* and a class name") for v in value(NAMES,
        "{-1: a}", "{true: a}", "[cell, null]", "[[a]]", "{0.5: a}")),
    *((*v, r"data\.yaml: names is .*, expected a list of class names") for v in value(NAMES, "5", "[]", "{}",
        "null", "!!set {a}")),
    *((*v, r"data\.yaml: class 1: class 'cell' is listed twice") for v in value(NAMES, "[cell, cell]")),
    *((*v, r"data\.yaml: class 1: the name of a class ") for v in value(NAMES, '[a, "b\\nc"]', 
        "[a, " + "b" * 300 + "]")),
    *((*v, r"data\.yaml: nc is .*, but names has 2") for v in value("@@names", "nc: 3\n", "nc: true\n",
        "nc: two\n", "nc: 2.0\n", "nc: -1\n", "nc: [2]\n")),
    *((*v, r"data\.yaml: train is .*, and no images are there") for v in value(TRAIN, "nowhere",
        "../../../../../../etc", "/etc", "https://host/images")),
    *((*v, r"data\.yaml: train or val is .*, expected a folder of images") for v in value(TRAIN, "5", "{a: b}", "[5]")),
    ("names", b"names: [c\xe9ll]\ntrain: images/train\n", r"data\.yaml:1: byte 0xe9 is no UTF-8"),
    *(("names", text, r"data\.yaml: holds .* where keys with values are expected") for text in (b"", b"5", b"- a",
        b"a")),
]  # fmt: skip
POINT = "ann_1.png,@0@,1"
POINTS = [
    *((*v, r"\.csv:2: x of point 0 is .*, (not a finite number|far out)") for v in value(POINT, "nan", "-inf",
        "1e400", "-500", "1" + "0" * 30)),
    *((*v, r"\.csv:2: point 0 is .*, expected two numbers or nothing") for v in value(POINT, "x", "", "True", "1_0",
        "\u0661", "0x1")),
    ("ann_1.png,0,1,30", "ann_1.png,0,1", r"\.csv:2: 3 cells after the image's name, expected x and y of each point"),
    ("ann_2.png", "ann_1.png", r"\.csv:3: image 'ann_1.png' stands also in training_points.csv:2, expected once"),
    *((*v, r"\.csv:2: its image .* is missing in .*/points") for v in value("@ann_1.png@",
        "../../../../../../etc/passwd", "/etc/passwd", "none.png", "a\0.png")),
    ("ann", b"a;1;2\n", "holds no line with an image's name and points"),
    ("ann_1.png,0", "ann_1.png," + "9" * 200_000, r"\.csv:2: cannot be read as a table: field larger"),
    ("ann", "ann_1.png,0,1,30,10\n".encode("utf-16"), r"\.csv:1: byte 0xff is no UTF-8"),
]  # fmt: skip
PTS = [
    *((*v, r"0\.pts: x of point 0 is .*, (not a finite number|far out)") for v in value("\n@4@ 4\n", "nan", "inf",
        "-900", "1" + "0" * 30)),
    *((*v, r"0\.pts:4: .* where x and y of a point are expected") for v in value("\n@4 4@\n", "4", "4 4 4",
        "x y", "4,4", "\u0664 4", "1_0 4", "{")),
    *((*v, r"0\.pts: 'n_points: .*', but 3 points in braces") for v in value("n_points: @3@", "4", "-3",
        "x",
        "3.0", "9" * 5000)),
    *((*v, r"0\.pts: no points in braces") for v in value("@}@\n", "", "} more")),
    ("n_points", b"version: 1\nn_points: 0\n{\n}\n", r"0\.pts: 0 points, expected 1 to 10,000"),
    ("n_points", b"version: 1\nn_points: 3\n{\n-1 -1\n-2 -2\n-3 -3\n}\n", "no point lies inside its image"),
]  # fmt: skip
COLORS = [
    *((*v, r"label_colors\.txt:1: .*, expected red, green, blue and a name") for v in value("@0 0 0 sky@\n",
        "-1 0 0 sky", "256 0 0 sky", "0.5 0 0 sky", "0 0 0", "\u0660 0 0 sky", "nan 0 0 sky", "1000000 0 0 sky")),
    ("1 1 1 sea", "0 0 0 sea", r"label_colors\.txt:2: colour 0 0 0 is given to 'sky' too"),
    ("1 1 1 sea", "1 1 1 sky", r"label_colors\.txt:2: class 'sky' is listed twice"),
    ("sea", "s" * 300, r"label_colors\.txt:2: the name of a class has 300 characters"),
    ("sky", "0 0 0 sky\n".encode("utf-16"), r"label_colors\.txt:1: byte 0xff is no UTF-8"),
]  # fmt: skip
PAIRS = [
    *((*v, r"pairs\.txt:2: .*, expected `name i j`, or .*") for v in value("@s0 0 1@\n", "s0 -1 1",
        "s0 \u00b2 1",
        "s0 0 1\0", "s0 0 s1 1 1", "s0 0 nan", "s0 0.5 1")),
    *((*v, r"pairs\.txt:2: there is no picture .*") for v in value("@s0 0 1@\n", "s0 0 7",
        "s9 0 1", "../s0 0 1", "s0 0 " + "9" * 5000)),
    ("s0 0 1\n", "s0 1 1\n", r"pairs\.txt:2: picture 1 of 's0' is paired with itself"),
    ("s0", "1\n".encode("utf-16"), r"pairs\.txt:1: byte 0xff is no UTF-8"),
]  # fmt: skip


def idx(*shape, values=b""):
    return struct.pack(f">{1 + len(shape)}I", 0x800 + len(shape), *shape) + values


MNIST = [
    *(("", data, "the header says .* bytes, the file holds ") for data in (idx(2**32 - 1, 28, 28),
        idx(2**31, 2**31, 2**31), idx(5, 0, 28), idx(0, 28, 28), idx(5, 28, 28, values=bytes(5 * 784 + 1)))),
    *(("", data, "starts with .*, expected 00000803") for data in (b"", b"\x1f\x8b", idx(5, values=bytes(5)),
        b"\0\0\x0d\x03" + bytes(99), b"<html>")),
]  # fmt: skip


class Evil:
    """What a pickle must not be able to do."""

    def __reduce__(self):
        return os.system, ("exit 1",)


def pickled(pixels, labels=(1,)):
    return pickle.dumps({b"data": pixels, b"fine_labels": list(labels) if isinstance(labels, tuple) else labels}, 2)


ONE = np.zeros((1, 3072), np.uint8)
CIFAR = [
    ("", pickle.dumps(Evil(), 2), "refused: it asks for .*nothing was run"),
    ("", pickled(Evil()), "refused: it asks for .*nothing was run"),
    ("", pickled(np.array([Evil()], object)), "refused: it asks for .*nothing was run"),
    *(("", pickled(x), "data is .*, expected an array") for x in ([1], None, {}, ONE[:, 1:], ONE[0])),
    *(("", pickled(x), "no pickle that can be read|data is an array") for x in (ONE * np.nan, ONE.reshape(1, 3, 1024))),
    *(("", pickled(ONE, x), "fine_labels is .*, expected a list of numbers") for x in ((True,), (-1,), (10**30,),
        None)),
    *(("", pickled(ONE, x), r"label \d+ of picture 0, expected 0 to 99") for x in ((100,), (2**30,))),
    *(("", pickled(ONE, x), "labels for 1 pictures") for x in ((), (1, 2))),
    ("", pickle.dumps([1], 2), "expected a mapping"),
    *(("", data, "no pickle that can be read") for data in (b"", b".", b"\x80\x02", b"\x80\x04\x8e" + b"\xff" * 8,
        b"\x80\x02Kr\x01\0\0\0.", b"\x80\x02]r\xff\xff\xff\xffa.", b"\x80\x02\x8b\xff\xff\xff\x7f")),
]  # fmt: skip

ALL = {
    "voc": (0, VOC), "coco": (0, COCO), "coco masks": (0, COCO_MASKS), "coco points": (0, COCO_POINTS), "yolo": (1,
        YOLO),
    "yolo: description": (0, YAML), "points": (0, POINTS), "pts": (0, PTS), "masks": (0, COLORS), "pairs": (1, PAIRS),
    "mnist": (0, MNIST), "cifar": (0, CIFAR),
}  # fmt: skip
"""By set: which of its files is changed, and how."""
CASES = [(name, i) for name, (_, changes) in ALL.items() for i in range(len(changes))]
WHOLE = ("yolo: description", "masks", "mnist", "cifar")
"""Where the file speaks of the whole set: no image can be left out."""


@pytest.fixture(scope="module")
def targets(tmp_path_factory):
    root = tmp_path_factory.mktemp("sets")
    return {name: Target(root / re.sub(r"\W", "_", name), *SETS[name.partition(":")[0]]) for name in ALL}


@pytest.mark.parametrize(("name", "number"), CASES)
def test_a_bad_value_is_refused_or_left_out(targets, name, number):
    target, (place, changes) = targets[name], ALL[name]
    file, (old, new, message) = target.files[place], changes[number]
    whole = file.read_bytes()
    try:
        if isinstance(new, bytes):
            file.write_bytes(new)
        else:
            assert old in whole.decode()
            file.write_text(whole.decode().replace(old, new, 1), "utf-8")
        line = target.read()
        assert line.startswith(str(target.root)) and re.search(message, line), line
        if name not in WHOLE:
            target.read(on_error="skip")
    finally:
        file.write_bytes(whole)


def test_they_are_more_than_two_hundred_and_none_twice():
    assert len(CASES) > 200
    assert all(len({(old, new) for old, new, _ in changes}) == len(changes) for _, changes in ALL.values())


def save(name, array):
    return lambda root: np.save(root / name, array)


def put(name, data):
    return lambda root: (root / name).write_bytes(data)


PICTURES = np.zeros((10, 8, 8))
ARRAYS = {
    **{
        f"{what}": (save("images.npy", array), message)
        for message, arrays in {
            "floats below 0, above 1 or NaN": {
                "nan": PICTURES * np.nan, "inf": PICTURES + np.inf, "255": PICTURES + 255, "negative": PICTURES - 1e-3,
            },
            "values, expected uint8 or floats": {
                "int": PICTURES.astype(int), "complex": PICTURES.astype(complex), "text": PICTURES.astype("S3"),
                "dates": PICTURES.astype("M8[s]"), "records": np.zeros((10, 8, 8), [("a", "u1")]),
            },
            "shape .*, expected pictures": {
                "five channels": np.zeros((10, 8, 8, 5), np.uint8), "none": np.zeros((0, 8, 8), np.uint8),
                "scalar": np.zeros((), np.uint8), "flat": np.zeros((10, 0, 8), np.uint8),
            },
        }.items()
        for what, array in arrays.items()
    },
    "objects": (lambda root: np.save(root / "images.npy", np.array([Evil()], object)), "no array that can be read"),
    "code": (put("images.npy", b"\x93NUMPY\x01\x00\x76\x00" + b"__import__('os')".ljust(117) + b"\n"), "no array"),
    "huge header": (put("images.npy", b"\x93NUMPY\x03\x00\xff\xff\xff\xff"), "no array that can be read"),
    **{
        f"labels {what}": (save("labels.npy", array), message)
        for what, array, message in (
            ("fractions", np.zeros(10), "expected a whole number for each of 10"),
            ("bool", np.zeros(10, bool), "expected a whole number for each of 10"),
            ("few", np.zeros(9, int), "expected a whole number for each of 10"),
            ("column", np.zeros((10, 1), int), "expected a whole number for each of 10"),
            ("negative", np.zeros(10, int) - 1, "label .* of picture 0, expected 0 to 99,999"),
            ("huge", np.full(10, 2**63, np.uint64), "label .* of picture 0, expected 0 to 99,999"),
        )
    },
    "few names": (put("classes.txt", b"a\n"), "1 names, but there is a label 2"),
    "a name twice": (put("classes.txt", b"a\nb\na\n"), r"classes\.txt:3: class 'a' is listed twice, first on line 1"),
}  # fmt: skip


@pytest.mark.parametrize("what", ARRAYS)
def test_bad_arrays(tmp_path, what):
    target = Target(tmp_path / "set", *SETS["npy"])
    spoil, message = ARRAYS[what]
    spoil(target.root)
    line = target.read()
    assert re.search(message, line), line


def renamed(old, new):
    return lambda root: os.rename(os.fsencode(root / old), os.fsencode(root) + b"/" + new)


def both(*changes):
    return lambda root: [change(root) for change in changes]


def classes(text):
    return both(lambda root: (root / "label_colors.txt").unlink(), put("classes.txt", text))


def described(text):
    return both(lambda root: (root / "label_colors.txt").unlink(), put("set.yaml", text))


def listed(text):
    return both(put("data.yaml", b"names: [cell, plate]\ntrain: list.txt\nval: images/val\n"), put("list.txt", text))


def outside(name):
    """A folder moved out of the set, and a link in its place."""

    def change(root):
        (root / name).rename(root.parent / "elsewhere")
        (root / name).symlink_to(root.parent / "elsewhere")

    return change


def mask(pixels, name="0.png"):
    def change(root):
        (root / "trainannot/0.png").unlink()
        Image.fromarray(pixels).save(root / "trainannot" / name)

    return change


FOLDERS = {
    "a pipe that may be a picture": ("folder", lambda root: os.mkfifo(root / "train/ant/pipe"), ""),
    "a folder called a picture": ("folder", lambda root: (root / "train/ant/z.jpg").mkdir(), "holds folders"),
    "no such link": ("folder", lambda root: (root / "train/ant/z.jpg").symlink_to("none"), "image is missing"),
    "a link out": ("folder", lambda root: (root / "train/cat").symlink_to("/usr"), "a symbolic link that leads out"),
    "no bytes": ("folder", put("train/ant/z.jpg", b""), "not an image file that can be read"),
    "an empty class": ("folder", lambda root: (root / "train/cat").mkdir(), "no picture in this class folder"),
    "no UTF-8": ("folder", put("train/ant/\udcff.jpg", b""), r"train/ant/\\udcff\.jpg: not an image file"),
    "a class of no UTF-8": (
        "folder", both(*(renamed(f"{s}/ant", f"{s}/".encode() + b"\xff") for s in ("train", "val"))),
        r"the name of a class is '\\udcff'",
    ),
    "a class of two lines": ("folder", renamed("val/ant", b"val/an\nt"),
        r"val/an\\nt: .*the name of a class is 'an t'"),
    "not a number": (
        "folder", lambda root: Image.fromarray(np.full((9, 9), np.nan, np.float32)).save(root / "train/ant/z.tif"),
        "pixels that are no finite numbers",
    ),
    "infinite": (
        "folder", lambda root: Image.fromarray(np.full((9, 9), np.inf, np.float32)).save(root / "train/ant/z.tif"),
        "pixels that are no finite numbers",
    ),
    "heic": ("folder", put("train/ant/z.jpg", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"), "not an image file"),
    "alike": ("voc", lambda root: noise(root / "JPEGImages/0.png"), r"several images have its name, 0\.(png|jpg)"),
    "list up": ("voc", put("ImageSets/Main/trainval.txt", b"0\n../../../etc/passwd\n"), r"trainval\.txt:2: .*missing"),
    "list root": ("voc", put("ImageSets/Main/trainval.txt", b"0\n/etc/passwd\n"), r"trainval\.txt:2: .*missing"),
    "list zero": ("voc", put("ImageSets/Main/trainval.txt", b"0\n\0\n"), r"trainval\.txt:2: .*\\x00.*missing"),
    "list twice": ("voc", put("ImageSets/Main/trainval.txt", b"0\n1\n0\n"), r":3: 0 stands also in trainval\.txt:1"),
    "list long": ("voc", put("ImageSets/Main/trainval.txt", b"x" * 10**6), r"trainval\.txt:1: .*missing"),
    "list utf-16": ("voc", put("ImageSets/Main/trainval.txt", "0\n".encode("utf-16")), ":1: byte 0xff is no UTF-8"),
    "classes twice": ("voc", put("classes.txt", b"dog\ndog\n"), r"classes\.txt:2: class 'dog' is listed twice"),
    "classes zero": ("voc", put("classes.txt", b"dog\0\n"), r"classes\.txt:1: the name of a class is 'dog\\x00'"),
    "labels out": ("yolo", outside("labels"), "a symbolic link that leads out"),
    "images out": ("yolo", outside("images/train"), "no images are there"),
    "label out": (
        "yolo", both(lambda root: (root / "labels/train/a0.txt").unlink(),
                     lambda root: (root / "labels/train/a0.txt").symlink_to("/etc/passwd")),
        r"a0\.txt: a symbolic link that leads out",
    ),
    "labels of two": ("yolo", lambda root: picture(root / "images/train/a0.jpg"), "the labels of a0.jpg too"),
    "names its like": ("pts", lambda root: picture(root / "0.jpg"), "several images have its name, 0.jpg, 0.png"),
    "image list up": ("yolo", listed(b"../../../../etc/passwd\n"), r"list\.txt:1: .*lies outside"),
    "image list root": ("yolo", listed(b"/etc/passwd\n"), r"list\.txt:1: .*lies outside"),
    "image list zero": ("yolo", listed(b"a\0b\n"), r"list\.txt:1: a\\x00b is missing"),
    "image list folder": ("yolo", listed(b"images/train\n"), r"list\.txt:1: images/train is missing"),
    "image list twice": ("yolo", listed(b"images/train/a0.png\n" * 2), r"list\.txt:2: .*stands also in list\.txt:1"),
    "image list text": ("yolo", listed(b"labels/train/a0.txt\n"), "not an image file"),
    "image list empty": ("yolo", listed(b""), "no images are there"),
    "mask of colours": ("masks", mask(np.full((20, 40, 3), 9, np.uint8)), "colour #090909 at x=0 y=0 is no label"),
    "mask turned": ("masks", mask(np.zeros((40, 20), np.uint8)), "the annotation says 20x40, 0.png is 40x20"),
    "mask of 16 bits": ("masks", both(mask(np.full((20, 40), 300, np.uint16)), classes(b"a\nb\nc\n")), "label 300"),
    "mask of fractions": ("masks", mask(np.full((20, 40), np.nan, np.float32), "0.tif"), "a mask of fractions"),
    "mask names twice": ("masks", classes(b"sky\nsky\n"), r"classes\.txt:2: class 'sky' is listed twice"),
    "mask names few": ("masks", classes(b"sky\n"), "label 1 at x=0 y=0, expected one of 255, 0"),
    "mask names none": ("masks", classes(b"\n"), "no class is listed"),
    **{
        f"mask yaml {number}": ("masks", described(text), message)
        for number, (text, message) in enumerate((
            (b"classes: {-1: a}", "class -1: 'a', expected a number from 0 to 255"),
            (b"classes: {300: a}", "class 300: 'a', expected a number from 0 to 255"),
            (b"classes: {1%s: a}" % (b"0" * 30), "class a huge number: 'a', expected"),
            (b"classes: {true: a}", "class 'true': 'a', expected a number"),
            (b"classes: {0: null}", "class 0: None, expected a number from 0 to 255 and a class name"),
            (b"classes: {0: a, 1: a}", "class 'a' is listed twice"),
            (b"classes: {0: a, 0: b}", r"set\.yaml:1: broken YAML: a key stands there twice"),
            (b"classes: &a {0: *a}", r"set\.yaml:1: broken YAML: aliases are refused"),
        ))
    },
    "drawing": ("omniglot", renamed("Greek/character1/0001_01.png", b"Greek/character1/x.png"), "NNNN_MM.png"),
    "drawer": ("omniglot", renamed("Greek/character1/0001_01.png", b"Greek/character1/1_9999999999.png"), "NNNN_MM"),
    "picture of a person": ("faces", both(lambda root: (root / "s0/1.pgm").unlink(),
                                          lambda root: os.mkfifo(root / "s0/1.pgm")), "is no ordinary file"),
}  # fmt: skip


@pytest.mark.parametrize("what", FOLDERS)
def test_bad_folders_and_files(tmp_path, what):
    name, spoil, message = FOLDERS[what]
    target = Target(tmp_path / "set", *SETS[name])
    spoil(target.root)
    line = target.read()
    assert bool(message) == bool(line) and re.search(message, line), line
    assert line.isprintable(), line
    target.read(on_error="skip")


EXPERIMENT = '''
"""Any set, with a network that does nothing."""

import flax.linen as nn
import optax

from jaxcv import data as sets
from jaxcv.train import Experiment


class Nothing(nn.Module):
    @nn.compact
    def __call__(self, images, *, train=False):
        return self.param("bias", nn.initializers.zeros, ()) + images.mean((1, 2, 3)), {}


def experiment(*, task: str = "", data: str = "", on_error: str = "raise") -> Experiment:
    train, test = getattr(sets, f"{task}_data")(data, image_size=16, on_error=on_error)
    return Experiment(
        model=Nothing(),
        loss=lambda outputs, batch: {"size": outputs},
        optimizer=optax.sgd(0.1),
        train_data=train.batches(2, seed=0),
        test_data=test.batches(2),
        steps=1,
    )
'''


COMMANDS = """
import contextlib, io, json, sys
from jaxcv.cli.main import main
for arguments in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([*arguments, "--dry-run"])
    print(json.dumps([code, out.getvalue(), err.getvalue()]))
"""


def test_on_the_command_line(tmp_path):
    """Spoilt sets of every format end with code 2 and one line; a picture left out is told of in UTF-8.

    In a process of its own, for shapes are checked in this one, by which properties are asked for too early.
    """
    file = tmp_path / "any.py"
    file.write_text(EXPERIMENT)
    targets = [Target(tmp_path / name.replace(" ", "_"), *how) for name, how in SETS.items()]
    for target in targets:
        target.files[0].unlink()
        os.mkfifo(target.files[0])
    sound = Target(tmp_path / "sound", *SETS["folder"])
    put("train/ant/\udcff\n.jpg", b"")(sound.root)
    commands = [
        [
            str(file),
            f"task={target.by.__name__.removesuffix('_data')}",
            f"data={target.data}",
            "--workdir",
            str(tmp_path),
        ]
        for target in (*targets, sound)
    ]
    commands[-1].append("on_error=skip")
    run = [sys.executable, "-c", COMMANDS, json.dumps(commands)]
    done = subprocess.run(run, env=os.environ | {"PYTHONPATH": ROOT}, capture_output=True, text=True, timeout=300)
    assert not done.stderr, done.stderr
    *outcomes, last = map(json.loads, done.stdout.splitlines())
    for target, (code, out, err) in zip(targets, outcomes, strict=True):
        assert code == 2 and "Traceback" not in out + err, (target.data, err)
        assert err.startswith(f"error: {target.root}") and err.count("\n") == 1, err
    assert last[0] == 0 and "1 faulty examples skipped, the first: " in last[1]
    assert r"\udcff\n.jpg: not an image" in last[1] and last[1].encode("utf-8")
