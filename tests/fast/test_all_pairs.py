from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import reference.gauss_newton
from fast import all_pairs, lazy_width
from fast.all_pairs import AllPairs
from fast.baselines import train_compacted
from fast.gauss_newton import EventRun, train
from fast.watched_pairs import PHASES, WatchedPairs, WholeArraysError
from reference.notation import SingularGramError
from reference.two_layer import TwoLayerNetwork, activation_pattern, initialize, shift_for
from verify.problems import make, unit_rows
from verify.strategies import generators
from verify.tolerances import RUN


@settings(max_examples=40)
@given(
    generators,
    st.integers(1, 20),
    st.sampled_from([2, 8]),
    st.integers(1, 400),
    st.sampled_from([0.0, 0.3]),
    st.lists(st.booleans(), min_size=1, max_size=4),
)
def test_steps_agree_with_dense_weights(
    rng: np.random.Generator, n: int, d: int, m: int, alpha: float, kept: list[bool]
) -> None:
    """Go over after one step on watched pairs; then any steps, some of them undone."""
    X = make("random", n, d, rng).X
    dense = initialize(m, d, shift=shift_for(max(m, 2), alpha), rng=rng)
    watched = type("Watched", (WatchedPairs,), {"most": 1.0})(dense, X, X @ X.T, 0.1)
    pairs: WatchedPairs | AllPairs = watched
    for step, keep in enumerate([True, *kept]):
        if step == 1:
            pairs = AllPairs.of(watched)
        g = np.sqrt(m) * rng.standard_normal(n)
        pattern = activation_pattern(dense, X)
        steps = dense.signs[:, np.newaxis] * (pattern.T @ (g[:, np.newaxis] * X)) / np.sqrt(m)
        after = TwoLayerNetwork(dense.weights - steps, dense.signs, dense.shift)
        fires = activation_pattern(after, X).astype(float)
        saved, trial = pairs.copy(), pairs.try_step(g)
        np.testing.assert_allclose(trial.predictions, after.predict(X), atol=1e-10 * np.sqrt(m))
        np.testing.assert_array_equal(trial.fired_per_point, fires.sum(axis=1))
        flips = pairs.work["flips"]
        pairs.take(trial)
        assert pairs.work["flips"] - flips == np.count_nonzero(fires != pattern)
        if not keep:
            pairs = saved
            continue
        dense = after
        np.testing.assert_array_equal(pairs.shared, fires @ fires.T)
        assert pairs.active_pairs == fires.sum() == len(pairs.fired_pairs())
        np.testing.assert_allclose(pairs.trained_network().to_dense().weights, after.weights, atol=1e-12)
        data_index, neuron_index = np.nonzero(fires)
        assert pairs.fired_pairs().data_index.tolist() == data_index.tolist()
        assert pairs.fired_pairs().neuron_index.tolist() == neuron_index.tolist()


def test_a_run_goes_over_where_the_drift_is_large_and_stays_exact() -> None:
    rng = np.random.default_rng(0)
    problem = make("random", 24, 16, rng)
    width = 2**30
    network = lazy_width.initialize(problem.X, width=width, shift=shift_for(width, 0.6), rng=rng)
    run = EventRun(network, problem.X, problem.y)
    assert isinstance(run.watched, WatchedPairs)
    expected = reference.gauss_newton.train(network.to_dense(), problem.X, problem.y, iterations=6)
    trace = run.run(6, 0.0)
    assert isinstance(run.watched, AllPairs)
    scale = np.linalg.norm(problem.y)
    np.testing.assert_allclose(trace.residual_norms, expected.residual_norms, atol=RUN * scale)
    np.testing.assert_allclose(trace.network.predict(problem.X), expected.predictions, atol=RUN * scale)


def test_a_run_goes_back_when_the_flips_have_died_out() -> None:
    rng = np.random.default_rng(0)
    problem = make("pairs", 16, 32, rng)
    network = initialize(2**14, 32, shift=shift_for(2**14, 0.24), rng=rng)
    run, modes = EventRun(network, problem.X, problem.y), []
    for _ in range(12):
        run.iterate()
        modes.append(type(run.watched))
    back = modes.index(AllPairs) + modes[modes.index(AllPairs) :].index(WatchedPairs)
    # The later of the iterations on watched pairs cost next to nothing, and are as exact.
    assert sum(run.counts[-1].values()) * 100 < sum(run.counts[back].values())
    expected = train_compacted(network, problem.X, problem.y, iterations=12)
    scale = np.linalg.norm(problem.y)
    np.testing.assert_allclose(run.residual_norms, expected.residual_norms, atol=RUN * scale)
    trained, dense = run.trace(0.0).network, expected.network.weights
    np.testing.assert_allclose(trained.to_dense().weights, dense, atol=RUN * abs(dense).max())
    np.testing.assert_array_equal(trained.to_dense().weights[trained.moved], trained.moved_weights())
    fired = run.fired
    assert (activation_pattern(expected.network, problem.X)[fired.data_index, fired.neuron_index]).all()
    assert len(fired) == activation_pattern(expected.network, problem.X).sum() == run.watched.active_pairs


def test_a_crowded_start_goes_over_at_once() -> None:
    rng = np.random.default_rng(0)
    problem = make("random", 12, 8, rng)
    network = initialize(500, 8, shift=0.0, rng=rng)
    run = EventRun(network, problem.X, problem.y)
    assert isinstance(run.watched, AllPairs)
    expected = reference.gauss_newton.train(network, problem.X, problem.y, iterations=5)
    np.testing.assert_allclose(run.run(5, 0.0).residual_norms, expected.residual_norms, atol=RUN)


def test_a_refusal_changes_nothing() -> None:
    """A trial that would have to watch too many pairs can be made again, by whole arrays or with a smaller step."""
    rng = np.random.default_rng(1)
    problem = make("clash", 24, 8, rng)
    network = initialize(4096, 8, shift=shift_for(4096, 0.3), rng=rng)
    watched = WatchedPairs(network, problem.X, problem.X @ problem.X.T, 0.0)
    before = (watched.predictions.tolist(), watched.used, watched.active_pairs, watched.drift)
    g = rng.standard_normal(24)
    with pytest.raises(WholeArraysError):
        watched.try_step(1e4 * g)
    assert before == (watched.predictions.tolist(), watched.used, watched.active_pairs, watched.drift)
    small, whole = watched.try_step(1e-3 * g), AllPairs.of(watched).try_step(1e-3 * g)
    np.testing.assert_allclose(small.predictions, whole.predictions, atol=1e-12)


def test_going_over_computes_nothing_again() -> None:
    rng = np.random.default_rng(3)
    problem = make("clash", 16, 8, rng)
    network = initialize(2048, 8, shift=shift_for(2048, 0.24), rng=rng)
    watched = WatchedPairs(network, problem.X, problem.X @ problem.X.T, 0.1)
    watched.take(watched.try_step(rng.standard_normal(16)))
    work = dict(watched.work)
    whole = AllPairs.of(watched)
    assert whole.work == work
    np.testing.assert_array_equal(whole.predictions, watched.predictions)
    np.testing.assert_array_equal(whole.shared, watched.shared)
    assert whole.active_pairs == watched.active_pairs == whole.pattern.sum()
    assert whole.fired_pairs().neuron_index.tolist() == watched.fired_pairs().neuron_index.tolist()


def test_training_can_go_on_from_weights_kept_as_rows() -> None:
    rng = np.random.default_rng(2)
    problem = make("random", 12, 8, rng)
    network = initialize(500, 8, shift=0.0, rng=rng)
    whole = train(network, problem.X, problem.y, iterations=4)
    half = train(network, problem.X, problem.y, iterations=2)
    assert half.network.coefficients is None
    rest = train(half.network, problem.X, problem.y, iterations=2)
    np.testing.assert_allclose(rest.residual_norms, whole.residual_norms[2:], atol=RUN)


def test_the_sketched_solver_and_the_safeguard_work_on_whole_arrays() -> None:
    rng = np.random.default_rng(3)
    X = unit_rows(12, 2, rng)
    network = initialize(400, 2, shift=0.0, rng=rng)
    y = rng.standard_normal(12)
    plain = train(network, X, y, iterations=3, step="safeguarded")
    assert (np.diff(plain.residual_norms) <= 0).all()
    try:
        expected = train(network, X, y, iterations=1)
    except SingularGramError:
        pytest.fail("the problem should be solvable")
    sketched = train(network, X, y, iterations=1, solver="sketch", rng=rng)
    np.testing.assert_allclose(sketched.residual_norms, expected.residual_norms, rtol=1e-6)


def test_a_pair_on_its_kink_fires() -> None:
    network = TwoLayerNetwork([[1.0, 0.5], [1.0, 2.0]], [1.0, -1.0], 1.0)
    X = np.eye(2)
    whole = AllPairs.start(network, X, X @ X.T, dict.fromkeys(PHASES, 0))
    np.testing.assert_array_equal(whole.neurons, [0, 1])
    np.testing.assert_array_equal(whole.pattern, [[True, False], [True, True]])
    np.testing.assert_array_equal(whole.shared, [[2, 1], [1, 1]])


@pytest.mark.parametrize("block", [1 << 18, 256])
def test_the_work_of_a_step(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    """Blocks of all 32 neurons or of 8; those with 1/16 of their pairs firing, and no fewer, are multiplied whole."""
    monkeypatch.setattr(all_pairs, "BLOCK_ENTRIES", block)
    n, X = 32, np.eye(32)
    dense = 2 * (np.eye(n) + np.roll(np.eye(n), 1, axis=1))  # each neuron fires on two of 32 points,
    dense[0, 1] = -1  # but the first one on its own alone
    network = TwoLayerNetwork(dense, np.where(np.arange(n) % 2, 1.0, -1.0), 1.0)
    work = dict.fromkeys(PHASES, 0)
    whole = AllPairs.start(network, X, X @ X.T, work)
    whole_blocks = 0 if block > n * n else 24 * n**2
    start = whole_blocks + (31 * 2**2 + 1 if block > n * n else 7 * 2**2 + 1)
    assert work == dict.fromkeys(PHASES, 0) | {"compute": n**3, "gram": start}
    np.testing.assert_array_equal(whole.gram(), X * np.sum(dense >= 1, axis=0) / n)
    assert whole.gram().max() == 2 / n
    assert work["gram"] == start + 2 * n**2
    before, g = dict(work), np.zeros(n)
    g[4] = -np.sqrt(n) * 2  # moves neurons 3 and 4 along x_4, by 2 and by -2, so that one pair stops
    trial = whole.try_step(g)
    added = {phase: work[phase] - before[phase] for phase in PHASES}
    lists = 30 * 2**2 + 2 if block > n * n else 6 * 2**2 + 2
    drift = 63 * n if block > n * n else 15 * n
    expected = {"compute": n**3, "drift": drift + whole_blocks, "gram": lists + whole_blocks}
    assert added == dict.fromkeys(PHASES, 0) | expected
    assert (trial.flips, trial.pattern.dtype) == (1, np.bool_)
    whole.take(trial)
    assert work["flips"] == 1
    whole.take(whole.try_step(-g))
    assert work["flips"] == 1
    assert work["drift"] == drift + (62 * n if block > n * n else 14 * n) + 2 * whole_blocks
    assert whole.trained_network().X is X
