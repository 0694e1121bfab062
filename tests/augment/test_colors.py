import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcv import ops
from jaxcv.augment import colors, pca_colors
from jaxcv.augment.principal import principal_colors
from jaxcv.errors import UserError

B = 64


@jax.jit
def recolored(seed, batch, options):
    """Every option traced, so that one program serves all values."""
    return colors(jax.random.key(seed), batch, **options)


def augment(seed, batch, **options):
    zero = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}
    return recolored(seed, batch, zero | options)


def some_batch():
    image = np.random.default_rng(0).uniform(0.3, 0.7, (B, 6, 7, 3))
    return {"image": jnp.asarray(image, jnp.float32), "label": jnp.arange(B)}


@jax.jit
def shifted(batch, components, strength):
    return pca_colors(jax.random.key(0), batch, components=components, strength=strength)


def test_strength_zero_changes_nothing():
    batch = some_batch()
    for out in (augment(0, batch), shifted(batch, jnp.eye(3), 0.0)):
        jax.tree.map(np.testing.assert_array_equal, out, batch)


def test_each_strength_changes_its_own_alone():
    batch = some_batch()
    image = np.asarray(batch["image"])
    luma = image @ np.array([0.299, 0.587, 0.114], np.float32)
    brighter = np.asarray(augment(0, batch, brightness=0.4)["image"]) / image
    assert brighter.std((1, 2, 3)).max() < 1e-5
    factors = brighter.mean((1, 2, 3))
    assert 0.6 <= factors.min() < 0.65 and 1.35 < factors.max() <= 1.4 + 1e-5
    contrast = np.asarray(augment(0, batch, contrast=0.4)["image"])
    np.testing.assert_allclose((contrast @ [0.299, 0.587, 0.114]).mean((1, 2)), luma.mean((1, 2)), atol=1e-5)
    saturated = np.asarray(augment(0, batch, saturation=0.4)["image"])
    np.testing.assert_allclose(saturated @ [0.299, 0.587, 0.114], luma, atol=1e-5)
    turned = np.asarray(augment(0, batch, hue=0.4)["image"])
    np.testing.assert_allclose(turned.max(-1), image.max(-1), atol=1e-6)
    np.testing.assert_allclose(turned.min(-1), image.min(-1), atol=1e-5)
    for out in (contrast, saturated, turned):
        assert np.abs(out - image).max((1, 2, 3)).min() > 1e-4, "a picture was left as it was"


def test_hue_stays_within_bounds():
    red = {"image": jnp.tile(jnp.asarray([1.0, 0, 0]), (B, 2, 2, 1))}
    out = np.asarray(augment(1, red, hue=0.1)["image"])[:, 0, 0]
    # Up to a tenth of the circle is 0.6 of green or of blue.
    assert (out[:, 0] == 1).all() and (out[:, 1:].min(-1) == 0).all()
    assert 0.5 < out[:, 1].max() <= 0.6 + 1e-5 and 0.5 < out[:, 2].max() <= 0.6 + 1e-5


class Pictures:
    """Pixels that vary by known amounts along known directions, read in parts of up to 64."""

    directions = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]]) / np.sqrt([[3], [2], [6]])
    spread = np.array([0.1, 0.04, 0.01])

    def __init__(self, n=100, channels=3):
        factors = np.random.default_rng(0).normal(size=(n * 64, 3)) * self.spread
        pixels = 0.5 + factors @ self.directions
        self.images = np.clip(np.round(pixels * 255), 0, 255).astype(np.uint8).reshape(n, 8, 8, 3)[..., :channels]
        self.reads = 0

    def __len__(self):
        return len(self.images)

    def read(self, indices):
        self.reads += 1
        return {"image": self.images[indices]}


def test_principal_colors_are_found_and_computed_once():
    source = Pictures()
    found = principal_colors(source)
    length = np.linalg.norm(found, axis=1)
    np.testing.assert_allclose(length, Pictures.spread, rtol=0.05)
    np.testing.assert_allclose(np.abs((found / length[:, None] * Pictures.directions).sum(1)), 1, atol=0.01)
    reads = source.reads
    assert principal_colors(source) is found and source.reads == reads == 1
    pixels = source.images.reshape(-1, 3) / 255
    np.testing.assert_allclose(found.T @ found, np.cov(pixels.T, bias=True), atol=1e-6)
    fewer = principal_colors(source, examples=10)
    np.testing.assert_allclose(fewer.T @ fewer, found.T @ found, atol=5e-4)
    assert source.reads == 2
    with pytest.raises(UserError, match="three channels, not 1"):
        principal_colors(Pictures(channels=1))


def test_pca_shifts_a_picture_by_one_color_along_the_components():
    batch = some_batch()
    components = jnp.asarray(Pictures.directions * Pictures.spread[:, None], jnp.float32)
    shift = np.asarray(shifted(batch, components, 0.5)["image"])
    shift = shift - np.asarray(batch["image"])
    assert shift.std((1, 2)).max() < 1e-6
    along = shift.mean((1, 2)) @ Pictures.directions.T / Pictures.spread
    np.testing.assert_allclose(along.std(0), 0.5, rtol=0.25)
    assert np.abs(along.mean(0)).max() < 0.2


def test_colors_are_those_of_the_ops():
    """A factor read off a picture made brighter explains all of it."""
    batch, one = some_batch(), jnp.ones(B)
    out = np.asarray(augment(5, batch, brightness=0.3)["image"])
    factors = jnp.asarray((out / np.asarray(batch["image"])).mean((1, 2, 3)))
    np.testing.assert_allclose(ops.adjust_colors(batch["image"], factors, one, one), out, atol=1e-5)
