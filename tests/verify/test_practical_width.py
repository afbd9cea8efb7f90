"""Widths in practice: verdicts on hand-made widths, and planted faults."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from matplotlib.figure import Figure

from verify import seeds
from verify.claims import practical_width
from verify.experiment import CodeUnderTest, Experiment, Finding, Inputs, Profile, Result
from verify.faults.fault import Fault
from verify.faults.practical_width import FAULTS

Results = list[tuple[Inputs, Result]]
Law = Callable[[Inputs], float]


def simulated(
    smallest: Law = lambda i: 4 + 10 * i["alpha"], asked: Law = lambda i: 9 + 4.5 * i["n"].bit_length()
) -> Results:
    """Make results from laws for log2 of both widths."""
    results: Results = []
    for cell in practical_width.cells(Profile()):
        own = {"smallest": round(smallest(cell)) + (cell["seed"] == 3)}
        results.append((cell, own if cell["alpha"] == 0 else {**own, "asked": asked(cell)}))
    return results


def verdicts(findings: list[Finding]) -> dict[str, str]:
    return {finding.claim.split(".")[1]: finding.verdict for finding in findings}


def test_simulated_truth_holds_in_the_order_of_the_claims() -> None:
    findings = practical_width.decide(simulated())
    assert [finding.claim for finding in findings] == [claim.id for claim in practical_width.CLAIMS]
    assert {finding.verdict for finding in findings} == {"holds"}


@pytest.mark.parametrize(
    ("results", "claim"),
    [
        (simulated(asked=lambda i: 4.5 * i["n"].bit_length()), "gap"),
        (simulated(smallest=lambda i: 1.5 * i["n"].bit_length() - 2 + 10 * i["alpha"]), "growth"),
        (simulated(asked=lambda i: 20 + 3 * i["n"].bit_length()), "theorem"),
        (simulated(smallest=lambda i: 6 - 10 * i["alpha"]), "plain"),
    ],
)
def test_laws_off_the_truth_flip_their_claim_alone(results: Results, claim: str) -> None:
    found = verdicts(practical_width.decide(results))
    assert {name: word for name, word in found.items() if word != "holds"} == {claim: "fails"}


def test_the_practical_width_is_that_of_the_last_trial() -> None:
    results = simulated()
    late = [(i, {**r, "smallest": 11} if (i["n"], i["alpha"], i["seed"]) == (8, 0.1, 0) else r) for i, r in results]
    assert verdicts(practical_width.decide(results))["gap"] == "holds"
    gap = practical_width.decide(late)[0]
    assert gap.estimate == 9 + 4.5 * 4 - 11


def test_a_trial_without_a_width_leaves_everything_undecided() -> None:
    results = simulated()
    results[0] = (results[0][0], {**results[0][1], "smallest": None})
    assert set(verdicts(practical_width.decide(results)).values()) == {"undecided"}


def measured(experiment: Experiment, code: CodeUnderTest) -> dict[str, str]:
    results = [
        (cell, experiment.measure(cell, seeds.generator(1, "practical_width", cell), code))
        for cell in practical_width.cells(Profile())
    ]
    plain: Results = json.loads(json.dumps(results, allow_nan=False))
    practical_width.plot(Figure(), plain)
    return verdicts(practical_width.decide(plain))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(practical_width, "POINTS", (8, 16, 32))
    monkeypatch.setattr(practical_width, "SEEDS", 6)


@pytest.mark.usefixtures("quick")
def test_the_true_code_end_to_end() -> None:
    assert set(measured(practical_width.EXPERIMENT, CodeUnderTest()).values()) <= {"holds", "undecided"}


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.id)
def test_planted_faults_are_caught(fault: Fault) -> None:
    altered = fault.alter(practical_width.EXPERIMENT) if fault.alter else practical_width.EXPERIMENT
    found = measured(altered, fault.code)
    assert {claim: found[claim.split(".")[1]] for claim in fault.caught_by} == dict(fault.caught_by)


def test_every_claim_has_a_fault() -> None:
    assert {claim for fault in FAULTS for claim in fault.caught_by} == {claim.id for claim in practical_width.CLAIMS}
