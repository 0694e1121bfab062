"""Overlaps, overlap losses and suppression of 10,000 random sets of boxes against torchvision."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcv import ops

torch: Any = pytest.importorskip("torch")
torchvision: Any = pytest.importorskip("torchvision")

CASES, N = 10_000, 12


@pytest.fixture(scope="module")
def cases():
    """Boxes on whole pixels, so that many are alike, touch, lie in each other or have no area; scores with ties."""
    random = np.random.default_rng(0)
    corners, sides = random.integers(0, 12, (CASES, N, 2)), random.integers(0, 9, (CASES, N, 2))
    boxes = np.concatenate([corners, corners + sides], -1).astype(np.float32)
    boxes[: CASES // 2, ::3] = boxes[: CASES // 2, :1]  # identical ones
    boxes[CASES // 2 :: 3] += random.uniform(0, 1, (1, N, 4)).astype(np.float32) * [0, 0, 1, 1]
    scores = random.integers(0, 6, (CASES, N)).astype(np.float32) / 6
    classes = random.integers(0, 3, (CASES, N)).astype(np.int32)
    assert (sides == 0).any() and len(np.unique(scores[0])) < N
    return boxes, scores, classes


def every_pair(name, boxes):
    """torchvision's function of each case's first half with its second, as float64 would have it."""
    a, b = torch.from_numpy(boxes[:, : N // 2]).double(), torch.from_numpy(boxes[:, N // 2 :]).double()
    function = getattr(torchvision.ops, name)
    return np.stack([function(x, y).numpy() for x, y in zip(a, b, strict=True)])


@pytest.mark.parametrize("name", ["box_iou", "generalized_box_iou", "distance_box_iou", "complete_box_iou"])
def test_overlaps(cases, name):
    boxes, _, _ = cases
    expected = every_pair(name, boxes)
    found = jax.vmap(getattr(ops, name))(jnp.asarray(boxes[:, : N // 2]), jnp.asarray(boxes[:, N // 2 :]))
    # torchvision divides nothing by nothing where both boxes are empty, and guards the rest with 1e-7; ours is 0.
    sides = boxes[..., 2:] - boxes[..., :2]
    empty = (sides == 0).any(-1)
    both = empty[:, : N // 2, None] & empty[:, None, N // 2 :]
    if name == "box_iou":
        assert (np.asarray(found)[both] == 0).all() and np.isnan(expected[both]).all()
    assert both.any() and np.isfinite(found).all()
    # The angle of an empty box is nobody's to define.
    defined = ~both if name != "complete_box_iou" else ~(empty[:, : N // 2, None] | empty[:, None, N // 2 :])
    np.testing.assert_allclose(np.asarray(found)[defined], expected[defined], rtol=1e-5, atol=2e-6)


def test_nms(cases):
    boxes, scores, classes = cases
    suppress = jax.jit(lambda b, s: ops.nms(b, s, iou_threshold=0.5))
    by_class = jax.jit(lambda b, s, c: ops.batched_nms(b, s, c, iou_threshold=0.25))
    found = jax.device_get(jax.lax.map(lambda case: suppress(*case), (jnp.asarray(boxes), jnp.asarray(scores))))
    each = jax.device_get(jax.lax.map(lambda case: by_class(*case), jax.tree.map(jnp.asarray, cases)))
    their_boxes, their_scores = torch.from_numpy(boxes), torch.from_numpy(scores)
    for i in range(CASES):
        kept = torchvision.ops.nms(their_boxes[i], their_scores[i], 0.5).tolist()
        assert found[0][i][found[1][i]].tolist() == kept, i
        # Class by class: torchvision's own batched_nms shifts the classes apart, which costs digits.
        mine = [np.flatnonzero(classes[i] == k) for k in range(3)]
        kept = np.concatenate(
            [m[torchvision.ops.nms(their_boxes[i][m], their_scores[i][m], 0.25).numpy()] for m in mine if len(m)]
        )
        kept = kept[np.lexsort((kept, -scores[i][kept]))].tolist()
        assert each[0][i][each[1][i]].tolist() == kept, i


@pytest.mark.parametrize("name", ["generalized", "distance", "complete"])
def test_overlap_losses_and_their_gradients(cases, name):
    boxes, _, _ = cases
    a, b = boxes[:, 0].astype(np.float32), boxes[:, 1].astype(np.float32)
    sane = (a[:, 2:] - a[:, :2] > 0).all(-1) & (b[:, 2:] - b[:, :2] > 0).all(-1)
    # Where sides coincide or touch, the gradient is on either side of an edge, and both choices are right.
    apart = np.abs(a[:, [0, 1, 2, 3, 0, 1, 2, 3]] - b[:, [0, 1, 2, 3, 2, 3, 0, 1]]).min(-1) > 0
    a, b = a[sane & apart], b[sane & apart]
    assert len(a) > 1000
    theirs = torch.from_numpy(a).double().requires_grad_()
    loss = getattr(torchvision.ops, f"{name}_box_iou_loss")(theirs, torch.from_numpy(b).double())
    loss.sum().backward()
    op = getattr(ops, f"paired_{name}_box_iou")
    value, pull = jax.vjp(lambda x: 1 - op(x, jnp.asarray(b)), jnp.asarray(a))
    np.testing.assert_allclose(value, loss.detach().numpy(), rtol=1e-5, atol=2e-6)
    np.testing.assert_allclose(pull(jnp.ones_like(value))[0], theirs.grad.numpy(), rtol=1e-3, atol=1e-5)
