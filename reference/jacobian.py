"""The Jacobian of the predictions with respect to all weights.

Mathematics ([A], Definition 2.6). Away from the kink ``max(u - b, 0)`` has derivative 1 on the firing side and 0 on
the other, and ``<w_r, x_i>`` has gradient ``x_i`` in ``w_r``, so::

    df_i / dw_r = m^(-1/2) a_r A[i, r] x_i                     one block of d numbers
    J[i, :]     = (block 1, block 2, ..., block m)             (n, m d)

Row ``i`` is the tensor product ``m^(-1/2) (A_i o a) (x) x_i``: ``k`` of its ``m`` blocks are not zero. At the kink
the derivative does not exist; this project takes the one of the firing side.

Cost: ``n m d`` numbers written.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from reference.notation import FloatArray, check_points
from reference.two_layer import TwoLayerNetwork, activation_pattern


def jacobian(network: TwoLayerNetwork, X: ArrayLike) -> FloatArray:
    """Compute ``J``, whose block ``r`` of row ``i`` is ``m^(-1/2) a_r A[i, r] x_i`` ([A], Definition 2.6).

    Parameters
    ----------
    network : TwoLayerNetwork
        Width ``m``, input dimension ``d``.
    X : array_like (n, d)
        Data points.

    Returns
    -------
    ndarray (n, m * d)
        Columns ``r d`` to ``(r + 1) d - 1`` belong to neuron ``r``.

    Raises
    ------
    InputError
        NaN or infinite entries, wrong number of columns.

    Examples
    --------
    Two neurons; the first fires on the point, the second does not.

    >>> network = TwoLayerNetwork([[2.0, 0.0], [0.0, 1.0]], [-1, 1], 1.0)
    >>> jacobian(network, [[1.0, 0.0]]) * np.sqrt(2)
    array([[-1., -0.,  0.,  0.]])
    """
    points = check_points(X, network.dim)
    A = activation_pattern(network, points)
    blocks = (A * network.signs)[:, :, np.newaxis] * points[:, np.newaxis, :]  # (n, m, d)
    J: FloatArray = blocks.reshape(len(points), network.width * network.dim) / np.sqrt(network.width)
    return J
