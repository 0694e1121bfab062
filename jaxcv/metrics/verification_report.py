"""What the run of a network that compares pictures shows at its end."""

from dataclasses import dataclass
from typing import Any

from jaxcv.types import Batches, Picture, Table


@dataclass(frozen=True)
class VerificationReport:
    """`verification`, and the pictures `roc`, `confused` and `map`."""

    listed: bool

    def __call__(self, batches: list[Any], data: Batches) -> list[Table | Picture]:
        """See `Metric.report`."""
        return []
