"""Weights under low-rank updates: products, an update and a fold, beside the same with the matrix written out.

The matrix has ``m^2`` entries, so the width is its own and not BENCHMARK_WIDTH.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture
from scipy import sparse

from fast.low_rank import LowRankWeights
from reference.low_rank import EagerWeights
from reference.notation import FloatArray
from verify.seeds import generator
from verify.tolerances import matrix_product

Beside = Callable[..., None]
M, N, RANK, FIRED = 1024, 64, 128, 0.035
ROUNDS = 10


@dataclass(frozen=True, eq=False)
class Question:
    """A matrix with some updates, and sparse vectors with which to ask."""

    initial: FloatArray
    left: sparse.csr_array
    right: sparse.csr_array
    H: sparse.csr_array
    P: sparse.csr_array

    def lazy(self) -> LowRankWeights:
        weights = LowRankWeights(self.initial)
        weights.add(self.left, self.right)
        return weights

    def eager(self) -> EagerWeights:
        weights = EagerWeights(self.initial)
        weights.add(self.left.toarray(), self.right.toarray())
        return weights


@pytest.fixture(scope="module", params=[M], ids="m={}".format)
def question(request: pytest.FixtureRequest) -> Question:
    m = int(request.param)
    rng = generator(0, "benchmark low rank", m)

    def thin(rows: int) -> sparse.csr_array:
        return sparse.csr_array(rng.standard_normal((rows, m)) * (rng.random((rows, m)) < FIRED))

    initial = np.asfortranarray(rng.standard_normal((m, m)))
    return Question(initial, thin(RANK), thin(RANK), thin(N), thin(N))


def assert_equal(mine: FloatArray, theirs: FloatArray) -> None:
    np.testing.assert_allclose(mine, theirs, atol=matrix_product(M, M * float(abs(theirs).max())))


def store(benchmark: BenchmarkFixture, weights: LowRankWeights | None, question: Question) -> None:
    work = {} if weights is None else weights.work
    benchmark.extra_info.update(m=len(question.initial), n=N, rank=RANK, **work)


def ask(weights: LowRankWeights | EagerWeights, question: Question, dense: FloatArray) -> FloatArray:
    product: FloatArray = (
        weights.multiply(question.H) if isinstance(weights, LowRankWeights) else weights.multiply(dense)
    )
    return product


@pytest.mark.benchmark(group="low rank, W h")
@pytest.mark.parametrize("kind", ["factors", "folded", "dense"])
def test_multiply(benchmark: BenchmarkFixture, beside: Beside, question: Question, kind: str) -> None:
    dense, lazy, eager = question.H.toarray(), question.lazy(), question.eager()
    if kind == "folded":
        lazy.fold()
    product = benchmark(ask, eager if kind == "dense" else lazy, question, dense)
    assert_equal(product, dense @ eager.to_dense().T)
    fresh = question.lazy()
    if kind == "folded":
        fresh.fold()
    fresh.multiply(question.H)
    store(benchmark, None if kind == "dense" else fresh, question)
    weights = {"dense": eager, kind: eager if kind == "dense" else lazy}
    beside(kind, ["dense"], lambda name: partial(ask, weights[name], question, dense), repeated=True)


@pytest.mark.benchmark(group="low rank, W^T p at a pattern")
@pytest.mark.parametrize("kind", ["factors", "folded", "dense"])
def test_multiply_at(benchmark: BenchmarkFixture, beside: Beside, question: Question, kind: str) -> None:
    dense, lazy, eager = question.P.toarray(), question.lazy(), question.eager()
    row_of = np.repeat(np.arange(N), np.diff(question.H.indptr))
    if kind == "folded":
        lazy.fold()

    def route(name: str) -> Callable[[], FloatArray]:
        if name == "dense":
            return lambda: eager.multiply_transposed(dense)[row_of, question.H.indices]
        return lambda: lazy.multiply_at(question.P, question.H)

    values = benchmark(route(kind))
    assert_equal(values, (dense @ eager.to_dense())[row_of, question.H.indices])
    fresh = question.lazy()
    if kind == "folded":
        fresh.fold()
    fresh.multiply_at(question.P, question.H)
    store(benchmark, None if kind == "dense" else fresh, question)
    beside(kind, ["dense"], route, repeated=True)


@pytest.mark.benchmark(group="low rank, update")
@pytest.mark.parametrize("kind", ["lazy", "lazy and folded", "dense"])
def test_update(benchmark: BenchmarkFixture, beside: Beside, question: Question, kind: str) -> None:
    left, right = question.left.toarray(), question.right.toarray()

    def update(weights: LowRankWeights | EagerWeights) -> LowRankWeights | EagerWeights:
        if isinstance(weights, EagerWeights):
            weights.add(left, right)
            return weights
        weights.add(question.left, question.right)
        if kind == "lazy and folded":
            weights.fold()
        return weights

    def fresh(name: str) -> LowRankWeights | EagerWeights:
        return EagerWeights(question.initial) if name == "dense" else LowRankWeights(question.initial)

    setup = lambda: ((fresh(kind),), {})  # noqa: E731
    weights = benchmark.pedantic(update, setup=setup, rounds=ROUNDS, warmup_rounds=1)
    assert_equal(weights.to_dense(), question.initial + left.T @ right)
    store(benchmark, weights if isinstance(weights, LowRankWeights) else None, question)
    beside(kind, ["dense"], lambda name: partial(update, fresh(name)))
