"""First-order opponents against textbook loops on dense weights, and against each other's ways to keep neurons."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

import reference.baselines
from fast.first_order import EPSILON, Loss, natural_rate, train_adam, train_lbfgs, train_momentum
from reference.gram import gram
from reference.jacobian import jacobian
from reference.notation import DivergenceError, FloatArray, InputError, NothingFiresError
from reference.trace import Trace
from reference.two_layer import TwoLayerNetwork, activation_pattern, initialize, shift_for
from verify.problems import Problem, make

RATE = 4.0
METHODS: dict[str, Callable[..., Any]] = {
    "gradient descent": partial(train_momentum, learning_rate=RATE),
    "momentum": partial(train_momentum, learning_rate=RATE, momentum=0.5),
    "sgd": partial(train_momentum, learning_rate=RATE, batch=3, momentum=0.2),
    "adam": partial(train_adam, learning_rate=0.03),
    "lbfgs": train_lbfgs,
}


def trainable(family: str = "pairs") -> tuple[TwoLayerNetwork, Problem]:
    rng = np.random.default_rng(2)
    return initialize(3000, 8, shift=shift_for(3000, 0.1), rng=rng), make(family, 10, 8, rng)


def run(name: str, **options: object) -> Trace[TwoLayerNetwork]:
    network, problem = trainable()
    if name == "sgd":
        options["rng"] = np.random.default_rng(4)
    trace: Trace[TwoLayerNetwork] = METHODS[name](network, problem.X, problem.y, **options)
    return trace


def gradient_at(weights: FloatArray, network: TwoLayerNetwork, X: FloatArray, y: FloatArray) -> FloatArray:
    """Compute ``J^T (f - y)`` from the dense Jacobian."""
    now = TwoLayerNetwork(weights, network.signs, network.shift)
    return (jacobian(now, X).T @ (now.predict(X) - y)).reshape(weights.shape)


def test_gradient_descent_equals_the_reference() -> None:
    network, problem = trainable()
    expected = reference.baselines.train_gradient_descent(
        network, problem.X, problem.y, iterations=8, learning_rate=RATE
    )
    trace = run("gradient descent", iterations=8)
    np.testing.assert_allclose(trace.residual_norms, expected.residual_norms, rtol=1e-10)
    np.testing.assert_allclose(trace.network.weights, expected.network.weights, atol=1e-12)
    np.testing.assert_allclose(trace.predictions, expected.predictions, atol=1e-12)


def test_momentum_and_batches_equal_a_textbook_loop() -> None:
    network, problem = trainable()
    for batch, momentum in ((None, 0.5), (3, 0.2)):
        weights, velocity = network.weights.copy(), np.zeros_like(network.weights)
        rng = np.random.default_rng(4)
        for _ in range(4):
            order = np.arange(10) if batch is None else rng.permutation(10)
            for first in range(0, 10, batch or 10):
                rows = order[first : first + (batch or 10)]
                velocity = momentum * velocity - RATE * gradient_at(weights, network, problem.X[rows], problem.y[rows])
                weights = weights + velocity
        trace = run("momentum" if batch is None else "sgd", iterations=4)
        np.testing.assert_allclose(trace.network.weights, weights, atol=1e-12)


def test_adam_equals_a_textbook_loop() -> None:
    network, problem = trainable()
    weights = network.weights.copy()
    v, s = np.zeros_like(weights), np.zeros_like(weights)
    for t in range(1, 6):
        gradient = gradient_at(weights, network, problem.X, problem.y)
        v, s = 0.9 * v + 0.1 * gradient, 0.999 * s + 0.001 * gradient**2
        weights = weights - 0.03 * (v / (1 - 0.9**t)) / (np.sqrt(s / (1 - 0.999**t)) + 1e-12)
    np.testing.assert_allclose(run("adam", iterations=5).network.weights, weights, atol=1e-8)


@pytest.mark.parametrize("name", METHODS)
def test_dropping_neurons_that_never_fire_changes_no_iterate(name: str) -> None:
    network, problem = trainable()
    before = network.weights.copy()
    kept, full = (run(name, iterations=6, compact=compact) for compact in (True, False))
    np.testing.assert_allclose(kept.network.weights, full.network.weights, atol=1e-9)
    np.testing.assert_allclose(kept.residual_norms, full.residual_norms, rtol=1e-9)
    assert sum(c["scan"] for c in kept.counts) < sum(c["scan"] for c in full.counts)
    assert sum(c["step"] for c in kept.counts) == sum(c["step"] for c in full.counts)
    np.testing.assert_array_equal(network.weights, before)
    residual = kept.network.predict(problem.X) - problem.y
    assert np.linalg.norm(residual) == pytest.approx(kept.residual_norms[-1], rel=1e-9)


@pytest.mark.parametrize("name", METHODS)
def test_runs_stop_at_the_tolerance_or_when_iterations_run_out(name: str) -> None:
    trace = run(name, iterations=500, tolerance=0.1)
    assert trace.converged
    assert trace.residual_norms[-1] <= 0.1 * trace.residual_norms[0] < trace.residual_norms[-2]
    assert len(trace.counts) == len(trace.residual_norms) - 1
    short = run(name, iterations=2, tolerance=1e-12)
    assert not short.converged
    assert len(short.counts) == 2
    assert run(name, iterations=0).counts == []


def test_an_evaluation_counts_the_scores_and_the_pairs_that_fire() -> None:
    network, problem = trainable()
    trace = run("gradient descent", iterations=1, compact=False)
    after = trace.network.weights @ problem.X.T >= network.shift
    assert trace.counts == [{"scan": 10 * 3000 * 8, "step": int(after.sum()) * 8, "combine": 3000 * 8}]


def test_the_natural_rate_is_the_mean_diagonal_of_the_gram_matrix() -> None:
    network, problem = trainable()
    assert natural_rate(network, problem.X) == pytest.approx(1 / np.diag(gram(network, problem.X)).mean())


def test_bad_arguments_are_refused() -> None:
    network, problem = trainable()
    X, y = problem.X, problem.y
    with pytest.raises(InputError, match=r"learning_rate is 0.0; pass a positive"):
        train_momentum(network, X, y, iterations=1, learning_rate=0.0)
    with pytest.raises(InputError, match=r"learning_rate is nan; pass a positive"):
        train_adam(network, X, y, iterations=1, learning_rate=math.nan)
    with pytest.raises(InputError, match=r"momentum is 1; pass a number in \[0, 1\)"):
        train_momentum(network, X, y, iterations=1, learning_rate=1.0, momentum=1)
    with pytest.raises(InputError, match="batch is 11 but there are 10 points"):
        train_momentum(network, X, y, iterations=1, learning_rate=1.0, batch=11, rng=np.random.default_rng(0))
    with pytest.raises(InputError, match=r"numpy\.random\.Generator"):
        train_momentum(network, X, y, iterations=1, learning_rate=1.0, batch=2)
    with pytest.raises(InputError, match=r"decay is \(0.9, 1.0\)"):
        train_adam(network, X, y, iterations=1, learning_rate=1.0, decay=(0.9, 1.0))
    with pytest.raises(InputError, match="memory is 0"):
        train_lbfgs(network, X, y, iterations=1, memory=0)
    with pytest.raises(NothingFiresError):
        train_lbfgs(TwoLayerNetwork(network.weights, network.signs, 50.0), X, y, iterations=1)
    with pytest.raises(DivergenceError):
        train_momentum(network, X, y, iterations=200, learning_rate=100.0)


def test_every_method_counts_what_it_does() -> None:
    network, problem = trainable()
    fires = activation_pattern(network, problem.X)
    fired, u = int(fires.sum()), int(fires.any(axis=0).sum())
    assert 0 < u < 3000
    for name, passes in {"gradient descent": 1, "momentum": 2, "sgd": 4 * 2, "adam": 6}.items():
        trace = run(name, iterations=3)
        assert trace.preparation_counts == {"scan": 10 * 3000 * 8}
        assert [counts["scan"] for counts in trace.counts] == [10 * u * 8] * 3
        assert [counts["combine"] for counts in trace.counts] == [passes * u * 8] * 3
        assert all(0.8 < counts["step"] / (fired * 8) < 1.2 for counts in trace.counts)
    for memory, remembered in ((10, [0, 1, 2, 3, 4]), (2, [0, 1, 2, 2, 2])):
        trace = run("lbfgs", iterations=5, memory=memory)
        assert [counts["combine"] for counts in trace.counts] == [4 * q * u * 8 for q in remembered]
        scans = [counts["scan"] // (10 * u * 8) for counts in trace.counts]
        assert [counts["scan"] for counts in trace.counts] == [scan * 10 * u * 8 for scan in scans]
        assert scans[0] >= 2  # the start is evaluated once more by SciPy
        assert min(scans) == 1


@pytest.mark.parametrize("name", METHODS)
def test_a_trace_is_that_of_the_network_it_holds(name: str) -> None:
    network, problem = trainable()
    trace = run(name, iterations=3)
    assert trace.residual_norms[0] == pytest.approx(float(np.linalg.norm(network.predict(problem.X) - problem.y)))
    np.testing.assert_allclose(trace.predictions, trace.network.predict(problem.X), atol=1e-13)
    last = float(np.linalg.norm(trace.predictions - problem.y))
    assert trace.residual_norms[-1] == pytest.approx(last, rel=1e-12)
    assert trace.network.shift == network.shift
    np.testing.assert_array_equal(trace.network.signs, network.signs)
    none = run(name, iterations=0)
    np.testing.assert_array_equal(none.network.weights, network.weights)
    assert (len(none.residual_norms), none.converged) == (1, False)


def test_settings_at_their_bounds_are_taken() -> None:
    network, problem = trainable()
    X, y = problem.X, problem.y
    rng = np.random.default_rng(0)
    for batch in (1, 10):
        assert len(train_momentum(network, X, y, iterations=1, learning_rate=0.1, batch=batch, rng=rng).counts) == 1
    with pytest.raises(InputError, match="batch is 0 but there are 10 points; pass 1 to 10"):
        train_momentum(network, X, y, iterations=1, learning_rate=0.1, batch=0, rng=rng)
    with pytest.raises(InputError, match=r"momentum is -0.1; pass a number in \[0, 1\)"):
        train_momentum(network, X, y, iterations=1, learning_rate=0.1, momentum=-0.1)
    for decay in ((-0.1, 0.5), (1.0, 0.5), (0.5, -0.1)):
        with pytest.raises(InputError, match="pass two numbers"):
            train_adam(network, X, y, iterations=1, learning_rate=0.1, decay=decay)
    # Without any memory of gradients Adam goes by their signs.
    trace = train_adam(network, X, y, iterations=1, learning_rate=0.125, decay=(0.0, 0.0))
    gradient = gradient_at(network.weights, network, X, y)
    np.testing.assert_allclose(trace.network.weights, network.weights - 0.125 * np.sign(gradient), atol=1e-9)
    assert len(train_lbfgs(network, X, y, iterations=2, memory=1).counts) == 2
    for train in (partial(train_momentum, learning_rate=1.0), partial(train_adam, learning_rate=1.0), train_lbfgs):
        with pytest.raises(InputError, match="iterations is -1"):
            train(network, X, y, iterations=-1)
        with pytest.raises(InputError, match=r"tolerance is 1\.0"):
            train(network, X, y, iterations=1, tolerance=1.0)
        with pytest.raises(InputError, match="X has 7 columns but the network takes 8"):
            train(network, X[:, :7] / np.linalg.norm(X[:, :7], axis=1, keepdims=True), y, iterations=1)
        with pytest.raises(InputError, match=r"row \d of X has length 2"):
            train(network, 2 * X, y, iterations=1)
        with pytest.raises(InputError, match="y has 3 entries"):
            train(network, X, y[:3], iterations=1)
        with np.errstate(over="ignore"), pytest.raises(InputError, match="first residual overflows"):
            train(network, X, 1e200 * np.ones(10), iterations=0)


@pytest.mark.parametrize("train", [train_lbfgs, partial(train_momentum, learning_rate=1.0)])
def test_a_start_at_the_labels_has_converged(train: Callable[..., Any]) -> None:
    network = TwoLayerNetwork([[2.0, 0.0], [0.0, 2.0]], [1.0, -1.0], 1.0)
    trace = train(network, np.eye(2), network.predict(np.eye(2)), iterations=3, tolerance=0.5)
    assert (trace.converged, trace.counts) == (True, [])


def test_the_natural_rate_is_for_data_that_can_be_trained() -> None:
    network, problem = trainable()
    with pytest.raises(InputError, match="X has 3 columns but the network takes 8"):
        natural_rate(network, np.eye(3))
    with pytest.raises(InputError, match=r"row \d of X has length 2"):
        natural_rate(network, 2 * problem.X)
    with pytest.raises(NothingFiresError, match="no neuron fires on data point 1"):
        natural_rate(TwoLayerNetwork([[2.0, 0.0]], [1.0], 1.0), np.eye(2))


def test_points_on_which_nothing_fires_any_more_and_pairs_on_their_kink() -> None:
    network, problem = trainable()
    loss = Loss(network, problem.X, problem.y, compact=True)
    for weights, silent in ((0 * loss.start, 10), (np.where(loss.start @ problem.X[-1] < network.shift, 1, 0), 1)):
        weights = weights if silent == 10 else weights[:, np.newaxis] * loss.start
        residual, gradient = loss.evaluate(weights)
        np.testing.assert_array_equal(residual[-silent:], -problem.y[-silent:])
        full = network.weights.copy()
        full[:] = 0
        full[loss.kept] = weights
        np.testing.assert_allclose(gradient, gradient_at(full, network, problem.X, problem.y)[loss.kept], atol=1e-14)
    kinks = Loss(TwoLayerNetwork(np.eye(2), np.ones(2), 1.0), np.eye(2), [1.0, 2.0], compact=True)
    np.testing.assert_allclose(kinks.start_gradient, np.diag([-1.0, -2.0]) / math.sqrt(2))


def test_adam_divides_by_no_less_than_its_guard() -> None:
    residual = 2.0**-40
    network = TwoLayerNetwork([[2.0]], [1.0], 1.0)
    trace = train_adam(network, [[1.0]], [1 - residual], iterations=1, learning_rate=1e-9)
    step = 2 - trace.network.weights.item()
    assert step == pytest.approx(1e-9 * residual / (residual + EPSILON), rel=1e-5)


def test_lbfgs_goes_on_to_rounding_and_remembers_ten_steps() -> None:
    u = int(activation_pattern(trainable()[0], trainable()[1].X).any(axis=0).sum())
    trace = run("lbfgs", iterations=200, tolerance=1e-13)
    assert trace.converged
    assert len(trace.counts) > 12
    assert trace.counts[11]["combine"] == 4 * 10 * u * 8
    forgetful = run("lbfgs", iterations=8, memory=1)
    assert forgetful.residual_norms[8] > 1.1 * trace.residual_norms[8]
