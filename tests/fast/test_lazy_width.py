"""Networks of which only the fired neurons exist: their law against full draws, their function against dense twins."""

from __future__ import annotations

import math
import warnings
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats
from scipy.special import log_ndtr, ndtr, ndtri_exp

import fast.gauss_newton
import reference.gauss_newton
import reference.gram
from fast import lazy_width, two_layer
from fast.gram import gram
from fast.lazy_width import LazyNetwork, draw_fired, draw_given_a_point, initialize, threshold_second_moment
from fast.two_layer import ImplicitNetwork, PartialPredictionWarning, check_given, starting_network
from reference.lazy_width import initialize as initialize_in_full
from reference.lazy_width import neurons_that_fire
from reference.notation import FloatArray, InputError, NothingFiresError
from reference.two_layer import TwoLayerNetwork, shift_for
from verify.problems import make, unit_rows
from verify.strategies import generators, points

REPEATS = 600
ALLOWED = 4.0
"""Standard errors by which a mean may be off; seeds are pinned, so this is met once and for all."""


def existing(network: LazyNetwork | TwoLayerNetwork, used: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the weights and signs of the neurons that fire on some point."""
    dense = TwoLayerNetwork(network.weights, network.signs, network.shift)
    found = neurons_that_fire(dense, used)
    return dense.weights[found], dense.signs[found]


def summary(weights: FloatArray, signs: FloatArray, used: FloatArray, shift: float) -> list[float]:
    """Reduce the fired neurons of one network to numbers whose means two samplers must share."""
    fires = used @ weights.T >= shift
    above = np.maximum(used @ weights.T - shift, 0)
    last = used[-1]
    across = weights - np.outer(weights @ last, last) / (last @ last)  # what is left across the last point
    return [
        float(len(weights)),
        float(len(weights)) ** 2,
        *fires.sum(axis=1).tolist(),
        float((fires[0] & fires[1]).sum()),
        float((fires.sum(axis=0) == 1).sum()),
        *above.sum(axis=1).tolist(),
        float((across[fires[-1]] ** 2).sum()),
        float((weights**2).sum()),
        float(signs.sum()) ** 2,
        float((signs * np.arange(len(signs))).sum()),
        float((above @ signs).sum()) ** 2,
    ]


def assert_same_means(one: list[list[float]], other: list[list[float]]) -> None:
    a, b = np.array(one), np.array(other)
    error = np.sqrt(a.var(axis=0) / len(a) + b.var(axis=0) / len(b))
    off = np.abs(a.mean(axis=0) - b.mean(axis=0)) / np.maximum(error, 1e-12)
    assert off.max() < ALLOWED, (int(off.argmax()), a.mean(axis=0), b.mean(axis=0), off)


def test_the_fired_neurons_have_the_law_of_a_full_draw() -> None:
    rng = np.random.default_rng(1)
    X = make("pairs", 3, 3, rng).X
    unseen = np.array([[0.3, -1.1, 0.2], [0.0, 0.0, 0.0]])
    used = np.concatenate([X, unseen])
    lazy, full = [], []
    for _ in range(REPEATS):
        network = initialize(X, width=60, shift=1.0, rng=rng, unseen=unseen)
        assert ndtr(-1.0) * 3 < 1  # Q is below 1, so this is not the full draw
        weights, signs = existing(network, used)
        assert len(weights) == len(network.weights)
        lazy.append(summary(weights, signs, used[:4], 1.0))
        everything = initialize_in_full(X, width=60, shift=1.0, rng=rng)
        full.append(summary(*existing(everything, used), used[:4], 1.0))
    assert_same_means(lazy, full)


def test_a_full_draw_in_blocks_has_the_law_of_a_full_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lazy_width, "FEWEST_DRAWS", 16)
    monkeypatch.setattr(lazy_width, "BLOCK_ENTRIES", 7)
    rng = np.random.default_rng(2)
    X = unit_rows(6, 2, rng)
    lazy, full = [], []
    for _ in range(REPEATS):
        network = initialize(X, width=60, shift=0.4, rng=rng)  # Q is 2.1
        weights, signs = existing(network, X)
        assert len(weights) == len(network.weights)
        lazy.append(summary(weights, signs, X, 0.4))
        full.append(summary(*existing(initialize_in_full(X, width=60, shift=0.4, rng=rng), X), X, 0.4))
    assert_same_means(lazy, full)


def test_extending_is_giving_all_points_at_the_start() -> None:
    rng = np.random.default_rng(3)
    X = make("pairs", 3, 3, rng).X
    later = np.concatenate([unit_rows(2, 3, rng), X[:1]])
    used = np.concatenate([X, later[:2]])
    extended, full = [], []
    for _ in range(REPEATS):
        network = initialize(X, width=60, shift=1.0, rng=rng).extend(later, rng=rng)
        weights, signs = existing(network, used)
        assert len(weights) == len(network.weights)
        order = rng.permutation(len(signs))
        extended.append(summary(weights[order], signs[order], used, 1.0))
        full.append(summary(*existing(initialize_in_full(X, width=60, shift=1.0, rng=rng), used), used, 1.0))
    assert_same_means(extended, full)


def test_extending_adds_rows_at_the_end_and_keeps_the_rest() -> None:
    rng = np.random.default_rng(4)
    X, later = unit_rows(8, 5, rng), unit_rows(4, 5, rng)
    network = initialize(X, width=5000, shift=2.0, rng=rng)
    u = len(network.weights)
    extended = network.extend(later, rng=rng)
    assert extended.weights[:u].tolist() == network.weights.tolist()
    assert extended.signs[:u].tolist() == network.signs.tolist()
    assert extended.points.tolist() == [*X.tolist(), *later.tolist()]
    added = extended.weights[u:]
    assert len(added) > 0
    assert (added @ X.T).max() < 2.0
    assert (added @ later.T).max(axis=1).min() >= 2.0 - 1e-12
    state = rng.bit_generator.state
    assert network.extend(X, rng=rng).weights.tolist() == network.weights.tolist()
    assert rng.bit_generator.state == state  # nothing was missing, so nothing was drawn


def test_a_trained_network_is_extended_in_place_of_its_initial_one() -> None:
    rng = np.random.default_rng(5)
    problem = make("random", 8, 6, rng)
    network = initialize(problem.X, width=1 << 16, shift=2.5, rng=rng)
    trained = starting_network(fast.gauss_newton.train(network, problem.X, problem.y, iterations=7).network)
    assert isinstance(trained, LazyNetwork)
    extended = trained.extend(problem.unseen, rng=rng)
    assert len(extended.weights) > len(trained.weights)
    np.testing.assert_allclose(extended.predict(problem.X), problem.y, atol=1e-6)
    extended.predict(problem.unseen)  # without a warning


@pytest.mark.parametrize(("threshold", "length"), [(-9.0, 2.5), (0.3, 0.5), (6.0, 2.5), (30.0, 2.5)])
def test_draws_follow_the_normal_tail_and_are_normal_across(threshold: float, length: float) -> None:
    rng = np.random.default_rng(6)
    x = np.array([[0.6, 0.0, 0.8]]) * length
    blocks = list(draw_given_a_point(x, length * threshold, 4000, rng))
    weights = np.concatenate([block for block, _, _ in blocks])
    assert all(keep.all() and not first.any() for _, first, keep in blocks)
    along = weights @ x[0] / length
    assert along.min() >= threshold - 1e-12 * abs(threshold)
    # log of the survival function given the threshold, uniform's negative logarithm: exponential
    survival = np.exp(log_ndtr(-along) - log_ndtr(-threshold))
    assert stats.kstest(survival, "uniform").pvalue > 1e-3
    across = np.concatenate([weights @ [0.8, 0.0, -0.6], weights @ [0.0, 1.0, 0.0]])
    assert stats.kstest(across, "norm").pvalue > 1e-3
    assert abs(np.corrcoef(weights @ [0.8, 0.0, -0.6], along)[0, 1]) < ALLOWED / math.sqrt(4000)


def test_the_quantile_keeps_its_digits_far_in_the_tail() -> None:
    class Fixed(np.random.Generator):
        """Its uniforms are known, so the component along the point is too."""

        def random(self, size: int) -> FloatArray:  # type: ignore[override]
            return np.linspace(0, 0.999, size)

    rng = Fixed(np.random.PCG64(0))
    for threshold in (1.0, 8.0, 20.0, 36.0):
        ((weights, _, _),) = draw_given_a_point(np.array([[1.0]]), threshold, 50, rng)
        expected = -ndtri_exp(np.log1p(-np.linspace(0, 0.999, 50)) + log_ndtr(-threshold))
        np.testing.assert_allclose(weights[:, 0], np.maximum(expected, threshold), rtol=4e-15)


def test_a_draw_on_the_threshold_is_kept_although_its_score_is_rounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lazy_width, "ndtri", lambda tail: np.full(len(tail), -6.0))
    X = unit_rows(2, 5, np.random.default_rng(12))
    ((weights, first, keep),) = draw_given_a_point(X, 6.0, 500, np.random.default_rng(13))
    scores = weights @ X.T
    assert (scores.max(axis=1) < 6.0).any()
    assert keep.all()
    np.testing.assert_allclose(scores[np.arange(500), first], 6.0, rtol=1e-14)


def test_a_draw_on_the_kink_of_another_point_fires_there() -> None:
    class Fixed(np.random.Generator):
        """Its normal numbers are all on the threshold."""

        def standard_normal(self, size: tuple[int, int]) -> FloatArray:  # type: ignore[override]
            return np.full(size, 2.0)

    blocks = list(draw_given_a_point(np.eye(2), 2.0, 500, Fixed(np.random.PCG64(0))))
    kept = np.concatenate([keep for _, _, keep in blocks])
    assert 200 < np.count_nonzero(kept) < 300  # those drawn at the first point; the others fire on it as well
    assert not np.concatenate([first for _, first, _ in blocks]).any()
    _, first = draw_fired(np.eye(2), 2.0, 500, np.random.default_rng(0))
    assert np.issubdtype(first.dtype, np.integer)


def test_counts_are_binomial_even_where_few_of_very_many_fire() -> None:
    # 1 - q is rounded by a tenth of q here; a Poisson law of mean 1.2 is what is left of the binomial.
    shift = -float(ndtri_exp(math.log(1.05e-15)))
    rng = np.random.default_rng(7)
    counts = [len(draw_fired(np.eye(1), shift, 1 << 50, rng)[0]) for _ in range(4000)]
    mean = 2**50 * 1.05e-15
    assert abs(np.mean(counts) - mean) < ALLOWED * math.sqrt(mean / 4000)
    assert abs(np.var(counts) - mean) < ALLOWED * mean * math.sqrt(3 / 4000)


def test_an_order_that_says_nothing() -> None:
    rng = np.random.default_rng(8)
    X = unit_rows(6, 4, rng)
    network = initialize(X, width=200_000, shift=2.2, rng=rng)
    first = (X @ network.weights.T >= 2.2).argmax(axis=0)
    for values in (network.signs, network.weights @ X[0], first.astype(float)):
        assert abs(stats.spearmanr(np.arange(len(values)), values)[0]) < ALLOWED / math.sqrt(len(values))
    assert abs(network.signs.mean()) < ALLOWED / math.sqrt(len(network.signs))
    assert abs(np.corrcoef(network.signs, network.weights @ X[0])[0, 1]) < ALLOWED / math.sqrt(len(network.signs))


def lazy_network(rng: np.random.Generator, X: FloatArray, shift: float = 0.8, width: int = 400) -> LazyNetwork:
    network = initialize(X, width=width, shift=shift, rng=rng)
    assert len(network.weights) > 0
    return network


@given(points(3), generators, st.sampled_from([7, 1 << 18]))
def test_predictions_and_gram_matrix_are_those_of_the_dense_form(
    X: FloatArray, rng: np.random.Generator, block: int
) -> None:
    network = lazy_network(rng, X)
    u = len(network.weights)
    dense = network.to_dense()
    above = np.maximum(network.weights @ X.T - 0.8, 0)
    expected = [sum(network.signs[r] * above[r, i] for r in range(u)) / 20 for i in range(len(X))]  # sqrt(400) is 20
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(two_layer, "BLOCK_ENTRIES", block)
        np.testing.assert_allclose(network.predict(X), expected, atol=1e-12)
    np.testing.assert_allclose(dense.predict(X), expected, atol=1e-12)
    np.testing.assert_allclose(gram(network, X) * 400 / u, reference.gram.gram(dense, X), atol=1e-12)


def test_training_is_that_of_the_dense_form() -> None:
    rng = np.random.default_rng(9)
    problem = make("random", 12, 8, rng)
    network = initialize(
        problem.X, width=1 << 20, shift=shift_for(1 << 20, 0.3), rng=rng, unseen=problem.unseen
    )
    before = network.weights.copy()
    mine = fast.gauss_newton.train(network, problem.X, problem.y, iterations=5)
    oracle = reference.gauss_newton.train(network.to_dense(), problem.X, problem.y, iterations=5)
    start = oracle.residual_norms[0]
    np.testing.assert_allclose(mine.residual_norms, oracle.residual_norms, rtol=1e-8, atol=1e-11 * start)
    np.testing.assert_allclose(
        mine.network.predict(problem.unseen), oracle.network.predict(problem.unseen), rtol=1e-8, atol=1e-9
    )
    assert mine.residual_norms[-1] < 1e-4 * start
    np.testing.assert_array_equal(network.weights, before)


def test_the_sketched_solver_trains_neurons_that_exist() -> None:
    rng = np.random.default_rng(5)
    problem = make("random", 12, 8, rng)
    network = initialize(problem.X, width=2**20, shift=shift_for(2**20, 0.5), rng=rng)
    expected = fast.gauss_newton.train(network, problem.X, problem.y, iterations=5)
    for search in ("events", "tree"):
        run = fast.gauss_newton.train(
            network, problem.X, problem.y, iterations=5, search=search, solver="sketch", rng=rng
        )
        np.testing.assert_allclose(run.residual_norms, expected.residual_norms, atol=1e-9)


def test_points_given_at_the_start_raise_no_warning_and_others_do() -> None:
    rng = np.random.default_rng(10)
    X, unseen, strange = np.eye(3), rng.standard_normal((2, 3)), np.array([[0.6, 0.8, 0.0]])
    network = initialize(X, width=300, shift=1.5, rng=rng, unseen=unseen)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        network.predict(np.concatenate([unseen, np.where(X == 0, -0.0, X)]))
        gram(network, X)
        check_given(network, unseen)
    asked = np.concatenate([X, strange, 2 * strange])
    message = r"2 of 5 points, the first of them row 3.*standard deviation at most 0\.716 to a prediction"
    with pytest.warns(PartialPredictionWarning, match=message) as caught:
        network.predict(asked)
    assert caught[0].filename == __file__
    with pytest.warns(PartialPredictionWarning, match=message) as caught:
        gram(network, asked)
    assert caught[0].filename == __file__
    np.testing.assert_array_equal(network.given(asked), [True, True, True, False, False])


def test_points_are_known_to_the_last_bit_but_for_the_sign_of_zero() -> None:
    network = LazyNetwork([[1.0, 0.0]], [1], 0.0, 5, [[1.0, -0.0], [0.0, 1.0]])
    assert network.given(np.array([[1.0, 0.0], [-0.0, 1.0], [1.0 + 2**-52, 0.0]])).tolist() == [True, True, False]
    assert (~network.given(np.empty((0, 2)))).shape == (0,)


def test_the_stated_deviation_covers_what_is_missing() -> None:
    rng = np.random.default_rng(11)
    X, strange = np.eye(3), np.array([[0.6, 0.8, 0.0], [0.0, 3.0, 0.0], [0.0, -0.5, 0.0]])
    network = initialize(X, width=50, shift=1.0, rng=rng)
    bound = network.missing_deviation(strange)
    missing = np.empty((2000, 3))
    for repeat in range(2000):
        full = initialize_in_full(X, width=50, shift=1.0, rng=rng)
        silent = np.setdiff1d(np.arange(50), neurons_that_fire(full, X))
        above = np.maximum(full.weights[silent] @ strange.T - 1.0, 0)
        missing[repeat] = full.signs[silent] @ above / math.sqrt(50)
    assert (missing.std(axis=0) <= bound * (1 + ALLOWED / math.sqrt(2 * 2000))).all()
    assert (np.abs(missing.mean(axis=0)) < ALLOWED * bound / math.sqrt(2000)).all()
    assert missing.std(axis=0)[2] > 0.7 * bound[2]  # across from a point, few of the missing fire on another
    for length, value in zip((1, 3, 0.5), bound, strict=True):
        expected = length * math.sqrt(float(threshold_second_moment(np.array([1 / length]))[0]))
        assert value == pytest.approx(expected, rel=1e-14)


def test_the_deviation_at_the_ends_of_the_scale() -> None:
    def deviation(shift: float, row: list[float]) -> float:
        return float(LazyNetwork([[1.0, 0.0]], [1], shift, 9, np.eye(2)).missing_deviation(np.array([row]))[0])

    assert deviation(1.0, [0.0, 0.0]) == 0.0
    assert deviation(0.0, [0.0, 0.0]) == 0.0
    assert deviation(-2.0, [0.0, 0.0]) == 2.0
    assert deviation(-3.0, [1e-200, 0.0]) == 3.0
    assert deviation(-100.0, [1.0, 0.0]) == pytest.approx(math.hypot(1, 100), rel=1e-14)
    assert deviation(1.0, [1e-200, 0.0]) == 0.0
    assert deviation(0.0, [0.0, 7.0]) == pytest.approx(7 / math.sqrt(2), rel=1e-14)


@pytest.mark.parametrize("threshold", [-39.0, -3.0, -0.1, 0.0, 0.5, 2.0, 8.0, 20.0, 36.0])
def test_the_second_moment_beyond_a_threshold(threshold: float) -> None:
    # E max(z - t, 0)^2 = (2 pi)^(-1/2) int_0^inf s^2 exp(-(s + t)^2 / 2) ds, with exp(-t^2 / 2) taken out for t > 0
    out = max(0.0, threshold)
    cuts = [0.0, 1 / (1 + out), 9 / (1 + out), max(0.0, -threshold) + 12]

    def integrand(s: float) -> float:
        return s * s * math.exp((out - s - threshold) * (out + s + threshold) / 2)

    parts = [integrate.quad(integrand, *ends, epsabs=0, epsrel=1e-12, limit=200)[0] for ends in pairwise(cuts)]
    expected = math.fsum(parts) * math.exp(-(out**2) / 2) / math.sqrt(2 * math.pi)
    assert float(threshold_second_moment(np.array([threshold]))[0]) == pytest.approx(expected, rel=1e-9)


def test_the_second_moment_may_underflow() -> None:
    with np.errstate(under="raise"):
        assert threshold_second_moment(np.array([38.5, np.inf])).tolist()[1] == 0


def test_nothing_may_fire() -> None:
    network = initialize(np.eye(2), width=10, shift=9.0, rng=np.random.default_rng(0))
    assert (network.weights.shape, network.signs.shape, network.width) == ((0, 2), (0,), 10)
    assert network.predict(np.eye(2)).tolist() == [0.0, 0.0]
    assert gram(network, np.eye(2)).tolist() == [[0.0, 0.0], [0.0, 0.0]]
    with pytest.raises(NothingFiresError, match="none of the 10 neurons exists"):
        network.to_dense()
    assert len(network.extend([[30.0, 30.0]], rng=np.random.default_rng(1)).weights) > 0


@pytest.mark.parametrize("shift", [-1.0, 0.0])
def test_on_a_zero_point_every_neuron_fires_unless_the_shift_is_positive(shift: float) -> None:
    rng = np.random.default_rng(0)
    assert len(initialize(np.eye(2), width=70, shift=shift, rng=rng, unseen=[[0.0, 0.0]]).weights) == 70
    assert len(initialize(np.eye(2), width=10, shift=8.0, rng=rng, unseen=[[0.0, 0.0]]).weights) == 0


def test_the_callers_arrays_are_not_shared() -> None:
    X = np.eye(2)
    network = initialize(X, width=50, shift=1.0, rng=np.random.default_rng(0))
    X[0, 0] = 5.0
    assert network.points.tolist() == [[1.0, 0.0], [0.0, 1.0]]
    for array in (network.weights, network.signs, network.points):
        assert not array.flags.writeable


def test_training_on_points_that_were_not_given_is_refused() -> None:
    rng = np.random.default_rng(0)
    network = initialize(np.eye(3), width=300, shift=1.0, rng=rng)
    X = np.array([[1.0, 0.0, 0.0], [0.6, 0.8, 0.0]])
    message = r"row 1 of X was not given when the network was drawn \(1 such row\(s\)\).*unseen="
    with pytest.raises(InputError, match=message):
        check_given(network, X)
    with pytest.raises(InputError, match="not given"):
        check_given(ImplicitNetwork(network, np.eye(3), np.empty(0, dtype=np.intp), np.empty((0, 3))), X)
    with pytest.raises(InputError, match=message):
        fast.gauss_newton.train(network, X, [1.0, -1.0], iterations=1)


def test_bad_arguments_are_refused() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(InputError, match="row 0 of X has length 2"):
        initialize([[2.0, 0.0]], width=5, shift=1.0, rng=rng)
    with pytest.raises(InputError, match=r"unseen has shape \(1, 3\) but X has 2 columns"):
        initialize(np.eye(2), width=5, shift=1.0, rng=rng, unseen=[[1.0, 0.0, 0.0]])
    with pytest.raises(InputError, match="unseen has a NaN or infinite entry"):
        initialize(np.eye(2), width=5, shift=1.0, rng=rng, unseen=[[np.nan, 0.0]])
    with pytest.raises(InputError, match="length of point 2 overflows"):
        initialize(np.eye(2), width=5, shift=1.0, rng=rng, unseen=[[1e300, 1e300]])
    with pytest.raises(InputError, match="shift has a NaN or infinite entry"):
        initialize(np.eye(2), width=5, shift=np.nan, rng=rng)
    with pytest.raises(InputError, match="rng is None"):
        initialize(np.eye(2), width=5, shift=1.0, rng=None)  # type: ignore[arg-type]
    for width in (0, 2**50 + 1, 5.0, True):
        with pytest.raises(InputError, match=r"pass a whole number from 1 to 2\*\*50"):
            initialize(np.eye(2), width=width, shift=1.0, rng=rng)  # type: ignore[arg-type]


def test_a_network_is_checked_when_it_is_made() -> None:
    with pytest.raises(InputError, match="weights has 2 columns and points 3"):
        LazyNetwork([[1.0, 0.0]], [1], 0.0, 5, np.eye(3))
    with pytest.raises(InputError, match="width is 1 but 2 neurons exist"):
        LazyNetwork(np.eye(2), [1, 1], 0.0, 1, np.eye(2))
    with pytest.raises(InputError, match=r"signs\[0\] is 3"):
        LazyNetwork([[1.0, 0.0]], [3], 0.0, 5, np.eye(2))
    with pytest.raises(InputError, match="signs is empty"):
        LazyNetwork([[1.0, 0.0]], np.empty((0, 1)).ravel(), 0.0, 5, np.eye(2))
    with pytest.raises(InputError, match="shift has a NaN"):
        LazyNetwork([[1.0, 0.0]], [1], np.nan, 5, np.eye(2))
    with pytest.raises(InputError, match="points has a NaN"):
        LazyNetwork([[1.0, 0.0]], [1], 0.0, 5, [[np.nan, 0.0]])
    network = LazyNetwork(np.eye(2), [1, 1], 0, np.int64(5), np.eye(2))  # type: ignore[arg-type]
    assert (type(network.shift), type(network.width)) == (float, int)
    with pytest.raises(InputError, match="X has 3 columns but the network takes 2"):
        network.predict(np.eye(3))
    with pytest.raises(InputError, match="X has 3 columns but the network takes 2"):
        network.extend(np.eye(3), rng=np.random.default_rng(0))
    with pytest.raises(InputError, match="rng is 7"):
        network.extend(np.eye(2), rng=7)  # type: ignore[arg-type]


def test_what_does_not_fit_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    X = unit_rows(64, 32, rng)
    with pytest.raises(InputError, match=r"neurons would exist.*8 GiB is the limit; raise the shift"):
        initialize(X, width=2**40, shift=shift_for(2**40, 0.4), rng=rng)
    with pytest.raises(InputError, match="more than 1, so all 1099511627776 neurons would have to be drawn"):
        initialize(X, width=2**40, shift=0.0, rng=rng)
    # Of 10,000 neurons 7,500 fire on one of two orthogonal points; the first of many blocks foretells it.
    monkeypatch.setattr(lazy_width, "LARGEST_MEMORY", 8 * 2 * 300)
    monkeypatch.setattr(lazy_width, "BLOCK_ENTRIES", 1)
    with pytest.raises(InputError, match=r"about 7\.\d+e\+03 neurons would exist"):
        initialize(np.eye(2), width=10_000, shift=0.0, rng=rng)
    assert len(initialize(np.eye(2), width=200, shift=0.0, rng=rng).weights) <= 200


def test_what_just_fits_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    def draw(most: int) -> int:
        monkeypatch.setattr(lazy_width, "LARGEST_MEMORY", most)
        return len(initialize(np.eye(2), width=200, shift=-0.1, rng=np.random.default_rng(0)).weights)

    u = draw(1 << 20)
    assert 100 < u < 200
    assert draw(u * 2 * 8) == u
    with pytest.raises(InputError, match=f"about {u} neurons would exist"):
        draw(u * 2 * 8 - 1)
    monkeypatch.setattr(lazy_width, "LARGEST_FULL_DRAW", 200)
    assert draw(1 << 20) == u
    monkeypatch.setattr(lazy_width, "LARGEST_FULL_DRAW", 199)
    with pytest.raises(InputError, match=r"on 1\.08 of the 2 points on average, more than 1, so all 200"):
        draw(1 << 20)
    rare = initialize(np.eye(2), width=2**50, shift=9.0, rng=np.random.default_rng(0))
    assert rare.width == 2**50


@given(st.integers(0, 50), st.floats(-7.0, 8.0), st.integers(1, 6), generators)
def test_any_width_and_shift_gives_a_sound_network(
    log_width: int, log_expected: float, n: int, rng: np.random.Generator
) -> None:
    X, width = unit_rows(n, 4, rng), 3 * (1 << log_width) // 4 + 1
    shift = -float(ndtri_exp(min(log_expected - math.log(n * width), -0.1)))
    network = initialize(X, width=width, shift=shift, rng=rng)
    u = len(network.weights)
    assert (network.width, network.signs.shape, network.weights.shape[1]) == (width, (u,), 4)
    assert u <= width
    assert np.isfinite(network.weights).all()
    assert ((X @ network.weights.T).max(axis=0) >= shift - 1e-12 * max(1, abs(shift))).all()
