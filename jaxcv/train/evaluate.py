"""One pass over a data set: loss terms, metrics, and the first predictions for a preview."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from jaxcv.train import sharding
from jaxcv.train.experiment import Experiment
from jaxcv.train.step import Program
from jaxcv.types import Batch, Batches, Picture, Table


def evaluate(
    program: Program,
    experiment: Experiment,
    hyperparameters: Mapping[str, Any],
    variables: Any,
    data: Batches,
    *,
    on_batch: Callable[[int, int], None] = lambda done, total: None,
    reports: list[Table | Picture] | None = None,
) -> tuple[dict[str, float], list[tuple[Batch, Any]]]:
    """Loss, terms and metrics over all examples of `data`; and the first batches with their predictions.

    Rows that pad the last batch count nowhere. Metrics that share their work (`measure` and `reduce`) do it once.

    Args:
        program: the compiled functions.
        experiment: its metrics, and how many previews.
        hyperparameters: inputs of the compiled functions.
        variables: of the model.
        data: one pass of it is made.
        on_batch: called after each batch with the number done and the total.
        reports: what the metrics have to show beyond their numbers is put into this list.
    """
    sums: dict[str, np.ndarray] = {}
    measured: dict[Any, list[Any]] = {metric.measure: [] for metric in experiment.metrics.values()}
    shown: list[tuple[Batch, Any]] = []
    for number, batch in enumerate(data):
        placed = sharding.put(batch)
        predictions, terms = program.compile("evaluate", hyperparameters, variables, placed)(
            hyperparameters, variables, placed
        )
        predictions, terms = jax.device_get((predictions, terms))
        for name, pair in terms.items():
            sums[name] = sums.get(name, np.zeros(2)) + np.array(pair, np.float64)
        predictions, batch = _real_rows((predictions, batch), batch.get("example_valid"))
        for measure, results in measured.items():
            results.append(measure(predictions, batch))
        if sum(len(b["image"]) for b, _ in shown) < experiment.previews:
            shown.append((batch, predictions))
        on_batch(number + 1, len(data))
    values = {name: float(total / max(weight, 1e-8)) for name, (total, weight) in sums.items()}
    values = {"loss": float(sum(values.values())), **values}
    reduced: dict[Any, dict[str, float]] = {}
    for name, metric in experiment.metrics.items():
        shared = (metric.measure, metric.reduce)
        if shared not in reduced:
            reduced[shared] = metric.reduce(measured[metric.measure])
        values[name] = float(reduced[shared][metric.pick])
    if reports is not None:
        makers = {(m.measure, getattr(m, "report", None)): None for m in experiment.metrics.values()}
        for measure, report in makers:
            if report is not None:
                reports += report(measured[measure], data)
    return values, shown


def _real_rows(tree: Any, valid: np.ndarray | None) -> Any:
    return tree if valid is None or valid.all() else jax.tree.map(lambda array: array[valid], tree)
