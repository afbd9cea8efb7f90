"""The Gram matrix of the Jacobian's rows, from the neurons that fire on both points.

Mathematics ([A], Definition 2.7, multiplied out)::

    G[i, j] = <x_i, x_j> C[i, j] / m        C[i, j]: number of neurons that fire on both x_i and x_j

Cost: ``sum_r c_r^2`` additions for ``C``, with ``c_r`` the number of data points that neuron ``r`` fires on, when the
pattern is sparse; ``n^2`` per neuron that fires somewhere, in float32 where counts below 2^24 are exact, when it is
not. Neither depends on ``d`` or on neurons that fire nowhere.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from fast.jacobian import FiredJacobian
from fast.two_layer import ImplicitNetwork, StartingNetwork, fired_pairs, starting_network, warn_of_missing
from reference.notation import FloatArray, check_points

DENSE_AT = 1 / 64
"""Share of ``n^2 u`` at which one sparse addition per shared pair costs as much as float32 BLAS on everything."""
SPARSE_BELOW = 8
"""Mean number of points per fired pair's neuron below which the sparse product is always taken."""
EXACT_IN_FLOAT32 = 1 << 24
DENSE_BLOCK = 1 << 25
"""Entries of the pattern that are written out at a time."""


def gram(network: StartingNetwork | ImplicitNetwork, X: ArrayLike) -> FloatArray:
    """Compute ``G = J J^T`` ([A], Definition 2.7) from inner products and shared-fired counts.

    Parameters
    ----------
    network : TwoLayerNetwork, LazyNetwork or ImplicitNetwork
        Width ``m``.
    X : array_like (n, d)
        Data points.

    Returns
    -------
    ndarray (n, n)

    Raises
    ------
    InputError
        NaN or infinite entries, wrong number of columns.

    Warns
    -----
    PartialPredictionWarning
        Points that a lazy network was not given: on these only the neurons that exist are counted.

    Examples
    --------
    >>> from reference.two_layer import TwoLayerNetwork
    >>> gram(TwoLayerNetwork([[2.0, 2.0], [3.0, 3.0]], [-1, 1], 1.0), [[1.0, 0.0], [0.6, 0.8]]).round(12)
    array([[1. , 0.6],
           [0.6, 1. ]])
    """
    current = starting_network(network)
    points = check_points(X, current.dim)
    warn_of_missing(current, points)
    fired, _ = fired_pairs(current.weights, points, current.shift)
    shared, _ = shared_counts(FiredJacobian(points, fired, current.signs[fired.neuron_index]))
    return (points @ points.T) * shared / current.width


def shared_counts(jacobian: FiredJacobian) -> tuple[FloatArray, int]:
    """Count the neurons that fire on both of two data points, for all pairs of data points.

    Parameters
    ----------
    jacobian : FiredJacobian
        ``p`` fired pairs over ``u`` neurons.

    Returns
    -------
    counts : ndarray (n, n)
        Whole numbers, exact.
    work : int
        Multiply-adds that this took.
    """
    n, u = jacobian.fired.n, len(jacobian.neurons)
    fan_in = np.bincount(jacobian.column, minlength=u)
    sparse_work = int(fan_in @ fan_in)
    if sparse_work <= max(SPARSE_BELOW * len(jacobian.fired), DENSE_AT * n * n * u):
        pattern = jacobian.pattern
        return (pattern @ pattern.T).toarray(), sparse_work
    shared = np.zeros((n, n))
    step = max(1, min(EXACT_IN_FLOAT32 - 1, DENSE_BLOCK // n))
    by_neuron = jacobian.pattern.T.tocsr().astype(np.float32)
    for start in range(0, u, step):
        block = by_neuron[start : start + step].toarray()
        shared += block.T @ block
    return shared, n * n * u
