"""Threshold search for all data points at once: a forest of ``n`` trees of maxima, held in arrays.

Mathematics ([A], Algorithms 2 to 4): see `reference.threshold_search` for the binary tree of one data point. Here
every inner node is the maximum of ``FAN_OUT = 16`` children, that is, four levels of the binary tree are looked at
together: 16 neighbours in memory share two or three cache lines, so a wide node costs little more than a narrow
one. Level 0 holds the scores, level ``l`` has ``ceil(m / 16^l)`` nodes a tree, and the top level at most 16::

    level 0   (n, m)             leaves: the scores
    level 1   (n, ceil(m / 16))  maxima of 16 leaves
    ...
    top       (n, at most 16)

All ``n`` trees share this shape, so one query walks down all of them together, level by level: the frontier is the
array of nodes whose maximum reaches ``tau``, and the next frontier comes from their children. One update writes the
leaves of any set of neurons. A changed child can change its parent only if it was the parent's maximum or exceeds it;
only such parents are recomputed, each once, and the change climbs no further than it must.

Cost, in nodes looked at (``log`` to base 16): build about ``16/15 n m``; query ``16 |result| log m + 16 n``, at most;
update of one neuron ``n (1 + 17 log m)``, at most. Of the leaves that move a little, one in 16 is the maximum of its
node, so an update of many neurons looks at three to four nodes per leaf, whatever ``m``.

Departures from the paper
1. Fan-out 16 in place of 2: fewer levels, wider nodes; the reported set is the same.
2. Updates are batched, and stop climbing where a maximum stays; the paper's climb to the root one by one.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike

from reference.notation import BoolArray, FloatArray, InputError, IntArray, as_float_array, check_threshold

FAN_OUT = 16
CHUNK = 1024
"""Leaves per tree that are worked on at a time, so that temporary arrays stay in cache."""
MAXIMA_CHUNK = 1 << 13
"""Nodes whose maxima are taken at a time, likewise."""


class ThresholdForest:
    """``n`` trees of maxima over the scores of ``m`` neurons; make one with `build`.

    Attributes
    ----------
    n, width : int
        Data points (trees) and neurons (leaves of each tree).
    fan_out : int
        Children of a node, 16 unless `build_from_blocks` was told otherwise.
    levels : list of ndarray (n, nodes, fan_out)
        Level ``l`` grouped by parent: ``levels[l][i, v]`` are the children of node ``v`` of level ``l + 1`` in tree
        ``i``. Places beyond the last node hold minus infinity.
    nodes_visited : dict
        Nodes looked at so far by ``"build"``, ``"query"`` and ``"update"``.

    Examples
    --------
    >>> forest = ThresholdForest.build([[0.5, 2.0, -1.0], [1.0, 0.0, 3.0]])
    >>> forest.query(1.0)
    (array([0, 1, 1]), array([1, 0, 2]))
    >>> forest.update([1], [[0.0], [1.5]])
    >>> forest.query(1.0)
    (array([1, 1, 1]), array([0, 1, 2]))
    """

    def __init__(self, levels: list[FloatArray], width: int) -> None:
        self.levels = levels
        self.n = len(levels[0])
        self.fan_out: int = levels[0].shape[2]
        self.width = width
        self.nodes_visited = {"build": sum(level.size for level in levels), "query": 0, "update": 0}

    @classmethod
    def build(cls, scores: ArrayLike) -> ThresholdForest:
        """Build the forest from all scores.

        Parameters
        ----------
        scores : array_like (n, m)
            ``scores[i, r]`` of neuron ``r`` on data point ``i``; copied.

        Returns
        -------
        ThresholdForest

        Raises
        ------
        InputError
            NaN or infinite scores, wrong number of dimensions, no scores.
        """
        leaves = as_float_array("scores", scores, 2)
        n, width = leaves.shape
        return cls.build_from_blocks(n, width, [leaves])

    @classmethod
    def build_from_blocks(
        cls, n: int, width: int, blocks: Iterable[FloatArray], *, fan_out: int = FAN_OUT
    ) -> ThresholdForest:
        """Build the forest from scores that come block by block, so that they are never held twice.

        Parameters
        ----------
        n, width : int
            Data points and neurons in all.
        blocks : iterable of ndarray (n, rows)
            Scores of neurons 0, 1, ... in order, ``width`` in all; copied.
        fan_out : int
            Children of a node, 2 or more: 2 is the paper's binary tree. What a query finds does not depend on it.

        Returns
        -------
        ThresholdForest

        Raises
        ------
        InputError
            NaN or infinite scores, a fan-out below 2.
        """
        if fan_out < 2:
            raise InputError(f"fan_out is {fan_out}; pass 2 (binary trees) or more")
        levels = [_room_for(n, width, fan_out)]
        leaves, start = levels[0].reshape(n, -1), 0
        for block in blocks:
            leaves[:, start : start + block.shape[1]] = as_float_array("scores", block, 2)
            start += block.shape[1]
        while levels[-1].shape[1] > 1:
            children = levels[-1]
            levels.append(_room_for(n, children.shape[1], fan_out))
            levels[-1].reshape(n, -1)[:, : children.shape[1]] = _maximum_of_children(children)
        return cls(levels, width)

    def query(self, threshold: float) -> tuple[IntArray, IntArray]:
        """Find every pair (data point, neuron) with a score of at least ``threshold``.

        Parameters
        ----------
        threshold : float
            ``tau``.

        Returns
        -------
        data_index, neuron_index : ndarray (p,) of int
            The pairs, sorted by data point and then by neuron.

        Raises
        ------
        InputError
            The threshold is NaN or no number.
        """
        return self._descend(np.arange(self.n), threshold)

    def query_one(self, i: int, threshold: float) -> IntArray:
        """Find the neurons with a score of at least ``threshold`` on one data point.

        Parameters
        ----------
        i : int
            Data point, from 0 to ``n - 1``.
        threshold : float
            ``tau``.

        Returns
        -------
        ndarray of int
            Neurons in increasing order.

        Raises
        ------
        InputError
            No such data point, or the threshold is NaN or no number.
        """
        if not isinstance(i, (int, np.integer)) or not 0 <= i < self.n:
            raise InputError(f"i is {i!r}; pass a data point from 0 to {self.n - 1}")
        return self._descend(np.array([i]), threshold)[1]

    def _descend(self, trees: IntArray, threshold: float) -> tuple[IntArray, IntArray]:
        threshold = check_threshold(threshold)
        node = np.zeros_like(trees)
        for level in reversed(self.levels):
            children = level.reshape(-1, self.fan_out).take(trees * level.shape[1] + node, axis=0)
            self.nodes_visited["query"] += children.size
            # Minus infinity pads the levels, so it must not reach any threshold. A flat search and two divisions are
            # several times faster than np.nonzero on two dimensions.
            reached = np.flatnonzero(children.ravel() >= max(threshold, np.finfo(np.float64).min))
            parent = reached // self.fan_out
            trees = trees[parent]
            node = node[parent] * self.fan_out + reached % self.fan_out
        return trees, node

    def scores_at(self, data_index: IntArray, neuron_index: IntArray) -> FloatArray:
        """Look up the scores of pairs (p,), each from its own leaf."""
        flat = self.levels[0].reshape(-1)
        return flat.take(data_index * (flat.size // self.n) + neuron_index)

    def scores_of(self, neurons: IntArray) -> FloatArray:
        """Look up the scores (n, k) of ``k`` neurons on all data points."""
        return self.levels[0].reshape(self.n, -1).take(neurons, axis=1)

    def update(self, neurons: ArrayLike, scores: ArrayLike) -> None:
        """Change the scores of some neurons on all data points, and the maxima above them.

        Parameters
        ----------
        neurons : array_like (k,) of int
            Which neurons; no neuron twice, in any order.
        scores : array_like (n, k)
            Their new scores.

        Raises
        ------
        InputError
            No such neuron, a neuron twice, wrong shape, NaN or infinite scores. The forest is then unchanged.
        """
        changed = np.asarray(neurons)
        if changed.ndim != 1 or (changed.size and changed.dtype.kind not in "iu"):
            raise InputError(f"neurons has shape {changed.shape} and dtype {changed.dtype}; pass (k,) whole numbers")
        if changed.size == 0:
            return
        new = as_float_array("scores", scores, 2)
        if new.shape != (self.n, len(changed)):
            raise InputError(f"scores has shape {new.shape}; pass {(self.n, len(changed))}, a column per neuron")
        if changed.min() < 0 or changed.max() >= self.width:
            raise InputError(f"neurons reach from {changed.min()} to {changed.max()}; pass 0 to {self.width - 1}")
        changed = changed.astype(np.intp, copy=False)
        if len(_distinct(changed)) < len(changed):
            raise InputError("neurons names one neuron twice; pass each once, with its newest scores")
        self._write_leaves(changed, new)

    def _write_leaves(self, neurons: IntArray, new: FloatArray) -> None:
        """Write new leaves and raise or lower the maxima above them, level by level, only where they change."""
        leaves = self.levels[0].reshape(self.n, -1)
        self.nodes_visited["update"] += new.size
        suspects: list[IntArray] = []
        for start in range(0, len(neurons), CHUNK):
            part = neurons[start : start + CHUNK]
            if len(self.levels) > 1:
                # All leaves of one chunk at once; the maxima stay as they were until every leaf is written.
                parents = self.levels[1].reshape(self.n, -1).take(part // self.fan_out, axis=1)
                self.nodes_visited["update"] += parents.size
                matters = _matters(leaves.take(part, axis=1), new[:, start : start + CHUNK], parents)
                tree, column = np.divmod(np.flatnonzero(matters), len(part))
                suspects.append(tree * self.levels[0].shape[1] + part[column] // self.fan_out)
            leaves[:, part] = new[:, start : start + CHUNK]
        if suspects:
            self._recompute(_distinct(np.concatenate(suspects)))

    def _recompute(self, suspects: IntArray) -> None:
        """Recompute the maxima of some nodes of level 1, numbered through all trees, and of nodes above that change."""
        for level in range(1, len(self.levels)):
            lower, nodes = self.levels[level - 1], self.levels[level].reshape(self.n, -1)
            tree, node = np.divmod(suspects, lower.shape[1])
            children = lower.reshape(-1, self.fan_out).take(suspects, axis=0)
            self.nodes_visited["update"] += children.size
            old, new = nodes[tree, node], _maximum_of_children(children)
            changed = np.flatnonzero(old != new)
            tree, node, old, new = tree[changed], node[changed], old[changed], new[changed]
            nodes[tree, node] = new
            if level + 1 == len(self.levels):
                return
            above = self.levels[level + 1].reshape(self.n, -1)[tree, node // self.fan_out]
            self.nodes_visited["update"] += above.size
            matters = _matters(old, new, above)
            suspects = _distinct((tree * (nodes.shape[1] // self.fan_out) + node // self.fan_out)[matters])


def _matters(old: FloatArray, new: FloatArray, parent: FloatArray) -> BoolArray:
    """Tell which children can change their parent's maximum: those that were it, and those that exceed it."""
    matters: BoolArray = (old == parent) | (new > parent)
    return matters


def _room_for(n: int, nodes: int, fan_out: int) -> FloatArray:
    """Make room for a level (n, nodes), grouped by parent; minus infinity in the places that are left over."""
    level = np.empty((n, -(-nodes // fan_out) * fan_out))
    level[:, nodes:] = -np.inf
    return level.reshape(n, -1, fan_out)


def _maximum_of_children(children: FloatArray) -> FloatArray:
    """Take maxima over the last axis, (n, nodes, fan_out) to (n, nodes).

    Sixteen long rows compared with each other are twice as fast as many short reductions, transposition included.
    """
    flat = children.reshape(-1, children.shape[-1])
    maxima = np.empty(len(flat))
    for start in range(0, len(flat), MAXIMA_CHUNK):
        by_place = np.ascontiguousarray(flat[start : start + MAXIMA_CHUNK].T)
        by_place.max(axis=0, out=maxima[start : start + MAXIMA_CHUNK])
    return maxima.reshape(children.shape[:-1])


def _distinct(numbers: IntArray) -> IntArray:
    """Return the distinct numbers in increasing order; for these sizes sorting beats the hash table of np.unique."""
    ordered = np.sort(numbers)
    first = np.ones(len(ordered), dtype=np.bool_)
    np.not_equal(ordered[1:], ordered[:-1], out=first[1:])
    return ordered[first]
