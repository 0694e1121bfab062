"""What units see in images."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp


def peaks(outputs: Mapping[str, Any]) -> dict[str, Any]:
    """The largest activation of each unit in each image, where it is, and the unit's own picture.

    Args:
        outputs: of `models.Seer`.

    Returns:
        `peaks` `[b, n]`, `places` `[b, n, 2]` as fractions of width and height, `own_peaks` `[b, n]`, and `pictures`
        `[b, n, h, w, c]` uint8, the last two the same for every image.
    """
    count = outputs["peaks"].shape[0]
    pixels = jnp.round(255 * jnp.clip(outputs["pictures"], 0, 1)).astype(jnp.uint8)
    same = {"own_peaks": outputs["own_peaks"], "pictures": pixels}
    repeated = {name: jnp.broadcast_to(x[None], (count, *x.shape)) for name, x in same.items()}
    return {"peaks": outputs["peaks"], "places": outputs["places"], **repeated}
