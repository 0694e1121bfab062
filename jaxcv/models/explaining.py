"""Why a classifier gives its answer: gradients of a class's logit, by the pixels and by a feature map."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.extend import core
from jaxtyping import Array, Float, Int

from jaxcv.errors import UserError


def saliency(
    model: nn.Module, variables: Any, images: Float[Array, "b h w c"], labels: Int[Array, " b"]
) -> Float[Array, "b h w"]:
    """How much each pixel moves the logit of a class: its largest absolute gradient over the channels.

    Simonyan, Vedaldi, Zisserman: Deep inside convolutional networks, https://arxiv.org/abs/1312.6034, section 3.1.

    Args:
        model: a classifier, `(images, train=False) -> (logits [b k], features)`.
        variables: its parameters and statistics.
        images: in [0, 1].
        labels: the class of each image that is asked about.
    """

    def wanted(images: Array) -> Array:
        return _chosen(model.apply(variables, images, train=False)[0], labels)

    return jnp.abs(jax.grad(wanted)(images)).max(-1)


def grad_cam(
    model: nn.Module,
    variables: Any,
    images: Float[Array, "b h w c"],
    labels: Int[Array, " b"],
    *,
    layer: str = "",
) -> Float[Array, "b i j"]:
    """Where a feature map speaks for a class: its channels times the means of their gradients, summed, negative ones 0.

    Selvaraju et al.: Grad-CAM, https://arxiv.org/abs/1610.02391, equations 1 and 2.

    Args:
        model: as of `saliency`, and the other arguments.
        variables: its parameters and statistics.
        images: in [0, 1].
        labels: the class of each image that is asked about.
        layer: a feature map that the logits are computed from; "" is the last one of more than one position.

    Raises:
        UserError: there is no such map; says which there are.
    """

    def run(images: Array) -> tuple[Array, Array]:
        outputs: Any = model.apply(variables, images, train=False)
        logits, features = outputs
        return logits, features[_map_name(model, features, layer)]

    maps, logits_of = _from_within(run, images)
    gradients = jax.grad(lambda change: _chosen(logits_of(change), labels))(jnp.zeros_like(maps))
    return nn.relu((maps * gradients.mean((1, 2), keepdims=True)).sum(-1))


def _chosen(logits: Array, labels: Array) -> Array:
    """The sum of the logits of one class for each image, whose gradients do not meet."""
    if logits.ndim != 2:
        raise UserError(f"logits of shape {logits.shape}: expected one for each image and class")
    return jnp.take_along_axis(logits, labels[:, None], axis=1).sum()


def _map_name(model: nn.Module, features: dict[str, Array], layer: str) -> str:
    maps = [name for name, x in features.items() if x.ndim == 4 and x.shape[1] * x.shape[2] > 1]
    if layer in maps:
        return layer
    if layer or not maps:
        what = f"feature map {layer!r}" if layer else "feature map of more than one position"
        raise UserError(f"{type(model).__name__} has no {what}; it has {', '.join(maps) or 'none'}")
    return maps[-1]


def _from_within(run: Callable[[Array], tuple[Array, Array]], x: Array) -> tuple[Array, Callable[[Array], Array]]:
    """The second result of `run(x)`, and the first as a function of what is added to the second on the way.

    The steps of the traced function are taken one by one, and the change is added where the second result is computed:
    so any network of anybody's may be asked.
    """
    closed = jax.make_jaxpr(run)(x)
    result, within = closed.jaxpr.outvars

    def again(change: Array | None) -> tuple[Array, Array]:
        values: dict[Any, Any] = dict(zip(closed.jaxpr.constvars, closed.consts, strict=True))
        values |= dict(zip(closed.jaxpr.invars, [x], strict=True))

        def value(v: Any) -> Any:
            return v.val if isinstance(v, core.Literal) else values[v]

        for equation in closed.jaxpr.eqns:
            primitive, params = equation.primitive, equation.primitive.get_bind_params(equation.params)
            found = primitive.bind(*map(value, equation.invars), **params)
            values |= zip(equation.outvars, found if primitive.multiple_results else [found], strict=True)
            if change is not None and within in equation.outvars:
                values[within] += change
        return value(result), value(within)

    return again(None)[1], lambda change: again(change)[0]
