from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import reference.baselines
import reference.gauss_newton
from fast.baselines import DENSE_AT, DenseRun, train_compacted, train_dense, train_gradient_descent
from reference.notation import DivergenceError, InputError
from reference.two_layer import initialize, shift_for
from verify.problems import make


@pytest.mark.parametrize("opponent", [train_dense, train_compacted])
@pytest.mark.parametrize("alpha", [0.0, 0.24])
@pytest.mark.parametrize("family", ["random", "pairs"])
def test_opponents_equal_the_reference(opponent: Callable[..., Any], alpha: float, family: str) -> None:
    rng = np.random.default_rng(2)
    problem = make(family, 20, 8, rng)
    network = initialize(5001, 8, shift=shift_for(5001, alpha), rng=rng)
    before = network.weights.copy()
    expected = reference.gauss_newton.train(network, problem.X, problem.y, iterations=5)
    trace = opponent(network, problem.X, problem.y, iterations=5)
    np.testing.assert_allclose(trace.residual_norms, expected.residual_norms, rtol=1e-8, atol=1e-11)
    np.testing.assert_allclose(trace.network.weights, expected.network.weights, atol=1e-9)
    np.testing.assert_allclose(
        trace.network.predict(problem.unseen), expected.network.predict(problem.unseen), atol=1e-9
    )
    np.testing.assert_array_equal(network.weights, before)


@pytest.mark.parametrize("alpha", [0.0, 0.24])
def test_the_pattern_is_kept_dense_where_it_is(alpha: float) -> None:
    rng = np.random.default_rng(2)
    problem = make("random", 20, 8, rng)
    run = DenseRun(initialize(5001, 8, shift=shift_for(5001, alpha), rng=rng), problem.X, problem.y)
    share = run.fired_per_point.sum() / (20 * 5001)
    assert (run.dense_pattern is not None) == (share > DENSE_AT)
    assert (share > DENSE_AT) == (alpha == 0)


def test_compacted_reads_only_neurons_that_fire_at_the_start() -> None:
    rng = np.random.default_rng(2)
    problem = make("random", 4, 8, rng)
    network = initialize(2**14, 8, shift=shift_for(2**14, 0.24), rng=rng)
    dense = train_dense(network, problem.X, problem.y, iterations=1).counts[0]["scan"]
    compacted = train_compacted(network, problem.X, problem.y, iterations=1).counts[0]["scan"]
    assert dense == 4 * 2**14 * 8
    assert compacted < 0.2 * dense


@pytest.mark.parametrize("learning_rate", [None, 0.5])
def test_gradient_descent_equals_the_reference(learning_rate: float | None) -> None:
    rng = np.random.default_rng(2)
    problem = make("pairs", 10, 8, rng)
    network = initialize(3000, 8, shift=shift_for(3000, 0.1), rng=rng)
    expected, trace = (
        side.train_gradient_descent(
            network, problem.X, problem.y, iterations=8, learning_rate=learning_rate
        )
        for side in (reference.baselines, __import__("fast.baselines", fromlist=["fast"]))
    )
    np.testing.assert_allclose(trace.residual_norms, expected.residual_norms, rtol=1e-10)


def test_gradient_descent_is_slow_on_pairs_and_diverges_when_the_rate_is_too_large() -> None:
    rng = np.random.default_rng(2)
    problem = make("pairs", 10, 8, rng)
    network = initialize(3000, 8, shift=shift_for(3000, 0.1), rng=rng)
    trace = train_gradient_descent(network, problem.X, problem.y, iterations=10)
    assert trace.residual_norms[-1] > 0.1 * trace.residual_norms[0]
    with pytest.raises(DivergenceError):
        train_gradient_descent(network, problem.X, problem.y, iterations=200, learning_rate=100.0)
    with pytest.raises(InputError, match="positive number"):
        train_gradient_descent(network, problem.X, problem.y, iterations=2, learning_rate=0.0)
