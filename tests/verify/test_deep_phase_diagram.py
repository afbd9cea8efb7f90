"""The phase diagram of deep networks: outcomes by name, verdicts on hand-made diagrams, and planted faults."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

import fast.multi_layer_gauss_newton
import reference.multi_layer_gauss_newton
from reference.multi_layer import MultiLayerNetwork, initialize
from reference.notation import DivergenceError, FloatArray, SingularGramError
from reference.signals import DeadSignalError
from reference.trace import Trace
from verify import problems, seeds
from verify.claims import deep_phase_diagram
from verify.claims.deep_phase_diagram import KINDS, OUTCOMES, TRAINS
from verify.experiment import CodeUnderTest, Inputs, Profile, Result
from verify.faults.deep_routines import frozen_shift, leaked_labels, never_normalized

Results = list[tuple[Inputs, Result]]
Law = Callable[[Inputs, str], int]


def law(inputs: Inputs, kind: str) -> int:
    """Say from which exponent on a network trains: plain ones need three doublings more, sparse ones never do."""
    narrowest: int = inputs["narrowest"] + 1 + inputs["seed"] % 2
    return narrowest if kind == "normalized" else 99 if inputs["alpha"] >= 0.3 else narrowest + 3


def simulated(law: Law = law, *, failure: str = "dies", end: float = 1e-9) -> Results:
    results: Results = []
    for inputs in deep_phase_diagram.cells(Profile()):
        exponents = range(inputs["widest"], inputs["narrowest"] - 1, -1)
        outcomes = {
            kind: {str(e): "halves" if e >= law(inputs, kind) else failure for e in exponents} for kind in KINDS
        }
        results.append((inputs, {"outcomes": outcomes, "ends": {"plain": end, "normalized": end}}))
    return results


def verdicts(results: Results) -> dict[str, str]:
    return {finding.claim.split(".")[1]: finding.verdict for finding in deep_phase_diagram.EXPERIMENT.decide(results)}


def test_simulated_truth_holds_in_the_order_of_the_claims() -> None:
    findings = deep_phase_diagram.EXPERIMENT.decide(simulated())
    assert [finding.claim for finding in findings] == [claim.id for claim in deep_phase_diagram.CLAIMS]
    assert {finding.verdict for finding in findings} == {"holds"}


def swapped(inputs: Inputs, kind: str) -> int:
    return law(inputs, next(each for each in KINDS if each != kind))


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        pytest.param(
            simulated(swapped),
            {"normalized_narrower": "fails", "sparse": "fails", "plain_dies": "fails"},
            id="swapped",
        ),
        pytest.param(
            simulated(lambda i, kind: law(i, "normalized")),
            {"normalized_narrower": "fails", "sparse": "fails", "plain_dies": "fails"},
            id="no-difference",
        ),
        pytest.param(
            simulated(lambda i, kind: 99),
            {"normalized_narrower": "undecided", "sparse": "fails", "plain_dies": "holds"},
            id="nothing-trains",
        ),
        pytest.param(
            simulated(lambda i, kind: 99 if kind == "normalized" and i["seed"] == 0 else law(i, kind)),
            {"normalized_narrower": "undecided", "plain_dies": "holds"},
            id="one-normalized-beyond",
        ),
        pytest.param(simulated(failure="stalls"), {"plain_dies": "fails", "sparse": "holds"}, id="stalls"),
        pytest.param(simulated(failure="singular"), {"plain_dies": "holds"}, id="singular"),
        pytest.param(
            simulated(end=1e-6),
            {"normalized_narrower": "invalid", "sparse": "invalid", "plain_dies": "invalid"},
            id="dense-networks-disagree",
        ),
    ],
)
def test_planted_diagrams_flip_the_claims_meant_for_them(results: Results, expected: dict[str, str]) -> None:
    found = verdicts(results)
    assert {claim: found[claim] for claim in expected} == expected


@pytest.mark.parametrize(
    ("alive", "verdict"), [(3, "holds"), (10, "holds"), (11, "undecided"), (18, "undecided"), (19, "fails")]
)
def test_deaths_at_alpha_three_tenths_follow_their_number(alive: int, verdict: str) -> None:
    def some_live(inputs: Inputs, kind: str) -> int:
        lives = kind == "plain" and inputs["alpha"] == 0.3 and inputs["seed"] < alive
        return inputs["widest"] if lives else law(inputs, kind)

    assert verdicts(simulated(some_live))["plain_dies"] == verdict


def test_widths_that_were_not_tried_are_no_evidence() -> None:
    results = [(inputs, result) for inputs, result in simulated() if inputs["alpha"] not in (0.3, 0.4)]
    found = verdicts(results)
    assert (found["sparse"], found["plain_dies"]) == ("invalid", "invalid")


def trace(*ratios: float) -> Trace[Any]:
    return Trace(None, np.cumprod([1.0, *ratios]), np.zeros(1), True, [])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("ratios", "expected"),
    [([0.1, 1e-8], "halves"), ([0.6, 1e-9], "converges"), ([3.0, 1e-9], "converges"), ([0.5] * 26, "stalls")],
)
def test_outcomes_of_runs_that_end(ratios: list[float], expected: str) -> None:
    def train(network: MultiLayerNetwork, X: FloatArray, y: FloatArray, **options: Any) -> Trace[Any]:  # noqa: ANN401
        assert options == {"trained_layers": (1, 2), "iterations": 27, "tolerance": 1e-8}
        return trace(*ratios)

    assert outcome_of(train) == expected


def outcome_of(train: Callable[..., Trace[Any]]) -> str:
    problem = problems.make("random", 4, 3, np.random.default_rng(0))
    network = initialize(8, 3, 2, shift=0.0, rng=np.random.default_rng(0))
    outcome, _ = deep_phase_diagram.run(network, problem, CodeUnderTest(deep_train=train))
    return outcome


def raising(error: Exception) -> Callable[..., Trace[Any]]:
    def train(*args: object, **options: object) -> Trace[Any]:
        raise error

    return train


def test_outcomes_of_runs_that_stop() -> None:
    errors = {
        "singular": SingularGramError("G"),
        "dies": DeadSignalError("dies"),
        "diverges": DivergenceError("diverged", np.ones(2)),
    }
    for expected, error in errors.items():
        assert outcome_of(raising(error)) == expected
    assert {*errors, *TRAINS, "stalls"} == set(OUTCOMES)


def measured(
    code: CodeUnderTest | None = None, *, trials: int = 2, settings: tuple[tuple[float, int, int], ...] = ((0.1, 6, 8),)
) -> Results:
    code = CodeUnderTest() if code is None else code
    results: Results = []
    for alpha, narrowest, widest in settings:
        for seed in range(trials):
            cell = {"depth": 2, "alpha": alpha, "narrowest": narrowest, "widest": widest, "seed": seed}
            rng = seeds.generator(0, "deep_phase_diagram", cell)
            results.append((cell, deep_phase_diagram.measure(cell, rng, code)))
    plain: Results = json.loads(json.dumps(results, allow_nan=False))
    return plain


SPARSE = ((0.3, 9, 9), (0.4, 11, 11))


def test_the_true_code_end_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    # Four trials bound a share by 0.473 from below or by 0.527 from above.
    monkeypatch.setattr(deep_phase_diagram, "DIES", {0.3: (9, 0.3), 0.4: (11, 0.4)})
    monkeypatch.setattr(deep_phase_diagram, "SPARSE_TRAINS", 0.4)
    monkeypatch.setattr(deep_phase_diagram, "SPARSE_PLAIN", 0.6)
    results = measured(trials=4, settings=((0.1, 6, 8), *SPARSE))
    for _, result in results:
        assert all(end <= deep_phase_diagram.CONFIRMED for end in result["ends"].values())
    found = verdicts(results)
    assert (found["sparse"], found["plain_dies"]) == ("holds", "holds")
    figure = Figure()
    deep_phase_diagram.plot(figure, results)
    figure.canvas.draw()
    assert len(figure.axes) == 2
    assert len(figure.legends[0].get_texts()) == len(OUTCOMES)


def test_the_reference_finds_the_same_outcomes() -> None:
    def train(network: MultiLayerNetwork, X: FloatArray, y: FloatArray, **options: Any) -> Trace[Any]:  # noqa: ANN401
        return reference.multi_layer_gauss_newton.train(network, X, y, **options)

    fast_results, slow_results = (measured(code) for code in (CodeUnderTest(), CodeUnderTest(deep_train=train)))
    assert [r["outcomes"] for _, r in fast_results] == [r["outcomes"] for _, r in slow_results]


def scaled(network: MultiLayerNetwork, X: FloatArray, y: FloatArray, *, iterations: int, **options: Any) -> Trace[Any]:  # noqa: ANN401
    """Take 0.4 of the first step, and report it truly."""
    run = fast.multi_layer_gauss_newton.train(network, X, y, iterations=1, **options)
    pairs = zip(network.weights, run.network.to_dense().weights, strict=True)
    end = replace(network, weights=tuple(W + 0.4 * (V - W) for W, V in pairs))
    norms = np.array([run.residual_norms[0], float(np.linalg.norm(end.predict(X) - y))])
    return replace(run, network=end, residual_norms=norms)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        pytest.param(CodeUnderTest(deep_train=scaled), {"sparse": "fails"}, id="step-0.4"),
        pytest.param(CodeUnderTest(deep_train=raising(DeadSignalError("dies"))), {"sparse": "fails"}, id="dies"),
        pytest.param(
            CodeUnderTest(deep_train=leaked_labels), {"sparse": "fails", "plain_dies": "fails"}, id="leaked-labels"
        ),
        pytest.param(CodeUnderTest(deep_initialize=never_normalized), {"sparse": "fails"}, id="never-normalized"),
        pytest.param(CodeUnderTest(deep_initialize=frozen_shift), {"plain_dies": "fails"}, id="frozen-shift"),
    ],
)
def test_planted_faults_fail_the_claims_meant_for_them(
    code: CodeUnderTest, expected: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deep_phase_diagram, "DIES", {0.3: (8, 0.6), 0.4: (9, 0.6)})
    monkeypatch.setattr(deep_phase_diagram, "SPARSE_EXPONENT", 9)
    found = verdicts(measured(code, trials=4, settings=((0.3, 8, 8), (0.4, 9, 9))))
    assert {claim: found[claim] for claim in expected} == expected


def test_a_lie_about_small_widths_withdraws_the_comparison() -> None:
    results = measured(CodeUnderTest(deep_train=leaked_labels))
    assert all(end == 1 for _, result in results for end in result["ends"].values())
    confirmed = [(inputs, {**result, "ends": {}}) for inputs, result in results]
    assert verdicts(confirmed)["normalized_narrower"] == "fails"  # nothing is narrower


def test_networks_that_are_never_normalized_are_not_narrower() -> None:
    code = CodeUnderTest(deep_initialize=never_normalized)
    assert verdicts(measured(code, trials=4))["normalized_narrower"] == "fails"


@pytest.mark.parametrize("thorough", [False, True])
def test_cells_are_distinct_and_plain(thorough: bool) -> None:
    cells = deep_phase_diagram.cells(Profile(thorough=thorough))
    assert len({json.dumps(cell, sort_keys=True) for cell in cells}) == len(cells)
    widest = {cell["alpha"]: cell["widest"] for cell in cells if cell["depth"] == 2}
    for alpha, (exponent, _) in deep_phase_diagram.DIES.items():
        assert exponent <= widest[alpha]
