"""Claim: few neurons fire, ``m Phi(-b)`` on each data point, and the forest finds exactly those.

Mathematics. At the start ``<w_r, x_i> ~ N(0, 1)`` on a unit row, so a data point fires ``k`` neurons with
mean::

    E k = m Phi(-b),    b = sqrt(2 alpha ln m)          law, exact at every m
        ~ m^(1 - alpha) / (b sqrt(2 pi))                 as m grows

Source: [A], conference version, Corollary A.17: ``O(m^0.76)`` neurons at ``b = sqrt(0.48 ln m)``, that is,
alpha = 0.24. The factor ``1/b`` is why a straight line through ``log k`` reads about 0.73 and not 0.76 at
these widths; so the exponent is asked for against the law first, and without it after that:

1. ``exact``      Are the forest's pairs those of a plain scan of the same scores? Every pair, every cell.
2. ``level``      Is ``log(k / (m Phi(-b)))`` zero on average?
3. ``slope``      Does it stay zero as ``m`` grows? With `level`: what "exponent 1 - alpha" means at finite m.
4. ``sublinear``  Without the law: fit ``k = e^c m^s (log m)^q`` with ``q`` free. Is ``s < 1``?
5. ``exponent``   And is ``s <= 1 - alpha + 0.05``?

How it is measured
1. All inputs of a network share ``W``, so their counts are dependent; the unit of evidence is a seed.
2. A cell counts at least ``FEWEST_NEURONS`` neurons: narrow networks are drawn several times and averaged.
   Seeds stay the clusters; only their spread at small ``m`` shrinks, from which the free fit suffers most.
3. Scores are formed and searched in blocks of neurons: ``n m`` of them would not fit at the largest widths.
   A forest is built and queried for each block; what fires in a block does not depend on the other blocks.

Cost of a cell: ``n m d`` multiply-adds, ``m d`` random numbers, ``n`` times ``BLOCK`` scores of memory.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtr

from reference.notation import FloatArray
from verify import problems, statistics
from verify.experiment import Claim, CodeUnderTest, Experiment, Finding, Inputs, Profile, Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ALPHA = 0.24
N, D = 64, 16
SEEDS, SEEDS_THOROUGH = 4, 10
SMALLEST, LARGEST, LARGEST_THOROUGH = 10, 19, 22
"""Widths are the powers of two from ``2^SMALLEST``."""
FEWEST_NEURONS = 1 << 16
BLOCK = 1 << 14

LEVEL_MARGIN = 0.02
SLOPE_MARGIN = 0.01
EXPONENT_MARGIN = 0.05
FREE_FIT_CONFIDENCE = 0.99

PAPER = "[A], conference version, Corollary A.17"
CLAIMS = (
    Claim(
        "sparsity.exact",
        "The trees report exactly the neurons that fire: the same pairs as a plain scan, in every cell.",
        "[A], Algorithms 2 to 4",
    ),
    Claim(
        "sparsity.level",
        "The number of neurons that fire on a data point is m Phi(-b), within 2%.",
        PAPER + "; the law at finite width is ours",
    ),
    Claim(
        "sparsity.slope",
        "The number of neurons that fire follows m Phi(-b) as the width grows: "
        "the exponent of their ratio is 0, within 0.01.",
        PAPER + "; the law at finite width is ours",
    ),
    Claim(
        "sparsity.sublinear",
        "The number of neurons that fire grows more slowly than the width, whatever its logarithmic factor.",
        PAPER,
    ),
    Claim(
        "sparsity.exponent",
        "Up to a logarithmic factor the number of neurons that fire grows no faster than m^(0.76 + 0.05).",
        PAPER,
    ),
)


def law(width: int) -> float:
    """Return ``m Phi(-b)`` at ``b = sqrt(2 alpha ln m)``, typed again here, independent of the code.

    Examples
    --------
    >>> round(law(2**16))
    689
    """
    return float(width * ndtr(-math.sqrt(2 * ALPHA * math.log(width))))


def cells(profile: Profile) -> list[Inputs]:
    """List the widths, each for every seed; largest first, so that a pool of workers ends evenly."""
    largest = LARGEST_THOROUGH if profile.thorough else LARGEST
    return [
        {"width": 1 << exponent, "seed": seed}
        for exponent in range(largest, SMALLEST - 1, -1)
        for seed in range(SEEDS_THOROUGH if profile.thorough else SEEDS)
    ]


def measure(inputs: Inputs, rng: np.random.Generator, code: CodeUnderTest) -> Result:
    """Count the pairs that fire in fresh networks on fresh data, as the forest and as a scan see them."""
    width = inputs["width"]
    networks = max(1, FEWEST_NEURONS // width)
    fired = wrong = 0
    for _ in range(networks):
        X = problems.make("random", N, D, rng).X
        network = code.initialize(width, D, shift=math.sqrt(2 * ALPHA * math.log(width)), rng=rng)
        for start in range(0, width, BLOCK):
            scores = X @ network.weights[start : start + BLOCK].T
            data_index, neuron_index = code.forest.build(scores).query(network.shift)
            found = data_index * scores.shape[1] + neuron_index
            scanned = np.flatnonzero(scores >= network.shift)
            fired += len(found)
            wrong += 0 if np.array_equal(found, scanned) else max(1, len(np.setxor1d(found, scanned)))
    return {"fired": fired / (networks * N), "wrong_pairs": wrong, "networks": networks}


def by_seed(results: Sequence[tuple[Inputs, Result]]) -> list[tuple[FloatArray, FloatArray]]:
    """Group the cells: for each seed its widths, increasing, and the neurons that fired per data point."""
    groups: dict[int, list[tuple[float, float]]] = {}
    for inputs, result in results:
        groups.setdefault(inputs["seed"], []).append((inputs["width"], result["fired"]))
    tables = [np.array(sorted(group)) for group in groups.values()]
    return [(table[:, 0], table[:, 1]) for table in tables]


def offsets(widths: FloatArray, fired: FloatArray) -> FloatArray:
    """Return ``log(k / (m Phi(-b)))``; minus infinity where nothing fired, which decisions call invalid."""
    with np.errstate(divide="ignore"):
        ratios: FloatArray = np.log(fired / np.array([law(int(width)) for width in widths]))
    return ratios


def decide(results: Sequence[tuple[Inputs, Result]]) -> list[Finding]:
    """Reduce each seed to an offset, a slope and a free exponent; decide the five claims over seeds."""
    seeds = by_seed(results)
    level = statistics.t_interval([offsets(m, k).mean() for m, k in seeds])
    steepness = statistics.t_interval([statistics.slope(np.log(m), offsets(m, k))[0] for m, k in seeds])
    exponent = statistics.t_interval(
        [statistics.log_power_fit(m, k)[0] for m, k in seeds], confidence=FREE_FIT_CONFIDENCE
    )
    largest = 1 - ALPHA + EXPONENT_MARGIN
    domain = describe_domain(results)
    return [
        _find_exact(results, domain),
        statistics.make_finding(
            "sparsity.level",
            level,
            statistics.decide_inside(level, -LEVEL_MARGIN, LEVEL_MARGIN),
            margin=f"within +-{LEVEL_MARGIN} of 0",
            domain=domain,
            reason=f"Mean of log(k / (m Phi(-b))) over widths, 95% interval over {len(seeds)} seeds.",
        ),
        statistics.make_finding(
            "sparsity.slope",
            steepness,
            statistics.decide_inside(steepness, -SLOPE_MARGIN, SLOPE_MARGIN),
            margin=f"within +-{SLOPE_MARGIN} of 0",
            domain=domain,
            reason=f"Slope of log(k / (m Phi(-b))) against log m, 95% interval over {len(seeds)} seeds.",
        ),
        statistics.make_finding(
            "sparsity.sublinear",
            exponent,
            statistics.decide_below(exponent, 1.0),
            margin="< 1",
            domain=domain,
            reason=f"Exponent s of k = e^c m^s (log m)^q with q free, 99% interval over {len(seeds)} seeds.",
        ),
        statistics.make_finding(
            "sparsity.exponent",
            exponent,
            statistics.decide_below(exponent, largest),
            margin=f"<= {largest:.2f}",
            domain=domain,
            reason="The same exponent; the free factor widens its interval, a larger range of m narrows it.",
        ),
    ]


def _find_exact(results: Sequence[tuple[Inputs, Result]], domain: str) -> Finding:
    wrong = sum(result["wrong_pairs"] for _, result in results)
    verdict = statistics.decide_below(statistics.Interval(wrong, wrong, wrong), 0)
    reason = f"{wrong} pairs differ from the scan, over {len(results)} cells; no sampling, so no interval."
    return Finding("sparsity.exact", verdict, float(wrong), None, "= 0 pairs", domain, reason)


def describe_domain(results: Sequence[tuple[Inputs, Result]]) -> str:
    """Say for which sizes, data and shift the verdicts speak."""
    widths = [inputs["width"] for inputs, _ in results]
    seeds = len({inputs["seed"] for inputs, _ in results})
    return (
        f"n={N}, d={D}, m=2^{int(math.log2(min(widths)))}..2^{int(math.log2(max(widths)))}, "
        f"b=sqrt(2 alpha ln m) at alpha={ALPHA}, random unit inputs, {seeds} seeds, "
        f"networks averaged to at least {FEWEST_NEURONS} neurons a cell, forests of {BLOCK} neurons"
    )


def plot(figure: Figure, results: Sequence[tuple[Inputs, Result]]) -> None:
    """Draw fired neurons against the law and the bare power, and below them the ratio to the law."""
    counts, ratios = figure.subplots(2, 1, sharex=True, height_ratios=[2, 1])
    seeds = by_seed(results)
    widths = np.unique(np.concatenate([m for m, _ in seeds]))
    expected = np.array([law(int(width)) for width in widths])
    for index, (m, k) in enumerate(seeds):
        label = "measured, one point a seed" if index == 0 else None
        counts.loglog(m, k, "o", markersize=3, alpha=0.6, color="tab:blue", label=label)
        ratios.semilogx(m, np.expm1(offsets(m, k)) * 100, "o", markersize=3, alpha=0.6, color="tab:blue")
    counts.loglog(widths, expected, color="tab:orange", label="law m Phi(-b)")
    counts.loglog(widths, widths ** (1 - ALPHA), "--", color="tab:gray", label=f"bare m^{1 - ALPHA:.2f}")
    counts.loglog(widths, widths, ":", color="tab:gray", label="all neurons, m")
    counts.set_ylabel("neurons that fire")
    counts.legend(frameon=False)
    ratios.axhline(0, color="tab:orange")
    ratios.set_xscale("log", base=2)
    ratios.set_xlabel("width m")
    ratios.set_ylabel("off the law (%)")


EXPERIMENT = Experiment(
    name="sparsity",
    title="Few neurons fire",
    claims=CLAIMS,
    cells=cells,
    measure=measure,
    decide=decide,
    plot=plot,
)
