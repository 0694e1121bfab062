import numpy as np

from jaxcv.show import draw_error_curves


def test_the_curve_rises_where_the_errors_are():
    pixels = np.asarray(draw_error_curves({"a": np.array([0.05, 0.05])}, threshold=0.1)).astype(int)
    blue = (pixels[16:356, 49:] == [0x43, 0x63, 0xD8]).all(-1)
    left, right = blue[:, : blue.shape[1] // 5], blue[:, blue.shape[1] // 3 : blue.shape[1] // 2]
    assert np.flatnonzero(left.any(1)).min() > 300, "no example below 0.05: along the ground"
    assert np.flatnonzero(right.any(1)).min() < 5, "all above it: along the top"
