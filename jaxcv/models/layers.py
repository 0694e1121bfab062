"""Layers and blocks that the networks are built from, each usable alone.

Most map [b h w c] to [b h' w' c']. Those that behave differently in training take `train=` by keyword, and pass it on
by keyword, so that an interceptor can run a frozen part of a network as in evaluation.
Parameters have Flax's names and shapes: `kernel` (HWIO), `bias`, `scale`; statistics `mean`, `var`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import flax.errors
import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxcv import ops
from jaxcv.ops.initializers import he_normal, lecun_normal
from jaxcv.types import Scalar

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

Activation = Callable[[Array], Array]
Initializer = Callable[..., Array]


def standardize(
    images: Float[Array, "b h w c"], mean: Sequence[float], std: Sequence[float]
) -> Float[Array, "b h w c2"]:
    """`(images - mean) / std` per channel.

    `mean` and `std` broadcast against the channels: one number serves all of them, and a grey image given three becomes
    three channels, as RGB networks expect.

    Raises:
        TypeError: they are integers, of which a standardised image would be wrong or not a number.
    """
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise TypeError(f"images of {images.dtype}: a model takes float32 in [0, 1]; divide by 255")
    mean_, std_ = (jnp.asarray(v, images.dtype).reshape(1, 1, 1, -1) for v in (mean, std))
    return (images - mean_) / std_


def space_to_depth(x: Float[Array, "b h w c"], *, block: int) -> Float[Array, "b h2 w2 c2"]:
    """Every `block` x `block` square of pixels becomes one pixel with all their channels, row by row."""
    b, h, w, c = x.shape
    x = x.reshape(b, h // block, block, w // block, block, c)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(b, h // block, w // block, block * block * c)


def flatten(x: Float[Array, "b h w c"]) -> Float[Array, "b d"]:
    """[b, h * w * c], channels innermost."""
    return x.reshape(x.shape[0], -1)


class Flatten(nn.Module):
    """`flatten` as a layer, so that `convolutionalize` can tell where the convolutional part of a network ends.

    With `size`, the map is first resized to size x size by `ops.adaptive_avg_pool2d`, so that the parameters of the
    next layer do not depend on the size of the images.
    """

    size: int | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b d"]:
        """[b, h * w * c], channels innermost."""
        if self.size is not None and x.shape[1:3] != (self.size, self.size):
            x = ops.adaptive_avg_pool2d(x, output_size=self.size)
        return flatten(x)


def global_avg_pool(x: Float[Array, "b h w c"]) -> Float[Array, "b c"]:
    """The mean over all positions."""
    return x.mean(axis=(1, 2))


def parameter(module: nn.Module, name: str, init: Initializer, shape: tuple[int, ...]) -> Array:
    """`module.param(name, init, shape)`, with which tracing a network takes a third less time.

    Flax evaluates `init` abstractly at every call to know the shape; here it is given.

    Raises:
        flax.errors.ScopeParamShapeError: If the variables hold a parameter of another shape.
    """
    if not module.has_variable("params", name):
        return module.param(name, init, shape)
    value = module.get_variable("params", name)
    if jnp.shape(value) != shape:
        raise flax.errors.ScopeParamShapeError(name, "/".join(module.path), shape, jnp.shape(value))
    return value


class Conv(nn.Module):
    """`ops.conv2d` with trained `kernel` [fh fw c/groups features] and `bias` [features]."""

    features: int
    kernel_size: int | tuple[int, int] = 3
    strides: int | tuple[int, int] = 1
    padding: ops.Padding = "same"
    dilation: int | tuple[int, int] = 1
    groups: int = 1
    use_bias: bool = True
    kernel_init: Initializer = he_normal
    bias_init: Initializer = nn.initializers.zeros_init()

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b oh ow features"]:
        """Output height and width are those of `ops.conv_output_size`."""
        window = (self.kernel_size,) * 2 if isinstance(self.kernel_size, int) else self.kernel_size
        kernel = parameter(self, "kernel", self.kernel_init, (*window, x.shape[-1] // self.groups, self.features))
        x = ops.conv2d(
            x,
            kernel.astype(x.dtype),
            strides=self.strides,
            padding=self.padding,
            dilation=self.dilation,
            feature_group_count=self.groups,
        )
        if not self.use_bias:
            return x
        bias = parameter(self, "bias", self.bias_init, (self.features,))
        return x + bias.astype(x.dtype).reshape(1, 1, 1, -1)


class ConvTranspose(nn.Module):
    """`ops.conv_transpose2d` with trained `kernel` [fh fw c features] and `bias` [features]."""

    features: int
    kernel_size: int | tuple[int, int] = 2
    strides: int | tuple[int, int] = 2
    padding: ops.Padding = "valid"
    output_padding: int | tuple[int, int] = 0
    use_bias: bool = True
    kernel_init: Initializer = he_normal
    bias_init: Initializer = nn.initializers.zeros_init()

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b oh ow features"]:
        """Output height and width are those of `ops.conv_transpose2d`."""
        window = (self.kernel_size,) * 2 if isinstance(self.kernel_size, int) else self.kernel_size
        kernel = parameter(self, "kernel", self.kernel_init, (*window, x.shape[-1], self.features)).astype(x.dtype)
        x = ops.conv_transpose2d(
            x, kernel, strides=self.strides, padding=self.padding, output_padding=self.output_padding
        )
        if not self.use_bias:
            return x
        bias = parameter(self, "bias", self.bias_init, (self.features,))
        return x + bias.astype(x.dtype).reshape(1, 1, 1, -1)


class Dense(nn.Module):
    """A fully connected layer: trained `kernel` [inputs features] and `bias` [features]."""

    features: int
    use_bias: bool = True
    kernel_init: Initializer = lecun_normal
    bias_init: Initializer = nn.initializers.zeros_init()

    @nn.compact
    def __call__(self, x: Float[Array, "*b inputs"]) -> Float[Array, "*b features"]:
        """`x @ kernel + bias`."""
        kernel = parameter(self, "kernel", self.kernel_init, (x.shape[-1], self.features))
        x = x @ kernel.astype(x.dtype)
        if not self.use_bias:
            return x
        bias = parameter(self, "bias", self.bias_init, (self.features,)).astype(x.dtype)
        return x + jnp.expand_dims(bias, tuple(range(x.ndim - 1)))


class MaxPool(nn.Module):
    """`ops.max_pool2d` as a layer, with a name and a row in `summary`."""

    window: int | tuple[int, int]
    strides: int | tuple[int, int] | None = None
    padding: ops.Padding = "valid"
    ceil_mode: bool = False
    """Output height and width are rounded up instead of down: the last windows may reach over the edge."""

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b oh ow c"]:
        """The largest value of each window."""
        padding = _ceiling(x, self.window, self.strides, self.padding) if self.ceil_mode else self.padding
        return ops.max_pool2d(x, window=self.window, strides=self.strides, padding=padding)


class AvgPool(nn.Module):
    """`ops.avg_pool2d` as a layer; with `coefficients`, times a trained `scale` plus a trained `bias` (LeNet-5)."""

    window: int | tuple[int, int]
    strides: int | tuple[int, int] | None = None
    padding: ops.Padding = "valid"
    coefficients: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b oh ow c"]:
        """The mean of each window; padding counts as zeros."""
        x = ops.avg_pool2d(x, window=self.window, strides=self.strides, padding=self.padding)
        if not self.coefficients:
            return x
        scale = parameter(self, "scale", nn.initializers.ones_init(), (x.shape[-1],))
        bias = parameter(self, "bias", nn.initializers.zeros_init(), (x.shape[-1],))
        return x * scale.astype(x.dtype).reshape(1, 1, 1, -1) + bias.astype(x.dtype).reshape(1, 1, 1, -1)


def _ceiling(x: Array, window: Any, strides: Any, padding: ops.Padding) -> ops.Padding:
    """Explicit padding of `padding` pixels, more below and on the right for incomplete windows (torch's ceil_mode)."""
    window, strides = ((v, v) if isinstance(v, int) else v for v in (window, window if strides is None else strides))
    padding = 0 if padding == "valid" else padding
    if not isinstance(padding, int):
        raise ValueError(f"padding={padding!r}: with ceil_mode, expected a number of pixels or 'valid'")
    around = []
    for size, f, s in zip(x.shape[1:3], window, strides, strict=True):
        count = -(-(size + 2 * padding - f) // s) + 1
        if (count - 1) * s >= size + padding:  # torch: the last window starts inside the image or its left padding
            count -= 1
        around.append((padding, max(padding, (count - 1) * s + f - size - padding)))
    return (around[0], around[1])


class BatchNorm(nn.Module):
    """`(x - mean) / sqrt(var + epsilon) * scale + bias`, per channel.

    With `train`, mean and variance are those of the batch, and the running ones become
    `momentum * old + (1 - momentum) * new`, the variance with Bessel's correction n / (n - 1), as in torch (Flax leaves
    it out). Otherwise the running ones are used. Statistics are float32.

    Ioffe, Szegedy: Batch normalization, https://arxiv.org/abs/1502.03167, algorithm 1 (2 for evaluation).
    """

    momentum: float = 0.9
    epsilon: float = 1e-5
    use_scale: bool = True
    scale_init: Initializer = nn.initializers.ones_init()
    relu: bool = False
    """Apply a ReLU to the result."""

    @nn.compact
    def __call__(self, x: Float[Array, "*b c"], *, train: bool) -> Float[Array, "*b c"]:
        """`train` selects batch statistics over running ones."""
        channels, axes = x.shape[-1], tuple(range(x.ndim - 1))
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, (channels,), jnp.float32)
        running_var = self.variable("batch_stats", "var", jnp.ones, (channels,), jnp.float32)
        scale = parameter(self, "scale", self.scale_init, (channels,)) if self.use_scale else jnp.ones((channels,))
        bias = parameter(self, "bias", nn.initializers.zeros_init(), (channels,))
        if train:
            y, mean, var = ops.batch_norm(x, scale, bias, epsilon=self.epsilon, relu=self.relu)
            if not self.is_initializing():
                count = x.size // channels
                unbiased = var * (count / max(count - 1, 1))
                for variable, new in ((running_mean, mean), (running_var, unbiased)):
                    variable.value = self.momentum * variable.value + (1 - self.momentum) * jax.lax.stop_gradient(new)
            return y
        factor = scale * jax.lax.rsqrt(running_var.value + self.epsilon)
        shift = bias - running_mean.value * factor
        y = x * jnp.expand_dims(factor, axes).astype(x.dtype) + jnp.expand_dims(shift, axes).astype(x.dtype)
        return nn.relu(y) if self.relu else y


class FrozenBatchNorm(nn.Module):
    """`BatchNorm` as in evaluation, always: mean, variance, scale and bias are statistics, not parameters.

    For detectors whose batches are too small for statistics of their own, on a trunk that has been trained before.
    """

    epsilon: float = 1e-5
    relu: bool = False
    """As in `BatchNorm`."""

    @nn.compact
    def __call__(self, x: Float[Array, "*b c"], *, train: bool) -> Float[Array, "*b c"]:
        """`train` changes nothing."""
        given = (("scale", jnp.ones), ("bias", jnp.zeros), ("mean", jnp.zeros), ("var", jnp.ones))
        shape = (x.shape[-1],)
        scale, bias, mean, var = (self.variable("batch_stats", n, make, shape, jnp.float32).value for n, make in given)
        factor = scale * jax.lax.rsqrt(var + self.epsilon)
        axes = tuple(range(x.ndim - 1))
        factor, shift = (jnp.expand_dims(v, axes).astype(x.dtype) for v in (factor, bias - mean * factor))
        return nn.relu(x * factor + shift) if self.relu else x * factor + shift


class Dropout(nn.Module):
    """In training, sets a random fraction `rate` of the values to zero and scales the others by 1 / (1 - rate).

    Draws from the "dropout" stream. Srivastava et al., JMLR 15, 2014.
    """

    rate: Scalar

    @nn.compact
    def __call__(self, x: Float[Array, "*shape"], *, train: bool) -> Float[Array, "*shape"]:
        """Identity in evaluation."""
        # Flax's Dropout branches on the rate in Python, so that it could not be traced.
        if not train or (isinstance(self.rate, int | float) and self.rate == 0):
            return x
        keep = jax.random.bernoulli(self.make_rng("dropout"), 1 - self.rate, x.shape)
        return jnp.where(keep, x / (1 - self.rate), jnp.zeros_like(x))


class ConvNormAct(nn.Module):
    """Convolution `conv`, batch normalisation `norm`, activation.

    Without `norm`, the convolution has a bias instead. `activation=None` leaves the last step out.
    """

    features: int
    kernel_size: int | tuple[int, int] = 3
    strides: int | tuple[int, int] = 1
    padding: ops.Padding = "same"
    groups: int = 1
    norm: bool = True
    momentum: float = 0.9
    epsilon: float = 1e-5
    activation: Activation | None = nn.relu
    kernel_init: Initializer = he_normal
    scale_init: Initializer = nn.initializers.ones_init()
    conv_bias: bool = False
    """The convolution has a bias even before `norm`, where it is redundant: some published weights hold one."""
    frozen: bool = False
    """`norm` is a `FrozenBatchNorm`."""

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b oh ow features"]:
        """`train` selects batch statistics over running ones."""
        x = Conv(
            self.features,
            self.kernel_size,
            strides=self.strides,
            padding=self.padding,
            groups=self.groups,
            use_bias=self.conv_bias or not self.norm,
            kernel_init=self.kernel_init,
            name="conv",
        )(x)
        if not self.norm:
            return x if self.activation is None else self.activation(x)
        relu = self.activation is nn.relu  # faster together with the normalisation
        if self.frozen:
            norm: nn.Module = FrozenBatchNorm(self.epsilon, relu=relu, name="norm")
        else:
            norm = BatchNorm(self.momentum, self.epsilon, scale_init=self.scale_init, relu=relu, name="norm")
        x = norm(x, train=train)
        return x if relu or self.activation is None else self.activation(x)
