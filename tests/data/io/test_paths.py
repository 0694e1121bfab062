"""Which names are held out for testing, which splits are chosen, and what leads out of a set."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from jaxcv.data.io.paths import choose_splits, held_out, natural, split_word, walk


@given(st.sets(st.text(max_size=9), max_size=40), st.sets(st.text(max_size=9), max_size=9))
def test_names_held_out(names, more):
    chosen = held_out(names)
    assert chosen <= names and (len(names) < 2 or 0 < len(chosen) < len(names)) and (len(names) > 1 or not chosen)
    if len(chosen) > 1 and len(names - chosen) > 1:
        assert held_out(names | more) & names == chosen, "adding a file moves no other"


def test_a_fifth_is_held_out():
    assert abs(len(held_out(map(str, range(10_000)))) / 10_000 - 0.2) < 0.02
    assert held_out(["a"]) == set() and len(held_out(["a", "b"])) == 1


def test_splits_are_chosen_by_their_words():
    assert choose_splits(["", "test", "train", "val"]) == {"train": "train", "test": "val"}
    assert choose_splits(["train", "test"])["test"] == "test" and choose_splits(["train", ""]) == {}
    words = {"train2017": "train", "images_val": "val", "trainannot": "train", "testset": "test", "a/b": ""}
    assert {path: split_word(Path(path)) for path in words} == words


def test_folders_are_walked_in_order(tmp_path):
    for name in ("b/c", "a", ".hidden", "Panoptic"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "a/loop").symlink_to(tmp_path)
    found = [path.relative_to(tmp_path).as_posix() for path in walk(tmp_path, tmp_path, leave_out="panoptic|loop")]
    assert found == [".", "a", "b", "b/c"] and sum(1 for _ in walk(tmp_path, tmp_path)) < 1_000
    assert sorted(["10.png", "2.png"], key=natural) == ["2.png", "10.png"]
