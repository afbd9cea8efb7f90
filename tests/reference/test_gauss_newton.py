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
    closest_pair,
)
from reference.two_layer import TwoLayerNetwork, initialize, preactivations, shift_for
from verify.loading import load, prepare
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


def test_a_run_that_starts_at_its_labels_has_converged() -> None:
    network, X, _ = wide()
    trace = train(network, X, network.predict(X), iterations=3, tolerance=0.5)
    assert (trace.converged, trace.counts) == (True, [])


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


def uncentred(n: int, d: int, spread: float, width: int, seed: int) -> tuple[TwoLayerNetwork, FloatArray, FloatArray]:
    """Make nearly parallel inputs with labels that differ, on which full steps climb."""
    rng = np.random.default_rng(seed)
    X = 1 + spread * rng.standard_normal((n, d))
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    return initialize(width, d, shift=shift_for(width, 0.1), rng=rng), X, rng.standard_normal(n)


def test_the_safeguarded_run_is_the_full_one_where_that_halves() -> None:
    network, X, y = wide()
    full = train(network, X, y, iterations=30, tolerance=1e-12)
    assert (full.residual_norms[1:] <= full.residual_norms[:-1] / 2).all()
    safe = train(network, X, y, iterations=30, tolerance=1e-12, step="safeguarded")
    np.testing.assert_array_equal(safe.network.weights, full.network.weights)
    np.testing.assert_array_equal(safe.residual_norms, full.residual_norms)
    np.testing.assert_array_equal(safe.predictions, full.predictions)
    assert (safe.converged, safe.counts, safe.stopped) == (True, full.counts, "")


@given(training_cases())
def test_safeguarded_runs_never_raise_the_residual(case: Case) -> None:
    before = case.network.weights.copy(), case.X.copy(), case.y.copy()
    try:
        trace = train(case.network, case.X, case.y, iterations=4, step="safeguarded")
    except NothingFiresError:
        assume(False)
    assert (np.diff(trace.residual_norms) <= 0).all()
    assert len(trace.residual_norms) == len(trace.counts) + 1
    assert (len(trace.counts) == 4) or trace.stopped
    np.testing.assert_array_equal(trace.predictions, trace.network.predict(case.X) - case.y + case.y)
    last = float(np.linalg.norm(trace.network.predict(case.X) - case.y))
    assert trace.residual_norms[-1] == last
    for now, then in zip((case.network.weights, case.X, case.y), before, strict=True):
        np.testing.assert_array_equal(now, then)


@given(training_cases())
def test_a_full_step_that_halves_is_always_taken(case: Case) -> None:
    try:
        full = train(case.network, case.X, case.y, iterations=1)
    except (NothingFiresError, SingularGramError, DivergenceError):
        assume(False)
    assume(full.residual_norms[1] <= full.residual_norms[0] / 2)
    assume((preactivations(full.network, case.X) >= case.network.shift).any(axis=1).all())
    safe = train(case.network, case.X, case.y, iterations=1, step="safeguarded")
    np.testing.assert_array_equal(safe.network.weights, full.network.weights)


def full_steps_until_below(
    network: TwoLayerNetwork, X: FloatArray, y: FloatArray, most: int
) -> tuple[list[float], TwoLayerNetwork]:
    """Take full steps by the loops until the residual is below the first one."""
    norms = [float(np.linalg.norm(network.predict(X) - y))]
    while len(norms) <= most and (len(norms) == 1 or norms[-1] > 0.9999 * norms[0]):
        network = TwoLayerNetwork(step_by_loops(network, X, y), network.signs, network.shift)
        norms.append(float(np.linalg.norm(network.predict(X) - y)))
    return norms, network


def test_a_climb_that_comes_back_is_one_iteration() -> None:
    network, X, y = uncentred(8, 12, 0.3, 200, 7)
    norms, expected = full_steps_until_below(network, X, y, 30)
    assert len(norms) > 2
    assert max(norms) > norms[0] > norms[-1]
    trace = train(network, X, y, iterations=1, step="safeguarded")
    np.testing.assert_allclose(trace.network.weights, expected.weights, atol=1e-9)
    np.testing.assert_allclose(trace.residual_norms, [norms[0], norms[-1]], rtol=1e-9)
    steps = len(norms) - 1
    nmd = 8 * 200 * 12
    assert trace.counts == [
        {"pattern": steps * nmd, "gram": steps * 8 * nmd, "solve": steps * 512, "step": steps * nmd}
    ]


def test_where_looking_ahead_fails_the_step_is_shortened() -> None:
    network, X, y = uncentred(5, 3, 0.2, 100, 8)
    norms, _ = full_steps_until_below(network, X, y, 3)
    assert min(norms[1:]) > norms[0]
    full = step_by_loops(network, X, y) - network.weights
    lengths = [0.5**count for count in range(8)]
    ends = [TwoLayerNetwork(network.weights + s * full, network.signs, network.shift) for s in lengths]
    assert all((preactivations(end, X) >= network.shift).any(axis=1).all() for end in ends)
    ratios = [float(np.linalg.norm(end.predict(X) - y)) / norms[0] for end in ends]
    kept = next(count for count, s in enumerate(lengths) if ratios[count] <= 1 - 1e-4 * s)
    assert kept == 5
    trace = train(network, X, y, iterations=1, step="safeguarded")
    np.testing.assert_allclose(trace.network.weights, ends[kept].weights, atol=1e-9)
    (counts,) = trace.counts
    full_steps = counts["gram"] // (25 * 100 * 3)
    assert full_steps > 4
    # Seven solves for six full steps: one of the six found its matrix singular and solved the damped one.
    trials = (full_steps + kept) * 5 * 100 * 3
    assert counts == {"pattern": trials, "gram": 6 * 25 * 300, "solve": 7 * 125, "step": trials}


def test_a_step_that_silences_a_point_is_not_taken() -> None:
    # f = max(w - 1, 0) at w = 2 and label 0.5: the full step is the solution. Label -0.5: it would lead to w = 0.5.
    network = TwoLayerNetwork([[2.0]], [1.0], 1.0)
    assert train(network, [[1.0]], [0.5], iterations=1, step="safeguarded").network.weights.item() == 1.5
    trace = train(network, [[1.0]], [-0.5], iterations=1, step="safeguarded")
    assert trace.network.weights.item() == 1.25
    assert trace.residual_norms.tolist() == [1.5, 0.75]


def test_a_stalled_run_is_left_at_the_last_weights_kept() -> None:
    # Label -1: half a step leads to the kink, and every step from there would silence the neuron.
    network = TwoLayerNetwork([[2.0]], [1.0], 1.0)
    trace = train(network, [[1.0]], [-1.0], iterations=9, step="safeguarded")
    assert trace.network.weights.item() == 1.0
    assert trace.residual_norms.tolist() == [2.0, 1.0, 1.0]
    assert trace.predictions.tolist() == [0.0]
    assert [counts["pattern"] for counts in trace.counts] == [2, 31]
    assert "condition number of the Gram matrix is 1:" in trace.stopped


def test_a_run_that_reaches_its_tolerance_has_not_stalled(monkeypatch: pytest.MonkeyPatch) -> None:
    network, X, y = wide()
    monkeypatch.setattr("reference.safeguarded_run.crept", lambda residual_norms: True)
    trace = train(network, X, y, iterations=5, tolerance=0.5, step="safeguarded")
    assert (trace.converged, len(trace.counts), trace.stopped) == (True, 1, "")


def test_a_singular_gram_matrix_is_damped() -> None:
    network = TwoLayerNetwork([[2.0, 2.0]], [1.0], 0.5)  # J has rank 2, and three rows
    X, y = np.array([[0.6, 0.8], [0.8, 0.6], [1.0, 0.0]]), np.array([1.0, -1.0, 1.0])
    G = X @ X.T
    g = np.linalg.solve(G + 1e-10 * np.trace(G) * np.eye(3), network.predict(X) - y)
    first = train(network, X, y, iterations=1, step="safeguarded")
    np.testing.assert_allclose(first.network.weights, network.weights - g @ X, atol=1e-4)
    # Where the neuron fires on all three points nothing beats least squares, and there the run comes to rest.
    best = np.linalg.lstsq(X, y + 0.5, rcond=None)[0]
    assert (X @ best >= 0.5).all()
    trace = train(network, X, y, iterations=30, step="safeguarded")
    np.testing.assert_allclose(trace.network.weights[0], best, atol=1e-6)
    assert trace.residual_norms[-1] == pytest.approx(float(np.linalg.norm(X @ best - 0.5 - y)), abs=1e-12)
    assert trace.stopped.startswith("stalled at iteration")


def digits(rows: int, width: int) -> tuple[TwoLayerNetwork, FloatArray, FloatArray]:
    rng = np.random.default_rng(3)
    problem = prepare(load("digits"), rows=rows, rng=rng)
    return initialize(width, 64, shift=shift_for(width, 0.1), rng=rng), problem.X, problem.y


def test_uncentred_digits_are_interpolated() -> None:
    network, X, y = digits(40, 1024)
    trace = train(network, X, y, iterations=40, tolerance=1e-12, step="safeguarded")
    assert trace.converged
    assert trace.stopped == ""
    assert (np.diff(trace.residual_norms) < 0).all()
    assert float(np.linalg.norm(trace.network.predict(X) - y)) <= 1e-11 * trace.residual_norms[0]


def tabular(n: int, d: int, width: int, seed: int) -> tuple[TwoLayerNetwork, FloatArray, FloatArray]:
    """Make positive columns of very different scale, rows divided by their length: all point the same way."""
    rng = np.random.default_rng(seed)
    X = np.exp(0.5 * rng.standard_normal((n, d)) + np.arange(d))
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    return initialize(width, d, shift=shift_for(width, 0.1), rng=rng), X, rng.standard_normal(n)


def test_a_run_that_gets_nowhere_stops_and_says_where_and_why() -> None:
    network, X, y = tabular(30, 5, 256, 2)
    with pytest.raises(DivergenceError):
        train(network, X, y, iterations=200)
    trace = train(network, X, y, iterations=200, step="safeguarded")
    delta, i, j = closest_pair(X)
    assert not trace.converged
    assert (np.diff(trace.residual_norms[:-1]) < 0).all()
    assert 0.3 < trace.residual_norms[-1] / trace.residual_norms[0] < 1
    assert len(trace.counts) == len(trace.residual_norms) - 1 < 200
    assert trace.stopped.startswith(f"stalled at iteration {len(trace.counts)} with residual")
    assert f"{trace.residual_norms[-1]:.3g}" in trace.stopped
    assert f"rows {i} and {j} (distance {delta:.3g}, labels {y[i]:.3g} and {y[j]:.3g})" in trace.stopped
    # The last iteration moved nothing, and what it cost is counted: all full steps on trial and all shorter ones.
    assert trace.residual_norms[-1] == trace.residual_norms[-2]
    before = train(network, X, y, iterations=len(trace.counts) - 1, step="safeguarded")
    assert before.stopped == ""
    np.testing.assert_array_equal(before.network.weights, trace.network.weights)
    last = trace.counts[-1]
    assert last["pattern"] // (30 * 256 * 5) == last["gram"] // (900 * 256 * 5) + 30


def test_a_run_that_creeps_stops() -> None:
    rng = np.random.default_rng(2)
    problem = make("clash", 8, 4, rng, angle=0.003)
    network = initialize(300, 4, shift=0.6, rng=rng)
    trace = train(network, problem.X, problem.y, iterations=400, step="safeguarded")
    assert "the last 20 iterations lowered it by less than 5%" in trace.stopped
    assert len(trace.counts) == len(trace.residual_norms) - 1 < 400
    ratios = trace.residual_norms[20:] / trace.residual_norms[:-20]
    assert ratios[-1] > 0.95
    assert (ratios[:-1] <= 0.95).all()


def test_a_safeguarded_run_ends_at_rounding_error() -> None:
    network, X, y = digits(12, 200)
    trace = train(network, X, y, iterations=100, step="safeguarded")
    assert len(trace.counts) < 100
    assert "what is left is rounding error" in trace.stopped
    assert 0 < trace.residual_norms[-1] <= 1e-13 * trace.residual_norms[0]


def test_safeguarded_runs_refuse_what_full_ones_refuse() -> None:
    network, X, y = small()
    with pytest.raises(InputError, match="step is 'careful'; pass 'full' or 'safeguarded'"):
        train(network, X, y, iterations=1, step="careful")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="y has 3 entries but X has 4 rows"):
        train(network, X, y[:3], iterations=1, step="safeguarded")
    with pytest.raises(InputError, match="row 0 of X has length 2"):
        train(network, 2 * X, y, iterations=1, step="safeguarded")
    with pytest.raises(InputError, match="X has 2 columns but the network takes 3"):
        train(network, np.eye(2), y[:2], iterations=1, step="safeguarded")
    with pytest.raises(InputError, match="iterations is -1; pass a whole number"):
        train(network, X, y, iterations=-1, step="safeguarded")
    silent = TwoLayerNetwork([[2.0, 0.0]], [1.0], 1.0)
    with pytest.raises(NothingFiresError, match="no neuron fires on data point 1"):
        train(silent, np.eye(2), [1.0, 1.0], iterations=1, step="safeguarded")


def test_no_safeguarded_iterations_return_the_network_itself() -> None:
    network, X, y = wide()
    trace = train(network, X, y, iterations=0, step="safeguarded")
    assert trace.network is network
    assert (trace.counts, trace.stopped) == ([], "")
