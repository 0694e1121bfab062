"""The pure functions of training: `init, step, chunk, evaluate, infer`. They know no file, no clock and no device.

Each is a function of an `Experiment` (whose hyperparameters may be traced) and arrays, with static shapes; anybody may
jit, vmap, differentiate and scan them, inside any other trace. Nothing is kept here between two calls.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxcv.errors import UserError
from jaxcv.ops.initializers import initialize
from jaxcv.ops.platform import kept_apart
from jaxcv.train import accumulation, microbatches, parts
from jaxcv.train.experiment import Experiment
from jaxcv.train.optimizers import rates_of
from jaxcv.train.state import TrainState
from jaxcv.train.terms import mean, shown, weighted
from jaxcv.types import Batch

Logs = dict[str, jax.Array]
"""`loss`, every term under its name, `grad_norm`, rates if the optimizer tells them: float32 scalars of one step; and
`finite`, bool."""


def init(experiment: Experiment, variables: Any = None) -> TrainState:
    """The state before the first step, around the given variables of the model or fresh ones."""
    init_key, train_key = jax.random.split(jax.random.key(experiment.seed))
    spec = experiment.train_data.spec
    inputs = [jnp.zeros((1, *spec[name].shape[1:]), jnp.float32) for name in experiment.inputs]
    if variables is None:
        variables = initialize(experiment.model, init_key, *inputs)
    collections = dict(variables)
    params = collections.pop("params", {})
    with jax.numpy_dtype_promotion("standard"):  # as in `step`
        opt_state = experiment.optimizer.init(parts.split(params, experiment.trainable)[0])
    state = TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        collections=collections,
        opt_state=opt_state,
        key=train_key,
        finite=jnp.array(True),
        ema=None if experiment.ema is None else jax.tree.map(jnp.copy, {"params": params, **collections}),
    )
    # A weakly typed number, such as a rate within the optimizer's state, would have the first step traced twice.
    return jax.tree.map(_strongly_typed, state)


def step(
    experiment: Experiment,
    state: TrainState,
    batch: Batch,
    *,
    variant: str | None = None,
    accumulate: int = 1,
    remat: bool = False,
    whole: Callable[[Any], Any] = lambda tree: tree,
) -> tuple[TrainState, Logs]:
    """One update.

    Args:
        experiment: at hyperparameters that may be traced.
        state: before the step.
        batch: fields with the examples first; images uint8, or floats in [0, 1].
        variant: which of several augmentations; None: the first, or the only one.
        accumulate: parts in which the network takes the batch, one after another, for less memory. The loss is of the
            whole batch; batch statistics and dropout are of a part.
        remat: whether the backward pass computes all but convolutions and matrix products again, for less memory.
        whole: of the parameters, before the network is given them; see `sharding.whole`.
    """
    batch = augmented(experiment, state, batch, variant)
    how: Any = {"remat": remat, "whole": whole}
    objective = _loss(experiment, state, batch, **how)
    trained, frozen = parts.split(state.params, experiment.trainable)
    if accumulate == 1:
        (loss, (terms, collections, _)), grads = jax.value_and_grad(objective, has_aux=True)(trained)
    else:
        forward_of, loss_of = partial(_forward, experiment, state, **how), partial(_total, experiment, batch)
        found = microbatches.loss_and_gradient(forward_of, loss_of, state.collections, trained, batch, accumulate)
        loss, terms, collections, grads = found
    # What a line search asks for (`optax.lbfgs`); other optimizers leave it aside.
    asked = {"value": loss, "grad": grads, "value_fn": lambda trained: objective(trained)[0]}
    update = optax.with_extra_args_support(experiment.optimizer).update
    with jax.numpy_dtype_promotion("standard"):  # optax raises floats to integer powers
        updates, opt_state = update(grads, state.opt_state, trained, **asked)
    params = parts.merge(optax.apply_updates(trained, updates), frozen)
    grad_norm = optax.tree.norm(grads)
    rates = rates_of(experiment.optimizer, opt_state, accumulation.updates_made(state.opt_state, state.step))
    finite = state.finite & jnp.isfinite(loss) & jnp.isfinite(grad_norm)
    ema = state.ema
    if experiment.ema is not None:
        count = accumulation.updates_made(state.opt_state, state.step)
        moved = accumulation.has_updated(state.opt_state, opt_state, updates)
        new_ema = _moving_average(ema, {"params": params, **collections}, experiment.ema, count)
        ema = new_ema if moved is None else jax.tree.map(partial(jnp.where, moved), new_ema, ema)
    proposed = TrainState(
        step=state.step + 1,
        params=params,
        collections=collections,
        opt_state=opt_state,
        key=state.key,
        finite=finite,
        ema=ema,
    )
    # A step that is not finite changes nothing, so that the state before it can be saved and looked into.
    new = jax.tree.map(partial(_select, finite), proposed, state).replace(finite=finite)
    return new, {"loss": loss, **terms, "grad_norm": grad_norm, **rates, "finite": finite}


def gather(data: Batch, indices: jax.Array) -> Batch:
    """The batch of the examples at `indices` [b]; -1 pads: `example_valid` is False there, and the rest any example's.

    Args:
        data: fields with all examples first, as `resident` of `jaxcv.types.Batches` gives them.
        indices: int32.
    """
    rows = jnp.maximum(indices, 0)
    batch = {name: jnp.asarray(array).at[rows].get(mode="promise_in_bounds") for name, array in data.items()}
    return {**batch, "example_valid": batch["example_valid"] & (indices >= 0)}


def chunk(
    one: Callable[[Any, Batch], tuple[Any, Logs]],
    state: Any,
    data: Batch,
    indices: jax.Array,
    count: Any = None,
    *,
    take: Callable[[Batch, jax.Array], Batch] = gather,
) -> tuple[Any, Logs]:
    """Several steps in one loop on the device, over batches that are gathered there.

    Args:
        one: `(state, batch) -> (state, logs)`, a step.
        state: before the first of them.
        data: as in `gather`.
        indices: `[k b]` int32, of each step's examples.
        count: of the steps, at most `k`, which may be traced: one program then serves every length. None: `k`, and the
            loop can be differentiated.
        take: `(data, indices) -> batch`, where not all of the data is on this device.

    Returns:
        The state after the last step; and the logs, each `[k]`, zeros from `count` on.
    """

    def taken(state: Any, rows: jax.Array) -> tuple[Any, Logs]:
        return one(state, take(data, rows))

    if count is None:
        return jax.lax.scan(taken, state, indices)

    def body(i: jax.Array, carry: tuple[Any, Logs]) -> tuple[Any, Logs]:
        state, logs = taken(carry[0], jax.lax.dynamic_index_in_dim(indices, i, keepdims=False))
        return state, {name: jax.lax.dynamic_update_index_in_dim(carry[1][name], x, i, 0) for name, x in logs.items()}

    shapes = jax.eval_shape(taken, state, indices[0])[1]
    empty = {name: jnp.zeros((len(indices), *x.shape), x.dtype) for name, x in shapes.items()}
    return jax.lax.fori_loop(0, count, body, (state, empty))


def intermediates(
    experiment: Experiment, state: TrainState, batch: Batch, *, variant: str | None = None
) -> tuple[Any, ...]:
    """What `step` computes on its way: the augmented batch, outputs, features, unreduced terms, gradients."""
    batch, objective = _objective(experiment, state, batch, variant)
    trained, _ = parts.split(state.params, experiment.trainable)
    (_, (_, _, (outputs, features))), grads = jax.value_and_grad(objective, has_aux=True)(trained)
    return batch, outputs, features, dict(experiment.loss(outputs, batch)), grads


def evaluate(
    experiment: Experiment, variables: Any, batch: Batch
) -> tuple[Any, dict[str, tuple[jax.Array, jax.Array]], jax.Array]:
    """Predictions, or raw outputs where there are none; sum and weight of every loss term; each example's loss [b]."""
    batch = _floats(batch)
    outputs, _ = applied(experiment, variables, *(batch[name] for name in experiment.inputs), train=False)
    terms = weighted(experiment.loss(outputs, batch), batch)
    sums = {name: (jnp.sum(values * weights), jnp.sum(weights)) for name, (values, weights) in terms.items()}
    each = jax.tree.reduce(jnp.add, [jax.vmap(mean)(*term) for term in terms.values()])
    return (outputs if experiment.predict is None else experiment.predict(outputs)), sums, each


def evaluate_all(
    experiment: Experiment,
    variables: Any,
    data: Batch,
    indices: jax.Array,
    *,
    take: Callable[[Batch, jax.Array], Batch] = gather,
) -> tuple[Any, Any, jax.Array]:
    """As `evaluate`, of the batches that `take` makes of `indices` `[k b]`; every result has `k` first."""
    return jax.lax.map(lambda rows: evaluate(experiment, variables, take(data, rows)), indices)


def infer(experiment: Experiment, variables: Any, *inputs: jax.Array) -> Any:
    """Predictions for inputs without truths: uint8 (or [0, 1] float) images."""
    floats = [_floats({"image": x})["image"] for x in inputs]
    outputs, _ = applied(experiment, variables, *floats, train=False)
    return outputs if experiment.predict is None else experiment.predict(outputs)


def shapes(experiment: Experiment, state: TrainState, batch: Batch, variant: str | None = None) -> dict[str, Any]:
    """Shapes and dtypes of what a step is given and computes on its way, without computing it."""

    def on_the_way(state: TrainState, batch: Batch) -> dict[str, Any]:
        changed = augmented(experiment, state, batch, variant)
        trained, _ = parts.split(state.params, experiment.trainable)
        _, (_, _, (outputs, _)) = _loss(experiment, state, changed)(trained)
        given = {"params": state.params, "collections": state.collections, "batch": _floats(batch)}
        return {**given, "augmented": changed, "outputs": outputs}

    return jax.eval_shape(on_the_way, state, batch)


def _objective(
    experiment: Experiment, state: TrainState, batch: Batch, variant: str | None
) -> tuple[Batch, Callable[[Any], Any]]:
    """The augmented batch, and the loss on it as a function of the trained parameters."""
    batch = augmented(experiment, state, batch, variant)
    return batch, _loss(experiment, state, batch)


def _keys(state: TrainState) -> tuple[jax.Array, jax.Array]:
    """Of the augmentation and of dropout at this step."""
    augment_key, dropout_key = jax.random.split(jax.random.fold_in(state.key, state.step))
    return augment_key, dropout_key


def augmented(experiment: Experiment, state: TrainState, batch: Batch, variant: str | None = None) -> Batch:
    """The batch as the step at `state` sees it: floats, changed at random."""
    batch, augment = _floats(batch), experiment.augmentation(variant)
    return batch if augment is None else kept_apart(augment, state.step)(_keys(state)[0], batch)


def _loss(
    experiment: Experiment,
    state: TrainState,
    batch: Batch,
    *,
    remat: bool = False,
    whole: Callable[[Any], Any] = lambda tree: tree,
) -> Callable[[Any], Any]:
    """The loss as a function of the trained parameters; also its terms, the new collections, outputs and features."""
    forward = _forward(experiment, state, batch, remat=remat, whole=whole)

    def objective(trained: Any) -> tuple[jax.Array, Any]:
        outputs, features, changed = forward(trained)
        loss, terms = _total(experiment, batch, outputs)
        return loss, (terms, changed, (outputs, features))

    return objective


def _forward(
    experiment: Experiment,
    state: TrainState,
    batch: Batch,
    *,
    remat: bool = False,
    whole: Callable[[Any], Any] = lambda tree: tree,
    part: Any = None,
    collections: Any = None,
) -> Callable[[Any], tuple[Any, Any, Any]]:
    """Outputs, features and new collections as a function of the trained parameters; of a part by its number."""
    _, frozen = parts.split(state.params, experiment.trainable)
    before = state.collections if collections is None else collections
    dropout = _keys(state)[1] if part is None else jax.random.fold_in(_keys(state)[1], part)

    def apply(params: Any, *inputs: Any) -> Any:
        rngs, mutable = {"dropout": dropout}, list(before)
        with parts.running_frozen(state.params, experiment.trainable):
            variables = {"params": params, **before}
            return applied(experiment, variables, *inputs, train=True, mutable=mutable, rngs=rngs)

    def forward(trained: Any) -> tuple[Any, Any, Any]:
        params = whole(parts.merge(trained, frozen))
        run = jax.checkpoint(apply, policy=_is_costly) if remat else apply
        (outputs, features), changed = run(params, *(batch[name] for name in experiment.inputs))
        return outputs, features, parts.keep_frozen(changed, before, state.params, experiment.trainable)

    return forward


def _total(experiment: Experiment, batch: Batch, outputs: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The loss, and its terms."""
    terms = {name: mean(*v) for name, v in weighted(experiment.loss(outputs, batch), batch).items()}
    return jax.tree.reduce(jnp.add, terms), terms


def _is_costly(primitive: Any, *_: Any, **__: Any) -> bool:
    """Whether the result of an operation is kept for the backward pass; "form" stands for several on a CPU."""
    return primitive.name in ("conv_general_dilated", "dot_general", "form")


def applied(experiment: Experiment, variables: Any, *inputs: Any, **how: Any) -> Any:
    """As `model.apply`, computed in the experiment's `compute_dtype`, from float32 and to float32.

    Parameters and inputs are rounded to it, and the outputs are float32 again. Batch statistics keep their digits, as
    boxes do: bfloat16 does not resolve pixels beyond 256.

    Raises:
        UserError: the model returns something else than `(outputs, features)`.
    """
    if experiment.compute_dtype != "float32":
        rounded = partial(_cast, dtype=jnp.dtype(experiment.compute_dtype))
        variables = {**variables, "params": jax.tree.map(rounded, variables["params"])}
        named = zip(experiment.inputs, inputs, strict=False)
        inputs = tuple(x if name in ("boxes", "proposals") else rounded(x) for name, x in named)
    result = experiment.model.apply(variables, *inputs, **how)
    found, *changed = result if "mutable" in how else (result,)
    if not (isinstance(found, tuple) and len(found) == 2 and isinstance(found[1], Mapping)):
        name, what = type(experiment.model).__name__, shown(found)
        raise UserError(f"{name} returns {what}; expected (outputs, features), where features is a dict of stages")
    found = jax.tree.map(partial(_cast, dtype=jnp.dtype(jnp.float32)), found[0]), found[1]
    return (found, *changed) if changed else found


def _cast(x: Any, dtype: jnp.dtype) -> Any:
    """Between float32 and bfloat16; other arrays as they are."""
    return x.astype(dtype) if x.dtype in (jnp.float32, jnp.bfloat16) else x


def _moving_average(old: Any, new: Any, decay: Any, updates: jax.Array) -> Any:
    """Polyak averaging whose decay starts at 0.1 and grows to `decay`, so that the first values are soon forgotten."""
    count = updates.astype(jnp.float32)
    fraction = 1.0 - jnp.minimum(decay, (1.0 + count) / (10.0 + count))
    # Where nothing moved, the bits stay: of what is frozen, even the sign of a zero.
    return jax.tree.map(lambda o, n: jax.lax.select(n == o, o, (o + fraction * (n - o)).astype(n.dtype)), old, new)


def _select(condition: jax.Array, new: Any, old: Any) -> Any:
    if jnp.issubdtype(new.dtype, jax.dtypes.prng_key):
        return new  # the key never changes
    return jax.lax.select(condition, new, old)


def _strongly_typed(leaf: Any) -> Any:
    return leaf if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else jax.lax.convert_element_type(leaf, leaf.dtype)


def _floats(batch: Batch) -> Batch:
    image = batch["image"]
    return {**batch, "image": image.astype(jnp.float32) / 255.0} if image.dtype == jnp.uint8 else batch
