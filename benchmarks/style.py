"""A step of style transfer against torch's, on the CPU of this machine: processes in turns, as in `networks.py`.

Both take VGG-16 with random weights and average pooling to conv5_1, the same five Gram matrices and the features of
conv4_2, total variation, and Adam on the picture.

    pip install torch torchvision --index-url https://download.pytorch.org/whl/cpu     # what it takes
    python benchmarks/style.py [--size 256] [--rounds 5]
"""

import argparse
import importlib
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from networks import alternate, serve

CONTENT, STYLE = ("conv4_2",), ("conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1")
LAYER_WEIGHTS = (0.4, 0.25, 0.2, 0.1, 0.05)
BETA, VARIATION, RATE = 100.0, 3.0, 0.02
CONTENDERS = ("jaxcv", "torch eager", "torch channels_last")


def ours(size: int) -> tuple[Callable[[], None], dict[str, float]]:
    """One step of `experiments/style_transfer.py` as the trainer takes it."""
    sys.path.insert(0, str(Path(__file__).parent.parent / "experiments"))
    from jaxcv import cpu

    cpu.tune()
    import jax

    from jaxcv.train import make_train_step, program, resolve

    experiment = importlib.import_module("style_transfer").experiment
    values = resolve(experiment, {"image_size": size})
    shared, train_step = program(experiment, values), make_train_step(experiment, values)
    hyperparameters, batch = shared.hyperparameters(values), experiment(**values).train_data.batch(0)
    state = [shared.init(hyperparameters)]
    began = time.perf_counter()

    def run() -> None:
        state[:] = [train_step(hyperparameters, state[0], batch)[0]]
        jax.block_until_ready(state[0].params)

    run()
    return run, {"compile_seconds": time.perf_counter() - began}


def theirs(size: int, *, channels_last: bool) -> tuple[Callable[[], None], dict[str, float]]:
    """The same in torch, on a picture of the same height and width."""
    torch: Any = importlib.import_module("torch")
    torchvision: Any = importlib.import_module("torchvision")
    functional = torch.nn.functional

    torch.set_num_threads(os.cpu_count() or 1)
    torch.manual_seed(0)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    trunk = torchvision.models.vgg16().features.requires_grad_(False).to(memory_format=layout)
    wanted = {*CONTENT, *STYLE}

    def features(x: Any) -> dict[str, Any]:
        found, stage, number = {}, 1, 0
        for layer in trunk:
            if isinstance(layer, torch.nn.MaxPool2d):
                x, stage, number = functional.avg_pool2d(x, 2), stage + 1, 0
            elif isinstance(layer, torch.nn.Conv2d):
                x, number = functional.relu(layer(x)), number + 1
                found[f"conv{stage}_{number}"] = x
                if len(wanted & found.keys()) == len(wanted):
                    return found
        return found

    def gram(x: Any) -> Any:
        rows = x[0].flatten(1)
        return rows @ rows.T / rows.numel()

    shape = 1, 3, round(size * 427 / 640), size  # scikit-learn's photographs
    pictures = [torch.rand(shape).to(memory_format=layout) for _ in range(3)]
    with torch.no_grad():
        content = {name: x for name, x in features(pictures[0]).items() if name in CONTENT}
        grams = {name: gram(x) for name, x in features(pictures[1]).items() if name in STYLE}
    picture = pictures[2].requires_grad_()
    optimizer = torch.optim.Adam([picture], lr=RATE)

    def run() -> None:
        optimizer.zero_grad(set_to_none=True)
        found = features(picture)
        cost = sum((found[name] - x).square().sum() / (2 * x.numel()) for name, x in content.items())
        for name, weight in zip(STYLE, LAYER_WEIGHTS, strict=True):
            cost = cost + BETA * weight * (gram(found[name]) - grams[name]).square().sum() / 4
        for axis in (2, 3):
            cost = cost + VARIATION * picture.diff(dim=axis).square().sum() / picture.numel()
        cost.backward()
        optimizer.step()

    began = time.perf_counter()
    run()
    return run, {"compile_seconds": time.perf_counter() - began}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=256, help="pixels of the picture's longer side")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each contender")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker == "jaxcv":
        return serve(*ours(options.size))
    if options.worker:
        return serve(*theirs(options.size, channels_last=options.worker.endswith("channels_last")))
    command = [sys.executable, __file__, "--size", str(options.size), "--worker"]
    found = alternate({name: [*command, name] for name in CONTENDERS}, options.rounds)
    for name, facts in found.items():
        print(f"{name:20} {facts['milliseconds']:8.1f} ms, first step {facts['compile_seconds']:.1f} s")
    best = min(facts["milliseconds"] for name, facts in found.items() if name != "jaxcv")
    print(f"torch's best / ours  {best / found['jaxcv']['milliseconds']:8.2f}")


if __name__ == "__main__":
    main()
