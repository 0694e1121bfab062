"""A problem small enough to train in a test: lines through points, with every feature of the trainer at hand."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxcv.data.dataset import Dataset
from jaxcv.metrics import accuracy
from jaxcv.predict import classes
from jaxcv.train import Experiment
from jaxcv.types import Placement


class Points:
    """`n` examples of 4x4 grey noise; those of class 1 are lighter."""

    def __init__(self, n: int):
        rng = np.random.default_rng(n)
        self._labels = rng.integers(0, 2, n, np.int32)
        self._images = (rng.integers(0, 156, (n, 4, 4, 1)) + 100 * self._labels[:, None, None, None]).astype(np.uint8)

    def __len__(self) -> int:
        return len(self._labels)

    def class_names(self) -> tuple[str, ...]:
        return ("dark", "light")

    def spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        return {
            "image": jax.ShapeDtypeStruct((4, 4, 1), np.uint8),
            "label": jax.ShapeDtypeStruct((), np.int32),
        }

    def read(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        return {"image": self._images[indices], "label": self._labels[indices]}

    def box_sizes(self) -> np.ndarray:
        return np.zeros((0, 2), np.float32)

    def check(self, *, thorough: bool = False, progress: Any = None) -> list[str]:
        return [f"{len(self)} points"]

    def read_image(self, path: Any) -> tuple[np.ndarray, Placement]:
        raise NotImplementedError


class Net(nn.Module):
    """One hidden layer with batch normalisation and dropout; `nan_from` spoils the hidden layer of one example."""

    poison: Callable[[jax.Array], jax.Array] = lambda x: x

    @nn.compact
    def __call__(self, images, *, train=False):
        x = images.reshape(images.shape[0], -1)
        x = hidden = self.poison(nn.Dense(8)(x))
        x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)
        x = nn.Dropout(0.1, deterministic=not train)(nn.relu(x))
        return nn.Dense(2)(x), {"hidden": hidden}


def cross_entropy(outputs, batch):
    return {"cross_entropy": optax.softmax_cross_entropy_with_integer_labels(outputs, batch["label"])}


TRAIN, TEST = Dataset(Points(60), image_size=4), Dataset(Points(21), image_size=4)


def experiment(
    *,
    lr: float = 1e-2,
    decay: float = 0.0,
    ema: float | None = 0.9,
    batch_size: int = 8,
    steps: int = 40,
    log_every: int = 5,
    evaluate_every: int = 20,
    checkpoint_every: int = 7,
    seed: int = 0,
) -> Experiment:
    return Experiment(
        model=Net(),
        loss=cross_entropy,
        optimizer=optax.adamw(lr, weight_decay=decay),
        train_data=TRAIN.batches(batch_size, seed=seed),
        test_data=TEST.batches(8),
        predict=classes,
        metrics={"accuracy": accuracy()},
        ema=ema,
        steps=steps,
        log_every=log_every,
        evaluate_every=evaluate_every,
        checkpoint_every=checkpoint_every,
        seed=seed,
    )


def leaves(state: Any) -> list[bytes]:
    """The bytes of every array, for equality to the last bit."""
    arrays = [
        jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x for x in jax.tree.leaves(state)
    ]
    return [np.asarray(jnp.asarray(x)).tobytes() for x in arrays]
