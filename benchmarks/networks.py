"""Training step and forward pass of whole networks against torch's, on the CPU of this machine.

Every contender runs in a process of its own; they take turns, a few steps each, round after round, so that whatever
slows the machine slows all of them. All have huge pages, torch's from glibc, ours as `cpu.tune` asks for them, and as
many threads as the machine has cores. Figures are medians; the ratio is torch's best over ours, above 1 we are faster.

    pip install torch torchvision --index-url https://download.pytorch.org/whl/cpu     # what it takes
    python benchmarks/networks.py [NETWORK ...] [--rounds 5] [--compile] [--flax] [--forward] [--json FILE]
"""

import argparse
import importlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parent.parent

NETWORKS = {
    "lenet5": (256, 32, 1),
    "vgg16": (4, 224, 3),
    "resnet50": (8, 224, 3),
    "mobilenet_v2": (16, 224, 3),
    "unet": (8, 128, 3),
    "fcn32s_resnet50": (4, 224, 3),
    "deconvnet": (2, 224, 3),
    "yolo": (32, 128, 3),
    "yolo_detect": (32, 128, 3),
    "fasterrcnn_resnet50_fpn": (2, 512, 3),
}
"""Batch size, height and width, and channels of the images. `yolo_detect` is the forward pass, decoding and
suppression: the 400 best candidates of an image, the 100 best boxes. Faster R-CNN trains on its own four losses, with
eight targets an image and as many proposals and samples as torchvision's, and its forward pass ends in detections."""
RATES = {"fasterrcnn_resnet50_fpn": 1e-9}
"""Learning rates, 1e-3 for others: random parameters behind frozen normalisation would diverge in a step, and
torchvision has fewer regions to compute where boxes are not finite."""
ANCHOR_BOXES = ((10.0, 10.0), (20.0, 30.0), (40.0, 20.0), (60.0, 60.0), (90.0, 80.0))


def targets(batch: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Boxes [b 8 4] and classes [b 8] for a detector to be trained on."""
    random = np.random.default_rng(2)
    corners, sides = (random.uniform(low, high, (batch, 8, 2)) * size for low, high in ((0, 0.6), (0.04, 0.4)))
    return np.concatenate([corners, corners + sides], -1).astype(np.float32), random.integers(0, 90, (batch, 8))


def our_model(name: str) -> Any:
    """The network by name, at the size of the table."""
    import jaxcv.models as models

    if name.startswith("yolo"):
        return models.YOLO(num_classes=10, anchor_boxes=ANCHOR_BOXES)
    if name == "fcn32s_resnet50":
        return models.FCN(models.resnet50(), stride=32)
    if name == "deconvnet":
        return models.DeconvNet()
    return models.UNet(width=32) if name == "unet" else getattr(models, name)()


def ours(name: str, *, train: bool, flax: bool) -> tuple[Callable[[], None], dict[str, float]]:
    """One call of our network, and what its program needs; `flax`: on Flax's own layers."""
    from jaxcv import cpu

    cpu.tune()
    import jax
    import jax.numpy as jnp
    import optax

    from jaxcv import losses, predict
    from jaxcv.ops.initializers import initialize

    if flax:
        from theirs import use_flax_layers

        use_flax_layers()
    batch, size, channels = NETWORKS[name]
    model = our_model(name)
    image = jnp.asarray(np.random.default_rng(0).uniform(size=(batch, size, size, channels)), jnp.float32)
    boxes, classes = targets(batch, size)
    truth = {"boxes": jnp.asarray(boxes), "classes": jnp.asarray(classes), "valid": jnp.ones(classes.shape, bool)}
    two_stage = name.startswith("faster")
    variables = initialize(model, jax.random.key(0), image[:1])
    params, statistics_ = variables["params"], {k: v for k, v in variables.items() if k != "params"}
    optimizer = optax.sgd(RATES.get(name, 1e-3), momentum=0.9)

    def loss(params: Any, statistics_: Any, truth: Any) -> tuple[jax.Array, Any]:
        rngs = {"dropout": jax.random.key(1)}
        fed = (image, truth["boxes"], truth["valid"]) if two_stage else (image,)
        (out, _), changed = model.apply(
            {"params": params, **statistics_}, *fed, train=True, mutable=["batch_stats"], rngs=rngs
        )
        if two_stage:
            terms = losses.faster_rcnn(out, truth)
            return sum(((v * w).sum() / w.sum() for v, w in terms.values()), jnp.zeros(())), statistics_
        return jnp.square(out).mean(), changed

    def step(params: Any, statistics_: Any, momentum: Any, truth: Any) -> Any:
        (_, statistics_), grads = jax.value_and_grad(loss, has_aux=True)(params, statistics_, truth)
        with jax.numpy_dtype_promotion("standard"):
            updates, momentum = optimizer.update(grads, momentum, params)
        return optax.apply_updates(params, updates), statistics_, momentum

    def forward(params: Any, statistics_: Any, momentum: Any, truth: Any) -> Any:
        outputs = model.apply({"params": params, **statistics_}, image, train=False)[0]
        if two_stage:
            return predict.rcnn(outputs, image_size=(size, size))
        if name != "yolo_detect":
            return outputs
        limits = {"confidence": "class", "score_threshold": 0.0, "max_candidates": 400, "max_outputs": 100}
        return predict.yolo(outputs, anchor_boxes=ANCHOR_BOXES, image_size=(size, size), **limits)

    state = [params, statistics_, optimizer.init(params)]
    options = cpu.compiler_options()
    jitted = jax.jit(step if train else forward, donate_argnums=(0, 1, 2) if train else (), compiler_options=options)
    began = time.perf_counter()
    compiled = jitted.lower(*state, truth).compile()
    seconds = time.perf_counter() - began
    memory = compiled.memory_analysis()
    facts = {"compile_seconds": seconds, "megabytes": 0.0 if memory is None else memory.temp_size_in_bytes / 1e6}

    def run() -> None:
        out = compiled(*state, truth)
        if train:
            state[:] = out
        jax.block_until_ready(out)

    return run, facts


def theirs(name: str, *, train: bool, mode: str) -> tuple[Callable[[], None], dict[str, float]]:
    """One call of torch's network: `eager`, `channels_last` or `compile`."""
    torch: Any = importlib.import_module("torch")
    from theirs import torch_network

    batch, size, channels = NETWORKS[name]
    torch.set_num_threads(os.cpu_count() or 1)
    torch.manual_seed(0)
    network, image = torch_network(name, ANCHOR_BOXES, size), torch.rand(batch, channels, size, size)
    network.train(train)
    if mode != "eager":
        network, image = network.to(memory_format=torch.channels_last), image.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), lr=RATES.get(name, 1e-3), momentum=0.9)
    called = torch.compile(network) if mode == "compile" else network
    given: tuple[Any, ...] = (image,)
    if name.startswith("faster"):
        boxes, classes = (torch.from_numpy(array) for array in targets(batch, size))
        given = list(image), [{"boxes": b, "labels": c + 1} for b, c in zip(boxes, classes, strict=True)]

    def run() -> None:
        if not train:
            with torch.inference_mode():
                called(given[0])
            return
        optimizer.zero_grad(set_to_none=True)
        out = called(*given)
        loss: Any = sum(out.values()) if isinstance(out, dict) else out.square().mean()
        loss.backward()
        optimizer.step()

    began = time.perf_counter()
    run()
    return run, {"compile_seconds": time.perf_counter() - began}


def work(contender: str, name: str, train: bool) -> None:
    """A contender: reads how many steps to run, writes their milliseconds, until the input ends."""
    if contender in ("jaxcv", "flax"):
        run, facts = ours(name, train=train, flax=contender == "flax")
    else:
        run, facts = theirs(name, train=train, mode=contender.removeprefix("torch "))
    serve(run, facts)


def serve(run: Callable[[], None], facts: dict[str, float]) -> None:
    """Take turns, as `alternate` in another process asks for them."""
    for _ in range(2):
        run()
    print(json.dumps(facts), flush=True)
    for line in sys.stdin:
        times = []
        for _ in range(int(line)):
            start = time.perf_counter()
            run()
            times.append((time.perf_counter() - start) * 1e3)
        print(json.dumps(times), flush=True)


def compare(name: str, train: bool, contenders: list[str], rounds: int) -> dict[str, dict[str, Any]]:
    """Milliseconds and facts of each contender, in alternating runs."""
    rest = [] if train else ["--forward"]
    return alternate({c: [sys.executable, __file__, name, "--worker", c, *rest] for c in contenders}, rounds)


def alternate(commands: dict[str, list[str]], rounds: int) -> dict[str, dict[str, Any]]:
    """The same of processes that `serve`, by contender: "jaxcv", "flax", or torch's."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    huge = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
    found: dict[str, dict[str, Any]] = {}
    running = {}
    for contender, command in commands.items():
        pipe = subprocess.PIPE
        own = environment | ({} if contender in ("jaxcv", "flax") else huge)
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=own)
        running[contender] = process
        found[contender] = {**json.loads(process.stdout.readline()), "times": []}  # type: ignore[union-attr]
    counts = {}
    for turn in range(rounds + 1):
        for contender, process in running.items():
            time.sleep(0.5)  # threads of OpenMP spin for a while after their last work
            process.stdin.write(f"{counts.get(contender, 1)}\n")  # type: ignore[union-attr]
            process.stdin.flush()  # type: ignore[union-attr]
            times = json.loads(process.stdout.readline())  # type: ignore[union-attr]
            if turn == 0:
                counts[contender] = max(1, min(50, int(1000 / times[0])))
            else:
                found[contender]["times"] += times
    for process in running.values():
        process.stdin.close()  # type: ignore[union-attr]
        process.wait()
    for facts in found.values():
        facts["milliseconds"] = statistics.median(facts.pop("times"))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help=f"of {', '.join(NETWORKS)}; by default all")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each contender")
    parser.add_argument("--forward", action="store_true", help="only the forward pass")
    parser.add_argument("--train", action="store_true", help="only the training step")
    parser.add_argument("--compile", action="store_true", help="torch.compile too: half a minute a network")
    parser.add_argument("--flax", action="store_true", help="also our networks on Flax's own layers")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if unknown := set(options.networks) - set(NETWORKS):
        parser.error(f"no network {', '.join(sorted(unknown))}: there are {', '.join(NETWORKS)}")
    if options.worker:
        return work(options.worker, options.networks[0], not options.forward)

    from rich.console import Console
    from rich.table import Table

    contenders = ["jaxcv", "torch eager", "torch channels_last"]
    contenders += ["torch compile"] * options.compile + ["flax"] * options.flax
    table = Table("network", "pass", *contenders, "torch's best / ours", title="milliseconds, medians of turns")
    results = {}
    for name in options.networks or NETWORKS:
        for train in (True, False):
            if (options.forward and train) or (options.train and not train) or (train and name == "yolo_detect"):
                continue
            found = compare(name, train, contenders, options.rounds)
            kind = "train" if train else "forward"
            best = min(facts["milliseconds"] for c, facts in found.items() if c.startswith("torch"))
            ratio = best / found["jaxcv"]["milliseconds"]
            results[f"{name} {kind}"] = {**found, "ratio": ratio}
            cells = [f"{found[c]['milliseconds']:,.1f}" for c in contenders]
            table.add_row(name, kind, *cells, f"{ratio:.2f}")
            if options.flax:
                print(name, kind, {c: round(found[c].get("megabytes", 0)) for c in ("jaxcv", "flax")}, "MB")
    Console(width=120).print(table)
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
