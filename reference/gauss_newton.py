"""Gauss-Newton training, every number computed from its definition.

Mathematics ([A], its training loop without the data structures; the loss is Definition 2.4). Linearize the predictions,
``f(W + D) ~ f(W) + J D``, and take the shortest step ``D`` that makes the linear model exact::

    solve   G g = f - y,                G = J J^T              (n, n)
    step    W <- W - J^T g,             row by row:  w_r <- w_r - m^(-1/2) a_r sum_{i: r fires on x_i} g_i x_i

The residual would vanish in one step if no pair (neuron, data point) changed between firing and not firing; what is
left after the step is made by the pairs that did. Theorem 1.1 of [A] says that on wide networks and separated data
the residual at least halves in every iteration. Outside the theorem's reach it may climb; ``step="safeguarded"`` then
looks ahead and, failing that, shortens the step, as `reference.safeguard` decides.

Departures from the paper
1. ``G g = f - y`` is solved exactly instead of to the accuracy that the proof needs. `reference.regression` has the
   paper's solver.
2. A run that grows instead of shrinking is stopped with an error; the paper assumes a width at which it cannot happen.
3. ``step="safeguarded"`` never lets the residual grow. It is ours, put together from the sources that
   `reference.safeguard` names; an iteration in which the full step lowers the residual is the paper's.

Cost per iteration: ``n m d`` for the pattern, ``n^2 m d`` for ``G``, ``n^3`` for the solve, ``n m d`` for the step. A
safeguarded iteration pays for the pattern and the step once a trial, for ``G`` and the solve once a full step.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from reference.gram import gram
from reference.jacobian import jacobian
from reference.notation import (
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
from reference.regression import solve_exact
from reference.safeguard import Step
from reference.safeguarded_run import Model, take_safeguarded_steps
from reference.trace import Trace
from reference.two_layer import TwoLayerNetwork, activation_pattern


def train(
    network: TwoLayerNetwork,
    X: ArrayLike,
    y: ArrayLike,
    *,
    iterations: int,
    tolerance: float = 0.0,
    step: Step = "full",
) -> Trace[TwoLayerNetwork]:
    """Train by Gauss-Newton ([A], Theorem 1.1): solve ``G g = f - y``, step ``W <- W - J^T g``, repeat.

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
    step : {"full", "safeguarded"}
        The paper's step, or one that never raises the residual: the full step wherever that lowers it by one part in
        10,000 or more and leaves every data point a neuron that fires, see `reference.safeguard` for the rest. One
        safeguarded iteration keeps one point and may try up to 61. A run that gets no further, be it for rounding
        error, ends early, and ``stopped`` says why.

    Returns
    -------
    Trace
        ``counts`` has the multiply-adds of the phases ``pattern``, ``gram``, ``solve`` and ``step``, those of trials
        that were not kept included. The iteration in which a safeguarded run finds no step repeats the residual.

    Raises
    ------
    InputError
        Bad arguments; see `reference.notation.check_data`.
    NothingFiresError
        A data point on which no neuron fires; in a safeguarded run, at the start.
    SingularGramError
        ``G`` is singular to working precision. Not in a safeguarded run, which damps it.
    DivergenceError
        The residual grew out of bounds, or had grown when one of the two above occurred. Not in a safeguarded run.

    Examples
    --------
    >>> from reference.two_layer import initialize, shift_for
    >>> rng = np.random.default_rng(0)
    >>> X = np.eye(3)
    >>> network = initialize(2000, 3, shift=shift_for(2000, 0.1), rng=rng)
    >>> trace = train(network, X, np.array([1.0, -1.0, 1.0]), iterations=8, tolerance=1e-12)
    >>> trace.converged, bool((trace.residual_norms[1:] <= trace.residual_norms[:-1] / 2).all())
    (True, True)

    One neuron, ``f = max(w - 1, 0)``, cannot reach the label -1. The full step would silence it, half of it leads to
    the kink, and from there nothing leads on:

    >>> network = TwoLayerNetwork([[2.0]], [1.0], 1.0)
    >>> trace = train(network, [[1.0]], [-1.0], iterations=9, step="safeguarded")
    >>> trace.residual_norms, trace.network.weights
    (array([2., 1., 1.]), array([[1.]]))
    >>> print(trace.stopped.partition(",")[0])
    stalled at iteration 2 with residual 1
    """
    if step == "safeguarded":
        X = check_points(check_data(X), network.dim)
        y = check_labels(y, len(X))
        check_run(iterations, tolerance)
        return take_safeguarded_steps(network, two_layers(network, X), y, iterations=iterations, tolerance=tolerance)
    if step != "full":
        raise InputError(f"step is {step!r}; pass 'full' or 'safeguarded'")
    return take_steps(
        network,
        X,
        y,
        lambda network, residual: solve_exact(gram(network, X), residual),
        iterations=iterations,
        tolerance=tolerance,
    )


def take_steps(
    network: TwoLayerNetwork,
    X: ArrayLike,
    y: ArrayLike,
    direction: Callable[[TwoLayerNetwork, FloatArray], FloatArray],
    *,
    iterations: int,
    tolerance: float,
) -> Trace[TwoLayerNetwork]:
    """Repeat ``W <- W - J^T g`` with ``g = direction(network, f - y)``.

    Parameters
    ----------
    network, X, y, iterations, tolerance
        As for `train`.
    direction : callable
        Maps the current network and the residual (n,) to ``g`` (n,).

    Returns
    -------
    Trace
        As for `train`.

    Raises
    ------
    InputError, NothingFiresError, DivergenceError
        As for `train`.
    """
    X = check_points(check_data(X), network.dim)
    y = check_labels(y, len(X))
    check_run(iterations, tolerance)
    n, (m, d) = len(X), network.weights.shape

    residual = network.predict(X) - y
    residual_norms = [float(np.linalg.norm(residual))]
    check_residual(residual_norms, y)
    counts: list[dict[str, int]] = []
    while unfinished(residual_norms, iterations, tolerance):
        with breakdown_explained(residual_norms):
            check_every_point_fires(activation_pattern(network, X).sum(axis=1))
            g = direction(network, residual)
        step = (jacobian(network, X).T @ g).reshape(m, d)
        network = TwoLayerNetwork(network.weights - step, network.signs, network.shift)
        residual = network.predict(X) - y
        residual_norms.append(float(np.linalg.norm(residual)))
        check_residual(residual_norms, y)
        counts.append({"pattern": n * m * d, "gram": n * n * m * d, "solve": n**3, "step": n * m * d})
    converged = residual_norms[-1] <= tolerance * residual_norms[0]
    return Trace(network, np.array(residual_norms), residual + y, converged, counts)


def two_layers(like: TwoLayerNetwork, X: FloatArray) -> Model[TwoLayerNetwork]:
    """Say what the safeguarded loop has to know of two-layer networks of one size on data points (n, d)."""
    n, size = len(X), like.weights.size

    def fired(network: TwoLayerNetwork) -> IntArray:
        count: IntArray = np.count_nonzero(activation_pattern(network, X), axis=1)
        return count

    def move(network: TwoLayerNetwork, g: FloatArray) -> TwoLayerNetwork:
        step = (jacobian(network, X).T @ g).reshape(network.weights.shape)
        return TwoLayerNetwork(network.weights - step, network.signs, network.shift)

    return Model(
        X,
        check=lambda network: check_every_point_fires(fired(network)),
        alive=lambda network: bool(fired(network).all()),
        gram=lambda network: gram(network, X),
        move=move,
        work={"pattern": n * size, "gram": n * n * size, "step": n * size},
    )
