"""The verdict engine on known truths: coverage, error rates, and the same checks seeing planted faults."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtri
from scipy.stats import binom

from reference.notation import InputError
from verify import statistics
from verify.experiment import Verdict
from verify.statistics import Interval

SIMULATIONS = 4000
NOMINAL = 0.95
Estimator = Callable[[np.ndarray], Interval]
Draw = Callable[[np.random.Generator], np.ndarray]


def coverage(estimate: Estimator, draw: Draw, truth: float) -> float:
    rng = np.random.default_rng(20240)
    intervals = [estimate(draw(rng)) for _ in range(SIMULATIONS)]
    return float(np.mean([i.low <= truth <= i.high for i in intervals]))


def normal_interval(values: np.ndarray) -> Interval:
    half = ndtri(0.975) * values.std(ddof=1) / math.sqrt(len(values))
    return Interval(values.mean(), values.mean() - half, values.mean() + half)


def clustered_counts(rng: np.random.Generator) -> np.ndarray:
    """Ten seeds of 64 counts; the counts of a seed share its weights, so they rise and fall together."""
    rates = 0.05 * np.exp(0.2 * rng.standard_normal((10, 1)) - 0.02)
    return rng.binomial(1000, np.broadcast_to(rates, (10, 64))) / 1000


def binomial_interval(counts: np.ndarray) -> Interval:
    p = counts.mean()
    half = 1.96 * math.sqrt(p * (1 - p) / (1000 * counts.size))
    return Interval(p, p - half, p + half)


@pytest.mark.parametrize(
    ("draw", "truth"),
    [
        pytest.param(lambda rng: rng.standard_normal(10), 0.0, id="normal"),
        pytest.param(lambda rng: rng.uniform(size=10), 0.5, id="uniform"),
        pytest.param(lambda rng: rng.gamma(10, size=10), 10.0, id="skewed"),
        pytest.param(lambda rng: clustered_counts(rng).mean(axis=1), 0.05, id="counts-per-seed"),
    ],
)
def test_t_interval_covers_at_its_rate(draw: Draw, truth: float) -> None:
    assert 0.93 <= coverage(statistics.t_interval, draw, truth) <= 0.97


@pytest.mark.parametrize(
    ("fault", "draw", "truth"),
    [
        pytest.param(normal_interval, lambda rng: rng.standard_normal(10), 0.0, id="wrong-quantile"),
        pytest.param(binomial_interval, clustered_counts, 0.05, id="binomial-error-bars"),
        pytest.param(
            lambda counts: statistics.t_interval(counts.ravel()), clustered_counts, 0.05, id="inputs-as-seeds"
        ),
    ],
)
def test_coverage_check_sees_planted_faults(fault: Estimator, draw: Draw, truth: float) -> None:
    assert coverage(fault, draw, truth) < 0.93


def test_t_interval_by_hand() -> None:
    interval = statistics.t_interval([1.0, 2.0, 3.0, 4.0], confidence=0.99)
    half = 5.840909 * math.sqrt(5 / 3) / 2  # Student's table, 3 degrees of freedom, 0.995
    assert interval.estimate == 2.5
    assert interval.high == pytest.approx(2.5 + half, rel=1e-6)
    assert interval.low == pytest.approx(2.5 - half, rel=1e-6)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_t_interval_of_numbers_that_are_not_finite_is_invalid(bad: float) -> None:
    assert statistics.decide_below(statistics.t_interval([0.0, bad, 1.0]), 5.0) == "invalid"


def exact_coverage(interval: Callable[[int, int], Interval], trials: int, truth: float) -> float:
    ends = [interval(successes, trials) for successes in range(trials + 1)]
    return sum(
        binom.pmf(successes, trials, truth) for successes, i in enumerate(ends) if i.low <= truth <= i.high
    )


def wald(successes: int, trials: int) -> Interval:
    p = successes / trials
    half = 1.96 * math.sqrt(p * (1 - p) / trials)
    return Interval(p, p - half, p + half)


def test_proportion_interval_never_covers_less_than_it_says() -> None:
    truths = [(trials, truth) for trials in (1, 10, 60) for truth in (0.01, 0.1, 0.37, 0.5, 0.95, 0.999)]
    assert min(exact_coverage(statistics.proportion_interval, *pair) for pair in truths) >= NOMINAL
    assert min(exact_coverage(wald, *pair) for pair in truths) < NOMINAL


@given(trials=st.integers(1, 200), share=st.floats(0, 1), confidence=st.floats(0.5, 0.999))
def test_proportion_interval_ends_leave_half_the_error_on_each_side(
    trials: int, share: float, confidence: float
) -> None:
    successes = round(share * trials)
    interval = statistics.proportion_interval(successes, trials, confidence=confidence)
    tail = (1 - confidence) / 2
    assert interval.low <= interval.estimate <= interval.high
    if successes:
        assert binom.sf(successes - 1, trials, interval.low) == pytest.approx(tail, rel=1e-6)
    else:
        assert interval.low == 0
    if successes < trials:
        assert binom.cdf(successes, trials, interval.high) == pytest.approx(tail, rel=1e-6)
    else:
        assert interval.high == 1


def verdict_rates(truth: float, decide: Callable[[Interval], str], estimate: Estimator) -> dict[str, float]:
    rng = np.random.default_rng(7)
    verdicts = [decide(estimate(truth + rng.standard_normal(10))) for _ in range(SIMULATIONS)]
    return {word: verdicts.count(word) / SIMULATIONS for word in ("holds", "fails", "undecided", "invalid")}


DECISIONS = [
    pytest.param(lambda i: statistics.decide_below(i, 0.0), id="below"),
    pytest.param(lambda i: statistics.decide_above(i, 0.0), id="above"),
    pytest.param(lambda i: statistics.decide_inside(i, -4.0, 0.0), id="inside"),
]


@pytest.mark.parametrize("decide", DECISIONS)
def test_at_the_margin_each_wrong_verdict_has_half_the_error_rate(decide: Callable[[Interval], str]) -> None:
    rates = verdict_rates(0.0, decide, statistics.t_interval)
    spread = 4 * math.sqrt(0.025 * 0.975 / SIMULATIONS)
    assert abs(rates["holds"] - 0.025) < spread
    assert abs(rates["fails"] - 0.025) < spread
    faulty = verdict_rates(0.0, decide, normal_interval)
    assert faulty["holds"] > 0.025 + spread


def test_clear_truths_get_clear_verdicts() -> None:
    def below(interval: Interval) -> str:
        return statistics.decide_below(interval, 0.0)

    assert verdict_rates(-2.0, below, statistics.t_interval)["holds"] > 0.99
    assert verdict_rates(2.0, below, statistics.t_interval)["fails"] > 0.99


finite = st.floats(-1e6, 1e6)


@given(ends=st.lists(finite, min_size=3, max_size=3), margin=st.lists(finite, min_size=2, max_size=2))
def test_decide_inside_follows_its_definition(ends: list[float], margin: list[float]) -> None:
    low, estimate, high = sorted(ends)
    bottom, top = sorted(margin)
    verdict = statistics.decide_inside(Interval(estimate, low, high), bottom, top)
    assert (verdict == "holds") == (bottom <= low <= high <= top)
    assert (verdict == "fails") == (high < bottom or low > top)
    assert verdict != "invalid"


@given(ends=st.lists(finite, min_size=3, max_size=3), bound=finite)
def test_below_and_above_mirror_each_other(ends: list[float], bound: float) -> None:
    low, estimate, high = sorted(ends)
    below = statistics.decide_below(Interval(estimate, low, high), bound)
    assert below == statistics.decide_above(Interval(-estimate, -high, -low), -bound)


def test_an_end_on_the_margin_holds_and_an_open_end_decides_nothing() -> None:
    assert statistics.decide_below(Interval(0.0, 0.0, 0.0), 0.0) == "holds"
    assert statistics.decide_below(Interval(0.0, -math.inf, math.inf), 1.0) == "undecided"


@pytest.mark.parametrize(
    "interval",
    [
        Interval(math.nan, 0.0, 1.0),
        Interval(math.inf, 0.0, 1.0),
        Interval(0.5, math.nan, 1.0),
        Interval(0.5, 0.0, math.nan),
    ],
)
def test_numbers_that_are_no_numbers_are_invalid(interval: Interval) -> None:
    assert statistics.decide_inside(interval, -5.0, 5.0) == "invalid"
    assert statistics.decide_below(interval, 5.0) == "invalid"
    assert statistics.decide_above(interval, -5.0) == "invalid"


@given(seed=st.integers(0, 2**32 - 1), points=st.integers(2, 20))
def test_slope_is_least_squares(seed: int, points: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((2, points)) + 100
    design = np.column_stack([x - 100, np.ones(points)])
    expected = np.linalg.lstsq(design, y, rcond=None)[0]
    steepness, intercept = statistics.slope(x, y)
    assert steepness == pytest.approx(expected[0], rel=1e-6)
    assert intercept + 100 * steepness == pytest.approx(expected[1], rel=1e-6)


@given(s=st.floats(0, 2), q=st.floats(-4, 4), c=st.floats(-5, 5), largest=st.integers(14, 22))
def test_log_power_fit_recovers_its_own_law(s: float, q: float, c: float, largest: int) -> None:
    m = 2.0 ** np.arange(10, largest + 1)
    found = statistics.log_power_fit(m, np.exp(c) * m**s * np.log(m) ** q)
    np.testing.assert_allclose(found, (s, q, c), atol=1e-8)


def test_fits_of_numbers_that_are_not_positive_or_finite_are_not_numbers() -> None:
    assert all(math.isnan(x) for x in statistics.slope([1.0, 2.0], [1.0, math.nan]))
    for bad in (0.0, -1.0, math.nan, math.inf):
        assert all(math.isnan(x) for x in statistics.log_power_fit([2, 4, 8, 16], [1.0, 2.0, bad, 3.0]))


PhaseWork = tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]


def phase_work(rng: np.random.Generator, hidden: float, noise: float) -> PhaseWork:
    """Simulate ten seeds on a grid: the work is ``2 n d k + n^2 k / 2`` plus a hidden share of ``m n d``."""
    grid = np.array([(m, n, d) for m in (2**12, 2**16, 2**20) for n in (16, 64) for d in (8, 32)], float)
    m, n, d = np.tile(grid, (10, 1)).T
    seeds = np.repeat(np.arange(10), len(grid))
    k = m**0.73 * np.exp(noise * rng.standard_normal(len(m)))
    terms = {"n d k": n * d * k, "n^2 k": n**2 * k, "m n d": m * n * d}
    seed_effect = np.exp(noise * rng.standard_normal(10))[seeds]
    return terms, (2 * n * d * k + n**2 * k / 2 + hidden * m * n * d) * seed_effect, seeds


def test_named_terms_fit_is_exact_on_exact_counts() -> None:
    rng = np.random.default_rng(0)
    terms, work, seeds = phase_work(rng, hidden=0.0, noise=0.0)
    fit = statistics.named_terms_fit(terms, work, seeds, rng, resamples=20)
    assert list(fit) == list(terms)
    np.testing.assert_allclose([i.estimate for i in fit.values()], [2, 0.5, 0], atol=1e-9)
    assert fit["m n d"].high < 1e-9


@pytest.mark.parametrize(("hidden", "verdict"), [(0.0, "holds"), (0.003, "fails")])
def test_named_terms_fit_bounds_a_forbidden_term(hidden: float, verdict: str) -> None:
    rng = np.random.default_rng(1)
    fit = statistics.named_terms_fit(*phase_work(rng, hidden, noise=0.002), rng, resamples=100)
    assert statistics.decide_below(fit["m n d"], 1e-3) == verdict


def test_named_terms_fit_covers_at_its_rate() -> None:
    rng = np.random.default_rng(2)
    hits = []
    for _ in range(100):
        fit = statistics.named_terms_fit(*phase_work(rng, 0.01, noise=0.05), rng, resamples=80)
        hits.append([i.low <= c <= i.high for i, c in zip(fit.values(), (2, 0.5, 0.01), strict=True)])
    assert np.mean(hits, axis=0).min() >= 0.89  # nominal 0.95, minus 2.75 standard errors of 100 simulations


def test_named_terms_fit_weighs_cells_by_relative_error() -> None:
    size = np.tile([1.0, 10.0, 1e9], 5)
    work = np.tile([1.1, 11.0, 1e9], 5)  # absolute error would see the largest cell alone and answer 1
    fit = statistics.named_terms_fit(
        {"size": size}, work, np.repeat(range(5), 3), np.random.default_rng(0), resamples=5
    )
    shares = np.array([1 / 1.1, 1 / 1.1, 1.0])
    assert fit["size"].estimate == pytest.approx(shares.sum() / (shares @ shares))


def test_misfit_that_all_seeds_share_opens_the_upper_end() -> None:
    """Equal seeds make all resamples equal; percentiles alone would claim a coefficient of exactly 0."""
    size = np.tile([1.0, 2.0, 4.0, 8.0], 5)
    work = 3 * size**0.9
    seeds = np.repeat(range(5), 4)
    terms = {"size": size, "square": size**2}
    fit = statistics.named_terms_fit(terms, work, seeds, np.random.default_rng(0), resamples=50)
    assert fit["square"].estimate == 0 == fit["square"].low
    misfit = 1 - fit["size"].estimate * size / work
    assert fit["square"].high == pytest.approx(np.sqrt(np.mean(misfit**2)) / (8**1.1 / 3))


def test_make_finding_writes_open_ends_as_none() -> None:
    words = {"margin": "<= 1", "domain": "n=1", "reason": "because"}
    finding = statistics.make_finding("a.b", Interval(0.5, -math.inf, 0.7), "holds", **words)
    assert (finding.claim, finding.verdict) == ("a.b", "holds")
    assert (finding.estimate, finding.interval) == (0.5, (None, 0.7))
    invalid = statistics.make_finding("a.b", statistics.NOT_A_NUMBER, "invalid", **words)
    assert (invalid.estimate, invalid.interval) == (None, None)
    assert statistics.make_finding("a.b", None, "undecided", **words).interval is None


@pytest.mark.parametrize("estimate", [math.nan, math.inf])
@pytest.mark.parametrize("verdict", ["holds", "fails", "undecided"])
def test_no_finding_holds_without_a_finite_estimate(estimate: float, verdict: Verdict) -> None:
    interval = Interval(estimate, 0.0, 1.0)
    finding = statistics.make_finding("a.b", interval, verdict, margin="<= 1", domain="n=1", reason="because")
    assert finding.verdict == ("invalid" if verdict == "holds" else verdict)


RNG = np.random.default_rng(0)
SIX = np.arange(1.0, 7.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: statistics.t_interval([1.0]), "one number per seed, 2 or more"),
        (lambda: statistics.t_interval([[1.0, 2.0]]), "one number per seed"),
        (lambda: statistics.t_interval([1.0, 2.0], confidence=1.0), "confidence is 1.0; pass a number"),
        (lambda: statistics.t_interval([1.0, 2.0], confidence=95), "for instance 0.95"),
        (lambda: statistics.proportion_interval(0, 0), "trials >= 1"),
        (lambda: statistics.proportion_interval(3, 2), "3 of 2 succeeded"),
        (lambda: statistics.proportion_interval(-1, 2), "successes <= trials"),
        (lambda: statistics.proportion_interval(1, 2, confidence=0.0), "confidence is 0.0"),
        (lambda: statistics.slope([1.0, 1.0], [1.0, 2.0]), "x has 1 different value.*measure at 2 or more"),
        (lambda: statistics.slope([1.0, 2.0], [1.0]), "make them equal"),
        (lambda: statistics.slope([1.0, math.nan], [1.0, 2.0]), "x has a NaN"),
        (lambda: statistics.log_power_fit([2, 4, 8], [1, 2, 3]), "m has 3 different.*measure at 4 or more"),
        (lambda: statistics.log_power_fit([1, 2, 4, 8], [1, 2, 3, 4]), "pass sizes above 1"),
        (lambda: statistics.decide_inside(Interval(0, 0, 0), 1.0, -1.0), "pass low <= high"),
        (lambda: statistics.decide_below(Interval(0, 0, 0), math.nan), "neither of them NaN"),
        (lambda: statistics.named_terms_fit({}, SIX, SIX, RNG), "name at least one term"),
        (lambda: statistics.named_terms_fit({"n": SIX}, SIX - 1, SIX, RNG), "leave out cells without work"),
        (lambda: statistics.named_terms_fit({"n": SIX[1:]}, SIX, SIX, RNG), "5 entries, work 6"),
        (lambda: statistics.named_terms_fit({"n": -SIX}, SIX, SIX, RNG), "negative somewhere"),
        (lambda: statistics.named_terms_fit({"n": 0 * SIX}, SIX, SIX, RNG), "zero everywhere"),
        (lambda: statistics.named_terms_fit({"n": SIX}, SIX, SIX[1:], RNG), "one seed per cell"),
        (lambda: statistics.named_terms_fit({"n": SIX}, SIX, SIX // 2, RNG), "4 seed.*measure 5 or more"),
        (lambda: statistics.named_terms_fit({"n": SIX}, SIX, SIX, RNG, resamples=0), "resamples is 0"),
        (lambda: statistics.named_terms_fit({"n": SIX}, SIX, SIX, RNG, confidence=2), "confidence is 2"),
        (lambda: statistics.named_terms_fit({"n": SIX}, SIX, SIX, None), "pass a numpy.random.Generator"),
    ],
)
def test_errors_name_cause_and_remedy(call: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()


@settings(max_examples=20)
@given(factor=st.floats(1e-6, 1e6), seed=st.integers(0, 1000))
def test_named_terms_fit_scales_with_the_units_of_work(factor: float, seed: int) -> None:
    terms, work, seeds = phase_work(np.random.default_rng(seed), hidden=0.01, noise=0.01)
    plain = statistics.named_terms_fit(terms, work, seeds, np.random.default_rng(0), resamples=5)
    same_draws = np.random.default_rng(0)
    scaled = statistics.named_terms_fit(terms, factor * work, seeds, same_draws, resamples=5)
    for name in terms:
        assert scaled[name].estimate == pytest.approx(factor * plain[name].estimate, rel=1e-6)
        assert scaled[name].high == pytest.approx(factor * plain[name].high, rel=1e-6)
