"""Seconds that a trial of a sweep costs beyond its own steps and evaluations: LeNet-5, searched by TPE.

    sweep            all trials in one process, as `launch.py` runs them: between the ends of two trials
    process, warm    a process for each trial, compiled programs in the cache
    process, cold    a process for each trial, the cache empty
    torch            the same trainings in one process by a PyTorch loop, without records, checkpoints or ledger

All take turns, all else idle. Steps and evaluations are what the runs themselves recorded for them. Figures are
medians.

    pip install torch --index-url https://download.pytorch.org/whl/cpu     # what it takes, or --no-torch
    python benchmarks/sweep.py [--trials 40] [--steps 100] [--rounds 3] [--no-torch] [--json FILE]

Measured on 2 AMD EPYC (Zen 5) cores, jax 0.10.2, torch 2.14.1, in seconds a trial (of them steps and evaluations;
beyond): sweep 0.63 (0.46; 0.16), process with a warm cache 3.45 (0.89; 2.55), with a cold one 9.62 (1.22; 8.29), torch
0.34 (0.34; 0.00). In a sweep that began with an empty cache the step was traced once.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import optuna
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parent.parent
ROWS = 64
TORCH = """
import json, sys, time
sys.path[:0] = [{benchmarks!r}, {root!r}]
import numpy as np, torch
from theirs import torch_network
from jaxcv.data import classification_data
torch.set_num_threads({threads})
train, test = classification_data("digits", image_size=32)
examples = iter(train.batches(64, seed=0))
batches = [next(examples) for _ in range(28)]
def tensors(batch):
    return torch.tensor(batch["image"]).permute(0, 3, 1, 2).float() / 255, torch.tensor(batch["label"]).long()
batches, tests = [tensors(b) for b in batches], [tensors(b) for b in test.batches(256)]
loss = torch.nn.CrossEntropyLoss()
began = time.perf_counter()
found = []
for trial in range({trials}):
    start, inside = time.perf_counter(), 0.0
    torch.manual_seed(trial % 2)
    network = torch_network("lenet5")
    optimizer = torch.optim.AdamW(network.parameters(), lr=10 ** (-4 + 3 * trial / {trials}), weight_decay=1e-4)
    for step in range({steps}):
        before = time.perf_counter()
        image, label = batches[step % 28]
        optimizer.zero_grad()
        loss(network(image), label).backward()
        optimizer.step()
        inside += time.perf_counter() - before
        if (step + 1) % ({steps} // 5) == 0:
            before = time.perf_counter()
            with torch.no_grad():
                sum(float((network(i).argmax(1) == l).sum()) for i, l in tests)
            inside += time.perf_counter() - before
    found.append((time.perf_counter() - start, inside))
print(json.dumps(found))
"""


def inside(folder: Path) -> float:
    """Seconds of a run's steps and evaluations, as it recorded them."""
    seconds, before = 0.0, 0
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        record = json.loads(line)
        if record["split"] == "test":
            seconds += record["time"]["seconds"]
        else:
            seconds += (record["step"] - before) * ROWS / record["time"]["images_per_second"]
            before = record["step"]
    return seconds


def launch(words: list[str], workdir: Path, cache: Path) -> float:
    """Run the launcher in a process; the seconds it took."""
    command = [sys.executable, "launch.py", "experiments/lenet.py", *words, "--workdir", str(workdir), "--quiet"]
    began = time.perf_counter()
    subprocess.run(command, cwd=ROOT, env={**os.environ, "JAXCV_CACHE": str(cache)}, check=True)
    return time.perf_counter() - began


def sweep(trials: int, steps: int, cache: Path) -> tuple[list[tuple[float, float]], int]:
    """For every trial but the first: seconds between its end and the previous one's, and those of its steps; traces."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["lr=log(1e-4,1e-1)", "weight_decay=log(1e-6,1e-2)", "seed=0,1", f"steps={steps}"]
        launch([*words, "--search", "tpe", "--trials", str(trials)], Path(folder), cache)
        (file,) = Path(folder).glob("lenet/sweep-*.db")
        study = optuna.load_study(study_name=file.stem, storage=f"sqlite:///{file}")
        ends = [trial.datetime_complete for trial in study.trials]
        spans = [(b - a).total_seconds() for a, b in zip(ends, ends[1:], strict=False) if a and b]
        folders = [Path(trial.user_attrs["folder"]) for trial in study.trials]
        traces = sum(json.loads((run / "run.json").read_text())["traces"] for run in folders)
        return list(zip(spans, map(inside, folders[1:]), strict=True)), traces


def process(steps: int, cache: Path, number: int) -> tuple[float, float]:
    """Seconds of a process that trains one trial, and those of its steps."""
    with tempfile.TemporaryDirectory() as folder:
        seconds = launch([f"lr={1e-3 * (1 + number)}", f"steps={steps}"], Path(folder), cache)
        (run,) = Path(folder).glob("lenet/*/")
        return seconds, inside(run)


def torchs(trials: int, steps: int) -> list[tuple[float, float]]:
    """Seconds of each trial in a PyTorch loop, and those of its steps; without the first."""
    script = TORCH.format(
        benchmarks=str(ROOT / "benchmarks"), root=str(ROOT), threads=os.cpu_count(), trials=trials, steps=steps
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
    return [tuple(pair) for pair in json.loads(done.stdout)][1:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3, help="of sweep, warm, cold and torch in turn")
    parser.add_argument("--no-torch", action="store_true", help="only our own")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    figures: dict[str, list[tuple[float, float]]] = {"sweep": [], "process, warm": [], "process, cold": []}
    traces = []
    with tempfile.TemporaryDirectory() as folder:
        warm = Path(folder, "warm")
        process(options.steps, warm, 0)  # fills the cache
        for turn in range(options.rounds):
            spans, _ = sweep(options.trials, options.steps, warm)
            figures["sweep"] += spans
            figures["process, warm"] += [process(options.steps, warm, 2 * turn + i) for i in (1, 2)]
            figures["process, cold"].append(process(options.steps, Path(folder, f"cold-{turn}"), turn))
            if not options.no_torch:
                figures.setdefault("torch", []).extend(torchs(options.trials, options.steps))
        traces = sweep(3, options.steps, Path(folder, "empty"))[1]
    table = Table("", "seconds a trial", "of them steps and evaluations", "beyond", title="medians")
    found = {}
    for how, pairs in figures.items():
        medians = [statistics.median(values) for values in ([a for a, _ in pairs], [b for _, b in pairs])]
        beyond = statistics.median(a - b for a, b in pairs)
        found[how] = {"trial": medians[0], "inside": medians[1], "beyond": beyond, "n": len(pairs)}
        table.add_row(how, *(f"{value:.2f}" for value in (*medians, beyond)))
    Console(width=110).print(table)
    print(f"the step was traced {traces} time(s) in a sweep that began with an empty cache")
    if options.json:
        options.json.write_text(json.dumps({**found, "traces": traces}, indent=2) + "\n")


if __name__ == "__main__":
    main()
