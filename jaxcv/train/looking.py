"""Whether Python looks at hyperparameters that are traced: `2 * a if isinstance(a, float) else a`.

Where Python asks a tracer for its value, JAX raises. Where it asks for the type (`isinstance`, `hasattr`, `try`, the
text of a value as a key), the trace silently takes another branch than the number would. So what the parts of an
experiment compute is traced both ways, and the two programs are compared operation by operation: in the traced one,
what depends on hyperparameters alone is replaced by its value.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core as jax_core

from jaxcv.train import parts
from jaxcv.train.experiment import Experiment
from jaxcv.train.step import applied

_RELATIVE, _ABSOLUTE = 1e-4, 1e-9
"""How far constants may differ that were computed as float64 here, and partly as float32 there."""
_LARGEST = 1 << 16
"""Elements of an array that is still computed here."""


def looked_at(
    at: Callable[[Mapping[str, Any]], Experiment], values: Mapping[str, Any], shapes: Mapping[str, Any]
) -> dict[str, str]:
    """The hyperparameters at which Python looks, and where it shows.

    Args:
        at: the experiment as a function of the hyperparameters to be traced.
        values: of these hyperparameters.
        shapes: of `params`, `collections`, `batch`, `augmented` and `outputs`, as the step has them.
    """
    traced = _Traced(at, values, shapes)
    if not traced.differing(values):
        return {}
    alone = {name: found for name in values if (found := traced.differing([name]))}
    where = alone or dict.fromkeys(values, traced.differing(values))
    return {
        name: "is branched on in Python by its type, or rounded: with the number, "
        f"{' and '.join(found)} {'differ' if len(found) > 1 else 'differs'} from the traced one"
        for name, found in where.items()
    }


class _Traced:
    """The parts of an experiment with all hyperparameters traced, to be compared with others."""

    def __init__(self, at: Callable[[Mapping[str, Any]], Experiment], values: Mapping[str, Any], shapes: Any):
        self._at, self._values, self._shapes = at, values, shapes
        self._table = _Table()
        self._whole: Any = None
        self._network = False
        """Whether the networks have to be compared: they are others, or hold traced values."""

    def differing(self, constants: Iterable[str]) -> list[str]:
        """The parts that compute something else where these hyperparameters are numbers."""
        if self._whole is None:
            self._whole = self._parts([])
        other = self._parts(constants)
        return [name for name in {**self._whole, **other} if self._whole.get(name) != other.get(name)]

    def _parts(self, constants: Iterable[str]) -> dict[str, Any]:
        """By the name of a part, what identifies all that it computes."""
        fixed = {name: self._values[name] for name in constants}
        inputs = {name: value for name, value in self._values.items() if name not in fixed}
        shapes, found = self._shapes, {}

        def number(name: str, function: Callable[..., Any], *args: Any) -> Any:
            """Trace a function of the experiment; returns the shapes of its results, None where it raises."""
            traced = lambda inputs, *args: function(self._at({**fixed, **inputs}), *args)  # noqa: E731
            try:
                jaxpr, out = jax.make_jaxpr(traced, return_shape=True)(inputs, *args)
            except Exception as error:  # the experiment's own, of whatever kind: it may raise both ways
                found[name] = type(error).__qualname__
                return None
            known = [self._table.constant(np.asarray(value)) for value in jax.tree.leaves(inputs)]
            rest = jaxpr.jaxpr.invars[len(known) :]
            unknown = [self._table.term("input", i, *_kind(v.aval)) for i, v in enumerate(rest)]
            found[name] = str(jax.tree.structure(out)), tuple(self._table.closed(jaxpr, [*known, *unknown]))
            return out

        number("seed", lambda e: e.seed)
        number("the moving average", lambda e: e.ema)
        plain: dict[str, Any] = {}

        def fields(e: Experiment) -> None:
            plain.update(trainable=e.trainable, inputs=e.inputs, variants=e.variants, model=e.model)
            plain["same model"] = _equal(e.model, numbers.model)

        numbers = self._at(self._values)
        number("a setting", fields)
        found["a setting"] = {name: plain.get(name) for name in ("trainable", "inputs", "variants")}
        key = jax.eval_shape(lambda: jax.random.key(0))
        for variant in numbers.variants:
            if numbers.augmentation(variant) is not None:
                number("the augmentation", lambda e, *x, v=variant: e.augmentation(v)(*x), key, shapes["batch"])
        variables = {"params": shapes["params"], **shapes["collections"]}
        fed = [shapes["augmented"][name] for name in numbers.inputs]

        def run(e: Experiment, variables: Any, key: Any, *fed: Any, train: bool) -> Any:
            how = {"mutable": list(shapes["collections"]), "rngs": {"dropout": key}} if train else {}
            return applied(e, variables, *fed, train=train, **how)

        if self._whole is None:
            self._network = not plain.get("same model")
        if self._network:
            for train in (True, False):
                number("the network", lambda e, *x, train=train: run(e, *x, train=train), variables, key, *fed)
        number("the loss", lambda e, *x: e.loss(*x), shapes["outputs"], shapes["augmented"])
        trained, _ = parts.split(shapes["params"], numbers.trainable)
        with jax.numpy_dtype_promotion("standard"):  # as in the step
            state = number("the optimizer", lambda e, p: e.optimizer.init(p), trained)
            number("the optimizer's update", lambda e, *x: e.optimizer.update(*x), trained, state, trained)
        if (
            numbers.predict is not None
            and number("the prediction", lambda e, x: e.predict(x), shapes["outputs"]) is None
        ):
            test = jax.eval_shape(lambda *x: run(numbers, *x, train=False)[0], variables, key, *fed)
            number("the prediction", lambda e, x: e.predict(x), test)
        return found


def _equal(one: Any, other: Any) -> bool:
    """Whether two networks are certainly the same; those that hold tracers are not."""
    try:
        return type(one) is type(other) and bool(one == other)
    except Exception:  # whatever comparing arrays, tracers and the like raises
        return False


class _Table:
    """Numbers for all values that programs compute: one number for the same operations on the same inputs."""

    def __init__(self) -> None:
        self._numbers: dict[Any, int] = {}
        self._constants: dict[tuple[Any, ...], list[tuple[np.ndarray, int]]] = {}
        self._values: dict[int, np.ndarray] = {}
        self._zeros: set[int] = set()
        self._calls: dict[Any, list[int]] = {}
        self._kept: list[Any] = []  # their addresses are keys
        self._depth = 0

    def term(self, *key: Any) -> int:
        """The number of what is described by `key`."""
        return self._numbers.setdefault(key, len(self._numbers))

    def constant(self, value: np.ndarray) -> int:
        """The number of a constant: of an earlier one, if that is about as large."""
        if value.dtype.kind != "f":
            value = value.astype(np.int64) if value.dtype.kind in "iu" else value
            number = self.term("constant", str(value.dtype), value.shape, value.tobytes())
            self._values[number] = value
            return number
        value = value.astype(np.float64)
        known = self._constants.setdefault(value.shape, [])
        for other, number in known:
            if _close(value, other):
                return number
        number = self.term("constant", "float", value.shape, len(known))
        known.append((value, number))
        self._values[number] = value
        return number

    def closed(self, jaxpr: Any, args: Sequence[int]) -> list[int]:
        """The numbers of the results of a closed jaxpr for arguments of given numbers."""
        key = id(jaxpr), tuple(args)
        if key not in self._calls:
            self._kept.append(jaxpr)
            self._calls[key] = self._run(jaxpr.jaxpr, [self._array(c) for c in jaxpr.consts], args)
        return self._calls[key]

    def _array(self, value: Any) -> int:
        if hasattr(value, "dtype") and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
            return self.term("key", self._array(jax.random.key_data(value)))
        array = np.asarray(value)
        return self.constant(array.astype(np.float64) if jnp.issubdtype(array.dtype, jnp.floating) else array)

    def _run(self, jaxpr: Any, consts: Sequence[int], args: Sequence[int]) -> list[int]:
        numbers = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *args], strict=True))

        def read(atom: Any) -> int:
            return self._array(atom.val) if isinstance(atom, jax_core.Literal) else numbers[atom]

        for equation in jaxpr.eqns:
            results = self._equation(equation, [read(atom) for atom in equation.invars])
            numbers.update(zip(equation.outvars, results, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def _equation(self, equation: Any, args: list[int]) -> list[int]:
        name, params = equation.primitive.name, equation.params
        kinds = [_kind(v.aval) for v in equation.outvars]
        inner = next((params[n] for n in ("jaxpr", "call_jaxpr", "fun_jaxpr") if n in params), None)
        if name == "scan":
            consts, carried = _scan_counts(params)
            body = self._body(inner, args[:consts])
            return self._several(kinds, "scan", params["length"], params["reverse"], *args[consts:carried], "xs",
                                 *args[carried:], *body)  # fmt: skip
        if name == "while":
            first, second = params["cond_nconsts"], params["cond_nconsts"] + params["body_nconsts"]
            condition = self._body(params["cond_jaxpr"], args[:first])
            body = self._body(params["body_jaxpr"], args[first:second])
            return self._several(kinds, "while", *args[second:], *condition, *body)
        if name == "cond":
            which = self._values.get(args[0])
            if which is not None:
                return self.closed(params["branches"][int(which)], args[1:])
            branches = [tuple(self.closed(branch, args[1:])) for branch in params["branches"]]
            return self._several(kinds, "cond", args[0], *branches)
        if isinstance(inner, jax_core.ClosedJaxpr) and len(inner.jaxpr.invars) == len(args):
            return self.closed(inner, args)
        if isinstance(inner, jax_core.Jaxpr) and len(inner.invars) == len(args) and not inner.constvars:
            return self._run(inner, [], args)
        if name == "convert_element_type" and _kind(equation.invars[0].aval) == kinds[0]:
            return args
        if name in _OPERATIONS and all(arg in self._values for arg in args):
            result = _compute(name, params, kinds[0], [self._values[arg] for arg in args])
            if result is not None:
                return [self.constant(result)]
        if (same := self._neutral(name, args, equation.invars, kinds[0])) is not None:
            return [same]
        described = [(n, self._plain(v)) for n, v in sorted(params.items()) if n != "weak_type"]
        return self._several(kinds, name, *described, *args)

    def _neutral(self, name: str, args: Sequence[int], atoms: Sequence[Any], kind: tuple[Any, ...]) -> int | None:
        """Of x + 0, x - 0, 1 x, x / 1 and 0 x, what they are: libraries leave them out where they see the number."""
        for i in {"add": (0, 1), "sub": (1,), "mul": (0, 1), "div": (1,)}.get(name, ()):
            value, other = self._values.get(args[i]), args[1 - i]
            zero = args[i] in self._zeros or (value is not None and not np.any(value))
            one = value is not None and bool(np.all(value == 1))
            if name == "mul" and zero:
                number = self.term("zero", kind)
                self._zeros.add(number)
                return number
            if (zero if name in ("add", "sub") else one) and _kind(atoms[1 - i].aval) == kind:
                return other
        return None

    def _body(self, jaxpr: Any, consts: Sequence[int]) -> list[int]:
        """The results of the body of a loop, with its other arguments unknown."""
        self._depth += 1
        others = jaxpr.jaxpr.invars[len(consts) :]
        unknown = [self.term("argument", self._depth, i, *_kind(v.aval)) for i, v in enumerate(others)]
        results = self.closed(jaxpr, [*consts, *unknown])
        self._depth -= 1
        return results

    def _several(self, kinds: Sequence[tuple[Any, ...]], *key: Any) -> list[int]:
        return [self.term(*key, i, kind) for i, kind in enumerate(kinds)]

    def _plain(self, value: Any) -> Any:
        """A parameter of an operation as something to be compared."""
        if isinstance(value, jax_core.ClosedJaxpr):
            return tuple(self._body(value, []))
        if isinstance(value, jax_core.Jaxpr):
            return "body" if value.constvars else tuple(self._body(jax_core.ClosedJaxpr(value, []), []))
        if isinstance(value, tuple | list):
            return tuple(map(self._plain, value))
        if isinstance(value, np.ndarray | jax.Array):
            return self._array(value)
        return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def _scan_counts(params: Mapping[str, Any]) -> tuple[int, int]:
    """How many arguments of a scan are constants, and how many are constants or carried."""
    if "num_consts" in params:
        return params["num_consts"], params["num_consts"] + params["num_carry"]
    if "ft_in" in params:  # from JAX 0.12 on
        consts, carried, _ = params["ft_in"].unpack()
        return len(consts), len(consts) + len(carried)
    return 0, 0  # a later form: all count as unknown, so a hyperparameter inside becomes a constant of the program


def _close(one: np.ndarray, other: np.ndarray) -> bool:
    if (
        one.shape == () and math.isfinite(one) and math.isfinite(other)
    ):  # nearly all are; NumPy takes forty times as long
        return abs(float(one) - float(other)) <= _ABSOLUTE + _RELATIVE * abs(float(other))
    return np.allclose(one, other, rtol=_RELATIVE, atol=_ABSOLUTE, equal_nan=True)


def _kind(aval: Any) -> tuple[Any, ...]:
    return getattr(aval, "shape", ()), str(getattr(aval, "dtype", aval))


_OPERATIONS: dict[str, Any] = {
    **{name: getattr(np, name) for name in ("add", "abs", "floor", "ceil", "sign", "square", "sqrt", "exp", "exp2")},
    **{name: getattr(np, name) for name in ("log", "log1p", "expm1", "sin", "cos", "tan", "tanh")},
    "sub": np.subtract,
    "mul": np.multiply,
    "neg": np.negative,
    "pow": np.power,
    "rem": np.fmod,
    "max": np.maximum,
    "min": np.minimum,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "logistic": lambda x: 1 / (1 + np.exp(-x)),
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "is_finite": np.isfinite,
    "round": lambda x, **_: np.round(x),
    "copy": lambda x: x,
    "stop_gradient": lambda x: x,
    "convert_element_type": lambda x: x,
    "div": lambda x, y: x / y if x.dtype.kind == "f" else np.trunc(x / y).astype(x.dtype),
    "and": lambda x, y: x & y,
    "or": lambda x, y: x | y,
    "not": lambda x: ~x,
    "select_n": lambda which, *cases: np.where(which, cases[-1], cases[0]) if len(cases) == 2 else None,
    "integer_pow": lambda x, *, y: x**y if y >= 0 else 1 / x**-y,
    "reshape": lambda x, *, new_sizes, **_: x.reshape(new_sizes),
    "squeeze": lambda x, *, dimensions: x.squeeze(dimensions),
    "concatenate": lambda *xs, dimension: np.concatenate(xs, dimension),
    "broadcast_in_dim": lambda x, *, shape, broadcast_dimensions, **_: np.broadcast_to(
        x.reshape([n if i in broadcast_dimensions else 1 for i, n in _ones(x, shape, broadcast_dimensions)]), shape
    ),
}
"""What is computed of hyperparameters on the host: floats as float64, as Python computes with them."""
_PARAMETERS = ("integer_pow", "reshape", "squeeze", "concatenate", "broadcast_in_dim")


def _ones(x: np.ndarray, shape: Sequence[Any], dimensions: Sequence[Any]) -> list[tuple[int, int]]:
    sizes = dict(zip(dimensions, x.shape, strict=True))
    return [(i, sizes.get(i, 1)) for i in range(len(shape))]


def _compute(name: str, params: Mapping[str, Any], kind: tuple[Any, ...], args: list[np.ndarray]) -> np.ndarray | None:
    """The result of an operation on known values; None where it is not known here."""
    shape, dtype = kind
    if np.prod(shape) > _LARGEST or any(x.size > _LARGEST for x in args):
        return None
    with np.errstate(all="ignore"):
        result = _OPERATIONS[name](*args, **(params if name in _PARAMETERS else {}))
    if result is None or np.shape(result) != tuple(shape):
        return None
    floating = jnp.issubdtype(jnp.dtype(dtype), jnp.floating)
    return np.asarray(result, np.float64 if floating else np.dtype(dtype))
