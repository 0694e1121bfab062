"""Computer vision research in JAX and Flax.

    types      array aliases, batches, predictions, the data protocol
    errors     what a person can mend, in one line
    ops        pure functions of arrays: boxes, anchor boxes, non-maximum suppression, convolution, pooling
    losses     per-example values, a dict of named terms
    metrics    evaluation over a data set
    models     Linen modules: `model.apply(variables, image, train=...) -> (outputs, features)`
    augment    pure `(key, batch) -> batch` on the device
    predict    outputs -> predictions of fixed shape
    weights    pretrained parameters: read, match by name, check, fetch
    data       what lies on disk, as batches of fixed shape
    show       pictures, tables and records of data, predictions and reports
    train      experiment, step, loop, checkpoints, logs: generic over all of the above
    runs       trained runs used again: `jaxcv.load(folder)`, predictions, export
    sweep      many runs from one command
    cpu        all that makes XLA:CPU fast and that no other backend needs
    cli        the command line

Import what you need by name, `from jaxcv.ops import nms`; importing `jaxcv` itself costs nothing.
`jaxcv.load("runs/yolo/defaults")` is a trained run as an object.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxcv.runs import load as load


def __getattr__(name: str) -> Any:
    if name == "load":
        from jaxcv.runs import load

        return load
    if name == "__version__":
        import importlib.metadata

        return importlib.metadata.version("jaxcv-research")
    raise AttributeError(f"module 'jaxcv' has no attribute {name!r}")
