"""Planted faults of signals in depth: a wrong constant, other networks than asked for, and wrong predictions."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Any

import reference.multi_layer
import reference.signals
from reference.multi_layer import MultiLayerNetwork
from verify.faults.deep_routines import few, never_normalized
from verify.faults.fault import Fault


def moment_without_shift(shift: float) -> float:
    """Return ``c_0`` at every shift."""
    return reference.signals.second_moment(0.0)


def variance(shift: float) -> float:
    """Return the variance of ``max(Z - b, 0)``, not its second moment."""
    density = math.exp(-(shift**2) / 2) / math.sqrt(2 * math.pi)
    mean = density - shift * math.erfc(shift / math.sqrt(2)) / 2
    return reference.signals.second_moment(shift) - mean**2


def lowered_shift(*args: Any, shift: float, **options: Any) -> MultiLayerNetwork:  # noqa: ANN401
    """Draw a network whose shift is a tenth too low."""
    return reference.multi_layer.initialize(*args, shift=0.9 * shift, **options)


def spread_of_gain_once(width: int, shift: float, layer: int) -> float:
    """Predict the spread with the gain in the place of its square."""
    powers = sum(reference.signals.gain(shift) ** power for power in range(layer))
    return math.sqrt((reference.signals.kurtosis(shift) - 1) / width * powers)


def spread_of_two_layers(width: int, shift: float, layer: int) -> float:
    """Predict a spread of 1 beyond the second layer."""
    return 1.0 if layer > 2 else reference.signals.spread(width, shift, layer)


def gain_without_shift(shift: float) -> float:
    """Return the gain of the plain ReLU at every shift."""
    return reference.signals.gain(0.0)


def layers_alike(*args: Any, **options: Any) -> MultiLayerNetwork:  # noqa: ANN401
    """Draw a network that has the matrix of its second layer in all later ones, too."""
    network = reference.multi_layer.initialize(*args, **options)
    first, *others = network.weights
    return replace(network, weights=(first, *others[:1] * len(others)))


def wide_enough_on_average(alpha: float, depth: int, *, normalized: bool = False, n: int = 32) -> int | None:
    """Recommend a width as if no signal were weaker than the mean."""
    return reference.signals.wide_enough(alpha, depth, normalized=True, n=n)


FAULTS: tuple[Fault, ...] = (
    Fault(
        "constant-without-shift",
        "The constant c that keeps the length of a signal is that of the plain ReLU.",
        "value",
        {"signals.drifts": "fails"},
        {"second_moment": moment_without_shift},
        only=partial(few, 5),
    ),
    Fault(
        "constant-from-the-variance",
        "The constant c is made from the variance of a shifted ReLU, not from its second moment.",
        "value",
        {"signals.norm": "fails"},
        {"second_moment": variance},
        only=partial(few, 5),
    ),
    Fault(
        "lowered-shift",
        "Networks are drawn with a shift that is a tenth lower than asked for.",
        "value",
        {"signals.fired": "fails"},
        {"deep_initialize": lowered_shift},
        only=partial(few, 5),
    ),
    Fault(
        "spread-of-gain-once",
        "The predicted spread sums up powers of the gain, not of its square.",
        "value",
        {"signals.spread": "fails"},
        {"signal_spread": spread_of_gain_once},
        only=partial(few, 5),
    ),
    Fault(
        "spread-of-two-layers",
        "Beyond the second layer the predicted spread is 1.",
        "value",
        {"signals.spread": "fails"},
        {"signal_spread": spread_of_two_layers},
        only=partial(few, 5),
    ),
    Fault(
        "layers-alike",
        "The weights of the second layer are those of every later one, too.",
        "statistics",
        {"signals.fired": "fails"},
        {"deep_initialize": layers_alike},
        only=partial(few, 5),
    ),
    Fault(
        "gain-without-shift",
        "The predicted gain is that of the plain ReLU.",
        "value",
        {"signals.gain": "fails"},
        {"signal_gain": gain_without_shift},
        only=partial(few, 5),
    ),
    Fault(
        "width-for-the-mean",
        "The recommended width leaves out how much signals fluctuate.",
        "value",
        {"signals.healthy": "fails"},
        {"wide_enough": wide_enough_on_average},
        only=partial(few, 5),
    ),
    Fault(
        "never-normalized",
        "Networks are drawn plain when normalized ones are asked for.",
        "value",
        {
            "signals.normalized": "fails",
            "deep_phase_diagram.normalized_narrower": "fails",
            "deep_phase_diagram.sparse": "fails",
        },
        {"deep_initialize": never_normalized},
        only=partial(few, 5),
    ),
)
"""Each claim of `verify.claims.signals` is flipped by one of them at least."""
