from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

import reference.multi_layer
from fast import multi_layer
from fast.certified_scores import CertifiedScores
from fast.low_rank import LowRankWeights, row_lengths, row_numbers
from fast.multi_layer import (
    BLOCK_POINTS,
    ImplicitMultiLayerNetwork,
    TensorJacobian,
    backward,
    check_network,
    fire,
    forward,
    start_layers,
)
from reference.multi_layer import MultiLayerNetwork, initialize
from reference.notation import FloatArray, InputError
from reference.signals import DeadSignalError
from reference.sketch import draw_tensor_sketch, to_matrix
from reference.two_layer import TwoLayerNetwork, shift_for
from verify.problems import unit_rows
from verify.strategies import generators


@st.composite
def deep_networks(draw: st.DrawFn) -> MultiLayerNetwork:
    """Draw a network from all active to so sparse that columns are read one by one; any memory order; exact ties."""
    width, dim, depth = draw(st.integers(1, 150)), draw(st.sampled_from([1, 3, 40])), draw(st.integers(1, 4))
    shift = draw(st.sampled_from([-0.5, 0.0, 0.5, 1.0, 2.0]))
    normalized, order, whole = draw(st.booleans()), draw(st.sampled_from(["C", "F", "strided"])), draw(st.booleans())
    rng = draw(generators)
    network = initialize(width, dim, depth, shift=shift, rng=rng, normalized=normalized)
    weights = list(network.weights)
    if whole:
        weights[0] = rng.integers(-3, 4, size=(width, dim)).astype(np.float64)
    return MultiLayerNetwork(tuple(stored(W, order) for W in weights), network.signs, shift, normalized)


def stored(W: FloatArray, order: str) -> FloatArray:
    return np.repeat(W, 2, axis=1)[:, ::2] if order == "strided" else np.array(W, order=order)  # type: ignore[call-overload]


@st.composite
def inputs(draw: st.DrawFn, dim: int) -> FloatArray:
    """Draw points on the axes (sparse, and exact ties of whole weights) or anywhere."""
    n = draw(st.integers(1, 5))
    return np.eye(dim)[: min(n, dim)] if draw(st.booleans()) else unit_rows(n, dim, draw(generators))


@given(st.data(), deep_networks())
def test_forward_and_backward_equal_the_reference(data: st.DataObject, network: MultiLayerNetwork) -> None:
    X = data.draw(inputs(network.dim))
    expected = reference.multi_layer.forward(network, X)
    layers = [LowRankWeights(W) for W in network.weights]
    signals = forward(layers, network, X)
    assert [count.tolist() for count in signals.fired()] == [count.tolist() for count in expected.fired()]
    assert {count.dtype for count in signals.fired()} == {np.dtype(np.intp)}
    scale = max(1.0, *(float(abs(h).max()) for h in expected.hidden))
    for mine, theirs in zip(signals.hidden, expected.hidden, strict=True):
        np.testing.assert_allclose(mine.toarray(), theirs, atol=1e-12 * scale)
        np.testing.assert_allclose(row_lengths(mine), np.linalg.norm(theirs, axis=1), atol=1e-11 * scale)
    for mine, fires in zip(signals.hidden[1:], expected.fires, strict=True):
        pattern = np.zeros(fires.shape, dtype=bool)
        pattern[row_numbers(mine), mine.indices] = True
        np.testing.assert_array_equal(pattern, fires)
    for mine_size, size in zip(signals.sizes, expected.sizes, strict=True):
        np.testing.assert_allclose(mine_size, size, rtol=1e-11, atol=1e-12)

    everything = reference.multi_layer.backward(network, expected)
    for lowest in range(1, network.depth + 1):
        P = backward(layers, network, signals, lowest)
        assert sorted(P) == list(range(lowest, network.depth + 1))
        for layer, mine in P.items():
            theirs = everything[layer - 1]
            np.testing.assert_array_equal(mine.indices, signals.hidden[layer].indices)
            np.testing.assert_allclose(mine.toarray(), theirs, rtol=1e-9, atol=1e-11 * max(1.0, abs(theirs).max()))


def test_certified_scores_change_nothing_and_stay_with_their_layers() -> None:
    rng = np.random.default_rng(0)
    network = initialize(600, 3, 3, shift=shift_for(600, 0.3), rng=rng, normalized=True)
    X, layers = unit_rows(3, 3, rng), [LowRankWeights(W) for W in network.weights]
    certified = [CertifiedScores() for _ in layers]
    for _ in range(4):
        mine, theirs = forward(layers, network, X, certified), forward(layers, network, X)
        P, Q = backward(layers, network, mine, 1, certified[1:]), backward(layers, network, theirs, 1)
        for one, other in [*zip(mine.hidden, theirs.hidden, strict=True), *((P[layer], Q[layer]) for layer in Q)]:
            np.testing.assert_array_equal(one.indices, other.indices)
            np.testing.assert_allclose(one.data, other.data, rtol=1e-9, atol=1e-12)
        X = X + 1e-3 * rng.standard_normal(X.shape)
    for kept, W in zip(certified[1:], network.weights[1:], strict=True):
        blocks = [block for block in kept.blocks if block]
        assert blocks
        for block in blocks:
            np.testing.assert_array_equal(block.entries, W[np.ix_(block.neurons, block.columns)])


@given(st.data(), deep_networks())
def test_the_jacobian_in_factors_is_the_reference_one(data: st.DataObject, network: MultiLayerNetwork) -> None:
    X = data.draw(inputs(network.dim))
    trained = sorted(data.draw(st.sets(st.integers(1, network.depth), min_size=1)))
    layers = [LowRankWeights(W) for W in network.weights]
    signals = forward(layers, network, X)
    P = backward(layers, network, signals, trained[0])
    jacobian = TensorJacobian([(P[layer], signals.hidden[layer - 1]) for layer in trained])
    G = reference.multi_layer.gram(network, X, trained)
    size = max(1.0, abs(G).max())
    np.testing.assert_allclose(jacobian.gram, G, rtol=1e-9, atol=1e-11 * size)
    assert jacobian.n == len(X)
    assert jacobian.product_work == len(X) ** 2
    assert jacobian.trace == pytest.approx(float(np.trace(G)), rel=1e-9, abs=1e-11 * size)
    g = np.arange(1.0, len(X) + 1)
    np.testing.assert_allclose(jacobian.multiply_gram(g), G @ g, rtol=1e-9, atol=1e-10 * size)

    work = longest = 0
    for M in (M for pair in jacobian.factors for M in pair):
        rows = [set(M.indices[M.indptr[i] : M.indptr[i + 1]].tolist()) for i in range(len(X))]
        work += sum(len(one & other) for one in rows for other in rows)
        longest = max(longest, *map(len, rows))
    assert jacobian.gram_work == work + len(trained) * len(X) ** 2
    assert jacobian.longest_sum == longest


def test_the_sketch_is_a_sum_over_layers_of_explicit_sketches() -> None:
    rng = np.random.default_rng(0)
    network = initialize(12, 3, 3, shift=0.2, rng=rng)
    X = unit_rows(4, 3, rng)
    layers = [LowRankWeights(W) for W in network.weights]
    signals = forward(layers, network, X)
    P = backward(layers, network, signals, 1)
    jacobian = TensorJacobian([(P[layer], signals.hidden[layer - 1]) for layer in (1, 3)])
    draws = [draw_tensor_sketch(16, 12, 3, rng=rng), draw_tensor_sketch(16, 12, 12, rng=rng)]
    expected = sum(
        to_matrix(draw) @ reference.multi_layer.jacobian(network, X, layer).reshape(4, -1).T
        for draw, layer in zip(draws, (1, 3), strict=True)
    )
    np.testing.assert_allclose(jacobian.sketch(draws), expected, atol=1e-12)
    assert jacobian.sketch_work(draws) > 0
    for needs_a_draw_for_each in (jacobian.sketch, jacobian.sketch_work):
        with pytest.raises(ValueError, match="zip"):
            needs_a_draw_for_each(draws[:1])


@pytest.mark.parametrize("normalized", [False, True])
def test_a_neuron_on_its_kink_has_an_entry(normalized: bool) -> None:
    network = MultiLayerNetwork([[[2.0], [3.0], [1.0]]], [1, 1, 1], 2.0, normalized)
    hidden, size = fire(np.array([[2.0, 3.0, 1.0]]), network)
    assert hidden.indices.tolist() == [0, 1]
    assert hidden.data.tolist() == [0.0, 1 / size[0]]
    layers = [LowRankWeights(network.weights[0])]
    P = backward(layers, network, forward(layers, network, np.array([[1.0]])), 1)[1]
    assert P.data.tolist() == ([1.0, 0.0] if normalized else [network.scale, network.scale])


def test_scores_of_some_neurons_fire_at_their_places() -> None:
    network = initialize(7, 2, 1, shift=0.3, rng=np.random.default_rng(0))
    neurons, z = np.array([1, 4, 5]), np.array([[0.3, 1.0, 0.0], [2.0, -1.0, 0.5]])
    everywhere = np.full((2, 7), -1.0)
    everywhere[:, neurons] = z
    (some, size), (full, sizes) = fire(z, network, neurons), fire(everywhere, network)
    assert some.shape == (2, 7)
    assert some.indices.tolist() == full.indices.tolist() == [1, 4, 1, 5]
    assert (some.data.tolist(), size.tolist()) == (full.data.tolist(), sizes.tolist())


def test_scores_in_any_memory_order_fire_alike() -> None:
    network = initialize(7, 2, 1, shift=0.3, rng=np.random.default_rng(0))
    z = np.random.default_rng(1).standard_normal((4, 7))
    (one, _), (two, _) = fire(z, network), fire(np.asfortranarray(z), network)
    np.testing.assert_array_equal(one.toarray(), two.toarray())
    np.testing.assert_allclose(one.toarray(), network.scale * np.maximum(z - 0.3, 0))


def implicit(network: MultiLayerNetwork) -> ImplicitMultiLayerNetwork:
    return ImplicitMultiLayerNetwork(network, tuple(LowRankWeights(W) for W in network.weights))


@pytest.mark.parametrize("n", [1, BLOCK_POINTS, BLOCK_POINTS + 1, 3 * BLOCK_POINTS - 1])
def test_predictions_come_block_by_block(n: int) -> None:
    network = initialize(30, 3, 2, shift=0.1, rng=np.random.default_rng(0))
    X = np.random.default_rng(1).standard_normal((n, 3))
    np.testing.assert_allclose(implicit(network).predict(X), network.predict(X), atol=1e-12)


def test_predictions_need_no_array_of_all_points_and_neurons(monkeypatch: pytest.MonkeyPatch) -> None:
    network = implicit(initialize(30, 3, 2, shift=0.1, rng=np.random.default_rng(0)))
    sizes: list[int] = []
    honest = multi_layer.fire
    monkeypatch.setattr(multi_layer, "fire", lambda z, network: sizes.append(len(z)) or honest(z, network))
    network.predict(np.ones((130, 3)))
    assert max(sizes) == BLOCK_POINTS


def test_a_dead_signal_predicts_0_and_is_named() -> None:
    dense = MultiLayerNetwork([np.eye(2), np.eye(2)], [1, 1], 0.5)
    network, X = implicit(dense), np.array([[0.4, 0.3], [3.0, 4.0]])
    np.testing.assert_allclose(network.predict(X), dense.predict(X))
    assert network.predict(X)[0] == 0
    with pytest.raises(DeadSignalError) as mine:
        forward(network.layers, dense, X).check(dense)
    with pytest.raises(DeadSignalError) as theirs:
        reference.multi_layer.forward(dense, X).check(dense)
    assert str(mine.value) == str(theirs.value)
    with pytest.raises(InputError, match="X has 3 columns but the network takes 2"):
        network.predict(np.eye(3))


def test_an_implicit_network_writes_out_what_moved_and_shares_the_rest() -> None:
    rng = np.random.default_rng(0)
    dense = initialize(20, 3, 4, shift=0.1, rng=rng, normalized=True)
    network = implicit(dense)
    left, right = (sparse.csr_array(rng.standard_normal((1, 20))) for _ in range(2))
    network.layers[1].add(left, right)
    network.layers[2].add(left, right)
    network.layers[2].fold()
    written = network.to_dense()
    change = left.toarray().T @ right.toarray()
    for layer, (old, new) in enumerate(zip(dense.weights, written.weights, strict=True), start=1):
        if layer in (2, 3):
            np.testing.assert_allclose(new, old + change, atol=1e-13)
        else:
            assert np.shares_memory(new, old)
    assert (written.normalized, written.shift, network.normalized) == (True, dense.shift, True)
    assert (network.width, network.dim, network.depth) == (20, 3, 4)
    X = rng.standard_normal((5, 3))
    np.testing.assert_allclose(network.predict(X), written.predict(X), atol=1e-12)


@pytest.mark.parametrize("order", ["C", "F", "strided"])
@pytest.mark.parametrize("lowest", [1, 2, 3])
def test_layers_above_the_lowest_are_stored_by_columns_and_copied_only_if_they_must_be(lowest: int, order: str) -> None:
    network = initialize(8, 3, 3, shift=0.0, rng=np.random.default_rng(0))
    network = MultiLayerNetwork(tuple(stored(W, order) for W in network.weights), network.signs, 0.0)
    initial, layers = start_layers(network, lowest, budget=5)
    assert initial is network
    for layer, (W, weights) in enumerate(zip(network.weights, layers, strict=True), start=1):
        np.testing.assert_array_equal(weights.initial, W)
        copied = order == "strided" or (order == "C" and layer > lowest)
        assert weights.relaid == copied
        assert (weights.initial is W) == (not copied)
        assert weights.initial.flags.f_contiguous or layer <= lowest
        assert weights.budget == 5
    trained = ImplicitMultiLayerNetwork(network, tuple(layers))
    again_initial, again = start_layers(trained, lowest, budget=7)
    assert again_initial is network
    for old, new in zip(layers, again, strict=True):
        assert new.initial is old.initial
        assert (new.relaid, new.budget, old.budget) == (False, 7, 5)
        assert new.work is not old.work


def test_bad_starts_are_refused() -> None:
    network = initialize(8, 3, 2, shift=0.0, rng=np.random.default_rng(0))
    with pytest.raises(InputError, match="the rank budget is 0; pass a whole number, at least 1"):
        start_layers(network, 1, budget=0)
    with pytest.raises(InputError, match="network is a TwoLayerNetwork; pass a MultiLayerNetwork or a trained one"):
        check_network(TwoLayerNetwork([[1.0]], [1.0], 0.0))
    with pytest.raises(InputError, match="network is a list"):
        start_layers([network], 1, budget=None)  # type: ignore[arg-type]


@given(generators, st.integers(1, 3))
def test_only_columns_of_fired_neurons_are_read(rng: np.random.Generator, depth: int) -> None:
    """Infinity in all columns of silent neurons would be noticed: 0 times infinity is no number."""
    m = 400
    network = initialize(m, 3, depth, shift=shift_for(m, 0.3), rng=rng, normalized=True)
    X = unit_rows(3, 3, rng)
    expected = reference.multi_layer.forward(network, X)
    sensitivities = reference.multi_layer.backward(network, expected)
    layers = [LowRankWeights(network.weights[0])]
    for W, fires in zip(network.weights[1:], expected.fires, strict=False):
        poisoned = np.full((m, m), np.inf, order="F")
        columns = fires.any(axis=0)
        poisoned[:, columns] = W[:, columns]
        layers.append(LowRankWeights(poisoned))
    signals = forward(layers, network, X)
    np.testing.assert_allclose(signals.hidden[-1].toarray(), expected.hidden[-1], atol=1e-12)
    P = backward(layers, network, signals, 1)
    np.testing.assert_allclose(P[1].toarray(), sensitivities[0], atol=1e-10)
    fired = signals.fired()
    for layer, (above, below) in enumerate(zip(fired[1:], fired, strict=False), start=1):
        assert layers[layer].work == {"read": int(below.sum()) * m + int(above @ below), "factors": 0, "fold": 0}
    assert math.isclose(layers[0].work["read"], 3 * network.weights[0].size)
