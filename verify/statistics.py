"""How measurements become verdicts: intervals over seeds, fits, and three-way decisions.

The unit of evidence is a *seed*: independent weights and data. Numbers measured within one seed share its
weights and are dependent, so they are first reduced to one number per seed; every interval is over seeds::

    t_interval            mean +- t_(S-1) s / sqrt(S)                     S seeds, s their standard deviation
    proportion_interval   Clopper-Pearson, from Beta quantiles            never less than the nominal coverage
    slope                 least squares  y ~ slope x + intercept          of one seed's numbers
    log_power_fit         least squares  log k ~ c + s log m + q log log m    q takes up logarithmic factors
    named_terms_fit       min sum_i (1 - sum_j c_j term_ij / work_i)^2,  c >= 0,  seeds resampled

A decision compares an interval with a margin that was fixed beforehand. Two-sided intervals of confidence
``1 - e`` are used, so when the truth sits at the margin or beyond it, "holds" is said with probability at
most ``e / 2``; when the truth sits inside, "fails" is said with probability at most ``e / 2``. Anything
else is "undecided", and numbers that are not finite are "invalid".

What is exact: Clopper-Pearson always errs on the safe side; the t-interval is exact for normal values.
What is only approximate: `named_terms_fit`, which says how. The experiment ``calibration`` measures all of it on
known truths: ``python -m verify --claims calibration``.

Sources: Clopper, Pearson (Biometrika 1934); Student (Biometrika 1908); Hesterberg (The American
Statistician 2015) for the widened percentile interval. The coefficient floor of `named_terms_fit` is ours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import nnls
from scipy.special import betaincinv, ndtr, stdtrit

from reference.notation import FloatArray, InputError, as_float_array, check_generator
from verify.experiment import Finding, Verdict

BADNESS: tuple[Verdict, ...] = ("holds", "undecided", "fails", "invalid")
"""Of several parts of a claim the last in this order stands for the whole."""

FEWEST_SEEDS = 2
"""A standard deviation needs two values."""

FEWEST_SEEDS_TO_RESAMPLE = 5
"""Resampling fewer clusters yields too few distinct samples for a tail quantile."""


@dataclass(frozen=True)
class Interval:
    """An estimate with its interval; an open end is infinite."""

    estimate: float
    low: float
    high: float


NOT_A_NUMBER = Interval(math.nan, math.nan, math.nan)


def t_interval(values: ArrayLike, *, confidence: float = 0.95) -> Interval:
    """Estimate a mean with Student's interval.

    Parameters
    ----------
    values : array_like (S,)
        One number per seed. If any is NaN or infinite, so is the interval, and every decision about it
        "invalid".
    confidence : float
        Coverage, in (0, 1).

    Returns
    -------
    Interval

    Raises
    ------
    InputError
        Fewer than two values, or ``confidence`` out of range.

    Examples
    --------
    The half-width is ``12.706 sqrt(2) / sqrt(2)``, Student's quantile with one degree of freedom.

    >>> t_interval([1.0, 3.0])
    Interval(estimate=2.0, low=-10.706204736174694, high=14.706204736174694)
    """
    _check_confidence(confidence)
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or len(sample) < FEWEST_SEEDS:
        raise InputError(f"values has shape {sample.shape}; pass one number per seed, {FEWEST_SEEDS} or more")
    if not np.isfinite(sample).all():
        return NOT_A_NUMBER
    mean = float(sample.mean())
    quantile = float(stdtrit(len(sample) - 1, (1 + confidence) / 2))
    half = quantile * float(sample.std(ddof=1)) / math.sqrt(len(sample))
    return Interval(mean, mean - half, mean + half)


def proportion_interval(successes: int, trials: int, *, confidence: float = 0.95) -> Interval:
    """Estimate a probability with the interval of Clopper and Pearson.

    Parameters
    ----------
    successes, trials : int
        Independent trials (one per seed), and how many of them succeeded.
    confidence : float
        Least coverage, in (0, 1); each end alone errs with probability at most ``(1 - confidence) / 2``.

    Returns
    -------
    Interval

    Raises
    ------
    InputError
        No trials, counts that do not fit together, or ``confidence`` out of range.

    Examples
    --------
    60 successes in 60 trials: the one-sided 95% bound is ``0.05^(1/60)``.

    >>> round(proportion_interval(60, 60, confidence=0.90).low, 3)
    0.951
    """
    _check_confidence(confidence)
    if trials < 1 or not 0 <= successes <= trials:
        raise InputError(f"{successes} of {trials} succeeded; pass 0 <= successes <= trials and trials >= 1")
    tail = (1 - confidence) / 2
    failures = trials - successes
    low = float(betaincinv(successes, failures + 1, tail)) if successes else 0.0
    high = float(betaincinv(successes + 1, failures, 1 - tail)) if failures else 1.0
    return Interval(successes / trials, low, high)


def slope(x: ArrayLike, y: ArrayLike) -> tuple[float, float]:
    """Fit a straight line by least squares.

    Parameters
    ----------
    x, y : array_like (p,)
        Points, at least two different ``x``.

    Returns
    -------
    (float, float)
        ``(slope, intercept)``; NaN when a ``y`` is not finite.

    Raises
    ------
    InputError
        Lengths differ, or fewer than two different ``x``.

    Examples
    --------
    >>> slope([0.0, 1.0, 2.0], [1.0, 3.0, 5.0])
    (2.0, 1.0)
    """
    abscissa, ordinate = _paired("x", x, "y", y, distinct=2)
    if not np.isfinite(ordinate).all():
        return math.nan, math.nan
    centred = abscissa - abscissa.mean()
    steepness = float(centred @ ordinate / (centred @ centred))
    return steepness, float(ordinate.mean() - steepness * abscissa.mean())


def log_power_fit(m: ArrayLike, k: ArrayLike) -> tuple[float, float, float]:
    """Fit a power law with a free logarithmic factor, ``k = e^c m^s (log m)^q``, by least squares in logs.

    A bare power fits a wrong exponent very precisely when the truth carries a factor like
    ``1 / sqrt(log m)``; this fit has room for such a factor, and pays with a wider spread of ``s``.

    Parameters
    ----------
    m : array_like (p,)
        Sizes, all above 1, at least four different ones: three coefficients, and one size to spare.
    k : array_like (p,)
        What was measured; all positive.

    Returns
    -------
    (float, float, float)
        ``(s, q, c)``; NaN when a ``k`` is not positive and finite.

    Raises
    ------
    InputError
        Lengths differ, sizes not above 1, or fewer than four different sizes.

    Examples
    --------
    >>> m = np.array([10.0, 100.0, 1000.0, 10000.0])
    >>> s, q, c = log_power_fit(m, 3 * m**0.5 * np.log(m) ** 2)
    >>> round(s, 9), round(q, 9), round(float(np.exp(c)), 9)
    (0.5, 2.0, 3.0)
    """
    sizes, measured = _paired("m", m, "k", k, distinct=4)
    if sizes.min() <= 1:
        raise InputError(f"the smallest m is {sizes.min()}; pass sizes above 1, where log log m exists")
    if not (np.isfinite(measured).all() and measured.min() > 0):
        return math.nan, math.nan, math.nan
    log_m, log_log_m, log_k = np.log(sizes), np.log(np.log(sizes)), np.log(measured)
    # log m and log log m are nearly parallel; centred columns keep the fit accurate.
    design = np.column_stack([log_m - log_m.mean(), log_log_m - log_log_m.mean()])
    (s, q), *_ = np.linalg.lstsq(design, log_k - log_k.mean(), rcond=None)
    return float(s), float(q), float(log_k.mean() - s * log_m.mean() - q * log_log_m.mean())


def named_terms_fit(
    terms: Mapping[str, ArrayLike],
    work: ArrayLike,
    seeds: ArrayLike,
    rng: np.random.Generator,
    *,
    confidence: float = 0.95,
    resamples: int = 1000,
) -> dict[str, Interval]:
    """Explain work by named terms, ``work ~ sum_j c_j term_j`` with ``c_j >= 0``, on relative error.

    Each row is divided by its work, so that a cell of a thousand operations counts as much as one of a
    billion. The intervals come from fits to whole seeds drawn with replacement, between percentiles that
    are widened for few seeds: level ``Phi(-sqrt(S / (S - 1)) t)`` in place of ``Phi(-z)`` (Hesterberg 2015).

    **A coefficient of zero.** Where counts are exact, or a term is pressed against the bound ``c_j >= 0``,
    every resample gives the same number and the percentiles collapse to a point: they see how seeds differ,
    not how the model misfits. The upper end is therefore raised, if need be, to a floor::

        c_j + (root mean square of the relative misfit) / max_i (term_ij / work_i)

    the size at which the term alone, in the cell where it weighs most, would contribute as much as the fit
    leaves unexplained; a smaller coefficient could pass unnoticed. The floor vanishes only when the fit is
    exact: then ``[0, 0]`` says that the named terms account for every operation, which is an identity and
    no statistics. A scale of misfit is not a proof: terms that mimic each other on the chosen grid can
    still trade places, so the grid must vary n, d and m separately.

    **True error.** The lower end is a percentile alone, and errs more often than its level says; the claim
    ``calibration.terms`` bounds how often either end does.

    Parameters
    ----------
    terms : mapping of str to array_like (p,)
        Each term's value in every cell; non-negative, not all zero.
    work : array_like (p,)
        Counted work in every cell; positive.
    seeds : array_like (p,)
        Which seed each cell belongs to; at least five different ones.
    rng : numpy.random.Generator
        Draws the resamples.
    confidence : float
        Nominal coverage, in (0, 1).
    resamples : int
        Number of resamples.

    Returns
    -------
    dict of str to Interval
        One per term, in the order given.

    Raises
    ------
    InputError
        Lengths differ, numbers out of range, no terms, or too few seeds.

    Examples
    --------
    >>> size = np.array([1.0, 2.0, 4.0] * 5)
    >>> fit = named_terms_fit({"linear": size, "square": size**2}, 3 * size, np.repeat(range(5), 3),
    ...                       np.random.default_rng(0), resamples=20)
    >>> [round(fit[name].high, 9) for name in fit]
    [3.0, 0.0]
    """
    check_generator(rng)
    _check_confidence(confidence)
    design, clusters = _relative_design(terms, work, seeds)
    if resamples < 1:
        raise InputError(f"resamples is {resamples}; pass at least 1, for instance 1000")
    estimate = _nonnegative_fit(design)
    count = len(clusters)
    draws = np.empty((resamples, len(estimate)))
    for draw in draws:
        chosen = np.concatenate([clusters[c] for c in rng.integers(0, count, size=count)])
        draw[:] = _nonnegative_fit(design[chosen])
    tail = float(ndtr(-math.sqrt(count / (count - 1)) * float(stdtrit(count - 1, (1 + confidence) / 2))))
    low, high = np.quantile(draws, [tail, 1 - tail], axis=0)
    misfit = math.sqrt(float(np.mean((1 - design @ estimate) ** 2)))
    floor = estimate + misfit / design.max(axis=0)
    return {
        name: Interval(float(estimate[j]), float(min(low[j], estimate[j])), float(max(high[j], floor[j])))
        for j, name in enumerate(terms)
    }


def decide_inside(interval: Interval, low: float, high: float) -> Verdict:
    """Decide "the truth lies in [low, high]".

    Parameters
    ----------
    interval : Interval
        What was measured.
    low, high : float
        The margin, fixed beforehand; either may be infinite.

    Returns
    -------
    Verdict
        "holds" when the margin contains the interval, "fails" when they do not meet, "undecided" otherwise;
        "invalid" when the estimate is not finite or an end is NaN.

    Raises
    ------
    InputError
        ``low`` above ``high``, or NaN.

    Examples
    --------
    >>> [decide_inside(Interval(e, e - 1, e + 1), -2, 2) for e in (0.5, 1.5, 3.5, float("nan"))]
    ['holds', 'undecided', 'fails', 'invalid']
    """
    if not low <= high:
        raise InputError(f"the margin is [{low}, {high}]; pass low <= high, neither of them NaN")
    if not math.isfinite(interval.estimate) or math.isnan(interval.low) or math.isnan(interval.high):
        return "invalid"
    if low <= interval.low and interval.high <= high:
        return "holds"
    if interval.high < low or interval.low > high:
        return "fails"
    return "undecided"


def decide_below(interval: Interval, bound: float) -> Verdict:
    """Decide "the truth is at most ``bound``"; see `decide_inside`.

    Examples
    --------
    >>> [decide_below(Interval(e, e - 1, e + 1), 2) for e in (1.0, 2.0, 3.5)]
    ['holds', 'undecided', 'fails']
    """
    return decide_inside(interval, -math.inf, bound)


def decide_above(interval: Interval, bound: float) -> Verdict:
    """Decide "the truth is at least ``bound``"; see `decide_inside`.

    Examples
    --------
    >>> [decide_above(Interval(e, e - 1, e + 1), 2) for e in (3.0, 2.0, 0.5)]
    ['holds', 'undecided', 'fails']
    """
    return decide_inside(interval, bound, math.inf)


def make_finding(
    claim_id: str, interval: Interval | None, verdict: Verdict, *, margin: str, domain: str, reason: str
) -> Finding:
    """Make a Finding from an interval; open ends and numbers that are not finite become ``None``.

    Parameters
    ----------
    claim_id : str
        ``experiment.part``.
    interval : Interval or None
        What was measured, if anything.
    verdict : Verdict
        The decision. That a claim holds, with an estimate that is not finite, is "invalid".
    margin, domain, reason : str
        See `Finding`.

    Returns
    -------
    Finding
    """
    if interval is None:
        return Finding(claim_id, verdict, None, None, margin, domain, reason)
    if verdict == "holds" and not math.isfinite(interval.estimate):
        verdict = "invalid"
    estimate, low, high = (
        x if math.isfinite(x) else None for x in (interval.estimate, interval.low, interval.high)
    )
    ends = None if low is None and high is None else (low, high)
    return Finding(claim_id, verdict, estimate, ends, margin, domain, reason)


def contradicted(finding: Finding) -> Finding:
    """Withdraw a finding that rests on counters which a witness contradicts; one that fails anyway stays so.

    Parameters
    ----------
    finding : Finding
        What the counters said.

    Returns
    -------
    Finding
        With the verdict "invalid", or the same finding if it fails.
    """
    if finding.verdict == "fails":
        return finding
    return replace(finding, verdict="invalid", reason=f"The witness contradicts the counters. {finding.reason}")


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise InputError(f"confidence is {confidence}; pass a number between 0 and 1, for instance 0.95")


def _paired(
    x_name: str, x: ArrayLike, y_name: str, y: ArrayLike, *, distinct: int
) -> tuple[FloatArray, FloatArray]:
    abscissa = as_float_array(x_name, x, 1)
    ordinate = np.asarray(y, dtype=np.float64)
    if ordinate.shape != abscissa.shape:
        raise InputError(f"{x_name} is {abscissa.shape}, {y_name} is {ordinate.shape}; make them equal")
    found = len(np.unique(abscissa))
    if found < distinct:
        raise InputError(f"{x_name} has {found} different value(s); measure at {distinct} or more")
    return abscissa, ordinate


def _relative_design(
    terms: Mapping[str, ArrayLike], work: ArrayLike, seeds: ArrayLike
) -> tuple[FloatArray, list[NDArray[np.intp]]]:
    """Check the arguments of `named_terms_fit`; return terms over work (p, terms) and each seed's rows."""
    if not terms:
        raise InputError("terms is empty; name at least one term")
    counted = as_float_array("work", work, 1)
    if counted.min() <= 0:
        raise InputError(f"work[{int(np.argmin(counted))}] is {counted.min()}; leave out cells without work")
    columns = []
    for name, values in terms.items():
        column = as_float_array(f"term {name!r}", values, 1)
        if column.shape != counted.shape:
            raise InputError(f"term {name!r} has {column.size} entries, work {counted.size}; make them equal")
        if column.min() < 0 or not column.any():
            raise InputError(f"term {name!r} is negative somewhere or zero everywhere; leave it out")
        columns.append(column / counted)
    labels = np.asarray(seeds)
    if labels.shape != counted.shape:
        raise InputError(f"seeds has shape {labels.shape}, work {counted.shape}; pass one seed per cell")
    clusters = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    if len(clusters) < FEWEST_SEEDS_TO_RESAMPLE:
        raise InputError(f"there are {len(clusters)} seed(s); measure {FEWEST_SEEDS_TO_RESAMPLE} or more")
    return np.column_stack(columns), clusters


def _nonnegative_fit(design: FloatArray) -> FloatArray:
    """Minimize ``||1 - design c||`` over ``c >= 0``; columns are brought to unit size first, for accuracy."""
    size = design.max(axis=0)
    size = np.where(size > 0, size, 1.0)
    fitted, _ = nnls(design / size, np.ones(len(design)))
    coefficients: FloatArray = fitted / size
    return coefficients
