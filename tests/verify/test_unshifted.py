"""Training without a shift: verdicts on hand-made results, and planted faults."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from matplotlib.figure import Figure

from verify import seeds
from verify.claims import unshifted
from verify.experiment import CodeUnderTest, Finding, Inputs, Profile, Result
from verify.faults.fault import Fault
from verify.faults.unshifted import FAULTS

Results = list[tuple[Inputs, Result]]
Change = Callable[[Inputs], Result]


def simulated(change: Change = lambda inputs: {}) -> Results:
    """Make results in which every claim holds."""
    results: Results = []
    for cell in unshifted.cells(Profile()):
        if cell["part"] == "trial":
            result: Result = {"plain": [3, 0.02], "shifted": [5 + cell["seed"] % 2, 0.3]}
        else:
            width = 2 ** cell["exponent"]
            result = {"work": 100 * width + cell["seed"], "pairs": 12 * width, "everyone": 1 - 1e-4 * cell["seed"]}
        results.append((cell, {**result, **change(cell)}))
    return results


def verdicts(findings: list[Finding]) -> dict[str, str]:
    return {finding.claim.split(".")[1]: finding.verdict for finding in findings}


def test_simulated_truth_holds_in_the_order_of_the_claims() -> None:
    findings = unshifted.decide(simulated())
    assert [finding.claim for finding in findings] == [claim.id for claim in unshifted.CLAIMS]
    assert {finding.verdict for finding in findings} == {"holds"}


@pytest.mark.parametrize(
    ("change", "claim", "verdict"),
    [
        (lambda i: {"plain": [3, 0.6]} if i["part"] == "trial" and i["seed"] < 10 else {}, "halves", "fails"),
        (lambda i: {"plain": [3, 0.6]} if i["part"] == "trial" and i["seed"] < 1 else {}, "halves", "undecided"),
        (lambda i: {"plain": [7, 0.02]} if i["part"] == "trial" else {}, "iterations", "fails"),
        (lambda i: {"shifted": None} if i["part"] == "trial" and i["seed"] == 0 else {}, "iterations", "invalid"),
        (lambda i: {"work": 2 ** (0.8 * i["exponent"])} if i["part"] == "work" else {}, "linear", "fails"),
        (lambda i: {"everyone": 0.9 + 0.01 * i["seed"]} if i["part"] == "work" else {}, "everyone", "fails"),
    ],
)
def test_results_off_the_truth_flip_their_claim_alone(change: Change, claim: str, verdict: str) -> None:
    found = verdicts(unshifted.decide(simulated(change)))
    assert {name: word for name, word in found.items() if word != "holds"} == {claim: verdict}


def measured(code: CodeUnderTest) -> dict[str, str]:
    results = [
        (cell, unshifted.measure(cell, seeds.generator(1, "unshifted", cell), code))
        for cell in unshifted.cells(Profile())
    ]
    plain: Results = json.loads(json.dumps(results, allow_nan=False))
    unshifted.plot(Figure(), plain)
    return verdicts(unshifted.decide(plain))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unshifted, "TRIALS", 12)
    monkeypatch.setattr(unshifted, "EXPONENTS", (10, 12))
    monkeypatch.setattr(unshifted, "SEEDS", 3)


@pytest.mark.usefixtures("quick")
def test_the_true_code_end_to_end() -> None:
    assert set(measured(CodeUnderTest()).values()) <= {"holds", "undecided"}


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.id)
def test_planted_faults_are_caught(fault: Fault) -> None:
    found = measured(fault.code)
    assert {claim: found[claim.split(".")[1]] for claim in fault.caught_by} == dict(fault.caught_by)


def test_every_claim_has_a_fault() -> None:
    assert {claim for fault in FAULTS for claim in fault.caught_by} == {claim.id for claim in unshifted.CLAIMS}
