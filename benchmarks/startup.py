"""Seconds from the start of the process to the first finished training step: empty cache, full cache, another rate.

Ours with everything a run has (launcher, data, augmentation, checkpoints, logs); torch's a bare script: imports, the
network, SGD, one step on random numbers. Runs take turns.

    pip install torch torchvision --index-url https://download.pytorch.org/whl/cpu     # what it takes, or --no-torch
    python benchmarks/startup.py [--runs 3] [--no-torch] [--json FILE]

Measured on 2 AMD EPYC (Zen 5) cores, jax 0.10.2, torch 2.14.1, one turn on a quiet machine, empty cache / full
cache / torch: LeNet 4.3 / 1.5 / 2.7, ResNet-50 19.8 / 5.6 / 5.0, YOLO 17.2 / 3.0 / 2.5.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parent.parent
EXPERIMENTS = {
    "lenet": ("lenet", []),
    "resnet50": ("resnet", ["network=resnet50", "image_size=224", "batch_size=8"]),
    "yolo": ("yolo", []),
}
TORCH = """
import sys, torch, torchvision
sys.path.insert(0, {folder!r})
from theirs import torch_network
network = torch_network({name!r}).to(memory_format=torch.channels_last)
optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9)
image = torch.rand({shape}).to(memory_format=torch.channels_last)
network(image).square().mean().backward()
optimizer.step()
import os
ticks = int(open("/proc/self/stat").read().rpartition(")")[2].split()[19])
print(float(open("/proc/uptime").read().split()[0]) - ticks / os.sysconf("SC_CLK_TCK"))
"""


def first_step(name: str, cache: Path, runs: Path, *, rate: str) -> float:
    """Train one step in a process of its own; the seconds until it was done, imports included."""
    experiment, options = EXPERIMENTS[name]
    values = [f"lr={rate}", *options, "steps=1"]
    command = [sys.executable, "launch.py", f"experiments/{experiment}.py", *values]
    environment = {**os.environ, "JAXCV_CACHE": str(cache)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # torch's bytecode is there
    subprocess.run([*command, "--workdir", str(runs), "--fresh", "--quiet"], cwd=ROOT, env=environment, check=True)
    newest = max(runs.glob(f"{experiment}/*/run.json"), key=lambda path: path.stat().st_mtime)
    return json.loads(newest.read_text())["time"]["first_step_seconds"]


def torchs_first_step(name: str) -> float:
    """The same of torch."""
    name = {"lenet": "lenet5"}.get(name, name)
    shape = {"lenet5": (64, 1, 32, 32), "resnet50": (8, 3, 224, 224), "yolo": (32, 3, 128, 128)}[name]
    script = TORCH.format(folder=str(Path(__file__).parent), name=name, shape=shape)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return float(
        subprocess.run([sys.executable, "-c", script], env=environment, check=True, capture_output=True).stdout
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3, help="rounds of cold, warm, other rate and torch in turn")
    parser.add_argument("--no-torch", action="store_true", help="only our own")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    columns = ["empty cache", "full cache", "full cache, another rate", *["torch"] * (not options.no_torch)]
    table = Table("experiment", *columns, *["torch / full cache"] * (not options.no_torch), title="seconds")
    found = {}
    for name in EXPERIMENTS:
        seconds: dict[str, list[float]] = {column: [] for column in columns}
        for _ in range(options.runs):
            with tempfile.TemporaryDirectory() as folder:
                cache, runs = Path(folder, "cache"), Path(folder, "runs")
                for column, rate in zip(columns, ("1e-3", "1e-3", "3e-4"), strict=False):
                    seconds[column].append(first_step(name, cache, runs, rate=rate))
            if not options.no_torch:
                seconds["torch"].append(torchs_first_step(name))
        medians = found[name] = {column: statistics.median(values) for column, values in seconds.items()}
        ratio = [] if options.no_torch else [f"{medians['torch'] / medians['full cache']:.2f}"]
        table.add_row(name, *(f"{value:.1f}" for value in medians.values()), *ratio)
    Console(width=110).print(table)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
