"""The stability claims: oracles and measurement against definitions, verdicts on planted faults."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from scipy.integrate import quad
from scipy.stats import norm

import fast.gauss_newton
import reference.gauss_newton
from reference.notation import DivergenceError, FloatArray
from reference.trace import Trace
from reference.two_layer import TwoLayerNetwork, initialize
from verify import problems
from verify.claims import stability
from verify.experiment import CodeUnderTest, Inputs, Profile, Result
from verify.faults.stability import train_to_half_the_labels, train_with_strays, with_frozen_shift

Results = list[tuple[Inputs, Result]]
Option = int | float | str
INPUTS = {"width": 1 << 11, "seed": 0}


def simulated(**changes: Callable[[float], float]) -> Results:
    """Make results that follow the laws, each quantity multiplied by ``changes[quantity](m)``."""
    rng = np.random.default_rng(5)
    results: Results = []
    for exponent in range(stability.SMALLEST, stability.LARGEST + 1):
        for seed in range(stability.SEEDS):
            width = 1 << exponent
            result = {
                "radius": 4 * stability.push(width),
                "predicted_radius": 3 * stability.push(width),
                "fired": 1e5,
                "flips": 4e4 * stability.flip_share(width),
                "predicted_flips": 3.8e4 * stability.flip_share(width),
            }
            for name, value in result.items():
                change = changes.get(name, lambda m: 1.0)(width)
                result[name] = value * change * math.exp(0.02 * rng.standard_normal())
            results.append(({"width": width, "seed": seed}, {"fitted": True, **result}))
    return results


def verdicts(results: Results) -> dict[str, str]:
    return {finding.claim.split(".")[1]: finding.verdict for finding in stability.EXPERIMENT.decide(results)}


@given(angle=st.floats(0.05, math.pi - 0.05), shift=st.floats(0, 3))
def test_kernel_is_the_integral_over_the_correlation(angle: float, shift: float) -> None:
    X = np.array([[1.0, 0.0], [math.cos(angle), math.sin(angle)]])
    K = stability.kernel(X, shift)

    def density(theta: float) -> float:  # the design's integrand with s = sin(theta)
        return math.exp(-shift * shift / (1 + math.sin(theta))) / (2 * math.pi)

    tail = norm.cdf(-shift) ** 2 + quad(density, 0, math.asin(math.cos(angle)), epsabs=1e-13)[0]
    np.testing.assert_allclose(np.diag(K), norm.cdf(-shift), rtol=1e-12)
    assert K[0, 1] == K[1, 0] == pytest.approx(math.cos(angle) * tail, abs=1e-11)


def test_linearized_step_by_loops() -> None:
    rng = np.random.default_rng(0)
    problem = problems.make("random", 5, 4, rng)
    network = initialize(30, 4, shift=0.5, rng=rng)
    g = np.linalg.solve(stability.kernel(problem.X, 0.5), network.predict(problem.X) - problem.y)
    expected = np.zeros((30, 4))
    for r in range(30):
        for i in range(5):
            if network.weights[r] @ problem.X[i] >= 0.5:
                expected[r] -= network.signs[r] * g[i] * problem.X[i] / math.sqrt(30)
    step = stability.linearized_step(network, problem.X, problem.y)
    np.testing.assert_allclose(step, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("width", [2**11, 2**20])
def test_laws_by_their_formulas(width: int) -> None:
    b = math.sqrt(0.48 * math.log(width))
    push = 1 / (math.sqrt(width) * norm.cdf(-b))
    assert stability.push(width) == pytest.approx(push, rel=1e-12)
    assert stability.flip_share(width) == pytest.approx(push * norm.pdf(b) / norm.cdf(-b), rel=1e-12)


def reference_train(
    network: TwoLayerNetwork, X: FloatArray, y: FloatArray, *, search: str, **options: float
) -> Trace:
    assert search == "tree"
    return reference.gauss_newton.train(network, X, y, **options)


def test_measure_is_the_same_for_both_sides_and_by_the_definition() -> None:
    kept = SimpleNamespace()

    def remembering(network: TwoLayerNetwork, X: FloatArray, y: FloatArray, **options: Option) -> Trace:
        kept.start, kept.X = network, X
        kept.trace = reference_train(network, X, y, **options)
        return kept.trace

    plain = stability.measure(INPUTS, np.random.default_rng(1), CodeUnderTest(train=remembering))
    quick = stability.measure(INPUTS, np.random.default_rng(1), CodeUnderTest())
    json.dumps(plain, allow_nan=False)
    assert quick == pytest.approx(plain, rel=1e-7)
    end = kept.trace.network
    moves = [math.dist(before, after) for before, after in zip(kept.start.weights, end.weights, strict=True)]
    assert plain["radius"] == pytest.approx(max(moves), rel=1e-12)
    pairs = [(w0 @ x, w1 @ x) for w0, w1 in zip(kept.start.weights, end.weights, strict=True) for x in kept.X]
    assert plain["fired"] == sum(before >= end.shift for before, _ in pairs)
    assert plain["flips"] == sum((before >= end.shift) != (after >= end.shift) for before, after in pairs)
    assert plain["fitted"]


def test_the_laws_hold() -> None:
    findings = stability.EXPERIMENT.decide(simulated())
    assert [finding.claim for finding in findings] == [claim.id for claim in stability.CLAIMS]
    assert {finding.verdict for finding in findings} == {"holds"}


@pytest.mark.parametrize(
    ("changes", "caught"),
    [
        pytest.param({"radius": lambda m: m**0.3}, "falls", id="radius-grows"),
        pytest.param({"radius": lambda m: m**-0.2}, "radius", id="radius-falls-too-fast"),
        pytest.param({"radius": lambda m: m**0.2}, "radius", id="radius-stays"),
        pytest.param({"predicted_radius": lambda m: 0.6}, "within", id="radius-beyond"),
        pytest.param({"flips": lambda m: m**0.3}, "flips", id="flips-grow"),
        pytest.param({"flips": lambda m: 1.3}, "predicted", id="more-flips"),
        pytest.param({"flips": lambda m: 0.7}, "predicted", id="fewer-flips"),
    ],
)
def test_planted_laws_fail_the_claim_meant_for_them(
    changes: dict[str, Callable[[float], float]], caught: str
) -> None:
    assert verdicts(simulated(**changes))[caught] == "fails"


def train_not_at_all(network: TwoLayerNetwork, X: FloatArray, y: FloatArray, **options: Option) -> Trace:
    return fast.gauss_newton.train(network, X, y, **{**options, "iterations": 0})


def train_and_diverge(*args: object, **options: object) -> Trace:
    raise DivergenceError("training diverged", np.array([1.0, 1e4]))


@pytest.mark.parametrize("train", [train_to_half_the_labels, train_not_at_all, train_and_diverge])
def test_a_run_that_does_not_fit_is_no_evidence(train: Callable[..., Trace]) -> None:
    result = stability.measure(INPUTS, np.random.default_rng(0), CodeUnderTest(train=train))
    assert not result["fitted"]
    findings = stability.EXPERIMENT.decide([*simulated()[1:], (INPUTS, result)])
    assert [finding.verdict for finding in findings] == ["invalid"] * len(stability.CLAIMS)
    stability.plot(Figure(), [*simulated()[1:], (INPUTS, result)])


def measured(code: CodeUnderTest) -> dict[str, str]:
    inputs = [{"width": 1 << exponent, "seed": seed} for exponent in (11, 12, 13, 14) for seed in range(8)]
    rng = np.random.default_rng(0)
    return verdicts([(i, stability.measure(i, rng, code)) for i in inputs])


def test_stray_neurons_break_the_radius_but_not_the_fit() -> None:
    found = measured(CodeUnderTest(train=train_with_strays))
    assert found["within"] == "fails"
    assert found["predicted"] == "holds"


def test_a_frozen_shift_breaks_the_law_of_the_radius() -> None:
    assert measured(CodeUnderTest())["radius"] != "fails"
    assert measured(CodeUnderTest(initialize=with_frozen_shift))["radius"] == "fails"


@pytest.mark.parametrize("thorough", [False, True])
def test_cells_are_distinct_and_plain(thorough: bool) -> None:
    cells = stability.cells(Profile(thorough=thorough))
    assert len({json.dumps(cell, sort_keys=True) for cell in cells}) == len(cells)
    assert all(cell in stability.cells(Profile(thorough=True)) for cell in cells)


def test_plot_shows_measurement_prediction_and_law() -> None:
    figure = Figure()
    stability.plot(figure, simulated())
    figure.canvas.draw()
    for axes in figure.axes:
        labels = [text.get_text() for text in axes.get_legend().get_texts()]
        assert labels[1] == "one linearized step"
        assert labels[2].startswith("law")
