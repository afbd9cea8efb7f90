from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fast.baselines
import reference.baselines
import reference.gauss_newton
from fast.baselines import DENSE_AT, DenseRun, train_compacted, train_dense, train_gradient_descent
from reference.notation import DivergenceError, InputError, NothingFiresError
from reference.two_layer import TwoLayerNetwork, activation_pattern, initialize, shift_for
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
    edge = DenseRun(TwoLayerNetwork(2 * np.eye(16), np.ones(16), 1.0), np.eye(16), np.ones(16))
    assert edge.fired_per_point.sum() == DENSE_AT * 16 * 16
    assert edge.dense_pattern is None


@pytest.mark.parametrize(("alpha", "listed"), [(0.0, False), (0.4, True)])
@pytest.mark.parametrize("opponent", [train_dense, train_compacted, train_gradient_descent])
def test_the_record_is_that_of_the_reference_run(
    opponent: Callable[..., Any], alpha: float, listed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counts of the fired pairs, predictions, and where it stops; neurons come in seven blocks, the last one short."""
    side = reference.baselines if opponent is train_gradient_descent else reference.gauss_newton
    exact = getattr(side, "train_gradient_descent" if opponent is train_gradient_descent else "train")
    options: dict[str, Any] = {"learning_rate": 0.5} if opponent is train_gradient_descent else {}
    rng = np.random.default_rng(2)
    n, d, m = 25, 8, 2001
    problem = make("random", n, d, rng)
    X, y = problem.X, 2 * problem.y
    network = initialize(m, d, shift=shift_for(m, alpha), rng=rng)
    full = exact(network, X, y, iterations=4, **options)
    # Only the residual after two steps has exactly this share of the first.
    assert full.residual_norms[0] > 2
    tolerance = (1 + 1e-9) * full.residual_norms[2] / full.residual_norms[0]
    steps = [exact(network, X, y, iterations=t, **options) for t in range(3)]
    patterns = [activation_pattern(step.network, X) for step in steps]
    kept = int(patterns[0].any(axis=0).sum()) if opponent is not train_dense else m
    monkeypatch.setattr(fast.baselines, "BLOCK_ENTRIES", n * (kept // 6))

    trace = opponent(network, X, y, iterations=4, tolerance=tolerance, **options)
    np.testing.assert_allclose(trace.residual_norms, full.residual_norms[:3], rtol=1e-9)
    np.testing.assert_allclose(trace.predictions, steps[2].predictions, rtol=1e-9)
    np.testing.assert_allclose(trace.network.weights, steps[2].network.weights, atol=1e-9)
    assert trace.converged
    assert not opponent(network, X, y, iterations=1, tolerance=tolerance, **options).converged
    assert trace.preparation_counts == ({} if opponent is train_dense else {"scan": n * m * d})
    for counts, before, after in zip(trace.counts, patterns, patterns[1:], strict=False):
        fan = before.sum(axis=0).astype(int)
        assert (patterns[0].sum() <= DENSE_AT * n * kept) == listed
        # Lists are summed one way or the other; tests/fast/test_gram.py says which.
        assert counts["gram"] in ((fan @ fan, n * n * np.count_nonzero(fan)) if listed else (n * n * kept,))
        assert counts == {
            "gram": counts["gram"],
            "solve": n**3 // 3,
            "step": int(before.sum()) * d if listed else n * kept * d,
            "scan": n * kept * d,
            "active_pairs": after.sum(),
        }


@pytest.mark.parametrize("opponent", [train_dense, train_compacted, train_gradient_descent])
def test_labels_that_the_network_has_already_count_as_converged(opponent: Callable[..., Any]) -> None:
    rng = np.random.default_rng(2)
    problem = make("random", 5, 8, rng)
    network = initialize(300, 8, shift=0.5, rng=rng)
    known = opponent(network, problem.X, np.zeros(5), iterations=0).predictions
    trace = opponent(network, problem.X, known, iterations=0)
    assert trace.residual_norms.tolist() == [0.0]
    assert trace.converged


@pytest.mark.parametrize("shift", [0.5, 9.0])
def test_a_silent_point_is_named(shift: float) -> None:
    """Of 100 neurons, many fire on the first point: the pattern is kept dense. With the higher shift none fires."""
    network = TwoLayerNetwork(np.tile([1.0, 0.0], (100, 1)), np.ones(100), shift)
    X, y = np.eye(2), np.ones(2)
    loops: list[Callable[..., Any]] = [train_dense, train_gradient_descent, reference.baselines.train_gradient_descent]
    loops += [train_compacted] if shift < 1 else []
    silent = 0 if shift > 1 else 1
    for loop in loops:
        with pytest.raises(NothingFiresError, match=f"no neuron fires on data point {silent}"):
            loop(network, X, y, iterations=1)
    for loop in loops[1:3]:
        with pytest.raises(NothingFiresError, match=f"no neuron fires on data point {silent}"):
            loop(network, X, y, iterations=1, learning_rate=0.1)


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
