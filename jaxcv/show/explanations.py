"""An image beside what a classifier's answer depends on."""

import numpy as np
from PIL import Image

from jaxcv.show.canvas import Canvas
from jaxcv.show.sheets import row


def draw_explanation(pixels: np.ndarray, saliency: np.ndarray, cam: np.ndarray, *, answer: str) -> Image.Image:
    """Three images in a row: the picture with the answer, the saliency of its pixels, and grad-CAM as a tint over it.

    Args:
        pixels: uint8 [h w c] as the network was fed it.
        saliency: [h w], black for 0 and white for the 99th of a hundred pixels, so that single ones do not decide.
        cam: [i j], from blue for 0 to red for its largest value.
        answer: written on the picture.
    """
    from matplotlib import colormaps

    said, seen, heat = Canvas(pixels, exact=True), Canvas(_grey(saliency), exact=True), Canvas(pixels, exact=True)
    said.text(answer, "black")
    size = said.image.size
    smooth = Image.fromarray(cam.astype(np.float32) / max(float(cam.max()), 1e-12)).resize(
        size, Image.Resampling.BICUBIC
    )
    heat.tint((255 * colormaps["jet"](np.asarray(smooth).clip(0, 1))[..., :3]).astype(np.uint8))
    seen.title("saliency")
    heat.title("grad-CAM")
    return row([said.image, seen.image, heat.image])


def _grey(values: np.ndarray) -> np.ndarray:
    most = max(float(np.quantile(values, 0.99)), 1e-12)
    return (255 * (values / most).clip(0, 1)).astype(np.uint8)[..., None]
