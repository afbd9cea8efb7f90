from __future__ import annotations

import copy
import gzip
import inspect
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import reference.gauss_newton
import verify
from fast import lazy_width
from fast.all_pairs import AllPairs
from fast.baselines import train_compacted, train_dense
from fast.gauss_newton import (
    EventRun,
    Search,
    Solver,
    TreeRun,
    TreeTrial,
    band_for,
    first_band,
    sample_scores,
    train,
)
from fast.multi_layer_gauss_newton import MultiLayerRun
from fast.regression import ACCURACY
from fast.watched_pairs import MOST_LOST, PHASES, WatchedPairs
from reference.multi_layer import initialize as initialize_deep
from reference.notation import DivergenceError, InputError, NothingFiresError, SingularGramError
from reference.regression import rounding_floor
from reference.safeguard import Step
from reference.two_layer import TwoLayerNetwork, activation_pattern, initialize, shift_for
from verify.problems import make, unit_rows
from verify.strategies import Case, generators, training_cases
from verify.tolerances import RUN

SEARCHES: tuple[Search, ...] = ("events", "tree")
FEWER = settings(max_examples=settings().max_examples // 2)
"""Where an example takes long: half of what the profile asks for."""
FAILURES = (NothingFiresError, SingularGramError, DivergenceError)


def assert_same_run(
    case: Case, search: Search, solver: Solver, rng: np.random.Generator, iterations: int = 5
) -> None:
    """Compare a fast run with the reference: the same failure, or the same residuals, predictions and weights."""
    initial_weights = case.network.weights.copy()
    try:
        expected = reference.gauss_newton.train(case.network, case.X, case.y, iterations=iterations)
    except FAILURES as failure:
        with pytest.raises(type(failure)):
            train(case.network, case.X, case.y, iterations=iterations, search=search, solver=solver, rng=rng)
        return
    trace = train(case.network, case.X, case.y, iterations=iterations, search=search, solver=solver, rng=rng)
    scale = max(1e-300, float(np.linalg.norm(case.y)))
    np.testing.assert_allclose(trace.residual_norms, expected.residual_norms, atol=RUN * scale, rtol=RUN)
    np.testing.assert_allclose(trace.predictions, expected.predictions, atol=RUN * scale)
    unseen = expected.network.predict(case.unseen)
    np.testing.assert_allclose(trace.network.predict(case.unseen), unseen, atol=RUN * max(scale, abs(unseen).max()))
    weights = expected.network.weights
    np.testing.assert_allclose(trace.network.to_dense().weights, weights, atol=RUN * abs(weights).max())
    np.testing.assert_array_equal(case.network.weights, initial_weights)


@given(training_cases(), generators)
def test_event_runs_equal_the_reference(case: Case, rng: np.random.Generator) -> None:
    assert_same_run(case, "events", "cholesky", rng)


@given(training_cases(), generators)
def test_tree_runs_equal_the_reference(case: Case, rng: np.random.Generator) -> None:
    assert_same_run(case, "tree", "cholesky", rng)


@FEWER
@given(training_cases(), generators, st.sampled_from(SEARCHES))
def test_sketch_runs_equal_the_reference(case: Case, rng: np.random.Generator, search: Search) -> None:
    assert_same_run(case, search, "sketch", rng)


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("solver", get_args(Solver))
@pytest.mark.parametrize(
    ("family", "angle", "n", "d", "m", "alpha"),
    [
        ("random", None, 96, 8, 4096, 0.24),
        ("random", None, 1, 2, 1000, 0.1),
        ("random", None, 24, 16, 3001, 0.0),
        ("pairs", 0.15, 32, 8, 8192, 0.24),
        ("twins", 0.15, 17, 5, 8191, 0.1),
        ("random", None, 8, 2, 20000, 0.24),
        ("clash", None, 32, 16, 8192, 0.24),
    ],
)
def test_larger_runs_equal_the_reference(
    family: str, angle: float | None, n: int, d: int, m: int, alpha: float, solver: Solver, search: Search
) -> None:
    rng = np.random.default_rng(11)
    problem = make(family, n, d, rng, angle=angle)
    network = initialize(m, d, shift=shift_for(m, alpha), rng=rng)
    assert_same_run(Case(network, problem.X, problem.y, problem.unseen), search, solver, rng)


def trainable(n: int = 16, alpha: float = 0.24) -> tuple[TwoLayerNetwork, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    problem = make("random", n, 8, rng)
    return initialize(2**14, 8, shift=shift_for(2**14, alpha), rng=rng), problem.X, problem.y


def test_an_iteration_reads_nothing_that_it_has_no_right_to_read() -> None:
    """Tripwire: poison the weights and scores of every neuron outside the blocks that fire; the run must not notice."""
    network, X, y = trainable(n=4, alpha=0.5)
    honest = train(network, X, y, iterations=6, search="tree")

    weights = network.weights.copy()
    run = TreeRun(TwoLayerNetwork(weights, network.signs, network.shift), X, y)
    moved = honest.network.moved
    quiet = np.ones(network.width, dtype=bool)
    quiet[moved] = False
    weights[quiet] = np.inf
    leaves = run.forest.levels[0]
    blocks = np.ones(leaves.shape[1], dtype=bool)
    blocks[moved // leaves.shape[2]] = False
    assert blocks.mean() > 0.5
    leaves[:, blocks] = np.inf
    for _ in range(6):
        run.iterate()
    trace = run.trace(0.0)
    assert trace.residual_norms.tolist() == honest.residual_norms.tolist()
    assert trace.predictions.tolist() == honest.predictions.tolist()
    assert trace.network.coefficients.tolist() == honest.network.coefficients.tolist()


def test_events_read_only_weights_of_neurons_that_fire() -> None:
    network, X, y = trainable(n=16, alpha=0.4)
    honest = train(network, X, y, iterations=6)

    weights = network.weights.copy()
    run = EventRun(TwoLayerNetwork(weights, network.signs, network.shift), X, y)
    quiet = np.ones(network.width, dtype=bool)
    quiet[honest.network.moved] = False
    assert quiet.mean() > 0.5
    weights[quiet] = np.inf
    for _ in range(6):
        run.iterate()
    trace = run.trace(0.0)
    assert sum(counts["compute"] for counts in trace.counts) > 0  # rows that do fire were read again
    assert trace.residual_norms.tolist() == honest.residual_norms.tolist()
    assert trace.predictions.tolist() == honest.predictions.tolist()
    assert trace.network.moved_weights().tolist() == honest.network.moved_weights().tolist()


def test_the_tripwire_catches_a_scan() -> None:
    network, X, y = trainable()
    run = TreeRun(network, X, y)
    run.forest.levels[0][:] = np.inf
    run.forest.levels[1][:] = np.inf
    before = len(run.fired)
    run._look()
    assert len(run.fired) > before or not np.isfinite(run.residual).all()


@pytest.mark.parametrize("start", [EventRun, TreeRun])
@pytest.mark.parametrize("solver", get_args(Solver))
def test_an_iteration_allocates_nothing_of_the_size_of_the_network(
    solver: Solver, start: type[EventRun | TreeRun]
) -> None:
    """A dense scan needs at least a truth value per neuron, even one whose result is thrown away."""
    rng = np.random.default_rng(5)
    width = 2**20
    problem = make("random", 4, 8, rng)
    network = initialize(width, 8, shift=shift_for(width, 0.5), rng=rng)
    run = start(network, problem.X, problem.y, solver=solver, rng=rng)
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
    trace = train(network, X, y, iterations=3, search="tree")
    run = TreeRun(network, X, y)
    n, d = X.shape
    assert trace.preparation_counts["scores"] == n * network.width * d
    for counts in trace.counts:
        pairs = len(run.fired)
        shared = np.bincount(run.fired.neuron_index)
        run.iterate()
        assert counts["gram"] == int(shared @ shared) + n * n
        assert counts["solve"] == n**3 // 3
        assert counts["step"] == pairs * (n + 1)
        assert counts["active_pairs"] == counts["predict"] == len(run.fired)


def test_training_stops_at_the_tolerance() -> None:
    network, X, y = trainable()
    trace = train(network, X, y, iterations=50, tolerance=1e-6)
    assert trace.converged
    assert trace.residual_norms[-1] <= 1e-6 * trace.residual_norms[0] < trace.residual_norms[-2]
    assert len(trace.counts) == len(trace.residual_norms) - 1 < 50


def test_no_iterations_return_the_initial_network() -> None:
    network, X, y = trainable()
    trace = train(network, X, y, iterations=0)
    np.testing.assert_allclose(trace.network.predict(X), network.predict(X), atol=1e-13)
    assert len(trace.residual_norms) == 1
    assert trace.counts == []
    assert not trace.converged


def test_training_can_go_on_from_its_own_result() -> None:
    network, X, y = trainable()
    whole = train(network, X, y, iterations=4)
    first = train(network, X, y, iterations=2)
    second = train(first.network, X, y, iterations=2)
    np.testing.assert_allclose(second.residual_norms, whole.residual_norms[2:], rtol=1e-6, atol=1e-13)


@pytest.mark.parametrize("start", [EventRun, TreeRun, partial(MultiLayerRun, trained_layers=(1, 2))])
def test_what_was_taken_from_a_run_stays_as_it_is_when_the_run_goes_on(start: Callable[..., Any]) -> None:
    network, X, y = trainable()
    if start not in (EventRun, TreeRun):
        network = initialize_deep(200, X.shape[1], 2, shift=0.5, rng=np.random.default_rng(1))
    run = start(network, X, y)
    run.iterate()
    kept = run.trace(0.0)

    def content() -> list[Any]:
        return [kept.network.predict(X).tolist(), kept.residual_norms.tolist(), kept.predictions.tolist(), kept.counts]

    before = copy.deepcopy(content())
    run.iterate()
    assert content() == before


def test_randomness_is_reproducible_and_required_by_the_sketch_alone() -> None:
    network, X, y = trainable()
    one, two = (train(network, X, y, iterations=2, solver="sketch", rng=np.random.default_rng(3)) for _ in range(2))
    assert one.predictions.tolist() == two.predictions.tolist()
    with pytest.raises(InputError, match="Generator"):
        train(network, X, y, iterations=2, solver="sketch")


def test_bad_arguments_are_refused() -> None:
    network, X, y = trainable()
    with pytest.raises(InputError, match="search is 'scan'; pass 'events' or 'tree'"):
        train(network, X, y, iterations=2, search="scan")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="step is 'half'; pass 'full' or 'safeguarded'"):
        train(network, X, y, iterations=2, step="half")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="solver is 'lu'; pass 'cholesky', 'sketch' or 'conjugate'"):
        train(network, X, y, iterations=2, solver="lu")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="X has 7 columns but the network takes 8"):
        train(network, unit_rows(3, 7, np.random.default_rng(0)), y[:3], iterations=2)
    with pytest.raises(InputError, match="y has 3 entries"):
        train(network, X, y[:3], iterations=2)


def test_a_silent_point_is_an_error() -> None:
    network = initialize(50, 4, shift=9.0, rng=np.random.default_rng(0))
    with pytest.raises(NothingFiresError, match="data point 0"):
        train(network, np.eye(4), np.ones(4), iterations=1)


@pytest.mark.parametrize("search", SEARCHES)
def test_a_lazy_network_without_neurons_is_silent(search: Search) -> None:
    empty = lazy_width.initialize(np.eye(3), width=1, shift=30.0, rng=np.random.default_rng(1))
    with pytest.raises(NothingFiresError, match="data point 0"):
        train(empty, np.eye(3), np.ones(3), iterations=3, search=search)


def test_a_singular_gram_matrix_is_an_error() -> None:
    # One neuron with two inputs cannot fit three points.
    network = TwoLayerNetwork([[2.0, 2.0]], [1.0], 0.5)
    for solver in get_args(Solver):
        with pytest.raises(SingularGramError):
            train(
                network,
                [[0.6, 0.8], [0.8, 0.6], [1.0, 0.0]],
                [1.0, -1.0, 1.0],
                iterations=1,
                solver=solver,
                rng=np.random.default_rng(0),
            )


def uncentred(seed: int, d: int = 8) -> tuple[TwoLayerNetwork, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    X = 1 + 0.3 * rng.standard_normal((20, d))
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    return initialize(512, d, shift=shift_for(512, 0.1), rng=rng), X, rng.standard_normal(20)


LOOPS = {
    "reference": reference.gauss_newton.train,
    "events": train,
    "tree": partial(train, search="tree"),
    "sketch": partial(train, solver="sketch", rng=np.random.default_rng(0)),
    "dense": train_dense,
    "compacted": train_compacted,
}


@pytest.mark.parametrize("loop", LOOPS.values(), ids=LOOPS.keys())
def test_a_diverging_run_is_reported_as_such(loop: Callable[..., Any]) -> None:
    with pytest.raises(DivergenceError, match=r"training diverged: after iteration .*; widen the network") as caught:
        loop(*uncentred(0), iterations=60)
    assert caught.value.residual_norms[-1] > caught.value.residual_norms[0]


@settings(max_examples=10)
@given(st.integers(0, 10**6))
def test_a_run_never_returns_nan(seed: int) -> None:
    try:
        trace = train(*uncentred(seed), iterations=15)
    except FAILURES:
        return
    assert np.isfinite(trace.residual_norms).all()


def test_an_overflow_at_the_start_is_blamed_on_the_input() -> None:
    network, X, y = trainable()
    with np.errstate(over="ignore"), pytest.raises(InputError, match="first residual overflows"):
        train(network, X, y * 1e200, iterations=2)


def test_the_result_does_not_depend_on_the_callers_data_any_more() -> None:
    network, X, y = trainable()
    trace = train(network, X, y, iterations=2)
    before = trace.network.predict(X)
    trained_on = X.copy()
    X[:] = 0
    assert trace.network.predict(trained_on).tolist() == before.tolist()


@pytest.mark.parametrize("solver", ["cholesky", "sketch"])
def test_bad_accuracy_is_refused(solver: Solver) -> None:
    network, X, y = trainable()
    with pytest.raises(InputError, match="accuracy is -1; pass a number between 0 and 1"):
        train(network, X, y, iterations=0, solver=solver, rng=np.random.default_rng(0), accuracy=-1)


def test_both_sides_take_the_same_arguments() -> None:
    theirs = inspect.signature(reference.gauss_newton.train).parameters
    mine = inspect.signature(train).parameters
    assert list(theirs) == [name for name in mine if name in theirs]


# The safeguarded step


def digits(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Sample the shipped digits as they are: rows of unit length, not centred; standardized labels."""
    with gzip.open(Path(verify.__file__).parent / "data" / "digits.csv.gz", "rt") as file:
        table = np.loadtxt(file, delimiter=",")
    rows = table[np.random.default_rng(seed).permutation(len(table))[:n]]
    X, y = rows[:, :-1], rows[:, -1]
    return X / np.linalg.norm(X, axis=1, keepdims=True), (y - y.mean()) / y.std()


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("seed", range(3))
def test_uncentred_digits_are_interpolated(seed: int, search: Search) -> None:
    X, y = digits(100, seed)
    network = initialize(2**13, 64, shift=shift_for(2**13, 0.1), rng=np.random.default_rng(seed))
    trace = train(network, X, y, iterations=40, tolerance=1e-12, search=search, step="safeguarded")
    assert trace.converged
    assert trace.stopped == ""
    assert (np.diff(trace.residual_norms) <= 0).all()
    assert np.linalg.norm(trace.network.predict(X) - y) <= 2e-12 * trace.residual_norms[0]


@pytest.mark.parametrize("search", SEARCHES)
def test_a_safeguarded_run_equals_a_full_one_where_that_halves(search: Search) -> None:
    network, X, y = trainable()
    full = train(network, X, y, iterations=4, search=search)
    assert (full.residual_norms[1:] <= full.residual_norms[:-1] / 2).all()
    guarded = train(network, X, y, iterations=4, search=search, step="safeguarded")
    assert guarded.residual_norms.tolist() == full.residual_norms.tolist()
    assert guarded.network.moved_weights().tolist() == full.network.moved_weights().tolist()


@pytest.mark.parametrize("search", SEARCHES)
@FEWER
@given(st.integers(0, 10**6))
def test_safeguarded_runs_equal_the_reference(search: Search, seed: int) -> None:
    """On data where most plain runs climb: the same trials are made and the same points kept."""
    network, X, y = uncentred(seed, d=30)
    expected = reference.gauss_newton.train(network, X, y, iterations=6, tolerance=1e-6, step="safeguarded")
    trace = train(network, X, y, iterations=6, tolerance=1e-6, search=search, step="safeguarded")
    np.testing.assert_allclose(trace.residual_norms, expected.residual_norms, atol=RUN * np.linalg.norm(y))
    weights = expected.network.weights
    np.testing.assert_allclose(trace.network.to_dense().weights, weights, atol=RUN * abs(weights).max())
    assert (np.diff(trace.residual_norms) <= 0).all()
    assert trace.converged == expected.converged


@pytest.mark.parametrize("search", SEARCHES)
@FEWER
@given(st.integers(0, 10**6))
def test_hopeless_runs_report_true_residuals_that_never_climb(search: Search, seed: int) -> None:
    """Where the Gram matrix is singular, huge steps cancel; what is reported must be what the network predicts."""
    network, X, y = uncentred(seed)
    trace = train(network, X, y, iterations=6, search=search, step="safeguarded")
    assert (np.diff(trace.residual_norms) <= 0).all()
    true = np.linalg.norm(trace.network.predict(X) - y)
    np.testing.assert_allclose(true, trace.residual_norms[-1], atol=1e-5 * trace.residual_norms[0])


@pytest.mark.parametrize("search", SEARCHES)
def test_a_stalled_run_says_where_and_why(search: Search) -> None:
    rng = np.random.default_rng(3)
    X = rng.lognormal(0, 2, (60, 5))
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    network = initialize(512, 5, shift=shift_for(512, 0.1), rng=rng)
    trace = train(network, X, rng.standard_normal(60), iterations=500, search=search, step="safeguarded")
    assert not trace.converged
    assert "stalled at iteration" in trace.stopped
    assert "the closest data points are rows" in trace.stopped
    assert len(trace.counts) == len(trace.residual_norms) - 1 < 500
    assert (np.diff(trace.residual_norms) <= 0).all()


@pytest.mark.parametrize("search", SEARCHES)
def test_a_step_that_silences_a_point_is_not_kept(search: Search) -> None:
    """One neuron, one point, a label below any prediction: the full step would leave nothing to train."""
    network = TwoLayerNetwork([[2.0]], [1.0], 1.0)
    trace = train(network, [[1.0]], [-1.0], iterations=9, search=search, step="safeguarded")
    assert trace.residual_norms.tolist() == [2.0, 1.0, 1.0]
    assert trace.network.to_dense().weights.tolist() == [[1.0]]
    assert trace.stopped.startswith("stalled at iteration 2 with residual 1")


@pytest.mark.parametrize("search", SEARCHES)
def test_a_creeping_run_stops(search: Search, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fast.training_run.crept", lambda norms: len(norms) > 3)
    trace = train(*trainable(), iterations=9, search=search, step="safeguarded")
    assert len(trace.residual_norms) == 4
    assert "the last 20 iterations lowered it by less than 5%" in trace.stopped


@pytest.mark.parametrize("search", SEARCHES)
def test_a_singular_system_is_damped_as_in_the_reference(search: Search) -> None:
    """Pairs so close that their Gram matrix is singular, with different labels: the rest is fitted all the same."""
    rng = np.random.default_rng(4)
    problem = make("clash", 10, 6, rng, angle=1e-9)
    network = initialize(2000, 6, shift=0.5, rng=rng)
    options: dict[str, Any] = {"iterations": 1, "step": "safeguarded"}
    expected = reference.gauss_newton.train(network, problem.X, problem.y, **options)
    with pytest.raises(SingularGramError):
        train(network, problem.X, problem.y, iterations=1, search=search)
    trace = train(network, problem.X, problem.y, search=search, **options)
    np.testing.assert_allclose(trace.predictions, expected.predictions, atol=1e-6)
    assert trace.residual_norms[1] < trace.residual_norms[0]


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("step", ["full", "safeguarded"])
def test_no_residual_is_reported_below_what_rounding_lets_us_know(search: Search, step: str) -> None:
    """The recurrence of the event path comes down to 0 exactly; the network does not."""
    network, X, y = trainable()
    for labels in (y, 0 * y):
        trace = train(network, X, labels, iterations=30, tolerance=1e-25, search=search, step=step)  # type: ignore[arg-type]
        assert not trace.converged
        scale = np.linalg.norm(labels) + np.linalg.norm(network.predict(X))
        assert trace.residual_norms[-1] >= 2.0**-54 * scale
        if step == "safeguarded":
            assert "what is left is rounding error" in trace.stopped
            assert (np.diff(trace.residual_norms) <= 0).all()


@pytest.mark.parametrize("seed", range(4))
def test_safeguarded_trees_report_what_they_judged(seed: int) -> None:
    rng = np.random.default_rng(seed)
    X, y = unit_rows(8, 6, rng), rng.standard_normal(8)
    trace = train(
        initialize(300, 6, shift=1.0, rng=rng), X, y, iterations=12, search="tree", step="safeguarded"
    )
    assert (np.diff(trace.residual_norms) <= 0).all()


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("seed", [0, 3])
def test_residuals_stay_true_where_steps_are_huge_and_cancel(search: Search, seed: int) -> None:
    rng = np.random.default_rng(seed)
    X = np.column_stack([np.ones(21), rng.standard_normal(21) * 10 ** rng.uniform(-3, -1)])
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    y = rng.standard_normal(21)
    network = initialize(1000, 2, shift=0.5, rng=rng)
    trace = train(network, X, y, iterations=12, search=search, step="safeguarded")
    assert abs(trace.network.moved_weights()).max() > 1e3
    recomputed = np.linalg.norm(trace.network.to_dense().predict(X) - y)
    assert recomputed == pytest.approx(trace.residual_norms[-1], rel=1e-9)


def test_the_event_path_needs_little_memory_beside_a_million_neurons() -> None:
    rng = np.random.default_rng(0)
    problem = make("random", 64, 32, rng)
    width = 2**20
    network = initialize(width, 32, shift=shift_for(width, 0.24), rng=rng)
    tracemalloc.start()
    try:
        trace = train(network, problem.X, problem.y, iterations=6)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert trace.residual_norms[-1] < 1e-10 * trace.residual_norms[0]
    assert peak < 400 * 2**20


# What is counted, and what decides how pairs are kept


def crowding() -> tuple[TwoLayerNetwork, np.ndarray, np.ndarray]:
    """A run that goes over to whole arrays, and back (test_all_pairs)."""
    rng = np.random.default_rng(0)
    problem = make("pairs", 16, 32, rng)
    return initialize(2**14, 32, shift=shift_for(2**14, 0.24), rng=rng), problem.X, problem.y


CASES = {
    "watched": trainable,
    "there and back": crowding,
    "whole from the start": partial(trainable, alpha=0.0),
    "crowded once made": partial(uncentred, 0, d=30),
}


@pytest.mark.parametrize(
    ("case", "solver", "step"),
    [
        ("watched", "cholesky", "full"),
        ("watched", "sketch", "full"),
        ("watched", "conjugate", "safeguarded"),
        ("there and back", "cholesky", "full"),
        ("there and back", "sketch", "safeguarded"),
        ("whole from the start", "cholesky", "full"),
        ("crowded once made", "cholesky", "safeguarded"),
    ],
)
def test_all_work_on_the_pairs_is_counted_once(case: str, solver: Solver, step: Step) -> None:
    network, X, y = CASES[case]()
    run = EventRun(network, X, y, step=step, solver=solver, rng=np.random.default_rng(0))
    n, d = X.shape
    fan = activation_pattern(network, X).sum(axis=0)
    somewhere = np.count_nonzero(fan)
    whole = case in ("whole from the start", "crowded once made")
    watched = n * somewhere if case == "whole from the start" else run.preparation_counts["watched"]
    assert watched >= fan.sum()
    assert run.preparation_counts == {
        "scores": n * network.width * d,
        "inner_products": n * n * d,
        "gram": n * n * somewhere if whole else int(fan @ fan),
        "watched": watched,
    }
    assert isinstance(run.watched, AllPairs) == whole
    before, kinds = dict(run.watched.work), set()
    for _ in range(12):
        solved = run.warm.work
        run.iterate()
        kinds.add(type(run.watched))
        counts = run.counts[-1]
        assert counts["active_pairs"] == len(run.fired) == run.watched.active_pairs
        if solver == "cholesky" and step == "full":
            assert counts["solve"] == run.warm.work - solved
    assert case != "there and back" or (len(kinds), type(run.watched)) == (2, WatchedPairs)
    for phase in PHASES:
        assert sum(counts.get(phase, 0) for counts in run.counts) == run.watched.work[phase] - before[phase]


@pytest.mark.parametrize("solver", get_args(Solver))
def test_trees_count_every_phase(solver: Solver) -> None:
    network, X, y = trainable()
    n, d = X.shape
    run = TreeRun(network, X, y, solver=solver, rng=np.random.default_rng(0))
    pairs = len(run.fired)
    assert run.preparation_counts == {
        "scores": n * network.width * d,
        "inner_products": n * n * d,
        "build": run.forest.nodes_visited["build"],
        "query": run.forest.nodes_visited["query"],
        "predict": pairs,
        "active_pairs": pairs,
    }
    for _ in range(3):
        fan = np.bincount(run.fired.neuron_index)
        pairs, visited = len(run.fired), dict(run.forest.nodes_visited)
        run.iterate()
        counts = dict(run.counts[-1])
        for phase in ("query", "update"):
            assert counts.pop(phase) == run.forest.nodes_visited[phase] - visited[phase]
        assert counts.pop("active_pairs") == counts.pop("predict") == len(run.fired)
        assert counts.pop("step") == pairs * (n + 1)
        if solver != "sketch":
            assert counts.pop("gram") == int(fan @ fan) + n * n
        assert set(counts) == {"sketch", "solve"} - ({"sketch"} if solver != "sketch" else set())


def test_the_band_by_hand() -> None:
    """Points of coherence 1/2, 1/2 and 1/4; 16 neurons, 9 pairs of 48 fire."""
    products = np.array([[1.0, 0.5, 0.0], [0.5, 1.0, -0.25], [0.0, -0.25, 1.0]])
    scores = np.arange(48.0).reshape(16, 3) / 8
    shift = 39 / 8
    fan = 9 / 16
    band = 5 / 12 * 0.01 * (fan + 3 * np.sqrt(fan) + 2)
    assert band_for(0.01, scores, shift, products) == pytest.approx(band, rel=1e-14)
    # A long step: 4 times the pairs that fire, but not more than half of what may be watched, 16 * 6.
    assert band_for(100.0, scores, shift, products) == pytest.approx((36 - 9) / 8, rel=1e-14)
    assert band_for(100.0, scores, 40 / 8, products) == pytest.approx((32 - 8) / 8, rel=1e-14)
    assert band_for(100.0, scores, 33 / 8, products) == 33 / 8  # half of the limit is all pairs
    wide = np.arange(160.0).reshape(2, 80)
    assert band_for(1e9, wide, 155.0, np.eye(80) + 0.5) == 155 - (160 - min(4 * 5, 10))
    assert band_for(1e9, wide, 120.0, np.eye(80) + 0.5) == 0.0  # crowded already
    assert band_for(1e9, wide, 1000.0, np.eye(80) + 0.5) == 1000 - 156  # as if one pair fired
    pairs = np.arange(32.0).reshape(16, 2)  # a third of the limit is more than there are
    assert band_for(1e9, pairs, 24.0, np.eye(2) + 0.5) == 24


def test_the_first_band_by_hand() -> None:
    """Of a lazy network 40 neurons are there, of 10,000; on each point 20 of them fire if the sample is right."""
    network = lazy_width.initialize(np.eye(3), width=10_000, shift=2.0, rng=np.random.default_rng(0))
    rows, products = len(network.signs), np.eye(3) + 0.25
    scores = np.where(np.arange(24).reshape(8, 3) < 12, 2.0, -50.0)
    drift = 3.0 * 100 / (12 / 24 * rows)
    expected = band_for(drift, scores, 2.0, products)
    assert 0 < expected < 50
    assert first_band(network, scores, np.array([1.0, -3.0, 2.0]), products) == expected
    silent = np.full((8, 3), -1e9)
    drift = 3.0 * 100 / (1 / 24 * rows)
    assert first_band(network, silent, np.array([1.0, -3.0, 2.0]), products) == band_for(drift, silent, 2.0, products)
    assert first_band(network, np.empty((0, 3)), np.ones(3), products) == 0.0


def test_a_sample_of_scores_is_one_block_at_equal_distances(monkeypatch: pytest.MonkeyPatch) -> None:
    weights, X = np.arange(14.0).reshape(7, 2), np.arange(8.0).reshape(4, 2)
    for block, stride in ((10, 2), (9, 3), (28, 1), (1000, 1)):
        monkeypatch.setattr("fast.gauss_newton.BLOCK_ENTRIES", block)
        np.testing.assert_array_equal(sample_scores(weights, X), weights[::stride] @ X.T)


def test_a_run_goes_back_from_whole_arrays_only_where_it_pays() -> None:
    network, X, y = crowding()
    attempts: list[tuple[float, float]] = []

    class Watch(WatchedPairs):
        room, full = 1e9, False

        def __init__(self, *arguments: Any, scale: float, moved: Any) -> None:  # noqa: ANN401
            attempts.append((arguments[3], scale))
            super().__init__(*arguments, scale=scale, moved=moved)

        @classmethod
        def limit(cls, rows: int, n: int) -> float:
            assert (rows, n) == (len(whole.neurons), len(X))
            return cls.room

        def crowded(self) -> bool:
            return Watch.full

    run = EventRun(network, X, y)
    assert isinstance(run.watched, WatchedPairs)
    whole = AllPairs.of(run.watched)
    run.watch = Watch  # type: ignore[misc]
    trial = whole.try_step(np.linspace(-2.0, 1.0, 16))
    rows, floor = len(whole.neurons), rounding_floor(float(np.trace(whole.gram())), trial.g)

    def goes_back(flips: int) -> bool:
        run.watched, before = whole, len(attempts)
        run._watch_again(replace(trial, flips=flips))
        assert (run.watched is not whole) == (len(attempts) > before and not Watch.full)
        return len(attempts) > before

    assert [goes_back(rows // 20 + more) for more in (0, 1)] == [True, False]
    assert rows % 20
    run.patience = 3
    assert [goes_back(flips) for flips in (3, 4)] == [True, False]
    for Watch.room, back in ((2 * whole.active_pairs, True), (2 * whole.active_pairs - 1, False)):
        assert goes_back(3) == back
    Watch.room, scale = 1e9, run.scale
    for factor, back in ((1 + 1e-9, True), (1 - 1e-9, False)):
        run.scale = factor * 10 * floor / MOST_LOST
        assert goes_back(3) == back
    run.scale, work = scale, dict(whole.work)
    assert goes_back(3)
    band = band_for(2 / 2**7, sample_scores(whole.weights, X), network.shift, X @ X.T)
    assert attempts[-1] == (band, scale)
    assert run.watched.work is whole.work
    fan = whole.pattern.sum(axis=1)
    expected = {"compute": whole.weights.size * 16, "gram": int(fan @ fan) + 256, "predict": whole.active_pairs}
    assert {phase: whole.work[phase] - work[phase] for phase in work if whole.work[phase] > work[phase]} == expected
    Watch.full = True
    assert goes_back(2)
    assert run.patience == 0.5


def test_pairs_on_their_kink_count_when_the_start_is_chosen() -> None:
    network, y = TwoLayerNetwork(np.eye(3), np.ones(3), 1.0), np.ones(3)
    for room, entries in ((3, 3), (2, 9)):
        watch = type("Watch", (WatchedPairs,), {"limit": classmethod(lambda cls, rows, n, room=room: room)})
        run = type("Run", (EventRun,), {"watch": watch})(network, np.eye(3), y)
        assert (run.preparation_counts["watched"], run.watched.active_pairs) == (entries, 3)
    tree = TreeRun(network, np.eye(3), y)
    assert tree._norm_after(TreeTrial(y, np.eye(3), 0.0)) == 3**0.5
    assert tree._norm_after(TreeTrial(y, np.diag([1.0, 1.0, 0.99]), 0.0)) == np.inf
    assert tree._phases["predict"] == 3 + 2 * 9


def test_trees_compute_scores_from_weights_once_sums_may_have_lost_digits() -> None:
    network, X, y = trainable()
    run = TreeRun(network, X, y)
    f = network.predict(X)
    assert run.scale == pytest.approx(np.linalg.norm(y) + np.linalg.norm(f), rel=1e-12)
    lost = 0.0
    for _ in range(2):
        trace, norms = run.jacobian.trace, len(run.residual_norms)
        g = run._solve()
        lost += rounding_floor(trace, g)
        run.iterate()
        assert len(run.residual_norms) == norms + 1
        assert run.rounding == pytest.approx(lost, rel=1e-9)
    g = np.linspace(-2.0, 1.0, 16)
    lost = run.rounding + rounding_floor(run.jacobian.trace, g)
    run._phases = {}
    run.scale = (1 + 1e-9) * lost / MOST_LOST
    ordinary = run._try(g)
    assert (ordinary.rounding, run._phases) == (lost, {"step": len(run.fired) * 16})
    run._phases = {}
    run.scale = (1 - 1e-9) * lost / MOST_LOST
    afresh = run._try(g)
    neurons = run.jacobian.neurons
    assert (afresh.rounding, run._phases) == (0.0, {"step": 2 * 16 * len(neurons) * 8})
    np.testing.assert_allclose(afresh.scores, ordinary.scores, atol=1e-12)
    saved, residual, scores = run._save(), run.residual.copy(), run.forest.scores_of(neurons)
    coefficients = run._network().coefficients.tolist()
    run._take(ordinary)
    assert run.rounding == lost
    run._restore(saved)
    assert run.rounding == saved.rounding < lost
    assert run.residual.tolist() == residual.tolist()
    np.testing.assert_array_equal(run.forest.scores_of(neurons), scores)
    assert run._network().coefficients.tolist() == coefficients


@pytest.mark.parametrize("search", SEARCHES)
def test_solvers_stop_at_the_accuracy_asked_for(search: Search) -> None:
    network, X, y = trainable()
    solvers: tuple[Solver, ...] = ("sketch", "conjugate")
    for solver in solvers:
        rough, fine, default = (
            train(network, X, y, iterations=1, search=search, solver=solver, rng=np.random.default_rng(0), **options)
            for options in ({"accuracy": 0.3}, {"accuracy": ACCURACY}, {})
        )
        assert 2 * rough.counts[0]["solve"] < fine.counts[0]["solve"] == default.counts[0]["solve"]
        assert rough.residual_norms[1] > fine.residual_norms[1] == default.residual_norms[1]


@pytest.mark.parametrize("search", SEARCHES)
def test_what_a_run_is_given_is_checked_and_kept(search: Search) -> None:
    lazy = lazy_width.initialize(np.eye(3), width=2**20, shift=2.0, rng=np.random.default_rng(0))
    with pytest.raises(InputError, match=r"row 2 of X was not given when the network was drawn \(1 such"):
        train(lazy, [[1.0, 0, 0], [0, 1.0, 0], [0, 0.6, 0.8]], np.ones(3), iterations=1, search=search)
    network, X, y = trainable()
    with pytest.raises(InputError, match=r"row . of X has length 2"):
        train(network, 2 * X, y, iterations=1, search=search)
    for start in (EventRun, TreeRun):
        assert not start(network, X, y).X.flags.writeable
    for iterations, tolerance in ((-1, 0.0), (1, 1.0)):
        with pytest.raises(InputError, match=r"iterations is -1|tolerance is 1\.0"):
            train(network, X, y, iterations=iterations, tolerance=tolerance, search=search)


def test_events_know_residuals_to_rounding_and_whole_arrays_compute_them() -> None:
    network, X, y = trainable()
    run = EventRun(network, X, y)
    assert run.watched.scale == pytest.approx(np.linalg.norm(y) + np.linalg.norm(network.predict(X)), rel=1e-12)
    assert run._rounding() == 2.0**-53 * run.watched.scale
    assert isinstance(run.watched, WatchedPairs)
    run.watched = AllPairs.of(run.watched)
    assert run._rounding() == 0.0
