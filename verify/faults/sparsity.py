"""Faults in how many neurons fire, in what the trees report of them, and in the independence of trials."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from fast.threshold_search import ThresholdForest
from reference.notation import IntArray
from reference.two_layer import TwoLayerNetwork, initialize
from verify.experiment import CodeUnderTest, Experiment, Inputs, Profile, Result, Verdict
from verify.faults.fault import Fault

NARROWEST = 1 << 10
"""The narrowest network of the experiment."""
BEYOND = 1 << 23
"""Wider than any."""


def narrow(inputs: Inputs) -> bool:
    """Keep widths to 2^16, a fifth of the work."""
    return bool(inputs["width"] <= 1 << 16)


class ForgetfulForest(ThresholdForest):
    """Loses every hundredth pair."""

    def query(self, threshold: float) -> tuple[IntArray, IntArray]:
        """Query, and forget."""
        data_index, neuron_index = super().query(threshold)
        keep = np.arange(len(data_index)) % 100 != 99
        return data_index[keep], neuron_index[keep]


class InventiveForest(ThresholdForest):
    """Puts one pair that does not fire in the place of one that does, so the count is right."""

    def query(self, threshold: float) -> tuple[IntArray, IntArray]:
        """Query, and replace the first pair."""
        data_index, neuron_index = super().query(threshold)
        if len(neuron_index):
            silent = int(np.argmin(self.levels[0].reshape(self.n, -1)[data_index[0], : self.width]))
            neuron_index[0] = silent
        return data_index, neuron_index


class ScanOfAThousandth(ThresholdForest):
    """Takes every thousandth pair for one that fires, without a look at its score."""

    def query(self, threshold: float) -> tuple[IntArray, IntArray]:
        """Query, and add the pairs."""
        data_index, neuron_index = super().query(threshold)
        fires = np.zeros((self.n, self.width), dtype=bool)
        fires[data_index, neuron_index] = True
        fires.reshape(-1)[::1000] = True
        i, r = np.nonzero(fires)
        return i, r


def with_constant_045(width: int, dim: int, *, shift: float, rng: np.random.Generator) -> TwoLayerNetwork:
    """Draw with ``b = sqrt(0.45 ln m)`` in place of ``sqrt(0.48 ln m)``."""
    return initialize(width, dim, shift=shift * math.sqrt(0.45 / 0.48), rng=rng)


def with_frozen_shift(width: int, dim: int, *, shift: float, rng: np.random.Generator) -> TwoLayerNetwork:
    """Draw with the shift of the narrowest network at every width."""
    return initialize(width, dim, shift=shift * math.sqrt(math.log(NARROWEST) / math.log(width)), rng=rng)


def with_falling_shift(width: int, dim: int, *, shift: float, rng: np.random.Generator) -> TwoLayerNetwork:
    """Draw with ``ln(M / m)`` in place of ``ln m``: the shift falls as the width grows."""
    return initialize(width, dim, shift=shift * math.sqrt(math.log(BEYOND / width) / math.log(width)), rng=rng)


def one_seed(experiment: Experiment) -> Experiment:
    """Give every trial the same seed."""

    def cells(profile: Profile) -> list[Inputs]:
        return [{**inputs, "seed": 0} for inputs in experiment.cells(profile)]

    return replace(experiment, cells=cells)


def with_one_stream(
    inputs: Inputs, rng: np.random.Generator, code: CodeUnderTest, *, measure: Callable[..., Result]
) -> Result:
    """Measure with the same random numbers in every cell."""
    return measure(inputs, np.random.default_rng(0), code)


def one_stream(experiment: Experiment) -> Experiment:
    """Let no trial's random numbers depend on its seed."""
    return replace(experiment, measure=partial(with_one_stream, measure=experiment.measure))


ALL: dict[str, Verdict] = {
    f"sparsity.{claim}": "invalid" for claim in ("exact", "level", "slope", "sublinear", "exponent")
}

FAULTS: tuple[Fault, ...] = (
    Fault(
        "drops-1-percent",
        "The trees lose every hundredth pair that fires.",
        "value",
        {"sparsity.exact": "fails"},
        {"forest": ForgetfulForest},
        only=narrow,
    ),
    Fault(
        "one-pair-for-another",
        "The trees report a pair that does not fire in the place of one that does; the count is right.",
        "value",
        {"sparsity.exact": "fails"},
        {"forest": InventiveForest},
        only=narrow,
    ),
    Fault(
        "scan-of-a-thousandth",
        "One neuron in a thousand is taken to fire without a look at its score.",
        "cost",
        {"sparsity.exact": "fails", "sparsity.level": "fails", "sparsity.slope": "fails"},
        {"forest": ScanOfAThousandth},
        only=narrow,
    ),
    Fault(
        "constant-0.45",
        "The shift is sqrt(0.45 ln m) and not sqrt(0.48 ln m).",
        "value",
        {"sparsity.level": "fails", "sparsity.slope": "fails"},
        {"initialize": with_constant_045},
        only=narrow,
    ),
    Fault(
        "frozen-shift",
        "The shift is that of the narrowest network at every width.",
        "cost",
        {"sparsity.level": "fails", "sparsity.slope": "fails", "sparsity.exponent": "fails"},
        {"initialize": with_frozen_shift},
        only=narrow,
    ),
    Fault(
        "falling-shift",
        "The shift falls as the width grows: ln(M / m) stands where ln m should.",
        "cost",
        {
            "sparsity.level": "fails",
            "sparsity.slope": "fails",
            "sparsity.sublinear": "fails",
            "sparsity.exponent": "fails",
        },
        {"initialize": with_falling_shift},
        only=narrow,
    ),
    Fault(
        "one-seed-for-all-trials",
        "All trials of a size have the same seed, so that ten are one.",
        "statistics",
        ALL,
        alter=one_seed,
    ),
    Fault(
        "one-stream-for-all-trials",
        "Trials have seeds of their own and draw the same random numbers.",
        "statistics",
        ALL,
        alter=one_stream,
        only=narrow,
    ),
)
