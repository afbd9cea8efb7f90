"""Claim: a query of the trees is faster by the clock than a scan of the stored scores, where few neurons fire.

What is asked. At alpha = 0.5 at most ``m^0.5`` neurons fire on a point, on average. The same scores are searched by the
trees and by the quickest scan that NumPy allows (compare all, find the hits in the flat mask, split their positions),
in one process, in turn. The number of a seed is the median over rounds of scan time over query time; the interval is
over seeds. A query that does not find what the scan finds is no evidence.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from reference.notation import FloatArray, IntArray
from reference.two_layer import shift_for
from verify.experiment import Claim, CodeUnderTest, Experiment, Finding, Inputs, Profile, Result
from verify.statistics import Interval, decide_above, make_finding, t_interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

N = 32
WIDTH = 1 << 20
ALPHA = 0.5
SEEDS = 4
ROUNDS = 9
LEAST = 10.0
"""How many times faster the query must be (the project's stated requirement)."""

CLAIMS = (
    Claim(
        "query_time.scan",
        "At alpha = 0.5 and m = 2^20 a query of the trees is at least 10 times faster than a scan of the same scores.",
        "ours; [A] has no experiment",
    ),
)


def cells(profile: Profile) -> list[Inputs]:
    """List the seeds."""
    return [{"seed": seed} for seed in range(SEEDS * (3 if profile.thorough else 1))]


def measure(inputs: Inputs, rng: np.random.Generator, code: CodeUnderTest) -> Result:
    """Time query and scan in turn on the same scores; seconds."""
    scores = rng.standard_normal((N, WIDTH))
    threshold = shift_for(WIDTH, ALPHA)
    forest = code.forest.build(scores)
    query_seconds, scan_seconds = [], []
    for _ in range(ROUNDS):
        before = time.perf_counter()
        found = forest.query(threshold)
        between = time.perf_counter()
        expected = scan(scores, threshold)
        scan_seconds.append(time.perf_counter() - between)
        query_seconds.append(between - before)
    same = all(np.array_equal(mine, theirs) for mine, theirs in zip(found, expected, strict=True))
    return {"query": query_seconds, "scan": scan_seconds, "same": same, "found": len(expected[0])}


def scan(scores: FloatArray, threshold: float) -> tuple[IntArray, IntArray]:
    """Find all pairs by comparing every score; several times quicker than np.nonzero on two dimensions."""
    data_index, neuron_index = np.divmod(np.flatnonzero((scores >= threshold).ravel()), scores.shape[1])
    return data_index, neuron_index


def decide(results: Sequence[tuple[Inputs, Result]]) -> list[Finding]:
    """Take the median paired ratio of each seed and an interval over seeds."""
    domain = f"n={N}, m=2^{int(math.log2(WIDTH))}, alpha={ALPHA}, normal scores, {len(results)} seeds, one BLAS thread"
    margin = f">= {LEAST:g} (scan time over query time)"
    if not all(result["same"] for _, result in results):
        reason = "A query found other pairs than the scan."
        return [Finding(CLAIMS[0].id, "invalid", None, None, margin, domain, reason)]
    logs = []
    for _, result in results:
        pairs = zip(result["scan"], result["query"], strict=True)
        logs.append(math.log(float(np.median([theirs / mine for theirs, mine in pairs]))))
    ratio = t_interval(logs)
    interval = Interval(math.exp(ratio.estimate), math.exp(ratio.low), math.exp(ratio.high))
    found = np.mean([result["found"] for _, result in results])
    return [
        make_finding(
            CLAIMS[0].id,
            interval,
            decide_above(interval, LEAST),
            margin=margin,
            domain=domain,
            reason=f"Median paired ratio, t-interval over seeds; {found:.0f} of {N * WIDTH} pairs are found.",
        )
    ]


def plot(figure: Figure, results: Sequence[tuple[Inputs, Result]]) -> None:
    """Draw scan time over query time in every round, a column per seed; dashed: the factor asked for."""
    axes = figure.subplots()
    for inputs, result in results:
        ratios = np.array(result["scan"]) / np.array(result["query"])
        axes.plot([inputs["seed"]] * len(ratios), ratios, "o", color="C0", alpha=0.6)
    axes.axhline(LEAST, linestyle="--", marker="", color="black", linewidth=0.8)
    axes.set(xlabel="seed", ylabel="time of a scan / of a query", ylim=(0, None))
    axes.set_xticks([inputs["seed"] for inputs, _ in results])
    figure.set_size_inches(7.2, 2.6)


EXPERIMENT = Experiment(
    name="query_time",
    title="Time of a query by the clock",
    claims=CLAIMS,
    cells=cells,
    measure=measure,
    decide=decide,
    plot=plot,
    timed=True,
)
