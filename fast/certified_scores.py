"""Scores of a layer whose inputs change little: only those that may have reached the shift are computed again (ours).

Mathematics. The inputs ``h`` of a data point move from state to state; ``s`` is the length of their path so far, the
sum of ``||h(t+1) - h(t)||``, and ``S`` the neurons below that have fired on the point on the way. By Cauchy and Schwarz
the score with ``W(0)`` of a neuron ``r``, known exactly when the path was ``s'`` long, obeys from then on::

    <w_r, h> <= e_r + N_r (s - s')          e_r its score then, N_r the length of w_r on S

With what training has added since, which is known (`fast.low_rank.LowRankWeights.added`), this bounds the whole score.
Where the bound is below the shift the neuron does not fire, and no weight is read. The others are computed exactly.
As training converges the path comes to its end, and little more than the neurons that fire are left.

``e - N s'`` and ``N`` are kept for all pairs. They come from a *survey* of the columns of ``W(0)`` at ``S``, once at
the start, and again for a point where so many pairs are in doubt that reading whole columns costs less. A neuron below
that fires on the point for the first time adds its column to ``N``.

The bound speaks of ``W(0)`` alone, whatever training has added: steps that are tried and taken back only lengthen the
path, and folds do not matter.

The entries of ``W(0)`` last read for a point are kept: those between the neurons that fire below and those in doubt.
The way back wants a part of them, and the next state often the same.

Cost for ``n`` points, ``m`` neurons, ``k`` of them firing: a survey reads ``n k m`` entries; after that ``n k c`` with
``c`` pairs in doubt for a point, and ``n m`` comparisons, in ``O(n (m + k c))`` memory. In the paper every iteration
reads ``n k m``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from fast.low_rank import LowRankWeights, pick, row_lengths, row_numbers
from reference.notation import BoolArray, FloatArray, IntArray

SURVEY = 8
"""A point is surveyed again when one in so many of its pairs is in doubt: scattered entries come so much slower."""
SLACK = 1e-10
"""Share of the largest possible score by which bounds are raised: far beyond rounding, far below what adds pairs."""
BLOCK_ENTRIES, BLOCKS = 1 << 17, 64
"""A survey takes so many entries of ``W(0)`` at a time, or one in so many, whichever is more."""


@dataclass(frozen=True, eq=False)
class Block:
    """Entries of ``W(0)`` that were read for a data point: (len(neurons), len(columns)); numbers increase."""

    neurons: IntArray
    columns: IntArray
    entries: FloatArray


class CertifiedScores:
    """What is known about the scores of one layer, on some data points that are asked for again and again."""

    def __init__(self) -> None:
        self.known = False
        """Whether any survey was made."""

    def multiply(self, weights: LowRankWeights, H: sparse.csr_array, threshold: float) -> FloatArray:
        """Compute ``W h`` where it reaches a threshold; elsewhere an upper bound that does not.

        Parameters
        ----------
        weights : LowRankWeights
            The layer; of the same ``W(0)`` at every call.
        H : csr_array (n, q)
            Inputs now, one row for each data point; every neuron below that fires has a stored entry.
        threshold : float
            The shift.

        Returns
        -------
        ndarray (n, p)
        """
        if weights.takes_whole(H):
            self.known = False
            return weights.multiply(H)
        fresh = self._follow(weights, H)
        bounds: FloatArray = self.reach + self.norm * self.path[:, np.newaxis]
        rows, added = weights.added(H)
        bounds[:, rows] += added
        doubtful = bounds >= (threshold - self._slack(H, threshold))[:, np.newaxis]
        fresh |= np.count_nonzero(doubtful, axis=1) * SURVEY > len(weights.initial)
        if fresh.any():
            points = np.flatnonzero(fresh)
            self._survey(weights, H, points)
            bounds[points] = self.reach[points]
            bounds[np.ix_(points, rows)] += added[points]
            doubtful[points] = False
        point, neuron = np.nonzero(doubtful)
        exact = self._look_up(weights, H, point, neuron)
        self.reach[point, neuron] = exact - self.norm[point, neuron] * self.path[point]
        bounds[point, neuron] = exact + pick(added, rows, point, neuron)
        return bounds

    def multiply_at(self, weights: LowRankWeights, P: sparse.csr_array, pattern: sparse.csr_array) -> FloatArray:
        """Compute ``W^T p`` at the entries of a pattern, as `LowRankWeights.multiply_at` does, from entries kept.

        Parameters
        ----------
        weights : LowRankWeights
            The layer.
        P : csr_array (n, p)
            Vectors, one per data point.
        pattern : csr_array (n, q)
            Where.

        Returns
        -------
        ndarray (pattern.nnz,)
        """
        if not self.known or weights.takes_whole_back(P):
            return weights.multiply_at(P, pattern)
        values = np.empty(pattern.nnz)
        for i in range(P.shape[0]):
            own, wanted = slice(P.indptr[i], P.indptr[i + 1]), slice(pattern.indptr[i], pattern.indptr[i + 1])
            entries = self._entries(weights, i, P.indices[own], pattern.indices[wanted])
            values[wanted] = P.data[own] @ entries
            weights.work["read"] += entries.size
        return weights.with_added_at(values, P, pattern)

    def _slack(self, H: sparse.csr_array, threshold: float) -> FloatArray:
        """Bound the rounding in ``e``, ``N`` and ``s``, generously: (n,)."""
        return np.asarray(SLACK * (self.longest * (row_lengths(H) + self.path) + abs(threshold)))

    def _follow(self, weights: LowRankWeights, H: sparse.csr_array) -> BoolArray:
        """Lengthen the paths, and let neurons below in that are new; tell which points need a survey: (n,)."""
        n, p = H.shape[0], len(weights.initial)
        if not self.known:
            self.known, self.last = True, H
            self.reach, self.norm = np.zeros((n, p)), np.zeros((n, p))
            self.path, self.longest = np.zeros(n), np.zeros(n)
            self.blocks: list[Block | None] = [None] * n
            self.seen = np.zeros(H.shape, dtype=np.bool_)
            return np.ones(n, dtype=np.bool_)
        row = row_numbers(H)
        new = ~self.seen[row, H.indices]
        fresh = 2 * np.bincount(row[new], minlength=n) > np.diff(H.indptr)
        for i, column in zip(row[new], H.indices[new], strict=True):
            if not fresh[i]:
                # So far the path kept clear of this column, and the bound is the same with the new N.
                longer = np.hypot(self.norm[i], weights.initial[:, column])
                self.reach[i] += (self.norm[i] - longer) * self.path[i]
                self.norm[i], self.longest[i] = longer, longer.max()
                self.seen[i, column] = True
                weights.work["read"] += p
        self.path += row_lengths(H - self.last)
        self.last = H
        return np.asarray(fresh)

    def _survey(self, weights: LowRankWeights, H: sparse.csr_array, points: IntArray) -> None:
        """Compute all scores of some points, and the lengths of all neurons on what reaches them."""
        own = H[points]
        columns = np.unique(own.indices)
        narrow = own[:, columns].tocsc()
        pattern = sparse.csc_array((np.ones(narrow.nnz), narrow.indices, narrow.indptr), shape=narrow.shape)
        scores, squares = (np.zeros((len(points), len(weights.initial))) for _ in range(2))
        step = max(1, max(BLOCK_ENTRIES, weights.initial.size // BLOCKS) // len(weights.initial))
        for start in range(0, len(columns), step):
            some = slice(start, start + step)
            block = weights.initial.T[columns[some]]
            scores += narrow[:, some] @ block
            squares += pattern[:, some] @ np.square(block, out=block)
            del block  # or else it would still be there while the next one is taken
        self.reach[points], self.norm[points] = scores, np.sqrt(squares)
        self.path[points], self.longest[points] = 0, self.norm[points].max(axis=1)
        self.seen[points] = False
        self.seen[np.repeat(points, np.diff(own.indptr)), own.indices] = True
        weights.work["read"] += own.nnz * len(weights.initial)

    def _look_up(self, weights: LowRankWeights, H: sparse.csr_array, point: IntArray, neuron: IntArray) -> FloatArray:
        """Compute ``<w_r, h_i>`` with ``W(0)`` for some pairs, sorted by data point: (len(point),)."""
        exact = np.empty(len(point))
        ends = np.searchsorted(point, np.arange(H.shape[0] + 1))
        for i in map(int, np.flatnonzero(np.diff(ends))):
            own, stored = slice(ends[i], ends[i + 1]), slice(H.indptr[i], H.indptr[i + 1])
            entries = self._entries(weights, i, neuron[own], H.indices[stored])
            exact[own] = entries @ H.data[stored]
            weights.work["read"] += entries.size
        return exact

    def _entries(self, weights: LowRankWeights, i: int, neurons: IntArray, columns: IntArray) -> FloatArray:
        """Read ``W(0)`` at some neurons and columns, unless that was done for this point lately."""
        kept = self.blocks[i]
        if kept is not None and np.array_equal(kept.columns, columns):
            if np.array_equal(kept.neurons, neurons):
                return kept.entries
            place = kept.neurons.searchsorted(neurons)
            if np.array_equal(kept.neurons.take(place, mode="clip"), neurons):
                return kept.entries[place]
        flat, (down, across) = weights.initial.ravel(order="K"), (s // 8 for s in weights.initial.strides)
        entries = flat.take(neurons[:, np.newaxis] * down + columns.astype(np.intp) * across)
        self.blocks[i] = Block(neurons, columns, entries)
        return entries
