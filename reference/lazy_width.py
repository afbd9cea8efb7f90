"""Networks of which only the neurons that fire matter: here, all of them are drawn.

Mathematics. A neuron that fires on none of the points in use (rows of ``X`` to train on, rows of ``unseen`` to predict
on) adds 0 to every prediction there and has zero gradient, so leaving it out changes nothing (ours). This side draws
all ``m`` neurons and says which of them fire; `fast.lazy_width` draws those alone, with the same distribution.

Cost: ``m d`` random numbers; ``n m d`` multiply-adds to tell which neurons fire.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from reference import two_layer
from reference.notation import InputError, IntArray, as_float_array, check_data
from reference.two_layer import TwoLayerNetwork, activation_pattern


def initialize(
    X: ArrayLike, *, width: int, shift: float, rng: np.random.Generator, unseen: ArrayLike | None = None
) -> TwoLayerNetwork:
    """Draw a Gaussian network for training on ``X`` and predicting on ``unseen``: all ``m`` neurons.

    Parameters
    ----------
    X : array_like (n, d)
        Unit rows, no two equal or opposite.
    width : int
        ``m``, at least 1.
    shift : float
        ``b``.
    rng : numpy.random.Generator
        Source of randomness.
    unseen : array_like (q, d), optional
        More points, of any length. They change nothing here, where every neuron exists.

    Returns
    -------
    TwoLayerNetwork

    Raises
    ------
    InputError
        Bad arguments; see `reference.notation.check_data` and `reference.two_layer.initialize`.

    Examples
    --------
    >>> network = initialize(np.eye(2), width=5, shift=1.0, rng=np.random.default_rng(0))
    >>> network.weights.shape
    (5, 2)
    """
    dim = check_data(X).shape[1]
    if unseen is not None and as_float_array("unseen", unseen, 2).shape[1] != dim:
        raise InputError(f"unseen has shape {np.shape(unseen)} but X has {dim} columns; make the columns equal")
    return two_layer.initialize(width, dim, shift=shift, rng=rng)


def neurons_that_fire(network: TwoLayerNetwork, points: ArrayLike) -> IntArray:
    """Find the neurons that fire on at least one of the points; only these need to exist.

    Parameters
    ----------
    network : TwoLayerNetwork
        Width ``m``, shift ``b``.
    points : array_like (n, d)
        Points in use.

    Returns
    -------
    ndarray of int
        Neurons in increasing order.

    Raises
    ------
    InputError
        NaN or infinite entries, wrong number of columns.

    Examples
    --------
    >>> network = TwoLayerNetwork([[2.0, 0.0], [0.0, 0.0], [0.0, 1.0]], [1, 1, 1], 1.0)
    >>> neurons_that_fire(network, np.eye(2))  # neuron 2 sits on its kink
    array([0, 2])
    """
    return np.flatnonzero(activation_pattern(network, points).any(axis=0))
