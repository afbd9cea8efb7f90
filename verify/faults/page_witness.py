"""Planted faults that no tripwire notices: they read, compare and throw the result away."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse

from fast.all_pairs import AllTrial
from fast.certified_scores import CertifiedScores
from fast.gauss_newton import EventRun, TreeRun, TreeTrial
from fast.jacobian import FiredJacobian
from fast.low_rank import LowRankWeights
from fast.multi_layer_gauss_newton import InputsOfALayer, LastLayer, MultiLayerRun, State
from fast.output_layer import JointRun
from fast.threshold_search import ThresholdForest
from fast.watched_pairs import DueQueue, Trial, WatchedPairs
from reference.notation import FloatArray, IntArray
from verify.experiment import Inputs
from verify.faults.fault import Fault


def of(loop: str, inputs: Inputs) -> bool:
    """Keep one cell of one loop."""
    return bool(inputs["loop"] == loop and inputs["seed"] == 0)


def compare(values: FloatArray) -> bool:
    """Look at every number, and form nothing that infinities would spoil."""
    return bool((values > 1e300).any())


class ComparingTree(TreeRun):
    """Looks at all weights in each iteration."""

    def iterate(self) -> None:
        """Take one step."""
        compare(self.initial.weights)
        super().iterate()


class ComparingEvents(EventRun):
    """Looks at all weights in each iteration."""

    def iterate(self) -> None:
        """Take one step."""
        compare(self.initial.weights)
        super().iterate()


class TryingTree(TreeRun):
    """Looks at all weights whenever a step is tried."""

    def _norm_after(self, trial: TreeTrial) -> float:
        compare(self.initial.weights)
        return super()._norm_after(trial)


class TryingEvents(EventRun):
    """Looks at all weights whenever a step is tried."""

    def _norm_after(self, trial: Trial | AllTrial) -> float:
        compare(self.initial.weights)
        return super()._norm_after(trial)


class SolvingTree(TreeRun):
    """Looks at all weights when it solves without a factor."""

    def _solve_conjugate(self) -> FloatArray:
        compare(self.initial.weights)
        return super()._solve_conjugate()


class SolvingEvents(EventRun):
    """Looks at all weights when it solves without a factor."""

    def _solve_conjugate(self) -> FloatArray:
        compare(self.initial.weights)
        return super()._solve_conjugate()


class ComparingJoint(JointRun):
    """Looks at all weights of the first layer in each iteration."""

    def iterate(self) -> None:
        """Take one step."""
        compare(self.watched.network.weights)
        super().iterate()


class ComparingQueue(DueQueue):
    """Looks at all times whenever it is asked."""

    def reached(self, due: FloatArray, now: float, step: float) -> IntArray:
        """List what is due."""
        compare(due)
        return super().reached(due, now, step)


class ComparingPairs(WatchedPairs):
    """Has such queues."""

    def __init__(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401
        super().__init__(*arguments, **options)
        self.pair_queue, self.row_queue = ComparingQueue(), ComparingQueue()


class ComparingAtRest(EventRun):
    """Watches with such queues."""

    watch = ComparingPairs


class HalfCounted(EventRun):
    """Counts half of the rows that it computes."""

    def iterate(self) -> None:
        """Take one step."""
        super().iterate()
        self.counts[-1]["compute"] //= 2


class ComparingForest(ThresholdForest):
    """Looks at all leaves in each query."""

    def query(self, threshold: float) -> tuple[IntArray, IntArray]:
        """Find pairs."""
        compare(self.levels[0])
        return super().query(threshold)


class ComparingUpdates(ThresholdForest):
    """Looks at all leaves in each update."""

    def _write_leaves(self, neurons: IntArray, new: FloatArray) -> None:
        super()._write_leaves(neurons, new)
        compare(self.levels[0])


class ComparingDeep(MultiLayerRun):
    """Looks at all weights of the upper layer in each iteration."""

    def iterate(self) -> None:
        """Take one step."""
        compare(self.initial.weights[-1])
        super().iterate()


class TryingDeep(MultiLayerRun):
    """Multiplies by the whole upper matrix whenever a step is tried."""

    def _norm_after(self, trial: State) -> float:
        _ = trial.signals.hidden[-2].toarray() @ trial.layers[-1].initial.T
        return super()._norm_after(trial)


class SketchingDeep(MultiLayerRun):
    """Looks at all weights when it solves with a sketch."""

    def _solve(self) -> FloatArray:
        if self.solver == "sketch":
            for layer in self.state.layers:
                compare(layer.initial)
        return super()._solve()


class SolvingDeep(MultiLayerRun):
    """Looks at all weights when it solves without a factor."""

    def _solve_conjugate(self) -> FloatArray:
        for layer in self.state.layers:
            compare(layer.initial)
        return super()._solve_conjugate()


class StartingDeep(MultiLayerRun):
    """Looks at all weights above the lowest trained layer at the start."""

    def _prepare(self, layers: list[LowRankWeights]) -> State:
        for layer in layers[self.lowest :]:
            compare(layer.initial)
        return super()._prepare(layers)


class LowestDeep(MultiLayerRun):
    """Looks at all weights of the lowest trained layer and of those below in each iteration."""

    def iterate(self) -> None:
        """Take one step."""
        for layer in self.state.layers[: self.lowest]:
            compare(layer.initial)
        super().iterate()


class BelowDeep(MultiLayerRun):
    """Looks at all weights below the lowest trained layer in each iteration."""

    def iterate(self) -> None:
        """Take one step."""
        for layer in self.state.layers[: self.lowest - 1]:
            compare(layer.initial)
        super().iterate()


class Forgetful(CertifiedScores):
    """Keeps no entries, and reads again what it has just read; counts and results are the same."""

    def _entries(self, weights: LowRankWeights, i: int, neurons: IntArray, columns: IntArray) -> FloatArray:
        self.blocks[i] = None
        return super()._entries(weights, i, neurons, columns)


class ForgetfulDeep(MultiLayerRun):
    """Keeps such scores."""

    def _prepare(self, layers: list[LowRankWeights]) -> State:
        state = super()._prepare(layers)
        for scores in self.certified:
            scores.__class__ = Forgetful
        return state


class ComparingLowRank(LowRankWeights):
    """Looks at the whole matrix in each product."""

    def multiply(self, H: sparse.csr_array) -> FloatArray:
        """Compute ``W h`` for each row of ``H``."""
        compare(self.initial)
        return super().multiply(H)


class ComparingBack(LowRankWeights):
    """Looks at the whole matrix in each transposed product."""

    def multiply_at(self, P: sparse.csr_array, pattern: sparse.csr_array) -> FloatArray:
        """Compute ``W^T p`` at the entries of a pattern."""
        compare(self.initial)
        return super().multiply_at(P, pattern)


class ComparingFold(LowRankWeights):
    """Looks at the whole matrix in each fold."""

    def fold(self) -> None:
        """Multiply the factors out."""
        compare(self.initial)
        super().fold()


class ComparingInputsOfALayer(InputsOfALayer):
    """Looks at all weights of the last layer in each iteration."""

    def iterate(self) -> None:
        """Take one step."""
        compare(self.deep.weights[-1])
        super().iterate()


class ComparingLast(LastLayer):
    """Hands out a loop that looks at all weights."""

    def run(self, y: ArrayLike, **options: Any) -> EventRun:  # noqa: ANN401
        """Begin a run."""
        run = super().run(y, **options)
        run.__class__ = ComparingInputsOfALayer
        return run


class WholeMatrix(LastLayer):
    """Multiplies with all weights of the last layer in the preparation, and throws the scores away."""

    def _rotated(self) -> FloatArray:
        _ = self.hidden.toarray() @ self.layers[-1].initial.T
        return super()._rotated()


class PrivateCopyTree(TreeRun):
    """Looks at all weights in each iteration, in a copy made beforehand: only memory tells."""

    copied: FloatArray | None = None

    def iterate(self) -> None:
        """Take one step."""
        if self.copied is not None:
            compare(self.copied)
        super().iterate()

    def _start(self) -> None:
        super()._start()
        self.copied = self.initial.weights.copy()


class PartlyCopyingEvents(EventRun):
    """Looks at a twentieth of the weights in each iteration, in a copy made beforehand."""

    copied: FloatArray | None = None

    def iterate(self) -> None:
        """Take one step."""
        if self.copied is not None:
            compare(self.copied)
        super().iterate()

    def _start(self) -> None:
        super()._start()
        self.copied = self.initial.weights[::20].copy()


class ArrayOfAll(EventRun):
    """Marks in each iteration which of all neurons fire."""

    def iterate(self) -> None:
        """Take one step."""
        np.bincount(self.watched.neurons, minlength=self.initial.width)
        super().iterate()


class DenseJacobian(EventRun):
    """Writes out the Jacobian for a sketch."""

    def _solve_sketched(self, jacobian: FiredJacobian) -> FloatArray:
        compare(jacobian.to_dense())
        return super()._solve_sketched(jacobian)


class PrivateCopyJoint(JointRun):
    """Looks at a twentieth of the weights in each iteration, in a copy made beforehand."""

    copied: FloatArray | None = None

    def __init__(self, *arguments: Any) -> None:  # noqa: ANN401
        super().__init__(*arguments)
        self.copied = self.watched.network.weights[::20].copy()

    def iterate(self) -> None:
        """Take one step."""
        assert self.copied is not None
        compare(self.copied)
        super().iterate()


class PrivateCopyDeep(MultiLayerRun):
    """Multiplies with a tenth of the upper matrix in each iteration, in a copy made beforehand."""

    def iterate(self) -> None:
        """Take one step."""
        _ = self.state.signals.hidden[-1].toarray()[:, : len(self.copied)] @ self.copied
        super().iterate()

    def _start(self) -> None:
        super()._start()
        W = self.initial.weights[-1]
        self.copied = np.array(W[:, : len(W) // 10].T)


class FormingDeep(MultiLayerRun):
    """Copies an eighth of the upper matrix in each iteration."""

    def iterate(self) -> None:
        """Take one step."""
        self.initial.weights[-1][:, ::8].copy()
        super().iterate()


class PrivateCopyLast(LastLayer):
    """Keeps a tenth of the last layer's matrix."""

    def _rotated(self) -> FloatArray:
        W = self.initial.weights[-1]
        self.copied = np.array(W[:, : len(W) // 10])
        return super()._rotated()

    def run(self, y: ArrayLike, **options: Any) -> EventRun:  # noqa: ANN401
        """Hand the copy on."""
        run = super().run(y, **options)
        vars(run)["copied"] = self.copied
        return run


FAULTS = (
    Fault(
        "tree-compares-weights",
        "The loop on trees looks at all weights in each iteration and uses none.",
        "cost",
        {"page_witness.rows": "fails"},
        {"start": ComparingTree},
        only=partial(of, "tree"),
    ),
    Fault(
        "events-compare-weights",
        "The loop on events looks at all weights in each iteration and uses none.",
        "cost",
        {"page_witness.rows": "fails"},
        {"start_events": ComparingEvents},
        only=partial(of, "events"),
    ),
    Fault(
        "events-half-counted",
        "The loop on events counts half of the rows that it reads.",
        "cost",
        {"page_witness.rows": "fails"},
        {"start_events": HalfCounted},
        only=partial(of, "events"),
    ),
    Fault(
        "query-compares-leaves",
        "Every query looks at all leaves and uses none.",
        "cost",
        {"page_witness.nodes": "fails"},
        {"forest": ComparingForest},
        only=partial(of, "query"),
    ),
    Fault(
        "deep-compares-weights",
        "The deep loop looks at the whole upper matrix in each iteration and uses none of it.",
        "cost",
        {"page_witness.columns": "fails"},
        {"start_deep": ComparingDeep},
        only=partial(of, "deep"),
    ),
    Fault(
        "deep-reads-again",
        "The deep loop keeps no entries of the upper matrix, and reads again what it read a moment ago.",
        "cost",
        {"page_witness.columns": "fails"},
        {"start_deep": ForgetfulDeep},
        only=partial(of, "deep"),
    ),
    Fault(
        "last-layer-compares-weights",
        "Training of the last layer alone looks at its whole matrix in each iteration and uses none of it.",
        "cost",
        {"page_witness.columns": "fails"},
        {"last_layer": ComparingLast},
        only=partial(of, "last"),
    ),
    Fault(
        "low-rank-compares-weights",
        "A product with low-rank weights looks at the whole matrix and uses none of it.",
        "cost",
        {"page_witness.columns": "fails"},
        {"low_rank": ComparingLowRank},
        only=partial(of, "low-rank"),
    ),
    Fault(
        "tree-compares-a-copy",
        "The loop on trees looks in each iteration at all weights, in a copy made beforehand.",
        "cost",
        {"page_witness.memory": "fails"},
        {"start": PrivateCopyTree},
        only=partial(of, "tree-memory"),
    ),
    Fault(
        "events-compare-a-copy",
        "The loop on events looks in each iteration at a twentieth of the weights, in a copy made beforehand.",
        "cost",
        {"page_witness.memory": "fails"},
        {"start_events": PartlyCopyingEvents},
        only=partial(of, "events-memory"),
    ),
    Fault(
        "events-mark-all-neurons",
        "Each iteration of the loop on events forms an array with an entry for each neuron.",
        "cost",
        {"page_witness.memory": "fails"},
        {"start_events": ArrayOfAll},
        only=partial(of, "events-memory"),
    ),
    Fault(
        "tree-tries-all-weights",
        "A safeguarded loop on trees looks at all weights for every step that it tries.",
        "cost",
        {"page_witness.rows": "fails"},
        {"start": TryingTree},
        only=partial(of, "tree-safeguarded"),
    ),
    Fault(
        "events-try-all-weights",
        "A safeguarded loop on events looks at all weights for every step that it tries.",
        "cost",
        {"page_witness.rows": "fails"},
        {"start_events": TryingEvents},
        only=partial(of, "events-safeguarded"),
    ),
    Fault(
        "tree-solves-with-all-weights",
        "The loop on trees looks at all weights when it solves without a factor.",
        "cost",
        {"page_witness.rows": "fails"},
        {"start": SolvingTree},
        only=partial(of, "tree-conjugate"),
    ),
    Fault(
        "events-solve-with-all-weights",
        "The loop on events looks at all weights when it solves without a factor.",
        "cost",
        {"page_witness.rows": "fails"},
        {"start_events": SolvingEvents},
        only=partial(of, "events-conjugate"),
    ),
    Fault(
        "joint-compares-weights",
        "Training of both layers looks at all weights in each iteration and uses none.",
        "cost",
        {"page_witness.rows": "fails"},
        {"start_joint": ComparingJoint},
        only=partial(of, "joint"),
    ),
    Fault(
        "rest-compares-all-watched",
        "Every iteration looks at the times at which all pairs and rows are due, however few it lists.",
        "cost",
        {"page_witness.rows": "fails"},
        {"start_events": ComparingAtRest},
        only=partial(of, "rest"),
    ),
    Fault(
        "update-compares-leaves",
        "Every update looks at all leaves and uses none.",
        "cost",
        {"page_witness.nodes": "fails"},
        {"forest": ComparingUpdates},
        only=partial(of, "update"),
    ),
    Fault(
        "last-layer-starts-with-all-weights",
        "The preparation of the last layer multiplies with its whole matrix and uses nothing of it.",
        "cost",
        {"page_witness.columns": "fails"},
        {"last_layer": WholeMatrix},
        only=partial(of, "last"),
    ),
    Fault(
        "sketch-writes-out-the-jacobian",
        "The sketched loop on events writes out the dense Jacobian in each iteration.",
        "cost",
        {"page_witness.memory": "fails"},
        {"start_events": DenseJacobian},
        only=partial(of, "sketch-memory"),
    ),
    Fault(
        "joint-compares-a-copy",
        "Training of both layers looks in each iteration at a twentieth of the weights, in a copy made beforehand.",
        "cost",
        {"page_witness.memory": "fails"},
        {"start_joint": PrivateCopyJoint},
        only=partial(of, "joint-memory"),
    ),
    Fault(
        "deep-multiplies-a-copy",
        "The deep loop multiplies in each iteration with a tenth of the upper matrix, in a copy made beforehand.",
        "cost",
        {"page_witness.memory": "fails"},
        {"start_deep": PrivateCopyDeep},
        only=partial(of, "deep-memory"),
    ),
    Fault(
        "deep-forms-part-of-the-matrix",
        "Each iteration of the deep loop copies an eighth of the upper matrix.",
        "cost",
        {"page_witness.memory": "fails"},
        {"start_deep": FormingDeep},
        only=partial(of, "deep-memory"),
    ),
    Fault(
        "last-layer-keeps-a-copy",
        "Training of the last layer alone keeps a tenth of its matrix.",
        "cost",
        {"page_witness.memory": "fails"},
        {"last_layer": PrivateCopyLast},
        only=partial(of, "last-memory"),
    ),
    Fault(
        "deep-tries-all-weights",
        "A safeguarded deep loop multiplies by the whole upper matrix for every step that it tries.",
        "cost",
        {"page_witness.columns": "fails"},
        {"start_deep": TryingDeep},
        only=partial(of, "deep-safeguarded"),
    ),
    Fault(
        "deep-sketches-with-all-weights",
        "The deep loop looks at all weights when it solves with a sketch.",
        "cost",
        {"page_witness.columns": "fails"},
        {"start_deep": SketchingDeep},
        only=partial(of, "deep-sketch"),
    ),
    Fault(
        "deep-solves-with-all-weights",
        "The deep loop looks at all weights when it solves without a factor.",
        "cost",
        {"page_witness.columns": "fails"},
        {"start_deep": SolvingDeep},
        only=partial(of, "deep-conjugate"),
    ),
    Fault(
        "deep-starts-with-all-weights",
        "The start of the deep loop looks at the whole upper matrix and uses none of it.",
        "cost",
        {"page_witness.columns": "fails"},
        {"start_deep": StartingDeep},
        only=partial(of, "deep"),
    ),
    Fault(
        "deep-compares-the-lowest",
        "The deep loop looks at the lowest trained matrix and those below in each iteration.",
        "cost",
        {"page_witness.columns": "fails"},
        {"start_deep": LowestDeep},
        only=partial(of, "deep"),
    ),
    Fault(
        "deep-compares-a-lower",
        "The deep loop looks at the matrices below the lowest trained one in each iteration.",
        "cost",
        {"page_witness.columns": "fails"},
        {"start_deep": BelowDeep},
        only=partial(of, "deep-lowest"),
    ),
    Fault(
        "low-rank-compares-on-the-way-back",
        "A transposed product with low-rank weights looks at the whole matrix and uses none of it.",
        "cost",
        {"page_witness.columns": "fails"},
        {"low_rank": ComparingBack},
        only=partial(of, "low-rank"),
    ),
    Fault(
        "low-rank-compares-in-a-fold",
        "A fold of low-rank weights looks at the whole matrix and uses none of it.",
        "cost",
        {"page_witness.columns": "fails"},
        {"low_rank": ComparingFold},
        only=partial(of, "low-rank"),
    ),
)
