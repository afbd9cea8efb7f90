"""The engine's own experiment: what it decides on the true engine, on planted faults, and how it bounds shares."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom

from verify import seeds
from verify.claims import calibration
from verify.experiment import CodeUnderTest, Experiment, Finding, Profile
from verify.faults.calibration import FAULTS
from verify.faults.fault import Fault, check


def findings(experiment: Experiment, *, share: int = 1) -> dict[str, Finding]:
    """Run it; with ``share`` on that part of the trials."""
    chosen = [inputs | {"trials": inputs["trials"] // share} for inputs in experiment.cells(Profile())]
    if share > 1:
        chosen = [inputs for inputs in chosen if inputs["part"] == 0]
    results = [
        (inputs, experiment.measure(inputs, seeds.generator(0, "calibration", inputs), CodeUnderTest()))
        for inputs in chosen
    ]
    return {finding.claim: finding for finding in experiment.decide(results)}


def test_the_engine_is_calibrated() -> None:
    found = findings(calibration.EXPERIMENT)
    assert {claim: finding.verdict for claim, finding in found.items()} == {
        claim.id: "holds" for claim in calibration.CLAIMS
    }


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.id)
def test_planted_faults_of_the_engine_are_caught(fault: Fault) -> None:
    assert fault.alter is not None
    found = findings(fault.alter(calibration.EXPERIMENT), share=4)
    assert {claim: found[claim].verdict for claim in fault.caught_by} == fault.caught_by


def test_every_claim_has_a_fault() -> None:
    check([calibration.EXPERIMENT], FAULTS)


@pytest.mark.parametrize(("hits", "trials"), [(0, 40), (1, 40), (20, 40), (40, 40)])
def test_exact_bounds_follow_their_definition(hits: int, trials: int) -> None:
    low, high = calibration.exact_bounds(hits, trials, 0.9)
    assert low <= hits / trials <= high
    if hits:
        assert binom.sf(hits - 1, trials, low) == pytest.approx(0.05)
    if hits < trials:
        assert binom.cdf(hits, trials, high) == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("low", "high", "verdict"), [(0.945, 0.96, "holds"), (0.93, 0.96, "undecided"), (0.9, 0.93, "fails")]
)
def test_a_share_is_decided_by_its_bounds(low: float, high: float, verdict: str) -> None:
    share = calibration.Share("x", (low + high) / 2, low, high, *calibration.COVERAGE)
    assert share.verdict == verdict


def test_one_share_that_fails_is_enough_though_another_is_wider() -> None:
    wide = calibration.Share("wide", 0.5, 0.0, 1.0, 0.0, 0.03)
    failing = calibration.Share("failing", 0.05, 0.04, 0.06, 0.0, 0.03)
    found = calibration.worst("false_holds", [wide, failing], "domain")
    assert (found.verdict, found.estimate) == ("fails", 0.05)


def test_the_truth_of_the_networks_is_the_law() -> None:
    shares = calibration.fired_shares(4000, (64,), np.random.default_rng(0))[:, 0].mean(axis=1)
    assert abs(shares.mean() - calibration.LAW) < 4 * shares.std() / math.sqrt(4000)
    # The inputs share their weights: more spread than independent trials have.
    assert shares.var() > 1.4 * calibration.LAW * (1 - calibration.LAW) / (64 * calibration.N)
