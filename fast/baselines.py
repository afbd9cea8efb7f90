"""The opponents: Gauss-Newton over all neurons as fast as NumPy allows, compacted Gauss-Newton, gradient descent.

All three are exact and keep their weights dense. An iteration reads every neuron that it was given::

    scan      U = X W^T in blocks that stay in cache; the pairs that fire           n m d
    solve     G g = f - y with G = (X X^T) o C / m                                  as in `fast.gram`
    step      only the rows of W that fire are written                              |pairs| d

*Dense* keeps all ``m`` neurons. *Compacted* drops those that fire on no data point once, at the start, and is as
exact: such a neuron has zero gradient, so it never moves, so it never fires (ours). Compacted is the honest opponent of
every sublinear method: ten lines, no tree, and the cost per iteration already falls to ``n d`` times the number of
neurons that fire somewhere.

When more than one pair in sixteen fires, lists of pairs cost more than they save, and the scan keeps the pattern as a
dense 0/1 array instead: counts by float32 BLAS (exact below 2^24), predictions and step by float64 BLAS.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from fast.gram import shared_counts
from fast.jacobian import FiredJacobian
from fast.regression import solve_cholesky
from fast.two_layer import BLOCK_ENTRIES, fired_pairs, predict_from_fired
from reference.notation import (
    BoolArray,
    FloatArray,
    InputError,
    IntArray,
    breakdown_explained,
    check_data,
    check_every_point_fires,
    check_labels,
    check_points,
    check_residual,
    check_run,
    unfinished,
)
from reference.trace import Trace
from reference.two_layer import TwoLayerNetwork

Solve = Callable[[FloatArray, FloatArray], FloatArray]
DENSE_AT = 1 / 16
"""Share of pairs above which the pattern is kept dense."""


def train_dense(
    network: TwoLayerNetwork, X: ArrayLike, y: ArrayLike, *, iterations: int, tolerance: float = 0.0
) -> Trace[TwoLayerNetwork]:
    """Train by Gauss-Newton over all neurons: the strongest dense loop that NumPy allows.

    Parameters
    ----------
    network : TwoLayerNetwork
        Where to start. Not modified.
    X : array_like (n, d)
        Unit rows, no two equal or opposite. Not modified.
    y : array_like (n,)
        Labels. Not modified.
    iterations : int
        At most this many steps.
    tolerance : float
        Stop as soon as the residual is at most this multiple of the initial one; 0 takes all steps.

    Returns
    -------
    Trace
        ``counts`` holds ``scan``, ``gram``, ``solve`` and ``step`` (multiply-adds) and ``active_pairs``.

    Raises
    ------
    InputError, NothingFiresError, SingularGramError, DivergenceError
        As for `fast.gauss_newton.train`.

    Examples
    --------
    >>> from reference.two_layer import initialize, shift_for
    >>> network = initialize(2000, 3, shift=shift_for(2000, 0.1), rng=np.random.default_rng(0))
    >>> train_dense(network, np.eye(3), [1.0, -1.0, 1.0], iterations=8, tolerance=1e-12).converged
    True
    """
    check_run(iterations, tolerance)
    run = DenseRun(network, X, y)
    return run.run(iterations, tolerance)


def train_compacted(
    network: TwoLayerNetwork, X: ArrayLike, y: ArrayLike, *, iterations: int, tolerance: float = 0.0
) -> Trace[TwoLayerNetwork]:
    """Train by Gauss-Newton over the neurons that fire somewhere at the start; the others never move.

    Parameters
    ----------
    network, X, y, iterations, tolerance
        As for `train_dense`.

    Returns
    -------
    Trace
        As for `train_dense`; ``preparation_counts`` holds the one ``scan`` over all neurons.

    Raises
    ------
    InputError, NothingFiresError, SingularGramError, DivergenceError
        As for `fast.gauss_newton.train`.

    Examples
    --------
    >>> from reference.two_layer import initialize, shift_for
    >>> network = initialize(2000, 3, shift=shift_for(2000, 0.1), rng=np.random.default_rng(0))
    >>> train_compacted(network, np.eye(3), [1.0, -1.0, 1.0], iterations=8, tolerance=1e-12).converged
    True
    """
    check_run(iterations, tolerance)
    run = DenseRun(network, X, y, compact=True)
    return run.run(iterations, tolerance)


def train_gradient_descent(
    network: TwoLayerNetwork,
    X: ArrayLike,
    y: ArrayLike,
    *,
    iterations: int,
    tolerance: float = 0.0,
    learning_rate: float | None = None,
) -> Trace[TwoLayerNetwork]:
    """Train by gradient descent on ``1/2 ||f - y||^2`` over the neurons that fire somewhere at the start.

    Parameters
    ----------
    network, X, y, iterations, tolerance
        As for `train_dense`.
    learning_rate : float, optional
        Step length; by default the best constant one for the Gram matrix ``G`` at the start,
        ``2 / (lambda_max(G) + lambda_min(G))``.

    Returns
    -------
    Trace
        As for `train_compacted`.

    Raises
    ------
    InputError, NothingFiresError, DivergenceError
        As for `fast.gauss_newton.train`.
    """
    check_run(iterations, tolerance)
    run = DenseRun(network, X, y, compact=True)
    if learning_rate is None:
        check_every_point_fires(run.fired_per_point)
        eigenvalues = np.linalg.eigvalsh(run.gram()[0])
        learning_rate = float(2 / (eigenvalues[-1] + eigenvalues[0]))
    elif not (np.isfinite(learning_rate) and learning_rate > 0):
        raise InputError(f"learning_rate is {learning_rate}; pass a positive number")
    rate = learning_rate
    run.solve = lambda G, residual: rate * residual
    return run.run(iterations, tolerance)


class DenseRun:
    """A dense training run in progress: one `iterate` per step.

    Parameters
    ----------
    network, X, y
        As for `train_dense`.
    compact : bool
        Whether to drop the neurons that fire nowhere at the start.
    """

    def __init__(
        self, network: TwoLayerNetwork, X: ArrayLike, y: ArrayLike, *, compact: bool = False
    ) -> None:
        self.initial = network.to_dense()
        self.X = check_points(check_data(X), self.initial.dim)
        self.y = check_labels(y, len(self.X))
        self.inner_products = self.X @ self.X.T
        self.solve: Solve = solve_cholesky
        self.preparation_counts: dict[str, int] = {}
        self.kept: IntArray | slice = slice(None)
        self.weights = self.initial.weights
        if compact:
            fired, _ = fired_pairs(self.weights, self.X, self.initial.shift)
            self.kept = np.unique(fired.neuron_index)
            self.preparation_counts = {"scan": len(self.X) * self.weights.size}
        self.weights = np.array(self.weights[self.kept], order="C")
        self.signs = self.initial.signs[self.kept]
        self.counts: list[dict[str, int]] = []
        self.residual_norms: list[float] = []
        self.dense_pattern: BoolArray | None = None
        self._scan()
        if len(self.fired) > DENSE_AT * len(self.X) * len(self.weights):
            self.residual_norms.clear()
            self.dense_pattern = np.empty((len(self.X), len(self.weights)), dtype=np.bool_)
            self._scan()
        check_residual(self.residual_norms, self.y)

    def run(self, iterations: int, tolerance: float) -> Trace[TwoLayerNetwork]:
        """Iterate until the tolerance or the number of iterations is reached."""
        while unfinished(self.residual_norms, iterations, tolerance):
            self.iterate()
        weights = self.weights
        if self.preparation_counts:
            weights = self.initial.weights.copy()
            weights[self.kept] = self.weights
        return Trace(
            TwoLayerNetwork(weights, self.initial.signs, self.initial.shift),
            np.array(self.residual_norms),
            self.residual + self.y,
            self.residual_norms[-1] <= tolerance * self.residual_norms[0],
            self.counts,
            self.preparation_counts,
        )

    def iterate(self) -> None:
        """Take one step."""
        with breakdown_explained(self.residual_norms):
            check_every_point_fires(self.fired_per_point)
            G, gram_work = self.gram()
            g = self.solve(G, self.residual)
        counts = {"gram": gram_work, "solve": len(g) ** 3 // 3, "step": self._step(g), "scan": self._scan()}
        self.counts.append(counts | {"active_pairs": int(self.fired_per_point.sum())})
        check_residual(self.residual_norms, self.y)

    def gram(self) -> tuple[FloatArray, int]:
        """Compute ``G`` from the last scan, and count the multiply-adds."""
        if self.dense_pattern is None:
            self.jacobian = FiredJacobian(self.X, self.fired, self.signs[self.fired.neuron_index])
            shared, work = shared_counts(self.jacobian)
        else:
            shared = np.zeros_like(self.inner_products)
            for block in self._blocks():
                pattern = self.dense_pattern[:, block].astype(np.float32)
                shared += pattern @ pattern.T
            work = len(shared) * self.dense_pattern.size
        return self.inner_products * shared / self.initial.width, work

    def _scan(self) -> int:
        """Read every neuron: which pairs fire, the predictions, the residual."""
        shift, width = self.initial.shift, self.initial.width
        if self.dense_pattern is None:
            fired, scores = fired_pairs(self.weights, self.X, shift)
            self.fired = replace(fired, width=width)
            self.fired_per_point = fired.per_point()
            predictions = predict_from_fired(self.fired, scores, self.signs[fired.neuron_index], shift)
        else:
            total = np.zeros(len(self.X))
            for block in self._blocks():
                above = self.X @ self.weights[block].T - shift
                np.greater_equal(above, 0, out=self.dense_pattern[:, block])
                total += np.maximum(above, 0, out=above) @ self.signs[block]
            self.fired_per_point = np.count_nonzero(self.dense_pattern, axis=1)
            predictions = total / np.sqrt(width)
        self.residual = predictions - self.y
        self.residual_norms.append(float(np.linalg.norm(self.residual)))
        return len(self.X) * self.weights.size

    def _step(self, g: FloatArray) -> int:
        """Move the weights of the neurons that fire: ``w_r <- w_r - m^(-1/2) a_r sum_i g_i x_i``."""
        if self.dense_pattern is None:
            self.weights[self.jacobian.neurons] -= self.jacobian.rmatvec(g)
            return len(self.fired) * self.initial.dim
        moves = g[:, np.newaxis] * self.X / np.sqrt(self.initial.width)
        for block in self._blocks():
            pattern = self.dense_pattern[:, block].T.astype(np.float64)
            self.weights[block] -= self.signs[block, np.newaxis] * (pattern @ moves)
        return self.dense_pattern.size * self.initial.dim

    def _blocks(self) -> Iterator[slice]:
        """Cut the neurons into blocks whose pre-activations stay in cache."""
        rows = max(1, BLOCK_ENTRIES // len(self.X))
        return (slice(start, start + rows) for start in range(0, len(self.weights), rows))
