"""The product of two matrices of any shape, from the definition.

Mathematics, for ``A`` (p, q) and ``B`` (q, r)::

    C[i, j] = sum_k A[i, k] B[k, j]                             p q r multiplications

[B] folds a low-rank update into the weights as such a product with ``q`` much smaller than ``p`` and ``r``, and lets a
fast one do it. The fast side needs fewer multiplications; this side is the schoolbook.

Cost: ``p q r``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from reference.notation import FloatArray, InputError, as_float_array


def multiply(A: ArrayLike, B: ArrayLike) -> FloatArray:
    """Multiply two matrices of any shape.

    Parameters
    ----------
    A : array_like (p, q)
        Not modified.
    B : array_like (q, r)
        Not modified.

    Returns
    -------
    ndarray (p, r)

    Raises
    ------
    InputError
        See `reference.notation.as_float_array`; or ``B`` has not as many rows as ``A`` has columns.

    Examples
    --------
    >>> multiply([[1, 2], [3, 4], [5, 6]], [[1, 0, 1], [0, 1, 1]])
    array([[ 1.,  2.,  3.],
           [ 3.,  4.,  7.],
           [ 5.,  6., 11.]])
    """
    left, right = as_float_array("A", A, 2), as_float_array("B", B, 2)
    if left.shape[1] != len(right):
        raise InputError(f"A has {left.shape[1]} columns but B has {len(right)} rows; make them equal")
    C = np.zeros((len(left), right.shape[1]))
    for k in range(len(right)):
        C += left[:, k, np.newaxis] * right[k]  # one column of A times one row of B
    return C


def multiplications(p: int, q: int, r: int) -> int:
    """Count the scalar multiplications of `multiply`.

    Parameters
    ----------
    p, q, r : int
        ``A`` is (p, q), ``B`` is (q, r).

    Returns
    -------
    int
        ``p q r``.

    Raises
    ------
    InputError
        A dimension below 1, or no whole number.

    Examples
    --------
    >>> multiplications(3, 2, 3)
    18
    """
    for name, size in (("p", p), ("q", q), ("r", r)):
        if isinstance(size, bool) or not isinstance(size, (int, np.integer)) or size < 1:
            raise InputError(f"{name} is {size!r}; pass a whole number, 1 or more")
    return int(p) * int(q) * int(r)
