"""LeNet-5: two convolutions with pooling, three fully connected layers.

LeCun, Bottou, Bengio, Haffner: Gradient-based learning applied to document recognition. Proc. IEEE 86(11), 1998.
"""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
from jaxtyping import Array, Float

from jaxcv.models.layers import Conv, MaxPool, flatten, standardize


class LeNet(nn.Module):
    """LeNet-5 in the form taught today: max pooling, ReLU, a softmax layer on top.

    Takes [b 32 32 c] in [0, 1], returns logits [b num_classes] and the features `conv1 pool1 conv2 pool2 fc3 fc4`.
    Deviations from 1998: every map of conv2 sees all maps of pool1 (the paper's connection table saved arithmetic),
    pooling has no trained coefficients, and the output is a linear layer, not radial basis functions.
    """

    num_classes: int = 10
    activation: Callable[[Array], Array] = nn.relu
    pool: Callable[..., nn.Module] = MaxPool
    mean: tuple[float, ...] = (0.13,)
    std: tuple[float, ...] = (0.31,)

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w c"], *, train: bool = False
    ) -> tuple[Float[Array, "b k"], dict[str, Array]]:
        """The network has no layer that depends on `train`."""
        features: dict[str, Array] = {}
        x = standardize(images, self.mean, self.std)
        for i, channels in enumerate((6, 16), start=1):
            x = self.activation(
                Conv(channels, 5, padding="valid", kernel_init=nn.initializers.lecun_normal(), name=f"conv{i}")(x)
            )
            features[f"conv{i}"] = x
            x = features[f"pool{i}"] = self.pool(2, name=f"pool{i}")(x)
        x = flatten(x)
        for i, width in enumerate((120, 84), start=3):
            x = features[f"fc{i}"] = self.activation(nn.Dense(width, name=f"fc{i}")(x))
        return nn.Dense(self.num_classes, name="head")(x), features


lenet5 = partial(LeNet)
