"""The comparison with kernel regression: the kernels by loops, verdicts on hand-made numbers, planted faults."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.figure import Figure

from reference.jacobian import jacobian
from reference.two_layer import initialize
from verify import problems, seeds
from verify.claims import kernel_regression
from verify.experiment import CodeUnderTest, Finding, Inputs, Profile, Result
from verify.faults.fault import Fault
from verify.faults.kernel_regression import FAULTS

Results = list[tuple[Inputs, Result]]
Change = Callable[[Inputs], Result]


def simulated(change: Change = lambda inputs: {}) -> Results:
    """Make results in which every claim holds."""
    results: Results = []
    for cell in kernel_regression.cells(Profile()):
        distance = 3 * 2.0 ** (-cell["exponent"] / 2) * (1 + 0.02 * cell["seed"])
        result: Result = {"failed": False, "training": 1e-12, "unseen": distance, "empirical": distance, "norm": 1.03}
        if cell["part"] == "paper":
            result["unseen"] = 0.5 + 0.01 * cell["seed"]
        if cell["part"] == "digits":
            names = ("network", "regression", "without start", "from zero")
            result |= {f"error of {name}": 0.6 + 0.001 * cell["seed"] for name in names}
            result["error of network"] = 0.61
        results.append((cell, {**result, **change(cell)}))
    return results


def verdicts(findings: list[Finding]) -> dict[str, str]:
    return {finding.claim.split(".")[1]: finding.verdict for finding in findings}


def test_simulated_truth_holds_in_the_order_of_the_claims() -> None:
    findings = kernel_regression.decide(simulated())
    assert [finding.claim for finding in findings] == [claim.id for claim in kernel_regression.CLAIMS]
    assert {finding.verdict for finding in findings} == {"holds"}


@pytest.mark.parametrize(
    ("change", "claim"),
    [
        (lambda i: {"training": 2e-8} if i["seed"] == 1 and i["part"] == "paper" else {}, "training"),
        (lambda i: {"unseen": 0.3 - 0.001 * i["seed"]} if i["part"] == "fixed" else {}, "unseen"),
        (lambda i: {"empirical": 2 ** (-i["exponent"] / 4)}, "empirical"),
        (lambda i: {"norm": 1.2 + 0.001 * i["seed"]}, "norm"),
        (lambda i: {"norm": 0.8 + 0.001 * i["seed"]}, "norm"),
        (lambda i: {"unseen": 0.2 + 0.001 * i["seed"]} if i["part"] == "paper" else {}, "paper"),
        (lambda i: {"error of network": 0.7} if i["part"] == "digits" else {}, "digits"),
    ],
)
def test_results_off_the_truth_flip_their_claim_alone(change: Change, claim: str) -> None:
    found = verdicts(kernel_regression.decide(simulated(change)))
    assert {name: word for name, word in found.items() if word != "holds"} == {claim: "fails"}


def test_a_run_that_stops_is_no_evidence() -> None:
    stopped = [(i, {"failed": True} if i["seed"] == 0 else r) for i, r in simulated()]
    assert set(verdicts(kernel_regression.decide(stopped)).values()) == {"invalid"}


def test_the_empirical_kernel_is_that_of_the_gradients() -> None:
    rng = np.random.default_rng(0)
    X, other = problems.unit_rows(5, 3, rng), problems.unit_rows(4, 3, rng)
    network = initialize(300, 3, shift=0.5, rng=rng)
    expected = jacobian(network, X) @ jacobian(network, other).T
    np.testing.assert_allclose(kernel_regression.empirical_kernel(network, X, other), expected, atol=1e-12)


def test_digits_are_centred_on_unit_length_and_apart() -> None:
    X, y, unseen, truth = kernel_regression.sample_digits(np.random.default_rng(0))
    assert X.shape == (100, 64)
    assert unseen.shape == (256, 64)
    assert len(truth) == 256
    np.testing.assert_allclose(np.linalg.norm(np.concatenate([X, unseen]), axis=1), 1)
    assert abs(y.mean()) < 1e-12
    assert abs(y.std() - 1) < 1e-12


def measured(code: CodeUnderTest) -> dict[str, str]:
    results = [
        (cell, kernel_regression.measure(cell, seeds.generator(1, "kernel_regression", cell), code))
        for cell in kernel_regression.cells(Profile())
    ]
    plain: Results = json.loads(json.dumps(results, allow_nan=False))
    kernel_regression.plot(Figure(), plain)
    return verdicts(kernel_regression.decide(plain))


def test_the_true_code_end_to_end() -> None:
    assert set(measured(CodeUnderTest()).values()) == {"holds"}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.id)
def test_planted_faults_are_caught(fault: Fault) -> None:
    found = measured(fault.code)
    assert {claim: found[claim.split(".")[1]] for claim in fault.caught_by} == dict(fault.caught_by)


def test_every_claim_has_a_fault() -> None:
    assert {claim for fault in FAULTS for claim in fault.caught_by} == {claim.id for claim in kernel_regression.CLAIMS}
