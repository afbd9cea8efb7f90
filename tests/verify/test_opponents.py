"""The comparison with first-order methods: verdicts on hand-made results, and planted faults."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from matplotlib.figure import Figure

from verify import seeds
from verify.claims import opponents
from verify.experiment import CodeUnderTest, Finding, Inputs, Profile, Result
from verify.faults.fault import Fault
from verify.faults.opponents import FAULTS

Results = list[tuple[Inputs, Result]]


def simulated(**changes: Any) -> Results:  # noqa: ANN401
    """Make results in which every claim holds; ``changes`` go into every cell."""
    results: Results = []
    for cell in opponents.cells(Profile()):
        work = 2e6 * (1 + 0.02 * cell["seed"])
        slow = 1.1 if cell["family"] == "random" and cell["exponent"] == opponents.EXPONENT else 3.0
        result: Result = {
            "gauss_newton": [[2, work], [4, work], [5, work]],
            **{name: [[3, 0.8 * work], [20, 9 * work], [40, 9 * work]] for name in opponents.OPPONENTS},
            "compacting": [5.0 + cell["seed"], 2.0],
            "seconds": {"gauss_newton": [1.0, 1.0], "control": [1.0, 1.01], "lbfgs": [slow, slow]},
        }
        results.append((cell, {**result, **changes}))
    return results


def verdicts(findings: list[Finding]) -> dict[str, str]:
    return {finding.claim: finding.verdict for finding in findings}


def test_simulated_truth_holds_in_the_order_of_the_claims() -> None:
    findings = opponents.decide(simulated())
    assert [finding.claim for finding in findings] == [claim.id for claim in opponents.CLAIMS]
    assert {finding.verdict for finding in findings} == {"holds"}


@pytest.mark.parametrize(
    ("changes", "claims", "verdict"),
    [
        ({"adam": [None, None, [6, 1e9]]}, ["iterations"], "fails"),
        ({"adam": [None, None, [600, 4e6]]}, ["work_random"], "fails"),
        ({"adam": [None, None, [600, 2e6]]}, ["work_random", "work_pairs"], "fails"),
        ({"gauss_newton": [[2, 1e5], [4, 1e5], [5, 1e5]]}, ["loose"], "fails"),
        ({"compacting": [1.0, 1.0]}, ["compacting"], "fails"),
        (
            {"seconds": {"gauss_newton": [9.0, 9.0], "control": [9.0, 9.0], "lbfgs": [3.0, 3.0]}},
            ["time_pairs", "time_wide"],
            "fails",
        ),
        (
            {"seconds": {"gauss_newton": [1.0, 1.0], "control": [1.0, 1.0], "lbfgs": [3.0, 3.0]}},
            ["time_random"],
            "fails",
        ),
        (
            {"seconds": {"gauss_newton": [1.0, 1.0], "control": [2.0, 2.0], "lbfgs": [3.0, 3.0]}},
            ["time_random", "time_pairs", "time_wide"],
            "invalid",
        ),
        (
            {"gauss_newton": [[2, 2e6], [4, 2e6], None]},
            ["iterations", "work_random", "work_pairs"],
            "invalid",
        ),
    ],
)
def test_results_off_the_truth_flip_their_claims_alone(
    changes: dict[str, Any], claims: list[str], verdict: str
) -> None:
    found = verdicts(opponents.decide(simulated(**changes)))
    assert {claim for claim, word in found.items() if word != "holds"} == {f"opponents.{claim}" for claim in claims}
    assert {found[f"opponents.{claim}"] for claim in claims} == {verdict}


def test_opponents_that_never_arrive_are_no_opponents() -> None:
    found = verdicts(opponents.decide(simulated(**dict.fromkeys(opponents.OPPONENTS, [None] * 3))))
    assert found["opponents.iterations"] == found["opponents.loose"] == "invalid"


@pytest.mark.parametrize("family", opponents.FAMILIES)
def test_one_family_on_which_nobody_arrives_is_no_evidence(family: str) -> None:
    nobody = dict.fromkeys(opponents.OPPONENTS, [None] * 3)
    results = [(cell, result | (nobody if cell["family"] == family else {})) for cell, result in simulated()]
    assert verdicts(opponents.decide(results))["opponents.iterations"] == "invalid"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave few settings of the two best opponents, and smaller sizes."""
    monkeypatch.setattr(opponents, "N", 16)
    monkeypatch.setattr(opponents, "EXPONENT", 10)
    monkeypatch.setattr(opponents, "WIDE", 11)
    own = {"momentum": ({"momentum": 0.3, "rate": 0.75}, {"momentum": 0.8, "rate": 0.5}), "lbfgs": ({"memory": 10},)}
    monkeypatch.setattr(opponents, "SETTINGS", own)
    monkeypatch.setattr(opponents, "OPPONENTS", tuple(own))
    monkeypatch.setattr(opponents, "WIDE_OPPONENTS", tuple(own))
    monkeypatch.setattr(opponents, "SEEDS", {10: 3, 11: 2})
    monkeypatch.setattr(opponents, "CONTROL_MARGIN", math.inf)  # a busy machine is no reason to fail here


def measured(code: CodeUnderTest) -> list[Finding]:
    results = [
        (cell, opponents.measure(cell, seeds.generator(1, "opponents", cell), code))
        for cell in opponents.cells(Profile())
    ]
    plain: Results = json.loads(json.dumps(results, allow_nan=False))
    opponents.plot(Figure(), plain)
    return opponents.decide(plain)


@pytest.mark.usefixtures("quick")
def test_the_true_code_end_to_end() -> None:
    found = verdicts(measured(CodeUnderTest()))
    untimed = {claim: verdict for claim, verdict in found.items() if ".time" not in claim}
    assert set(untimed.values()) <= {"holds", "undecided"}


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.id)
def test_planted_faults_are_caught(fault: Fault) -> None:
    found = verdicts(measured(fault.code))
    assert {claim: found[claim] for claim in fault.caught_by} == dict(fault.caught_by)


def test_every_claim_has_a_fault() -> None:
    assert {claim for fault in FAULTS for claim in fault.caught_by} == {claim.id for claim in opponents.CLAIMS}
