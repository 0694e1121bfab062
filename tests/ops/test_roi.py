import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcv.ops import roi_align

pytestmark = pytest.mark.usefixtures("form")


def ramp(height, width):
    """Ten for every row and one for every column: the number says the place, and a mean the middle."""
    return (10.0 * jnp.arange(float(height))[:, None] + jnp.arange(float(width))[None])[..., None]


def some(seed, n, height=12, width=16, channels=3):
    random = np.random.default_rng(seed)
    features = jnp.asarray(random.normal(size=(height, width, channels)), jnp.float32)
    corners, sides = random.uniform(-6, 14, (n, 2)), random.uniform(0, 12, (n, 2))
    return features, jnp.asarray(np.concatenate([corners, corners + sides], -1), jnp.float32)


def test_by_hand():
    boxes = jnp.asarray([[1.0, 2.0, 5.0, 8.0], [3.0, 3.0, 4.0, 4.0]])
    out = roi_align(ramp(10, 10), boxes, output_size=(3, 2))
    # The middles of the bins lie at y = 3, 5, 7 and x = 2, 4, and half a pixel before them is the pixel's number.
    expected = [[[25 + 1.5, 25 + 3.5], [45 + 1.5, 45 + 3.5], [65 + 1.5, 65 + 3.5]]]
    np.testing.assert_allclose(out[:1, ..., 0], expected, rtol=1e-6)
    np.testing.assert_allclose(roi_align(ramp(10, 10), boxes, output_size=1)[:, 0, 0, 0], [47.5, 33.0], rtol=1e-6)


def test_as_in_the_first_mask_rcnn():
    """Half a pixel further, and boxes no narrower than a pixel."""
    boxes = jnp.asarray([[1.0, 2.0, 5.0, 8.0], [3.0, 3.0, 3.0, 3.0]])
    out = roi_align(ramp(10, 10), boxes, output_size=1, aligned=False)
    np.testing.assert_allclose(out[:, 0, 0, 0], [53.0, 38.5], rtol=1e-6)


def test_samples_outside():
    """One sample a bin: at -1.5 and at 5 beyond a map of 4 there is nothing, up to a pixel away there is the border."""
    features = 1 + jnp.arange(4.0).reshape(1, 4, 1) * jnp.ones((4, 1, 1))
    boxes = jnp.asarray([[-1.5, 1.0, 6.0, 2.0]])
    out = roi_align(features, boxes, output_size=(1, 5), sampling_ratio=1)
    # Middles at x = -0.75, 0.75, 2.25, 3.75, 5.25: as numbers of pixels -1.25 (outside), 0.25, 1.75, 3.25, 4.75.
    np.testing.assert_allclose(out[0, 0, :, 0], [0.0, 1.25, 2.75, 4.0, 0.0], rtol=1e-6)
    far = jnp.asarray([[50.0, 50.0, 60.0, 60.0], [-60.0, 0.0, -50.0, 9.0]])
    assert not roi_align(features, far, output_size=2).any()


def test_scale_of_the_features():
    features, boxes = some(0, 5)
    found = roi_align(features, 16 * boxes, output_size=2, spatial_scale=1 / 16)
    np.testing.assert_array_equal(found, roi_align(features, boxes, output_size=2))


@pytest.mark.parametrize("sampling_ratio", [1, 2, 3])
def test_one_image_or_many(sampling_ratio):
    pairs = [some(i, 5) for i in range(3)]
    features, boxes = (jnp.stack(parts).reshape(3, 1, *parts[0].shape) for parts in zip(*pairs, strict=True))
    together = roi_align(features, boxes, output_size=(2, 3), sampling_ratio=sampling_ratio)
    assert together.shape == (3, 1, 5, 2, 3, 3)
    for i, pair in enumerate(pairs):
        alone = roi_align(*pair, output_size=(2, 3), sampling_ratio=sampling_ratio)
        np.testing.assert_array_equal(together[i, 0], alone)


@pytest.mark.parametrize("n", [1, 5, 37])
def test_the_gradient_is_the_transpose(n):
    """Linear in the features: both products of the same three must agree, and every bin inside hands on all it got."""
    features, boxes = some(n, n)
    gradients = jnp.asarray(np.random.default_rng(1).normal(size=(n, 2, 2, 3)), jnp.float32)
    out, pull = jax.vjp(lambda x: roi_align(x, boxes, output_size=2), features)
    np.testing.assert_allclose((out * gradients).sum(), (pull(gradients)[0] * features).sum(), rtol=2e-4)
    inside = jnp.tile(jnp.asarray([[2.0, 3.0, 9.0, 7.5]]), (n, 1))
    gradient = jax.grad(lambda x: roi_align(x, inside, output_size=2).sum())(features)
    np.testing.assert_allclose(gradient.sum(), n * 2 * 2 * 3, rtol=1e-5)
    by_boxes = jax.grad(lambda b: roi_align(features, b, output_size=2).sum())(boxes)
    assert not by_boxes.any()


def test_half_precision():
    """Computed in float32; rounded once."""
    features, boxes = some(3, 5)
    features = features.astype(jnp.bfloat16)
    out, pull = jax.vjp(lambda x: roi_align(x, boxes, output_size=2), features)
    wide, wide_pull = jax.vjp(lambda x: roi_align(x, boxes, output_size=2), features.astype(jnp.float32))
    assert out.dtype == jnp.bfloat16
    np.testing.assert_array_equal(out, wide.astype(jnp.bfloat16))
    gradient = pull(jnp.ones_like(out))[0]
    np.testing.assert_array_equal(gradient, wide_pull(jnp.ones_like(wide))[0].astype(jnp.bfloat16))


def test_gradient_of_the_gradient():
    """The gradient of the features is linear in that of the bins, so its transpose is the forward pass."""
    features, boxes = some(4, 5)
    out, pull = jax.vjp(lambda x: roi_align(x, boxes, output_size=2), features)
    found = jax.grad(lambda gradients: (pull(gradients)[0] * features).sum())(jnp.zeros_like(out))
    np.testing.assert_allclose(found, out, rtol=1e-5, atol=1e-6)


def test_odd_boxes_and_features():
    features, _ = some(2, 1)
    nan, inf = jnp.nan, jnp.inf
    boxes = jnp.asarray([[nan, 0, 4, 4], [0, 0, inf, 4], [-inf, 0, inf, 4], [5, 5, 5, 5], [1e30, 1, 2e30, 5]])
    value, gradient = jax.value_and_grad(lambda x: roi_align(x, boxes, output_size=2).sum())(features)
    assert np.isfinite(value) and np.isfinite(gradient).all()
    out = roi_align(features, boxes, output_size=2)
    assert not out[jnp.asarray([0, 1, 2, 4])].any() and out[3].any()
    # A box turned round is read backwards.
    there, back = jnp.asarray([[2.0, 3.0, 7.0, 9.0]]), jnp.asarray([[7.0, 9.0, 2.0, 3.0]])
    there, back = (roi_align(features, box, output_size=3) for box in (there, back))
    np.testing.assert_allclose(there, back[:, ::-1, ::-1], rtol=1e-4, atol=1e-6)
    # One pixel is the same everywhere.
    one = jnp.full((1, 1, 2), 3.0)
    np.testing.assert_allclose(roi_align(one, jnp.asarray([[0.0, 0.0, 1.0, 1.0]]), output_size=2), 3.0)
    gradient = jax.grad(lambda x: roi_align(x, jnp.asarray([[0.0, 0.0, 1.0, 1.0]]), output_size=2).sum())(one)
    np.testing.assert_allclose(gradient, 4.0)


@pytest.mark.parametrize(("features", "boxes"), [((4, 4, 2), (0, 4)), ((0, 4, 2), (3, 4)), ((0, 4, 4, 2), (0, 3, 4))])
def test_nothing_to_look_at(features, boxes):
    out = roi_align(jnp.ones(features), jnp.ones(boxes), output_size=2)
    assert out.shape == (*boxes[:-1], 2, 2, 2) and not out.any()


def test_refuses_what_would_have_no_fixed_shape():
    with pytest.raises(ValueError, match="sampling_ratio must be at least 1, not -1"):
        roi_align(ramp(4, 4), jnp.ones((1, 4)), output_size=2, sampling_ratio=-1)
