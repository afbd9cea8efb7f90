"""Planted faults that `verify.claims.solve_time` must catch: right answers, and an ``n^3`` that nobody counts."""

from __future__ import annotations

from typing import Any

from scipy import linalg

from fast.gauss_newton import EventRun
from fast.multi_layer import TensorJacobian
from fast.multi_layer_gauss_newton import MultiLayerRun
from fast.regression import WarmCholesky, cholesky_factor, solve_conjugate
from reference.notation import FloatArray
from reference.regression import Solution
from verify.faults.fault import Fault


def conjugate_after_eigenvalues(G: FloatArray, rhs: FloatArray) -> Solution:
    """Solve by conjugate gradients, and look at the eigenvalues first."""
    linalg.eigvalsh(G)
    return solve_conjugate(G, rhs)


class FactorsBesides(WarmCholesky):
    """Makes a factor in every solve and drops it."""

    def solve(self, G: FloatArray, rhs: FloatArray) -> FloatArray:
        """Solve; see `WarmCholesky.solve`."""
        cholesky_factor(G)
        return super().solve(G, rhs)


class EventsFactorBesides(EventRun):
    """A two-layer run that solves so."""

    def __init__(self, *given: Any, **options: Any) -> None:  # noqa: ANN401
        super().__init__(*given, **options)
        self.warm = FactorsBesides()


class DeepFactorsBesides(MultiLayerRun):
    """A run of many layers that makes one more factor in every solve."""

    def _solve(self) -> FloatArray:
        linalg.cholesky(self._gram())
        return super()._solve()


class DenseGram(TensorJacobian):
    """Writes its factors out to multiply them, and says nothing of it."""

    @property
    def gram(self) -> FloatArray:
        """``G`` (n, n)."""
        ((P, H),) = ([M.toarray() for M in pair] for pair in self.factors)
        product: FloatArray = (P @ P.T) * (H @ H.T)
        return product


FAULTS = (
    Fault(
        "conjugate-looks-at-eigenvalues",
        "Conjugate gradients compute all eigenvalues of G first, and do not count it.",
        "cost",
        {"solve_time.conjugate": "fails"},
        {"solve_conjugate": conjugate_after_eigenvalues},
    ),
    Fault(
        "a-factor-in-every-solve",
        "A solve with an old factor makes a new one besides, which is not counted; so does one in a run.",
        "cost",
        {"solve_time.rest": "fails", "solve_time.two_layer": "fails", "solve_time.deep": "fails"},
        {"warm_cholesky": FactorsBesides, "start_events": EventsFactorBesides, "start_deep": DeepFactorsBesides},
    ),
    Fault(
        "dense-gram",
        "The Gram matrix over a layer is formed from dense factors.",
        "cost",
        {"solve_time.gram": "fails"},
        {"tensor_jacobian": DenseGram},
    ),
)
"""Each claim of `verify.claims.solve_time` is flipped by one."""
