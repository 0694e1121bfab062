"""Parts of a network by the paths of their parameters: which are trained, which are frozen, at which rate.

A pattern is a regular expression that names a path or what it begins with, between slashes: `head` is all under
`head/`, `stage4|head` both, `.*` everything.
"""

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax
import optax

from jaxcv.errors import UserError
from jaxcv.train.optimizers import with_rates
from jaxcv.types import matches

EVERYTHING = ".*"


def split(params: Any, pattern: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The parameters that a pattern names, and the others: two trees without each other's branches.

    Raises:
        UserError: the pattern names none.
    """
    if pattern == EVERYTHING:
        return params, {}
    trained, frozen = {}, {}
    for path, leaf in _paths(params):
        (trained if matches(pattern, "/".join(path)) else frozen)[path] = leaf
    if not trained:
        there = ", ".join(dict.fromkeys(path[0] for path in frozen))
        raise UserError(f"trainable={pattern!r} names no parameter; their paths begin with {there}")
    return _nest(trained), _nest(frozen)


def merge(trained: Any, frozen: Any) -> dict[str, Any]:
    """The whole tree again."""
    return _nest(dict([*_paths(trained), *_paths(frozen)])) if frozen else trained


def describe(params: Any, pattern: str) -> str:
    """One line: how many parameters are trained, and which parts are frozen."""
    trained, frozen = split(params, pattern)
    count = sum(leaf.size for leaf in jax.tree.leaves(trained))
    total = count + sum(leaf.size for leaf in jax.tree.leaves(frozen))
    if not frozen:
        return f"trained: all {total:,} parameters"
    return (
        f"trained: {count:,} of {total:,} parameters ({', '.join(trained)}); frozen, with their batch statistics: "
        f"{', '.join(n for n in frozen if n not in trained) or 'parts of the same'}"
    )


_EVALUATING = {
    **dict.fromkeys(("train", "training", "is_training", "update_stats"), False),
    **dict.fromkeys(("deterministic", "use_running_average"), True),
}
"""How layers are told that they are evaluated, as an argument of the call or as a field of the module."""


def _frozen_modules(params: Any, pattern: str) -> Callable[[tuple[str, ...]], bool]:
    """Whether the module of a path is frozen: no parameter of it is trained or, where it has none, it is not named."""
    trained: dict[tuple[str, ...], bool] = {}
    for path, _ in _paths(params):
        for end in range(len(path)):
            trained[path[:end]] = trained.get(path[:end], False) or matches(pattern, "/".join(path))
    return lambda path: not trained.get(path, matches(pattern, "/".join(path)))


def _evaluating(arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {n: _EVALUATING.get(n, v) if isinstance(v, bool) else v for n, v in arguments.items()}


@contextlib.contextmanager
def running_frozen(params: Any, pattern: str) -> Iterator[None]:
    """Inside, frozen modules run as in evaluation: no dropout, running statistics.

    It goes by the path of a module: one without parameters, such as dropout or batch norm without scale and bias, is
    frozen unless the pattern names it. It works on modules that are told by an argument or a field of the usual names
    (`train`, `deterministic`, `use_running_average`, ...) whether they are trained.
    """
    if pattern == EVERYTHING:
        yield
        return
    is_frozen = _frozen_modules(params, pattern)

    def run(method: Any, args: Any, kwargs: dict[str, Any], context: Any) -> Any:
        if not is_frozen(context.module.path):
            return method(*args, **kwargs)
        fields = {name: getattr(context.module, name, None) for name in _EVALUATING}
        for name, value in _evaluating(fields).items():
            if value is not None:
                object.__setattr__(context.module, name, value)  # which the layer reads when it is called
        given = inspect.signature(method).bind(*args, **_evaluating(kwargs))
        given.apply_defaults()
        given.arguments.update(_evaluating(given.arguments))
        return method(*given.args, **given.kwargs)

    with nn.intercept_methods(run):
        yield


def keep_frozen(new: Mapping[str, Any], old: Mapping[str, Any], params: Any, pattern: str) -> dict[str, Any]:
    """Collections after a step, those of frozen modules as they were, whatever the modules have done to them."""
    if pattern == EVERYTHING:
        return dict(new)
    is_frozen = _frozen_modules(params, pattern)
    kept = {}
    for name, collection in new.items():
        before = dict(_paths(old.get(name, {})))
        leaves = {p: before[p] if p in before and is_frozen(p[:-1]) else leaf for p, leaf in _paths(collection)}
        kept[name] = _nest(leaves)
    return kept


def by_part(optimizers: Mapping[str, optax.GradientTransformation]) -> optax.GradientTransformation:
    """Another optimizer, or another rate, for each part of a network.

    `by_part({"head": optax.adam(lr), ".*": optax.adam(lr / 10)})`: a parameter goes by the first pattern that names it.

    Args:
        optimizers: pattern over parameter paths to the optimizer of those parameters.

    Raises:
        UserError: a parameter that no pattern names.
    """

    def labels(params: Any) -> Any:
        def label(path: str) -> str:
            found = next((pattern for pattern in optimizers if matches(pattern, path)), None)
            if found is None:
                raise UserError(f"no optimizer for {path}: the patterns are {', '.join(optimizers)}; end with '.*'")
            return found

        return _nest({path: label("/".join(path)) for path, _ in _paths(params)})

    rates = {
        f"{name}/{pattern}": rate
        for pattern, optimizer in optimizers.items()
        for name, rate in getattr(optimizer, "rates", {}).items()
    }
    together = optax.multi_transform({**optimizers}, labels)
    return with_rates(together, rates) if rates else together


def kernels(params: Any) -> Any:
    """True on the leaves called `kernel`: the mask of weight decay that spares biases and normalisation."""
    return _nest({path: path[-1] == "kernel" for path, _ in _paths(params)})


def _paths(tree: Any, above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _paths(value, (*above, name))
        else:
            yield (*above, name), value


def _nest(leaves: Mapping[tuple[str, ...], Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path, leaf in sorted(leaves.items()):
        branch = tree
        for name in path[:-1]:
            branch = branch.setdefault(name, {})
        branch[path[-1]] = leaf
    return tree
