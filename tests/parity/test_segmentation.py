"""Transposed convolution, unpooling, upsampling and losses beside torch's."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcv import losses, ops

torch: Any = pytest.importorskip("torch")
F: Any = torch.nn.functional


def ours(tensor):
    return jnp.asarray(tensor.detach().numpy().transpose(0, 2, 3, 1))


@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("stride", [1, 2, 3, 4])
def test_transposed_convolution(kernel, stride):
    """Value and gradients, at the largest padding and output padding of this kernel and stride."""
    padding, more = (kernel - 1) // 2, stride - 1
    generator = torch.Generator().manual_seed(kernel * stride)
    x, w = (torch.randn(*shape, generator=generator) for shape in ((2, 3, 5, 4), (3, 4, kernel, kernel)))
    for tensor in (x, w):
        tensor.requires_grad_()
    out = F.conv_transpose2d(x, w, stride=stride, padding=padding, output_padding=more)
    cotangent = torch.randn(out.shape, generator=generator)
    out.backward(cotangent)

    def transposed(x, w):
        return ops.conv_transpose2d(x, w, strides=stride, padding=padding, output_padding=more)

    kernel_ = jnp.asarray(w.detach().numpy().transpose(2, 3, 0, 1))
    assert x.grad is not None and w.grad is not None
    found, vjp = jax.vjp(transposed, ours(x), kernel_)
    dx, dw = vjp(ours(cotangent))
    np.testing.assert_allclose(found, ours(out), atol=1e-5)
    np.testing.assert_allclose(dx, ours(x.grad), atol=1e-5)
    np.testing.assert_allclose(dw, w.grad.numpy().transpose(2, 3, 0, 1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("window", "stride", "padding"), [(2, 2, 0), (3, 2, 1), (3, 3, 1)])
def test_pooling_with_positions_and_unpooling(window, stride, padding):
    x = torch.randn(2, 3, 7, 9, generator=torch.Generator().manual_seed(0))
    values, positions = F.max_pool2d(x, window, stride, padding, return_indices=True)
    found = ops.max_pool2d_positions(ours(x), window=window, strides=stride, padding=padding)
    np.testing.assert_array_equal(found[0], ours(values))
    np.testing.assert_array_equal(found[1], ours(positions))
    if window == stride:  # else several values may have one position, of which torch keeps any
        back = F.max_unpool2d(values, positions, window, stride, padding, output_size=(7, 9))
        np.testing.assert_array_equal(ops.max_unpool2d(*found, size=(7, 9)), ours(back))


@pytest.mark.parametrize("size", [(14, 27), (8, 9), (64, 33)])
def test_bilinear_upsampling(size):
    x = torch.randn(2, 3, 7, 9, generator=torch.Generator().manual_seed(0))
    expected = F.interpolate(x, size, mode="bilinear", align_corners=False)
    np.testing.assert_allclose(ops.upsample_bilinear(ours(x), size=size), ours(expected), atol=1e-6)


def test_cross_entropy_with_class_weights_and_void():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 4, 5, 6, generator=generator, requires_grad=True)
    mask = torch.randint(0, 4, (2, 5, 6), generator=generator)
    mask[0, :2] = 255
    weights = (0.5, 1.0, 2.0, 3.0)
    expected = F.cross_entropy(logits, mask, weight=torch.tensor(weights), ignore_index=255)
    expected.backward()
    assert logits.grad is not None

    def mean(outputs):
        batch = {"mask": jnp.asarray(mask.numpy().astype(np.uint8))}
        values, weight = losses.pixel_cross_entropy(outputs, batch, class_weights=weights)["cross_entropy"]
        return (values * weight).sum() / weight.sum()

    value, gradient = jax.value_and_grad(mean)(ours(logits))
    assert float(value) == pytest.approx(expected.item(), rel=1e-6)
    np.testing.assert_allclose(gradient, ours(logits.grad), atol=1e-7)
