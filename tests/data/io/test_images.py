"""Image files of every kind, made here, with values known in advance."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import pytest
from PIL import Image

from jaxcv.data.io import crops, images
from jaxcv.data.io.images import check_image, read_mask, resize_images
from jaxcv.errors import DataError


def read_image(path, *, size=None, channels=3):
    """The whole picture, squashed where a size is given, and its own size."""
    if size is None:
        return images.read_image(path, channels=channels), check_image(path)
    return crops.read_region(path, crops.whole, size=size, channels=channels)


def fit_image(path, *, size, channels=3, share=1.0):
    """The middle of a picture, and the side of one pixel in pixels of the file."""
    pixels, factors = crops.fit_file(
        path, partial(crops.middle, at_least=size, fraction=share), size=size, channels=channels
    )
    return pixels, factors.x


def read_region(path, *, region, size, channels=3):
    left, top, side = region
    return crops.read_region(path, lambda _: (left, top, side, side), size=size, channels=channels)


def save(path, pixels, mode=None, **options):
    image = Image.fromarray(np.asarray(pixels, np.uint8))
    (image if mode is None else image.convert(mode)).save(path, **options)
    return path


def noise(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def test_rgb_is_left_alone(tmp_path):
    pixels = noise(5, 7)
    read, size = read_image(save(tmp_path / "a.png", pixels))
    np.testing.assert_array_equal(read, pixels)
    assert size == (7, 5) and read.dtype == np.uint8


def test_grey_becomes_three_equal_channels(tmp_path):
    path = save(tmp_path / "a.png", [[0, 100], [200, 255]])
    read, _ = read_image(path)
    np.testing.assert_array_equal(read, np.repeat(np.array([[0, 100], [200, 255]])[..., None], 3, -1))
    np.testing.assert_array_equal(read_image(path, channels=1)[0][..., 0], [[0, 100], [200, 255]])


def test_colour_becomes_grey_by_luma(tmp_path):
    path = save(tmp_path / "a.png", [[[255, 0, 0], [0, 255, 0], [0, 0, 255]]])
    assert read_image(path, channels=1)[0].ravel().tolist() == [76, 150, 29]  # ITU-R 601


def test_transparency_is_dropped(tmp_path):
    path = save(tmp_path / "a.png", [[[10, 20, 30, 0], [40, 50, 60, 255]]])
    assert read_image(path)[0].tolist() == [[[10, 20, 30], [40, 50, 60]]]


def test_palette_with_transparency(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "a.png", transparency=bytes([0, 128]))
    assert read_image(tmp_path / "a.png")[0].tolist() == [[[10, 20, 30], [40, 50, 60]]]


@pytest.mark.parametrize("ending", ["png", "tif"])
@pytest.mark.parametrize("most", [250, 260, 65535])
def test_sixteen_bit_grey_is_scaled_by_its_type(tmp_path, ending, most):
    path = tmp_path / f"a.{ending}"
    Image.fromarray(np.array([[0, most]], np.uint16)).save(path)
    assert read_image(path, channels=1)[0].ravel().tolist() == [0, round(most / 257)]
    read, _ = crops.read_region(path, crops.whole, size=1, channels=1, white=4095)  # 12 bits
    assert images.read_image(path, channels=1, white=most)[..., 0].tolist() == [[0, 255]] and read.shape == (1, 1, 1)


def test_what_is_deeper_needs_a_word(tmp_path):
    path = tmp_path / "a.tif"
    Image.fromarray(np.array([[0.0, 0.5, 1.0]], np.float32)).save(path)
    assert read_image(path, channels=1)[0].ravel().tolist() == [0, 128, 255]
    for values, kind in (([[0.0, 300.0]], np.float32), ([[0, 300]], np.int32)):
        Image.fromarray(np.array(values, kind)).save(path)
        with pytest.raises(DataError, match=r"a\.tif: .*scale= says which value is white"):
            read_image(path, channels=1)
        assert images.read_image(path, channels=1, white=600)[..., 0].tolist() == [[0, 128]]


def test_bilevel(tmp_path):
    path = save(tmp_path / "a.png", [[0, 255]], mode="1")
    assert read_image(path, channels=1)[0].ravel().tolist() == [0, 255]


def test_cmyk(tmp_path):
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=100)
    read, _ = read_image(tmp_path / "a.jpg")
    assert read.shape == (8, 8, 3) and abs(read.astype(int) - [255, 0, 0]).max() <= 4


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_the_exif_orientation_is_applied(tmp_path, ending, turn):
    exif, shown = Image.Exif(), np.zeros((64, 192, 3), np.uint8)
    exif[0x0112] = turn
    shown[:32, :64] = 250  # a bright corner at the top left of what is shown
    to_stored: Any = {1: 0, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[turn]
    stored = Image.fromarray(shown).transpose(to_stored) if turn > 1 else Image.fromarray(shown)
    path = tmp_path / f"a.{ending}"
    how: dict[str, Any] = {} if ending in ("png", "tif") else {"quality": 95}
    stored.save(path, exif=exif, **how)
    read, size = read_image(path)
    assert size == (192, 64) == check_image(path)
    assert np.abs(read.astype(int) - shown)[8:-8, 8:-8].mean() < 3
    small, whole = read_image(path, size=8)
    assert whole == (192, 64) and small[1, 1, 0] > 240 and small[6].max() < 9 and small[1, 5:].max() < 9
    assert images.read_orientation(path) == (turn if ending != "tif" else 1)


def test_resizing_squashes(tmp_path):
    left_black = np.repeat(np.array([0] * 20 + [255] * 20), 10).reshape(40, 10).T
    read, size = read_image(save(tmp_path / "a.png", left_black), size=4)
    assert size == (40, 10) and read.shape == (4, 4, 3)
    assert (read[:, 0] == 0).all() and (read[:, 3] == 255).all()


def test_fitting_cuts_the_centre_square(tmp_path):
    path = save(tmp_path / "a.png", noise(5, 9))
    fitted, factor = fit_image(path, size=5)
    np.testing.assert_array_equal(fitted, noise(5, 9)[:, 2:7])
    assert factor == 1.0
    fitted, factor = fit_image(save(tmp_path / "a.png", noise(11, 10)), size=8, share=0.875)
    np.testing.assert_array_equal(fitted, noise(11, 10)[1:9, 1:9])  # 0.875 of 10, in whole pixels
    assert factor == 1.0


def test_a_picture_with_too_few_pixels_is_used_whole(tmp_path):
    path = save(tmp_path / "a.png", noise(32, 32))
    np.testing.assert_array_equal(fit_image(path, size=32, share=0.875)[0], noise(32, 32))
    enlarged, factor = fit_image(path, size=64, share=0.875)
    assert enlarged.shape == (64, 64, 3) and factor == 0.5
    np.testing.assert_array_equal(enlarged, read_image(path, size=64)[0])
    assert fit_image(save(tmp_path / "a.png", [[7]]), size=8, share=0.1)[0].tolist() == [[[7, 7, 7]] * 8] * 8


@pytest.mark.parametrize("ending", ["png", "jpg"])
@pytest.mark.parametrize("share", [1.0, 0.875])
def test_a_large_jpeg_is_fitted_as_if_it_were_decoded_whole(tmp_path, ending, share):
    y, x = np.mgrid[:301, :403]
    waves = np.stack([np.sin(x / 20), np.cos(y / 15), np.sin((x + y) / 30)], -1)
    path = save(tmp_path / f"a.{ending}", np.round(waves * 100 + 128), **({"quality": 95} if ending == "jpg" else {}))
    side = int(share * 301)
    left, top = (403 - side) // 2, (301 - side) // 2
    with Image.open(path) as image:
        wanted = image.crop((left, top, left + side, top + side)).resize((32, 32), Image.Resampling.BILINEAR)
    fitted, factor = fit_image(path, size=32, share=share)
    difference = np.abs(fitted.astype(int) - np.asarray(wanted))
    assert factor == side / 32
    # Without the border, where the reduced picture looks beyond the square. Half a pixel of shift makes this 1.0 and 4.
    inner = difference[1:-1, 1:-1]
    assert inner.mean() < 0.6 and inner.max() <= 3
    grey, _ = fit_image(path, size=32, channels=1, share=share)
    assert grey.shape == (32, 32, 1)
    assert np.abs(grey[1:-1, 1:-1, 0].astype(int) - np.asarray(wanted.convert("L"))[1:-1, 1:-1]).max() <= 3


@pytest.mark.parametrize("size", [16, 32, 100])
def test_a_large_jpeg_is_squashed_as_if_it_were_decoded_whole(tmp_path, size):
    y, x = np.mgrid[:301, :403]
    waves = np.stack([np.sin(x / 20), np.cos(y / 15), np.sin((x + y) / 30)], -1)
    path = save(tmp_path / "a.jpg", np.round(waves * 100 + 128), quality=95)
    with Image.open(path) as image:
        wanted = np.asarray(image.resize((size, size), Image.Resampling.BILINEAR)).astype(int)
        half = 403 / size / 2  # a shift by half a pixel of the result, for comparison
        shifted = np.asarray(image.resize((size, size), Image.Resampling.BILINEAR, (half, 0, 403, 301))).astype(int)
    read, whole = read_image(path, size=size)
    assert whole == (403, 301)
    difference = np.abs(read.astype(int) - wanted)
    assert difference.mean() < 0.25 * np.abs(shifted - wanted).mean() and difference.max() <= 4


def test_a_region(tmp_path):
    pixels = noise(20, 30)
    path = save(tmp_path / "a.png", pixels)
    read, size = read_region(path, region=(4, 5, 10), size=10)
    np.testing.assert_array_equal(read, pixels[5:15, 4:14])
    assert size == (30, 20)
    beyond, _ = read_region(path, region=(-3, -2, 40), size=40)
    np.testing.assert_array_equal(beyond[2:22, 3:33], pixels)
    beyond = beyond.copy()
    beyond[2:22, 3:33] = 0
    assert not beyond.any(), "black beyond the border"
    assert read_region(path, region=(100, 100, 8), size=4)[0].max() == 0
    assert read_region(path, region=(0, 0, 20), size=5, channels=1)[0].shape == (5, 5, 1)


def test_a_region_of_a_large_jpeg(tmp_path):
    y, x = np.mgrid[:300, :400]
    path = save(tmp_path / "a.jpg", np.round(100 * np.sin((x + y) / 40) + 128), quality=95)
    with Image.open(path) as image:
        wanted = np.asarray(image.crop((40, 30, 296, 286)).resize((32, 32), Image.Resampling.BILINEAR)).astype(int)
    read, _ = read_region(path, region=(40, 30, 256), size=32, channels=1)
    difference = np.abs(read[1:-1, 1:-1, 0].astype(int) - wanted[1:-1, 1:-1])
    assert difference.mean() < 0.6 and difference.max() <= 3


def test_masks_keep_their_numbers(tmp_path):
    values = [[0, 1, 7], [200, 255, 3]]
    grey = save(tmp_path / "a.png", values)
    assert read_mask(grey).tolist() == values
    Image.open(grey).convert("RGB").save(tmp_path / "b.png")
    assert read_mask(tmp_path / "b.png").tolist() == values
    with pytest.raises(DataError, match=r"c\.png: colour #010203 at x=1 y=0 is no label"):
        read_mask(save(tmp_path / "c.png", [[[5, 5, 5], [1, 2, 3]]]))
    assert read_mask(tmp_path / "c.png", colors={0x050505: 4, 0x010203: 9}).tolist() == [[4, 9]]


def test_images_in_colour_are_resized_too():
    images = np.repeat(np.array([[[0, 0], [255, 255]]], np.uint8)[..., None], 3, -1)
    large = resize_images(images, size=8)
    assert large.shape == (1, 8, 8, 3) and (large[..., 0] == large[..., 2]).all()
    np.testing.assert_array_equal(large[..., 0], resize_images(images[..., 0], size=8))


def test_a_truncated_jpeg_is_no_picture_at_any_scale(tmp_path):
    path = save(tmp_path / "a.jpg", noise(512, 512))
    path.write_bytes(path.read_bytes()[:60_000])
    with pytest.raises(DataError, match=r"a\.jpg: image is truncated"):
        fit_image(path, size=32)


def test_resize_images():
    images = np.array([[[0, 0], [255, 255]], [[7, 7], [7, 7]]], np.uint8)
    assert resize_images(images, size=2) is images
    large = resize_images(images, size=8)
    assert large.shape == (2, 8, 8) and (large[1] == 7).all() and large[0, 0].max() <= 8 and large[0, -1].min() >= 247


@pytest.mark.parametrize("ending", ["jpg", "png"])
@pytest.mark.parametrize("keep", [0.5, 0.9])
def test_a_truncated_image_is_named(tmp_path, ending, keep):
    path = save(tmp_path / f"a.{ending}", noise(64, 64))
    check_image(path, thorough=True)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(DataError, match=rf"a\.{ending}: image is truncated"):
        check_image(path)
    with pytest.raises(DataError, match=rf"a\.{ending}: image (is truncated|cannot be decoded)"):
        read_image(path)


@pytest.mark.parametrize("ending", ["jpg", "png"])
def test_bytes_after_the_end_are_no_fault(tmp_path, ending):
    path = save(tmp_path / f"a.{ending}", noise(8, 8))
    path.write_bytes(path.read_bytes() + b"\0" * 100)
    assert check_image(path, thorough=True) == (8, 8)


def test_a_damaged_png_is_found_only_by_decoding(tmp_path):
    path = save(tmp_path / "a.png", noise(64, 64))
    data = bytearray(path.read_bytes())
    data[2000:2100] = bytes(100)
    path.write_bytes(data)
    assert check_image(path) == (64, 64)
    with pytest.raises(DataError, match=r"a\.png: image"):
        check_image(path, thorough=True)


@pytest.mark.parametrize("data", [b"", b"not an image", b"\xff\xd8\xff"])
def test_not_an_image(tmp_path, data):
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    for read in (check_image, read_image):
        with pytest.raises(DataError, match=r"a\.jpg: not an image"):
            read(path)


def test_missing(tmp_path):
    for read in (check_image, read_image):
        with pytest.raises(DataError, match=r"b\.jpg: image is missing"):
            read(tmp_path / "b.jpg")


def test_a_pillow_image_is_decoded_once_by_many_threads(tmp_path):
    """It is decoded when first used, and would be torn between those that use it."""
    file = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (600, 800, 3), dtype=np.uint8)).save(file)
    expected = crops.read_region(file, crops.whole, size=64)[0]
    for _ in range(5):
        with Image.open(file) as image, ThreadPoolExecutor(6) as pool:
            for found in [pool.submit(crops.read_region, image, crops.whole, size=64) for _ in range(6)]:
                np.testing.assert_array_equal(found.result()[0], expected)
