"""Training, generic over models, losses, optimizers and data: it knows no task.

`fit(experiment, values, workdir)` trains to the end, wherever an earlier run stopped; `fit_many` trains several runs of
one program side by side. `make_train_step(experiment, values)` gives the pure step alone.

The experiment runs on the device; the host only watches.

    experiment   what an experiment is; its hyperparameters
    step         the pure functions: init, step, chunk, evaluate, infer
    compiled     how they are compiled; `programs`: which values share a program, `looking`: what Python branched on
    sharding     how batches, examples and parameters lie on the devices; `hosts`: several processes of one run
    feed         the examples on the device: all of them, or those of one chunk after another
    group        the states of the runs that train, one or several stacked, and the chunks that they take
    lanes        how those of several lie on the devices
    loop         the training loop
    observer     the host's side of one run: records, evaluations, pictures, checkpoints, in a thread, in order
    checkpoint, saving, log, reports, console, run, identity, sources    what is kept and shown of a run

A chunk is a loop on the device over steps, whose batches are gathered there by indices. It ends where the state is
needed (an evaluation, a checkpoint, another augmentation) or after about half a second. One program serves all lengths,
so what is computed does not depend on them. While the device takes the next chunk, the observer looks at the one
before; a state that is evaluated or saved is copied on the device first.

`optimizers` are those that experiments share, `by_part` gives parts of a network their own, `kernels` is a mask for
weight decay.
"""

from jaxcv.train import optimizers, schedules
from jaxcv.train.compiled import Program
from jaxcv.train.experiment import Experiment, Hyperparameter, hyperparameters, resolve, unused
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
    "unused",
]
