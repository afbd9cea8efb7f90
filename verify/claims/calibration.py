"""Claim: the verdicts themselves err as rarely as they say, on truths that are known.

What is asked of `verify.statistics`, by simulation. One trial draws data from a law whose truth is known, and
passes them through the routines that decide all other claims. Kinds of data, each with its number of trials:

- ``levels``       ``SEEDS`` real networks; of each the share of neurons that fire, as a mean over inputs that share its
  weights. Truth: ``Phi(-b)``. The counts of one network rise and fall together, so that only networks are independent.
- ``slopes``       for each seed the slope of the same share, over its law, against ``log m``. Truth: 0.
- ``ratios``       times of two loops in interleaved rounds on a machine whose speed drifts, with bursts; truth: 1.
- ``terms``        work of named terms with a forbidden one whose coefficient is ``FORBIDDEN``, every seed a little off.
- ``proportions``  every number of successes in ``n`` trials, weighed by its probability: exact, nothing is drawn.

1. ``coverage``     Do 95% intervals of levels, slopes and ratios contain the truth in 94 to 97% of the trials?
2. ``proportions``  Do those of proportions contain it with probability 0.95 at least, at every truth tried, and is with
   the truth on the edge of the margin each wrong verdict said with probability 2.5% at most?
3. ``false_holds``  With the truth on the edge of the margin, is "holds" said in at most 3.5% of the trials? Stated is
   2.5%, half the error of a two-sided interval; the rest is room for laws that are not normal, and for chance.
4. ``false_fails``  The same for "fails".
5. ``terms``        Is each end of the interval of a forbidden coefficient on the wrong side of the truth in at most 10%
   of the trials? That interval is approximate (`verify.statistics.named_terms_fit`); this bounds its true error.
6. ``power``        With the truth 8 standard errors inside the margin, is "holds" said in at least 90% of the trials,
   and as far outside "fails"? (An engine that never decides errs never.)

How it is decided. Not by the engine, which would be judge in its own cause: a share of trials has the bounds that
follow from the binomial distribution by definition (`exact_bounds`), at confidence 95% over all shares of a claim.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import brentq
from scipy.special import bdtr, bdtrc, ndtr

from reference.notation import FloatArray
from verify import problems, statistics, timing
from verify.experiment import Claim, CodeUnderTest, Experiment, Finding, Inputs, Profile, Result, Verdict
from verify.statistics import Interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SEEDS, WIDTHS, N, D, SHIFT = 3, (64, 128, 256), 8, 3, 1.0
"""Few seeds, small networks and inputs close to each other: where an engine would go wrong first."""
LAW = float(ndtr(-SHIFT))
ROUNDS, BLOCK = 15, 5
TERM_SEEDS, RESAMPLES, FORBIDDEN, SPREAD = 8, 100, 1e-3, 0.02
TRIALS = {"levels": 12_000, "slopes": 10_000, "ratios": 12_000, "terms": 400}
"""Fixed beforehand, and so many that the bounds of a coverage of 0.95 rarely reach down to 0.94."""
PARTS = 4
COVERAGE = (0.94, 0.97)
STATED, MOST_WRONG, MOST_TERMS_WRONG, LEAST_POWER = 0.025, 0.035, 0.10, 0.90
POWER_ERRORS = 8.0
ERROR_RATE = 0.05
PROPORTIONS = tuple((n, p) for n in (10, 60) for p in (0.01, 0.05, 0.1, 0.37, 0.5, 0.9, 0.95, 0.99))
SIDES = ("below", "above", "inside")
SIMULATED = ("levels", "slopes", "ratios")

CLAIMS = (
    Claim(
        "calibration.coverage",
        "95% intervals of levels and slopes over seeds, and of paired ratios, contain a known truth in 94 to 97% of "
        "trials.",
        "ours",
    ),
    Claim(
        "calibration.proportions",
        "95% intervals of proportions contain a known truth with probability 0.95 or more, and lead to either wrong "
        "verdict with probability 0.025 or less.",
        "Clopper and Pearson, 1934",
    ),
    Claim(
        "calibration.false_holds",
        'With the truth on the edge of the margin "holds" is said in at most 3.5% of trials.',
        "ours",
    ),
    Claim(
        "calibration.false_fails",
        'With the truth on the edge of the margin "fails" is said in at most 3.5% of trials.',
        "ours",
    ),
    Claim(
        "calibration.terms",
        "Each end of the 95% interval for the coefficient of a forbidden term errs in at most 10% of trials.",
        "ours",
    ),
    Claim(
        "calibration.power",
        'With the truth 8 standard errors inside the margin "holds" is said in at least 90% of trials, and as far '
        'outside "fails".',
        "ours",
    ),
)


def collect(draw: Callable[[int], FloatArray], satisfied: Callable[[FloatArray], bool]) -> FloatArray:
    """Take as many seeds as were fixed beforehand, whatever they show."""
    return draw(SEEDS)


def level(shares: FloatArray) -> Interval:
    """Estimate the share that fires, from one number per seed: ``shares`` is (seeds, inputs)."""
    return statistics.t_interval(shares.mean(axis=1))


@dataclass(frozen=True)
class Engine:
    """The routines on trial; a planted fault replaces one.

    Parameters
    ----------
    collect, level : callable
        See `collect` and `level`: what all experiments do before they call the rest.
    t_interval, proportion_interval, slope, named_terms_fit, decide_below, decide_above, decide_inside : callable
        See `verify.statistics`.
    ratio : callable
        See `verify.timing.ratio`.
    """

    collect: Callable[..., FloatArray] = collect
    level: Callable[[FloatArray], Interval] = level
    t_interval: Callable[..., Interval] = statistics.t_interval
    proportion_interval: Callable[..., Interval] = statistics.proportion_interval
    slope: Callable[..., tuple[float, float]] = statistics.slope
    named_terms_fit: Callable[..., dict[str, Interval]] = statistics.named_terms_fit
    ratio: Callable[..., Interval] = timing.ratio
    decide_below: Callable[..., Verdict] = statistics.decide_below
    decide_above: Callable[..., Verdict] = statistics.decide_above
    decide_inside: Callable[..., Verdict] = statistics.decide_inside


def cells(profile: Profile) -> list[Inputs]:
    """List the kinds of data, the trials of each in a few parts."""
    parts = PARTS * (4 if profile.thorough else 1)
    simulated = [
        {"kind": kind, "trials": trials // PARTS, "part": part}
        for kind, trials in TRIALS.items()
        for part in range(parts)
    ]
    return [*simulated, {"kind": "proportions", "trials": 0, "part": 0}]


ENGINE = Engine()


def measure(inputs: Inputs, rng: np.random.Generator, code: CodeUnderTest, engine: Engine = ENGINE) -> Result:
    """Run trials of one kind; count what the intervals contain and what the verdicts are."""
    if inputs["kind"] == "proportions":
        return proportions(engine)
    estimate, truth = ESTIMATES[inputs["kind"]]
    intervals = [estimate(engine, rng) for _ in range(inputs["trials"])]
    # The standard error is the true one, over all trials; no interval of a single trial knows it.
    away = POWER_ERRORS * float(np.std([interval.estimate for interval in intervals]))
    edges = {side: [verdict(engine, side, interval, truth) for interval in intervals] for side in SIDES}
    inside = [verdict(engine, side, each, truth + sign * away) for side, sign in SIGNS for each in intervals]
    outside = [verdict(engine, side, each, truth - sign * away) for side, sign in SIGNS for each in intervals]
    return {
        "covered": sum(interval.low <= truth <= interval.high for interval in intervals),
        "holds": {side: verdicts.count("holds") for side, verdicts in edges.items()},
        "fails": {side: verdicts.count("fails") for side, verdicts in edges.items()},
        "inside": inside.count("holds"),
        "outside": outside.count("fails"),
    }


SIGNS = (("below", 1.0), ("above", -1.0))


def verdict(engine: Engine, side: str, interval: Interval, edge: float) -> Verdict:
    """Decide about a margin with ``edge`` as one end; the other end is far away or nowhere."""
    if side == "below":
        return engine.decide_below(interval, edge)
    if side == "above":
        return engine.decide_above(interval, edge)
    return engine.decide_inside(interval, edge - 1e6, edge)


def fired_shares(seeds: int, widths: Sequence[int], rng: np.random.Generator) -> FloatArray:
    """Draw ``seeds`` networks of each width; return the shares that fire, (seeds, widths, inputs)."""
    shares = np.empty((seeds, len(widths), N))
    for place, width in enumerate(widths):
        weights = rng.standard_normal((seeds, width, D))
        inputs = problems.unit_rows(seeds * N, D, rng).reshape(seeds, N, D)
        shares[:, place] = (weights @ inputs.transpose(0, 2, 1) >= SHIFT).mean(axis=1)
    return shares


def estimate_level(engine: Engine, rng: np.random.Generator) -> Interval:
    """Estimate the share that fires at the largest width."""

    def draw(seeds: int) -> FloatArray:
        shares: FloatArray = fired_shares(seeds, WIDTHS[-1:], rng)[:, 0]
        return shares

    return engine.level(
        engine.collect(draw, lambda shares: engine.decide_below(engine.level(shares), LAW) == "holds")
    )


def estimate_slope(engine: Engine, rng: np.random.Generator) -> Interval:
    """Estimate the slope of the share over its law; the mean of its logarithm would not be 0."""
    shares = fired_shares(SEEDS, WIDTHS, rng).mean(axis=2) / LAW
    logs = np.log(WIDTHS)
    return engine.t_interval([engine.slope(logs, own)[0] for own in shares])


def estimate_ratio(engine: Engine, rng: np.random.Generator) -> Interval:
    """Estimate the ratio of times of two equal loops; one round in ten is hit by other work in one of the two."""
    drift = 0.2 * rng.standard_normal(ROUNDS).cumsum()
    noise = 0.05 * rng.standard_normal((2, ROUNDS)) + 0.5 * (rng.random((2, ROUNDS)) < 0.05)
    over, under = np.exp(drift + noise)
    return engine.ratio(over, under, block=BLOCK)


def estimate_term(engine: Engine, rng: np.random.Generator) -> Interval:
    """Estimate the coefficient of ``m n d`` in work that has a little of it."""
    grid = [(m, n, d) for m in (2.0**12, 2.0**16) for n in (16.0, 64.0) for d in (8.0, 32.0)]
    m, n, d = np.tile(grid, (TERM_SEEDS, 1)).T
    seeds = np.repeat(np.arange(TERM_SEEDS), len(grid))
    k = m**0.73 * np.exp(SPREAD * rng.standard_normal(len(m)))
    terms = {"n d k": n * d * k, "n^2 k": n**2 * k, "m n d": m * n * d}
    off = np.exp(SPREAD * rng.standard_normal(TERM_SEEDS))[seeds] * np.exp(SPREAD * rng.standard_normal(len(m)))
    work = (2 * terms["n d k"] + terms["n^2 k"] / 2) * off + FORBIDDEN * terms["m n d"]
    return engine.named_terms_fit(terms, work, seeds, rng, resamples=RESAMPLES)["m n d"]


ESTIMATES: dict[str, tuple[Callable[[Engine, np.random.Generator], Interval], float]] = {
    "levels": (estimate_level, LAW),
    "slopes": (estimate_slope, 0.0),
    "ratios": (estimate_ratio, 1.0),
    "terms": (estimate_term, FORBIDDEN),
}
"""For each kind one trial, and the truth."""


def proportions(engine: Engine) -> Result:
    """Compute at every truth how probable it is that the interval contains it, and that a verdict on the edge errs."""
    from scipy import stats  # half a second to load, which every worker would take

    found: Result = {"covered": [], "holds": [], "fails": []}
    for trials, truth in PROPORTIONS:
        weights = stats.binom.pmf(np.arange(trials + 1), trials, truth)
        intervals = [engine.proportion_interval(successes, trials) for successes in range(trials + 1)]
        found["covered"].append(float(weights @ [each.low <= truth <= each.high for each in intervals]))
        for word in ("holds", "fails"):
            said = np.array([[verdict(engine, side, each, truth) == word for each in intervals] for side in SIDES])
            found[word].append(float((said @ weights).max()))
    return found


def exact_bounds(hits: int, trials: int, confidence: float) -> tuple[float, float]:
    """Bound a probability: the values at which so few, or so many, hits are as unlikely as ``(1 - confidence) / 2``.

    Written from the definition, apart from `verify.statistics.proportion_interval`, which is on trial here.

    Examples
    --------
    No hit in 100 trials: ``(1 - p)^100 = 0.025``.

    >>> low, high = exact_bounds(0, 100, 0.95)
    >>> low, round(high, 6), round(1 - 0.025**0.01, 6)
    (0.0, 0.036217, 0.036217)
    """
    tail = (1 - confidence) / 2
    low = brentq(lambda p: bdtrc(hits - 1, trials, p) - tail, 0.0, 1.0, xtol=1e-12) if hits else 0.0
    high = brentq(lambda p: bdtr(hits, trials, p) - tail, 0.0, 1.0, xtol=1e-12) if hits < trials else 1.0
    return float(low), float(high)


@dataclass(frozen=True)
class Share:
    """How often something happened in trials of one kind, what bounds that gives, and where it should lie."""

    what: str
    share: float
    low: float
    high: float
    least: float
    most: float

    @property
    def verdict(self) -> Verdict:
        """Compare bounds and margin, without the engine."""
        if self.least <= self.low and self.high <= self.most:
            return "holds"
        return "fails" if self.high < self.least or self.low > self.most else "undecided"

    @property
    def excess(self) -> float:
        """How far the bounds reach beyond the margin; negative inside."""
        below = self.least - self.low if self.least > 0 else -1.0
        return max(below, self.high - self.most if self.most < 1 else -1.0)


def decide(results: Sequence[tuple[Inputs, Result]]) -> list[Finding]:
    """Pool the parts of each kind; compare shares of trials with their margins."""
    pooled, trials = pool(results)
    exact = next(result for inputs, result in results if inputs["kind"] == "proportions")

    def shares(
        counts: dict[str, int], per_kind: int, least: float, most: float, total: dict[str, int] = trials
    ) -> list[Share]:
        confidence = 1 - ERROR_RATE / len(counts)
        bounded = []
        for what, hits in counts.items():
            number = per_kind * total[what.split()[0]]
            low, high = exact_bounds(hits, number, confidence)
            bounded.append(Share(what, hits / number, low, high, least, most))
        return bounded

    def edges(word: str, kinds: Sequence[str], most: float) -> list[Share]:
        return shares({f"{k} {side}": pooled[k][word][side] for k in kinds for side in SIDES}, 1, 0.0, most)

    def certain(word: str) -> list[Share]:
        return [Share(f'wrongly "{word}"', p, p, p, 0.0, STATED) for p in exact[word]]

    contained = [Share("truths contained", p, p, p, 1 - 2 * STATED, 1.0) for p in exact["covered"]]

    power = shares(
        {f"{kind} {where}": pooled[kind][where] for kind in SIMULATED for where in ("inside", "outside")},
        len(SIGNS),
        LEAST_POWER,
        1.0,
    )
    networks = f"{SEEDS} networks, m={WIDTHS[0]}..{WIDTHS[-1]}, n={N}, d={D}, b={SHIFT:g}"
    listed = ", ".join(f"{trials[kind]} of {kind}" for kind in SIMULATED)
    domain = f"{listed} (trials); {networks}; {ROUNDS} rounds in blocks of {BLOCK}"
    truths = f"{len(PROPORTIONS)} truths, n={PROPORTIONS[0][0]} and {PROPORTIONS[-1][0]}; exact, no simulation"
    few = f"{trials['terms']} trials; {TERM_SEEDS} seeds, coefficient {FORBIDDEN:g}, spread {SPREAD:g}"
    found = {
        "coverage": (shares({kind: pooled[kind]["covered"] for kind in SIMULATED}, 1, *COVERAGE), domain),
        "proportions": ([*contained, *certain("holds"), *certain("fails")], truths),
        "false_holds": (edges("holds", SIMULATED, MOST_WRONG), domain),
        "false_fails": (edges("fails", SIMULATED, MOST_WRONG), domain),
        "terms": (edges("holds", ["terms"], MOST_TERMS_WRONG) + edges("fails", ["terms"], MOST_TERMS_WRONG), few),
        "power": (power, domain),
    }
    return [worst(name, each, where) for name, (each, where) in found.items()]


def pool(results: Sequence[tuple[Inputs, Result]]) -> tuple[dict[str, Any], dict[str, int]]:
    """Add up the parts of each simulated kind; return the counts and the trials."""
    pooled: dict[str, Any] = {}
    trials: dict[str, int] = {}
    for inputs, result in results:
        kind = inputs["kind"]
        if kind == "proportions":
            continue
        trials[kind] = trials.get(kind, 0) + inputs["trials"]
        own = pooled.setdefault(kind, {"holds": dict.fromkeys(SIDES, 0), "fails": dict.fromkeys(SIDES, 0)})
        for name, value in result.items():
            if isinstance(value, dict):
                for side, hits in value.items():
                    own[name][side] += hits
            else:
                own[name] = own.get(name, 0) + value
    return pooled, trials


def worst(name: str, shares: Sequence[Share], domain: str) -> Finding:
    """Decide by the share that reaches farthest beyond its margin; one that fails outright is enough."""
    share = max(shares, key=lambda each: each.excess)
    failing = [each for each in shares if each.verdict == "fails"]
    chosen = max(failing, key=lambda each: each.excess, default=share)
    margin = f"<= {chosen.most:g}" if chosen.least == 0 else f">= {chosen.least:g}"
    if chosen.least > 0 and chosen.most < 1:
        margin = f"{chosen.least:g} to {chosen.most:g}"
    return Finding(
        f"calibration.{name}",
        chosen.verdict,
        chosen.share,
        (chosen.low, chosen.high),
        margin,
        domain,
        f"The farthest out of {len(shares)} shares, {chosen.what}; bounds from the binomial law, not from the engine.",
    )


def plot(figure: Figure, results: Sequence[tuple[Inputs, Result]]) -> None:
    """Draw how often each verdict is said wrongly with the truth on the edge of the margin."""
    axes = figure.subplots()
    pooled, trials = pool(results)
    places = [f"{kind}\n{side}" for kind in pooled for side in SIDES[:2]]
    for word, marker in (("holds", "o"), ("fails", "s")):
        rates = [pooled[kind][word][side] / trials[kind] for kind in pooled for side in SIDES[:2]]
        axes.plot(range(len(rates)), rates, marker, markersize=5, label=f'wrongly "{word}"')
    axes.axhline(STATED, color="black", linestyle="--", linewidth=1, label="stated")
    axes.set_xticks(range(len(places)), places, fontsize=7)
    axes.set(ylabel="share of trials", ylim=(0, None))
    axes.legend(frameon=False)


EXPERIMENT = Experiment(
    name="calibration",
    title="The verdicts on known truths",
    claims=CLAIMS,
    cells=cells,
    measure=measure,
    decide=decide,
    plot=plot,
)
