"""Files that somebody or something has spoilt: every reader refuses in one line, or reads what is still sound.

Each set is written once; an attack spoils one of its files, both splits are opened, checked and read, and the file is
put back. Whatever comes out must be finite, of the promised shapes and in range; whatever is raised must be one line
that names a file of the set. Drawn by hypothesis, 240 of them, and 144 ways of being another kind of file;
`test_bad_values` has those typed by hand, `test_bad_pictures` the pictures.
"""

import os
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spoilt import SETS, Target


@pytest.fixture(scope="module")
def targets(tmp_path_factory):
    root = tmp_path_factory.mktemp("sets")
    return {name: Target(root / name.replace(" ", "_"), *how) for name, how in SETS.items()}


@pytest.mark.parametrize("name", SETS)
def test_unspoilt_they_are_read(targets, name):
    assert targets[name].read() == ""
    if name not in ("mnist", "cifar", "npy", "pairs"):
        assert targets[name].read(on_error="skip") == ""


TOKENS = ["nan", "-1", "1e999", "0", "99999999999999999999", "null", "[]", "{}", '"x"', "\x00", "é", "", "-0.0", "2 2"]


@st.composite
def attacks(draw):
    """What is done to the contents of a file, as a function of bytes."""
    where = draw(st.floats(0, 1, exclude_max=True))
    kind = draw(st.sampled_from(["cut", "flip", "insert", "number", "number", "number", "line", "twice"]))
    if kind == "cut":
        return lambda data: data[: int(where * len(data))]
    if kind == "flip":
        byte = draw(st.integers(1, 255))
        return lambda data: bytes(b ^ byte if i == int(where * len(data)) else b for i, b in enumerate(data))
    if kind == "insert":
        junk = draw(st.sampled_from([b"\xff\xfe", b"\x00" * 9, b"<!ENTITY", b"}", b"\n\n", "é".encode("latin-1")]))
        return lambda data: data[: (at := int(where * len(data)))] + junk + data[at:]
    if kind == "number":
        token = draw(st.sampled_from(TOKENS)).encode()

        def replace(data):
            found = list(re.finditer(rb"-?\d+(\.\d+)?", data))
            if not found:
                return token + data
            match = found[int(where * len(found))]
            return data[: match.start()] + token + data[match.end() :]

        return replace

    def lines(data):
        split = data.split(b"\n") if data.count(b"\n") > 1 else re.split(rb"(?<=[,>])", data)
        at = int(where * len(split))
        chosen = split[at : at + 1] * (0 if kind == "line" else 2)
        return (b"\n" if data.count(b"\n") > 1 else b"").join([*split[:at], *chosen, *split[at + 1 :]])

    return lines


outcomes: dict[str, int] = {"read": 0, "refused": 0}


@pytest.mark.parametrize("name", SETS)
@settings(max_examples=15, deadline=None, derandomize=True)
@given(data=st.data())
def test_spoilt_files_are_refused_in_a_line_or_read(targets, name, data):
    """15 for each of 16 sets, most read both ways: 240 spoilt sets."""
    target = targets[name]
    file = data.draw(st.sampled_from(target.files))
    attack = data.draw(attacks())
    whole = file.read_bytes()
    try:
        file.write_bytes(attack(whole))
        line = target.read()
        outcomes["refused" if line else "read"] += 1
        if name not in ("mnist", "cifar", "npy"):
            left_out = target.read(on_error="skip")
            assert line or not left_out, "what can be read whole can be read with faults skipped"
    finally:
        file.write_bytes(whole)


def test_the_attacks_were_worth_the_name():
    """Where all of them were run, most were refused, and some left what could be read."""
    if sum(outcomes.values()) >= 240:
        assert outcomes["refused"] > 100 and outcomes["read"] > 20, outcomes


def gone(file):
    file.unlink()


def a_folder(file):
    file.unlink()
    file.mkdir()


def a_pipe(file):
    file.unlink()
    os.mkfifo(file)


def a_link_out(file):
    file.unlink()
    file.symlink_to("/etc/hosts")


def a_circle(file):
    file.unlink()
    file.symlink_to(file.name)


def a_link_to_endless_zeros(file):
    file.unlink()
    file.symlink_to("/dev/zero")


def empty(file):
    file.write_bytes(b"")


def other_encoding(file):
    file.write_bytes(file.read_bytes().decode("latin-1").encode("utf-16"))


def another_kind(file):
    file.write_bytes(b"PK\x03\x04 is how an archive begins")


ATTACKS = [gone, a_folder, a_pipe, a_link_out, a_circle, a_link_to_endless_zeros, empty, other_encoding, another_kind]
MAY_BE_MISSED = (gone, a_folder, empty, another_kind)
"""One picture of many, labels of one image, a list of pairs: what the set can do without."""


@pytest.mark.parametrize("name", SETS)
def test_files_that_are_something_else(targets, name):
    """Nine attacks on each of 16 sets, on its files in turn; none may block, leave the set, or end in an exception."""
    target = targets[name]
    for number, attack in enumerate(ATTACKS):
        file = target.files[number % len(target.files)]
        whole = file.read_bytes()
        try:
            attack(file)
            line = target.read()
            assert line or attack in MAY_BE_MISSED, f"{attack.__name__} of {file} went unseen"
            if number % 3 == 0 and name not in ("mnist", "cifar", "npy", "pairs"):
                target.read(on_error="skip")
        finally:
            if file.is_dir() and not file.is_symlink():
                file.rmdir()
            file.unlink(missing_ok=True)
            file.write_bytes(whole)


@pytest.mark.parametrize("name", SETS)
def test_folders_that_lead_in_a_circle(targets, name):
    """A link inside the set to a folder above it: whatever is made of it, it ends."""
    target = targets[name]
    for folder in {file.parent for file in target.files}:
        link = folder / "loop"
        link.symlink_to(target.root)
        try:
            target.read()
        finally:
            link.unlink()


BOMBS = {
    "laughs": '<!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]><annotation>&b;</annotation>',
    "quadratic": f'<!DOCTYPE a [<!ENTITY a "{"x" * 9_000}">]><annotation>{"&a;" * 9_000}</annotation>',
    "external": '<!DOCTYPE a [<!ENTITY a SYSTEM "file:///etc/passwd">]><annotation>&a;</annotation>',
    "external dtd": '<!DOCTYPE a SYSTEM "http://127.0.0.1:1/a.dtd"><annotation><object/></annotation>',
    "parameter": '<!DOCTYPE a [<!ENTITY % a SYSTEM "file:///etc/passwd"> %a;]><annotation/>',
    "deep": "<annotation>" * 20_000,
    "wide": f"<annotation>{'<object/>' * 10_000}</annotation>",
    "encoding": '<?xml version="1.0" encoding="utf-99"?><annotation/>',
    "nul": "<annotation>\0</annotation>",
    "huge number": "<annotation><size><width>" + "9" * 5_000 + "</width><height>1</height></size></annotation>",
    "huge size": "<annotation><size><width>1e300</width><height>1e300</height></size></annotation>",
    "nothing": "",
}


@pytest.mark.parametrize("what", BOMBS)
def test_xml_bombs(targets, what):
    target = targets["voc"]
    file = target.files[0]
    whole = file.read_bytes()
    try:
        file.write_text(BOMBS[what])
        line = target.read()
        assert line.startswith(str(file)), line
        assert target.read(on_error="skip") == ""
    finally:
        file.write_bytes(whole)


HUGE = {
    "boxes": ("coco", 0, lambda t: t.replace('"bbox": [0, 0, 40, 20]', '"bbox": [0, 0, 1e308, 1e308]')),
    "negative boxes": ("coco", 0, lambda t: t.replace('"bbox": [0, 0, 40, 20]', '"bbox": [-1e308, 0, 1e308, 1]')),
    "a picture": (
        "coco masks",
        0,
        lambda t: t.replace('"width": 40', '"width": 999999').replace("[20, 40]", "[20, 999999]"),
    ),
    "runs": ("coco masks", 0, lambda t: t.replace("[100, 200, 500]", "[2147483648, 2147483648]")),
    "corners": ("coco masks", 0, lambda t: t.replace("[[0, 0, 40, 0, 40, 20, 0, 20]]", "[[0, 0, 1e9, 0, 1e9, 1e9]]")),
    "key points": (
        "coco points",
        0,
        lambda t: t.replace("[3, 3, 2, 9, 9, 1, 0, 0, 0]", "[1, 1, 2" + ", 1" * 99_999 + "]"),
    ),
    "lines": ("yolo", 1, lambda t: "".join(f"0 .5 .5 .5 .{i:06d}\n" for i in range(100_000, 110_002))),
    "classes": ("yolo", 0, lambda t: "nc: 999999999999\ntrain: images/train\nval: images/val\n"),
    "digits": ("yolo", 1, lambda t: "0 .5 .5 ." + "5" * 100_000 + " .5\nx"),
    "points": ("points", 0, lambda t: "a.png" + ",1,1" * 20_000),
    "stated points": ("pts", 0, lambda t: t.replace("n_points: 3", "n_points: 999999999999")),
    "colours": ("masks", 0, lambda t: "1 2 3 x\n" * 300),
    "idx": ("mnist", 0, None),
}


@pytest.mark.parametrize("what", HUGE)
def test_huge_counts(targets, what):
    name, number, change = HUGE[what]
    target = targets[name]
    file = target.files[number]
    whole = file.read_bytes()
    try:
        if change is None:
            file.write_bytes(whole[:4] + b"\xff" * 12 + whole[16:])
        else:
            text = change(whole.decode())
            assert text != whole.decode()
            file.write_text(text)
        line = target.read()
        assert line if what not in ("boxes", "negative boxes") else True
    finally:
        file.write_bytes(whole)
