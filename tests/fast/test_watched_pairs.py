from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fast.gauss_newton import EventRun
from fast.watched_pairs import DueQueue, Trial, WatchedPairs, WholeArraysError
from reference.notation import IntArray
from reference.two_layer import TwoLayerNetwork, activation_pattern, initialize, shift_for
from verify.problems import make, unit_rows
from verify.strategies import generators

ratios = st.one_of(st.floats(0.15, 0.3), st.floats(0.01, 3.0))
"""Of the lengths of successive steps: often about a quarter, where horizons of lists come close to each other."""


class Unlimited(WatchedPairs):
    """Watches on where training would go over to whole arrays."""

    most = 1.0


def watch(network: TwoLayerNetwork, X: np.ndarray, band: float) -> WatchedPairs:
    watched = Unlimited(network, X, X @ X.T, band)
    # Lists of lists at once, small as the networks here are.
    watched.pair_queue, watched.row_queue = DueQueue(fewest=0), DueQueue(fewest=0)
    return watched


def moved(network: TwoLayerNetwork, X: np.ndarray, g: np.ndarray) -> TwoLayerNetwork:
    """Step by the definition: ``w_r - m^(-1/2) a_r sum of g_i x_i`` over the points that ``r`` fires on."""
    pattern = activation_pattern(network, X)
    steps = network.signs[:, np.newaxis] * (pattern.T @ (g[:, np.newaxis] * X)) / np.sqrt(network.width)
    return TwoLayerNetwork(network.weights - steps, network.signs, network.shift)


def assert_announced(watched: WatchedPairs) -> None:
    """Every list of a queue must hold all entries that are due by its horizon, whatever happened to them."""
    for queue, due in ((watched.pair_queue, watched.due[: watched.used]), (watched.row_queue, watched.row_due)):
        for horizon, members in queue._lists:
            assert np.isin(np.flatnonzero(due <= horizon), members).all()
            assert (members < len(due)).all()


def assert_in_step(watched: WatchedPairs, f: np.ndarray, dense: TwoLayerNetwork, X: np.ndarray, scale: float) -> None:
    """Compare pattern, counts, predictions and weights with a dense network."""
    scores = dense.weights @ X.T
    fires = scores >= dense.shift
    fired = watched.fired_pairs()
    mine = np.zeros_like(fires)
    mine[fired.neuron_index, fired.data_index] = True
    tolerance = 1e-10 * (1 + scale)
    assert not ((mine != fires) & (np.abs(scores - dense.shift) > tolerance)).any()
    assert watched.active_pairs == len(fired) == watched.fired[: watched.used].sum()
    np.testing.assert_array_equal(watched.shared, mine.T.astype(float) @ mine)
    predictions = dense.predict(X)
    np.testing.assert_allclose(f, predictions, atol=tolerance * np.sqrt(dense.width))
    np.testing.assert_allclose(watched.predictions, predictions, atol=tolerance * np.sqrt(dense.width))
    np.testing.assert_allclose(watched.trained_network().to_dense().weights, dense.weights, atol=tolerance)


@settings(max_examples=80)
@given(
    generators,
    st.sampled_from(["random", "pairs", "twins", "clash"]),
    st.integers(1, 24),
    st.sampled_from([2, 3, 8, 20]),
    st.integers(1, 600),
    st.sampled_from([0.0, 0.1, 0.4, 0.7]),
    st.sampled_from([0.0, 0.01, 0.3, 3.0]),
    st.floats(0.1, 10),
    st.lists(st.tuples(st.sampled_from(["take", "take", "try", "undo"]), ratios), min_size=1, max_size=10),
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
    """Arbitrary directions and lengths, not only Gauss-Newton's; steps tried and not taken; steps taken and undone."""
    X = make(family, n, d, rng).X
    network = initialize(m, d, shift=shift_for(max(m, 2), alpha), rng=rng)
    watched, dense = watch(network, X, band), network
    f, scale = watched.predictions, 0.0
    assert_in_step(watched, f, dense, X, scale)
    for move, ratio in moves:
        length *= ratio
        g = length * np.sqrt(m) / 10 * rng.standard_normal(n)
        saved = watched.copy()
        trial = watched.try_step(g)
        after, stepped = trial.predictions, moved(dense, X, g)
        np.testing.assert_allclose(after, stepped.predict(X), atol=1e-9 * (1 + scale + length) * np.sqrt(m))
        if move == "try":
            continue
        watched.take(trial)
        assert_announced(watched)
        if move == "undo":
            watched = saved
            continue
        f, dense, scale = after, stepped, scale + length
        assert_in_step(watched, f, dense, X, scale)


@settings(max_examples=150)
@given(
    generators,
    st.sampled_from([3, 8, 24]),
    st.sampled_from([2, 3, 8]),
    st.sampled_from([20, 200]),
    st.sampled_from([0.3, 1.0, 2.0]),
    st.sampled_from([0.0, 0.01, 0.3, 1.0]),
    st.lists(st.sampled_from([0.02, 0.1, 0.2, 0.25, 0.9, 1.0, 3.0]), min_size=4, max_size=12),
)
def test_bounds_that_are_nearly_tight_hold(
    rng: np.random.Generator, n: int, d: int, m: int, shift: float, band: float, ratios: list[float]
) -> None:
    """Data in a narrow cone and steps of one sign: what a pair may move by is nearly what it does move by."""
    X = rng.standard_normal((n, d)) * 10 ** rng.uniform(-3, -0.5)
    X[:, 0] += 1
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    dense = TwoLayerNetwork(rng.standard_normal((m, d)), rng.choice([-1.0, 1.0], size=m), shift)
    watched, length = watch(dense, X, band), rng.uniform(0.05, 2)
    for ratio in ratios:
        length *= ratio
        g = 0.3 * length * np.sqrt(m) * rng.choice([-1.0, 1.0]) * np.ones(n)
        if rng.random() < 0.2:
            watched.try_step(g * rng.uniform(0.5, 2))
        watched.take(watched.try_step(g))
        assert_announced(watched)
        dense = moved(dense, X, g)
        fired, scores = watched.fired_pairs(), dense.weights @ X.T
        mine = np.zeros(scores.shape, dtype=bool)
        mine[fired.neuron_index, fired.data_index] = True
        assert not ((mine != (scores >= shift)) & (np.abs(scores - shift) > 1e-9)).any()


def test_rows_that_are_not_quite_of_unit_length() -> None:
    """A short row beside a nearly parallel long one has a coherence above its own square."""
    angle, lengths = 1e-7, np.array([[1 - 9.9e-7], [1 + 9.9e-7]])
    X = lengths * np.array([[1.0, 0.0], [np.cos(angle), np.sin(angle)]])
    scores = np.array([1.5, 1 - 1e-9])
    dense = TwoLayerNetwork([np.linalg.solve(X, scores)], [1.0], 1.0)
    watched = watch(dense, X, 1e-6)
    first = np.array([-1e-8, 0.0])
    watched.take(watched.try_step(first))
    dense = moved(dense, X, first)
    products = X @ X.T
    excess = float((dense.weights @ X.T)[0, 0] - 1)
    second = np.full(2, excess / (products[0, 0] + products[0, 1]) * (1 + 3e-7))
    watched.take(watched.try_step(second))
    fires = moved(dense, X, second).weights @ X.T >= 1
    assert watched.fired_pairs().data_index.tolist() == np.flatnonzero(fires).tolist()


def test_steps_that_cancel_ask_for_weights() -> None:
    X = np.array([[1.0, 0.0], [0.6, 0.8]])
    watched = watch(TwoLayerNetwork([[2.0, 2.0]], [1.0], 1.0), X, 0.1)
    watched.try_step(np.array([1e3, -1e3]))
    with pytest.raises(WholeArraysError):
        watched.try_step(np.array([1e9, -1e9]))


def test_a_pair_on_its_kink_fires() -> None:
    X = np.eye(2)
    network = TwoLayerNetwork([[1.0, 0.5]], [1.0], 1.0)
    watched = watch(network, X, 0.0)
    assert watched.active_pairs == 1
    # The step lowers the score of the first point by 1, and of the second not at all.
    trial = watched.try_step(np.array([1.0, 0.0]))
    assert trial.flips.size == 1


def test_one_step_by_hand() -> None:
    """One neuron, two points, ``<x_1, x_2> = 0.6``: the step pushes the second score over the shift."""
    X = np.array([[1.0, 0.0], [0.6, 0.8]])
    network = TwoLayerNetwork([[2.0, -0.5]], [1.0], 1.0)
    watched = watch(network, X, 0.1)  # excesses 1 and -0.2: only the first pair is watched
    assert watched.used == 1
    trial = watched.try_step(np.array([-1.0, 0.0]))  # the weight moves by +x_1, the scores by 1 and 0.6
    np.testing.assert_allclose(trial.predictions, [2.0, 0.4])
    np.testing.assert_array_equal(trial.fired_per_point, [1, 1])
    watched.take(trial)
    np.testing.assert_array_equal(watched.shared, [[1, 1], [1, 1]])
    assert watched.work["compute"] > 0


class CertificateOff(Unlimited):
    def _certify(self, drift: float, total: np.ndarray) -> tuple[IntArray, np.ndarray, IntArray]:
        none = np.empty(0, dtype=np.intp)
        return none, np.empty(0), none


class FlipsDropped(Unlimited):
    def try_step(self, g: np.ndarray) -> Trial:
        trial = super().try_step(g)
        return Trial(**(vars(trial) | {"flips": trial.flips[:-1]}))


class ClockStopped(Unlimited):
    def _later(self, slack: Any, rate: Any) -> np.ndarray:  # noqa: ANN401
        return 2 * super()._later(slack, rate)


class CountsStale(Unlimited):
    def _sum_shared(self, pairs: IntArray, change: IntArray) -> np.ndarray:
        counts = super()._sum_shared(pairs, change)
        return counts if self.drift == 0 else 0.999 * counts


def worst_error(watch: type[WatchedPairs]) -> float:
    """Return the largest error of predictions and shared counts in five steps on coherent data."""
    rng = np.random.default_rng(0)
    problem = make("clash", 24, 8, rng)
    network = initialize(4096, 8, shift=shift_for(4096, 0.24), rng=rng)
    run = type("Run", (EventRun,), {"watch": watch})(network, problem.X, problem.y)
    worst = 0.0
    for _ in range(5):
        run.iterate()
        dense = run.watched.trained_network().to_dense()
        pattern = activation_pattern(dense, problem.X).astype(float)
        worst = max(worst, abs(run.watched.predictions - dense.predict(problem.X)).max())
        worst = max(worst, abs(run.watched.shared - pattern @ pattern.T).max())
    return worst


@pytest.mark.parametrize("fault", [CertificateOff, FlipsDropped, ClockStopped, CountsStale])
def test_planted_faults_show(fault: type[WatchedPairs]) -> None:
    assert worst_error(Unlimited) < 1e-10
    assert worst_error(fault) > 1e-4


def test_rows_left_behind_are_dropped() -> None:
    rng = np.random.default_rng(1)
    X = unit_rows(30, 2, rng)
    network = initialize(2000, 2, shift=shift_for(2000, 0.1), rng=rng)
    watched, dense = watch(network, X, 0.0), network
    compacted = 0
    for _ in range(12):
        g = 2 * rng.standard_normal(30)
        dead = watched.dead
        trial = watched.try_step(g)
        compacted += watched.dead < dead
        assert_announced(watched)
        watched.take(trial)
        assert_announced(watched)
        dense = moved(dense, X, g)
        assert_in_step(watched, dense.predict(X), dense, X, 1.0)
        assert 2 * watched.dead <= watched.used
    assert compacted > 0


def test_late_steps_look_at_little() -> None:
    rng = np.random.default_rng(2)
    problem = make("random", 32, 32, rng)
    network = initialize(2**18, 32, shift=shift_for(2**18, 0.24), rng=rng)
    run = EventRun(network, problem.X, problem.y)
    for _ in range(7):
        run.iterate()
    first, last = run.counts[0], run.counts[-1]
    assert last["flips"] == 0
    for phase in ("compare", "look", "drift", "gram"):
        assert last[phase] * 50 < first[phase], phase


def test_the_start_streams_over_the_weights() -> None:
    rng = np.random.default_rng(3)
    n, m = 64, 2**17
    problem = make("random", n, 8, rng)
    network = initialize(m, 8, shift=shift_for(m, 0.24), rng=rng)
    tracemalloc.start()
    try:
        EventRun(network, problem.X, problem.y)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < n * m * 8 / 2


@settings(max_examples=100)
@given(
    generators,
    st.integers(1, 1000),
    st.lists(ratios, min_size=1, max_size=15),
)
def test_the_queue_finds_what_is_due(rng: np.random.Generator, entries: int, shrink: list[float]) -> None:
    """Against a plain comparison, with values that rise when found, and some that fall and are announced.

    Steps shrink by about four, so that horizons of lists made of lists come close to each other.
    """
    due, queue, now, step = rng.random(entries), DueQueue(fewest=0), 0.0, 0.1
    for ratio in shrink:
        now += step
        found = queue.reached(due, now, step)
        assert found.tolist() == np.flatnonzero(due <= now).tolist()
        due[found] = now + rng.random(len(found)) * rng.choice([1.0, step], size=len(found))
        fallen = np.flatnonzero(rng.random(entries) < 0.02)
        due[fallen] = np.minimum(due[fallen], now + step * rng.random(len(fallen)))
        queue.lower(fallen, due)
        step *= ratio


def test_the_queue_sets_aside_lists_of_lists() -> None:
    """The property above is about these; it would say nothing if there were none."""
    due, queue = np.linspace(0, 1, 100_001), DueQueue()
    now, compared = 0.0, []
    for step in (0.1, 0.01, 0.001, 0.001):
        now += step
        before = queue.compared
        found = queue.reached(due, now, step)
        assert found.tolist() == np.flatnonzero(due <= now).tolist()
        due[found] = 2.0
        compared.append(queue.compared - before)
    assert compared[0] == 100_001
    assert 10 * compared[1] < compared[0] * 2
    assert 2 * compared[3] < compared[1]


def test_a_row_that_a_check_clears_has_lost_what_it_has_moved() -> None:
    """Steps back and forth spend the drift while the coefficients stay small, so checks clear the row."""
    X = np.array([[1.0, 0.0], [0.8, 0.6]])
    network = TwoLayerNetwork([[2.0, (1 - 0.501 - 1.6) / 0.6]], [1.0], 1.0)
    watched = Unlimited(network, X, X @ X.T, 0.5, scale=10.0)
    for step in (-0.3, 0.3, -0.35, -0.3):
        watched.take(watched.try_step(np.array([step, 0.0])))
    assert watched.active_pairs == 2


def test_lost_digits_add_up_over_the_steps() -> None:
    rng = np.random.default_rng(0)
    X = unit_rows(4, 4, rng)
    network = initialize(200, 4, shift=0.5, rng=rng)
    watched = Unlimited(network, X, X @ X.T, 10.0)
    g = np.ones(4)
    one = watched.try_step(g).rounding
    watched.take(watched.try_step(g))
    watched.take(watched.try_step(-g))
    assert watched.rounding > 1.9 * one
    watched.rounding = 1e-10 * watched.scale
    with pytest.raises(WholeArraysError):
        watched.try_step(g)


def test_compacting_forgets_lists_of_entries_that_have_new_numbers() -> None:
    rng = np.random.default_rng(1)
    X = unit_rows(6, 3, rng)
    watched = watch(initialize(400, 3, shift=0.8, rng=rng), X, 0.05)
    watched.take(watched.try_step(0.3 * rng.standard_normal(6)))
    assert watched.pair_queue._lists
    watched._compact()
    assert_announced(watched)
    for _ in range(6):
        watched.take(watched.try_step(rng.standard_normal(6)))
        assert_announced(watched)
    assert watched.predictions == pytest.approx(watched.trained_network().predict(X), abs=1e-10)
