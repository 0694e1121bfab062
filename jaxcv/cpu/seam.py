"""The seam between `ops` and this folder: a primitive that is lowered to another form in programs for a CPU.

The choice is made when a program is lowered, not when it is traced: for another platform it is the plain operation, and
a program exported for several platforms has both. The jaxpr holds the primitive alone, so that only the form that is
needed is ever traced.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from jaxcv.cpu import kernels


class Form(NamedTuple):
    """How an operation is computed on a CPU."""

    run: Callable[..., Any]
    """`run(out, plain, *arrays, **static)` computes `plain(*arrays, **static)`, whose shape and dtype is `out`."""
    transposes: tuple["Transpose | None", ...] | None = None
    """Of an operation linear in each of its two arrays: its transpose in either; None for the plain operation's."""
    shape: Callable[..., Any] | None = None
    """Something of the shape and dtype of what `plain` gives, for an operation that takes long to trace."""


class Transpose(NamedTuple):
    """A transpose of an operation f(a, b): `form` of the cotangent and the other array."""

    form: Callable[[], Form]
    """A function, because forms refer to each other."""
    swap: bool = False
    """Whether the cotangent is passed in the other array's position instead of that of the array it belongs to."""


def choose(form: Form, plain: Callable[..., Any]) -> Callable[..., Any]:
    """The function `plain`, computed by `form` where it is lowered for a CPU.

    It can be jitted, batched and differentiated like `plain`, in any order and any number of times.

    Args:
        form: the CPU form.
        plain: `plain(*arrays, **static)` in JAX's operations, with hashable `static`; an array or a tuple of arrays.
    """

    @functools.wraps(plain)
    def chosen(*arrays: jax.Array, **static: Any) -> Any:
        out = _form_p.bind(*arrays, form=form, plain=plain, static=tuple(sorted(static.items())), mapped=())
        return _one_or_all(out)

    return chosen


_form_p = Primitive("form")
"""Its parameters: `form`, `plain`, `static`, and `mapped`: for each `vmap`, outermost first, which of the arrays have a
leading axis for it."""
_form_p.multiple_results = True


def _leaves(values: Any) -> list[Any]:
    return list(values) if isinstance(values, tuple) else [values]


def _one_or_all(values: list[Any]) -> Any:
    return values[0] if len(values) == 1 else tuple(values)


def _under_vmaps(function: Callable[..., Any], mapped: tuple[tuple[bool, ...], ...]) -> Callable[..., list[Any]]:
    for axes in reversed(mapped):
        function = jax.vmap(function, in_axes=tuple(0 if axis else None for axis in axes))
    return lambda *arrays: _leaves(function(*arrays))


def _plainly(*arrays: Any, form: Form, plain: Any, static: Any, mapped: Any) -> list[Any]:
    return _under_vmaps(functools.partial(plain, **dict(static)), mapped)(*arrays)


def _in_form(*arrays: Any, form: Form, plain: Any, static: Any, mapped: Any) -> list[Any]:
    kinds = tuple((_one_of(x.shape, [axes[i] for axes in mapped]), x.dtype) for i, x in enumerate(arrays))
    params = {"form": form, "plain": plain, "static": static, "mapped": ()}
    out = _one_or_all(_shapes(kinds, tuple(params.items())))
    return _under_vmaps(functools.partial(form.run, out, plain, **dict(static)), mapped)(*arrays)


def _one_of(shape: tuple[int, ...], mapped: list[bool]) -> tuple[int, ...]:
    """The shape without the axes of all `vmap`s."""
    return shape[sum(mapped) :]


@functools.lru_cache(maxsize=4096)
def _shapes(kinds: tuple[Any, ...], params: tuple[Any, ...]) -> list[Any]:
    arrays = [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in kinds]
    form, plain = dict(params)["form"], dict(params)["plain"]
    return jax.eval_shape(functools.partial(_plainly, **{**dict(params), "plain": form.shape or plain}), *arrays)


@_form_p.def_abstract_eval
def _abstract(*arrays: Any, **params: Any) -> list[Any]:
    out = _shapes(tuple((x.shape, x.dtype) for x in arrays), tuple(params.items()))
    return [ShapedArray(x.shape, x.dtype) for x in out]


@_form_p.def_impl
def _run(*arrays: jax.Array, **params: Any) -> Any:
    with jax.disable_jit(False):  # a form runs only when lowered
        return _jitted(tuple(params.items()))(*arrays)


@functools.lru_cache(maxsize=4096)
def _jitted(params: tuple[Any, ...]) -> Any:
    return jax.jit(functools.partial(_form_p.bind, **dict(params)))


def _lower_for_cpu(ctx: Any, *arrays: Any, **params: Any) -> Any:
    # Kernels are registered in this process only, and XLA cannot partition them over devices.
    module = ctx.module_context
    if not all(isinstance(size, int) for aval in ctx.avals_in for size in aval.shape):
        # Exported for any size: a form is chosen by the sizes.
        return mlir.lower_fun(_plainly, multiple_results=True)(ctx, *arrays, **params)
    alone = getattr(module.axis_context, "num_devices", None) == 1 and not module.lowering_parameters.for_export
    with kernels.allowed(alone):
        return mlir.lower_fun(_in_form, multiple_results=True)(ctx, *arrays, **params)


mlir.register_lowering(_form_p, mlir.lower_fun(_plainly, multiple_results=True))
mlir.register_lowering(_form_p, _lower_for_cpu, platform="cpu")


def _batch(arrays: Any, axes: Any, *, mapped: Any, **params: Any) -> Any:
    arrays = [x if axis is None else jnp.moveaxis(x, axis, 0) for x, axis in zip(arrays, axes, strict=True)]
    out = _form_p.bind(*arrays, mapped=(tuple(axis is not None for axis in axes), *mapped), **params)
    return out, [0] * len(out)


batching.primitive_batchers[_form_p] = _batch


def _jvp(primals: Any, tangents: Any, *, form: Form, **params: Any) -> Any:
    out = _form_p.bind(*primals, form=form, **params)
    if form.transposes is None:
        tangents = [ad.instantiate_zeros(tangent) for tangent in tangents]
        _, out_tangent = jax.jvp(functools.partial(_plainly, form=form, **params), tuple(primals), tuple(tangents))
        return out, out_tangent
    terms = []
    for i, tangent in enumerate(tangents):
        if not isinstance(tangent, ad.Zero):
            terms += _form_p.bind(*(tangent if i == j else x for j, x in enumerate(primals)), form=form, **params)
    return out, [functools.reduce(ad.add_jaxvals, terms)]


ad.primitive_jvps[_form_p] = _jvp


def _transpose(cotangents: Any, a: Any, b: Any, *, form: Form, plain: Any, static: Any, mapped: Any) -> Any:
    i = 0 if ad.is_undefined_primal(a) else 1
    aval, other, cotangent = (a, b)[i].aval, (b, a)[i], cotangents[0]
    if isinstance(cotangent, ad.Zero):
        return [None, None]
    levels = [axes[i] for axes in mapped]
    shape = _one_of(aval.shape, levels)
    transpose = form.transposes[i] if form.transposes is not None else None
    swap = transpose is not None and transpose.swap
    plain = _Transposed(plain, i, swap, shape, aval.dtype)
    position = 1 - i if swap else i
    arrays = (cotangent, other) if position == 0 else (other, cotangent)
    flags = [(True, axes[1 - i]) if position == 0 else (axes[1 - i], True) for axes in mapped]
    params = {"plain": plain, "static": static, "mapped": tuple(flags)}
    if transpose is None:
        (out,) = _plainly(*arrays, form=form, **params)
    else:
        (out,) = _form_p.bind(*arrays, form=transpose.form(), **params)
    out = out.sum(
        [level for level, axis in enumerate(levels) if not axis]
    )  # an array without the axis was shared by the whole batch
    return [out, None] if i == 0 else [None, out]


ad.primitive_transposes[_form_p] = _transpose


class _Transposed(NamedTuple):
    """The transpose of `plain(a, b)` in its array `i`, which has this shape."""

    plain: Callable[..., Any]
    i: int
    swap: bool
    shape: tuple[int, ...]
    dtype: Any

    def __call__(self, *arrays: Any, **static: Any) -> Any:
        a, b = reversed(arrays) if self.swap else arrays
        cotangent, other = (a, b) if self.i == 0 else (b, a)

        def linear(x: Any) -> Any:
            return self.plain(*((x, other) if self.i == 0 else (other, x)), **static)

        return jax.linear_transpose(linear, jax.ShapeDtypeStruct(self.shape, self.dtype))(cotangent)[0]
