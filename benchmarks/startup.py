"""Seconds from the start of the process to the first finished training step: empty cache, full cache, another rate.

python benchmarks/startup.py [--runs 3] [--json FILE]
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


def first_step(experiment: str, cache: Path, runs: Path, *, rate: str) -> float:
    """Train one step in a process of its own; the seconds until it was done, imports included."""
    command = [sys.executable, "launch.py", f"experiments/{experiment}.py", f"lr={rate}", "steps=1"]
    environment = {**os.environ, "JAXCV_CACHE": str(cache)}
    subprocess.run([*command, "--workdir", str(runs), "--fresh", "--quiet"], cwd=ROOT, env=environment, check=True)
    facts = json.loads((runs / experiment / f"lr={float(rate)},steps=1" / "run.json").read_text())
    return facts["time"]["first_step_seconds"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3, help="rounds of cold, warm and other rate in turn")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    found = {}
    for experiment in ("lenet", "yolo"):
        seconds: dict[str, list[float]] = {"empty cache": [], "full cache": [], "full cache, another rate": []}
        for _ in range(options.runs):
            with tempfile.TemporaryDirectory() as folder:
                cache, runs = Path(folder, "cache"), Path(folder, "runs")
                for name, rate in zip(seconds, ("1e-3", "1e-3", "3e-4"), strict=True):
                    seconds[name].append(first_step(experiment, cache, runs, rate=rate))
        found[experiment] = {name: statistics.median(values) for name, values in seconds.items()}
    table = Table("experiment", "empty cache", "full cache", "another rate", "ratio", title="seconds to the first step")
    for experiment, medians in found.items():
        cold, warm, other = medians.values()
        table.add_row(
            experiment, f"{cold:.1f}", f"{warm:.1f}", f"{other:.1f}", f"{cold / warm:.1f}, {cold / other:.1f}"
        )
    Console().print(table)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
