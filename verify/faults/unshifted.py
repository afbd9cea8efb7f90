"""Faults that `verify.claims.unshifted` must catch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

import fast.gauss_newton
import reference.two_layer
from reference.notation import FloatArray
from reference.trace import Trace
from reference.two_layer import TwoLayerNetwork
from verify.faults.fault import Fault
from verify.faults.opponents import train_by_short_steps


def slow_without_a_shift(
    network: TwoLayerNetwork, X: FloatArray, y: FloatArray, *, iterations: int, tolerance: float = 0.0
) -> Trace[Any]:
    """Train by a fifth of every step where there is no shift."""
    if network.shift:
        return fast.gauss_newton.train(network, X, y, iterations=iterations, tolerance=tolerance)
    return train_by_short_steps(network, X, y, iterations=10 * iterations, tolerance=tolerance)


def records_the_root(*problem: Any, **options: Any) -> Trace[Any]:  # noqa: ANN401
    """Train, and record the square root of the work."""
    trace = fast.gauss_newton.train(*problem, **options)
    counts = [{phase: int(np.sqrt(work)) for phase, work in each.items()} for each in trace.counts]
    return replace(trace, counts=counts)


def dead_neurons(width: int, dim: int, *, shift: float, rng: np.random.Generator) -> TwoLayerNetwork:
    """Draw weights, a tenth of them 0, and a shift just above 0, so that those fire nowhere."""
    network = reference.two_layer.initialize(width, dim, shift=shift, rng=rng)
    weights = network.weights.copy()
    weights[: width // 10] = 0.0
    return TwoLayerNetwork(weights, network.signs, max(shift, 1e-300))


FAULTS: tuple[Fault, ...] = (
    Fault(
        "slow-without-a-shift",
        "Without a shift training takes a fifth of every step.",
        "value",
        {"unshifted.halves": "fails", "unshifted.iterations": "fails"},
        {"train": slow_without_a_shift},
    ),
    Fault(
        "work-by-its-root",
        "Training records the square root of its work.",
        "cost",
        {"unshifted.linear": "fails"},
        {"train": records_the_root},
    ),
    Fault(
        "dead-neurons",
        "A tenth of the neurons start with weights 0, and never fire.",
        "value",
        {"unshifted.everyone": "fails"},
        {"initialize": dead_neurons},
    ),
)
