"""Seconds per image of R-CNN, Fast R-CNN and Faster R-CNN: one trunk, one photograph, as many proposals.

The first two wait for their proposals, on the host; R-CNN then puts every crop through the trunk, a part at a time as
memory allows, Fast R-CNN the image once, and Faster R-CNN has the trunk propose too. Parameters are random, which costs
as much as trained ones. Figures are medians over the rounds, in which the three take turns, after one to warm up.

    pip install 'jaxcv-research[rcnn]'        # selective search
    python benchmarks/two_stage.py [--trunk resnet18] [--side 512] [--count 2000] [--crop 224] [--rounds 3]
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np


def photograph(side: int) -> np.ndarray:
    """One of scikit-learn's, uint8 [side side 3]."""
    from PIL import Image

    from jaxcv.data.io.paths import sklearn_file

    with Image.open(sklearn_file("images", "china.jpg")) as image:
        return np.asarray(image.convert("RGB").resize((side, side), Image.Resampling.BOX))


def detectors(trunk: str, crop: int, count: int, image: np.ndarray, part: int) -> dict[str, Callable[..., Any]]:
    """By name, a function of proposals [count 4] to detections; Faster R-CNN does not look at them."""
    import jax
    import jax.numpy as jnp

    from jaxcv import cpu, models, ops, predict
    from jaxcv.ops.initializers import initialize
    from jaxcv.types import Regions

    pixels, size = jnp.asarray(image[None], jnp.float32) / 255, image.shape[:2]
    anchor_boxes = ops.anchor_sizes((64, 128, 256), (0.5, 1.0, 2.0))
    backbone, options = getattr(models, trunk)(), cpu.compiler_options()
    rcnn = models.RCNN(num_classes=20, backbone=backbone, crop_size=crop)
    fast = models.FastRCNN(num_classes=20, backbone=backbone)
    faster = models.FasterRCNN(
        anchor_boxes=anchor_boxes,
        num_classes=20,
        backbone=backbone,
        stages=(16,),
        pyramid_channels=None,
        extra_level=False,
        max_candidates=(6000, 6000),
        max_proposals=(count, 300),  # the paper's
    )
    some = jnp.zeros((1, part, 4), jnp.float32)

    def compiled(model: Any, *given: Any) -> Callable[..., Any]:
        variables = initialize(model, jax.random.key(0), *given)
        run = jax.jit(lambda *args: model.apply(variables, *args)[0], compiler_options=options)
        return run.lower(*given).compile()

    crops, whole = compiled(rcnn, pixels, some), compiled(fast, pixels, jnp.zeros((1, count, 4), jnp.float32))
    both = compiled(faster, pixels)

    def in_parts(proposals: np.ndarray) -> Any:
        found = [crops(pixels, proposals[None, i : i + part]) for i in range(0, count, part)]
        joined = (jnp.concatenate(field, 1) for field in zip(*found, strict=True))
        return predict.rcnn(Regions(*joined), image_size=size)

    return {
        "R-CNN": in_parts,
        "Fast R-CNN": lambda proposals: predict.rcnn(whole(pixels, proposals[None]), image_size=size),
        "Faster R-CNN": lambda proposals: predict.rcnn(both(pixels), image_size=size),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trunk", default="resnet18", help="any network of jaxcv.models that classifies")
    parser.add_argument("--side", type=int, default=512, help="height and width of the photograph in pixels")
    parser.add_argument("--count", type=int, default=2000, help="proposals, 2,000 in the papers")
    parser.add_argument("--crop", type=int, default=224, help="height and width of R-CNN's crops in pixels")
    parser.add_argument("--part", type=int, default=50, help="crops at a time")
    parser.add_argument("--proposals", default="selective_search", help="or components")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if options.count % options.part:
        parser.error(f"--count {options.count} is no multiple of --part {options.part}")

    from jaxcv import cpu

    cpu.tune()
    import jax
    from rich.console import Console
    from rich.table import Table

    from jaxcv.data.sources.region_proposers import PROPOSERS

    image = photograph(options.side)
    run = detectors(options.trunk, options.crop, options.count, image, options.part)
    seconds: dict[str, list[float]] = {name: [] for name in ("proposals", *run)}
    for _ in range(options.rounds + 1):
        start = time.perf_counter()
        found = PROPOSERS[options.proposals](image)
        seconds["proposals"].append(time.perf_counter() - start)
        proposals = np.zeros((options.count, 4), np.float32)
        proposals[: len(found)] = found[: options.count]
        for name, detect in run.items():
            start = time.perf_counter()
            jax.block_until_ready(detect(proposals))
            seconds[name].append(time.perf_counter() - start)
    median = {name: statistics.median(times[1:]) for name, times in seconds.items()}
    title = f"seconds per image: {options.trunk}, {options.side} x {options.side}, {len(found)} proposals found"
    table = Table("", "proposals", "network", "together", title=title)
    for name in run:
        waited = 0.0 if name == "Faster R-CNN" else median["proposals"]
        table.add_row(name, f"{waited:.2f}", f"{median[name]:.2f}", f"{waited + median[name]:.2f}")
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
