"""Predictions that are pictures."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from jaxcv.types import Stylised


def stylised(outputs: Mapping[str, Any]) -> Stylised:
    """The picture that was made, its values clipped to [0, 1].

    Args:
        outputs: `image`, `[b, h, w, 3]`, and whatever else the network gives.

    Returns:
        `picture`, `[b, h, w, 3]` float32.
    """
    return Stylised(jnp.clip(outputs["image"].astype(jnp.float32), 0.0, 1.0))
