"""The opponents of `fast.multi_layer_gauss_newton`: dense Gauss-Newton over several layers, as fast as NumPy allows.

Both are exact and keep their weights dense, in copies that they write to. What is cheap in sparse form is done so, by
the same routines as on the fast path; what remains of the dense loop is the scan and the written weights::

    scan      Z_l = H_(l-1) W_l^T by BLAS, from the lowest trained layer on        n m^2 for each layer
    backward  rows and columns of fired neurons alone                             n k^2
    step      W_l where fired neurons meet, or all of it by BLAS                  n k^2 or n m^2

*Dense* reads the whole of every ``W_l``. *Compacted* (``compact=True``) first gathers the ``C`` columns of neurons that
fire on some point, and multiplies those by BLAS: the idea of the compacted loop of `fast.baselines`, in depth. When
nearly all fire somewhere the gathering is lost work.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse
from scipy.linalg.blas import dgemm

from fast.low_rank import LowRankWeights, row_numbers
from fast.multi_layer import SparseSignals, TensorJacobian, backward, fire, forward, scale_rows
from fast.regression import solve_cholesky
from reference.multi_layer import MultiLayerNetwork, check_growth, check_layers, check_network, check_reach
from reference.notation import (
    FloatArray,
    breakdown_explained,
    check_data,
    check_labels,
    check_points,
    check_residual,
    check_run,
    unfinished,
)
from reference.signals import singular_explained
from reference.trace import Trace

SCATTER_AT = 20
"""A step is written entry by entry while it has fewer entries than one in so many of the weights."""


def train_multi_layer_dense(
    network: MultiLayerNetwork,
    X: ArrayLike,
    y: ArrayLike,
    *,
    trained_layers: Collection[int],
    iterations: int,
    tolerance: float = 0.0,
    compact: bool = False,
) -> Trace[MultiLayerNetwork]:
    """Train some layers by Gauss-Newton with dense weights.

    Parameters
    ----------
    network, X, y, trained_layers, iterations, tolerance
        As for `reference.multi_layer_gauss_newton.train`.
    compact : bool
        Whether to read only the columns of neurons that fire somewhere.

    Returns
    -------
    Trace
        ``counts`` has ``scan``, ``backward``, ``gram``, ``solve`` and ``step`` (multiply-adds).

    Raises
    ------
    InputError, DeadSignalError, SingularGramError, DivergenceError
        As for `fast.multi_layer_gauss_newton.train`.

    Examples
    --------
    >>> from reference.multi_layer import initialize
    >>> network = initialize(500, 3, 2, shift=0.5, rng=np.random.default_rng(0))
    >>> options = {"trained_layers": (1, 2), "iterations": 9, "tolerance": 1e-12}
    >>> train_multi_layer_dense(network, np.eye(3), [1.0, -1.0, 1.0], **options).converged
    True
    """
    check_run(iterations, tolerance)
    run = MultiLayerDenseRun(network, X, y, trained_layers=trained_layers, compact=compact)
    while unfinished(run.residual_norms, iterations, tolerance):
        run.iterate()
    converged = run.residual_norms[-1] <= tolerance * run.residual_norms[0]
    trained = MultiLayerNetwork(tuple(run.weights), network.signs, network.shift, network.normalized)
    return Trace(trained, np.array(run.residual_norms), run.residual + run.y, converged, run.counts)


class MultiLayerDenseRun:
    """A dense training run in progress: one `iterate` per step.

    Parameters
    ----------
    network, X, y, trained_layers, compact
        As for `train_multi_layer_dense`.
    """

    def __init__(
        self,
        network: MultiLayerNetwork,
        X: ArrayLike,
        y: ArrayLike,
        *,
        trained_layers: Collection[int],
        compact: bool = False,
    ) -> None:
        check_network(network)
        self.initial, self.compact = network, compact
        self.trained = check_layers(trained_layers, network.depth)
        self.lowest = self.trained[0]
        self.X = check_points(check_data(X), network.dim)
        self.y = check_labels(y, len(self.X))
        check_reach(self.y, network)
        # Only trained layers are ever written to.
        self.weights = [
            np.array(W, order="F") if layer in self.trained else W for layer, W in enumerate(network.weights, start=1)
        ]
        self.layers = [LowRankWeights(W) for W in self.weights]
        self.below = forward(self.layers[: self.lowest - 1], network, self.X)
        self.counts: list[dict[str, int]] = []
        self.residual_norms: list[float] = []
        self._scan()
        self.first_sizes = self.signals.sizes

    def iterate(self) -> None:
        """Take one step."""
        with breakdown_explained(self.residual_norms):
            self.signals.check(self.initial)
            before = sum(layer.work["read"] for layer in self.layers)
            P = backward(self.layers, self.initial, self.signals, self.lowest)
            read = sum(layer.work["read"] for layer in self.layers) - before
            jacobian = TensorJacobian([(P[layer], self.signals.hidden[layer - 1]) for layer in self.trained])
            with singular_explained(self.signals.fired(), self.initial):
                g = solve_cholesky(jacobian.gram, self.residual)
        counts = {"backward": read, "gram": jacobian.gram_work, "solve": len(g) ** 3 // 3}
        counts["step"] = sum(
            self._move(layer, g, *pair) for layer, pair in zip(self.trained, jacobian.factors, strict=True)
        )
        counts["scan"] = self._scan()
        check_growth(self.signals.sizes, self.first_sizes, self.residual_norms)
        self.counts.append(counts)

    def _move(self, layer: int, g: FloatArray, P: sparse.csr_array, H: sparse.csr_array) -> int:
        """Subtract ``P^T diag(g) H`` from a layer's weights, whichever way costs less."""
        W, pairs = self.weights[layer - 1], int(np.diff(P.indptr).astype(np.intp) @ np.diff(H.indptr))
        scaled = scale_rows(P, g)
        if pairs * SCATTER_AT < W.size:
            step = (H.T @ scaled).tocsr()
            W.ravel(order="K")[row_numbers(step) * len(W) + step.indices] -= step.data
            return pairs
        dgemm(-1.0, scaled.toarray().T, H.toarray().T, beta=1.0, c=W, trans_b=1, overwrite_c=1)
        return len(g) * W.size

    def _scan(self) -> int:
        """Send the signals on from the lowest trained layer; note the residual."""
        signals, work = self.below, 0
        for W in self.weights[self.lowest - 1 :]:
            H = signals.hidden[-1]
            columns = np.unique(H.indices) if self.compact else slice(None)
            dense = H[:, columns].toarray()
            hidden, size = fire(dense @ W.T[columns], self.initial)
            signals = SparseSignals((*signals.hidden, hidden), (*signals.sizes, size))
            work += dense.size * len(W)
        self.signals = signals
        self.residual = signals.hidden[-1] @ self.initial.signs - self.y
        self.residual_norms.append(float(np.linalg.norm(self.residual)))
        check_residual(self.residual_norms, self.y)
        return work
