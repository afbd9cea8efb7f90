"""Planted faults of the cost of many layers: scans recorded and hidden, copies, opponents that count wrongly, stops."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from fast.multi_layer_baselines import train_multi_layer_dense
from fast.multi_layer_gauss_newton import MultiLayerRun
from reference.multi_layer import MultiLayerNetwork
from reference.notation import SingularGramError
from reference.trace import Trace
from verify.experiment import Inputs
from verify.faults.deep_routines import (
    FreeSolve,
    HiddenScan,
    WholeProducts,
    WithoutBounds,
    copied,
    start_on,
    train_by,
    train_on,
)
from verify.faults.fault import Fault


def narrow(inputs: Inputs) -> bool:
    """Leave out the widest networks, and seeds that no fit needs."""
    least = {"width": 5, "terms": 5, "settled": 2}
    widest = 1 << 11 if inputs["sweep"] == "once" or inputs["n"] == 8 else 1 << 10
    return bool(inputs["width"] <= widest and inputs["seed"] < least.get(inputs["sweep"], 1))


def overcharged(*arguments: Any, **options: Any) -> Trace[MultiLayerNetwork]:  # noqa: ANN401
    """Train by an opponent, and count eight scans for each."""
    trace = train_multi_layer_dense(*arguments, **options)
    return replace(trace, counts=[{**counts, "scan": 8 * counts["scan"]} for counts in trace.counts])


def compacted_as_dense(
    *arguments: Any,  # noqa: ANN401
    compact: bool = False,
    **options: Any,  # noqa: ANN401
) -> Trace[MultiLayerNetwork]:
    """Train by an opponent, the dense one whichever is asked for."""
    return train_multi_layer_dense(*arguments, **options)


class GivesUp(MultiLayerRun):
    """Stops at once, as if points looked alike, where the first weight is positive."""

    def iterate(self) -> None:
        """Take one step."""
        if self.initial.weights[0][0, 0] > 0:
            raise SingularGramError("G is singular")
        super().iterate()


FAULTS: tuple[Fault, ...] = (
    Fault(
        "whole-products",
        "Products with a matrix read all of it, forward and back, and say so.",
        "cost",
        {
            "deep_cost.exact": "fails",
            "deep_cost.start_level": "fails",
            "deep_cost.start_slope": "fails",
            "deep_cost.backward_level": "fails",
            "deep_cost.backward_slope": "fails",
            "deep_cost.forward_level": "fails",
            "deep_cost.forward_slope": "fails",
            "deep_cost.forbidden": "fails",
            "deep_cost.witness": "fails",
        },
        {"deep_train": partial(train_on, WholeProducts), "start_deep": partial(start_on, WholeProducts)},
        only=narrow,
    ),
    Fault(
        "without-bounds",
        "Every iteration computes all scores of a matrix, as if nothing were known of those before.",
        "cost",
        {"deep_cost.exact": "fails", "deep_cost.forward_level": "fails", "deep_cost.settled": "fails"},
        {"deep_train": partial(train_by, WithoutBounds), "start_deep": WithoutBounds},
        only=narrow,
    ),
    Fault(
        "unrecorded-dense-scan",
        "Every iteration multiplies by the whole of the last matrix and does not count that.",
        "cost",
        {
            "deep_cost.start_level": "invalid",
            "deep_cost.start_slope": "invalid",
            "deep_cost.backward_level": "invalid",
            "deep_cost.backward_slope": "invalid",
            "deep_cost.forward_level": "invalid",
            "deep_cost.forward_slope": "invalid",
            "deep_cost.settled": "invalid",
            "deep_cost.forbidden": "invalid",
            "deep_cost.witness": "fails",
        },
        {"deep_train": partial(train_by, HiddenScan), "start_deep": HiddenScan},
        only=narrow,
    ),
    Fault(
        "free-solve",
        "The solve counts no work.",
        "cost",
        {"deep_cost.exact": "fails"},
        {"deep_train": partial(train_by, FreeSolve)},
        only=narrow,
    ),
    Fault(
        "opponent-not-dense",
        "The loop that stands for a dense one leaves out the columns of neurons that fire nowhere.",
        "statistics",
        {"deep_cost.dense": "fails"},
        {"deep_train_dense": partial(train_multi_layer_dense, compact=True)},
        only=narrow,
    ),
    Fault(
        "opponents-overcharge",
        "The dense and the compacted loop count seven scans more than they do.",
        "cost",
        {"deep_cost.exact": "fails", "deep_cost.dense": "fails"},
        {"deep_train_dense": overcharged},
        only=narrow,
    ),
    Fault(
        "compacted-overcharges",
        "The compacted loop, too, counts as if it read every column.",
        "cost",
        {"deep_cost.exact": "fails"},
        {"deep_train_dense": compacted_as_dense},
        only=narrow,
    ),
    Fault(
        "gives-up-on-half",
        "Training stops on every second network, as if points looked alike, so that another is drawn.",
        "cost",
        {"deep_cost.exact": "fails"},
        {"deep_train": partial(train_by, GivesUp), "start_deep": GivesUp},
        only=narrow,
    ),
    Fault(
        "unrecorded-copies",
        "Every matrix is copied before the start, and the counters do not tell.",
        "cost",
        {"deep_cost.once": "fails"},
        {"deep_train": copied},
        only=narrow,
    ),
)
"""Each claim of `verify.claims.deep_cost` is flipped by one of them at least."""
