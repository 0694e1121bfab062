"""A network of torch's with values of no symmetry, and what one training step does to it; ours held to it."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcv import models, weights

torch: Any = pytest.importorskip("torch")

LABELS = np.array([1, 3])


HASTE = {"xla_backend_optimization_level": 1, "xla_llvm_disable_expensive_passes": True}
"""Compiling takes longer than the one step."""


def randomize(network: Any, seed: int) -> Any:
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
                weight: Any = module.weight
                spread = (6 / weight[0].numel()) ** 0.5
                uniform(weight, -spread, spread)
            if getattr(module, "bias", None) is not None:
                uniform(module.bias, -0.2, 0.2)
    return network


def channels_first(images: np.ndarray) -> Any:
    """What torch's networks are fed for our images."""
    return torch.from_numpy(images.transpose(0, 3, 1, 2).copy())


def arrays(network: Any) -> dict[str, np.ndarray]:
    """The state dict."""
    return {name: tensor.numpy(force=True) for name, tensor in network.state_dict().items()}


def step(network: Any, images: Any, loss: Callable[[Any], Any]) -> tuple[float, dict[str, np.ndarray]]:
    """The loss in training, and the state dict after it, with gradients in place of the parameters."""
    network.train()
    value = loss(network(images))
    value.backward()
    gradients = {name: p.grad.numpy() for name, p in network.named_parameters()}
    return value.item(), arrays(network) | gradients


def same_logits(name: str, network: Any, model: Any, images: np.ndarray, *, tolerance: float) -> None:
    """In evaluation, in float32; the tolerance is a share of the largest logit."""
    standard = (images - np.float32(model.mean)) / np.float32(model.std)
    with torch.no_grad():
        expected = network.eval()(channels_first(standard)).numpy()
    variables = weights.from_torchvision(name, arrays(network))
    found = jax.jit(lambda variables: model.apply(variables, jnp.asarray(images))[0])(variables)
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())


def same_step(
    name: str, network: Any, model: Any, images: np.ndarray, *, auxiliary_weight: float = 0.0, tolerance: float
) -> None:
    """Loss, gradients and running statistics of a step on two images, in float64.

    In float32 they depend on the order of sums, in torch as well: now and then one of a million activations is below 0
    for one and above for the other. The tolerance is a share of the largest value of the module: the gradient of a
    shift that a later batch norm takes out again is 0 but for rounding.
    """
    before = weights.from_torchvision(name, {key: value.copy() for key, value in arrays(network).items()})
    wide = (images.astype(np.float64) - model.mean) / model.std

    def their_loss(outputs: Any) -> Any:
        logits = outputs if isinstance(outputs, tuple) else (outputs,)
        main, *heads = (torch.nn.functional.cross_entropy(x, torch.from_numpy(LABELS)) for x in logits)
        return main + auxiliary_weight * sum(heads)

    def our_loss(params: Any, statistics: Any, images: Any) -> Any:
        variables = {"params": params, "batch_stats": statistics}
        (outputs, _), changed = model.apply(variables, images, train=True, mutable=["batch_stats"])
        logits = (outputs.main, *outputs.auxiliary) if isinstance(outputs, models.AuxiliaryLogits) else (outputs,)
        main, *heads = (-jax.nn.log_softmax(x)[np.arange(2), LABELS].mean() for x in logits)
        return main + auxiliary_weight * sum(heads), changed["batch_stats"]

    expected, after = step(network.double(), channels_first(wide), their_loss)
    after = weights.from_torchvision(name, after)
    with jax.enable_x64(True):
        given = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf, np.float64)), before)
        gradient = jax.jit(jax.value_and_grad(our_loss, has_aux=True), compiler_options=HASTE)
        (value, statistics), gradients = jax.device_get(
            gradient(given["params"], given["batch_stats"], jnp.asarray(images, jnp.float64))
        )
    np.testing.assert_allclose(value, expected, rtol=1e-9)
    _close(gradients, after["params"], tolerance, "")
    _close(statistics, after["batch_stats"], tolerance, "")


def _close(found: Any, expected: Any, tolerance: float, path: str) -> None:
    assert set(found) == set(expected), path
    leaves = {name: np.asarray(leaf) for name, leaf in expected.items() if not isinstance(leaf, dict)}
    largest = max((np.abs(leaf).max() for leaf in leaves.values()), default=1.0)
    assert largest > 0, path
    for name, part in expected.items():
        if name in leaves:
            np.testing.assert_allclose(found[name], part, rtol=0, atol=tolerance * largest, err_msg=f"{path}/{name}")
        else:
            _close(found[name], part, tolerance, f"{path}/{name}")
