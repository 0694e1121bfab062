"""From a space to trials: what is drawn, again and again the same, and what is refused."""

import math

import pytest

from jaxcv.errors import UserError
from jaxcv.sweep import Range, make_search
from jaxcv.sweep.sampling import distributions

SPACE = {"lr": Range(1e-4, 1e-1, log=True), "width": Range(8, 64, integer=True, step=8), "seed": [0, 1]}


def test_a_random_search_is_a_function_of_seed_and_number():
    search = make_search(SPACE, kind="random", count=50)
    assert list(search.listed) == list(make_search(SPACE, kind="random", count=100).listed[:50])
    assert list(search.listed) != list(make_search(SPACE, kind="random", count=50, seed=1).listed)
    for trial in search.listed:
        assert 1e-4 <= trial["lr"] <= 1e-1 and type(trial["lr"]) is float
        assert trial["width"] in range(8, 65, 8) and type(trial["width"]) is int
        assert trial["lr"] == float(f"{trial['lr']:.5g}"), "it becomes the name of a folder"
    decades = [math.floor(math.log10(trial["lr"])) for trial in search.listed]
    assert all(decades.count(d) > 8 for d in (-4, -3, -2)), "evenly on the logarithmic scale"
    assert {trial["width"] for trial in search.listed} == set(range(8, 65, 8))
    assert {trial["seed"] for trial in search.listed} == {0, 1}


def test_integers_on_a_logarithmic_scale_reach_both_ends():
    drawn = [t["n"] for t in make_search({"n": Range(1, 3, log=True, integer=True)}, kind="random", count=200).listed]
    assert set(drawn) == {1, 2, 3} and drawn.count(1) > drawn.count(3)


def test_a_finite_space_is_drawn_without_repetition():
    search = make_search({"a": [1.0, 2.0], "b": Range(1, 5, integer=True)}, kind="random", count=100)
    assert search.count == 10
    assert len({tuple(trial.items()) for trial in search.listed}) == 10


def test_a_range_in_steps_is_finite_too():
    space = {"a": Range(0.1, 0.5, step=0.1), "b": Range(2, 6, integer=True, step=2)}
    search = make_search(space, kind="random", count=100)
    found = {(trial["a"], trial["b"]) for trial in search.listed}
    assert search.count == len(found) == 15
    assert {a for a, _ in found} == {0.1, 0.2, 0.3, 0.4, 0.5} and {b for _, b in found} == {2, 4, 6}


def test_kinds_follow_from_the_space():
    assert make_search({"seed": [0, 1]}).kind == "grid"
    assert make_search(SPACE, count=3).kind == "tpe"
    assert make_search({"lr": [1e-3]}).count == 1


@pytest.mark.parametrize(
    ("space", "options", "message"),
    [
        (SPACE, {}, "lr=log(0.0001,0.1): how many trials? Give --trials N"),
        ({"seed": [0, 1]}, {"kind": "tpe"}, "--search tpe: how many trials?"),
        ({"seed": [0, 1]}, {"kind": "bayes", "count": 2}, "--search bayes: expected one of grid, random, tpe, cmaes"),
        (SPACE, {"kind": "grid"}, "lr=log(0.0001,0.1): a grid takes values, not ranges"),
        (SPACE, {"count": 0}, "--trials 0"),
        ({"seed": [0, 1]}, {"count": 1}, "--trials 1: the grid has 2 trials"),
        ({"seed": [0]}, {"kind": "random", "count": 5}, "nothing to search"),
        (SPACE, {"own": [{"lr": 0.1}]}, "the file's own list"),
    ],
)
def test_what_cannot_be_searched_is_refused(space, options, message):
    with pytest.raises(UserError) as error:
        make_search(space, **options)
    assert message in str(error.value)


def test_values_survive_the_way_through_optuna():
    values = [(1, 2), (3,)]
    space = {"channels": values, "size": [None, 64], "mirror": [True, False], "rate": [1.0, 10.0]}
    search = make_search(space)
    kinds = {name: type(found).__name__ for name, found in distributions(search).items()}
    assert kinds["rate"] == "FloatDistribution" and kinds["channels"] == "CategoricalDistribution"
    stored = {"channels": "(3,)", "size": None, "mirror": True, "rate": 10.0}
    found = search.decode(stored)
    assert found == {"channels": (3,), "size": None, "mirror": True, "rate": 10.0}
    assert found["mirror"] is True


def test_the_digest_tells_searches_apart_but_not_their_length():
    digests = {make_search(SPACE, kind=kind, count=5, seed=s).digest for kind in ("random", "tpe") for s in (0, 1)}
    assert len(digests) == 4
    assert make_search(SPACE, count=5).digest == make_search(SPACE, count=9).digest
    assert make_search({"a": [1, 2]}).digest != make_search({"a": [1, 3]}).digest
