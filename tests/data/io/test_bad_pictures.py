"""Pictures that are none, or damaged: refused in one line by everything that opens a picture."""

import io
import struct
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from small_sets import noise
from spoilt import SECONDS

from jaxcv.data.io.crops import read_region, square, whole
from jaxcv.data.io.images import check_image, read_image, read_mask
from jaxcv.errors import DataError


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_head(width, height, color=2):
    head = struct.pack(">IIBBBBB", width, height, 8, color, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head)


def with_exif(exif):
    stream = io.BytesIO()
    Image.new("RGB", (16, 16), (9, 9, 9)).save(stream, "JPEG")
    data = stream.getvalue()
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:]


ENDLESS = chunk(b"IDAT", zlib.compress(bytes(10**7))) + chunk(b"IEND", b"")
REFUSED = {
    "png bomb": png_head(50_000, 50_000) + ENDLESS,
    "png of 9,500 a side": png_head(9_500, 9_500) + ENDLESS,
    "png of no size": png_head(0, 0) + ENDLESS,
    "png without pixels": png_head(8, 8) + chunk(b"IEND", b""),
    "png text bomb": png_head(8, 8) + chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(10**8))) + ENDLESS,
    "gif bomb": b"GIF89a"
    + struct.pack("<HH", 65_535, 65_535)
    + b"\x80\0\0"
    + b"\0" * 6
    + b",\0\0\0\0\xff\xff\xff\xff\0",
    "bmp bomb": b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 2**30, 2**30, 1, 24, 0, 0, 0, 0, 0, 0),
    "pgm bomb": b"P5 999999 999999 255\n",
    "pgm of letters": b"P5 many more 255\n",
    "pgm cut off": b"P5 100 100 255\n" + bytes(99),
    "tiff of absurd offsets": b"II*\0\xff\xff\xff\xff",
    "tiff in a circle": b"II*\0\x08\0\0\0\0\0\x08\0\0\0",
    "jpeg head alone": b"\xff\xd8\xff\xe0",
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "html": b"<html>404 Not Found</html>",
    "git lfs pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
    "webp head": b"RIFF\xff\xff\xff\xffWEBPVP8 ",
}
EXIF = {
    "garbage": b"Exif\0\0MM\0*\0\0\0\x08\0\x05" + b"\xff" * 20,
    "short": b"Exif\0\0II",
    "offset": b"Exif\0\0II*\0\xff\xff\xff\xff",
    "circle": b"Exif\0\0II*\0\x08\0\0\0\x01\0i\x87\x04\0\x01\0\0\0\x08\0\0\0\0\0\0\0",
    "empty": b"Exif\0\0",
    "huge count": b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\xff\xff\xff\xff\x06\0\0\0\0\0\0\0",
}
READERS = [
    read_image,
    lambda path: read_region(path, whole, size=8),
    lambda path: read_region(path, square, size=8, gap=1.0),
    lambda path: read_region(path, lambda size: (-2, 1, 9, 9), size=8),
    read_mask,
    lambda path: check_image(path, thorough=True),
]


@pytest.mark.parametrize("what", REFUSED)
def test_pictures_that_are_none(tmp_path, what):
    path = tmp_path / "a.png"
    path.write_bytes(REFUSED[what])
    for read in READERS:
        start = time.monotonic()
        with pytest.raises(DataError, match=r"a\.png: ") as caught:
            read(path)
        assert "\n" not in str(caught.value) and time.monotonic() - start < SECONDS


@pytest.mark.parametrize("what", EXIF)
def test_damaged_exif_spoils_no_picture(tmp_path, what):
    path = tmp_path / "a.jpg"
    path.write_bytes(with_exif(EXIF[what]))
    for read in READERS:
        read(path)
    assert np.abs(read_image(path).astype(int) - 9).max() <= 1


@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data())
def test_spoilt_pictures(data, tmp_path_factory):
    """60 of five formats, cut or with some bytes changed."""
    kind = data.draw(st.sampled_from(["png", "jpg", "gif", "bmp", "webp", "tiff", "pgm"]))
    path = Path(tmp_path_factory.getbasetemp()) / f"spoilt.{kind}"
    noise(path, (24, 24))
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    for place in data.draw(st.lists(st.integers(0, 400), max_size=6)):
        if place < len(content):
            content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    for read in READERS:
        try:
            read(path)
        except DataError as error:
            assert "\n" not in str(error) and str(path) in str(error)
