"""Our ops against torchvision's and torch's on the same numbers."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxcv import ops

torch = pytest.importorskip("torch")
torchvision = pytest.importorskip("torchvision")


def some_boxes(seed, n, size=100.0):
    random = np.random.default_rng(seed)
    corner, side = random.uniform(0, size, (n, 2)), random.uniform(1, size / 2, (n, 2))
    return np.concatenate([corner, corner + side], -1).astype(np.float32)


def tensor(array):
    return torch.from_numpy(np.array(array))


@pytest.mark.parametrize("ours", ["box_iou", "generalized_box_iou"])
def test_overlaps(ours):
    a, b = some_boxes(0, 40), some_boxes(1, 30)
    found = getattr(ops, ours)(jnp.asarray(a), jnp.asarray(b))
    np.testing.assert_allclose(found, getattr(torchvision.ops, ours)(tensor(a), tensor(b)), rtol=1e-5, atol=1e-6)


def test_area():
    boxes = some_boxes(2, 20)
    np.testing.assert_allclose(ops.box_area(jnp.asarray(boxes)), torchvision.ops.box_area(tensor(boxes)), rtol=1e-6)


@pytest.mark.parametrize("source", ["xyxy", "xywh", "cxcywh"])
@pytest.mark.parametrize("target", ["xyxy", "xywh", "cxcywh"])
def test_convert(source, target):
    boxes = some_boxes(3, 20)
    found = ops.box_convert(jnp.asarray(boxes), source=source, target=target)
    np.testing.assert_allclose(found, torchvision.ops.box_convert(tensor(boxes), source, target), rtol=1e-5, atol=1e-4)


def test_clip():
    boxes = some_boxes(4, 30) - 20
    found = ops.clip_boxes_to_image(jnp.asarray(boxes), image_size=(60, 80))
    np.testing.assert_array_equal(found, torchvision.ops.clip_boxes_to_image(tensor(boxes), (60, 80)))


@pytest.mark.parametrize("n", [50, 400])
@pytest.mark.parametrize("iou_threshold", [0.2, 0.5, 0.9])
def test_nms(n, iou_threshold):
    boxes, random = some_boxes(n, n), np.random.default_rng(n)
    scores, classes = random.permutation(n).astype(np.float32) / n, random.integers(0, 5, n)
    indices, valid = ops.nms(jnp.asarray(boxes), jnp.asarray(scores), iou_threshold=iou_threshold)
    expected = torchvision.ops.nms(tensor(boxes), tensor(scores), iou_threshold)
    assert indices[valid].tolist() == expected.tolist()
    indices, valid = ops.batched_nms(
        jnp.asarray(boxes), jnp.asarray(scores), jnp.asarray(classes), iou_threshold=iou_threshold
    )
    expected = torchvision.ops.batched_nms(tensor(boxes), tensor(scores), tensor(classes), iou_threshold)
    assert indices[valid].tolist() == expected.tolist()


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0, 1.0), (10.0, 10.0, 5.0, 5.0)])
def test_box_coder(weights):
    coder = pytest.importorskip("torchvision.models.detection._utils").BoxCoder(weights)
    boxes, references = some_boxes(5, 30), some_boxes(6, 30)
    found = ops.encode_boxes(jnp.asarray(boxes), jnp.asarray(references), weights=weights)
    np.testing.assert_allclose(found, coder.encode_single(tensor(boxes), tensor(references)), rtol=1e-4, atol=1e-4)
    deltas = np.random.default_rng(7).normal(0, 20, (30, 4)).astype(np.float32)
    found = ops.decode_boxes(jnp.asarray(deltas), jnp.asarray(references), weights=weights)
    np.testing.assert_allclose(found, coder.decode_single(tensor(deltas), tensor(references)), rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize(("window", "strides", "padding"), [(2, 2, 0), (3, 2, 1), (3, 1, 1), (5, 3, 2)])
def test_pooling(window, strides, padding):
    images = np.random.default_rng(8).normal(size=(2, 13, 14, 3)).astype(np.float32)
    channels_first = tensor(images.transpose(0, 3, 1, 2))
    for ours, theirs in ((ops.max_pool2d, "max_pool2d"), (ops.avg_pool2d, "avg_pool2d")):
        found = ours(jnp.asarray(images), window=window, strides=strides, padding=padding)
        expected = getattr(torch.nn.functional, theirs)(channels_first, window, strides, padding)
        np.testing.assert_allclose(found, expected.permute(0, 2, 3, 1), rtol=1e-5, atol=1e-6)


def test_colors():
    """One factor at a time: torchvision cuts to [0, 1] between the three steps."""
    functional = pytest.importorskip("torchvision.transforms.functional")
    images = np.random.default_rng(9).uniform(0.3, 0.6, (2, 8, 9, 3)).astype(np.float32)
    for place, name in enumerate(("adjust_brightness", "adjust_contrast", "adjust_saturation")):
        factors = [jnp.full(2, 1.3) if i == place else jnp.ones(2) for i in range(3)]
        expected = getattr(functional, name)(tensor(images.transpose(0, 3, 1, 2)), 1.3)
        # torchvision rounds the luma to four decimals.
        np.testing.assert_allclose(
            ops.adjust_colors(jnp.asarray(images), *factors), expected.permute(0, 2, 3, 1), atol=1e-3
        )
