"""The two-layer network from its fired neurons alone, with weights that stay implicit.

Only pairs (data point, neuron) that fire enter the predictions, the Jacobian and the step, so a list of fired pairs
stands in for the (n, m) pattern ([A] for the sparse Jacobian, Definition 2.6; the rest is ours)::

    f_i      = m^(-1/2) sum_{r fires on x_i} a_r (U[i, r] - b)
    w_r(t)   = w_r(0) + m^(-1/2) a_r sum_i c_ri x_i             c: coefficients on the data, (moved neurons, n)
    U_t[j,r] = U_0[j, r] + m^(-1/2) a_r sum_i c_ri <x_i, x_j>

A neuron that never fired has ``c_r = 0``: it has no row in ``c``, and its weights are never looked at.

Where training starts (`StartingNetwork`) may hold fewer rows than its width ``m`` says: in a `PartialNetwork` a neuron
that fires on none of the points given at its start does not exist. On those points nothing is lost, since such a
neuron adds 0 and never moves; on others its share is missing, and whoever asks is told so.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import Field, dataclass, replace
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse

from reference.notation import BoolArray, FloatArray, InputError, IntArray, check_points
from reference.two_layer import TwoLayerNetwork

BLOCK_ENTRIES = 1 << 18
"""Pre-activations per block when all weights must be read once: 2 MiB, so that a block stays in cache."""


class StartingNetwork(Protocol):
    """What training starts from: ``u`` neurons that exist out of ``m``; `TwoLayerNetwork` has ``u = m``."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    @property
    def weights(self) -> FloatArray:
        """Rows (u, d) of the neurons that exist."""
        ...

    @property
    def signs(self) -> FloatArray:
        """Their signs (u,)."""
        ...

    @property
    def shift(self) -> float:
        """Shift ``b``."""
        ...

    @property
    def width(self) -> int:
        """Number of neurons ``m``, whether they exist or not."""
        ...

    @property
    def dim(self) -> int:
        """Input dimension ``d``."""
        ...

    def predict(self, X: ArrayLike) -> FloatArray:
        """Predict on points (n, d); returns (n,)."""
        ...

    def to_dense(self) -> TwoLayerNetwork:
        """Return the same function with all its neurons written out."""
        ...


@runtime_checkable
class PartialNetwork(Protocol):
    """A network whose missing neurons fire on none of the points that it was given; see `fast.lazy_width`."""

    def given(self, X: FloatArray) -> BoolArray:
        """Tell which rows of ``X`` (n, d) are among those points: (n,)."""
        ...

    def missing_deviation(self, X: FloatArray) -> FloatArray:
        """Bound the standard deviation of what the missing neurons would add to each prediction: (n,)."""
        ...


class PartialPredictionWarning(UserWarning):
    """Some points were not given to a partial network, so neurons that fire on them are missing."""


def check_given(network: StartingNetwork | ImplicitNetwork, X: FloatArray) -> None:
    """Refuse to train on points that a partial network was not given; any other network takes all points.

    Parameters
    ----------
    network : StartingNetwork or ImplicitNetwork
        Where training starts.
    X : ndarray (n, d)
        Data points.

    Raises
    ------
    InputError
        Names the first row of ``X`` that was not given.
    """
    initial = network.initial if isinstance(network, ImplicitNetwork) else network
    if isinstance(initial, PartialNetwork):
        strange = np.flatnonzero(~initial.given(X))
        if strange.size:
            raise InputError(
                f"row {int(strange[0])} of X was not given when the network was drawn ({strange.size} such row(s)), "
                "so neurons that fire on it are missing; draw it anew with all data in X or unseen: "
                "fast.lazy_width.initialize(X, ..., unseen=...)"
            )


def warn_of_missing(network: StartingNetwork, X: FloatArray) -> None:
    """Warn when some points were not given to a partial network: how many, what is included, how much is missing.

    Parameters
    ----------
    network : StartingNetwork
        Any; silent unless it is a `PartialNetwork`.
    X : ndarray (n, d)
        Points that are about to be used.
    """
    if not isinstance(network, PartialNetwork):
        return
    strange = np.flatnonzero(~network.given(X))
    if strange.size:
        deviation = float(network.missing_deviation(X[strange]).max())
        warnings.warn(
            f"{strange.size} of {len(X)} points, the first of them row {int(strange[0])}, were not given when the "
            "network was drawn. Included are the neurons that exist, all trained ones among them; those missing would "
            f"add noise of mean 0 and standard deviation at most {deviation:.3g} to a prediction. To include them, "
            "draw the network with these points in unseen, or extend it",
            PartialPredictionWarning,
            stacklevel=3,
        )


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
    """A trained network as its initial weights plus coefficients on the data, or plus the rows that moved.

    Parameters
    ----------
    initial : StartingNetwork
        ``W(0)``, of which ``u`` rows exist; shared with the caller, never written to.
    X : ndarray (n, d)
        Training inputs.
    moved : ndarray (v,) of int
        Rows of ``initial`` that have ever fired on a data point, in increasing order.
    coefficients : ndarray or csr_array (v, n), optional
        ``c`` of those rows.
    weights : ndarray (v, d), optional
        Their weights, in place of ``c``: less to keep where most neurons fire on many points.
    """

    initial: StartingNetwork
    X: FloatArray
    moved: IntArray
    coefficients: FloatArray | sparse.csr_array | None = None
    weights: FloatArray | None = None

    def moved_weights(self) -> FloatArray:
        """Compute the current weights (v, d) of the neurons that moved."""
        if self.weights is not None:
            return self.weights
        assert self.coefficients is not None
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

        Warns
        -----
        PartialPredictionWarning
            The network started from a partial one, and some points were not given to it.
        """
        points = check_points(X, self.initial.dim)
        warn_of_missing(self.initial, points)
        return self.combine(self.initial.signs, points)

    def combine(self, output_weights: FloatArray, points: FloatArray) -> FloatArray:
        """Compute ``m^(-1/2) sum_r a_r max(<w_r, x_i> - b, 0)`` on points (n, d) for any ``a`` (u,)."""
        total = np.zeros(len(points))
        moved_weights = self.moved_weights()
        rows = max(1, BLOCK_ENTRIES // len(points))
        for start in range(0, len(output_weights), rows):
            weights = self.initial.weights[start : start + rows].copy()
            first, last = np.searchsorted(self.moved, (start, start + rows))
            weights[self.moved[first:last] - start] = moved_weights[first:last]
            total += np.maximum(points @ weights.T - self.initial.shift, 0) @ output_weights[start : start + rows]
        predictions: FloatArray = total / np.sqrt(self.initial.width)
        return predictions

    def to_dense(self) -> TwoLayerNetwork:
        """Write all weights out: ``w_r = w_r(0) + m^(-1/2) a_r sum_i c_ri x_i``."""
        return starting_network(self).to_dense()


def starting_network(network: StartingNetwork | ImplicitNetwork) -> StartingNetwork:
    """Return what training can start from: the network itself, or a trained one with its weights written out.

    Parameters
    ----------
    network : StartingNetwork or ImplicitNetwork
        Not modified.

    Returns
    -------
    StartingNetwork
        Of the same kind as the network that the implicit one started from, with a copy of its weights.

    Examples
    --------
    >>> network = TwoLayerNetwork([[2.0, 0.0], [0.0, 1.0]], [1, -1], 0.0)
    >>> starting_network(network) is network
    True
    >>> trained = ImplicitNetwork(network, np.eye(2), np.array([1]), np.array([[0.0, np.sqrt(2)]]))
    >>> starting_network(trained).weights.round(12)
    array([[2., 0.],
           [0., 0.]])
    """
    if not isinstance(network, ImplicitNetwork):
        return network
    weights = network.initial.weights.copy()
    weights[network.moved] = network.moved_weights()
    return replace(network.initial, weights=weights)


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

    def after(self, neurons: IntArray, column: IntArray, data_index: IntArray, g: FloatArray) -> FloatArray:
        """Return the rows (u, n) that `subtract` would leave for the same arguments."""
        row = self._row[neurons]
        rows = np.zeros((len(neurons), self._values.shape[1]))
        rows[row >= 0] = self._values[row[row >= 0]]
        rows[column, data_index] -= g[data_index]
        return rows

    def copy(self) -> Coefficients:
        """Copy the table."""
        twin = Coefficients(0, self._values.shape[1])
        twin._row, twin._neurons, twin._values = self._row.copy(), self._neurons.copy(), self._values.copy()
        twin._used = self._used
        return twin

    def _reserve(self, rows: int) -> None:
        if rows > len(self._neurons):
            extra = max(rows, 2 * len(self._neurons)) - len(self._neurons)
            self._neurons = np.concatenate([self._neurons, np.zeros(extra, dtype=np.intp)])
            self._values = np.concatenate([self._values, np.zeros((extra, self._values.shape[1]))])

    def network(self, initial: StartingNetwork, X: FloatArray) -> ImplicitNetwork:
        """Make the trained network from the initial one and the data (n, d)."""
        order = np.argsort(self.neurons)
        return ImplicitNetwork(initial, X, self.neurons[order], self._values[: self._used][order])
