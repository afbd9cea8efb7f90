from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from scipy import sparse

from fast import low_rank, rectangular_product
from fast.low_rank import LowRankWeights
from reference.low_rank import EagerWeights
from reference.notation import FloatArray, InputError
from verify.strategies import generators


def thin(n: int, m: int, rng: np.random.Generator, share: float = 0.03) -> sparse.csr_array:
    return sparse.csr_array(rng.standard_normal((n, m)) * (rng.random((n, m)) < share))


class Interleaved(RuleBasedStateMachine):
    """Any interleaving of updates, questions, folds and copies: lazy weights answer as eager ones do."""

    @initialize(
        rng=generators,
        p=st.integers(1, 60),
        q=st.integers(1, 60),
        budget=st.sampled_from([None, 1, 3, 10]),
        order=st.sampled_from("CF"),
    )
    def begin(self, rng: np.random.Generator, p: int, q: int, budget: int | None, order: str) -> None:
        self.rng = rng
        initial = np.array(rng.standard_normal((p, q)), order=order)  # type: ignore[call-overload]
        self.given = initial.copy()
        self.lazy, self.eager = LowRankWeights(initial, budget=budget), EagerWeights(initial)
        self.initial = initial
        self.saved: tuple[LowRankWeights, FloatArray] | None = None

    @rule(k=st.integers(0, 5), share=st.sampled_from([0.0, 0.05, 0.5]))
    def update(self, k: int, share: float) -> None:
        p, q = self.given.shape
        left, right = thin(k, p, self.rng, share), thin(k, q, self.rng, share)
        self.lazy.add(left, right)
        if k:
            self.eager.add(left.toarray(), right.toarray())

    @rule()
    def fold(self) -> None:
        self.lazy.fold()
        assert self.lazy.rank == 0

    @rule()
    def save(self) -> None:
        self.saved = self.lazy.copy(), self.eager.to_dense()

    @precondition(lambda self: self.saved is not None)
    @rule()
    def restore(self) -> None:
        assert self.saved is not None
        self.lazy, self.eager.matrix = self.saved[0].copy(), self.saved[1].copy()

    @invariant()
    def same_answers_and_untouched_start(self) -> None:
        """Ask after every move, for a rule of its own would seldom meet factors and a block that matter to it."""
        if hasattr(self, "lazy"):
            p, q = self.given.shape
            H, P = thin(3, q, self.rng, 0.3), thin(3, p, self.rng, 0.3)
            close(self.lazy.multiply(H), self.eager.multiply(H.toarray()))
            row_of = np.repeat(np.arange(3), np.diff(H.indptr))
            close(self.lazy.multiply_at(P, H), self.eager.multiply_transposed(P.toarray())[row_of, H.indices])
            columns = np.flatnonzero(self.rng.random(q) < 0.3)
            close(self.lazy.columns_at(columns), self.eager.matrix[:, columns])
            close(self.lazy.to_dense(), self.eager.matrix)
            np.testing.assert_array_equal(self.initial, self.given)
            assert self.lazy.budget is None or self.lazy.rank < self.lazy.budget


def close(mine: FloatArray, theirs: FloatArray) -> None:
    np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-11)


TestInterleaved = Interleaved.TestCase
TestInterleaved.settings = settings(max_examples=60, stateful_step_count=15, deadline=None)


@settings(deadline=None)
@given(generators, st.sampled_from(["F", "C", "strided"]))
def test_only_columns_and_entries_that_are_asked_for_are_read(rng: np.random.Generator, order: str) -> None:
    """Infinity everywhere else would be noticed: 0 times infinity is no number."""
    m, n = 200, 3
    H, P = thin(n, m, rng, 0.02), thin(n, m, rng, 0.02)
    W = np.full((m, m), np.inf)
    columns = np.unique(H.indices)
    W[:, columns] = rng.standard_normal((m, len(columns)))
    stored = np.array(W, order="F" if order == "F" else "C")
    if order == "strided":
        stored = np.repeat(W, 2, axis=1)[:, ::2]
    product = LowRankWeights(stored).multiply(H)
    close(product, H.toarray() @ np.where(np.isinf(W), 0, W).T)
    for i in range(n):
        W[:] = np.inf
        rows, wanted = P.indices[P.indptr[i] : P.indptr[i + 1]], H.indices[H.indptr[i] : H.indptr[i + 1]]
        W[np.ix_(rows, wanted)] = 1.0
        values = LowRankWeights(np.asfortranarray(W)).multiply_at(P[[i]], H[[i]])
        close(values, np.full(len(wanted), P.data[P.indptr[i] : P.indptr[i + 1]].sum()))


def test_counts_follow_the_arrays_that_were_processed() -> None:
    rng = np.random.default_rng(0)
    m, n, k = 300, 4, 6
    H, left, right = thin(n, m, rng), thin(k, m, rng), thin(k, m, rng)
    weights = LowRankWeights(np.asfortranarray(rng.standard_normal((m, m))))
    weights.multiply(H)
    assert weights.work == {"read": H.nnz * m, "factors": 0, "fold": 0}
    weights.multiply_at(H, H)
    squares = int((np.diff(H.indptr).astype(int) ** 2).sum())
    assert weights.work["read"] == H.nnz * m + squares
    weights.multiply(H)
    assert weights.work["read"] == 2 * H.nnz * m + squares
    weights.add(left, right)
    weights.multiply(H)
    overlap = int(np.count_nonzero((H.toarray() != 0).astype(int).sum(0) * (right.toarray() != 0).astype(int)))
    shared = int(((H.toarray() != 0).sum(0) * (right.toarray() != 0).sum(0)).sum())
    assert overlap <= shared
    assert weights.work["factors"] == shared + n * left.nnz
    weights.fold()
    rows, columns = len(np.unique(left.indices)), len(np.unique(right.indices))
    assert weights.work["fold"] == rectangular_product.multiplications(rows, k, columns)
    assert weights.block.shape == (rows, columns)
    weights.add(left, right)
    weights.fold()
    assert weights.work["fold"] == 2 * rectangular_product.multiplications(rows, k, columns)


@pytest.mark.parametrize("folded", [False, True])
def test_questions_see_what_was_added_and_count_it(folded: bool) -> None:
    """Each kind of question on its own: nothing but what was added, which lies where the questions look."""
    rng = np.random.default_rng(0)
    m, n, k = 300, 4, 6
    H, P, left, right = (thin(rows, m, rng, 0.05) for rows in (n, n, k, k))
    weights = LowRankWeights(np.zeros((m, m), order="F"))
    weights.add(left, right)
    if folded:
        weights.fold()
    W = left.toarray().T @ right.toarray()
    row_of = np.repeat(np.arange(n), np.diff(H.indptr))

    def shared(one: sparse.csr_array, other: sparse.csr_array) -> int:
        return int(((one.toarray() != 0).sum(0) * (other.toarray() != 0).sum(0)).sum())

    rows, columns = np.unique(left.indices), np.unique(right.indices)
    forward = np.isin(H.indices, columns).sum() * len(rows) if folded else shared(H, right) + n * left.nnz
    back = np.isin(P.indices, rows).sum() * len(columns) if folded else shared(P, left) + n * right.nnz
    close(weights.multiply(H), H.toarray() @ W.T)
    assert weights.work["factors"] == forward
    close(weights.multiply_at(P, H), (P.toarray() @ W)[row_of, H.indices])
    assert weights.work["factors"] == forward + back
    weights.multiply(H)
    assert weights.work["factors"] == 2 * forward + back
    assert np.abs((P.toarray() @ W)[row_of, H.indices]).max() > 1e-3
    some = np.arange(0, m, 2)
    close(weights.columns_at(some), W[:, some])


def test_vectors_with_many_entries_go_through_blas(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    W = np.asfortranarray(rng.standard_normal((50, 50)))
    full = sparse.csr_array(rng.standard_normal((2, 50)))
    monkeypatch.setattr(low_rank, "_times_columns", None)
    monkeypatch.setattr(low_rank, "_gather", None)
    weights = LowRankWeights(W)
    close(weights.multiply(full), full.toarray() @ W.T)
    close(weights.multiply_at(full, full), (full.toarray() @ W).ravel())
    assert weights.work["read"] == 4 * W.size


def test_weights_stored_by_rows_are_gathered_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    W, H = rng.standard_normal((23, 40)), thin(3, 40, rng, 0.1)
    monkeypatch.setattr(low_rank, "BLOCK_ENTRIES", 5 * len(np.unique(H.indices)))
    close(LowRankWeights(W).multiply(H), H.toarray() @ W.T)


def test_the_whole_matrix_is_read_only_when_that_costs_less() -> None:
    weights = LowRankWeights(np.eye(12))
    for takes_whole, one_in in ((weights.takes_whole, 6), (weights.takes_whole_back, 12)):
        entries = np.zeros((1, one_in))
        entries[0, 0] = 1.0
        assert not takes_whole(sparse.csr_array(entries))
        assert takes_whole(sparse.csr_array(entries[:, :-1]))


def test_a_budget_folds_when_the_rank_reaches_it() -> None:
    rng = np.random.default_rng(2)
    weights = LowRankWeights(np.zeros((40, 40)), budget=4)
    for folds, rank in [(0, 3), (1, 0), (1, 3)]:
        weights.add(thin(3 if rank else 1, 40, rng, 0.2), thin(3 if rank else 1, 40, rng, 0.2))
        assert (weights.folds, weights.rank) == (folds, rank)


def test_without_a_budget_factors_are_folded_when_questions_have_cost_as_much() -> None:
    rng = np.random.default_rng(5)
    left, right, H = (thin(rows, 60, rng, 0.1) for rows in (6, 6, 3))
    nothing = sparse.csr_array((0, 60))
    weights = LowRankWeights(np.zeros((60, 60), order="F"))
    assert weights.waited == 0
    weights.add(left, right)
    price = rectangular_product.multiplications(len(np.unique(left.indices)), 6, len(np.unique(right.indices)))
    asked = 0
    while weights.work["factors"] < price:
        assert weights.folds == 0
        weights.multiply(H)
        weights.multiply_at(H, H)
        weights.add(nothing, nothing)
        asked += 1
    assert asked > 3
    assert weights.folds == 1
    assert weights.waited == 0
    weights.add(left, right)
    for folds, waited in ((1, price - 1), (2, price)):
        weights.waited = waited
        weights.add(nothing, nothing)
        assert weights.folds == folds


def test_weights_are_relaid_only_when_they_must_be() -> None:
    W = np.random.default_rng(3).standard_normal((3, 4))
    by_rows = LowRankWeights(W)
    assert not by_rows.relaid
    by_rows.store_by_columns()
    assert by_rows.relaid
    assert by_rows.initial.flags.f_contiguous
    np.testing.assert_array_equal(by_rows.initial, W)
    by_columns = LowRankWeights(np.asfortranarray(W))
    given = by_columns.initial
    by_columns.store_by_columns()
    assert by_columns.initial is given
    assert not by_columns.relaid
    again = by_rows.restarted()
    assert again.initial is by_rows.initial
    assert not again.relaid
    assert again.work == dict.fromkeys(low_rank.PHASES, 0)
    assert again.waited == 0


def test_bad_input_is_refused() -> None:
    for budget in (0, -1, 1.5, 2.0, np.nan, np.inf, True, "3", np.True_, np.float64(2), [3]):
        words = re.escape(f"the rank budget is {budget!r}; pass a whole number, at least 1")
        with pytest.raises(InputError, match=words):
            LowRankWeights(np.eye(2), budget=budget)  # type: ignore[arg-type]
    assert LowRankWeights(np.eye(2), budget=np.int64(3)).budget == 3  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"pass \(k, 2\) and \(k, 3\)"):
        LowRankWeights(np.zeros((2, 3))).add(sparse.csr_array((1, 2)), sparse.csr_array((2, 3)))
