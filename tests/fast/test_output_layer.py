"""Fast joint training against the reference: whole runs, the bookkeeping step by step, tripwires, memory, counts."""

from __future__ import annotations

import inspect
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import reference.output_layer
from fast import lazy_width
from fast.gauss_newton import train as train_hidden
from fast.output_layer import JointPairs, JointRun, layers, train
from fast.regression import WarmCholesky
from fast.two_layer import PartialPredictionWarning
from fast.watched_pairs import DueQueue
from reference.notation import DivergenceError, InputError, IntArray, NothingFiresError, SingularGramError
from reference.output_layer import JointNetwork
from reference.two_layer import TwoLayerNetwork, initialize, shift_for
from verify.faults.output_layer import DroppedFlipPairs, FirstTermPairs, FrozenOutputPairs, SignPairs
from verify.problems import make, unit_rows
from verify.strategies import Case, generators, training_cases
from verify.tolerances import RUN

FAILURES = (NothingFiresError, SingularGramError, DivergenceError)


def with_outputs(network: TwoLayerNetwork, rng: np.random.Generator) -> JointNetwork:
    """Give a network output weights of many sizes, one of them 0."""
    outputs = network.signs * rng.uniform(0.2, 2.0, network.width)
    outputs[0] = 0.0
    return JointNetwork(network.weights, outputs, network.shift)


def assert_same_run(
    network: TwoLayerNetwork | JointNetwork, X: np.ndarray, y: np.ndarray, unseen: np.ndarray, iterations: int = 5
) -> None:
    """Compare a fast run with the reference: the same failure, or the same residuals, predictions and weights."""
    before = network.weights.copy(), X.copy(), y.copy()
    try:
        expected = reference.output_layer.train(network, X, y, iterations=iterations)
    except FAILURES as failure:
        with pytest.raises(type(failure)):
            train(network, X, y, iterations=iterations)
        return
    trace = train(network, X, y, iterations=iterations)
    scale = max(1e-300, float(np.linalg.norm(y)))
    np.testing.assert_allclose(trace.residual_norms, expected.residual_norms, atol=RUN * scale, rtol=RUN)
    np.testing.assert_allclose(trace.predictions, expected.predictions, atol=RUN * scale)
    predicted = expected.network.predict(unseen)
    atol = RUN * max(scale, abs(predicted).max())
    np.testing.assert_allclose(trace.network.predict(unseen), predicted, atol=atol)
    dense = trace.network.to_dense()
    for mine, theirs in (
        (dense.weights, expected.network.weights),
        (dense.output_weights, expected.network.output_weights),
    ):
        np.testing.assert_allclose(mine, theirs, atol=RUN * abs(theirs).max())
    for now, then in zip((network.weights, X, y), before, strict=True):
        np.testing.assert_array_equal(now, then)


@given(training_cases(), generators, st.booleans())
def test_runs_equal_the_reference(case: Case, rng: np.random.Generator, real: bool) -> None:
    network = with_outputs(case.network, rng) if real else case.network
    assert_same_run(network, case.X, case.y, case.unseen)


@pytest.mark.parametrize("real", [False, True])
@pytest.mark.parametrize(
    ("family", "angle", "n", "d", "m", "alpha"),
    [
        ("random", None, 64, 8, 2048, 0.24),
        ("random", None, 1, 2, 1000, 0.1),
        ("random", None, 24, 8, 2001, 0.0),
        ("pairs", 0.15, 24, 6, 4096, 0.24),
        ("twins", 0.15, 17, 5, 4095, 0.1),
        ("clash", 0.15, 16, 8, 4096, 0.24),
    ],
)
def test_larger_runs_equal_the_reference(
    family: str, angle: float | None, n: int, d: int, m: int, alpha: float, real: bool
) -> None:
    rng = np.random.default_rng(11)
    problem = make(family, n, d, rng, angle=angle)
    network: Any = initialize(m, d, shift=shift_for(m, alpha), rng=rng)
    if real:
        network = with_outputs(network, rng)
    assert_same_run(network, problem.X, problem.y, problem.unseen)


# The bookkeeping, step by step


def moved(network: JointNetwork, X: np.ndarray, g: np.ndarray) -> JointNetwork:
    """Step by the definition, with ``J^T g`` from the reference Jacobian."""
    step = reference.output_layer.jacobian(network, X).T @ g
    m, d = network.weights.shape
    weights = network.weights - step[: m * d].reshape(m, d)
    return JointNetwork(weights, network.output_weights - step[m * d :], network.shift)


def watch(network: JointNetwork, X: np.ndarray, band: float, kind: type[JointPairs] = JointPairs) -> JointPairs:
    hidden, outputs = layers(network)
    watched = kind(hidden, outputs, X, X @ X.T, band)
    # Lists of lists at once, small as the networks here are.
    watched.pair_queue, watched.row_queue = DueQueue(fewest=0), DueQueue(fewest=0)
    return watched


def assert_in_step(watched: JointPairs, dense: JointNetwork, X: np.ndarray, scale: float) -> None:
    """Compare pattern, predictions, Gram matrix and the weights of both layers with a dense network."""
    scores = dense.weights @ X.T
    fires = scores >= dense.shift
    fired = watched.fired_pairs()
    mine = np.zeros_like(fires)
    mine[fired.neuron_index, fired.data_index] = True
    tolerance = 1e-9 * (1 + scale) ** 2
    differ = (mine != fires) & (np.abs(scores - dense.shift) > tolerance)
    assert not differ.any()
    assert watched.active_pairs == len(fired) == watched.fired_excess.nnz
    np.testing.assert_array_equal(watched.fired_per_point(), mine.sum(axis=0))
    np.testing.assert_allclose(watched.predictions, dense.predict(X), atol=tolerance * np.sqrt(dense.width))
    if (mine == fires).all():
        J = reference.output_layer.jacobian(dense, X)
        G = J @ J.T
        np.testing.assert_allclose(watched.gram(), G, atol=tolerance * (1 + abs(G).max()))
    hidden = watched.trained_network()
    np.testing.assert_allclose(hidden.to_dense().weights, dense.weights, atol=tolerance)
    np.testing.assert_allclose(watched.outer, dense.output_weights[hidden.moved], atol=tolerance)


@settings(max_examples=80)
@given(
    generators,
    st.sampled_from(["random", "pairs", "twins", "clash"]),
    st.integers(1, 16),
    st.sampled_from([2, 3, 8]),
    st.integers(1, 400),
    st.sampled_from([0.0, 0.1, 0.4, 0.7]),
    st.sampled_from([0.0, 0.01, 0.3, 3.0]),
    st.floats(0.1, 10),
    st.lists(
        st.tuples(st.sampled_from(["take", "take", "try"]), st.floats(0.05, 2.0)), min_size=1, max_size=8
    ),
)
def test_any_sequence_of_steps_agrees_with_dense_weights(
    rng: np.random.Generator,
    family: str,
    n: int,
    d: int,
    m: int,
    alpha: float,
    band: float,
    length: float,
    moves: list[tuple[str, float]],
) -> None:
    """Arbitrary directions and lengths, not only Gauss-Newton's; steps tried and not taken."""
    X = make(family, n, d, rng).X
    dense = with_outputs(initialize(m, d, shift=shift_for(max(m, 2), alpha), rng=rng), rng)
    watched, scale = watch(dense, X, band), 0.0
    assert_in_step(watched, dense, X, scale)
    for move, ratio in moves:
        if not watched.active_pairs:
            return
        length = min(length * ratio, 10.0)
        g = length * np.sqrt(m) / 10 * rng.standard_normal(n)
        trial = watched.try_step(g)
        if move == "try":
            continue
        watched.take(trial)
        dense = moved(dense, X, g)
        scale += length + abs(dense.output_weights).max()
        assert_in_step(watched, dense, X, scale)


class CertificateOff(JointPairs):
    def _certify(self, drift: float, total: np.ndarray) -> tuple[IntArray, np.ndarray, IntArray]:
        none = np.empty(0, dtype=np.intp)
        return none, np.empty(0), none


class OutputsIgnoredByTheClock(JointPairs):
    def _drift_after(self, g: np.ndarray) -> float:
        return self.drift + float(self.per_unit * np.abs(g).max())


def worst_error(kind: type[JointPairs]) -> float:
    """Return the largest error of predictions and reported predictions in five steps on coherent data."""
    rng = np.random.default_rng(0)
    problem = make("clash", 24, 8, rng)
    network = initialize(4096, 8, shift=shift_for(4096, 0.24), rng=rng)
    run = type("Run", (JointRun,), {"watch": kind})(network, problem.X, problem.y)
    dense, worst = JointNetwork(network.weights, network.signs, network.shift), 0.0
    for _ in range(5):
        residual = dense.predict(problem.X) - problem.y
        J = reference.output_layer.jacobian(dense, problem.X)
        dense = moved(dense, problem.X, np.linalg.solve(J @ J.T, residual))
        run.iterate()
        worst = max(worst, abs(run.watched.predictions - dense.predict(problem.X)).max())
    return worst


def wrong_pairs(kind: type[JointPairs], seed: int) -> int:
    """Count wrong pairs where bounds are nearly tight: data in a narrow cone, steps of one sign, few output weights."""
    rng = np.random.default_rng(seed)
    n, d, m = int(rng.choice([3, 8, 24])), int(rng.choice([2, 3, 8])), 200
    X = rng.standard_normal((n, d)) * 10 ** rng.uniform(-3, -0.5)
    X[:, 0] += 1
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    dense = JointNetwork(rng.standard_normal((m, d)), rng.choice([-3.0, -0.3, 0.3, 3.0], size=m), 1.0)
    watched, length, wrong = watch(dense, X, rng.choice([0.0, 0.01, 0.3]), kind), rng.uniform(0.05, 0.5), 0
    for ratio in rng.choice([0.02, 0.1, 0.25, 0.9, 1.0, 3.0], size=8):
        length = min(length * ratio, 1.0)
        g = 0.1 * length * np.sqrt(m) * rng.choice([-1.0, 1.0]) * np.ones(n)
        if rng.random() < 0.2:
            watched.try_step(g * rng.uniform(0.5, 2))
        watched.take(watched.try_step(g))
        dense = moved(dense, X, g)
        fired, scores = watched.fired_pairs(), dense.weights @ X.T
        mine = np.zeros(scores.shape, dtype=bool)
        mine[fired.neuron_index, fired.data_index] = True
        wrong += int(((mine != (scores >= 1)) & (np.abs(scores - 1) > 1e-9)).sum())
    return wrong


def test_bounds_that_are_nearly_tight_hold() -> None:
    assert sum(wrong_pairs(JointPairs, seed) for seed in range(60)) == 0


@pytest.mark.parametrize("fault", [CertificateOff, OutputsIgnoredByTheClock])
def test_bounds_that_do_not_hold_show(fault: type[JointPairs]) -> None:
    assert sum(wrong_pairs(fault, seed) for seed in range(20)) > 0


@pytest.mark.parametrize("fault", [CertificateOff, DroppedFlipPairs, FrozenOutputPairs, SignPairs, FirstTermPairs])
def test_planted_faults_show(fault: type[JointPairs]) -> None:
    assert worst_error(JointPairs) < 1e-9
    assert worst_error(fault) > 1e-4


def test_one_step_by_hand() -> None:
    """One neuron, ``a = 2``, two points, ``<x_1, x_2> = 0.6``: the step pushes the second score over the shift."""
    X = np.array([[1.0, 0.0], [0.6, 0.8]])
    network = JointNetwork([[2.0, -0.5]], [2.0], 1.0)
    watched = watch(network, X, 0.1)  # excesses 1 and -0.2: only the first pair is watched
    assert watched.used == 1
    assert watched.try_step(np.zeros(2)).fired_per_point.tolist() == [1.0, 0.0]
    np.testing.assert_allclose(watched.gram(), [[2.0**2 + 1.0**2, 0.0], [0.0, 0.0]])
    trial = watched.try_step(np.array([-1.0, 0.0]))  # w moves by 2 x_1, the scores by 2 and 1.2; a by 1
    np.testing.assert_allclose(trial.predictions, [3.0 * 3.0, 3.0 * 1.0])
    np.testing.assert_array_equal(trial.fired_per_point, [1, 1])
    assert trial.outer.tolist() == [3.0]
    watched.take(trial)
    np.testing.assert_allclose(watched.gram(), [[9 + 9, 0.6 * 9 + 3], [0.6 * 9 + 3, 9 + 1]])
    # Counts and lost digits, of which the bookkeeping of a first layer alone has need, stay 0.
    assert (watched.shared.tolist(), watched.rounding) == ([[0.0, 0.0], [0.0, 0.0]], 0.0)


def test_a_pair_that_a_step_leaves_on_its_kink_fires() -> None:
    watched = watch(JointNetwork([[2.0]], [1.0], 1.0), np.eye(1), 0.0)
    trial = watched.try_step(np.array([1.0]))  # w moves by -1, a by -1
    assert (trial.flips.size, trial.fired_per_point.tolist(), trial.outer.tolist()) == (0, [1.0], [0.0])
    watched.take(trial)
    assert watched.active_pairs == watched.fired_excess.nnz == 1
    # A row without a second point never comes due: nothing was computed anew.
    assert watched.from_start.tolist() == [True]


def test_the_gram_matrix_of_neurons_that_fire_everywhere() -> None:
    """There it is summed by BLAS, in blocks, instead of entry by entry."""
    rng = np.random.default_rng(2)
    X = unit_rows(40, 30, rng)
    dense = with_outputs(initialize(20_000, 30, shift=-0.5, rng=rng), rng)
    watched = watch(dense, X, 0.0)
    before = watched.work["gram"]
    watched.gram()
    # Both terms, and their two entrywise operations; each neuron fires somewhere.
    assert watched.work["gram"] - before == 2 * 40**2 * len(watched.neurons) + 2 * 40**2
    J = reference.output_layer.jacobian(dense, X[:3])
    np.testing.assert_allclose(watched.gram()[:3, :3], J @ J.T, rtol=1e-12)


def test_the_gram_matrix_is_listed_where_neurons_fire_on_eight_points_each() -> None:
    angles = np.linspace(0, 0.14, 8)
    near = np.column_stack([np.cos(angles), np.sin(angles)])
    X = np.concatenate([near, near[:, ::-1]])
    watched = watch(JointNetwork(2 * np.eye(2), [1.0, -1.0], 1.0), X, 0.0)
    before = watched.work["gram"]
    watched.gram()
    assert watched.work["gram"] - before == 2 * 2 * 8**2 + 2 * 16**2


# Whole runs


def trainable(n: int = 16, alpha: float = 0.24) -> tuple[TwoLayerNetwork, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    problem = make("random", n, 8, rng)
    return initialize(2**14, 8, shift=shift_for(2**14, alpha), rng=rng), problem.X, problem.y


def test_only_weights_of_neurons_that_fire_are_read() -> None:
    """Tripwire: after the preparation all others, of both layers, are overwritten; the run must not notice."""
    network, X, y = trainable(n=16, alpha=0.4)
    honest = train(network, X, y, iterations=6)

    weights, outputs = network.weights.copy(), network.signs.copy()
    run = JointRun(JointNetwork(weights, outputs, network.shift), X, y)
    quiet = np.ones(network.width, dtype=bool)
    quiet[honest.network.hidden.moved] = False
    assert quiet.mean() > 0.5
    weights[quiet] = np.inf
    outputs[quiet] = np.inf
    for _ in range(6):
        run.iterate()
    trace = run.trace(0.0)
    assert trace.residual_norms.tolist() == honest.residual_norms.tolist()
    assert trace.predictions.tolist() == honest.predictions.tolist()
    assert trace.network.moved_outputs.tolist() == honest.network.moved_outputs.tolist()


def test_an_iteration_allocates_nothing_of_the_size_of_the_network() -> None:
    width, d = 2**19, 4
    rng = np.random.default_rng(2)
    network = initialize(width, d, shift=shift_for(width, 0.6), rng=rng)
    X = unit_rows(8, d, rng)
    run = JointRun(network, X, rng.standard_normal(8))
    tracemalloc.start()
    try:
        for _ in range(3):
            before, _ = tracemalloc.get_traced_memory()
            tracemalloc.reset_peak()
            run.iterate()
            assert tracemalloc.get_traced_memory()[1] - before < width
    finally:
        tracemalloc.stop()


def test_counts_follow_the_fired_pairs() -> None:
    network, X, y = trainable()
    run = JointRun(network, X, y)
    trace = run.run(4, 0.0)
    n, d = X.shape
    assert trace.preparation_counts == {"scores": n * network.width * d, "inner_products": n * n * d}
    dense, f = JointNetwork(network.weights, network.signs, network.shift), network.predict(X)
    twin, warm = JointRun(network, X, y), WarmCholesky()
    for counts in trace.counts:
        spent = warm.work
        warm.solve(twin.watched.gram(), twin.residual)
        twin.iterate()
        assert counts["solve"] == warm.work - spent
        fires = dense.shift <= X @ dense.weights.T
        fan = fires.sum(axis=0)
        J = reference.output_layer.jacobian(dense, X)
        dense = moved(dense, X, np.linalg.solve(J @ J.T, f - y))
        f = dense.predict(X)
        after = dense.shift <= X @ dense.weights.T
        assert counts["gram"] == 2 * int(fan @ fan) + 2 * n * n
        assert counts["step"] == 2 * int(fires.sum())
        assert counts["predict"] == counts["active_pairs"] == int(after.sum())
        assert counts["flips"] == int((fires != after).sum())
        assert counts["look"] >= int(fires.sum())
        assert counts["drift"] >= int(fan @ fan)
    for phase in ("compare", "step", "gram"):
        assert run.watched.work[phase] == sum(counts[phase] for counts in trace.counts)
    queues = run.watched.pair_queue, run.watched.row_queue
    assert run.watched.work["compare"] == sum(queue.compared for queue in queues)


def test_late_steps_compare_few_pairs_beyond_those_that_fire() -> None:
    rng = np.random.default_rng(2)
    problem = make("random", 32, 32, rng)
    run = JointRun(initialize(2**14, 32, shift=shift_for(2**14, 0.24), rng=rng), problem.X, problem.y)
    for _ in range(5):
        run.iterate()
    last = run.counts[-1]
    assert (last["flips"], last["look"]) == (0, last["active_pairs"])
    assert last["compare"] < 1.1 * last["look"] < 0.4 * run.watched.used


def test_training_stops_at_the_tolerance() -> None:
    network, X, y = trainable()
    norms = train(network, X, y, iterations=4).residual_norms
    assert norms[0] > 2
    tolerance = (1 + 1e-9) * norms[2] / norms[0]
    trace = train(network, X, y, iterations=50, tolerance=tolerance)
    assert trace.converged
    assert trace.residual_norms.tolist() == norms[:3].tolist()
    assert len(trace.counts) == 2
    assert not train(network, X, y, iterations=1, tolerance=tolerance).converged
    # Labels that the network has already.
    known = train(network, X, 0 * y, iterations=0).predictions
    trace = train(network, X, known, iterations=0)
    assert (trace.residual_norms.tolist(), trace.converged) == ([0.0], True)


def test_no_iterations_return_the_initial_network() -> None:
    network, X, y = trainable()
    trace = train(network, X, y, iterations=0)
    np.testing.assert_allclose(trace.network.predict(X), network.predict(X), atol=1e-13)
    assert (trace.counts, trace.converged) == ([], False)
    dense = trace.network.to_dense()
    np.testing.assert_array_equal(dense.weights, network.weights)
    np.testing.assert_array_equal(dense.output_weights, network.signs)


def test_training_can_go_on_from_its_own_result_and_from_that_of_the_hidden_layer() -> None:
    network, X, y = trainable()
    whole = train(network, X, y, iterations=4)
    first = train(network, X, y, iterations=2)
    second = train(first.network, X, y, iterations=2)
    np.testing.assert_allclose(second.residual_norms, whole.residual_norms[2:], rtol=1e-6, atol=1e-13)
    hidden = train_hidden(network, X, y, iterations=1).network
    mine = train(hidden, X, y, iterations=2)
    theirs = reference.output_layer.train(hidden.to_dense(), X, y, iterations=2)
    np.testing.assert_allclose(mine.residual_norms, theirs.residual_norms, rtol=1e-9, atol=1e-13)


def test_lazy_networks_are_trained_like_their_full_draw() -> None:
    rng = np.random.default_rng(3)
    problem = make("random", 6, 5, rng)
    shift = shift_for(2000, 0.2)
    lazy = lazy_width.initialize(problem.X, width=2000, shift=shift, rng=rng, unseen=problem.unseen)
    # The neurons that are missing fire nowhere: any weights that do not fire will do.
    missing = 2000 - len(lazy.signs)
    full = TwoLayerNetwork(
        np.concatenate([lazy.weights, np.zeros((missing, 5))]), np.concatenate([lazy.signs, np.ones(missing)]), shift
    )
    expected = reference.output_layer.train(full, problem.X, problem.y, iterations=4)
    trace = train(lazy, problem.X, problem.y, iterations=4)
    np.testing.assert_allclose(trace.residual_norms, expected.residual_norms, rtol=1e-9, atol=1e-13)
    unseen = expected.network.predict(problem.unseen)
    np.testing.assert_allclose(trace.network.predict(problem.unseen), unseen, atol=1e-12)
    np.testing.assert_allclose(trace.network.to_dense().predict(problem.unseen), unseen, atol=1e-12)
    more = train(trace.network, problem.X, problem.y, iterations=1)
    assert more.residual_norms[0] == pytest.approx(trace.residual_norms[-1], abs=1e-12)
    with pytest.warns(PartialPredictionWarning, match="were not given"):
        trace.network.predict(unit_rows(2, 5, rng))
    with pytest.raises(InputError, match="was not given when the network was drawn"):
        train(lazy, unit_rows(2, 5, rng), np.ones(2), iterations=1)


def test_a_lazy_network_without_neurons_is_silent() -> None:
    empty = lazy_width.initialize(np.eye(3), width=1, shift=30.0, rng=np.random.default_rng(1))
    with pytest.raises(NothingFiresError, match="data point 0"):
        train(empty, np.eye(3), np.ones(3), iterations=3)


def test_bad_arguments_are_refused() -> None:
    network, X, y = trainable()
    with pytest.raises(InputError, match="X has 7 columns but the network takes 8"):
        train(network, unit_rows(3, 7, np.random.default_rng(0)), y[:3], iterations=2)
    with pytest.raises(InputError, match="y has 3 entries"):
        train(network, X, y[:3], iterations=2)
    with pytest.raises(InputError, match="row 0 of X has length 2"):
        train(network, 2 * X, y, iterations=2)
    with pytest.raises(InputError, match="iterations is -1; pass a whole number"):
        train(network, X, y, iterations=-1)
    with pytest.raises(InputError, match="tolerance is 1"):
        train(network, X, y, iterations=1, tolerance=1)


def test_a_silent_point_and_a_singular_gram_matrix_are_errors() -> None:
    with pytest.raises(NothingFiresError, match="data point 0"):
        train(initialize(50, 4, shift=9.0, rng=np.random.default_rng(0)), np.eye(4), np.ones(4), iterations=1)
    angles = np.array([0.5, 0.7, 0.9, 1.1])
    X = np.column_stack([np.cos(angles), np.sin(angles)])
    with pytest.raises(SingularGramError):
        train(TwoLayerNetwork([[2.0, 2.0]], [1.0], 0.5), X, [1.0, -1.0, 1.0, -1.0], iterations=1)


def uncentred(seed: int) -> tuple[TwoLayerNetwork, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    X = 1 + 0.05 * rng.standard_normal((20, 6))
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    return initialize(256, 6, shift=shift_for(256, 0.1), rng=rng), X, rng.standard_normal(20)


def test_a_diverging_run_is_reported_as_such() -> None:
    with pytest.raises(DivergenceError, match=r"training diverged: after iteration .*; widen the network") as caught:
        train(*uncentred(0), iterations=60)
    assert caught.value.residual_norms[-1] > caught.value.residual_norms[0]


def test_the_result_does_not_depend_on_the_callers_data_any_more() -> None:
    network, X, y = trainable()
    trace = train(network, X, y, iterations=2)
    before, trained_on = trace.network.predict(X), X.copy()
    X[:] = 0
    assert trace.network.predict(trained_on).tolist() == before.tolist()
    with pytest.raises(ValueError, match="read-only"):
        trace.network.hidden.X[:] = 0


@pytest.mark.parametrize("seed", range(3))
def test_residuals_stay_true_where_steps_are_huge_and_cancel(seed: int) -> None:
    """Twins that are all but equal: coefficients of 1e5 and more, of which nearly nothing is left in the weights."""
    rng = np.random.default_rng(seed)
    problem = make("twins", 6, 4, rng, angle=1e-6)
    run = JointRun(initialize(4000, 4, shift=0.5, rng=rng), problem.X, problem.y)
    for _ in range(8):
        run.iterate()
        true = np.linalg.norm(run.network().to_dense().predict(problem.X) - problem.y)
        assert true == pytest.approx(run.residual_norms[-1], abs=1e-10 * run.residual_norms[0])
    assert abs(run.watched.base).max() > 1e5
    assert run.residual_norms[-1] < 1e-10 * run.residual_norms[0]


def test_both_sides_take_the_same_arguments() -> None:
    assert list(inspect.signature(train).parameters) == list(inspect.signature(reference.output_layer.train).parameters)
