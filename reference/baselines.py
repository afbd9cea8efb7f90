"""Gradient descent, the first-order method that Gauss-Newton is meant to beat.

Mathematics. The loss ``1/2 ||f - y||^2`` ([A], Definition 2.4) has gradient ``J^T (f - y)``, so with learning rate
``eta``::

    W <- W - eta J^T (f - y)

To first order the residual is multiplied by ``I - eta G``. Its slowest direction shrinks fastest for
``eta = 2 / (lambda_max(G) + lambda_min(G))``, and then by ``(kappa - 1) / (kappa + 1)`` an iteration with ``kappa`` the
condition number of ``G``: little where inputs are correlated. Gauss-Newton replaces ``eta (f - y)`` by the solution of
``G g = f - y`` and with it removes ``kappa``.

Cost per iteration: ``n m d``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from reference.gauss_newton import take_steps
from reference.gram import gram
from reference.notation import InputError, check_data, check_every_point_fires
from reference.trace import Trace
from reference.two_layer import TwoLayerNetwork, activation_pattern


def best_learning_rate(network: TwoLayerNetwork, X: ArrayLike) -> float:
    """Return the best constant learning rate for the Gram matrix at the start.

    Parameters
    ----------
    network : TwoLayerNetwork
        Width ``m``.
    X : array_like (n, d)
        Data points.

    Returns
    -------
    float
        ``2 / (lambda_max(G) + lambda_min(G))``.

    Raises
    ------
    InputError
        NaN or infinite entries, wrong number of columns.
    NothingFiresError
        A data point on which no neuron fires.
    """
    check_every_point_fires(activation_pattern(network, X).sum(axis=1))
    eigenvalues = np.linalg.eigvalsh(gram(network, X))
    return float(2 / (eigenvalues[-1] + eigenvalues[0]))


def train_gradient_descent(
    network: TwoLayerNetwork,
    X: ArrayLike,
    y: ArrayLike,
    *,
    iterations: int,
    tolerance: float = 0.0,
    learning_rate: float | None = None,
) -> Trace[TwoLayerNetwork]:
    """Train by gradient descent: ``W <- W - eta J^T (f - y)``.

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
    learning_rate : float, optional
        ``eta``; by default `best_learning_rate`.

    Returns
    -------
    Trace
        As for `reference.gauss_newton.train`.

    Raises
    ------
    InputError
        Bad arguments; see `reference.notation.check_data`.
    NothingFiresError
        A data point on which no neuron fires.
    DivergenceError
        The residual grew out of bounds.

    Examples
    --------
    >>> from reference.two_layer import initialize, shift_for
    >>> network = initialize(2000, 3, shift=shift_for(2000, 0.1), rng=np.random.default_rng(0))
    >>> train_gradient_descent(network, np.eye(3), [1.0, -1.0, 1.0], iterations=40, tolerance=1e-6).converged
    True
    """
    if learning_rate is None:
        learning_rate = best_learning_rate(network, check_data(X))
    elif not (np.isfinite(learning_rate) and learning_rate > 0):
        raise InputError(f"learning_rate is {learning_rate}; pass a positive number")
    return take_steps(
        network,
        X,
        y,
        lambda network, residual: learning_rate * residual,
        iterations=iterations,
        tolerance=tolerance,
    )
