"""A weight matrix under low-rank updates: every update is applied at once.

Mathematics. A step of several layers changes a weight matrix by a sum of ``n`` rank-one terms ([B])::

    W <- W + left^T right,        left (k, p), right (k, q): one row of each for every term

The questions are ``W h`` for the signals that go forward, and ``W^T p`` for the sensitivities that go back. This side
keeps ``W`` itself; `fast.low_rank` keeps the factors and gives the same answers.

Cost: ``k p q`` for an update, ``n p q`` for a product with ``n`` vectors.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from reference.notation import FloatArray, InputError, as_float_array


class EagerWeights:
    """A matrix ``W`` that takes every update at once.

    Parameters
    ----------
    initial : array_like (p, q)
        ``W`` at the start. Copied.

    Raises
    ------
    InputError
        NaN or infinite entries, wrong number of dimensions.

    Examples
    --------
    >>> weights = EagerWeights(np.eye(2))
    >>> weights.add([[1.0, 0.0]], [[0.0, 3.0]])
    >>> weights.multiply([[1.0, 1.0]]), weights.multiply_transposed([[1.0, 1.0]])
    (array([[4., 1.]]), array([[1., 4.]]))
    """

    def __init__(self, initial: ArrayLike) -> None:
        self.matrix: FloatArray = as_float_array("initial", initial, 2).copy()

    def add(self, left: ArrayLike, right: ArrayLike) -> None:
        """Apply ``W <- W + left^T right``.

        Parameters
        ----------
        left : array_like (k, p)
            Row factors of ``k`` rank-one terms.
        right : array_like (k, q)
            Column factors.

        Raises
        ------
        InputError
            NaN or infinite entries, shapes that do not fit.
        """
        left, right = as_float_array("left", left, 2), as_float_array("right", right, 2)
        p, q = self.matrix.shape
        if left.shape[1] != p or right.shape != (len(left), q):
            raise InputError(
                f"left has shape {left.shape} and right {right.shape}; pass (k, {p}) and (k, {q}) with the same k"
            )
        self.matrix += left.T @ right

    def multiply(self, H: ArrayLike) -> FloatArray:
        """Compute ``W h`` for every row ``h`` of ``H`` (n, q); returns (n, p)."""
        product: FloatArray = as_float_array("H", H, 2) @ self.matrix.T
        return product

    def multiply_transposed(self, P: ArrayLike) -> FloatArray:
        """Compute ``W^T p`` for every row ``p`` of ``P`` (n, p); returns (n, q)."""
        product: FloatArray = as_float_array("P", P, 2) @ self.matrix
        return product

    def to_dense(self) -> FloatArray:
        """Return a copy of ``W``."""
        return np.array(self.matrix)
