"""Planted faults of lazy weights: lost terms, halved counters, dear products, early and whole folds."""

from __future__ import annotations

from functools import partial

import numpy as np
from scipy import sparse

from fast.low_rank import LowRankWeights
from reference.notation import FloatArray, IntArray
from verify.faults.deep_routines import LosesFactor, few, train_on
from verify.faults.fault import Fault


class HalvedReads(LowRankWeights):
    """Counts half of the entries of ``W(0)`` that products forward read."""

    def multiply(self, H: sparse.csr_array) -> FloatArray:
        """Multiply, and report half."""
        before = self.work["read"]
        answer = super().multiply(H)
        self.work["read"] = before + (self.work["read"] - before) // 2
        return answer


class StaleColumns(LowRankWeights):
    """Writes columns out as they were at the start."""

    def columns_at(self, columns: object) -> FloatArray:
        """Forget factors and block."""
        stale: FloatArray = self.initial[:, columns]  # type: ignore[index]
        return stale


class WritesNaN(LowRankWeights):
    """Writes NaN in the place of all weights; products stay right."""

    def to_dense(self) -> FloatArray:
        """Write no number."""
        return np.full_like(super().to_dense(), np.nan)


class DenseFactors(LowRankWeights):
    """Multiplies by the factors as if they had no zeros."""

    def added(self, H: sparse.csr_array) -> tuple[IntArray, FloatArray]:
        """Count the products with dense factors."""
        before, block = self.work["factors"], H[:, self.columns].nnz * len(self.rows)
        answer = super().added(H)
        self.work["factors"] = before + block + H.shape[0] * self.rank * sum(self.initial.shape)
        return answer


class WholeFolds(LowRankWeights):
    """Folds into all rows and columns, touched or not."""

    def fold(self) -> None:
        """Count the product of whole factors."""
        before, rank = self.work["fold"], self.rank
        super().fold()
        self.work["fold"] = before + rank * self.initial.size


class EagerFolds(LowRankWeights):
    """Folds after every update, unless told otherwise."""

    def set_budget(self, budget: int | None) -> None:
        """Take 1 for the default."""
        super().set_budget(1 if budget is None else budget)


FAULTS: tuple[Fault, ...] = (
    Fault(
        "folded-factor-lost",
        "Every fold loses one rank-one term.",
        "value",
        {
            "low_rank.lazy": "fails",
            "deep_equality.cholesky": "fails",
            "deep_equality.sketch": "fails",
            "deep_equality.resumed": "fails",
        },
        {"low_rank": LosesFactor, "deep_train": partial(train_on, LosesFactor)},
        only=partial(few, 2),
    ),
    Fault(
        "stale-columns",
        "Columns of lazy weights are written out as they were before any update.",
        "value",
        {"low_rank.lazy": "fails"},
        {"low_rank": StaleColumns},
        only=partial(few, 2),
    ),
    Fault(
        "writes-nan",
        "Lazy weights are written out as NaN, while all products are right.",
        "value",
        {"low_rank.lazy": "fails"},
        {"low_rank": WritesNaN},
        only=partial(few, 2),
    ),
    Fault(
        "halved-read-counter",
        "Products forward report half of the entries of W(0) that they read.",
        "cost",
        {"low_rank.rank": "fails"},
        {"low_rank": HalvedReads},
        only=partial(few, 2),
    ),
    Fault(
        "dense-factors",
        "Waiting terms are multiplied as dense vectors, so that waiting costs more than it should.",
        "cost",
        {"low_rank.crossing": "fails", "low_rank.rank": "fails"},
        {"low_rank": DenseFactors},
        only=partial(few, 2),
    ),
    Fault(
        "whole-folds",
        "A fold multiplies all rows by all columns, although few are touched.",
        "cost",
        {"low_rank.fold": "fails", "low_rank.rank": "fails"},
        {"low_rank": WholeFolds},
        only=partial(few, 2),
    ),
    Fault(
        "eager-folds",
        "By default factors are folded after every update, without waiting until that pays.",
        "cost",
        {"low_rank.short": "fails", "low_rank.waiting": "fails"},
        {"low_rank": EagerFolds},
        only=partial(few, 2),
    ),
)
"""Each claim of `verify.claims.low_rank` is flipped by one of them at least."""
