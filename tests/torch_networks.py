"""A network of torch's with values of no symmetry, beside ours with the same values: evaluation and one training step.

Training is compared in float64. In float32 the two round differently, so now and then one of millions of activations is
just below 0 for one and just above for the other; that alone moves small gradients by a hundredth.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from jaxcv import weights


def randomize(network: Any, seed: int = 0) -> Any:
    """Weights of He's scale; norms, running statistics and biases that are neither 0 nor 1; no dropout."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(tensor: Any, low: float, high: float) -> None:
        tensor.copy_(torch.rand(tensor.shape, generator=generator) * (high - low) + low)

    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
            if isinstance(module, torch.nn.BatchNorm2d):
                uniform(module.weight, 0.5, 1.5)
                uniform(module.running_mean, -0.2, 0.2)
                uniform(module.running_var, 0.5, 1.5)
            elif hasattr(module, "weight"):
                spread = (6 / module.weight[0].numel()) ** 0.5
                uniform(module.weight, -spread, spread)
            if getattr(module, "bias", None) is not None:
                uniform(module.bias, -0.2, 0.2)
    return network


def pictures(size: int) -> np.ndarray:
    """Two pictures of noise, [2 size size 3]."""
    return np.random.default_rng(size).uniform(0, 1, (2, size, size, 3)).astype(np.float32)


def same_evaluation(name: str, theirs: Any, ours: Any, *, size: int, mean: Any, std: Any) -> None:
    """Logits agree to 1e-4 of the largest."""
    images = pictures(size)
    with torch.no_grad():
        expected = theirs.eval()(_channels_first((images - np.float32(mean)) / np.float32(std))).numpy()
    found, _ = jax.jit(ours.apply)(weights.from_torchvision(name, _arrays(theirs)), images)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def same_training_step(
    name: str, theirs: Any, ours: Any, loss_of: Callable[[Any, Callable[[Any], Any]], Any], *, size: int
) -> None:
    """Loss, gradients and batch statistics agree; `ours` must not standardise.

    `loss_of(outputs, cross_entropy)` serves both. Gradients are compared by the largest of their module, for those of
    a shift before a linear layer with batch normalisation are 0 but for rounding.
    """
    images, labels = pictures(size).astype(np.float64) - 0.5, np.array([1, 3])
    before = weights.from_torchvision(name, _arrays(theirs))
    theirs.double().train()
    expected = loss_of(theirs(_channels_first(images)), lambda x: _torch_loss(x, labels))
    expected.backward()
    gradients = {parameter: p.grad.numpy() for parameter, p in theirs.named_parameters()}
    after = weights.from_torchvision(name, _arrays(theirs) | gradients)

    def loss(params: Any, statistics: Any) -> Any:
        variables = {"params": params, "batch_stats": statistics}
        (outputs, _), changed = ours.apply(variables, images, train=True, mutable=["batch_stats"])
        return loss_of(outputs, lambda x: -jax.nn.log_softmax(x)[np.arange(2), labels].mean()), changed["batch_stats"]

    with jax.enable_x64(True):
        wide = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf), jnp.float64), before)
        step = jax.jit(jax.value_and_grad(loss, has_aux=True))
        (value, statistics), slopes = jax.tree.map(np.asarray, step(wide["params"], wide["batch_stats"]))
    np.testing.assert_allclose(value, expected.item(), rtol=1e-9)
    _compare(slopes, after["params"], "")
    _compare(statistics, after["batch_stats"], "")


def _compare(found: Any, expected: Any, path: str) -> None:
    if any(isinstance(part, dict) for part in expected.values()):
        assert set(found) == set(expected)
        for name, part in expected.items():
            _compare(found[name], part, f"{path}/{name}")
        return
    largest = max(np.abs(leaf).max() for leaf in expected.values())
    assert largest > 0, path
    for name, leaf in expected.items():
        np.testing.assert_allclose(found[name], leaf, rtol=0, atol=1e-6 * largest, err_msg=f"{path}/{name}")


def _torch_loss(logits: Any, labels: np.ndarray) -> Any:
    return torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels))


def _channels_first(images: np.ndarray) -> Any:
    return torch.from_numpy(images.transpose(0, 3, 1, 2).copy())


def _arrays(network: Any) -> dict[str, np.ndarray]:
    return {name: tensor.numpy(force=True).copy() for name, tensor in network.state_dict().items()}
