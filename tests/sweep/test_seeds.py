"""Settings over their seeds: means, deviations by n - 1, and whether a seed alone decides."""

from pathlib import Path

import pytest

from jaxcv.sweep.outcomes import Row, decided_by_seed, over_seeds


def row(value, state="finished", **overrides):
    return Row(number=0, state=state, overrides=overrides, value=value, step=1, folder=Path())


def test_means_and_deviations_by_hand():
    rows = [row(0.5, lr=1, seed=0), row(0.7, lr=1, seed=1), row(0.6, lr=2, seed=0), row(0.9, lr=2, seed=1)]
    rows += [row(0.1, "failed", lr=2, seed=2), row(0.2, lr=3)]
    best, other = over_seeds(rows, maximize=True)
    assert (best.overrides, other.overrides) == ({"lr": 2}, {"lr": 1})
    assert (best.mean, other.mean) == pytest.approx((0.75, 0.6))
    assert (best.sd, other.sd) == pytest.approx((0.045**0.5, 0.02**0.5))
    assert [one.overrides["lr"] for one in over_seeds(rows, maximize=False)] == [1, 2]
    line = "the best two settings differ by 0.1500, seeds by 0.2121 (sd): which is better, the seed decides"
    assert decided_by_seed([best, other]) == line


def test_without_several_seeds_there_is_nothing_to_say():
    assert over_seeds([row(0.5, lr=1, seed=0), row(0.6, lr=2, seed=0)], maximize=True) == []
    clear = [row(0.5, lr=1, seed=0), row(0.5, lr=1, seed=1), row(0.9, lr=2, seed=0), row(0.9, lr=2, seed=1)]
    assert decided_by_seed(over_seeds(clear, maximize=True)) is None
