"""Faults that `verify.claims.practical_width` must catch."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

import fast.gauss_newton
from reference.notation import FloatArray, NothingFiresError
from reference.trace import Trace
from reference.two_layer import TwoLayerNetwork
from verify.claims import practical_width
from verify.experiment import CodeUnderTest, Experiment, Inputs, Result
from verify.faults.fault import Fault

ENOUGH = 1 << 11
"""A width at which nothing is refused."""


def refuses_narrow_networks(
    network: TwoLayerNetwork, X: FloatArray, y: FloatArray, **options: Any  # noqa: ANN401
) -> Trace[Any]:
    """Train only networks of at least ``n^2 / 2`` neurons, and without a shift only those of `ENOUGH`."""
    if network.width < (len(X) ** 2 / 2 if network.shift else ENOUGH):
        raise NothingFiresError("too narrow")
    return fast.gauss_newton.train(network, X, y, **options)


def measure_without_points(inputs: Inputs, rng: np.random.Generator, code: CodeUnderTest) -> Result:
    """Measure, with a theorem's width that lacks its factor ``n^4``."""
    result = practical_width.measure(inputs, rng, code)
    return {**result, "asked": result["asked"] - 4 * math.log2(inputs["n"])} if "asked" in result else result


def without_points(experiment: Experiment) -> Experiment:
    """Put the wrong width into the experiment."""
    return replace(experiment, measure=measure_without_points)


FAULTS: tuple[Fault, ...] = (
    Fault(
        "narrow-networks-refused",
        "Training fails on networks of fewer than n^2 / 2 neurons, and on narrow ones without a shift.",
        "value",
        {"practical_width.growth": "fails", "practical_width.plain": "fails"},
        {"train": refuses_narrow_networks},
    ),
    Fault(
        "theorem-without-points",
        "The theorem's width lacks its factor n^4.",
        "statistics",
        {"practical_width.gap": "fails", "practical_width.theorem": "fails"},
        alter=without_points,
    ),
)
