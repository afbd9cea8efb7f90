"""The product of two matrices of any shape with fewer multiplications, by Strassen's blocks down to BLAS.

Mathematics (Strassen, Numerische Mathematik 1969): with ``A`` (p, q) and ``B`` (q, r) halved both ways, seven products
of blocks give ``A B`` instead of eight. ``L`` halvings, as many as leave all three sides at ``leaf`` or more::

    p', q', r'        p, q, r rounded down to multiples of 2^L
    multiplications   (7/8)^L p' q' r' + (p q r - p' q' r')

What is cut off is thinner than ``2^L <= min(p, q, r) / leaf`` and is multiplied by BLAS, once, at the top: nothing is
padded, and less than ``3 / leaf`` of all multiplications are missed. Each halving adds 5, 5 and 8 times a quarter of
``A``, ``B`` and ``C``.

Error. ``|A| <= a``, ``|B| <= b``, ``u`` the unit roundoff; an error bound of ``f u a b`` for a product of inner size
``k``. At the leaf ``f = k^2``, for any order of summation, fused or not. A block product of sums of ``s`` and ``t``
blocks (1 or 2 each) has ``s t`` times the scale; rounding the sums adds at most ``k s t`` per sum and rounding the
additions to ``C`` at most ``k s t`` each. In the worst block, ``((M7 + M1) + M4) - M5``, the ``s t`` add up to 12 and
these roundings to 50 ``k``, so ``f(2 k) = 12 f(k) + 50 k``, which with ``k = q' / 2^L`` at the leaf gives::

    f = 12^L (k^2 + 5 k) - 5 q'                                 + (q - q')^2 + q   where a strip of A and B is added

For squares this is Theorem 23.2 of Higham (Accuracy and Stability of Numerical Algorithms, 2nd ed.), constants
included; only the inner size enters.

Departures from the sources
1. Strassen's form, not Winograd's with its 15 additions for 18: there 12 becomes 18 (Higham, section 23.2.2), and
   additions are the smaller part of the time at the leaf sizes that pay.
2. [B] takes the exponents of the best rectangular product known. No such algorithm is practical; here an oblong
   product is halved in all three directions, like a square one. Squarish tiles would save the same multiplications,
   and add the blocks of ``A`` anew for each tile of a row, those of ``B`` for each of a column.

Cost: as above; memory beyond the result is a third of ``p q + q r + p r``, and copies of what is not contiguous.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reference.notation import UNIT_ROUNDOFF, FloatArray, InputError, as_float_array

LEAF = 2048
"""Sides down to which blocks are halved: additions are bound by memory, and shorter sides repay them late or never.
``BENCHMARK_WIDTH=65536 pytest tests/benchmarks/test_rectangular_product.py --benchmark-enable`` times it beside BLAS
alone; what pays depends on the machine."""

PANEL = 256
"""Rows of the result to which a strip is added at a time, so that no second matrix of the result's size is made."""

SMALLEST = 2.0**-1074
"""Distance of neighbouring floats where products underflow."""

Product = Callable[..., Any]
Scratch = Sequence[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]]


def multiply(A: ArrayLike, B: ArrayLike, *, leaf: int = LEAF, product: Product = np.matmul) -> FloatArray:
    """Multiply two matrices of any shape.

    Parameters
    ----------
    A : array_like (p, q)
        Not modified.
    B : array_like (q, r)
        Not modified.
    leaf : int
        Halve while no side of a block falls below this.
    product : callable
        ``product(A, B, out=C)`` multiplies at the leaves; another one can count what is multiplied.

    Returns
    -------
    ndarray (p, r)
        Within `error_bound` of the product.

    Raises
    ------
    InputError
        See `reference.notation.as_float_array`; ``B`` has not as many rows as ``A`` has columns; ``leaf`` below 1; or
        the product, or a sum of blocks on the way to it, overflows.

    Examples
    --------
    >>> multiply([[1, 2], [3, 4], [5, 6]], [[1, 0, 1], [0, 1, 1]], leaf=1)
    array([[ 1.,  2.,  3.],
           [ 3.,  4.,  7.],
           [ 5.,  6., 11.]])
    """
    left, right = _check(A, B)
    (p, q), r = left.shape, right.shape[1]
    depth = _halvings(p, q, r, leaf)
    # BLAS reads blocks of contiguous arrays in place.
    left, right = (M if M.flags.forc else np.ascontiguousarray(M) for M in (left, right))
    # What overflows on the way stays infinite or NaN to the end; the sum is a cheap first look, as in `as_float_array`.
    with np.errstate(over="ignore", invalid="ignore"):
        C = _product(left, right, depth, product)
        overflowed = not np.isfinite(C.sum()) and not np.isfinite(C).all()
    if overflowed:
        hint = f", or pass a leaf above {min(p, q, r) // 2}, which makes no sums of blocks" if depth else ""
        raise InputError(f"the product of A and B, or a sum on the way to it, overflows; rescale them{hint}")
    return C


def multiplications(p: int, q: int, r: int, *, leaf: int = LEAF) -> int:
    """Count the scalar multiplications of `multiply`.

    Parameters
    ----------
    p, q, r : int
        ``A`` is (p, q), ``B`` is (q, r).
    leaf : int
        See `multiply`.

    Returns
    -------
    int
        Exact; see the module docstring.

    Raises
    ------
    InputError
        A dimension or ``leaf`` below 1, or no whole number.

    Examples
    --------
    >>> multiplications(4, 4, 4, leaf=1), multiplications(5, 4, 4, leaf=1)
    (49, 65)
    """
    depth = _halvings(p, q, r, leaf)
    core = (int(p) >> depth) * (int(q) >> depth) * (int(r) >> depth)
    return int(7**depth - 8**depth) * core + int(p) * int(q) * int(r)


def error_bound(A: ArrayLike, B: ArrayLike, *, leaf: int = LEAF) -> float:
    """Bound the absolute error of every entry of `multiply`; see the module docstring.

    Parameters
    ----------
    A : array_like (p, q)
        Not modified.
    B : array_like (q, r)
        Not modified.
    leaf : int
        See `multiply`.

    Returns
    -------
    float
        Rigorous for leaves that round each of their sums and products once; infinite where it overflows.

    Raises
    ------
    InputError
        See `multiply`.

    Examples
    --------
    >>> error_bound([[1.0, 1.0]], [[1.0], [1.0]]) / 2**-53  # q^2, and one percent
    4.04
    """
    left, right = _check(A, B)
    (p, q), r = left.shape, right.shape[1]
    depth = _halvings(p, q, r, leaf)
    inner = q >> depth
    strip = q - (inner << depth)
    growth = 12.0**depth * (inner**2 + 5 * inner) - 5.0 * (inner << depth) + (strip**2 + q if strip else 0)
    # Terms in u^2 and the rounding of this formula are far below one percent for q < 2^40. Underflow in a product
    # costs up to half of SMALLEST, and every halving passes on up to four times that of one leaf.
    rounding: float = 1.01 * UNIT_ROUNDOFF * growth * (_largest(left) * _largest(right))
    return rounding + math.ldexp(q * SMALLEST, depth)


def _product(A: NDArray[Any], B: NDArray[Any], depth: int, product: Product) -> NDArray[Any]:
    """Multiply the core by Strassen and the strips around it at once; any dtype, so that scalars can be counted."""
    (p, q), r = A.shape, B.shape[1]
    rows, inner, columns = (side >> depth << depth for side in (p, q, r))
    C = np.empty((p, r), dtype=np.result_type(A, B))
    left, right, core = A[:rows, :inner], B[:inner, :columns], C[:rows, :columns]
    scratch = [(_scratch(left, level), _scratch(right, level), _scratch(core, level)) for level in range(1, depth + 1)]
    _strassen(left, right, core, scratch, product)
    if inner < q:
        for top in range(0, rows, PANEL):
            panel = core[top : top + PANEL]
            strip = np.empty_like(panel)
            product(A[top : top + len(panel), inner:], B[inner:, :columns], out=strip)
            panel += strip
    if rows < p:
        product(A[rows:], B, out=C[rows:])
    if columns < r:
        product(A[:rows], B[:, columns:], out=C[:rows, columns:])
    return C


def _strassen(A: NDArray[Any], B: NDArray[Any], C: NDArray[Any], scratch: Scratch, product: Product) -> None:
    """Write ``A B`` to ``C``, halving once for each triple in ``scratch``; no sum is formed twice, no block copied."""
    if not scratch:
        product(A, B, out=C)
        return
    (S, T, M), below = scratch[0], scratch[1:]
    A11, A12, A21, A22 = _quarters(A)
    B11, B12, B21, B22 = _quarters(B)
    C11, C12, C21, C22 = _quarters(C)

    def times(left: NDArray[Any], right: NDArray[Any], out: NDArray[Any]) -> None:
        _strassen(left, right, out, below, product)

    times(np.subtract(A21, A11, out=S), np.add(B11, B12, out=T), C22)  # M6
    times(np.subtract(A12, A22, out=S), np.add(B21, B22, out=T), C11)  # M7
    times(np.add(A11, A22, out=S), np.add(B11, B22, out=T), M)  # M1
    C11 += M
    C22 += M
    times(np.add(A21, A22, out=S), B11, C21)  # M2
    C22 -= C21
    times(A11, np.subtract(B12, B22, out=T), C12)  # M3
    C22 += C12
    times(A22, np.subtract(B21, B11, out=T), M)  # M4
    C11 += M
    C21 += M
    times(np.add(A11, A12, out=S), B22, M)  # M5
    C11 -= M
    C12 += M


def _scratch(M: NDArray[Any], level: int) -> NDArray[Any]:
    return np.empty_like(M[: len(M) >> level, : M.shape[1] >> level])


def _quarters(M: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
    row, column = (side // 2 for side in M.shape)
    return M[:row, :column], M[:row, column:], M[row:, :column], M[row:, column:]


def _halvings(p: int, q: int, r: int, leaf: int) -> int:
    """Return how often three sides can be halved with none falling below ``leaf``."""
    for name, size in (("p", p), ("q", q), ("r", r), ("leaf", leaf)):
        if isinstance(size, bool) or not isinstance(size, (int, np.integer)) or size < 1:
            raise InputError(f"{name} is {size!r}; pass a whole number, 1 or more")
    return max((int(min(p, q, r)) // int(leaf)).bit_length() - 1, 0)


def _check(A: ArrayLike, B: ArrayLike) -> tuple[FloatArray, FloatArray]:
    left, right = as_float_array("A", A, 2), as_float_array("B", B, 2)
    if left.shape[1] != len(right):
        raise InputError(f"A has {left.shape[1]} columns but B has {len(right)} rows; make them equal")
    return left, right


def _largest(M: FloatArray) -> float:
    """Return the largest absolute value without a temporary of the matrix's size."""
    return max(float(M.max()), -float(M.min()))
