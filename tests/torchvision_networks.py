"""One of our networks and torchvision's of the same name, with the same weights: in evaluation and over one step."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from torch_networks import HASTE, arrays, randomize, step

from jaxcv import models, weights
from jaxcv.models import IMAGENET_MEAN, IMAGENET_STD

torch: Any = pytest.importorskip("torch")
torchvision: Any = pytest.importorskip("torchvision")

CLASSES = 10


def compare(name: str, *sides: int, fc_width: int | None = None) -> None:
    """Logits in float32; loss, gradients and running statistics of one training step in float64.

    Differences are measured against the largest value of the tensor. In float32 the gradients are no measure: a single
    ReLU that rounding switches moves one by a fifth (ResNet-18, 64x96: one of half a million, 6e-7 from zero), and in
    deep networks with norms torch is as far from its own float64. In float64 both agree to what storing the result as
    float32 takes away.

    Args:
        name: torchvision's.
        sides: height and width of the two images.
        fc_width: hidden neurons of VGG; with the 4096 of torchvision they take most of the time.
    """
    network = torchvision.models.get_model(name, weights=None, num_classes=CLASSES)
    options: dict[str, Any] = {}
    if fc_width is not None:
        options["fc_width"] = fc_width
        _narrow(network, fc_width)
    randomize(network, seed=0).eval()
    # Copies: one step changes torch's tensors in their places.
    variables = weights.from_torchvision(name, {key: value.copy() for key, value in arrays(network).items()}, **options)
    model = getattr(models, name)(num_classes=CLASSES, **options)
    images = np.random.default_rng(1).uniform(size=(2, *sides, 3)).astype(np.float32)

    found = jax.jit(lambda v, x: model.apply(v, x)[0])(variables, jnp.asarray(images))
    _close({"logits": found}, {"logits": network(_inputs(images)).numpy(force=True)}, 1e-5)

    images, labels = images.astype(np.float64), np.asarray([3, 8])
    theirs, after = step(
        network.double(), _inputs(images), lambda x: torch.nn.functional.cross_entropy(x, torch.from_numpy(labels))
    )
    if hasattr(model, "dropout"):
        model = model.clone(dropout=0.0)  # as `randomize` leaves torch's
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf, np.float64)), variables)
        ours, *trees = jax.device_get(_step(model, wide, jnp.asarray(images), labels))
    np.testing.assert_allclose(ours, theirs, rtol=1e-10)
    expected = weights.from_torchvision(
        name, {key: value.astype(np.float32) for key, value in after.items()}, **options
    )
    for tree, collection in zip(trees, ("params", "batch_stats"), strict=True):
        assert all(leaf.dtype == np.float64 for leaf in jax.tree.leaves(tree))
        _close(_flat(tree), _flat(expected.get(collection, {})), 1e-6)


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

    gradient = jax.jit(jax.value_and_grad(loss, has_aux=True), compiler_options=HASTE)
    (value, statistics), gradients = gradient(variables["params"])
    return value, gradients, statistics


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
