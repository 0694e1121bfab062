"""Boxes, regions and embeddings against torchvision's ops and a few plain lines of torch, to the digit."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcv import losses, ops

torch = pytest.importorskip("torch")
torchvision = pytest.importorskip("torchvision")
detection: Any = pytest.importorskip("torchvision.models.detection")


def tensor(array):
    return torch.from_numpy(np.array(array))


def kept(indices, valid):
    return np.asarray(indices)[np.asarray(valid)].tolist()


def region_boxes(n, height, width):
    """Inside, over the border, wholly outside, empty, inverted, and on whole pixels."""
    random = np.random.default_rng(n)
    corners = random.uniform(-0.4, 1.0, (n, 2)) * (width, height)
    boxes = np.concatenate([corners, corners + random.uniform(0, 0.8, (n, 2)) * (width, height)], -1)
    boxes[: n // 4] = boxes[: n // 4].round()
    odd = [
        [-40, -40, -20, -20],
        [2 * width, 0, 3 * width, height],
        [-1, -1, width + 1, height + 1],
        [-8, -8, 41, 41],
        [3, 3, 3, 3],
        [9, 8, 2, 1],
        [0, 0, width, height],
        [width - 1, height - 1, width, height],
    ]
    return np.concatenate([boxes, odd]).astype(np.float32)


@pytest.mark.usefixtures("form")
@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize(("sampling_ratio", "output_size"), [(1, 7), (2, (7, 5)), (3, 2)])
def test_roi_align(aligned, sampling_ratio, output_size):
    height, width, channels, scale = 13, 17, 4, 0.3
    random = np.random.default_rng(0)
    boxes = np.stack([region_boxes(n, height, width) / scale for n in (20, 20)]).astype(np.float32)
    boxes[1] = boxes[1, ::-1]
    features = random.normal(size=(2, height, width, channels)).astype(np.float32)
    options = {"output_size": output_size, "spatial_scale": scale, "sampling_ratio": sampling_ratio, "aligned": aligned}

    theirs = tensor(features.transpose(0, 3, 1, 2)).requires_grad_()
    expected = torchvision.ops.roi_align(theirs, [tensor(b) for b in boxes], **options)
    gradients = random.normal(size=(*expected.shape[:1], *expected.shape[2:], channels)).astype(np.float32)
    expected.backward(tensor(gradients.transpose(0, 3, 1, 2)))

    @jax.jit
    def ours(features, boxes, gradients):
        out, pull = jax.vjp(lambda *args: ops.roi_align(*args, **options), features, boxes)
        return out, *pull(gradients.reshape(out.shape))

    out, by_features, by_boxes = ours(jnp.asarray(features), jnp.asarray(boxes), jnp.asarray(gradients))
    expected = expected.detach().permute(0, 2, 3, 1)
    np.testing.assert_allclose(out.reshape(expected.shape), expected, rtol=1e-5, atol=2e-6)
    np.testing.assert_allclose(by_features, theirs.grad.permute(0, 2, 3, 1), rtol=1e-5, atol=1e-5)
    assert not by_boxes.any()


@pytest.mark.parametrize("output_size", [7, (3, 5)])
def test_roi_pool(output_size):
    height, width, channels, scale = 13, 17, 20, 0.3
    random = np.random.default_rng(0)
    boxes = np.stack([region_boxes(n, height, width) / scale for n in (20, 20)]).astype(np.float32)
    features = np.round(random.normal(size=(2, height, width, channels)), 1).astype(np.float32)  # many are equal
    theirs = tensor(features.transpose(0, 3, 1, 2)).requires_grad_()
    expected = torchvision.ops.roi_pool(theirs, [tensor(b) for b in boxes], output_size, scale)
    gradients = random.normal(size=(*expected.shape[:1], *expected.shape[2:], channels)).astype(np.float32)
    expected.backward(tensor(gradients.transpose(0, 3, 1, 2)))

    @jax.jit
    def ours(features, boxes, gradients):
        pool = lambda x: ops.roi_pool(x, boxes, output_size=output_size, spatial_scale=scale)  # noqa: E731
        out, pull = jax.vjp(pool, features)
        return out, *pull(gradients.reshape(out.shape))

    out, by_features = ours(jnp.asarray(features), jnp.asarray(boxes), jnp.asarray(gradients))
    expected = expected.detach().permute(0, 2, 3, 1)
    np.testing.assert_array_equal(out.reshape(expected.shape), expected)
    np.testing.assert_allclose(by_features, theirs.grad.permute(0, 2, 3, 1), rtol=1e-5, atol=1e-5)


def test_multiscale_roi_align():
    random = np.random.default_rng(1)
    maps = [random.normal(size=(2, 64 // s, 96 // s, 3)).astype(np.float32) for s in (4, 8, 16)]
    corners = random.uniform(-5, 60, (2, 40, 2))
    boxes = np.concatenate([corners, corners + np.exp(random.uniform(-1, 4.5, (2, 40, 2)))], -1).astype(np.float32)
    boxes[0, :3] = [[0, 0, 24, 24], [0, 0, 0, 0], [3, 3, 51, 51]]  # on the boundary of two levels; empty
    pool = torchvision.ops.MultiScaleRoIAlign(["0", "1", "2"], 5, 2, canonical_scale=24, canonical_level=2)
    theirs = [tensor(x.transpose(0, 3, 1, 2)).requires_grad_() for x in maps]
    levels = {str(i): x for i, x in enumerate(theirs)}
    expected = pool(levels, [tensor(b) for b in boxes], [(64, 96), (64, 96)])
    gradients = random.normal(size=(2, 40, 5, 5, 3)).astype(np.float32)
    expected.backward(tensor(gradients.reshape(80, 5, 5, 3).transpose(0, 3, 1, 2)))

    @jax.jit
    def ours(maps, boxes, gradients):
        options = {"output_size": 5, "image_size": (64, 96), "canonical_size": 24.0, "canonical_level": 2.0}
        out, pull = jax.vjp(lambda x: ops.multiscale_roi_align(x, boxes, **options), maps)
        return out, *pull(gradients)

    out, by_maps = ours(tuple(map(jnp.asarray, maps)), jnp.asarray(boxes), jnp.asarray(gradients))
    np.testing.assert_allclose(out.reshape(80, 5, 5, 3), expected.detach().permute(0, 2, 3, 1), rtol=1e-5, atol=2e-6)
    for found, other in zip(by_maps, theirs, strict=True):
        np.testing.assert_allclose(found, other.grad.permute(0, 2, 3, 1), rtol=1e-5, atol=1e-5)


def test_anchor_boxes_of_a_pyramid():
    sizes, ratios = ((13, 32), (64, 100)), (0.5, 1.0, 1.7)
    images = detection.image_list.ImageList(torch.zeros(1, 3, 70, 99), [(70, 99)])
    maps = [torch.zeros(1, 1, 17, 24), torch.zeros(1, 1, 8, 12)]
    expected = detection.anchor_utils.AnchorGenerator(sizes, (ratios,) * 2)(images, maps)[0]
    found = [
        ops.anchor_grid(ops.anchor_sizes(s, ratios), grid_size=tuple(m.shape[2:]), image_size=(70, 99))
        for s, m in zip(sizes, maps, strict=True)
    ]
    np.testing.assert_allclose(np.concatenate(found), expected, atol=1e-4)


@pytest.mark.parametrize(("high", "low", "keep_best"), [(0.7, 0.3, True), (0.5, 0.5, False)])
def test_matcher(high, low, keep_best):
    candidates, _, _ = crowd(300, 3)
    candidates[:, 2:] = np.maximum(candidates[:, 2:], candidates[:, :2])  # torchvision's area of inverted boxes is odd
    targets = np.concatenate([candidates[[5, 50]] + 2, candidates[[70, 70]], [[7, 7, 7, 7]]]).astype(np.float32)
    valid = np.array([True, True, True, False, False])
    overlaps = torchvision.ops.box_iou(tensor(targets[valid]), tensor(candidates))
    expected = detection._utils.Matcher(high, low, keep_best)(overlaps).numpy()
    options = {"positive_iou": high, "negative_iou": low, "keep_best": keep_best}
    found = ops.match_boxes(jnp.asarray(candidates), jnp.asarray(targets), jnp.asarray(valid), **options)
    np.testing.assert_array_equal(found.positive, expected >= 0)
    np.testing.assert_array_equal(found.negative, expected == -1)
    np.testing.assert_array_equal(np.asarray(found.target)[expected >= 0], expected[expected >= 0])
    nothing = ops.match_boxes(jnp.asarray(candidates), jnp.asarray(targets), jnp.zeros(5, bool), **options)
    assert nothing.negative.all() and not nothing.positive.any()


def crowd(n, seed):
    random = np.random.default_rng(seed)
    corners, sides = random.uniform(0, 60, (n, 2)), random.uniform(-1, 40, (n, 2))
    boxes = np.concatenate([corners, corners + sides], -1).astype(np.float32)
    boxes[: n // 8] = boxes[: n // 8].round()
    boxes[n // 8 : n // 7] = boxes[0]
    scores = random.integers(0, n // 2, n).astype(np.float32) / n  # many of them equal
    return boxes, scores, random.integers(0, 4, n)


@pytest.mark.usefixtures("form")
@pytest.mark.parametrize("n", [100, 700])
@pytest.mark.parametrize("iou_threshold", [0.0, 0.25, 0.5, 0.75, 1.0])
def test_nms_with_equal_scores_and_odd_boxes(n, iou_threshold):
    boxes, scores, classes = crowd(n, n)
    boxes[5, 2], boxes[6], boxes[7, 0] = np.inf, np.nan, -np.inf
    indices, valid = ops.nms(jnp.asarray(boxes), jnp.asarray(scores), iou_threshold=iou_threshold)
    assert kept(indices, valid) == torchvision.ops.nms(tensor(boxes), tensor(scores), iou_threshold).tolist()

    arrays = jnp.asarray(boxes), jnp.asarray(scores), jnp.asarray(classes)
    indices, valid = ops.batched_nms(*arrays, iou_threshold=iou_threshold)
    expected = np.concatenate(  # class by class: shifting the classes apart, as torchvision may, costs digits
        [
            mine[torchvision.ops.nms(tensor(boxes[mine]), tensor(scores[mine]), iou_threshold).numpy()]
            for mine in (np.flatnonzero(classes == k) for k in range(4))
        ]
    )
    assert kept(indices, valid) == expected[np.lexsort((expected, -scores[expected]))].tolist()
    indices, valid = ops.batched_nms(*arrays, iou_threshold=iou_threshold, max_outputs=n // 10)
    assert kept(indices, valid) == expected[np.lexsort((expected, -scores[expected]))].tolist()[: n // 10]


@pytest.mark.usefixtures("form")
def test_nms_at_thresholds_that_are_the_overlap_of_some_pair():
    boxes, scores, _ = crowd(400, 1)
    overlaps = torchvision.ops.box_iou(tensor(boxes), tensor(boxes)).numpy()
    overlaps = overlaps[np.argsort(-scores)[:4]]  # with the best, so that others' fates hang on them
    for threshold in overlaps[(overlaps > 0.1) & (overlaps < 0.9)]:
        for limit in (float(threshold), float(np.nextafter(threshold, np.float32(0)))):
            indices, valid = ops.nms(jnp.asarray(boxes), jnp.asarray(scores), iou_threshold=limit)
            assert kept(indices, valid) == torchvision.ops.nms(tensor(boxes), tensor(scores), limit).tolist()


@pytest.mark.parametrize("channels", [24, 515])
def test_gram_matrix(channels):
    features = np.random.default_rng(0).normal(size=(2, 5, 7, channels)).astype(np.float32)
    weights = np.random.default_rng(1).normal(size=(2, channels, channels)).astype(np.float32)
    theirs = tensor(features).requires_grad_()
    rows = theirs.reshape(2, 35, channels)
    expected = rows.transpose(1, 2) @ rows / (35 * channels)
    (expected * tensor(weights)).sum().backward()
    found, pull = jax.vjp(lambda x: ops.gram_matrix(x, normalize=True), jnp.asarray(features))
    np.testing.assert_allclose(found, expected.detach(), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(pull(jnp.asarray(weights))[0], theirs.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("distance", ["squared", "euclidean", "cosine"])
@pytest.mark.parametrize("margin", [0.3, None])
def test_triplet(distance, margin):
    random = np.random.default_rng(2)
    embeddings, label = random.normal(size=(40, 16)).astype(np.float32), random.integers(0, 6, 40)
    x, same = tensor(embeddings).requires_grad_(), tensor(label[:, None] == label)
    if distance == "cosine":
        unit = torch.nn.functional.normalize(x)
        apart = 1 - unit @ unit.T
    else:
        apart = (x[:, None] - x[None]).square().sum(-1)
    if distance == "euclidean":
        apart = (apart + torch.eye(40)).sqrt() - torch.eye(40)
    excess = apart.masked_fill(~same, -9e9).amax(1) - apart.masked_fill(same, 9e9).amin(1)
    expected = torch.nn.functional.softplus(excess) if margin is None else (excess + margin).relu()
    expected.sum().backward()

    def ours(x):
        values, weights = losses.triplet(x, {"label": jnp.asarray(label)}, distance=distance, margin=margin)["triplet"]
        return (values * weights).sum(), values

    gradient, values = jax.grad(ours, has_aux=True)(jnp.asarray(embeddings))
    np.testing.assert_allclose(values, expected.detach(), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(gradient, x.grad, rtol=1e-4, atol=1e-5)


def test_cosine_similarity():
    a, b = (np.random.default_rng(i).normal(size=(6, 9)).astype(np.float32) for i in (3, 4))
    a[0] = 0
    expected = torch.nn.functional.cosine_similarity(tensor(a), tensor(b))
    np.testing.assert_allclose(ops.cosine_similarity(jnp.asarray(a), jnp.asarray(b)), expected, rtol=1e-5, atol=1e-6)
