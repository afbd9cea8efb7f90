"""Sketches: short random matrices that keep the length of every vector in a subspace, as explicit matrices.

Mathematics ([A], Definition 2.1). Let the columns of ``M`` (N, n) span the subspace. A random ``S`` (s, N) is
an oblivious subspace embedding when, with probability at least ``1 - failure`` over a draw made without
looking at ``M``::

    (1 - epsilon) ||M z||^2 <= ||S M z||^2 <= (1 + epsilon) ||M z||^2         for all z

or: the eigenvalues of ``Q^T S^T S Q`` lie within ``epsilon`` of 1, with ``Q`` an orthonormal basis of the
columns of ``M``. This project states it for the *squared* length. Here ``M = J^T`` and ``N = m d``. Five
kinds::

    Gaussian          S[k, j] = N(0, 1) / sqrt(s)
    SRHT              S[k, j] = signs[j] H[rows[k], j] / sqrt(s)             H: Hadamard matrix of order N'
    sparse embedding  S[rows[l, j], j] = signs[l, j] / sqrt(gamma)           one entry in each of gamma blocks
    TensorSketch      S[(left_rows[r] + right_rows[c]) mod s, r d + c] = left_signs[r] right_signs[c]
    TensorSRHT        S[k, r d + c] = left_signs[r] right_signs[c] H[left_rows[k], r] H[right_rows[k], c] / sqrt(s)

Sources: Davidson and Szarek (2001) for the extreme singular values of a Gaussian matrix; Tropp (2011) for the
SRHT; Clarkson and Woodruff (2013) for CountSketch, which is ``gamma = 1``; Nelson and Nguyen (2013) for the
sparse embedding with blocks; Pham and Pagh (2013) and Avron, Nguyen and Woodruff (2014) for TensorSketch;
Ahle et al. (2020) for TensorSRHT. The last two are for vectors ``u (x) x``, such as the rows of the Jacobians
of [A] and [B], and can be applied from ``u`` and ``x``.

A *draw* holds the random numbers of one sketch. It is made once and consumed by both sides, so that they
agree to rounding. Each ``*_size`` function returns the ``s`` at which a proof with explicit constants gives
(epsilon, failure).

Departures from the sources
1. The SRHT pads with zeros: ``N'`` is the next power of 2, and only the first ``N`` columns of ``H`` appear.
   TensorSRHT pads ``u`` and ``x`` likewise, each to its own order: ``m'`` and ``d'``.
2. The size of the sparse embedding comes from the second moment for every ``gamma``: larger than the best
   known orders for ``gamma > 1``, but with a constant that is known.
3. The constant of TensorSketch is ours, 3 in place of the 11 of Avron, Nguyen and Woodruff. With ``P = Q
   Q^T``, the mean of ``||Q^T S^T S Q - I||_F^2`` is the sum over ``i != j``, ``k != l`` of ``P_ik P_jl``
   times the mean of the product of four signs where ``i, j`` and ``k, l`` collide. The signs cancel unless
   the four row indices agree in pairs, and so do the four column indices. Equal pairings give ``n^2 + n``
   over ``s``; rows paired as (ij)(kl) give ``n^2 + n`` more (partial traces of ``P`` are positive
   semidefinite of trace ``n``), columns likewise; what is left needs two collisions and gives at most ``4 n^2
   / s^2``.
4. The right rows of TensorSketch are drawn without replacement when ``d <= s``: no two of few inputs share a
   row. It never raises a term of the sum above, and the pairing of rows as (ij)(kl) drops out.
5. The size of TensorSRHT is ours, with explicit constants. A row ``y`` of ``(H D_1 (x) H D_2) Q`` is a sum of
   rows of ``Q`` times two signs each, so Gaussian signs would only raise its even moments. The mean of
   ``||y||^4`` is then a sum over pairings of four row indices and of four column indices: ``n^2`` and twice
   ``n`` for equal pairings, at most ``n^2`` (a partial trace squared) where just one of them is (ij)(kl), four
   times, and at most ``n`` for the two that are left: ``5 n^2 + 4 n`` in all.

Cost of applying the explicit matrix: ``s N n``.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, log, sqrt

import numpy as np

from reference.notation import FloatArray, InputError, IntArray, check_generator


@dataclass(frozen=True, eq=False)
class GaussianDraw:
    """Random numbers of a Gaussian sketch.

    Parameters
    ----------
    entries : ndarray (s, N)
        Independent N(0, 1).
    """

    entries: FloatArray

    @property
    def size(self) -> int:
        """Rows ``s`` of the sketch."""
        return len(self.entries)

    @property
    def dim(self) -> int:
        """Columns ``N`` of the sketch."""
        return int(self.entries.shape[1])


@dataclass(frozen=True, eq=False)
class SRHTDraw:
    """Random numbers of a subsampled randomized Hadamard transform.

    Parameters
    ----------
    signs : ndarray (N',)
        -1 or +1; ``N'`` is the smallest power of 2 that is at least ``dim``.
    rows : ndarray (s,) of int
        Distinct rows of the Hadamard matrix of order ``N'``.
    dim : int
        Columns ``N`` of the sketch.
    """

    signs: FloatArray
    rows: IntArray
    dim: int

    @property
    def size(self) -> int:
        """Rows ``s`` of the sketch."""
        return len(self.rows)


@dataclass(frozen=True, eq=False)
class SparseEmbeddingDraw:
    """Random numbers of a sparse embedding; CountSketch when ``gamma = 1``.

    Parameters
    ----------
    rows : ndarray (gamma, N) of int
        Row of each column's entry in each block; block ``l`` has the rows ``l s / gamma`` to ``(l + 1) s /
        gamma - 1``.
    signs : ndarray (gamma, N)
        -1 or +1.
    size : int
        Rows ``s`` of the sketch, a multiple of ``gamma``.
    """

    rows: IntArray
    signs: FloatArray
    size: int

    @property
    def dim(self) -> int:
        """Columns ``N`` of the sketch."""
        return int(self.rows.shape[1])


@dataclass(frozen=True, eq=False)
class TensorSketchDraw:
    """Random numbers of a TensorSketch of vectors ``u (x) x``, ``u`` (m,) and ``x`` (d,).

    Parameters
    ----------
    left_rows, left_signs : ndarray (m,)
        CountSketch of ``u``: rows in 0 to ``s - 1``, signs -1 or +1.
    right_rows, right_signs : ndarray (d,)
        CountSketch of ``x``.
    size : int
        Rows ``s`` of the sketch.
    """

    left_rows: IntArray
    left_signs: FloatArray
    right_rows: IntArray
    right_signs: FloatArray
    size: int

    @property
    def left_dim(self) -> int:
        """Length ``m`` of ``u``."""
        return len(self.left_rows)

    @property
    def right_dim(self) -> int:
        """Length ``d`` of ``x``."""
        return len(self.right_rows)

    @property
    def dim(self) -> int:
        """Columns ``N = m d`` of the sketch."""
        return self.left_dim * self.right_dim


@dataclass(frozen=True, eq=False)
class TensorSRHTDraw:
    """Random numbers of a TensorSRHT of vectors ``u (x) x``, ``u`` (m,) and ``x`` (d,).

    Parameters
    ----------
    left_signs, right_signs : ndarray (m',), ndarray (d',)
        -1 or +1; ``m'`` and ``d'`` are the smallest powers of 2 that are at least ``m`` and ``d``.
    left_rows, right_rows : ndarray (s,) of int
        Rows of the Hadamard matrices of orders ``m'`` and ``d'``; pairs may repeat.
    left_dim, right_dim : int
        ``m`` and ``d``.
    """

    left_signs: FloatArray
    right_signs: FloatArray
    left_rows: IntArray
    right_rows: IntArray
    left_dim: int
    right_dim: int

    @property
    def size(self) -> int:
        """Rows ``s`` of the sketch."""
        return len(self.left_rows)

    @property
    def dim(self) -> int:
        """Columns ``N = m d`` of the sketch."""
        return self.left_dim * self.right_dim


Draw = GaussianDraw | SRHTDraw | SparseEmbeddingDraw | TensorSketchDraw | TensorSRHTDraw


def draw_gaussian(size: int, dim: int, *, rng: np.random.Generator) -> GaussianDraw:
    """Draw a Gaussian sketch.

    Parameters
    ----------
    size, dim : int
        ``s`` and ``N``.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    GaussianDraw

    Raises
    ------
    InputError
        ``size`` or ``dim`` below 1, or ``rng`` not a Generator.
    """
    _check_shape(size, dim)
    return GaussianDraw(check_generator(rng).standard_normal((size, dim)))


def draw_srht(size: int, dim: int, *, rng: np.random.Generator) -> SRHTDraw:
    """Draw a subsampled randomized Hadamard transform; its rows are sampled without replacement (Tropp 2011).

    Parameters
    ----------
    size, dim : int
        ``s`` and ``N``; ``s`` is at most the next power of 2 from ``N``.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    SRHTDraw

    Raises
    ------
    InputError
        ``size`` or ``dim`` out of range, or ``rng`` not a Generator.
    """
    _check_shape(size, dim)
    check_generator(rng)
    order = hadamard_order(dim)
    if size > order:
        raise InputError(
            f"size is {size} but a Hadamard matrix for dim {dim} has {order} rows; pass at most that many"
        )
    signs = _random_signs((order,), rng)
    return SRHTDraw(signs, rng.choice(order, size=size, replace=False).astype(np.intp), dim)


def draw_sparse_embedding(
    size: int, dim: int, *, rng: np.random.Generator, gamma: int = 1
) -> SparseEmbeddingDraw:
    """Draw a sparse embedding with ``gamma`` nonzeros in each column (Nelson and Nguyen 2013).

    Parameters
    ----------
    size, dim : int
        ``s`` and ``N``.
    rng : numpy.random.Generator
        Source of randomness.
    gamma : int
        Nonzeros per column; divides ``size``. 1 gives CountSketch.

    Returns
    -------
    SparseEmbeddingDraw

    Raises
    ------
    InputError
        ``size`` or ``dim`` below 1, ``gamma`` not a divisor of ``size``, or ``rng`` not a Generator.
    """
    _check_shape(size, dim)
    check_generator(rng)
    if gamma < 1 or size % gamma:
        raise InputError(f"gamma is {gamma} and size is {size}; pass a positive gamma that divides size")
    block = size // gamma
    rows = rng.integers(0, block, size=(gamma, dim)) + block * np.arange(gamma)[:, np.newaxis]
    return SparseEmbeddingDraw(rows.astype(np.intp), _random_signs((gamma, dim), rng), size)


def draw_tensor_sketch(size: int, width: int, dim: int, *, rng: np.random.Generator) -> TensorSketchDraw:
    """Draw a TensorSketch for rows ``u (x) x`` (Pham and Pagh 2013; departure 4).

    Parameters
    ----------
    size : int
        ``s``.
    width, dim : int
        Lengths ``m`` of ``u`` and ``d`` of ``x``.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    TensorSketchDraw

    Raises
    ------
    InputError
        An argument below 1, or ``rng`` not a Generator.
    """
    _check_shape(size, min(width, dim))
    check_generator(rng)
    left_rows = rng.integers(0, size, size=width).astype(np.intp)
    left_signs = _random_signs((width,), rng)
    right_rows = rng.choice(size, size=dim, replace=dim > size).astype(np.intp)
    return TensorSketchDraw(left_rows, left_signs, right_rows, _random_signs((dim,), rng), size)


def draw_tensor_srht(size: int, width: int, dim: int, *, rng: np.random.Generator) -> TensorSRHTDraw:
    """Draw a TensorSRHT for rows ``u (x) x``; its pairs of rows are independent (Ahle et al. 2020).

    Parameters
    ----------
    size : int
        ``s``; not bounded by ``N``, since pairs may repeat.
    width, dim : int
        Lengths ``m`` of ``u`` and ``d`` of ``x``.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    TensorSRHTDraw

    Raises
    ------
    InputError
        An argument below 1, or ``rng`` not a Generator.
    """
    _check_shape(size, min(width, dim))
    check_generator(rng)
    orders = hadamard_order(width), hadamard_order(dim)
    left_signs, right_signs = (_random_signs((order,), rng) for order in orders)
    left_rows, right_rows = (rng.integers(0, order, size=size).astype(np.intp) for order in orders)
    return TensorSRHTDraw(left_signs, right_signs, left_rows, right_rows, width, dim)


def to_matrix(draw: Draw) -> FloatArray:
    """Write out the sketch ``S`` of a draw, entry by entry from its definition in the module docstring.

    Parameters
    ----------
    draw : GaussianDraw, SRHTDraw, SparseEmbeddingDraw, TensorSketchDraw or TensorSRHTDraw
        ``s`` rows, ``N`` columns.

    Returns
    -------
    ndarray (s, N)

    Examples
    --------
    The column of (r, c) = (0, 1) hits row 2 + 2 = 1 modulo 3, with the sign -1 times +1.

    >>> draw = TensorSketchDraw(np.array([2]), np.array([-1.0]), np.array([0, 2]), np.array([1.0, 1.0]), 3)
    >>> to_matrix(draw)
    array([[ 0.,  0.],
           [ 0., -1.],
           [-1.,  0.]])
    """
    if isinstance(draw, GaussianDraw):
        return np.asarray(draw.entries / np.sqrt(draw.size))
    if isinstance(draw, SRHTDraw):
        H = hadamard_matrix(len(draw.signs))
        return np.asarray((H[draw.rows] * draw.signs)[:, : draw.dim] / np.sqrt(draw.size))
    if isinstance(draw, TensorSRHTDraw):
        left = (hadamard_matrix(len(draw.left_signs))[draw.left_rows] * draw.left_signs)[:, : draw.left_dim]
        right = (hadamard_matrix(len(draw.right_signs))[draw.right_rows] * draw.right_signs)[:, : draw.right_dim]
        products = left[:, :, np.newaxis] * right[:, np.newaxis]  # (s, m, d)
        return np.asarray(products.reshape(draw.size, draw.dim) / np.sqrt(draw.size))
    S = np.zeros((draw.size, draw.dim))
    if isinstance(draw, SparseEmbeddingDraw):
        for rows, signs in zip(draw.rows, draw.signs, strict=True):
            S[rows, np.arange(draw.dim)] = signs / np.sqrt(len(draw.rows))
        return S
    d = len(draw.right_rows)
    for r in range(len(draw.left_rows)):
        for c in range(d):
            S[(draw.left_rows[r] + draw.right_rows[c]) % draw.size, r * d + c] = (
                draw.left_signs[r] * draw.right_signs[c]
            )
    return S


def hadamard_order(dim: int) -> int:
    """Return the smallest power of 2 that is at least ``dim``.

    Parameters
    ----------
    dim : int
        At least 1.

    Returns
    -------
    int

    Examples
    --------
    >>> [hadamard_order(dim) for dim in (1, 2, 3, 8)]
    [1, 2, 4, 8]
    """
    _check_shape(1, dim)
    return 1 << (dim - 1).bit_length()


def hadamard_matrix(order: int) -> FloatArray:
    """Build the Hadamard matrix of a power of 2 by doubling: ``H <- [[H, H], [H, -H]]``.

    Parameters
    ----------
    order : int
        A power of 2.

    Returns
    -------
    ndarray (order, order)
        Entries -1 and +1; ``H H^T = order I``.

    Raises
    ------
    InputError
        ``order`` is no power of 2.

    Examples
    --------
    >>> hadamard_matrix(2)
    array([[ 1.,  1.],
           [ 1., -1.]])
    """
    if order != hadamard_order(order):
        raise InputError(f"order is {order}; pass a power of 2")
    H = np.ones((1, 1))
    while len(H) < order:
        H = np.block([[H, H], [H, -H]])
    return H


def gaussian_size(n: int, epsilon: float, failure: float) -> int:
    """Return the size at which a Gaussian sketch embeds ``n`` dimensions.

    Davidson and Szarek (2001): with probability ``1 - failure`` the singular values lie within ``u = (sqrt(n)
    + sqrt(2 ln(2 / failure))) / sqrt(s)`` of 1. Their squares then lie within epsilon of 1 when ``(1 + u)^2
    <= 1 + epsilon``, the tighter of the two sides.

    Parameters
    ----------
    n : int
        Dimension of the subspace.
    epsilon, failure : float
        Distortion of squared lengths and failure probability, in (0, 1).

    Returns
    -------
    int

    Raises
    ------
    InputError
        An argument out of range.

    Examples
    --------
    >>> gaussian_size(8, 0.5, 0.1)
    552
    """
    _check_target(n, epsilon, failure)
    return ceil(((sqrt(n) + sqrt(2 * log(2 / failure))) / (sqrt(1 + epsilon) - 1)) ** 2)


def srht_size(n: int, dim: int, epsilon: float, failure: float) -> int:
    """Return the size at which an SRHT embeds ``n`` dimensions.

    Tropp (2011). Half of the failure goes to the rows of ``H D Q``: all ``N'`` squared lengths are at most
    ``c / N'`` with ``c = (sqrt(n) + sqrt(8 ln(2 N' / failure)))^2``. The other half goes to sampling rows
    without replacement, by the matrix Chernoff bound: ``2 n exp(-h s / c)`` with ``h = (1 + epsilon) ln(1 +
    epsilon) - epsilon``.

    Parameters
    ----------
    n : int
        Dimension of the subspace.
    dim : int
        Columns ``N`` of the sketch.
    epsilon, failure : float
        Distortion of squared lengths and failure probability, in (0, 1).

    Returns
    -------
    int
        At most ``N'``, where the SRHT is an isometry.

    Raises
    ------
    InputError
        An argument out of range.
    """
    _check_target(n, epsilon, failure)
    order = hadamard_order(dim)
    coherence = (sqrt(n) + sqrt(8 * log(2 * order / failure))) ** 2
    return min(order, ceil(_chernoff_size(n, coherence, epsilon, failure)))


def sparse_embedding_size(n: int, epsilon: float, failure: float, *, gamma: int = 1) -> int:
    """Return the size at which a sparse embedding embeds ``n`` dimensions.

    The mean of ``||Q^T S^T S Q - I||_F^2`` is at most ``n (n + 1) / s``, whatever ``gamma``, so Markov's
    inequality gives ``s = n (n + 1) / (epsilon^2 failure)`` (Nelson and Nguyen 2013 for CountSketch), here
    rounded up to a multiple of ``gamma``.

    Parameters
    ----------
    n : int
        Dimension of the subspace.
    epsilon, failure : float
        Distortion of squared lengths and failure probability, in (0, 1).
    gamma : int
        Nonzeros per column.

    Returns
    -------
    int

    Raises
    ------
    InputError
        An argument out of range.

    Examples
    --------
    >>> sparse_embedding_size(8, 0.5, 0.125)
    2304
    """
    _check_target(n, epsilon, failure)
    if gamma < 1:
        raise InputError(f"gamma is {gamma}; pass at least 1 nonzero per column")
    return gamma * ceil(n * (n + 1) / (epsilon**2 * failure * gamma))


def tensor_sketch_size(n: int, epsilon: float, failure: float) -> int:
    """Return the size at which a TensorSketch embeds ``n`` dimensions.

    The mean of ``||Q^T S^T S Q - I||_F^2`` is at most ``3 n (n + 1) / s + 4 n^2 / s^2`` (departure 3), which
    is at most ``epsilon^2 failure`` when ``s >= 3 n (n + 1) / (epsilon^2 failure) + 2``; Markov's inequality
    does the rest.

    Parameters
    ----------
    n : int
        Dimension of the subspace.
    epsilon, failure : float
        Distortion of squared lengths and failure probability, in (0, 1).

    Returns
    -------
    int

    Raises
    ------
    InputError
        An argument out of range.

    Examples
    --------
    >>> tensor_sketch_size(8, 0.5, 0.125)
    6914
    """
    _check_target(n, epsilon, failure)
    return ceil(3 * n * (n + 1) / (epsilon**2 * failure)) + 2


def tensor_srht_size(n: int, width: int, dim: int, epsilon: float, failure: float) -> int:
    """Return the size at which a TensorSRHT embeds ``n`` dimensions, the smaller of two proofs.

    Given the signs, the sampled rows ``y`` of ``(H D_1 (x) H D_2) Q`` are independent and ``y y^T`` has mean
    ``I``. First proof: the mean of ``||Q^T S^T S Q - I||_F^2`` is that of ``||y||^4 - n`` over ``s``, at most
    ``(5 n^2 + 3 n) / s`` (departure 5); Markov's inequality does the rest. Second proof: Khintchine's
    inequality with the Gaussian constant, for the left signs and then the right ones, bounds the mean of
    ``||y||^(2q)`` by ``((2q - 1)!!)^2 n^q <= 2 (2q / e)^(2q) n^q``. With ``q >= ln(4 m' d' / failure) / 2``
    Markov's inequality leaves all ``m' d'`` squared lengths at most ``c = 4 q^2 n``, but for half the failure.
    The other half goes to sampling, by the matrix Chernoff bound as in `srht_size`.

    Parameters
    ----------
    n : int
        Dimension of the subspace.
    width, dim : int
        Lengths ``m`` and ``d`` of the factors.
    epsilon, failure : float
        Distortion of squared lengths and failure probability, in (0, 1).

    Returns
    -------
    int
        May exceed ``m d``: rows are sampled with replacement.

    Raises
    ------
    InputError
        An argument out of range.

    Examples
    --------
    >>> tensor_srht_size(8, 2048, 2048, 0.5, 0.125)
    11008
    """
    _check_target(n, epsilon, failure)
    order = hadamard_order(width) * hadamard_order(dim)
    q = ceil(log(4 * order / failure) / 2)
    second_moment = n * (5 * n + 3) / (epsilon**2 * failure)
    return ceil(min(second_moment, _chernoff_size(n, min(order, 4 * q**2 * n), epsilon, failure)))


def _chernoff_size(n: int, coherence: float, epsilon: float, failure: float) -> float:
    """Solve ``2 n exp(-h s / coherence) = failure / 2`` for ``s``; `srht_size` defines ``h``."""
    exponent = (1 + epsilon) * log(1 + epsilon) - epsilon
    return coherence * log(4 * n / failure) / exponent


def _random_signs(shape: tuple[int, ...], rng: np.random.Generator) -> FloatArray:
    return np.asarray(2.0 * rng.integers(0, 2, size=shape) - 1.0)


def _check_shape(size: int, dim: int) -> None:
    if size < 1 or dim < 1:
        raise InputError(f"the sketch would be {size} by {dim}; pass a size and dimensions of at least 1")


def _check_target(n: int, epsilon: float, failure: float) -> None:
    if n < 1 or not (0 < epsilon < 1 and 0 < failure < 1):
        raise InputError(
            f"n is {n}, epsilon is {epsilon} and failure is {failure}; "
            "pass n >= 1 and the other two between 0 and 1"
        )
