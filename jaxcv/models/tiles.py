"""A network that classifies pixels, for images of any size: mirrored borders, tiles, and an average over symmetries."""

from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

_MIRRORED = [(False, (2,))]
_SYMMETRIES = [(t, axes) for t in (False, True) for axes in ((), (1,), (2,), (1, 2))][1:]
"""Whether rows and columns are exchanged, and the axes that are mirrored then; all but the image itself."""


class Tiled(nn.Module):
    """A pixel classifier whose output has the height and width of the image, whatever they are.

    The image is continued by mirroring it at its borders, as far as the network needs: `margin` pixels at each side and
    as many more as lead to a size that it takes; what is too much is cut off. An image larger than `tile` is then, in
    evaluation, cut into overlapping tiles, which go through the network one after another. If the network loses the
    margin itself (convolutions without padding), tiles give what the whole image gives; with padded convolutions, what
    lies near a tile's edge knows less, and `overlap` says how much of it is thrown away.

    Takes [b h w c], returns logits [b h w k], and the network's features where there are no tiles.

    Ronneberger et al.: U-Net, https://arxiv.org/abs/1505.04597, section 2 and figure 2, "overlap-tile strategy".
    """

    network: Any
    """`network(images, train=...) -> (logits, features)` with `fitting(n)`, the smallest height or width from n on that
    it takes; `margin`, pixels that its output lacks at every side; `step`, by which tiles may be shifted."""
    tile: int = 0
    """Height and width of what a tile contributes, in pixels, rounded up to what the network can; 0: no tiles."""
    overlap: int = 32
    """Pixels at each side of a tile that another tile gives, of networks without margin."""
    views: Literal[1, 2, 8] = 1
    """In evaluation, the logarithm of the mean probability over the image, over it and its mirror image (2), or over
    all that turning by quarters and mirroring make of it (8)."""

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w c"], *, train: bool = False
    ) -> tuple[Float[Array, "b h w k"], dict[str, Array]]:
        """`train` is given to the network, and turns tiles and views off."""
        logits, features = self._tiled(images, train=train)
        if train or self.views == 1:
            return logits, features
        found = [logits]
        for transposed, axes in {2: _MIRRORED, 8: _SYMMETRIES}[self.views]:
            view = jnp.flip(images.swapaxes(1, 2) if transposed else images, axes)
            seen = jnp.flip(self._tiled(view, train=False)[0], axes)
            found.append(seen.swapaxes(1, 2) if transposed else seen)
        every = jnp.stack([jax.nn.log_softmax(x.astype(jnp.float32)) for x in found])
        return (jax.nn.logsumexp(every, axis=0) - np.log(self.views)).astype(logits.dtype), features

    def _tiled(self, images: Array, *, train: bool) -> tuple[Array, dict[str, Array]]:
        height, width = images.shape[1:3]
        margin, step = self.network.margin, self.network.step
        if train or self.tile == 0 or max(height, width) <= self.tile or self.is_initializing():
            sizes = [self.network.fitting(n + 2 * margin) for n in (height, width)]
            logits, features = self.network(mirrored_window(images, (-margin, -margin), sizes), train=train)
            return logits[:, :height, :width], features
        # Tiles are shifted by multiples of the step, so that poolings meet the same pixels as in the whole image.
        context = margin or -(-self.overlap // step) * step
        side = self.network.fitting(self.tile + 2 * context)
        kept = (side - 2 * context) // step * step
        rows, columns = (-(-n // kept) for n in (height, width))
        corners = [(y * kept - context, x * kept - context) for y in range(rows) for x in range(columns)]
        whole = mirrored_window(images, (-context, -context), ((rows - 1) * kept + side, (columns - 1) * kept + side))
        starts = jnp.asarray(corners) + context

        def one(network: Any, _: None, start: Array) -> tuple[None, Array]:
            zero = jnp.zeros((), start.dtype)
            size = (len(images), side, side, images.shape[-1])
            part = jax.lax.dynamic_slice(whole, (zero, start[0], start[1], zero), size)
            skip = context - network.margin
            return None, network(part, train=False)[0][:, skip : skip + kept, skip : skip + kept]

        scan = nn.scan(one, variable_broadcast=True, split_rngs={"params": False})
        _, parts = scan(self.network, None, starts)
        parts = parts.reshape(rows, columns, len(images), kept, kept, -1).transpose(2, 0, 3, 1, 4, 5)
        logits = parts.reshape(len(images), rows * kept, columns * kept, -1)
        return logits[:, :height, :width], {}


def mirrored_window(images: Array, corner: tuple[int, int], size: Any) -> Array:
    """The window of a size at a corner (y, x) of images that are continued by mirroring, the edge not repeated."""
    for axis, start, count in zip((1, 2), corner, size, strict=True):
        n = images.shape[axis]
        if start != 0 or count != n:
            position = np.abs(np.arange(start, start + count)) % max(2 * (n - 1), 1)
            images = jnp.take(images, np.minimum(position, 2 * (n - 1) - position).clip(0), axis=axis)
    return images
