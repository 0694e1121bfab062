"""The images of a set that excite a network's units most."""

from functools import partial
from typing import Any

import numpy as np

from jaxcv.metrics.metric import Metric
from jaxcv.show import crop_patch, draw_patches
from jaxcv.types import Batch, Batches, Picture, Table


def top_patches(*, fields: tuple[tuple[str, int, int], ...] = (), count: int = 9) -> Metric:
    """How much more a unit is excited by the picture made for it than by any of the set; and a figure for each layer.

    Args:
        fields: layers in the order of `models.Seer`, the pixels of a patch and the number of units looked at; none: no
            figure.
        count: patches a unit, of different images.

    Returns:
        The ratio of the two activations, the median over the units. Of predictions of `predict.peaks`.
    """
    report = partial(_report, fields=fields, count=count)
    return Metric(_measure, _reduce, "excess", report)


def _measure(predictions: Any, batch: Batch) -> Any:
    size = len(batch["image"])
    made = {name: np.asarray(predictions[name][0]) for name in ("own_peaks", "pictures")}
    return {
        "peaks": np.asarray(predictions["peaks"]),
        "places": np.asarray(predictions["places"]),
        "size": size,
        **made,
    }


def _reduce(measured: list[Any]) -> dict[str, float]:
    seen = np.concatenate([each["peaks"] for each in measured]).max(0)
    there = seen > 0
    ratios = measured[0]["own_peaks"][there] / seen[there]
    return {"excess": float(np.median(ratios)) if there.any() else float("nan")}


def _report(
    measured: list[Any], data: Batches, *, fields: tuple[tuple[str, int, int], ...], count: int
) -> list[Table | Picture]:
    peaks = np.concatenate([each["peaks"] for each in measured])
    places = np.concatenate([each["places"] for each in measured])
    where = [(number, row) for number, each in enumerate(measured) for row in range(each["size"])]
    batches: dict[int, Any] = {}

    def patch(image: int, unit: int, size: int) -> np.ndarray:
        number, row = where[image]
        if number not in batches:
            batches[number] = data.batch(number)
        valid = np.flatnonzero(batches[number].get("example_valid", np.ones(len(batches[number]["image"]), bool)))
        return crop_patch(batches[number]["image"][valid[row]], places[image, unit], size)

    pictures, found, unit = measured[0]["pictures"], [], 0
    for layer, size, units in fields:
        rows = []
        for _ in range(units):
            best = np.argsort(-peaks[:, unit], kind="stable")[:count]
            rows.append((pictures[unit], [patch(int(image), unit, size) for image in best]))
            unit += 1
        found.append(Picture(f"sees_{layer}", draw_patches(rows)))
    return found
