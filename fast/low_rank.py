"""A weight matrix under low-rank updates, kept as what it was plus sparse factors, which are folded when it pays.

Mathematics ([B], its data structure for lazy weights)::

    W = W(0) + F + left^T right         left (k, p), right (k, q): sparse, one row of each for every rank-one term

``W(0)`` is the caller's and never written. Questions come for sparse vectors, one row each, and read only what they
need of it::

    multiply            W h               the columns of W(0) at the entries of h
    multiply_at         W^T p at the entries of a pattern: the rows at those of p, the columns at those of the pattern

and from the factors ``left^T (right h)``: the overlap of ``h`` with ``right``, then ``left`` once. Now and then the
product of the factors is folded into ``F`` by `fast.rectangular_product`.

Departures from the paper
1. It folds when the rank reaches a power of ``m``. Here folding waits, by default, until the products with the factors
   have cost as much as the fold will: the rule of whoever rents skis until the rent has reached the price. A fold takes
   ``R C`` multiply-adds a term however long the term has waited, so folding early saves nothing, and waiting much
   longer would cost more than it saves. `LowRankWeights` takes a rank instead.
2. The factors stay sparse, and so does the fold: ``F`` is a dense block on the rows and columns that any folded term
   touched, ``R`` by ``C`` instead of ``m`` by ``m``. Neurons that fire nowhere lie outside.
3. Where more than one entry in `DENSE_FORWARD` or `DENSE_BACK` is not zero, products with the whole of ``W(0)`` by BLAS
   cost less than reading columns one by one, and are used instead.

``W(0)`` is read by columns, so it should be stored column by column; `LowRankWeights.store_by_columns` sees to it.

Cost of `multiply` for ``n`` vectors of ``s`` entries: ``n s p`` for ``W(0)``, ``n s R`` for ``F``, and for the factors
their overlap with the vectors plus ``n`` times the entries of ``left``. `multiply_at` reads ``s`` times as many entries
of ``W(0)`` as the vectors have. A fold: see `fast.rectangular_product`, for ``R`` by ``k`` by ``C``.
"""

from __future__ import annotations

import copy

import numpy as np
from scipy import sparse

from fast import rectangular_product
from fast.two_layer import BLOCK_ENTRIES
from reference.notation import FloatArray, InputError, IntArray

DENSE_FORWARD, DENSE_BACK = 6, 12
"""One entry in so many must be other than zero for products with the whole matrix to cost less: ``W h``, ``W^T p``."""
PHASES = ("read", "factors", "fold")
"""What is counted: entries of ``W(0)`` read and multiplied, multiply-adds with ``F`` and factors, those of folds."""


def row_lengths(H: sparse.csr_array) -> FloatArray:
    """Compute the length of every row: (n,)."""
    lengths: FloatArray = np.sqrt(np.bincount(row_numbers(H), weights=H.data**2, minlength=H.shape[0]))
    return lengths


def row_numbers(H: sparse.csr_array) -> IntArray:
    """Tell the row of every stored entry: (nnz,)."""
    return np.repeat(np.arange(H.shape[0]), np.diff(H.indptr))


class LowRankWeights:
    """A matrix ``W`` that takes its updates as factors.

    Parameters
    ----------
    initial : ndarray (p, q)
        ``W(0)``. Kept, and never written to.
    budget : int, optional
        Rank at which the factors are folded. By default, when waiting has cost as much as the fold will.

    Attributes
    ----------
    left, right : csr_array (k, p) and (k, q)
        Factors that are not folded yet.
    rows, columns : ndarray of int
        Where ``F`` is: increasing.
    block : ndarray (len(rows), len(columns))
        ``F`` there.
    folds : int
        Folds so far.
    waited : int
        Multiply-adds with the factors since the last fold.
    relaid : bool
        Whether ``W(0)`` is a copy of the caller's, stored column by column.
    work : dict
        Multiply-adds so far, for each of `PHASES`; shared with copies.

    Raises
    ------
    InputError
        A budget that is no whole number from 1 on.
    """

    def __init__(self, initial: FloatArray, *, budget: int | None = None) -> None:
        self.initial, self.relaid = initial, False
        if not (initial.flags.c_contiguous or initial.flags.f_contiguous):
            self.store_by_columns()
        p, q = initial.shape
        self.left, self.right = sparse.csr_array((0, p)), sparse.csr_array((0, q))
        self.rows: IntArray = np.empty(0, dtype=np.intp)
        self.columns: IntArray = np.empty(0, dtype=np.intp)
        self.block = np.empty((0, 0))
        self.touched_rows, self.touched_columns = np.zeros(p, dtype=np.bool_), np.zeros(q, dtype=np.bool_)
        self.folds, self.waited = 0, 0
        self.work = dict.fromkeys(PHASES, 0)
        self.set_budget(budget)

    def set_budget(self, budget: int | None) -> None:
        """Set the rank at which an update is followed by a fold; if None, fold when waiting has cost as much.

        Raises
        ------
        InputError
            A budget that is no whole number from 1 on.
        """
        if budget is not None:
            whole = isinstance(budget, (int, np.integer)) and not isinstance(budget, bool)
            if not whole or budget < 1:
                raise InputError(
                    f"the rank budget is {budget!r}; pass a whole number, at least 1, or None to fold when it pays"
                )
        self.budget = budget

    @property
    def rank(self) -> int:
        """Rank-one terms that are not folded yet."""
        return int(self.left.shape[0])

    def add(self, left: sparse.csr_array, right: sparse.csr_array) -> None:
        """Apply ``W <- W + left^T right``: keep the factors, and fold when it is time.

        Parameters
        ----------
        left : csr_array (k, p)
            Row factors of ``k`` rank-one terms.
        right : csr_array (k, q)
            Column factors.

        Raises
        ------
        InputError
            Shapes that do not fit.
        """
        p, q = self.initial.shape
        if left.shape[1] != p or right.shape != (left.shape[0], q):
            raise InputError(
                f"left has shape {left.shape} and right {right.shape}; pass (k, {p}) and (k, {q}) with the same k"
            )
        self.left = sparse.vstack([self.left, left], format="csr")
        self.right = sparse.vstack([self.right, right], format="csr")
        # Copies share what they look at, so nothing is changed in place.
        self.touched_rows, self.touched_columns = self.touched_rows.copy(), self.touched_columns.copy()
        self.touched_rows[left.indices] = self.touched_columns[right.indices] = True
        if self._due():
            self.fold()

    def _due(self) -> bool:
        """Tell whether it is time to fold."""
        if self.budget is None:
            return self.waited >= max(1, self._fold_work())
        return self.rank >= self.budget

    def _fold_work(self) -> int:
        """Count the multiplications that a fold would take now."""
        rows, columns = int(np.count_nonzero(self.touched_rows)), int(np.count_nonzero(self.touched_columns))
        sides = rows, self.rank, columns
        return rectangular_product.multiplications(*sides) if all(sides) else 0

    def fold(self) -> None:
        """Multiply the factors out, into the block of rows and columns that they touch."""
        rows, columns = np.flatnonzero(self.touched_rows), np.flatnonzero(self.touched_columns)
        if len(rows) and len(columns):
            left, right = self.left[:, rows].toarray(), self.right[:, columns].toarray()
            self.work["fold"] += self._fold_work()
            self.add_block(rows, columns, rectangular_product.multiply(left.T, right))
        self.left, self.right = self.left[:0], self.right[:0]
        self.touched_rows, self.touched_columns = np.zeros_like(self.touched_rows), np.zeros_like(self.touched_columns)
        self.folds, self.waited = self.folds + 1, 0

    def _wait(self, work: int) -> None:
        """Count work with the factors."""
        self.work["factors"] += work
        self.waited += work

    def add_block(self, rows: IntArray, columns: IntArray, block: FloatArray) -> None:
        """Add a dense block to ``F``.

        Parameters
        ----------
        rows, columns : ndarray of int
            Where; increasing.
        block : ndarray (len(rows), len(columns))
            What.
        """
        all_rows, all_columns = np.union1d(self.rows, rows), np.union1d(self.columns, columns)
        total = np.zeros((len(all_rows), len(all_columns)))
        for own_rows, own_columns, part in ((self.rows, self.columns, self.block), (rows, columns, block)):
            total[np.ix_(np.searchsorted(all_rows, own_rows), np.searchsorted(all_columns, own_columns))] += part
        self.rows, self.columns, self.block = all_rows.astype(np.intp), all_columns.astype(np.intp), total

    def multiply(self, H: sparse.csr_array) -> FloatArray:
        """Compute ``W h`` for some vectors.

        Parameters
        ----------
        H : csr_array (n, q)
            Vectors, one per row.

        Returns
        -------
        ndarray (n, p)
        """
        if self.takes_whole(H):
            product: FloatArray = H.toarray() @ self.initial.T
            self.work["read"] += H.shape[0] * self.initial.size
        else:
            product = _times_columns(H, self.initial)
            self.work["read"] += H.nnz * len(self.initial)
        rows, added = self.added(H)
        product[:, rows] += added
        return product

    def takes_whole(self, H: sparse.csr_array) -> bool:
        """Tell whether `multiply` would use the whole of ``W(0)``; see departure 3."""
        return bool(H.nnz * DENSE_FORWARD > H.shape[0] * H.shape[1])

    def added(self, H: sparse.csr_array) -> tuple[IntArray, FloatArray]:
        """Compute what training has added to ``W h``: ``(F + left^T right) h``.

        Parameters
        ----------
        H : csr_array (n, q)
            Vectors, one per row.

        Returns
        -------
        rows : ndarray (u,) of int
            Where it may differ from 0; increasing.
        added : ndarray (n, u)
        """
        n = H.shape[0]
        rows = np.flatnonzero(self.touched_rows)
        added = np.zeros((n, len(rows)))
        if self.rank:
            added = _times_factors(_overlap(H, self.right), self.left, rows)
            self._wait(_overlap_work(H, self.right) + n * self.left.nnz)
        if self.block.size:
            here = H[:, self.columns]
            waiting, own = added, rows
            rows = np.union1d(own, self.rows)
            added = np.zeros((n, len(rows)))
            added[:, np.searchsorted(rows, own)] = waiting
            added[:, np.searchsorted(rows, self.rows)] += here @ self.block.T
            self.work["factors"] += here.nnz * len(self.rows)
        return rows, added

    def multiply_at(self, P: sparse.csr_array, pattern: sparse.csr_array) -> FloatArray:
        """Compute ``W^T p`` for some vectors, at some entries of each alone.

        Parameters
        ----------
        P : csr_array (n, p)
            Vectors, one per row.
        pattern : csr_array (n, q)
            Where: row ``i`` has a stored entry, of any value, for each entry of ``W^T p_i`` that is wanted.

        Returns
        -------
        ndarray (pattern.nnz,)
            In the order in which ``pattern`` stores its entries.
        """
        if self.takes_whole_back(P):
            row = row_numbers(pattern)
            values: FloatArray = (P.toarray() @ self.initial)[row, pattern.indices]
            self.work["read"] += P.shape[0] * self.initial.size
        else:
            values, read = _gather(self.initial, P, pattern)
            self.work["read"] += read
        return self.with_added_at(values, P, pattern)

    def takes_whole_back(self, P: sparse.csr_array) -> bool:
        """Tell whether `multiply_at` would use the whole of ``W(0)``; see departure 3."""
        return bool(P.nnz * DENSE_BACK > P.shape[0] * P.shape[1])

    def with_added_at(self, values: FloatArray, P: sparse.csr_array, pattern: sparse.csr_array) -> FloatArray:
        """Complete ``W(0)^T p`` at the entries of a pattern by what training has added; see `multiply_at`."""
        n = pattern.shape[0]
        row_of = row_numbers(pattern)
        if self.rank:
            coefficients = _overlap(P, self.left)
            columns = np.flatnonzero(self.touched_columns)
            values += pick(_times_factors(coefficients, self.right, columns), columns, row_of, pattern.indices)
            self._wait(_overlap_work(P, self.left) + n * self.right.nnz)
        if self.block.size:
            here = P[:, self.rows]
            values += pick(here @ self.block, self.columns, row_of, pattern.indices)
            self.work["factors"] += here.nnz * len(self.columns)
        return values

    def columns_at(self, columns: IntArray) -> FloatArray:
        """Write out some columns of ``W``, each asked for once: (p, len(columns))."""
        written = self.initial[:, columns]
        if self.rank:
            written += self.left.T @ self.right[:, columns].toarray()
        _, mine, theirs = np.intersect1d(self.columns, columns, return_indices=True)
        written[np.ix_(self.rows, theirs)] += self.block[:, mine]
        return np.asarray(written)

    def store_by_columns(self) -> None:
        """Re-lay ``W(0)`` column by column, unless it is stored so."""
        if not self.initial.flags.f_contiguous:
            self.initial, self.relaid = np.asfortranarray(self.initial), True

    def copy(self) -> LowRankWeights:
        """Copy what updates change; the record of work and ``W(0)`` stay shared, and no shared array is written to."""
        return copy.copy(self)

    def restarted(self) -> LowRankWeights:
        """Copy likewise, with a fresh record of work and the present ``W(0)`` as the caller's."""
        twin = copy.copy(self)
        twin.relaid, twin.work, twin.waited = False, dict.fromkeys(PHASES, 0), 0
        return twin

    def to_dense(self) -> FloatArray:
        """Write ``W`` out: (p, q)."""
        W = np.array(self.initial)
        if self.rank:
            # Only where the factors touch: their product as a whole would have as many entries as W.
            rows, columns = np.flatnonzero(self.touched_rows), np.flatnonzero(self.touched_columns)
            W[np.ix_(rows, columns)] += self.left[:, rows].toarray().T @ self.right[:, columns].toarray()
        if self.block.size:
            W[np.ix_(self.rows, self.columns)] += self.block
        return W


def _times_columns(H: sparse.csr_array, W: FloatArray) -> FloatArray:
    """Compute ``H W^T`` from the columns of ``W`` that ``H`` has entries in."""
    if W.flags.f_contiguous:
        # Column after column: each comes from memory once, however many vectors want it, and the next one is near.
        product: FloatArray = H.tocsc() @ W.T
        return product
    # Stored row by row: gather the columns, block by block of rows.
    columns = np.unique(H.indices)
    narrow = H[:, columns]
    step = max(1, BLOCK_ENTRIES // max(1, len(columns)))
    blocks = [narrow @ W[start : start + step][:, columns].T for start in range(0, len(W), step)]
    return np.concatenate(blocks, axis=1)


def _overlap(H: sparse.csr_array, factor: sparse.csr_array) -> FloatArray:
    """Compute all inner products of the rows of two sparse matrices: (n, k)."""
    products: FloatArray = (H @ factor.T).toarray()
    return products


def _overlap_work(H: sparse.csr_array, factor: sparse.csr_array) -> int:
    """Count the multiply-adds of `_overlap`: pairs of entries that share a column."""
    ours, theirs = (np.bincount(M.indices, minlength=H.shape[1]) for M in (H, factor))
    return int(ours @ theirs)


def _times_factors(coefficients: FloatArray, factors: sparse.csr_array, columns: IntArray) -> FloatArray:
    """Combine the rows of a sparse matrix (k, p) with coefficients (n, k), at the columns that have entries."""
    place = np.empty(factors.shape[1], dtype=factors.indices.dtype)
    place[columns] = np.arange(len(columns))
    shape = factors.shape[0], len(columns)
    narrow = sparse.csr_array((factors.data, place[factors.indices], factors.indptr), shape=shape)
    combined: FloatArray = (narrow.T @ np.ascontiguousarray(coefficients.T)).T
    return combined


def pick(image: FloatArray, columns: IntArray, row: IntArray, column: IntArray) -> FloatArray:
    """Pick entries of a matrix of which only some columns are given, and the others are 0.

    Parameters
    ----------
    image : ndarray (n, len(columns))
        The columns given.
    columns : ndarray of int
        Their numbers; increasing.
    row, column : ndarray (k,) of int
        Which entries.

    Returns
    -------
    ndarray (k,)
    """
    if not len(columns):
        return np.zeros(len(row))
    place = np.searchsorted(columns, column)
    place[place == len(columns)] = 0
    picked: FloatArray = np.where(columns[place] == column, image[row, place], 0.0)
    return picked


def _gather(W: FloatArray, P: sparse.csr_array, pattern: sparse.csr_array) -> tuple[FloatArray, int]:
    """Compute ``W^T p`` at the entries of a pattern, reading ``W`` at the entries of both; count those read."""
    W_flat, (down, across) = W.ravel(order="K"), (stride // W.itemsize for stride in W.strides)
    values, read = np.empty(pattern.nnz), 0
    for i in range(P.shape[0]):
        own, wanted = slice(P.indptr[i], P.indptr[i + 1]), slice(pattern.indptr[i], pattern.indptr[i + 1])
        rows, columns = P.indices[own].astype(np.intp), pattern.indices[wanted].astype(np.intp)
        entries = W_flat.take(columns[:, np.newaxis] * across + rows * down)
        values[wanted] = entries @ P.data[own]
        read += entries.size
    return values, read
