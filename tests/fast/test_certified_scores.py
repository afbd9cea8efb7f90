"""Certified scores against the whole product, on walks of any step size, with updates and folds in between."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from fast import certified_scores
from fast.certified_scores import SLACK, SURVEY, CertifiedScores
from fast.low_rank import LowRankWeights, row_numbers
from reference.notation import BoolArray, FloatArray
from verify.closed_forms import Doubt

N, P, Q = 3, 200, 120
THRESHOLD = 2.3


def columns_first(p: int, q: int, rng: np.random.Generator) -> FloatArray:
    return np.asfortranarray(rng.standard_normal((p, q)))


def as_signals(values: FloatArray, fires: BoolArray) -> sparse.csr_array:
    """Store an entry for every neuron that fires, be it 0."""
    rows, columns = np.nonzero(fires)
    starts = np.searchsorted(rows, np.arange(len(values) + 1))
    return sparse.csr_array((values[rows, columns], columns, starts), shape=values.shape)


def walk(rng: np.random.Generator, sizes: list[float], flips: float, density: float) -> list[sparse.csr_array]:
    """Move signals at random; now and then a neuron starts or stops to fire."""
    fires = rng.random((N, Q)) < density
    values = rng.standard_normal((N, Q)) / np.sqrt(density * Q)
    signals = [as_signals(values, fires)]
    for size in sizes:
        values = values + size * rng.standard_normal((N, Q))
        fires = fires ^ (rng.random((N, Q)) < flips * np.where(fires, 1, density))
        signals.append(as_signals(values, fires))
    return signals


def check(
    certified: CertifiedScores, weights: LowRankWeights, H: sparse.csr_array, doubt: Doubt | None = None
) -> FloatArray:
    before = weights.work["read"]
    scores = certified.multiply(weights, H, THRESHOLD)
    truth = H @ weights.to_dense().T
    fires = truth >= THRESHOLD
    if doubt is not None:
        below = np.zeros(H.shape, dtype=bool)
        below[row_numbers(H), H.indices] = True
        assert weights.work["read"] - before == doubt.forward_work(H.toarray(), below, truth)
    assert ((scores >= THRESHOLD) == fires).all()
    np.testing.assert_allclose(scores[fires], truth[fires], rtol=1e-12)
    return scores


@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.sampled_from([0.0, 1e-9, 1e-3, 0.01, 0.03, 0.3]), min_size=3, max_size=10),
    st.sampled_from([0.0, 0.1, 0.2, 0.6]),
    st.sampled_from([0.01, 0.05, 0.1, 0.15, 0.4]),
    st.booleans(),
)
def test_every_walk_fires_as_the_whole_product_does_and_reads_what_is_in_doubt(
    seed: int, sizes: list[float], flips: float, density: float, updated: bool
) -> None:
    rng = np.random.default_rng(seed)
    weights, certified = LowRankWeights(columns_first(P, Q, rng), budget=3 * N), CertifiedScores()
    doubt = Doubt(weights.initial, THRESHOLD)
    for H in walk(rng, sizes, flips, density):
        check(certified, weights, H, doubt)
        if updated:
            left = sparse.csr_array((rng.random((N, P)) < 0.1) * rng.standard_normal((N, P)))
            weights = weights.copy()
            weights.add(left, H)


@pytest.mark.parametrize("flips", [0.0, 0.3])
def test_the_way_back_is_that_of_the_weights(flips: float) -> None:
    rng = np.random.default_rng(0)
    weights, certified = LowRankWeights(columns_first(P, Q, rng)), CertifiedScores()
    for H in walk(rng, [0.01] * 5, flips, 0.1):
        scores = check(certified, weights, H)
        P_above = as_signals(rng.standard_normal((N, P)), scores >= THRESHOLD)
        before = weights.work["read"]
        mine = certified.multiply_at(weights, P_above, H)
        read = weights.work["read"] - before
        np.testing.assert_allclose(mine, weights.multiply_at(P_above, H), rtol=1e-12)
        assert read == weights.work["read"] - before - read
        weights.add(P_above, H)


def test_a_way_back_for_other_signals_than_the_last_reads_afresh() -> None:
    rng = np.random.default_rng(1)
    weights, certified = LowRankWeights(columns_first(P, Q, rng)), CertifiedScores()
    H, other = walk(rng, [1.0], 1.0, 0.1)
    P_above = as_signals(rng.standard_normal((N, P)), rng.random((N, P)) < 0.05)
    np.testing.assert_allclose(  # before any survey
        certified.multiply_at(weights, P_above, H), weights.multiply_at(P_above, H), rtol=1e-12
    )
    for now in (H, other):
        check(certified, weights, now)
    np.testing.assert_allclose(
        certified.multiply_at(weights, P_above, H), weights.multiply_at(P_above, H), rtol=1e-12
    )


def test_a_walk_that_comes_to_rest_reads_little_more_than_what_fires() -> None:
    rng = np.random.default_rng(2)
    weights, certified = LowRankWeights(columns_first(P, Q, rng)), CertifiedScores()
    H, *rest = walk(rng, [0.02, 1e-4, 1e-8, 0.0], 0.0, 0.05)
    certified.multiply(weights, H, THRESHOLD)
    assert weights.work["read"] == H.nnz * P
    reads = []
    for now in rest:
        before = weights.work["read"]
        scores = check(certified, weights, now)
        reads.append(weights.work["read"] - before)
    fired = np.count_nonzero(scores >= THRESHOLD, axis=1) @ np.diff(H.indptr)
    assert reads == sorted(reads, reverse=True)
    assert fired == reads[-1] < reads[0] < H.nnz * P / SURVEY


def test_neurons_that_cannot_reach_the_threshold_are_not_read() -> None:
    """An infinite weight that is read makes a product invalid, or the result infinite."""
    rng, threshold = np.random.default_rng(3), 2.5
    W = columns_first(400, Q, rng)
    weights, certified = LowRankWeights(W), CertifiedScores()
    H, near = walk(rng, [1e-3], 0.0, 0.05)
    scores = certified.multiply(weights, H, threshold)
    W[(scores < threshold - 0.5).all(axis=0)] = np.inf
    assert np.isfinite(certified.multiply(weights, near, threshold)).all()
    assert not np.isfinite(certified.multiply(weights, 3 * near, threshold)).all()


def test_a_neuron_below_that_is_new_adds_its_column_and_many_make_a_survey() -> None:
    rng = np.random.default_rng(4)
    weights, certified = LowRankWeights(columns_first(P, Q, rng)), CertifiedScores()
    fires = np.zeros((1, Q), dtype=bool)
    fires[0, :6] = True
    values = np.full((1, Q), 0.01)
    certified.multiply(weights, as_signals(values, fires), THRESHOLD)
    for more, expected in ((7, P), (8, P), (18, 18 * P)):
        fires[0, :more] = True
        before, path = weights.work["read"], certified.path.copy()
        bounds = certified.reach + certified.norm * path
        certified.multiply(weights, as_signals(values, fires), THRESHOLD)
        assert weights.work["read"] - before == expected
        if expected == P:  # the new column counts from now on
            np.testing.assert_allclose(certified.reach + certified.norm * path, bounds, atol=1e-14)
        np.testing.assert_allclose(certified.norm[0], np.linalg.norm(weights.initial[:, :more], axis=1), rtol=1e-12)


def test_after_a_whole_product_everything_is_surveyed_again() -> None:
    rng = np.random.default_rng(5)
    weights, certified = LowRankWeights(columns_first(P, Q, rng)), CertifiedScores()
    (H,), (dense,) = walk(rng, [], 0.0, 0.05), walk(rng, [], 0.0, 0.5)
    for now, expected in ((H, H.nnz * P), (dense, N * P * Q), (H, H.nnz * P)):
        before = weights.work["read"]
        check(certified, weights, now)
        assert weights.work["read"] - before == expected


def test_entries_that_were_read_lately_are_kept() -> None:
    rng = np.random.default_rng(6)
    W = columns_first(P, Q, rng)
    weights, certified = LowRankWeights(W), CertifiedScores()
    H, near = walk(rng, [0.03], 0.0, 0.1)
    certified.multiply(weights, H, THRESHOLD)
    before = weights.work["read"]
    scores = certified.multiply(weights, near, THRESHOLD)
    fires = scores >= THRESHOLD
    assert fires.sum(axis=1) @ np.diff(near.indptr) < weights.work["read"] - before < near.nnz * P / SURVEY
    P_above = as_signals(rng.standard_normal((N, P)), fires)
    back = weights.multiply_at(P_above, near)
    W[:] = np.nan
    np.testing.assert_allclose(certified.multiply_at(weights, P_above, near), back, rtol=1e-12)
    np.testing.assert_allclose(certified.multiply(weights, near, THRESHOLD)[fires], scores[fires], rtol=1e-12)


@pytest.mark.parametrize(("doubtful", "read"), [(P // SURVEY, P // SURVEY), (P // SURVEY + 1, P)])
def test_a_survey_is_due_when_more_than_one_pair_in_eight_is_in_doubt(doubtful: int, read: int) -> None:
    W = np.zeros((P, Q))
    W[:doubtful, 0] = 1
    weights, certified, H = LowRankWeights(W), CertifiedScores(), sparse.csr_array(([1.0], [0], [0, 1]), shape=(1, Q))
    certified.multiply(weights, H, 0.5)
    before = weights.work["read"]
    certified.multiply(weights, H, 0.5)
    assert weights.work["read"] - before == read


def test_bounds_are_raised_by_a_share_of_the_largest_possible_score() -> None:
    W = np.zeros((P, Q))
    W[0, 0], W[1, 1] = 1, 1000
    start, end = (sparse.csr_array(([h, 1e-3], [0, 1], [0, 1, 2]), shape=(2, Q)) for h in (1.0, 2.0))
    # The first point: a path of length 1 to a score of 2, with weights of norm 1. The second has its own, larger share.
    slack = SLACK * (2 + 1 + 2)
    for above, read in ((0.99 * slack, 1), (1.01 * slack, 0)):
        weights, certified = LowRankWeights(W), CertifiedScores()
        certified.multiply(weights, start, 2 + above)
        before = weights.work["read"]
        certified.multiply(weights, end, 2 + above)
        assert weights.work["read"] - before == read


@pytest.mark.parametrize(("entries", "blocks"), [(600, 64), (1, 16)])
def test_surveys_in_blocks_are_whole(monkeypatch: pytest.MonkeyPatch, entries: int, blocks: int) -> None:
    monkeypatch.setattr(certified_scores, "BLOCK_ENTRIES", entries)
    monkeypatch.setattr(certified_scores, "BLOCKS", blocks)
    rng = np.random.default_rng(7)
    weights, certified = LowRankWeights(columns_first(P, Q, rng)), CertifiedScores()
    (H,) = walk(rng, [], 0.0, 0.1)
    np.testing.assert_allclose(certified.multiply(weights, H, THRESHOLD), weights.multiply(H), atol=1e-13)
    pattern = sparse.csr_array((np.ones(H.nnz), H.indices, H.indptr), shape=H.shape)
    np.testing.assert_allclose(certified.norm**2, pattern @ (weights.initial**2).T, rtol=1e-12)


def test_there_may_be_more_points_than_neurons_below_and_points_on_which_none_fires() -> None:
    rng, n, q = np.random.default_rng(8), 20, 12
    weights, certified = LowRankWeights(columns_first(P, q, rng)), CertifiedScores()
    fires = np.arange(q) == np.arange(n)[:, np.newaxis] % q
    fires[-1] = False
    values = 1 + rng.random((n, q))
    for size in (0.0, 1e-3, 1e-3):
        values = values + size * rng.standard_normal((n, q))
        check(certified, weights, as_signals(values, fires))
