"""Planted faults of the verdict engine: evidence that is less than it looks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri

from reference.notation import FloatArray
from verify import statistics
from verify.claims import calibration
from verify.experiment import Experiment, Inputs, Verdict
from verify.faults.fault import Fault
from verify.statistics import Interval

LARGEST = calibration.WIDTHS[-1]


def binomial_level(shares: FloatArray) -> Interval:
    """Take every neuron on every input for an independent trial."""
    p = float(shares.mean())
    half = 1.96 * math.sqrt(p * (1 - p) / (LARGEST * shares.size))
    return Interval(p, p - half, p + half)


def level_of_inputs(shares: FloatArray) -> Interval:
    """Take every input for a seed."""
    return statistics.t_interval(shares.ravel())


def normal_interval(values: ArrayLike, *, confidence: float = 0.95) -> Interval:
    """Take the normal quantile in place of Student's."""
    sample = np.asarray(values, dtype=np.float64)
    mean = float(sample.mean())
    half = float(ndtri((1 + confidence) / 2) * sample.std(ddof=1)) / math.sqrt(len(sample))
    return Interval(mean, mean - half, mean + half)


def normal_level(shares: FloatArray) -> Interval:
    """Take one number per seed, and the normal quantile."""
    return normal_interval(shares.mean(axis=1))


def wald_interval(successes: int, trials: int, *, confidence: float = 0.95) -> Interval:
    """Take the normal approximation of a proportion."""
    p = successes / trials
    half = float(ndtri((1 + confidence) / 2)) * math.sqrt(p * (1 - p) / trials)
    return Interval(p, p - half, p + half)


def collect_until_satisfied(draw: Callable[[int], FloatArray], satisfied: Callable[[FloatArray], bool]) -> FloatArray:
    """Add seeds until the claim holds, up to twelve."""
    sample = draw(2)
    while not satisfied(sample) and len(sample) < 12:
        sample = np.concatenate([sample, draw(1)])
    return sample


def collect_one(draw: Callable[[int], FloatArray], satisfied: Callable[[FloatArray], bool]) -> FloatArray:
    """Draw one seed and count it as all of them."""
    return np.repeat(draw(1), calibration.SEEDS, axis=0)


def fit_of_cells(
    terms: Mapping[str, ArrayLike],
    work: ArrayLike,
    seeds: ArrayLike,
    rng: np.random.Generator,
    **options: Any,  # noqa: ANN401
) -> dict[str, Interval]:
    """Resample single cells, as if they shared nothing, and leave out the floor of the upper end."""
    fit = statistics.named_terms_fit(terms, work, np.arange(np.size(work)), rng, **options)
    return {name: Interval(each.estimate, each.low, each.estimate) for name, each in fit.items()}


def decide_by_estimate(interval: Interval, bound: float) -> Verdict:
    """Look at the estimate alone."""
    return "holds" if interval.estimate <= bound else "fails"


def never_decide(interval: Interval, bound: float) -> Verdict:
    """Play safe."""
    return "undecided"


def with_engine(experiment: Experiment, **routines: Any) -> Experiment:  # noqa: ANN401
    """Put routines of `calibration.Engine` in the place of the true ones."""
    return replace(experiment, measure=partial(calibration.measure, engine=calibration.Engine(**routines)))


def first_parts(inputs: Inputs) -> bool:
    """Keep a quarter of the trials, enough to flip a claim."""
    return bool(inputs["part"] == 0)


def planted(identity: str, description: str, caught_by: Mapping[str, Verdict], **routines: Any) -> Fault:  # noqa: ANN401
    """Make the fault of an engine."""
    return Fault(
        identity,
        description,
        "statistics",
        {f"calibration.{claim}": verdict for claim, verdict in caught_by.items()},
        alter=partial(with_engine, **routines),
        only=first_parts,
    )


BOTH: dict[str, Verdict] = {"coverage": "fails", "false_holds": "fails", "false_fails": "fails"}
FAULTS = (
    planted(
        "binomial-error-bars",
        "Neurons on inputs that share their weights are taken for independent trials.",
        BOTH,
        level=binomial_level,
    ),
    planted("inputs-as-seeds", "Inputs that share their weights are taken for seeds.", BOTH, level=level_of_inputs),
    planted(
        "normal-quantile",
        "Intervals of few seeds use the normal quantile in place of Student's.",
        BOTH,
        level=normal_level,
        t_interval=normal_interval,
    ),
    planted("until-it-holds", "Seeds are added until the claim holds.", BOTH, collect=collect_until_satisfied),
    planted("one-seed-for-all", "One seed is measured once and counted as all of them.", BOTH, collect=collect_one),
    planted(
        "approximate-proportion",
        "The interval of a proportion is the normal approximation.",
        {"proportions": "fails"},
        proportion_interval=wald_interval,
    ),
    planted(
        "cells-as-seeds",
        "The fit of named terms resamples single cells, and its upper end is the estimate.",
        {"terms": "fails"},
        named_terms_fit=fit_of_cells,
    ),
    planted(
        "estimate-decides",
        "A bound is compared with the estimate, whatever the interval.",
        {"proportions": "fails", "false_holds": "fails", "false_fails": "fails", "terms": "fails"},
        decide_below=decide_by_estimate,
    ),
    planted("never-decides", "Every upper bound is undecided.", {"power": "fails"}, decide_below=never_decide),
)
