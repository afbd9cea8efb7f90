"""The claims on the event-driven path: verdicts on planted faults and altered counters, on a small grid."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure

import reference.gauss_newton
from fast.gauss_newton import EventRun
from fast.two_layer import StartingNetwork
from fast.watched_pairs import Trial, WatchedPairs
from reference.notation import FloatArray, IntArray, NothingFiresError, SingularGramError
from reference.two_layer import initialize
from verify import problems, seeds
from verify.claims import events
from verify.experiment import CodeUnderTest, Inputs, Profile, Result
from verify.faults.events import HiddenScan, LateLook

Results = list[tuple[Inputs, Result]]
Counts = dict[str, int]
SMALL: dict[str, list[Inputs]] = {
    "width": [
        {**point, "n": n, "width": 1 << exponent}
        for point, n in ((events.RANDOM, 24), (events.LARGE, 64))
        for exponent in (12, 14, 16)
    ],
    "points": [
        {**events.RANDOM, "n": n, "width": 1 << exponent, "lazy": True} for n, exponent in ((24, 20), (32, 18))
    ]
    + [{**events.LARGE, "n": n, "width": 1 << 13} for n in (4, 12)],
    "late": [{**events.RANDOM, "n": n, "width": 1 << 13, "iterations": 7} for n in (24, 64)],
    "families": [
        {**events.RANDOM, "family": family, "n": 12, "width": 1 << 12, "iterations": 5} for family in events.FAMILIES
    ],
}
ALL = [claim.id.split(".")[1] for claim in events.CLAIMS]


@pytest.fixture(scope="module", autouse=True)
def small_grid() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(events, "SWEEPS", SMALL)
        yield


def measured(code: CodeUnderTest, cells: list[Inputs]) -> Results:
    results = [(cell, events.measure(cell, seeds.generator(0, "events", cell), code)) for cell in cells]
    plain: Results = json.loads(json.dumps(results, allow_nan=False))
    return plain


@pytest.fixture(scope="module")
def sound(small_grid: None) -> Results:
    return measured(CodeUnderTest(), events.cells(Profile()))


def verdicts(results: Results) -> dict[str, str]:
    return {finding.claim.split(".")[1]: finding.verdict for finding in events.EXPERIMENT.decide(results)}


def test_the_true_code_holds_and_draws(sound: Results) -> None:
    findings = events.EXPERIMENT.decide(sound)
    assert [finding.claim for finding in findings] == [claim.id for claim in events.CLAIMS]
    assert {finding.claim: finding for finding in findings if finding.verdict != "holds"} == {}
    figure = Figure()
    events.plot(figure, sound)
    figure.canvas.draw()


# Counters that lie or grow


def altered(results: Results, change: Callable[[Counts, Inputs, int], None]) -> Results:
    """Change the counters of every iteration; ``change`` is told its number."""
    results = copy.deepcopy(results)
    for inputs, result in results:
        for iteration, counts in enumerate(result["counts"]):
            change(counts, inputs, iteration)
    return results


def more(phase: str, work: Callable[[Inputs], float], *, late_only: bool = False) -> Callable[..., None]:
    def change(counts: Counts, inputs: Inputs, iteration: int) -> None:
        if not late_only or iteration >= 4:
            counts[phase] += int(work(inputs))

    return change


def pairs(inputs: Inputs) -> float:
    return events.fired_law(inputs["n"], inputs["width"], inputs["alpha"])


def volume(inputs: Inputs) -> float:
    return float(inputs["width"] * inputs["n"] * inputs["d"])


@pytest.mark.parametrize(
    ("change", "caught"),
    [
        pytest.param(more("look", lambda i: pairs(i) * (i["width"] / 16)), ["width", "forbidden"], id="m-more"),
        pytest.param(more("compare", lambda i: 0.03 * volume(i)), ["forbidden"], id="scan-of-3%"),
        pytest.param(more("drift", lambda i: i["n"] * pairs(i)), ["forbidden"], id="n-for-every-pair"),
        pytest.param(more("solve", lambda i: i["n"] ** 3 / 3, late_only=True), ["cubic"], id="a-factor-every-time"),
        pytest.param(more("compare", lambda i: 100 * pairs(i), late_only=True), ["late"], id="busy-at-rest"),
        pytest.param(
            more("drift", lambda i: 300 * i["n"] * pairs(i)), ["families", "forbidden"], id="300-n-for-every-pair"
        ),
    ],
)
def test_work_that_grows_wrongly_fails(sound: Results, change: Callable[..., None], caught: list[str]) -> None:
    found = verdicts(altered(sound, change))
    assert {found[claim] for claim in caught} == {"fails"}
    assert (found["exact"], found["counters"], found["witness"]) == ("holds", "holds", "holds")


def test_growth_does_not_hide_behind_noise(sound: Results) -> None:
    def change(counts: Counts, inputs: Inputs, iteration: int) -> None:
        counts["look"] += int(pairs(inputs) * inputs["width"] / 16)
        counts["gram"] = int(counts["gram"] * (inputs["width"] / 2**14) ** (2 * (-1) ** inputs["seed"])) + 1

    finding = next(each for each in events.decide(altered(sound, change)) if each.claim == "events.width")
    assert finding.verdict == "fails"
    assert "of the worst, whole" in finding.reason


def test_less_work_than_leaving_the_lazy_regime_costs_fails_leaving(sound: Results) -> None:
    def change(counts: Counts, inputs: Inputs, iteration: int) -> None:
        for phase in counts.keys() - {"active_pairs"}:
            counts[phase] = int(pairs(inputs))

    assert verdicts(altered(sound, change))["leaving"] == "fails"


def test_flips_that_do_not_die_out_fail(sound: Results) -> None:
    assert verdicts(altered(sound, more("flips", lambda i: 1000)))["flips"] == "fails"
    # No iteration is at rest any more, so nothing is known of those.
    found = verdicts(altered(sound, more("flips", lambda i: 1)))
    assert (found["cubic"], found["late"]) == ("invalid", "invalid")


@pytest.mark.parametrize("phase", ["compare", "drift", "gram", "compute"])
def test_a_halved_counter_falls_below_the_least_work(sound: Results, phase: str) -> None:
    def halve(counts: Counts, inputs: Inputs, iteration: int) -> None:
        counts[phase] //= 2

    assert verdicts(altered(sound, halve))["counters"] == "fails"


@pytest.mark.parametrize("phase", events.BUSY_PHASES)
def test_a_phase_that_reports_nothing_has_no_slope(sound: Results, phase: str) -> None:
    def silence(counts: Counts, inputs: Inputs, iteration: int) -> None:
        counts[phase] = 0

    assert verdicts(altered(sound, silence))["width"] == "invalid"


def test_no_work_at_all_is_no_evidence(sound: Results) -> None:
    results = copy.deepcopy(sound)
    for _, result in results:
        result["counts"], result["checked"], result["least"] = [], [], []
    found = verdicts(results)
    assert (found.pop("exact"), found.pop("leaving")) == ("fails", "fails")
    assert found.pop("witness") == "holds"
    assert set(found.values()) == {"invalid"}
    events.plot(Figure(), results)


def test_a_noticed_poison_withdraws_what_rests_on_counters(sound: Results) -> None:
    noticed = copy.deepcopy(sound)
    noticed[0][1]["witness"] = False
    found = verdicts(noticed)
    assert found["witness"] == "fails"
    assert {found[claim.split(".")[1]] for claim in events.RELY_ON_COUNTS} == {"invalid"}
    assert found["exact"] == "holds"


def test_runs_without_a_witness_leave_it_open(sound: Results) -> None:
    assert verdicts([(i, {**r, "witness": None}) for i, r in sound])["witness"] == "invalid"


# Faults in the code


class Lists(WatchedPairs):
    """Never goes over to dense arrays, however many pairs must be watched."""

    most = 2.0


class CertificateOff(Lists):
    """Watches only what fires at the start, and believes that no other pair ever will."""

    def __init__(
        self, network: StartingNetwork, X: FloatArray, inner_products: FloatArray, band: float, **options: float
    ) -> None:
        super().__init__(network, X, inner_products, 0.0, **options)

    def _certify(self, *args: object) -> tuple[IntArray, FloatArray, IntArray]:
        none = np.empty(0, dtype=np.intp)
        return none, np.empty(0), none


class DropsFlips(Lists):
    """Loses every hundredth flip."""

    def try_step(self, g: FloatArray) -> Trial:
        trial = super().try_step(g)
        return replace(trial, flips=trial.flips[np.arange(len(trial.flips)) % 100 != 99])


class NeverStarts(Lists):
    """Ignores the pairs that start to fire."""

    def try_step(self, g: FloatArray) -> Trial:
        trial = super().try_step(g)
        return replace(trial, flips=trial.flips[self.fired[trial.looked[trial.flips]]])


class StaleCounts(Lists):
    """Keeps the shared-fired counts of the start."""

    def take(self, trial: Trial) -> None:
        before = self.shared.copy()
        super().take(trial)
        self.shared[:] = before


class HalvedLook(Lists):
    def try_step(self, g: FloatArray) -> Trial:
        before = self.work["look"]
        trial = super().try_step(g)
        self.work["look"] = (before + self.work["look"]) // 2
        return trial


class HalvedGram(Lists):
    def _flip(self, pairs: IntArray) -> IntArray:
        before = self.work["gram"]
        gained = super()._flip(pairs)
        self.work["gram"] = (before + self.work["gram"]) // 2
        return gained


class ReadsWeights(Lists):
    """Lets the largest weight in the whole network enter, without a product."""

    def try_step(self, g: FloatArray) -> Trial:
        largest = float(np.abs(self.weights).max())
        return super().try_step(g * 2 if largest > 1e300 else g)


def planted(fault: type[WatchedPairs]) -> CodeUnderTest:
    class Faulty(EventRun):
        watch = fault

    return CodeUnderTest(start_events=Faulty)


PAIRS: Inputs = {
    "sweep": "families", **events.RANDOM, "family": "pairs", "n": 16, "width": 1 << 12, "iterations": 5, "seed": 0
}  # fmt: skip


def caught_by(sound: Results, fault: type[WatchedPairs]) -> dict[str, str]:
    """Measure one cell with the fault, put it in the place of a sound one, and decide."""
    ((_, result),) = measured(planted(fault), [PAIRS])
    at = next(place for place, (inputs, _) in enumerate(sound) if inputs["family"] == "pairs")
    return verdicts([*sound[:at], (PAIRS, result), *sound[at + 1 :]])


@pytest.mark.parametrize(
    ("fault", "caught"),
    [
        (CertificateOff, "exact"),
        (DropsFlips, "exact"),
        (NeverStarts, "exact"),
        (StaleCounts, "exact"),
        (LateLook, "exact"),
        (HalvedLook, "exact"),
        (HalvedGram, "counters"),
        (HiddenScan, "witness"),
        (ReadsWeights, "witness"),
    ],
)
def test_planted_faults_fail_the_claim_meant_for_them(
    sound: Results, fault: type[WatchedPairs], caught: str
) -> None:
    found = caught_by(sound, fault)
    assert found[caught] == "fails"
    if caught == "witness":
        assert (found["exact"], found["counters"], found["forbidden"]) == ("holds", "holds", "invalid")


def test_the_harness_of_the_faults_is_sound(sound: Results) -> None:
    assert set(caught_by(sound, WatchedPairs).values()) == {"holds"}


def test_a_run_that_stops_with_an_error_fails_exact(sound: Results) -> None:
    class Stops(EventRun):
        def iterate(self) -> None:
            if len(self.counts) == 2:
                raise SingularGramError("G is singular")
            super().iterate()

    ((_, result),) = measured(CodeUnderTest(start_events=Stops), [PAIRS])
    assert len(result["counts"]) == 2
    (finding, *_) = events.decide([(PAIRS, result), *sound])
    assert finding.verdict == "fails"
    assert "stopped at" in finding.reason


def test_a_run_that_a_dense_run_would_not_survive_either_is_drawn_anew() -> None:
    # Of this cell's networks the first leaves some point without a firing neuron in the third iteration.
    inputs: Inputs = {**events.LARGE, "n": 64, "width": 1 << 12, "sweep": "width", "seed": 3}
    assert events.side_by_side(inputs, seeds.generator(4, "events", inputs), CodeUnderTest()) is None
    result = events.measure(inputs, seeds.generator(4, "events", inputs), CodeUnderTest())
    assert len(result["counts"]) == inputs["iterations"]


def test_silent_points_without_end_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "side_by_side", lambda *given: None)
    with pytest.raises(NothingFiresError, match="widen them"):
        events.measure(PAIRS, np.random.default_rng(0), CodeUnderTest())


# The judge


def test_the_dense_run_is_the_reference_run() -> None:
    rng = np.random.default_rng(5)
    problem = problems.make("pairs", 8, 6, rng)
    network = initialize(2000, 6, shift=0.9, rng=rng)
    dense = events.DenseRun(network, problem)
    for _ in range(3):
        dense.iterate()
    expected = reference.gauss_newton.train(network, problem.X, problem.y, iterations=3).network
    np.testing.assert_allclose(dense.weights, expected.weights, atol=1e-11)
    np.testing.assert_allclose(dense.scores, problem.X @ expected.weights.T, atol=1e-11)


def test_shared_counts_and_least_work_by_hand() -> None:
    rng = np.random.default_rng(0)
    dense = events.DenseRun(initialize(3, 2, shift=0.0, rng=rng), problems.make("random", 2, 2, rng))
    dense.fired_before = np.array([[True, True, False], [True, False, False]])
    dense.ever = dense.touched = dense.fired_before
    dense.fires = np.array([[True, False, False], [True, True, False]])
    assert dense.shared().tolist() == [[1, 1], [1, 2]]
    # Neuron 1 flips twice and fires on one point before and one after. Neurons 0, 1 and 1 are looked at, row 0 is read.
    least = dense.least_work(np.array([0, 1, 1]), np.array([0]))
    assert least == {"compare": 3, "drift": 2 + 1 + 1, "gram": 2 * 2, "compute": 2 * 2}


@pytest.mark.parametrize("thorough", [False, True])
def test_cells_are_distinct_and_plain(thorough: bool) -> None:
    cells = events.cells(Profile(thorough=thorough))
    assert len({json.dumps(cell, sort_keys=True) for cell in cells}) == len(cells)
    assert all(cell in events.cells(Profile(thorough=True)) for cell in cells)
