"""Gauss-Newton training that touches only the neurons that fire, and then only what changes.

Mathematics: the iteration of `reference.gauss_newton`. Two ways to know who fires.

``search="events"`` (ours, the default). The fired pairs are found once; from then on `fast.watched_pairs` knows which
pairs a step may flip, looks at those alone, and proves that no other pair can have changed (invariants 1 to 6 there)::

    prepare   one pass over W in blocks: the pairs that fire and those close to it; C; f; X X^T     m n d
    solve     G g = f - y, G = (X X^T) o C / m, by conjugate gradients on an earlier factor         n^2 an inner step
    step      the pairs that are due; f <- f - G g + s_r |e_rj| at flips; C <- C + flips            what is due, n^2

``search="tree"`` is the paper's, on a tree of maxima for each data point::

    prepare   U = X W^T, the trees; X X^T                                                           m n d
    query     the fired pairs: every tree asked for the scores of at least b                        |pairs| log m
    predict   f_i = m^(-1/2) sum of a_r (U[i, r] - b) over the fired pairs                          |pairs|
    solve     G g = f - y from the fired pairs alone
    step      c_ri <- c_ri - g_i on the fired pairs; the weights stay implicit                      |pairs|
    update    U[j, r] <- U[j, r] - m^(-1/2) a_r sum_{i: r fires on x_i} g_i <x_i, x_j>              |pairs| n
              and the maxima above, in all n trees, for every neuron that fired                     n log m a neuron

A neuron that fires on no data point has zero gradient and keeps its scores: after the preparation no iteration of
either reads its weights or forms an array of size ``m``. Outside the theorem's reach ``step="safeguarded"`` makes the
trials that `reference.safeguard` asks for; a trial on events costs what it would flip.

Departures from the paper
1. Its data structure updates all ``n`` trees for every neuron that moves; events leave out what cannot flip.
2. The trees' scores are updated through ``X X^T`` instead of new weights: ``n`` instead of ``d`` multiply-adds a pair
   and point, no weights formed. Equal in exact arithmetic; the tests compare with dense weights.
3. ``solver="cholesky"`` solves with the Gram matrix itself, whose entries the fired pairs give in less time than a
   sketch. ``solver="sketch"`` is the paper's: sketch, QR, preconditioned iteration; here by conjugate gradients, with
   the paper's own gradient steps in `fast.regression.solve_sketched` as ``method="paper"``. See 4 and 5 too.
4. Its sketch is drawn once, in the preparation, instead of once an iteration. The solution is the same for every
   sketch of good quality; only the number of inner iterations depends on it.
5. It iterates close to rounding error by default, so that all solvers give the same run. The accuracy that the
   paper's proof needs is `reference.regression.paper_accuracy`; pass it as ``accuracy``.
6. ``solver="conjugate"`` (ours) makes no factor: ``n^2`` for each of about ``sqrt(kappa(G))`` steps, and no ``n^3``.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from fast.all_pairs import AllPairs, AllTrial
from fast.gram import shared_counts
from fast.jacobian import FiredJacobian
from fast.regression import ACCURACY, WarmCholesky, solve_cholesky, solve_sketched
from fast.sketch import default_size, sketch_jacobian, sketch_jacobian_work
from fast.threshold_search import ThresholdForest
from fast.training_run import Counts, Solver, TrainingRun
from fast.two_layer import (
    BLOCK_ENTRIES,
    Coefficients,
    FiredPairs,
    ImplicitNetwork,
    StartingNetwork,
    check_given,
    predict_from_fired,
    score_blocks,
    starting_network,
)
from fast.watched_pairs import MOST_LOST, PHASES, Trial, WatchedPairs, WholeArraysError
from reference.notation import (
    UNIT_ROUNDOFF,
    FloatArray,
    InputError,
    IntArray,
    check_data,
    check_every_point_fires,
    check_generator,
    check_points,
    check_run,
)
from reference.regression import rounding_floor
from reference.safeguard import (
    Step,
)
from reference.sketch import draw_tensor_sketch
from reference.trace import Trace

Search = Literal["events", "tree"]

MOST_WATCHED = 4
"""Most pairs that are watched at the start for each pair that fires."""
FEW_FLIPS = 1 / 20
"""Flips per neuron of a step below which whole arrays are given up again."""


def train(
    network: StartingNetwork | ImplicitNetwork,
    X: ArrayLike,
    y: ArrayLike,
    *,
    iterations: int,
    tolerance: float = 0.0,
    search: Search = "events",
    solver: Solver = "cholesky",
    rng: np.random.Generator | None = None,
    step: Step = "full",
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
    search : {"events", "tree"}
        How the fired pairs are found; the run is the same.
    solver : {"cholesky", "sketch", "conjugate"}
        How ``G g = f - y`` is solved: by a factor of ``G``, of a sketch, or without any; see `fast.regression`.
    rng : numpy.random.Generator
        Source of the sketch; required by ``solver="sketch"`` and not used otherwise.
    step : {"full", "safeguarded"}
        The paper's step, or one that never raises the residual; see `reference.safeguard`.
    accuracy : float
        Relative residual at which ``solver="sketch"`` and ``"conjugate"`` stop.

    Returns
    -------
    Trace
        ``counts`` holds the work of each iteration. Both searches: ``solve`` or ``sketch`` and ``predict``
        (multiply-adds), ``active_pairs`` (fired pairs after the step). Events: ``compare`` (entries whose time was
        looked at), ``look`` (pairs computed), ``drift``, ``certify``, ``compute`` and ``gram`` (multiply-adds for those
        pairs, for the rows checked, for the rows computed, for ``G``), ``flips`` (pairs). Trees:
        ``gram`` and ``step`` (multiply-adds), ``update`` and ``query`` (tree nodes looked at). A safeguarded
        iteration counts all its trials, and a run that stalled says so in ``stopped``.

    Raises
    ------
    InputError
        Bad arguments; see `reference.notation.check_data`. Or the sketched solver does not converge.
    NothingFiresError
        A data point on which no neuron fires.
    SingularGramError
        ``G`` is singular to working precision.
    DivergenceError
        The residual grew out of bounds, or had grown when one of the two above occurred. Only with ``step="full"``.

    Examples
    --------
    >>> from reference.two_layer import initialize, shift_for
    >>> network = initialize(2000, 3, shift=shift_for(2000, 0.1), rng=np.random.default_rng(0))
    >>> trace = train(network, np.eye(3), [1.0, -1.0, 1.0], iterations=8, tolerance=1e-12)
    >>> trace.converged, bool((trace.residual_norms[1:] <= trace.residual_norms[:-1] / 2).all())
    (True, True)
    """
    if search not in ("events", "tree"):
        raise InputError(f"search is {search!r}; pass 'events' or 'tree'")
    check_run(iterations, tolerance)
    start: type[EventRun | TreeRun] = EventRun if search == "events" else TreeRun
    run = start(network, X, y, solver=solver, rng=rng, step=step, accuracy=accuracy)
    return run.run(iterations, tolerance)


TrialT = TypeVar("TrialT")
SavedT = TypeVar("SavedT")


class _TwoLayerRun(TrainingRun[TrialT, SavedT, ImplicitNetwork]):
    """What runs of both searches share: the checks of network and data, and the sketch."""

    def __init__(
        self,
        network: StartingNetwork | ImplicitNetwork,
        X: ArrayLike,
        y: ArrayLike,
        *,
        solver: Solver,
        rng: np.random.Generator | None,
        step: Step,
        accuracy: float,
    ) -> None:
        self.initial = starting_network(network)
        # The trained network keeps the data, so the caller's array must not be shared.
        points = check_points(self._check_points(X), self.initial.dim).copy()
        points.flags.writeable = False
        check_given(network, points)
        super().__init__(points, y, solver=solver, step=step, accuracy=accuracy)
        n, (rows, d) = len(points), self.initial.weights.shape
        if solver == "sketch":
            self.draw = draw_tensor_sketch(default_size(n), rows, d, rng=check_generator(rng))
        self.inner_products = points @ points.T
        self.preparation_counts = {"scores": n * rows * d, "inner_products": n * n * d}

    @staticmethod
    def _check_points(X: ArrayLike) -> FloatArray:
        """Check what the data must be; inputs of a later layer need not have unit length."""
        return check_data(X)

    def _check_every_point_fires(self) -> None:
        check_every_point_fires(self._fired_per_point())

    @abstractmethod
    def _fired_per_point(self) -> IntArray:
        """Count the neurons that fire on each data point: (n,)."""

    def _solve_sketched(self, jacobian: FiredJacobian) -> FloatArray:
        sketched = sketch_jacobian(self.draw, jacobian)
        solution = solve_sketched(jacobian, sketched, self.residual, accuracy=self.accuracy)
        self._count(sketch=sketch_jacobian_work(self.draw, jacobian), solve=solution.work)
        return solution.solution


class EventRun(_TwoLayerRun["Trial | AllTrial", "WatchedPairs | AllPairs"]):
    """A training run whose cost follows what changes: preparation when it is made, then one `iterate` per step.

    Parameters
    ----------
    network, X, y, solver, rng, step, accuracy
        As for `train`.

    Attributes
    ----------
    watched : WatchedPairs or AllPairs
        Which pairs fire, and which might soon. When too many might, from then on all of them in dense arrays.
    residual : ndarray (n,)
        ``f - y`` now.
    residual_norms : list of float
        Its norm at the start and after each step.
    counts, preparation_counts
        Work so far; see `train`.
    """

    watch: ClassVar[type[WatchedPairs]] = WatchedPairs
    """What keeps the pairs; the tests put faulty ones in its place."""

    def __init__(
        self,
        network: StartingNetwork | ImplicitNetwork,
        X: ArrayLike,
        y: ArrayLike,
        *,
        solver: Solver = "cholesky",
        rng: np.random.Generator | None = None,
        step: Step = "full",
        accuracy: float = ACCURACY,
    ) -> None:
        super().__init__(network, X, y, solver=solver, rng=rng, step=step, accuracy=accuracy)
        # Only this line, and rows of neurons that fire, are read from the weights; no iteration reads others.
        self.scale = float(np.linalg.norm(self.y))
        self.watched = self._begin()
        self.warm = WarmCholesky()
        self.patience = np.inf
        self.residual = self.watched.predictions - self.y
        self._start()

    def _begin(self) -> WatchedPairs | AllPairs:
        """Find the pairs to watch, or go over to whole arrays at once where the sample says that too many fire."""
        scores = sample_scores(self.initial.weights, self.X)
        if np.count_nonzero(scores >= self.initial.shift) > self.watch.limit(*scores.shape):
            work = dict.fromkeys(PHASES, 0)
            whole = AllPairs.start(self.initial, self.X, self.inner_products, work)
            self.preparation_counts |= {"watched": whole.pattern.size, "gram": work["gram"]}
            return whole
        band = first_band(self.initial, scores, self.y, self.inner_products)
        watched = self.watch(self.initial, self.X, self.inner_products, band, scale=self.scale)
        self.preparation_counts |= {"watched": watched.used, "gram": watched.work["gram"]}
        return AllPairs.of(watched) if watched.crowded() else watched

    @property
    def fired(self) -> FiredPairs:
        """The pairs that fire now."""
        return self.watched.fired_pairs()

    def _fired_per_point(self) -> IntArray:
        return np.diag(self.watched.shared).astype(np.intp)

    def _gram(self) -> FloatArray:
        before = self.watched.work["gram"]
        G = self.watched.gram()
        self._count(gram=self.watched.work["gram"] - before)
        return G

    def _solve(self) -> FloatArray:
        if self.solver == "conjugate":
            return self._solve_conjugate()
        if self.solver == "cholesky":
            before = self.warm.work
            g = self.warm.solve(self._gram(), self.residual)
            self._count(solve=self.warm.work - before)
            return g
        fired = self.fired
        return self._solve_sketched(FiredJacobian(self.X, fired, self.initial.signs[fired.neuron_index]))

    def _try(self, g: FloatArray) -> Trial | AllTrial:
        before = dict(self.watched.work)
        try:
            trial: Trial | AllTrial = self.watched.try_step(g)
        except WholeArraysError:
            assert isinstance(self.watched, WatchedPairs)
            self.watched = AllPairs.of(self.watched)
            trial = self.watched.try_step(g)
        self._count(**{phase: work - before[phase] for phase, work in self.watched.work.items()})
        return trial

    def _norm_after(self, trial: Trial | AllTrial) -> float:
        return self._known_norm(trial.predictions - self.y) if trial.fired_per_point.all() else np.inf

    def _rounding(self) -> float:
        return UNIT_ROUNDOFF * self.watched.scale if isinstance(self.watched, WatchedPairs) else 0.0

    def _take(self, trial: Trial | AllTrial) -> None:
        before = dict(self.watched.work)
        self.watched.take(trial)  # type: ignore[arg-type]  # it comes from this very object
        if isinstance(trial, AllTrial):
            self._watch_again(trial)
        self.residual = self.watched.predictions - self.y
        self._count(**{phase: work - before[phase] for phase, work in self.watched.work.items()})

    def _watch_again(self, trial: AllTrial) -> None:
        """Go back from whole arrays to watched pairs when hardly anything flips any more, and few pairs fire."""
        whole = self.watched
        assert isinstance(whole, AllPairs)
        rows, n = len(whole.neurons), len(self.X)
        if trial.flips > min(FEW_FLIPS * rows, self.patience) or 2 * whole.active_pairs > self.watch.limit(rows, n):
            return
        if rounding_floor(float(np.trace(whole.gram())), trial.g) > MOST_LOST * self.scale / 10:
            return
        drift = float(np.abs(trial.g).max()) / np.sqrt(self.initial.width)
        band = band_for(drift, sample_scores(whole.weights, self.X), self.initial.shift, self.inner_products)
        moved = (whole.neurons, whole.weights)
        watched = self.watch(self.initial, self.X, self.inner_products, band, scale=self.scale, moved=moved)
        whole.work["compute"] += whole.weights.size * n
        for phase, work in watched.work.items():
            whole.work[phase] += work
        watched.work = whole.work
        if watched.crowded():
            self.patience = trial.flips / 4
        else:
            self.watched = watched

    def _save(self) -> WatchedPairs | AllPairs:
        return self.watched.copy()

    def _restore(self, saved: WatchedPairs | AllPairs) -> None:
        self.watched = saved
        self.residual = self.watched.predictions - self.y

    def _state_counts(self) -> Counts:
        return {"active_pairs": self.watched.active_pairs}

    def _network(self) -> ImplicitNetwork:
        return self.watched.trained_network()


def first_band(network: StartingNetwork, scores: FloatArray, y: FloatArray, inner_products: FloatArray) -> float:
    """Guess how far below the shift pairs must be watched at the start, from a sample of the weights.

    If the Gram matrix were diagonal and ``f`` zero, the first step would be ``g_i = -y_i m / k``, so its drift would be
    ``max|y| sqrt(m) / k``.

    Parameters
    ----------
    network : StartingNetwork
        The initial network.
    scores : ndarray (k, n)
        Scores of a sample of its neurons.
    y : ndarray (n,)
        Labels.
    inner_products : ndarray (n, n)
        ``X X^T``.

    Returns
    -------
    float
    """
    if not scores.size:
        return 0.0
    fired_per_point = max(1, int(np.count_nonzero(scores >= network.shift))) / scores.size * len(network.signs)
    drift = float(np.abs(y).max()) * np.sqrt(network.width) / fired_per_point
    return band_for(drift, scores, network.shift, inner_products)


def band_for(drift: float, scores: FloatArray, shift: float, inner_products: FloatArray) -> float:
    """Choose how far below the shift pairs are watched when a step of known drift is expected.

    Such a step changes a score by at most ``drift |<x_i, x_j>|`` for each point ``i`` that its neuron fires on. That
    times nearly the most points that one neuron fires on (Poisson, mean plus three deviations) is watched, but not more
    than `MOST_WATCHED` pairs for each that fires, and fewer than would be crowded. A bad choice costs time and memory,
    never correctness.

    Parameters
    ----------
    drift : float
        ``m^(-1/2) max|g|`` of the step.
    scores : ndarray (k, n)
        Scores of a sample of neurons.
    shift : float
        ``b``.
    inner_products : ndarray (n, n)
        ``X X^T``.

    Returns
    -------
    float
    """
    fires = max(1, int(np.count_nonzero(scores >= shift)))
    fan = fires / len(scores)
    coherence = float(np.abs(inner_products - np.diag(np.diag(inner_products))).max(axis=1).mean())
    band = coherence * drift * (fan + 3 * np.sqrt(fan) + 2)
    most = max(fires, min(MOST_WATCHED * fires, int(WatchedPairs.limit(*scores.shape) / 2), scores.size))
    farthest = np.partition(scores.ravel(), scores.size - most)[scores.size - most]
    return min(float(band), max(0.0, shift - float(farthest)))


def sample_scores(weights: FloatArray, X: FloatArray) -> FloatArray:
    """Compute the scores of as many neurons as make one block, taken at equal distances."""
    stride = max(1, len(weights) * len(X) // BLOCK_ENTRIES)
    scores: FloatArray = weights[::stride] @ X.T
    return scores


@dataclass(frozen=True, eq=False)
class TreeTrial:
    """What a step would do on the trees; nothing has moved yet.

    Parameters
    ----------
    g : ndarray (n,)
        The step's coefficients.
    scores : ndarray (n, u)
        Scores of the neurons that fire now, after it.
    rounding : float
        Bound on the rounding error of predictions that sums of steps have gathered by then.
    """

    g: FloatArray
    scores: FloatArray
    rounding: float


@dataclass(frozen=True, eq=False)
class TreeState:
    """What trials may change, to come back to.

    Parameters
    ----------
    neurons : ndarray (u,) of int
        Neurons that fire somewhere.
    scores : ndarray (n, u)
        Their scores.
    coefficients : Coefficients
        Of all neurons that ever moved.
    residual : ndarray (n,)
        ``f - y``.
    rounding : float
        As in `TreeTrial`.
    """

    neurons: IntArray
    scores: FloatArray
    coefficients: Coefficients
    residual: FloatArray
    rounding: float


class TreeRun(_TwoLayerRun[TreeTrial, TreeState]):
    """A training run on the paper's trees: preparation when it is made, then one `iterate` per step.

    Parameters
    ----------
    network, X, y, solver, rng, step, accuracy
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
        network: StartingNetwork | ImplicitNetwork,
        X: ArrayLike,
        y: ArrayLike,
        *,
        solver: Solver = "cholesky",
        rng: np.random.Generator | None = None,
        step: Step = "full",
        accuracy: float = ACCURACY,
    ) -> None:
        super().__init__(network, X, y, solver=solver, rng=rng, step=step, accuracy=accuracy)
        n, rows = len(self.X), len(self.initial.signs)
        if not rows:
            check_every_point_fires(np.zeros(n, dtype=np.intp))
        # Only this line and the trained network's own methods read the weights; no iteration does.
        self.forest = ThresholdForest.build_from_blocks(n, rows, score_blocks(self.initial.weights, self.X))
        self.coefficients = Coefficients(rows, n)
        self.preparation_counts["build"] = self.forest.nodes_visited["build"]
        self._phases = {}
        self._look()
        self.rounding, self.scale = 0.0, float(np.linalg.norm(self.y)) + float(np.linalg.norm(self.residual + self.y))
        self.preparation_counts |= self._phases | self._state_counts()
        self._start()

    def _fired_per_point(self) -> IntArray:
        return self.fired.per_point()

    def _look(self) -> None:
        """Find the fired pairs, the predictions and the residual."""
        before = self.forest.nodes_visited["query"]
        data_index, neuron_index = self.forest.query(self.initial.shift)
        self.fired = FiredPairs(data_index, neuron_index, self.forest.n, self.initial.width)
        signs = self.initial.signs[neuron_index]
        self.jacobian = FiredJacobian(self.X, self.fired, signs)
        scores = self.forest.scores_at(data_index, neuron_index)
        self.residual = predict_from_fired(self.fired, scores, signs, self.initial.shift) - self.y
        self._count(query=self.forest.nodes_visited["query"] - before, predict=len(scores))

    def _gram(self) -> FloatArray:
        shared, work = shared_counts(self.jacobian)
        self._count(gram=work + shared.size)
        return self.inner_products * shared / self.initial.width

    def _solve(self) -> FloatArray:
        if self.solver == "sketch":
            return self._solve_sketched(self.jacobian)
        if self.solver == "conjugate":
            return self._solve_conjugate()
        self._count(solve=len(self.X) ** 3 // 3)
        return solve_cholesky(self._gram(), self.residual)

    def _try(self, g: FloatArray) -> TreeTrial:
        jacobian = self.jacobian
        rounding = self.rounding + rounding_floor(jacobian.trace, g)
        if rounding > MOST_LOST * self.scale:
            return TreeTrial(g, self._scores_from_weights(g), 0.0)
        increments = jacobian.factors.T @ (g[:, np.newaxis] * self.inner_products)  # (u, n)
        self._count(step=len(self.fired) * self.forest.n)
        return TreeTrial(g, self.forest.scores_of(jacobian.neurons) - increments.T, rounding)

    def _scores_from_weights(self, g: FloatArray) -> FloatArray:
        """Compute scores (n, u) after a step from weights: sums of steps along dependent data lose too many digits."""
        neurons = self.jacobian.neurons
        c = self.coefficients.after(neurons, self.jacobian.column, self.fired.data_index, g)
        weights = ImplicitNetwork(self.initial, self.X, neurons, c).moved_weights()
        self._count(step=2 * len(self.X) * weights.size)
        scores: FloatArray = self.X @ weights.T
        return scores

    def _norm_after(self, trial: TreeTrial) -> float:
        # Sums over the same pairs in the same order as `_look` makes them, so that what is judged is what is reported.
        data_index, column = np.nonzero(trial.scores >= self.initial.shift)
        neurons = self.jacobian.neurons[column]
        fired = FiredPairs(data_index, neurons, len(self.X), self.initial.width)
        self._count(predict=trial.scores.size)
        if not fired.per_point().all():
            return np.inf
        scores, signs = trial.scores[data_index, column], self.initial.signs[neurons]
        return float(np.linalg.norm(predict_from_fired(fired, scores, signs, self.initial.shift) - self.y))

    def _take(self, trial: TreeTrial) -> None:
        """Move the coefficients and the scores of every neuron that fires somewhere; look again."""
        jacobian, self.rounding = self.jacobian, trial.rounding
        self.coefficients.subtract(jacobian.neurons, jacobian.column, self.fired.data_index, trial.g)
        self._count(step=len(self.fired))
        self._update(jacobian.neurons, trial.scores)

    def _update(self, neurons: IntArray, scores: FloatArray) -> None:
        before = self.forest.nodes_visited["update"]
        self.forest.update(neurons, scores)
        self._count(update=self.forest.nodes_visited["update"] - before)
        self._look()

    def _save(self) -> TreeState:
        # Neurons that do not fire do not move, so the ones that fire now are all that trials can change.
        neurons, coefficients = self.jacobian.neurons, self.coefficients.copy()
        return TreeState(neurons, self.forest.scores_of(neurons), coefficients, self.residual, self.rounding)

    def _restore(self, saved: TreeState) -> None:
        self.coefficients = saved.coefficients
        self._update(saved.neurons, saved.scores)
        # The residual comes back to the bit; the same sum in another order would differ by rounding.
        self.residual, self.rounding = saved.residual, saved.rounding

    def _state_counts(self) -> Counts:
        return {"active_pairs": len(self.fired)}

    def _network(self) -> ImplicitNetwork:
        return self.coefficients.network(self.initial, self.X)
