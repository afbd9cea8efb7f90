from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import reference.gauss_newton
from reference.multi_layer import MultiLayerNetwork, forward, gram, initialize, jacobian
from reference.multi_layer_gauss_newton import train
from reference.notation import DivergenceError, FloatArray, InputError, SingularGramError
from reference.safeguard import Step
from reference.signals import DeadSignalError, second_moment
from reference.two_layer import TwoLayerNetwork, shift_for
from verify.problems import make, unit_rows
from verify.strategies import generators


def subsets(depth: int) -> list[tuple[int, ...]]:
    layers = range(1, depth + 1)
    return [chosen for size in layers for chosen in combinations(layers, size)]


def trainable(
    depth: int = 2, *, normalized: bool = False, m: int = 300, n: int = 5
) -> tuple[MultiLayerNetwork, FloatArray, FloatArray]:
    rng = np.random.default_rng(5)
    problem = make("random", n, 6, rng)
    return initialize(m, 6, depth, shift=0.4, rng=rng, normalized=normalized), problem.X, problem.y


@given(
    generators,
    st.sampled_from([(depth, layers) for depth in (1, 2, 3) for layers in subsets(depth)]),
    st.sampled_from([0.0, 0.4, -0.5]),
    st.booleans(),
)
def test_one_step_is_explicit_dense_algebra(
    rng: np.random.Generator, which: tuple[int, tuple[int, ...]], shift: float, normalized: bool
) -> None:
    """Put the trained layers' derivatives side by side in one long matrix, solve, and take the pieces apart again."""
    depth, layers = which
    network = initialize(40, 4, depth, shift=shift, rng=rng, normalized=normalized)
    X, y = unit_rows(3, 4, rng), rng.standard_normal(3)
    assume(all(count.all() for count in forward(network, X).fired()))
    trace = train(network, X, y, trained_layers=layers, iterations=1)
    J = np.concatenate([jacobian(network, X, layer).reshape(3, -1) for layer in layers], axis=1)
    step = J.T @ np.linalg.solve(J @ J.T, network.predict(X) - y)
    start = 0
    for layer, (old, new) in enumerate(zip(network.weights, trace.network.weights, strict=True), start=1):
        if layer not in layers:
            np.testing.assert_array_equal(new, old)
            continue
        expected = old - step[start : start + old.size].reshape(old.shape)
        start += old.size
        np.testing.assert_allclose(new, expected, atol=1e-8 * max(1.0, float(abs(step).max())))
    assert start == len(step)
    np.testing.assert_allclose(trace.residual_norms[0], np.linalg.norm(network.predict(X) - y), rtol=1e-12)
    np.testing.assert_allclose(trace.residual_norms[1], np.linalg.norm(trace.network.predict(X) - y), atol=1e-9)


@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize("layers", subsets(3), ids=repr)
def test_only_trained_layers_move_and_the_residual_halves(layers: tuple[int, ...], normalized: bool) -> None:
    network, X, y = trainable(3, normalized=normalized)
    before = [W.copy() for W in network.weights]
    trace = train(network, X, y, trained_layers=layers, iterations=6)
    for layer, W in enumerate(trace.network.weights, start=1):
        assert (W is not network.weights[layer - 1] and bool((before[layer - 1] != W).any())) == (layer in layers)
        np.testing.assert_array_equal(network.weights[layer - 1], before[layer - 1])
    assert trace.network.normalized == normalized
    assert (trace.residual_norms[1:4] <= trace.residual_norms[:3] / 2).all()
    assert trace.residual_norms[-1] < 1e-9
    np.testing.assert_allclose(trace.predictions, trace.network.predict(X), atol=1e-12)
    np.testing.assert_allclose(trace.predictions, y, atol=1e-9)


def test_the_tolerance_stops_early_and_0_never_does() -> None:
    network, X, y = trainable()
    trace = train(network, X, y, trained_layers=(1, 2), iterations=50, tolerance=1e-6)
    assert trace.converged
    assert trace.residual_norms[-1] <= 1e-6 * trace.residual_norms[0] < trace.residual_norms[-2]
    assert len(trace.counts) == len(trace.residual_norms) - 1 < 50
    untouched = train(network, X, y, trained_layers=(1, 2), iterations=0)
    assert untouched.network is network
    assert (len(untouched.residual_norms), untouched.counts, untouched.converged) == (1, [], False)
    assert len(train(network, X, y, trained_layers=(2,), iterations=9).counts) == 9


def test_counts_are_those_of_dense_arrays() -> None:
    network, X, y = trainable(3)
    n, d, m = 5, 6, 300
    [counts] = train(network, X, y, trained_layers=(1, 3), iterations=1).counts
    assert counts == {
        "forward": n * (m * d + 2 * m * m),
        "backward": n * 2 * m * m,
        "gram": n * n * (m + d + m + m),
        "solve": n**3,
        "step": n * (m * d + m * m),
    }


def test_counts_of_a_safeguarded_run_are_those_of_every_trial() -> None:
    """The first step is a full one that halves the residual; the trial looks, and the step sends signals both ways."""
    network, X, y = trainable(3)
    n, d, m = 5, 6, 300
    trace = train(network, X, y, trained_layers=(1, 3), iterations=1, step="safeguarded")
    assert trace.residual_norms[1] <= trace.residual_norms[0] / 2
    forward_work, backward_work = n * (m * d + 2 * m * m), n * 2 * m * m
    assert trace.counts == [
        {
            "pattern": forward_work,
            "gram": forward_work + backward_work + n * n * (m + d + m + m),
            "solve": n**3,
            "step": forward_work + backward_work + n * (m * d + m * m),
        }
    ]


@given(generators, st.sampled_from([0.0, 0.1, 0.24]), st.sampled_from([1e-3, 1.0, 30.0]))
def test_one_layer_is_the_two_layer_network_of_the_first_paper(
    rng: np.random.Generator, alpha: float, scale: float
) -> None:
    """``f_deep = f_two_layer / sqrt(c_b)``: with labels scaled alike, steps and residuals are the same."""
    m, n, d = 1500, 4, 5
    two = TwoLayerNetwork(rng.standard_normal((m, d)), rng.choice([-1.0, 1.0], m), shift_for(m, alpha))
    deep = MultiLayerNetwork((two.weights,), two.signs, two.shift)
    X, y = unit_rows(n, d, rng), scale * rng.standard_normal(n)
    root = second_moment(two.shift) ** 0.5
    np.testing.assert_allclose(deep.predict(X), two.predict(X) / root, atol=1e-12)
    expected = reference.gauss_newton.train(two, X, y * root, iterations=3)
    trace = train(deep, X, y, trained_layers=(1,), iterations=3)
    np.testing.assert_allclose(trace.residual_norms * root, expected.residual_norms, rtol=1e-7, atol=1e-9 * scale)
    np.testing.assert_allclose(trace.network.weights[0], expected.network.weights, atol=1e-7 * max(scale, 1))


def test_a_dead_signal_names_layers_points_and_remedy() -> None:
    network = MultiLayerNetwork([np.eye(2), 0.1 * np.eye(2)], [1, 1], 0.5)
    message = (
        r"^the signal dies in layer 1 on 1 of 3 data point\(s\), the first of them 1 .* and in layer 2 on 2 of 3 data "
        r"point\(s\), the first of them 0 .*: no neuron fires, so the gradient is zero there; widen the network "
        r"\(here 2\) to \d+$"
    )
    X = [[1.0, 0.0], [-0.6, -0.8], [0.0, 1.0]]
    for layers in subsets(2):
        with pytest.raises(DeadSignalError, match=message):
            train(network, X, [1.0, 1.0, 1.0], trained_layers=layers, iterations=1)
        with pytest.raises(DeadSignalError, match=message):
            train(network, X, [1.0, 1.0, 1.0], trained_layers=layers, iterations=1, step="safeguarded")
        assert train(network, X, [1.0, 1.0, 1.0], trained_layers=layers, iterations=0).counts == []


def test_a_singular_gram_matrix_names_point_layer_and_remedy() -> None:
    """Two neurons that see all of three points cannot be told apart by the last layer: rank 2."""
    network = MultiLayerNetwork([[[2.0, 2.0], [1.0, 3.0]], [[1.0, 1.0], [3.0, 3.0]]], [1.0, -1.0], 0.5)
    X = [[0.6, 0.8], [0.8, 0.6], [1.0, 0.0]]
    with pytest.raises(
        SingularGramError,
        match=r"singular to working precision.*\. The weakest signal is that of data point 0 in layer 1, where 2 of 2 "
        r"neurons fire: widen the network \(here 2\) to \d+$",
    ):
        train(network, X, [1.0, -1.0, 1.0], trained_layers=(2,), iterations=1)


def narrow(seed: int, width: int = 64) -> tuple[MultiLayerNetwork, FloatArray, FloatArray]:
    """Inputs far from centred on a narrow network: the theorem's width is not met by far."""
    rng = np.random.default_rng(seed)
    X = 1 + 0.3 * rng.standard_normal((20, 8))
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    return initialize(width, 8, 2, shift=0.3, rng=rng), X, rng.standard_normal(20)


@pytest.mark.parametrize(
    ("seed", "layers", "cause"),
    [
        (2, (1, 2), ""),
        (0, (1,), r"\(the signal dies in layer 2 on 1 of 20 data point\(s\), .* gradient is zero there\)"),
        (5, (1, 2), r"\(the Gram matrix \(20 by 20\) is singular .*\)"),
    ],
)
def test_a_diverging_run_is_reported_with_what_broke_down(seed: int, layers: tuple[int, ...], cause: str) -> None:
    message = rf"training diverged: after iteration .* at the start ?{cause}; widen the network"
    with pytest.raises(DivergenceError, match=message) as caught:
        train(*narrow(seed), trained_layers=layers, iterations=40)
    assert caught.value.residual_norms[-1] > caught.value.residual_norms[0]


def test_inputs_are_not_modified() -> None:
    network, X, y = trainable()
    copies = X.copy(), y.copy()
    train(network, X, y, trained_layers=(1, 2), iterations=2)
    np.testing.assert_array_equal(X, copies[0])
    np.testing.assert_array_equal(y, copies[1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trained_layers": (3,)}, r"trained_layers is \(3,\); pass distinct layer numbers from 1 to 2"),
        ({"X": np.eye(5)}, "X has 5 columns but the network takes 6 inputs"),
        ({"X": 2 * np.eye(6)}, "row 0 of X has length 2, not 1; normalize"),
        ({"y": np.ones(3)}, "y has 3 entries but X has 5 rows"),
        ({"step": "careful"}, "step is 'careful'; pass 'full' or 'safeguarded'"),
        ({"iterations": -1}, "iterations is -1; pass a whole number"),
        ({"tolerance": 1.0}, r"tolerance is 1.0; pass a number in \[0, 1\)"),
        ({"y": np.full(5, 1e200)}, "the first residual overflows"),
    ],
)
def test_bad_arguments_are_refused(changes: dict[str, Any], message: str) -> None:
    network, X, y = trainable()
    arguments: dict[str, Any] = {"X": X, "y": y, "trained_layers": (1, 2), "iterations": 1} | changes
    with np.errstate(over="ignore"), pytest.raises(InputError, match=message):
        train(network, **arguments)


def test_the_gram_matrix_of_all_layers_is_better_conditioned_than_its_parts_suggest() -> None:
    """A sum of positive semidefinite matrices: no eigenvalue falls when one more layer is trained."""
    network, X, _ = trainable(3)
    alone = np.linalg.eigvalsh(gram(network, X, (3,)))
    both = np.linalg.eigvalsh(gram(network, X, (2, 3)))
    assert (both >= alone).all()
    assert all(fires.any(axis=1).all() for fires in forward(network, X).fires)


@pytest.mark.parametrize("step", ["full", "safeguarded"])
def test_a_run_that_starts_at_its_labels_has_converged(step: Step) -> None:
    network, X, _ = trainable()
    trace = train(network, X, network.predict(X), trained_layers=(1,), iterations=3, tolerance=0.5, step=step)
    assert (trace.converged, trace.counts) == (True, [])


def test_signals_that_outgrow_their_bound_end_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    network, X, y = trainable(normalized=True)
    monkeypatch.setattr("reference.multi_layer.GROWTH_ALLOWED", 0.5)
    with pytest.raises(DivergenceError, match=r"after iteration 1 .* grew beyond") as caught:
        train(network, X, y, trained_layers=(1, 2), iterations=3)
    assert len(caught.value.residual_norms) == 2
