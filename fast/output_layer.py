"""Gauss-Newton training of both layers, at a cost that follows the fired pairs.

Mathematics: `reference.output_layer`. The pairs that fire are kept as in `fast.watched_pairs`, on the same proofs. What
changes there when ``a`` moves too, with ``m^(-1/2)`` in the place of ``s_r`` and ``a_r`` inside the coefficients::

    w_r  = w_r(0) + m^(-1/2) sum_i c_ri x_i,            c_ri <- c_ri - a_r g_i on the pairs that fire, a_r that of now
    e_rj = e_rj(0) + m^(-1/2) sum_i c_ri <x_i, x_j>     the excess, as there
    a_r  <- a_r - m^(-1/2) sum_i g_i e_ri               over the points that r fires on
    f_j  = m^(-1/2) sum_r a_r e_rj                      over the neurons that fire on x_j

Invariants there, here
1. *Only neurons that fire somewhere at the start ever move*: one that fires nowhere has no gradient in ``a_r`` either.
2. ``c_ri`` is written out for every pair: ``a_r`` changes in each step, so no clock ``Gamma_i`` serves all neurons.
3. *Due.* A step changes ``c_ri`` by ``|a_r g_i|``, so the drift ``T`` grows by ``m^(-1/2) max|g| max|a|``.
4. *No unwatched pair fires*, by the same two bounds, with that ``c`` and that ``T``.
5. *Predictions* are summed afresh. ``f`` is bilinear in the two layers, so ``f - G g`` is not exact at rest either.
6. *Counts* do not suffice for ``G``, which holds ``a_r^2`` and ``e_ri e_rj``; it is summed afresh as well.

So a pair that fires is looked at in every iteration, always due, and an iteration costs a good part of the first one
even at rest: the price of training ``a``. With ``c_r`` the points that neuron ``r`` fires on::

    gram     both terms of G                                         2 sum_r c_r^2 + 2 n^2
    step     coefficients and output weights                         2 |pairs|
    drift    excess of the pairs that fire and of those due          sum_r c_r^2 and more
    predict  f                                                       |pairs|

and the other phases of `fast.gauss_newton.train`, which find what flips. Nothing of size ``m`` is formed.

Rounding. All is computed afresh from the coefficients, so nothing adds up over the steps but the coefficients
themselves; no whole arrays are needed for the sake of lost digits, nor where many pairs flip, only more time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse

from fast.gauss_newton import first_band, sample_scores
from fast.gram import DENSE_AT, SPARSE_BELOW
from fast.regression import WarmCholesky
from fast.training_run import Counts
from fast.two_layer import (
    BLOCK_ENTRIES,
    ImplicitNetwork,
    StartingNetwork,
    check_given,
    starting_network,
    warn_of_missing,
)
from fast.watched_pairs import Trial, WatchedPairs
from reference.notation import (
    FloatArray,
    IntArray,
    breakdown_explained,
    check_data,
    check_every_point_fires,
    check_labels,
    check_points,
    check_residual,
    check_run,
    unfinished,
)
from reference.output_layer import JointNetwork
from reference.trace import Trace
from reference.two_layer import TwoLayerNetwork


@dataclass(frozen=True, eq=False)
class ImplicitJointNetwork:
    """A trained network as its initial weights of both layers, coefficients on the data, and new output weights.

    Parameters
    ----------
    hidden : ImplicitNetwork
        The first layer; its own signs are all 1.
    initial_outputs : ndarray (u,)
        ``a(0)``; shared with the caller, never written to.
    moved_outputs : ndarray (v,)
        ``a`` of the neurons ``hidden.moved``.
    """

    hidden: ImplicitNetwork
    initial_outputs: FloatArray
    moved_outputs: FloatArray

    def output_weights(self) -> FloatArray:
        """Write out ``a`` of all neurons that exist: (u,)."""
        a = self.initial_outputs.copy()
        a[self.hidden.moved] = self.moved_outputs
        return a

    def predict(self, X: ArrayLike) -> FloatArray:
        """Predict on any points; reads all of ``W(0)`` once, in blocks.

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
        points = check_points(X, self.hidden.initial.dim)
        warn_of_missing(self.hidden.initial, points)
        return self.hidden.combine(self.output_weights(), points)

    def to_dense(self) -> JointNetwork:
        """Write all weights of both layers out."""
        hidden = self.hidden.to_dense()
        return JointNetwork(hidden.weights, self.output_weights(), hidden.shift)


def train(
    network: StartingNetwork | ImplicitNetwork | JointNetwork | ImplicitJointNetwork,
    X: ArrayLike,
    y: ArrayLike,
    *,
    iterations: int,
    tolerance: float = 0.0,
) -> Trace[ImplicitJointNetwork]:
    """Train both layers by Gauss-Newton: solve ``G g = f - y``, step ``(W, a) <- (W, a) - J^T g``, repeat.

    Parameters
    ----------
    network : TwoLayerNetwork, LazyNetwork, JointNetwork, or a trained network
        Where to start; signs are where the output weights start. Not modified, and shared with the result.
    X : array_like (n, d)
        Unit rows, no two equal or opposite. Not modified.
    y : array_like (n,)
        Labels. Not modified.
    iterations : int
        At most this many steps.
    tolerance : float
        Stop as soon as the residual is at most this multiple of the initial one; 0 takes all steps.

    Returns
    -------
    Trace
        ``counts`` holds the work of each iteration: the phases of `fast.gauss_newton.train` with ``search="events"``,
        and ``step``.

    Raises
    ------
    InputError
        Bad arguments; see `reference.notation.check_data`.
    NothingFiresError
        A data point on which no neuron fires.
    SingularGramError
        ``G`` is singular to working precision.
    DivergenceError
        The residual grew out of bounds, or had grown when one of the two above occurred.

    Examples
    --------
    >>> from reference.two_layer import initialize, shift_for
    >>> network = initialize(2000, 3, shift=shift_for(2000, 0.1), rng=np.random.default_rng(0))
    >>> trace = train(network, np.eye(3), [1.0, -1.0, 1.0], iterations=8, tolerance=1e-12)
    >>> trace.converged, bool((trace.residual_norms[1:] <= trace.residual_norms[:-1] / 2).all())
    (True, True)
    """
    check_run(iterations, tolerance)
    return JointRun(network, X, y).run(iterations, tolerance)


def layers(
    network: StartingNetwork | ImplicitNetwork | JointNetwork | ImplicitJointNetwork,
) -> tuple[StartingNetwork, FloatArray]:
    """Take a network apart: the same first layer under output weights of 1, and the output weights (u,)."""
    if isinstance(network, ImplicitJointNetwork):
        return starting_network(network.hidden), network.output_weights()
    if isinstance(network, JointNetwork):
        return TwoLayerNetwork(network.weights, np.ones(network.width), network.shift), network.output_weights
    start = starting_network(network)
    return replace(start, signs=np.ones(len(start.signs))), start.signs


@dataclass(frozen=True, eq=False)
class JointTrial(Trial):
    """What a step ``g`` would do to both layers; nothing has moved yet.

    Parameters
    ----------
    outer : ndarray (R,)
        ``a`` after it.
    excess_of_fired : csr_array (R, n)
        Excess after it of the pairs that fire then.
    """

    outer: FloatArray
    excess_of_fired: sparse.csr_array


class JointPairs(WatchedPairs):
    """Watched pairs under output weights that move; see the module docstring. Its ``shared`` stays 0.

    Parameters
    ----------
    network : StartingNetwork
        The first layer under output weights of 1, see `layers`. Its weights are read once here.
    outputs : ndarray (u,)
        ``a``. Read once here.
    X, inner_products, band
        As for `WatchedPairs`.

    Attributes
    ----------
    outer : ndarray (R,)
        ``a`` of the neurons with a row, now.
    fired_excess : csr_array (R, n)
        Excess of the pairs that fire, now.
    """

    most: ClassVar[float] = math.inf

    def __init__(
        self,
        network: StartingNetwork,
        outputs: FloatArray,
        X: FloatArray,
        inner_products: FloatArray,
        band: float,
    ) -> None:
        super().__init__(network, X, inner_products, band)
        self.work["step"] = 0
        self.outer: FloatArray = outputs[self.neurons]
        pairs = np.flatnonzero(self.fired[: self.used])
        self.fired_excess = self._as_matrix(pairs, self.initial_excess[pairs])
        self.predictions = self._predict(self.outer, self.fired_excess)

    def gram(self) -> FloatArray:
        """Compute ``G = (P o (A diag(a^2) A^T) + E E^T) / m`` with ``E`` (n, R) the excess of the pairs that fire."""
        if self._gram is None:
            excess = self.fired_excess
            weighted = excess.copy()
            weighted.data = np.repeat(self.outer, np.diff(excess.indptr))
            G = self.inner_products * self._products(weighted) + self._products(excess)
            self._gram = G / self.network.width
            self.work["gram"] += 2 * G.size
        return self._gram

    def fired_per_point(self) -> IntArray:
        """Count the neurons that fire on each data point: (n,)."""
        return np.bincount(self.fired_excess.indices, minlength=len(self.X))

    def try_step(self, g: FloatArray) -> JointTrial:
        """Find the pairs that would flip, and the output weights, when both layers move by ``-J^T g``.

        Parameters
        ----------
        g : ndarray (n,)
            Step.

        Returns
        -------
        JointTrial
            Valid until the next `try_step` or `take`.
        """
        drift = self._drift_after(g)
        compared = self.pair_queue.compared + self.row_queue.compared
        checked, reserve, computed = self._certify(drift, g)
        looked = self.pair_queue.reached(self.due[: self.used], drift, drift - self.drift)
        self.work["compare"] += self.pair_queue.compared + self.row_queue.compared - compared
        self.work["look"] += len(looked)
        excess = self._excess(looked, g)
        fires = excess >= 0
        outer = self.outer - self.per_unit * (self.fired_excess @ g)
        self.work["step"] += self.fired_excess.nnz
        after = self._as_matrix(looked[fires], excess[fires])
        return JointTrial(
            g=g,
            drift=drift,
            looked=looked,
            excess=excess,
            flips=np.flatnonzero(fires != self.fired[looked]),
            predictions=self._predict(outer, after),
            rounding=0.0,
            fired_per_point=np.bincount(after.indices, minlength=len(g)).astype(np.float64),
            checked=checked,
            reserve=reserve,
            computed=computed,
            outer=outer,
            excess_of_fired=after,
        )

    def take(self, trial: Trial) -> None:
        """Take the step that was tried last.

        Parameters
        ----------
        trial : JointTrial
            From `try_step`.
        """
        assert isinstance(trial, JointTrial)
        super().take(trial)
        self.outer, self.fired_excess = trial.outer, trial.excess_of_fired
        self._gram = None

    def _as_matrix(self, pairs: IntArray, values: FloatArray) -> sparse.csr_array:
        """Put numbers at some pairs into a (R, n) matrix."""
        places = (self.row[pairs], self.point[pairs])
        return sparse.csr_array((values, places), shape=(len(self.neurons), len(self.X)))

    def _predict(self, outer: FloatArray, excess: sparse.csr_array) -> FloatArray:
        self.work["predict"] += excess.nnz
        predictions: FloatArray = self.per_unit * (excess.T @ outer)
        return predictions

    def _products(self, values: sparse.csr_array) -> FloatArray:
        """Compute ``V^T V`` (n, n) for ``V`` (R, n): entry by entry, or by BLAS where neurons fire on many points."""
        n = len(self.X)
        fan = np.diff(values.indptr).astype(np.intp)
        fires = np.flatnonzero(fan)
        sparse_work, dense_work = int(fan @ fan), n * n * len(fires)
        if sparse_work <= max(SPARSE_BELOW * values.nnz, DENSE_AT * dense_work):
            self.work["gram"] += sparse_work
            listed: FloatArray = (values.T.tocsr() @ values).toarray()
            return listed
        self.work["gram"] += dense_work
        products = np.zeros((n, n))
        rows = max(1, BLOCK_ENTRIES // n)
        for start in range(0, len(fires), rows):
            block = values[fires[start : start + rows]].toarray()
            products += block.T @ block
        return products

    # What `WatchedPairs` does, with the changes that the module docstring lists

    def _drift_after(self, g: FloatArray) -> float:
        """Compute ``T`` after a step: by how much it changes coefficients at most (invariant 3)."""
        return self.drift + float(self.per_unit * np.abs(g).max() * np.abs(self.outer).max())

    def _advance(self, g: FloatArray) -> None:
        """Let a step change the coefficients of the pairs that fire, one by one; the clock stays at 0 (invariant 2)."""
        pairs = np.flatnonzero(self.fired[: self.used])
        self.base[pairs] -= self.outer[self.row[pairs]] * g[self.point[pairs]]
        self.work["step"] += len(pairs)

    def _coefficients(self, pairs: IntArray, total: FloatArray) -> FloatArray:
        """Compute ``c`` of some pairs after a step ``total`` that is on trial; 0 for now."""
        steps = self.outer.take(self.row.take(pairs)) * total.take(self.point.take(pairs))
        coefficients: FloatArray = self.base.take(pairs) - self.fired.take(pairs) * steps
        return coefficients

    def _rate(self, pairs: IntArray) -> FloatArray:
        """Bound the change of a pair's excess per unit of drift; pairs that fire are always due."""
        return np.where(self.fired[pairs], np.inf, self.pull[self.row[pairs]])

    def _sum_shared(self, pairs: IntArray, change: IntArray) -> FloatArray:
        """Keep no counts: `gram` has no use for them (invariant 6)."""
        return np.zeros_like(self.inner_products)



class JointRun:
    """A training run of both layers in progress: preparation when it is made, then one `iterate` per step.

    Parameters
    ----------
    network, X, y
        As for `train`.

    Attributes
    ----------
    watched : JointPairs
        Which pairs fire, and which might soon.
    residual : ndarray (n,)
        ``f - y`` now.
    residual_norms : list of float
        Its norm at the start and after each step.
    counts, preparation_counts
        Work so far; see `train`.
    """

    watch: ClassVar[type[JointPairs]] = JointPairs
    """What keeps the pairs; the tests put faulty ones in its place."""

    def __init__(
        self,
        network: StartingNetwork | ImplicitNetwork | JointNetwork | ImplicitJointNetwork,
        X: ArrayLike,
        y: ArrayLike,
    ) -> None:
        hidden, self.initial_outputs = layers(network)
        # The trained network keeps the data, so the caller's array must not be shared.
        self.X = check_points(check_data(X), hidden.dim).copy()
        self.X.flags.writeable = False
        check_given(hidden, self.X)
        self.y = check_labels(y, len(self.X))
        inner_products = self.X @ self.X.T
        # Only these lines, and rows of neurons that fire, are read from the weights; no iteration reads others.
        band = first_band(hidden, sample_scores(hidden.weights, self.X), self.y, inner_products)
        self.watched = self.watch(hidden, self.initial_outputs, self.X, inner_products, band)
        self.warm = WarmCholesky()
        n, d = self.X.shape
        self.preparation_counts: Counts = {"scores": n * hidden.weights.size, "inner_products": n * n * d}
        self.counts: list[Counts] = []
        self.residual = self.watched.predictions - self.y
        self.residual_norms = [float(np.linalg.norm(self.residual))]
        check_residual(self.residual_norms, self.y)

    def run(self, iterations: int, tolerance: float) -> Trace[ImplicitJointNetwork]:
        """Iterate until the tolerance or the number of iterations is reached."""
        while unfinished(self.residual_norms, iterations, tolerance):
            self.iterate()
        return self.trace(tolerance)

    def trace(self, tolerance: float) -> Trace[ImplicitJointNetwork]:
        """Return the run so far."""
        converged = self.residual_norms[-1] <= tolerance * self.residual_norms[0]
        norms, predictions = np.array(self.residual_norms), self.residual + self.y
        return Trace(self.network(), norms, predictions, converged, self.counts, self.preparation_counts)

    def iterate(self) -> None:
        """Take one Gauss-Newton step.

        Raises
        ------
        NothingFiresError, SingularGramError, DivergenceError
            As for `train`.
        """
        before, solved = dict(self.watched.work), self.warm.work
        with breakdown_explained(self.residual_norms):
            check_every_point_fires(self.watched.fired_per_point())
            g = self.warm.solve(self.watched.gram(), self.residual)
        self.watched.take(self.watched.try_step(g))
        self.residual = self.watched.predictions - self.y
        self.residual_norms.append(float(np.linalg.norm(self.residual)))
        check_residual(self.residual_norms, self.y)
        phases = {phase: work - before[phase] for phase, work in self.watched.work.items()}
        sizes = {"solve": self.warm.work - solved, "active_pairs": self.watched.active_pairs}
        self.counts.append(phases | sizes)

    def network(self) -> ImplicitJointNetwork:
        """Return the network as it is now."""
        return ImplicitJointNetwork(self.watched.trained_network(), self.initial_outputs, self.watched.outer)
