"""Fired pairs and implicit weights, against the reference's dense arrays."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from fast import two_layer
from fast.lazy_width import LazyNetwork
from fast.two_layer import (
    Coefficients,
    FiredPairs,
    ImplicitNetwork,
    PartialPredictionWarning,
    check_given,
    fired_pairs,
    predict_from_fired,
    score_blocks,
    starting_network,
)
from reference.notation import FloatArray, InputError
from reference.two_layer import TwoLayerNetwork, activation_pattern, initialize, preactivations
from verify.problems import unit_rows
from verify.strategies import generators, networks, points
from verify.tolerances import matrix_product

BLOCKS = st.sampled_from([1, 7, 64, 1 << 18])


@pytest.fixture
def blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make blocks of a few neurons, so that the last one is a partial one."""
    monkeypatch.setattr(two_layer, "BLOCK_ENTRIES", 7)


def assert_equals_the_pattern(network: TwoLayerNetwork, X: FloatArray) -> None:
    fired, scores = fired_pairs(network.weights, X, network.shift)
    A, U = activation_pattern(network, X), preactivations(network, X)
    assert (fired.n, fired.width, len(fired)) == (*A.shape, A.sum())
    # np.nonzero reads row by row: sorted by data point, then by neuron.
    for mine, theirs in zip((fired.data_index, fired.neuron_index), np.nonzero(A), strict=True):
        assert mine.tolist() == theirs.tolist()
    np.testing.assert_allclose(scores, U[A], rtol=1e-12, atol=1e-13)
    assert fired.per_point().tolist() == A.sum(axis=1).tolist()
    f = predict_from_fired(fired, scores, network.signs[fired.neuron_index], network.shift)
    scale = float(np.abs(scores - network.shift).sum()) / np.sqrt(network.width)
    np.testing.assert_allclose(f, network.predict(X), atol=matrix_product(network.width, scale) + 1e-15)


@given(st.data(), BLOCKS)
def test_fired_pairs_are_the_pattern_and_predict_the_same(data: st.DataObject, block: int) -> None:
    network = data.draw(networks(3))
    X = data.draw(points(3))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(two_layer, "BLOCK_ENTRIES", block)
        assert_equals_the_pattern(network, X)


def test_the_kink_belongs_to_the_firing_side() -> None:
    fired, scores = fired_pairs(np.array([[1.0, 0.0], [np.nextafter(1, 0), 0.0]]), np.array([[1.0, 0.0]]), 1.0)
    assert (fired.neuron_index.tolist(), scores.tolist()) == ([0], [1.0])


def test_no_neuron_at_all_may_fire() -> None:
    fired, scores = fired_pairs(np.ones((3, 2)), np.eye(2), 5.0)
    assert (len(fired), scores.size, fired.per_point().tolist()) == (0, 0, [0, 0])
    assert predict_from_fired(fired, scores, np.empty(0), 5.0).tolist() == [0.0, 0.0]


def test_pairs_of_very_many_points_are_sorted_too() -> None:
    n = (1 << 16) + 9
    fired, _ = fired_pairs(np.array([[1.0], [2.0]]), np.ones((n, 1)), 0.5)
    assert np.array_equal(fired.data_index, np.repeat(np.arange(n), 2))
    assert np.array_equal(fired.neuron_index, np.tile([0, 1], n))


@pytest.mark.usefixtures("blocks")
def test_score_blocks_are_all_scores_in_order() -> None:
    network = initialize(23, 4, shift=0.0, rng=np.random.default_rng(0))
    X = unit_rows(3, 4, np.random.default_rng(1))
    parts = list(score_blocks(network.weights, X))
    assert [part.shape for part in parts] == [(3, 2)] * 11 + [(3, 1)]
    np.testing.assert_allclose(np.concatenate(parts, axis=1), preactivations(network, X), atol=1e-14)


def random_steps(width: int, n: int, rng: np.random.Generator) -> tuple[Coefficients, FloatArray, FloatArray]:
    """Subtract random solutions on random patterns; return the table, the dense one, and the moved neurons."""
    table, dense = Coefficients(width, n), np.zeros((width, n))
    for _ in range(4):
        pattern = rng.random((n, width)) < 0.2
        g = rng.standard_normal(n)
        data_index, neuron_index = np.nonzero(pattern)
        neurons, column = np.unique(neuron_index, return_inverse=True)
        table.subtract(neurons, column, data_index, g)
        dense -= pattern.T * g
    return table, dense, np.flatnonzero(dense.any(axis=1))


@given(st.integers(1, 60), st.integers(1, 6), generators)
def test_coefficients_add_up_to_a_dense_table(width: int, n: int, rng: np.random.Generator) -> None:
    table, dense, moved = random_steps(width, n, rng)
    X = unit_rows(n, 3, rng)
    network = initialize(width, 3, shift=0.3, rng=rng)
    implicit = table.network(network, X)
    assert implicit.moved.tolist() == moved.tolist() == sorted(table.neurons.tolist())
    np.testing.assert_allclose(implicit.coefficients, dense[moved], atol=1e-14)


def test_rows_looked_up_ahead_are_those_that_a_step_leaves() -> None:
    rng = np.random.default_rng(0)
    table, dense, moved = random_steps(60, 3, rng)
    pattern, g = rng.random((3, 60)) < 0.6, rng.standard_normal(3)
    data_index, neuron_index = np.nonzero(pattern)
    neurons, column = np.unique(neuron_index, return_inverse=True)
    assert 0 < np.isin(neurons, moved).sum() < len(neurons)
    assert table.neurons[0] in neurons
    rows = table.after(neurons, column, data_index, g)
    np.testing.assert_allclose(rows, (dense - pattern.T * g)[neurons], atol=1e-14)
    assert sorted(table.neurons.tolist()) == moved.tolist()  # none was added


@given(st.integers(1, 60), st.integers(1, 6), generators, BLOCKS)
def test_implicit_weights_follow_the_definition(width: int, n: int, rng: np.random.Generator, block: int) -> None:
    table, dense, moved = random_steps(width, n, rng)
    X, unseen = unit_rows(n, 3, rng), 5 * rng.standard_normal((4, 3))
    network = initialize(width, 3, shift=0.3, rng=rng)
    before = network.weights.copy()
    implicit = table.network(network, X)
    expected = network.weights + network.signs[:, np.newaxis] * (dense @ X) / np.sqrt(width)
    written = implicit.to_dense()
    np.testing.assert_allclose(written.weights, expected, atol=1e-13)
    np.testing.assert_allclose(implicit.moved_weights(), expected[moved], atol=1e-13)
    assert (written.shift, written.signs.tolist()) == (network.shift, network.signs.tolist())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(two_layer, "BLOCK_ENTRIES", block)
        np.testing.assert_allclose(implicit.predict(unseen), written.predict(unseen), rtol=1e-11, atol=1e-11)
    np.testing.assert_array_equal(network.weights, before)


def test_neurons_that_never_fired_keep_their_weights_to_the_bit() -> None:
    network = initialize(50, 3, shift=0.3, rng=np.random.default_rng(0))
    table = Coefficients(50, 2)
    table.subtract(np.array([7]), np.array([0, 0]), np.array([0, 1]), np.array([1.0, 2.0]))
    written = table.network(network, np.eye(3)[:2]).to_dense()
    assert np.flatnonzero((written.weights != network.weights).any(axis=1)).tolist() == [7]
    np.testing.assert_allclose(
        written.weights[7] - network.weights[7], -network.signs[7] * np.array([1, 2, 0]) / np.sqrt(50)
    )


def test_an_implicit_network_refuses_points_that_do_not_fit() -> None:
    network = initialize(5, 3, shift=0.3, rng=np.random.default_rng(0))
    implicit = ImplicitNetwork(network, np.eye(3), np.empty(0, dtype=np.intp), np.empty((0, 3)))
    with pytest.raises(InputError, match="X has 2 columns but the network takes 3"):
        implicit.predict([[1.0, 0.0]])
    with pytest.raises(InputError, match="NaN or infinite entry"):
        implicit.predict([[np.nan, 0.0, 0.0]])
    np.testing.assert_allclose(implicit.predict(np.eye(3)), network.predict(np.eye(3)), atol=1e-15)


def test_counting_by_point_includes_silent_points() -> None:
    fired = FiredPairs(np.array([0, 2, 2]), np.array([1, 0, 1]), 4, 2)
    assert fired.per_point().tolist() == [1, 0, 2, 0]


def implicit_over_lazy(rng: np.random.Generator) -> ImplicitNetwork:
    """Make a network of width 100 of which 7 neurons exist and rows 1, 2 and 5 have moved."""
    X = unit_rows(4, 3, rng)
    signs = 2.0 * rng.integers(0, 2, size=7) - 1.0
    lazy = LazyNetwork(3 * rng.standard_normal((7, 3)), signs, 0.5, 100, X)
    return ImplicitNetwork(lazy, X, np.array([1, 2, 5]), rng.standard_normal((3, 4)))


@given(generators, BLOCKS)
def test_over_a_lazy_network_the_width_is_that_of_all_neurons(rng: np.random.Generator, block: int) -> None:
    implicit = implicit_over_lazy(rng)
    lazy, X = implicit.initial, implicit.X
    weights = lazy.weights.copy()
    for row, r in enumerate([1, 2, 5]):
        weights[r] += lazy.signs[r] / 10 * sum(implicit.coefficients[row, i] * X[i] for i in range(4))
    expected = [sum(lazy.signs[r] * max(weights[r] @ x - 0.5, 0) for r in range(7)) / 10 for x in X]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(two_layer, "BLOCK_ENTRIES", block)
        np.testing.assert_allclose(implicit.predict(X), expected, atol=1e-12)
    written = starting_network(implicit)
    assert isinstance(written, LazyNetwork)
    assert (written.width, written.shift, written.points.tolist()) == (100, 0.5, X.tolist())
    np.testing.assert_allclose(written.weights, weights, atol=1e-13)
    np.testing.assert_allclose(implicit.to_dense().predict(X), expected, atol=1e-12)
    assert implicit.to_dense().weights.shape == (7, 3)


@given(generators)
def test_sparse_coefficients_are_as_good_as_dense_ones(rng: np.random.Generator) -> None:
    implicit = implicit_over_lazy(rng)
    thinned = np.where(rng.random((3, 4)) < 0.5, implicit.coefficients, 0)
    dense, thin = (replace(implicit, coefficients=kind) for kind in (thinned, sparse.csr_array(thinned)))
    np.testing.assert_allclose(thin.moved_weights(), dense.moved_weights(), atol=1e-13)
    np.testing.assert_allclose(thin.predict(implicit.X), dense.predict(implicit.X), atol=1e-13)
    np.testing.assert_allclose(thin.to_dense().weights, dense.to_dense().weights, atol=1e-13)


def warning_of_a_later_point() -> warnings.WarningMessage:
    implicit = implicit_over_lazy(np.random.default_rng(0))
    with pytest.warns(PartialPredictionWarning) as caught:
        implicit.predict(np.concatenate([implicit.X, [[0.0, 0.0, 2.0]]]))
    return caught[0]


def test_later_points_of_a_trained_lazy_network_raise_a_warning() -> None:
    assert warning_of_a_later_point().filename == __file__


def test_the_warning_counts_later_points_and_others_raise_none() -> None:
    assert str(warning_of_a_later_point().message).startswith("1 of 5 points, the first of them row 4")
    implicit = implicit_over_lazy(np.random.default_rng(0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        implicit.predict(implicit.X[::-1])


def test_what_is_missing_is_no_more_than_the_warning_says() -> None:
    network = LazyNetwork([[1.0, 0.0]], [1], 0.0, 9, np.eye(2))
    with pytest.warns(PartialPredictionWarning, match="standard deviation at most 2.12 to"):
        network.predict([[1.0, 0.0], [0.0, -3.0], [0.0, 0.5]])  # E max(3 z, 0)^2 = 9 / 2
    assert math.sqrt(9 / 2) == pytest.approx(2.12, abs=0.005)


def test_a_dense_network_is_its_own_start_and_takes_all_points() -> None:
    network = initialize(9, 3, shift=0.3, rng=np.random.default_rng(0))
    assert starting_network(network) is network
    check_given(network, 5 * np.eye(3))
    implicit = ImplicitNetwork(network, np.eye(3), np.array([4]), np.array([[1.0, 2.0, 3.0]]))
    check_given(implicit, 5 * np.eye(3))
    written = starting_network(implicit)
    assert isinstance(written, TwoLayerNetwork)
    assert np.flatnonzero((written.weights != network.weights).any(axis=1)).tolist() == [4]
    np.testing.assert_allclose((written.weights - network.weights)[4], network.signs[4] * np.array([1, 2, 3]) / 3)


def test_a_lazy_network_takes_given_points_alone() -> None:
    implicit = implicit_over_lazy(np.random.default_rng(0))
    for network in (implicit, implicit.initial):
        check_given(network, implicit.X[2:])
        with pytest.raises(InputError, match=r"row 1 of X was not given.*\(2 such row\(s\)\).*all data in X or unseen"):
            check_given(network, np.concatenate([implicit.X[:1], np.eye(3)[:2]]))
