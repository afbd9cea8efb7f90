"""Gauss-Newton training of several layers that reads only what fired neurons need.

Mathematics: the iteration of `reference.multi_layer_gauss_newton` on the sparse signals of `fast.multi_layer`::

    prepare   signals up to the lowest trained layer ``l``; its scores Z = H_(l-1) W_l^T      m^2 for each layer, once
              where a neuron fires on some point: no other ever moves, or fires
    forward   the layers above ``l``, where bounds leave ``c`` scores of a point in doubt       n k c for each
    backward  sensitivities down to layer ``l``                                               n k^2 for each
    solve     G g = f - y, G from inner products of the factors                               n^2 k, n^3
    step      layer ``l``: Z <- Z - (H H^T) (g P_l), c <- c - g P_l                            n^2 k
              the others: n more factors -g_i p_i and h_i                                     n k

*Scores are bounded before they are computed* (ours). Signals move little, so few neurons can have reached the shift; no
weight of the others is read. ``c`` falls to ``k`` as training converges: `fast.certified_scores`.

*The lowest trained layer reads its matrix once* (ours). Its inputs ``H = H_(l-1)`` never change, so its weights are
``W_l(0) + c^T H`` and its scores change by ``(H H^T)`` times the step: no weight is formed before the end. The layers
below are never looked at again. Layers above are `fast.low_rank.LowRankWeights`, whose matrices are never written.

*The last layer alone* is a two-layer network: its inputs are ``h_(L-1)`` and its shift ``b``, both times ``c m^(1/2)``.
`fast.gauss_newton` then does the training, with all that is exact and fast there (`LastLayer`).

The (m, m) matrices are read by columns. One that is stored row by row is copied once, at the start, when its layer lies
above the lowest trained one; `reference.multi_layer.initialize` stores them by columns.

Departures from the paper
1. Bounded scores, the lowest trained layer, and the last layer alone, as said. The paper treats all layers alike, and
   reads ``n k m`` entries forward in every iteration.
2. Factors are folded when waiting has cost as much as a fold, not at a power of ``m``: departure 1 of `fast.low_rank`.
   Most runs end before. ``rank_budget`` sets a rank.
3. ``solver="cholesky"`` solves with ``G`` itself. ``solver="sketch"`` is the paper's: a tensor sketch of the rank-one
   rows, QR, and the preconditioned iteration of `fast.regression`, with products ``G g`` through the factors.
4. Steps are written out early where, along nearly dependent data, they are huge and cancel: see `MOST_LOST`.
5. Any subset of the layers, normalized networks, and the safeguarded step of `reference.safeguard`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse

from fast.certified_scores import CertifiedScores
from fast.gauss_newton import EventRun
from fast.low_rank import PHASES, LowRankWeights, row_lengths
from fast.multi_layer import (
    ImplicitMultiLayerNetwork,
    SparseSignals,
    TensorJacobian,
    backward,
    check_network,
    fire,
    forward,
    scale_rows,
    start_layers,
)
from fast.regression import ACCURACY, WarmCholesky, solve_sketched
from fast.sketch import default_size
from fast.training_run import Counts, Solver, TrainingRun
from fast.two_layer import ImplicitNetwork
from reference.multi_layer import MultiLayerNetwork, check_growth, check_layers, check_reach, ran_away
from reference.notation import (
    FloatArray,
    IntArray,
    as_float_array,
    check_data,
    check_generator,
    check_points,
    check_run,
)
from reference.regression import rounding_floor
from reference.safeguard import Step
from reference.signals import check_signals, singular_explained
from reference.sketch import draw_tensor_sketch
from reference.trace import Trace
from reference.two_layer import TwoLayerNetwork

MOST_LOST = 1e-12
"""Share of the predictions' scale that rounding in steps kept as factors may reach before they are written out."""

BLOCK_COLUMNS = 256
"""Columns of the last layer's weights that are written out at a time."""


def train(
    network: MultiLayerNetwork | ImplicitMultiLayerNetwork,
    X: ArrayLike,
    y: ArrayLike,
    *,
    trained_layers: Collection[int],
    iterations: int,
    tolerance: float = 0.0,
    solver: Solver = "cholesky",
    rng: np.random.Generator | None = None,
    step: Step = "full",
    rank_budget: int | None = None,
    accuracy: float = ACCURACY,
) -> Trace[ImplicitMultiLayerNetwork]:
    """Train some layers by Gauss-Newton ([B]): solve ``G g = f - y``, step ``W_l <- W_l - P_l^T diag(g) H_(l-1)``.

    Parameters
    ----------
    network : MultiLayerNetwork or ImplicitMultiLayerNetwork
        Where to start: any weights, or the network of an earlier run, whose matrices are shared and not re-laid again.
        Not modified.
    X : array_like (n, d)
        Unit rows, no two equal or opposite. Not modified.
    y : array_like (n,)
        Labels. Not modified. Of a normalized network, below ``m^(1/2)`` in size, which its predictions cannot exceed.
    trained_layers : collection of int
        Which layers move, numbered from 1 to the depth.
    iterations : int
        At most this many steps.
    tolerance : float
        Stop as soon as the residual is at most this multiple of the initial one; 0 takes all steps.
    solver : {"cholesky", "sketch", "conjugate"}
        How ``G g = f - y`` is solved.
    rng : numpy.random.Generator
        Source of the sketch; required by ``solver="sketch"`` and not used otherwise.
    step : {"full", "safeguarded"}
        The paper's step, or one that never raises the residual; see `reference.safeguard`.
    rank_budget : int, optional
        Rank at which a layer's factors are folded; by default when waiting has cost as much as the fold will.
    accuracy : float
        Relative residual at which ``solver="sketch"`` and ``"conjugate"`` stop.

    Returns
    -------
    Trace
        ``counts`` has the multiply-adds of each phase: ``forward`` and ``backward`` (with ``W(0)``), ``factors`` (with
        what training added), ``fold``, ``gram``, ``sketch``, ``solve``, ``step``; ``fire`` (scores compared); and
        ``active_pairs`` (fired pairs) and ``rank`` (factors kept), both over all layers. ``preparation_counts`` has
        ``forward``, and ``relaid`` (entries copied). The last layer alone has those two and, of that layer, the phases
        of `fast.gauss_newton.train`.

    Raises
    ------
    InputError
        Bad arguments; see `reference.notation.check_data`, `reference.multi_layer.check_layers` and ``check_reach``.
    DeadSignalError
        Some layer is silent on some data point.
    SingularGramError
        ``G`` is singular to working precision. Only with ``step="full"``.
    DivergenceError
        The residual grew out of bounds, or had grown when one of the two above occurred; or the weights of a
        normalized network did. Likewise.

    Examples
    --------
    >>> from reference.multi_layer import initialize
    >>> network = initialize(500, 3, 2, shift=0.5, rng=np.random.default_rng(0))
    >>> trace = train(network, np.eye(3), [1.0, -1.0, 1.0], trained_layers=(1, 2), iterations=9, tolerance=1e-12)
    >>> trace.converged, bool((trace.residual_norms[1:] <= trace.residual_norms[:-1] / 2).all())
    (True, True)
    """
    check_run(iterations, tolerance)
    check_network(network)
    # A normalized last layer is not linear in its weights, even while nobody starts or stops to fire.
    if check_layers(trained_layers, network.depth) == (network.depth,) and not network.normalized:
        last = LastLayer(network, X, rank_budget=rank_budget)
        if len(last.columns):
            run = last.run(y, solver=solver, rng=rng, step=step, accuracy=accuracy)
            trace = run.run(iterations, tolerance)
            return replace(trace, network=last.trained(trace.network))  # type: ignore[arg-type, return-value]
    deep = MultiLayerRun(
        network,
        X,
        y,
        trained_layers=trained_layers,
        solver=solver,
        rng=rng,
        step=step,
        rank_budget=rank_budget,
        accuracy=accuracy,
    )
    return deep.run(iterations, tolerance)


@dataclass(eq=False)
class State:
    """Where a run is; a step makes a new one and shares what did not change.

    Parameters
    ----------
    layers : tuple of L LowRankWeights
        Weights now, except that the lowest trained layer lacks what ``coefficients`` add.
    scores : ndarray (n, u)
        ``Z`` of the lowest trained layer, of its neurons that fire on some point at the start.
    coefficients : csr_array (n, m)
        ``c``: its weights are ``W + c^T H`` with ``H`` its inputs.
    signals : SparseSignals
        Of all layers.
    rounding : float
        Bound on the rounding error of predictions from steps that are kept as factors.
    jacobian : TensorJacobian, optional
        Over the trained layers; once it was asked for.
    """

    layers: tuple[LowRankWeights, ...]
    scores: FloatArray
    coefficients: sparse.csr_array
    signals: SparseSignals
    rounding: float
    jacobian: TensorJacobian | None = None


class MultiLayerRun(TrainingRun[State, State, ImplicitMultiLayerNetwork]):
    """A training run of several layers: preparation when it is made, then one `iterate` per step.

    Parameters
    ----------
    network, X, y, trained_layers, solver, rng, step, rank_budget, accuracy
        As for `train`.
    """

    def __init__(
        self,
        network: MultiLayerNetwork | ImplicitMultiLayerNetwork,
        X: ArrayLike,
        y: ArrayLike,
        *,
        trained_layers: Collection[int],
        solver: Solver = "cholesky",
        rng: np.random.Generator | None = None,
        step: Step = "full",
        rank_budget: int | None = None,
        accuracy: float = ACCURACY,
    ) -> None:
        check_network(network)
        self.trained = check_layers(trained_layers, network.depth)
        self.lowest = self.trained[0]
        points = check_points(check_data(X), network.dim).copy()
        super().__init__(points, y, solver=solver, step=step, accuracy=accuracy)
        self.initial, layers = start_layers(network, self.lowest, budget=rank_budget)
        check_reach(self.y, self.initial)
        self.state = self._prepare(layers)
        self.first_sizes = self.state.signals.sizes
        if solver == "sketch":
            size, generator = default_size(len(points)), check_generator(rng)
            shapes = [layers[layer - 1].initial.shape for layer in self.trained]
            self.draws = [draw_tensor_sketch(size, *shape, rng=generator) for shape in shapes]
        self.warm = WarmCholesky()
        self.scale = float(np.linalg.norm(self.y)) + float(np.linalg.norm(self._predictions(self.state)))
        self._take(self.state)
        self._start()

    def iterate(self) -> None:
        """Take one step; also stop when the weights of a normalized network run away."""
        super().iterate()
        if not self.safeguarded:
            check_growth(self.state.signals.sizes, self.first_sizes, self.residual_norms)

    def _prepare(self, layers: list[LowRankWeights]) -> State:
        """Send the points up to the lowest trained layer, once and for all, and on."""
        relaid = sum(layer.initial.size for layer in layers if layer.relaid)
        self.below = forward(layers[: self.lowest - 1], self.initial, self.X)
        self.inputs = self.below.hidden[-1]
        self.certified = [CertifiedScores() for _ in layers[self.lowest :]]
        self.input_products: FloatArray = (self.inputs @ self.inputs.T).toarray()
        scores = layers[self.lowest - 1].multiply(self.inputs)
        # A neuron that fires nowhere has zero gradient; here its inputs stay too, so it never moves and never fires.
        self.neurons: IntArray = np.flatnonzero((scores >= self.initial.shift).any(axis=0))
        state = self._arrive(tuple(layers), scores[:, self.neurons], sparse.csr_array(scores.shape), 0.0)
        self.preparation_counts = {"relaid": relaid, "forward": sum(layer.work["read"] for layer in layers)}
        return state

    def _arrive(
        self, layers: tuple[LowRankWeights, ...], scores: FloatArray, coefficients: sparse.csr_array, rounding: float
    ) -> State:
        """Send the signals on from the scores of the lowest trained layer."""
        hidden, size = fire(scores, self.initial, self.neurons)
        above = forward(layers[self.lowest :], self.initial, hidden, self.certified)
        self._count(fire=scores.size + len(scores) * self.initial.width * (len(layers) - self.lowest))
        return State(layers, scores, coefficients, self.below.followed_by(hidden, size, above), rounding)

    def _spent(self) -> Counts:
        """Sum up the record of work of all layers so far."""
        return {phase: sum(layer.work[phase] for layer in self.state.layers) for phase in PHASES}

    def _count_since(self, before: Counts, read: str) -> None:
        """Add what the layers did since, their reads of ``W(0)`` under the name of a phase."""
        since = {phase: work - before[phase] for phase, work in self._spent().items()}
        self._count(**{read: since["read"], "factors": since["factors"], "fold": since["fold"]})

    def _jacobian(self) -> TensorJacobian:
        """Send the sensitivities back, unless that was done for this state."""
        state = self.state
        if state.jacobian is None:
            before = self._spent()
            P = backward(state.layers, self.initial, state.signals, self.lowest, self.certified)
            self._count_since(before, "backward")
            state.jacobian = TensorJacobian([(P[layer], state.signals.hidden[layer - 1]) for layer in self.trained])
            self._count(gram=state.jacobian.gram_work)
        return state.jacobian

    def _check_every_point_fires(self) -> None:
        self.state.signals.check(self.initial)

    def _gram(self) -> FloatArray:
        return self._jacobian().gram

    def _solve(self) -> FloatArray:
        jacobian = self._jacobian()
        with singular_explained(self.state.signals.fired(), self.initial):
            if self.solver == "sketch":
                sketched = jacobian.sketch(self.draws)
                solution = solve_sketched(jacobian, sketched, self.residual, accuracy=self.accuracy)
                self._count(sketch=jacobian.sketch_work(self.draws), solve=solution.work)
                return solution.solution
            if self.solver == "conjugate":
                return self._solve_conjugate()
            before = self.warm.work
            g = self.warm.solve(jacobian.gram, self.residual)
            self._count(solve=self.warm.work - before)
            return g

    def _try(self, g: FloatArray) -> State:
        state, before = self.state, self._spent()
        factors = zip(self.trained, self._jacobian().factors, strict=True)
        steps = {layer: (scale_rows(P, g), H) for layer, (P, H) in factors}
        move, _ = steps.pop(self.lowest)
        columns = np.unique(move.indices)
        scores = state.scores.copy()
        scores[:, np.searchsorted(self.neurons, columns)] -= self.input_products @ move[:, columns].toarray()
        self._count(step=len(g) ** 2 * len(columns) + sum(P.nnz + H.nnz for P, H in steps.values()))
        layers, coefficients = list(state.layers), state.coefficients - move
        for layer, (P, H) in steps.items():
            layers[layer - 1] = layers[layer - 1].copy()
            layers[layer - 1].add(-P, H)
        rounding = state.rounding + rounding_floor(float(np.trace(self._gram())), g)
        if rounding > MOST_LOST * self.scale:
            layers, rounding = self._fold(layers, coefficients), 0.0
            scores = layers[self.lowest - 1].multiply(self.inputs)[:, self.neurons]
            coefficients = sparse.csr_array(coefficients.shape)
        trial = self._arrive(tuple(layers), scores, coefficients, rounding)
        self._count_since(before, "forward")
        return trial

    def _fold(self, layers: list[LowRankWeights], coefficients: sparse.csr_array) -> list[LowRankWeights]:
        """Write all steps out: along nearly dependent data they are huge and cancel, and sums of them lose digits."""
        folded = [weights.copy() for weights in layers]
        folded[self.lowest - 1].add(coefficients, self.inputs)
        for layer in self.trained:
            folded[layer - 1].fold()
        return folded

    def _norm_after(self, trial: State) -> float:
        alive = all(count.all() for count in trial.signals.fired())
        if not alive or ran_away(trial.signals.sizes, self.first_sizes):
            return np.inf
        return float(np.linalg.norm(self._predictions(trial) - self.y))

    def _predictions(self, state: State) -> FloatArray:
        predictions: FloatArray = state.signals.hidden[-1] @ self.initial.signs
        return predictions

    def _take(self, trial: State) -> None:
        self.state = trial
        self.residual = self._predictions(trial) - self.y

    def _save(self) -> State:
        return self.state

    def _restore(self, saved: State) -> None:
        self._take(saved)

    def _state_counts(self) -> Counts:
        fired = sum(int(count.sum()) for count in self.state.signals.fired())
        return {"active_pairs": fired, "rank": sum(layer.rank for layer in self.state.layers)}

    def _network(self) -> ImplicitMultiLayerNetwork:
        layers = list(self.state.layers)
        layers[self.lowest - 1] = layers[self.lowest - 1].copy()
        layers[self.lowest - 1].add(self.state.coefficients, self.inputs)
        return ImplicitMultiLayerNetwork(self.initial, tuple(layers))


class LastLayer:
    """The last layer alone, as a two-layer network on what reaches it.

    Training asks for inner products with the inputs alone, and these span ``r <= n`` dimensions. So where the inputs
    have many more columns, those at neurons below that fire on some point, weights and inputs are written in an
    orthonormal basis ``Q`` of that span: ``W_L Q`` is (m, r), and the columns of ``W_L`` are read once, some at a time.
    Where no neuron below fires, there is no two-layer network.

    Parameters
    ----------
    network, X, rank_budget
        As for `train`.

    Attributes
    ----------
    columns : ndarray (C,) of int
        Neurons below that fire on some point.
    basis : ndarray (C, r)
        ``Q``; the identity where that is as small.
    two_layer : TwoLayerNetwork
        ``W_L Q``.
    inputs : ndarray (n, r)
        What reaches the layer, times ``c m^(1/2)``, in that basis.
    """

    def __init__(
        self, network: MultiLayerNetwork | ImplicitMultiLayerNetwork, X: ArrayLike, *, rank_budget: int | None
    ) -> None:
        self.initial, self.layers = start_layers(network, network.depth, budget=rank_budget)
        self.points = check_points(check_data(X), network.dim)
        self.below = forward(self.layers[:-1], self.initial, self.points)
        self.hidden = self.below.hidden[-1]
        self.columns = np.unique(self.hidden.indices).astype(np.intp)
        factor = self.initial.scale * np.sqrt(network.width)
        inputs: FloatArray = factor * self.hidden[:, self.columns].toarray()
        self.basis: FloatArray
        if len(self.columns) > 2 * len(inputs):
            self.basis, triangle = np.linalg.qr(inputs.T)
            inputs = triangle.T
        else:
            self.basis = np.eye(len(self.columns))
        self.inputs = inputs
        if len(self.columns):
            self.two_layer = TwoLayerNetwork(self._rotated(), self.initial.signs, factor * self.initial.shift)

    def _rotated(self) -> FloatArray:
        """Compute ``W_L Q``, some columns of ``W_L`` at a time."""
        weights = np.zeros((self.initial.width, self.basis.shape[1]))
        for start in range(0, len(self.columns), BLOCK_COLUMNS):
            some = slice(start, start + BLOCK_COLUMNS)
            weights += self.layers[-1].columns_at(self.columns[some]) @ self.basis[some]
        return weights

    def run(
        self,
        y: ArrayLike,
        *,
        solver: Solver = "cholesky",
        rng: np.random.Generator | None = None,
        step: Step = "full",
        accuracy: float = ACCURACY,
    ) -> EventRun:
        """Begin a run.

        Parameters
        ----------
        y, solver, rng, step, accuracy
            As for `train`.

        Returns
        -------
        EventRun
        """
        run = InputsOfALayer(self.two_layer, self.inputs, y, solver=solver, rng=rng, step=step, accuracy=accuracy)
        run.told, run.below, run.deep = self.points, self.below, self.initial
        run.preparation_counts["relaid"] = sum(layer.initial.size for layer in self.layers if layer.relaid)
        read = sum(layer.work["read"] for layer in self.layers)
        run.preparation_counts["forward"] = read + self.initial.width * self.basis.size
        return run

    def trained(self, last: ImplicitNetwork) -> ImplicitMultiLayerNetwork:
        """Put a trained two-layer network back in its place."""
        weights, m = self.layers[-1].copy(), self.initial.width
        if last.coefficients is None:
            change = last.moved_weights() - self.two_layer.weights[last.moved]  # (v, r), in the basis
            weights.add(_spread(change.T, last.moved, m), _spread(self.basis.T, self.columns, self.hidden.shape[1]))
        else:
            scale = self.initial.scale * self.initial.signs[last.moved]
            c = sparse.csr_array(sparse.csr_array(last.coefficients).T * scale)
            left = sparse.csr_array((c.data, last.moved[c.indices], c.indptr), shape=(len(self.points), m))
            weights.add(left, self.hidden)
        return ImplicitMultiLayerNetwork(self.initial, (*self.layers[:-1], weights))


def _spread(rows: FloatArray, columns: IntArray, width: int) -> sparse.csr_array:
    """Put the columns of some rows (k, len(columns)) where they belong among ``width``."""
    starts = np.arange(len(rows) + 1) * len(columns)
    return sparse.csr_array((rows.ravel(), np.tile(columns, len(rows)), starts), shape=(len(rows), width))


class InputsOfALayer(EventRun):
    """A two-layer run on inputs of any length, as they reach a layer, which fails in the words of a deep run.

    Attributes
    ----------
    below : SparseSignals
        Of the layers below; set by `LastLayer.run`.
    deep : MultiLayerNetwork
        The whole network; likewise.
    """

    below: SparseSignals
    deep: MultiLayerNetwork

    @staticmethod
    def _check_points(X: ArrayLike) -> FloatArray:
        return as_float_array("the input of the last layer", X, 2)

    def _fired(self) -> list[IntArray]:
        """Count the neurons of each layer that fire on each point."""
        return [*self.below.fired(), self._fired_per_point()]

    def _check_every_point_fires(self) -> None:
        check_signals(self._fired(), [row_lengths(h) for h in self.below.hidden], self.deep)

    def _solve(self) -> FloatArray:
        with singular_explained(self._fired(), self.deep):
            return super()._solve()
