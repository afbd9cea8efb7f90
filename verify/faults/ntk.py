"""Faults in the kernel, in the draw of networks, in the Gram matrix, and in the constants that theory gives."""

from __future__ import annotations

import math

import numpy as np

from fast.gram import gram
from fast.shifted_ntk import shifted_ntk
from reference.notation import FloatArray
from reference.signals import second_moment
from reference.two_layer import TwoLayerNetwork, initialize, shift_for
from verify.experiment import Inputs
from verify.faults.fault import Fault


def few_seeds(inputs: Inputs) -> bool:
    """Keep some seeds of each part."""
    return bool(inputs.get("seed", 0) < (12 if inputs["part"] == "rate" else 2))


def fewest_seeds(inputs: Inputs) -> bool:
    """Keep two seeds of each part, where the error is not one of sampling."""
    return bool(inputs.get("seed", 0) < 2)


def scaled_kernel(X: FloatArray, shift: float) -> FloatArray:
    """Compute the kernel 5% too large."""
    return 1.05 * np.asarray(shifted_ntk(X, shift))


def rounded_kernel(X: FloatArray, shift: float) -> FloatArray:
    """Round the kernel to single precision."""
    return np.asarray(shifted_ntk(X, shift)).astype(np.float32).astype(np.float64)


def kernel_without_shift(X: FloatArray, shift: float) -> FloatArray:
    """Compute the kernel of the plain ReLU."""
    return np.asarray(shifted_ntk(X, 0.0))


def nan_at_opposite_points(X: FloatArray, shift: float) -> FloatArray:
    """Compute no number where two points are opposite, or nearly so."""
    K = np.asarray(shifted_ntk(X, shift))
    return np.where(X @ X.T < -1 + 1e-12, np.nan, K)


def copied_neurons(width: int, dim: int, *, shift: float, rng: np.random.Generator) -> TwoLayerNetwork:
    """Draw every neuron once and use it twice: half the evidence, the same limit and the same slope."""
    network = initialize(width // 2, dim, shift=shift, rng=rng)
    return TwoLayerNetwork(np.tile(network.weights, (2, 1)), np.tile(network.signs, 2), network.shift)


def narrow_weights(width: int, dim: int, *, shift: float, rng: np.random.Generator) -> TwoLayerNetwork:
    """Draw weights 5% too small."""
    network = initialize(width, dim, shift=shift, rng=rng)
    return TwoLayerNetwork(0.95 * network.weights, network.signs, network.shift)


def frozen_width(width: int, dim: int, *, shift: float, rng: np.random.Generator) -> TwoLayerNetwork:
    """Draw 256 neurons, whatever the width."""
    return initialize(256, dim, shift=shift, rng=rng)


def gram_without_half(network: TwoLayerNetwork, X: FloatArray) -> FloatArray:
    """Leave every other neuron out, and forget to rescale."""
    half = TwoLayerNetwork(network.weights[::2], network.signs[::2], network.shift)
    return np.asarray(gram(half, X)) / 2


def shift_with_constant_045(width: int, alpha: float) -> float:
    """Return the shift with 0.45 where 0.48 belongs."""
    return math.sqrt(0.45 / 0.48) * shift_for(width, alpha)


def second_moment_off(shift: float) -> float:
    """Return ``c_b`` without a millionth of one of its terms, ``Phi(-b)``."""
    return second_moment(shift) - 1e-6 * math.erfc(shift / math.sqrt(2)) / 2


FAULTS: tuple[Fault, ...] = (
    Fault(
        "kernel-5-percent-too-large",
        "The kernel is 5% too large, so that the Gram matrix tends to something else.",
        "value",
        {"ntk.rate": "fails", "ntk.routes": "fails"},
        {"shifted_ntk": scaled_kernel},
        only=few_seeds,
    ),
    Fault(
        "kernel-in-single-precision",
        "The kernel is rounded to single precision.",
        "value",
        {"ntk.routes": "fails"},
        {"shifted_ntk": rounded_kernel},
        only=fewest_seeds,
    ),
    Fault(
        "kernel-without-shift",
        "The kernel is that of the plain ReLU at every shift.",
        "value",
        {"ntk.routes": "fails", "ntk.lambda_min": "fails"},
        {"shifted_ntk": kernel_without_shift},
        only=fewest_seeds,
    ),
    Fault(
        "kernel-nan-at-opposite-points",
        "The kernel of opposite points is NaN.",
        "value",
        {"ntk.routes": "fails"},
        {"shifted_ntk": nan_at_opposite_points},
        only=fewest_seeds,
    ),
    Fault(
        "frozen-width",
        "Networks have 256 neurons, whatever the width asked for.",
        "value",
        {"ntk.rate": "fails"},
        {"initialize": frozen_width},
        only=few_seeds,
    ),
    Fault(
        "gram-without-half",
        "The Gram matrix leaves out every other neuron.",
        "value",
        {"ntk.rate": "fails", "ntk.level": "fails"},
        {"gram": gram_without_half},
        only=few_seeds,
    ),
    Fault(
        "copied-neurons",
        "Every neuron is drawn once and used twice: the limit and the rate are right.",
        "statistics",
        {"ntk.level": "fails"},
        {"initialize": copied_neurons},
        only=few_seeds,
    ),
    Fault(
        "narrow-weights",
        "Initial weights are 5% too small.",
        "value",
        {"ntk.level": "fails"},
        {"initialize": narrow_weights},
        only=few_seeds,
    ),
    Fault(
        "wrong-constant-in-the-shift",
        "The code's shift is sqrt(0.45 ln m) where theory says sqrt(0.48 ln m).",
        "value",
        {"ntk.exponent": "fails"},
        {"shift_for": shift_with_constant_045},
        only=fewest_seeds,
    ),
    Fault(
        "wrong-second-moment",
        "The code's c_b is off by a millionth of Phi(-b).",
        "value",
        {"ntk.identities": "fails"},
        {"second_moment": second_moment_off},
        only=fewest_seeds,
    ),
)
