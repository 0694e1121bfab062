"""A batch that the network takes in parts, one after another: rows r, r + count, ... of each.

The loss is of the outputs for the whole batch, whatever it makes of them, such as pairs or hard negatives. Its gradient
by the outputs then goes back through the network part after part; for that, the network computes each part twice.

References:
    Gao et al., Scaling deep contrastive learning batch size under memory limited setup,
    https://arxiv.org/abs/2101.06983, section 3.2.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxcv.errors import UserError
from jaxcv.types import Batch


def loss_and_gradient(
    forward_of: Callable[..., Callable[[Any], Any]],
    loss_of: Callable[[Any], tuple[jax.Array, Any]],
    collections: Any,
    trained: Any,
    batch: Batch,
    count: int,
) -> tuple[jax.Array, Any, Any, Any]:
    """Loss, its terms, the new collections, and the gradient by the trained parameters.

    Args:
        forward_of: `(part, part=number, collections=...)` gives the network on these rows, a function of the trained
            parameters: `trained -> (outputs, features, new collections)`.
        loss_of: `outputs -> (loss, terms)`, of the whole batch.
        collections: before the first part; each part goes on with those of the one before.
        trained: the parameters.
        batch: fields with the examples first.
        count: of the parts; it divides the examples.

    Raises:
        UserError: the network has an output that is not of examples.
    """
    split = {name: _in_parts(x, count) for name, x in batch.items()}
    numbers = jnp.arange(count)
    first = {name: x[0] for name, x in split.items()}
    shapes = [
        jax.eval_shape(forward_of(rows, part=numbers[0], collections=collections), trained)[0]
        for rows in (batch, first)
    ]
    _refuse_other_outputs(*shapes, rows=(len(batch["image"]), len(first["image"])))

    def ahead(collections: Any, part: tuple[Batch, jax.Array]) -> tuple[Any, Any]:
        outputs, _, changed = forward_of(part[0], part=part[1], collections=collections)(trained)
        return changed, outputs

    after, outputs = jax.lax.scan(ahead, collections, (split, numbers))
    outputs = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1).reshape(-1, *x.shape[2:]), outputs)
    floats, join = _differentiable(outputs)
    (loss, terms), cotangents = jax.value_and_grad(lambda floats: loss_of(join(floats)), has_aux=True)(floats)

    def back(carry: tuple[Any, Any], part: tuple[Batch, jax.Array, Any]) -> tuple[tuple[Any, Any], None]:
        grads, collections = carry

        def forward(trained: Any) -> tuple[Any, Any]:
            outputs, _, changed = forward_of(part[0], part=part[1], collections=collections)(trained)
            return _differentiable(outputs)[0], changed

        _, pull, changed = jax.vjp(forward, trained, has_aux=True)
        return (jax.tree.map(jnp.add, grads, pull(part[2])[0]), changed), None

    zeros = jax.tree.map(jnp.zeros_like, trained)
    cotangents = [_in_parts(x, count) for x in cotangents]
    (grads, _), _ = jax.lax.scan(back, (zeros, collections), (split, numbers, cotangents))
    return loss, terms, after, grads


def _in_parts(x: jax.Array, count: int) -> jax.Array:
    """`[count b/count ...]`; where rows are split over devices, each part has as many of every device's."""
    return jnp.swapaxes(x.reshape(-1, count, *x.shape[1:]), 0, 1)


def _differentiable(tree: Any) -> tuple[list[jax.Array], Callable[[list[jax.Array]], Any]]:
    """The arrays of floats, and what puts others into their place."""
    leaves, structure = jax.tree.flatten(tree)
    where = [i for i, leaf in enumerate(leaves) if jnp.issubdtype(leaf.dtype, jnp.inexact)]

    def join(floats: list[jax.Array]) -> Any:
        changed = dict(zip(where, floats, strict=True))
        return jax.tree.unflatten(structure, [changed.get(i, leaf) for i, leaf in enumerate(leaves)])

    return [leaves[i] for i in where], join


def _refuse_other_outputs(whole: Any, part: Any, rows: tuple[int, int]) -> None:
    """Refuse a network whose outputs for a batch are not those for its parts, one after another, by their shapes."""
    for (path, x), y in zip(jax.tree_util.tree_leaves_with_path(whole), jax.tree.leaves(part), strict=True):
        if (x.shape[:1], y.shape[:1]) != ((rows[0],), (rows[1],)) or x.shape[1:] != y.shape[1:]:
            name = jax.tree_util.keystr(path, simple=True, separator=".") or "the output"
            raise UserError(
                f"--accumulate takes batches in parts, and {name} of the network is {list(x.shape)} for a batch of "
                f"{rows[0]}, {list(y.shape)} for {rows[1]} of its examples: not one row an example"
            )
