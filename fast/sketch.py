"""Sketches applied in the time that theory promises, and the Jacobian sketched as the tensor that it is.

Mathematics: `reference.sketch` defines the four kinds. ``S M`` for any ``M`` (N, n) without forming ``S``::

    Gaussian          one matrix product                                        s N n
    SRHT              fast Walsh-Hadamard transform, then pick rows              N' n log2 N'
    sparse embedding  scatter-add of gamma signed copies                         gamma N n
    TensorSketch      the same, with the combined row (left + right) modulo s    N n

For the Jacobian ``M = J^T`` even ``N n`` is too much, and both sparse kinds can do without (fact 7 is ours in
this use; the identity is Pham and Pagh 2013). Row ``i`` of ``J`` is ``u_i (x) x_i`` with ``u_i = m^(-1/2)
(A_i o a)``. Adding row numbers modulo ``s`` is a cyclic convolution, so with ``C`` and ``D`` the
CountSketches of the two factors::

    S (u_i (x) x_i) = irfft(rfft(C u_i) * rfft(D x_i))

Departures from the source
1. The draw covers all ``m`` neurons, but only its entries at neurons that fire are read.
2. `default_size` is far below the size that the proof asks for: as a preconditioner the sketch affects the
   speed of `fast.regression.solve_sketched`, not its answer.

Cost of a sketched Jacobian with ``p`` fired pairs: ``p + n d + n s log s`` (TensorSketch), ``gamma p d``
(sparse embedding).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import fft, sparse

from fast.jacobian import FiredJacobian
from reference.notation import FloatArray, InputError, IntArray, as_float_array
from reference.sketch import Draw, GaussianDraw, SparseEmbeddingDraw, SRHTDraw, TensorSketchDraw

ROWS_PER_POINT = 32
"""Rows of the default sketch for each data point; see `default_size`."""

FEWEST_ROWS = 1024
"""Rows of the default sketch at least, whatever the number of data points; see `default_size`."""


def default_size(n: int) -> int:
    """Return a TensorSketch size that preconditions ``n`` data points well in practice.

    The condition number after preconditioning is about ``((1 + q) / (1 - q))^2`` with ``q = sqrt(n / s)``:
    2.0 at ``s = 32 n``, as if the sketch were Gaussian. Twice the rows
    double the cost of the factor and save about three of nineteen products with ``G``.

    Parameters
    ----------
    n : int
        Number of data points.

    Returns
    -------
    int
        ``max(1024, 32 n)``, rounded up to a length with a fast real Fourier transform.

    Raises
    ------
    InputError
        ``n`` below 1.

    Examples
    --------
    >>> default_size(96)
    3072
    """
    if n < 1:
        raise InputError(f"n is {n}; pass at least 1 data point")
    return int(fft.next_fast_len(max(FEWEST_ROWS, ROWS_PER_POINT * n), real=True))


def apply(draw: Draw, M: ArrayLike) -> FloatArray:
    """Sketch a matrix: ``S M`` without forming ``S``.

    Parameters
    ----------
    draw : GaussianDraw, SRHTDraw, SparseEmbeddingDraw or TensorSketchDraw
        ``s`` rows, ``N`` columns.
    M : array_like (N, n)
        Not modified.

    Returns
    -------
    ndarray (s, n)

    Raises
    ------
    InputError
        NaN or infinite entries, or a number of rows other than ``N``.

    Examples
    --------
    A CountSketch that adds rows 0 and 2 of ``M`` and flips the sign of row 1.

    >>> draw = SparseEmbeddingDraw(np.array([[0, 1, 0]]), np.array([[1.0, -1.0, 1.0]]), 2)
    >>> apply(draw, [[1.0], [2.0], [3.0]])
    array([[ 4.],
           [-2.]])
    """
    M = as_float_array("M", M, 2)
    if len(M) != draw.dim:
        raise InputError(f"M has {len(M)} rows but the sketch takes {draw.dim}; draw it with that dimension")
    if isinstance(draw, GaussianDraw):
        return np.asarray(draw.entries @ M / np.sqrt(draw.size))
    if isinstance(draw, SRHTDraw):
        padded = np.zeros((len(draw.signs), M.shape[1]))
        np.multiply(draw.signs[: draw.dim, np.newaxis], M, out=padded[: draw.dim])
        return np.asarray(walsh_hadamard(padded)[draw.rows] / np.sqrt(draw.size))
    if isinstance(draw, TensorSketchDraw):
        rows = (draw.left_rows[:, np.newaxis] + draw.right_rows).ravel() % draw.size
        signs = np.outer(draw.left_signs, draw.right_signs).ravel()
        return _scatter(rows[np.newaxis], signs[np.newaxis], draw.size, M)
    return _scatter(draw.rows, draw.signs, draw.size, M)


def walsh_hadamard(M: FloatArray) -> FloatArray:
    """Multiply with the Hadamard matrix of +-1 entries, in place, by ``log2 N`` passes over the data.

    Parameters
    ----------
    M : ndarray (N, n)
        ``N`` a power of 2; contiguous. Overwritten.

    Returns
    -------
    ndarray (N, n)
        ``H M``, which is ``M`` itself.

    Raises
    ------
    InputError
        ``N`` is no power of 2, or ``M`` is not a contiguous matrix.

    Examples
    --------
    >>> walsh_hadamard(np.array([[1.0], [2.0], [3.0], [4.0]])).ravel()
    array([10., -2., -4.,  0.])
    """
    if M.ndim != 2 or len(M) & (len(M) - 1) or not M.flags.c_contiguous:
        raise InputError(f"M has shape {M.shape}; pass contiguous (N, n) with N a power of 2")
    half = 1
    while half < len(M):
        blocks = M.reshape(-1, 2, half, M.shape[1])
        upper, lower = blocks[:, 0], blocks[:, 1]
        difference = upper - lower
        upper += lower
        lower[:] = difference
        half *= 2
    return M


def sketch_jacobian(draw: TensorSketchDraw | SparseEmbeddingDraw, jacobian: FiredJacobian) -> FloatArray:
    """Sketch the Jacobian: ``S J^T`` from its fired pairs.

    Parameters
    ----------
    draw : TensorSketchDraw or SparseEmbeddingDraw
        ``N = m d`` columns. Read at neurons that fire only.
    jacobian : FiredJacobian
        ``p`` fired pairs of ``n`` data points.

    Returns
    -------
    ndarray (s, n)

    Raises
    ------
    InputError
        The draw is for another width or input dimension.
    """
    d, m = jacobian.X.shape[1], jacobian.fired.width
    expected = f"draw it for width {m} and dimension {d}"
    if isinstance(draw, TensorSketchDraw):
        if (len(draw.left_rows), len(draw.right_rows)) != (m, d):
            raise InputError(
                f"the sketch is for {len(draw.left_rows)} by {len(draw.right_rows)} tensors; {expected}"
            )
        return _convolve_factors(draw, jacobian)
    if draw.dim != m * d:
        raise InputError(f"the sketch takes {draw.dim} rows but the Jacobian has {m * d} columns; {expected}")
    return _scatter_fired(draw, jacobian)


def sketch_jacobian_work(draw: TensorSketchDraw | SparseEmbeddingDraw, jacobian: FiredJacobian) -> int:
    """Count the multiply-adds of `sketch_jacobian`, from the sizes of the arrays that it processes.

    Parameters
    ----------
    draw : TensorSketchDraw or SparseEmbeddingDraw
        ``s`` rows.
    jacobian : FiredJacobian
        ``p`` fired pairs of ``n`` data points.

    Returns
    -------
    int
        ``p + n d + 3 n s ceil(log2 s)`` for TensorSketch (three transforms of length ``s`` for each data
        point), ``gamma p d`` for the sparse embedding.
    """
    pairs, (n, d) = len(jacobian.fired), jacobian.X.shape
    if isinstance(draw, TensorSketchDraw):
        return int(pairs + n * d + 3 * n * draw.size * (draw.size - 1).bit_length())
    return int(len(draw.rows) * pairs * d)


def _scatter(rows: IntArray, signs: FloatArray, size: int, M: FloatArray) -> FloatArray:
    """Add ``signs[l, j] M[j] / sqrt(gamma)`` to row ``rows[l, j]``, for all (l, j); as one sparse product."""
    gamma, dim = rows.shape
    columns = np.tile(np.arange(dim), gamma)
    S = sparse.coo_array((signs.ravel() / np.sqrt(gamma), (rows.ravel(), columns)), shape=(size, dim)).tocsr()
    product: FloatArray = S @ M
    return product


def _convolve_factors(draw: TensorSketchDraw, jacobian: FiredJacobian) -> FloatArray:
    n, s, fired = len(jacobian.X), draw.size, jacobian.fired
    # The draw is read once for each neuron that fires, then spread to the pairs.
    rows, signs = draw.left_rows[jacobian.neurons], draw.left_signs[jacobian.neurons]
    left = np.bincount(
        fired.data_index * s + rows[jacobian.column],
        weights=jacobian.signs * signs[jacobian.column],
        minlength=n * s,
    )
    cells = np.arange(n)[:, np.newaxis] * s + draw.right_rows
    right = np.bincount(cells.ravel(), weights=(jacobian.X * draw.right_signs).ravel(), minlength=n * s)
    spectrum = fft.rfft(left.reshape(n, s)) * fft.rfft(right.reshape(n, s))
    sketched: FloatArray = fft.irfft(spectrum, n=s).T / np.sqrt(fired.width)
    return sketched


def _scatter_fired(draw: SparseEmbeddingDraw, jacobian: FiredJacobian) -> FloatArray:
    (n, d), fired = jacobian.X.shape, jacobian.fired
    coordinates = jacobian.neurons[jacobian.column, np.newaxis] * d + np.arange(d)  # (p, d)
    entries = jacobian.signs[:, np.newaxis] * jacobian.X[fired.data_index]
    total = np.zeros(draw.size * n)
    for rows, signs in zip(draw.rows, draw.signs, strict=True):
        cells = rows[coordinates] * n + fired.data_index[:, np.newaxis]
        total += np.bincount(
            cells.ravel(), weights=(entries * signs[coordinates]).ravel(), minlength=draw.size * n
        )
    sketched: FloatArray = total.reshape(draw.size, n) / np.sqrt(len(draw.rows) * fired.width)
    return sketched
