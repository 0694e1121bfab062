"""Runs what `--export m.stablehlo` or `--export m.onnx` wrote, without jaxcv: `python exported.py FILE PICTURE`."""

import json
import sys

import numpy as np
from PIL import Image

file, picture = sys.argv[1:]
described = json.load(open(f"{file}.json"))
_, height, width, channels = described["input"]["shape"]
image = Image.open(picture).convert("RGB" if channels == 3 else "L")
fitted = described["fitted"]
if fitted["resize"] != "squash":  # a square of the longer or of the shorter side, black beyond the picture
    side = int(fitted["fraction"] * {"letterbox": max, "shortest": min}[fitted["resize"]](image.size))
    left, top = (image.width - side) // 2, (image.height - side) // 2
    image = image.crop((left, top, left + side, top + side))
image = image.resize((width, height), Image.Resampling.BILINEAR)
images = np.asarray(image, np.uint8).reshape(1, height, width, channels)
if file.endswith(".onnx"):
    import onnxruntime

    found = onnxruntime.InferenceSession(file).run(None, {"images": images})
    found = dict(zip(described["outputs"], found, strict=True))
else:
    import jax.export

    found = jax.export.deserialize(bytearray(open(file, "rb").read())).call(images)
json.dump({name: np.asarray(values)[0].tolist() for name, values in found.items()}, sys.stdout)
