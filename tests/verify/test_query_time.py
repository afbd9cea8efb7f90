"""The claim about the time of a query: verdicts on hand-made timings. No test looks at the clock."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from fast.threshold_search import ThresholdForest
from verify.claims import query_time
from verify.experiment import CodeUnderTest, Inputs, Result
from verify.faults.query_time import Scanned


def simulated(ratios: list[float], *, same: bool = True) -> list[tuple[Inputs, Result]]:
    rounds = query_time.ROUNDS
    return [
        ({"seed": seed}, {"query": [1e-3] * rounds, "scan": [1e-3 * ratio] * rounds, "same": same, "found": 9})
        for seed, ratio in enumerate(ratios)
    ]


@pytest.mark.parametrize(
    ("ratios", "verdict"),
    [([25.0, 26.0, 24.0], "holds"), ([5.0, 5.1, 4.9], "fails"), ([2.0, 10.0, 50.0], "undecided")],
)
def test_verdicts(ratios: list[float], verdict: str) -> None:
    (finding,) = query_time.decide(simulated(ratios))
    assert finding.verdict == verdict
    assert finding.claim == query_time.CLAIMS[0].id
    assert finding.estimate == pytest.approx(math.exp(np.mean(np.log(ratios))))


def test_a_query_that_finds_something_else_is_no_evidence() -> None:
    (finding,) = query_time.decide(simulated([25.0, 26.0, 24.0], same=False))
    assert finding.verdict == "invalid"


class Forgetful(ThresholdForest):
    def query(self, threshold: float) -> tuple[np.ndarray, np.ndarray]:
        data_index, neuron_index = super().query(threshold)
        return data_index[1:], neuron_index[1:]


@pytest.mark.parametrize(("forest", "same"), [(ThresholdForest, True), (Scanned, True), (Forgetful, False)])
def test_one_small_cell(forest: type[ThresholdForest], same: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query_time, "WIDTH", 4096)
    result = query_time.measure({"seed": 0}, np.random.default_rng(0), CodeUnderTest(forest=forest))
    assert result["same"] is same
    assert result["found"] > 0
    json.dumps(result, allow_nan=False)
