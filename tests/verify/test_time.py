"""The claims about time: verdicts on hand-made timings. No test looks at the clock."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.figure import Figure

from verify import seeds
from verify.claims import time
from verify.experiment import CodeUnderTest, Inputs, Profile, Result

Results = list[tuple[Inputs, Result]]
Law = Callable[[float, int, int], float]
"""Ratio of times from alpha, log2 of the width, and seed."""


def expected_dense(alpha: float, exponent: int, seed: int) -> float:
    """Twice as slow at 2^12 and half as slow at every further doubling of the exponent by 2 when sparse."""
    return 2.0 ** (1 - (exponent - 12) / 2) if alpha == time.SPARSE else 4.0


def simulated(
    dense: Law = expected_dense,
    compacted: Law = lambda alpha, exponent, seed: 8.0,
    control: Law = lambda alpha, exponent, seed: 1.0,
    start: float = 1.0,
) -> Results:
    """Make timings in which the tree path takes ``dense`` and ``compacted`` times as long as its opponents."""
    rng = np.random.default_rng(3)
    results: Results = []
    for inputs in time.cells(Profile()):
        own = inputs["alpha"], inputs["exponent"], inputs["seed"]
        noise = {name: np.exp(0.02 * rng.standard_normal(time.ROUNDS)) for name in ("dense", "compacted", "control")}
        tree = 1e-3 * 2.0 ** (inputs["exponent"] - 12)
        middle = {"tree": tree, "dense": tree / dense(*own), "compacted": tree / compacted(*own)}
        middle["control"] = middle["compacted"] * control(*own)
        iteration = {name: (value * noise.get(name, np.ones(time.ROUNDS))).tolist() for name, value in middle.items()}
        starts = {"tree": start * 10 * tree, "dense": tree, "compacted": tree, "control": tree}
        results.append((inputs, {"start": starts, "iteration": iteration}))
    return results


def verdicts(results: Results) -> dict[str, str]:
    return {finding.claim.split(".")[1]: finding.verdict for finding in time.EXPERIMENT.decide(results)}


def test_the_expected_timings_hold_in_the_order_of_the_claims() -> None:
    findings = time.EXPERIMENT.decide(simulated())
    assert [finding.claim for finding in findings] == [claim.id for claim in time.CLAIMS]
    assert {finding.verdict for finding in findings} == {"holds"}
    assert findings[2].estimate == pytest.approx(14, abs=0.2)


def spread(law: Law) -> Law:
    """Let seeds disagree by a factor of e or more."""
    return lambda alpha, exponent, seed: law(alpha, exponent, seed) * math.exp(seed - 2)


@pytest.mark.parametrize(
    ("changes", "claim", "verdict"),
    [
        ({"dense": lambda alpha, exponent, seed: 2.0}, "dense", "fails"),
        ({"dense": spread(lambda alpha, exponent, seed: 0.5)}, "dense", "undecided"),
        ({"dense": lambda alpha, exponent, seed: 0.1 * 2.0 ** (exponent - 12)}, "growth", "fails"),
        ({"dense": lambda alpha, exponent, seed: 2.0 ** ((seed - 2) * (exponent - 12))}, "growth", "undecided"),
        ({"dense": lambda alpha, exponent, seed: 2.0}, "crossover", "fails"),
        ({"dense": lambda alpha, exponent, seed: 2.0 if seed else 0.5}, "crossover", "undecided"),
        ({"dense": lambda alpha, exponent, seed: 0.5}, "paper", "fails"),
        ({"dense": spread(lambda alpha, exponent, seed: 1.0)}, "paper", "undecided"),
        ({"compacted": lambda alpha, exponent, seed: 0.8 if exponent == 16 else 8.0}, "compacted", "fails"),
        ({"compacted": spread(lambda alpha, exponent, seed: 1.0)}, "compacted", "undecided"),
        ({"compacted": lambda alpha, exponent, seed: 0.8, "start": 0.0}, "start", "fails"),
        ({"compacted": spread(lambda alpha, exponent, seed: 1.0), "start": 0.1}, "start", "undecided"),
    ],
)
def test_verdicts_follow_the_paired_ratios(changes: dict[str, Law | float], claim: str, verdict: str) -> None:
    assert verdicts(simulated(**changes))[claim] == verdict


@pytest.mark.parametrize("factor", [1.3, 0.7])
def test_a_control_that_differs_from_itself_invalidates_every_claim(factor: float) -> None:
    findings = time.EXPERIMENT.decide(simulated(control=lambda alpha, exponent, seed: factor))
    assert [finding.claim for finding in findings] == [claim.id for claim in time.CLAIMS]
    assert {finding.verdict for finding in findings} == {"invalid"}
    assert "control failed" in findings[0].reason


@pytest.mark.parametrize(
    ("points", "width"),
    [
        ([(12, 1.0), (14, 0.5), (16, 0.0)], None),
        ([(12, -1.0), (14, -2.0)], 12.0),
        ([(14, -3.0), (12, 1.0)], 12.5),
        ([(10, 2.0), (12, -1.0), (14, 1.0), (16, -1.0)], 15.0),  # below 0 for good, not for once
    ],
)
def test_crossing(points: list[tuple[int, float]], width: float | None) -> None:
    assert time.crossing(points) == width


def test_ratios_and_runs_by_hand() -> None:
    result = {"start": {"tree": 1.0}, "iteration": {"tree": [1.0, 3.0, 2.0], "dense": [2.0, 2.0, 2.0]}}
    assert time.log_ratio(result, "dense") == pytest.approx(0.0)
    assert time.run_seconds(result, "tree") == 1 + 5 * 2


def test_one_cell_end_to_end() -> None:
    cell = {"alpha": 0.24, "exponent": 10, "seed": 0}
    result = time.measure(cell, seeds.generator(0, "time", cell), CodeUnderTest())
    json.dumps(result, allow_nan=False)
    names = ["tree", "dense", "compacted", "control"]
    assert list(result["start"]) == list(result["iteration"]) == names
    assert [len(result["iteration"][name]) for name in names] == [time.ROUNDS] * 4


def test_every_loop_is_warmed_up_and_takes_every_round() -> None:
    log: list[tuple[str, str]] = []

    class Recorded:
        def __init__(self, name: str) -> None:
            self.name = name
            log.append((name, "start"))

        def iterate(self) -> None:
            log.append((self.name, "iterate"))

    code = CodeUnderTest(
        start=lambda *args: Recorded("tree"),
        start_dense=lambda *args, compact=False: Recorded("compacted" if compact else "dense"),
    )
    time.measure({"alpha": 0.24, "exponent": 10, "seed": 0}, np.random.default_rng(0), code)
    tree, dense, twins = (log.count((name, "iterate")) for name in ("tree", "dense", "compacted"))
    assert (tree, dense, twins) == (1 + time.ROUNDS, 1 + time.ROUNDS, 2 * (1 + time.ROUNDS))
    rounds = [tuple(name for name, _ in log[8 + 4 * r : 12 + 4 * r]) for r in range(time.ROUNDS)]
    assert all(sorted(names) == ["compacted", "compacted", "dense", "tree"] for names in rounds)
    assert len(set(rounds)) > 1


def test_plot_shows_both_opponents_at_both_alphas() -> None:
    figure = Figure()
    time.plot(figure, simulated())
    figure.canvas.draw()
    for axes in figure.axes:
        assert [text.get_text() for text in axes.get_legend().get_texts()] == ["over dense", "over compacted"]


@pytest.mark.parametrize("thorough", [False, True])
def test_cells_are_distinct_and_plain(thorough: bool) -> None:
    assert time.EXPERIMENT.timed
    cells = time.cells(Profile(thorough=thorough))
    assert len({json.dumps(cell, sort_keys=True) for cell in cells}) == len(cells)
    assert all(cell in time.cells(Profile(thorough=True)) for cell in cells)
