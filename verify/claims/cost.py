"""Claim: an iteration costs what its fired pairs cost, phase by phase, and never a pass over the network.

What is asked. Every phase of an iteration reports how many array entries it processed. On a grid that varies ``m``,
``n`` and ``d`` separately:

1. ``exact``      Does every counter of every iteration equal its closed form (`verify.closed_forms`), computed by
   separate code from the sets that fired in a dense run, which is separate code too?
2. ``width``      Does the work of each phase follow ``m Phi(-b)``, the law for fired neurons, times ``log m``
   where trees are climbed? Slope of ``log(work / law)`` against ``log m`` at most 0.05, for the phase that grows
   fastest. The paper's ``1 - alpha`` is the limit of that law's exponent.
3. ``points``     Is the exponent in ``n`` at most 2, within 0.1, for the phase that grows fastest? (The solve is
   ``n^3/3`` exactly, and part of claim 1.)
4. ``inputs``     Does any phase depend on ``d``? The scores move through ``X X^T``, so the exponent is 0.
5. ``forbidden``  Explain the work by named terms with non-negative coefficients, the forbidden ``m n d`` among them.
   Is the upper end of its coefficient at most 1e-3?
6. ``dense``      Does the same fit convict the dense loop? Its coefficient of ``m n d`` must be at least 0.5.
7. ``witness``    Counters are testimony. After the preparation everything that an iteration has no right to read is
   overwritten with infinities: the weights of all neurons that fire nowhere, and in the trees all scores and maxima off
   the paths to neurons that do. An honest loop returns the same bits. If one does not, claims 2 to 5 are invalid.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import ndtr

import reference.two_layer
from reference.notation import FloatArray, IntArray
from reference.trace import Trace
from reference.two_layer import TwoLayerNetwork, shift_for
from verify import closed_forms, problems
from verify.experiment import Claim, CodeUnderTest, Experiment, Finding, Inputs, Profile, Result
from verify.statistics import (
    BADNESS,
    NOT_A_NUMBER,
    Interval,
    contradicted,
    decide_above,
    decide_below,
    make_finding,
    named_terms_fit,
    slope,
    t_interval,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ALPHA = 0.24
ITERATIONS = 2
"""A third one would start at rounding error wherever no pair flipped, and the last bits decide what such an update
looks at."""
SEEDS, SEEDS_THOROUGH = 6, 18
SWEEPS: dict[str, list[dict[str, int]]] = {
    # Four points only: with many, neurons that fire on several of them make small widths cheaper than the law.
    "width": [{"width": 1 << exponent, "n": 4, "d": 32} for exponent in range(11, 18)],
    "n": [{"width": 1 << 14, "n": n, "d": 32} for n in (4, 8, 16, 32)],
    "d": [{"width": 1 << 14, "n": 16, "d": d} for d in (8, 32, 128)],
    "all": [{"width": 1 << 14, "n": 2, "d": 256}, {"width": 1 << 15, "n": 64, "d": 4}],
}
WIDTH_MARGIN, POINTS_MARGIN, INPUTS_MARGIN = 0.05, 0.1, 0.05
FORBIDDEN_MARGIN, DENSE_LEAST = 1e-3, 0.5
PHASES = ("query", "gram", "step", "update")
"""Phases that depend on the fired pairs; the solve is ``n^3 / 3``."""
RELY_ON_COUNTS = ("cost.width", "cost.points", "cost.inputs", "cost.forbidden")
"""Claims about what an iteration reads; without a witness they are no evidence."""
TREE_PHASES = ("query", "update")

CLAIMS = (
    Claim("cost.exact", "Every work counter of every iteration equals its closed form.", "ours"),
    Claim(
        "cost.width",
        "The work of every phase grows with the width like the fired neurons, m Phi(-b), or in the trees their paths, "
        "m Phi(-b) log m, or more slowly: the exponent of the ratio is at most 0.05.",
        "[A], Theorem 1.1",
    ),
    Claim(
        "cost.points",
        "No phase but the solve grows faster than n^2 with the number of data points: the exponent is at most 2.1.",
        "[A], Theorem 1.1",
    ),
    Claim(
        "cost.inputs",
        "No phase of an iteration grows with the input dimension d: the exponent is at most 0.05.",
        "ours; [A] has a factor d",
    ),
    Claim(
        "cost.forbidden",
        "The work of an iteration contains no term m n d: its coefficient is at most 0.001.",
        "[A], Theorem 1.1",
    ),
    Claim("cost.dense", "The dense loop's work does contain it: its coefficient is at least 0.5.", "ours"),
    Claim(
        "cost.witness",
        "After the preparation neither weights nor scores of neurons that fire nowhere have any effect on an "
        "iteration, and no product with their weights is formed.",
        "ours",
    ),
)


def cells(profile: Profile) -> list[Inputs]:
    """List the grid, each point for every seed."""
    seeds = SEEDS_THOROUGH if profile.thorough else SEEDS
    return [
        {"sweep": sweep, **point, "seed": seed}
        for sweep, points in SWEEPS.items()
        for point in points
        for seed in range(seeds)
    ]


def measure(inputs: Inputs, rng: np.random.Generator, code: CodeUnderTest) -> Result:
    """Train a few iterations; set the counters beside the closed forms of a dense run."""
    width, n, d = inputs["width"], inputs["n"], inputs["d"]
    problem = problems.make("random", n, d, rng)
    network = code.initialize(width, d, shift=shift_for(width, ALPHA), rng=rng)
    trace = code.train(network, problem.X, problem.y, iterations=ITERATIONS, search="tree")
    dense = code.train_dense(network, problem.X, problem.y, iterations=ITERATIONS)
    return {
        "counts": trace.counts,
        "expected": expected_counts(network, problem),
        "dense": dense.counts,
        "fired": int(reference.two_layer.activation_pattern(network, problem.X).sum()),
        "witness": bool(run_ignores_poison(network, problem, trace, code)),
    }


def expected_counts(network: TwoLayerNetwork, problem: problems.Problem) -> list[dict[str, int]]:
    """Compute every counter from the patterns of a dense run."""
    n, shift, weights = len(problem.X), network.shift, network.weights.copy()
    expected = []
    scores = problem.X @ weights.T
    for _ in range(ITERATIONS):
        fires = scores >= shift
        counts = {
            "gram": closed_forms.gram_work(fires),
            "solve": closed_forms.solve_work(n),
            "step": closed_forms.step_work(fires),
        }
        before, moved = scores, np.flatnonzero(fires.any(axis=0))
        weights[moved] -= step_of(moved, scores, network, problem)
        scores = problem.X @ weights.T
        counts["update"] = closed_forms.update_nodes(before, scores, moved)
        counts["query"] = closed_forms.query_nodes(scores >= shift)
        counts["active_pairs"] = counts["predict"] = int(np.count_nonzero(scores >= shift))
        expected.append(counts)
    return expected


def step_of(moved: IntArray, scores: FloatArray, network: TwoLayerNetwork, problem: problems.Problem) -> FloatArray:
    """Compute the Gauss-Newton step of the neurons that move, ``J^T G^-1 (f - y)`` by its definition."""
    X, root = problem.X, math.sqrt(network.width)
    own = scores.take(moved, axis=1)  # several times quicker than scores[:, moved]
    A = (own >= network.shift).astype(np.float64)
    signs = network.signs[moved]
    f = (A * (own - network.shift)) @ signs / root
    g = np.linalg.solve((X @ X.T) * (A @ A.T) / network.width, f - problem.y)
    step: FloatArray = signs[:, np.newaxis] * (A.T @ (g[:, np.newaxis] * X)) / root
    return step


def run_ignores_poison(
    network: TwoLayerNetwork, problem: problems.Problem, honest: Trace[Any], code: CodeUnderTest
) -> bool:
    """Poison what no iteration may read, after the preparation; tell whether ``honest`` comes out again to the bit."""
    X = problem.X
    weights = network.weights.copy()
    run = code.start(TwoLayerNetwork(weights, network.signs, network.shift), X, problem.y)
    # Whoever fires during the run has moved, or fires on a point for the first time at its very end.
    ever = (honest.network.to_dense().weights != network.weights).any(axis=1)
    ever |= reference.two_layer.activation_pattern(honest.network.to_dense(), X).any(axis=0)
    weights[~ever] = np.inf * (-1.0) ** np.arange(network.dim)
    span = 1
    for level in run.forest.levels[:-1]:
        span *= closed_forms.FAN_OUT
        quiet = np.ones(level.shape[1], dtype=bool)
        quiet[ever.nonzero()[0] // span] = False
        level[:, quiet] = np.inf
    try:
        # Infinite weights of both signs make any product with them invalid, even one whose result is thrown away.
        with np.errstate(invalid="raise"):
            for _ in range(ITERATIONS):
                run.iterate()
    except (ValueError, ArithmeticError):
        return False  # whoever stumbles over infinity has read it
    poisoned = run.trace(0.0)
    same_residuals: bool = poisoned.residual_norms.tolist() == honest.residual_norms.tolist()
    same_predictions: bool = poisoned.predictions.tolist() == honest.predictions.tolist()
    return same_residuals and same_predictions


def decide(results: Sequence[tuple[Inputs, Result]]) -> list[Finding]:
    """Compare counters with closed forms; fit slopes per seed; fit named terms over all cells."""
    domain = describe_domain(results)
    findings = [
        _find_exact(results, domain),
        *(_find_exponent(name, results, domain) for name in ("width", "points", "inputs")),
        _find_forbidden("forbidden", results, domain),
        _find_forbidden("dense", results, domain),
    ]
    witness = _find_witness(results, domain)
    if witness.verdict == "fails":
        findings = [contradicted(finding) if finding.claim in RELY_ON_COUNTS else finding for finding in findings]
    return [*findings, witness]


def describe_domain(results: Sequence[tuple[Inputs, Result]]) -> str:
    """Say for which sizes the verdicts speak."""

    def span(name: str) -> str:
        values = [inputs[name] for inputs, _ in results]
        return f"{min(values)}..{max(values)}"

    seeds = len({inputs["seed"] for inputs, _ in results})
    return f"m={span('width')}, n={span('n')}, d={span('d')}, alpha={ALPHA}, random inputs, {seeds} seeds"


def _find_exact(results: Sequence[tuple[Inputs, Result]], domain: str) -> Finding:
    wrong, total, example = 0, 0, ""
    none: dict[str, int] = {}
    for inputs, result in results:
        for iteration, (counts, expected) in enumerate(
            zip_longest(result["counts"], result["expected"], fillvalue=none)
        ):
            for phase in sorted(counts.keys() | expected.keys()):
                total += 1
                found, value = counts.get(phase), expected.get(phase)
                if found != value:
                    wrong += 1
                    example = f"; e.g. {phase} {found}, not {value}, in iteration {iteration} at {inputs}"
    share = wrong / total
    return make_finding(
        "cost.exact",
        Interval(share, share, share),
        "holds" if wrong == 0 else "fails",
        margin="= 0 (share of counters that differ)",
        domain=domain,
        reason=f"{wrong} of {total} counters differ from their closed form{example}.",
    )


def _find_exponent(name: str, results: Sequence[tuple[Inputs, Result]], domain: str) -> Finding:
    variable = {"width": "width", "points": "n", "inputs": "d"}[name]
    target, margin = {"width": (0, WIDTH_MARGIN), "points": (2, POINTS_MARGIN), "inputs": (0, INPUTS_MARGIN)}[name]
    intervals = {phase: t_interval(_slopes(variable, phase, results)) for phase in PHASES}
    # A phase that reports nothing has no slope, and must not hide behind the others; nor one that grows behind a noisy.
    verdicts = {phase: decide_below(interval, target + margin) for phase, interval in intervals.items()}
    worst = max(intervals, key=lambda phase: (BADNESS.index(verdicts[phase]), intervals[phase].high))
    interval = intervals[worst]
    what = "log(work / law)" if name == "width" else "log(work)"
    plain = ", ".join(
        f"{phase} {np.mean(_slopes(variable, phase, results, by_law=False)):.3f}" for phase in PHASES
    )
    return make_finding(
        f"cost.{name}",
        interval,
        verdicts[worst],
        margin=f"<= {target + margin:g}",
        domain=domain,
        reason=f"Slope of {what} against log {variable} of the worst phase, {worst}; t-interval over seeds. "
        f"Plain exponents of the work in {variable}: {plain}.",
    )


def _slopes(
    variable: str, phase: str, results: Sequence[tuple[Inputs, Result]], *, by_law: bool = True
) -> list[float]:
    """Fit one slope per seed through the sweep in which only ``variable`` changes."""
    slopes = []
    for seed in sorted({inputs["seed"] for inputs, _ in results}):
        x, y = [], []
        for inputs, result in results:
            if inputs["seed"] == seed and inputs["sweep"] == variable:
                work = math.fsum(counts.get(phase, 0) for counts in result["counts"]) / ITERATIONS
                law = phase_law(phase, inputs["width"]) if variable == "width" and by_law else 1
                x.append(math.log(inputs[variable]))
                y.append(math.log(work / law) if work > 0 else math.nan)
        slopes.append(slope(x, y)[0])
    return slopes


def fired_law(width: int) -> float:
    """Return ``m Phi(-b)`` at ``b = sqrt(2 alpha ln m)``."""
    return float(width * ndtr(-math.sqrt(2 * ALPHA * math.log(width))))


def phase_law(phase: str, width: int) -> float:
    """Return the law for the work of a phase: ``m Phi(-b)``, times ``log m`` for the phases that climb the trees."""
    return fired_law(width) * (math.log(width) if phase in TREE_PHASES else 1)


def _find_forbidden(name: str, results: Sequence[tuple[Inputs, Result]], domain: str) -> Finding:
    coefficients = fit_terms("dense" if name == "dense" else "counts", results)
    interval = coefficients["m n d"]
    verdict = decide_above(interval, DENSE_LEAST) if name == "dense" else decide_below(interval, FORBIDDEN_MARGIN)
    listed = ", ".join(f"{term}: {fit.estimate:.3g}" for term, fit in coefficients.items())
    return make_finding(
        f"cost.{name}",
        interval,
        verdict,
        margin=f">= {DENSE_LEAST}" if name == "dense" else f"<= {FORBIDDEN_MARGIN:g}",
        domain=domain,
        reason=f"Coefficients of the named terms ({listed}); interval by bootstrap over seeds.",
    )


def fit_terms(which: str, results: Sequence[tuple[Inputs, Result]]) -> dict[str, Interval]:
    """Fit the mean work of an iteration by named terms; ``k`` is the measured number of fired neurons per point."""
    work, seeds = [], []
    names = ("n k d", "n k log m", "n^2 k", "n^3", "n", "m n d")
    terms: dict[str, list[float]] = {name: [] for name in names}
    for inputs, result in results:
        m, n, d, pairs = inputs["width"], inputs["n"], inputs["d"], result["fired"]
        work.append(math.fsum(sum(counts.values()) for counts in result[which]) / ITERATIONS)
        seeds.append(inputs["seed"])
        values = (pairs * d, pairs * math.log(m), n * pairs, n**3, n, m * n * d)
        for name, value in zip(terms, values, strict=True):
            terms[name].append(float(value))
    if min(work) <= 0:
        return dict.fromkeys(names, NOT_A_NUMBER)  # a loop that reports no work at all
    return named_terms_fit(terms, work, seeds, np.random.default_rng(0), resamples=200)


def _find_witness(results: Sequence[tuple[Inputs, Result]], domain: str) -> Finding:
    noticed = sum(not result["witness"] for _, result in results)
    share = noticed / len(results)
    return make_finding(
        "cost.witness",
        Interval(share, share, share),
        "holds" if noticed == 0 else "fails",
        margin="= 0 (share of runs that noticed)",
        domain=domain,
        reason=f"{noticed} of {len(results)} runs noticed that what they must not read was overwritten.",
    )


def plot(figure: Figure, results: Sequence[tuple[Inputs, Result]]) -> None:
    """Draw the work of every phase and of the dense loop against the width."""
    axes = figure.subplots()
    own = [(i, r) for i, r in results if i["sweep"] == "width"]
    widths = np.array(sorted({inputs["width"] for inputs, _ in own}))

    def mean(which: str, phase: str | None) -> FloatArray:
        means = []
        for width in widths:
            runs = [r[which] for i, r in own if i["width"] == width]
            works = [sum(c.values()) if phase is None else c.get(phase, 0) for run in runs for c in run]
            means.append(float(np.mean(works)) if works else 0.0)
        return np.array(means)

    for phase in PHASES:
        axes.loglog(widths, mean("counts", phase), marker="o", markersize=4, label=phase)
    axes.loglog(widths, mean("dense", None), "s--", color="black", markersize=4, label="dense loop")
    law = np.array([fired_law(int(width)) for width in widths])
    law *= mean("counts", "update")[0] / law[0]
    axes.loglog(widths, law, ":", color="gray", marker="", label="law m Phi(-b), scaled")
    axes.set_xscale("log", base=2)
    axes.set(xlabel="width m", ylabel="work of one iteration", ylim=(None, 100 * axes.get_ylim()[1]))
    axes.legend(frameon=False, ncols=2, loc="upper left")


EXPERIMENT = Experiment(
    name="cost",
    title="Cost of an iteration by counts",
    claims=CLAIMS,
    cells=cells,
    measure=measure,
    decide=decide,
    plot=plot,
)
