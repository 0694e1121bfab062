"""What the run of a network that compares pictures shows at its end."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from jaxcv import show
from jaxcv.metrics.pair_scores import Compared, ScoredPairs, joined, scored_pairs
from jaxcv.metrics.roc import equal_error_rate, roc, verification_values
from jaxcv.types import Batches, Picture, Table

if TYPE_CHECKING:
    from collections.abc import Iterable

_CONFUSED = 4
"""Pairs of each kind that are drawn."""
_ON_MAP = 2_000
"""Pictures on the map, at most."""


@dataclass(frozen=True)
class VerificationReport:
    """The table `verification`, and the pictures `roc`, `confused` and, of embeddings, `map`."""

    listed: bool

    def __call__(self, batches: list[Compared], data: Batches) -> list[Table | Picture]:
        """See `Metric.report`; nothing for a set without pairs of both kinds."""
        pairs = scored_pairs(batches, listed=self.listed)
        values = verification_values(pairs, listed=self.listed)
        if np.isnan(values["EER"]):
            return []
        count = f"{int(pairs.same.sum()):,} pairs of one identity, {int((~pairs.same).sum()):,} of two"
        rows = [(name, None if np.isnan(value) else value) for name, value in values.items()]
        false, true, _ = roc(pairs)
        items: list[Table | Picture] = [
            Table("verification", "", ("value", "of the test set"), [("pairs", count), *rows]),
            Picture("roc", show.draw_roc(false, true, equal_error_rate=equal_error_rate(false, true))),
        ]
        page = _confused(pairs, np.concatenate([batch.label for batch in batches]), data)
        items += [Picture("confused", page)] if page is not None else []
        if batches[0].vectors is not None:
            items.append(Picture("map", _map(joined(batches), data)))
        return items


def _confused(pairs: ScoredPairs, label: np.ndarray, data: Batches) -> Image.Image | None:
    """The most similar pictures of two identities, and the least similar of one."""
    order = np.argsort(pairs.score, kind="stable")
    chosen = [*order[~pairs.same[order]][::-1][:_CONFUSED], *order[pairs.same[order]][:_CONFUSED]]
    rows, held, drawn = data.spec["image"].shape[0], {}, []
    for pair in chosen:
        both = int(pairs.first[pair]), int(pairs.second[pair])
        found: Iterable[Image.Image] = []
        for index, title in zip(both, (f"{pairs.score[pair]:.2f}", ""), strict=True):
            if index // rows not in held:
                held[index // rows] = data.batch(index // rows)["image"]
            canvas = show.Canvas(held[index // rows][index % rows])
            canvas.text(show.name_of(int(label[index]), data.class_names), show.color_of(1 if pairs.same[pair] else 0))
            if title:
                canvas.title(title)
            found = [*found, canvas.image]
        drawn.append(tuple(found))
    return show.paired_page(drawn)


def _map(compared: Compared, data: Batches) -> Image.Image:
    """Along the two main directions of the embeddings."""
    assert compared.vectors is not None
    chosen = np.unique(np.linspace(0, len(compared.label) - 1, _ON_MAP).astype(np.int64))
    vectors = compared.vectors[chosen] - compared.vectors[chosen].mean(0)
    _, _, directions = np.linalg.svd(vectors, full_matrices=False)
    plane = np.zeros((vectors.shape[1], 2), np.float32)
    plane[:, : len(directions[:2])] = directions[:2].T
    # The sign of a direction is the library's choice: the largest coordinate is made positive.
    plane *= np.where(plane[np.abs(plane).argmax(0), [0, 1]] < 0, -1, 1)
    return show.draw_map(vectors @ plane, compared.label[chosen], data.class_names)
