"""The Gram matrix from shared-fired counts: exact counts on both paths, equal to the reference's ``J J^T``."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fast.gauss_newton
import fast.gram
from fast.gram import gram, shared_counts
from fast.jacobian import FiredJacobian
from fast.lazy_width import LazyNetwork
from fast.two_layer import FiredPairs, ImplicitNetwork, PartialPredictionWarning
from reference import gram as reference_gram
from reference.notation import InputError
from reference.two_layer import initialize
from verify.problems import make
from verify.strategies import generators, networks, points
from verify.tolerances import matrix_product


@given(st.data())
def test_it_equals_the_reference(data: st.DataObject) -> None:
    network = data.draw(networks(3))
    X = data.draw(points(3))
    G, expected = gram(network, X), reference_gram.gram(network, X)
    # J J^T sums width * d products; counts are exact here, so the reference's rounding is what is allowed for.
    np.testing.assert_allclose(G, expected, rtol=0, atol=matrix_product(3 * network.width, 1.0))


def jacobian_of(pattern: np.ndarray) -> FiredJacobian:
    data_index, neuron_index = np.nonzero(pattern)
    fired = FiredPairs(data_index, neuron_index, *pattern.shape)
    return FiredJacobian(np.ones((len(pattern), 2)), fired, np.ones(len(data_index)))


@given(st.integers(1, 30), st.integers(1, 50), st.sampled_from([0.02, 0.3, 1.0]), generators)
def test_counts_are_exact_whole_numbers_on_both_paths(
    n: int, width: int, share: float, rng: np.random.Generator
) -> None:
    pattern = rng.random((n, width)) < share
    expected = [[int((one & other).sum()) for other in pattern] for one in pattern]
    columns = pattern.sum(axis=0)
    shared, work = shared_counts(jacobian_of(pattern))
    assert shared.tolist() == expected
    assert work in {int(columns @ columns), n * n * int((columns > 0).sum())}
    with pytest.MonkeyPatch.context() as patch:
        # Always dense, then always sparse.
        patch.setattr(fast.gram, "SPARSE_BELOW", -1)
        patch.setattr(fast.gram, "DENSE_AT", -1.0)
        patch.setattr(fast.gram, "EXACT_IN_FLOAT32", 4)
        assert shared_counts(jacobian_of(pattern))[0].tolist() == expected
        patch.setattr(fast.gram, "DENSE_AT", 2.0)
        assert shared_counts(jacobian_of(pattern))[1] == int(columns @ columns)


def test_the_path_is_chosen_by_work() -> None:
    sparse_pattern, dense_pattern = np.eye(40, dtype=bool), np.ones((40, 5), dtype=bool)
    assert shared_counts(jacobian_of(sparse_pattern))[1] == 40
    assert shared_counts(jacobian_of(dense_pattern))[1] == 40 * 40 * 5
    # Where both cost the same, the sparse one is taken: 9^2 u = 72^2 u / 64.
    even = np.arange(72)[:, np.newaxis] % 8 == np.arange(8)
    assert shared_counts(jacobian_of(even))[1] == 9 * 9 * 8


def test_an_implicit_network_has_the_gram_matrix_of_its_dense_form() -> None:
    rng = np.random.default_rng(3)
    problem = make("pairs", 6, 5, rng)
    network = initialize(2000, 5, shift=0.8, rng=rng)
    trained = fast.gauss_newton.train(network, problem.X, problem.y, iterations=2).network
    expected = reference_gram.gram(trained.to_dense(), problem.X)
    np.testing.assert_allclose(gram(trained, problem.X), expected, atol=1e-13)


@given(points(3), generators)
def test_a_lazy_network_counts_over_all_its_neurons(X: np.ndarray, rng: np.random.Generator) -> None:
    existing = initialize(20, 3, shift=0.4, rng=rng)
    lazy = LazyNetwork(existing.weights, existing.signs, 0.4, 1 << 40, X)
    expected = reference_gram.gram(existing, X) * 20 / 2**40
    np.testing.assert_allclose(gram(lazy, X), expected, rtol=1e-12, atol=1e-14 / 2**40)
    moved = ImplicitNetwork(lazy, X, np.array([3, 8]), 2.0**20 * rng.standard_normal((2, len(X))))
    np.testing.assert_allclose(moved.predict(X), moved.to_dense().predict(X), atol=1e-12)
    by_hand = reference_gram.gram(moved.to_dense(), X) * 20 / 2**40
    np.testing.assert_allclose(gram(moved, X), by_hand, rtol=1e-12, atol=1e-14 / 2**40)


def test_later_points_of_a_lazy_network_raise_a_warning() -> None:
    lazy = LazyNetwork([[3.0, 0.0]], [1], 1.0, 4, np.eye(2))
    with pytest.warns(PartialPredictionWarning, match="1 of 2 points, the first of them row 1"):
        assert gram(lazy, [[1.0, 0.0], [0.6, 0.8]])[0, 1] == pytest.approx(0.6 / 4)


def test_it_is_symmetric_and_positive_semidefinite() -> None:
    rng = np.random.default_rng(4)
    problem = make("clash", 12, 5, rng)
    G = gram(initialize(3000, 5, shift=1.0, rng=rng), problem.X)
    np.testing.assert_array_equal(G, G.T)
    assert np.linalg.eigvalsh(G).min() > -1e-15


def test_bad_points_are_refused() -> None:
    network = initialize(5, 3, shift=0.3, rng=np.random.default_rng(0))
    with pytest.raises(InputError, match="X has 2 columns but the network takes 3"):
        gram(network, np.eye(2))
    with pytest.raises(InputError, match="NaN or infinite entry"):
        gram(network, [[np.inf, 0.0, 0.0]])
