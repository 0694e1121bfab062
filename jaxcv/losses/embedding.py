"""Losses of embeddings: examples of the same class close together, others apart."""

from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jaxcv.errors import UserError
from jaxcv.ops import (
    cosine_similarity,
    paired_distances,
    paired_squared_distances,
    pairwise_cosine_similarity,
    pairwise_distances,
    pairwise_squared_distances,
)
from jaxcv.types import Batch, Scalar

Distance = Literal["squared", "euclidean", "cosine"]
Mining = Literal["hard", "semihard", "all", "random", "given"]
Form = Literal["mean", "active", "sum"]


def triplet(
    outputs: Float[Array, "b d"],
    batch: Batch,
    *,
    mining: Mining = "hard",
    distance: Distance = "squared",
    margin: Scalar | None = 0.2,
    form: Form = "mean",
    members: int = 1,
) -> dict[str, tuple[Float[Array, " b"], Float[Array, " b"]]]:
    """Triplet loss: an anchor, a positive of its class, a negative of another, mined within the batch.

    max(d(anchor, positive) - d(anchor, negative) + margin, 0). A batch must contain several classes, and several
    examples of each. Embeddings are not normalised here; FaceNet's have length one. Which triplets count:

    - `hard` (batch-hard): one for each anchor, the farthest positive and the nearest negative of the batch.
    - `semihard`: all whose negative is farther than the positive, by less than the margin.
    - `all` (batch-all): every triplet, O(b^3) of them; none is stored.
    - `random`: one for each anchor, the next positive after it in the batch and the next negative after the opposite
      position, cyclically. They are as random as the order of the batch.
    - `given`: the rows 3 i, 3 i + 1 and 3 i + 2 are anchor, positive and negative; labels are not looked at.

    Args:
        outputs: Embeddings `[b, d]`.
        batch: `label` `[b]`, integers; optionally `example_valid` `[b]`: False on padding, which does not count.
        mining: Which triplets count, as above.
        distance: d: `squared` |a - b|^2 as in FaceNet; `euclidean` |a - b| as in Hermans et al. and
            torch's `TripletMarginLoss`, whose margin is 1; `cosine` 1 - cos(a, b), which gives
            max(cos(a, n) - cos(a, p) + margin, 0).
        margin: How much farther the negative must be. None: the soft margin ln(1 + exp(d_p - d_n)), whose gradient
            never vanishes; not with `semihard`.
        form: What the training step makes of the batch: the `mean` over the triplets; over the `active` ones, whose
            loss is not 0; or their `sum`, as in FaceNet's equation 3.
        members: How many embeddings of equal size stand side by side in one, as of `models.EmbeddingEnsemble`; each
            mines its own triplets, and the loss is the mean of theirs.

    Returns:
        `triplet`: values `[b]`, for each anchor the mean over its triplets, and weights `[b]`, how many these are: 0
        for an anchor without a positive or without a negative.

    Raises:
        UserError: If there is no margin to be semi-hard within.

    References:
        Schroff, Kalenichenko, Philbin, FaceNet, https://arxiv.org/abs/1503.03832, equation 3.
        Hermans, Beyer, Leibe, In defense of the triplet loss, https://arxiv.org/abs/1703.07737, equations 5 and 7.
    """
    if members > 1:
        alone = partial(triplet, batch=batch, mining=mining, distance=distance, margin=margin, form=form)
        parts = outputs.reshape(len(outputs), members, -1) * members**0.5
        values, counts = jax.vmap(lambda x: alone(x)["triplet"], in_axes=1)(parts)
        total = jnp.sum(counts, axis=0)
        return {"triplet": (jnp.sum(values * counts, axis=0) / jnp.maximum(total, 1.0), total / members)}
    embeddings, label = outputs.astype(jnp.float32), batch["label"]
    valid = batch["example_valid"] if "example_valid" in batch else jnp.ones(label.shape, bool)
    if mining in ("all", "semihard"):
        values, counts = _every_triplet(embeddings, label, valid, mining, distance, margin, form)
    else:
        find = {"hard": _hardest, "random": _following, "given": _given}[mining]
        positive, negative, counts = find(embeddings, label, valid, distance)
        # Triplets are mined without gradient; only their 2 b distances, not all b^2, are differentiated.
        excess = _paired(embeddings, embeddings[positive], distance)
        excess -= _paired(embeddings, embeddings[negative], distance)
        values = _hinge(excess, margin)
        counts = jnp.where(form == "active", counts & (values > 0), counts).astype(jnp.float32)
    if form == "sum":  # the step divides by the sum of the weights
        values = values * jnp.sum(counts)
    return {"triplet": (values, lax.stop_gradient(counts))}


def contrastive(
    outputs: Float[Array, "b d"], batch: Batch, *, margin: Scalar = 1.0
) -> dict[str, tuple[Float[Array, " b"], Float[Array, " b"]]]:
    """Contrastive loss over all pairs of the batch: d^2 / 2 of the same class, max(margin - d, 0)^2 / 2 of two.

    d is the Euclidean distance. Pairs of one class, which are few, and of two weigh the same in total: the paper's sum
    over a set with as many of both.

    Args:
        outputs: Embeddings `[b, d]`.
        batch: `label` `[b]`, integers; optionally `example_valid` `[b]`.
        margin: Distance beyond which two classes are far enough apart.

    Returns:
        `same` and `different`: values `[b]`, for each example the mean over its pairs, and weights `[b]`, their number.

    References:
        Hadsell, Chopra, LeCun, Dimensionality reduction by learning an invariant mapping, 2006, equation 4.
    """
    embeddings = outputs.astype(jnp.float32)
    apart = pairwise_distances(embeddings, embeddings)
    same, different = _pairs(batch)
    return {
        "same": _mean_of_rows(jnp.square(apart) / 2, same),
        "different": _mean_of_rows(jnp.square(jax.nn.relu(margin - apart)) / 2, different),
    }


def pair_cross_entropy(
    outputs: Float[Array, "b *b"], batch: Batch
) -> dict[str, Float[Array, " b"] | tuple[Float[Array, " b"], Float[Array, " b"]]]:
    """Binary cross-entropy of whether two pictures are of the same class, of given pairs or all pairs of the batch.

    Args:
        outputs: Logits: `[b]` of pairs; or `[b, b]`, of each example with each, of which the diagonal does not count.
        batch: With logits `[b]`, `same` `[b]`; with `[b, b]`, `label` `[b]`; optionally `example_valid` `[b]`.

    Returns:
        Of given pairs `pairs` `[b]`. Of all, `same` and `different`: values `[b]`, for each example the mean over its
        pairs, and weights `[b]`, their number. So pairs of one class, which are few, and of two weigh the same.

    References:
        Koch, Zemel, Salakhutdinov, Siamese neural networks for one-shot image recognition, 2015, section 3.2.
    """
    logits = outputs.astype(jnp.float32)
    if logits.ndim == 1:
        return {"pairs": jax.nn.softplus(jnp.where(batch["same"], -logits, logits))}
    same, different = _pairs(batch)
    return {
        "same": _mean_of_rows(jax.nn.softplus(-logits), same),
        "different": _mean_of_rows(jax.nn.softplus(logits), different),
    }


def _pairs(batch: Batch) -> tuple[Array, Array]:
    """Which pairs are of the same class, an example with itself left out, and which of two: `[b, b]` each."""
    label = batch["label"]
    valid = batch["example_valid"] if "example_valid" in batch else jnp.ones(label.shape, bool)
    both, equal = valid[:, None] & valid[None, :], label[:, None] == label[None, :]
    return both & equal & ~jnp.eye(label.shape[0], dtype=bool), both & ~equal


def _mean_of_rows(values: Array, chosen: Array) -> tuple[Array, Array]:
    """The mean of each row over the chosen, and their number."""
    count = chosen.sum(1).astype(jnp.float32)
    return jnp.where(chosen, values, 0.0).sum(1) / jnp.maximum(count, 1.0), count


def _every_triplet(
    embeddings: Array, label: Array, valid: Array, mining: Mining, distance: Distance, margin: Scalar | None, form: Form
) -> tuple[Array, Array]:
    """Each anchor's mean over its triplets, and their number."""
    positives, negatives = _pairs({"label": label, "example_valid": valid})
    apart = _pairwise(embeddings, distance)
    excess = apart[:, :, None] - apart[:, None, :]  # anchor, positive, negative
    values = _hinge(excess, margin)
    chosen = positives[:, :, None] & negatives[:, None, :]
    if mining == "semihard":
        if margin is None:
            raise UserError("mining='semihard' needs a margin: triplets are semi-hard within it")
        chosen &= (excess < 0) & (excess + margin >= 0)
    if form == "active":
        chosen &= values > 0
    count = chosen.sum((1, 2)).astype(jnp.float32)
    return jnp.where(chosen, values, 0.0).sum((1, 2)) / jnp.maximum(count, 1.0), count


def _hardest(embeddings: Array, label: Array, valid: Array, distance: Distance) -> tuple[Array, Array, Array]:
    """Each anchor's farthest positive and nearest negative, and whether there are such."""
    positives, negatives = _pairs({"label": label, "example_valid": valid})
    apart = _pairwise(lax.stop_gradient(embeddings), "squared" if distance == "euclidean" else distance)
    positive = _argmin(jnp.where(positives, -apart, jnp.inf))
    negative = _argmin(jnp.where(negatives, apart, jnp.inf))
    return positive, negative, positives.any(1) & negatives.any(1)


def _following(embeddings: Array, label: Array, valid: Array, distance: Distance) -> tuple[Array, Array, Array]:
    """Each anchor's next positive, and the next negative after the opposite position."""
    del embeddings, distance
    positives, negatives = _pairs({"label": label, "example_valid": valid})
    count = label.shape[0]
    row, column = jnp.arange(count)[:, None], jnp.arange(count)[None, :]
    positive = _argmin(jnp.where(positives, ((column - row) % max(count, 1)).astype(jnp.float32), jnp.inf))
    opposite = (column - row - count // 2) % max(count, 1)
    negative = _argmin(jnp.where(negatives, opposite.astype(jnp.float32), jnp.inf))
    return positive, negative, positives.any(1) & negatives.any(1)


def _given(embeddings: Array, label: Array, valid: Array, distance: Distance) -> tuple[Array, Array, Array]:
    """The two rows after each third one."""
    del embeddings, distance
    rows = jnp.arange(label.shape[0])
    positive, negative = (jnp.minimum(rows + i, max(label.shape[0] - 1, 0)) for i in (1, 2))
    whole = (rows % 3 == 0) & (rows + 2 < label.shape[0])
    return positive, negative, whole & valid & valid[positive] & valid[negative]


def _hinge(excess: Array, margin: Scalar | None) -> Array:
    return jax.nn.softplus(excess) if margin is None else jax.nn.relu(excess + margin)


def _argmin(values: Array) -> Array:
    """Index of the smallest value of each row, the first of equals.

    XLA's `argmin` is not vectorised on a CPU: two of them over 512 x 512 take longer than the rest of the loss.
    """
    count = values.shape[1]
    hit = values == values.min(1, keepdims=True, initial=jnp.inf)
    return jnp.where(hit, jnp.arange(count)[None], max(count - 1, 0)).min(1, initial=max(count - 1, 0))


def _paired(a: Array, b: Array, distance: Distance) -> Array:
    if distance == "cosine":
        return 1 - cosine_similarity(a, b)
    return paired_squared_distances(a, b) if distance == "squared" else paired_distances(a, b)


def _pairwise(x: Array, distance: Distance) -> Array:
    if distance == "cosine":
        return 1 - pairwise_cosine_similarity(x, x)
    return pairwise_squared_distances(x, x) if distance == "squared" else pairwise_distances(x, x)
