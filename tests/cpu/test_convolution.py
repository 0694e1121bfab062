"""The forms of a convolution that only large ones take, and what XLA makes of them."""

import jax
import jax.numpy as jnp
import pytest
from convolutions import agree, everything, random, theirs

from jaxcv import cpu, ops
from jaxcv.cpu import kernels, winograd
from jaxcv.cpu.geometry import Geometry, output_size

# A gigaflop each: the smallest that the transformed products are taken for.
LARGE = [((4, 31, 31, 128), (3, 3, 128, 128)), ((2, 17, 18, 352), (3, 3, 352, 352)), ((8, 60, 33, 64), (3, 3, 64, 64))]


@pytest.mark.parametrize(("x_shape", "w_shape"), LARGE)
@pytest.mark.parametrize("pads", [((1, 1), (1, 1)), ((0, 2), (-1, 1))])
@pytest.mark.parametrize("compiler", [True, False])
def test_few_products_are_as_exact_as_many(x_shape, w_shape, pads, compiler, monkeypatch):
    if not compiler:
        monkeypatch.setattr(kernels, "version", lambda: None)
        jax.clear_caches()
    x, w = random(x_shape, w_shape)
    at = Geometry((1, 1), pads, (1, 1))
    out = output_size(x_shape, w_shape, at)
    assert winograd.fits((x_shape[0], *out), w_shape, at, x.dtype)
    dy = random((x_shape[0], *out, w_shape[3]))[0]
    ours = everything(lambda x, w: ops.conv2d(x, w, padding=pads), dy)(x, w)
    agree(ours, everything(lambda x, w: theirs(x, w, at), dy)(x, w))


def test_no_slow_convolution_is_left_in_a_program():
    """The library that jaxlib would hand single convolutions to is four times slower in the kernel's gradient."""
    x, w = random((2, 8, 8, 4), (3, 3, 4, 4))
    gradient = jax.jit(
        jax.grad(lambda w: jnp.square(ops.conv2d(x, w, padding="same")).sum()),
        compiler_options=cpu.compiler_options(),
    )
    text = str(gradient.lower(w).compile().as_text())
    assert "convolution" in text and not [
        line for line in text.splitlines() if "ynn" in line and "convolution(" in line
    ]
