"""Threshold search: which neurons have a score of at least ``tau``? A plain scan, and a binary tree of maxima.

Mathematics ([A], Algorithms 2 to 4). For one data point, put the ``m`` scores ``U[i, r]`` into the leaves of a binary
tree and the maximum of its two children into every inner node. Then::

    query(tau)    walk down from the root; turn back at a node below tau, for then no leaf under it can reach tau
    update(r, u)  write the leaf, then recompute the maxima on its path to the root

With one tree per data point the fired sets are ``query(b)``: neurons exactly at the threshold are reported, as the
kink demands.

Cost, in nodes looked at: build ``m``; update ``log2 m``; query at most ``2 |result| log2 m + 1``, since every node
that is entered, but for the last one on its branch, has a reported leaf under it. The scan looks at ``m`` scores.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from reference.notation import FloatArray, InputError, IntArray, as_float_array, check_threshold


def scan(scores: ArrayLike, threshold: float) -> IntArray:
    """Find the neurons with a score of at least ``threshold`` by looking at every score.

    Parameters
    ----------
    scores : array_like (m,)
        One score per neuron.
    threshold : float
        ``tau``.

    Returns
    -------
    ndarray of int
        Neurons in increasing order.

    Raises
    ------
    InputError
        NaN or infinite scores, wrong number of dimensions, a threshold that is NaN or no number.

    Examples
    --------
    >>> scan([0.5, 2.0, -1.0, 1.0], 1.0)  # neuron 3 sits on the threshold: it counts
    array([1, 3])
    """
    return np.flatnonzero(as_float_array("scores", scores, 1) >= check_threshold(threshold))


class MaxTree:
    """The binary tree of maxima over the scores of one data point ([A], Algorithms 2 to 4).

    The tree is complete and lives in one array: the children of node ``v`` are ``2 v`` and ``2 v + 1``, the root is
    node 1, and leaf ``r`` is node ``size + r``. Leaves beyond ``m`` hold minus infinity.

    Parameters
    ----------
    scores : array_like (m,)
        One score per neuron; copied.

    Attributes
    ----------
    nodes_visited : int
        How many nodes all queries and updates so far have looked at.

    Raises
    ------
    InputError
        NaN or infinite scores, wrong number of dimensions.

    Examples
    --------
    >>> tree = MaxTree([0.5, 2.0, -1.0, 1.0])
    >>> tree.query(1.0)
    array([1, 3])
    >>> tree.update(1, 0.0)
    >>> tree.query(1.0)
    array([3])
    """

    def __init__(self, scores: ArrayLike) -> None:
        leaves = as_float_array("scores", scores, 1)
        self.width = len(leaves)
        self.size = 1
        while self.size < self.width:
            self.size *= 2
        self.node: FloatArray = np.full(2 * self.size, -np.inf)
        self.node[self.size : self.size + self.width] = leaves
        for v in range(self.size - 1, 0, -1):
            self.node[v] = max(self.node[2 * v], self.node[2 * v + 1])
        self.nodes_visited = 0

    def query(self, threshold: float) -> IntArray:
        """Find the neurons with a score of at least ``threshold``.

        Parameters
        ----------
        threshold : float
            ``tau``.

        Returns
        -------
        ndarray of int
            Neurons in increasing order.

        Raises
        ------
        InputError
            The threshold is NaN or no number.
        """
        found: list[int] = []
        self._descend(1, check_threshold(threshold), found)
        return np.array(found, dtype=np.intp)

    def _descend(self, v: int, threshold: float, found: list[int]) -> None:
        self.nodes_visited += 1
        if self.node[v] < threshold:
            return
        if v >= self.size:
            if v < self.size + self.width:  # the leaves beyond hold minus infinity, which minus infinity reaches
                found.append(v - self.size)
            return
        self._descend(2 * v, threshold, found)
        self._descend(2 * v + 1, threshold, found)

    def update(self, neuron: int, score: float) -> None:
        """Change the score of one neuron and the maxima above it.

        Parameters
        ----------
        neuron : int
            Which neuron, from 0 to ``m - 1``.
        score : float
            Its new score.

        Raises
        ------
        InputError
            No such neuron, or a score that is NaN or infinite.
        """
        if not 0 <= neuron < self.width:
            raise InputError(f"neuron is {neuron}; pass one from 0 to {self.width - 1}")
        v = self.size + neuron
        self.node[v] = float(as_float_array("score", score, 0))
        self.nodes_visited += 1
        while v > 1:
            v //= 2
            self.node[v] = max(self.node[2 * v], self.node[2 * v + 1])
            self.nodes_visited += 1
