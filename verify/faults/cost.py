"""Planted faults for the cost claims: scans that are not counted, work that is, and counters that lie."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

import fast.baselines
from fast.gauss_newton import TreeRun
from fast.threshold_search import ThresholdForest
from fast.two_layer import ImplicitNetwork
from reference.notation import FloatArray, IntArray
from reference.trace import Trace
from reference.two_layer import TwoLayerNetwork
from verify.experiment import Inputs
from verify.faults import loops
from verify.faults.fault import Fault


class HiddenScan(TreeRun):
    """Multiplies one neuron in a thousand with the data in every iteration, and does not say so."""

    def _look(self) -> None:
        _ = self.initial.weights[::1000] @ self.X.T
        super()._look()


class NewForest(TreeRun):
    """Computes all scores from the weights after every step, builds new trees, and counts all of that."""

    def _update(self, neurons: IntArray, scores: FloatArray) -> None:
        weights = self._network().to_dense().weights
        self.forest = ThresholdForest.build(self.X @ weights.T)
        self._count(update=weights.size * self.forest.n)
        self._look()


class WholeGram(TreeRun):
    """Multiplies the pattern of all neurons that fire somewhere with itself, zeros included, and counts all of that."""

    def _gram(self) -> FloatArray:
        n = len(self.X)
        pattern = np.zeros((n, len(self.jacobian.neurons)))
        pattern[self.fired.data_index, self.jacobian.column] = 1
        self._count(gram=n * pattern.size)
        G: FloatArray = self.inner_products * (pattern @ pattern.T) / self.initial.width
        return G


def modest_dense(
    network: TwoLayerNetwork, X: FloatArray, y: FloatArray, *, iterations: int
) -> Trace[TwoLayerNetwork]:
    """Count a tenth of what the dense loop does."""
    trace = fast.baselines.train_dense(network, X, y, iterations=iterations)
    return replace(trace, counts=[{phase: work // 10 for phase, work in counts.items()} for counts in trace.counts])


def halved(
    network: TwoLayerNetwork, X: FloatArray, y: FloatArray, *, iterations: int, search: str
) -> Trace[ImplicitNetwork]:
    """Count half of what the updates of the trees do."""
    trace = loops.train(network, X, y, iterations=iterations, search=search)
    return replace(trace, counts=[{**counts, "update": counts["update"] // 2} for counts in trace.counts])


def small(inputs: Inputs) -> bool:
    """Take five seeds, which a fit of named terms needs, and the cheaper cells of every sweep."""
    return bool(inputs["seed"] < 5 and inputs["width"] <= 1 << 15)


FAULTS = (
    Fault(
        "hidden-scan-of-0.1%",
        "Every iteration reads one neuron in a thousand, and does not count it.",
        "cost",
        {
            "cost.witness": "fails",
            "cost.width": "invalid",
            "cost.points": "invalid",
            "cost.inputs": "invalid",
            "cost.forbidden": "invalid",
        },
        {"train": partial(loops.train, tree=HiddenScan), "start": HiddenScan},
        only=small,
    ),
    Fault(
        "new-trees-every-iteration",
        "Every iteration computes all scores from the weights and builds new trees.",
        "cost",
        {
            "cost.exact": "fails",
            "cost.width": "fails",
            "cost.inputs": "fails",
            "cost.forbidden": "fails",
            "cost.witness": "fails",
        },
        {"train": partial(loops.train, tree=NewForest), "start": NewForest},
        only=small,
    ),
    Fault(
        "gram-of-whole-rows",
        "The Gram matrix comes from whole rows of the pattern, zeros included.",
        "cost",
        {"cost.exact": "fails", "cost.points": "fails"},
        {"train": partial(loops.train, tree=WholeGram), "start": WholeGram},
        only=small,
    ),
    Fault(
        "counters-too-small",
        "The tree path counts half of its updates, and the dense loop a tenth of its work.",
        "cost",
        {"cost.exact": "fails", "cost.dense": "fails"},
        {"train": halved, "train_dense": modest_dense},
        only=small,
    ),
)
"""One fault at least for each claim."""
