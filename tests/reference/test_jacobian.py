from __future__ import annotations

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from reference.gram import gram
from reference.jacobian import jacobian
from reference.two_layer import TwoLayerNetwork, preactivations
from verify.strategies import networks, points


@given(st.data())
def test_rows_follow_the_definition_entry_by_entry(data: st.DataObject) -> None:
    network = data.draw(networks(3, most_width=30))
    X = data.draw(points(3))
    J, U = jacobian(network, X), preactivations(network, X)
    for i, x in enumerate(X):
        for r in range(network.width):
            expected = network.signs[r] * x if U[i, r] >= network.shift else 0 * x
            np.testing.assert_allclose(J[i, 3 * r : 3 * r + 3], expected / np.sqrt(network.width), rtol=1e-15)


@given(st.data())
def test_it_is_the_derivative_away_from_the_kink(data: st.DataObject) -> None:
    network = data.draw(networks(3, most_width=30))
    X = data.draw(points(3))
    step = 1e-6
    assume((np.abs(preactivations(network, X) - network.shift) > 10 * step).all())
    direction = data.draw(st.integers(0, 2**32 - 1).map(np.random.default_rng)).standard_normal((network.width, 3))
    direction /= np.linalg.norm(direction)
    ahead = TwoLayerNetwork(network.weights + step * direction, network.signs, network.shift).predict(X)
    behind = TwoLayerNetwork(network.weights - step * direction, network.signs, network.shift).predict(X)
    # Without a kink in between f is linear along the line, so only rounding is left.
    np.testing.assert_allclose(
        jacobian(network, X) @ direction.ravel(), (ahead - behind) / (2 * step), atol=1e-8
    )


def test_the_kink_belongs_to_the_firing_side() -> None:
    network = TwoLayerNetwork([[2.0, 0.0]], [-1.0], 2.0)
    assert jacobian(network, [[1.0, 0.0]]).tolist() == [[-1.0, 0.0]]


@given(st.data())
def test_gram_counts_shared_neurons(data: st.DataObject) -> None:
    network = data.draw(networks(3, most_width=60))
    X = data.draw(points(3))
    G, U = gram(network, X), preactivations(network, X)
    for i in range(len(X)):
        for j in range(len(X)):
            shared = sum(
                U[i, r] >= network.shift and U[j, r] >= network.shift for r in range(network.width)
            )
            np.testing.assert_allclose(G[i, j], X[i] @ X[j] * shared / network.width, atol=1e-14)
