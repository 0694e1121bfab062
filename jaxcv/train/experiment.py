"""What an experiment is, and what its hyperparameters are.

An experiment file defines one keyword-only function, `experiment`, whose parameters are the hyperparameters and which
returns an `Experiment`. It must be cheap and pure: the trainer calls it on the host with numbers, and again inside the
trace with every `float` (and `seed`) as a traced scalar, so that one compiled step serves all of their values.
"""

import ast
import inspect
import textwrap
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Union

import numpy as np
import optax

from jaxcv.errors import UserError, argument_meanings, unknown_name
from jaxcv.train.ranges import outside
from jaxcv.types import Batch, Batches, Scalar


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """Everything the trainer needs, composed from real objects.

    Contracts are those of the rooms the objects come from; the trainer adds none of its own.
    """

    model: Any
    """A Linen module, or what behaves like one: `apply(variables, *inputs, train=...) -> (outputs, features)`."""
    loss: Callable[[Any, Batch], Mapping[str, Any]]
    """`loss(outputs, batch) -> {"name": [b] or (values, weights)}`, unreduced; the trainer averages and sums. Values,
    and weights of the same shape, are floats whose first axis is the examples."""
    optimizer: optax.GradientTransformation
    train_data: Batches
    test_data: Batches
    steps: int
    """Batches trained on: as many updates of the parameters, or fewer where the optimizer accumulates the gradients of
    several (`optax.MultiSteps`). Intervals count them too."""
    seed: Scalar = 0
    """Of parameters, dropout and augmentation; the data has its own."""
    augment: Callable[[Any, Batch], Batch] | Mapping[str, Callable[[Any, Batch], Batch]] | None = None
    """`augment(key, batch) -> batch`, on the device, training only; the image arrives as float32 in [0, 1]. Several by
    name, such as one for each size of the picture, take turns of `turn` steps in an order that `seed` decides, each
    with a compiled step of its own."""
    turn: int = 10
    """Steps before another of several augmentations is drawn."""
    predict: Callable[[Any], Any] | None = None
    """`predict(outputs) -> predictions` (`Detections`, `Classes`, ...), fixed shapes."""
    metrics: Mapping[str, Any] = field(default_factory=dict)
    """Name in the log to `jaxcv.metrics.Metric`. The first one ranks checkpoints and trials, in its own direction."""
    inputs: tuple[str, ...] = ("image",)
    """Fields of the batch that the model is fed, in order."""
    initial: Callable[[Any], tuple[Any, Any]] | None = None
    """`initial(variables) -> (variables, report)`: starting variables put over fresh ones on the host before the first
    step, and an account of it: `summary`, `lines()`, `randomly_initialised`. See `jaxcv.weights.pretrained`."""
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    """What the network computes in. Parameters, statistics, losses and the optimizer's state are float32 in any case:
    the trainer casts, and no model needs to know."""
    trainable: str = ".*"
    """Pattern over parameter paths, such as "head" or "stage4|head". What it does not name is frozen: parameters and
    batch statistics keep their bits, and the layers run as in evaluation."""
    ema: Scalar | None = None
    """Decay, from update to update, of an exponential moving average of the model's variables, which is then evaluated;
    None for none."""
    log_every: int | None = None
    """Steps between records in `metrics.jsonl`; None: a hundredth of the run, 50 at most."""
    evaluate_every: int | None = None
    """Steps between evaluations; None: a fifth of the run. The last step is always evaluated."""
    checkpoint_every: int | None = None
    """Steps between checkpoints; None: a twentieth of the run, and at least a second. Five minutes without one make one
    in any case."""
    previews: int = 8
    """Test images drawn with predictions beside their targets at every evaluation."""
    animate: bool = False
    """Whether these pages are also joined into `previews/progress.gif` at the end."""

    @property
    def variants(self) -> tuple[str | None, ...]:
        """Names of the augmentations that take turns; None alone where there are not several."""
        return tuple(self.augment) if isinstance(self.augment, Mapping) else (None,)

    def variant(self, step: int) -> str | None:
        """Whose turn it is at the update after `step` updates: a function of the step and the seed alone."""
        names = self.variants
        if len(names) == 1:
            return names[0]
        drawn = np.random.default_rng([int(self.seed) % 2**64, step // self.turn]).random()
        return names[int(drawn * len(names))]

    def augmentation(self, variant: str | None) -> Callable[[Any, Batch], Batch] | None:
        """The augmentation of a name; None: the first, or the only one."""
        if not isinstance(self.augment, Mapping):
            return self.augment
        return self.augment[next(iter(self.augment)) if variant is None else variant]

    def interval(self, what: str) -> int:
        """Steps between two of `what`: "log", "evaluate" or "checkpoint"."""
        chosen = getattr(self, f"{what}_every")
        if chosen is not None:
            return max(1, chosen)
        share = {"log": min(50, self.steps // 100), "evaluate": self.steps // 5, "checkpoint": self.steps // 20}
        return max(1, share[what])

    @property
    def ranked_by(self) -> str:
        """The test value that ranks checkpoints and trials: the first metric, else the loss."""
        return next(iter(self.metrics), "loss")

    def larger_is_better(self, name: str) -> bool:
        """Of a test value: a metric knows itself, losses and their terms are better when smaller."""
        return name in self.metrics and getattr(self.metrics[name], "larger_is_better", True)


ExperimentFunction = Callable[..., Experiment]


@dataclass(frozen=True)
class Hyperparameter:
    """One parameter of an `experiment` function."""

    name: str
    annotation: Any
    default: Any
    meaning: str = ""

    @property
    def type_name(self) -> str:
        """The annotation in words: "float", "int | None", "'mean' | 'sum'"."""
        return " | ".join(map(_written, _options(self.annotation)))


def hyperparameters(experiment: ExperimentFunction) -> dict[str, Hyperparameter]:
    """The hyperparameters in the order of the signature; meanings come from the docstring's Args section.

    Raises:
        UserError: a parameter is not keyword-only, or lacks its annotation or default.
    """
    hints = typing.get_type_hints(experiment)
    meanings = argument_meanings(inspect.getdoc(experiment) or "")
    found = {}
    for name, parameter in inspect.signature(experiment).parameters.items():
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            raise UserError(f"experiment({name}): every hyperparameter is keyword-only; write `def experiment(*, ...)`")
        if name not in hints or parameter.default is inspect.Parameter.empty:
            raise UserError(
                f"experiment({name}): a hyperparameter needs a type and a default, as in `lr: float = 1e-3`"
            )
        found[name] = Hyperparameter(name, hints[name], parameter.default, meanings.get(name, ""))
    return found


def unused(experiment: ExperimentFunction) -> list[str]:
    """Hyperparameters whose names stand nowhere in the function's body: they change nothing."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(experiment))))
    except (OSError, TypeError, SyntaxError):  # made without a file
        return []
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    return [] if "locals" in used else [name for name in hyperparameters(experiment) if name not in used]


def resolve(experiment: ExperimentFunction, values: Mapping[str, Any]) -> dict[str, Any]:
    """All hyperparameters with `values` put over the defaults, each checked against its annotation.

    An `int` is taken for a `float`; a `bool` never for an `int`.

    Raises:
        UserError: an unknown name (with the nearest match), or a value of the wrong type.
    """
    known = hyperparameters(experiment)
    for name in values:
        if name not in known:
            raise UserError(unknown_name("hyperparameter", name, known))
    return {
        name: check_value(h, values[name]) if name in values else _as_float(h.annotation, h.default)
        for name, h in known.items()
    }


def check_value(h: Hyperparameter, value: Any) -> Any:
    """`value`, as a float where the annotation wants one.

    Raises:
        UserError: the value is not of the annotated type, or outside the range that the docstring states.
    """
    value = _as_float(h.annotation, value)
    if not _is_instance(value, h.annotation):
        raise UserError(f"{h.name}={value}: expected {h.type_name}, got {type(value).__name__}")
    if type(value) in (int, float) and (expected := outside(value, h.meaning)) is not None:
        raise UserError(f"{h.name}={value:g}: expected {expected} ({h.meaning.partition(';')[0].rstrip('.')})")
    return value


def _options(annotation: Any) -> tuple[Any, ...]:
    if typing.get_origin(annotation) in (Union, types.UnionType):
        return typing.get_args(annotation)
    return (annotation,)


def _written(option: Any) -> str:
    if option is types.NoneType:
        return "None"
    if typing.get_origin(option) is typing.Literal:
        return " | ".join(map(repr, typing.get_args(option)))
    return option.__name__ if isinstance(option, type) and not typing.get_args(option) else str(option)


def _as_float(annotation: Any, value: Any) -> Any:
    options = _options(annotation)
    return float(value) if type(value) is int and float in options and int not in options else value


def _is_instance(value: Any, annotation: Any) -> bool:
    for option in _options(annotation):
        origin = typing.get_origin(option)
        if option is Any or (option is None and value is None):
            return True
        if origin is typing.Literal:
            if value in typing.get_args(option):
                return True
        elif origin is tuple and isinstance(value, tuple):
            args = typing.get_args(option)
            args = args[:1] * len(value) if len(args) == 2 and args[1] is Ellipsis else args
            if len(args) == len(value) and all(_is_instance(v, a) for v, a in zip(value, args, strict=True)):
                return True
        elif isinstance(option, type) and isinstance(value, option):
            if isinstance(value, bool) and option is not bool:
                continue
            return True
    return False
