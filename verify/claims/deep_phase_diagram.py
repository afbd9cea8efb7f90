"""Claim: normalized layers let narrower and sparser deep networks train; a phase diagram with and without.

One *trial* is one seed. At every width of a ladder it draws weights and trains all layers twice from the same ones,
plain and normalized. The outcome of a run is one of

- ``halves``      every iteration halves the residual until 1e-8 of the start;
- ``converges``   it gets there, in no more iterations than halving would take;
- ``stalls``      it does not get there;
- ``diverges``    the residual grows a hundredfold;
- ``singular``    the Gram matrix is, at the start or later;
- ``dies``        a signal dies on some input, at the start or later.

The first two *train*. The *smallest width* of a trial is the last one, from the top of the ladder down, before the
first that does not train. A trial whose widest network does not train is *beyond*: plain ones count as one doubling
more than the ladder, the least they can need; normalized ones leave a claim undecided.

1. ``normalized_narrower``  Do normalized networks of two layers need a smaller width than plain ones, at each alpha?
2. ``sparse``               Do they train at alpha = 0.4 and width 2^11, where plain ones do not?
3. ``plain_dies``           Do plain ones lose a signal, or get a singular Gram matrix, at widths that are not small?

Three layers are in the picture, with few seeds, and in no claim. A smallest width is confirmed by the residual of the
dense network at the end of its run; claims are withdrawn where that disagrees with the run's own.

Cost of a cell: the ladder's random numbers, and two runs at each width.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from reference.multi_layer import MultiLayerNetwork
from reference.notation import DivergenceError, NothingFiresError, SingularGramError
from reference.two_layer import shift_for
from verify import problems
from verify.claims.deep_convergence import worst_of
from verify.experiment import Claim, CodeUnderTest, Experiment, Finding, Inputs, Profile, Result, Verdict
from verify.statistics import (
    Interval,
    contradicted,
    decide_above,
    decide_below,
    make_finding,
    proportion_interval,
    t_interval,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Results = Sequence[tuple[Inputs, Result]]

N, D = 32, 32
LADDERS = {
    2: {0.1: (5, 10), 0.24: (6, 11), 0.3: (7, 11), 0.4: (9, 12)},
    3: {0.1: (6, 10), 0.24: (7, 11), 0.4: (9, 11)},
}
"""For each depth and alpha the exponents of the narrowest and of the widest network."""
SEEDS: dict[int, dict[float, int]] = {2: {0.1: 15, 0.24: 9, 0.3: 21, 0.4: 12}, 3: {0.1: 1, 0.24: 1, 0.4: 1}}
"""Most where plain and normalized networks differ least."""
TARGET = 1e-8
MOST_ITERATIONS = math.ceil(-math.log2(TARGET))
CONFIRMED = 2 * TARGET
KINDS = ("plain", "normalized")
OUTCOMES = ("halves", "converges", "stalls", "diverges", "singular", "dies")
TRAINS = ("halves", "converges")
COLOURS = ("#00846b", "#3d8fc4", "#8a6d00", "#a8457f", "#c44e00", "#7a8088")

NARROWER = 0.0
SPARSE_ALPHA, SPARSE_EXPONENT = 0.4, 11
SPARSE_TRAINS, SPARSE_PLAIN = 0.6, 0.4
DIES = {0.3: (11, 0.3), 0.4: (12, 0.6)}
"""For each alpha the exponent of the width, and the share of networks that must die."""

CLAIMS = (
    Claim(
        "deep_phase_diagram.normalized_narrower",
        "At each of alpha = 0.1, 0.24, 0.3 and 0.4 the smallest width from which networks of two layers train is on "
        "average smaller for normalized ones than for plain ones with the same weights.",
        "ours",
    ),
    Claim(
        "deep_phase_diagram.sparse",
        "At alpha = 0.4 and width 2^11 at least 60% of normalized networks of two layers train, and at most 40% of "
        "plain ones with the same weights.",
        "ours",
    ),
    Claim(
        "deep_phase_diagram.plain_dies",
        "Plain networks of two layers lose a signal or get a singular Gram matrix, at the start or in training: at "
        "alpha = 0.3 and width 2^11 at least 30% of them, at alpha = 0.4 and width 2^12 (2^13 in a thorough run) at "
        "least 60%.",
        "ours; in the spirit of Price et al.",
    ),
)


def cells(profile: Profile) -> list[Inputs]:
    """List every alpha of both depths, each for every seed; a thorough run climbs one doubling higher."""
    more, higher = (3, 1) if profile.thorough else (1, 0)
    return [
        {"depth": depth, "alpha": alpha, "narrowest": low, "widest": high + higher, "seed": seed}
        for depth, ladders in LADDERS.items()
        for alpha, (low, high) in ladders.items()
        for seed in range(SEEDS[depth][alpha] * more)
    ]


def measure(inputs: Inputs, rng: np.random.Generator, code: CodeUnderTest) -> Result:
    """Train plain and normalized networks at every width, the widest first; confirm the smallest that trains."""
    problem = problems.make("random", N, D, rng)
    outcomes: dict[str, dict[str, str]] = {kind: {} for kind in KINDS}
    last: dict[str, tuple[MultiLayerNetwork, Any]] = {}
    for exponent in range(inputs["widest"], inputs["narrowest"] - 1, -1):
        shift = shift_for(1 << exponent, inputs["alpha"])
        drawn = code.deep_initialize(1 << exponent, D, inputs["depth"], shift=shift, rng=rng, normalized=True)
        for kind in KINDS:
            network = drawn if kind == "normalized" else replace(drawn, normalized=False)
            outcome, trained = run(network, problem, code)
            so_far = list(outcomes[kind].values())
            outcomes[kind][str(exponent)] = outcome
            if outcome in TRAINS and all(each in TRAINS for each in so_far):
                last[kind] = network, trained
    ends = {
        kind: dense_residual(trained, problem) / dense_residual(network, problem)
        for kind, (network, trained) in last.items()
    }
    return {"outcomes": outcomes, "ends": ends}


def run(network: MultiLayerNetwork, problem: problems.Problem, code: CodeUnderTest) -> tuple[str, Any]:
    """Train all layers; name the outcome, and return the network if there is one."""
    try:
        trace = code.deep_train(
            network,
            problem.X,
            problem.y,
            trained_layers=tuple(range(1, network.depth + 1)),
            iterations=MOST_ITERATIONS,
            tolerance=TARGET,
        )
    except SingularGramError:
        return "singular", None
    except NothingFiresError:
        return "dies", None
    except DivergenceError:
        return "diverges", None
    norms = trace.residual_norms
    if norms[-1] > TARGET * norms[0]:
        return "stalls", trace.network
    return "halves" if (norms[1:] <= norms[:-1] / 2).all() else "converges", trace.network


def dense_residual(network: Any, problem: problems.Problem) -> float:  # noqa: ANN401
    """Compute ``||f - y||`` from dense weights by the reference's forward pass."""
    return float(np.linalg.norm(network.to_dense().predict(problem.X) - problem.y))


def smallest(outcomes: dict[str, str]) -> int | None:
    """Return the exponent of the smallest width that trains, with all wider ones; None if the widest does not.

    Examples
    --------
    >>> smallest({"8": "halves", "7": "converges", "6": "dies", "5": "halves"}), smallest({"8": "stalls"})
    (7, None)
    """
    found = None
    for exponent in sorted(map(int, outcomes), reverse=True):
        if outcomes[str(exponent)] not in TRAINS:
            break
        found = exponent
    return found


def decide(results: Results) -> list[Finding]:
    """Compare smallest widths seed by seed; count what trains and what dies."""
    two = [(inputs, result) for inputs, result in results if inputs["depth"] == 2]
    seeds = Counter(inputs["alpha"] for inputs, _ in two).values()
    domain = (
        f"depth 2, n={N}, d={D}, random inputs and labels, {min(seeds)} to {max(seeds)} seeds, "
        f"down to {TARGET:g} of the start"
    )
    findings = [_find_narrower(two, domain), _find_sparse(two, domain), _find_dies(two, domain)]
    if any(end > CONFIRMED for _, result in results for end in result["ends"].values()):
        findings = [contradicted(finding) for finding in findings]
    return findings


def _find_narrower(results: Results, domain: str) -> Finding:
    alphas = sorted({inputs["alpha"] for inputs, _ in results})
    intervals: dict[float, Interval] = {}
    verdicts: list[Verdict] = []
    lines = []
    for alpha in alphas:
        own = [(i, r) for i, r in results if i["alpha"] == alpha]
        widest = own[0][0]["widest"]
        gaps, open_trials = [], 0
        for _, result in own:
            plain, normalized = (smallest(result["outcomes"][kind]) for kind in KINDS)
            open_trials += normalized is None
            gaps.append(float((plain or widest + 1) - (normalized or widest + 1)))
        intervals[alpha] = t_interval(gaps, confidence=1 - 0.05 / len(alphas))
        verdict = decide_above(intervals[alpha], NARROWER)
        # At 0 itself nothing is smaller; beyond the ladder nobody knows.
        if verdict == "holds" and intervals[alpha].high == NARROWER and not open_trials:
            verdict = "fails"
        elif verdict == "holds" and (intervals[alpha].low == NARROWER or open_trials):
            verdict = "undecided"
        verdicts.append(verdict)
        ladder = f"2^{own[0][0]['narrowest']}..2^{widest}"
        lines.append(f"{intervals[alpha].estimate:.2g} at alpha={alpha} ({ladder}, {medians(own)})")
    closest = min(intervals, key=lambda alpha: intervals[alpha].low)
    return make_finding(
        "deep_phase_diagram.normalized_narrower",
        intervals[closest],
        worst_of(verdicts),
        margin=f"> {NARROWER:g} (doublings that plain networks need more)",
        domain=domain,
        reason=f"Mean doublings: {'; '.join(lines)}. Beyond the ladder counts as one doubling more. The interval is "
        f"over seeds, at alpha={closest}, the closest.",
    )


def medians(results: Results) -> str:
    """Print the median of log2 of the smallest width of both kinds.

    Examples
    --------
    >>> medians([({}, {"outcomes": {"plain": {"8": "dies"}, "normalized": {"8": "halves", "7": "dies"}}})])
    'median log2 width beyond plain, 8 normalized'
    """
    texts = []
    for kind in KINDS:
        found = [smallest(result["outcomes"][kind]) for _, result in results]
        middle = float(np.median([math.inf if each is None else each for each in found]))
        texts.append(f"{f'{middle:g}' if math.isfinite(middle) else 'beyond'} {kind}")
    return f"median log2 width {', '.join(texts)}"


def share(results: Results, alpha: float, exponent: int, kind: str, wanted: Sequence[str]) -> Interval | None:
    """Estimate the share of runs with certain outcomes, one-sided 95% at either end; None without runs."""
    found = [
        result["outcomes"][kind][str(exponent)]
        for inputs, result in results
        if inputs["alpha"] == alpha and str(exponent) in result["outcomes"][kind]
    ]
    if not found:
        return None
    return proportion_interval(sum(each in wanted for each in found), len(found), confidence=0.9)


def _find_sparse(results: Results, domain: str) -> Finding:
    plain, normalized = (share(results, SPARSE_ALPHA, SPARSE_EXPONENT, kind, TRAINS) for kind in KINDS)
    margin = f">= {SPARSE_TRAINS} of normalized, <= {SPARSE_PLAIN} of plain trials train (one-sided 95%)"
    where = f"{domain}, alpha={SPARSE_ALPHA}, m=2^{SPARSE_EXPONENT}"
    if plain is None or normalized is None:
        reason = "This width was not tried."
        return make_finding("deep_phase_diagram.sparse", None, "invalid", margin=margin, domain=where, reason=reason)
    return make_finding(
        "deep_phase_diagram.sparse",
        normalized,
        worst_of([decide_above(normalized, SPARSE_TRAINS), decide_below(plain, SPARSE_PLAIN)]),
        margin=margin,
        domain=where,
        reason=f"{normalized.estimate:.0%} of normalized and {plain.estimate:.0%} of plain networks train.",
    )


def _find_dies(results: Results, domain: str) -> Finding:
    verdicts: list[Verdict] = []
    closest: tuple[float, Interval] | None = None
    lines = []
    for alpha, (exponent, bound) in DIES.items():
        tried = max((i["widest"] for i, _ in results if i["alpha"] == alpha), default=exponent)
        # A thorough run climbs higher, and asks the same of the sparser networks there.
        exponent = tried if alpha == max(DIES) else exponent
        interval = share(results, alpha, exponent, "plain", ("dies", "singular"))
        if interval is None:
            verdicts.append("invalid")
            continue
        verdicts.append(decide_above(interval, bound))
        lines.append(f"{interval.estimate:.0%} at alpha={alpha}, m=2^{exponent}")
        if closest is None or interval.low - bound < closest[0]:
            closest = interval.low - bound, interval
    return make_finding(
        "deep_phase_diagram.plain_dies",
        None if closest is None else closest[1],
        worst_of(verdicts),
        margin=f"{' and '.join(f'>= {bound} at alpha={alpha}' for alpha, (_, bound) in DIES.items())} (one-sided 95%)",
        domain=domain,
        reason=f"Plain networks that lose a signal or are singular: {', '.join(lines) or 'none tried'}.",
    )


def plot(figure: Figure, results: Results) -> None:
    """Draw the outcomes at every alpha and width, plain beside normalized: a bar for the shares in each cell."""
    rows = sorted({(inputs["depth"], inputs["alpha"]) for inputs, _ in results})
    figure.set_size_inches(8.2, 1.4 + 0.45 * len(rows))
    panels = figure.subplots(1, 2, sharey=True)
    low, high = min(i["narrowest"] for i, _ in results), max(i["widest"] for i, _ in results)
    for axes, kind in zip(panels, KINDS, strict=True):
        for height, (depth, alpha) in enumerate(rows):
            own = [r["outcomes"][kind] for i, r in results if (i["depth"], i["alpha"]) == (depth, alpha)]
            for exponent in range(low, high + 1):
                found = [outcomes[str(exponent)] for outcomes in own if str(exponent) in outcomes]
                left = exponent - 0.46
                for outcome, colour in zip(OUTCOMES, COLOURS, strict=True):
                    width = 0.92 * found.count(outcome) / max(len(found), 1)
                    axes.barh(height, width, 0.8, left, color=colour, linewidth=0)
                    left += width
        axes.set_xticks(range(low, high + 1), [f"$2^{{{exponent}}}$" for exponent in range(low, high + 1)])
        axes.set_yticks(range(len(rows)), [f"depth {depth}, alpha={alpha}" for depth, alpha in rows])
        axes.set(xlabel="width m", title=f"{kind} networks", xlim=(low - 0.6, high + 0.6))
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.grid(visible=False)
    handles = [panels[0].barh(0, 0, 0, color=colour) for colour in COLOURS]
    figure.legend(handles, OUTCOMES, loc="outside lower center", ncols=len(OUTCOMES))


EXPERIMENT = Experiment(
    name="deep_phase_diagram",
    title="How wide is wide enough in depth, with and without normalized layers",
    claims=CLAIMS,
    cells=cells,
    measure=measure,
    decide=decide,
    plot=plot,
)
