"""The loss of activation maximisation: `(outputs, batch) -> {term: [b]}`, float32, unreduced."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxcv.losses.style import total_variation
from jaxcv.types import Batch, Scalar


def excitement(
    outputs: Mapping[str, Any], batch: Batch, *, decay: Scalar = 0.1, variation: Scalar = 1.0
) -> dict[str, Float[Array, " b"]]:
    """Minus the activations that pictures are to make large, and two regularisers of these pictures.

    Args:
        outputs: `pictures` `[n, h, w, c]` and `excitements` `[n]`, the activation of a unit in each.
        batch: `image` `[b, h, w, c]`, read for the number of examples, which all have the same loss.
        decay: factor of the mean squared distance of pixels from middle grey: Simonyan et al.,
            https://arxiv.org/abs/1312.6034, section 2.
        variation: factor of the total variation: Mahendran, Vedaldi, https://arxiv.org/abs/1412.0035, section 3.

    Returns:
        `excitement`, `decay`, `variation`, each `[b]`, summed over the pictures.
    """
    pictures, count = outputs["pictures"].astype(jnp.float32), batch["image"].shape[0]
    terms = {
        "excitement": -outputs["excitements"].astype(jnp.float32).sum(),
        "decay": decay * jnp.square(pictures - 0.5).mean((1, 2, 3)).sum(),
        "variation": variation * total_variation({"image": pictures}, batch)["variation"].sum(),
    }
    return {name: jnp.broadcast_to(jnp.asarray(value, jnp.float32), (count,)) for name, value in terms.items()}
