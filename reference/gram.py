"""The Gram matrix of the Jacobian's rows.

Mathematics ([A], Definition 2.7)::

    G = J J^T                                                  (n, n)
    G[i, j] = <x_i, x_j> (number of neurons that fire on both x_i and x_j) / m

The second line follows from the first because each block of ``J`` is a multiple of ``x_i`` and ``a_r^2 = 1``. It is
what the fast side uses; this side multiplies the definition out. ``G`` is symmetric and positive semidefinite, and
the Gauss-Newton step is defined when it is not singular.

Cost: ``n^2 m d``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from reference.jacobian import jacobian
from reference.notation import FloatArray
from reference.two_layer import TwoLayerNetwork


def gram(network: TwoLayerNetwork, X: ArrayLike) -> FloatArray:
    """Compute ``G = J J^T`` ([A], Definition 2.7).

    Parameters
    ----------
    network : TwoLayerNetwork
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

    Examples
    --------
    Both neurons fire on both points, so ``G`` is the matrix of inner products.

    >>> network = TwoLayerNetwork([[2.0, 2.0], [3.0, 3.0]], [-1, 1], 1.0)
    >>> gram(network, [[1.0, 0.0], [0.6, 0.8]]).round(12)
    array([[1. , 0.6],
           [0.6, 1. ]])
    """
    J = jacobian(network, X)
    G: FloatArray = np.asarray(J @ J.T)
    return G
