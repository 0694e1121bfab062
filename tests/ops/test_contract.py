"""What every op promises: the same under jit, eagerly, under vmap, and in the precision it was given."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcv import ops


def _random(*shape, low=0.0, high=1.0):
    return np.random.default_rng(sum(shape)).uniform(low, high, shape).astype(np.float32)


def _boxes(*lead, n=5, size=40.0):
    corner = _random(*lead, n, 2, high=size)
    return np.concatenate([corner, corner + _random(*lead, n, 2, low=1.0, high=size)], -1)


ANCHORS = np.asarray([[8.0, 8.0], [20.0, 12.0]], np.float32)
IMAGES = _random(2, 3, 4, 6, 3)
WINDOWS = np.asarray([[[0.5, 0.2, 5, 4], [6, 0, 0, 4], [-1, -1, 7, 5]]] * 2, np.float32)
FACTORS = [_random(2, 3, low=0.5, high=1.5) for _ in range(3)]
CONTROL = _random(2, 5, 5, 2, low=-0.6, high=0.6)
POSITIONS = np.asarray([[[[[0, 1], [9, 2], [4, 11]], [[12, 13], [14, 21], [16, 22]]]]] * 2, np.int32)

# Positional arrays with a leading axis of two to vmap over, and options.
CALLS = {
    "adaptive_avg_pool2d": ([IMAGES], {"output_size": (3, 2)}),
    "adjust_colors": ([IMAGES, *FACTORS], {}),
    "adjust_hue": ([IMAGES, _random(2, 3, low=-0.5, high=0.5)], {}),
    "affine": ([IMAGES, _random(2, 3, 2, 3, low=-1)], {"fill": 0.5}),
    "affine_matrix": ([*FACTORS[:2], _random(2, 3, 2), _random(2, 3, 2)], {"center": (3.0, 2.0)}),
    "affine_positions": ([_random(2, 3, 2, 3, low=-1)], {"size": (4, 6)}),
    "affine_points": ([_random(2, 5, 2, high=6), _random(2, 2, 3, low=-1)], {}),
    "anchor_grid": ([np.stack([ANCHORS] * 2)], {"grid_size": (2, 3), "image_size": (32, 48)}),
    "avg_pool2d": ([IMAGES], {"window": 2, "padding": 1}),
    "balanced_sample": (
        [np.asarray([[0, 1], [2, 3]], np.uint32), _random(2, 9) > 0.6, _random(2, 9) < 0.5],
        {"count": 4, "positive_fraction": 0.5},
    ),
    "batch_norm": ([IMAGES, _random(2, 3, low=0.5), _random(2, 3)], {"epsilon": 1e-3}),
    "batched_nms": ([_boxes(2), _random(2, 5), np.asarray([[0, 1, 0, 1, 0]] * 2, np.int32)], {"max_outputs": 3}),
    "box_area": ([_boxes(2)], {}),
    "box_convert": ([_boxes(2)], {"source": "cxcywh", "target": "xywh"}),
    "box_iou": ([_boxes(2), _boxes(2, n=3)], {}),
    "boxes_in_window": ([_boxes(2, 3), WINDOWS], {"size": (4, 6)}),
    "clip_boxes_to_image": ([_boxes(2)], {"image_size": (30.0, 30.0)}),
    "complete_box_iou": ([_boxes(2), _boxes(2, n=3)], {}),
    "conv2d": (
        [IMAGES, _random(2, 3, 2, 1, 6)],
        {"strides": (1, 2), "padding": "same", "dilation": 2, "feature_group_count": 3},
    ),
    "conv_transpose2d": ([IMAGES, _random(2, 3, 2, 3, 5)], {"strides": (2, 1), "padding": ((0, 1), (1, -1))}),
    "cosine_similarity": ([_random(2, 5, 3, low=-1), _random(2, 5, 3)], {}),
    "crop_and_resize": ([IMAGES[:, 0], 0.1 * _boxes(2)], {"output_size": (2, 3), "context": 0.1}),
    "decode_boxes": ([_random(2, 5, 4, low=-1), _boxes(2)], {"weights": (10.0, 10.0, 5.0, 5.0)}),
    "decode_yolo": ([_random(2, 2, 3, 2, 7, low=-1), np.stack([ANCHORS] * 2)], {"image_size": (32, 48)}),
    "decode_yolo_v1": ([_random(2, 2, 3, 13)], {"num_boxes": 2, "image_size": (32, 48)}),
    "depthwise_conv2d": ([IMAGES, _random(2, 3, 3, 1, 3)], {"padding": 1}),
    "distance_box_iou": ([_boxes(2), _boxes(2, n=3)], {}),
    "elastic_positions": ([_random(2, 3, 5, 5, 2, low=-1)], {"size": (4, 6)}),
    "elastic_points": ([_random(2, 5, 2, high=6), CONTROL], {"image_size": (4, 6)}),
    "encode_boxes": ([_boxes(2), _boxes(2) + 1], {}),
    "encode_yolo": ([_boxes(2), np.stack([ANCHORS] * 2)], {"grid_size": (2, 3), "image_size": (32, 48)}),
    "gaussian_heatmaps": ([_random(2, 5, 2)], {"size": (3, 4), "sigma": 0.7}),
    "generalized_box_iou": ([_boxes(2), _boxes(2, n=3)], {}),
    "gram_matrix": ([_random(2, 3, 4, 5, low=-1)], {"normalize": True}),
    "image_pyramid": ([IMAGES], {"scales": (1.0, 0.6)}),
    "instance_norm": ([IMAGES, _random(2, 3, low=0.5), _random(2, 3)], {"epsilon": 1e-3}),
    "invert_affine": ([_random(2, 3, 2, 3, low=-1)], {}),
    "invert_elastic": ([_random(2, 5, 2, high=6), CONTROL], {"image_size": (4, 6)}),
    "kmeans_anchor_boxes": ([_random(2, 30, 2, low=1, high=50)], {"k": 3}),
    "largest_box": ([_boxes(2, 3), _random(2, 3, 5) > 0.4], {}),
    "local_response_norm": ([_random(2, 3, 4, 6, 7, low=-1)], {"size": 3, "alpha": 0.5}),
    "match_anchor_boxes": ([_random(2, 5, 2, high=30), np.stack([ANCHORS] * 2)], {}),
    "match_boxes": ([_boxes(2), _boxes(2, n=3), _random(2, 3) > 0.4], {"negative_iou": 0.3, "keep_best": True}),
    "matrix_nms": ([_boxes(2), _random(2, 5)], {"max_outputs": 3}),
    "max_pool2d": ([IMAGES], {"window": 3, "strides": 2, "padding": "same"}),
    "multiscale_roi_align": (
        [(_random(2, 8, 8, 3), _random(2, 4, 4, 3)), 8 * _boxes(2)],
        {"output_size": (2, 3), "image_size": (32, 32)},
    ),
    "max_pool2d_positions": ([IMAGES], {"window": 3, "strides": 2, "padding": 1}),
    "max_unpool2d": ([_random(2, 1, 2, 3, 2), POSITIONS], {"size": (4, 6), "window": 2}),
    "nms": ([_boxes(2), _random(2, 5)], {"iou_threshold": 0.3, "score_threshold": 0.1, "max_outputs": 3}),
    "paired_box_iou": ([_boxes(2), _boxes(2) + 1], {}),
    "paired_complete_box_iou": ([_boxes(2), _boxes(2) + 1], {}),
    "paired_distance_box_iou": ([_boxes(2), _boxes(2) + 1], {}),
    "paired_distances": ([_random(2, 5, 3, low=-1), _random(2, 5, 3)], {}),
    "paired_generalized_box_iou": ([_boxes(2), _boxes(2) + 1], {}),
    "paired_squared_distances": ([_random(2, 5, 3, low=-1), _random(2, 5, 3)], {}),
    "pairwise_cosine_similarity": ([_random(2, 5, 3, low=-1), _random(2, 4, 3)], {}),
    "pairwise_distances": ([_random(2, 5, 3, low=-1), _random(2, 4, 3)], {}),
    "pairwise_squared_distances": ([_random(2, 5, 3, low=-1), _random(2, 4, 3)], {}),
    "region_proposals": (
        [_random(2, 5), _random(2, 5, 4, low=-1), _boxes(2)],
        {"image_size": (30, 30), "level_sizes": (3, 2), "max_outputs": 4},
    ),
    "resized_crop": ([IMAGES, WINDOWS], {"fill": 0.5}),
    "roi_align": ([_random(2, 6, 8, 3), _boxes(2)], {"output_size": (2, 3), "spatial_scale": 0.1}),
    "roi_pool": ([_random(2, 6, 8, 3), _boxes(2)], {"output_size": (2, 3), "spatial_scale": 0.1}),
    "shape_iou": ([_random(2, 5, 2, high=30), np.stack([ANCHORS] * 2)], {}),
    "soft_argmax": ([_random(2, 3, 5, 4, 2, low=-3, high=3)], {}),
    "sliding_windows": ([IMAGES], {"window": (2, 3), "strides": (1, 2), "scales": (1.0, 0.8)}),
    "soft_nms": ([_boxes(2), _random(2, 5)], {"max_outputs": 3}),
    "to_float": ([(255 * IMAGES).astype(np.uint8)], {}),
    "upsample2x": ([IMAGES], {}),
    "upsample_bilinear": ([IMAGES], {"size": (7, 12)}),
    "warp": ([IMAGES, _random(2, 3, 5, 4, 2, low=-1, high=7)], {"fill": 0.5}),
}

of_arrays = [name for name in ops.__all__ if hasattr(getattr(ops, name), "lower")]


def test_every_op_is_held_to_it():
    assert sorted(CALLS) == sorted(of_arrays)
    plain = {name for name in ops.__all__ if inspect.isfunction(getattr(ops, name))}
    on_ints = (
        "anchor_sizes conv_multiply_adds conv_output_size conv_parameters elastic_limit pyramid_scales window_boxes"
    )
    assert plain == set(on_ints.split())


def _first(arrays, dtype):
    """The first of each two arrays, floats in a precision."""
    return jax.tree.map(lambda a: jnp.asarray(a[0], dtype if a.dtype == np.float32 else a.dtype), arrays)


def _close(a, b):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-5), a, b)


@pytest.mark.parametrize("name", of_arrays)
def test_jit_is_eager_and_vmap_is_a_loop(name):
    arrays, options = CALLS[name]
    arrays = jax.tree.map(jnp.asarray, arrays)
    op = getattr(ops, name)
    alone = [op(*jax.tree.map(lambda array, i=i: array[i], arrays), **options) for i in range(2)]
    together = jax.jit(jax.vmap(lambda *rows: op(*rows, **options)))(*arrays)
    _close(together, jax.tree.map(lambda *rows: np.stack(rows), *alone))
    if name in ("batched_nms", "kmeans_anchor_boxes", "matrix_nms", "nms", "region_proposals", "soft_nms"):
        return  # loops of compiled steps, dispatched one by one, take seconds; their tests hold them to the definition
    with jax.disable_jit():
        _close(op(*jax.tree.map(lambda array: array[0], arrays), **options), alone[0])


BOXES = """anchor_grid box_area box_convert box_iou boxes_in_window clip_boxes_to_image complete_box_iou decode_boxes
decode_yolo decode_yolo_v1 distance_box_iou encode_boxes encode_yolo generalized_box_iou kmeans_anchor_boxes
paired_box_iou paired_complete_box_iou paired_distance_box_iou paired_generalized_box_iou region_proposals
shape_iou"""
"""What is computed of boxes or makes boxes: see test_boxes_in_half_precision.py."""


@pytest.mark.parametrize("name", BOXES.split())
def test_boxes_are_float32_at_least(name):
    arrays, options = CALLS[name]
    for dtype in (jnp.bfloat16, jnp.float16):
        half = _first(arrays, dtype)
        out = jax.eval_shape(lambda half: getattr(ops, name)(*half, **options), half)
        floats = [leaf for leaf in jax.tree.leaves(out) if jnp.issubdtype(leaf.dtype, jnp.floating)]
        assert floats and {leaf.dtype for leaf in floats} == {jnp.dtype("float32")}


@pytest.mark.parametrize("name", sorted({*of_arrays} - {"to_float", "sliding_windows", *BOXES.split()}))
def test_half_precision_stays_half_precision(name):
    arrays, options = CALLS[name]
    arrays = _first(arrays, jnp.bfloat16)
    out = jax.eval_shape(lambda: getattr(ops, name)(*arrays, **options))
    out = out[0] if name == "batch_norm" else out  # statistics keep their digits
    assert not [leaf for leaf in jax.tree.leaves(out) if leaf.dtype == jnp.float32]


@pytest.mark.parametrize("name", [name for name in of_arrays if "nms" not in name and "match" not in name])
def test_gradients_are_finite(name):
    arrays, options = CALLS[name]
    arrays = _first(arrays, jnp.float32)
    if not jnp.issubdtype(jax.tree.leaves(arrays)[0].dtype, jnp.floating):
        return

    def total(first):
        leaves = jax.tree.leaves(getattr(ops, name)(first, *arrays[1:], **options))
        return sum((leaf.sum() for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.floating)), 0.0)

    if name == "kmeans_anchor_boxes":  # while loops have no reverse-mode gradient
        return
    gradient = jax.jit(jax.grad(total))(arrays[0])
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
