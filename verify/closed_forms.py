"""What an iteration should cost, computed by separate code from the fired sets that really occurred.

Constants and formulas are typed again here; nothing is imported from the code under test. A counter that disagrees
with these numbers is wrong, or the work that it counts is.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from reference.notation import BoolArray, FloatArray, IntArray

FAN_OUT = 16
"""Children of a tree node, as `fast.threshold_search` documents it."""

DENSE_FORWARD, DENSE_BACK = 6, 12
"""Vectors with more than one entry in so many are multiplied by the whole matrix, as `fast.low_rank` documents it."""

SCATTER = 20
"""A dense loop's step is written entry by entry while it has fewer than one in so many, as in its module."""

SURVEY, SLACK = 8, 1e-10
"""One pair in doubt in so many leads to a survey; share of scores added to bounds: as in `fast.certified_scores`."""

Patterns = Sequence[BoolArray]
"""Who fires in a deep network: the inputs (n, d), all true, then each layer (n, m)."""


def depths(width: int) -> list[int]:
    """List how many leaves a node spans, from level 1 up to the children of the root.

    Examples
    --------
    >>> depths(5000)
    [16, 256, 4096]
    """
    spans, span = [], FAN_OUT
    while span < width:
        spans.append(span)
        span *= FAN_OUT
    return spans


def build_nodes(n: int, width: int) -> int:
    """Count the places of all levels: ``n`` times ``m`` rounded up to 16, plus the same of ``m / 16``, and so on."""
    total, nodes = 0, width
    while True:
        parents = -(-nodes // FAN_OUT)
        total += n * parents * FAN_OUT
        if parents == 1:
            return total
        nodes = parents


def query_nodes(fires: BoolArray) -> int:
    """Count the nodes that a query looks at: the children of every root and of every node above a fired leaf.

    Parameters
    ----------
    fires : ndarray (n, m) of bool
        The pairs that the query finds.

    Returns
    -------
    int
    """
    n, width = fires.shape
    total = n * FAN_OUT
    for span in depths(width):
        for row in fires:
            total += FAN_OUT * len({int(r) // span for r in np.flatnonzero(row)})
    return int(total)


def update_nodes(before: FloatArray, after: FloatArray, moved: IntArray) -> int:
    """Count the nodes that an update looks at, from all scores before and after it.

    Each moved leaf is written and its parent looked at. A node is recomputed, from all its children, when a changed
    child was its maximum or exceeds it; when its value changes, its own parent is looked at, and so on upwards.

    Parameters
    ----------
    before, after : ndarray (n, m)
        Scores of every neuron on every data point.
    moved : ndarray (k,) of int
        Neurons whose leaves are written.

    Returns
    -------
    int

    Examples
    --------
    Leaf 3 of 20 was the maximum of its node and sinks: one leaf, one parent, its 16 children.

    >>> before = np.zeros((1, 20))
    >>> before[0, 3] = 1.0
    >>> update_nodes(before, np.zeros((1, 20)), np.array([3]))
    18
    """
    changed = np.zeros(before.shape, dtype=bool)
    changed[:, moved] = True
    total = int(changed.sum())
    while before.shape[1] > FAN_OUT:
        total += int(changed.sum())
        old, new = maxima(before), maxima(after)
        parent = np.repeat(old, FAN_OUT, axis=1)[:, : before.shape[1]]
        suspect = maxima(changed & ((before == parent) | (after > parent)))
        total += FAN_OUT * int(np.count_nonzero(suspect > 0))
        changed = (suspect > 0) & (old != new)
        before, after = old, new
    return total


def plain_tree_nodes(queries: Sequence[BoolArray], updates: int) -> int:
    """Count the nodes that a binary tree over ``m`` scores looks at in some queries and updates.

    A query looks at the root and at both children of every node above a fired leaf. An update looks at the leaf and at
    every node above it. The tree has ``m`` leaves rounded up to a power of two.

    Parameters
    ----------
    queries : sequence of ndarray (m,) of bool
        What each query finds.
    updates : int
        How many scores were updated, one at a time.

    Returns
    -------
    int

    Examples
    --------
    Leaf 5 of 8: the root and three times two children; an update: four nodes.

    >>> plain_tree_nodes([np.arange(8) == 5], 1)
    11
    """
    depth = (len(queries[0]) - 1).bit_length()
    total = updates * (depth + 1)
    for fires in queries:
        leaves = np.flatnonzero(fires)
        total += 1 + 2 * sum(len(np.unique(leaves >> level)) for level in range(1, depth + 1))
    return total


def maxima(values: FloatArray | BoolArray) -> FloatArray:
    """Take the maximum of every 16 columns; the last group may be short."""
    starts = np.arange(0, values.shape[1], FAN_OUT)
    grouped: FloatArray = np.maximum.reduceat(values.astype(np.float64), starts, axis=1)
    return grouped


def gram_work(fires: BoolArray) -> int:
    """Count the additions of the shared-fired counts and one multiplication per entry of ``G``.

    A sparse pattern takes ``sum_r c_r^2`` additions; one in which a neuron fires on many points takes ``n^2`` for each
    of the ``u`` neurons that fire somewhere. Sparse is taken up to 8 additions a pair or a 64th of the dense work.
    """
    n = len(fires)
    shared = fires.sum(axis=0, dtype=np.int64)
    sparse, dense = int(shared @ shared), n * n * int(np.count_nonzero(shared))
    return (sparse if 64 * sparse <= max(512 * int(shared.sum()), dense) else dense) + n * n


def joint_gram_work(fires: BoolArray) -> int:
    """Count those of the Gram matrix of both layers: two such sums, and two operations per entry of ``G``."""
    return 2 * gram_work(fires)


def step_work(fires: BoolArray) -> int:
    """Count the multiply-adds of a step: one coefficient a pair, and ``n`` scores a pair."""
    return int(np.count_nonzero(fires)) * (len(fires) + 1)


def solve_work(n: int) -> int:
    """Count the multiply-adds of a Cholesky factorization, ``n^3 / 3``."""
    return n**3 // 3


class Factors:
    """What training has added to one matrix, as patterns of rank-one terms and of the block that they are folded into.

    Attributes
    ----------
    left, right : ndarray (rank, p) and (rank, q) of bool
        Where the factors of the terms that wait have entries.
    rows, columns : ndarray (p,) and (q,) of bool
        Where the block is.
    waited : int
        Multiply-adds that the waiting terms have taken since the last fold.
    """

    def __init__(self, p: int, q: int) -> None:
        self.left, self.right = np.zeros((0, p), dtype=bool), np.zeros((0, q), dtype=bool)
        self.rows, self.columns = np.zeros(p, dtype=bool), np.zeros(q, dtype=bool)
        self.waited = 0

    @property
    def rank(self) -> int:
        """Terms that wait."""
        return len(self.left)

    def add(self, left: BoolArray, right: BoolArray, budget: float | None) -> int:
        """Append terms; return the multiply-adds of the fold that follows, 0 if none does.

        It follows when the rank reaches the budget or, without one, when waiting has taken as many.

        Schoolbook: as long as the rank, the rows or the columns are fewer than 4096.
        """
        self.left, self.right = np.vstack([self.left, left]), np.vstack([self.right, right])
        rows, columns = self.left.any(axis=0), self.right.any(axis=0)
        work = int(rows.sum()) * self.rank * int(columns.sum())
        if self.rank < budget if budget is not None else self.waited < max(1, work):
            return 0
        self.waited = 0
        self.rows, self.columns = self.rows | rows, self.columns | columns
        self.left, self.right = self.left[:0], self.right[:0]
        return work

    def forward_work(self, H: BoolArray) -> int:
        """Count the multiply-adds of ``(F + left^T right) h``: overlaps with ``right``, all of ``left`` for each ``h``.

        Examples
        --------
        One term, of 2 rows and 3 columns, of which ``h`` shares 2: 2 for the overlap, 2 to combine.

        >>> factors = Factors(4, 5)
        >>> factors.add(np.arange(4)[np.newaxis] < 2, np.arange(5)[np.newaxis] < 3, budget=9)
        0
        >>> factors.forward_work(np.arange(5)[np.newaxis] > 0)
        4
        """
        waiting = int(H.sum(axis=0) @ self.right.sum(axis=0)) + len(H) * int(self.left.sum())
        self.waited += waiting
        return waiting + int(H[:, self.columns].sum()) * int(self.rows.sum())

    def backward_work(self, P: BoolArray) -> int:
        """Count those of ``(F + left^T right)^T p`` likewise."""
        waiting = int(P.sum(axis=0) @ self.left.sum(axis=0)) + len(P) * int(self.right.sum())
        self.waited += waiting
        return waiting + int(P[:, self.rows].sum()) * int(self.columns.sum())


def columns_read(H: BoolArray, p: int) -> int:
    """Count the entries of ``W`` (p, q) that ``W h`` reads: ``p`` for each entry of ``h``; all, if dense."""
    return p * (H.size if H.sum() * DENSE_FORWARD > H.size else int(H.sum()))


def entries_read(P: BoolArray, H: BoolArray) -> int:
    """Count those that ``W^T p`` at the entries of ``h`` reads: their product, summed over points; all, if dense."""
    if P.sum() * DENSE_BACK > P.size:
        return int(P.size * H.shape[1])
    return int(np.sum(P.sum(axis=1) * H.sum(axis=1)))


class Doubt:
    """Which scores of a layer have to be computed again as its inputs move, point by point and neuron by neuron.

    Parameters
    ----------
    W : ndarray (p, q)
        ``W(0)`` of the layer.
    shift : float
        A neuron fires when its score is as large.

    Attributes
    ----------
    columns : ndarray (q,) of bool
        Columns of ``W(0)`` with an entry that had to be read; to be cleared by who asks.
    """

    def __init__(self, W: FloatArray, shift: float) -> None:
        self.W, self.shift = W, shift
        self.points: list[dict[str, FloatArray]] = []
        self.columns = np.zeros(W.shape[1], dtype=np.bool_)

    def forward_work(self, h: FloatArray, fires: BoolArray, scores: FloatArray) -> int:
        """Count the entries of ``W(0)`` that the next state reads.

        Parameters
        ----------
        h : ndarray (n, q)
            Inputs of the layer.
        fires : ndarray (n, q) of bool
            Who fires below.
        scores : ndarray (n, p)
            True scores of the layer, with all that training has added.

        Returns
        -------
        int
        """
        if fires.sum() * DENSE_FORWARD > fires.size:
            self.points = []
            self.columns[:] = True
            return int(len(h) * self.W.size)
        first = not self.points
        if first:
            self.points = [{} for _ in h]
        rows = zip(self.points, h, fires, scores, strict=True)
        return sum(self._of_a_point(point, *each, survey=first) for point, *each in rows)

    def backward(self, above: BoolArray, below: BoolArray) -> None:
        """Note the columns that the way back reads: who fires above (n, p) and below (n, q)."""
        if above.sum() * DENSE_BACK > above.size:
            self.columns[:] = True
        for point, neurons, columns in zip(self.points or [{} for _ in above], above, below, strict=True):
            self._entries(point, neurons, columns)

    def _entries(self, point: dict[str, FloatArray], neurons: BoolArray, columns: BoolArray) -> None:
        """Note the columns, unless all these entries are among those last read for the point."""
        kept = point.get("neurons"), point.get("columns")
        if kept[0] is None or (neurons > kept[0]).any() or (columns != kept[1]).any():
            self.columns |= columns & neurons.any()
            point |= {"neurons": neurons.astype(float), "columns": columns.astype(float)}

    def _of_a_point(
        self, point: dict[str, FloatArray], h: FloatArray, fires: BoolArray, scores: FloatArray, *, survey: bool
    ) -> int:
        # Kept for a point: `last` (q,), its inputs; `seen` (q,), who fired below; `path`, how far they moved; and of
        # each neuron `exact`, its score with W(0) when last computed, `since`, the path then, and `squares`, `N^2`;
        # `neurons` (p,) and `columns` (q,), whose entries were last read.
        own, p, work = self.W[:, fires] @ h[fires], len(self.W), 0
        if not survey:
            new = fires & (point["seen"] == 0)
            survey = 2 * new.sum() > fires.sum()
            if not survey and new.any():
                work += p * int(new.sum())
                self.columns |= new
                # The bound at the end of the path so far stays when N grows.
                point["exact"] = point["exact"] + np.sqrt(point["squares"]) * (point["path"] - point["since"])
                point["since"] = np.full(p, point["path"])
                point["squares"] = point["squares"] + self._squares(new)
                point["seen"] = np.maximum(point["seen"], new)
            point["path"] = point["path"] + np.linalg.norm(h - point["last"])
            point["last"] = h
        if not survey:
            lengths = np.sqrt(point["squares"])
            bound = point["exact"] + lengths * (point["path"] - point["since"]) + (scores - own)
            slack = SLACK * (lengths.max() * (np.linalg.norm(h) + point["path"]) + abs(self.shift))
            doubtful = bound >= self.shift - slack
            survey = bool(SURVEY * doubtful.sum() > p)
            if not survey:
                if doubtful.any():
                    self._entries(point, doubtful, fires)
                point["exact"] = np.where(doubtful, own, point["exact"])
                point["since"] = np.where(doubtful, point["path"], point["since"])
                return work + int(doubtful.sum()) * int(fires.sum())
        self.columns |= fires
        point |= {"last": h, "seen": fires.astype(float), "path": np.zeros(1), "exact": own, "since": np.zeros(p)}
        point["squares"] = self._squares(fires)
        return work + p * int(fires.sum())

    def _squares(self, columns: BoolArray) -> FloatArray:
        """Sum the squares of the rows of ``W(0)`` over some columns."""
        squares: FloatArray = np.square(self.W[:, columns]).sum(axis=1)
        return squares


def deep_preparation_work(fires: Patterns) -> int:
    """Count the entries of all matrices that the first pass forward reads."""
    return sum(columns_read(below, above.shape[1]) for below, above in pairwise(fires))


def deep_work(
    states: Sequence[Patterns], trained: Sequence[int], budget: float | None, forward: Sequence[int]
) -> list[dict[str, int]]:
    """Compute every counter of a deep run, that of the solve for the first iteration only: a factor and its use.

    Parameters
    ----------
    states : sequence of T + 1 Patterns
        Who fires at the start and after each iteration.
    trained : sequence of int
        Trained layers, increasing, numbered from 1.
    budget : float or None
        Rank at which factors are folded; see `Factors.add`.
    forward : sequence of T int
        What each iteration reads on the way forward; see `Doubt`.

    Returns
    -------
    list of T dict
    """
    n, m = states[0][1].shape
    depth, lowest = len(states[0]) - 1, trained[0]
    above = range(lowest + 1, depth + 1)
    factors = {layer: Factors(m, states[0][layer - 1].shape[1]) for layer in above}
    work: list[dict[str, int]] = []
    for (now, then), read in zip(pairwise(states), forward, strict=True):
        counts = {
            "backward": sum(entries_read(now[layer], now[layer - 1]) for layer in above),
            "factors": sum(factors[layer].backward_work(now[layer]) for layer in above),
            "gram": sum(shared_pairs(now[layer]) + shared_pairs(now[layer - 1]) + n * n for layer in trained),
            "step": n * n * int(now[lowest].any(axis=0).sum())
            + sum(int(now[layer].sum() + now[layer - 1].sum()) for layer in trained[1:]),
            "fold": sum(factors[layer].add(now[layer], now[layer - 1], budget) for layer in trained[1:]),
            "forward": read,
            # Of the lowest trained layer only neurons that fire at the start are compared.
            "fire": n * (int(states[0][lowest].any(axis=0).sum()) + m * (depth - lowest)),
            "active_pairs": sum(int(fires.sum()) for fires in then[1:]),
            "rank": sum(factors[layer].rank for layer in above),
        }
        counts["factors"] += sum(factors[layer].forward_work(then[layer - 1]) for layer in above)
        if not work:
            counts["solve"] = n**3 // 3 + n * n
        work.append(counts)
    return work


def deep_opponent_work(
    states: Sequence[Patterns], trained: Sequence[int], *, compact: bool = False
) -> list[dict[str, int]]:
    """Compute every counter of an opponent of deep runs, as `fast.multi_layer_baselines` documents them.

    Parameters
    ----------
    states, trained
        As for `deep_work`.
    compact : bool
        Whether it reads only the columns of neurons that fire on some point.

    Returns
    -------
    list of T dict
    """
    n, m = states[0][1].shape
    work: list[dict[str, int]] = []
    for now, then in pairwise(states):
        below = then[trained[0] - 1 : -1]
        pairs = {layer: (now[layer], now[layer - 1]) for layer in range(1, len(now))}
        work.append(
            {
                "scan": sum(n * m * (int(fires.any(axis=0).sum()) if compact else fires.shape[1]) for fires in below),
                "backward": sum(entries_read(*pair) for layer, pair in pairs.items() if layer > trained[0]),
                "gram": sum(sum(map(shared_pairs, pairs[layer])) + n * n for layer in trained),
                "solve": n**3 // 3,
                "step": sum(_entries_written(*pairs[layer]) for layer in trained),
            }
        )
    return work


def _entries_written(above: BoolArray, below: BoolArray) -> int:
    """Count the multiply-adds of a step of a layer: where neurons that fire meet; with the whole matrix, if many."""
    met = int(np.sum(above.sum(axis=1) * below.sum(axis=1)))
    whole = above.shape[1] * below.shape[1]
    return met if met * SCATTER < whole else len(above) * whole


def shared_pairs(fires: BoolArray) -> int:
    """Count the pairs of entries that share a column, each with itself included."""
    count = fires.sum(axis=0, dtype=np.int64)
    return int(count @ count)
