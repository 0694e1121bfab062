"""Verification: whether two pictures are of one identity; batches have `label`."""

from dataclasses import dataclass
from typing import Literal

from jaxcv.errors import UserError
from jaxcv.metrics.metric import Metric
from jaxcv.metrics.pair_scores import Compared, compare, scored_pairs
from jaxcv.metrics.roc import NAMES, verification_values
from jaxcv.metrics.verification_report import VerificationReport

_COLLAPSED = 1e-3
"""Of cosines: below this distance of two identities, a network tells nobody from anybody."""


def verification(pick: str = "EER", *, pairs: Literal["all", "listed"] = "all") -> Metric:
    """How well pairs of pictures of one identity are told from pairs of two, by the cosine of their embeddings.

    - `EER`: the error rate at the threshold where as many pairs of two identities are accepted as of one are refused,
      interpolated linearly between two thresholds; the smaller the better.
    - `AUC`: area under the ROC curve.
    - `accuracy`: LFW's: in ten parts of the pairs, each by the threshold that is best for the other nine; the mean over
      the parts, in which pairs of one identity and of two weigh the same (in LFW's lists they are as many). The parts
      are ten runs of the pairs in their order where these are listed, else drawn.
    - `TAR@FAR=0.1`, `0.01`, `0.001`, `0.0001`: fraction of the pairs of one identity that are accepted at the
      smallest threshold that accepts no more than this fraction of the pairs of two; NaN where these are fewer than
      one in that fraction.

    The run's end draws the ROC curve, the most confused pairs and a map of the embeddings, and writes
    `verification.csv`. Whoever trains is warned of a collapse: all embeddings the same.

    Args:
        pick: One of these.
        pairs: `all` pairs of the set (of embeddings; of similarities, of each batch), up to 2^23 of each kind, drawn
            where there are more; or the `listed` ones, rows 2 i and 2 i + 1 of the set.

    Returns:
        A metric of `Embeddings` or `Similarities`, and `label` `[b]`. NaN for a set without pairs of both kinds.

    Raises:
        UserError: If `pick` is none of these.

    References:
        G. Huang et al., Labeled Faces in the Wild, 2007, section IV.
    """
    if pick not in NAMES:
        raise UserError(f"no metric of verification named {pick!r}: one of {', '.join(NAMES)}")
    listed = pairs == "listed"
    return Metric(
        compare,
        _Verification(listed),
        pick,
        report=VerificationReport(listed),
        larger_is_better=pick != "EER",
        warn=warn_of_collapse,
    )


@dataclass(frozen=True)
class _Verification:
    listed: bool

    def __call__(self, batches: list[Compared]) -> dict[str, float]:
        pairs = scored_pairs(batches, listed=self.listed)
        return verification_values(pairs, listed=self.listed)


def warn_of_collapse(values: dict[str, float]) -> list[str]:
    """A line where all embeddings are the same, as happens where the hardest triplets are too hard.

    Args:
        values: As `verification_values` gives them.
    """
    if not values.get("different", 0.0) > 1 - _COLLAPSED or not values["same"] - values["different"] < _COLLAPSED:
        return []
    return [
        "the embeddings have collapsed: pictures of two identities have a mean cosine of "
        f"{values['different']:.6f}, and a triplet loss sits at its margin; try a smaller lr, or mining=semihard"
    ]
