"""Training, generic over models, losses, optimizers and data: it knows no task.

`fit(experiment, values, workdir)` trains to the end, wherever an earlier run stopped. `make_train_step(experiment,
values)` gives the pure step alone.
`optimizers` are those that experiments share, `by_part` gives parts of a network their own, `kernels` is a mask for
weight decay.
"""

from jaxcv.train import optimizers, schedules
from jaxcv.train.compiled import Program
from jaxcv.train.experiment import Experiment, Hyperparameter, hyperparameters, resolve
from jaxcv.train.loop import Options, Result, Trial, fit, fit_many
from jaxcv.train.parts import by_part, kernels
from jaxcv.train.programs import make_train_step, program
from jaxcv.train.state import TrainState

__all__ = [
    "Experiment",
    "Hyperparameter",
    "Options",
    "Program",
    "Result",
    "TrainState",
    "Trial",
    "by_part",
    "fit",
    "fit_many",
    "hyperparameters",
    "kernels",
    "make_train_step",
    "optimizers",
    "program",
    "resolve",
    "schedules",
]
