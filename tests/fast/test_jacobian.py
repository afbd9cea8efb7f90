"""The sparse Jacobian: its dense form is the reference's, and its products are those of its dense form."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fast.jacobian import FiredJacobian
from fast.two_layer import fired_pairs
from reference.jacobian import jacobian
from reference.notation import FloatArray
from reference.two_layer import TwoLayerNetwork, activation_pattern
from verify.strategies import generators, networks, points


def sparse(network: TwoLayerNetwork, X: FloatArray) -> FiredJacobian:
    fired, _ = fired_pairs(network.weights, X, network.shift)
    return FiredJacobian(X, fired, network.signs[fired.neuron_index])


@given(st.data())
def test_it_is_the_reference_jacobian(data: st.DataObject) -> None:
    network = data.draw(networks(3))
    X = data.draw(points(3))
    np.testing.assert_allclose(sparse(network, X).to_dense(), jacobian(network, X), rtol=1e-15)


@given(st.data(), generators)
def test_both_products_are_those_of_the_dense_matrix(data: st.DataObject, rng: np.random.Generator) -> None:
    network = data.draw(networks(3))
    X = data.draw(points(3))
    J, dense = sparse(network, X), jacobian(network, X)
    everything = rng.standard_normal((network.width, 3))
    g = rng.standard_normal(len(X))
    np.testing.assert_allclose(J.matvec(everything[J.neurons]), dense @ everything.ravel(), atol=1e-12)
    rows = np.zeros((network.width, 3))
    rows[J.neurons] = J.rmatvec(g)
    np.testing.assert_allclose(rows, (g @ dense).reshape(network.width, 3), atol=1e-12)
    np.testing.assert_allclose(J.multiply_gram(g), dense @ (g @ dense), atol=1e-12)


@given(st.data(), generators)
def test_the_two_products_are_adjoint(data: st.DataObject, rng: np.random.Generator) -> None:
    network = data.draw(networks(3))
    J = sparse(network, data.draw(points(3)))
    V, g = rng.standard_normal((len(J.neurons), 3)), rng.standard_normal(J.fired.n)
    np.testing.assert_allclose(g @ J.matvec(V), np.sum(J.rmatvec(g) * V), atol=1e-11)


@given(st.data())
def test_factors_and_pattern_are_the_fired_columns(data: st.DataObject) -> None:
    network = data.draw(networks(3))
    X = data.draw(points(3))
    J, A = sparse(network, X), activation_pattern(network, X)
    assert J.neurons.tolist() == np.flatnonzero(A.any(axis=0)).tolist()
    np.testing.assert_array_equal(J.pattern.toarray(), A[:, J.neurons])
    expected = A[:, J.neurons] * network.signs[J.neurons] / np.sqrt(network.width)
    np.testing.assert_allclose(J.factors.toarray(), expected, rtol=1e-15)
    np.testing.assert_array_equal(J.neurons[J.column], J.fired.neuron_index)


def test_by_hand() -> None:
    # Neuron 1 of 4 fires on both points, with sign -1; neuron 3 on the second, with sign 1.
    network = TwoLayerNetwork([[0, 0], [2, 2], [0, 0], [0, 2]], [1, -1, 1, 1], 1.0)
    J = sparse(network, np.eye(2))
    assert J.neurons.tolist() == [1, 3]
    assert J.matvec(np.array([[2.0, 4.0], [6.0, 8.0]])).tolist() == [-1.0, (-4 + 8) / 2]
    assert J.rmatvec(np.array([2.0, 4.0])).tolist() == [[-1.0, -2.0], [0.0, 2.0]]
