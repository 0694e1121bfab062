"""Training, generic over models, losses, optimizers and data: it knows no task.

`fit(experiment, values, workdir)` trains to the end, wherever an earlier run stopped. `make_train_step(experiment,
values)` gives the pure step alone.
"""

from jaxcv.train import schedules
from jaxcv.train.experiment import Experiment, Hyperparameter, hyperparameters, resolve
from jaxcv.train.loop import Result, fit
from jaxcv.train.state import TrainState
from jaxcv.train.step import Program, make_train_step, program

__all__ = [
    "Experiment",
    "Hyperparameter",
    "Program",
    "Result",
    "TrainState",
    "fit",
    "hyperparameters",
    "make_train_step",
    "program",
    "resolve",
    "schedules",
]
