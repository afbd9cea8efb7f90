"""All pairs of the neurons that fire somewhere at the start, in dense arrays: for steps that flip pairs by the million.

Where the drift is not small against the shift (at ``alpha >= 1/2``, at small widths, on coherent data), a step moves
neurons across many thresholds, and `fast.watched_pairs` would have to watch a large share of all ``R n`` pairs. Then
the compacted loop is the better way to do the same (the opponent of `fast.baselines`, here as a stand-in with the
same methods). `fast.gauss_newton.EventRun` goes over to it, and back when the flips have died out::

    W <- W - s_r sum_{i: r fires on x_i} g_i x_i        (R, d), block by block: (pattern * g) X
    e = W X^T - b,   pattern = [e >= 0],   f = sum_r s_r max(e, 0),   C = pattern^T pattern

Cost: ``R n d`` multiply-adds a step for the scores of the ``R`` neurons that fire somewhere at the start (invariant 1
there: no other ever moves), and at most ``R n (d + n)`` for the rest, less where few pairs fire. Memory: ``R d``
numbers and ``R n`` truth values, twice while a step is on trial.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from fast.two_layer import BLOCK_ENTRIES, FiredPairs, ImplicitNetwork, StartingNetwork, score_blocks
from fast.watched_pairs import WatchedPairs
from reference.notation import BoolArray, FloatArray, IntArray

SPARSE_BELOW = 1 / 16
"""Share of pairs that fire below which lists of them cost less than products with the whole pattern."""


@dataclass(frozen=True, eq=False)
class AllTrial:
    """What a step would lead to; nothing has moved yet.

    Parameters
    ----------
    g : ndarray (n,)
        The step's coefficients.
    weights : ndarray (R, d)
        Weights after it.
    pattern : ndarray (R, n) of bool
        Which pairs fire after it.
    predictions : ndarray (n,)
        ``f`` after it.
    shared : ndarray (n, n)
        ``C`` after it.
    flips : int
        Pairs that change between firing and not firing.
    """

    g: FloatArray
    weights: FloatArray
    pattern: BoolArray
    predictions: FloatArray
    shared: FloatArray
    flips: int

    @property
    def fired_per_point(self) -> FloatArray:
        """Neurons that fire on each data point after it: (n,)."""
        return np.diag(self.shared)


class AllPairs:
    """The state of a run from here on.

    Parameters
    ----------
    network : StartingNetwork
        The initial network.
    X : ndarray (n, d)
        Data points.
    inner_products : ndarray (n, n)
        ``P``.
    neurons : ndarray (R,) of int
        The neurons that fire somewhere at the start.
    weights : ndarray (R, d)
        Their weights now. Kept, and never written to.
    work : dict
        Record of work to go on with.

    Made by `start` or `of`; what the constructor leaves has no firing pair yet.

    Attributes
    ----------
    predictions, shared, active_pairs, work
        As in `fast.watched_pairs.WatchedPairs`.
    """

    def __init__(
        self,
        network: StartingNetwork,
        X: FloatArray,
        inner_products: FloatArray,
        neurons: IntArray,
        weights: FloatArray,
        work: dict[str, int],
    ) -> None:
        self.network, self.X, self.inner_products, self.work = network, X, inner_products, work
        self.neurons = neurons
        self.signs: FloatArray = network.signs[neurons] / np.sqrt(network.width)
        n = len(X)
        pattern = np.zeros((len(neurons), n), dtype=np.bool_)
        self._take(AllTrial(np.zeros(n), weights, pattern, np.zeros(n), np.zeros((n, n)), 0))

    @classmethod
    def start(
        cls, network: StartingNetwork, X: FloatArray, inner_products: FloatArray, work: dict[str, int]
    ) -> AllPairs:
        """Begin a run: find the neurons that fire somewhere, reading all weights once, in blocks."""
        fires = [(block >= network.shift).any(axis=0) for block in score_blocks(network.weights, X)]
        neurons = np.flatnonzero(np.concatenate([np.zeros(0, dtype=np.bool_), *fires]))
        whole = cls(network, X, inner_products, neurons, network.weights[neurons], work)
        whole._take(whole.try_step(np.zeros(len(X))))  # a step of length 0 computes everything
        return whole

    @classmethod
    def of(cls, watched: WatchedPairs) -> AllPairs:
        """Go over from watched pairs; they are not modified, and their record of work is shared."""
        network, fired = watched.trained_network(), watched.fired_pairs()
        neurons, weights = network.moved, network.moved_weights()
        whole = cls(watched.network, watched.X, watched.inner_products, neurons, weights, watched.work)
        whole.pattern[np.searchsorted(neurons, fired.neuron_index), fired.data_index] = True
        state = AllTrial(np.zeros(len(watched.X)), weights, whole.pattern, watched.predictions, watched.shared, 0)
        whole._take(state)
        return whole

    def gram(self) -> FloatArray:
        """Compute ``G = P o C / m``."""
        G: FloatArray = self.inner_products * self.shared / self.network.width
        self.work["gram"] += G.size
        return G

    def try_step(self, g: FloatArray) -> AllTrial:
        """Compute where the step ``W - J^T g`` leads.

        Parameters
        ----------
        g : ndarray (n,)
            Step.

        Returns
        -------
        AllTrial
        """
        n, d = self.X.shape
        weights, pattern = np.empty_like(self.weights), np.empty_like(self.pattern)
        predictions, shared, flips = np.zeros(n), np.zeros((n, n)), 0
        for rows in self._blocks():
            weights[rows] = self.weights[rows] - self.signs[rows, np.newaxis] * self._multiply(self.pattern[rows], g)
            excess = weights[rows] @ self.X.T - self.network.shift
            fires = np.greater_equal(excess, 0, out=pattern[rows])
            flips += int(np.count_nonzero(fires != self.pattern[rows]))
            predictions += self.signs[rows] @ np.maximum(excess, 0, out=excess)
            shared += self._count(fires)
        self.work["compute"] += pattern.size * d
        return AllTrial(g, weights, pattern, predictions, shared, flips)

    def _multiply(self, pattern: BoolArray, g: FloatArray) -> FloatArray:
        """Compute ``(pattern * g) X`` for some neurons: (rows, d)."""
        entries = int(np.count_nonzero(pattern))
        if entries < SPARSE_BELOW * pattern.size:
            listed = sparse.csr_array(pattern)
            self.work["drift"] += entries * self.X.shape[1]
            product: FloatArray = listed @ (g[:, np.newaxis] * self.X)
        else:
            self.work["drift"] += pattern.size * self.X.shape[1]
            product = (pattern * g) @ self.X
        return product

    def _count(self, pattern: BoolArray) -> FloatArray:
        """Count the neurons among some that fire on both of two points: (n, n)."""
        if np.count_nonzero(pattern) < SPARSE_BELOW * pattern.size:
            listed = sparse.csr_array(pattern, dtype=np.float64)
            fan = np.diff(listed.indptr).astype(np.intp)
            self.work["gram"] += int(fan @ fan)
            shared: FloatArray = (listed.T @ listed).toarray()
            return shared
        self.work["gram"] += pattern.size * pattern.shape[1]
        single = pattern.astype(np.float32)  # whole numbers below 2^24: exact
        return (single.T @ single).astype(np.float64)

    def take(self, trial: AllTrial) -> None:
        """Take the step that was tried last.

        Parameters
        ----------
        trial : AllTrial
            From `try_step`.
        """
        self._take(trial)
        self.work["flips"] += trial.flips

    def _take(self, trial: AllTrial) -> None:
        self.weights, self.pattern = trial.weights, trial.pattern
        self.predictions, self.shared = trial.predictions, trial.shared
        self.active_pairs = int(np.diag(trial.shared).sum())

    def copy(self) -> AllPairs:
        """Copy the state; steps replace its arrays and never write to them."""
        return copy.copy(self)

    def fired_pairs(self) -> FiredPairs:
        """List the pairs that fire now, sorted by data point and then by neuron."""
        data_index, row = np.nonzero(self.pattern.T)
        return FiredPairs(data_index, self.neurons[row], len(self.X), self.network.width)

    def trained_network(self) -> ImplicitNetwork:
        """Return the network with its weights as they are now."""
        return ImplicitNetwork(self.network, self.X, self.neurons, weights=self.weights)

    def _blocks(self) -> Iterator[slice]:
        rows = max(1, BLOCK_ENTRIES // len(self.X))
        return (slice(start, start + rows) for start in range(0, len(self.neurons), rows))
