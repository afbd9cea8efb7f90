"""What solving costs: verdicts on hand-made counts, and planted faults."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from matplotlib.figure import Figure

from verify import seeds
from verify.claims import solve_cost
from verify.experiment import CodeUnderTest, Finding, Inputs, Profile, Result
from verify.faults.fault import Fault
from verify.faults.solve_cost import FAULTS

Results = list[tuple[Inputs, Result]]
Change = Callable[[Inputs], Result]


def simulated(change: Change = lambda inputs: {}) -> Results:
    """Make results in which every claim holds."""
    results: Results = []
    for cell in solve_cost.cells(Profile()):
        n, noise = cell["n"], 1 + 0.01 * cell["seed"]
        if cell["part"] == "angles":
            result: Result = {"condition": 10 / cell["angle"], "steps": round(20 * noise / cell["angle"] ** 0.5)}
        else:
            result = {
                "failed": False,
                "cholesky": [n**3] * 5,
                "conjugate": [int(20 * noise) * n**2] * 5,
                "sketch": [3 * n**3],
                "error": 0.1,
            }
        results.append((cell, {**result, **change(cell)}))
    return results


def verdicts(findings: list[Finding]) -> dict[str, str]:
    return {finding.claim.split(".")[1]: finding.verdict for finding in findings}


def points(result: Result) -> Change:
    return lambda inputs: result if inputs["part"] == "points" else {}


def test_simulated_truth_holds_in_the_order_of_the_claims() -> None:
    findings = solve_cost.decide(simulated())
    assert [finding.claim for finding in findings] == [claim.id for claim in solve_cost.CLAIMS]
    assert {finding.verdict for finding in findings} == {"holds"}


@pytest.mark.parametrize(
    ("change", "claim"),
    [
        (lambda i: {"cholesky": [i["n"] ** 3, i["n"] ** 2, i["n"] ** 3]} if i["seed"] == 1 else {}, "early"),
        (lambda i: {"sketch": [i["n"] ** 3]} if i["seed"] == 2 else {}, "sketch"),
        (lambda i: {"conjugate": [i["n"] ** 3 // 9] * 5} if i["family"] == "random" else {}, "exponent"),
        (lambda i: {"steps": round(20 / i["angle"])} if i["part"] == "angles" else {}, "condition"),
        (points({"error": 1.1}), "equal"),
        (lambda i: {"conjugate": [90 * i["n"] ** 2] * 5}, "cheaper"),
    ],
)
def test_results_off_the_truth_flip_their_claim_alone(change: Change, claim: str) -> None:
    found = verdicts(solve_cost.decide(simulated(change)))
    assert {name: word for name, word in found.items() if word != "holds"} == {claim: "fails"}


def test_a_run_that_stops_is_no_evidence() -> None:
    found = verdicts(solve_cost.decide(simulated(lambda i: {"failed": i["part"] == "points" and i["seed"] == 0})))
    assert set(found.values()) == {"invalid"}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solve_cost, "POINTS", (24, 48, 128))
    monkeypatch.setattr(solve_cost, "MOST_SKETCHED", 24)
    monkeypatch.setattr(solve_cost, "WIDTH", 1 << 12)
    monkeypatch.setattr(solve_cost, "SEEDS", 3)


def measured(code: CodeUnderTest) -> dict[str, str]:
    results = [
        (cell, solve_cost.measure(cell, seeds.generator(1, "solve_cost", cell), code))
        for cell in solve_cost.cells(Profile())
    ]
    plain: Results = json.loads(json.dumps(results, allow_nan=False))
    solve_cost.plot(Figure(), plain)
    return verdicts(solve_cost.decide(plain))


@pytest.mark.usefixtures("quick")
def test_the_true_code_end_to_end() -> None:
    assert set(measured(CodeUnderTest()).values()) == {"holds"}


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.id)
def test_planted_faults_are_caught(fault: Fault) -> None:
    found = measured(fault.code)
    assert {claim: found[claim.split(".")[1]] for claim in fault.caught_by} == dict(fault.caught_by)


def test_every_claim_has_a_fault() -> None:
    assert {claim for fault in FAULTS for claim in fault.caught_by} == {claim.id for claim in solve_cost.CLAIMS}
