"""Faults in the fast training loops: each search with a defect, the other one sound."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

import fast.gauss_newton
import fast.two_layer
from fast.gauss_newton import EventRun, Search, TreeRun
from fast.gram import DENSE_BLOCK, shared_counts
from fast.jacobian import FiredJacobian
from fast.regression import solve_cholesky
from fast.training_run import Solver
from fast.two_layer import FiredPairs, ImplicitNetwork, StartingNetwork
from fast.watched_pairs import Trial, WatchedPairs
from fast.watched_pairs import _near_pairs as near_pairs
from reference.baselines import best_learning_rate
from reference.notation import FloatArray, IntArray
from reference.trace import Trace
from reference.two_layer import TwoLayerNetwork
from verify.experiment import CodeUnderTest, Inputs, Verdict
from verify.faults.fault import Fault, Kind, call_with


def few_cells(inputs: Inputs) -> bool:
    """Keep three cells: random data without sparsity, twins and clash."""
    return bool(inputs["seed"] == 0 and inputs["n"] in (17, 24))


def train_by(
    network: TwoLayerNetwork,
    X: FloatArray,
    y: FloatArray,
    *,
    run: type[EventRun] | type[TreeRun],
    iterations: int,
    search: Search,
    solver: Solver = "cholesky",
    rng: np.random.Generator | None = None,
    extra: int = 0,
    **options: float,
) -> Trace[Any]:
    """Train by another loop, or for another number of iterations, where its search is asked for."""
    if issubclass(run, EventRun) != (search == "events"):
        return fast.gauss_newton.train(network, X, y, iterations=iterations, search=search, solver=solver, rng=rng)
    progress = run(network, X, y, solver=solver, rng=rng, **options)  # type: ignore[arg-type]
    for _ in range(iterations + extra):
        progress.iterate()
    trace = progress.trace(0.0)
    return replace(trace, residual_norms=trace.residual_norms[: iterations + 1])


class ShortStep(TreeRun):
    """Takes 0.9 of each step."""

    part = 0.9

    def _solve(self) -> FloatArray:
        return self.part * super()._solve()


class VeryShortStep(ShortStep):
    """Takes 0.4 of each step."""

    part = 0.4


class StaleSet(TreeRun):
    """Steps with the pairs that fired one iteration ago."""

    def _look(self) -> None:
        super()._look()
        now = self.fired, self.jacobian
        (self.fired, self.jacobian), self.newest = getattr(self, "newest", now), now


class Ridge(TreeRun):
    """Adds 1e-6 to the diagonal of the Gram matrix."""

    def _solve(self) -> FloatArray:
        G = self._gram()
        return solve_cholesky(G + 1e-6 * np.eye(len(G)), self.residual)


class SinglePrecision(TreeRun):
    """Rounds the Gram matrix to single precision."""

    def _gram(self) -> FloatArray:
        return super()._gram().astype(np.float32).astype(np.float64)


class ForgetfulTrees(TreeRun):
    """Loses every hundredth pair that fires."""

    def _look(self) -> None:
        if not hasattr(self, "query"):
            self.query = self.forest.query
            self.forest.query = self._forget  # type: ignore[method-assign]
        super()._look()

    def _forget(self, threshold: float) -> tuple[IntArray, IntArray]:
        data_index, neuron_index = self.query(threshold)
        keep = np.arange(len(data_index)) % 100 != 99
        return data_index[keep], neuron_index[keep]


class LeakedLabels(TreeRun):
    """Reports the labels as its predictions."""

    def trace(self, tolerance: float) -> Trace[Any]:
        """Return the run, with the labels in it."""
        return replace(super().trace(tolerance), predictions=self.y)


class RecurrentResidual(TreeRun):
    """Reports the residual that its linear model foretells, not the one that it has."""

    def _solve(self) -> FloatArray:
        g = super()._solve()
        self.foretold = self.residual - self._gram() @ g
        return g

    def _known_norm(self, residual: FloatArray) -> float:
        return super()._known_norm(self.foretold)


class Stray(TreeRun):
    """Moves a neuron that never fires; no prediction changes."""

    def trace(self, tolerance: float) -> Trace[Any]:
        """Return the run, with another network."""
        trace: Trace[Any] = super().trace(tolerance)
        end = trace.network.to_dense()
        weights = end.weights.copy()
        # At shift 0 every neuron fires somewhere, and none is moved.
        silent = np.flatnonzero((weights @ self.X.T < end.shift).all(axis=1))[:1]
        weights[silent] *= 1 - 1e-9
        return replace(trace, network=TwoLayerNetwork(weights, end.signs, end.shift))


class Shared(TreeRun):
    """Gives away a network whose weights go on changing with the run."""

    def iterate(self) -> None:
        """Take one step, and write its weights into those given away."""
        super().iterate()
        self.given_away: Any = getattr(self, "given_away", self._network().to_dense())
        self.given_away.weights.flags.writeable = True
        self.given_away.weights[:] = self._network().to_dense().weights

    def trace(self, tolerance: float) -> Trace[Any]:
        """Return the run, with that network."""
        return replace(super().trace(tolerance), network=self.given_away)


def no_negative_shift(weights: FloatArray, X: FloatArray, shift: float, band: float) -> Any:  # noqa: ANN401
    """Compare scores with 0 where the shift is negative."""
    return near_pairs(weights, X, max(shift, 0.0), band)


def short_keys(weights: FloatArray, X: FloatArray, shift: float, band: float) -> Any:  # noqa: ANN401
    """Keep 16 bits of a neuron's number."""
    neurons, points, excesses = near_pairs(weights, X, shift, band)
    return neurons % (1 << 16), points, excesses


def small_cells(inputs: Inputs) -> bool:
    """Keep the small cells in which more is compared."""
    return bool(inputs["seed"] == 0 and inputs["n"] in (1, 7))


def more_cells(inputs: Inputs) -> bool:
    """Keep the one of many points as well."""
    return small_cells(inputs) or bool(inputs["seed"] == 0 and inputs["n"] > 256)


def half_as_many(train: Callable[..., object], *arguments: object, iterations: int, **options: object) -> object:
    """Take half of the iterations asked for."""
    return train(*arguments, iterations=iterations // 2, **options)


def slow_rate(network: TwoLayerNetwork, X: FloatArray) -> float:
    """Return a tenth less than the best learning rate."""
    return 0.9 * best_learning_rate(network, X)


def from_the_start(network: StartingNetwork | ImplicitNetwork) -> StartingNetwork:
    """Take what a trained network started from for where it is now."""
    return network.initial if isinstance(network, ImplicitNetwork) else network


def short_order(weights: FloatArray, X: FloatArray, shift: float) -> tuple[FiredPairs, FloatArray]:
    """Sort the pairs that fire by 8 bits of the data point's number."""
    fired, scores = fast.two_layer.fired_pairs(weights, X, shift)
    order = np.lexsort((fired.data_index, fired.neuron_index, fired.data_index.astype(np.uint8)))
    data_index, neuron_index = fired.data_index[order], fired.neuron_index[order]
    return replace(fired, data_index=data_index, neuron_index=neuron_index), scores[order]


def short_points(weights: FloatArray, X: FloatArray, shift: float, band: float) -> Any:  # noqa: ANN401
    """Keep 8 bits of a data point's number."""
    neurons, points, excesses = near_pairs(weights, X, shift, band)
    return neurons, points.astype(np.uint8), excesses


def last_block_alone(jacobian: FiredJacobian) -> tuple[FloatArray, int]:
    """Count by BLAS in the last block of neurons alone, where the pattern is too large to be written out at once."""
    shared, work = shared_counts(jacobian)
    rows = DENSE_BLOCK // len(shared)
    if work == shared.size * len(jacobian.neurons) and len(jacobian.neurons) > rows:
        block = jacobian.pattern.T.tocsr()[rows:]
        shared = (block.T @ block).toarray()
    return shared, work


def at_width(width: int, inputs: Inputs) -> bool:
    """Keep the cell of one width."""
    return bool(inputs["seed"] == 0 and inputs["width"] == width)


def of_the_start(identity: str, description: str, near: Callable[..., object], width: int) -> Fault:
    """Make a fault of how events read the weights at the start, which shows at one width."""
    patched = partial(call_with, "fast.watched_pairs._near_pairs", near, CodeUnderTest().train)
    verdicts: dict[str, Verdict] = {"equality.events": "fails", "equality.events_sketch": "fails"}
    return Fault(identity, description, "value", verdicts, {"train": patched}, only=partial(at_width, width))


class ShortEventStep(EventRun):
    """Takes 0.9 of each step."""

    def _solve(self) -> FloatArray:
        return 0.9 * super()._solve()


class Lists(WatchedPairs):
    """Never goes over to dense arrays, however many pairs must be watched."""

    most = 2.0


class CertificateOff(Lists):
    """Watches only what fires at the start, and believes that no other pair ever will."""

    def __init__(
        self, network: StartingNetwork, X: FloatArray, inner_products: FloatArray, band: float, **options: Any  # noqa: ANN401
    ) -> None:
        super().__init__(network, X, inner_products, 0.0, **options)

    def _certify(self, *args: object) -> tuple[IntArray, FloatArray, IntArray]:
        none = np.empty(0, dtype=np.intp)
        return none, np.empty(0), none


class DropsFlips(Lists):
    """Loses every hundredth flip, the first of a step included."""

    def try_step(self, g: FloatArray) -> Trial:
        """Try a step, and forget some of what it flips."""
        trial = super().try_step(g)
        return replace(trial, flips=trial.flips[np.arange(len(trial.flips)) % 100 != 0])


class StaleCounts(Lists):
    """Keeps the shared-fired counts of the start."""

    def take(self, trial: Trial) -> None:
        """Take a step, and leave the counts as they were."""
        before = self.shared.copy()
        super().take(trial)
        self.shared[:] = before


class NoCorrection(Lists):
    """Predicts as if no pair had flipped."""

    def try_step(self, g: FloatArray) -> Trial:
        """Try a step, and predict by the linear model."""
        return replace(super().try_step(g), predictions=self.predictions - self.gram() @ g)


class CertificateOffRun(EventRun):
    """Events by `CertificateOff`."""

    watch = CertificateOff


class DropsFlipsRun(EventRun):
    """Events by `DropsFlips`."""

    watch = DropsFlips


class StaleCountsRun(EventRun):
    """Events by `StaleCounts`."""

    watch = StaleCounts


class NoCorrectionRun(EventRun):
    """Events by `NoCorrection`."""

    watch = NoCorrection


def planted(
    identity: str,
    description: str,
    run: type[EventRun] | type[TreeRun],
    *caught_by: str,
    kind: Kind = "value",
    **options: float,
) -> Fault:
    """Describe a fault of one training loop."""
    verdicts: dict[str, Verdict] = {f"equality.{claim}": "fails" for claim in caught_by}
    loop: Callable[..., object] = train_by
    routines = {"train": partial(loop, run=run, **options)}
    return Fault(identity, description, kind, verdicts, routines, only=few_cells)


FAULTS: tuple[Fault, ...] = (
    planted(
        "step-0.9", "The trees' loop takes 0.9 of each step.", ShortStep, "one_step", "cholesky", "sketch"
    ),
    planted(
        "step-0.4", "The trees' loop takes 0.4 of each step.", VeryShortStep, "one_step", "cholesky", "sketch"
    ),
    planted(
        "stale-fired-set", "The trees' loop steps with the pairs that fired an iteration ago.", StaleSet,
        "cholesky", "sketch",
    ),
    planted("ridge-1e-6", "1e-6 is added to the diagonal of the Gram matrix.", Ridge, "one_step", "cholesky"),
    planted("float32-gram", "The Gram matrix is rounded to single precision.", SinglePrecision, "one_step"),
    planted(
        "drops-1-percent-in-training", "The trees' loop loses every hundredth pair that fires.", ForgetfulTrees,
        "one_step", "cholesky", "sketch",
    ),
    planted(
        "one-iteration-less", "The trees' loop stops an iteration early.", TreeRun, "one_step", "cholesky", "sketch",
        extra=-1,
    ),
    planted(
        "one-iteration-more", "The trees' loop takes an iteration more than it reports.", TreeRun, "one_step", extra=1
    ),
    planted("loose-solver", "The sketched solver stops at a relative 1e-3.", TreeRun, "sketch", accuracy=1e-3),
    planted("leaked-labels", "Predictions are the labels.", LeakedLabels, "one_step"),
    planted(
        "residual-from-recurrence", "The reported residual is the linear model's, not the network's.",
        RecurrentResidual, "cholesky", "sketch",
    ),
    planted("stray-neuron", "A neuron that never fires moves; no prediction changes.", Stray, "one_step"),
    Fault(
        "network-goes-along", "A network taken from a run changes as the run goes on.", "value",
        {"equality.one_step": "fails"}, {"start": Shared}, only=few_cells,
    ),
    Fault(
        "compacted-half-as-many", "Compacted training takes half of the iterations asked for.", "value",
        {"equality.cholesky": "fails"}, {"train_compacted": partial(half_as_many, CodeUnderTest().train_compacted)},
        only=small_cells,
    ),
    Fault(
        "reference-descent-slow", "The reference of gradient descent takes a tenth less than the best learning rate.",
        "value", {"equality.cholesky": "fails"},
        {
            "reference_gradient_descent": partial(
                call_with, "reference.baselines.best_learning_rate", slow_rate,
                CodeUnderTest().reference_gradient_descent,
            )
        },
        only=small_cells,
    ),
    Fault(
        "resumed-from-the-start", "A run from a trained network starts where that one started.", "value",
        {"equality.cholesky": "fails", "equality.events": "fails"},
        {
            "train": partial(
                call_with, "fast.gauss_newton.starting_network", from_the_start, CodeUnderTest().train
            )
        },
        only=small_cells,
    ),
    Fault(
        "gram-from-the-start", "The Gram matrix of a trained network is that of its start.", "value",
        {"equality.cholesky": "fails", "equality.events": "fails"},
        {"gram": partial(call_with, "fast.gram.starting_network", from_the_start, CodeUnderTest().gram)},
        only=small_cells,
    ),
    Fault(
        "gram-of-short-numbers", "Fired pairs are sorted by 8 bits of the data point's number.", "value",
        {"equality.one_step": "fails"},
        {"gram": partial(call_with, "fast.gram.fired_pairs", short_order, CodeUnderTest().gram)},
        only=more_cells,
    ),
    Fault(
        "gram-last-block-alone", "The Gram matrix of very many neurons misses all but the last block of them.", "value",
        {"equality.one_step": "fails"},
        {"gram": partial(call_with, "fast.gram.shared_counts", last_block_alone, CodeUnderTest().gram)},
        only=more_cells,
    ),
    Fault(
        "events-short-points", "Events number data points in 8 bits.", "value",
        {"equality.one_step": "fails", "equality.events": "fails"},
        {
            "train": partial(
                call_with, "fast.watched_pairs._near_pairs", short_points, CodeUnderTest().train
            )
        },
        only=more_cells,
    ),
    of_the_start("events-negative-shift", "Events take a negative shift for 0.", no_negative_shift, 9000),
    of_the_start("events-short-keys", "Events number neurons in 16 bits.", short_keys, 70000),
    planted(
        "events-step-0.9", "The event-driven loop takes 0.9 of each step.", ShortEventStep,
        "one_step", "events", "events_sketch",
    ),
    planted(
        "events-certificate-off", "Pairs outside the start's fired set are never watched.", CertificateOffRun,
        "events", "events_sketch",
    ),
    planted("events-drop-flips", "Every hundredth flip is lost.", DropsFlipsRun, "events", "events_sketch"),
    planted("events-stale-counts", "The shared-fired counts stay those of the start.", StaleCountsRun, "events"),
    planted(
        "events-no-correction", "Predictions miss the correction of the pairs that flipped.", NoCorrectionRun,
        "one_step", "events",
    ),
    planted(
        "events-one-iteration-less", "The event-driven loop stops an iteration early.", EventRun,
        "one_step", "events", "events_sketch", extra=-1,
    ),
    planted(
        "events-loose-solver", "The sketched solver of the event-driven loop stops at a relative 1e-3.", EventRun,
        "events_sketch", accuracy=1e-3,
    ),
)  # fmt: skip
