"""The claims about the first ratio: the pair law and its limits, verdicts on known truths, and planted faults."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import astuple, replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from scipy.integrate import quad
from scipy.special import ndtr
from scipy.stats import norm, t

import fast.gauss_newton
import reference.gauss_newton
from fast.lazy_width import LazyNetwork
from reference.notation import DivergenceError, FloatArray, NothingFiresError
from reference.trace import Trace
from reference.two_layer import TwoLayerNetwork
from verify import problems, seeds
from verify.claims import first_ratio
from verify.experiment import CodeUnderTest, Inputs, Profile, Result

Results = list[tuple[Inputs, Result]]
ALL = {"law", "slope", "falls", "slow", "stays", "limit", "crowded"}


@given(T=st.floats(0.01, 30), c=st.floats(-0.9, 0.9), b=st.floats(0.5, 7), side=st.sampled_from([1, -1]))
def test_flips_is_its_integral(T: float, c: float, b: float, side: int) -> None:
    def integrand(s: float) -> float:
        score = b + side * s
        return float((T - s) * norm.pdf(score) * norm.cdf((c * score - b) / math.sqrt(1 - c * c)))

    # In pieces, so that no narrow peak is missed.
    ends = np.linspace(0, min(T, 2 * b + 9), 9)
    expected = sum(quad(integrand, *piece, epsabs=0, epsrel=1e-10)[0] for piece in pairwise(ends))
    found = first_ratio.flips(np.array([T]), np.array([c]), b, side=side)
    assert float(found[0]) == pytest.approx(expected, rel=1e-6, abs=1e-30)


@pytest.mark.parametrize("c", [0.6, -0.6, 0.1])
@pytest.mark.parametrize("g", [(8.0, -3.0), (8.0, 8.0), (-300.0, 200.0)])
def test_for_two_points_the_pair_law_is_the_mean_by_definition(g: tuple[float, float], c: float) -> None:
    # No third point takes part, so nothing is neglected: integrate over scores and signs on a fine grid.
    m, b = 400, 1.2
    h = 0.01
    z = np.arange(-9, 9, h) + h / 2  # the threshold is an end of a step, so the midpoint rule stays accurate
    u = np.stack([z[:, np.newaxis] + 0 * z, c * z[:, np.newaxis] + math.sqrt(1 - c * c) * z])
    density = norm.pdf(z)[:, np.newaxis] * norm.pdf(z) * h * h
    drift = np.tensordot([[1, c], [c, 1]], np.array(g)[:, np.newaxis, np.newaxis] * (u >= b), axes=1) / math.sqrt(m)
    expected = np.zeros(2)
    for sign in (1, -1):
        moved = u - sign * drift
        beyond_linear = np.maximum(moved - b, 0) - np.maximum(u - b, 0) + sign * drift * (u >= b)
        expected += math.sqrt(m) / 2 * sign * (beyond_linear * density).sum(axis=(1, 2))
    C, fired = np.array([[1, c], [c, 1]]), np.full(2, m * float(ndtr(-b)))
    found = first_ratio.pair_law(np.array(g), C, fired, width=m, shift=b)
    np.testing.assert_allclose(found, expected, atol=0.004 * np.abs(expected).max())


def typical(r: FloatArray, C: FloatArray, width: int, alpha: float) -> FloatArray:
    """Apply the law where ``g = r / Phi(-b)`` and every point fires its mean."""
    shift = math.sqrt(2 * alpha * math.log(width))
    tail = float(ndtr(-shift))
    return first_ratio.pair_law(r / tail, C, np.full(len(r), width * tail), width=width, shift=shift)


def test_the_limit_above_one_half() -> None:
    problem = problems.make("random", 12, 6, np.random.default_rng(1))
    C = problem.X @ problem.X.T
    errors = [
        np.linalg.norm(typical(problem.y, C, 2**power, 0.8) - (problem.y - C @ problem.y / 2))
        for power in (50, 100, 200)
    ]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-3


@pytest.mark.parametrize("power", [40, 60, 90])
@pytest.mark.parametrize("alpha", [0.3, 0.45, 0.5, 0.6])
def test_the_first_line_alone_follows_its_curve(alpha: float, power: int) -> None:
    ratio = float(typical(np.array([1.0]), np.eye(1), 2**power, alpha)[0])
    b2 = 2 * alpha * power * math.log(2)
    z = math.sqrt(2 * math.pi) * b2 * 2.0 ** (power * (alpha - 0.5))
    curve = z / 4 if z < 1e-4 else (1 + math.expm1(-z) / z) / 2
    assert ratio == pytest.approx(curve, rel=3 / b2)


def test_below_one_half_the_ratio_falls_only_past_its_peak() -> None:
    def ratio(power: int) -> float:
        return float(typical(np.array([1.0]), np.eye(1), 2**power, 0.4)[0])

    # ln m > 1 / (1/2 - 0.4), that is, m > 2^14.4.
    assert ratio(8) < ratio(13)
    assert ratio(18) > ratio(30) > 2 * ratio(90)


def test_the_mean_ratio_in_the_limit() -> None:
    rng = np.random.default_rng(2)
    squares = []
    for _ in range(3000):
        problem = problems.make("random", 32, 16, rng)
        squares.append(np.mean((problem.y - problem.X @ (problem.X.T @ problem.y) / 2) ** 2))
    assert math.sqrt(np.mean(squares)) == pytest.approx(math.sqrt(1 + 31 / 16) / 2, rel=0.01)


def test_the_law_takes_the_fired_counts_as_they_are() -> None:
    # Far above the threshold each neuron counts in full: residual = r - C (k g / m) / 2 with r = k g / m at its mean.
    C = np.array([[1.0, 0.5], [0.5, 1.0]])
    g, width, shift, fired = np.array([3e5, -2e5]), 10**6, 4.0, np.array([20.0, 45.0])
    law = first_ratio.pair_law(g, C, fired, width=width, shift=shift)
    driven = fired * g / width / 2
    np.testing.assert_allclose(law, driven - (C - np.eye(2)) @ driven, rtol=0.03)


def test_intervals_over_several_alphas_err_jointly() -> None:
    column = [(1.0, {"failure": "", "measured": value}) for value in (1.0, 2.0, 4.0, 3.0)]
    found = first_ratio.mean_of([column], first_ratio.log_measured, 5)
    assert (found.high - found.estimate) == pytest.approx(t.ppf(0.995, 3) * np.std([1, 2, 3, 4], ddof=1) / 2)
    rows = [[(log_m, {"failure": "", "measured": slope * log_m}) for slope in (1.0, 2.0, 4.0, 3.0)] for log_m in (1, 2)]
    assert astuple(first_ratio.slope_of(rows, first_ratio.log_measured, 5)) == pytest.approx(astuple(found))


def full_draw(X: FloatArray, *, width: int, shift: float, rng: np.random.Generator) -> TwoLayerNetwork:
    return TwoLayerNetwork(rng.standard_normal((width, X.shape[1])), rng.choice([-1.0, 1.0], size=width), shift)


def test_the_measured_ratio_is_that_of_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_ratio, "SIZES", {"random": (4, 3)})
    monkeypatch.setattr(first_ratio, "FEWEST_FIRED", 300)
    inputs = {"family": "random", "alpha": 0.2, "width": 1 << 10, "seed": 0}
    result = first_ratio.measure(inputs, np.random.default_rng(3), replace(CodeUnderTest(), lazy_initialize=full_draw))
    rng = np.random.default_rng(3)
    logs = []
    for _ in range(7):  # 48 neurons fire on a point
        problem = problems.make("random", 4, 3, rng)
        network = full_draw(problem.X, width=1 << 10, shift=math.sqrt(0.4 * math.log(1 << 10)), rng=rng)
        norms = reference.gauss_newton.train(network, problem.X, problem.y, iterations=1).residual_norms
        logs.append(math.log(norms[1] / norms[0]))
    assert result["networks"] == 7
    assert result["measured"] == pytest.approx(np.mean(logs), rel=1e-9)


def simulated(**changes: Callable[[float, float, int], float]) -> Results:
    """Make results in which every claim holds, with ``changes`` added: functions of alpha, log m and seed."""
    results: Results = []
    for inputs in first_ratio.cells(Profile()):
        alpha, log_m, seed = inputs["alpha"], math.log(inputs["width"]), inputs["seed"]
        noise = 0.002 * math.sin(17 * seed + log_m + 100 * alpha)
        limit = math.log(1.5 if inputs["family"] == "crowded" else 0.86)
        predicted = limit + min(0.0, (alpha - 0.5) * 0.6) * log_m if alpha < 0.4 else limit
        result: Result = {"failure": "", "networks": 2, "predicted": predicted, "limit": limit}
        result["measured"] = predicted + noise
        for name, change in changes.items():
            result[name] += change(alpha, log_m, seed)
        results.append((inputs, result))
    return results


def verdicts(results: Results) -> dict[str, str]:
    return {finding.claim.split(".")[1]: finding.verdict for finding in first_ratio.EXPERIMENT.decide(results)}


def test_simulated_truth_holds_in_the_order_of_the_claims() -> None:
    findings = first_ratio.EXPERIMENT.decide(simulated())
    assert [finding.claim for finding in findings] == [claim.id for claim in first_ratio.CLAIMS]
    assert {finding.verdict for finding in findings} == {"holds"}
    assert {finding.claim.split(".")[1] for finding in findings} == ALL


@pytest.mark.parametrize(
    ("measured", "verdict"),
    [
        pytest.param(lambda a, log_m, seed: 0.05 * (a == 0.5), {"law": "fails"}, id="one-alpha-off-the-law"),
        pytest.param(
            lambda a, log_m, seed: 0.1 * (a == 0.3) * (log_m - math.log(2) * 50 / 3),
            {"slope": "fails", "falls": "fails"},
            id="a-slope-of-its-own",
        ),
        pytest.param(
            lambda a, log_m, seed: 0.2 * (a < 0.4) * log_m,
            {"law": "fails", "slope": "fails", "falls": "fails"},
            id="does-not-fall",
        ),
        pytest.param(
            lambda a, log_m, seed: -0.1 * (a == 0.4) * log_m,
            {"law": "fails", "slope": "fails", "slow": "fails"},
            id="falls-as-in-the-limit",
        ),
        pytest.param(
            lambda a, log_m, seed: -0.03 * (a == 0.6) * (log_m - math.log(2) * 95 / 3),
            {"slope": "fails", "stays": "fails"},
            id="falls-above-one-half",
        ),
        pytest.param(
            lambda a, log_m, seed: math.log(0.5 / 0.86) * (a == 0.75),
            {"law": "fails", "limit": "fails"},
            id="one-half",
        ),
        pytest.param(
            lambda a, log_m, seed: -math.log(1.5) * (log_m == first_ratio.CROWDED_EXPONENT * math.log(2)),
            {"crowded": "fails"},
            id="does-not-grow",
        ),
        pytest.param(
            lambda a, log_m, seed: 0.1 * (-1) ** seed, {"law": "undecided", "limit": "undecided"}, id="noisy"
        ),
    ],
)
def test_verdicts_follow_what_was_measured(
    measured: Callable[[float, float, int], float], verdict: dict[str, str]
) -> None:
    assert verdicts(simulated(measured=measured)) == dict.fromkeys(ALL, "holds") | verdict


def test_the_worst_alpha_is_named() -> None:
    law, *_ = first_ratio.EXPERIMENT.decide(simulated(measured=lambda a, log_m, seed: 0.05 * (a == 0.5)))
    assert law.estimate == pytest.approx(0.05, abs=0.002)
    assert "alpha=0.5" in law.reason


@pytest.mark.parametrize("alpha", [0.2, 0.4, 0.75])
def test_a_failed_cell_is_no_evidence(alpha: float) -> None:
    results = simulated()
    where = next(k for k, (inputs, _) in enumerate(results) if inputs["alpha"] == alpha)
    results[where] = (results[where][0], {"failure": "DivergenceError", "networks": 2})
    found = verdicts(results)
    assert found["law"] == found["slope"] == "invalid"
    touched = {0.2: "falls", 0.4: "slow", 0.75: "limit"}[alpha]
    assert found[touched] == "invalid"
    assert found["crowded"] == "holds"


def measured(code: CodeUnderTest) -> Results:
    """Measure two seeds of a few cells, and take their results for the seeds and widths that were left out."""
    results: Results = []
    for family, alpha, power in (("random", 0.2, 13), ("random", 0.75, 44), ("crowded", 0.7, 42)):
        for seed in range(2):
            inputs = {"family": family, "alpha": alpha, "width": 1 << power, "seed": seed}
            rng = seeds.generator(0, "first_ratio", inputs)
            results.append((inputs, json.loads(json.dumps(first_ratio.measure(inputs, rng, code), allow_nan=False))))
    return results


def merged(own: Results) -> Results:
    """Put measured results of an alpha in the place of all simulated ones of that alpha."""
    known = {(inputs["family"], inputs["alpha"], inputs["seed"]): result for inputs, result in own}
    return [(i, known.get((i["family"], i["alpha"], i["seed"] % 2), result)) for i, result in simulated()]


def test_the_true_code_end_to_end() -> None:
    results = merged(measured(CodeUnderTest()))
    found = verdicts(results)
    assert found["law"] == found["slope"] == found["limit"] == found["crowded"] == found["stays"] == "holds"
    figure = Figure()
    first_ratio.plot(figure, results)
    figure.canvas.draw()


class Lying:
    """Report a perfect run, and hand back the untrained network."""

    def __init__(self, network: LazyNetwork) -> None:
        self.network = network
        self.residual_norms = np.array([1.0, 0.01])


Train = Callable[..., Trace | Lying]


def untrained(network: LazyNetwork, X: FloatArray, y: FloatArray, **options: int) -> Lying:
    return Lying(network)


def scaled(factor: float) -> Train:
    def train(network: LazyNetwork, X: FloatArray, y: FloatArray, *, iterations: int) -> Trace:
        trace = fast.gauss_newton.train(network, X, y, iterations=iterations)
        start = network.weights[trace.network.moved]
        weights = start + factor * (trace.network.moved_weights() - start)
        return replace(trace, network=replace(trace.network, coefficients=None, weights=weights))

    return train


@pytest.mark.parametrize(
    ("fault", "caught"),
    [
        ({"train": scaled(0.9)}, {"law"}),
        ({"train": scaled(1.1)}, {"law", "limit"}),
        ({"train": untrained}, {"law", "limit", "crowded"}),
    ],
    ids=["step-0.9", "step-1.1", "untrained"],
)
def test_faulty_training_is_caught(fault: dict[str, Train], caught: set[str]) -> None:
    found = verdicts(merged(measured(replace(CodeUnderTest(), **fault))))
    assert {name for name in ALL if found[name] != "holds"} >= caught
    assert found["law"] == "fails"


@pytest.mark.parametrize("error", [NothingFiresError("nothing fires"), DivergenceError("diverged", np.ones(2))])
def test_a_step_that_fails_is_named(error: Exception) -> None:
    def train(*args: object, **options: object) -> Trace:
        raise error

    results = measured(replace(CodeUnderTest(), train=train))
    assert {result["failure"] for _, result in results} == {type(error).__name__}
    found = verdicts(merged(results))
    assert found["law"] == found["limit"] == found["crowded"] == "invalid"


@pytest.mark.parametrize("thorough", [False, True])
def test_cells_are_distinct_and_plain(thorough: bool) -> None:
    cells = first_ratio.cells(Profile(thorough=thorough))
    assert len({json.dumps(cell, sort_keys=True) for cell in cells}) == len(cells)
    assert all(cell in first_ratio.cells(Profile(thorough=True)) for cell in cells)


def test_every_point_fires_a_hundred_neurons() -> None:
    for alpha, powers in first_ratio.EXPONENTS.items():
        shift = math.sqrt(2 * alpha * powers[0] * math.log(2))
        assert 2.0 ** powers[0] * ndtr(-shift) > 100
