"""A planted fault for the claim about the time of a query: a forest that does not use its trees."""

from __future__ import annotations

import numpy as np

from fast.threshold_search import ThresholdForest
from reference.notation import IntArray
from verify.experiment import Inputs
from verify.faults.fault import Fault


class Scanned(ThresholdForest):
    """Answers a query by comparing all leaves."""

    def query(self, threshold: float) -> tuple[IntArray, IntArray]:
        """Find the pairs; see `ThresholdForest.query`."""
        leaves = self.levels[0].reshape(self.n, -1)[:, : self.width]
        data_index, neuron_index = np.nonzero(leaves >= threshold)
        return data_index, neuron_index


def two(inputs: Inputs) -> bool:
    """Take two seeds."""
    return bool(inputs["seed"] < 2)


FAULTS = (
    Fault(
        "query-by-scan",
        "A query compares every score, right answers included.",
        "cost",
        {"query_time.scan": "fails"},
        {"forest": Scanned},
        only=two,
    ),
)
"""The claim's fault."""
