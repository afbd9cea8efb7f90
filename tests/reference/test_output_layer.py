"""Joint training against the definition: SymPy, loops over entries, finite differences, hand-made cases, errors."""

from __future__ import annotations

import math

import numpy as np
import pytest
import sympy as sp
from hypothesis import assume, given
from hypothesis import strategies as st

from reference.notation import (
    DivergenceError,
    FloatArray,
    InputError,
    NothingFiresError,
    SingularGramError,
)
from reference.output_layer import JointNetwork, jacobian, train
from reference.two_layer import TwoLayerNetwork, initialize, preactivations, shift_for
from verify.problems import make
from verify.strategies import Case, training_cases


def small(family: str = "random") -> tuple[JointNetwork, FloatArray, FloatArray]:
    """Make a network whose output weights are no signs any more."""
    rng = np.random.default_rng(8)
    problem = make(family, 4, 3, rng)
    hidden = initialize(120, 3, shift=0.6, rng=rng)
    outputs = hidden.signs * rng.uniform(0.2, 3.0, 120)
    outputs[7] = 0.0
    return JointNetwork(hidden.weights, outputs, 0.6), problem.X, problem.y


def step_by_loops(network: JointNetwork, X: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Take one step neuron by neuron and point by point, from scalar sums and the two terms of the Gram matrix."""
    n, m, a = len(X), network.width, network.output_weights
    U = [[math.fsum(w * x) for w in network.weights] for x in X]
    excess = [[max(u - network.shift, 0.0) for u in row] for row in U]
    fires = [[u >= network.shift for u in row] for row in U]
    f = np.array([math.fsum(a[r] * excess[i][r] for r in range(m)) / math.sqrt(m) for i in range(n)])
    G = np.empty((n, n))
    for i in range(n):
        for j in range(n):
            shared = math.fsum(a[r] ** 2 for r in range(m) if fires[i][r] and fires[j][r])
            outer = math.fsum(excess[i][r] * excess[j][r] for r in range(m))
            G[i, j] = (math.fsum(X[i] * X[j]) * shared + outer) / m
    g = np.linalg.solve(G, f - y)
    weights, outputs = network.weights.copy(), a.copy()
    for r in range(m):
        for i in range(n):
            if fires[i][r]:
                weights[r] -= a[r] * g[i] * X[i] / math.sqrt(m)
                outputs[r] -= g[i] * excess[i][r] / math.sqrt(m)
    return weights, outputs


def test_one_neuron_and_one_point_by_sympy() -> None:
    """Derive the step from ``f = a max(w x - b, 0)`` and compare all its numbers."""
    w, a, x, b, y = sp.symbols("w a x b y", positive=True)
    f = a * (w * x - b)  # on the firing side
    gradient = sp.Matrix([sp.diff(f, w), sp.diff(f, a)])
    g = (f - y) / (gradient.T * gradient)[0]
    step = sp.Matrix([w, a]) - g * gradient
    # What is left after the step is the product of the two changes, and nothing else.
    left = sp.simplify(f.subs({w: step[0], a: step[1]}, simultaneous=True) - y)
    assert sp.simplify(left - x * (step[0] - w) * (step[1] - a)) == 0
    values = {w: 2.0, a: -1.5, x: 1.0, b: 0.75, y: -2.5}
    network = JointNetwork([[values[w]]], [values[a]], values[b])
    trace = train(network, [[values[x]]], [values[y]], iterations=1)
    expected = [float(entry) for entry in step.subs(values)]
    assert [trace.network.weights.item(), trace.network.output_weights.item()] == pytest.approx(expected, rel=1e-14)
    assert jacobian(network, [[1.0]]).ravel().tolist() == [float(entry) for entry in gradient.subs(values)]
    assert trace.residual_norms[1] == pytest.approx(abs(float(left.subs(values))), rel=1e-13)


@pytest.mark.parametrize("family", ["random", "pairs", "twins"])
def test_one_step_by_loops_over_neurons_and_data(family: str) -> None:
    network, X, y = small(family)
    trained = train(network, X, y, iterations=1).network
    weights, outputs = step_by_loops(network, X, y)
    np.testing.assert_allclose(trained.weights, weights, atol=1e-11)
    np.testing.assert_allclose(trained.output_weights, outputs, atol=1e-11)


def test_several_steps_are_one_step_repeated() -> None:
    network, X, y = small()
    expected, norms = network, [float(np.linalg.norm(network.predict(X) - y))]
    for _ in range(3):
        expected = JointNetwork(*step_by_loops(expected, X, y), network.shift)
        norms.append(float(np.linalg.norm(expected.predict(X) - y)))
    trace = train(network, X, y, iterations=3)
    np.testing.assert_allclose(trace.network.weights, expected.weights, atol=1e-10)
    np.testing.assert_allclose(trace.network.output_weights, expected.output_weights, atol=1e-10)
    np.testing.assert_allclose(trace.residual_norms, norms, atol=1e-11)
    np.testing.assert_allclose(trace.predictions, expected.predict(X), atol=1e-11)


def test_the_jacobian_by_finite_differences_in_every_entry() -> None:
    network, X, _ = small()
    h, (m, d) = 1e-6, network.weights.shape
    assert (np.abs(X @ network.weights.T - network.shift) > 2 * h).all()
    parameters = np.concatenate([network.weights.ravel(), network.output_weights])
    columns = []
    for place in range(len(parameters)):
        ahead, behind = (
            JointNetwork(moved[: m * d].reshape(m, d), moved[m * d :], network.shift).predict(X)
            for moved in (parameters + sign * h * (np.arange(len(parameters)) == place) for sign in (1, -1))
        )
        columns.append((ahead - behind) / (2 * h))
    np.testing.assert_allclose(jacobian(network, X), np.transpose(columns), atol=1e-8)


def test_the_step_is_the_shortest_that_fits_the_linear_model() -> None:
    network, X, y = small()
    trained = train(network, X, y, iterations=1).network
    step = np.concatenate(
        [(trained.weights - network.weights).ravel(), trained.output_weights - network.output_weights]
    )
    shortest = np.linalg.lstsq(jacobian(network, X), y - network.predict(X), rcond=None)[0]
    np.testing.assert_allclose(step, shortest, atol=1e-11)


def test_a_neuron_on_its_kink_moves_its_weights_and_not_its_output_weight() -> None:
    # Neuron 0 sits on the kink, neuron 1 is 1 above it: f = 1 / sqrt(2), G = (1 + 1) / 2 + 1 / 2, g = f / 1.5.
    network = TwoLayerNetwork([[1.0, 0.0], [2.0, 0.0]], [1.0, 1.0], 1.0)
    trained = train(network, [[1.0, 0.0]], [0.0], iterations=1).network
    change = 1 / 3  # g / sqrt(2)
    np.testing.assert_allclose(trained.weights, [[1 - change, 0.0], [2 - change, 0.0]], atol=1e-15)
    np.testing.assert_allclose(trained.output_weights, [1.0, 1 - change], atol=1e-15)


def test_an_output_weight_of_zero_holds_its_weights_still() -> None:
    network = JointNetwork([[2.0, 0.0], [2.0, 0.0]], [0.0, 1.0], 1.0)
    trained = train(network, [[1.0, 0.0]], [3.0], iterations=1).network
    assert trained.weights[0].tolist() == [2.0, 0.0]
    assert trained.output_weights[0] > 0


@given(training_cases(), st.booleans())
def test_every_report_is_recomputed_from_the_weights(case: Case, real: bool) -> None:
    scales = np.random.default_rng(0).uniform(0.5, 2, case.network.width) if real else np.ones(case.network.width)
    start = JointNetwork(case.network.weights, case.network.signs * scales, case.network.shift)
    network = start if real else case.network
    before = start.weights.copy(), start.output_weights.copy(), case.X.copy(), case.y.copy()
    try:
        trace = train(network, case.X, case.y, iterations=3)
    except (NothingFiresError, SingularGramError, DivergenceError):
        assume(False)
    predictions = trace.network.predict(case.X)
    np.testing.assert_allclose(trace.predictions, predictions, atol=1e-12 * (1 + np.abs(case.y).max()))
    last = float(np.linalg.norm(predictions - case.y))
    assert trace.residual_norms[-1] == pytest.approx(last, abs=1e-12 * (1 + float(np.linalg.norm(case.y))))
    assert len(trace.residual_norms) == len(trace.counts) + 1 == 4
    for now, then in zip((start.weights, start.output_weights, case.X, case.y), before, strict=True):
        np.testing.assert_array_equal(now, then)
    # Who fires nowhere has no gradient in either layer, so it never moves, so it never fires.
    silent = (preactivations(case.network, case.X) < case.network.shift).all(axis=0)
    np.testing.assert_array_equal(trace.network.weights[silent], start.weights[silent])
    np.testing.assert_array_equal(trace.network.output_weights[silent], start.output_weights[silent])


def wide() -> tuple[TwoLayerNetwork, FloatArray, FloatArray]:
    rng = np.random.default_rng(5)
    problem = make("random", 6, 8, rng)
    return initialize(2000, 8, shift=shift_for(2000, 0.1), rng=rng), problem.X, problem.y


def test_training_stops_at_the_tolerance() -> None:
    network, X, y = wide()
    trace = train(network, X, y, iterations=30, tolerance=1e-6)
    assert trace.converged
    assert trace.residual_norms[-1] <= 1e-6 * trace.residual_norms[0] < trace.residual_norms[-2]
    assert len(trace.counts) == len(trace.residual_norms) - 1 < 30
    assert not train(network, X, y, iterations=1, tolerance=1e-6).converged


def test_no_iterations_return_the_network_itself() -> None:
    network, X, y = wide()
    trace = train(network, X, y, iterations=0)
    np.testing.assert_array_equal(trace.network.weights, network.weights)
    np.testing.assert_array_equal(trace.network.output_weights, network.signs)
    assert trace.residual_norms.tolist() == [float(np.linalg.norm(network.predict(X) - y))]
    assert trace.counts == []
    assert trace.network.to_dense() is trace.network


def test_training_goes_on_from_its_own_result() -> None:
    network, X, y = wide()
    whole = train(network, X, y, iterations=4)
    first = train(network, X, y, iterations=2)
    second = train(first.network, X, y, iterations=2)
    assert second.residual_norms.tolist() == whole.residual_norms[2:].tolist()


def test_counts_are_those_of_dense_algebra() -> None:
    network, X, y = small()
    (counts,) = train(network, X, y, iterations=1).counts
    assert counts == {"pattern": 4 * 120 * 3, "gram": 16 * 120 * 4, "solve": 64, "step": 4 * 120 * 4}


def test_bad_networks_are_refused() -> None:
    with pytest.raises(InputError, match="output_weights has 1 entries but weights has 2 rows; make them equal"):
        JointNetwork([[1.0], [2.0]], [1.0], 0.0)
    with pytest.raises(InputError, match="output_weights has a NaN or infinite entry at index"):
        JointNetwork([[1.0]], [np.inf], 0.0)
    with pytest.raises(InputError, match="weights has shape"):
        JointNetwork([1.0], [1.0], 0.0)
    with pytest.raises(InputError, match="shift has a NaN"):
        JointNetwork([[1.0]], [1.0], np.nan)


def test_a_network_is_read_only_and_shares_its_arrays() -> None:
    weights, outputs = np.eye(2), np.array([0.5, 2.0])
    network = JointNetwork(weights, outputs, 0.0)
    assert np.shares_memory(network.weights, weights)
    assert np.shares_memory(network.output_weights, outputs)
    with pytest.raises(ValueError, match="read-only"):
        network.output_weights[0] = 1.0


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
    # Two inputs and one output weight of a single neuron cannot fit four points.
    network = TwoLayerNetwork([[2.0, 2.0]], [1.0], 0.5)
    angles = np.array([0.5, 0.7, 0.9, 1.1])
    X = np.column_stack([np.cos(angles), np.sin(angles)])
    with pytest.raises(SingularGramError):
        train(network, X, [1.0, -1.0, 1.0, -1.0], iterations=1)


def test_divergence_is_an_error_that_keeps_the_residuals() -> None:
    rng = np.random.default_rng(0)
    X = 1 + 0.05 * rng.standard_normal((20, 6))
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    network = initialize(256, 6, shift=shift_for(256, 0.1), rng=rng)
    with pytest.raises(DivergenceError, match=r"diverged: after iteration .*; widen the network") as caught:
        train(network, X, rng.standard_normal(20), iterations=60)
    assert caught.value.residual_norms[-1] > caught.value.residual_norms[0]


def test_a_run_that_starts_at_its_labels_has_converged() -> None:
    network, X, _ = wide()
    trace = train(network, X, network.predict(X), iterations=3, tolerance=0.5)
    assert (trace.converged, trace.counts) == (True, [])


def test_a_shift_is_a_float() -> None:
    assert isinstance(JointNetwork([[1.0]], [1.0], 2).shift, float)


def test_a_point_whose_only_neuron_sits_on_the_kink_can_be_trained() -> None:
    trace = train(JointNetwork([[1.0]], [1.0], 1.0), [[1.0]], [1.0], iterations=1)
    assert (trace.network.weights.item(), trace.network.output_weights.item()) == (2.0, 1.0)
