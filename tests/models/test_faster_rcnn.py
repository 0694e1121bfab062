"""Two-stage detectors: one program for any number of targets, finite gradients, evaluation that ignores targets."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcv import losses, models, ops, predict
from jaxcv.types import Regions, TwoStageOutputs

SIDE, ROOM = 32, 200
QUICK_TO_COMPILE = {"xla_backend_optimization_level": 0}
BACKBONE = models.ResNet(stage_sizes=(1, 1), width=8)
FASTER = models.FasterRCNN(
    anchor_boxes=ops.anchor_sizes((6, 12), (0.5, 1.0, 2.0)),
    num_classes=3,
    backbone=BACKBONE,
    stages=(4, 8),
    pyramid_channels=8,
    extra_level=False,
    max_candidates=(30, 20),
    max_proposals=(20, 10),
    samples=8,
    fc_widths=(16, 16),
)


def batch(*counts):
    """Images with so many targets each, in a batch with room for 200."""
    random = np.random.default_rng(0)
    corners = random.uniform(0, 20, (len(counts), ROOM, 2))
    boxes = np.concatenate([corners, corners + random.uniform(3, 12, corners.shape)], -1).astype(np.float32)
    valid = np.arange(ROOM) < np.array(counts)[:, None]
    return {
        "image": jnp.asarray(random.uniform(size=(len(counts), SIDE, SIDE, 3)), jnp.float32),
        "boxes": jnp.asarray(np.where(valid[..., None], boxes, 0)),
        "classes": jnp.asarray(random.integers(0, 3, valid.shape), jnp.int32),
        "valid": jnp.asarray(valid),
        "ignored": jnp.zeros(valid.shape, bool),
        "proposals": jnp.asarray(boxes[:, 100:120]),
    }


def started(model, inputs):
    """Variables of the usual scale, drawn on the host, which is cheaper than to compile what draws them."""
    random = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), *inputs))

    def draw(x):
        values = (
            random.normal(size=x.shape) / np.sqrt(np.prod(x.shape[:-1]))
            if x.ndim > 1
            else random.uniform(0.1, 0.3, x.shape)
        )
        return jnp.asarray(values, x.dtype)

    return jax.tree.map(draw, shapes)


FAST = models.FastRCNN(num_classes=3, backbone=BACKBONE, stages=(4,), samples=8, fc_widths=(16,))
CROPS = models.RCNN(num_classes=3, backbone=BACKBONE, crop_size=16, samples=8)
FAST_INPUTS = ("image", "proposals", "boxes", "valid")
CASES = {
    "faster": (FASTER, losses.faster_rcnn, ("image", "boxes", "valid"), {"objectness", "proposal_box", "class", "box"}),
    "fast": (FAST, losses.fast_rcnn, FAST_INPUTS, {"class", "box"}),
    "fast, aligned": (
        FAST.clone(pool="align", stages=(4, 8), pyramid_channels=8),
        losses.fast_rcnn,
        FAST_INPUTS,
        set(),
    ),
    "crops": (CROPS, losses.fast_rcnn, FAST_INPUTS, {"class", "box"}),
}


@pytest.mark.parametrize("name", CASES)
def test_one_program_for_any_number_of_targets(name):
    model, loss, inputs, terms = CASES[name]
    variables = started(model, [batch(1, 1)[n] for n in inputs])
    traces = 0

    @partial(jax.jit, compiler_options=QUICK_TO_COMPILE)
    def step(variables, batch, key):
        nonlocal traces
        traces += 1

        def total(params):
            given = [batch[n] for n in inputs]
            (outputs, _), _ = model.apply(
                {**variables, "params": params}, *given, train=True, mutable=["batch_stats"], rngs={"dropout": key}
            )
            found = loss(outputs, batch)
            return sum(v.sum() for v, _ in found.values()), (outputs, found)

        return jax.grad(total, has_aux=True)(variables["params"])

    for counts in ((0, 0), (1, 0), (200, 3)):
        gradients, (outputs, found) = step(variables, batch(*counts), jax.random.key(1))
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((gradients, found)))
        regions = outputs.regions if isinstance(outputs, TwoStageOutputs) else outputs
        assert terms <= set(found) and regions.boxes.shape == (2, 8, 4)
        assert (found["box"][0] > 0).tolist() == [count > 0 for count in counts]
    assert traces == 1


@pytest.mark.parametrize("name", ["faster", "fast", "crops"])
def test_evaluation_does_not_look_at_targets_and_is_one_program(name):
    model, _, inputs, _ = CASES[name]
    one = batch(3, 5)
    variables = started(model, [one[n] for n in inputs])
    traces = 0

    @partial(jax.jit, compiler_options=QUICK_TO_COMPILE)
    def run(*given):
        nonlocal traces
        traces += 1
        return predict.rcnn(model.apply(variables, *given)[0], image_size=(SIDE, SIDE))

    found = run(*(one[n] for n in inputs))
    assert found.boxes.shape == (2, 100, 4) and found.valid.any()
    assert found.boxes.min() >= 0 and found.boxes.max() <= SIDE
    for counts in ((0, 1), (200, 0)):
        other = batch(*counts)
        again = run(*(other[n] if n in ("boxes", "valid") else one[n] for n in inputs))
        jax.tree.map(np.testing.assert_array_equal, found, again)
    if "proposals" in inputs:  # none proposed: none found
        none = run(*(jnp.zeros_like(one[n]) if n == "proposals" else one[n] for n in inputs))
        assert not none.valid.any()
    assert traces == 1


def test_anchor_boxes_that_cannot_be_divided():
    model = FASTER.clone(anchor_boxes=((4.0, 4.0),))
    with pytest.raises(ValueError, match="1 anchor boxes cannot be divided evenly among 2 levels"):
        jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, SIDE, SIDE, 3))))


def test_training_without_targets():
    keys = {name: jax.random.key(0) for name in ("params", "dropout")}
    with pytest.raises(ValueError, match="training takes the targets too"):
        jax.eval_shape(lambda: FASTER.init(keys, jnp.zeros((1, SIDE, SIDE, 3)), train=True))


def test_the_loss_by_hand():
    """One region on its target, one on nothing, one on an ignored box, one that is padding."""
    regions = Regions(
        boxes=jnp.asarray([[[0, 0, 10, 10], [20, 20, 30, 30], [50, 50, 60, 60], [0, 0, 10, 10]]], jnp.float32),
        valid=jnp.asarray([[True, True, True, False]]),
        logits=jnp.log(jnp.asarray([[[0.2, 0.3, 0.5], [0.9, 0.05, 0.05], [1, 1, 1], [1, 1, 1]]], jnp.float32)),
        deltas=jnp.zeros((1, 4, 3, 4)).at[0, 0, 2, 0].set(2.0),
    )
    given = {
        "boxes": jnp.asarray([[[1, 0, 11, 10], [50, 50, 60, 60]]], jnp.float32),
        "classes": jnp.asarray([[1, 0]]),
        "valid": jnp.asarray([[True, False]]),
        "ignored": jnp.asarray([[False, True]]),
    }
    found = losses.fast_rcnn(regions, given)
    np.testing.assert_allclose(found["class"][0], [-(np.log(0.5) + np.log(0.9)) / 2], rtol=1e-5)
    # The target's x is a tenth of the width further, times 10: |2 - 1| - 1/18.
    np.testing.assert_allclose(found["box"][0], [(1 - 1 / 18) / 2], rtol=1e-5)
    assert found["class"][1].tolist() == [2.0]


def test_a_detection_by_hand():
    regions = Regions(
        boxes=jnp.asarray([[[0, 0, 10, 20], [1, 0, 11, 20], [0, 0, 10, 20], [0, 0, 9, 9]]], jnp.float32),
        valid=jnp.asarray([[True, True, True, False]]),
        logits=jnp.log(jnp.asarray([[[0.1, 0.1, 0.8], [0.3, 0.05, 0.65], [0.2, 0.7, 0.1], [0.1, 0.1, 0.8]]])),
        deltas=jnp.zeros((1, 4, 3, 4)).at[0, 0, 2, 0].set(5.0),
    )
    found = predict.rcnn(regions, image_size=(15, 30), score_threshold=0.2, max_outputs=3)
    np.testing.assert_allclose(found.boxes[0], [[5, 0, 15, 15], [0, 0, 10, 15], [1, 0, 11, 15]], atol=1e-5)
    np.testing.assert_allclose(found.scores[0], [0.8, 0.7, 0.65], rtol=1e-5)
    assert found.classes[0].tolist() == [1, 0, 1] and found.proposals is None
    found = predict.rcnn(regions, image_size=(15, 30), proposals=9)
    assert found.proposals[0].tolist() == [[0, 0, 10, 20], [1, 0, 11, 20], [0, 0, 10, 20], [0] * 4]
