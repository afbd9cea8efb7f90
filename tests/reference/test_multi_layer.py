from __future__ import annotations

import math

import numpy as np
import pytest
import sympy
from hypothesis import assume, given
from hypothesis import strategies as st

from reference.multi_layer import (
    GROWTH_ALLOWED,
    MultiLayerNetwork,
    backward,
    check_growth,
    check_layers,
    check_network,
    check_reach,
    forward,
    gram,
    initialize,
    jacobian,
    ran_away,
)
from reference.notation import DivergenceError, FloatArray, InputError
from reference.signals import DeadSignalError, second_moment
from reference.two_layer import TwoLayerNetwork
from verify.strategies import generators

SHIFTS = [0.0, 0.3, 1.0, -0.7]


@st.composite
def small_networks(draw: st.DrawFn, *, most_depth: int = 4) -> MultiLayerNetwork:
    """Draw a network small enough for loops; widths from 1, shifts on both sides of 0."""
    width, dim, depth = draw(st.integers(1, 6)), draw(st.integers(1, 3)), draw(st.integers(1, most_depth))
    shift, normalized = draw(st.sampled_from(SHIFTS)), draw(st.booleans())
    return initialize(width, dim, depth, shift=shift, rng=draw(generators), normalized=normalized)


def loops(network: MultiLayerNetwork, x: FloatArray) -> tuple[float, list[list[float]], list[list[float]]]:
    """Compute the prediction on one point, every ``z`` and every ``h`` (the input first) entry by entry."""
    b, m = network.shift, network.width
    c = 1 / math.sqrt(m * second_moment(b))
    scores, hidden = [], [[float(entry) for entry in x]]
    for W in network.weights:
        z = [math.fsum(float(W[r, s]) * hidden[-1][s] for s in range(W.shape[1])) for r in range(m)]
        v = [max(entry - b, 0.0) for entry in z]
        length = math.sqrt(math.fsum(entry * entry for entry in v))
        factor = (1 / length if length else 1.0) if network.normalized else c
        scores.append(z)
        hidden.append([factor * entry for entry in v])
    return math.fsum(float(a) * h for a, h in zip(network.signs, hidden[-1], strict=True)), scores, hidden


def away_from_kinks(network: MultiLayerNetwork, X: FloatArray, distance: float) -> bool:
    """Tell whether no score is close to the shift, and no signal is so short that its direction swings."""
    for x in X:
        _, scores, _ = loops(network, x)
        for z in scores:
            excess = np.array(z) - network.shift
            length = np.linalg.norm(np.maximum(excess, 0))
            if np.abs(excess).min() < distance or (network.normalized and 0 < length < 0.3):
                return False
    return True


@given(small_networks(), generators)
def test_the_forward_pass_follows_the_definition_entry_by_entry(
    network: MultiLayerNetwork, rng: np.random.Generator
) -> None:
    X = rng.standard_normal((3, network.dim))
    signals, f = forward(network, X), network.predict(X)
    assert (len(signals.hidden), len(signals.fires), len(signals.sizes)) == (network.depth + 1, *2 * [network.depth])
    assume(away_from_kinks(network, X, 1e-9))
    for i, x in enumerate(X):
        expected, scores, hidden = loops(network, x)
        scale = max(1.0, max(abs(h) for layer in hidden for h in layer))
        assert f[i] == pytest.approx(expected, rel=1e-12, abs=1e-12 * scale)
        for layer in range(network.depth + 1):
            np.testing.assert_allclose(signals.hidden[layer][i], hidden[layer], rtol=1e-12, atol=1e-12 * scale)
        for layer, z in enumerate(scores):
            assert signals.fires[layer][i].tolist() == [score >= network.shift for score in z]
    fired = signals.fired()
    assert [count.tolist() for count in fired] == [fires.sum(axis=1).tolist() for fires in signals.fires]


@given(small_networks(), generators)
def test_sizes_are_what_signals_are_divided_by(network: MultiLayerNetwork, rng: np.random.Generator) -> None:
    signals = forward(network, rng.standard_normal((3, network.dim)))
    for layer, W in enumerate(network.weights):
        v = np.maximum(signals.hidden[layer] @ W.T - network.shift, 0)
        np.testing.assert_allclose(signals.hidden[layer + 1] * signals.sizes[layer][:, np.newaxis], v, atol=1e-12)
        if network.normalized:
            lengths = np.linalg.norm(signals.hidden[layer + 1], axis=1)
            np.testing.assert_allclose(lengths[lengths > 0], 1)
        else:
            assert set(signals.sizes[layer]) == {1 / network.scale}


def chain_rule(network: MultiLayerNetwork, x: FloatArray, wanted: int) -> FloatArray:
    """Compute ``df / dW_l`` for one point entry by entry: push a change of one weight up through all layers."""
    _, scores, hidden = loops(network, x)
    m, b = network.width, network.shift
    c = 1 / math.sqrt(m * second_moment(b))
    W = network.weights[wanted - 1]
    derivative = np.zeros(W.shape)
    for r in range(m):
        for s in range(W.shape[1]):
            dz = [hidden[wanted - 1][s] if k == r else 0.0 for k in range(m)]
            for layer in range(wanted, network.depth + 1):
                z, h = scores[layer - 1], hidden[layer]
                dv = [dz[k] if z[k] >= b else 0.0 for k in range(m)]
                if network.normalized:
                    length = math.sqrt(math.fsum(max(entry - b, 0.0) ** 2 for entry in z)) or 1.0
                    along = math.fsum(h[k] * dv[k] for k in range(m))
                    dh = [(dv[k] - along * h[k]) / length for k in range(m)]
                else:
                    dh = [c * entry for entry in dv]
                if layer < network.depth:
                    V = network.weights[layer]
                    dz = [math.fsum(float(V[k, j]) * dh[j] for j in range(m)) for k in range(m)]
            derivative[r, s] = math.fsum(float(a) * entry for a, entry in zip(network.signs, dh, strict=True))
    return derivative


@given(small_networks(), generators)
def test_the_jacobian_follows_the_chain_rule_entry_by_entry(
    network: MultiLayerNetwork, rng: np.random.Generator
) -> None:
    X = rng.standard_normal((2, network.dim))
    assume(away_from_kinks(network, X, 1e-9))
    for layer in range(1, network.depth + 1):
        J = jacobian(network, X, layer)
        assert J.shape == (2, *network.weights[layer - 1].shape)
        for i, x in enumerate(X):
            expected = chain_rule(network, x, layer)
            np.testing.assert_allclose(J[i], expected, rtol=1e-9, atol=1e-11 * max(1.0, abs(expected).max()))


@given(small_networks(), generators)
def test_the_jacobian_agrees_with_central_differences(
    network: MultiLayerNetwork, rng: np.random.Generator
) -> None:
    X = rng.standard_normal((2, network.dim))
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    assume(away_from_kinks(network, X, 1e-3))
    for layer in range(1, network.depth + 1):
        direction = rng.standard_normal(network.weights[layer - 1].shape)
        direction /= np.linalg.norm(direction)
        h, sides = 1e-6, []
        for sign in (1, -1):
            weights = list(network.weights)
            weights[layer - 1] = weights[layer - 1] + sign * h * direction
            sides.append(MultiLayerNetwork(tuple(weights), network.signs, network.shift, network.normalized))
        assume(all((a == b).all() for a, b in zip(*(forward(side, X).fires for side in sides), strict=True)))
        slope = (sides[0].predict(X) - sides[1].predict(X)) / (2 * h)
        exact = np.tensordot(jacobian(network, X, layer), direction, axes=2)
        size = max(1.0, float(np.linalg.norm(jacobian(network, X, layer))))
        np.testing.assert_allclose(exact, slope, atol=1e-5 * size**2)


def test_a_normalized_layer_has_the_derivative_that_sympy_finds() -> None:
    """Derive ``h = v / ||v||``: its derivative is ``(I - h h^T) / ||v||``; then use it as `backward` does."""
    v = sympy.Matrix(sympy.symbols("v1:4", positive=True))
    length = sympy.sqrt(v.dot(v))
    h = v / length
    projection = (sympy.eye(3) - h * h.T) / length
    assert sympy.simplify(h.jacobian(v) - projection) == sympy.zeros(3, 3)

    # One layer with weights such that z - b = (3, 4, 12) on x = 1; v / ||v|| has length 13.
    network = MultiLayerNetwork([[[4.0], [5.0], [13.0]]], [1, -1, 1], 1.0, normalized=True)
    q = sympy.Matrix([1, -1, 1])
    numbers = dict(zip(v, (3, 4, 12), strict=True))
    expected = [float(entry) for entry in projection.subs(numbers).T * q]
    signals = forward(network, [[1.0]])
    np.testing.assert_allclose(signals.hidden[1], [[3 / 13, 4 / 13, 12 / 13]], rtol=1e-15)
    np.testing.assert_allclose(backward(network, signals)[0][0], expected, rtol=1e-13)


@given(small_networks(), generators, st.data())
def test_the_gram_matrix_is_that_of_the_jacobian(
    network: MultiLayerNetwork, rng: np.random.Generator, data: st.DataObject
) -> None:
    X = rng.standard_normal((3, network.dim))
    layers = data.draw(st.sets(st.integers(1, network.depth), min_size=1))
    J = np.concatenate([jacobian(network, X, layer).reshape(3, -1) for layer in sorted(layers)], axis=1)
    expected = np.array([[math.fsum(J[i] * J[j]) for j in range(3)] for i in range(3)])
    np.testing.assert_allclose(gram(network, X, layers), expected, rtol=1e-12, atol=1e-12 * max(1, abs(expected).max()))


@pytest.mark.parametrize("normalized", [False, True])
def test_a_neuron_on_its_kink_fires_and_counts_in_the_gradient(normalized: bool) -> None:
    """Scores (2, 3) and shift 2: the first neuron is on its kink, adds nothing, and can be trained all the same."""
    network = MultiLayerNetwork([[[2.0], [3.0]]], [1, 1], 2.0, normalized)
    signals = forward(network, [[1.0]])
    assert signals.fires[0].tolist() == [[True, True]]
    assert signals.hidden[1][0, 0] == 0
    [P] = backward(network, signals)
    assert P[0, 0] == (1.0 if normalized else network.scale)
    assert not forward(network, [[np.nextafter(1.0, 0)]]).fires[0][0, 0]


def test_a_neuron_on_its_kink_passes_sensitivities_down() -> None:
    """In layer 2 as well: ``b = 0`` and a weight row of zeros make the score exactly 0."""
    network = MultiLayerNetwork([[[1.0], [2.0]], [[0.0, 0.0], [3.0, 5.0]]], [1, -1], 0.0)
    signals = forward(network, [[1.0]])
    assert signals.fires[1].tolist() == [[True, True]]
    P1, P2 = backward(network, signals)
    c = network.scale
    np.testing.assert_allclose(P2, [[c, -c]])
    np.testing.assert_allclose(P1, [[-3 * c * c, -5 * c * c]])


@given(generators, st.integers(1, 4), st.integers(1, 4))
def test_a_normalized_network_without_shift_does_not_feel_the_length_of_its_weights(
    rng: np.random.Generator, depth: int, scaled_layer: int
) -> None:
    network = initialize(5, 3, depth, shift=0.0, rng=rng, normalized=True)
    X = rng.standard_normal((4, 3))
    weights = list(network.weights)
    weights[min(scaled_layer, depth) - 1] = 7.5 * weights[min(scaled_layer, depth) - 1]
    scaled = MultiLayerNetwork(tuple(weights), network.signs, 0.0, normalized=True)
    np.testing.assert_allclose(scaled.predict(X), network.predict(X), atol=1e-13)


@pytest.mark.parametrize("normalized", [False, True])
def test_a_dead_signal_predicts_0_and_is_named(normalized: bool) -> None:
    network = MultiLayerNetwork([np.eye(2), np.eye(2)], [1, 1], 0.5, normalized)
    X = [[0.4, 0.3], [3.0, 4.0]]
    f = network.predict(X)
    assert f[0] == 0 < f[1]
    with pytest.raises(DeadSignalError, match=r"dies in layer 1 on 1 of 2 data point\(s\), the first of them 0"):
        forward(network, X).check(network)
    forward(network, X[1:]).check(network)


def test_the_scale_keeps_signals_at_length_1() -> None:
    network = initialize(2000, 8, 3, shift=0.8, rng=np.random.default_rng(0))
    x = np.full((1, 8), 8**-0.5)
    lengths = [float(np.linalg.norm(h)) for h in forward(network, x).hidden]
    np.testing.assert_allclose(lengths, 1, atol=0.15)
    assert network.scale == pytest.approx((2000 * second_moment(0.8)) ** -0.5)


def test_initialize_stores_by_columns_draws_both_signs_and_needs_a_generator() -> None:
    network = initialize(300, 5, 3, shift=0.2, rng=np.random.default_rng(0), normalized=True)
    assert (network.width, network.dim, network.depth, network.shift) == (300, 5, 3, 0.2)
    assert network.normalized
    assert [W.shape for W in network.weights] == [(300, 5), (300, 300), (300, 300)]
    assert all(W.flags.f_contiguous for W in network.weights[1:])
    assert abs(network.signs.sum()) < 80
    for W in network.weights:
        assert abs(W.mean()) < 5 / math.sqrt(W.size)
        assert W.std() == pytest.approx(1, abs=5 / math.sqrt(W.size))
    assert network.to_dense() is network
    with pytest.raises(InputError, match="Generator"):
        initialize(10, 2, 1, shift=0.0, rng=0)  # type: ignore[arg-type]
    for sizes in [(0, 1, 1), (1, 0, 1), (1, 1, 0)]:
        with pytest.raises(InputError, match=r"width is .*, dim is .* and depth is .*; all must be at least 1"):
            initialize(*sizes, shift=0.0, rng=np.random.default_rng(0))


@pytest.mark.parametrize(
    ("weights", "signs", "shift", "message"),
    [
        ((), [1.0], 0.0, "weights is empty; pass a tuple with one matrix per layer"),
        ((np.ones((2, 3)),), [1.0], 0.0, r"weights\[0\] has shape \(2, 3\); signs has 1 entries, so pass \(1, 3\)"),
        ((np.ones((2, 3)), np.ones((2, 3))), np.ones(2), 0.0, r"weights\[1\] has shape \(2, 3\).* pass \(2, 2\)"),
        ((np.ones((2, 3)), np.ones(2)), np.ones(2), 0.0, r"weights\[1\] has shape \(2,\)"),
        ((np.ones((2, 3)),), [1.0, 0.5], 0.0, r"signs\[1\] is 0.5; every sign must be -1 or \+1"),
        ((np.ones((2, 3)), np.full((2, 2), np.nan)), np.ones(2), 0.0, r"weights\[1\] has a NaN"),
        ((np.ones((2, 3)),), [1.0, np.nan], 0.0, "^signs has a NaN"),
        ((np.ones((2, 3)),), np.ones(2), np.inf, "shift has a NaN or infinite"),
        ((np.ones((2, 3)),), np.ones(2), 40.0, r"shift is 40; pass one from -1e\+100 to 37"),
        ((np.ones((2, 3)),), np.ones(2), -1e200, r"shift is -1e\+200; pass one from"),
    ],
)
def test_bad_networks_are_refused(weights: object, signs: object, shift: float, message: str) -> None:
    with pytest.raises(InputError, match=message):
        MultiLayerNetwork(weights, signs, shift)  # type: ignore[arg-type]


@pytest.mark.parametrize("shift", [37.0, -1e100])
@pytest.mark.parametrize("normalized", [False, True])
def test_the_farthest_shifts_still_have_a_scale(shift: float, normalized: bool) -> None:
    network = MultiLayerNetwork([np.ones((2, 3))], np.ones(2), shift, normalized)
    assert np.isfinite(network.predict(np.eye(3))).all()


def test_a_network_shares_its_weights_and_cannot_write_to_them() -> None:
    weights = (np.ones((3, 2)), np.asfortranarray(np.ones((3, 3))), np.ones((3, 6))[:, ::2])
    signs = np.ones(3)
    network = MultiLayerNetwork(weights, signs, 0.0)
    for given_array, kept in zip((*weights, signs), (*network.weights, network.signs), strict=True):
        assert np.shares_memory(kept, given_array)
        assert given_array.flags.writeable
        with pytest.raises(ValueError, match="read-only"):
            kept[0] = 0


def test_inputs_are_not_modified() -> None:
    rng = np.random.default_rng(1)
    network = initialize(6, 2, 3, shift=0.1, rng=rng)
    X = rng.standard_normal((3, 2))
    before, weights = X.copy(), [W.copy() for W in network.weights]
    network.predict(X)
    gram(network, X, (1, 2, 3))
    jacobian(network, X, 2)
    np.testing.assert_array_equal(X, before)
    for W, old in zip(network.weights, weights, strict=True):
        np.testing.assert_array_equal(W, old)


@pytest.mark.parametrize(
    "layers", [(), (0,), (3,), (1, 1), (1.0,), (True,), 2, ("1",), (1, None), (-1, 1)], ids=repr
)
def test_bad_layers_are_refused(layers: object) -> None:
    with pytest.raises(InputError, match=r"trained_layers is .*; pass distinct layer numbers from 1 to 2, .*\(2,\)"):
        check_layers(layers, 2)  # type: ignore[arg-type]


def test_layers_are_sorted_whatever_holds_them() -> None:
    for layers in ({2, 1}, [2, 1], np.array([2, 1])):
        assert check_layers(layers, 2) == (1, 2)
    assert all(type(layer) is int for layer in check_layers(np.array([2, 1]), 2))


def test_points_are_checked() -> None:
    network = initialize(4, 3, 2, shift=0.0, rng=np.random.default_rng(0))
    with pytest.raises(InputError, match="X has 2 columns but the network takes 3 inputs"):
        network.predict(np.ones((1, 2)))
    with pytest.raises(InputError, match="NaN"):
        jacobian(network, [[np.nan, 0.0, 0.0]], 1)
    with pytest.raises(InputError, match="trained_layers is"):
        jacobian(network, np.eye(3), 3)
    with pytest.raises(InputError, match="trained_layers is"):
        gram(network, np.eye(3), ())


@given(small_networks(), generators)
def test_predictions_of_a_normalized_network_are_within_its_reach(
    network: MultiLayerNetwork, rng: np.random.Generator
) -> None:
    normalized = MultiLayerNetwork(network.weights, network.signs, network.shift, normalized=True)
    X = 10 * rng.standard_normal((3, network.dim))
    fired = forward(normalized, X).fired()[-1]
    assert (np.abs(normalized.predict(X)) <= np.sqrt(fired) * (1 + 1e-12)).all()


def test_labels_out_of_reach_are_refused() -> None:
    """The bound itself is out of reach: with all four neurons equal ``f = 2``, and the gradient is zero."""
    network = MultiLayerNetwork([np.ones((4, 1))], np.ones(4), 0.0, normalized=True)
    assert network.predict([[1.0]]).tolist() == [2.0]
    np.testing.assert_allclose(jacobian(network, [[1.0]], 1), 0, atol=1e-15)
    check_reach(np.array([1.9, -1.9]), network)
    with pytest.raises(
        InputError,
        match=r"^y\[1\] is -2, out of reach: the predictions of a normalized network are below sqrt\(width\) = 2 in "
        r"size; rescale the labels, or widen the network \(here 4\)$",
    ):
        check_reach(np.array([1.9, -2.0]), network)
    check_reach(np.array([1e9]), MultiLayerNetwork(network.weights, network.signs, 0.0))


@pytest.mark.parametrize("bad", [1.1 * GROWTH_ALLOWED, np.inf, np.nan])
def test_signals_that_grow_out_of_bounds_are_a_divergence(bad: float) -> None:
    first = [np.array([1.0, 0.5]), np.array([1.0, 2.0])]
    assert not ran_away([0.9 * GROWTH_ALLOWED * size for size in first], first)
    grown = [first[0], np.array([1.0, 2.0 * bad])]
    assert ran_away(grown, first)
    check_growth(first, first, [1.0, 2.0])
    message = r"after iteration 1 the residual is 2, from 1 .* rescale them\); widen"
    with pytest.raises(DivergenceError, match=message) as caught:
        check_growth(grown, first, [1.0, 2.0])
    assert caught.value.residual_norms.tolist() == [1.0, 2.0]


def test_the_smallest_network_and_the_types_of_its_settings() -> None:
    network = initialize(1, 1, 1, shift=0, rng=np.random.default_rng(0))
    assert [W.shape for W in network.weights] == [(1, 1)]
    assert (type(network.shift), network.normalized) == (float, False)
    assert MultiLayerNetwork(network.weights, network.signs, 0.0, 1).normalized is True  # type: ignore[arg-type]


def test_growth_to_the_bound_itself_is_allowed() -> None:
    first = [np.array([1.0, 0.5])]
    assert not ran_away([GROWTH_ALLOWED * first[0]], first)
    with pytest.raises(ValueError, match="zip"):
        ran_away(2 * first, first)


def test_a_signal_that_is_0_because_its_neuron_sits_on_the_kink_is_divided_by_1() -> None:
    network = MultiLayerNetwork([[[2.0]]], [1], 2.0, normalized=True)
    signals = forward(network, [[1.0]])
    assert (signals.hidden[1].tolist(), signals.sizes[0].tolist()) == ([[0.0]], [1.0])
    assert backward(network, signals)[0].tolist() == [[1.0]]


class WithDepth:
    depth = 2


class Implicit(WithDepth):
    def to_dense(self) -> object:
        raise AssertionError


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (TwoLayerNetwork([[1.0]], [1.0], 0.0), "^network is a TwoLayerNetwork; pass a MultiLayerNetwork"),
        (WithDepth(), "^network is a WithDepth; pass a MultiLayerNetwork"),
        (Implicit(), r"^network has implicit weights.*; pass network\.to_dense\(\)"),
    ],
)
def test_other_networks_are_refused(network: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_network(network)
