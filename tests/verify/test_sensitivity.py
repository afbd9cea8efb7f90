"""Sensitivity: verdicts on hand-made sweeps, and planted faults."""

from __future__ import annotations

import json
from typing import Any

import pytest
from matplotlib.figure import Figure

from verify import seeds
from verify.claims import sensitivity
from verify.experiment import CodeUnderTest, Finding, Inputs, Profile, Result
from verify.faults.fault import Fault
from verify.faults.sensitivity import FAULTS

Results = list[tuple[Inputs, Result]]
GOOD, SLOW = [5, 0.3], [9, 0.7]


def simulated(sweep: str = "", at: str = "", run: Any = None) -> Results:  # noqa: ANN401
    """Make results in which every claim holds; ``run`` takes the place of one point of a sweep in every seed."""
    results: Results = []
    for cell in sensitivity.cells(Profile()):
        if cell["part"] == "start":
            result: Result = {
                "shift": {str(a): GOOD for a in sensitivity.ALPHAS} | {str(sensitivity.SPARSE): SLOW},
                "scale": {str(s): GOOD for s in sensitivity.SCALES} | {str(sensitivity.SMALL): None},
                "same_shift": {str(s): GOOD for s in sensitivity.TOGETHER} | {str(sensitivity.FARTHER): SLOW},
                "law": 0.01,
            }
        else:
            result = {
                "sketch": {str(rows): GOOD for rows in sensitivity.ROWS},
                "work": {str(rows): 1e6 * (1 + 0.01 * cell["seed"]) for rows in sensitivity.ROWS} | {"1": 1.3e6},
                "accuracy": {str(a): GOOD for a in sensitivity.ACCURACIES} | {str(sensitivity.LOOSE): [9, 0.4]},
            }
        if sweep in result:
            result[sweep] = {**result[sweep], at: run} if at else run
        results.append((cell, result))
    return results


def verdicts(findings: list[Finding]) -> dict[str, str]:
    return {finding.claim.split(".")[1]: finding.verdict for finding in findings}


def test_simulated_truth_holds_in_the_order_of_the_claims() -> None:
    findings = sensitivity.decide(simulated())
    assert [finding.claim for finding in findings] == [claim.id for claim in sensitivity.CLAIMS]
    assert {finding.verdict for finding in findings} == {"holds"}


@pytest.mark.parametrize(
    ("sweep", "at", "run", "claim"),
    [
        ("law", "", 1.5, "scale_law"),
        ("shift", "0.1", SLOW, "shift"),
        ("shift", "0.0", [9, 0.4], "shift"),
        ("shift", "0.45", GOOD, "sparse"),
        ("scale", "2.0", [6, 0.3], "scale"),
        ("scale", "4.0", None, "scale"),
        ("scale", "0.5", GOOD, "small_scale"),
        ("same_shift", "0.5", SLOW, "same_shift"),
        ("sketch", "2", [6, 0.3], "sketch"),
        ("sketch", "1", None, "sketch"),
        ("work", "32", 2.5e6, "sketch_work"),
        ("accuracy", "0.001", [8, 0.3], "accuracy"),
        ("accuracy", "0.1", [6, 0.3], "loose"),
        ("accuracy", "0.1", [9, 0.6], "loose"),
    ],
)
def test_one_point_off_flips_its_claim_alone(sweep: str, at: str, run: Any, claim: str) -> None:  # noqa: ANN401
    found = verdicts(sensitivity.decide(simulated(sweep, at, run)))
    assert {name: word for name, word in found.items() if word != "holds"} == {claim: "fails"}


def measured(code: CodeUnderTest) -> dict[str, str]:
    results = [
        (cell, sensitivity.measure(cell, seeds.generator(1, "sensitivity", cell), code))
        for cell in sensitivity.cells(Profile())
    ]
    plain: Results = json.loads(json.dumps(results, allow_nan=False))
    sensitivity.plot(Figure(), plain)
    return verdicts(sensitivity.decide(plain))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sensitivity, "SEEDS", 12)
    monkeypatch.setattr(sensitivity, "SOLVER_SEEDS", 2)
    monkeypatch.setattr(sensitivity, "MOST", 15)


@pytest.mark.usefixtures("quick")
def test_the_true_code_end_to_end() -> None:
    assert set(measured(CodeUnderTest()).values()) <= {"holds", "undecided"}


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.id)
def test_planted_faults_are_caught(fault: Fault) -> None:
    found = measured(fault.code)
    assert {claim: found[claim.split(".")[1]] for claim in fault.caught_by} == dict(fault.caught_by)


def test_every_claim_has_a_fault() -> None:
    assert {claim for fault in FAULTS for claim in fault.caught_by} == {claim.id for claim in sensitivity.CLAIMS}
