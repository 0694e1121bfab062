"""Trained runs, used again: `run = jaxcv.load("runs/yolo/defaults")`, from the run's folder alone.

stored     the experiment as a run's folder holds it, composed without the data it was trained on
trained    `load`, `Run`: predictions in the pixels of the pictures, the model and its variables, values, records
seen       an experiment whose predictions are combined from several views of each picture
exporting  a run as one file that needs no jaxcv: StableHLO, ONNX (`to_onnx`), or its weights by name
"""

from jaxcv.runs.exporting import export
from jaxcv.runs.seen import in_views
from jaxcv.runs.stored import compose, stored_experiment, stored_module, without_data
from jaxcv.runs.trained import Run, load, predictions

__all__ = [
    "Run",
    "compose",
    "export",
    "in_views",
    "load",
    "predictions",
    "stored_experiment",
    "stored_module",
    "without_data",
]
