"""One of our networks and torchvision's of the same name, with the same weights: in evaluation and over one step."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
import torchvision
from torch_networks import arrays, randomize, step

from jaxcv import models, weights
from jaxcv.models import IMAGENET_MEAN, IMAGENET_STD

CLASSES = 10


def compare(name: str, *sides: int, dtype: Any, tolerance: float, fc_width: int | None = None, **options: Any) -> None:
    """Hold logits in float32, and loss, gradients and running statistics of one step in `dtype`, to theirs.

    Differences are measured against the largest value of the tensor. Batch norm over few values and ReLUs make the
    gradients of deep networks chaotic in float32: torch itself is up to a fifth of a gradient away from its own float64
    (ResNet-50, 96 px). In float64 both agree to what is lost by storing the result as float32.
    """
    network = torchvision.models.get_model(name, weights=None, num_classes=CLASSES)
    if fc_width is not None:
        options["fc_width"] = fc_width
        _narrow(network, fc_width)
    randomize(network, seed=0).eval()
    variables = weights.from_torchvision(name, {key: value.copy() for key, value in arrays(network).items()}, **options)
    if hasattr(getattr(models, name)(), "dropout"):
        options["dropout"] = 0.0
    model = getattr(models, name)(num_classes=CLASSES, **options)
    images = np.random.default_rng(1).uniform(size=(2, *sides, 3)).astype(np.float32)

    found = jax.jit(lambda v, x: model.apply(v, x)[0])(variables, jnp.asarray(images))
    _close({"logits": found}, {"logits": network(_inputs(images)).numpy(force=True)}, 1e-5)

    labels = np.asarray([3, 8])
    inputs = _inputs(images.astype(dtype))
    theirs, after = step(
        network.to(inputs.dtype), inputs, lambda x: torch.nn.functional.cross_entropy(x, torch.from_numpy(labels))
    )
    with jax.enable_x64(dtype == np.float64):
        ours, *trees = jax.device_get(_step(model, _cast(variables, dtype), jnp.asarray(images, dtype), labels))
    np.testing.assert_allclose(ours, theirs, rtol=tolerance)
    expected = weights.from_torchvision(
        name, {key: value.astype(np.float32) for key, value in after.items()}, **options
    )
    for tree, collection in zip(trees, ("params", "batch_stats"), strict=True):
        assert all(leaf.dtype == dtype for leaf in jax.tree.leaves(tree))
        _close(_flat(tree), _flat(expected.get(collection, {})), tolerance)


def _inputs(images: np.ndarray) -> Any:
    """Standardised and channels first, in the precision of the images."""
    mean, std = (np.asarray(value, images.dtype) for value in (IMAGENET_MEAN, IMAGENET_STD))
    return torch.from_numpy(((images - mean) / std).transpose(0, 3, 1, 2).copy())


def _narrow(network: Any, width: int) -> None:
    """Fewer neurons in the hidden dense layers than torchvision has fields for."""
    linear = [i for i, layer in enumerate(network.classifier) if isinstance(layer, torch.nn.Linear)]
    inputs = network.classifier[linear[0]].in_features
    for i, (before, after) in zip(linear, ((inputs, width), (width, width), (width, CLASSES)), strict=True):
        network.classifier[i] = torch.nn.Linear(before, after)


def _step(model: Any, variables: Any, images: jax.Array, labels: np.ndarray) -> tuple[Any, Any, Any]:
    def loss(params: Any) -> tuple[jax.Array, Any]:
        given = {**variables, "params": params}
        (logits, _), changed = model.apply(given, images, train=True, mutable=["batch_stats"])
        return -jax.nn.log_softmax(logits)[np.arange(2), labels].mean(), changed.get("batch_stats", {})

    (value, statistics), slopes = jax.jit(jax.value_and_grad(loss, has_aux=True))(variables["params"])
    return value, slopes, statistics


def _cast(tree: Any, dtype: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf, dtype)), tree)


def _flat(tree: Any) -> dict[str, np.ndarray]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {"/".join(key.key for key in path): np.asarray(leaf) for path, leaf in leaves}


def _close(found: dict[str, Any], expected: dict[str, Any], tolerance: float) -> None:
    assert set(found) == set(expected)
    # What is zero but for rounding, as the gradient of a bias before a norm, is held to the largest of all.
    largest = max((np.abs(value).max() for value in expected.values()), default=0.0)
    for name, value in expected.items():
        scale = max(np.abs(value).max(), 1e-6 * largest)
        assert np.abs(found[name] - value).max() <= tolerance * scale, name
