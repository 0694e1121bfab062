"""Optimizers that experiments share; rates and strengths may be traced.

The learning rate rises linearly from 0 to its peak and falls to 0 along half a cosine: see `schedules.warmup_cosine`.
They tell their rates to the records of a run; so may any other optimizer, by `with_rates`.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from optax.contrib import MuonDimensionNumbers
from optax.contrib import muon as optax_muon

from jaxcv.errors import UserError
from jaxcv.train.schedules import warmup_cosine
from jaxcv.types import Scalar


def adamw(
    lr: Scalar,
    *,
    steps: int,
    warmup: float = 0.05,
    weight_decay: Scalar = 1e-2,
    mask: Callable[[Any], Any] | None = None,
    clip: Scalar | None = None,
    accumulate: int = 1,
) -> optax.GradientTransformation:
    """AdamW with warm-up and cosine, clipping, and the gradients of several batches averaged for one update.

    Loshchilov, Hutter: Decoupled weight decay regularization, https://arxiv.org/abs/1711.05101, algorithm 2.

    Args:
        lr: peak learning rate.
        steps: batches trained on.
        warmup: fraction of the updates over which the rate rises.
        weight_decay: decoupled: times the rate and the parameter.
        mask: of the parameters that decay, such as `kernels`; None: all.
        clip: largest global norm of the gradients; None: no clipping.
        accumulate: batches whose gradients are averaged for one update.

    Raises:
        UserError: `accumulate` below 1.
    """
    if accumulate < 1:
        raise UserError(f"accumulate={accumulate}: expected at least 1 batch an update")
    schedule = _schedule(lr, steps // accumulate, warmup)
    optimizer = _clipped(optax.adamw(schedule, weight_decay=weight_decay, mask=mask), clip)
    if accumulate > 1:
        optimizer = optax.MultiSteps(optimizer, accumulate).gradient_transformation()
    return with_rates(optimizer, {"learning_rate": schedule})


def sgd(
    lr: Scalar,
    *,
    steps: int,
    warmup: float = 0.05,
    momentum: Scalar = 0.9,
    weight_decay: Scalar = 5e-4,
    mask: Callable[[Any], Any] | None = None,
) -> optax.GradientTransformation:
    """SGD with Nesterov momentum, warm-up and cosine; weight decay is added to the gradients.

    Sutskever et al.: On the importance of initialization and momentum in deep learning, 2013, section 2.

    Args:
        lr: peak learning rate.
        steps: updates of the parameters.
        warmup: fraction of them over which the rate rises.
        momentum: decay of the sum of gradients.
        weight_decay: factor of the parameters in the gradients.
        mask: of the parameters that decay, such as `kernels`; None: all.
    """
    decay, schedule = optax.add_decayed_weights(weight_decay, mask=mask), _schedule(lr, steps, warmup)
    optimizer = optax.chain(decay, optax.sgd(schedule, momentum=momentum, nesterov=True))
    return with_rates(optimizer, {"learning_rate": schedule})


def muon(
    lr: Scalar,
    *,
    adam_lr: Scalar,
    steps: int,
    warmup: float = 0.05,
    weight_decay: Scalar = 1e-2,
    clip: Scalar | None = None,
    first_and_last: tuple[str, ...] = ("stem", "head"),
) -> optax.GradientTransformation:
    """Muon for the kernels of convolutions, AdamW for all other parameters, both with warm-up and cosine.

    K. Jordan et al.: Muon: An optimizer for hidden layers in neural networks, 2024,
    https://kellerjordan.github.io/posts/muon/.

    Args:
        lr: peak learning rate of Muon.
        adam_lr: peak learning rate of AdamW.
        steps: updates of the parameters.
        warmup: fraction of them over which the rates rise.
        weight_decay: of both, decoupled.
        clip: largest global norm of the gradients; None: no clipping.
        first_and_last: names of the modules whose convolutions are left to AdamW.
    """

    def matrices(params: Any) -> Any:
        """Which axes of a kernel are the matrix that Muon makes orthogonal; None for what is left to AdamW."""

        def axes(path: Any, leaf: Any) -> MuonDimensionNumbers | None:
            inner = leaf.ndim == 4 and not {part.key for part in path} & set(first_and_last)
            return MuonDimensionNumbers((0, 1, 2), 3) if inner else None

        return jax.tree_util.tree_map_with_path(axes, params)

    schedule, adam_schedule = _schedule(lr, steps, warmup), _schedule(adam_lr, steps, warmup)
    optimizer = optax_muon(
        schedule,
        weight_decay=weight_decay,
        adam_learning_rate=adam_schedule,
        adam_weight_decay=weight_decay,
        muon_weight_dimension_numbers=matrices,
    )
    return with_rates(_clipped(optimizer, clip), {"learning_rate": schedule, "learning_rate_adam": adam_schedule})


class _WithRates(optax.GradientTransformationExtraArgs):
    """An optimizer that knows its rates."""

    rates: Mapping[str, optax.Schedule]


def with_rates(
    optimizer: optax.GradientTransformation, rates: Mapping[str, optax.Schedule]
) -> optax.GradientTransformation:
    """The same optimizer, whose learning rates stand in the records of a run.

    Args:
        optimizer: any.
        rates: name in the records to the rate as a function of the updates made.
    """
    known = _WithRates(*optax.with_extra_args_support(optimizer))
    known.rates = dict(rates)
    return known


def rates_of(optimizer: optax.GradientTransformation, opt_state: Any, updates: jax.Array) -> dict[str, jax.Array]:
    """The learning rates of an optimizer after so many updates; of one that does not say, what its state holds.

    Args:
        optimizer: any; one that is wrapped again, as by `optax.chain`, is not known by its rates any more.
        opt_state: its state, in which `optax.inject_hyperparams` keeps a learning rate.
        updates: made before.
    """
    if isinstance(optimizer, _WithRates):
        return {name: jnp.asarray(rate(updates), jnp.float32) for name, rate in optimizer.rates.items()}
    stated = [rate for _, rate in optax.tree.get_all_with_path(opt_state, "learning_rate")]
    held = [rate for rate in stated if isinstance(rate, jax.Array) and rate.shape == ()]
    return {"learning_rate": jnp.asarray(held[0], jnp.float32)} if len(held) == 1 else {}


def _schedule(peak: Scalar, updates: int, warmup: float) -> optax.Schedule:
    return warmup_cosine(peak, warmup_steps=int(updates * warmup), total_steps=updates)


def _clipped(optimizer: optax.GradientTransformation, clip: Scalar | None) -> optax.GradientTransformation:
    return optimizer if clip is None else optax.chain(optax.clip_by_global_norm(clip), optimizer)
