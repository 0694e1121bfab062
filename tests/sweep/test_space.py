import pytest

from jaxcv.sweep import Range, folder_name, parse_overrides, trials
from jaxcv.sweep.space import split_alternatives
from jaxcv.train import hyperparameters
from jaxcv.types import UserError


def experiment(
    *,
    lr: float = 1e-3,
    batch_size: int = 32,
    data: str = "digits",
    mirror: bool = False,
    size: int | None = None,
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
        (["mirror=1"], "mirror=1: expected bool"),
        (["channels=3"], "channels=3: expected tuple[int, ...]"),
        (["names=a"], "names=a: expected tuple[str, ...]"),
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
    assert folder_name({"lr": 0.001, "seed": 0}) == "lr=0.001,seed=0"
    one, other = folder_name({"data": "voc:../a/b"}), folder_name({"data": "voc:../a_b"})
    assert "/" not in one
    assert one != other
    long = folder_name({"channels": tuple(range(200))})
    assert len(long) < 255
    assert long != folder_name({"channels": tuple(range(201))})


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
