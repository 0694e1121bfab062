"""Losses of style transfer: `(outputs, batch) -> {term: [b]}`, float32, unreduced.

`outputs` is a dict: `image` `[b, h, w, 3]`, the picture that is made; `features`, its feature maps by layer,
`[b, h, w, c]`; and what they should be, `content`, feature maps by layer, and `grams`, the Gram matrices of `s` style
pictures by layer, `[s, c, c]`, each divided by the h w c of its own map (`ops.gram_matrix` with `normalize`).
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxcv.ops import gram_matrix
from jaxcv.types import Batch, Scalar


def content(
    outputs: Mapping[str, Any],
    batch: Batch,
    *,
    layers: Mapping[str, Scalar],
    normalization: Literal["course", "gatys"] = "course",
) -> dict[str, Float[Array, " b"]]:
    """J_content = 1 / (2 n_H n_W n_C) sum of (a[C] - a[G])^2, summed over layers times their weights.

    Args:
        outputs: `features` and `content`, maps `[b, h, w, c]` by layer; see above.
        batch: not read.
        layers: weight of each layer.
        normalization: "gatys" has the factor 1/2 alone: Gatys et al., CVPR 2016, equation 1.

    Returns:
        `content` `[b]`.

    Raises:
        ValueError: If `normalization` is neither.
    """
    if normalization not in ("course", "gatys"):
        raise ValueError(f"normalization={normalization!r}: expected 'course' or 'gatys'")
    total = jnp.zeros(outputs["image"].shape[0], jnp.float32)
    for layer, weight in layers.items():
        ours, wanted = (outputs[name][layer].astype(jnp.float32) for name in ("features", "content"))
        size = ours[0].size if normalization == "course" else 1
        total += weight * jnp.square(ours - wanted).sum((1, 2, 3)) / (2 * size)
    return {"content": total}


def style(
    outputs: Mapping[str, Any],
    batch: Batch,
    *,
    layers: Mapping[str, Scalar],
    styles: Sequence[Scalar] = (1.0,),
) -> dict[str, Float[Array, " b"]]:
    """J_style = 1 / (2 n_H n_W n_C)^2 sum of (G[S] - G[G])^2, summed over layers and styles times their weights.

    The factor is that of Gatys et al., CVPR 2016, equation 4. A style picture may have another size than the one that
    is made: each Gram matrix G is divided by the n_H n_W n_C of its own map, which is the same where the sizes agree.

    Args:
        outputs: `features`, maps `[b, h, w, c]` by layer, and `grams`, `[s, c, c]` by layer; see above.
        batch: may hold `regions` `[b, s, h, w]`, 0 to 255: where each style belongs. A map is then multiplied by the
            region, resized to it, and its Gram matrix divided by the sum of the region's squares in place of n_H n_W:
            Gatys et al., Controlling perceptual factors in neural style transfer, CVPR 2017, section 4.
        layers: weight of each layer.
        styles: weight of each style picture.

    Returns:
        `style` `[b]`.

    Raises:
        ValueError: If there are more or fewer weights than styles.
    """
    total = jnp.zeros(outputs["image"].shape[0], jnp.float32)
    for layer, weight in layers.items():
        ours, wanted = outputs["features"][layer].astype(jnp.float32), outputs["grams"][layer]
        if len(styles) != len(wanted):
            raise ValueError(f"{len(styles)} weights for {len(wanted)} styles")
        whole = None if "regions" in batch else gram_matrix(ours, normalize=True)
        for i, factor in enumerate(styles):
            gram = _guided(ours, batch["regions"][:, i]) if whole is None else whole
            total += weight * factor * jnp.square(gram - wanted[i][None]).sum((1, 2)) / 4
    return {"style": total}


def _guided(features: Float[Array, "b h w c"], region: Any) -> Float[Array, "b c c"]:
    """The Gram matrix of the part of a map that lies in a region [b h w]; zeros where none does."""
    b, height, width, channels = features.shape
    share = jax.image.resize(jnp.asarray(region, jnp.float32) / 255, (b, height, width), "linear")
    area = jnp.square(share).sum((1, 2)) * channels
    gram = gram_matrix(features * share[..., None])
    return gram / jnp.where(area > 0, area, 1.0)[:, None, None]


def total_variation(outputs: Mapping[str, Any], batch: Batch) -> dict[str, Float[Array, " b"]]:
    """Squared differences of every two neighbouring pixels, summed and divided by the number of values h w c.

    Args:
        outputs: `image` `[b, h, w, c]`.
        batch: not read.

    Returns:
        `variation` `[b]`.

    References:
        Johnson, Alahi, Fei-Fei, Perceptual losses for real-time style transfer and super-resolution, ECCV 2016,
        section 3.2.
    """
    image = outputs["image"].astype(jnp.float32)
    down, right = jnp.diff(image, axis=1), jnp.diff(image, axis=2)
    return {"variation": (jnp.square(down).sum((1, 2, 3)) + jnp.square(right).sum((1, 2, 3))) / image[0].size}


def style_transfer(
    outputs: Mapping[str, Any],
    batch: Batch,
    *,
    alpha: Scalar,
    beta: Scalar,
    content_layers: Mapping[str, Scalar],
    style_layers: Mapping[str, Scalar],
    styles: Sequence[Scalar] = (1.0,),
    variation: Scalar = 0.0,
    normalization: Literal["course", "gatys"] = "course",
) -> dict[str, Float[Array, " b"]]:
    """J = alpha J_content + beta J_style, and total variation.

    Args:
        outputs: `image` `[b, h, w, 3]`, `features`, `content`, `grams`; see above.
        batch: may hold `regions`, see `style`.
        alpha: factor of `content`.
        beta: factor of `style`.
        content_layers: weight of each layer in `content`.
        style_layers: weight of each layer in `style`.
        styles: weight of each style picture.
        variation: factor of `variation`.
        normalization: of `content`.

    Returns:
        `content`, `style`, `variation`, each `[b]`, times its factor.
    """
    return {
        "content": alpha * content(outputs, batch, layers=content_layers, normalization=normalization)["content"],
        "style": beta * style(outputs, batch, layers=style_layers, styles=styles)["style"],
        "variation": variation * total_variation(outputs, batch)["variation"],
    }
