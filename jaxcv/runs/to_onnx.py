"""A function of arrays as ONNX, by jax2onnx, and run again by onnxruntime: `pip install 'jaxcv-research[onnx]'`.

jax2onnx has a translation for most of JAX's operations. What it lacks is first written in others: calls are inlined,
operations with a form for the CPU are the plain ones, a convolution's arrays are in one order of axes, and a scatter
of single numbers is a comparison of indices.
"""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcv.errors import UserError

_INLINED = {
    "pjit": "jaxpr", "jit": "jaxpr", "closed_call": "call_jaxpr", "core_call": "call_jaxpr", "remat": "jaxpr",
    "checkpoint": "jaxpr", "custom_jvp_call": "call_jaxpr", "custom_vjp_call": "call_jaxpr", "custom_vmap_call": "call",
}  # fmt: skip
"""Where operations that only call others keep them."""


def convert(
    file: Path, function: Callable[..., Sequence[jax.Array]], shape: Sequence[int], names: Sequence[str]
) -> Callable[[np.ndarray], list[np.ndarray]]:
    """Write `function` of uint8 images of this shape to a file; returns it as onnxruntime runs it.

    Args:
        file: ends with `.onnx`.
        function: of images, to a list of arrays.
        shape: `[1 h w c]`.
        names: of the outputs, in order.

    Raises:
        UserError: a package is missing, or an operation has no translation.
    """
    try:
        import jax2onnx  # pyright: ignore[reportMissingImports]
        import onnx  # pyright: ignore[reportMissingImports]
        import onnxruntime  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError(f"{file}: {error.name} is missing: pip install 'jaxcv-research[onnx]'") from error
    logging.getLogger("onnx_ir").setLevel(logging.ERROR)  # it warns of every shape that it does not write
    spec = jax.ShapeDtypeStruct(tuple(shape), np.uint8)
    closed: Any = jax.make_jaxpr(function)(spec)
    try:
        model = jax2onnx.to_onnx(lambda images: _evaluate(closed.jaxpr, closed.consts, images), [spec])
    except (NotImplementedError, TypeError, ValueError, KeyError, RuntimeError) as error:
        why = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{file}: jax2onnx cannot translate this network ({why}): take .stablehlo") from error
    _rename(model.graph, {model.graph.input[0].name: "images"})
    _rename(model.graph, dict(zip([output.name for output in model.graph.output], names, strict=True)))
    onnx.save(model, str(file))
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return lambda images: session.run(list(names), {"images": images})


def _rename(graph: Any, names: dict[str, str]) -> None:
    """Give inputs and outputs other names, wherever they are mentioned."""
    for value in (*graph.input, *graph.output):
        value.name = names.get(value.name, value.name)
    for node in graph.node:
        for listed in (node.input, node.output):
            listed[:] = [names.get(name, name) for name in listed]


def _evaluate(jaxpr: Any, constants: Sequence[Any], *arrays: Any) -> list[Any]:
    """The outputs of a jaxpr, of operations that jax2onnx knows."""
    known = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*constants, *arrays), strict=True))

    def read(atom: Any) -> Any:
        return atom.val if hasattr(atom, "val") else known[atom]

    for equation in jaxpr.eqns:
        found = _apply(equation.primitive, [read(atom) for atom in equation.invars], equation.params)
        known |= dict(zip(equation.outvars, found, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _apply(primitive: Any, values: list[Any], params: dict[str, Any]) -> list[Any]:
    name = primitive.name
    if name == "form":  # see jaxcv.cpu.seam
        plain = partial(params["plain"], **dict(params["static"]))
        for axes in reversed(params["mapped"]):
            plain = jax.vmap(plain, in_axes=tuple(0 if axis else None for axis in axes))
        closed: Any = jax.make_jaxpr(lambda *arrays: jax.tree.leaves(plain(*arrays)))(*values)
        return _evaluate(closed.jaxpr, closed.consts, *values)
    if name in _INLINED:
        inner = params[_INLINED[name]]
        return _evaluate(inner.jaxpr, inner.consts, *values)
    if name == "while":
        return _loop(values, params)
    if name == "conv_general_dilated":
        return [_convolved(*values, **params)]
    if name == "scatter" and values[2].shape == values[1].shape[:-1] and values[1].shape[-1] == 1:
        return [_scattered(*values)]
    found = primitive.bind(*values, **params)
    return list(found) if primitive.multiple_results else [found]


def _loop(values: list[Any], params: dict[str, Any]) -> list[Any]:
    conditions, bodies = params["cond_nconsts"], params["body_nconsts"]
    first, second, carry = values[:conditions], values[conditions:][:bodies], values[conditions + bodies :]
    condition, body = params["cond_jaxpr"], params["body_jaxpr"]

    def proceeds(carry: list[Any]) -> Any:
        return _evaluate(condition.jaxpr, condition.consts, *first, *carry)[0]

    return jax.lax.while_loop(proceeds, lambda carry: _evaluate(body.jaxpr, body.consts, *second, *carry), carry)


def _convolved(images: Any, kernel: Any, **params: Any) -> Any:
    """A convolution whatever the order of its axes, as one of [b h w c] by [h w in out]."""
    theirs, ours = params["dimension_numbers"], jax.lax.ConvDimensionNumbers((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2))
    if images.ndim != 4 or tuple(theirs) == tuple(ours):
        return jax.lax.conv_general_dilated_p.bind(images, kernel, **params)
    images, kernel = (
        jnp.transpose(array, [spec[own.index(axis)] for axis in range(4)])
        for array, spec, own in ((images, theirs.lhs_spec, ours.lhs_spec), (kernel, theirs.rhs_spec, ours.rhs_spec))
    )
    found = jax.lax.conv_general_dilated_p.bind(images, kernel, **{**params, "dimension_numbers": ours})
    return jnp.transpose(found, [ours.out_spec[theirs.out_spec.index(axis)] for axis in range(4)])


def _scattered(array: Any, indices: Any, updates: Any) -> Any:
    """Single numbers put into the last axis of an array; indices beyond its end are dropped."""
    here = indices[..., 0][..., None, :] == jnp.arange(array.shape[-1], dtype=indices.dtype)[:, None]
    put = jnp.sum(jnp.where(here, updates[..., None, :], jnp.zeros((), updates.dtype)), axis=-1, dtype=updates.dtype)
    return jnp.where(here.any(-1), put, array)
