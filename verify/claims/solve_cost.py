"""Claim: which iterations pay the cube of ``n`` for solving ``G g = f - y``, and that none has to.

Three solvers (`fast.regression`), the same run to rounding:

- ``cholesky`` factors ``G``, ``n^3 / 3``, unless the last factor still serves to precondition conjugate gradients;
- ``sketch`` factors ``s >= n`` sketched rows, ``2 s n^2``, in every iteration: a preconditioner, but no way around
  ``n^3``;
- ``conjugate`` (ours) makes no factor: conjugate gradients on ``G`` scaled by its diagonal, ``n^2`` a step. With
  condition number ``kappa`` an error shrinks by ``(sqrt(kappa) - 1) / (sqrt(kappa) + 1)`` a step, so steps grow like
  ``sqrt(kappa)``, and do not depend on ``n``.

What is asked, one number per seed
1. ``early``      Do the first three iterations each make a factor, in every run? A negative finding: while many pairs
   flip, an old factor does not serve. (At rest none is made: `events.cubic`.)
2. ``sketch``     Does the sketched solver do at least ``2 n^3`` multiply-adds in every iteration?
3. ``exponent``   Is the exponent in ``n`` of the conjugate solver's work per iteration at most 2.6, on random inputs
   and on pairs at angle 0.3? It is above 2, for steps grow a little with ``n``: exact arithmetic ends after ``n``.
4. ``condition``  Do its steps grow at most like the condition number to the power 0.6, over pairs at angles from 1 to
   0.03?
5. ``equal``      Does it give the same run as Cholesky, residuals within the bound of `verify.tolerances`?
6. ``cheaper``    At the largest ``n``, what share of Cholesky's solving work does a run to 1e-10 take on random inputs?
   The reason has the other sizes, and pairs, where it pays later: from ``n`` of about three times the steps.

How it is measured. The counter ``solve`` of the runs, taken at its word: that solves without a new factor do no more
than they count is the business of ``solve_time``, by the clock. Nothing checks that of the sketched solver, whose claim
is that it does much. Networks are drawn by `fast.lazy_width`, so that ``n`` may be large.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from reference.notation import DivergenceError, FloatArray, InputError
from reference.trace import Trace
from reference.two_layer import shift_for
from verify import problems, tolerances
from verify.comparison import largest
from verify.experiment import Claim, CodeUnderTest, Experiment, Finding, Inputs, Profile, Result
from verify.statistics import Interval, decide_below, make_finding, slope, t_interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Runs = Sequence[tuple[Inputs, Result]]

ALPHA, D = 0.24, 64
WIDTH = 1 << 13
POINTS, POINTS_THOROUGH = (32, 64, 128), (32, 64, 128, 256, 512)
MOST_SKETCHED = 64
FAMILIES = ("random", "pairs")
ANGLES = (1.0, 0.3, 0.1, 0.03)
ANGLE_POINTS = 64
SEEDS, SEEDS_THOROUGH = 4, 12
TARGET, MOST = 1e-10, 40
EARLY = 3

EXPONENT_MARGIN, CONDITION_MARGIN, CHEAPER_MARGIN = 2.6, 0.6, 0.5
OURS = "ours; [A] has n^3 in every iteration"
CLAIMS = (
    Claim(
        "solve_cost.early",
        "With the Cholesky solver each of the first three iterations makes a new factor, n^3 / 3 multiply-adds, in "
        "every run: while pairs flip, an old factor does not serve.",
        OURS,
    ),
    Claim(
        "solve_cost.sketch",
        "The sketched solver does at least 2 n^3 multiply-adds in every iteration: sketching does not remove n^3.",
        "[A], Theorem 1.1",
    ),
    Claim(
        "solve_cost.exponent",
        "Conjugate gradients scaled by the diagonal need no n^3 in any iteration: the exponent of their work in n is "
        "at most 2.6, on random inputs and on pairs at angle 0.3.",
        OURS,
    ),
    Claim(
        "solve_cost.condition",
        "What they pay instead is the condition number of G, to a power of at most 0.6, over pairs at angles from 1 to "
        "0.03.",
        "ours; Hestenes and Stiefel (1952)",
    ),
    Claim(
        "solve_cost.equal",
        "Their run equals that of the Cholesky solver: residuals differ by at most 1e-7 of the largest.",
        "ours",
    ),
    Claim(
        "solve_cost.cheaper",
        "At the largest n measured, 128 or more, a whole run on random inputs takes them at most half of the Cholesky "
        "solver's work.",
        OURS,
    ),
)


def cells(profile: Profile) -> list[Inputs]:
    """List the sizes of both families, and the angles; each for every seed."""
    points, seeds = (POINTS_THOROUGH, SEEDS_THOROUGH) if profile.thorough else (POINTS, SEEDS)
    grid: list[Inputs] = [
        {"part": "points", "family": family, "n": n, "width": WIDTH, "angle": None}
        for family in FAMILIES
        for n in points
    ]
    grid += [
        {"part": "angles", "family": "pairs", "n": ANGLE_POINTS, "width": WIDTH, "angle": angle}
        for angle in ANGLES
    ]
    return [{**cell, "seed": seed} for cell in grid for seed in range(seeds)]


def measure(inputs: Inputs, rng: np.random.Generator, code: CodeUnderTest) -> Result:
    """Train with each solver; or solve one system, from pairs at one angle."""
    n, width = inputs["n"], inputs["width"]
    problem = problems.make(inputs["family"], n, D, rng, angle=inputs["angle"])
    network = code.lazy_initialize(problem.X, width=width, shift=shift_for(width, ALPHA), rng=rng)
    if inputs["part"] == "angles":
        G = code.gram(network, problem.X)
        solution = code.solve_conjugate(G, network.predict(problem.X) - problem.y)
        return {"condition": float(np.linalg.cond(G)), "steps": int(solution.iterations)}

    def train(solver: str, most: int = MOST) -> Trace[Any] | None:
        try:
            trace: Trace[Any] = code.train(
                network, problem.X, problem.y, iterations=most, tolerance=TARGET, solver=solver, rng=rng
            )
        except (InputError, DivergenceError):
            return None
        return trace

    cholesky, conjugate = train("cholesky"), train("conjugate")
    sketch = train("sketch", 1 if n <= MOST_SKETCHED else 0)
    if cholesky is None or conjugate is None or sketch is None:
        return {"failed": True}
    return {
        "failed": False,
        "cholesky": [counts["solve"] for counts in cholesky.counts],
        "conjugate": [counts["solve"] for counts in conjugate.counts],
        "sketch": [counts["solve"] for counts in sketch.counts],
        "error": difference(conjugate.residual_norms, cholesky.residual_norms),
    }


def difference(mine: FloatArray, theirs: FloatArray) -> float:
    """Return the largest difference over the bound for whole runs; a run that ends first stands still from there.

    Examples
    --------
    >>> run = np.array([1.0, 0.5, 1e-10])
    >>> round(difference(run[:2], run[:2] - [0, 1e-7]), 6), difference(run[:2], run) > 1
    (1.0, True)
    """
    length = max(len(mine), len(theirs))
    mine, theirs = (np.pad(norms, (0, length - len(norms)), mode="edge") for norms in (mine, theirs))
    return largest(np.abs(mine - theirs) / (tolerances.RUN * theirs.max()))


def decide(results: Runs) -> list[Finding]:
    """Count factors; fit exponents, one per seed."""
    grid = [(i, r) for i, r in results if i["part"] == "points" and not r["failed"]]
    failed = sum(bool(r.get("failed")) for _, r in results)
    seeds = sorted({inputs["seed"] for inputs, _ in results})
    sizes = sorted({inputs["n"] for inputs, _ in results if inputs["part"] == "points"})
    domain = (
        f"n={sizes[0]}..{sizes[-1]}, d={D}, m=2^{WIDTH.bit_length() - 1}, alpha={ALPHA}, random inputs and pairs at "
        f"angle 0.3, {len(seeds)} seeds, down to {TARGET:g}"
    )
    if failed:
        reason = f"{failed} runs stopped with an error."
        return [Finding(claim.id, "invalid", None, None, "every run goes through", domain, reason) for claim in CLAIMS]
    factors = [min(r["cholesky"][:EARLY]) / (i["n"] ** 3 // 3) for i, r in grid]
    later = [sum(work < i["n"] ** 3 // 3 for work in r["cholesky"]) for i, r in grid]
    sketch = [work / (2 * i["n"] ** 3) for i, r in grid for work in r["sketch"]]
    errors = [r["error"] for _, r in grid]
    return [
        _find_all(
            "early",
            factors,
            domain,
            "of n^3 / 3",
            f"Least share in the first {EARLY} iterations of a run; {np.mean(later):.1f} iterations of a run, on "
            "average, go without a factor.",
        ),
        _find_all("sketch", sketch, domain, "of 2 n^3", "Least share in any run."),
        _find_exponent(grid, seeds, domain),
        _find_condition(results, seeds),
        make_finding(
            "solve_cost.equal",
            Interval(max(errors), min(errors), max(errors)),
            "holds" if max(errors) <= 1 else "fails",
            margin="<= 1 (of the bound) in every run",
            domain=domain,
            reason="Largest difference of residual norms over the bound.",
        ),
        _find_cheaper(grid, sizes, domain),
    ]


def _find_all(name: str, shares: list[float], domain: str, what: str, reason: str) -> Finding:
    """Decide that every run does at least all of something."""
    least = min(shares)
    return make_finding(
        f"solve_cost.{name}",
        Interval(least, least, max(shares)),
        "holds" if least >= 1 else "fails",
        margin=f">= 1 {what} in every run",
        domain=domain,
        reason=reason,
    )


def _slopes(
    runs: Runs, seeds: list[int], x: Callable[[Inputs, Result], float], y: Callable[[Result], float]
) -> Interval:
    """Fit one slope of logarithms per seed."""
    fitted = []
    for seed in seeds:
        own = [(i, r) for i, r in runs if i["seed"] == seed]
        fitted.append(slope([math.log(x(i, r)) for i, r in own], [math.log(y(r)) for _, r in own])[0])
    return t_interval(fitted)


def _find_exponent(grid: Runs, seeds: list[int], domain: str) -> Finding:
    intervals = {
        family: _slopes(
            [(i, r) for i, r in grid if i["family"] == family],
            seeds,
            lambda i, _: i["n"],
            lambda r: float(max(r["conjugate"])),
        )
        for family in FAMILIES
    }
    steepest = max(intervals, key=lambda family: intervals[family].high)
    steps = [
        f"{family} {np.mean([max(r['conjugate']) / i['n'] ** 2 for i, r in grid if i['family'] == family]):.0f}"
        for family in FAMILIES
    ]
    return make_finding(
        "solve_cost.exponent",
        intervals[steepest],
        decide_below(intervals[steepest], EXPONENT_MARGIN),
        margin=f"<= {EXPONENT_MARGIN:g}",
        domain=domain,
        reason="Slope of log work of the dearest iteration of a run against log n, t-interval over seeds; the steeper "
        f"is {steepest}. Most products with G in an iteration, mean: {', '.join(steps)}.",
    )


def _find_condition(results: Runs, seeds: list[int]) -> Finding:
    angles = [(i, r) for i, r in results if i["part"] == "angles"]
    interval = _slopes(angles, seeds, lambda _, r: float(r["condition"]), lambda r: float(r["steps"]))
    span = [r["condition"] for _, r in angles]
    return make_finding(
        "solve_cost.condition",
        interval,
        decide_below(interval, CONDITION_MARGIN),
        margin=f"<= {CONDITION_MARGIN:g}",
        domain=f"n={ANGLE_POINTS}, d={D}, m=2^{WIDTH.bit_length() - 1}, alpha={ALPHA}, pairs at angles "
        f"{', '.join(map(str, ANGLES))}, {len(seeds)} seeds",
        reason=f"Slope of log steps against log condition number, t-interval over seeds; condition {min(span):.2g} to "
        f"{max(span):.2g}, {min(r['steps'] for _, r in angles)} to {max(r['steps'] for _, r in angles)} steps.",
    )


def work_share(result: Result) -> float:
    """Return the solving work of a run by conjugate gradients over that by Cholesky factors."""
    return float(sum(result["conjugate"]) / sum(result["cholesky"]))


def _find_cheaper(grid: Runs, sizes: list[int], domain: str) -> Finding:
    def mean(family: str, n: int) -> float:
        return float(np.mean([work_share(r) for i, r in grid if (i["family"], i["n"]) == (family, n)]))

    interval = t_interval([work_share(r) for i, r in grid if (i["family"], i["n"]) == ("random", sizes[-1])])
    by_size = "; ".join(f"{family} " + ", ".join(f"{mean(family, n):.2g}" for n in sizes) for family in FAMILIES)
    return make_finding(
        "solve_cost.cheaper",
        interval,
        decide_below(interval, CHEAPER_MARGIN),
        margin=f"<= {CHEAPER_MARGIN:g} (work over the Cholesky solver's) at n={sizes[-1]}",
        domain=domain,
        reason=f"Mean share at n = {', '.join(map(str, sizes))}: {by_size}.",
    )


def plot(figure: Figure, results: Runs) -> None:
    """Draw the solving work of each iteration over ``n^3 / 3``, and steps against the condition number."""
    left, right = figure.subplots(1, 2)
    grid = [(i, r) for i, r in results if i["part"] == "points" and not r["failed"]]
    largest = max((i["n"] for i, _ in grid), default=0)
    for colour, family in enumerate(FAMILIES):
        for line, solver in (("-", "cholesky"), ("--", "conjugate")):
            own = [r[solver] for i, r in grid if (i["family"], i["n"], i["seed"]) == (family, largest, 0)]
            for work in own:
                share = np.array(work) / (largest**3 / 3)
                left.semilogy(share, line, color=f"C{colour}", label=f"{family}, {solver}")
    left.set(xlabel="iteration", ylabel="solving work / (n^3 / 3)", title=f"n = {largest}")
    left.legend(frameon=False)
    points = [(r["condition"], r["steps"]) for i, r in results if i["part"] == "angles"]
    right.loglog(*zip(*points, strict=True), "o", markersize=4)
    right.set(xlabel="condition number of G", ylabel="steps of conjugate gradients")


EXPERIMENT = Experiment(
    name="solve_cost",
    title="Which iterations pay n^3",
    claims=CLAIMS,
    cells=cells,
    measure=measure,
    decide=decide,
    plot=plot,
)
