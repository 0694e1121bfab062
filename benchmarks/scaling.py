"""What a data-parallel step sends and computes, read from its compiled program, and how it should scale.

    python benchmarks/scaling.py lenet "batch_size=16" resnet "batch_size=8"      # a file and its overrides, ...

Prints rows of a Markdown table. The prediction is a model, not a measurement: a chip computes at `FLOPS`, each
all-reduce is a ring over the slowest link, 2 (n - 1) / n of its bytes at `LINKS`, and nothing is sent while something
is computed.
"""

import os

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"
os.environ["JAX_PLATFORMS"] = "cpu"

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np

from jaxcv.cli.main import load_experiment
from jaxcv.sweep import parse_overrides
from jaxcv.train import hyperparameters, program, resolve, runtime

FLOPS = 0.4 * 989e12
"""Of a chip: an H100's dense bfloat16 peak (data sheet), of which networks are taken to reach 40 %."""
LINKS = {8: 450e9, 256: 50e9, 4096: 50e9}
"""Bytes a second that a chip sends, by the number of chips: NVLink within 8, 400 Gb/s a chip beyond."""
PER_CHIP = 128
"""Examples of a chip's part of the batch."""
COLLECTIVE = r"= (.*?) (all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(?:-start)?\("


def sent(text: str) -> dict[str, int]:
    """Bytes by the kind of collective; all are of four-byte numbers."""
    found: dict[str, int] = {}
    for shapes, kind in re.findall(COLLECTIVE, text):
        sizes = [
            np.prod([int(n) for n in dims.split(",") if n], dtype=int) for dims in re.findall(r"\[([\d,]*)\]", shapes)
        ]
        found[kind] = found.get(kind, 0) + 4 * int(sum(sizes))
    return found


def row(name: str, words: str) -> str:
    """Of one experiment."""
    experiment = load_experiment(Path("experiments") / f"{name}.py")
    space: Any = parse_overrides(words.split(), hyperparameters(experiment))
    values = resolve(experiment, {key: choices[0] for key, choices in space.items()})
    shared = program(experiment, values, check=False)
    cost = shared.trace_step(values).lower().cost_analysis() or {}
    flops = float(cost.get("flops", 0.0)) / experiment(**values).train_data.spec["image"].shape[0]
    kinds = sent(shared.compile_step(values).as_text())
    size, computing = sum(kinds.values()), flops * PER_CHIP / FLOPS
    cells = [f"{name} {words}", f"{flops / 1e6:,.1f}", f"{size / 1e6:,.2f}", ", ".join(kinds)]
    for chips, link in LINKS.items():
        sending = 2 * (chips - 1) / chips * size / link
        cells.append(f"{computing / (computing + sending):.2f}")
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    runtime.enable_compile_cache()
    for at in range(1, len(sys.argv), 2):
        print(row(sys.argv[at], sys.argv[at + 1]), flush=True)
