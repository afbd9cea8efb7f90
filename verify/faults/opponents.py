"""Faults that `verify.claims.opponents` must catch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import fast.first_order
import fast.gauss_newton
from reference.notation import FloatArray
from reference.trace import Trace
from verify.faults.fault import Fault

Train = Callable[..., Trace[Any]]


class ShortSteps(fast.gauss_newton.EventRun):
    """Takes a fifth of every step."""

    def _solve(self) -> FloatArray:
        return super()._solve() / 5


def train_by_short_steps(*problem: Any, iterations: int, tolerance: float, **options: Any) -> Trace[Any]:  # noqa: ANN401
    """Train by a fifth of every step."""
    return ShortSteps(*problem, **options).run(iterations, tolerance)


def records_a_share(*problem: Any, train: Train, share: float, **options: Any) -> Trace[Any]:  # noqa: ANN401
    """Train, and record only a share of the work."""
    trace = train(*problem, **options)
    return replace(trace, counts=[{phase: int(share * work) for phase, work in each.items()} for each in trace.counts])


def repeats(*problem: Any, train: Train, times: int, **options: Any) -> Trace[Any]:  # noqa: ANN401
    """Train several times, and return the last run."""
    for _ in range(times - 1):
        train(*problem, **options)
    return train(*problem, **options)


def drops_nothing(*problem: Any, compact: bool, **options: Any) -> Trace[Any]:  # noqa: ANN401
    """Train by L-BFGS over all neurons, whatever is asked for."""
    del compact
    return fast.first_order.train_lbfgs(*problem, compact=False, **options)


OPPONENTS: dict[str, Train] = {
    "train_momentum": fast.first_order.train_momentum,
    "train_adam": fast.first_order.train_adam,
    "train_lbfgs": fast.first_order.train_lbfgs,
}

FAULTS: tuple[Fault, ...] = (
    Fault(
        "opponents-short-steps",
        "Gauss-Newton takes a fifth of every step.",
        "value",
        {"opponents.iterations": "fails"},
        {"train": train_by_short_steps},
    ),
    Fault(
        "opponents-record-a-tenth",
        "First-order methods record a tenth of their work.",
        "cost",
        {"opponents.work_random": "fails", "opponents.work_pairs": "fails"},
        {name: partial(records_a_share, train=train, share=0.1) for name, train in OPPONENTS.items()},
    ),
    Fault(
        "gauss-newton-records-a-tenth",
        "Gauss-Newton records a tenth of its work.",
        "cost",
        {"opponents.loose": "fails"},
        {"train": partial(records_a_share, train=fast.gauss_newton.train, share=0.1)},
    ),
    Fault(
        "lbfgs-drops-nothing",
        "L-BFGS keeps the neurons that fire nowhere.",
        "cost",
        {"opponents.compacting": "fails"},
        {"train_lbfgs": drops_nothing},
    ),
    Fault(
        "opponents-run-six-times",
        "First-order methods run six times instead of once.",
        "cost",
        {"opponents.time_random": "fails"},
        {name: partial(repeats, train=train, times=6) for name, train in OPPONENTS.items()},
    ),
    Fault(
        "gauss-newton-runs-ten-times",
        "Gauss-Newton runs ten times instead of once.",
        "cost",
        {"opponents.time_pairs": "fails", "opponents.time_wide": "fails"},
        {"train": partial(repeats, train=fast.gauss_newton.train, times=10)},
    ),
)
