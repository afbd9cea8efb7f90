"""First-order opponents: gradient descent with momentum, in full or in batches, Adam, and L-BFGS.

Mathematics. All minimize the loss ``1/2 ||f - y||^2`` ([A], Definition 2.4) by its gradient ``J^T (f - y)``. With ``v``
and ``s`` running means of gradients and of their squares, and an epoch of batches as one iteration::

    momentum   v <- mu v - eta J_B^T (f_B - y_B),    W <- W + v             mu = 0: (stochastic) gradient descent
    Adam       W <- W - eta v / (sqrt(s) + eps),     v and s bias-corrected
    L-BFGS     line searches along -H J^T (f - y),   H from the last ``memory`` steps and changes of the gradient

Whatever fires on no data point at the start has zero gradient, so none of them ever moves it: its momentum and its
Adam moments stay 0, and so do its entries in all vectors that L-BFGS combines. With ``compact=True`` such neurons are
dropped once, as in `fast.baselines`; the iterates are the same.

How a gradient is computed. Scores of all neurons kept, ``n u d`` multiply-adds; then only the pairs that fire enter the
residual and, as a sparse matrix of ``|pairs|`` entries, the gradient. Timed against dense products and against blocks
that stay in cache: as fast where few neurons are kept, two to four times faster where many are.

Sources: Polyak (1964) for momentum; Kingma and Ba (ICLR 2015); Liu and Nocedal (1989), in SciPy's implementation.
Cost per iteration: ``n u d + |pairs| d``, once for each evaluation that a line search makes; and for combining vectors
of ``u d`` entries, ``2 u d`` with momentum (``u d`` without), ``6 u d`` in Adam, about ``4 q u d`` in L-BFGS, which
remembers ``q`` steps.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, sparse

from fast.two_layer import fired_pairs
from reference.notation import (
    FloatArray,
    InputError,
    IntArray,
    check_data,
    check_every_point_fires,
    check_generator,
    check_labels,
    check_points,
    check_residual,
    check_run,
    unfinished,
)
from reference.trace import Trace
from reference.two_layer import TwoLayerNetwork

PHASES = ("scan", "step", "combine")
EPSILON = 1e-12
"""Adam's guard against division by 0; far below any gradient before convergence."""


class Loss:
    """The loss over the neurons that are kept, with its gradient, and what evaluating them cost.

    Parameters
    ----------
    network : TwoLayerNetwork
        Where to start. Not modified.
    X : array_like (n, d)
        Unit rows, no two equal or opposite.
    y : array_like (n,)
        Labels.
    compact : bool
        Whether to drop the neurons that fire on no data point.

    Attributes
    ----------
    start, start_gradient : ndarray (u, d)
        Initial weights of the neurons kept, and the gradient there.
    residual_norms : list of float
        Residual at the start, and whatever `note` added.
    work : dict
        Multiply-adds since the last `note`: ``scan``, ``step`` and ``combine``.
    """

    def __init__(self, network: TwoLayerNetwork, X: ArrayLike, y: ArrayLike, *, compact: bool) -> None:
        self.initial = network.to_dense()
        self.X = check_points(check_data(X), self.initial.dim)
        self.y = check_labels(y, len(self.X))
        fired, _ = fired_pairs(self.initial.weights, self.X, self.initial.shift)
        self.fired_per_point = fired.per_point()
        check_every_point_fires(self.fired_per_point)
        self.preparation_counts = {"scan": len(self.X) * self.initial.weights.size}
        self.kept: IntArray = np.unique(fired.neuron_index) if compact else np.arange(self.initial.width)
        self.start = self.initial.weights[self.kept]
        self.factors = self.initial.signs[self.kept] / math.sqrt(self.initial.width)
        self.work = dict.fromkeys(PHASES, 0)
        self.counts: list[dict[str, int]] = []
        residual, self.start_gradient = self.evaluate(self.start)
        self.residual_norms = [float(np.linalg.norm(residual))]
        check_residual(self.residual_norms, self.y)
        self.work = dict.fromkeys(PHASES, 0)

    def evaluate(self, weights: FloatArray, batch: IntArray | None = None) -> tuple[FloatArray, FloatArray]:
        """Compute the residual on a batch (all points by default), and the gradient (u, d) that it gives."""
        X, y = (self.X, self.y) if batch is None else (self.X[batch], self.y[batch])
        scores = weights @ X.T
        reached = np.flatnonzero(scores >= self.initial.shift)
        row, point = np.divmod(reached, len(X))
        factor = self.factors[row]
        above = (scores.ravel()[reached] - self.initial.shift) * factor
        residual: FloatArray = np.bincount(point, weights=above, minlength=len(X)) - y
        starts = np.searchsorted(row, np.arange(len(weights) + 1))
        gradient: FloatArray = sparse.csr_array((factor * residual[point], point, starts), shape=scores.shape) @ X
        self.work["scan"] += scores.size * X.shape[1]
        self.work["step"] += len(reached) * X.shape[1]
        return residual, gradient

    def norm(self, weights: FloatArray) -> float:
        """Compute the residual norm on all points; not counted."""
        work = dict(self.work)
        residual, _ = self.evaluate(weights)
        self.work = work
        return float(np.linalg.norm(residual))

    def note(self, norm: float) -> None:
        """Close an iteration that ended at this residual norm.

        Raises
        ------
        DivergenceError
            The residual grew out of bounds.
        """
        self.counts.append(self.work)
        self.work = dict.fromkeys(PHASES, 0)
        self.residual_norms.append(norm)
        check_residual(self.residual_norms, self.y)

    def trace(self, weights: FloatArray, tolerance: float) -> Trace[TwoLayerNetwork]:
        """Return the run so far, which ended at these weights."""
        residual, _ = self.evaluate(weights)
        full = self.initial.weights.copy()
        full[self.kept] = weights
        return Trace(
            TwoLayerNetwork(full, self.initial.signs, self.initial.shift),
            np.array(self.residual_norms),
            residual + self.y,
            self.residual_norms[-1] <= tolerance * self.residual_norms[0],
            self.counts,
            self.preparation_counts,
        )


def natural_rate(network: TwoLayerNetwork, X: ArrayLike) -> float:
    """Return the learning rate that fits a data point alone in one step: ``1 / mean(G_ii)``, the mean over points.

    Parameters
    ----------
    network : TwoLayerNetwork
        Width ``m``.
    X : array_like (n, d)
        Unit rows.

    Returns
    -------
    float

    Raises
    ------
    InputError, NothingFiresError
        As for `train_momentum`.

    Examples
    --------
    >>> natural_rate(TwoLayerNetwork([[2.0, 0.0], [0.0, 2.0]], [1, 1], 1.0), np.eye(2))
    2.0
    """
    points = check_points(check_data(X), network.dim)
    fired, _ = fired_pairs(network.weights, points, network.shift)
    check_every_point_fires(fired.per_point())
    return float(network.width / fired.per_point().mean())


def train_momentum(
    network: TwoLayerNetwork,
    X: ArrayLike,
    y: ArrayLike,
    *,
    iterations: int,
    learning_rate: float,
    momentum: float = 0.0,
    batch: int | None = None,
    rng: np.random.Generator | None = None,
    tolerance: float = 0.0,
    compact: bool = True,
) -> Trace[TwoLayerNetwork]:
    """Train by gradient descent with momentum; with ``batch``, by stochastic gradient descent.

    Parameters
    ----------
    network : TwoLayerNetwork
        Where to start. Not modified.
    X : array_like (n, d)
        Unit rows, no two equal or opposite. Not modified.
    y : array_like (n,)
        Labels. Not modified.
    iterations : int
        At most this many; with ``batch`` one is an epoch, a pass over all points in a new order.
    learning_rate : float
        ``eta``; see `natural_rate` for its size.
    momentum : float
        ``mu``, in [0, 1).
    batch : int, optional
        Points in a batch; all by default.
    rng : numpy.random.Generator
        Source of the order; required with ``batch`` and not used otherwise.
    tolerance : float
        Stop as soon as the residual is at most this multiple of the initial one; 0 takes all iterations.
    compact : bool
        Whether to drop the neurons that fire nowhere at the start.

    Returns
    -------
    Trace
        ``counts`` holds ``scan``, ``step`` and ``combine`` (multiply-adds). The residual after an epoch is not charged
        for.

    Raises
    ------
    InputError
        Bad arguments; see `reference.notation.check_data`.
    NothingFiresError
        A data point on which no neuron fires at the start.
    DivergenceError
        The residual grew out of bounds.

    Examples
    --------
    >>> from reference.two_layer import initialize, shift_for
    >>> network = initialize(2000, 3, shift=shift_for(2000, 0.1), rng=np.random.default_rng(0))
    >>> y, rate = [1.0, -1.0, 1.0], natural_rate(network, np.eye(3))
    >>> train_momentum(network, np.eye(3), y, iterations=40, learning_rate=rate, tolerance=1e-6).converged
    True
    """
    check_run(iterations, tolerance)
    _check_positive("learning_rate", learning_rate)
    if not 0 <= momentum < 1:
        raise InputError(f"momentum is {momentum}; pass a number in [0, 1)")
    loss = Loss(network, X, y, compact=compact)
    n = len(loss.X)
    if batch is not None and not 1 <= batch <= n:
        raise InputError(f"batch is {batch} but there are {n} points; pass 1 to {n}")
    weights, gradient = loss.start.copy(), loss.start_gradient
    velocity = np.zeros_like(weights)
    per_step = (2 if momentum else 1) * weights.size
    while unfinished(loss.residual_norms, iterations, tolerance):
        if batch is None:
            velocity = momentum * velocity - learning_rate * gradient
            weights += velocity
            loss.work["combine"] += per_step
            residual, gradient = loss.evaluate(weights)
            loss.note(float(np.linalg.norm(residual)))
            continue
        order = check_generator(rng).permutation(n)
        for first in range(0, n, batch):
            _, gradient = loss.evaluate(weights, order[first : first + batch])
            velocity = momentum * velocity - learning_rate * gradient
            weights += velocity
            loss.work["combine"] += per_step
        loss.note(loss.norm(weights))
    return loss.trace(weights, tolerance)


def train_adam(
    network: TwoLayerNetwork,
    X: ArrayLike,
    y: ArrayLike,
    *,
    iterations: int,
    learning_rate: float,
    decay: tuple[float, float] = (0.9, 0.999),
    tolerance: float = 0.0,
    compact: bool = True,
) -> Trace[TwoLayerNetwork]:
    """Train by Adam on all data points.

    Parameters
    ----------
    network, X, y, iterations, tolerance, compact
        As for `train_momentum`.
    learning_rate : float
        ``eta``: how far a weight moves in the first step.
    decay : (float, float)
        Decay rates of the running means ``v`` and ``s``, in [0, 1).

    Returns
    -------
    Trace
        As for `train_momentum`.

    Raises
    ------
    InputError, NothingFiresError, DivergenceError
        As for `train_momentum`.

    Examples
    --------
    >>> from reference.two_layer import initialize, shift_for
    >>> network = initialize(2000, 3, shift=shift_for(2000, 0.1), rng=np.random.default_rng(0))
    >>> y = [1.0, -1.0, 1.0]
    >>> train_adam(network, np.eye(3), y, iterations=300, learning_rate=0.05, tolerance=1e-4).converged
    True
    """
    check_run(iterations, tolerance)
    _check_positive("learning_rate", learning_rate)
    first, second = decay
    if not (0 <= first < 1 and 0 <= second < 1):
        raise InputError(f"decay is {decay}; pass two numbers in [0, 1)")
    loss = Loss(network, X, y, compact=compact)
    weights, gradient = loss.start.copy(), loss.start_gradient
    mean, square = np.zeros_like(weights), np.zeros_like(weights)
    while unfinished(loss.residual_norms, iterations, tolerance):
        step = len(loss.residual_norms)
        mean += (1 - first) * (gradient - mean)
        square += (1 - second) * (gradient * gradient - square)
        # The corrections for the start at 0 are put into two scalars, so that fewer arrays are passed over.
        root = math.sqrt(1 - second**step)
        weights -= learning_rate * root / (1 - first**step) * mean / (np.sqrt(square) + root * EPSILON)
        loss.work["combine"] += 6 * weights.size
        residual, gradient = loss.evaluate(weights)
        loss.note(float(np.linalg.norm(residual)))
    return loss.trace(weights, tolerance)


def train_lbfgs(
    network: TwoLayerNetwork,
    X: ArrayLike,
    y: ArrayLike,
    *,
    iterations: int,
    memory: int = 10,
    tolerance: float = 0.0,
    compact: bool = True,
) -> Trace[TwoLayerNetwork]:
    """Train by L-BFGS, SciPy's, on all data points.

    Parameters
    ----------
    network, X, y, iterations, tolerance, compact
        As for `train_momentum`.
    memory : int
        Steps that are remembered.

    Returns
    -------
    Trace
        As for `train_momentum`; an iteration counts all evaluations of its line search.

    Raises
    ------
    InputError, NothingFiresError, DivergenceError
        As for `train_momentum`.

    Examples
    --------
    >>> from reference.two_layer import initialize, shift_for
    >>> network = initialize(2000, 3, shift=shift_for(2000, 0.1), rng=np.random.default_rng(0))
    >>> train_lbfgs(network, np.eye(3), [1.0, -1.0, 1.0], iterations=40, tolerance=1e-6).converged
    True
    """
    check_run(iterations, tolerance)
    if memory < 1:
        raise InputError(f"memory is {memory}; pass 1 or more")
    loss = Loss(network, X, y, compact=compact)
    if not unfinished(loss.residual_norms, iterations, tolerance):
        return loss.trace(loss.start, tolerance)
    shape = loss.start.shape

    def value(vector: FloatArray) -> tuple[float, FloatArray]:
        residual, gradient = loss.evaluate(vector.reshape(shape))
        return float(residual @ residual) / 2, gradient.ravel()

    def after_iteration(intermediate_result: optimize.OptimizeResult) -> None:
        # Two loops over the steps remembered, with a scalar product and a sum of vectors for each.
        loss.work["combine"] += 4 * min(len(loss.counts), memory) * loss.start.size
        loss.note(math.sqrt(2 * float(intermediate_result.fun)))
        if not unfinished(loss.residual_norms, iterations, tolerance):
            raise StopIteration

    found = optimize.minimize(
        value,
        loss.start.ravel(),
        jac=True,
        method="L-BFGS-B",
        callback=after_iteration,
        options={"maxiter": iterations, "maxfun": 20 * iterations, "maxcor": memory, "ftol": 0.0, "gtol": 0.0},
    )
    return loss.trace(found.x.reshape(shape), tolerance)


def _check_positive(name: str, value: float) -> None:
    if not (np.isfinite(value) and value > 0):
        raise InputError(f"{name} is {value}; pass a positive number")
