"""Claim: what is left without a shift, ``b = 0``, the plain ReLU that most networks use.

Half of all neurons fire on a point then. What training does is as good as before, or better: steps move the scores by
less, beside their deviation, the more neurons share the work. What is lost is the sublinear cost, and with it the point
of [A]: ``m / 2`` pairs fire on each point, every neuron fires somewhere, and there is nothing to leave out.

1. ``halves``     Do trials halve the residual in every iteration, down to 1e-10?
2. ``iterations`` In no more iterations than at the paper's alpha = 0.24, same data and weights?
3. ``linear``     Does the work of an iteration grow linearly with the width? Exponent of the sum of all counters but
   ``solve``, of the event path's first two iterations: at least 0.95. A negative finding.
4. ``everyone``   Does every neuron fire somewhere, so that dropping those that do not saves nothing? Share of neurons
   that fire on some point: at least 0.99.

Cost of a trial: two training runs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from reference.notation import DivergenceError, InputError
from reference.two_layer import TwoLayerNetwork, activation_pattern, shift_for
from verify import problems
from verify.claims.opponents import total
from verify.experiment import Claim, CodeUnderTest, Experiment, Finding, Inputs, Profile, Result
from verify.statistics import decide_above, decide_below, make_finding, proportion_interval, slope, t_interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Runs = Sequence[tuple[Inputs, Result]]

N, D, PAPER = 24, 16, 0.24
EXPONENT, EXPONENTS, EXPONENTS_THOROUGH = 12, (11, 13, 15), (11, 13, 15, 17, 19)
TRIALS, SEEDS, SEEDS_THOROUGH = 60, 5, 15
TARGET, MOST = 1e-10, 40
WORK_ITERATIONS = 2
SUCCESS, MORE_MARGIN, LINEAR_MARGIN, EVERYONE_MARGIN = 0.95, 0.0, 0.95, 0.99

OURS = "ours; asked for by reviews of [A]"
CLAIMS = (
    Claim(
        "unshifted.halves",
        "Without a shift every iteration at least halves the residual on random inputs, down to 1e-10 of the start, in "
        "at least 95% of runs.",
        OURS,
    ),
    Claim(
        "unshifted.iterations",
        "Without a shift training takes no more iterations, on average, than at the paper's alpha = 0.24.",
        OURS,
    ),
    Claim(
        "unshifted.linear",
        "Without a shift the sublinear cost is lost: the work of an iteration grows with the width with an exponent of "
        "at least 0.95.",
        OURS,
    ),
    Claim(
        "unshifted.everyone",
        "Without a shift at least 99% of all neurons fire on some data point, so dropping the others saves nothing.",
        OURS,
    ),
)


def cells(profile: Profile) -> list[Inputs]:
    """List the trials, and the widths for the work."""
    exponents, seeds = (EXPONENTS_THOROUGH, SEEDS_THOROUGH) if profile.thorough else (EXPONENTS, SEEDS)
    trials: list[Inputs] = [{"part": "trial", "exponent": EXPONENT, "seed": seed} for seed in range(TRIALS)]
    return trials + [
        {"part": "work", "exponent": exponent, "seed": seed} for exponent in exponents for seed in range(seeds)
    ]


def measure(inputs: Inputs, rng: np.random.Generator, code: CodeUnderTest) -> Result:
    """Train without a shift and with the paper's; or count the work of two iterations without."""
    width = 1 << inputs["exponent"]
    problem = problems.make("random", N, D, rng)
    network = code.initialize(width, D, shift=0.0, rng=rng)
    if inputs["part"] == "work":
        counts = code.train(network, problem.X, problem.y, iterations=WORK_ITERATIONS).counts
        solve = sum(each["solve"] for each in counts)
        share = float(activation_pattern(network, problem.X).any(axis=0).mean())
        return {"work": int(total(counts)) - solve, "pairs": counts[0]["active_pairs"], "everyone": share}
    shifted = TwoLayerNetwork(network.weights, network.signs, shift_for(width, PAPER))
    return {"plain": run(network, problem, code), "shifted": run(shifted, problem, code)}


def run(network: TwoLayerNetwork, problem: problems.Problem, code: CodeUnderTest) -> list[float] | None:
    """Return iterations and worst ratio of a run that converged; else nothing. The end is judged by a dense network."""
    try:
        trace = code.train(network, problem.X, problem.y, iterations=MOST, tolerance=TARGET)
    except (InputError, DivergenceError):
        return None
    norms = np.asarray(trace.residual_norms)
    end = float(np.linalg.norm(trace.network.to_dense().predict(problem.X) - problem.y))
    if not end <= 2 * TARGET * norms[0]:  # twice: rounding
        return None
    return [len(norms) - 1, float((norms[1:] / norms[:-1]).max())]


def decide(results: Runs) -> list[Finding]:
    """Count trials; compare iterations trial by trial; fit exponents seed by seed."""
    trials = [result for inputs, result in results if inputs["part"] == "trial"]
    work = [(inputs, result) for inputs, result in results if inputs["part"] == "work"]
    domain = f"n={N}, d={D}, m=2^{EXPONENT}, b=0, random inputs, {len(trials)} trials, down to {TARGET:g}"
    successes = [result["plain"] is not None and result["plain"][1] <= 0.5 for result in trials]
    share = proportion_interval(sum(successes), len(trials), confidence=0.9)
    worst = [result["plain"][1] for result in trials if result["plain"] is not None]
    more = t_interval(
        [r["plain"][0] - r["shifted"][0] if r["plain"] and r["shifted"] else math.nan for r in trials]
    )
    exponents = sorted({inputs["exponent"] for inputs, _ in work})
    seeds = sorted({inputs["seed"] for inputs, _ in work})
    slopes = []
    for seed in seeds:
        own = [(i["exponent"] * math.log(2), math.log(r["work"])) for i, r in work if i["seed"] == seed]
        slopes.append(slope(*zip(*own, strict=True))[0])
    linear = t_interval(slopes)
    everyone = t_interval([np.mean([r["everyone"] for i, r in work if i["seed"] == seed]) for seed in seeds])
    fired = np.mean([r["pairs"] / (N * 2.0 ** i["exponent"]) for i, r in work])
    sizes = f"n={N}, d={D}, m=2^{exponents[0]}..2^{exponents[-1]}, b=0, random inputs, {len(seeds)} seeds"
    return [
        make_finding(
            "unshifted.halves",
            share,
            decide_above(share, SUCCESS),
            margin=f">= {SUCCESS} of trials (one-sided 95%)",
            domain=domain,
            reason=f"{sum(successes)} of {len(trials)} trials halve in every iteration; median worst ratio "
            f"{np.median(worst) if worst else math.inf:.3g}.",
        ),
        make_finding(
            "unshifted.iterations",
            more,
            decide_below(more, MORE_MARGIN),
            margin=f"<= {MORE_MARGIN:g} (iterations without shift less those with)",
            domain=domain,
            reason="Mean difference over trials, same data and weights, t-interval.",
        ),
        make_finding(
            "unshifted.linear",
            linear,
            decide_above(linear, LINEAR_MARGIN),
            margin=f">= {LINEAR_MARGIN} (exponent in m)",
            domain=sizes,
            reason=f"Slope of log work of the first {WORK_ITERATIONS} iterations against log m, t-interval over seeds; "
            f"{fired:.1%} of all pairs fire.",
        ),
        make_finding(
            "unshifted.everyone",
            everyone,
            decide_above(everyone, EVERYONE_MARGIN),
            margin=f">= {EVERYONE_MARGIN} of neurons",
            domain=sizes,
            reason="Mean share of neurons that fire on some data point, t-interval over seeds.",
        ),
    ]


def plot(figure: Figure, results: Runs) -> None:
    """Draw the work against the width, and the iterations with and without a shift."""
    left, right = figure.subplots(1, 2)
    work = [(i, r) for i, r in results if i["part"] == "work"]
    left.loglog([2.0 ** i["exponent"] for i, _ in work], [r["work"] for _, r in work], "o", markersize=4)
    left.set_xscale("log", base=2)
    left.set(xlabel="width m", ylabel=f"work of {WORK_ITERATIONS} iterations, no shift")
    trials = [r for i, r in results if i["part"] == "trial"]
    for place, name in enumerate(("plain", "shifted")):
        counts = [r[name][0] for r in trials if r[name]]
        values = sorted(set(counts))
        right.bar([value + 0.4 * place for value in values], [counts.count(value) for value in values], 0.4, label=name)
    right.set(xlabel="iterations to 1e-10", ylabel="trials")
    right.legend(frameon=False)


EXPERIMENT = Experiment(
    name="unshifted",
    title="Without a shift",
    claims=CLAIMS,
    cells=cells,
    measure=measure,
    decide=decide,
    plot=plot,
)
