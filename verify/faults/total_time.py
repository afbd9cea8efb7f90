"""Planted faults for the claims about total time: an early stop, missing neurons, a draw that costs too much."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.special import ndtr

import fast.gauss_newton
import fast.lazy_width
from fast.lazy_width import LazyNetwork
from fast.two_layer import ImplicitNetwork
from reference.notation import FloatArray
from reference.trace import Trace
from verify.claims import total_time
from verify.experiment import Experiment, Finding, Inputs, Result
from verify.faults.fault import Fault
from verify.faults.lazy_width import without_unseen

NEURONS_A_ROUND = 250


def stop_early(
    network: LazyNetwork, X: FloatArray, y: FloatArray, *, iterations: int, tolerance: float
) -> Trace[ImplicitNetwork]:
    """Stop at a residual of 1e-6, and say that it has converged."""
    trace = fast.gauss_newton.train(network, X, y, iterations=iterations, tolerance=1e-6)
    return replace(trace, residual_norms=np.append(trace.residual_norms, 0.0), converged=True)


def draw_beyond(
    X: FloatArray, *, width: int, shift: float, rng: np.random.Generator, unseen: FloatArray | None
) -> LazyNetwork:
    """Draw only the neurons whose scores exceed the shift by 5%."""
    network = fast.lazy_width.initialize(X, width=width, shift=1.05 * shift, rng=rng, unseen=unseen)
    return replace(network, shift=shift)


def draw_again(
    X: FloatArray, *, width: int, shift: float, rng: np.random.Generator, unseen: FloatArray | None
) -> LazyNetwork:
    """Draw the more networks the more neurons fire, note where each fires, and return the last."""
    noted = []
    for _ in range(max(1, round(width * ndtr(-shift) / NEURONS_A_ROUND))):
        network = fast.lazy_width.initialize(X, width=width, shift=shift, rng=rng, unseen=unseen)
        noted.append(network.weights @ network.points.T >= shift)
    return network


def decide_with_another_control(results: Sequence[tuple[Inputs, Result]]) -> list[Finding]:
    """Decide with a second reading of the kernel that takes 1.3 times as long as the first."""
    return total_time.decide([(i, {**r, "kernel": [r["kernel"][0], 1.3 * r["kernel"][0]]}) for i, r in results])


def another_control(experiment: Experiment) -> Experiment:
    """Put that decision in the place of the experiment's."""
    return replace(experiment, decide=decide_with_another_control)


def ends(inputs: Inputs) -> bool:
    """Take two seeds, and the smallest and the largest of the widths that exponents are fitted from."""
    exponents = {total_time.PAPER: (14, 18), total_time.SPARSE: (28, 40)}[inputs["alpha"]]
    return bool(inputs["exponent"] in exponents and inputs["seed"] < 2)


def most(inputs: Inputs) -> bool:
    """Take all seeds, and leave out the widths between these at alpha = 0.6, where drawing again takes long."""
    return bool(inputs["alpha"] == total_time.PAPER or inputs["exponent"] in (28, 40))


FAULTS = (
    Fault(
        "early-stop",
        "Training stops at a relative residual of 1e-6, and reports 0.",
        "value",
        {"total_time.converged": "fails"},
        {"train": stop_early},
        only=ends,
    ),
    Fault(
        "drawn-beyond-the-shift",
        "Only neurons whose scores exceed the shift by 5% are drawn.",
        "value",
        {"total_time.neurons": "fails"},
        {"lazy_initialize": draw_beyond},
        only=ends,
    ),
    Fault(
        "unseen-points-ignored-in-time",
        "Only neurons that fire on a point to train on are drawn; unseen points are taken note of.",
        "value",
        {"total_time.neurons": "fails"},
        {"lazy_initialize": without_unseen},
        only=ends,
    ),
    Fault(
        "drawn-again",
        "The more neurons fire, the more often all are drawn again; where they fire is kept every time.",
        "cost",
        {
            "total_time.sublinear": "fails",
            "total_time.law": "fails",
            "total_time.trillion": "fails",
            "total_time.memory": "fails",
        },
        {"lazy_initialize": draw_again},
        only=most,
    ),
    Fault(
        "kernel-that-differs",
        "The second reading of the control kernel is that of a slower one.",
        "statistics",
        {"total_time.sublinear": "invalid", "total_time.law": "invalid", "total_time.trillion": "invalid"},
        alter=another_control,
    ),
)
"""One fault at least for each claim, besides the one in the control."""
