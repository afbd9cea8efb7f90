"""Claim: an iteration costs what its fired pairs cost, phase by phase, and never a pass over the network.

What is asked. Every phase of an iteration reports how many array entries it processed. On a grid that varies ``m``,
``n`` and ``d`` separately:

1. ``exact``      Does every counter of every iteration equal its closed form (`verify.closed_forms`), computed by
   separate code from the sets that fired in the *reference's* dense run?
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
   overwritten with infinity: the weights of all neurons that fire nowhere, and their scores outside the nodes that
   lead to fired ones. An honest loop returns the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtr

import reference.two_layer
from reference.notation import FloatArray
from reference.two_layer import TwoLayerNetwork, shift_for
from verify import closed_forms, problems
from verify.experiment import Claim, CodeUnderTest, Experiment, Finding, Inputs, Profile, Result
from verify.statistics import Interval, decide_above, decide_below, make_finding, named_terms_fit, slope, t_interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ALPHA = 0.24
ITERATIONS = 3
SEEDS = 8
SWEEPS: dict[str, list[dict[str, int]]] = {
    # Four points only: with many, neurons that fire on several of them make small widths cheaper than the law.
    "width": [{"width": 1 << exponent, "n": 4, "d": 32} for exponent in range(11, 18)],
    "n": [{"width": 1 << 14, "n": n, "d": 32} for n in (4, 8, 16, 32)],
    "d": [{"width": 1 << 14, "n": 16, "d": d} for d in (8, 32, 128)],
    "all": [{"width": 1 << 16, "n": 2, "d": 256}, {"width": 1 << 15, "n": 64, "d": 4}],
}
WIDTH_MARGIN, POINTS_MARGIN, INPUTS_MARGIN = 0.05, 0.1, 0.05
FORBIDDEN_MARGIN, DENSE_LEAST = 1e-3, 0.5
PHASES = ("query", "gram", "step", "update")
"""Phases that depend on the fired pairs; the solve is ``n^3 / 3``."""
TREE_PHASES = ("query", "update")

CLAIMS = (
    Claim("cost.exact", "Every work counter of every iteration equals its closed form.", "ours"),
    Claim(
        "cost.width",
        "The work of every phase grows with the width no faster than the fired neurons, m Phi(-b), or in the trees "
        "their paths, m Phi(-b) log m: like m^(1-alpha) up to logarithms.",
        "[A], Theorem 1.1",
    ),
    Claim(
        "cost.points",
        "No phase but the solve grows faster than n^2 with the number of data points.",
        "[A], Theorem 1.1",
    ),
    Claim("cost.inputs", "No phase of an iteration depends on the input dimension d.", "ours; [A] has a factor d"),
    Claim(
        "cost.forbidden",
        "The work of an iteration contains no term m n d: its coefficient is at most 0.001.",
        "[A], Theorem 1.1",
    ),
    Claim("cost.dense", "The dense loop's work does contain it: its coefficient is at least 0.5.", "ours"),
    Claim("cost.witness", "After the preparation no iteration reads a neuron that fires nowhere.", "ours"),
)


def cells(profile: Profile) -> list[Inputs]:
    """List the grid, each point for every seed."""
    seeds = SEEDS * (3 if profile.thorough else 1)
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
        "expected": expected_counts(network, problem, code),
        "dense": dense.counts,
        "fired": int(reference.two_layer.activation_pattern(network, problem.X).sum()),
        "witness": bool(run_ignores_poison(network, problem, code)),
    }


def expected_counts(network: TwoLayerNetwork, problem: problems.Problem, code: CodeUnderTest) -> list[dict[str, int]]:
    """Compute every counter from the patterns of a dense run."""
    n, shift = len(problem.X), network.shift
    expected = []
    scores = reference.two_layer.preactivations(network, problem.X)
    for _ in range(ITERATIONS):
        fires = scores >= shift
        counts = {
            "gram": closed_forms.gram_work(fires),
            "solve": closed_forms.solve_work(n),
            "step": closed_forms.step_work(fires),
        }
        before, moved = scores, np.flatnonzero(fires.any(axis=0))
        network = code.train_dense(network, problem.X, problem.y, iterations=1).network
        scores = reference.two_layer.preactivations(network, problem.X)
        counts["update"] = closed_forms.update_nodes(before, scores, moved)
        counts["query"] = closed_forms.query_nodes(scores >= shift)
        counts["active_pairs"] = counts["predict"] = int(np.count_nonzero(scores >= shift))
        expected.append(counts)
    return expected


def run_ignores_poison(network: TwoLayerNetwork, problem: problems.Problem, code: CodeUnderTest) -> bool:
    """Poison what no iteration may read, after the preparation; tell whether the run stays the same to the bit."""
    X, y = problem.X, problem.y
    honest = code.train(network, X, y, iterations=ITERATIONS, search="tree")
    weights = network.weights.copy()
    run = code.start(TwoLayerNetwork(weights, network.signs, network.shift), X, y)
    # Whoever fires during the run has moved, or fires on a point for the first time at its very end.
    ever = (honest.network.to_dense().weights != network.weights).any(axis=1)
    ever |= reference.two_layer.activation_pattern(honest.network.to_dense(), X).any(axis=0)
    weights[~ever] = np.inf
    leaves = run.forest.levels[0]
    quiet = np.ones(leaves.shape[1], dtype=bool)
    quiet[ever.nonzero()[0] // closed_forms.FAN_OUT] = False
    leaves[:, quiet] = np.inf
    for _ in range(ITERATIONS):
        run.iterate()
    poisoned = run.trace(0.0)
    same_residuals: bool = poisoned.residual_norms.tolist() == honest.residual_norms.tolist()
    same_predictions: bool = poisoned.predictions.tolist() == honest.predictions.tolist()
    return same_residuals and same_predictions


def decide(results: Sequence[tuple[Inputs, Result]]) -> list[Finding]:
    """Compare counters with closed forms; fit slopes per seed; fit named terms over all cells."""
    domain = describe_domain(results)
    return [
        _find_exact(results, domain),
        *(_find_exponent(name, results, domain) for name in ("width", "points", "inputs")),
        _find_forbidden("forbidden", results, domain),
        _find_forbidden("dense", results, domain),
        _find_witness(results, domain),
    ]


def describe_domain(results: Sequence[tuple[Inputs, Result]]) -> str:
    """Say for which sizes the verdicts speak."""

    def span(name: str) -> str:
        values = [inputs[name] for inputs, _ in results]
        return f"{min(values)}..{max(values)}"

    seeds = len({inputs["seed"] for inputs, _ in results})
    return f"m={span('width')}, n={span('n')}, d={span('d')}, alpha={ALPHA}, random inputs, {seeds} seeds"


def _find_exact(results: Sequence[tuple[Inputs, Result]], domain: str) -> Finding:
    wrong, total, example = 0, 0, ""
    for inputs, result in results:
        for iteration, (counts, expected) in enumerate(zip(result["counts"], result["expected"], strict=True)):
            for phase, value in expected.items():
                total += 1
                if counts.get(phase) != value:
                    wrong += 1
                    example = f"; e.g. {phase} {counts.get(phase)}, not {value}, in iteration {iteration} at {inputs}"
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
    worst = max(intervals, key=lambda phase: intervals[phase].high)
    interval = intervals[worst]
    what = "log(work / law)" if name == "width" else "log(work)"
    return make_finding(
        f"cost.{name}",
        interval,
        decide_below(interval, target + margin),
        margin=f"<= {target + margin:g}",
        domain=domain,
        reason=f"Slope of {what} against log {variable} of the steepest phase, {worst}; t-interval over seeds.",
    )


def _slopes(variable: str, phase: str, results: Sequence[tuple[Inputs, Result]]) -> list[float]:
    """Fit one slope per seed through the sweep in which only ``variable`` changes."""
    slopes = []
    for seed in sorted({inputs["seed"] for inputs, _ in results}):
        x, y = [], []
        for inputs, result in results:
            if inputs["seed"] == seed and inputs["sweep"] == variable:
                work = float(np.mean([counts[phase] for counts in result["counts"]]))
                x.append(math.log(inputs[variable]))
                y.append(math.log(work / (phase_law(phase, inputs["width"]) if variable == "width" else 1)))
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
        per_iteration = [sum(counts.values()) for counts in result[which]]
        work.append(float(np.mean(per_iteration)))
        seeds.append(inputs["seed"])
        values = (pairs * d, pairs * math.log(m), n * pairs, n**3, n, m * n * d)
        for name, value in zip(terms, values, strict=True):
            terms[name].append(float(value))
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
            works = [sum(c.values()) if phase is None else c[phase] for run in runs for c in run]
            means.append(float(np.mean(works)))
        return np.array(means)

    for phase in PHASES:
        axes.loglog(widths, mean("counts", phase), marker="o", markersize=4, label=phase)
    axes.loglog(widths, mean("dense", None), "s--", color="black", markersize=4, label="dense loop")
    law = np.array([fired_law(int(width)) for width in widths])
    axes.loglog(widths, mean("counts", "update")[0] * law / law[0], ":", color="gray", marker="", label="m Phi(-b)")
    axes.set_xscale("log", base=2)
    axes.set(xlabel="width m", ylabel="work of one iteration")
    axes.legend(frameon=False)


EXPERIMENT = Experiment(
    name="cost",
    title="Cost of an iteration by counts",
    claims=CLAIMS,
    cells=cells,
    measure=measure,
    decide=decide,
    plot=plot,
)
