"""Sketches applied in the time that theory promises, and Jacobians sketched as the tensors that they are.

Mathematics: `reference.sketch` defines the five kinds. ``S M`` for any ``M`` (N, n) without forming ``S``::

    Gaussian          one matrix product                                        s N n
    SRHT              fast Walsh-Hadamard transform, then pick rows              N' n log2 N'
    sparse embedding  scatter-add of gamma signed copies                         gamma N n
    TensorSketch      the same, with the combined row (left + right) modulo s    N n
    TensorSRHT        as the SRHT: the Kronecker product of two H is one H       m' d' n log2(m' d')

For the Jacobian ``M = J^T`` even ``N n`` is too much, and three kinds can do without. Row ``i`` of ``J`` is a
tensor ``u_i (x) x_i``: in [A] ``u_i = m^(-1/2) (A_i o a)``, in [B] ``p_i (x) h_i`` for each layer. Adding row
numbers modulo ``s`` is a cyclic convolution, so with ``C`` and ``D`` the CountSketches of the two factors
(TensorSketch; Pham and Pagh 2013), and with ``P`` and ``R`` the rows of ``H`` that were sampled (TensorSRHT; Ahle
et al. 2020)::

    S (u_i (x) x_i) = irfft(rfft(C u_i) * rfft(D x_i))
    S (u_i (x) x_i) = (P D_1 u_i) * (R D_2 x_i) / sqrt(s)                      entry by entry

The factors of TensorSRHT come from full transforms, or, for factors so sparse that it is cheaper, from the
sampled entries of ``H`` one by one: ``H[k, r]`` is the parity of the bits that ``k`` and ``r`` share.

Departures from the source
1. The draw covers all ``m`` neurons, but only its entries at neurons that fire are read.
2. TensorSRHT needs ``m log m`` for a factor of length ``m`` however sparse it is, or ``s`` for each nonzero:
   only TensorSketch is linear in the nonzeros.
3. `default_size` is far below the size that the proof asks for: as a preconditioner the sketch affects the
   speed of `fast.regression.solve_sketched`, not its answer.

Cost of a sketched Jacobian with ``p`` fired pairs: ``p + n d + n s log s`` (TensorSketch), ``gamma p d``
(sparse embedding). Cost of `sketch_tensors`: `sketch_tensors_work`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import fft, sparse

from fast.jacobian import FiredJacobian
from reference.notation import FloatArray, InputError, IntArray, as_float_array
from reference.sketch import (
    Draw,
    GaussianDraw,
    SparseEmbeddingDraw,
    SRHTDraw,
    TensorSketchDraw,
    TensorSRHTDraw,
)

ROWS_PER_POINT = 32
"""Rows of the default sketch for each data point; see `default_size`."""

FEWEST_ROWS = 1024
"""Rows of the default sketch at least, whatever the number of data points; see `default_size`."""

PARITY_COST = 4
"""A nonzero times an entry of H made from its parity costs about as much time as four additions of a transform."""


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
    draw : GaussianDraw, SRHTDraw, SparseEmbeddingDraw, TensorSketchDraw or TensorSRHTDraw
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
    if isinstance(draw, TensorSRHTDraw):
        m, d, n = draw.left_dim, draw.right_dim, M.shape[1]
        padded = np.zeros((len(draw.left_signs), len(draw.right_signs), n))
        signs = np.outer(draw.left_signs[:m], draw.right_signs[:d])
        np.multiply(signs[..., np.newaxis], M.reshape(m, d, n), out=padded[:m, :d])
        rows = draw.left_rows * len(draw.right_signs) + draw.right_rows
        return np.asarray(walsh_hadamard(padded.reshape(-1, n))[rows] / np.sqrt(draw.size))
    if isinstance(draw, TensorSketchDraw):
        rows = (draw.left_rows[:, np.newaxis] + draw.right_rows).ravel() % draw.size
        signs = np.outer(draw.left_signs, draw.right_signs)
        return _scatter(rows[np.newaxis], signs.reshape(1, -1), draw.size, M)
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
        The draw is for fewer neurons or another input dimension.
    """
    d, m = jacobian.X.shape[1], jacobian.fired.width
    if isinstance(draw, TensorSketchDraw):
        # A lazy network has fewer rows than its width says, and the draw is for its rows.
        rows = int(jacobian.neurons.max(initial=-1)) + 1
        if draw.left_dim < rows or draw.right_dim != d:
            raise InputError(
                f"the sketch is for {draw.left_dim} by {draw.right_dim} tensors; draw it for all neurons that exist, "
                f"at least {rows}, and dimension {d}"
            )
        return _convolve_fired(draw, jacobian)
    if draw.dim != m * d:
        raise InputError(
            f"the sketch takes {draw.dim} rows but the Jacobian has {m * d} columns; draw it for width {m} and "
            f"dimension {d}"
        )
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
        return _convolution_work(pairs + n * d, n, draw.size)
    return int(len(draw.rows) * pairs * d)


def sketch_tensors(
    draw: TensorSketchDraw | TensorSRHTDraw, left: sparse.csr_array, right: sparse.csr_array
) -> FloatArray:
    """Sketch rank-one tensors from their sparse factors: column ``i`` is ``S (left_i (x) right_i)``.

    The Jacobian of several layers is ``[J_1 ... J_L]``, so with an independent draw of the same size for each,
    ``S = [S_1 ... S_L]``, its sketch ``S J^T`` is the sum of the layers' sketches: call once a layer, and add.

    Parameters
    ----------
    draw : TensorSketchDraw or TensorSRHTDraw
        ``N = m d`` columns. Read at columns of the factors that hold nonzeros only.
    left, right : csr_array (n, m), csr_array (n, d)
        Factors, one row per tensor; [B]: ``p_i`` and ``h_i``. Not modified.

    Returns
    -------
    ndarray (s, n)

    Raises
    ------
    InputError
        A factor that is no CSR array, has another shape than the draw or the other factor asks for, or has NaN
        or infinite entries.

    Examples
    --------
    The tensor (2, 0) (x) (0, 3) has one nonzero, 6 in column (0, 1), which hits row 1 + 2 = 0 modulo 3.

    >>> signs = np.array([1.0, -1.0])
    >>> draw = TensorSketchDraw(np.array([1, 0]), signs, np.array([0, 2]), signs, 3)
    >>> sketch_tensors(draw, sparse.csr_array([[2.0, 0.0]]), sparse.csr_array([[0.0, 3.0]])).ravel()
    array([-6.,  0.,  0.])
    """
    _check_factor("left", left, draw.left_dim)
    _check_factor("right", right, draw.right_dim)
    if left.shape[0] != right.shape[0]:
        raise InputError(
            f"left has {left.shape[0]} rows and right has {right.shape[0]}; pass one row of each per tensor"
        )
    if isinstance(draw, TensorSketchDraw):
        return _convolve(
            _count_sketch(left, draw.left_rows, draw.left_signs, draw.size),
            _count_sketch(right, draw.right_rows, draw.right_signs, draw.size),
        )
    sketched = _sampled_transform(left, draw.left_rows, draw.left_signs)
    sketched *= _sampled_transform(right, draw.right_rows, draw.right_signs)
    sketched /= np.sqrt(draw.size)
    return sketched


def sketch_tensors_work(
    draw: TensorSketchDraw | TensorSRHTDraw, left: sparse.csr_array, right: sparse.csr_array
) -> int:
    """Count the multiply-adds of `sketch_tensors`, from the sizes of the arrays that it processes.

    Parameters
    ----------
    draw : TensorSketchDraw or TensorSRHTDraw
        ``s`` rows.
    left, right : csr_array (n, m), csr_array (n, d)
        Factors.

    Returns
    -------
    int
        With ``p`` nonzeros of both factors: ``p + 3 n s ceil(log2 s)`` for TensorSketch. For TensorSRHT ``p + n s``,
        and for each factor either a transform, ``n m' log2 m'``, or, when its ``q`` nonzeros are so few that
        ``4 q s`` is less, ``s (q + u)`` with ``u`` columns that hold nonzeros.
    """
    n, entries = left.shape[0], left.nnz + right.nnz
    if isinstance(draw, TensorSketchDraw):
        return _convolution_work(entries, n, draw.size)
    work = entries + n * draw.size
    for factor, signs in ((left, draw.left_signs), (right, draw.right_signs)):
        if _transform_pays(factor, draw.size, len(signs)):
            work += _transform_work(n, len(signs))
        else:
            work += draw.size * (factor.nnz + len(np.unique(factor.indices)))
    return int(work)


def _check_factor(name: str, factor: sparse.csr_array, columns: int) -> None:
    if not sparse.issparse(factor) or factor.format != "csr":
        raise InputError(f"{name} is of type {type(factor).__name__}; pass a scipy.sparse.csr_array")
    if factor.ndim != 2 or factor.shape[0] == 0 or factor.shape[1] != columns:
        raise InputError(f"{name} has shape {factor.shape}; pass rows of length {columns}, at least one")
    if factor.nnz:
        as_float_array(f"{name}.data", factor.data, 1)


def _scatter(rows: IntArray, signs: FloatArray, size: int, M: FloatArray) -> FloatArray:
    """Add ``signs[l, j] M[j] / sqrt(gamma)`` to row ``rows[l, j]``, for all (l, j); as one sparse product."""
    gamma, dim = rows.shape
    columns = np.tile(np.arange(dim), gamma)
    S = sparse.coo_array((signs.ravel() / np.sqrt(gamma), (rows.ravel(), columns)), shape=(size, dim)).tocsr()
    product: FloatArray = S @ M
    return product


def _convolve_fired(draw: TensorSketchDraw, jacobian: FiredJacobian) -> FloatArray:
    n, s, fired = len(jacobian.X), draw.size, jacobian.fired
    # The draw is read once for each neuron that fires, then spread to the pairs.
    rows, signs = draw.left_rows[jacobian.neurons], draw.left_signs[jacobian.neurons]
    left = _add_up(
        fired.data_index * s + rows[jacobian.column], jacobian.signs * signs[jacobian.column], n, s
    )
    cells = np.arange(n)[:, np.newaxis] * s + draw.right_rows
    right = _add_up(cells.ravel(), (jacobian.X * draw.right_signs).ravel(), n, s)
    sketched: FloatArray = _convolve(left, right) / np.sqrt(fired.width)
    return sketched


def _count_sketch(factor: sparse.csr_array, rows: IntArray, signs: FloatArray, size: int) -> FloatArray:
    """CountSketch of each row of a sparse matrix, as (n, s)."""
    n = factor.shape[0]
    starts = np.repeat(np.arange(n) * size, np.diff(factor.indptr))
    return _add_up(starts + rows[factor.indices], factor.data * signs[factor.indices], n, size)


def _add_up(cells: IntArray, values: FloatArray, n: int, size: int) -> FloatArray:
    """Add every value to its cell ``i s + row`` of an (n, s) matrix of zeros."""
    return np.asarray(np.bincount(cells, weights=values, minlength=n * size), float).reshape(n, size)


def _convolve(left: FloatArray, right: FloatArray) -> FloatArray:
    """Cyclic convolution of the rows of two (n, s) matrices; returns (s, n)."""
    spectrum = fft.rfft(left) * fft.rfft(right)
    convolved: FloatArray = fft.irfft(spectrum, n=left.shape[1]).T
    return convolved


def _convolution_work(entries: int, n: int, size: int) -> int:
    return int(entries + 3 * n * size * (size - 1).bit_length())


def _sampled_transform(factor: sparse.csr_array, rows: IntArray, signs: FloatArray) -> FloatArray:
    """Multiply sampled rows of ``H`` with the signed rows of a sparse matrix; returns (s, n)."""
    n, order = factor.shape[0], len(signs)
    signed = factor.data * signs[factor.indices]
    if _transform_pays(factor, len(rows), order):
        padded = sparse.csr_array((signed, factor.indices, factor.indptr), shape=(n, order))
        return walsh_hadamard(padded.T.toarray(order="C"))[rows]
    columns, position = np.unique(factor.indices, return_inverse=True)
    H = 1.0 - 2.0 * (np.bitwise_count(columns[:, np.newaxis] & rows) & 1)  # (u, s)
    product: FloatArray = (sparse.csr_array((signed, position, factor.indptr), shape=(n, len(columns))) @ H).T
    return product


def _transform_pays(factor: sparse.csr_array, size: int, order: int) -> bool:
    return bool(_transform_work(factor.shape[0], order) <= PARITY_COST * size * factor.nnz)


def _transform_work(n: int, order: int) -> int:
    return n * order * (order - 1).bit_length()


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
