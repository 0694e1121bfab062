"""Feature pyramid network: the features of a trunk on several scales, all with the meaning of the deepest.

Lin et al.: Feature pyramid networks for object detection. https://arxiv.org/abs/1612.03144
"""

from collections.abc import Sequence

import flax.linen as nn
from jaxtyping import Array, Float

from jaxcv import ops
from jaxcv.models.layers import Conv
from jaxcv.ops.initializers import lecun_normal


class FPN(nn.Module):
    """P_l = output_l(M_l), M_l = lateral_l(C_l) + upsampled(M_l+1) (section 3, figure 3).

    `lateral1 ..` are 1x1 and `output1 ..` 3x3 convolutions, finest first, without activation.
    """

    channels: int = 256
    extra: bool = True
    """One more level, every second pixel of the coarsest, for the anchor boxes of the largest objects."""
    finest_alone: bool = False
    """The finest level is the only one that is returned, and has an `output`."""

    @nn.compact
    def __call__(self, maps: Sequence[Float[Array, "b _ _ _"]]) -> list[Array]:
        """Levels [b h w channels] of maps [b h w c], finest first, each of half the size of the one before."""
        levels: list[Array] = []
        above: Array | None = None
        for i in reversed(range(len(maps))):
            x = Conv(self.channels, 1, padding=0, kernel_init=lecun_normal, name=f"lateral{i + 1}")(maps[i])
            if above is not None:
                x = x + ops.upsample2x(above)[:, : x.shape[1], : x.shape[2]]
            above = x
            if self.finest_alone and i > 0:
                continue
            levels.insert(0, Conv(self.channels, kernel_init=lecun_normal, padding=1, name=f"output{i + 1}")(x))
        return [*levels, levels[-1][:, ::2, ::2]] if self.extra else levels
