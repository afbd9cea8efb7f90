"""What an iteration should cost, computed by separate code from the fired sets that really occurred.

Constants and formulas are typed again here; nothing is imported from the code under test. A counter that disagrees
with these numbers is wrong, or the work that it counts is.
"""

from __future__ import annotations

import numpy as np

from reference.notation import BoolArray, FloatArray, IntArray

FAN_OUT = 16
"""Children of a tree node, as `fast.threshold_search` documents it."""


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


def step_work(fires: BoolArray) -> int:
    """Count the multiply-adds of a step: one coefficient a pair, and ``n`` scores a pair."""
    return int(np.count_nonzero(fires)) * (len(fires) + 1)


def solve_work(n: int) -> int:
    """Count the multiply-adds of a Cholesky factorization, ``n^3 / 3``."""
    return n**3 // 3
