"""A whole training run beside its bare compiled step: how much of the device's time is spent on steps.

For each case, in a process of its own: the run twice (the second is measured, with everything compiled: steps,
evaluations, pictures, records, checkpoints), then chunks of the same compiled steps with nothing around them. `idle` is
the fraction of the loop in which the device takes no steps; the last columns are seconds that the host spent on each
kind of work, most of it while the device trained on.

    python benchmarks/end_to_end.py [CASE ...] [--device gpu] [--json FILE]      # cases on real data need JAXCV_DATA
    python benchmarks/end_to_end.py perceptron lanes                             # against a hand-written scan; a sweep
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
DATA = os.environ.get("JAXCV_DATA", "")

CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "lenet": ("lenet", {"data": f"mnist:{DATA}/cls_idx_mnist", "steps": 1_500}, {"batch_size": 1024, "steps": 10_000}),
    "yolo": ("yolo", {"steps": 640}, {"batch_size": 256, "dtype": "bfloat16", "steps": 2_500}),
    "resnet20": ("resnet", {"data": f"folder:{DATA}/cls_folder_cifar10", "network": "resnet20", "steps": 200}, {}),
    "resnet50": (
        "resnet",
        {
            "data": f"folder:{DATA}/cls_folder_hymenoptera",
            "network": "resnet50",
            "image_size": 224,
            "batch_size": 8,
            "steps": 24,
        },
        {"batch_size": 64, "steps": 300},
    ),
}
"""Experiment, its values on a CPU, and what is put over them on an accelerator."""


def load(name: str) -> Any:
    """The function of an experiment file."""
    from jaxcv.cli.main import load_experiment

    return load_experiment(ROOT / "experiments" / f"{name}.py")


def timed(kind: type, name: str, into: dict[str, float], label: str) -> None:
    """Have a method add its seconds to `into[label]`."""
    method = getattr(kind, name)

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        began = time.perf_counter()
        try:
            return method(*args, **kwargs)
        finally:
            into[label] = into.get(label, 0.0) + time.perf_counter() - began

    setattr(kind, name, wrapper)


def measure(experiment: Any, values: dict[str, Any]) -> dict[str, Any]:
    """Images a second of the whole loop and of its steps alone; seconds of the host by kind of work."""
    import jax
    import numpy as np

    from jaxcv.train import fit, program, resolve
    from jaxcv.train.feed import open_feed
    from jaxcv.train.group import Group
    from jaxcv.train.log import Records
    from jaxcv.train.observer import Observer
    from jaxcv.train.saving import Saver

    host: dict[str, float] = {}
    timed(Observer, "_evaluate", host, "evaluation")
    timed(Observer, "_draw_previews", host, "of which pictures")
    timed(Saver, "save", host, "checkpoints")
    timed(Records, "write", host, "records")
    timed(Group, "take", host, "batches and dispatch")
    with tempfile.TemporaryDirectory() as folder:
        for number in range(2):
            host.clear()
            fit(experiment, values, Path(folder, str(number)))
        lines = [json.loads(line) for line in (Path(folder, "1") / "metrics.jsonl").read_text().splitlines()]
    setup, shared = experiment(**resolve(experiment, values)), program(experiment, values, check=False)
    seconds = max(line["time"]["seconds"] for line in lines if line["split"] == "train")
    rows = setup.train_data.spec["image"].shape[0]

    feed, hyperparameters = open_feed(setup.train_data, setup.steps), shared.hyperparameters(values)
    chunk = shared.begin_chunk(resolve(experiment, values), *feed.spec(), setup.variants[0])()
    state, _ = shared.first_state(values)
    count = min(feed.length, max(1, setup.steps // 8))
    data, indices = feed.take(0, count)
    data, took = jax.device_put(data), []
    while len(took) < 4 or (sum(took) < 3 and len(took) < 20):
        began = time.perf_counter()
        state, logs = chunk(hyperparameters, state, data, indices, np.int32(count))
        jax.block_until_ready(logs)
        took.append(time.perf_counter() - began)
    feed.close()
    step = statistics.median(took[1:]) / count
    return {
        "bare": rows / step,
        "loop": rows * setup.steps / seconds,
        "ratio": step * setup.steps / seconds,
        "idle": 1 - step * setup.steps / seconds,
        "host": host,
        "data": feed.words,
    }


def perceptron(steps: int = 20_000) -> dict[str, Any]:
    """Seconds of a run of the smallest network, and of a hand-written scan over the same examples."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    import optax

    from jaxcv.train import fit, resolve

    experiment = small_experiment(steps)
    with tempfile.TemporaryDirectory() as folder:
        took = []
        for number in range(3):
            began = time.perf_counter()
            fit(experiment, {"lr": 1e-3 * (number + 1)}, Path(folder, str(number)))
            took.append(time.perf_counter() - began)
    setup = experiment(**resolve(experiment, {}))
    data: Any = setup.train_data
    arrays, order = jax.device_put(dict(data.resident())), jnp.asarray(data.indices(np.arange(steps)), jnp.int32)
    optimizer, key = optax.adam(1e-3), jax.random.key(0)
    params = setup.model.init(key, jnp.zeros((1, *arrays["image"].shape[1:])))

    def loss(params: Any, image: Any, label: Any) -> Any:
        outputs = setup.model.apply(params, image.astype(jnp.float32) / 255)[0]
        return optax.softmax_cross_entropy_with_integer_labels(outputs, label).mean()

    def one(carry: Any, rows: Any) -> Any:
        params, state = carry
        value, grads = jax.value_and_grad(loss)(params, arrays["image"][rows], arrays["label"][rows])
        updates, state = optimizer.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), value

    scan = jax.jit(partial(jax.lax.scan, one))
    by_hand = []
    for _ in range(4):
        began = time.perf_counter()
        jax.block_until_ready(scan((params, optimizer.init(params)), order))
        by_hand.append(time.perf_counter() - began)
    ours, theirs = min(took[1:]), statistics.median(by_hand[1:])
    return {"run": ours, "hand-written scan": theirs, "ratio": ours / theirs}


def small_experiment(steps: int) -> Any:
    """A perceptron on the embedded digits, 16 at a time."""
    import flax.linen as nn
    import optax

    from jaxcv.data import classification_data
    from jaxcv.metrics import accuracy
    from jaxcv.predict import classes
    from jaxcv.train import Experiment

    class Perceptron(nn.Module):
        @nn.compact
        def __call__(self, x: Any, *, train: bool = False) -> Any:
            return nn.Dense(10)(nn.relu(nn.Dense(32)(x.reshape(len(x), -1)))), {}

    def loss(outputs: Any, batch: Any) -> dict[str, Any]:
        return {"cross_entropy": optax.softmax_cross_entropy_with_integer_labels(outputs, batch["label"])}

    def experiment(*, lr: float = 1e-3, seed: int = 0) -> Experiment:
        train, test = classification_data("digits", image_size=8)
        return Experiment(
            model=Perceptron(),
            loss=loss,
            optimizer=optax.adam(lr),
            train_data=train.batches(16, seed=seed),
            test_data=test.batches(64),
            predict=classes,
            metrics={"accuracy": accuracy()},
            steps=steps,
            seed=seed,
        )

    return experiment


def lanes(experiment: Any, values: dict[str, Any], count: int = 32) -> dict[str, float]:
    """Seconds of one run, and of `count` side by side."""
    from jaxcv.train import Options, Trial, fit_many
    from jaxcv.train.console import Reporter

    def train(number: int, folder: Path) -> float:
        trials = [
            Trial(values={**values, "seed": i}, workdir=folder / str(i), reporter=Reporter(quiet=True))
            for i in range(number)
        ]
        began = time.perf_counter()
        fit_many(experiment, trials, Options(short=True))
        return time.perf_counter() - began

    with tempfile.TemporaryDirectory() as folder:
        alone = [train(1, Path(folder, f"one{turn}")) for turn in range(3)]
        together = [train(count, Path(folder, f"all{turn}")) for turn in range(2)]
    return {"one": min(alone[1:]), f"{count} together": together[1], "ratio": together[1] / min(alone[1:])}


def work(name: str, gpu: bool) -> dict[str, Any]:
    """One case in this process."""
    from jaxcv.train import runtime

    runtime.tune()
    runtime.enable_compile_cache()
    if name == "perceptron":
        return perceptron()
    if name == "lanes":
        return lanes(small_experiment(4_000), {})
    if name == "lanes lenet":
        return lanes(load("lenet"), {"data": f"mnist:{DATA}/cls_idx_mnist", "steps": 300})
    file, values, more = CASES[name]
    return measure(load(file), {**values, **(more if gpu else {})})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", default=list(CASES), help=f"of {', '.join(CASES)}, perceptron, lanes")
    parser.add_argument("--device", choices=["cpu", "gpu"], default="cpu")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(work(options.worker, options.device == "gpu")))
        return
    from rich.console import Console
    from rich.table import Table

    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"}
    if options.device == "cpu":
        environment["JAX_PLATFORMS"] = "cpu"
    console, found = Console(width=110), {}
    for name in options.cases:
        command = [sys.executable, __file__, "--worker", name, "--device", options.device]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        found[name] = facts = json.loads(done.stdout.splitlines()[-1])
        table = Table("", "", title=name, title_justify="left", show_header=False)
        for label, value in {**facts, **facts.pop("host", {})}.items():
            table.add_row(label, f"{value:,.3f}" if isinstance(value, float) else str(value))
        console.print(table)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
