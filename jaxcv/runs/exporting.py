"""A run as files that need no jaxcv: its function from pictures to predictions, or its weights by name.

`.stablehlo`   `jax.export`'s serialisation, for cpu, cuda and tpu at once and any number of pictures; for JAX alone
`.onnx`        for onnxruntime, one picture at a time, by jax2onnx (`pip install 'jaxcv-research[onnx]'`)
`.safetensors`, `.npz`   the weights, which `weights=FILE` and `weights.load` read
`.pth`         the weights by torchvision's names where it has the network, for `torch.load`; see `weights.to_torch`

The function takes pictures as the network is fed them, uint8 [b h w c], and returns what the run predicts: scaling,
standardisation, decoding and suppression are inside; boxes, points and classes of pixels are those of the network's
input. None of our own kernels is. `FILE.json` beside it says what goes in and what comes out: sizes, class names, the
fields in order. `docs/exported.py` runs one. What was written is read back and compared with the run's own answers.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxcv.errors import UserError
from jaxcv.runs.trained import Run
from jaxcv.train import step
from jaxcv.weights import save, to_torch, write_torch

PLATFORMS = ("cpu", "cuda", "tpu")
FORMATS = (".stablehlo", ".onnx", ".safetensors", ".npz", ".pth")
TOLERANCE = 1e-4
"""Largest difference from the run's own answers, relative to the larger of 1 and the answer. Of whole numbers, such as
the classes of pixels, the fraction that differs: rounding decides where two are equally probable."""
_PROBE = (480, 640, 3)
"""Of the picture that tells how pictures are fitted."""


def export(run: Run, file: str | Path) -> list[str]:
    """Write a run as a file of the kind that its ending says; returns what was done, a line each.

    Raises:
        UserError: another ending, a missing package, an operation that the format lacks, or answers that differ.
    """
    file = Path(file)
    if file.suffix not in FORMATS:
        raise UserError(f"{file}: expected an ending of {', '.join(FORMATS)}")
    if file.suffix in (".safetensors", ".npz", ".pth"):
        variables = jax.device_get(run.variables)
        write_torch(file, to_torch(run.model, variables)) if file.suffix == ".pth" else save(file, variables)
        return [f"{file}: the weights of {run.folder} at step {run.step}"]
    if run.setup.inputs != ("image",):
        fed = ", ".join(run.setup.inputs)
        raise UserError(f"{file}: the network is fed {fed}, not pictures: export its weights, as .safetensors or .npz")
    shape = run.setup.test_data.spec["image"].shape[1:]
    write = _write_stablehlo if file.suffix == ".stablehlo" else _write_onnx
    again, words = write(file, partial(step.infer, run.setup, run.variables), shape)
    difference = _difference(run, again, shape)
    if not difference <= TOLERANCE:
        file.unlink()
        raise UserError(f"{file}: its answers differ by {difference:.1g} from the run's, so it was not kept")
    described = _describe(run, shape)
    Path(f"{file}.json").write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")
    return [f"{file}: {words}; within {difference:.1g} of the run's own answers; {file}.json says what goes in and out"]


def _write_stablehlo(file: Path, function: Callable[..., Any], shape: Sequence[int]) -> tuple[Callable[..., Any], str]:
    """Write the function for all platforms; returns what was read back, and what it takes."""
    (batch,) = jax.export.symbolic_shape("b")
    words = "any number of pictures"
    try:
        exported = _exported(function, (batch, *shape))
    except (TypeError, ValueError, NotImplementedError, jax.errors.JAXTypeError):
        exported, words = _exported(function, (1, *shape)), "one picture at a time"
    try:
        file.write_bytes(exported.serialize())
    except ImportError as error:
        raise UserError(f"{file}: JAX needs flatbuffers to write it: pip install flatbuffers") from error
    again = jax.export.deserialize(bytearray(file.read_bytes()))
    return again.call, f"{words} on {', '.join(PLATFORMS)}"


def _exported(function: Callable[..., Any], shape: Sequence[Any]) -> Any:
    def fields(images: jax.Array) -> dict[str, jax.Array]:
        return _fields(function(images))

    return jax.export.export(jax.jit(fields), platforms=PLATFORMS)(jax.ShapeDtypeStruct(tuple(shape), np.uint8))


def _write_onnx(file: Path, function: Callable[..., Any], shape: Sequence[int]) -> tuple[Callable[..., Any], str]:
    """Write the function for one picture; returns what runs it again."""
    from jaxcv.runs.to_onnx import convert

    names = list(_fields(jax.eval_shape(function, jax.ShapeDtypeStruct((1, *shape), np.uint8))))
    session = convert(file, lambda images: list(_fields(function(images)).values()), (1, *shape), names)

    def again(images: np.ndarray) -> dict[str, np.ndarray]:
        return dict(zip(names, session(images), strict=True))

    return again, "one picture at a time"


def _fields(prediction: Any) -> dict[str, Any]:
    """The arrays of a prediction by name; of raw outputs by number."""
    if hasattr(prediction, "_asdict"):
        return {name: value for name, value in prediction._asdict().items() if value is not None}
    if isinstance(prediction, Mapping):
        return dict(prediction)
    leaves = jax.tree.leaves(prediction)
    return {f"output_{i}" if len(leaves) > 1 else "output": leaf for i, leaf in enumerate(leaves)}


def _difference(run: Run, again: Callable[..., Any], shape: Sequence[int]) -> float:
    """The largest between the run's answers for a picture of random pixels and those of what was written."""
    images = np.random.default_rng(0).integers(0, 256, (1, *shape), np.uint8)
    expected, found = _fields(jax.device_get(run.infer(run.variables, images))), again(images)
    largest = [0.0]
    for name, values in expected.items():
        wanted, got = np.asarray(values, np.float64), np.asarray(found[name], np.float64)
        if np.issubdtype(values.dtype, np.floating):
            largest.append(float(np.max(np.abs(wanted - got) / np.maximum(1, np.abs(wanted)), initial=0.0)))
        else:
            largest.append(np.count_nonzero(wanted != got) / max(1, wanted.size))
    return max(largest)


def _describe(run: Run, shape: Sequence[int]) -> dict[str, Any]:
    images = jax.ShapeDtypeStruct((1, *shape), np.uint8)
    prediction = jax.eval_shape(partial(step.infer, run.setup), run.variables, images)
    fields = _fields(prediction).items()
    return {
        "input": {"shape": ["b", *shape], "dtype": "uint8", "channels": {1: "grey", 3: "RGB"}.get(shape[-1])},
        "type": type(prediction).__name__,
        "outputs": {name: {"shape": ["b", *x.shape[1:]], "dtype": str(x.dtype)} for name, x in fields},
        "fitted": _fitted(run),
        "class_names": list(run.class_names),
        "run": {"folder": str(run.folder), "step": run.step},
    }


def _fitted(run: Run) -> dict[str, Any]:
    """How a picture of any size becomes the network's input; see `docs/exported.py`.

    One that the run would take at its own size is squashed: what is exported takes one size.
    """
    fed, ((width, height), _, y, _, _) = run.setup.test_data.read_image(np.zeros(_PROBE, np.uint8))
    side = run.setup.test_data.spec["image"].shape[1]
    if len(fed) != side:
        return {"resize": "squash", "fraction": 1.0}
    shown = y * side
    resize = {height: "squash", width: "letterbox"}.get(round(shown), "shortest")
    return {"resize": resize, "fraction": shown / height if resize == "shortest" else 1.0}
