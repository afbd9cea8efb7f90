"""The claims about time on many layers: verdicts on hand-made timings. No test looks at the clock."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from fast.multi_layer_gauss_newton import LastLayer, MultiLayerRun, State
from reference.multi_layer import MultiLayerNetwork, initialize
from reference.notation import FloatArray, NothingFiresError
from verify import seeds
from verify.claims import deep_time
from verify.comparison import UNEQUAL
from verify.experiment import CodeUnderTest, Inputs, Profile, Result
from verify.faults.deep_time import FAULTS
from verify.tolerances import RUN

Results = list[tuple[Inputs, Result]]
Law = Callable[[Inputs], float]
"""How many times slower an opponent is in a cell."""


def expected(inputs: Inputs) -> float:
    """As slow at 2^9, twice as slow with every doubling; 20 times where few neurons fire, or one layer is trained."""
    return float(2.0 ** (inputs["exponent"] - 9)) * (20 if inputs["part"] in ("sparse", "last") else 1)


def simulated(
    dense: Law = expected,
    compacted: Law = expected,
    control: Law = lambda inputs: 1.0,
    start: float = 0.1,
    thorough: bool = False,
    passes: float = 2.0,
) -> Results:
    """Make timings in which opponents take ``dense`` and ``compacted`` times as long as the fast loop.

    The fast loop's start takes ``start`` iterations; the opponents' take none. A dense iteration takes ``passes`` times
    as long as bare products.
    """
    rng = np.random.default_rng(3)
    results: Results = []
    for inputs in deep_time.cells(Profile(thorough=thorough)):
        factors = {"fast": 1.0, "control": control(inputs), "dense": dense(inputs), "compacted": compacted(inputs)}
        if inputs["part"] == "plain":
            factors["pass"] = factors["dense"] / passes
        iteration = {
            name: (factor * np.exp(0.02 * rng.standard_normal(deep_time.ROUNDS))).tolist()
            for name, factor in factors.items()
        }
        starts = {**dict.fromkeys(factors, 0.0), "fast": start}
        results.append((inputs, {"start": starts, "iteration": iteration, "apart": 1e-9}))
    return results


def verdicts(results: Results) -> dict[str, str]:
    return {finding.claim.split(".")[1]: finding.verdict for finding in deep_time.EXPERIMENT.decide(results)}


@pytest.mark.parametrize("thorough", [False, True])
def test_the_expected_timings_hold_in_the_order_of_the_claims(thorough: bool) -> None:
    findings = deep_time.EXPERIMENT.decide(simulated(thorough=thorough))
    assert [finding.claim for finding in findings] == [claim.id for claim in deep_time.CLAIMS]
    assert {finding.verdict for finding in findings} == {"holds"}
    assert findings[5].estimate == pytest.approx(9, abs=0.2)
    asked = deep_time.FACTORS[13 if thorough else 12]
    factors = [asked.dense, asked.compacted, asked.normalized, asked.start, asked.last_layer]
    assert "the last layer trained" in findings[4].domain
    assert [finding.margin.split()[1] for finding in findings[:5]] == [f"{factor:g}" for factor in factors]


def constant(factor: float, spread: float = 0.0) -> Law:
    return lambda inputs: factor * math.exp(spread * (inputs["seed"] - 2))


def tilted(spread: float) -> Law:
    """Ahead from the smallest width on; seeds disagree about what wider ones bring."""
    return lambda inputs: 2.0 ** (1 + spread * (inputs["seed"] - 2) * (inputs["exponent"] - 8))


@pytest.mark.parametrize(
    ("changes", "claim", "verdict"),
    [
        ({"dense": constant(1.5)}, "dense", "fails"),
        ({"dense": constant(2.0, 0.5)}, "dense", "undecided"),
        ({"compacted": constant(1.5)}, "compacted", "fails"),
        ({"compacted": constant(2.0, 0.5)}, "compacted", "undecided"),
        ({"dense": constant(2.5)}, "normalized", "fails"),
        ({"dense": constant(deep_time.FACTORS[12].normalized, 0.5)}, "normalized", "undecided"),
        ({"compacted": constant(1.5)}, "start", "fails"),
        ({"dense": constant(1.5)}, "start", "fails"),
        ({"start": 60.0}, "start", "fails"),
        ({"compacted": constant(2.0, 0.5)}, "start", "undecided"),
        ({"compacted": constant(15.0)}, "last_layer", "fails"),
        ({"dense": constant(30.0, 0.5)}, "last_layer", "undecided"),
        ({"compacted": constant(0.5)}, "crossover", "fails"),
        ({"dense": constant(0.5)}, "crossover", "fails"),
        ({"dense": lambda inputs: 2.0 if inputs["seed"] else 0.5}, "crossover", "undecided"),
        ({"dense": constant(2.0)}, "growth", "undecided"),
        ({"dense": lambda inputs: 2.0 ** (9 - inputs["exponent"])}, "growth", "fails"),
        ({"dense": tilted(0.5)}, "growth", "undecided"),
        ({"passes": 3.5}, "opponents", "fails"),
        ({"passes": 3.0}, "opponents", "undecided"),
        ({"compacted": constant(20.0)}, "opponents", "fails"),
    ],
)
def test_verdicts_follow_the_paired_ratios(changes: dict[str, Any], claim: str, verdict: str) -> None:
    assert verdicts(simulated(**changes))[claim] == verdict


def test_a_loop_that_is_ahead_everywhere_crosses_at_the_smallest_width() -> None:
    findings = deep_time.decide(simulated(dense=constant(3), compacted=constant(2)))
    assert (findings[5].verdict, findings[5].estimate) == ("holds", 8)
    assert f"in {deep_time.SEEDS} the fast loop is at every width" in findings[5].reason


@pytest.mark.parametrize("factor", [1.3, 0.7])
def test_a_control_that_differs_from_itself_invalidates_every_claim(factor: float) -> None:
    findings = deep_time.EXPERIMENT.decide(simulated(control=constant(factor)))
    assert [finding.claim for finding in findings] == [claim.id for claim in deep_time.CLAIMS]
    assert {finding.verdict for finding in findings} == {"invalid"}
    assert "control failed" in findings[0].reason


def test_runs_by_hand() -> None:
    result = {
        "start": {"fast": 2.0, "dense": 3.0, "compacted": 30.0},
        "iteration": {"fast": [1.0, 3.0, 2.0], "dense": [7.0, 7.0, 7.0], "compacted": [3.0, 3.0, 3.0]},
    }
    assert deep_time.run_seconds(result, "fast") == 2 + 6 * 2
    assert math.exp(deep_time.log_run_speedup(result)) == pytest.approx(45 / 14)


CELL: Inputs = {"part": "grid", "alpha": 0.24, "normalized": True, "exponent": 9, "seed": 0}


def test_one_cell_end_to_end() -> None:
    result = deep_time.measure(CELL, seeds.generator(0, "deep_time", CELL), CodeUnderTest())
    json.dumps(result, allow_nan=False)
    names = ["fast", "control", "dense", "compacted"]
    assert list(result["start"]) == list(result["iteration"]) == names
    assert [len(result["iteration"][name]) for name in names] == [deep_time.REPEATS * deep_time.ROUNDS] * 4


@pytest.mark.parametrize("apart", [2e-7, UNEQUAL])
def test_loops_that_come_to_other_residuals_prove_nothing(apart: float) -> None:
    results = simulated()
    results[-1][1]["apart"] = apart
    findings = deep_time.decide(results)
    assert [(finding.claim, finding.verdict) for finding in findings] == [(c.id, "invalid") for c in deep_time.CLAIMS]
    assert "same residuals" in findings[0].reason


class Short(MultiLayerRun):
    """Takes steps a thousandth short."""

    def _try(self, g: FloatArray) -> State:
        return super()._try(g * (1 - 1e-3))


class IdleLastLayer(LastLayer):
    """Begins runs that take no step."""

    def run(self, y: FloatArray) -> Any:  # noqa: ANN401
        run = super().run(y)
        run.iterate = lambda: run.residual_norms.append(run.residual_norms[-1])  # type: ignore[method-assign]
        return run


@pytest.mark.parametrize("part", ["grid", "last"])
@pytest.mark.parametrize("faulty", [False, True])
def test_what_the_loops_come_to_is_compared(part: str, faulty: bool) -> None:
    cell = {**CELL, "part": part, "normalized": part == "grid"}
    fault: dict[str, Any] = {"start_deep": Short, "last_layer": IdleLastLayer} if faulty else {}
    apart = deep_time.measure(cell, seeds.generator(0, "deep_time", cell), CodeUnderTest(**fault))["apart"]
    assert (apart > RUN) == faulty


class Moving:
    """A loop of which the start and every iteration move a clock by given amounts, and are noted."""

    def __init__(self, name: str, clock: list[float], log: list[str], start: float, iteration: float) -> None:
        self.name, self.clock, self.log, self.iteration = name, clock, log, iteration
        self.residual_norms = [1.0]
        clock[0] += start

    def iterate(self) -> None:
        self.residual_norms.append(self.residual_norms[-1] / 2)
        self.log.append(self.name)
        self.clock[0] += self.iteration


class LastMoving(Moving):
    """The same for the last layer: a run begins separately."""

    def run(self, y: object) -> Moving:
        self.residual_norms = [1.0]
        return self


def by_a_clock(
    monkeypatch: pytest.MonkeyPatch, slower: float, dawdling: float = 2.0
) -> tuple[dict[str, str], list[str]]:
    """Measure with a clock that the loops alone move, the fast loop slower by a factor.

    A dense iteration takes ``dawdling`` bare passes.
    """
    clock, log = [0.0], list[str]()
    monkeypatch.setattr(deep_time, "clock", lambda: clock[0])
    bare = lambda network, _: Moving("pass", clock, log, 0.0, network / dawdling)  # noqa: E731
    monkeypatch.setattr(deep_time, "BareProducts", bare)

    def opponent(network: float, *args: object, trained_layers: object, compact: bool = False) -> Moving:
        return Moving("compacted" if compact else "dense", clock, log, 2 * network, network)

    code = CodeUnderTest(
        deep_initialize=lambda width, *args, normalized, **options: width / 2**9 * (1 + normalized),
        start_deep=lambda *args, trained_layers: Moving("fast", clock, log, slower, slower),
        start_deep_dense=opponent,
        last_layer=lambda *args, rank_budget: LastMoving("last", clock, log, 0.0, slower / 10),
    )
    cells = deep_time.cells(Profile())
    found = verdicts([(cell, deep_time.measure(cell, np.random.default_rng(0), code)) for cell in cells])
    return found, log[: 4 * (1 + deep_time.ROUNDS)]


def test_a_loop_that_is_slowed_down_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    found, log = by_a_clock(monkeypatch, 1.0)
    assert set(found.values()) == {"holds"}
    assert log[:4] == ["fast", "fast", "dense", "compacted"]  # warmed up
    rounds = [tuple(log[4 * r : 4 * r + 4]) for r in range(1, 1 + deep_time.ROUNDS)]
    assert {tuple(sorted(names)) for names in rounds} == {("compacted", "dense", "fast", "fast")}
    assert len(set(rounds)) > 1  # in an order of their own each
    slowed, _ = by_a_clock(monkeypatch, 20.0)
    assert {slowed[claim] for claim in ("dense", "compacted", "normalized", "start", "last_layer", "crossover")} == {
        "fails"
    }


def test_opponents_that_dawdle_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    found, _ = by_a_clock(monkeypatch, 1.0, dawdling=8.0)
    assert {claim for claim, verdict in found.items() if verdict != "holds"} == {"opponents"}


@pytest.mark.parametrize("part", ["grid", "plain"])
def test_bare_products_run_beside_the_opponents_and_train_nothing(part: str) -> None:
    cell = {**CELL, "part": part, "normalized": part == "grid"}
    result = deep_time.measure(cell, seeds.generator(0, "deep_time", cell), CodeUnderTest())
    assert ("pass" in result["iteration"]) == (part == "plain")
    assert result["apart"] <= RUN


def test_networks_on_which_no_run_goes_through_are_drawn_again_until_it_gives_up() -> None:
    draws = []

    def draw(*args: Any, shift: float, **options: Any) -> MultiLayerNetwork:  # noqa: ANN401
        draws.append(1)
        return initialize(*args, shift=9.0, **options)  # nothing fires

    with pytest.raises(NothingFiresError, match="no run of 20 networks of width 512"):
        deep_time.measure(CELL, np.random.default_rng(0), CodeUnderTest(deep_initialize=draw))
    assert len(draws) == deep_time.MOST_REDRAWS


def test_a_run_that_stops_where_one_by_the_definitions_goes_through_invalidates_every_claim() -> None:
    (fault,) = (fault for fault in FAULTS if fault.id == "deep-gives-up")
    result = deep_time.measure(CELL, np.random.default_rng(0), fault.code)
    assert result == {"stopped": "G is singular"}
    stopped = [(inputs, result if inputs["part"] == "plain" else other) for inputs, other in simulated()]
    findings = deep_time.decide(stopped)
    assert [(finding.claim, finding.verdict) for finding in findings] == [(c.id, "invalid") for c in deep_time.CLAIMS]
    assert "goes through: G is singular." in findings[0].reason
    deep_time.plot(Figure(), stopped)


def test_plot_shows_both_opponents_in_every_setting() -> None:
    figure = Figure()
    deep_time.plot(figure, simulated())
    figure.canvas.draw()
    (axes,) = figure.axes
    kinds = ["alpha=0.24, normalized", "alpha=0.24, plain", "alpha=0.4, normalized"]
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == [f"{opponent}, {kind}" for opponent in ("dense", "compacted") for kind in kinds]


@pytest.mark.parametrize("thorough", [False, True])
def test_cells_are_distinct_and_plain(thorough: bool) -> None:
    assert deep_time.EXPERIMENT.timed
    cells = deep_time.cells(Profile(thorough=thorough))
    assert len({json.dumps(cell, sort_keys=True) for cell in cells}) == len(cells)
