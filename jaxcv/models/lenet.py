"""LeNet-5: two convolutions with pooling, three fully connected layers; in today's form and in that of 1998.

LeCun, Bottou, Bengio, Haffner: Gradient-based learning applied to document recognition. Proc. IEEE 86(11), 1998.
"""

import itertools
from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxcv import ops
from jaxcv.models.layers import AvgPool, Conv, Dense, Flatten, MaxPool, standardize
from jaxcv.ops.initializers import lecun_normal

CONNECTIONS = (
    *((i, (i + 1) % 6, (i + 2) % 6) for i in range(6)),
    *((i, (i + 1) % 6, (i + 2) % 6, (i + 3) % 6) for i in range(6)),
    *((i, (i + 1) % 6, (i + 3) % 6, (i + 4) % 6) for i in range(3)),
    tuple(range(6)),
)
"""Table I of the paper: for each of C3's 16 filters, the maps of S2 that it is connected to."""


class LeNet(nn.Module):
    """LeNet-5 in its usual modern form: max pooling, ReLU, softmax.

    Takes [b 32 32 c] in [0, 1], returns logits [b num_classes] and the features `conv1 pool1 conv2 pool2 fc3 fc4`.
    Deviations from 1998: every map of conv2 is connected to all maps of pool1 (not by the paper's table I),
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
    ) -> tuple[Float[Array, "b *grid k"], dict[str, Array]]:
        """No layer depends on `train`."""
        features: dict[str, Array] = {}
        x = standardize(images, self.mean, self.std)
        for i, channels in enumerate((6, 16), start=1):
            x = self.activation(Conv(channels, 5, padding="valid", kernel_init=lecun_normal, name=f"conv{i}")(x))
            features[f"conv{i}"] = x
            x = features[f"pool{i}"] = self.pool(2, name=f"pool{i}")(x)
        x = Flatten()(x)
        for i, width in enumerate((120, 84), start=3):
            x = features[f"fc{i}"] = self.activation(Dense(width, name=f"fc{i}")(x))
        return Dense(self.num_classes, name="head")(x), features


class ConnectedConv(nn.Module):
    """A convolution whose filters are each connected to only some of the input channels.

    Parameters: `kernel` [f f n], one f x f kernel for each of the n connections, filter by filter, and `bias`.
    """

    connections: tuple[tuple[int, ...], ...]
    """For each filter, its input channels."""
    kernel_size: int
    dilation: int | tuple[int, int] = 1

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b oh ow features"]:
        """No padding."""
        size, inputs = self.kernel_size, list(itertools.chain.from_iterable(self.connections))
        sizes = [len(maps) for maps in self.connections]
        filters = np.repeat(np.arange(len(sizes)), sizes)
        deviation = np.repeat(1 / np.sqrt(np.multiply(sizes, size * size)), sizes).astype(np.float32)

        def initial(key: Array, shape: tuple[int, ...]) -> Array:
            return jax.random.normal(key, shape) * deviation.reshape(1, 1, -1)

        kernel = self.param("kernel", initial, (size, size, len(inputs))).astype(x.dtype)
        bias = self.param("bias", nn.initializers.zeros_init(), (len(sizes),)).astype(x.dtype)
        full = jnp.zeros((size, size, x.shape[-1], len(sizes)), x.dtype).at[:, :, np.array(inputs), filters].set(kernel)
        return ops.conv2d(x, full, dilation=self.dilation) + bias.reshape(1, 1, 1, -1)


def scaled_tanh(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """`1.7159 tanh(2 x / 3)`: about +-1 at +-1, where its derivative changes fastest (appendix A of the paper)."""
    return 1.7159 * jnp.tanh(2 / 3 * x)


class LeNet1998(nn.Module):
    """LeNet-5 of the paper, section II.B.

    Takes [b 32 32 1] in [0, 1], the ink 1; returns logits [b num_classes] and the features `c1 s2 c3 s4 c5 f6`, after
    the squashing function. Standardised, ink is 1.175 and paper -0.1. Deviations: the output is a linear layer
    for a softmax, not distances from fixed bitmaps of the characters (radial basis functions); pooling scales the mean
    of four values, not their sum; initial weights are normal with variance 1 / inputs, not uniform within 2.4 / inputs.
    """

    num_classes: int = 10
    mean: tuple[float, ...] = (0.1 / 1.275,)
    std: tuple[float, ...] = (1 / 1.275,)

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w c"], *, train: bool = False
    ) -> tuple[Float[Array, "b *grid k"], dict[str, Array]]:
        """No layer depends on `train`."""
        conv = partial(Conv, kernel_size=5, padding="valid", kernel_init=lecun_normal)
        pool = partial(AvgPool, 2, coefficients=True)
        features: dict[str, Array] = {}
        x = standardize(images, self.mean, self.std)
        x = features["c1"] = scaled_tanh(conv(6, name="c1")(x))
        x = features["s2"] = scaled_tanh(pool(name="s2")(x))
        x = features["c3"] = scaled_tanh(ConnectedConv(CONNECTIONS, 5, name="c3")(x))
        x = features["s4"] = scaled_tanh(pool(name="s4")(x))
        x = features["c5"] = scaled_tanh(conv(120, name="c5")(x))
        x = features["f6"] = scaled_tanh(Dense(84, name="f6")(Flatten()(x)))
        return Dense(self.num_classes, name="head")(x), features


lenet5 = partial(LeNet)
lenet5_1998 = partial(LeNet1998)
