"""Claim: many layers, trained together, halve the residual in every iteration; from which width, and how fast.

What is asked. [B] promises that on wide enough networks every iteration halves the residual. As in
`verify.claims.convergence` one *trial* is one seed, with its own data and weights, and it succeeds when every iteration
halves until the residual is 1e-10 of the start. All layers are trained.

- ``random``: plain networks of two and of three layers. No claim is made below the widths stated.
- ``deep``: four layers, normalized.
- ``normalized``, ``every``: alpha = 0.4 at a width at which plain networks lose signals. There single iterations miss
  the halving now and then; so the first claim is the milder one, that runs arrive in no more iterations than halving
  would take, and the second says how many halve every time.
- ``deep_sparse``: alpha = 0.4 and four layers: runs converge, and do not halve.
- ``narrow``: far too narrow plain networks.
- ``first_ratio``: what the first iteration leaves, as the width grows.

How it is measured
1. After each iteration the weights are written out and the reference's forward pass predicts; the run's own record is
   not asked.
2. Only ``deep_sparse``, whose dense weights cost too much, trains in one go. That it arrives is judged by the dense
   network at its end; that it does not halve, by its own record.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from reference.multi_layer import MultiLayerNetwork
from reference.notation import DivergenceError, NothingFiresError, SingularGramError
from reference.two_layer import shift_for
from verify import problems
from verify.claims.convergence import halves, worst_ratio
from verify.claims.fine_tuning import every_layer
from verify.experiment import Claim, CodeUnderTest, Experiment, Finding, Inputs, Profile, Result, Verdict
from verify.statistics import (
    Interval,
    decide_above,
    decide_below,
    make_finding,
    proportion_interval,
    slope,
    t_interval,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

N, D = 16, 16
TARGET = 1e-10
HALVINGS = math.ceil(-math.log2(TARGET))
"""A run that halves every time needs no more iterations."""
ROUNDING = 1.01
STOPS = (NothingFiresError, SingularGramError, DivergenceError)


@dataclass(frozen=True)
class Setting:
    """What the trials of one family share: layers, alpha, width, how many trials, and whether normalized."""

    depth: int
    alpha: float
    width: int
    trials: int
    normalized: bool = False


SETTINGS = {
    "two_layers": Setting(2, 0.1, 512, 60),
    "three_layers": Setting(3, 0.05, 512, 60),
    "deep": Setting(4, 0.1, 512, 30, normalized=True),
    "normalized": Setting(2, 0.4, 2048, 30, normalized=True),
    "deep_sparse": Setting(4, 0.4, 2048, 12, normalized=True),
    "narrow_2": Setting(2, 0.1, 64, 40),
    "narrow_3": Setting(3, 0.05, 64, 40),
}
OTHER_WIDTHS, OTHER_TRIALS = (32, 128, 256), 4
"""Of the narrow families, for the record."""
RATIO_WIDTHS = (512, 1024, 2048)
RATIO_SEEDS = 20
MOST_ITERATIONS = 60

SUCCESS, DEEP_SUCCESS = 0.95, 0.85
ARRIVES, EVERY = 0.8, 0.6
SPARSE_ARRIVES, SPARSE_HALVES = 0.6, 0.7
NARROW = 0.7
FALLS = -0.1
ONE_SIDED = "(one-sided 95%)"

CLAIMS = (
    Claim(
        "deep_convergence.random",
        "On random inputs every iteration on all layers of a plain network at least halves the residual, down to 1e-10 "
        "of the start, in at least 95% of runs: two layers of 512 neurons at alpha = 0.1, and three of 512 at "
        "alpha = 0.05.",
        "[B], abstract",
    ),
    Claim(
        "deep_convergence.deep",
        "So does every iteration on a normalized network of four layers of 512 neurons at alpha = 0.1, in at least 85% "
        "of runs.",
        "[B], abstract; normalized networks are ours",
    ),
    Claim(
        "deep_convergence.normalized",
        "At alpha = 0.4 and width 2^11, where plain networks lose signals, normalized networks of two layers reach "
        "1e-10 of the start in no more iterations than halving would take, in at least 80% of runs.",
        "ours",
    ),
    Claim(
        "deep_convergence.every",
        "In at least 60% of those runs every single iteration halves the residual.",
        "ours",
    ),
    Claim(
        "deep_convergence.deep_sparse",
        "With four layers at alpha = 0.4 and width 2^11, normalized networks still reach 1e-10 of the start within 60 "
        "iterations in at least 60% of runs, but not by halving: in at least 30% of runs some iteration does not.",
        "[B], outside its assumptions; ours",
    ),
    Claim(
        "deep_convergence.narrow",
        "With only 64 neurons a layer, plain networks of two layers (alpha = 0.1) and of three (alpha = 0.05) fail to "
        "halve in some iteration, or lose a signal, in at least 30% of runs.",
        "[B], outside its assumptions; ours",
    ),
    Claim(
        "deep_convergence.first_ratio",
        "The share of the residual that the first iteration on a plain network of two layers leaves falls as the width "
        "grows, at least as fast as m^-0.1, at alpha = 0.1.",
        "[B], abstract; the rate is ours",
    ),
)


def cells(profile: Profile) -> list[Inputs]:
    """List the trials of every family, the other widths of the narrow ones, and the first ratios."""
    more = 4 if profile.thorough else 1
    trials = [
        {"family": family, "width": setting.width, "seed": seed}
        for family, setting in SETTINGS.items()
        for seed in range(setting.trials * more)
    ]
    trials += [
        {"family": family, "width": width, "seed": seed}
        for family in SETTINGS
        if family.startswith("narrow")
        for width in OTHER_WIDTHS
        for seed in range(OTHER_TRIALS * more)
    ]
    ratios = [
        {"family": "first_ratio", "width": width, "seed": seed}
        for width in RATIO_WIDTHS
        for seed in range(RATIO_SEEDS * more)
    ]
    return trials + ratios


def measure(inputs: Inputs, rng: np.random.Generator, code: CodeUnderTest) -> Result:
    """Run one trial; report the residuals of the dense network after each iteration."""
    family, width = inputs["family"], inputs["width"]
    setting = SETTINGS["two_layers" if family == "first_ratio" else family]
    problem = problems.make("random", N, D, rng)
    network = code.deep_initialize(
        width, D, setting.depth, shift=shift_for(width, setting.alpha), rng=rng, normalized=setting.normalized
    )
    if family == "deep_sparse":
        return whole_run(network, problem, code)
    residuals, failure = dense_residuals(network, problem, 1 if family == "first_ratio" else HALVINGS, code)
    return {"residuals": residuals, "failure": failure}


def dense_residuals(
    network: MultiLayerNetwork, problem: problems.Problem, iterations: int, code: CodeUnderTest
) -> tuple[list[float], str]:
    """Train all layers; recompute the residual from dense weights after every iteration."""
    norms, networks = [dense_residual(network, problem)], gauss_newton(network, problem, code)
    try:
        while len(norms) <= iterations and norms[-1] > TARGET * norms[0]:
            norms.append(dense_residual(next(networks), problem))
    except STOPS as failure:
        return norms, type(failure).__name__
    return norms, ""


def gauss_newton(network: MultiLayerNetwork, problem: problems.Problem, code: CodeUnderTest) -> Iterator[Any]:
    """Yield the network after each iteration."""
    run = code.start_deep(network, problem.X, problem.y, trained_layers=every_layer(network.depth))
    while True:
        run.iterate()
        yield run.trace(0.0).network


def whole_run(network: MultiLayerNetwork, problem: problems.Problem, code: CodeUnderTest) -> Result:
    """Train in one go; report the run's record, and the residual of the dense network at its end."""
    try:
        trace = code.deep_train(
            network,
            problem.X,
            problem.y,
            trained_layers=every_layer(network.depth),
            iterations=MOST_ITERATIONS,
            tolerance=TARGET,
        )
    except STOPS as failure:
        return {"residuals": [1.0], "failure": type(failure).__name__, "start": 1.0, "end": 1.0}
    return {
        "residuals": trace.residual_norms.tolist(),
        "failure": "",
        "start": dense_residual(network, problem),
        "end": dense_residual(trace.network, problem),
    }


def dense_residual(network: Any, problem: problems.Problem) -> float:  # noqa: ANN401
    """Compute ``||f - y||`` from dense weights by the reference's forward pass."""
    return float(np.linalg.norm(network.to_dense().predict(problem.X) - problem.y))


def arrives(result: Result) -> bool:
    """Tell whether a trial reached the target by the residuals of dense networks."""
    norms = result["residuals"]
    # A run in one go stops by its own residuals, which may differ from the dense ones by rounding.
    start, end = (result["start"] * ROUNDING, result["end"]) if "end" in result else (norms[0], norms[-1])
    return not result["failure"] and end <= TARGET * start


def decide(results: Sequence[tuple[Inputs, Result]]) -> list[Finding]:
    """Count the trials that succeed, family by family; fit the first ratios seed by seed."""
    trials: dict[str, list[tuple[Inputs, Result]]] = {}
    for inputs, result in results:
        trials.setdefault(inputs["family"], []).append((inputs, result))
    own = {family: [r for i, r in trials[family] if i["width"] == SETTINGS[family].width] for family in SETTINGS}
    return [
        _find_halving("random", {family: own[family] for family in ("two_layers", "three_layers")}, SUCCESS),
        _find_halving("deep", {"deep": own["deep"]}, DEEP_SUCCESS),
        _find_arrival(own["normalized"]),
        _find_halving("every", {"normalized": own["normalized"]}, EVERY),
        _find_deep_sparse(own["deep_sparse"]),
        _find_narrow(trials, own),
        _find_first_ratio(trials["first_ratio"]),
    ]


def describe(family: str) -> str:
    """State the domain of a family."""
    setting = SETTINGS[family]
    kind = "normalized" if setting.normalized else "plain"
    return f"{kind}, depth {setting.depth}, m={setting.width}, alpha={setting.alpha}"


def _domain(*families: str) -> str:
    return f"n={N}, d={D}, random inputs and labels, all layers trained; {'; '.join(map(describe, families))}"


def _summary(results: Sequence[Result]) -> str:
    """Count what became of the trials."""
    successes, stopped = sum(map(halves, results)), sum(bool(r["failure"]) for r in results)
    worst = float(np.median([worst_ratio(result) for result in results]))
    text = f"{successes} of {len(results)} trials halve every time, median worst ratio {worst:.3g}"
    return f"{text}, {stopped} stopped with an error" if stopped else text


def _find_halving(name: str, families: dict[str, list[Result]], bound: float) -> Finding:
    intervals = {
        family: proportion_interval(sum(map(halves, own)), len(own), confidence=0.9) for family, own in families.items()
    }
    worst = min(intervals, key=lambda family: intervals[family].low)
    return make_finding(
        f"deep_convergence.{name}",
        intervals[worst],
        worst_of([decide_above(interval, bound) for interval in intervals.values()]),
        margin=f">= {bound} of trials {ONE_SIDED}",
        domain=f"{_domain(*families)}; no claim is made below these widths",
        reason="; ".join(f"{describe(family)}: {_summary(own)}" for family, own in families.items()) + ".",
    )


def _find_arrival(results: Sequence[Result]) -> Finding:
    interval = proportion_interval(sum(map(arrives, results)), len(results), confidence=0.9)
    steps = [len(result["residuals"]) - 1 for result in results if arrives(result)]
    return make_finding(
        "deep_convergence.normalized",
        interval,
        decide_above(interval, ARRIVES),
        margin=f">= {ARRIVES} of trials {ONE_SIDED}",
        domain=_domain("normalized"),
        reason=f"{len(steps)} of {len(results)} arrive within {HALVINGS} iterations, the slowest after "
        f"{max(steps, default=0)}; {_summary(results)}.",
    )


def _find_deep_sparse(results: Sequence[Result]) -> Finding:
    arrived = proportion_interval(sum(map(arrives, results)), len(results), confidence=0.9)
    halved = proportion_interval(sum(map(halves, results)), len(results), confidence=0.9)
    steps = [len(result["residuals"]) - 1 for result in results if arrives(result)]
    return make_finding(
        "deep_convergence.deep_sparse",
        arrived,
        worst_of([decide_above(arrived, SPARSE_ARRIVES), decide_below(halved, SPARSE_HALVES)]),
        margin=f">= {SPARSE_ARRIVES} of trials arrive, <= {SPARSE_HALVES} halve {ONE_SIDED}",
        domain=_domain("deep_sparse"),
        reason=f"{len(steps)} of {len(results)} arrive, after {np.median(steps or [0]):.0f} iterations (median); "
        f"{_summary(results)}.",
    )


def _find_narrow(trials: dict[str, list[tuple[Inputs, Result]]], own: dict[str, list[Result]]) -> Finding:
    families = [family for family in SETTINGS if family.startswith("narrow")]
    intervals: list[Interval] = []
    lines = []
    for family in families:
        intervals.append(proportion_interval(sum(map(halves, own[family])), len(own[family]), confidence=0.9))
        widths = sorted({inputs["width"] for inputs, _ in trials[family]})
        counts = []
        for width in widths:
            group = [r for i, r in trials[family] if i["width"] == width]
            counts.append(f"{sum(map(halves, group))} of {len(group)} at m={width}")
        lines.append(f"depth {SETTINGS[family].depth}: {', '.join(counts)}")
    return make_finding(
        "deep_convergence.narrow",
        max(intervals, key=lambda interval: interval.high),
        worst_of([decide_below(interval, NARROW) for interval in intervals]),
        margin=f"<= {NARROW} of trials {ONE_SIDED}",
        domain=_domain(*families),
        reason=f"Trials that halve every time, {'; '.join(lines)}. No claim is made below m="
        f"{SETTINGS['two_layers'].width} and m={SETTINGS['three_layers'].width}.",
    )


def _find_first_ratio(results: Sequence[tuple[Inputs, Result]]) -> Finding:
    seeds: dict[int, list[tuple[float, float]]] = {}
    for inputs, result in results:
        seeds.setdefault(inputs["seed"], []).append((math.log(inputs["width"]), math.log(worst_ratio(result))))
    trend = t_interval([slope(*zip(*points, strict=True))[0] for points in seeds.values()])
    means = []
    widths = sorted({inputs["width"] for inputs, _ in results})
    for width in widths:
        logs = [math.log(worst_ratio(r)) for i, r in results if i["width"] == width]
        means.append(f"{math.exp(np.mean(logs)):.2g} at m={width}")
    setting = SETTINGS["two_layers"]
    return make_finding(
        "deep_convergence.first_ratio",
        trend,
        decide_below(trend, FALLS),
        margin=f"<= {FALLS} (exponent of m)",
        domain=f"n={N}, d={D}, plain, depth {setting.depth}, alpha={setting.alpha}, m={widths[0]}.."
        f"{widths[-1]}, {len(seeds)} seeds",
        reason=f"Slope of the log of the first ratio in log m, t-interval over seeds; geometric means "
        f"{', '.join(means)}.",
    )


def worst_of(verdicts: Sequence[Verdict]) -> Verdict:
    """Return the verdict on a claim that needs all of them."""
    order: tuple[Verdict, ...] = ("invalid", "fails", "undecided", "holds")
    return min(verdicts, key=order.index)


def plot(figure: Figure, results: Sequence[tuple[Inputs, Result]]) -> None:
    """Draw the residuals of some trials of every family, and the first ratios over the width."""
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    shown = [family for family in SETTINGS if not family.startswith("narrow_3")]
    for index, family in enumerate(shown):
        runs = [r["residuals"] for i, r in results if i["family"] == family and i["width"] == SETTINGS[family].width]
        for number, norms in enumerate([run for run in runs if len(run) > 1][:6]):
            left.semilogy(
                np.array(norms) / norms[0],
                color=f"C{index}",
                marker="",
                linewidth=0.8,
                label=describe(family) if number == 0 else None,
            )
    steps = np.arange(0, HALVINGS)
    left.semilogy(steps, 0.5**steps, "--", color="black", marker="", label="halving")
    left.set(xlabel="iteration", ylabel="residual / initial residual", ylim=(1e-15, 1e6), xlim=(0, HALVINGS))
    left.legend(fontsize="xx-small", loc="upper right")
    points = [(i["width"], worst_ratio(r)) for i, r in results if i["family"] == "first_ratio"]
    right.loglog(*zip(*points, strict=True), "o", markersize=3, alpha=0.6)
    right.axhline(0.5, linestyle="--", color="black", linewidth=0.8)
    right.set_xscale("log", base=2)
    right.set(xlabel="width m", ylabel="residual after / before the first iteration")


EXPERIMENT = Experiment(
    name="deep_convergence",
    title="Many layers: where every iteration halves the residual",
    claims=CLAIMS,
    cells=cells,
    measure=measure,
    decide=decide,
    plot=plot,
)
