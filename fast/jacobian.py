"""The Jacobian as an operator on fired pairs.

Mathematics ([A], Definition 2.6). Row ``i`` of ``J`` is the tensor ``m^(-1/2) (A_i o a) (x) x_i``: its block ``r`` is
``m^(-1/2) a_r x_i`` when ``r`` fires on ``x_i`` and zero otherwise. With ``F`` the sparse (n, u) matrix of
``m^(-1/2) a_r`` at the fired pairs, whose columns are the ``u`` neurons that fire somewhere::

    (J V)_i   = sum_r F[i, r] <x_i, v_r>          V (u, d), one row per such neuron
    (J^T g)_r = sum_i F[i, r] g_i x_i             (u, d)

Cost: ``p d`` multiply-adds for either product with ``p`` fired pairs; nothing of size ``m`` is formed.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from scipy import sparse

from fast.two_layer import FiredPairs
from reference.notation import FloatArray, IntArray


class FiredJacobian:
    """The (n, m d) Jacobian with ``p d`` nonzeros, as products both ways.

    Parameters
    ----------
    X : ndarray (n, d)
        Data points.
    fired : FiredPairs
        ``p`` pairs.
    signs : ndarray (p,)
        ``a`` at the pairs' neurons.
    """

    def __init__(self, X: FloatArray, fired: FiredPairs, signs: FloatArray) -> None:
        self.X = X
        self.fired = fired
        self.signs = signs
        neurons, column = _distinct(fired)
        self.neurons: IntArray = neurons
        """Neurons that fire somewhere, (u,), increasing."""
        self.column: IntArray = column
        """Position of each pair's neuron in `neurons`, (p,)."""

    @cached_property
    def factors(self) -> sparse.csr_array:
        """``F``: (n, u), the entries ``m^(-1/2) a_r`` at the fired pairs."""
        values = self.signs / np.sqrt(self.fired.width)
        return sparse.csr_array((values, self.column, self._row_starts()), shape=(self.fired.n, len(self.neurons)))

    @cached_property
    def pattern(self) -> sparse.csr_array:
        """The fired pairs as a (n, u) matrix of ones."""
        ones = np.ones(len(self.fired))
        return sparse.csr_array((ones, self.column, self._row_starts()), shape=(self.fired.n, len(self.neurons)))

    def _row_starts(self) -> IntArray:
        return np.concatenate([[0], np.cumsum(self.fired.per_point())])

    def matvec(self, V: FloatArray) -> FloatArray:
        """Multiply ``J`` with weights ``V`` (u, d) of the neurons that fire somewhere; returns (n,)."""
        product: FloatArray = np.einsum("nd,nd->n", self.factors @ V, self.X)
        return product

    def rmatvec(self, g: FloatArray) -> FloatArray:
        """Multiply ``J^T`` with ``g`` (n,); returns the rows (u, d) of the neurons that fire somewhere."""
        rows: FloatArray = self.factors.T @ (g[:, np.newaxis] * self.X)
        return rows

    # What `fast.regression.solve_sketched` asks of the rows of a Jacobian

    @property
    def n(self) -> int:
        """Data points."""
        return len(self.X)

    @property
    def trace(self) -> float:
        """Trace of ``G``."""
        return float(self.fired.per_point() @ np.sum(self.X**2, axis=1)) / self.fired.width

    @property
    def longest_sum(self) -> int:
        """Most neurons that fire on one point."""
        return int(self.fired.per_point().max())

    @property
    def product_work(self) -> int:
        """Multiply-adds of `multiply_gram`."""
        return 2 * len(self.fired) * int(self.X.shape[1])

    def multiply_gram(self, g: FloatArray) -> FloatArray:
        """Compute ``G g = J (J^T g)``: (n,)."""
        return self.matvec(self.rmatvec(g))

    def to_dense(self) -> FloatArray:
        """Write out the (n, m d) Jacobian, for tests."""
        n, d = self.X.shape
        J = np.zeros((n, self.fired.width, d))
        data_index = self.fired.data_index
        J[data_index, self.fired.neuron_index] = self.signs[:, np.newaxis] * self.X[data_index]
        rows: FloatArray = J.reshape(n, -1) / np.sqrt(self.fired.width)
        return rows


def _distinct(fired: FiredPairs) -> tuple[IntArray, IntArray]:
    """List the neurons that fire somewhere, increasing, and where in the list each pair's neuron is."""
    if len(fired) < fired.width:
        neurons, column = np.unique(fired.neuron_index, return_inverse=True)
        return neurons, column
    # No fewer pairs than neurons: a look at all neurons is cheaper than sorting the pairs.
    fires = np.zeros(fired.width, dtype=bool)
    fires[fired.neuron_index] = True
    place = np.cumsum(fires) - 1
    return np.flatnonzero(fires), place[fired.neuron_index]
