from typing import Any

import pytest

from jaxcv.errors import UserError
from jaxcv.train import hyperparameters, resolve


def experiment(*, lr: float = 1e-3, size: int | None = None, names: tuple[str, ...] = (), mirror: bool = True) -> Any:
    """Compose nothing.

    Args:
        lr: the rate,
            in two lines.
        size: a side.
    """
    return lr, size, names, mirror


def test_hyperparameters_carry_type_default_and_meaning():
    known = hyperparameters(experiment)
    assert list(known) == ["lr", "size", "names", "mirror"]
    assert known["lr"].default == 1e-3
    assert known["lr"].meaning == "the rate, in two lines."
    assert known["lr"].type_name == "float"
    assert known["size"].type_name == "int | None"
    assert known["names"].type_name == "tuple[str, ...]"


def test_resolve_fills_in_defaults_and_takes_int_for_float():
    values = resolve(experiment, {"lr": 1, "names": ("a", "b")})
    assert values == {"lr": 1.0, "size": None, "names": ("a", "b"), "mirror": True}
    assert type(values["lr"]) is float


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"siez": 3}, "did you mean size"),
        ({"zzz": 3}, "there are lr, size, names, mirror"),
        ({"size": 1.5}, "size=1.5: expected int | None, got float"),
        ({"size": True}, "size=True"),
        ({"mirror": 1}, "mirror=1"),
        ({"lr": "fast"}, "lr=fast: expected float, got str"),
        ({"names": (1,)}, r"names="),
    ],
)
def test_resolve_refuses_by_name(values, message):
    with pytest.raises(UserError) as error:
        resolve(experiment, values)
    assert message in str(error.value)


def test_a_parameter_that_is_no_hyperparameter_is_refused():
    def positional(lr: float = 1.0): ...

    def without_default(*, lr: float): ...

    for function in (positional, without_default):
        with pytest.raises(UserError, match="lr"):
            hyperparameters(function)  # pyright: ignore[reportArgumentType]
