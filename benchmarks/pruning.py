"""Steps saved by pruning, and its cost in accuracy: the same random search of LeNet-5 in full and with each pruner.

All searches train the same trials. Counted, not timed: the steps that were taken; and the accuracy of the best trial.

    python benchmarks/pruning.py DIGITS [--trials 30] [--steps 500] [--json FILE]      # DIGITS: MNIST's folder
"""

import argparse
import csv
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parent.parent
SPACE = ["lr=log(1e-4,1e-1)", "weight_decay=log(1e-6,1e-1)", "label_smoothing=uniform(0,0.2)"]


def search(data: Path, trials: int, steps: int, workdir: Path, *flags: str) -> tuple[int, float, int]:
    """Run one search; the steps taken, the best accuracy, and how many trials were stopped."""
    words = [f"data=mnist:{data}", *SPACE, f"steps={steps}", "--search", "random", "--trials", str(trials)]
    command = [sys.executable, "launch.py", "experiments/lenet.py", *words, *flags, "--workdir", str(workdir)]
    subprocess.run(command, cwd=ROOT, check=True)
    (table,) = workdir.glob("lenet/sweep-*.csv")
    with open(table, newline="") as file:
        rows = list(csv.DictReader(file))
    finished = [float(row["accuracy"]) for row in rows if row["state"] == "finished"]
    stopped = sum(row["state"] == "stopped early" for row in rows)
    return sum(int(row["step"]) for row in rows if row["step"]), max(finished), stopped


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of MNIST's IDX files")
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    found = {}
    for how in ("full", "asha", "hyperband", "median"):
        with tempfile.TemporaryDirectory() as folder:
            flags = [] if how == "full" else ["--prune", how]
            found[how] = search(options.data.absolute(), options.trials, options.steps, Path(folder), *flags)
    table = Table("search", "steps", "of the full search", "trials stopped", "best accuracy")
    for how, (steps, best, stopped) in found.items():
        fraction = f"{100 * steps / found['full'][0]:.0f} %"
        table.add_row(how, f"{steps:,}", fraction, str(stopped), f"{best:.4f}")
    Console().print(table)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
