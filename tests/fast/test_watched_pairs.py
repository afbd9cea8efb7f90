from __future__ import annotations

import tracemalloc
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fast import watched_pairs
from fast.gauss_newton import EventRun
from fast.watched_pairs import PHASES, REACH, SLACK, DueQueue, Trial, WatchedPairs, WholeArraysError
from reference.notation import FloatArray, IntArray
from reference.regression import rounding_floor
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


class Spy(DueQueue):
    """Keeps what it is told."""

    step = 0.0
    announced: tuple[list[int], ...] = ()

    def reached(self, due: FloatArray, now: float, step: float) -> IntArray:
        self.step = step
        return super().reached(due, now, step)

    def lower(self, entries: IntArray, due: FloatArray) -> None:
        self.announced = (*self.announced, entries.tolist())
        super().lower(entries, due)


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


def test_nothing_fires_and_nothing_moves() -> None:
    X = np.eye(2)
    watched = WatchedPairs(TwoLayerNetwork([[0.5, 0.5]], [1.0], 1.0), X, X, 1.0)
    assert (watched.neurons.size, watched.touched.dtype, watched.pull.size) == (0, np.intp, 0)
    watched.take(watched.try_step(np.ones(2)))
    assert watched.predictions.tolist() == [0.0, 0.0]
    assert watched.shared.tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_a_wait_that_overflows_is_endless() -> None:
    X = np.array([[1.0, 0.0], [1e-310, 1.0]])
    watched = WatchedPairs(TwoLayerNetwork([[2.0, 0.95]], [1.0], 1.0), X, X @ X.T, 0.1)
    assert np.isfinite(watched.due[: watched.used]).tolist() == [True, False]


def test_one_step_by_hand() -> None:
    """One neuron, two points, ``<x_1, x_2> = 0.6``: the step pushes the second score over the shift."""
    X = np.array([[1.0, 0.0], [0.6, 0.8]])
    network = TwoLayerNetwork([[2.0, -0.5]], [1.0], 1.0)
    watched = watch(network, X, 0.1)  # excesses 1 and -0.2: only the first pair is watched
    assert watched.used == 1
    watched.pair_queue = queue = Spy()
    trial = watched.try_step(np.array([-1.0, 0.0]))  # the weight moves by +x_1, the scores by 1 and 0.6
    np.testing.assert_allclose(trial.predictions, [2.0, 0.4])
    np.testing.assert_array_equal(trial.fired_per_point, [1, 1])
    assert queue.announced == ([1, 2],)  # the row with its new pair is written behind the old one
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


def test_lost_digits_add_up_over_the_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    X = unit_rows(4, 4, rng)
    network = initialize(200, 4, shift=0.5, rng=rng)
    watched = Unlimited(network, X, X @ X.T, 10.0)
    g = np.ones(4)
    one = watched.try_step(g).rounding
    with monkeypatch.context() as patch:
        patch.setattr(watched_pairs, "MOST_LOST", one / 2)
        watched.scale = 2.0
        watched.try_step(g)  # as much as is allowed
        watched.scale = 1.999
        with pytest.raises(WholeArraysError):
            watched.try_step(g)
    watched.scale = 10.0
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
    assert (watched.used, watched.dead) == (watched.count.sum(), 0)
    assert_announced(watched)
    for _ in range(6):
        watched.take(watched.try_step(rng.standard_normal(6)))
        assert_announced(watched)
    assert watched.predictions == pytest.approx(watched.trained_network().predict(X), abs=1e-10)


class Plain:
    """The bookkeeping of `WatchedPairs` by the sentences of its module docstring: dense arrays, no queues.

    `order` lists the watched points of each neuron as they came, `touched` tells how many of them must be gone through
    to see all that have ever fired.
    """

    def __init__(self, network: TwoLayerNetwork, X: FloatArray, band: float) -> None:
        excess = network.weights @ X.T - network.shift
        self.rows = np.flatnonzero((excess >= 0).any(axis=1))
        self.initial, self.band, self.products = excess[self.rows], band, X @ X.T
        self.unit = 1 / np.sqrt(network.width)
        self.signs = network.signs[self.rows, np.newaxis] * self.unit
        self.coherences = np.abs(self.products - np.diag(np.diag(self.products))).max(axis=1)
        self.fires, self.watched = self.initial >= 0, self.initial >= -band
        near = self.watched & ~self.fires
        self.order = [[*np.flatnonzero(f), *np.flatnonzero(w)] for f, w in zip(self.fires, near, strict=True)]
        self.touched = self.fires.sum(axis=1)
        self.used, self.dead = int(self.watched.sum()), 0
        self.pull = np.array([sum(self.coherences[f]) for f in self.fires])
        self.coefficients, self.drift = np.zeros_like(self.initial), 0.0
        self.from_start = np.ones(len(self.rows), dtype=bool)
        self.due = np.where(self.watched, self.wait(np.abs(self.initial), self.rate()), np.inf)
        self.row_due = self.wait(band, self.pull)

    def rate(self) -> FloatArray:
        own = np.maximum(np.diag(self.products) - self.coherences, 0)
        return np.asarray(self.pull[:, np.newaxis] + self.fires * own)

    def wait(self, slack: Any, rate: FloatArray) -> FloatArray:  # noqa: ANN401
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(rate > 0, slack / (SLACK * rate), np.inf)

    def try_step(self, g: FloatArray) -> None:
        self.after, self.size = self.coefficients - self.fires * g, self.unit * np.abs(g).max()
        self.now = self.drift + self.size
        self.excess = self.initial + self.signs * (self.after @ self.products)
        due = self.row_due <= self.now
        moved = SLACK * self.unit * np.abs(self.after) @ self.coherences
        self.checked = due
        self.computed = due & ~(self.from_start & (moved < self.band))
        self.reserve = np.where(self.computed, REACH * self.size * self.pull, self.band - moved)
        near = self.computed[:, np.newaxis] & (self.excess >= -self.reserve[:, np.newaxis]) & ~self.watched
        left = sum(len(self.order[r]) for r in np.flatnonzero(near.any(axis=1)))
        for r, point in np.argwhere(near):
            self.order[r].append(point)
        # Rows that gain pairs are written anew; what they leave behind is dropped once it is more than half.
        self.used, self.dead = self.used + left + int(near.sum()), self.dead + left
        if 2 * self.dead > self.used:
            self.used, self.dead = self.used - self.dead, 0
        self.watched |= near
        self.due[near] = self.drift
        self.looked = self.watched & (self.due <= self.now)
        self.flips = self.looked & ((self.excess >= 0) != self.fires)

    def take(self) -> None:
        before, starts = self.pull.copy(), self.flips & ~self.fires
        for r, order in enumerate(self.order):
            for place, point in enumerate(order):
                if self.flips[r, point]:
                    self.pull[r] += self.coherences[point] * (1 if starts[r, point] else -1)
                    self.touched[r] = max(self.touched[r], place + 1 if starts[r, point] else 0)
        self.fires, self.coefficients, self.drift = self.fires ^ self.flips, self.after, self.now
        factor, gaining = np.zeros(len(before)), starts.any(axis=1)
        np.divide(before, self.pull, out=factor, where=(before > 0) & (self.pull > 0))
        factor = np.where(gaining, np.minimum(factor, 1), 1)

        def shrink(due: FloatArray, factor: FloatArray) -> FloatArray:
            wait = np.where(factor > 0, np.maximum(due - self.drift, 0) * np.where(factor > 0, factor, 1), 0)
            return np.where(factor == 1, due, self.drift + wait)

        self.due[gaining] = shrink(self.due, factor[:, np.newaxis])[gaining]
        self.due[~self.watched] = np.inf
        self.row_due = shrink(self.row_due, factor)
        self.due[self.looked] = (self.drift + self.wait(np.abs(self.excess), self.rate()))[self.looked]
        self.row_due[self.checked] = (self.drift + self.wait(self.reserve, self.pull))[self.checked]
        self.from_start &= ~self.computed

    def whole(self, rows: IntArray) -> int:
        """Count the distinct rows of some pairs if they are to be handled whole; otherwise return 0."""
        n, edges, distinct = len(self.products), self.touched[rows].sum(), len(np.unique(rows))
        dear = max(watched_pairs.SPARSE_BELOW, watched_pairs.DENSE_AT * n * n)
        return distinct if edges > watched_pairs.EDGES // 16 and edges > dear * distinct else 0

    def shared_work(self, pairs: np.ndarray) -> int:
        rows = np.nonzero(pairs)[0]
        return self.whole(rows) * len(self.products) ** 2 or int(self.touched[rows].sum())


def assert_same_books(watched: WatchedPairs, plain: Plain) -> None:
    """Compare all that later steps depend on."""
    rows, entries = watched._entries(np.arange(len(watched.neurons)), watched.count)
    assert watched.neurons.tolist() == plain.rows.tolist()
    assert watched.point[entries].tolist() == [point for order in plain.order for point in order]
    assert watched.row[entries].tolist() == rows.tolist()
    assert watched.touched.tolist() == plain.touched.tolist()
    where = rows, watched.point[entries]
    for mine, theirs in (
        (watched.due[entries], plain.due[where]),
        (watched.fired[entries], plain.fires[where]),
        (watched.initial_excess[entries], plain.initial[where]),
        (watched._coefficients(entries, watched.total), plain.coefficients[where]),
        (watched.pull, plain.pull),
        (watched.row_due, plain.row_due),
        (watched.from_start, plain.from_start),
    ):
        # Where a pull has gone back to 0 but for rounding, the wait is as good as endless.
        np.testing.assert_allclose(np.minimum(mine, 1e9), np.minimum(theirs, 1e9), rtol=1e-9, atol=1e-12)
    assert watched.drift == pytest.approx(plain.drift, rel=1e-14)
    assert (watched.used, watched.dead) == (plain.used, plain.dead)
    assert watched.used - watched.dead == len(entries)


@pytest.mark.parametrize("edges", [1 << 18, 80, 17, 16])
@pytest.mark.parametrize(
    ("family", "n", "d", "m", "alpha", "band"),
    [
        ("random", 1, 3, 200, 0.1, 0.1),
        ("clash", 6, 3, 150, 0.1, 0.3),
        ("random", 12, 4, 100, 0.0, 0.0),
        ("random", 20, 2, 100, 0.3, 0.0),
        ("pairs", 16, 16, 400, 0.4, 1.0),
    ],
)
def test_the_books_are_those_of_a_plain_twin(
    monkeypatch: pytest.MonkeyPatch, family: str, n: int, d: int, m: int, alpha: float, band: float, edges: int
) -> None:
    """What is watched, when it is due, and all that is counted; with lists of pairs, and with rows in small blocks."""
    monkeypatch.setattr(watched_pairs, "EDGES", edges)
    monkeypatch.setattr(watched_pairs, "BLOCK_ENTRIES", 1 << 18 if edges > 80 else 40)
    if edges <= 80:
        monkeypatch.setattr(watched_pairs, "SPARSE_BELOW", 2)
        monkeypatch.setattr(watched_pairs, "DENSE_AT", 1 / 64 if edges == 17 else 0)
    rng = np.random.default_rng(n)
    X = make(family, n, d, rng).X
    network = initialize(m, d, shift=shift_for(m, alpha), rng=rng)
    watched, plain = watch(network, X, band), Plain(network, X, band)
    watched.pair_queue, watched.row_queue = spies = Spy(fewest=0), Spy(fewest=0)
    assert watched.scale == pytest.approx(1 + np.linalg.norm(network.predict(X)), rel=1e-12)
    counts = dict.fromkeys(PHASES, 0) | {"gram": plain.shared_work(plain.fires), "predict": int(plain.fires.sum())}
    assert watched.work == counts
    assert_same_books(watched, plain)
    rounding, new = 0.0, True
    for step, length in enumerate([0.1, 0.3, 0.1, 0.3, 0.05, 1.0, 0.01, 0.01, 0.3, 0.5, 0.5, 1.0, 0.1]):
        g = length * np.sqrt(m) / 3 * rng.standard_normal(n)
        floor = rounding_floor(float(np.trace(watched.gram())), g)
        plain.try_step(g)
        trial = watched.try_step(g)
        assert trial.rounding == pytest.approx(rounding + floor, rel=1e-12)
        assert trial.drift == pytest.approx(plain.now, rel=1e-14)
        assert [spy.step for spy in spies] == [trial.drift - watched.drift] * 2
        fired = (plain.fires ^ plain.flips).sum(axis=0)
        assert trial.fired_per_point.tolist() == fired.tolist()
        counts["gram"] += n * n if new else 0
        counts["predict"] += n * n
        counts["certify"] += int(plain.touched[plain.checked & plain.from_start].sum())
        counts["compute"] += int(plain.computed.sum()) * n * (n + d)
        counts["look"] += int(plain.looked.sum())
        looked = np.nonzero(plain.looked)[0]
        counts["drift"] += plain.whole(looked) * n * n or int(plain.touched[looked].sum())
        counts["compare"] = watched.pair_queue.compared + watched.row_queue.compared
        assert watched.work == counts
        new = False
        if step % 3 == 1:
            continue  # tried and not taken
        flips, rounding = plain.flips, trial.rounding
        plain.take()
        watched.take(trial)
        counts["flips"] += int(flips.sum())
        # Rows count before their new pairs fire and after.
        counts["gram"] += 2 * plain.shared_work(flips) if flips.any() else 0
        new = bool(flips.any())
        assert watched.work == counts
        assert_same_books(watched, plain)
    assert counts["flips"] > 0


@pytest.mark.parametrize("block", [1, 1 << 18])
def test_a_refusal_comes_exactly_at_the_limit(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    """Row by row the pairs found so far foretell those of all rows; in one block they are known."""
    monkeypatch.setattr(watched_pairs, "EDGES", block)
    rng = np.random.default_rng(1)
    X = make("clash", 8, 3, rng).X
    network, g = initialize(100, 3, shift=1.2, rng=rng), 6 * rng.standard_normal(8)
    plain = Plain(network, X, 0.1)
    first = plain.watched.sum(axis=1)
    before = int(first.sum())
    plain.try_step(g)
    rows = np.flatnonzero(plain.computed)
    gained = np.cumsum((plain.watched.sum(axis=1) - first)[rows])
    steps = np.arange(1, len(rows) + 1)
    most = max(before + gained * len(rows) / steps) if block == 1 else before + gained[-1]
    assert gained[-1] > 0
    assert (before + max(gained[-1], gained[0] * len(rows)) < most) == (block == 1)

    def attempt(most: float) -> WatchedPairs:
        kind = type("Limited", (WatchedPairs,), {"most": 0.0, "fewest": most / len(plain.rows)})
        watched: WatchedPairs = kind(network, X, X @ X.T, 0.1)
        watched.try_step(g)
        return watched

    watched = attempt(most * (1 + 1e-12))
    assert watched.used - watched.dead == before + gained[-1]
    assert watched.dead > 0
    assert not watched.crowded()
    with pytest.raises(WholeArraysError):
        attempt(most * (1 - 1e-12))


def test_how_many_pairs_are_a_crowd() -> None:
    assert WatchedPairs.limit(10, 8) == 60
    assert WatchedPairs.limit(10, 100) == 125
    X = np.eye(12)
    for firing in (6, 7):
        network = TwoLayerNetwork([[2.0] * firing + [0.0] * (12 - firing)], [1.0], 1.0)
        assert WatchedPairs(network, X, X, 0.0).crowded() == (firing == 7)


@pytest.mark.parametrize(
    ("n", "m", "block"),
    [(3, 50, 6), (5, 40, 1), (2, 70_000, 1 << 18), (4, 40_000, 1 << 18), (8, 30_000, 1 << 18)],
)
def test_near_pairs_by_neuron_and_those_that_fire_first(
    monkeypatch: pytest.MonkeyPatch, n: int, m: int, block: int
) -> None:
    """Scores of whole numbers, so that many lie on the shift and on the edge of the band; blocks from 1 to all rows."""
    monkeypatch.setattr(watched_pairs, "BLOCK_ENTRIES", block)
    scores = np.random.default_rng(n).integers(-4, 4, size=(m, n)).astype(float)
    neuron, point, excess = watched_pairs._near_pairs(scores, np.eye(n), 2.0, 3.0)
    i, j = np.nonzero((scores >= -1) & (scores >= 2).any(axis=1)[:, np.newaxis])
    order = np.lexsort((j, scores[i, j] < 2, i))
    assert neuron.tolist() == i[order].tolist()
    assert point.tolist() == j[order].tolist()
    assert excess.tolist() == (scores[i, j][order] - 2).tolist()


def test_blocks_hold_as_much_as_is_allowed_and_one_item_at_least() -> None:
    sizes = np.array([3, 1, 1, 4, 5, 1, 1])
    ends = [0, 2, 3, 4, 5, 7]
    assert list(watched_pairs._blocks(sizes, 4)) == [slice(*pair) for pair in pairwise(ends)]
    assert list(watched_pairs._blocks(sizes[:0], 4)) == []


def test_what_the_queue_compares() -> None:
    due = np.arange(10.0)
    queue, compared = DueQueue(fewest=9), []
    for now, step, found in [(1, 4, 2), (1.5, 0.5, 2), (2, 4, 3), (2.5, 2, 3), (3, 0, 4), (4, 0, 5), (4, 0, 5)]:
        assert queue.reached(due, now, step).tolist() == list(range(found))
        compared.append(queue.compared)
    # All, and 0 to 2 are set aside; those twice; all, and 0 to 3 are set aside; those; then all, as half are due.
    assert compared == [10, 13, 16, 26, 30, 40, 50]
    queue = DueQueue(fewest=10)
    assert [len(queue.reached(due, 1, 4)), len(queue.reached(due, 1, 4)), queue.compared] == [2, 2, 20]


def test_an_entry_that_falls_to_the_horizon_is_found_once() -> None:
    due, queue = np.arange(10.0), DueQueue(fewest=0)
    queue.reached(due, 1, 4)
    due[[1, 7]] = 2.0
    queue.lower(np.array([7, 1]), due)
    assert queue.reached(due, 1.9, 0).tolist() == [0]
    assert queue.reached(due, 2.0, 0).tolist() == [0, 1, 2, 7]


def test_weights_that_have_moved_are_a_start() -> None:
    rng = np.random.default_rng(0)
    X = make("clash", 10, 4, rng).X
    network = initialize(300, 4, shift=shift_for(300, 0.2), rng=rng)
    g = 5 * rng.standard_normal(10)
    rows = np.flatnonzero(activation_pattern(network, X).any(axis=0))
    dense = moved(network, X, g)
    weights = dense.weights[rows]
    kept = weights.copy()
    watched = Unlimited(network, X, X @ X.T, 0.2, moved=(rows, weights))
    assert_in_step(watched, dense.predict(X), dense, X, 1.0)
    for length in (2.0, 0.5, 3.0):
        g = length * rng.standard_normal(10)
        watched.take(watched.try_step(g))
        dense = moved(dense, X, g)
        assert_in_step(watched, dense.predict(X), dense, X, 1.0)
    trained = watched.trained_network()
    assert trained.X is X
    assert trained.moved.tolist() == rows.tolist()
    assert len(watched.neurons) < len(rows)  # some fire nowhere after the first step
    np.testing.assert_array_equal(weights, kept)


@pytest.mark.parametrize(
    ("edges", "sparse_below", "dense_at", "rows", "whole"),
    [
        (80, 0, 0, [0, 1], None),  # 4 + 1 points: few enough for lists, however they are spread
        (80, 0, 0, [0, 1, 1], [0, 1]),
        (16, 4, 0, [0], None),  # 4 in one row: as many as a row costs
        (16, 4, 0, [0, 0], [0]),
        (16, 4, 0, [0, 1], None),
        (16, 0, 1 / 16, [0], None),
        (16, 0, 1 / 16, [1, 0, 0], [0, 1]),
    ],
)
def test_whole_rows_where_they_cost_less(
    monkeypatch: pytest.MonkeyPatch,
    edges: int,
    sparse_below: float,
    dense_at: float,
    rows: list[int],
    whole: list[int] | None,
) -> None:
    monkeypatch.setattr(watched_pairs, "EDGES", edges)
    monkeypatch.setattr(watched_pairs, "SPARSE_BELOW", sparse_below)
    monkeypatch.setattr(watched_pairs, "DENSE_AT", dense_at)
    network = TwoLayerNetwork([[2.0] * 4 + [0.0] * 4, [2.0] + [0.0] * 7], [1.0, 1.0], 1.0)
    found = WatchedPairs(network, np.eye(8), np.eye(8), 0.0)._dense_pays(np.array(rows))
    assert (found if found is None else found.tolist()) == whole
