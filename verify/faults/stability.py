"""Faults that leave every prediction right and move the weights, and one in the shift."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

import fast.gauss_newton
from reference.notation import FloatArray
from reference.trace import Trace
from reference.two_layer import TwoLayerNetwork, initialize, shift_for
from verify.experiment import Inputs
from verify.faults.fault import Fault

ALPHA, NARROWEST = 0.24, 1 << 11
"""The experiment's, typed again."""
BLOCK = 1 << 11


def narrow(inputs: Inputs) -> bool:
    """Keep widths to 2^14, an eighth of the work."""
    return bool(inputs["width"] <= 1 << 14)


def train_with_strays(network: TwoLayerNetwork, X: FloatArray, y: FloatArray, **options: Any) -> Trace[Any]:  # noqa: ANN401
    """Send one silent neuron of either sign to one far place, where the two cancel in every prediction."""
    trace: Trace[Any] = fast.gauss_newton.train(network, X, y, **options)
    end = trace.network.to_dense()
    silent = (end.weights @ X.T < end.shift).all(axis=1)
    weights = end.weights.copy()
    for sign in (-1, 1):
        weights[np.flatnonzero(silent & (end.signs == sign))[0]] = 20 * X[0]
    return replace(trace, network=TwoLayerNetwork(weights, end.signs, end.shift))


def train_in_another_order(
    network: TwoLayerNetwork, X: FloatArray, y: FloatArray, **options: Any  # noqa: ANN401
) -> Trace[Any]:
    """List the trained neurons beyond the first block in reverse, which no prediction notices."""
    trace: Trace[Any] = fast.gauss_newton.train(network, X, y, **options)
    end = trace.network.to_dense()
    order = np.arange(end.width)
    order[BLOCK:] = order[BLOCK:][::-1]
    return replace(trace, network=TwoLayerNetwork(end.weights[order], end.signs[order], end.shift))


def train_to_half_the_labels(
    network: TwoLayerNetwork, X: FloatArray, y: FloatArray, **options: Any  # noqa: ANN401
) -> Trace[Any]:
    """Fit half of each label; the run itself looks converged."""
    return fast.gauss_newton.train(network, X, y / 2, **options)


def with_frozen_shift(width: int, dim: int, *, shift: float, rng: np.random.Generator) -> TwoLayerNetwork:
    """Draw with the shift of the narrowest network at every width."""
    return initialize(width, dim, shift=shift_for(NARROWEST, ALPHA), rng=rng)


FAULTS: tuple[Fault, ...] = (
    Fault(
        "strays-that-cancel",
        "Two neurons that fire nowhere move far away, where they cancel in every prediction.",
        "value",
        {"stability.within": "fails"},
        {"train": train_with_strays},
        only=narrow,
    ),
    Fault(
        "neurons-in-another-order",
        "Beyond the first block the trained network lists its neurons in reverse: every prediction is right.",
        "value",
        {f"stability.{claim}": "fails" for claim in ("falls", "radius", "within", "flips", "predicted")},
        {"train": train_in_another_order},
        only=narrow,
    ),
    Fault(
        "frozen-shift-in-training",
        "The shift is that of the narrowest network at every width.",
        "value",
        {"stability.radius": "fails"},
        {"initialize": with_frozen_shift},
        only=narrow,
    ),
    Fault(
        "half-the-labels",
        "Training fits half of each label and reports that it converged.",
        "value",
        {f"stability.{claim}": "invalid" for claim in ("falls", "radius", "within", "flips", "predicted")},
        {"train": train_to_half_the_labels},
        only=narrow,
    ),
)
