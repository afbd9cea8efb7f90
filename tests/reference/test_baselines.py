"""Gradient descent against its definition: loops, the derivative of the loss, its rate on a linear model."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference.baselines import best_learning_rate, train_gradient_descent
from reference.gram import gram
from reference.notation import DivergenceError, FloatArray, InputError, NothingFiresError
from reference.two_layer import TwoLayerNetwork, initialize, preactivations
from verify.problems import make


def small(family: str = "pairs", n: int = 4, m: int = 120) -> tuple[TwoLayerNetwork, FloatArray, FloatArray]:
    rng = np.random.default_rng(8)
    problem = make(family, n, 3, rng)
    return initialize(m, 3, shift=0.6, rng=rng), problem.X, problem.y


def test_one_step_by_loops_over_neurons_and_data() -> None:
    network, X, y = small()
    residual = network.predict(X) - y
    expected = network.weights.copy()
    for r, w in enumerate(network.weights):
        for i, x in enumerate(X):
            if math.fsum(w * x) >= network.shift:
                expected[r] -= 0.3 * network.signs[r] * residual[i] * x / math.sqrt(network.width)
    trace = train_gradient_descent(network, X, y, iterations=1, learning_rate=0.3)
    np.testing.assert_allclose(trace.network.weights, expected, atol=1e-14)


def test_the_step_points_down_the_loss_by_finite_differences() -> None:
    network, X, y = small()
    gradient = (
        network.weights - train_gradient_descent(network, X, y, iterations=1, learning_rate=1.0).network.weights
    )

    def loss(weights: FloatArray) -> float:
        residual = TwoLayerNetwork(weights, network.signs, network.shift).predict(X) - y
        return float(residual @ residual) / 2

    h = 1e-6
    assert (np.abs(preactivations(network, X) - network.shift) > 2 * h).all()
    for r in range(0, network.width, 17):
        for k in range(3):
            nudge = np.zeros_like(network.weights)
            nudge[r, k] = h
            slope = (loss(network.weights + nudge) - loss(network.weights - nudge)) / (2 * h)
            assert gradient[r, k] == pytest.approx(slope, abs=1e-8)


@given(st.floats(0.02, 2))
def test_the_best_learning_rate_is_best_on_the_linear_model(factor: float) -> None:
    network, X, _ = small()
    eigenvalues = np.linalg.eigvalsh(gram(network, X))

    def slowest(rate: float) -> float:
        return float(np.abs(1 - rate * eigenvalues).max())

    rate = best_learning_rate(network, X)
    kappa = eigenvalues[-1] / eigenvalues[0]
    assert slowest(rate) == pytest.approx((kappa - 1) / (kappa + 1), rel=1e-12)
    assert slowest(rate) <= slowest(factor * rate) + 1e-15


def test_the_default_learning_rate_is_the_best_one() -> None:
    network, X, y = small()
    rate = best_learning_rate(network, X)
    default, stated = (
        train_gradient_descent(network, X, y, iterations=5, learning_rate=choice) for choice in (None, rate)
    )
    assert default.residual_norms.tolist() == stated.residual_norms.tolist()


def test_training_stops_at_the_tolerance() -> None:
    network, X, y = small("random", m=4000)
    trace = train_gradient_descent(network, X, y, iterations=500, tolerance=1e-3)
    assert trace.converged
    assert trace.residual_norms[-1] <= 1e-3 * trace.residual_norms[0] < trace.residual_norms[-2]
    assert (np.diff(trace.residual_norms) < 0).all()


@pytest.mark.parametrize("learning_rate", [0.0, -1.0, np.nan, np.inf])
def test_a_learning_rate_must_be_positive(learning_rate: float) -> None:
    network, X, y = small()
    with pytest.raises(InputError, match="pass a positive number"):
        train_gradient_descent(network, X, y, iterations=1, learning_rate=learning_rate)


def test_too_large_a_learning_rate_diverges() -> None:
    network, X, y = small("random", m=4000)
    with pytest.raises(DivergenceError, match="diverged"):
        train_gradient_descent(network, X, y, iterations=300, learning_rate=100.0)


def test_a_silent_point_is_an_error() -> None:
    network = TwoLayerNetwork([[2.0, 0.0]], [1.0], 1.0)
    for learning_rate in (None, 0.1):
        with pytest.raises(NothingFiresError, match="no neuron fires on data point 1"):
            train_gradient_descent(network, np.eye(2), [1.0, 1.0], iterations=1, learning_rate=learning_rate)
    with pytest.raises(InputError, match="row 0 of X has length 2"):
        train_gradient_descent(network, 2 * np.eye(2), [1.0, 1.0], iterations=1)


def test_no_learning_rate_is_best_for_a_silent_point() -> None:
    with pytest.raises(NothingFiresError, match="no neuron fires on data point 1"):
        best_learning_rate(TwoLayerNetwork([[2.0, 0.0]], [1.0], 1.0), np.eye(2))
