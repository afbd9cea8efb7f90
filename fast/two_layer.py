"""The two-layer network from its fired neurons alone, with weights that stay implicit.

Only pairs (data point, neuron) that fire enter the predictions, the Jacobian and the step, so a list of fired pairs
stands in for the (n, m) pattern ([A] for the sparse Jacobian, Definition 2.6; the rest is ours)::

    f_i      = m^(-1/2) sum_{r fires on x_i} a_r (U[i, r] - b)
    w_r(t)   = w_r(0) + m^(-1/2) a_r sum_i c_ri x_i             c: coefficients on the data, (moved neurons, n)
    U_t[j,r] = U_0[j, r] + m^(-1/2) a_r sum_i c_ri <x_i, x_j>

A neuron that never fired has ``c_r = 0``: it has no row in ``c``, and its weights are never looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from reference.notation import FloatArray, IntArray, check_points
from reference.two_layer import TwoLayerNetwork

BLOCK_ENTRIES = 1 << 18
"""Pre-activations per block when all weights must be read once: 2 MiB, so that a block stays in cache."""


@dataclass(frozen=True, eq=False)
class FiredPairs:
    """The pairs (data point, neuron) that fire, sorted by data point and then by neuron.

    Parameters
    ----------
    data_index, neuron_index : ndarray (p,) of int
        The pairs.
    n, width : int
        Data points and neurons in all.
    """

    data_index: IntArray
    neuron_index: IntArray
    n: int
    width: int

    def __len__(self) -> int:
        return len(self.data_index)

    def per_point(self) -> IntArray:
        """Count the neurons that fire on each data point: (n,)."""
        return np.bincount(self.data_index, minlength=self.n)


def score_blocks(weights: FloatArray, X: FloatArray) -> Iterator[FloatArray]:
    """Yield the scores (n, rows) of block after block of neurons; each block stays in cache.

    Parameters
    ----------
    weights : ndarray (m, d)
        ``W``.
    X : ndarray (n, d)
        Data points.

    Yields
    ------
    ndarray (n, rows)
    """
    rows = max(1, BLOCK_ENTRIES // len(X))
    for start in range(0, len(weights), rows):
        yield X @ weights[start : start + rows].T


def fired_pairs(weights: FloatArray, X: FloatArray, shift: float) -> tuple[FiredPairs, FloatArray]:
    """Find every pair that fires by reading all weights once, in blocks that stay in cache.

    Parameters
    ----------
    weights : ndarray (m, d)
        ``W``.
    X : ndarray (n, d)
        Data points.
    shift : float
        ``b``.

    Returns
    -------
    fired : FiredPairs
        ``p`` pairs.
    scores : ndarray (p,)
        ``U`` at the pairs.
    """
    n, m = len(X), len(weights)
    found: list[IntArray] = [np.empty(0, dtype=np.intp)]
    scores: list[FloatArray] = [np.empty(0)]
    rows = max(1, BLOCK_ENTRIES // n)
    for start in range(0, m, rows):
        block = (weights[start : start + rows] @ X.T).ravel()
        reached = np.flatnonzero(block >= shift)
        found.append(reached + start * n)
        scores.append(block[reached])
    neuron_index, data_index = np.divmod(np.concatenate(found), n)
    # The pairs come sorted by neuron; a stable sort of small integers by data point is a radix sort.
    order = np.argsort(data_index.astype(np.uint16) if n <= 1 << 16 else data_index, kind="stable")
    return FiredPairs(data_index[order], neuron_index[order], n, m), np.concatenate(scores)[order]


def predict_from_fired(fired: FiredPairs, scores: FloatArray, signs: FloatArray, shift: float) -> FloatArray:
    """Sum the fired neurons: ``f_i = m^(-1/2) sum_{r fires on x_i} a_r (U[i, r] - b)``.

    Parameters
    ----------
    fired : FiredPairs
        ``p`` pairs.
    scores : ndarray (p,)
        ``U`` at the pairs.
    signs : ndarray (p,)
        ``a`` at the pairs' neurons.
    shift : float
        ``b``.

    Returns
    -------
    ndarray (n,)
    """
    sums = np.bincount(fired.data_index, weights=(scores - shift) * signs, minlength=fired.n)
    predictions: FloatArray = sums / np.sqrt(fired.width)
    return predictions


@dataclass(frozen=True, eq=False)
class ImplicitNetwork:
    """A trained network as its initial weights plus coefficients on the data.

    Parameters
    ----------
    initial : TwoLayerNetwork
        ``W(0)``; shared with the caller, never written to.
    X : ndarray (n, d)
        Training inputs.
    moved : ndarray (u,) of int
        Neurons that have ever fired on a data point, in increasing order.
    coefficients : ndarray (u, n)
        ``c`` of those neurons.
    """

    initial: TwoLayerNetwork
    X: FloatArray
    moved: IntArray
    coefficients: FloatArray

    def moved_weights(self) -> FloatArray:
        """Compute the current weights (u, d) of the neurons that moved."""
        scale = self.initial.signs[self.moved] / np.sqrt(self.initial.width)
        weights: FloatArray = self.initial.weights[self.moved] + scale[:, np.newaxis] * (self.coefficients @ self.X)
        return weights

    def predict(self, X: ArrayLike) -> FloatArray:
        """Predict on any points; a new point may fire any neuron, so this reads all of ``W(0)`` once, in blocks.

        Parameters
        ----------
        X : array_like (n, d)
            Points; they need not be of unit length.

        Returns
        -------
        ndarray (n,)

        Raises
        ------
        InputError
            NaN or infinite entries, wrong number of columns.
        """
        points = check_points(X, self.initial.dim)
        total = np.zeros(len(points))
        signs, shift = self.initial.signs, self.initial.shift
        moved_weights = self.moved_weights()
        rows = max(1, BLOCK_ENTRIES // len(points))
        for start in range(0, self.initial.width, rows):
            stop = min(start + rows, self.initial.width)
            weights = self.initial.weights[start:stop].copy()
            first, last = np.searchsorted(self.moved, (start, stop))
            weights[self.moved[first:last] - start] = moved_weights[first:last]
            total += np.maximum(points @ weights.T - shift, 0) @ signs[start:stop]
        predictions: FloatArray = total / np.sqrt(self.initial.width)
        return predictions

    def to_dense(self) -> TwoLayerNetwork:
        """Write all weights out: ``w_r = w_r(0) + m^(-1/2) a_r sum_i c_ri x_i``."""
        weights = self.initial.weights.copy()
        weights[self.moved] = self.moved_weights()
        return TwoLayerNetwork(weights, self.initial.signs, self.initial.shift)


class Coefficients:
    """The coefficients ``c`` of the neurons that have moved, in a table that grows with them.

    Parameters
    ----------
    width : int
        Neurons ``m``; one lookup entry each is set aside here, once.
    n : int
        Data points.

    Attributes
    ----------
    neurons : ndarray (u,) of int
        Neurons that have a row, in the order in which they first fired.
    """

    def __init__(self, width: int, n: int) -> None:
        self._row = np.full(width, -1, dtype=np.intp)
        self._neurons = np.empty(0, dtype=np.intp)
        self._values = np.empty((0, n))
        self._used = 0

    @property
    def neurons(self) -> IntArray:
        """Neurons that have a row, in the order in which they first fired."""
        return self._neurons[: self._used]

    def subtract(self, jacobian_neurons: IntArray, column: IntArray, data_index: IntArray, g: FloatArray) -> None:
        """Subtract ``g_i`` from ``c_ri`` for every fired pair.

        Parameters
        ----------
        jacobian_neurons : ndarray (u,) of int
            Neurons that fire, each once.
        column : ndarray (p,) of int
            Position of each pair's neuron in ``jacobian_neurons``.
        data_index : ndarray (p,) of int
            Each pair's data point.
        g : ndarray (n,)
            Gauss-Newton solution.
        """
        new = jacobian_neurons[self._row[jacobian_neurons] < 0]
        self._reserve(self._used + len(new))
        self._row[new] = self._used + np.arange(len(new))
        self._neurons[self._used : self._used + len(new)] = new
        self._used += len(new)
        # Each pair occurs once, so plain indexed subtraction loses nothing.
        self._values[self._row[jacobian_neurons][column], data_index] -= g[data_index]

    def _reserve(self, rows: int) -> None:
        if rows > len(self._neurons):
            extra = max(rows, 2 * len(self._neurons)) - len(self._neurons)
            self._neurons = np.concatenate([self._neurons, np.zeros(extra, dtype=np.intp)])
            self._values = np.concatenate([self._values, np.zeros((extra, self._values.shape[1]))])

    def network(self, initial: TwoLayerNetwork, X: FloatArray) -> ImplicitNetwork:
        """Make the trained network from the initial one and the data (n, d)."""
        order = np.argsort(self.neurons)
        return ImplicitNetwork(initial, X, self.neurons[order], self._values[: self._used][order])
