from __future__ import annotations

import inspect
import re
import tracemalloc
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fast.multi_layer_gauss_newton
import fast.training_run
import reference.multi_layer
import reference.multi_layer_gauss_newton
from fast import low_rank, rectangular_product
from fast.multi_layer_baselines import MultiLayerDenseRun, train_multi_layer_dense
from fast.multi_layer_gauss_newton import LastLayer, MultiLayerRun, train
from fast.regression import WarmCholesky, solve_conjugate, solve_sketched
from fast.training_run import Solver
from reference.multi_layer import MultiLayerNetwork, initialize
from reference.notation import DivergenceError, FloatArray, InputError, SingularGramError
from reference.safeguard import Move
from reference.signals import DeadSignalError
from reference.two_layer import TwoLayerNetwork, shift_for
from verify.problems import make, unit_rows
from verify.strategies import generators
from verify.tolerances import RUN

FAILURES = (DeadSignalError, SingularGramError, DivergenceError)


def subsets(depth: int) -> list[tuple[int, ...]]:
    layers = range(1, depth + 1)
    return [chosen for size in layers for chosen in combinations(layers, size)]


def stored(W: FloatArray, order: str) -> FloatArray:
    return np.repeat(W, 2, axis=1)[:, ::2] if order == "strided" else np.array(W, order=order)  # type: ignore[call-overload]


@dataclass(frozen=True, eq=False)
class Case:
    """A network, data to train on, points that are not trained on, and which layers are trained."""

    network: MultiLayerNetwork
    X: FloatArray
    y: FloatArray
    unseen: FloatArray
    layers: tuple[int, ...]

    def __repr__(self) -> str:
        network = self.network
        return f"{network.weights[0].shape} x {network.depth}, b={network.shift}, n={len(self.X)}, {self.layers}"


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Draw a problem by its geometry: family and angle, depth and trained layers, law, sparsity and memory order."""
    depth = draw(st.integers(1, 3), label="depth")
    layers = draw(st.sampled_from(subsets(depth)), label="trained layers")
    normalized = draw(st.booleans(), label="normalized")
    alpha = draw(st.sampled_from([0.0, 0.1, 0.24] if normalized else [0.0, 0.05]), label="alpha")
    law = draw(st.sampled_from(["gaussian", "uniform", "whole"]), label="law of the first layer")
    width, d = draw(st.integers(200, 450), label="width"), draw(st.sampled_from([3, 8]), label="d")
    family = draw(st.sampled_from(["random", "pairs", "twins", "clash", "axes"]), label="family")
    n, angle = draw(st.integers(1, 3 if d == 3 else 6), label="n"), draw(st.floats(0.1, 1.0), label="angle")
    order, scale = draw(st.sampled_from(["C", "F", "strided"])), draw(st.sampled_from([1e-3, 1.0, 30.0]))
    rng = draw(generators)
    shift = 1.0 if law == "whole" else shift_for(width, alpha)
    network = initialize(width, d, depth, shift=shift, rng=rng, normalized=normalized or law == "whole")
    scale = min(scale, 3.0) if network.normalized else scale  # labels within reach
    weights = list(network.weights)
    if law == "whole":
        # Whole weights, a whole shift and points on the axes make exact ties at the kink common.
        weights[0] = rng.integers(-3, 4, size=(width, d)).astype(np.float64)
    elif law == "uniform":
        weights = [rng.uniform(-np.sqrt(3), np.sqrt(3), size=W.shape) for W in weights]
    weights = [stored(W, order) for W in weights]
    problem = make("random" if family == "axes" else family, n, d, rng, angle=angle if family in LOOSE else None)
    X = np.eye(d)[: min(n, d)] if family == "axes" else problem.X
    y = scale * (problem.y if family == "twins" else rng.standard_normal(n))[: len(X)]
    network = MultiLayerNetwork(tuple(weights), network.signs, shift, network.normalized)
    return Case(network, X, y, unit_rows(5, d, rng), layers)


LOOSE = ("pairs", "twins", "clash")
"""Families whose angle is drawn."""


def masked(error: BaseException) -> str:
    """Return a message without what rounding may change: numbers, and how singularity was found."""
    return re.sub(r"\d[\d.e+-]*", "#", re.sub(r"\((it is not|condition)[^)]*\)", "", str(error)))


def assert_same_failure(failure: BaseException, loop: Any, *arguments: Any, **options: Any) -> None:  # noqa: ANN401
    """Fail as the reference did, in the same words."""
    with pytest.raises(type(failure)) as caught:
        loop(*arguments, **options)
    assert masked(caught.value) == masked(failure)


def assert_same_run(case: Case, iterations: int = 4, **options: Any) -> None:  # noqa: ANN401
    """Compare a fast run with the reference: the same failure, or the same residuals, predictions and weights."""
    before = [W.copy() for W in case.network.weights]
    arguments: dict[str, Any] = {"trained_layers": case.layers, "iterations": iterations}
    try:
        expected = reference.multi_layer_gauss_newton.train(case.network, case.X, case.y, **arguments)
    except FAILURES as failure:
        assert_same_failure(failure, train, case.network, case.X, case.y, **arguments, **options)
        return
    trace = train(case.network, case.X, case.y, **arguments, **options)
    assert_same_trace(trace, expected, case)
    for W, old in zip(case.network.weights, before, strict=True):
        np.testing.assert_array_equal(W, old)


def assert_same_trace(trace: Any, expected: Any, case: Case) -> None:  # noqa: ANN401
    scale = max(1e-300, float(np.linalg.norm(case.y)), *expected.residual_norms)
    np.testing.assert_allclose(trace.residual_norms, expected.residual_norms, atol=RUN * scale, rtol=RUN)
    np.testing.assert_allclose(trace.predictions, expected.predictions, atol=RUN * scale)
    unseen = expected.network.predict(case.unseen)
    np.testing.assert_allclose(trace.network.predict(case.unseen), unseen, atol=RUN * max(scale, abs(unseen).max()))
    dense = trace.network.to_dense()
    for layer, (mine, theirs) in enumerate(zip(dense.weights, expected.network.weights, strict=True), start=1):
        np.testing.assert_allclose(mine, theirs, atol=RUN * abs(theirs).max())
        assert layer in case.layers or np.array_equal(mine, theirs)


@settings(max_examples=60)
@given(cases(), generators, st.sampled_from(["cholesky", "sketch"]), st.sampled_from([None, 1, 2, 5, 9]))
def test_runs_equal_the_reference(case: Case, rng: np.random.Generator, solver: Solver, budget: int | None) -> None:
    assert_same_run(case, solver=solver, rng=rng, rank_budget=budget)


@settings(max_examples=20)
@given(cases(), st.booleans())
def test_dense_opponents_equal_the_reference(case: Case, compact: bool) -> None:
    before = [W.copy() for W in case.network.weights]
    arguments: dict[str, Any] = {"trained_layers": case.layers, "iterations": 4}
    try:
        expected = reference.multi_layer_gauss_newton.train(case.network, case.X, case.y, **arguments)
    except FAILURES as failure:
        loop = partial(train_multi_layer_dense, compact=compact)
        assert_same_failure(failure, loop, case.network, case.X, case.y, **arguments)
        return
    trace = train_multi_layer_dense(case.network, case.X, case.y, compact=compact, **arguments)
    assert_same_trace(trace, expected, case)
    for layer, (W, old) in enumerate(zip(case.network.weights, before, strict=True), start=1):
        np.testing.assert_array_equal(W, old)
        assert np.shares_memory(trace.network.weights[layer - 1], W) == (layer not in case.layers)


def trainable(
    depth: int = 2, *, m: int = 1024, n: int = 4, alpha: float = 0.3, normalized: bool = True, order: str = "F"
) -> tuple[MultiLayerNetwork, FloatArray, FloatArray]:
    """Return a problem so sparse that columns and entries are read one by one."""
    rng = np.random.default_rng(5)
    problem = make("random", n, 8, rng)
    network = initialize(m, 8, depth, shift=shift_for(m, alpha), rng=rng, normalized=normalized)
    weights = tuple(stored(W, order) for W in network.weights)
    return MultiLayerNetwork(weights, network.signs, network.shift, normalized), problem.X, problem.y


@pytest.mark.parametrize("solver", ["cholesky", "sketch", "conjugate"])
@pytest.mark.parametrize(
    ("family", "depth", "layers", "normalized", "alpha", "m", "n"),
    [
        ("random", 2, (1, 2), True, 0.4, 1500, 12),
        ("random", 2, (2,), False, 0.1, 1100, 12),
        ("pairs", 3, (2, 3), True, 0.24, 700, 9),
        ("twins", 4, (1, 3), True, 0.1, 400, 8),
        ("clash", 2, (1,), False, 0.05, 800, 8),
        ("random", 4, (4,), False, 0.0, 300, 1),
    ],
)
def test_larger_runs_equal_the_reference(
    family: str, depth: int, layers: tuple[int, ...], normalized: bool, alpha: float, m: int, n: int, solver: Solver
) -> None:
    rng = np.random.default_rng(11)
    problem = make(family, n, 8, rng)
    network = initialize(m, 8, depth, shift=shift_for(m, alpha), rng=rng, normalized=normalized)
    case = Case(network, problem.X, problem.y, problem.unseen, layers)
    assert_same_run(case, iterations=5, solver=solver, rng=rng, rank_budget=2 * n + 1)


# Going on


@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize("budget", [None, 6])
@pytest.mark.parametrize("layers", subsets(3), ids=repr)
def test_training_can_go_on_from_its_own_result(layers: tuple[int, ...], normalized: bool, budget: int | None) -> None:
    network, X, y = trainable(3, m=300, alpha=0.05, normalized=normalized, order="C")
    options: dict[str, Any] = {"trained_layers": layers, "rank_budget": budget}
    whole = train(network, X, y, iterations=4, **options)
    first = train(network, X, y, iterations=2, **options)
    middle = first.network.predict(X)
    second = train(first.network, X, y, iterations=2, **options)
    np.testing.assert_allclose(second.residual_norms, whole.residual_norms[2:], rtol=1e-6, atol=1e-12)
    case = Case(network, X, y, unit_rows(5, 8, np.random.default_rng(0)), layers)
    assert_same_trace(second, HalfTrace(whole.network, whole.residual_norms[2:], whole.predictions), case)
    np.testing.assert_array_equal(first.network.predict(X), middle)


@dataclass(frozen=True, eq=False)
class HalfTrace:
    """The end of a run, with a network that is written out."""

    trained: Any
    residual_norms: FloatArray
    predictions: FloatArray

    @property
    def network(self) -> MultiLayerNetwork:
        dense: MultiLayerNetwork = self.trained.to_dense()
        return dense


@pytest.mark.parametrize("first_layers", subsets(2), ids=repr)
@pytest.mark.parametrize("layers", subsets(2), ids=repr)
@pytest.mark.parametrize("normalized", [False, True])
def test_training_can_go_on_with_other_layers_and_data(
    first_layers: tuple[int, ...], layers: tuple[int, ...], normalized: bool
) -> None:
    """Fine-tuning: what the first run left in factors, blocks and coefficients counts as the weights of the second."""
    network, X, y = trainable(2, m=300, alpha=0.05, normalized=normalized, order="C")
    first = train(network, X, y, trained_layers=first_layers, iterations=3, rank_budget=7).network
    written = [layer.to_dense() for layer in first.layers]
    rng = np.random.default_rng(3)
    case = Case(first.to_dense(), unit_rows(3, 8, rng), rng.standard_normal(3), unit_rows(4, 8, rng), layers)
    arguments: dict[str, Any] = {"trained_layers": layers, "iterations": 3}
    expected = reference.multi_layer_gauss_newton.train(case.network, case.X, case.y, **arguments)
    trace = train(first, case.X, case.y, rank_budget=5, **arguments)
    scale = float(np.linalg.norm(case.y))
    np.testing.assert_allclose(trace.residual_norms, expected.residual_norms, atol=RUN * scale, rtol=RUN)
    for mine, theirs in zip(trace.network.to_dense().weights, expected.network.weights, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=RUN * abs(theirs).max())
    for layer, old in zip(first.layers, written, strict=True):
        np.testing.assert_array_equal(layer.to_dense(), old)
    assert trace.network.initial is network


# What is read, copied and allocated


def fired_anywhere(run: MultiLayerRun, iterations: int) -> list[set[int]]:
    """Iterate, and collect which neurons of each layer fire on some point at some time."""
    ever: list[set[int]] = [set() for _ in run.state.signals.hidden[1:]]
    for step in range(iterations + 1):
        if step:
            run.iterate()
        for seen, h in zip(ever, run.state.signals.hidden[1:], strict=True):
            seen.update(h.indices.tolist())
    return ever


@pytest.mark.parametrize("solver", ["cholesky", "sketch"])
@pytest.mark.parametrize("layers", [(1, 2, 3), (1, 3), (2, 3), (2,), (3,)], ids=repr)
def test_an_iteration_reads_nothing_that_it_has_no_right_to_read(layers: tuple[int, ...], solver: Solver) -> None:
    """Tripwire: poison, after the preparation, all of the layers up to the lowest trained one, and every column above
    that belongs to a neuron below which does not fire during the run; the run must not notice."""
    network, X, y = trainable(3)
    clean = MultiLayerRun(network, X, y, trained_layers=layers, solver=solver, rng=np.random.default_rng(0))
    ever = fired_anywhere(clean, 4)

    weights = tuple(np.array(W, order="F") for W in network.weights)
    poisoned = MultiLayerNetwork(weights, network.signs, network.shift, network.normalized)
    run = MultiLayerRun(poisoned, X, y, trained_layers=layers, solver=solver, rng=np.random.default_rng(0))
    for layer, W in enumerate(weights, start=1):
        if layer <= layers[0]:
            W[:] = np.inf
        else:
            quiet = np.ones(network.width, dtype=bool)
            quiet[list(ever[layer - 2])] = False
            assert quiet.mean() > 0.5
            W[:, quiet] = np.inf
    for _ in range(4):
        run.iterate()
    honest, trace = clean.trace(0.0), run.trace(0.0)
    assert trace.residual_norms.tolist() == honest.residual_norms.tolist()
    assert trace.predictions.tolist() == honest.predictions.tolist()
    for mine, theirs in zip(trace.network.layers, honest.network.layers, strict=True):
        assert mine.rank == theirs.rank
        assert mine.left.data.tolist() == theirs.left.data.tolist()
        assert mine.right.data.tolist() == theirs.right.data.tolist()


def test_the_tripwire_catches_a_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(low_rank, "DENSE_FORWARD", 10**9)
    with np.errstate(invalid="ignore"), pytest.raises((*FAILURES, AssertionError)):
        test_an_iteration_reads_nothing_that_it_has_no_right_to_read((1, 2, 3), "cholesky")


def test_the_last_layer_alone_reads_its_matrix_before_it_starts() -> None:
    network, X, y = trainable(2, alpha=0.1, normalized=False)
    honest = train(network, X, y, trained_layers=(2,), iterations=4)
    weights = tuple(np.array(W, order="F") for W in network.weights)
    last = LastLayer(MultiLayerNetwork(weights, network.signs, network.shift), X, rank_budget=None)
    run = last.run(y)
    for W in weights:
        W[:] = np.inf
    trace = run.run(4, 0.0)
    assert trace.residual_norms.tolist() == honest.residual_norms.tolist()
    assert trace.predictions.tolist() == honest.predictions.tolist()


@pytest.mark.parametrize("order", ["C", "F", "strided"])
@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize("layers", subsets(3), ids=repr)
def test_weights_are_copied_at_most_once_and_only_if_they_must_be(
    layers: tuple[int, ...], normalized: bool, order: str
) -> None:
    network, X, y = trainable(3, m=300, alpha=0.0, normalized=normalized, order=order)
    first = train(network, X, y, trained_layers=layers, iterations=1)
    relaid = 0
    for layer, (W, kept) in enumerate(zip(network.weights, first.network.layers, strict=True), start=1):
        copied = order == "strided" or (order == "C" and layer > layers[0])
        assert np.shares_memory(kept.initial, W) == (not copied)
        relaid += copied * W.size
    assert first.preparation_counts["relaid"] == relaid
    assert first.network.initial is network
    second = train(first.network, X, y, trained_layers=layers, iterations=1)
    assert second.preparation_counts["relaid"] == 0
    for old, new in zip(first.network.layers, second.network.layers, strict=True):
        assert new.initial is old.initial


@pytest.mark.parametrize("m", [1024, 2048])
@pytest.mark.parametrize("solver", ["cholesky", "sketch"])
def test_no_iteration_allocates_anything_of_the_size_of_a_matrix(solver: Solver, m: int) -> None:
    """Not even one truth value for each weight; nor does the preparation when the weights come by columns."""
    network, X, y = trainable(2, m=m, alpha=0.4)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        run = MultiLayerRun(network, X, y, trained_layers=(1, 2), solver=solver, rng=np.random.default_rng(0))
        assert tracemalloc.get_traced_memory()[1] - before < m * m
        for _ in range(3):
            before, _ = tracemalloc.get_traced_memory()
            tracemalloc.reset_peak()
            run.iterate()
            assert tracemalloc.get_traced_memory()[1] - before < m * m
    finally:
        tracemalloc.stop()


# Counts


def counts_of(H: Any) -> np.ndarray:  # noqa: ANN401
    return np.bincount(H.indices, minlength=H.shape[1])


@pytest.mark.parametrize("layers", [(1, 2, 3), (1, 3), (2, 3), (2,), (3,)], ids=repr)
def test_counts_are_those_of_the_realised_fired_sets(layers: tuple[int, ...]) -> None:
    network, X, y = trainable(3)
    m, n, lowest = network.width, len(X), layers[0]
    run = MultiLayerRun(network, X, y, trained_layers=layers)
    hidden = run.state.signals.hidden
    upper = range(lowest + 1, 4)
    prepared = sum(hidden[layer - 1].nnz * m for layer in range(2, 4)) + n * network.weights[0].size
    assert run.preparation_counts == {"relaid": 0, "forward": prepared}
    movable = int(np.count_nonzero(counts_of(hidden[lowest])))
    rank = 0
    for _ in range(4):
        fired = [count.astype(int) for count in run.state.signals.fired()]
        before, (scores, old) = run.state.signals.hidden, (run.state.scores, run.state.layers)
        run.iterate()
        counts, after = run.counts[-1], run.state.signals.hidden
        # At least the scores of those that fire; at most all. In between: tests/fast/test_certified_scores.py.
        least = sum(int(np.diff(after[layer].indptr) @ np.diff(after[layer - 1].indptr)) for layer in upper)
        most = sum(after[layer - 1].nnz * m for layer in upper)
        assert least <= counts["forward"] <= most
        assert counts["backward"] == sum(int(fired[layer - 1] @ fired[layer - 2]) for layer in upper)
        shared = [counts_of(before[layer]) for layer in layers] + [counts_of(before[layer - 1]) for layer in layers]
        assert counts["gram"] == sum(int(count @ count) for count in shared) + len(layers) * n * n
        moved = int(np.count_nonzero(counts_of(before[lowest])))
        kept = sum(before[layer].nnz + before[layer - 1].nnz for layer in layers[1:])
        assert counts["step"] == n * n * moved + kept
        assert counts["fire"] == n * (movable + m * len(upper))
        assert counts["active_pairs"] == sum(h.nnz for h in after[1:])
        # Products with what was added: the old factors backward, the new ones forward.
        factors = 0
        for layer in upper:
            for weights, H, mine, other in (
                (old[layer - 1], before[layer], "left", "right"),
                (run.state.layers[layer - 1], after[layer - 1], "right", "left"),
            ):
                if weights.rank:
                    factors += int(counts_of(H) @ counts_of(getattr(weights, mine))) + n * getattr(weights, other).nnz
        assert counts["factors"] == factors
        rank += n * (len(layers) - 1)
        assert (counts["rank"], counts["fold"]) == (rank, 0)
        assert np.count_nonzero((run.state.scores != scores).any(axis=0)) <= moved
    assert 20 * counts["forward"] < most or not upper


@pytest.mark.parametrize("n", [4, 200])
def test_the_last_layer_alone_counts_its_preparation(n: int) -> None:
    """Of few points in the basis of what reaches it, of many in the columns of neurons below that fire on some."""
    network, X, y = trainable(3, m=150, n=n, alpha=0.1, normalized=False)
    signals = reference.multi_layer.forward(network, X)
    columns = int(signals.fires[1].any(axis=0).sum())
    rank = n if n == 4 else columns
    trace = train(network, X, y, trained_layers=(3,), iterations=0)
    expected = {
        "relaid": 0,
        "forward": n * 8 * 150 + int(signals.fires[0].sum()) * 150 + 150 * columns * rank,
        "scores": n * 150 * rank,
        "inner_products": n * n * rank,
    }
    assert {phase: trace.preparation_counts[phase] for phase in expected} == expected


@pytest.mark.parametrize(("copies", "rank"), [(1, 2), (2, 4), (3, 2)])
def test_the_last_layer_alone_changes_its_basis_beyond_two_columns_a_point(copies: int, rank: int) -> None:
    m = 2 * copies
    below = 2 * np.repeat(np.eye(2), copies, axis=0)
    last = LastLayer(MultiLayerNetwork([below, np.ones((m, m))], np.ones(m), 0.5), np.eye(2), rank_budget=None)
    assert (len(last.columns), last.basis.shape) == (m, (m, rank))


@pytest.mark.parametrize("solver", ["cholesky", "sketch", "conjugate"])
def test_solvers_count_their_work_and_stop_at_the_accuracy_asked_for(solver: Solver) -> None:
    network, X, y = trainable(2, n=9, alpha=0.1)
    arguments: dict[str, Any] = {"trained_layers": (1, 2), "solver": solver, "accuracy": 0.1}
    run = MultiLayerRun(network, X, y, rng=np.random.default_rng(0), **arguments)
    warm = WarmCholesky()
    for _ in range(3):
        jacobian, residual, spent = run._jacobian(), run.residual, warm.work
        if solver == "cholesky":
            g = warm.solve(jacobian.gram, residual)
            work = {"solve": warm.work - spent}
        elif solver == "conjugate":
            solution = solve_conjugate(jacobian.gram, residual, accuracy=0.1)
            g, work = solution.solution, {"solve": solution.work}
        else:
            solution = solve_sketched(jacobian, jacobian.sketch(run.draws), residual, accuracy=0.1)
            g, work = solution.solution, {"solve": solution.work, "sketch": jacobian.sketch_work(run.draws)}
        coefficients = run.state.coefficients.toarray()
        run.iterate()
        moved = run.state.coefficients.toarray() - coefficients
        np.testing.assert_allclose(moved, -g[:, np.newaxis] * jacobian.factors[0][0].toarray(), atol=1e-12)
        assert {phase: run.counts[-1].get(phase, 0) for phase in work} == work
        assert ("sketch" in run.counts[-1]) == (solver == "sketch")


def test_steps_are_written_out_when_rounding_may_have_lost_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    network, X, y = trainable(3, alpha=0.1)
    run = MultiLayerRun(network, X, y, trained_layers=(1, 3))
    monkeypatch.setattr(fast.multi_layer_gauss_newton, "MOST_LOST", 0.0)
    run.iterate()
    assert [layer.folds for layer in run.state.layers] == [1, 0, 1]
    assert (run.state.rounding, run.state.coefficients.nnz) == (0.0, 0)
    monkeypatch.setattr(fast.multi_layer_gauss_newton, "MOST_LOST", 1.0)
    run.iterate()
    assert 0 < run.state.rounding < 1e-12
    assert run.state.coefficients.nnz
    np.testing.assert_allclose(run.trace(0.0).network.predict(X), run.trace(0.0).predictions, atol=1e-10)


def test_a_fold_is_counted() -> None:
    network, X, y = trainable(2)
    n = len(X)
    run = MultiLayerRun(network, X, y, trained_layers=(1, 2), rank_budget=2 * n)
    first = run.state.signals.hidden
    run.iterate()
    second = run.state.signals.hidden
    run.iterate()
    rows, columns = (len(set(first[k].indices) | set(second[k].indices)) for k in (2, 1))
    assert [counts["fold"] for counts in run.counts] == [0, rectangular_product.multiplications(rows, 2 * n, columns)]
    assert [counts["rank"] for counts in run.counts] == [n, 0]
    block = run.state.layers[1].block
    assert block.shape == (rows, columns)
    run.iterate()
    inside = np.isin(run.state.signals.hidden[1].indices, run.state.layers[1].columns).sum()
    assert run.counts[-1]["factors"] > inside * rows


# The safeguarded step


def uncentred(seed: int, *, normalized: bool, m: int = 128) -> tuple[MultiLayerNetwork, FloatArray, FloatArray]:
    """Return data on which plain runs climb."""
    rng = np.random.default_rng(seed)
    X = 1 + 0.3 * rng.standard_normal((10, 8))
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    return initialize(m, 8, 2, shift=0.3, rng=rng, normalized=normalized), X, rng.standard_normal(10)


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.sampled_from(subsets(2)), st.booleans(), st.sampled_from([None, 1, 25]))
def test_safeguarded_runs_equal_the_reference(
    seed: int, layers: tuple[int, ...], normalized: bool, budget: int | None
) -> None:
    network, X, y = uncentred(seed, normalized=normalized)
    options: dict[str, Any] = {"trained_layers": layers, "iterations": 4, "tolerance": 1e-6, "step": "safeguarded"}
    try:
        expected = reference.multi_layer_gauss_newton.train(network, X, y, **options)
    except DeadSignalError as failure:
        assert_same_failure(failure, train, network, X, y, **options)
        return
    trace = train(network, X, y, rank_budget=budget, **options)
    np.testing.assert_allclose(trace.residual_norms, expected.residual_norms, atol=RUN * np.linalg.norm(y))
    assert (np.diff(trace.residual_norms) <= 0).all()
    for mine, theirs in zip(trace.network.to_dense().weights, expected.network.weights, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=RUN * abs(theirs).max())


def test_those_runs_do_look_ahead_and_shorten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the test above would be about full steps alone."""
    moves: list[str] = []
    honest = fast.training_run.next_move

    def spy(current: float, ahead: list[float], shortened: list[float], allowance: int) -> Move:
        moves.append(honest(current, ahead, shortened, allowance))
        return moves[-1]  # type: ignore[return-value]

    monkeypatch.setattr(fast.training_run, "next_move", spy)
    for seed in range(4):
        network, X, y = uncentred(seed, normalized=False)
        train(network, X, y, trained_layers=(1, 2), iterations=4, step="safeguarded")
    assert {"accept", "advance", "shorten"} <= set(moves)


@pytest.mark.parametrize("layers", subsets(2), ids=repr)
@pytest.mark.parametrize("normalized", [False, True])
def test_a_safeguarded_run_equals_a_full_one_where_that_lowers_the_residual(
    layers: tuple[int, ...], normalized: bool
) -> None:
    network, X, y = trainable(2, alpha=0.1, normalized=normalized)
    options: dict[str, Any] = {"trained_layers": layers, "iterations": 3}
    full = train(network, X, y, **options)
    assert (full.residual_norms[1:] <= full.residual_norms[:-1] / 2).all()
    guarded = train(network, X, y, step="safeguarded", **options)
    assert guarded.residual_norms.tolist() == full.residual_norms.tolist()
    assert guarded.predictions.tolist() == full.predictions.tolist()
    for mine, theirs in zip(guarded.network.to_dense().weights, full.network.to_dense().weights, strict=True):
        assert mine.tolist() == theirs.tolist()


def test_a_step_that_silences_a_point_is_not_kept() -> None:
    """One neuron a layer, one point, a label below any prediction: the full step would leave nothing to train."""
    network = MultiLayerNetwork([[[2.0]], [[2.0]]], [1.0], 0.5)
    with pytest.raises(DeadSignalError):
        train(network, [[1.0]], [-1.0], trained_layers=(1, 2), iterations=9)
    trace = train(network, [[1.0]], [-1.0], trained_layers=(1, 2), iterations=40, step="safeguarded")
    assert (np.diff(trace.residual_norms) <= 0).all()
    assert trace.stopped.startswith("stalled at iteration")
    reference.multi_layer.forward(trace.network.to_dense(), [[1.0]]).check(network)


@pytest.mark.parametrize("shift", [0.0, -0.1])
def test_a_step_that_silences_a_lower_layer_alone_is_not_kept(shift: float) -> None:
    """Without a shift above 0 the next layer fires on no signal at all, and the full step lowers the residual."""
    network, X, y = MultiLayerNetwork([[[2.0]], [[2.0]]], [1.0], shift), [[1.0]], [-9.0]
    options: dict[str, Any] = {"trained_layers": (1, 2), "iterations": 1}
    dead = reference.multi_layer_gauss_newton.train(network, X, y, **options)
    below, above = reference.multi_layer.forward(dead.network, X).fired()
    assert (below.item(), above.item()) == (0, 1)
    assert dead.residual_norms[1] < dead.residual_norms[0]
    expected = reference.multi_layer_gauss_newton.train(network, X, y, step="safeguarded", **options)
    trace = train(network, X, y, step="safeguarded", **options)
    np.testing.assert_allclose(trace.residual_norms, expected.residual_norms, rtol=1e-12)
    for loop in (trace, expected):
        reference.multi_layer.forward(loop.network.to_dense(), X).check(network)
        assert loop.residual_norms[1] < loop.residual_norms[0]


def test_where_no_step_changes_anything_a_safeguarded_run_stalls() -> None:
    """A normalized layer of which a single neuron fires answers 1 whatever its weights: the Gram matrix is 0."""
    network = MultiLayerNetwork([[[1.0, 1.0]]], [1.0], 0.5, normalized=True)
    X, y = [[1.0, 0.0], [0.6, 0.8]], [0.4, 0.2]
    for loop in (train, reference.multi_layer_gauss_newton.train):
        with pytest.raises(SingularGramError):
            loop(network, X, y, trained_layers=(1,), iterations=3)  # type: ignore[operator]
        trace = loop(network, X, y, trained_layers=(1,), iterations=3, step="safeguarded")  # type: ignore[operator]
        assert trace.residual_norms.tolist() == [1.0, 1.0]
        assert trace.stopped.startswith("stalled at iteration 1 with residual 1, 1 of the start: no step lowered it")
        np.testing.assert_array_equal(trace.network.to_dense().weights[0], network.weights[0])


# Failures and arguments

LOOPS = {
    "reference": reference.multi_layer_gauss_newton.train,
    "cholesky": train,
    "sketch": partial(train, solver="sketch", rng=np.random.default_rng(0)),
    "dense": train_multi_layer_dense,
    "compacted": partial(train_multi_layer_dense, compact=True),
}


def failure_of(loop: Any, *arguments: Any, **options: Any) -> BaseException:  # noqa: ANN401
    with pytest.raises(FAILURES) as caught:
        loop(*arguments, **options)
    return caught.value


@pytest.mark.parametrize("layers", subsets(2), ids=repr)
def test_all_loops_say_the_same_of_a_dead_signal(layers: tuple[int, ...]) -> None:
    network = MultiLayerNetwork([np.eye(2), 0.1 * np.eye(2)], [1, 1], 0.5)
    X, y = [[1.0, 0.0], [-0.6, -0.8], [0.0, 1.0]], [1.0, 1.0, 1.0]
    failures = [failure_of(loop, network, X, y, trained_layers=layers, iterations=1) for loop in LOOPS.values()]
    assert {type(failure) for failure in failures} == {DeadSignalError}
    [message] = {str(failure) for failure in failures}
    assert "in layer 1 on 1 of 3 data point(s), the first of them 1" in message
    assert "in layer 2 on 2 of 3 data point(s), the first of them 0" in message


@pytest.mark.parametrize("layers", subsets(2), ids=repr)
@pytest.mark.parametrize("shift", [0.5, -0.1])
def test_a_layer_that_is_dead_everywhere_is_named_when_a_step_is_taken_and_not_before(
    layers: tuple[int, ...], shift: float
) -> None:
    network = MultiLayerNetwork([-np.ones((2, 2)), np.eye(2)], [1, 1], shift)
    X, y = [[1.0, 0.0], [0.6, 0.8]], [1.0, 1.0]
    failures = [failure_of(loop, network, X, y, trained_layers=layers, iterations=1) for loop in LOOPS.values()]
    assert {type(failure) for failure in failures} == {DeadSignalError}
    [message] = {str(failure) for failure in failures}
    assert "dies in layer 1 on 2 of 2" in message
    for loop in LOOPS.values():
        trace = loop(network, X, y, trained_layers=layers, iterations=0)  # type: ignore[operator]
        np.testing.assert_allclose(trace.network.predict(X), network.predict(X))


@pytest.mark.parametrize("layers", subsets(2), ids=repr)
def test_all_loops_explain_a_singular_gram_matrix(layers: tuple[int, ...]) -> None:
    """Neurons that all see the same cannot tell three points apart; the two layers have rank 2 at most."""
    network = MultiLayerNetwork([[[2.0, 2.0]], [[3.0]]], [1.0], 0.5)
    X, y = [[0.6, 0.8], [0.8, 0.6], [1.0, 0.0], [0.96, 0.28]], [1.0, -1.0, 1.0, 0.5]
    failures = [failure_of(loop, network, X, y, trained_layers=layers, iterations=1) for loop in LOOPS.values()]
    assert {type(failure) for failure in failures} == {SingularGramError}
    [message] = {masked(failure) for failure in failures}
    assert "The weakest signal is that of data point # in layer #, where # of # neurons fire: widen" in message


@pytest.mark.parametrize("loop", LOOPS.values(), ids=LOOPS.keys())
@pytest.mark.parametrize(
    ("seed", "layers", "cause"),
    [
        (2, (1, 2), ""),
        (0, (1,), r"\(the signal dies in layer 2 on 1 of 20 data point\(s\), .* gradient is zero there\)"),
        (5, (1, 2), r"\(the Gram matrix \(20 by 20\) is singular .*\)"),
    ],
)
def test_a_diverging_run_is_reported_with_what_broke_down(
    loop: Any, seed: int, layers: tuple[int, ...], cause: str  # noqa: ANN401
) -> None:
    rng = np.random.default_rng(seed)
    X = 1 + 0.3 * rng.standard_normal((20, 8))
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    network, y = initialize(64, 8, 2, shift=0.3, rng=rng), rng.standard_normal(20)
    message = rf"training diverged: after iteration .* at the start ?{cause}; widen the network"
    with pytest.raises(DivergenceError, match=message) as caught:
        loop(network, X, y, trained_layers=layers, iterations=40)
    assert caught.value.residual_norms[-1] > caught.value.residual_norms[0]


def test_training_stops_at_the_tolerance() -> None:
    network, X, y = trainable(2, alpha=0.1)
    for layers in subsets(2):
        trace = train(network, X, y, trained_layers=layers, iterations=50, tolerance=1e-6)
        assert trace.converged
        assert trace.residual_norms[-1] <= 1e-6 * trace.residual_norms[0] < trace.residual_norms[-2]
        assert len(trace.counts) == len(trace.residual_norms) - 1 < 50


@pytest.mark.parametrize("layers", subsets(2), ids=repr)
@pytest.mark.parametrize("normalized", [False, True])
def test_no_iterations_return_the_initial_network(layers: tuple[int, ...], normalized: bool) -> None:
    network, X, y = trainable(2, m=300, alpha=0.0, normalized=normalized)
    trace = train(network, X, y, trained_layers=layers, iterations=0)
    np.testing.assert_allclose(trace.network.predict(X), network.predict(X), atol=1e-12)
    for mine, W in zip(trace.network.to_dense().weights, network.weights, strict=True):
        np.testing.assert_array_equal(mine, W)
    assert (len(trace.residual_norms), trace.counts, trace.converged) == (1, [], False)


def test_randomness_is_reproducible_and_required_by_the_sketch_alone() -> None:
    network, X, y = trainable(2, m=300, alpha=0.0)
    options: dict[str, Any] = {"trained_layers": (1, 2), "iterations": 2, "solver": "sketch"}
    one, two = (train(network, X, y, rng=np.random.default_rng(3), **options) for _ in range(2))
    assert one.predictions.tolist() == two.predictions.tolist()
    assert all(counts["sketch"] > 0 for counts in one.counts)
    for layers in subsets(2):
        with pytest.raises(InputError, match="Generator"):
            train(network, X, y, **(options | {"trained_layers": layers}))


@pytest.mark.parametrize("loop", LOOPS.values(), ids=LOOPS.keys())
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trained_layers": (3,)}, r"trained_layers is \(3,\); pass distinct layer numbers from 1 to 2"),
        ({"trained_layers": (2,), "X": np.eye(5)}, "X has 5 columns but the network takes 8 inputs"),
        ({"X": np.eye(5)}, "X has 5 columns but the network takes 8 inputs"),
        ({"X": 2 * np.eye(8)}, "row 0 of X has length 2, not 1; normalize"),
        ({"trained_layers": (2,), "y": np.ones(3)}, "y has 3 entries but X has 4 rows"),
        ({"y": np.ones(3)}, "y has 3 entries but X has 4 rows"),
        ({"iterations": -1}, "iterations is -1; pass a whole number"),
        ({"tolerance": 1.0}, r"tolerance is 1.0; pass a number in \[0, 1\)"),
        (
            {"y": [1.0, -7.1, 1.0, 1.0]},
            r"y\[1\] is -7\.1, out of reach: .* below sqrt\(width\) = 7\.07 in size; rescale",
        ),
        ({"y": np.full(4, 1e200)}, r"y\[0\] is 1e\+200, out of reach: .*; rescale the labels, or widen .*\(here 50\)$"),
    ],
)
def test_bad_arguments_are_refused(loop: Any, changes: dict[str, Any], message: str) -> None:  # noqa: ANN401
    network, X, y = trainable(2, m=50, alpha=0.0)
    arguments: dict[str, Any] = {"X": X, "y": y, "trained_layers": (1, 2), "iterations": 1} | changes
    with pytest.raises(InputError, match=message):
        loop(network, **arguments)


@pytest.mark.parametrize("loop", LOOPS.values(), ids=LOOPS.keys())
def test_labels_of_any_size_are_within_reach_of_a_plain_network_until_they_overflow(loop: Any) -> None:  # noqa: ANN401
    network, X, y = trainable(2, m=50, alpha=0.0, normalized=False)
    loop(network, X, 1e3 * y, trained_layers=(1, 2), iterations=0)
    with np.errstate(over="ignore"), pytest.raises(InputError, match="the first residual overflows"):
        loop(network, X, np.full(4, 1e200), trained_layers=(1, 2), iterations=1)


def near_the_bound(depth: int) -> tuple[MultiLayerNetwork, FloatArray, FloatArray]:
    """Labels below ``m^(1/2)``, though beyond what so many points can have at once."""
    rng = np.random.default_rng(1)
    X, m = unit_rows(32, 32, rng), 256
    y = 0.999 * np.sqrt(m) * rng.choice([-1.0, 1.0], 32)
    return initialize(m, 32, depth, shift=shift_for(m, 0.1), rng=rng, normalized=True), X, y


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("loop", LOOPS.values(), ids=LOOPS.keys())
def test_weights_that_run_away_are_a_divergence(loop: Any, depth: int) -> None:  # noqa: ANN401
    """The residual of a normalized network is bounded, so it cannot tell; without the check they grew to 1e42."""
    network, X, y = near_the_bound(depth)
    message = (
        r"training diverged: .* \(signals before normalization grew beyond 1e\+08 times their first length; labels"
    )
    with pytest.raises(DivergenceError, match=message) as caught:
        loop(network, X, y, trained_layers=range(1, depth + 1), iterations=400)
    assert caught.value.residual_norms.max() < 4 * caught.value.residual_norms[0]


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("loop", [reference.multi_layer_gauss_newton.train, train], ids=["reference", "fast"])
def test_a_safeguarded_run_keeps_no_weights_that_ran_away(
    loop: Any,  # noqa: ANN401
    depth: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reference.multi_layer, "GROWTH_ALLOWED", 3.0)
    network, X, y = near_the_bound(depth)
    layers = range(1, depth + 1)
    trace = loop(network, X, y, trained_layers=layers, iterations=20, step="safeguarded")
    assert trace.residual_norms[-1] < 0.9 * trace.residual_norms[0]
    grown = [
        after.max() / before.max()
        for after, before in zip(
            reference.multi_layer.forward(trace.network.to_dense(), X).sizes,
            reference.multi_layer.forward(network, X).sizes,
            strict=True,
        )
    ]
    assert max(grown) <= 3 + RUN


@pytest.mark.parametrize("layers", subsets(2), ids=repr)
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"solver": "lu"}, "solver is 'lu'; pass 'cholesky', 'sketch' or 'conjugate'"),
        ({"step": "half"}, "step is 'half'; pass 'full' or 'safeguarded'"),
        ({"accuracy": -1}, "accuracy is -1; pass a number between 0 and 1"),
        ({"rank_budget": 1.5}, "the rank budget is 1.5; pass a whole number"),
        ({"rank_budget": 0}, "the rank budget is 0; pass a whole number, at least 1"),
    ],
)
def test_bad_options_are_refused(layers: tuple[int, ...], changes: dict[str, Any], message: str) -> None:
    network, X, y = trainable(2, m=50, alpha=0.0, normalized=False)
    with pytest.raises(InputError, match=message):
        train(network, X, y, trained_layers=layers, iterations=1, **changes)


def test_a_network_of_another_kind_is_refused() -> None:
    two = TwoLayerNetwork([[2.0, 2.0]], [1.0], 0.5)
    for start in (partial(train, iterations=1), MultiLayerRun):
        with pytest.raises(InputError, match="network is a TwoLayerNetwork; pass a MultiLayerNetwork or a trained"):
            start(two, np.eye(2), np.ones(2), trained_layers=(1,))  # type: ignore[operator]
    opponents = (
        partial(reference.multi_layer_gauss_newton.train, iterations=1),
        partial(train_multi_layer_dense, iterations=1),
        MultiLayerDenseRun,
    )
    network, X, y = trainable(2, m=50, alpha=0.0)
    trained = train(network, X, y, trained_layers=(1, 2), iterations=0).network
    for wrong, words in (
        (two, "network is a TwoLayerNetwork; pass a MultiLayerNetwork"),
        (None, "network is a NoneType; pass a MultiLayerNetwork"),
        (trained, r"network has implicit weights, and .*; pass network\.to_dense\(\)"),
    ):
        for dense in opponents:
            with pytest.raises(InputError, match=words):
                dense(wrong, X, y, trained_layers=(1,))  # type: ignore[operator]


@pytest.mark.parametrize("layers", subsets(2), ids=repr)
def test_the_result_does_not_depend_on_the_callers_data_any_more(layers: tuple[int, ...]) -> None:
    network, X, y = trainable(2, m=300, alpha=0.0, normalized=False)
    copies = X.copy(), y.copy()
    trace = train(network, X, y, trained_layers=layers, iterations=2)
    np.testing.assert_array_equal(X, copies[0])
    np.testing.assert_array_equal(y, copies[1])
    before = trace.network.predict(X)
    X[:] = 0
    assert trace.network.predict(copies[0]).tolist() == before.tolist()


def test_a_run_keeps_its_own_data() -> None:
    network, X, y = trainable(2, m=300, alpha=0.0)
    run = MultiLayerRun(network, X, y, trained_layers=(1, 2))
    kept = X.copy()
    X[:] = 0
    np.testing.assert_array_equal(run.told, kept)
    np.testing.assert_array_equal(run.inputs.toarray(), kept)


def test_a_run_can_be_looked_at_and_go_on() -> None:
    network, X, y = trainable(2, m=300, alpha=0.1)
    whole = train(network, X, y, trained_layers=(1, 2), iterations=4, rank_budget=6)
    run = MultiLayerRun(network, X, y, trained_layers=(1, 2), rank_budget=6)
    for _ in range(4):
        run.iterate()
        trace = run.trace(0.0)
        np.testing.assert_allclose(trace.network.predict(X), trace.predictions, atol=1e-10)
    assert trace.residual_norms.tolist() == whole.residual_norms.tolist()


def test_both_sides_take_the_same_arguments() -> None:
    theirs = inspect.signature(reference.multi_layer_gauss_newton.train).parameters
    mine = inspect.signature(train).parameters
    assert list(theirs) == [name for name in mine if name in theirs]
    opponents = inspect.signature(train_multi_layer_dense).parameters
    assert [name for name in theirs if name != "step"] == [name for name in opponents if name in theirs]


# The dense opponents


@pytest.mark.parametrize("compact", [False, True])
@pytest.mark.parametrize("layers", [(1, 2), (2,)], ids=repr)
def test_opponents_count_what_they_scan_and_write_and_stop_at_the_tolerance(
    layers: tuple[int, ...], compact: bool
) -> None:
    network, X, y = trainable(2, n=5)
    m, n, y = network.width, len(X), 2 * y
    choice = {"compact": True} if compact else {}
    run = MultiLayerDenseRun(network, X, y, trained_layers=layers, **choice)
    for _ in range(2):
        before, fired = run.signals.hidden, [count.astype(int) for count in run.signals.fired()]
        run.iterate()
        counts, after = run.counts[-1], run.signals.hidden
        columns = len(set(after[1].indices)) if compact else m
        pairs = int(fired[0] @ fired[1])
        assert 20 * 8 * before[1].nnz >= 8 * m  # the first layer is stepped by BLAS
        assert 20 * pairs < m * m  # the second entry by entry
        first = 1 in layers
        shared = [counts_of(before[layer]) for layer in layers] + [counts_of(before[layer - 1]) for layer in layers]
        assert counts == {
            "scan": n * 8 * m * first + n * columns * m,
            "backward": pairs * first,
            "gram": sum(int(count @ count) for count in shared) + len(layers) * n * n,
            "solve": n**3 // 3,
            "step": n * 8 * m * first + pairs,
        }
    norms = run.residual_norms
    assert norms[0] > 2
    # Only the residual after two steps has this share of the first.
    options: dict[str, Any] = {"trained_layers": layers, "tolerance": (1 + 1e-9) * norms[2] / norms[0]}
    trace = train_multi_layer_dense(network, X, y, iterations=9, **options, **choice)
    np.testing.assert_allclose(trace.residual_norms, norms, rtol=1e-6)
    assert trace.converged
    assert trace.counts == run.counts
    assert not train_multi_layer_dense(network, X, y, iterations=1, **options).converged


def test_an_opponent_of_known_labels_has_converged() -> None:
    network, X, y = trainable(2, m=50, alpha=0.0)
    known = train_multi_layer_dense(network, X, 0 * y, trained_layers=(1, 2), iterations=0).predictions
    trace = train_multi_layer_dense(network, X, known, trained_layers=(1, 2), iterations=0)
    assert (trace.residual_norms.tolist(), trace.converged) == ([0.0], True)


@pytest.mark.parametrize(("width", "written"), [(20, 20), (21, 1)])
def test_a_step_is_written_entry_by_entry_below_one_in_twenty(width: int, written: int) -> None:
    network = MultiLayerNetwork([[[2.0]] + [[-1.0]] * (width - 1)], np.ones(width), 0.5)
    trace = train_multi_layer_dense(network, [[1.0]], [1.0], trained_layers=(1,), iterations=1)
    assert trace.counts[0]["step"] == written
    assert trace.residual_norms[-1] < 1e-14


@pytest.mark.parametrize("trained_layers", [(1,), (1, 2)])
@pytest.mark.parametrize("angle", [1e-2, 1e-3])
def test_residuals_stay_true_where_steps_are_huge_and_cancel(trained_layers: tuple[int, ...], angle: float) -> None:
    """Kept as factors for good, such steps would leave a network some 1e-9 away from its reported residual."""
    rng = np.random.default_rng(3)
    problem = make("clash", 12, 8, rng, angle=angle)
    network = initialize(600, 8, 2, shift=0.6, rng=rng)
    trace = train(
        network, problem.X, problem.y, trained_layers=trained_layers, iterations=5, step="safeguarded"
    )
    scale = np.linalg.norm(problem.y)
    for trained in (trace.network, trace.network.to_dense()):
        recomputed = np.linalg.norm(trained.predict(problem.X) - problem.y)
        assert recomputed == pytest.approx(trace.residual_norms[-1], abs=1e-12 * scale)
    for layer, weights in enumerate(trace.network.layers, start=1):
        assert bool(weights.folds) == (layer in trained_layers)


@pytest.mark.parametrize("layers", [(1, 2), (1,), (2,)], ids=repr)
@pytest.mark.parametrize("solver", ["cholesky", "sketch"])
def test_a_whole_run_needs_little_memory_beside_the_weights(layers: tuple[int, ...], solver: Solver) -> None:
    rng = np.random.default_rng(0)
    problem = make("random", 16, 16, rng)
    network = initialize(4096, 16, 2, shift=shift_for(4096, 0.24), rng=rng)
    tracemalloc.start()
    try:
        train(network, problem.X, problem.y, trained_layers=layers, iterations=3, solver=solver, rng=rng)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 0.2 * network.weights[1].nbytes
