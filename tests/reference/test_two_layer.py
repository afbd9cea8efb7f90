from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference.notation import UNIT_ROUNDOFF, FloatArray, InputError
from reference.two_layer import (
    TwoLayerNetwork,
    activation_pattern,
    initialize,
    preactivations,
    shift_for,
)
from verify.strategies import networks, points


@given(st.data())
def test_everything_follows_the_definitions_entry_by_entry(data: st.DataObject) -> None:
    network = data.draw(networks(3, most_width=40))
    X = data.draw(points(3))
    U, A, f = preactivations(network, X), activation_pattern(network, X), network.predict(X)
    for i, x in enumerate(X):
        total = 0.0
        for r, w in enumerate(network.weights):
            u = math.fsum(w * x)
            assert U[i, r] == pytest.approx(u, rel=1e-14, abs=1e-14)
            assert A[i, r] == (U[i, r] >= network.shift)
            total += network.signs[r] * max(u - network.shift, 0)
        assert f[i] == pytest.approx(total / math.sqrt(network.width), rel=1e-12, abs=1e-12)


def test_a_neuron_on_its_kink_fires() -> None:
    network = TwoLayerNetwork([[2.0, 0.0]], [1.0], 2.0)
    assert activation_pattern(network, [[1.0, 0.0]]).all()
    assert not activation_pattern(network, [[np.nextafter(1.0, 0), 0.0]]).any()


def test_fired_neurons_follow_the_gaussian_tail() -> None:
    m = 200_000
    network = initialize(m, 4, shift=shift_for(m, 0.24), rng=np.random.default_rng(3))
    tail = math.erfc(network.shift / math.sqrt(2)) / 2
    fired = activation_pattern(network, np.eye(4)).sum(axis=1)
    np.testing.assert_allclose(fired, m * tail, atol=5 * math.sqrt(m * tail))
    assert m * tail <= m ** (1 - 0.24)


def test_initialize_draws_both_signs_and_needs_a_generator() -> None:
    network = initialize(1000, 2, shift=0.0, rng=np.random.default_rng(0))
    assert abs(network.signs.sum()) < 150
    assert (network.width, network.dim) == (1000, 2)
    with pytest.raises(InputError, match="Generator"):
        initialize(10, 2, shift=0.0, rng=0)  # type: ignore[arg-type]
    for width, dim in ((0, 2), (2, 0)):
        with pytest.raises(InputError, match="at least 1"):
            initialize(width, dim, shift=0.0, rng=np.random.default_rng(0))


def test_the_smallest_network_is_one_neuron_in_one_dimension_and_its_shift_a_float() -> None:
    network = initialize(1, 1, shift=2, rng=np.random.default_rng(0))
    assert network.weights.shape == (1, 1)
    assert isinstance(network.shift, float)


@pytest.mark.parametrize("digits", [15, 30, 400, 5000])
def test_shift_for_takes_a_width_of_any_size(digits: int) -> None:
    np.testing.assert_allclose(shift_for(10**digits, 0.24), np.sqrt(0.48 * digits * np.log(10)), rtol=4 * UNIT_ROUNDOFF)


@pytest.mark.parametrize(
    ("width", "alpha"),
    [
        *[(0, 0.1), (-(10**30), 0.1), (-(10**5000), 0.1), (np.inf, 0.1), (np.nan, 0.1)],
        *[(4, -0.1), (4, np.nan), (4, np.inf), (4, 10**400)],
    ],
    ids=range(9),  # pytest cannot print the longest
)
def test_shift_for_refuses_nonsense(width: float, alpha: float) -> None:
    with pytest.raises(InputError, match="width >= 1 and a finite alpha >= 0"):
        shift_for(width, alpha)  # type: ignore[arg-type]


@pytest.mark.parametrize(("width", "shown"), [(0, "0"), (-(10**5000), "beyond float64")], ids=["short", "long"])
def test_the_message_names_the_width_unless_it_is_too_long(width: int, shown: str) -> None:
    with pytest.raises(InputError, match=f"^width is {shown} and alpha is 0.1"):
        shift_for(width, 0.1)


@pytest.mark.parametrize(
    ("weights", "signs", "shift", "message"),
    [
        (np.ones((2, 2)), [1.0], 0.0, "signs has 1 entries but weights has 2 rows"),
        (np.ones((2, 2)), [1.0, 0.5], 0.0, r"signs\[1\] is 0.5; every sign must be"),
        (np.ones(2), [1.0, 1.0], 0.0, "weights has shape"),
        (np.full((2, 2), np.nan), [1.0, 1.0], 0.0, "weights has a NaN"),
        (np.ones((2, 2)), [1.0, np.nan], 0.0, "signs has a NaN"),
        (np.ones((2, 2)), [1.0, 1.0], np.inf, "shift has a NaN or infinite"),
    ],
)
def test_bad_networks_are_refused(
    weights: FloatArray, signs: list[float], shift: float, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        TwoLayerNetwork(weights, signs, shift)  # type: ignore[arg-type]


def test_a_network_shares_its_weights_and_cannot_write_to_them() -> None:
    weights = np.ones((3, 2))
    network = TwoLayerNetwork(weights, np.ones(3), 0.0)
    assert np.shares_memory(network.weights, weights)
    assert weights.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        network.weights[0] = 0


def test_predict_takes_any_length_and_refuses_nan() -> None:
    network = TwoLayerNetwork([[2.0, 0.0]], [1.0], 1.0)
    assert network.predict([[3.0, 4.0]]).tolist() == [5.0]
    with pytest.raises(InputError, match=r"^X has a NaN"):
        network.predict([[np.nan, 1.0]])
