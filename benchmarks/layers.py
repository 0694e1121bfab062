"""Every distinct convolution, pooling and batch norm of the networks against torch's: forward and both gradients.

Two processes alternate, layer by layer, with huge pages for both, torch in channels_last. Milliseconds are medians;
"peak" is the fraction of the speed of a matrix product of 2048² in the same process; x is torch's time over ours. The
total weights each layer by its number in the network.

    pip install torch torchvision --index-url https://download.pytorch.org/whl/cpu     # what it takes
    python benchmarks/layers.py [NETWORK ...] [--json FILE]
"""

import argparse
import importlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))
from networks import NETWORKS  # noqa: E402

ROOT = Path(__file__).parent.parent


def layers_of(name: str) -> Counter[str]:
    """The layers of a network as JSON, with their numbers."""
    import jax
    import jax.numpy as jnp
    from networks import our_model

    from jaxcv import ops

    found: Counter[str] = Counter()
    originals = {kind: getattr(ops, kind) for kind in ("conv2d", "conv_transpose2d", "max_pool2d", "batch_norm")}

    def recording(kind: str) -> Callable[..., Any]:
        def call(x: Any, *others: Any, **options: Any) -> Any:
            facts = {"kind": kind, "x": x.shape, "kernel": others[0].shape if "conv" in kind else None}
            options = {} if kind == "batch_norm" else options
            found[json.dumps({**facts, "options": options})] += 1
            return originals[kind](x, *others, **({"epsilon": 1e-5} if kind == "batch_norm" else options))

        return call

    batch, size, channels = NETWORKS[name]
    try:
        for kind in originals:
            setattr(ops, kind, recording(kind))
        image = jax.ShapeDtypeStruct((batch, size, size, channels), jnp.float32)
        model = our_model(name)
        keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
        jax.eval_shape(lambda x: model.init(keys, x, train=True), image)
    finally:
        for kind, function in originals.items():
            setattr(ops, kind, function)
    return found


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value


def ours(layer: dict[str, Any]) -> dict[str, Callable[[], Any]]:
    """Forward, input's gradient and kernel's gradient as functions without arguments."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from jaxcv import cpu, ops

    options = {name: _tuples(value) for name, value in layer["options"].items()}
    random = np.random.default_rng(0)
    x = jnp.asarray(random.normal(size=layer["x"]), jnp.float32)
    function = getattr(ops, layer["kind"])
    if layer["kernel"]:
        w = jnp.asarray(random.normal(size=layer["kernel"]), jnp.float32)
    else:
        w = jnp.ones((layer["x"][-1],))

    def forward(x: Any, w: Any) -> Any:
        if layer["kind"] == "batch_norm":
            return function(x, w, w)[0]
        return function(x, w, **options) if layer["kernel"] else function(x, **options)

    def compiled(f: Callable[..., Any], *args: Any) -> Callable[[], Any]:
        run = jax.jit(f, compiler_options=cpu.compiler_options()).lower(*args).compile()
        return lambda: jax.block_until_ready(run(*args))

    out = jax.eval_shape(forward, x, w)
    dy = jnp.asarray(random.normal(size=out.shape), jnp.float32)
    if layer["kernel"]:
        return {
            "forward": compiled(forward, x, w),
            "input": compiled(lambda x, w, dy: jax.vjp(lambda x: forward(x, w), x)[1](dy)[0], x, w, dy),
            "kernel": compiled(lambda x, w, dy: jax.vjp(lambda w: forward(x, w), w)[1](dy)[0], x, w, dy),
        }

    # The backward pass reads the values that the forward pass has saved.
    leaves, tree = jax.tree.flatten(jax.eval_shape(lambda x, w: jax.vjp(forward, x, w)[1], x, w))
    del leaves

    def left(x: Any, w: Any) -> tuple[Any, Any]:
        y, pull = jax.vjp(forward, x, w)
        return y, jax.tree.leaves(pull)

    def forward_kept(x: Any, w: Any) -> tuple[Any, Any]:
        """With what a backward pass needs, but no copy of the input."""
        y, saved = left(x, w)
        return y, [v for v in saved if v.shape != x.shape]

    saved = jax.jit(left, compiler_options=cpu.compiler_options())(x, w)[1]
    return {
        "forward": compiled(forward_kept, x, w),
        "input": compiled(lambda saved, dy: jax.tree.unflatten(tree, saved)(dy), saved, dy),
    }


def theirs(layer: dict[str, Any]) -> dict[str, Callable[[], Any]]:
    """The same in torch."""
    torch: Any = importlib.import_module("torch")
    f: Any = importlib.import_module("torch.nn.functional")

    last = {"memory_format": torch.channels_last}
    b, h, w_, c = layer["x"]
    options = layer["options"]
    x = torch.randn(b, c, h, w_).to(**last)
    strides = options.get("strides")
    padding = options.get("padding", "valid")

    def around(window: Any) -> Any:
        """torch's `padding` argument; None if the images must be padded before."""
        if padding == "valid":
            return (0, 0)
        if isinstance(padding, int):
            return (padding, padding)
        if padding == "same":
            return tuple(int(v) // 2 for v in window)
        return tuple(low for low, _ in padding) if all(low == high for low, high in padding) else (0, 0)

    aten = torch.ops.aten
    if layer["kind"] == "batch_norm":
        weight, mean, var = torch.ones(c), torch.zeros(c), torch.ones(c)

        def forward() -> Any:
            return aten.native_batch_norm(x, weight, weight, mean, var, True, 0.1, 1e-5)

        y, m, v = forward()
        dy = torch.randn_like(y)
        return {
            "forward": forward,
            "input": lambda: aten.native_batch_norm_backward(
                dy, x, weight, mean, var, m, v, True, 1e-5, [True, True, True]
            ),
        }
    if layer["kind"] == "max_pool2d":
        window = [options["window"]] * 2 if isinstance(options["window"], int) else options["window"]
        steps = window if strides is None else [strides] * 2 if isinstance(strides, int) else strides
        pads = list(around(window))

        def pool() -> Any:
            return f.max_pool2d_with_indices(x, window, steps, pads)

        y, index = pool()
        dy = torch.randn_like(y)
        return {
            "forward": pool,
            "input": lambda: aten.max_pool2d_with_indices_backward(dy, x, window, steps, pads, [1, 1], False, index),
        }
    fh, fw, i, o = layer["kernel"]
    transposed = layer["kind"] == "conv_transpose2d"
    groups = options.get("feature_group_count", 1)
    w = torch.randn(*((i, o) if transposed else (o, i)), fh, fw).to(**last)
    steps = [strides] * 2 if isinstance(strides, int) else list(strides or (1, 1))
    arguments = (steps, list(around((fh, fw))), [1, 1], transposed, [0, 0], groups)

    def convolve() -> Any:
        return torch.convolution(x, w, None, *arguments)

    dy = torch.randn_like(convolve())

    def backward(*wanted: bool) -> Callable[[], Any]:
        return lambda: aten.convolution_backward(dy, x, w, None, *arguments, list(wanted))

    return {"forward": convolve, "input": backward(True, False, False), "kernel": backward(False, True, False)}


def work(contender: str) -> None:
    """One of the two processes: reads layers, writes milliseconds."""
    if contender == "ours":
        from jaxcv import cpu

        cpu.tune()
        import jax
        import jax.numpy as jnp

        a = jnp.ones((2048, 2048))
        product = jax.jit(lambda a: a @ a)

        def peak() -> None:
            jax.block_until_ready(product(a))

    else:
        torch: Any = importlib.import_module("torch")

        torch.set_num_threads(os.cpu_count() or 1)
        torch.set_grad_enabled(False)
        b = torch.ones(2048, 2048)

        def peak() -> None:
            torch.mm(b, b)

    print(json.dumps(2 * 2048**3 / _median(peak) / 1e6), flush=True)
    for line in sys.stdin:
        try:
            layer = json.loads(line)
            functions = ours(layer) if contender == "ours" else theirs(layer)
            print(json.dumps({name: _median(function) for name, function in functions.items()}), flush=True)
        except Exception as error:
            print(json.dumps({"error": str(error)}), flush=True)


def _median(function: Callable[[], Any], seconds: float = 0.3) -> float:
    function()
    times, end = [], time.perf_counter() + seconds
    while len(times) < 4 or (time.perf_counter() < end and len(times) < 100):
        start = time.perf_counter()
        function()
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times)


def _flops(layer: dict[str, Any]) -> float:
    if not layer["kernel"]:
        return 0.0
    fh, fw, i, o = layer["kernel"]
    b, h, w, _ = layer["x"]
    if layer["kind"] == "conv_transpose2d":
        return 2.0 * b * h * w * fh * fw * i * o
    import jax

    from jaxcv import ops

    options = {name: _tuples(value) for name, value in layer["options"].items()}
    shapes = [jax.ShapeDtypeStruct(tuple(s), "float32") for s in (layer["x"], layer["kernel"])]
    out = jax.eval_shape(lambda x, k: ops.conv2d(x, k, **options), *shapes).shape
    return 2.0 * out[0] * out[1] * out[2] * fh * fw * i * o


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help=f"of {', '.join(NETWORKS)}; by default all")
    parser.add_argument("--slow", type=float, default=0.0, help="only layers that cost so many milliseconds more")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        return work(options.worker)

    from rich.console import Console
    from rich.table import Table

    environment = {**os.environ, "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1", "PYTHONPATH": str(ROOT)}
    processes: dict[str, Any] = {}
    peaks = {}
    for contender in ("ours", "torch"):
        command, pipe = [sys.executable, __file__, "--worker", contender], subprocess.PIPE
        processes[contender] = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment)
        peaks[contender] = json.loads(processes[contender].stdout.readline())
    print("peak, GFLOP/s:", {contender: round(peak) for contender, peak in peaks.items()})
    known: dict[str, dict[str, Any]] = {}
    results: dict[str, Any] = {"peak": peaks}
    for name in options.networks or NETWORKS:
        table = Table("n", "layer", "pass", "ours", "torch", "x", "peak", title=f"{name}: milliseconds")
        total: Counter[str] = Counter()
        for text, count in layers_of(name).items():
            if text not in known:
                known[text] = {}
                for contender, process in processes.items():
                    process.stdin.write(text + "\n")
                    process.stdin.flush()
                    known[text][contender] = json.loads(process.stdout.readline())
            layer, found = json.loads(text), known[text]
            results.setdefault(name, []).append({**layer, "count": count, **found})
            if options.slow and "error" not in found["ours"] and "error" not in found["torch"]:
                lost = {k: count * (v - found["torch"][k]) for k, v in found["ours"].items()}
                if max(lost.values()) < options.slow:
                    continue
            label = f"{layer['kind']} {tuple(layer['x'])} {layer['kernel'] or ''} {layer['options'] or ''}"
            if "error" in found["ours"] or "error" in found["torch"]:
                table.add_row(str(count), label, str(found))
                continue
            for i, kind in enumerate(found["ours"]):
                us, them = found["ours"][kind], found["torch"][kind]
                total["ours " + kind] += us * count
                total["torch " + kind] += them * count
                fraction = _flops(layer) / us / 1e6 / peaks["ours"]
                cells = (f"{us:.2f}", f"{them:.2f}", f"{them / us:.2f}", f"{fraction:.0%}" if fraction else "")
                table.add_row(*((str(count), label) if i == 0 else ("", "")), kind, *cells)
        for kind in ("forward", "input", "kernel"):
            us, them = total["ours " + kind], total["torch " + kind]
            table.add_row("", "total", kind, f"{us:.1f}", f"{them:.1f}", f"{them / max(us, 1e-9):.2f}", "")
        Console(width=170).print(table)
    for process in processes.values():
        process.stdin.close()
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
