"""Softmax over identities with a margin between them: the cosines of an embedding with the weights of each class."""

import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float

from jaxcv.types import Batch, Scalar


def margin_cross_entropy(
    outputs: Float[Array, "b k"],
    batch: Batch,
    *,
    angular: Scalar = 0.0,
    cosine: Scalar = 0.0,
    scale: Scalar = 30.0,
) -> dict[str, Float[Array, " b"]]:
    """Cross-entropy of scaled cosines, of which that of the right class is lowered: s (cos(theta + angular) - cosine).

    ArcFace is `angular=0.5, scale=64`; CosFace `cosine=0.35, scale=64`; both 0 is the softmax of normalised embeddings.
    Beyond theta = pi - angular, where the cosine would rise again, it is continued by
    cos(theta) - angular sin(angular), which falls with theta, as in the authors' code.

    Args:
        outputs: Cosines `[b, k]`, in [-1, 1].
        batch: `label` `[b]`, integers.
        angular: ArcFace's m, in radians, in [0, pi).
        cosine: CosFace's m.
        scale: Inverse temperature s; the fewer the classes, the smaller it may be.

    Returns:
        `identity`: `[b]`.

    References:
        Deng et al., ArcFace, https://arxiv.org/abs/1801.07698, equation 4 (m1 is 1 here).
        Wang et al., CosFace, https://arxiv.org/abs/1801.09414, equation 4.
    """
    cosines, label = outputs.astype(jnp.float32), batch["label"]
    angular, cosine = jnp.asarray(angular, jnp.float32), jnp.asarray(cosine, jnp.float32)
    right = jnp.arange(cosines.shape[1])[None] == label[:, None]
    own = jnp.where(right, cosines, 0.0).sum(1)
    # The sine's derivative is infinite at theta = 0 and pi.
    sine = jnp.sqrt(jnp.maximum(1 - jnp.square(own), 1e-7))
    turned = jnp.where(angular > 0, own * jnp.cos(angular) - sine * jnp.sin(angular), own)
    beyond = own < -jnp.cos(angular)
    lowered = jnp.where(beyond & (angular > 0), own - angular * jnp.sin(angular), turned) - cosine
    logits = scale * lax.select(right, jnp.broadcast_to(lowered[:, None], cosines.shape), cosines)
    return {"identity": optax.softmax_cross_entropy_with_integer_labels(logits, label)}
