import hashlib
import re
import shlex
from typing import Literal

import pytest

from jaxcv.errors import UserError
from jaxcv.sweep import Range, folder_name, parse_overrides, run_folder, trials
from jaxcv.sweep.space import former_folder_name, note_on_commas, split_alternatives
from jaxcv.train import hyperparameters


def experiment(
    *,
    lr: float = 1e-3,
    batch_size: int = 32,
    data: str = "digits",
    mirror: bool = False,
    size: int | None = None,
    resize: Literal["squash", "letterbox"] | None = None,
    channels: tuple[int, ...] = (1, 2),
    names: tuple[str, ...] = (),
): ...


KNOWN = hyperparameters(experiment)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("token", "values"),
    [
        ("lr=1e-3,3e-4", [1e-3, 3e-4]),
        ("lr=1", [1.0]),
        ("batch_size=8,16", [8, 16]),
        ("data=voc:../a b/c=d", ["voc:../a b/c=d"]),
        ("data=10,'x,y'", ["10", "x,y"]),
        ("mirror=True,false", [True, False]),
        ("size=None,64", [None, 64]),
        ("resize=squash,None,'letterbox'", ["squash", None, "letterbox"]),
        ("channels=(1,2,3),(4,)", [(1, 2, 3), (4,)]),
        ("names=('a','b c')", [("a", "b c")]),
    ],
)
def test_values_are_typed_literals(token, values):
    (found,) = parse_overrides([token], KNOWN).values()
    assert isinstance(found, list)
    assert found == values
    assert [type(v) for v in found] == [type(v) for v in values]


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (["batch_sze=32"], "did you mean batch_size"),
        (["batch_size=1.5"], "batch_size=1.5: expected int, got float"),
        (["batch_size=True"], "batch_size=True: expected int, got bool"),
        (["lr=fast"], "lr=fast: expected float, for example lr=0.001"),
        (["lr="], "lr=: expected float"),
        (["resize=crop"], "resize=crop: expected 'squash' | 'letterbox' | None, got str"),
        (["mirror=1"], "mirror=1: expected bool"),
        (["channels=3"], "channels=3: channels is a tuple, and a comma sweeps; write"),
        (["names=a"], "names=a: names is a tuple, and a comma sweeps; write"),
        (["lr=1", "lr=2"], "lr is given twice"),
        (["lr=1,1.0"], "same value twice"),
        (["lr=log(0,1)"], "lr=log(0,1): a logarithm needs ends above 0"),
        (["lr=log(1,1e-1)"], "the first end is below the second"),
        (["lr=uniform(0,1),2"], "a range stands alone"),
        (["lr=uniform(a,1)"], "the ends are numbers"),
        (["lr=log(1,2,3)"], "log takes no step"),
        (["lr=uniform(1)"], "a range has two ends"),
        (["batch_size=uniform(1,2.5)"], "batch_size is int, so its ends are too"),
        (["mirror=uniform(0,1)"], "a range is for numbers, and mirror is bool"),
        (["verbose"], "expected name=value"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(tokens, message):
    with pytest.raises(UserError) as error:
        parse_overrides(tokens, KNOWN)
    assert message in str(error.value)


def test_commas_inside_brackets_and_quotes_belong_to_the_value():
    assert split_alternatives("a,(b,c),'d,e',[f,(g,h)]") == ["a", "(b,c)", "'d,e'", "[f,(g,h)]"]


def texts(token):
    """The values of an override of a text."""
    (found,) = parse_overrides([token], KNOWN).values()
    return found


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working folder with paths that have commas, equals signs, spaces and quotes in them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for path in ("a,b", "c", "d", "e,f,g", "it's, really", "log(1,2)", "p, q", "lr=1,seed=0/deep, er"):
        (tmp_path / path).mkdir(parents=True)
    for path in ("lr=1,seed=0/w.npz", "lr=1,seed=0/v.npz", "x=y.npz"):
        (tmp_path / path).touch()


@pytest.mark.parametrize(
    ("token", "values"),
    [
        ("data=lr=1,seed=0/w.npz", ["lr=1,seed=0/w.npz"]),
        ("data=lr=1,seed=0/w.npz,lr=1,seed=0/v.npz", ["lr=1,seed=0/w.npz", "lr=1,seed=0/v.npz"]),
        ("data=x=y.npz", ["x=y.npz"]),
        ("data=folder:a,b", ["folder:a,b"]),
        ("data=voc:./a,b", ["voc:./a,b"]),
        ("data=voc:~/a,b", ["voc:~/a,b"]),
        ("data=folder:a,b,folder:c", ["folder:a,b", "folder:c"]),
        ("data=folder:c,folder:a,b,digits", ["folder:c", "folder:a,b", "digits"]),
        ("data=folder:e,f,g", ["folder:e,f,g"]),
        ("data=folder:c,folder:d", ["folder:c", "folder:d"]),
        ("data=digits,folder:a,b", ["digits", "folder:a,b"]),
        ("data=folder:it's, really", ["folder:it's, really"]),
        ("data=folder:log(1,2)", ["folder:log(1,2)"]),
        ("data=folder:p, q", ["folder:p, q"]),
        ("data=folder:lr=1,seed=0/deep, er", ["folder:lr=1,seed=0/deep, er"]),
        ("data='folder:a,b'", ["folder:a,b"]),
        ("data='folder:a,b','lr=1,seed=0/w.npz'", ["folder:a,b", "lr=1,seed=0/w.npz"]),
        ("data='nowhere,at all',digits", ["nowhere,at all", "digits"]),
        ("data=folder:nowhere,at all", ["folder:nowhere", "at all"]),
    ],
)
def test_paths_that_exist_are_taken_as_they_are(here, token, values):
    assert texts(token) == values


def test_a_path_whose_parts_exist_too_is_ambiguous(here, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    with pytest.raises(UserError) as error:
        texts("data=a,b")
    for way in ("\"data='a,b'\"", "\"data='a','b'\""):
        assert way in str(error.value)
    assert texts("data='a,b'") == ["a,b"] and texts("data='a','b'") == ["a", "b"]


def test_only_texts_are_paths(here, tmp_path):
    (tmp_path / "8,16").mkdir()
    assert texts("batch_size=8,16") == [8, 16]


@pytest.mark.parametrize(
    ("tokens", "note"),
    [
        (["data=folder:no,where"], "quote the value: \"data='folder:no,where'\""),
        (["lr=1", "data=runs/lr=1,seed=0/z.npz"], "\"data='runs/lr=1,seed=0/z.npz'\""),
        (["data=folder:c,where"], "\"data='folder:c,where'\""),
        (["data=folder:c,folder:d"], ""),
        (["data=digits,other"], ""),
        (["data='folder:no,where'"], ""),
        (["lr=1,2", "channels=(1,2),(3,4)"], ""),
    ],
)
def test_how_to_quote_is_said(here, tokens, note):
    said = note_on_commas(tokens)
    assert note in said and bool(note) == bool(said)


def test_several_names_make_the_product_in_the_order_of_the_signature():
    grid = parse_overrides(["batch_size=8,16", "lr=1,2"], KNOWN)
    assert trials(grid) == [
        {"lr": 1.0, "batch_size": 8},
        {"lr": 1.0, "batch_size": 16},
        {"lr": 2.0, "batch_size": 8},
        {"lr": 2.0, "batch_size": 16},
    ]
    assert trials({}) == [{}]


def test_folder_names_are_readable_and_never_shared():
    assert folder_name({}) == "defaults"
    assert folder_name({"lr": 0.001, "seed": 0}) == "lr=0.001+seed=0"
    assert folder_name({"lr": 1e-5, "on": True}) == "lr=1e-05+on=True"
    one, other = folder_name({"data": "voc:../a/b"}), folder_name({"data": "voc:../a_b"})
    assert "/" not in one
    assert one != other
    long = folder_name({"channels": tuple(range(200))})
    assert len(long) < 255
    assert long != folder_name({"channels": tuple(range(201))})
    # A plus within a text is none between two words.
    assert folder_name({"a": "1+b=2"}) != folder_name({"a": 1, "b": 2})


def test_folder_names_are_words_of_a_shell_and_of_scp():
    odd = {"sizes": (256, 320), "data": "coco:../a b", "name": "it's [x], {y}; $z & co *?!~#", "lr": 1e20}
    name = folder_name(odd)
    assert re.fullmatch(r"[A-Za-z0-9_.=+-]+", name) and shlex.split(name) == [name]
    assert name.startswith("sizes=256-320+data=coco_.._a_b+")


def test_a_run_of_an_earlier_version_keeps_its_folder(tmp_path):
    overrides = {"lr": 0.001, "seed": 0}
    assert run_folder(tmp_path, overrides) == tmp_path / "lr=0.001+seed=0"
    former = tmp_path / "lr=0.001,seed=0"
    former.mkdir()
    (former / "run.json").write_text("{}")
    assert run_folder(tmp_path, overrides) == former
    assert former_folder_name({"sizes": (8, 8)}) == "sizes=(8,_8)-" + hashlib.sha256(b"sizes=(8, 8)").hexdigest()[:8]


@pytest.mark.parametrize(
    ("token", "range_"),
    [
        ("lr=log(1e-4,1e-1)", Range(1e-4, 1e-1, log=True)),
        ("lr= uniform( -1, 2.5 )", Range(-1, 2.5)),
        ("lr=uniform(0,1,0.25)", Range(0, 1, step=0.25)),
        ("batch_size=log(8,512)", Range(8, 512, log=True, integer=True)),
        ("size=uniform(32,64,8)", Range(32, 64, integer=True, step=8)),
    ],
)
def test_ranges(token, range_):
    assert list(parse_overrides([token], KNOWN).values()) == [range_]


def test_a_range_is_text_where_text_is_wanted_and_no_grid():
    assert parse_overrides(["data=log(1,2)"], KNOWN) == {"data": ["log(1,2)"]}
    with pytest.raises(UserError, match="lr=log.0.001,0.1. is a range: list values, or search it with --trials N"):
        trials(parse_overrides(["lr=log(1e-3,1e-1)"], KNOWN))
