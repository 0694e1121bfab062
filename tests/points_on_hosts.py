"""An experiment file for several processes: each record tells which examples its step has seen."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import optax
import problems

from jaxcv.data.dataset import Dataset
from jaxcv.train import Experiment


class Numbered(problems.Points):
    """Points that know their number."""

    def spec(self):
        return {**super().spec(), "number": problems.jax.ShapeDtypeStruct((), np.int32)}

    def read(self, indices):
        return {**super().read(indices), "number": indices.astype(np.int32)}


TRAIN, TEST = Dataset(Numbered(60), image_size=4), Dataset(Numbered(21), image_size=4)


def experiment(*, batch_size: int = 12, steps: int = 40, every: int = 10, seed: int = 0) -> Experiment:
    """Test batches of 8 rows divide by no three processes, and 21 examples by no two."""

    def loss(outputs, batch):
        number = batch["number"].astype(jnp.float32)
        return {**problems.cross_entropy(outputs, batch), "ids": 1e-3 * number, "squares": 1e-6 * number**2}

    setup = problems.experiment(seed=seed, steps=steps)
    return dataclasses.replace(
        setup,
        loss=loss,
        optimizer=optax.sgd(0.02, momentum=0.9),
        train_data=TRAIN.batches(batch_size, seed=seed),
        test_data=TEST.batches(8),
        log_every=1,
        evaluate_every=2 * every,
        checkpoint_every=every,
    )
