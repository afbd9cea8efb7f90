"""The claims about time: verdicts on hand-made timings. No test looks at the clock."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from fast.all_pairs import AllTrial
from fast.baselines import DenseRun
from fast.gauss_newton import EventRun, TreeRun
from fast.watched_pairs import Trial
from reference.notation import FloatArray, NothingFiresError, SingularGramError
from reference.two_layer import TwoLayerNetwork, initialize
from verify import problems, seeds
from verify.claims import time
from verify.comparison import UNEQUAL
from verify.experiment import CodeUnderTest, Inputs, Profile, Result
from verify.faults.time import DawdlingDense, EarlyTrees, decide_with_another_control
from verify.tolerances import RUN

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
    events: Law = lambda alpha, exponent, seed: 100.0,
    events_start: float = 0.1,
    late: float = 100.0,
    passes: float = 1.5,
    thorough: bool = False,
) -> Results:
    """Make timings in which the tree path takes ``dense`` and ``compacted`` times as long as its opponents.

    Six iterations of the event path take six dense ones over ``events``, the sixth its first one over ``late``, and its
    start takes ``events_start`` times six dense ones. An iteration of the dense loop takes ``passes`` bare passes.
    """
    rng = np.random.default_rng(3)
    results: Results = []
    for inputs in time.cells(Profile(thorough=thorough)):
        own = inputs["alpha"], inputs["exponent"], inputs["seed"]
        noise = {name: np.exp(0.02 * rng.standard_normal(time.ROUNDS)) for name in ("dense", "compacted", "control")}
        tree = 1e-3 * 2.0 ** (inputs["exponent"] - 12)
        middle = {"tree": tree, "dense": tree / dense(*own), "compacted": tree / compacted(*own)}
        middle["control"] = middle["compacted"] * control(*own)
        middle["pass"] = middle["dense"] / passes
        iteration = {name: (value * noise.get(name, np.ones(time.ROUNDS))).tolist() for name, value in middle.items()}
        starts = {"tree": start * 10 * tree, "dense": tree, "compacted": tree, "control": tree}
        half = time.RUN * middle["dense"] / events(*own) / 2
        run = [events_start * time.RUN * middle["dense"], half, half * (1 - 1 / late), 0, 0, 0, half / late]
        runs = [(np.array(run) * noise).tolist() for noise in np.exp(0.02 * rng.standard_normal(time.ROUNDS))]
        if inputs["n"] != time.N:
            del iteration["tree"], iteration["pass"], starts["tree"]
        results.append((inputs, {"start": starts, "iteration": iteration, "events": runs, "apart": 1e-9}))
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
        ({"compacted": lambda alpha, exponent, seed: 0.8 if exponent == 14 else 8.0}, "compacted", "fails"),
        ({"compacted": spread(lambda alpha, exponent, seed: 1.0)}, "compacted", "undecided"),
        ({"compacted": lambda alpha, exponent, seed: 0.8, "start": 0.0}, "start", "fails"),
        ({"compacted": spread(lambda alpha, exponent, seed: 1.0), "start": 0.1}, "start", "undecided"),
        ({"events": lambda alpha, exponent, seed: 8.0}, "events_dense", "fails"),
        ({"events": spread(lambda alpha, exponent, seed: 10.0)}, "events_dense", "undecided"),
        ({"events": lambda alpha, exponent, seed: 7.0}, "events_compacted", "fails"),  # 3.5 times, as 8 / 4 is 2
        ({"events": spread(lambda alpha, exponent, seed: 8.0)}, "events_compacted", "undecided"),
        ({"events_start": 0.8}, "events_start", "fails"),
        ({"events": spread(lambda alpha, exponent, seed: 4.0)}, "events_start", "undecided"),
        ({"late": 8.0}, "late", "fails"),
        ({"events": lambda alpha, exponent, seed: 3.0 if exponent == 16 else 100.0}, "events_many", "fails"),
        ({"events": spread(lambda alpha, exponent, seed: 4.0)}, "events_many", "undecided"),
        ({"passes": 2.6}, "opponents", "fails"),
        ({"compacted": lambda alpha, exponent, seed: 5.0}, "opponents", "fails"),  # 0.8 of the dense time
        ({"compacted": spread(lambda alpha, exponent, seed: 5.0)}, "opponents", "undecided"),
    ],
)
def test_verdicts_follow_the_paired_ratios(changes: dict[str, Any], claim: str, verdict: str) -> None:
    assert verdicts(simulated(**changes))[claim] == verdict


def test_a_slow_event_path_elsewhere_is_not_claimed_about() -> None:
    slow = simulated(events=lambda alpha, exponent, seed: 100.0 if alpha == 0.24 and exponent in (16, 17) else 0.1)
    assert set(verdicts(slow).values()) == {"holds"}
    beside = time.decide(slow)[6].reason.partition("at alpha=0.5 it is ")[2].rstrip(".")
    assert float(beside) == pytest.approx(0.1, rel=0.05)


def test_the_thorough_run_asks_more_and_where_the_project_asks() -> None:
    findings = time.decide(simulated(thorough=True))
    assert {finding.verdict for finding in findings} == {"holds"}
    assert [finding.margin.split()[1] for finding in findings[6:]] == ["20", "6", "5", "15", "50", "2.5"]
    findings.pop()
    many = findings.pop(9)
    assert "n=256, d=128, m=2^18" in many.domain
    assert all("n=64, d=32, m=2^20" in finding.domain for finding in findings[6:])
    between = simulated(events=lambda alpha, exponent, seed: 15.0, events_start=0.4, late=30.0, thorough=True)
    found = verdicts(between)
    assert [found[name] for name in ("events_dense", "events_start", "late")] == ["fails"] * 3
    elsewhere = simulated(
        events=lambda alpha, exponent, seed: 100.0 if exponent in (18, 20) else 1.0, thorough=True
    )
    assert verdicts(elsewhere)["events_dense"] == "holds"


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
    assert time.run_seconds(result, "tree") == 1 + 6 * 2


def test_event_runs_by_hand() -> None:
    runs = [[9.0, 4.0, 1, 0, 0, 0, 1.0], [3.0, 2.0, 0, 0, 0, 0, 1.0], [1.0, 8.0, 0, 0, 0, 0, 4.0]]
    result = {"start": {"dense": 6.0}, "iteration": {"dense": [2.0, 1.0, 4.0]}, "events": runs}
    assert math.exp(time.log_speedup(result, "dense")) == pytest.approx(2)  # of 12/6, 6/3, 24/12
    assert math.exp(time.log_speedup(result, "dense", start=True)) == pytest.approx(2)  # of 18/15, 12/6, 30/13
    assert math.exp(time.log_late(result)) == pytest.approx(2)  # of 4, 2, 2


def test_one_cell_end_to_end() -> None:
    cell = {"n": 32, "alpha": 0.24, "exponent": 10, "seed": 0}
    result = time.measure(cell, seeds.generator(0, "time", cell), CodeUnderTest())
    json.dumps(result, allow_nan=False)
    names = ["dense", "compacted", "control", "tree", "pass"]
    assert list(result["start"]) == list(result["iteration"]) == names
    assert [len(result["iteration"][name]) for name in names] == [time.ROUNDS] * 5
    assert [len(run) for run in result["events"]] == [1 + time.RUN] * time.ROUNDS


Log = list[tuple[str, str]]


class Recorded:
    """A loop that only notes what is asked of it."""

    def __init__(self, name: str, log: Log) -> None:
        self.name, self.log, self.residual_norms = name, log, [1.0]
        log.append((name, "start"))

    def iterate(self) -> None:
        self.log.append((self.name, "iterate"))
        self.residual_norms.append(self.residual_norms[-1] / 2)


def recorded(log: Log) -> CodeUnderTest:
    return CodeUnderTest(
        start=lambda *args: Recorded("tree", log),
        start_events=lambda *args: Recorded("events", log),
        start_dense=lambda *args, compact=False: Recorded("compacted" if compact else "dense", log),
    )


def test_every_loop_is_warmed_up_and_takes_every_round() -> None:
    log: Log = []
    time.measure({"n": 32, "alpha": 0.24, "exponent": 10, "seed": 0}, np.random.default_rng(0), recorded(log))
    tree, dense, twins = (log.count((name, "iterate")) for name in ("tree", "dense", "compacted"))
    to_compare = max(0, time.RUN - 1 - time.ROUNDS)  # iterations of the compacted loop after the last round
    assert (tree, dense, twins) == (1 + time.ROUNDS, 1 + time.ROUNDS, 2 * (1 + time.ROUNDS) + to_compare)
    turns = [name for name, event in log[12:] if event == "iterate" and name != "events"]
    rounds = [tuple(turns[4 * r : 4 * r + 4]) for r in range(time.ROUNDS)]
    assert all(sorted(names) == ["compacted", "compacted", "dense", "tree"] for names in rounds)
    assert len(set(rounds)) > 1


def test_every_round_takes_a_fresh_run_of_the_event_path() -> None:
    log: Log = []
    time.measure({"n": 32, "alpha": 0.24, "exponent": 10, "seed": 0}, np.random.default_rng(0), recorded(log))
    own = [event for name, event in log if name == "events"]
    assert own == (["start"] + ["iterate"] * time.RUN) * time.ROUNDS
    first, after = log.index(("events", "start")), len(log) - log[::-1].index(("events", "iterate"))
    assert log[first : first + 7] == [("events", "start"), *[("events", "iterate")] * 6]  # never interrupted
    assert 12 <= first < 17 < after  # in the first round, after all warm-ups


def test_a_bare_pass_looks_at_every_score_and_dawdling_changes_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    problem = problems.make("random", 6, 8, rng)
    network = initialize(1000, 8, shift=0.8, rng=rng)
    counted: list[int] = []
    monkeypatch.setattr(time, "SCORES_AT_ONCE", 6 * 64)
    monkeypatch.setattr(time.np, "count_nonzero", lambda fires: counted.append(int(fires.sum())))
    time.BarePass(network, problem).iterate()
    assert (len(counted), sum(counted)) == (16, int((problem.X @ network.weights.T >= 0.8).sum()))
    monkeypatch.undo()
    runs = [each(network, problem.X, problem.y, compact=True) for each in (DenseRun, DawdlingDense)]
    for run in runs:
        run.iterate()
    assert runs[0].residual_norms == runs[1].residual_norms


NARROW: Inputs = {"n": 32, "alpha": 0.24, "exponent": 9, "seed": 0}


def test_networks_on_which_no_run_goes_through_are_drawn_again_until_it_gives_up() -> None:
    draws = []

    def draw(*args: Any, shift: float, **options: Any) -> TwoLayerNetwork:  # noqa: ANN401
        draws.append(1)
        return initialize(*args, shift=9.0, **options)  # nothing fires

    with pytest.raises(NothingFiresError, match="no run of 20 networks of width 512"):
        time.measure(NARROW, np.random.default_rng(0), CodeUnderTest(initialize=draw))
    assert len(draws) == time.MOST_REDRAWS


def test_a_loop_that_stops_where_a_run_by_the_definitions_goes_through_is_not_drawn_away() -> None:
    def start(*args: object, **options: object) -> Any:  # noqa: ANN401
        raise SingularGramError("gives up")

    with pytest.raises(SingularGramError, match="gives up"):
        time.measure(NARROW, np.random.default_rng(0), CodeUnderTest(start_events=start))


def test_the_trees_stay_out_of_the_largest_setting() -> None:
    log: Log = []
    result = time.measure({"n": 64, "alpha": 0.24, "exponent": 10, "seed": 0}, np.random.default_rng(0), recorded(log))
    assert list(result["iteration"]) == ["dense", "compacted", "control"]
    assert not any(name == "tree" for name, _ in log)


class Moving:
    """A loop of which the start and every iteration move a clock by given amounts; the last amount stays."""

    def __init__(self, clock: list[float], start: float, iterations: list[float]) -> None:
        self.clock, self.iterations, self.residual_norms = clock, iterations, [1.0]
        clock[0] += start

    def iterate(self) -> None:
        self.residual_norms.append(self.residual_norms[-1] / 2)
        self.clock[0] += self.iterations[0]
        self.iterations = self.iterations[1:] or self.iterations


def by_a_clock(monkeypatch: pytest.MonkeyPatch, slower: float) -> dict[str, str]:
    """Measure with a clock that the loops alone move, the event path slower by a factor."""
    clock = [0.0]
    monkeypatch.setattr(time, "clock", lambda: clock[0])
    monkeypatch.setattr(time, "BarePass", lambda *args: Moving(clock, 0.0, [6.0]))
    code = CodeUnderTest(
        initialize=lambda width, dim, *, shift, rng: None,
        start=lambda *args: Moving(clock, 1.0, [8.0]),
        start_events=lambda *args: Moving(clock, 2 * slower, [slower, slower / 2, slower / 50]),
        start_dense=lambda *args, compact=False: Moving(clock, 2.0, [4.0 if compact else 8.0]),
    )
    cells = time.cells(Profile())
    return verdicts([(cell, time.measure(cell, np.random.default_rng(0), code)) for cell in cells])


def test_an_event_path_that_is_slowed_down_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    claims = ("events_dense", "events_compacted", "events_start", "late")
    assert [by_a_clock(monkeypatch, 1.0)[claim] for claim in claims] == ["holds"] * 4
    assert [by_a_clock(monkeypatch, 15.0)[claim] for claim in claims] == ["fails"] * 3 + ["holds"]


def test_work_before_the_clock_is_done_once() -> None:
    rng = np.random.default_rng(0)
    problem = problems.make("random", 6, 8, rng)
    network = initialize(512, 8, shift=0.8, rng=rng)
    honest = TreeRun(network, problem.X, problem.y)
    for run in [EarlyTrees(network, problem.X, problem.y) for _ in range(2)]:
        for _ in range(3):
            run.iterate()
    for _ in range(3):
        honest.iterate()
    assert run.residual_norms == honest.residual_norms
    assert not hasattr(run, "forest")
    other = initialize(512, 8, shift=0.8, rng=rng)
    assert EarlyTrees(other, problem.X, problem.y).residual_norms != run.residual_norms[:1]


@pytest.mark.parametrize("apart", [2e-7, UNEQUAL])
def test_loops_that_come_to_other_residuals_prove_nothing(apart: float) -> None:
    results = simulated()
    results[-1][1]["apart"] = apart
    findings = time.decide(results)
    assert [(finding.claim, finding.verdict) for finding in findings] == [(c.id, "invalid") for c in time.CLAIMS]
    assert "same residuals" in findings[0].reason


class Idle(EventRun):
    """Takes no step."""

    def iterate(self) -> None:
        self.residual_norms.append(self.residual_norms[-1])


class Short(EventRun):
    """Takes steps a thousandth short."""

    def _try(self, g: FloatArray) -> Trial | AllTrial:
        return super()._try(g * (1 - 1e-3))


@pytest.mark.parametrize("fault", [{}, {"start_events": Idle}, {"start_events": Short}, {"start": EarlyTrees}])
def test_what_the_loops_come_to_is_compared(fault: dict[str, Any]) -> None:
    cell = {"n": 32, "alpha": 0.24, "exponent": 10, "seed": 0}
    apart = time.measure(cell, seeds.generator(0, "time", cell), CodeUnderTest(**fault))["apart"]
    assert (apart > RUN) == ("start_events" in fault)


def test_a_control_that_differs_invalidates_the_true_timings() -> None:
    assert {finding.verdict for finding in decide_with_another_control(simulated())} == {"invalid"}


def test_plot_shows_both_paths_and_both_opponents_at_both_alphas() -> None:
    figure = Figure()
    time.plot(figure, simulated())
    figure.canvas.draw()
    names = ["tree / dense", "events / dense", "tree / compacted", "events / compacted"]
    for axes in figure.axes:
        assert [text.get_text() for text in axes.get_legend().get_texts()] == names


@pytest.mark.parametrize("thorough", [False, True])
def test_cells_are_distinct_and_plain(thorough: bool) -> None:
    assert time.EXPERIMENT.timed
    cells = time.cells(Profile(thorough=thorough))
    assert len({json.dumps(cell, sort_keys=True) for cell in cells}) == len(cells)
    assert all(cell in time.cells(Profile(thorough=True)) for cell in cells)
