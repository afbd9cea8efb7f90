"""Gauss-Newton training that touches only the neurons that fire.

Mathematics: the iteration of `reference.gauss_newton`, on the data structures of [A]::

    prepare   U = X W^T, one tree of maxima per data point over its scores; X X^T              n m d
    query     the fired pairs: every tree asked for the scores of at least b                   |pairs| log m
    predict   f_i = m^(-1/2) sum of a_r (U[i, r] - b) over the fired pairs                     |pairs|
    solve     G g = f - y from the fired pairs alone
    step      c_ri <- c_ri - g_i on the fired pairs; the weights stay implicit                 |pairs|
    update    U[j, r] <- U[j, r] - m^(-1/2) a_r sum_{i: r fires on x_i} g_i <x_i, x_j>         |pairs| n
              and the maxima above, in all n trees, for every neuron that fired                n log m a neuron

A neuron that fires on no data point has zero gradient, keeps its scores, and is never looked at after the
preparation: no iteration forms an array of size ``m``, and none reads ``W``.

Departures from the paper
1. The scores are updated through ``X X^T`` instead of new weights: ``n`` instead of ``d`` multiply-adds a pair and
   point, no weights formed. Equal in exact arithmetic; the tests compare with dense weights.
2. ``solver="cholesky"`` solves with the Gram matrix itself, whose entries the fired pairs give in less time than a
   sketch. ``solver="sketch"`` is the paper's: sketch, QR, preconditioned iteration; here by conjugate gradients, with
   the paper's own gradient steps in `fast.regression.solve_sketched` as ``method="paper"``. See 3 and 4 too.
3. Its sketch is drawn once, in the preparation, instead of once an iteration. The solution is the same for every
   sketch of good quality; only the number of inner iterations depends on it.
4. It iterates close to rounding error by default, so that both solvers give the same run. The accuracy that the
   paper's proof needs is `reference.regression.paper_accuracy`; pass it as ``accuracy``.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from fast.gram import shared_counts
from fast.jacobian import FiredJacobian
from fast.regression import ACCURACY, solve_cholesky, solve_sketched
from fast.sketch import default_size, sketch_jacobian, sketch_jacobian_work
from fast.threshold_search import ThresholdForest
from fast.two_layer import Coefficients, FiredPairs, ImplicitNetwork, predict_from_fired, score_blocks
from reference.notation import (
    FloatArray,
    InputError,
    breakdown_explained,
    check_data,
    check_every_point_fires,
    check_generator,
    check_labels,
    check_points,
    check_residual,
    check_run,
    unfinished,
)
from reference.regression import check_accuracy
from reference.sketch import draw_tensor_sketch
from reference.trace import Trace
from reference.two_layer import TwoLayerNetwork

Search = Literal["tree"]
Solver = Literal["cholesky", "sketch"]
Counts = dict[str, int]


def train(
    network: TwoLayerNetwork | ImplicitNetwork,
    X: ArrayLike,
    y: ArrayLike,
    *,
    iterations: int,
    tolerance: float = 0.0,
    search: Search = "tree",
    solver: Solver = "cholesky",
    rng: np.random.Generator | None = None,
    accuracy: float = ACCURACY,
) -> Trace[ImplicitNetwork]:
    """Train by Gauss-Newton ([A], Theorem 1.1): solve ``G g = f - y``, step ``W <- W - J^T g``, repeat.

    Parameters
    ----------
    network : TwoLayerNetwork or ImplicitNetwork
        Where to start. Not modified, and shared with the result.
    X : array_like (n, d)
        Unit rows, no two equal or opposite. Not modified.
    y : array_like (n,)
        Labels. Not modified.
    iterations : int
        At most this many steps.
    tolerance : float
        Stop as soon as the residual is at most this multiple of the initial one; 0 takes all steps.
    search : {"tree"}
        How the fired pairs are found.
    solver : {"cholesky", "sketch"}
        How ``G g = f - y`` is solved.
    rng : numpy.random.Generator
        Source of the sketch; required by ``solver="sketch"`` and not used otherwise.
    accuracy : float
        Relative residual at which ``solver="sketch"`` stops.

    Returns
    -------
    Trace
        ``counts`` holds, for each iteration, ``gram`` or ``sketch``, ``solve`` and ``step`` (multiply-adds),
        ``update`` and ``query`` (tree nodes looked at), ``active_pairs`` and ``predict`` (fired pairs after the step).

    Raises
    ------
    InputError
        Bad arguments; see `reference.notation.check_data`. Or the sketched solver does not converge.
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
    if search != "tree":
        raise InputError(f"search is {search!r}; pass 'tree'")
    check_run(iterations, tolerance)
    run = TreeRun(network, X, y, solver=solver, rng=rng, accuracy=accuracy)
    while unfinished(run.residual_norms, iterations, tolerance):
        run.iterate()
    return run.trace(tolerance)


class TreeRun:
    """A training run in progress: preparation when it is made, then one `iterate` per step.

    Parameters
    ----------
    network, X, y, solver, rng, accuracy
        As for `train`.

    Attributes
    ----------
    forest : ThresholdForest
        The scores ``U`` of all neurons on all data points.
    fired : FiredPairs
        The pairs that fire now.
    residual : ndarray (n,)
        ``f - y`` now.
    residual_norms : list of float
        Its norm at the start and after each step.
    counts, preparation_counts
        Work so far; see `train`.
    """

    def __init__(
        self,
        network: TwoLayerNetwork | ImplicitNetwork,
        X: ArrayLike,
        y: ArrayLike,
        *,
        solver: Solver = "cholesky",
        rng: np.random.Generator | None = None,
        accuracy: float = ACCURACY,
    ) -> None:
        self.initial = network.to_dense()
        # The trained network keeps the data, so the caller's array must not be shared.
        self.X = check_points(check_data(X), self.initial.dim).copy()
        self.X.flags.writeable = False
        self.y = check_labels(y, len(self.X))
        n, (m, d) = len(self.X), self.initial.weights.shape
        if solver not in ("cholesky", "sketch"):
            raise InputError(f"solver is {solver!r}; pass 'cholesky' or 'sketch'")
        check_accuracy(accuracy)
        self.accuracy = accuracy
        self.draw = None
        if solver == "sketch":
            self.draw = draw_tensor_sketch(default_size(n), m, d, rng=check_generator(rng))
        self.inner_products = self.X @ self.X.T
        # Only this line and the trained network's own methods read the weights; no iteration does.
        self.forest = ThresholdForest.build_from_blocks(n, m, score_blocks(self.initial.weights, self.X))
        self.coefficients = Coefficients(m, n)
        self.counts: list[Counts] = []
        self.preparation_counts = {
            "scores": n * m * d,
            "inner_products": n * n * d,
            "build": self.forest.nodes_visited["build"],
        }
        self.residual_norms: list[float] = []
        self.preparation_counts.update(self._look())
        check_residual(self.residual_norms, self.y)

    def iterate(self) -> None:
        """Take one Gauss-Newton step.

        Raises
        ------
        NothingFiresError, SingularGramError, DivergenceError
            As for `train`.
        """
        with breakdown_explained(self.residual_norms):
            check_every_point_fires(self.fired.per_point())
            jacobian = FiredJacobian(self.X, self.fired, self.initial.signs[self.fired.neuron_index])
            g, counts = self._solve(jacobian)
        counts |= self._step(jacobian, g)
        counts |= self._look()
        self.counts.append(counts)
        check_residual(self.residual_norms, self.y)

    def trace(self, tolerance: float) -> Trace[ImplicitNetwork]:
        """Return the run so far."""
        return Trace(
            self.coefficients.network(self.initial, self.X),
            np.array(self.residual_norms),
            self.residual + self.y,
            self.residual_norms[-1] <= tolerance * self.residual_norms[0],
            self.counts,
            self.preparation_counts,
        )

    def _look(self) -> Counts:
        """Find the fired pairs, the predictions and the residual."""
        before = self.forest.nodes_visited["query"]
        data_index, neuron_index = self.forest.query(self.initial.shift)
        self.fired = FiredPairs(data_index, neuron_index, self.forest.n, self.forest.width)
        signs = self.initial.signs[neuron_index]
        scores = self.forest.scores_at(data_index, neuron_index)
        self.residual = predict_from_fired(self.fired, scores, signs, self.initial.shift) - self.y
        self.residual_norms.append(float(np.linalg.norm(self.residual)))
        visited = self.forest.nodes_visited["query"] - before
        return {"query": visited, "active_pairs": len(neuron_index), "predict": len(scores)}

    def _solve(self, jacobian: FiredJacobian) -> tuple[FloatArray, Counts]:
        """Solve ``G g = f - y``."""
        if self.draw is None:
            shared, shared_work = shared_counts(jacobian)
            G = self.inner_products * shared / self.forest.width
            return solve_cholesky(G, self.residual), {"gram": shared_work + G.size, "solve": len(G) ** 3 // 3}
        sketched = sketch_jacobian(self.draw, jacobian)
        solution = solve_sketched(jacobian, sketched, self.residual, accuracy=self.accuracy)
        return solution.solution, {"sketch": sketch_jacobian_work(self.draw, jacobian), "solve": solution.work}

    def _step(self, jacobian: FiredJacobian, g: FloatArray) -> Counts:
        """Move the coefficients and the scores of every neuron that fires somewhere."""
        self.coefficients.subtract(jacobian.neurons, jacobian.column, self.fired.data_index, g)
        increments = jacobian.factors.T @ (g[:, np.newaxis] * self.inner_products)  # (u, n)
        before = self.forest.nodes_visited["update"]
        self.forest.update(jacobian.neurons, self.forest.scores_of(jacobian.neurons) - increments.T)
        visited = self.forest.nodes_visited["update"] - before
        return {"step": len(self.fired) * (self.forest.n + 1), "update": visited}
