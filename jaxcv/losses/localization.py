"""Losses of localization, one object or none per image: `(outputs, batch) -> {term: [b]}`, float32, unreduced."""

from typing import Literal

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from jaxcv.ops import box_convert, largest_box
from jaxcv.types import Batch, Scalar


def localization(
    outputs: Float[Array, "b d"],
    batch: Batch,
    *,
    form: Literal["log", "squares"] = "log",
    object_weight: Scalar = 1.0,
    box_weight: Scalar = 1.0,
    class_weight: Scalar = 1.0,
) -> dict[str, Float[Array, " b"]]:
    """The loss on y = [p_c, b_x, b_y, b_h, b_w, c_1 .. c_n]: is there an object, where, and of which class.

    The prediction is p_c = sigma(outputs_0) with sigma the logistic function, b = outputs_1..4, and
    c = softmax(outputs_5..). The target is the largest `valid` box of the image: p_c = 1, its centre, height and width
    as fractions of the image's, and its class; or p_c = 0 where there is none.

    - `log`: -log p_c or -log(1 - p_c); mean of the four squared errors of the box; -log c of the right class.
    - `squares`: (p_c - 1)² or p_c²; sum of the four squared errors of the box; sum over classes of (c - target)².
      With weights 1 the terms add up to |ŷ - y|² where there is an object, and to (ŷ_1 - y_1)² where there is none.

    Both forms have `box` and `class` 0 where there is no object.

    Args:
        outputs: `[b, 5 + n]`, raw.
        batch: `image` `[b, h, w, c]`, read for its size only; `boxes` `[b, m, 4]` xyxy in pixels; `classes` `[b, m]`;
            `valid` `[b, m]`.
        form: "log" or "squares".
        object_weight: Factor of `object`.
        box_weight: Factor of `box`.
        class_weight: Factor of `class`.

    Returns:
        `object`, `box`, `class`, each `[b]`, times its weight.

    Raises:
        ValueError: If `form` is neither.
    """
    if form not in ("log", "squares"):
        raise ValueError(f"form={form!r}: expected 'log' or 'squares'")
    outputs = outputs.astype(jnp.float32)
    height, width = batch["image"].shape[1:3]
    index, present = largest_box(batch["boxes"], batch["valid"])
    box = jnp.take_along_axis(batch["boxes"], index[:, None, None], axis=1)[:, 0]
    # Padding may hold any value: as zeros, it gives no NaN before it is masked.
    box = box_convert(jnp.where(present[:, None], box, 0.0), source="xyxy", target="cxcywh")
    target = jnp.stack([box[:, 0] / width, box[:, 1] / height, box[:, 3] / height, box[:, 2] / width], axis=-1)
    label = jnp.where(present, jnp.take_along_axis(batch["classes"], index[:, None], axis=1)[:, 0], 0)

    errors = jnp.square(outputs[:, 1:5] - target)
    p_c = present.astype(jnp.float32)
    if form == "log":
        object_ = optax.sigmoid_binary_cross_entropy(outputs[:, 0], p_c)
        box_, class_ = errors.mean(-1), optax.softmax_cross_entropy_with_integer_labels(outputs[:, 5:], label)
    else:
        object_ = jnp.square(jax.nn.sigmoid(outputs[:, 0]) - p_c)
        one_hot = jax.nn.one_hot(label, outputs.shape[1] - 5)
        box_, class_ = errors.sum(-1), jnp.square(jax.nn.softmax(outputs[:, 5:]) - one_hot).sum(-1)
    return {
        "object": object_weight * object_,
        "box": box_weight * jnp.where(present, box_, 0.0),
        "class": class_weight * jnp.where(present, class_, 0.0),
    }
