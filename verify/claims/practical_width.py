"""Claim: how wide a network must be in practice, and how that grows with the number of data points.

One *trial* is one seed: its own random inputs, labels and weights. Its *smallest width* is that of
`verify.claims.phase_diagram`, which asks the same of separation and sparsity: powers of two are tried from the largest
down, on nested networks, and it is the last one before the first failure to halve in every iteration down to 1e-8. The
*practical width* of ``n`` points is the largest smallest width of all trials: from it on every trial halved at every
width tried. The theorem's width ([A], conference version, Theorem 5.1) is taken with constant 1, failure probability
0.05, and the smallest eigenvalue ``lambda`` of the shifted NTK of the trial's own data, at the shift of its smallest
width; at that of the practical width, which is larger, it would be larger still::

    max(lambda^-4 n^4, lambda^-2 n^2 d log(16 n / rho))

1. ``gap``      By how many doublings is the practical width below the theorem's, at each ``n``? Least over ``n``.
2. ``growth``   Exponent in ``n`` of the smallest widths, one fit a seed: at most 1.
3. ``theorem``  And of the theorem's widths: at least 3.5.
4. ``plain``    Without shift (``alpha = 0``): is the smallest width no larger than at alpha = 0.24, trial by trial?

The dimension stays fixed; the points are far from each other at every ``n`` tried, so this is the theorem's easy case.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from reference.two_layer import shift_for
from verify import problems
from verify.claims.phase_diagram import asked_width, halves, narrowed
from verify.experiment import Claim, CodeUnderTest, Experiment, Finding, Inputs, Profile, Result
from verify.statistics import Interval, decide_above, decide_below, make_finding, slope, t_interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Runs = Sequence[tuple[Inputs, Result]]

D = 32
POINTS, POINTS_THOROUGH = (8, 16, 32, 64), (8, 16, 32, 64, 128, 256)
ALPHAS = (0.1, 0.24)
PLAIN = 0.0
SMALLEST, LARGEST, LARGEST_THOROUGH = 3, 11, 16
SEEDS, SEEDS_THOROUGH = 6, 40
GAP_MARGIN, GROWTH_MARGIN, THEOREM_MARGIN, PLAIN_MARGIN = 12.0, 1.0, 3.5, 0.0

OURS = "ours; asked for by reviews of [A]"
CLAIMS = (
    Claim(
        "practical_width.gap",
        "On random inputs the width from which on all trials halve the residual in every iteration is at least 2^12 "
        "times smaller than the theorem's with constant 1, at every number of points tried.",
        "[A], conference version, Theorem 5.1; ours",
    ),
    Claim(
        "practical_width.growth",
        "The smallest width at which every iteration halves grows no faster than n with the number of data points.",
        OURS,
    ),
    Claim(
        "practical_width.theorem",
        "The theorem's width, on the same data, grows at least like n^3.5.",
        "[A], conference version, Theorem 5.1",
    ),
    Claim(
        "practical_width.plain",
        "Without a shift the smallest width is, on average, no larger than with the paper's.",
        OURS,
    ),
)


def cells(profile: Profile) -> list[Inputs]:
    """List every number of points and alpha, each for every seed."""
    points, largest, seeds = (
        (POINTS_THOROUGH, LARGEST_THOROUGH, SEEDS_THOROUGH) if profile.thorough else (POINTS, LARGEST, SEEDS)
    )
    return [
        {"n": n, "alpha": alpha, "largest": largest, "seed": seed}
        for alpha in (*ALPHAS, PLAIN)
        for n in points
        for seed in range(seeds)
    ]


def measure(inputs: Inputs, rng: np.random.Generator, code: CodeUnderTest) -> Result:
    """Narrow one network until training stops halving; compute the theorem's width at the shift of the last."""
    alpha, largest = inputs["alpha"], inputs["largest"]
    problem = problems.make("random", inputs["n"], D, rng)
    widest = code.initialize(1 << largest, D, shift=shift_for(1 << largest, alpha), rng=rng)
    smallest = None
    for exponent in range(largest, SMALLEST - 1, -1):
        if not halves(narrowed(widest, 1 << exponent, alpha), problem, code):
            break
        smallest = exponent
    if alpha == PLAIN:  # compared with the others only
        return {"smallest": smallest}
    asked = asked_width(problem.X, shift_for(1 << (largest if smallest is None else smallest), alpha))
    return {"smallest": smallest, "asked": math.log2(asked)}


def decide(results: Runs) -> list[Finding]:
    """Take the largest smallest width of each setting; fit exponents, one per seed."""
    points = sorted({inputs["n"] for inputs, _ in results})
    largest = results[0][0]["largest"]
    seeds = sorted({inputs["seed"] for inputs, _ in results})
    domain = (
        f"n={', '.join(map(str, points))}, d={D}, m=2^{SMALLEST}..2^{largest}, b=sqrt(2 alpha ln m), "
        f"alpha {', '.join(map(str, ALPHAS))}, random inputs and labels, {len(seeds)} seeds"
    )
    beyond = sum(result["smallest"] is None for _, result in results)
    if beyond:
        reason = f"{beyond} trials do not halve even at the largest width."
        return [Finding(claim.id, "undecided", None, None, "every trial finds one", domain, reason) for claim in CLAIMS]
    table = {(i["alpha"], i["n"], i["seed"]): r for i, r in results}
    practical = {
        (alpha, n): max(table[alpha, n, seed]["smallest"] for seed in seeds)
        for alpha in (*ALPHAS, PLAIN)
        for n in points
    }
    gaps = {
        (alpha, n): t_interval([table[alpha, n, seed]["asked"] - practical[alpha, n] for seed in seeds])
        for alpha in ALPHAS
        for n in points
    }
    closest = min(gaps, key=lambda setting: gaps[setting].low)
    log_points = np.log2(points)

    def exponents(alpha: float, what: str) -> Interval:
        """Fit log2 of a width against log2 n."""
        return t_interval([slope(log_points, [table[alpha, n, seed][what] for n in points])[0] for seed in seeds])

    growth = {alpha: exponents(alpha, "smallest") for alpha in ALPHAS}
    theorem = {alpha: exponents(alpha, "asked") for alpha in ALPHAS}
    fastest = max(ALPHAS, key=lambda alpha: growth[alpha].high)
    slowest = min(ALPHAS, key=lambda alpha: theorem[alpha].low)
    paired = [
        float(np.mean([table[PLAIN, n, seed]["smallest"] - table[ALPHAS[-1], n, seed]["smallest"] for n in points]))
        for seed in seeds
    ]
    plain = t_interval(paired)
    return [
        make_finding(
            "practical_width.gap",
            gaps[closest],
            decide_above(gaps[closest], GAP_MARGIN),
            margin=f">= {GAP_MARGIN:g} (log2 of the theorem's width over the practical one)",
            domain=domain,
            reason=f"Closest at alpha={closest[0]}, n={closest[1]}. log2 of practical width / theorem's: "
            + "; ".join(
                f"alpha={alpha}: "
                + ", ".join(
                    f"n={n} {practical[alpha, n]}/{gaps[alpha, n].estimate + practical[alpha, n]:.0f}" for n in points
                )
                for alpha in ALPHAS
            )
            + ".",
        ),
        make_finding(
            "practical_width.growth",
            growth[fastest],
            decide_below(growth[fastest], GROWTH_MARGIN),
            margin=f"<= {GROWTH_MARGIN:g} (exponent in n)",
            domain=domain,
            reason="Slope of log smallest width against log n, t-interval over seeds; "
            + ", ".join(f"{growth[alpha].estimate:.2f} at alpha={alpha}" for alpha in ALPHAS)
            + ".",
        ),
        make_finding(
            "practical_width.theorem",
            theorem[slowest],
            decide_above(theorem[slowest], THEOREM_MARGIN),
            margin=f">= {THEOREM_MARGIN:g} (exponent in n)",
            domain=domain,
            reason="The same of the theorem's width; "
            + ", ".join(f"{theorem[alpha].estimate:.2f} at alpha={alpha}" for alpha in ALPHAS)
            + ".",
        ),
        make_finding(
            "practical_width.plain",
            plain,
            decide_below(plain, PLAIN_MARGIN),
            margin=f"<= {PLAIN_MARGIN:g} (log2 of smallest width without shift over that at alpha={ALPHAS[-1]})",
            domain=domain,
            reason="Mean over n, t-interval over seeds. log2 of practical width without shift: "
            + ", ".join(f"n={n} {practical[PLAIN, n]}" for n in points)
            + ".",
        ),
    ]


def plot(figure: Figure, results: Runs) -> None:
    """Draw smallest widths and the theorem's against the number of points."""
    axes = figure.subplots()
    for colour, alpha in enumerate(ALPHAS):
        own = [(i["n"], r) for i, r in results if i["alpha"] == alpha and r["smallest"] is not None]
        axes.semilogx(
            [n for n, _ in own],
            [r["smallest"] for _, r in own],
            "o",
            color=f"C{colour}",
            label=f"smallest width, alpha={alpha}",
        )
        asked = [r["asked"] for _, r in own]
        axes.semilogx([n for n, _ in own], asked, "x", color=f"C{colour}", label=f"theorem's, alpha={alpha}")
    axes.set_xscale("log", base=2)
    axes.set(xlabel="data points n", ylabel="log2 of the width")
    axes.legend(frameon=False)


EXPERIMENT = Experiment(
    name="practical_width",
    title="How wide in practice",
    claims=CLAIMS,
    cells=cells,
    measure=measure,
    decide=decide,
    plot=plot,
)
