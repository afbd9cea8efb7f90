"""Claim: threshold search costs what the trees promise, counted in nodes looked at.

What is asked ([A], Algorithms 2 to 4; logarithms to base 16, the fan-out of the trees)
1. ``exact``   Does every counter equal the closed form, computed by separate code from what was really found? And is
   what a query finds, of all trees or of one, what a scan finds, before and after an update of neurons in no order?
   (Cheap and wrong would be no search.) The plain binary tree of `reference.threshold_search`, which states what these
   trees do, is asked the same on one data point.
2. ``build``   Are at most ``16/15 n m`` nodes built, but for rounding up to full nodes?
3. ``query``   Does a query look at no more than ``16 |result| log m + 16 n`` nodes?
4. ``update``  Does an update look at no more than ``n (1 + 17 log m)`` nodes per neuron?
5. ``growth``  With the size of the result held fixed, does a query's cost grow like ``log m`` and not like a power:
   is the exponent of nodes against ``m`` at most 0.25? (A scan has exponent 1.)
6. ``witness`` Counters are testimony. Scores and maxima that the query has no business with are overwritten with
   infinity behind its back; a query that looked at them would report them. If one does, claims 3 and 5 are invalid.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from reference.notation import BoolArray, FloatArray, IntArray
from verify import closed_forms
from verify.experiment import Claim, CodeUnderTest, Experiment, Finding, Inputs, Profile, Result
from verify.statistics import Interval, contradicted, decide_below, make_finding, slope, t_interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from fast.threshold_search import ThresholdForest

N = 8
WIDTHS = [1 << exponent for exponent in (8, 10, 12, 14, 16, 18)]
FOUND = 4
"""Scores per tree that reach the threshold, at every width."""
MOVED = 64
SEEDS = 10
PLAIN_WIDTH = 1 << 10
"""Largest width at which the plain tree is asked as well; it takes some milliseconds there."""
GROWTH_MARGIN = 0.25
"""A logarithm has a mean exponent of about 0.15 over these widths, a square root 0.5, a scan 1."""

RELY_ON_COUNTS = ("search.query", "search.growth")
"""Claims about what a query looks at; without a witness they are no evidence."""

SOURCE = "[A], Algorithms 2 to 4"
CLAIMS = (
    Claim(
        "search.exact",
        "Every query, of all trees or of one, finds what a scan finds, before and after an update, and every node "
        "counter of the trees equals its closed form; so it is with the plain tree of one data point.",
        "ours",
    ),
    Claim("search.build", "Building the trees takes no more than 16/15 n m nodes, rounded up to full nodes.", SOURCE),
    Claim("search.query", "A query looks at no more than 16 |result| log m + 16 n nodes.", SOURCE),
    Claim("search.update", "An update looks at no more than n (1 + 17 log m) nodes per neuron.", SOURCE),
    Claim("search.growth", "For a result of fixed size the cost of a query grows no faster than m^0.25.", SOURCE),
    Claim("search.witness", "Nodes outside the paths that lead to its result have no effect on a query.", "ours"),
)


def cells(profile: Profile) -> list[Inputs]:
    """List the widths, each for every seed."""
    widths = WIDTHS + ([1 << 20] if profile.thorough else [])
    seeds = SEEDS * (3 if profile.thorough else 1)
    return [{"width": width, "seed": seed} for width in widths for seed in range(seeds)]


def measure(inputs: Inputs, rng: np.random.Generator, code: CodeUnderTest) -> Result:
    """Build, query and update once, and query again; compare the counters with the closed forms."""
    width = inputs["width"]
    scores = rng.standard_normal((N, width))
    threshold = float(np.partition(scores.ravel(), -N * FOUND)[-N * FOUND])
    fires = scores >= threshold
    forest = code.forest.build(scores)
    wrong_pairs = pairs_apart(forest.query(threshold), fires)
    moved = rng.permutation(width)[:MOVED]  # in no order
    after = scores.copy()
    after[:, moved] = rng.standard_normal((N, MOVED))
    forest.update(moved, after[:, moved])
    still_fires = after >= threshold
    # The counters are read before the second query, which is there only to see that the update was right.
    visited = {name: int(nodes) for name, nodes in forest.nodes_visited.items()}
    expected = {
        "build": closed_forms.build_nodes(N, width),
        "query": closed_forms.query_nodes(fires),
        "update": closed_forms.update_nodes(scores, after, moved),
        "query one": closed_forms.query_nodes(still_fires),
    }
    wrong_pairs += pairs_apart(forest.query(threshold), still_fires)
    one_by_one, visited["query one"] = query_one_by_one(forest, threshold)
    wrong_pairs += pairs_apart(one_by_one, still_fires)
    if width <= PLAIN_WIDTH:
        i = int(np.argmax((scores == threshold).any(axis=1)))  # on this point a score sits on the threshold
        wrong, visited["plain tree"] = ask_plain_tree(scores[i], after[i], moved, threshold, code)
        wrong_pairs += wrong
        expected["plain tree"] = closed_forms.plain_tree_nodes([fires[i], still_fires[i]], MOVED)
    return {
        "wrong_pairs": wrong_pairs,
        "visited": visited,
        "expected": expected,
        "levels": len(closed_forms.depths(width)) + 1,
        "witness": bool(query_ignores_poison(scores, threshold, code)),
    }


def pairs_apart(found: tuple[IntArray, IntArray], fires: BoolArray) -> int:
    """Count the pairs that were found though they do not fire or twice, and those that fire but were not found."""
    pairs = {(int(i), int(r)) for i, r in zip(*found, strict=True)}
    # A flat search and one division are several times faster than np.argwhere on two dimensions.
    fired = np.divmod(np.flatnonzero(fires), fires.shape[1])
    return len(found[0]) - len(pairs) + len(pairs ^ {(int(i), int(r)) for i, r in zip(*fired, strict=True)})


def query_one_by_one(forest: ThresholdForest, threshold: float) -> tuple[tuple[IntArray, IntArray], int]:
    """Query the trees one by one; return the pairs and how many nodes were looked at."""
    before = forest.nodes_visited["query"]
    found = [forest.query_one(i, threshold) for i in range(N)]
    pairs = np.repeat(np.arange(N), [len(each) for each in found]), np.concatenate(found)
    return pairs, int(forest.nodes_visited["query"] - before)


def ask_plain_tree(
    before: FloatArray, after: FloatArray, moved: IntArray, threshold: float, code: CodeUnderTest
) -> tuple[int, int]:
    """Query, update and query the plain tree over scores (m,), and scan them; return wrong finds and nodes visited."""

    def wrong(found: IntArray, scores: FloatArray) -> int:
        return pairs_apart((np.zeros_like(found), found), (scores >= threshold)[np.newaxis])

    tree = code.max_tree(before)
    wrong_finds = wrong(tree.query(threshold), before) + wrong(code.scan(before, threshold), before)
    for r in moved:
        tree.update(int(r), float(after[r]))
    wrong_finds += wrong(tree.query(threshold), after)
    return wrong_finds, int(tree.nodes_visited)


def query_ignores_poison(scores: FloatArray, threshold: float, code: CodeUnderTest) -> bool:
    """Overwrite every level outside the paths to the result with infinity; tell whether the query stays the same."""
    forest = code.forest.build(scores)
    expected = forest.query(threshold)
    span = 1
    for level in forest.levels[:-1]:
        span *= closed_forms.FAN_OUT
        rest = np.ones(level.shape[:2], dtype=bool)
        rest[expected[0], expected[1] // span] = False
        level[rest] = np.inf
    found = forest.query(threshold)
    return all(np.array_equal(mine, theirs) for mine, theirs in zip(found, expected, strict=True))


def decide(results: Sequence[tuple[Inputs, Result]]) -> list[Finding]:
    """Compare counts with bounds in every cell; fit the growth per seed."""
    widths = sorted({inputs["width"] for inputs, _ in results})
    domain = (
        f"n={N}, m=2^{int(math.log2(widths[0]))}..2^{int(math.log2(widths[-1]))} (plain trees up to "
        f"2^{int(math.log2(PLAIN_WIDTH))}), normal scores, {FOUND} found a tree, {MOVED} neurons updated, "
        f"{len(results) // len(widths)} seeds"
    )
    errors = [abs(r["visited"][p] / r["expected"][p] - 1) for _, r in results for p in r["expected"]]
    errors += [float(r["wrong_pairs"]) for _, r in results]
    bounds = {
        "build": [r["visited"]["build"] / build_bound(i["width"]) for i, r in results],
        "query": [r["visited"]["query"] / (16 * N * (FOUND * (r["levels"] - 1) + 1)) for _, r in results],
        "update": [r["visited"]["update"] / (N * MOVED * (1 + 17 * (r["levels"] - 1))) for _, r in results],
    }
    findings = [_worst("exact", errors, 0.0, "= 0 (relative difference)", domain, "difference or wrong pairs")]
    for name, shares in bounds.items():
        findings.append(_worst(name, shares, 1.0, "<= 1 (share of the bound)", domain, "share of the bound"))
    seeds = {inputs["seed"] for inputs, _ in results}
    slopes = []
    for seed in seeds:
        own = [(i["width"], r["visited"]["query"]) for i, r in results if i["seed"] == seed]
        # A counter that stands still has no logarithm, and then no slope: invalid.
        with np.errstate(divide="ignore"):
            slopes.append(slope(*(np.log(column) for column in zip(*own, strict=True)))[0])
    growth = t_interval(slopes)
    findings.append(
        make_finding(
            "search.growth",
            growth,
            decide_below(growth, GROWTH_MARGIN),
            margin=f"<= {GROWTH_MARGIN}",
            domain=domain,
            reason="Exponent of nodes looked at against m, t-interval over seeds; a scan has exponent 1.",
        )
    )
    failures = [0.0 if result["witness"] else 1.0 for _, result in results]
    witness = _worst("witness", failures, 0.0, "= 0 (poison noticed)", domain, "poisoned queries noticed")
    if witness.verdict == "fails":
        findings = [contradicted(finding) if finding.claim in RELY_ON_COUNTS else finding for finding in findings]
    return [*findings, witness]


def build_bound(width: int) -> float:
    """Return ``16/15 n m``, with ``m`` rounded up to full nodes and one node more per level."""
    return N * (16 / 15 * width + 16 * (len(closed_forms.depths(width)) + 1))


def _worst(name: str, values: list[float], bound: float, margin: str, domain: str, what: str) -> Finding:
    worst = max(values)
    interval = Interval(worst, min(values), worst)
    verdict = decide_below(interval, bound)
    reason = f"Largest {what} over {len(values)} counts: {worst:.4g}."
    # Counts are exact: one count beyond its bound refutes the claim.
    return make_finding(
        f"search.{name}",
        interval,
        "fails" if verdict == "undecided" else verdict,
        margin=margin,
        domain=domain,
        reason=reason,
    )


def plot(figure: Figure, results: Sequence[tuple[Inputs, Result]]) -> None:
    """Draw the nodes that queries and updates look at against the width, with a scan for comparison."""
    axes = figure.subplots()
    widths = np.array([inputs["width"] for inputs, _ in results])
    for phase, label in (("query", f"query of {FOUND} a tree"), ("update", f"update of {MOVED} neurons")):
        nodes = np.array([result["visited"][phase] for _, result in results])
        axes.loglog(widths, nodes / N, "o", markersize=4, label=label)
    line = np.unique(widths)
    axes.loglog(line, line, "--", color="black", marker="", label="scan")
    axes.set_xscale("log", base=2)
    axes.set(xlabel="width m", ylabel="nodes looked at, per tree")
    axes.legend(frameon=False)


EXPERIMENT = Experiment(
    name="search",
    title="Threshold search by counts",
    claims=CLAIMS,
    cells=cells,
    measure=measure,
    decide=decide,
    plot=plot,
)
