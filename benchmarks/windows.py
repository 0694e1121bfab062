"""All windows of a picture by one convolutional pass, compared with a batch of crops: milliseconds on this machine.

Both are compiled programs from the picture to the logits of every window. The crops are one batch; or batches of 16, 64
or 256 one after another, within one program (`lax.map`) or by a Python loop over a compiled batch. Runs alternate;
figures are medians over all rounds, for the crops those of the fastest method, whose name is printed. x is their time
over that of the pass. The largest difference between the logits is printed too.

    python benchmarks/windows.py [PART-OF-A-NAME ...] [--rounds 3] [--json FILE]

Measured on 2 AMD EPYC (Zen 5) cores, jax 0.10.2, AlexNet, windows of 227 at stride 8 over 512 x 512: 125 against 2,751
ms, 21.9 times; largest difference 1.8e-6.
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

# Network, its options, window, stride, height and width of the picture; two classes, and all widths as published.
CASES: dict[str, tuple[str, dict[str, Any], int, int, int]] = {
    "AlexNet, windows of 227, stride 8, 512²": ("alexnet", {"padding": "valid"}, 227, 8, 512),
    "AlexNet, windows of 227, stride 32, 512²": ("alexnet", {"padding": "valid"}, 227, 32, 512),
    "AlexNet, windows of 355, stride 8, 512²": ("alexnet", {"padding": "valid"}, 355, 8, 512),
    "LeNet, windows of 32, stride 4, 512²": ("lenet5", {}, 32, 4, 512),
    "LeNet, windows of 32, stride 8, 512²": ("lenet5", {}, 32, 8, 512),
    "VGG-11, windows of 224, stride 32, 320²": ("vgg11", {"padding": "valid"}, 224, 32, 320),
}
BATCHES = (0, 256, 64, 16)
"""Crops at a time; 0: all."""


def programs(network: str, options: dict[str, Any], window: int, stride: int, size: int) -> dict[str, Any]:
    """The methods from picture to logits [rows columns 2], compiled, each a function without arguments."""
    import jax
    import jax.numpy as jnp

    from jaxcv import cpu, models, ops
    from jaxcv.ops.initializers import initialize

    model = getattr(models, network)(num_classes=2, **options)
    channels = 1 if network == "lenet5" else 3
    variables = initialize(model, jax.random.key(0), jnp.zeros((1, window, window, channels)))
    net, filters = models.convolutionalize(model, variables, window=window, strides=stride)
    image = jnp.asarray(np.random.default_rng(0).uniform(size=(1, size, size, channels)), jnp.float32)

    def one_pass(filters: Any, image: Any) -> Any:
        return net.apply(filters, image)[0].reshape(-1, 2)

    def by_crops(variables: Any, image: Any, batch: int) -> Any:
        crops = ops.sliding_windows(image, window=window, strides=stride)[0][0]
        if batch == 0:
            return model.apply(variables, crops)[0]
        return jax.lax.map(lambda crop: model.apply(variables, crop[None])[0][0], crops, batch_size=batch)

    def program(function: Any, *args: Any) -> Any:
        return jax.jit(function, compiler_options=cpu.compiler_options()).lower(*args).compile()

    def compiled(function: Any, *args: Any) -> Any:
        whole = program(function, *args)
        return lambda: jax.block_until_ready(whole(*args))

    def loop(batch: int) -> Any:
        cut = program(lambda image: ops.sliding_windows(image, window=window, strides=stride)[0][0], image)
        part = jnp.zeros((batch, window, window, channels))
        classify = program(lambda variables, crops: model.apply(variables, crops)[0], variables, part)

        def run() -> Any:
            crops = cut(image)
            starts = [*range(0, count - batch, batch), count - batch]  # the last overlaps the one before, to be full
            logits = [classify(variables, crops[start : start + batch]) for start in starts]
            last = starts[-2] + batch - starts[-1] if len(starts) > 1 else 0
            return jax.block_until_ready(jnp.concatenate([*logits[:-1], logits[-1][last:]]))

        return run

    count = ((size - window) // stride + 1) ** 2
    ways = {"pass": compiled(one_pass, filters, image)}
    for batch in BATCHES:
        if batch == 0 and count * window**2 * 64 * 4 > 5e9 * (16 if network == "alexnet" else 1):
            continue  # its activations would not fit
        if batch < count:
            ways[f"by {batch or count}"] = compiled(lambda v, x, n=batch: by_crops(v, x, n), variables, image)
            if batch:
                ways[f"by {batch}, loop"] = loop(batch)
    return ways


def timed(run: Any) -> float:
    start = time.perf_counter()
    run()
    return (time.perf_counter() - start) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="only cases whose name contains this")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each method")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    from jaxcv import cpu

    cpu.tune()
    results: dict[str, dict[str, float]] = {}
    table = Table("windows", "pass", "crops", "fastest crops", "x", "largest difference", title="milliseconds")
    for name, case in CASES.items():
        if options.names and not any(part in name for part in options.names):
            continue
        ways = programs(*case)
        answers = {way: np.asarray(run()) for way, run in ways.items()}  # the first run warms up
        apart = max(float(np.abs(answers["pass"] - answer).max()) for answer in answers.values())
        times: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(options.rounds):
            for way, run in ways.items():
                times[way].append(timed(run))
        medians = {way: statistics.median(taken) for way, taken in times.items()}
        crops, way = min((taken, way) for way, taken in medians.items() if way != "pass")
        results[name] = {**medians, "ratio": crops / medians["pass"], "largest difference": apart}
        ratio = f"{crops / medians['pass']:.1f}"
        table.add_row(name, f"{medians['pass']:.1f}", f"{crops:.0f}", way, ratio, f"{apart:.1e}")
    Console(width=100).print(table)
    if options.json:
        options.json.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
