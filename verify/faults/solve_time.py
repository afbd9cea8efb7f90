"""Planted faults that `verify.claims.solve_time` must catch: right answers, and work that nobody counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import linalg

from fast.gauss_newton import EventRun, TreeRun, TreeTrial
from fast.multi_layer import TensorJacobian
from fast.multi_layer_gauss_newton import MultiLayerRun
from fast.output_layer import JointPairs, JointRun, JointTrial
from fast.rectangular_product import LEAF, multiply
from fast.regression import WarmCholesky, cholesky_factor, solve_conjugate
from fast.watched_pairs import Trial, WatchedPairs
from reference.notation import FloatArray
from reference.regression import Solution
from verify.faults.fault import Fault


def conjugate_after_eigenvalues(G: FloatArray, rhs: FloatArray) -> Solution:
    """Solve by conjugate gradients, and look at the eigenvalues first."""
    linalg.eigvalsh(G)
    return solve_conjugate(G, rhs)


class EigenvaluesFirst(WarmCholesky):
    """Looks at the eigenvalues before the first factor."""

    def solve(self, G: FloatArray, rhs: FloatArray) -> FloatArray:
        """Solve; see `WarmCholesky.solve`."""
        if self._factor is None:
            linalg.eigvalsh(G)
        return super().solve(G, rhs)


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


class PairsFactorBesides(WatchedPairs):
    """Makes a factor on every trial and drops it."""

    def try_step(self, g: FloatArray) -> Trial:
        """Try a step; see `WatchedPairs.try_step`."""
        linalg.cholesky(self.gram())
        return super().try_step(g)


class EventsFactorOnTrial(EventRun):
    """A two-layer run that does so."""

    watch = PairsFactorBesides


class DensePairs(JointPairs):
    """Computes all excesses of all neurons on every trial and drops them."""

    def try_step(self, g: FloatArray) -> JointTrial:
        """Try a step; see `JointPairs.try_step`."""
        self._dense_coefficients(np.arange(len(self.neurons)), g) @ self.inner_products
        return super().try_step(g)


class JointDense(JointRun):
    """A run of both layers that does so."""

    watch = DensePairs


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


class SortedTrees(TreeRun):
    """Sorts the scores of every tree when it starts."""

    def __init__(self, *given: Any, **options: Any) -> None:  # noqa: ANN401
        super().__init__(*given, **options)
        np.sort(self.forest.levels[0].reshape(self.forest.n, -1), axis=1)


class TreesByInputs(TreeRun):
    """Computes what a step adds to scores from the inputs, too."""

    def _try(self, g: FloatArray) -> TreeTrial:
        (self.jacobian.factors.T @ (g[:, np.newaxis] * self.X)) @ self.X.T
        return super()._try(g)


def multiply_besides(
    A: FloatArray, B: FloatArray, *, leaf: int = LEAF, product: Callable[..., Any] = np.matmul
) -> FloatArray:
    """Multiply once more, without the product that is counted."""
    A @ B
    return multiply(A, B, leaf=leaf, product=product)


FAULTS = (
    Fault(
        "conjugate-looks-at-eigenvalues",
        "Conjugate gradients compute all eigenvalues of G first, and do not count it.",
        "cost",
        {"solve_time.conjugate": "fails"},
        {"solve_conjugate": conjugate_after_eigenvalues},
    ),
    Fault(
        "eigenvalues-before-the-first-factor",
        "A solve that makes a factor to keep computes all eigenvalues of G first, and does not count it.",
        "cost",
        {"solve_time.first": "fails"},
        {"warm_cholesky": EigenvaluesFirst},
    ),
    Fault(
        "a-factor-in-every-solve",
        "A solve with an old factor makes a new one besides, which is not counted; so does one in a run.",
        "cost",
        {"solve_time.rest": "fails", "solve_time.two_layer": "fails", "solve_time.deep": "fails"},
        {"warm_cholesky": FactorsBesides, "start_events": EventsFactorBesides, "start_deep": DeepFactorsBesides},
    ),
    Fault(
        "a-factor-on-every-trial",
        "A step on trial makes a factor, which is not counted.",
        "cost",
        {"solve_time.two_layer": "fails"},
        {"start_events": EventsFactorOnTrial},
    ),
    Fault(
        "dense-excesses",
        "Where both layers are trained, a step on trial computes the excesses of all neurons on all points besides.",
        "cost",
        {"solve_time.joint": "fails"},
        {"start_joint": JointDense},
    ),
    Fault(
        "sorted-trees",
        "The start on trees sorts all scores, which is not counted.",
        "cost",
        {"solve_time.start": "fails"},
        {"start": SortedTrees},
    ),
    Fault(
        "trees-by-inputs",
        "A step on trial multiplies with the inputs, which is not counted, and drops the result.",
        "cost",
        {"solve_time.inputs": "fails"},
        {"start": TreesByInputs},
    ),
    Fault(
        "multiply-besides",
        "The fast product multiplies once more by BLAS, and drops the result.",
        "cost",
        {"solve_time.product": "fails"},
        {"rectangular_product": multiply_besides},
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
