"""Ops on boxes, regions and embeddings against torchvision's and torch's: milliseconds on one device.

Two processes take turns, op by op and round by round; on a CPU with huge pages and all cores for both. Figures are
medians over all rounds; of several ways to write an op in torch the fastest counts. x is torch's time over ours, above
1 we are faster.

    pip install torch torchvision --index-url https://download.pytorch.org/whl/cpu     # what it takes
    python benchmarks/ops.py [PART-OF-A-NAME ...] [--rounds 5] [--quick] [--compile] [--json FILE]
    python benchmarks/ops.py nms roi_align --device gpu                 # torch and jax with CUDA
    python benchmarks/ops.py nms roi_align --form accelerator           # what a GPU is given, on this CPU
"""

import argparse
import importlib.util
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
Run = Callable[[], Any]

CASES: dict[str, dict[str, Any]] = {
    **{f"box_iou, {n}²": {"op": "box_iou", "n": n} for n in (1_000, 5_000)},
    **{
        f"{op}, {n} boxes, {kind}": {"op": op, "n": n, "kind": kind}
        for op in ("nms", "batched_nms")
        for n in (100, 1_000, 5_000, 20_000)
        for kind in ("little overlap", "crowded")
        if (op, n) != ("batched_nms", 100)
    },
    "nms, the best 300 of 20000, little overlap": {"op": "nms", "n": 20_000, "kind": "little overlap", "best": 300},
    "nms, 8 images of 1000, crowded": {"op": "nms", "n": 1_000, "kind": "crowded", "images": 8},
    "batched_nms, 64 images of 400, crowded": {"op": "batched_nms", "n": 400, "kind": "crowded", "images": 64},
    **{
        f"roi_align, {n} boxes, {side}² x {c}, {'both' if grad else 'forward'}": {
            "op": "roi_align",
            **{"n": n, "side": side, "c": c, "grad": grad},
        }
        for n, side, c in ((512, 50, 256), (128, 25, 512), (512, 200, 256))
        for grad in (False, True)
    },
    **{
        f"roi_pool, 512 boxes, 50² x 256, {'both' if grad else 'forward'}": {
            "op": "roi_pool",
            **{"n": 512, "side": 50, "c": 256, "grad": grad},
        }
        for grad in (False, True)
    },
    **{
        f"conv_transpose2d, {k}x{k}/2, 16 images, 32² x 64, {'both' if grad else 'forward'}": {
            "op": "conv_transpose2d",
            **{"images": 16, "side": 32, "c": 64, "kernel": k, "grad": grad},
        }
        for k in (2, 4)
        for grad in (False, True)
    },
    **{
        f"multiscale_roi_align, 512 boxes, 128² to 16² x 256, {'both' if grad else 'forward'}": {
            "op": "multiscale_roi_align",
            **{"n": 512, "side": 128, "c": 256, "grad": grad},
        }
        for grad in (False, True)
    },
    "match_boxes, 65472 anchor boxes, 20 targets": {"op": "match_boxes", "n": 65_472},
    "triplet, 512 x 128, with gradient": {"op": "triplet", "n": 512, "c": 128},
    **{
        f"gram_matrix, {side}² x {c}{', with gradient' if grad else ''}": {
            "op": "gram_matrix",
            **{"side": side, "c": c, "grad": grad},
        }
        for side, c in ((64, 512), (128, 128), (224, 64))
        for grad in (False, True)
    },
}
QUICK = [
    *("box_iou, 1000²", "nms, 1000 boxes, crowded", "nms, 5000 boxes, crowded"),
    *("batched_nms, 5000 boxes, little overlap", "roi_align, 512 boxes, 50² x 256, both"),
    *("triplet, 512 x 128, with gradient", "gram_matrix, 64² x 512"),
]


def some_boxes(n: int, kind: str, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes, scores and one of 80 classes each: strewn over a picture as large as they need, or in heaps of twenty."""
    random = np.random.default_rng(seed)
    size = 40 * np.sqrt(n)
    if kind == "crowded":
        heaps = random.uniform(0, size, (max(n // 20, 1), 2))
        corners = heaps[random.integers(0, len(heaps), n)] + random.normal(0, 4, (n, 2))
        sides = random.uniform(40, 60, (n, 2))
    else:
        corners, sides = random.uniform(0, size, (n, 2)), random.uniform(5, 60, (n, 2))
    boxes = np.concatenate([corners, corners + sides], -1).astype(np.float32)
    return boxes, random.permutation(n).astype(np.float32) / n, random.integers(0, 80, n)


def inputs(
    op: str, *, n: int = 0, side: int = 0, c: int = 0, kind: str = "", images: int = 1, kernel: int = 0, **_: Any
) -> list[Any]:
    """The arrays both sides are given, channels last."""
    random = np.random.default_rng(1)
    if op == "conv_transpose2d":
        shapes = (images, side, side, c), (kernel, kernel, c, c), (images, 2 * side, 2 * side, c)
        return [random.normal(size=shape).astype(np.float32) for shape in shapes]
    if op == "gram_matrix":
        return [random.normal(size=(side, side, c)).astype(np.float32)]
    if op == "triplet":
        return [random.normal(size=(n, c)).astype(np.float32), random.integers(0, n // 8, n)]
    if op == "match_boxes":
        return [some_boxes(20, kind)[0], some_boxes(n, kind, 1)[0]]
    if op == "multiscale_roi_align":  # of an image of four times the finest side
        corners, sides = random.uniform(0, 2 * side, (n, 2)), 2 * side * random.uniform(0.1, 1, (n, 2)) ** 2
        boxes = np.concatenate([corners, corners + sides], -1)
        shapes = [*((side >> i, side >> i, c) for i in range(4)), (n, 7, 7, c)]
        *features, gradients = (random.normal(size=shape).astype(np.float32) for shape in shapes)
        return [*features, boxes.astype(np.float32), gradients]
    if op in ("roi_align", "roi_pool"):
        corners, sides = random.uniform(0, 0.7 * side, (n, 2)), random.uniform(2, 0.5 * side, (n, 2))
        boxes = np.concatenate([corners, corners + sides], -1)
        shapes = (side, side, c), (n, 7, 7, c)
        features, gradients = (random.normal(size=shape).astype(np.float32) for shape in shapes)
        return [features, boxes.astype(np.float32), gradients]
    if op == "box_iou":
        return [some_boxes(n, kind, seed)[0] for seed in range(2)]
    found = [some_boxes(n, kind, seed)[: 3 if op == "batched_nms" else 2] for seed in range(images)]
    return [np.stack(part) for part in zip(*found, strict=True)] if images > 1 else list(found[0])


def ours(case: dict[str, Any], device: str) -> list[Run]:
    import jax
    import jax.numpy as jnp

    from jaxcv import cpu, losses, ops

    assert jax.default_backend() == device, f"jax has no {device} here"

    def function(*args: Any) -> Any:
        if case["op"] in ("roi_align", "roi_pool"):
            features, boxes, gradients = args
            out, pull = jax.vjp(lambda x: getattr(ops, case["op"])(x, boxes, output_size=7), features)
            return (out, pull(gradients)) if case["grad"] else out
        if case["op"] == "conv_transpose2d":
            *arrays, gradients = args
            padding = (case["kernel"] - 2) // 2
            out, pull = jax.vjp(lambda x, w: ops.conv_transpose2d(x, w, strides=2, padding=padding), *arrays)
            return (out, pull(gradients)) if case["grad"] else out
        if case["op"] == "multiscale_roi_align":
            *features, boxes, gradients = args
            options = {"output_size": 7, "image_size": (4 * case["side"],) * 2}
            out, pull = jax.vjp(lambda x: ops.multiscale_roi_align(x, boxes, **options), tuple(features))
            return (out, pull(gradients)) if case["grad"] else out
        if case["op"] == "match_boxes":
            targets, anchors = args
            valid = jnp.ones(len(targets), bool)
            return ops.match_boxes(anchors, targets, valid, positive_iou=0.7, negative_iou=0.3, keep_best=True)
        if case["op"] == "triplet":
            return jax.value_and_grad(lambda x: losses.triplet(x, {"label": args[1]})["triplet"][0].mean())(args[0])
        if case["op"] == "gram_matrix":
            out, pull = jax.vjp(ops.gram_matrix, *args)
            return (out, pull(jnp.ones_like(out))) if case["grad"] else out
        if "images" in case:
            return jax.vmap(getattr(ops, case["op"]))(*args)
        return getattr(ops, case["op"])(*args, **({"max_outputs": case["best"]} if "best" in case else {}))

    args = [jnp.asarray(array) for array in inputs(**case)]
    run = jax.jit(function, compiler_options=cpu.compiler_options()).lower(*args).compile()
    return [lambda: jax.block_until_ready(run(*args))]


def as_for_accelerators() -> None:
    """Ops take the form that accelerators are given, on a CPU too."""
    nms: Any = importlib.import_module("jaxcv.ops.nms")  # as `jaxcv.ops.nms` it would be the function
    roi: Any = importlib.import_module("jaxcv.ops.roi")
    nms._suppress, roi._spread = nms._in_sweeps, roi._in_one_scatter


def theirs(case: dict[str, Any], compile: bool, device: str) -> list[Run]:
    torch: Any = importlib.import_module("torch")
    vision: Any = importlib.import_module("torchvision").ops
    place = "cuda" if device == "gpu" else "cpu"
    args = [torch.from_numpy(array).to(place) for array in inputs(**case)]

    def finished(run: Run) -> Run:
        return run if device == "cpu" else lambda: (run(), torch.cuda.synchronize())

    def runs(*functions: Callable[..., Any], grad: bool = False) -> list[Run]:
        """Each way, compiled too if that was asked for; `grad`: and back to the first argument."""

        def run(function: Callable[..., Any]) -> Any:
            if not grad:
                with torch.no_grad():
                    return function(*args)
            args[0].requires_grad_()
            for arg in args:
                arg.grad = None
            out, gradients = function(*args)
            out.backward(gradients)
            return args[0].grad

        ways = [*functions, *(torch.compile(f) for f in functions if compile)]
        return [finished(lambda way=way: run(way)) for way in ways]

    def upscaling(x: Any, w: Any, gradients: Any, padding: int) -> Run:
        def run() -> Any:
            with torch.set_grad_enabled(case["grad"]):
                out = torch.nn.functional.conv_transpose2d(x, w, stride=2, padding=padding)
            return torch.autograd.grad(out, (x, w), gradients) if case["grad"] else out

        x, w = x.requires_grad_(case["grad"]), w.requires_grad_(case["grad"])
        return finished(run)

    if case["op"] == "conv_transpose2d":
        x, w, gradients = args[0].permute(0, 3, 1, 2), args[1].permute(2, 3, 0, 1), args[2].permute(0, 3, 1, 2)
        padding = (case["kernel"] - 2) // 2
        ways = []
        for layout in (torch.contiguous_format, torch.channels_last):
            given = (tensor.contiguous(memory_format=layout) for tensor in (x, w, gradients))
            ways.append(upscaling(*given, padding=padding))
        return ways
    if case["op"] == "box_iou":
        return runs(vision.box_iou)
    if "images" in case:
        suppress = getattr(vision, case["op"])
        return [finished(lambda: [suppress(*one, 0.5) for one in zip(*args, strict=True)])]
    if case["op"] in ("nms", "batched_nms"):
        return [finished(lambda: getattr(vision, case["op"])(*args, 0.5)[: case.get("best")])]
    if case["op"] == "match_boxes":
        matcher = importlib.import_module("torchvision.models.detection._utils").Matcher(0.7, 0.3, True)
        return runs(lambda targets, anchors: matcher(vision.box_iou(targets, anchors)))
    if case["op"] == "multiscale_roi_align":
        *maps, boxes, gradients = args
        maps = {str(i): x.permute(2, 0, 1)[None].contiguous() for i, x in enumerate(maps)}
        args[:] = [*maps.values(), gradients.permute(0, 3, 1, 2).contiguous()]
        pool = vision.MultiScaleRoIAlign([*maps], 7, 2)

        def pooled(*given: Any) -> Any:
            out = pool(dict(zip(maps, given[:-1], strict=True)), [boxes], [(4 * case["side"],) * 2])
            return (out, given[-1]) if case["grad"] else out

        for level in args[:-1]:
            level.requires_grad_(case["grad"])
        return runs(pooled, grad=case["grad"])
    if case["op"] in ("roi_align", "roi_pool"):
        features, boxes, gradients = args
        args[0] = features.permute(2, 0, 1)[None].contiguous()
        gradients = gradients.permute(0, 3, 1, 2).contiguous()
        regions = torch.cat([boxes.new_zeros(len(boxes), 1), boxes], 1)

        def align(x: Any, *_: Any) -> Any:
            pooled = vision.roi_pool(x, regions, 7) if case["op"] == "roi_pool" else None
            out = vision.roi_align(x, regions, 7, 1.0, 2, True) if pooled is None else pooled
            return (out, gradients) if case["grad"] else out

        return runs(align, grad=case["grad"])
    if case["op"] == "gram_matrix":
        rows = args[0].reshape(-1, case["c"])
        gradients = torch.ones(case["c"], case["c"], device=place)

        def product(a: Any, b: Any) -> Any:
            return (a @ b, gradients) if case["grad"] else a @ b

        args[:] = [rows.T.contiguous()]
        first = runs(lambda x: product(x, x.T), grad=case["grad"])
        other = [rows.clone()]

        def transposed(x: Any) -> Any:
            return product(other[0].T, other[0])

        if case["grad"]:  # the layout hardly matters to it: one way is enough
            return first
        return [*first, *runs(transposed)]

    def triplet(distances: Callable[[Any], Any]) -> Callable[..., Any]:
        def loss(x: Any, label: Any) -> Any:
            same, apart = label[:, None] == label, distances(x)
            excess = apart.masked_fill(~same, -1e9).amax(1) - apart.masked_fill(same, 1e9).amin(1)
            return (excess + 0.2).relu().mean(), None

        return loss

    def by_product(x: Any) -> Any:
        squares = x.square().sum(1)
        return (squares[:, None] + squares - 2 * x @ x.T).clamp(min=0)

    def mined(x: Any, label: Any) -> Any:
        """Looked for without gradient, then only the pairs that were found."""
        with torch.no_grad():
            same, apart = label[:, None] == label, by_product(x)
            far, near = apart.masked_fill(~same, -1e9).argmax(1), apart.masked_fill(same, 1e9).argmin(1)
        excess = (x - x[far]).square().sum(1) - (x - x[near]).square().sum(1)
        return (excess + 0.2).relu().mean(), None

    return runs(triplet(by_product), triplet(lambda x: torch.cdist(x, x).square()), mined, grad=True)


def work(side: str, compile: bool, device: str, form: str) -> None:
    """One of the two: reads names of cases, answers with the milliseconds of each way, a turn's worth."""
    if side == "ours":
        from jaxcv import cpu

        cpu.tune()
        if form == "accelerator":
            as_for_accelerators()
    else:
        importlib.import_module("torch").set_num_threads(os.cpu_count() or 1)
    known: dict[str, list[Run]] = {}
    for line in sys.stdin:
        name = line.rstrip("\n")
        if name not in known:
            known[name] = ours(CASES[name], device) if side == "ours" else theirs(CASES[name], compile, device)
        print(json.dumps([_turn(run) for run in known[name]]), flush=True)


def _turn(run: Run, seconds: float = 0.2) -> list[float]:
    run()
    times, end = [], time.perf_counter() + seconds
    while len(times) < 2 or (time.perf_counter() < end and len(times) < 50):
        start = time.perf_counter()
        run()
        times.append((time.perf_counter() - start) * 1e3)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="only ops whose name contains this")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each side")
    parser.add_argument("--quick", action="store_true", help="one case of each op, two rounds")
    parser.add_argument("--compile", action="store_true", help="let torch.compile compete too")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu", help="where both compute")
    parser.add_argument("--form", choices=("cpu", "accelerator"), default="cpu", help="on a CPU: which of our forms")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        return work(options.worker, options.compile, options.device, options.form)
    if importlib.util.find_spec("torchvision") is None:
        sys.exit("pip install torch torchvision --index-url https://download.pytorch.org/whl/cpu")

    from rich.console import Console
    from rich.table import Table

    environment = {**os.environ, "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1", "PYTHONPATH": str(ROOT)}
    environment["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # a GPU's memory is for both
    sides: dict[str, Any] = {}
    for side in ("ours", "torch"):
        command = [sys.executable, __file__, "--worker", side, *["--compile"] * options.compile]
        command += ["--device", options.device, "--form", options.form]
        sides[side] = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
    names = QUICK if options.quick else list(CASES)
    names = [name for name in names if not options.names or any(part in name for part in options.names)]
    results: dict[str, dict[str, float]] = {}
    table = Table("op", "ours", "torch", "x", title="milliseconds")
    for name in names:
        ways: dict[str, list[list[float]]] = {side: [] for side in sides}
        for _ in range(2 if options.quick else options.rounds):
            for side, process in sides.items():
                process.stdin.write(name + "\n")
                process.stdin.flush()
                turn = json.loads(process.stdout.readline())
                ways[side] = [a + b for a, b in zip(ways[side] or [[] for _ in turn], turn, strict=True)]
        found = {side: min(statistics.median(times) for times in ways[side]) for side in sides}
        results[name] = {**found, "ratio": found["torch"] / found["ours"]}
        table.add_row(name, f"{found['ours']:.2f}", f"{found['torch']:.2f}", f"{results[name]['ratio']:.2f}")
    Console(width=100).print(table)
    for process in sides.values():
        process.stdin.close()
        process.wait()
    if options.json:
        options.json.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
