"""An experiment whose predictions are combined from several views of each picture: test-time augmentation."""

import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from jaxcv.errors import UserError
from jaxcv.predict import View, combined, seen
from jaxcv.train import Experiment
from jaxcv.train.experiment import ExperimentFunction


def in_views(experiment: ExperimentFunction, views: Sequence[View]) -> ExperimentFunction:
    """The same experiment, which predicts from several views; its loss stays that of the first one.

    Args:
        experiment: its function; its network is fed images alone, and its predictions are of a type that
            `jaxcv.predict.combined` knows.
        views: the image itself first.

    Raises:
        UserError: by the function, when the experiment is another one.
    """

    @functools.wraps(experiment)
    def composed(**values: Any) -> Experiment:
        setup = experiment(**values)
        predict = setup.predict
        if setup.inputs != ("image",) or predict is None:
            raise UserError("several views: only of a network that is fed pictures alone and predicts something")

        def combine(outputs: Any) -> Any:
            found, frame = outputs
            return combined([predict(one) for one in found], views, frame.shape[:2])

        return replace(
            setup,
            model=_Viewed(setup.model, views),
            loss=lambda outputs, batch: setup.loss(outputs[0][0], batch),
            predict=combine,
        )

    return composed


class _Viewed:
    """A network that looks at every view; its outputs are theirs, and an empty array of the images' shape."""

    def __init__(self, model: Any, views: Sequence[View]):
        self._model, self._views = model, views

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def apply(self, variables: Any, images: jax.Array, *, train: bool = False, **options: Any) -> Any:
        """As of a Linen module; in training the image alone is looked at."""
        views = self._views[:1] if train else self._views
        found = [self._model.apply(variables, seen(images, view), train=train, **options) for view in views]
        frame = jnp.zeros((*images.shape[1:3], 0), jnp.float32)
        if train:
            (outputs, features), changed = found[0]
            return (([outputs], frame), features), changed
        return ([outputs for outputs, _ in found], frame), found[0][1]
