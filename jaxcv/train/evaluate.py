"""One pass over a data set: loss terms, metrics, and the worst predictions for a preview."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from jaxcv.train import hosts
from jaxcv.train.compiled import Program
from jaxcv.train.experiment import Experiment
from jaxcv.train.feed import Resident, Streamed
from jaxcv.train.worst import Worst
from jaxcv.types import Batch, Picture, Table


def evaluate(
    program: Program,
    experiment: Experiment,
    hyperparameters: Mapping[str, Any],
    variables: Any,
    feed: Resident | Streamed,
    *,
    on_batch: Callable[[int, int], None] = lambda done, total: None,
    reports: list[Table | Picture] | None = None,
    warnings: list[str] | None = None,
) -> tuple[dict[str, float], list[tuple[Batch, Any]]]:
    """Loss, terms and metrics over all examples of the test data; and the worst of each class with their predictions.

    Rows that pad the last batch count nowhere. Metrics that share their work (`measure` and `reduce`) do it once.

    Args:
        program: the compiled functions.
        experiment: its metrics, its test data, and how many previews.
        hyperparameters: inputs of the compiled functions.
        variables: of the model.
        feed: of the test data.
        on_batch: called with the number of batches done and the total.
        reports: what the metrics have to show beyond their numbers is put into this list.
        warnings: what they warn of is put into this list.
    """
    data, total = experiment.test_data, len(experiment.test_data)
    sums: dict[str, np.ndarray] = {}
    measured: dict[Any, list[Any]] = {metric.measure: [] for metric in experiment.metrics.values()}
    worst = Worst(experiment.previews, by_loss=not experiment.animate)
    found = _batches(program, hyperparameters, variables, feed, total)
    for number, (batch, predictions, terms, losses) in enumerate(found):
        for name, pair in terms.items():
            sums[name] = sums.get(name, np.zeros(2)) + np.array(pair, np.float64)
        if "image" not in batch:  # read by several processes
            batch["image"] = data.batch(number)["image"] if hosts.is_first() else _no_images(data)
        predictions, batch, losses = _real_rows((predictions, batch, losses), batch.get("example_valid"))
        for measure, results in measured.items():
            results.append(measure(predictions, batch))
        worst.add(batch, predictions, losses)
        on_batch(number + 1, total)
    values = {name: float(total / max(weight, 1e-8)) for name, (total, weight) in sums.items()}
    values = {"loss": float(sum(values.values())), **values}
    reduced: dict[Any, dict[str, float]] = {}
    for name, metric in experiment.metrics.items():
        shared = (metric.measure, metric.reduce)
        if shared not in reduced:
            reduced[shared] = metric.reduce(measured[metric.measure])
        values[name] = float(reduced[shared][metric.pick])
    if warnings is not None:
        heard = {(m.measure, m.reduce): m.warn for m in experiment.metrics.values() if getattr(m, "warn", None)}
        warnings += [line for shared, warn in heard.items() for line in warn(reduced[shared])]
    if reports is not None:
        makers = {(m.measure, getattr(m, "report", None)): None for m in experiment.metrics.values()}
        for measure, report in makers:
            if report is not None:
                reports += report(measured[measure], data)
    return values, worst.examples()


def _batches(
    program: Program, hyperparameters: Mapping[str, Any], variables: Any, feed: Resident | Streamed, total: int
) -> Iterator[tuple[Batch, Any, Any, np.ndarray]]:
    """Every batch on the host, its predictions, sum and weight of its loss terms, and its examples' losses."""
    spec, indices = feed.spec()
    args = hyperparameters, variables, spec, indices
    compiled = program.compile("evaluate_all", *args, layout=feed.layout)
    for first in range(0, total, feed.length):
        count = min(feed.length, total - first)
        data, indices = feed.take(first, count)
        data = data if isinstance(feed, Resident) else feed.place(data)
        found = jax.device_get(compiled(hyperparameters, variables, data, indices))
        for i in range(count):
            predictions, terms, losses, *targets = jax.tree.map(lambda array, i=i: array[i], found)
            yield (targets[0] if targets else feed.batch(first + i)), predictions, terms, losses


def _no_images(data: Any) -> np.ndarray:
    """Of the shape of a batch, without memory."""
    spec = data.spec["image"]
    return np.broadcast_to(np.zeros((), spec.dtype), spec.shape)


def _real_rows(tree: Any, valid: np.ndarray | None) -> Any:
    return tree if valid is None or valid.all() else jax.tree.map(lambda array: array[valid], tree)
