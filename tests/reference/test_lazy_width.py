"""The full draw and which of its neurons fire, against the definition entry by entry."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference import two_layer
from reference.lazy_width import initialize, neurons_that_fire
from reference.notation import InputError
from verify.strategies import networks, points


def test_it_is_the_draw_of_the_two_layer_network() -> None:
    X = np.eye(3)
    network = initialize(X, width=50, shift=0.7, rng=np.random.default_rng(4), unseen=[[2.0, 0.0, 1.0]])
    expected = two_layer.initialize(50, 3, shift=0.7, rng=np.random.default_rng(4))
    assert network.weights.tolist() == expected.weights.tolist()
    assert (network.signs.tolist(), network.shift) == (expected.signs.tolist(), 0.7)


@given(st.data())
def test_a_neuron_is_found_when_it_fires_on_some_point(data: st.DataObject) -> None:
    network, X = data.draw(networks(3, most_width=40)), data.draw(points(3))
    U = X @ network.weights.T
    expected = [r for r in range(network.width) if any(U[i, r] >= network.shift for i in range(len(X)))]
    assert neurons_that_fire(network, X).tolist() == expected


def test_the_others_change_no_prediction() -> None:
    rng = np.random.default_rng(0)
    X, unseen = np.eye(4), rng.standard_normal((3, 4))
    network = initialize(X, width=400, shift=1.5, rng=rng, unseen=unseen)
    used = np.concatenate([X, unseen])
    found = neurons_that_fire(network, used)
    assert 0 < len(found) < 400
    above = np.maximum(used @ network.weights[found].T - 1.5, 0) @ network.signs[found]
    np.testing.assert_allclose(above / np.sqrt(400), network.predict(used), atol=1e-14)


def test_bad_arguments_are_refused() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(InputError, match="row 0 of X has length 2"):
        initialize([[2.0, 0.0]], width=5, shift=1.0, rng=rng)
    with pytest.raises(InputError, match=r"unseen has shape \(1, 3\) but X has 2 columns"):
        initialize(np.eye(2), width=5, shift=1.0, rng=rng, unseen=[[1.0, 0.0, 0.0]])
    with pytest.raises(InputError, match="unseen has a NaN or infinite entry"):
        initialize(np.eye(2), width=5, shift=1.0, rng=rng, unseen=[[np.nan, 0.0]])
    with pytest.raises(InputError, match="width is 0"):
        initialize(np.eye(2), width=0, shift=1.0, rng=rng)


def test_unseen_points_are_a_matrix() -> None:
    with pytest.raises(InputError, match=r"^unseen has shape \(2,\)"):
        initialize(np.eye(2), width=5, shift=1.0, rng=np.random.default_rng(0), unseen=[1.0, 0.0])
