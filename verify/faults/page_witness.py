"""Planted faults that no tripwire notices: they read, compare and throw the result away."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse

from fast.certified_scores import CertifiedScores
from fast.gauss_newton import EventRun, TreeRun
from fast.low_rank import LowRankWeights
from fast.multi_layer_gauss_newton import InputsOfALayer, LastLayer, MultiLayerRun, State
from fast.threshold_search import ThresholdForest
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


class ComparingDeep(MultiLayerRun):
    """Looks at all weights of the upper layer in each iteration."""

    def iterate(self) -> None:
        """Take one step."""
        compare(self.initial.weights[-1])
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
)
