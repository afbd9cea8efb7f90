"""Planted faults for the claims about the first ratio."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

import fast.lazy_width
from fast.lazy_width import LazyNetwork
from reference.notation import FloatArray
from verify.experiment import Inputs
from verify.faults import loops
from verify.faults.fault import Fault


def existing_only(X: FloatArray, *, width: int, shift: float, rng: np.random.Generator) -> LazyNetwork:
    """Take the number of neurons that exist for the width."""
    network = fast.lazy_width.initialize(X, width=width, shift=shift, rng=rng)
    return replace(network, width=len(network.signs))


def few(inputs: Inputs) -> bool:
    """Take three seeds."""
    return bool(inputs["seed"] < 3)


FAULTS = (
    Fault(
        "step-0.9-at-first",
        "Every step is 0.9 of Gauss-Newton's.",
        "value",
        {"first_ratio.law": "fails"},
        {"train": partial(loops.train, events=loops.ShortEvents)},
        only=few,
    ),
    Fault(
        "ridge-of-fixed-size",
        "A ridge on the Gram matrix, far below its entries on narrow networks, does not shrink as the width grows.",
        "value",
        {"first_ratio.law": "fails", "first_ratio.slope": "fails", "first_ratio.falls": "fails"},
        {"train": partial(loops.train, events=loops.RidgeEvents)},
        only=few,
    ),
    Fault(
        "width-of-what-exists",
        "A lazily drawn network divides by the number of neurons that exist, not by its width.",
        "value",
        {
            "first_ratio.slow": "fails",
            "first_ratio.stays": "fails",
            "first_ratio.limit": "fails",
            "first_ratio.crowded": "fails",
        },
        {"lazy_initialize": existing_only},
        only=few,
    ),
)
"""One fault at least for each claim."""
