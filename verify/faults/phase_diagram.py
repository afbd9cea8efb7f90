"""Planted faults for the phase diagram: residuals that are not there, steps that are too short, cells all alike."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from verify.claims import phase_diagram
from verify.experiment import CodeUnderTest, Experiment, Inputs, Result
from verify.faults import loops
from verify.faults.fault import Fault


def measure_one_place(inputs: Inputs, rng: np.random.Generator, code: CodeUnderTest) -> Result:
    """Measure at one angle and one alpha, whatever the cell asks for."""
    return phase_diagram.measure({**inputs, "angle": 0.7, "alpha": 0.24}, rng, code)


def one_place(experiment: Experiment) -> Experiment:
    """Put that measurement in the place of the experiment's."""
    return replace(experiment, measure=measure_one_place)


def few(inputs: Inputs) -> bool:
    """Take three seeds."""
    return bool(inputs["seed"] < 3)


def most(inputs: Inputs) -> bool:
    """Take six seeds: single widths scatter by a factor of two or more."""
    return bool(inputs["seed"] < 6)


FAULTS = (
    Fault(
        "residual-from-the-recurrence",
        "Residuals follow the linear model, r - G g, and are never recomputed: no run fails to halve.",
        "value",
        {
            "phase_diagram.separation": "invalid",
            "phase_diagram.alpha": "invalid",
            "phase_diagram.theorem": "invalid",
            "phase_diagram.limit": "fails",
        },
        {"train": partial(loops.train, events=loops.RecurrentEvents)},
        only=few,
    ),
    Fault(
        "cells-all-alike",
        "A sweep ignores what its cells ask for, and measures them all at angle 0.7 and alpha 0.24.",
        "statistics",
        {
            "phase_diagram.separation": "fails",
            "phase_diagram.alpha": "fails",
            "phase_diagram.limit": "fails",
        },
        alter=one_place,
        only=most,
    ),
    Fault(
        "step-0.4-at-every-width",
        "Every step is 0.4 of Gauss-Newton's.",
        "value",
        {"phase_diagram.theorem": "fails"},
        {"train": partial(loops.train, events=loops.TimidEvents)},
        only=few,
    ),
)
"""One fault at least for each claim."""
