"""Style transfer's costs and their gradients with respect to the picture, against torch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcv import losses, ops

torch = pytest.importorskip("torch")

RNG = np.random.default_rng(0)
KERNELS = [RNG.normal(size=size).astype(np.float32) * 0.3 for size in ((3, 3, 3, 8), (3, 3, 8, 16))]
CONTENT, STYLE, PICTURE = (RNG.uniform(size=(1, *size, 3)).astype(np.float32) for size in ((12, 14), (10, 9), (12, 14)))
WEIGHTS = {"one": 0.4, "two": 0.6}


def ours(image):
    maps = []
    for kernel in KERNELS:
        image = jax.nn.relu(ops.conv2d(image, kernel, padding="same", strides=1 + len(maps)))
        maps.append(image)
    return dict(zip(WEIGHTS, maps, strict=True))


def theirs(image):
    maps = []
    for kernel in KERNELS:
        weight = torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy())
        if maps:  # "same" padding at stride 2: on the right and below
            odd = [s % 2 for s in image.shape[2:]]
            image = torch.nn.functional.pad(image, (odd[1], 1, odd[0], 1))
        image = torch.relu(torch.nn.functional.conv2d(image, weight, stride=1 + len(maps), padding=int(not maps)))
        maps.append(image)
    return dict(zip(WEIGHTS, maps, strict=True))


def gram(x):
    rows = x[0].flatten(1)
    return rows @ rows.T


@pytest.mark.parametrize("normalization", ["course", "gatys"])
def test_costs_and_gradients(normalization):
    def cost(image):
        grams = {name: ops.gram_matrix(x, normalize=True) for name, x in ours(STYLE).items()}
        outputs = {"image": image, "features": ours(image), "content": ours(CONTENT), "grams": grams}
        return losses.style_transfer(
            outputs, {}, alpha=0.7, beta=1.3, variation=0.2, content_layers=WEIGHTS, style_layers=WEIGHTS,
            normalization=normalization,
        )  # fmt: skip

    found = jax.jit(cost)(jnp.asarray(PICTURE))
    gradient = jax.jit(jax.grad(lambda x: sum(v.sum() for v in cost(x).values())))(jnp.asarray(PICTURE))

    image = torch.from_numpy(PICTURE.transpose(0, 3, 1, 2).copy()).requires_grad_()
    content, style = (theirs(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())) for x in (CONTENT, STYLE))
    expected = {"content": torch.zeros(()), "style": torch.zeros(())}
    for name, x in theirs(image).items():
        _, c, h, w = x.shape
        size = h * w * c if normalization == "course" else 1
        expected["content"] += 0.7 * WEIGHTS[name] * ((x - content[name]) ** 2).sum() / (2 * size)
        # The course's 1 / (2 n_H n_W n_C)^2 with each Gram matrix divided by the size of its own map.
        difference = gram(x) / x[0].numel() - gram(style[name]) / style[name][0].numel()
        expected["style"] += 1.3 * WEIGHTS[name] * (difference**2).sum() / 4
    steps = (image[:, :, 1:] - image[:, :, :-1], image[..., 1:] - image[..., :-1])
    expected["variation"] = 0.2 * torch.stack([(step**2).sum() for step in steps]).sum() / image[0].numel()
    torch.stack(list(expected.values())).sum().backward()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], [value.item()], rtol=1e-5)
    np.testing.assert_allclose(gradient, image.grad.permute(0, 2, 3, 1), rtol=1e-5, atol=1e-5)


def test_instance_norm():
    x, dy = (RNG.normal(size=(2, 5, 6, 4)).astype(np.float32) for _ in range(2))
    scale, bias = (RNG.normal(size=4).astype(np.float32) for _ in range(2))
    y, back = jax.vjp(ops.instance_norm, *map(jnp.asarray, (x, scale, bias)))
    tensors = [torch.from_numpy(a.copy()).requires_grad_() for a in (x.transpose(0, 3, 1, 2), scale, bias)]
    theirs_y = torch.nn.functional.instance_norm(tensors[0], weight=tensors[1], bias=tensors[2])
    theirs_y.backward(torch.from_numpy(dy.transpose(0, 3, 1, 2).copy()))
    np.testing.assert_allclose(y, theirs_y.detach().permute(0, 2, 3, 1), rtol=1e-4, atol=1e-5)
    for ours_, tensor in zip(back(jnp.asarray(dy)), tensors, strict=True):
        expected = tensor.grad if tensor.grad.ndim == 1 else tensor.grad.permute(0, 2, 3, 1)
        np.testing.assert_allclose(ours_, expected, rtol=1e-4, atol=1e-5)
