"""What every public function of the pure rooms owes its reader: types, keyword-only options, a whole docstring."""

import dataclasses
import importlib
import inspect
import typing

import jax
import pytest
from jaxtyping import AbstractArray

from jaxcv.metrics import Metric
from jaxcv.types import Batch

ROOMS = ["ops", "losses", "augment", "predict", "metrics"]


def public(room):
    module = importlib.import_module(f"jaxcv.{room}")
    for name in module.__all__:
        value = getattr(module, name)
        if callable(value) and not inspect.isclass(value) and typing.get_origin(value) is None:
            yield pytest.param(room, value, id=f"{room}.{name}")


FUNCTIONS = [param for room in ROOMS for param in public(room)]


def is_array(annotation):
    """Whether a type is, or may be, an array of some rank or a batch of them; a traced number is none."""
    if annotation == Batch:
        return True
    if isinstance(annotation, type) and issubclass(annotation, AbstractArray):
        return annotation.dim_str != ""
    if isinstance(annotation, type) and hasattr(annotation, "_fields"):  # a named tuple of arrays
        return any(map(is_array, typing.get_type_hints(annotation).values()))
    return any(is_array(part) for part in typing.get_args(annotation))


@pytest.mark.parametrize("room", ROOMS)
def test_all_is_sorted_complete_and_explained(room):
    module = importlib.import_module(f"jaxcv.{room}")
    assert list(module.__all__) == sorted(module.__all__)
    imported = {
        name
        for name, value in vars(module).items()
        if callable(value) and not name.startswith("_") and typing.get_origin(value) is None
    }
    assert imported <= set(module.__all__)
    for function in public(room):
        name = str(function.id).split(".")[1]
        assert name in str(module.__doc__), f"{room}: the contract does not mention {name}"


@pytest.mark.parametrize(("room", "function"), FUNCTIONS)
def test_docstring(room, function):
    doc = inspect.getdoc(function)
    assert doc, "no docstring"
    first = doc.splitlines()[0]
    assert first.endswith((".", ":"))
    parameters = inspect.signature(function).parameters
    assert "Returns:" in doc
    if parameters:
        arguments = doc.split("Args:")[1].split("Returns:")[0]
        for name in parameters:
            assert f"\n    {name}: " in arguments, f"{name} is not explained"
    if any(is_array(p.annotation) for p in parameters.values()):
        assert "`[" in doc or "Any shape" in doc, "no shapes"


@pytest.mark.parametrize(("room", "function"), FUNCTIONS)
def test_annotations(room, function):
    signature = inspect.signature(function)
    assert signature.return_annotation is not inspect.Signature.empty
    for parameter in signature.parameters.values():
        assert parameter.annotation is not inspect.Parameter.empty, f"{parameter.name} has no type"


@pytest.mark.parametrize(("room", "function"), FUNCTIONS)
def test_options_are_keyword_only(room, function):
    if room == "metrics":
        return  # a metric's one argument is its name or number
    for parameter in inspect.signature(function).parameters.values():
        assert parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        if parameter.default is not inspect.Parameter.empty:
            assert parameter.kind is parameter.KEYWORD_ONLY, f"{parameter.name} has a default but is positional"
        if parameter.kind is not parameter.KEYWORD_ONLY and room == "ops" and hasattr(function, "lower"):
            assert is_array(parameter.annotation), f"{parameter.name} is an option but positional"


@pytest.mark.parametrize(("room", "function"), FUNCTIONS)
def test_float_options_may_be_tracers(room, function):
    for parameter in inspect.signature(function).parameters.values():
        if isinstance(parameter.default, float):
            assert parameter.annotation is not float, f"{parameter.name}: annotate it with jaxcv.types.Scalar"


@pytest.mark.parametrize(("room", "function"), [p for p in FUNCTIONS if p.values[0] in ("ops", "augment", "predict")])
def test_functions_of_arrays_are_jitted(room, function):
    takes_arrays = any(is_array(p.annotation) for p in inspect.signature(function).parameters.values())
    assert hasattr(function, "lower") == takes_arrays


@pytest.mark.parametrize(("room", "function"), [p for p in FUNCTIONS if p.values[0] == "augment"])
def test_the_key_comes_first(room, function):
    assert list(inspect.signature(function).parameters)[:2] == ["key", "batch"]


@pytest.mark.parametrize(("room", "function"), [p for p in FUNCTIONS if p.values[0] == "losses"])
def test_losses_take_outputs_and_batch(room, function):
    assert list(inspect.signature(function).parameters)[:2] == ["outputs", "batch"]


@pytest.mark.parametrize(("room", "function"), [p for p in FUNCTIONS if p.values[0] == "metrics"])
def test_metrics_make_metrics(room, function):
    metric = function(*(1 for p in inspect.signature(function).parameters.values() if p.default is p.empty))
    assert isinstance(metric, Metric) and dataclasses.is_dataclass(metric)
    assert hash(metric) == hash(metric) and metric == dataclasses.replace(metric)
    assert jax.tree.leaves(metric) == [metric]
