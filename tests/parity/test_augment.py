"""Our warps and colours against torchvision's transforms and dm-pix, given the same parameters."""

import importlib
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcv import augment, ops
from jaxcv.augment.filters import gaussian
from jaxcv.augment.moving import move
from jaxcv.augment.rand_augment import OPERATIONS, operated

torch: Any = pytest.importorskip("torch")
pytest.importorskip("torchvision")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # torchvision warns of its own files
    tv_tensors: Any = importlib.import_module("torchvision.tv_tensors")
    InterpolationMode: Any = importlib.import_module("torchvision.transforms").InterpolationMode
    F: Any = importlib.import_module("torchvision.transforms.v2").functional

H, W = 40, 56
CENTER = (W / 2, H / 2)
AFFINE = [
    {"angle": 0.0, "translate": (0.0, 0.0), "scale": 1.0, "shear": (0.0, 0.0)},
    {"angle": 30.0, "translate": (0.0, 0.0), "scale": 1.0, "shear": (0.0, 0.0)},
    {"angle": -110.0, "translate": (5.0, -3.0), "scale": 0.7, "shear": (0.0, 0.0)},
    {"angle": 12.0, "translate": (-4.5, 2.25), "scale": 1.4, "shear": (20.0, 0.0)},
    {"angle": 5.0, "translate": (0.0, 7.0), "scale": 0.9, "shear": (-15.0, 10.0)},
]
BOXES = np.array([[10, 8, 30, 25], [0, 0, 12, 9], [40, 20, 56, 40], [25, 5, 26, 39]], np.float32)


def matrix(angle, translate, scale, shear):
    one = [jnp.asarray([x], jnp.float32) for x in (angle, scale, shear, translate)]
    return ops.affine_matrix(*one, center=CENTER)


def picture(seed=0, b=1, c=3):
    return np.random.default_rng(seed).random((b, H, W, c)).astype(np.float32)


def to_torch(images):
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


def to_numpy(tensor):
    return tensor.permute(0, 2, 3, 1).numpy()


def within(positions, margin):
    """Where all pixels that are mixed lie in the picture: at its edge torchvision mixes in the fill."""
    x, y = np.asarray(positions)[..., 0], np.asarray(positions)[..., 1]
    return (x > margin) & (x < W - margin) & (y > margin) & (y < H - margin)


@pytest.mark.parametrize("parameters", AFFINE, ids=range(len(AFFINE)))
def test_affine_pictures_masks_boxes_and_points(parameters):
    image, matrices = picture(), matrix(**parameters)
    mask = np.random.default_rng(1).integers(0, 20, (1, H, W)).astype(np.uint8)
    points = np.random.default_rng(2).uniform(0, [W, H], (1, 9, 2)).astype(np.float32)
    batch = {
        "image": jnp.asarray(image),
        "mask": jnp.asarray(mask),
        "boxes": jnp.asarray(BOXES)[None],
        "valid": jnp.ones((1, len(BOXES)), bool),
        "points": jnp.asarray(points),
    }
    ours = jax.tree.map(np.asarray, move(jnp.zeros((1, 1)), batch, matrices, fill=0.25, min_visible=0.0))
    theirs = {**parameters, "translate": list(parameters["translate"]), "shear": list(parameters["shear"])}

    positions = ops.affine_positions(matrices, size=(H, W))
    bilinear = {"interpolation": InterpolationMode.BILINEAR}
    expected = to_numpy(F.affine(to_torch(image), **theirs, **bilinear, fill=[0.25]))
    inner, outer = within(positions, 0.51), ~within(positions, -0.51)
    np.testing.assert_allclose(ours["image"][inner], expected[inner], atol=1e-4)
    np.testing.assert_allclose(ours["image"][outer], expected[outer], atol=1e-6)
    assert inner.mean() > 0.3

    expected = F.affine(tv_tensors.Mask(torch.from_numpy(mask)), **theirs, fill=255).numpy()
    on_pixel = np.asarray(positions) % 1
    sure = ((on_pixel > 1e-3) & (on_pixel < 1 - 1e-3)).all(-1)  # between two pixels either is nearest
    np.testing.assert_array_equal(ours["mask"][sure], expected[sure])
    assert sure.mean() > 0.9

    boxes = tv_tensors.BoundingBoxes(torch.from_numpy(BOXES), format="XYXY", canvas_size=(H, W))  # pyright: ignore
    expected = F.affine(boxes, **theirs).numpy()
    kept = ours["valid"][0]
    np.testing.assert_allclose(ours["boxes"][0][kept], expected[kept], atol=1e-2)
    area = (expected[:, 2] - expected[:, 0]) * (expected[:, 3] - expected[:, 1])
    np.testing.assert_array_equal(kept, area > 0)

    expected = F.affine(tv_tensors.KeyPoints(torch.from_numpy(points[0]), canvas_size=(H, W)), **theirs).numpy()
    inside = ((ours["points"][0] > 0) & (ours["points"][0] < [W - 1, H - 1])).all(-1)  # theirs are clamped
    np.testing.assert_allclose(ours["points"][0][inside], expected[inside], atol=1e-2)
    assert inside.any()


@pytest.mark.parametrize("vertical", [False, True])
def test_flips(vertical):
    image, name = picture(3), "vertical_flip" if vertical else "horizontal_flip"
    batch = {"image": jnp.asarray(image), "boxes": jnp.asarray(BOXES)[None], "valid": jnp.ones((1, len(BOXES)), bool)}
    option = {"flip_vertical" if vertical else "flip": 1.0}
    ours = augment.warp(jax.random.key(0), batch, **option)
    flip = getattr(F, name)
    np.testing.assert_array_equal(ours["image"], to_numpy(flip(to_torch(image))))
    boxes = tv_tensors.BoundingBoxes(torch.from_numpy(BOXES), format="XYXY", canvas_size=(H, W))  # pyright: ignore
    np.testing.assert_array_equal(ours["boxes"][0], flip(boxes).numpy())


@pytest.mark.parametrize("window", [(6, 10, 20, 30), (0, 0, H, W), (13, 3, 11, 50)])
def test_resized_crop(window):
    top, left, height, width = window
    image = picture(4)
    windows = jnp.asarray([[left, top, left + width, top + height]], jnp.float32)
    ours = np.asarray(ops.resized_crop(jnp.asarray(image), windows, size=(H, W)))
    expected = to_numpy(F.resized_crop(to_torch(image), top, left, height, width, [H, W], antialias=False))
    # Theirs is cut first, so at the border of the window its own edge is repeated.
    y, x = H / height / 2 + 1, W / width / 2 + 1
    inner = np.s_[:, int(y) : -int(y), int(x) : -int(x)]
    np.testing.assert_allclose(ours[inner], expected[inner], atol=1e-4)

    boxes = tv_tensors.BoundingBoxes(torch.from_numpy(BOXES), format="XYXY", canvas_size=(H, W))  # pyright: ignore
    expected = F.resized_crop(boxes, top, left, height, width, [H, W]).numpy()
    moved = ops.boxes_in_window(jnp.asarray(BOXES)[None], windows, size=(H, W))
    found = ops.clip_boxes_to_image(moved, image_size=(H, W))[0]
    np.testing.assert_allclose(found, expected, atol=1e-2)


@pytest.mark.parametrize(
    "factors", [(1.3, 1.0, 1.0), (1.0, 0.4, 1.0), (1.0, 1.2, 1.0), (1.0, 1.0, 0.0), (0.9, 1.2, 0.7)]
)
def test_brightness_contrast_saturation(factors):
    """Of a picture that none of them drives out of [0, 1]: theirs are cut after each, and weigh red by 0.2989."""
    image = 0.35 + 0.3 * picture(12)
    ours = ops.adjust_colors(jnp.asarray(image), *(jnp.asarray([factor], jnp.float32) for factor in factors))
    expected = to_torch(image)
    for factor, adjust in zip(factors, (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation), strict=True):
        expected = adjust(expected, factor)
    assert 0 < expected.min() and expected.max() < 1
    np.testing.assert_allclose(ours, to_numpy(expected), atol=1e-4)


@pytest.mark.parametrize("shift", [-0.5, -0.2, 0.05, 0.37, 0.5])
def test_hue(shift):
    image = picture(5)
    image[0, :5, :5] = 0.3  # grey
    ours = ops.adjust_hue(jnp.asarray(image), jnp.asarray([shift], jnp.float32))
    np.testing.assert_allclose(ours, to_numpy(F.adjust_hue(to_torch(image), shift)), atol=1e-4)


def test_elastic_pictures():
    """Their displacement is in halves of the side; the B-spline that makes ours has no counterpart."""
    image = picture(6)
    limit = ops.elastic_limit(image_size=(H, W), cells=4)
    control = np.random.default_rng(7).uniform(-limit, limit, (1, 7, 7, 2)).astype(np.float32)
    positions = np.asarray(ops.elastic_positions(jnp.asarray(control), size=(H, W)))
    y, x = np.mgrid[:H, :W] + 0.5
    displacement = (positions - np.stack([x, y], -1)[None]) * [2 / W, 2 / H]
    expected = F.elastic(to_torch(image), torch.from_numpy(displacement.astype(np.float32)), fill=[0.5])
    ours = np.asarray(ops.warp(jnp.asarray(image), jnp.asarray(positions), fill=0.5))
    inner = within(positions, 0.51)
    np.testing.assert_allclose(ours[inner], to_numpy(expected)[inner], atol=1e-4)
    assert inner.mean() > 0.8 and np.abs(displacement).max() > 0.05


def test_elastic_masks():
    mask = np.random.default_rng(17).integers(0, 20, (1, H, W)).astype(np.uint8)
    limit = ops.elastic_limit(image_size=(H, W), cells=4)
    control = np.random.default_rng(18).uniform(-limit, limit, (1, 7, 7, 2)).astype(np.float32)
    batch = {"image": jnp.asarray(picture()), "mask": jnp.asarray(mask)}
    still = jnp.asarray([[[1.0, 0, 0], [0, 1, 0]]])
    ours = np.asarray(move(jnp.zeros((1, 1)), batch, still, control=jnp.asarray(control))["mask"])
    positions = np.asarray(ops.elastic_positions(jnp.asarray(control), size=(H, W)))
    y, x = np.mgrid[:H, :W] + 0.5
    displacement = (positions - np.stack([x, y], -1)[None]) * [2 / W, 2 / H]
    expected = F.elastic(tv_tensors.Mask(torch.from_numpy(mask)), torch.from_numpy(displacement.astype(np.float32)))
    sure = within(positions, 0.01) & ((positions % 1 > 1e-3) & (positions % 1 < 1 - 1e-3)).all(-1)
    np.testing.assert_array_equal(ours[sure], expected.numpy()[sure])
    assert sure.mean() > 0.8


def their_operation(name, picture, sign):
    """As torchvision's RandAugment calls them at magnitude 9, of which a third of the largest is 0.3."""
    still: Any = {"angle": 0.0, "translate": [0, 0], "scale": 1.0, "shear": [0.0, 0.0]}
    level, slant = sign * 0.3, float(np.rad2deg(np.arctan(sign * 0.3 * 0.3)))
    shift = [int(sign * 0.3 * 150 / 331 * side) for side in (W, H)]
    floats, bytes_ = picture.float() / 255, picture
    return {
        "identity": lambda: floats,
        "shear_x": lambda: F.affine(floats, **{**still, "shear": [slant, 0.0]}, center=[0, 0], fill=[0.5]),
        "shear_y": lambda: F.affine(floats, **{**still, "shear": [0.0, slant]}, center=[0, 0], fill=[0.5]),
        "translate_x": lambda: F.affine(floats, **{**still, "translate": [shift[0], 0]}, fill=[0.5]),
        "translate_y": lambda: F.affine(floats, **{**still, "translate": [0, shift[1]]}, fill=[0.5]),
        "rotate": lambda: F.rotate(floats, 30 * level, fill=[0.5]),
        "brightness": lambda: F.adjust_brightness(floats, 1 + 0.9 * level),
        "color": lambda: F.adjust_saturation(floats, 1 + 0.9 * level),
        "contrast": lambda: F.adjust_contrast(floats, 1 + 0.9 * level),
        "sharpness": lambda: F.adjust_sharpness(floats, 1 + 0.9 * level),
        "posterize": lambda: F.posterize(bytes_, 7).float() / 255,
        "solarize": lambda: F.solarize(bytes_, 178.5).float() / 255,
        "autocontrast": lambda: F.autocontrast(floats),
        "equalize": lambda: F.equalize(bytes_).float() / 255,
    }[name]()


def test_operations_of_rand_augment():
    image = np.random.default_rng(19).integers(30, 200, (1, H, W, 3)).astype(np.uint8)
    image[..., 2] = 7  # a channel that cannot be spread
    count = len(OPERATIONS)
    chosen, strength = jnp.tile(jnp.arange(count), 2), jnp.repeat(jnp.asarray([0.3, -0.3]), count)
    pictures = jnp.broadcast_to(jnp.asarray(image, jnp.float32) / 255, (2 * count, H, W, 3))
    ours = np.asarray(operated(pictures, chosen, strength))
    for i, name in enumerate([*OPERATIONS, *OPERATIONS]):
        theirs = to_numpy(their_operation(name, to_torch(image), 1 if i < count else -1))[0]
        same = np.isclose(ours[i], theirs, atol=2e-6).all(-1)
        # Between two pixels either is nearest; what shows at the edge is decided so too.
        assert same.mean() > (0.985 if 1 <= i % count <= 5 else 0.9999), f"{name}: {same.mean():.4f}"


@pytest.mark.parametrize("sigma", [0.3, 2.0])
def test_gaussian_blur(sigma):
    image = picture(20, b=2)
    ours = gaussian(jnp.asarray(image), jnp.full(2, sigma), 9)
    np.testing.assert_allclose(ours, to_numpy(F.gaussian_blur(to_torch(image), 9, sigma)), atol=1e-5)


def test_grays():
    image = picture(21)
    ours = augment.grayscale(jax.random.key(0), {"image": jnp.asarray(image)}, probability=1.0)["image"]
    np.testing.assert_allclose(ours, to_numpy(F.rgb_to_grayscale(to_torch(image), 3)), atol=1e-6)


# dm-pix counts positions from the centre of the first pixel, rows first, one picture at a time.


@pytest.fixture(scope="module")
def pix():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("dm_pix")


def test_flips_of_pix(pix):
    image = picture(8)
    for name, option in (("flip_left_right", {"flip": 1.0}), ("flip_up_down", {"flip_vertical": 1.0})):
        ours = augment.warp(jax.random.key(0), {"image": jnp.asarray(image)}, **option)["image"]
        np.testing.assert_array_equal(ours[0], getattr(pix, name)(jnp.asarray(image[0])))


def test_hue_of_pix(pix):
    image = picture(9)
    ours = ops.adjust_hue(jnp.asarray(image), jnp.asarray([0.2], jnp.float32))[0]
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        expected = pix.adjust_hue(jnp.asarray(image[0]), 0.2)
    np.testing.assert_allclose(ours, expected, atol=1e-4)


def test_affine_transform_of_pix(pix):
    image, matrices = picture(10), matrix(**AFFINE[3])
    a, b, x = np.asarray(matrices[0, 0])
    c, d, y = np.asarray(matrices[0, 1])
    rows = np.array([[d, c, 0], [b, a, 0], [0, 0, 1]], np.float32)
    offset = np.array([y + (c + d) / 2 - 0.5, x + (a + b) / 2 - 0.5, 0], np.float32)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        expected = pix.affine_transform(jnp.asarray(image[0]), rows, offset=offset, order=1, mode="nearest")
    positions = ops.affine_positions(matrices, size=(H, W))
    np.testing.assert_allclose(ops.warp(jnp.asarray(image), positions)[0], expected, atol=1e-4)


def test_rotate_of_pix(pix):
    image = picture(11)
    parameters = {"angle": 25.0, "translate": (0.0, 0.0), "scale": 1.0, "shear": (0.0, 0.0)}
    positions = ops.affine_positions(matrix(**parameters), size=(H, W))
    ours = ops.warp(jnp.asarray(image), positions)[0]
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        # Anticlockwise to the eye.
        expected = pix.rotate(jnp.asarray(image[0]), angle=-np.deg2rad(25.0), order=1, mode="nearest")
    np.testing.assert_allclose(ours, expected, atol=1e-4)


def test_colors_of_pix(pix):
    """Where theirs mean the same: brightness is added there, contrast is from each channel's mean.

    Their saturation is that of HSV, ours torchvision's, the distance from grey: they agree on what changes nothing.
    """
    grey = 0.35 + 0.3 * picture(13, c=1)
    one, factor = jnp.ones(1), jnp.asarray([1.3], jnp.float32)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        contrast = pix.adjust_contrast(jnp.asarray(grey[0]), 1.3)
        brightness = pix.adjust_brightness(jnp.full((4, 4, 3), 0.5), 0.15)
        saturation = pix.adjust_saturation(jnp.asarray(picture(13)[0]), 1.0)
    np.testing.assert_allclose(ops.adjust_colors(jnp.asarray(grey), one, factor, one)[0], contrast, atol=1e-6)
    np.testing.assert_allclose(
        ops.adjust_colors(jnp.full((1, 4, 4, 3), 0.5), factor, one, one)[0], brightness, atol=1e-6
    )
    np.testing.assert_allclose(ops.adjust_colors(jnp.asarray(picture(13)), one, one, one)[0], saturation, atol=1e-5)


def test_elastic_deformation_of_pix(pix):
    """Their smoothed noise, drawn anew from their key, through our resampling."""
    image, key, alpha, sigma = picture(14), jax.random.key(3), 30.0, 5.0
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        expected = pix.elastic_deformation(key, jnp.asarray(image[0]), alpha, sigma)
        size = ((sigma - 0.8) / 0.3 + 1) / 0.5 + 1
        noise = [jax.random.uniform(k, (H, W, 1)) * 2 - 1 for k in jax.random.split(key)]
        rows, columns = (np.asarray(pix.gaussian_blur(n, sigma, size) * alpha)[..., 0] for n in noise)
    y, x = np.mgrid[:H, :W] + 0.5
    positions = np.stack([x + columns, y + rows], -1).astype(np.float32)[None]
    assert np.abs(positions[0] - np.stack([x, y], -1)).max() > 2
    np.testing.assert_allclose(ops.warp(jnp.asarray(image), jnp.asarray(positions))[0], expected, atol=2e-4)


@pytest.mark.parametrize("size", [(20, 30), (H, 10), (12, W)])
def test_crops_of_pix(pix, size):
    image = picture(15)
    top, left = (H // 2 - size[0] // 2, W // 2 - size[1] // 2)
    window = jnp.asarray([[left, top, left + size[1], top + size[0]]], jnp.float32)
    expected = pix.center_crop(jnp.asarray(image[0]), *size)
    np.testing.assert_allclose(ops.resized_crop(jnp.asarray(image), window, size=size)[0], expected, atol=1e-6)
    ours = np.asarray(augment.crop(jax.random.key(0), {"image": jnp.asarray(image)}, size=size)["image"])[0]
    shown = np.lib.stride_tricks.sliding_window_view(image[0], (*size, 3))
    theirs = pix.random_crop(jax.random.key(1), jnp.asarray(image[0]), (*size, 3))
    for cut in (ours, np.asarray(theirs)):
        assert (shown == cut).all((-3, -2, -1)).any(), "whole pixels of the picture"


def test_a_larger_crop_pads_as_pix_does(pix):
    image = picture(16)
    ours = augment.crop(jax.random.key(0), {"image": jnp.asarray(image)}, size=(H + 8, W + 4))["image"][0]
    np.testing.assert_array_equal(ours, pix.pad_to_size(jnp.asarray(image[0]), H + 8, W + 4))
