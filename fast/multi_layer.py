"""The deep network from its fired neurons alone: sparse signals forward, sparse sensitivities back, lazy weights.

Mathematics: `reference.multi_layer`. On a point only about ``k = m Phi(-b)`` neurons of a layer fire, so ``h_l`` and
``p_l`` have ``k`` entries, at the same places, and::

    forward    z_l = W_l h_(l-1)                    the columns of W_l at the entries of h_(l-1)             k m a point
               or, in training, only the scores that may have reached the shift: `fast.certified_scores`
    backward   q_(l-1) = W_l^T p_l where h_(l-1) is not zero: rows at p_l, columns at h_(l-1)                k^2 a point
    Gram       sum over the trained layers of (P_l P_l^T) o (H_(l-1) H_(l-1)^T)    sparse products, at most n^2 k

Nothing reads other entries of the (m, m) matrices (`fast.low_rank`), and training never writes to them: what it adds
stays in factors. The (m, d) matrix of the first layer is multiplied as a whole; its inputs are dense.

A neuron on its kink fires with ``h = 0``: it has an entry in the pattern, and its ``p`` is not zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse

from fast.certified_scores import CertifiedScores
from fast.low_rank import LowRankWeights, row_lengths, row_numbers
from fast.sketch import sketch_tensors, sketch_tensors_work
from reference.multi_layer import MultiLayerNetwork
from reference.notation import FloatArray, InputError, IntArray, check_points
from reference.signals import check_signals
from reference.sketch import TensorSketchDraw

BLOCK_POINTS = 64
"""Points that are sent forward at a time when only predictions are wanted."""


@dataclass(frozen=True, eq=False)
class SparseSignals:
    """What passes through a network forward.

    Parameters
    ----------
    hidden : tuple of L + 1 csr_array
        ``H_0 = X`` (n, d), then ``H_1`` to ``H_L``, each (n, m). Those after the first have a stored entry for every
        neuron that fires, be it 0.
    sizes : tuple of L ndarray (n,)
        What each layer's ``v`` is divided by: ``||v_l||`` in a normalized network, ``1 / c`` otherwise.
    """

    hidden: tuple[sparse.csr_array, ...]
    sizes: tuple[FloatArray, ...]

    def followed_by(self, hidden: sparse.csr_array, size: FloatArray, above: SparseSignals) -> SparseSignals:
        """Append one layer, and those that follow it; ``above`` begins with that layer."""
        return SparseSignals((*self.hidden, hidden, *above.hidden[1:]), (*self.sizes, size, *above.sizes))

    def fired(self) -> list[IntArray]:
        """Count the neurons of each layer that fire on each point: L arrays (n,)."""
        return [np.diff(h.indptr).astype(np.intp) for h in self.hidden[1:]]

    def check(self, network: MultiLayerNetwork) -> None:
        """Stop when a signal has died.

        Raises
        ------
        DeadSignalError
            See `reference.signals.check_signals`.
        """
        check_signals(
            self.fired(), [row_lengths(h) for h in self.hidden[:-1]], network)


def scale_rows(P: sparse.csr_array, g: FloatArray) -> sparse.csr_array:
    """Multiply row ``i`` by ``g_i``, and keep the pattern."""
    return sparse.csr_array((P.data * g[row_numbers(P)], P.indices, P.indptr), shape=P.shape)


def fire(
    z: FloatArray, network: MultiLayerNetwork, neurons: IntArray | None = None
) -> tuple[sparse.csr_array, FloatArray]:
    """Turn scores into a signal: ``h = v / size`` with ``v = max(z - b, 0)``, stored where ``z >= b``.

    Parameters
    ----------
    z : ndarray (n, m), or (n, u)
        Scores of one layer.
    network : MultiLayerNetwork
        Says ``b`` and ``c``, or that the layer is normalized.
    neurons : ndarray (u,) of int, optional
        Whose scores they are, if not those of all neurons; increasing. The others do not fire.

    Returns
    -------
    hidden : csr_array (n, m)
    size : ndarray (n,)
    """
    n, u = z.shape
    place = np.flatnonzero(z >= network.shift)
    row, column = np.divmod(place, u)
    column = column if neurons is None else neurons[column]
    v = z.ravel()[place] - network.shift
    size = np.full(n, 1 / network.scale)
    if network.normalized:
        size = np.sqrt(np.bincount(row, weights=v**2, minlength=n))
        size[size == 0] = 1  # a dead signal stays 0
    starts = np.searchsorted(row, np.arange(n + 1))
    return sparse.csr_array((v / size[row], column, starts), shape=(n, network.width)), size


def forward(
    layers: Sequence[LowRankWeights],
    network: MultiLayerNetwork,
    X: FloatArray | sparse.csr_array,
    certified: Sequence[CertifiedScores] | None = None,
) -> SparseSignals:
    """Send points through the layers.

    Parameters
    ----------
    layers : sequence of L LowRankWeights
        Their weights; fewer than the depth are sent through that many.
    network : MultiLayerNetwork
        Says ``b`` and ``c``.
    X : ndarray or csr_array (n, d)
        Points.
    certified : sequence of L CertifiedScores, optional
        What is known about the layers from earlier calls with the same points.

    Returns
    -------
    SparseSignals
    """
    hidden, sizes = [sparse.csr_array(X)], []
    for number, weights in enumerate(layers):
        if certified is None:
            scores = weights.multiply(hidden[-1])
        else:
            scores = certified[number].multiply(weights, hidden[-1], network.shift)
        h, size = fire(scores, network)
        hidden.append(h)
        sizes.append(size)
    return SparseSignals(tuple(hidden), tuple(sizes))


def backward(
    layers: Sequence[LowRankWeights],
    network: MultiLayerNetwork,
    signals: SparseSignals,
    lowest: int,
    certified: Sequence[CertifiedScores] | None = None,
) -> dict[int, sparse.csr_array]:
    """Send sensitivities back from the last layer to the lowest trained one.

    Parameters
    ----------
    layers : sequence of L LowRankWeights
        Their weights.
    network : MultiLayerNetwork
        Says the signs, and whether layers are normalized.
    signals : SparseSignals
        From `forward`.
    lowest : int
        Layers from here to ``L`` are answered.
    certified : sequence of CertifiedScores, optional
        Of the layers above the lowest; they may have the weights at hand.

    Returns
    -------
    dict of int to csr_array (n, m)
        ``P_l``, with the pattern of ``H_l``.
    """
    found: dict[int, sparse.csr_array] = {}
    last = signals.hidden[-1]
    q = network.signs[last.indices]
    for layer in range(len(layers), lowest - 1, -1):
        h, row = signals.hidden[layer], row_numbers(signals.hidden[layer])
        if network.normalized:
            along = np.bincount(row, weights=q * h.data, minlength=h.shape[0])
            q = q - along[row] * h.data
        P = sparse.csr_array((q / signals.sizes[layer - 1][row], h.indices, h.indptr), shape=h.shape)
        found[layer] = P
        if layer > lowest:
            weights, below = layers[layer - 1], signals.hidden[layer - 1]
            if certified is None:
                q = weights.multiply_at(P, below)
            else:
                q = certified[layer - lowest - 1].multiply_at(weights, P, below)
    return found


class TensorJacobian:
    """The Jacobian over the trained layers, as pairs of factors: row ``i`` is ``p_(i,l) (x) h_(i,l-1)`` for each.

    Parameters
    ----------
    factors : sequence of (csr_array (n, m), csr_array (n, m or d))
        ``P_l`` and ``H_(l-1)`` of each trained layer.
    """

    def __init__(self, factors: Sequence[tuple[sparse.csr_array, sparse.csr_array]]) -> None:
        self.factors = tuple(factors)

    @cached_property
    def gram(self) -> FloatArray:
        """``G = J J^T``: (n, n)."""
        terms = [(P @ P.T).toarray() * (H @ H.T).toarray() for P, H in self.factors]
        return np.asarray(sum(terms))

    @property
    def gram_work(self) -> int:
        """Multiply-adds of `gram`: pairs of entries that share a column, and ``n^2`` for each layer."""
        shared = [np.bincount(M.indices, minlength=1).astype(np.intp) for pair in self.factors for M in pair]
        return sum(int(count @ count) for count in shared) + len(self.factors) * self.n**2

    def sketch(self, draws: Sequence[TensorSketchDraw]) -> FloatArray:
        """Sketch it, with independent draws for the layers: ``S J^T = sum_l S_l J_l^T``, (s, n)."""
        return np.asarray(sum(sketch_tensors(draw, P, H) for draw, (P, H) in zip(draws, self.factors, strict=True)))

    def sketch_work(self, draws: Sequence[TensorSketchDraw]) -> int:
        """Count the multiply-adds of `sketch`."""
        return sum(sketch_tensors_work(draw, P, H) for draw, (P, H) in zip(draws, self.factors, strict=True))

    # What `fast.regression.solve_sketched` asks of the rows of a Jacobian

    @property
    def n(self) -> int:
        """Data points."""
        return int(self.factors[0][0].shape[0])

    @property
    def trace(self) -> float:
        """Trace of ``G``."""
        return float(np.trace(self.gram))

    @property
    def longest_sum(self) -> int:
        """Most terms of one inner product in ``G``."""
        return max(int(np.diff(M.indptr).max()) for pair in self.factors for M in pair)

    @property
    def product_work(self) -> int:
        """Multiply-adds of `multiply_gram`."""
        return self.n**2

    def multiply_gram(self, g: FloatArray) -> FloatArray:
        """Compute ``G g`` (n,) by the inner products of the factors; they are formed once."""
        product: FloatArray = self.gram @ g
        return product


@dataclass(frozen=True, eq=False)
class ImplicitMultiLayerNetwork:
    """A trained network as its initial weights plus low-rank factors; every layer's ``W(0)`` is shared.

    Parameters
    ----------
    initial : MultiLayerNetwork
        Where training started; never written to.
    layers : tuple of L LowRankWeights
        The weights now. A matrix that had to be re-laid column by column is kept so: training again does not repeat it.
    """

    initial: MultiLayerNetwork
    layers: tuple[LowRankWeights, ...]

    @property
    def width(self) -> int:
        """Number of neurons of a layer, ``m``."""
        return self.initial.width

    @property
    def dim(self) -> int:
        """Input dimension ``d``."""
        return self.initial.dim

    @property
    def depth(self) -> int:
        """Number of layers ``L``."""
        return self.initial.depth

    @property
    def normalized(self) -> bool:
        """Whether every hidden signal is scaled to length 1."""
        return self.initial.normalized

    def predict(self, X: ArrayLike) -> FloatArray:
        """Predict on any points: ``f_i = <a, h_L>``.

        Parameters
        ----------
        X : array_like (n, d)
            Points; they need not be of unit length.

        Returns
        -------
        ndarray (n,)
            Where a signal has died, 0.

        Raises
        ------
        InputError
            NaN or infinite entries, wrong number of columns.
        """
        points = check_points(X, self.dim)
        blocks = (points[start : start + BLOCK_POINTS] for start in range(0, len(points), BLOCK_POINTS))
        last = [forward(self.layers, self.initial, block).hidden[-1] for block in blocks]
        return np.concatenate([h @ self.initial.signs for h in last])

    def to_dense(self) -> MultiLayerNetwork:
        """Write all weights out; layers that never moved are shared."""
        weights = tuple(
            layer.to_dense() if layer.rank or layer.block.size else layer.initial for layer in self.layers
        )
        return MultiLayerNetwork(weights, self.initial.signs, self.initial.shift, self.initial.normalized)


def check_network(network: object) -> None:
    """Check that a network is a deep one.

    Parameters
    ----------
    network : MultiLayerNetwork or ImplicitMultiLayerNetwork
        Where to start.

    Raises
    ------
    InputError
        Neither.
    """
    if not isinstance(network, (MultiLayerNetwork, ImplicitMultiLayerNetwork)):
        raise InputError(f"network is a {type(network).__name__}; pass a MultiLayerNetwork or a trained one")


def start_layers(
    network: MultiLayerNetwork | ImplicitMultiLayerNetwork, lowest: int, *, budget: int | None
) -> tuple[MultiLayerNetwork, list[LowRankWeights]]:
    """Set up the weights of all layers for training those from ``lowest`` on.

    Parameters
    ----------
    network : MultiLayerNetwork or ImplicitMultiLayerNetwork
        Where to start. Not modified.
    lowest : int
        The lowest trained layer. Layers above it are read in every iteration, so they are stored column by column.
    budget : int or None
        Rank at which factors are folded; None waits until it pays.

    Returns
    -------
    initial : MultiLayerNetwork
        The dense network that all began with.
    layers : list of L LowRankWeights

    Raises
    ------
    InputError
        Neither kind of network, or a budget below 1.
    """
    check_network(network)
    if isinstance(network, ImplicitMultiLayerNetwork):
        initial, layers = network.initial, [layer.restarted() for layer in network.layers]
    else:
        initial, layers = network, [LowRankWeights(W) for W in network.weights]
    for layer, weights in enumerate(layers, start=1):
        weights.set_budget(budget)
        if layer > lowest:
            weights.store_by_columns()
    return initial, layers
