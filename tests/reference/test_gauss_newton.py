"""Reference training against the definition: loops over neurons and data, finite differences, stops and errors."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given

from reference.gauss_newton import take_steps, train
from reference.notation import (
    DIVERGENCE_FACTOR,
    DivergenceError,
    FloatArray,
    InputError,
    NothingFiresError,
    SingularGramError,
)
from reference.two_layer import TwoLayerNetwork, initialize, preactivations, shift_for
from verify.problems import make
from verify.strategies import Case, training_cases


def step_by_loops(network: TwoLayerNetwork, X: FloatArray, y: FloatArray) -> FloatArray:
    """Take one step neuron by neuron and point by point, from scalar sums alone."""
    n, m = len(X), network.width
    fires = [[math.fsum(w * x) >= network.shift for w in network.weights] for x in X]
    f = np.zeros(n)
    for i in range(n):
        for r in range(m):
            if fires[i][r]:
                f[i] += network.signs[r] * (math.fsum(network.weights[r] * X[i]) - network.shift) / math.sqrt(m)
    G = np.empty((n, n))
    for i in range(n):
        for j in range(n):
            G[i, j] = math.fsum(X[i] * X[j]) * sum(p and q for p, q in zip(fires[i], fires[j], strict=True)) / m
    g = np.linalg.solve(G, f - y)
    weights = network.weights.copy()
    for r in range(m):
        for i in range(n):
            if fires[i][r]:
                weights[r] -= network.signs[r] * g[i] * X[i] / math.sqrt(m)
    return weights


def small(family: str = "random") -> tuple[TwoLayerNetwork, FloatArray, FloatArray]:
    rng = np.random.default_rng(8)
    problem = make(family, 4, 3, rng)
    return initialize(120, 3, shift=0.6, rng=rng), problem.X, problem.y


@pytest.mark.parametrize("family", ["random", "pairs", "twins"])
def test_one_step_by_loops_over_neurons_and_data(family: str) -> None:
    network, X, y = small(family)
    trace = train(network, X, y, iterations=1)
    np.testing.assert_allclose(trace.network.weights, step_by_loops(network, X, y), atol=1e-11)


def test_several_steps_are_one_step_repeated() -> None:
    network, X, y = small()
    expected, norms = network, [float(np.linalg.norm(network.predict(X) - y))]
    for _ in range(3):
        expected = TwoLayerNetwork(step_by_loops(expected, X, y), network.signs, network.shift)
        norms.append(float(np.linalg.norm(expected.predict(X) - y)))
    trace = train(network, X, y, iterations=3)
    np.testing.assert_allclose(trace.network.weights, expected.weights, atol=1e-10)
    np.testing.assert_allclose(trace.residual_norms, norms, atol=1e-11)
    np.testing.assert_allclose(trace.predictions, expected.predict(X), atol=1e-11)


def test_the_step_is_newton_s_by_finite_differences() -> None:
    # The derivative along the step, by central differences away from the kink, must cancel the residual.
    network, X, y = small()
    step = train(network, X, y, iterations=1).network.weights - network.weights
    h = 1e-7
    assert (np.abs(preactivations(network, X) - network.shift) > 2 * h * np.abs(step @ X.T).T).all()
    ahead, behind = (
        TwoLayerNetwork(network.weights + sign * h * step, network.signs, network.shift).predict(X) for sign in (1, -1)
    )
    np.testing.assert_allclose((ahead - behind) / (2 * h), y - network.predict(X), atol=1e-7)


def test_the_step_is_the_shortest_that_fits_the_linear_model() -> None:
    network, X, y = small()
    step = train(network, X, y, iterations=1).network.weights - network.weights
    U, m = preactivations(network, X), network.width
    J = np.zeros((4, m, 3))
    for i in range(4):
        for r in range(m):
            if U[i, r] >= network.shift:
                J[i, r] = network.signs[r] * X[i] / math.sqrt(m)
    shortest = np.linalg.lstsq(J.reshape(4, -1), y - network.predict(X), rcond=None)[0]
    np.testing.assert_allclose(step.ravel(), shortest, atol=1e-11)


@given(training_cases())
def test_every_report_is_recomputed_from_the_weights(case: Case) -> None:
    before = case.network.weights.copy(), case.X.copy(), case.y.copy()
    try:
        trace = train(case.network, case.X, case.y, iterations=3)
    except (NothingFiresError, SingularGramError, DivergenceError):
        assume(False)
    predictions = trace.network.predict(case.X)
    np.testing.assert_allclose(trace.predictions, predictions, atol=1e-12 * (1 + np.abs(case.y).max()))
    last = float(np.linalg.norm(predictions - case.y))
    assert trace.residual_norms[-1] == pytest.approx(last, abs=1e-12 * (1 + float(np.linalg.norm(case.y))))
    assert len(trace.residual_norms) == len(trace.counts) + 1 == 4
    for now, then in zip((case.network.weights, case.X, case.y), before, strict=True):
        np.testing.assert_array_equal(now, then)
    # Who fires nowhere has no gradient, so it never moves, so it never fires.
    silent = (preactivations(case.network, case.X) < case.network.shift).all(axis=0)
    np.testing.assert_array_equal(trace.network.weights[silent], case.network.weights[silent])


def test_a_neuron_on_its_kink_moves() -> None:
    # Neuron 0 sits on the kink and neuron 1 above it: both fire, f = 1 / sqrt(2), G = 1, and g = f - y.
    network = TwoLayerNetwork([[1.0, 0.0], [2.0, 0.0]], [1.0, 1.0], 1.0)
    trace = train(network, [[1.0, 0.0]], [0.0], iterations=1)
    g = 1 / math.sqrt(2)
    expected = [[1 - g / math.sqrt(2), 0.0], [2 - g / math.sqrt(2), 0.0]]
    np.testing.assert_allclose(trace.network.weights, expected, atol=1e-15)


def wide() -> tuple[TwoLayerNetwork, FloatArray, FloatArray]:
    rng = np.random.default_rng(5)
    problem = make("random", 6, 8, rng)
    return initialize(4000, 8, shift=shift_for(4000, 0.1), rng=rng), problem.X, problem.y


def test_training_stops_at_the_tolerance() -> None:
    network, X, y = wide()
    trace = train(network, X, y, iterations=30, tolerance=1e-6)
    assert trace.converged
    assert trace.residual_norms[-1] <= 1e-6 * trace.residual_norms[0] < trace.residual_norms[-2]
    assert len(trace.counts) == len(trace.residual_norms) - 1 < 30


def test_a_run_that_is_cut_short_has_not_converged() -> None:
    network, X, y = wide()
    assert not train(network, X, y, iterations=1, tolerance=1e-6).converged


def test_no_iterations_return_the_network_itself() -> None:
    network, X, y = wide()
    trace = train(network, X, y, iterations=0)
    np.testing.assert_array_equal(trace.network.weights, network.weights)
    assert trace.residual_norms.tolist() == [float(np.linalg.norm(network.predict(X) - y))]
    assert trace.counts == []


def test_without_a_tolerance_all_iterations_are_taken() -> None:
    network, X, y = wide()
    assert len(train(network, X, y, iterations=12).residual_norms) == 13


def test_counts_are_those_of_dense_algebra() -> None:
    network, X, y = small()
    (counts,) = train(network, X, y, iterations=1).counts
    assert counts == {"pattern": 4 * 120 * 3, "gram": 16 * 120 * 3, "solve": 64, "step": 4 * 120 * 3}


def test_bad_arguments_are_refused() -> None:
    network, X, y = small()
    with pytest.raises(InputError, match="X has 2 columns but the network takes 3"):
        train(network, np.eye(2), y[:2], iterations=1)
    with pytest.raises(InputError, match="y has 3 entries but X has 4 rows"):
        train(network, X, y[:3], iterations=1)
    with pytest.raises(InputError, match="row 0 of X has length 2"):
        train(network, 2 * X, y, iterations=1)
    with pytest.raises(InputError, match="equal or opposite"):
        train(network, np.array([X[0], -X[0]]), y[:2], iterations=1)
    with pytest.raises(InputError, match="iterations is -1; pass a whole number"):
        train(network, X, y, iterations=-1)
    with pytest.raises(InputError, match=r"tolerance is 1.0; pass a number in \[0, 1\)"):
        train(network, X, y, iterations=1, tolerance=1.0)


def test_a_silent_point_is_an_error() -> None:
    network = TwoLayerNetwork([[2.0, 0.0]], [1.0], 1.0)
    with pytest.raises(NothingFiresError, match="no neuron fires on data point 1"):
        train(network, np.eye(2), [1.0, 1.0], iterations=1)


def test_a_singular_gram_matrix_is_an_error() -> None:
    network = TwoLayerNetwork([[2.0, 2.0]], [1.0], 0.5)
    with pytest.raises(SingularGramError):
        train(network, [[0.6, 0.8], [0.8, 0.6], [1.0, 0.0]], [1.0, -1.0, 1.0], iterations=1)


def test_divergence_is_an_error_that_keeps_the_residuals() -> None:
    # Nearly parallel inputs, labels that differ, a narrow network: the linear model is followed out of its range.
    rng = np.random.default_rng(0)
    X = 1 + 0.05 * rng.standard_normal((20, 6))
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    network = initialize(512, 6, shift=shift_for(512, 0.1), rng=rng)
    with pytest.raises(DivergenceError, match=r"diverged: after iteration .*; widen the network") as caught:
        train(network, X, rng.standard_normal(20), iterations=60)
    assert caught.value.residual_norms[-1] > caught.value.residual_norms[0]


def test_a_run_stops_at_the_first_residual_out_of_bounds() -> None:
    network, X, y = small()
    with pytest.raises(DivergenceError, match="diverged") as caught:
        take_steps(network, X, y, lambda network, residual: -3 * residual, iterations=200, tolerance=0.0)
    norms = caught.value.residual_norms / caught.value.residual_norms[0]
    assert norms[-1] > DIVERGENCE_FACTOR >= norms[:-1].max()
