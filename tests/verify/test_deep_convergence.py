"""The claims on convergence of many layers: verdicts on hand-made residuals, and planted faults."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

import fast.multi_layer_gauss_newton
import reference.multi_layer
from reference.multi_layer import MultiLayerNetwork
from reference.notation import DivergenceError, FloatArray, SingularGramError
from reference.signals import DeadSignalError
from reference.trace import Trace
from verify import seeds
from verify.claims import deep_convergence
from verify.experiment import CodeUnderTest, Inputs, Profile, Result
from verify.faults.deep_routines import Step04, in_whole_blocks, leaked_labels, train_by
from verify.faults.stepwise import Stepwise

Results = list[tuple[Inputs, Result]]


def falling(ratio: float, steps: int) -> list[float]:
    return [float(ratio**step) for step in range(steps + 1)]


def trial(residuals: list[float], failure: str = "") -> Result:
    ends = {"start": residuals[0], "end": residuals[-1]}
    return {"residuals": residuals, "failure": failure, **ends}


GOOD, LATE, LOST = trial(falling(0.1, 11)), trial([1.0, 0.8, *falling(0.1, 11)]), trial([1.0], "DeadSignalError")
SHARES = {"normalized": 0.95, "deep_sparse": 0.2, "narrow_2": 0.4, "narrow_3": 0.2}


def simulated(change: Callable[[Inputs], Result | None] = lambda inputs: None) -> Results:
    """Make results in which every claim holds; ``change`` puts another result in the place of some."""
    results: Results = []
    for inputs in deep_convergence.cells(Profile()):
        family = inputs["family"]
        if family == "first_ratio":
            result = trial([1.0, 3 * inputs["width"] ** -0.5 * 1.02 ** inputs["seed"]])
        else:
            trials = deep_convergence.SETTINGS[family].trials
            good = inputs["seed"] < round(SHARES.get(family, 1.0) * trials)
            result = GOOD if good else (LOST if family.startswith("narrow") else LATE)
        results.append((inputs, change(inputs) or result))
    return results


def verdicts(results: Results) -> dict[str, str]:
    return {finding.claim.split(".")[1]: finding.verdict for finding in deep_convergence.EXPERIMENT.decide(results)}


def first(count: int, result: Result, *families: str) -> Callable[[Inputs], Result | None]:
    return lambda inputs: result if inputs["family"] in families and inputs["seed"] < count else None


def test_simulated_truth_holds_in_the_order_of_the_claims() -> None:
    results = simulated()
    findings = deep_convergence.EXPERIMENT.decide(results)
    assert [finding.claim for finding in findings] == [claim.id for claim in deep_convergence.CLAIMS]
    assert {finding.verdict for finding in findings} == {"holds"}
    figure = Figure()
    deep_convergence.plot(figure, results)
    figure.canvas.draw()


@pytest.mark.parametrize(
    ("change", "claim", "verdict"),
    [
        (first(1, LATE, "two_layers"), "random", "undecided"),
        (first(9, LATE, "three_layers"), "random", "fails"),
        (first(9, LOST, "deep"), "deep", "fails"),
        (first(30, GOOD, "deep_sparse"), "deep_sparse", "fails"),
        (first(9, LOST, "deep_sparse"), "deep_sparse", "fails"),
        (first(3, LOST, "deep_sparse"), "deep_sparse", "undecided"),
        (first(36, GOOD, "narrow_3"), "narrow", "fails"),
        (first(24, GOOD, "narrow_2"), "narrow", "undecided"),
    ],
)
def test_verdicts_follow_the_number_of_successes(
    change: Callable[[Inputs], Result | None], claim: str, verdict: str
) -> None:
    found = verdicts(simulated(change))
    assert found.pop(claim) == verdict
    assert set(found.values()) == {"holds"}


def test_arriving_and_halving_every_time_are_two_claims() -> None:
    found = verdicts(simulated(first(30, LATE, "normalized")))
    assert (found["normalized"], found["every"]) == ("holds", "fails")
    found = verdicts(simulated(first(16, LOST, "normalized")))
    assert (found["normalized"], found["every"]) == ("fails", "fails")


@pytest.mark.parametrize(
    ("exponent", "verdict"), [(0.0, "fails"), (-0.09, "fails"), (-0.3, "holds"), (float("nan"), "invalid")]
)
def test_first_ratios_must_fall(exponent: float, verdict: str) -> None:
    def change(inputs: Inputs) -> Result | None:
        if inputs["family"] != "first_ratio":
            return None
        return trial([1.0, inputs["width"] ** exponent * 1.02 ** inputs["seed"]])

    assert verdicts(simulated(change))["first_ratio"] == verdict


def test_a_run_in_one_go_is_judged_by_its_dense_end() -> None:
    assert deep_convergence.arrives(GOOD)
    assert not deep_convergence.arrives({**GOOD, "end": 1e-9})
    assert not deep_convergence.arrives({**GOOD, "failure": "DivergenceError"})


def measured(family: str, code: CodeUnderTest | None = None, *, trials: int = 3) -> Results:
    code = CodeUnderTest() if code is None else code
    widths = [deep_convergence.SETTINGS[family].width] if family != "first_ratio" else [256, 512]
    cells = [{"family": family, "width": width, "seed": seed} for width in widths for seed in range(trials)]
    results = [(c, deep_convergence.measure(c, seeds.generator(0, "deep_convergence", c), code)) for c in cells]
    plain: Results = json.loads(json.dumps(results, allow_nan=False))
    return plain


def replaced(train: Callable[..., Trace[Any]]) -> CodeUnderTest:
    """Let a routine train whole runs and single iterations."""
    return CodeUnderTest(deep_train=train, start_deep=partial(Stepwise, train))


def with_measured(*families: str, code: CodeUnderTest | None = None, trials: int = 3) -> Results:
    kept = [(inputs, result) for inputs, result in simulated() if inputs["family"] not in families]
    return kept + [each for family in families for each in measured(family, code, trials=trials)]


def test_the_true_code_end_to_end() -> None:
    families = ("two_layers", "three_layers", "deep", "first_ratio")
    results = with_measured(*families)
    assert all(deep_convergence.halves(r) for i, r in results if i["family"] in families[:3])
    # Three trials are too few to hold.
    assert {"fails", "invalid"}.isdisjoint(verdicts(results).values())
    figure = Figure()
    deep_convergence.plot(figure, results)
    figure.canvas.draw()


def test_sparse_and_narrow_networks_of_the_true_code(monkeypatch: pytest.MonkeyPatch) -> None:
    for family in ("normalized", "deep_sparse"):
        smaller = replace(deep_convergence.SETTINGS[family], width=512, alpha=0.1)
        monkeypatch.setitem(deep_convergence.SETTINGS, family, smaller)
        assert all(deep_convergence.arrives(result) for _, result in measured(family, trials=2))
    assert not all(deep_convergence.halves(result) for _, result in measured("narrow_3", trials=6))


def gradient_descent(network: Any, X: FloatArray, y: FloatArray, **options: Any) -> Trace[Any]:  # noqa: ANN401
    """Step along the gradient, as far as the largest curvature allows."""
    start = network.to_dense()
    layers = options["trained_layers"]
    signals = reference.multi_layer.forward(start, X)
    P = reference.multi_layer.backward(start, signals)
    residual = signals.hidden[-1] @ start.signs - y
    rate = 1 / np.linalg.eigvalsh(reference.multi_layer.gram_from(P, signals.hidden, layers))[-1]
    factors = zip(start.weights, P, signals.hidden[:-1], strict=True)
    weights = [W - (rate * p * residual[:, None]).T @ h for W, p, h in factors]
    return Trace(replace(start, weights=tuple(weights)), np.ones(2), y, False, [])


def one_layer(network: Any, X: FloatArray, y: FloatArray, **options: Any) -> Trace[Any]:  # noqa: ANN401
    """Solve for all layers, and move the last one alone."""
    trace = fast.multi_layer_gauss_newton.train(network, X, y, **options)
    start, end = network.to_dense(), trace.network.to_dense()
    return replace(trace, network=replace(start, weights=(*start.weights[:-1], end.weights[-1])))


def raising(error: Exception) -> Callable[..., Trace[Any]]:
    def train(*args: object, **options: object) -> Trace[Any]:
        raise error

    return train


@pytest.mark.parametrize(
    "train",
    [
        partial(train_by, Step04),
        gradient_descent,
        leaked_labels,
        one_layer,
        raising(SingularGramError("singular")),
        raising(DeadSignalError("dies")),
        raising(DivergenceError("diverged", np.ones(2))),
    ],
    ids=["step-0.4", "gradient-descent", "leaked-labels", "one-layer", "singular", "dies", "diverges"],
)
def test_faulty_training_fails_its_claims(train: Callable[..., Trace[Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deep_convergence, "HALVINGS", 4)
    results = with_measured("two_layers", "deep", code=replaced(train))
    found = verdicts(results)
    assert (found["random"], found["deep"]) == ("fails", "fails")


def test_narrow_networks_that_are_drawn_wide_fail_the_narrow_claim() -> None:
    found = verdicts(with_measured("narrow_2", code=CodeUnderTest(deep_initialize=in_whole_blocks), trials=20))
    assert found["narrow"] == "fails"


def test_networks_far_too_narrow_fail_the_random_claim() -> None:
    def initialize(width: int, *args: Any, **options: Any) -> MultiLayerNetwork:  # noqa: ANN401
        return reference.multi_layer.initialize(24, *args, **options)

    found = verdicts(with_measured("two_layers", code=CodeUnderTest(deep_initialize=initialize)))
    assert found["random"] == "fails"


def test_lying_about_the_end_of_a_run_in_one_go_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    for family in ("normalized", "deep_sparse"):
        smaller = replace(deep_convergence.SETTINGS[family], width=256, alpha=0.1)
        monkeypatch.setitem(deep_convergence.SETTINGS, family, smaller)
    results = with_measured("normalized", "deep_sparse", code=replaced(leaked_labels), trials=6)
    found = verdicts(results)
    assert (found["normalized"], found["every"], found["deep_sparse"]) == ("fails", "fails", "fails")


def test_a_first_step_that_width_does_not_help_fails() -> None:
    found = verdicts(with_measured("first_ratio", code=replaced(partial(train_by, Step04))))
    assert found["first_ratio"] == "fails"


def test_failures_are_named_and_keep_their_residuals() -> None:
    code = replaced(raising(DeadSignalError("dies")))
    (_, result), *_ = measured("two_layers", code)
    assert result["failure"] == "DeadSignalError"
    assert len(result["residuals"]) == 1


@pytest.mark.parametrize("thorough", [False, True])
def test_cells_are_distinct_and_plain(thorough: bool) -> None:
    cells = deep_convergence.cells(Profile(thorough=thorough))
    assert len({json.dumps(cell, sort_keys=True) for cell in cells}) == len(cells)
    assert all(cell in deep_convergence.cells(Profile(thorough=True)) for cell in cells)
