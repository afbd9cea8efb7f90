"""The threshold-search claims: verdicts on hand-made counts, and planted faults in the trees."""

from __future__ import annotations

import json

import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from fast.threshold_search import ThresholdForest
from reference.notation import FloatArray, IntArray
from verify import closed_forms, seeds
from verify.claims import search
from verify.experiment import CodeUnderTest, Inputs, Profile, Result

Results = list[tuple[Inputs, Result]]
Pairs = tuple[IntArray, IntArray]
CELLS: list[Inputs] = [{"width": width, "seed": seed} for width in (256, 2048, 16384) for seed in range(3)]


def measured(forest: type[ThresholdForest] = ThresholdForest) -> Results:
    code = CodeUnderTest(forest=forest)
    results = [(cell, search.measure(cell, seeds.generator(0, "search", cell), code)) for cell in CELLS]
    plain: Results = json.loads(json.dumps(results, allow_nan=False))
    return plain


def verdicts(results: Results) -> dict[str, str]:
    return {finding.claim.split(".")[1]: finding.verdict for finding in search.EXPERIMENT.decide(results)}


def changed(phase: str, factor: float) -> Results:
    """Multiply a counter and its closed form alike, so that only bounds can notice."""
    results = measured()
    for _, result in results:
        for counts in (result["visited"], result["expected"]):
            counts[phase] = int(counts[phase] * factor)
    return results


def test_the_true_code_holds_and_draws() -> None:
    results = measured()
    findings = search.EXPERIMENT.decide(results)
    assert [finding.claim for finding in findings] == [claim.id for claim in search.CLAIMS]
    assert {finding.verdict for finding in findings} == {"holds"}
    figure = Figure()
    search.plot(figure, results)
    figure.canvas.draw()


@pytest.mark.parametrize(("phase", "factor"), [("build", 1.2), ("query", 1.4), ("update", 30)])
def test_work_beyond_a_bound_fails_its_claim_alone(phase: str, factor: float) -> None:
    found = verdicts(changed(phase, factor))
    assert found.pop(phase) == "fails"
    assert set(found.values()) == {"holds"}


def test_growth_has_all_verdicts() -> None:
    def with_growth(*exponents: float) -> str:
        results = measured()
        for inputs, result in results:
            counts = 1000 * inputs["width"] ** exponents[inputs["seed"]]
            result["visited"]["query"] = result["expected"]["query"] = counts
        return verdicts(results)["growth"]

    assert with_growth(0.14, 0.15, 0.16) == "holds"
    assert with_growth(0.9, 1.0, 1.1) == "fails"
    assert with_growth(0.0, 0.25, 0.5) == "undecided"


def test_a_counter_that_stands_still_fails_exact_and_shows_no_growth() -> None:
    results = measured()
    for _, result in results:
        result["visited"]["query"] = 0
    found = verdicts(results)
    assert (found["exact"], found["growth"]) == ("fails", "invalid")


def test_a_noticed_poison_withdraws_what_rests_on_counts() -> None:
    results = measured()
    results[0][1]["witness"] = False
    found = verdicts(results)
    assert (found["witness"], found["query"], found["growth"]) == ("fails", "invalid", "invalid")
    assert (found["exact"], found["build"], found["update"]) == ("holds", "holds", "holds")
    for _, result in results:
        result["visited"]["query"] *= 100
    assert verdicts(results)["query"] == "fails"


class HalvedQueries(ThresholdForest):
    def query(self, threshold: float) -> Pairs:
        before = self.nodes_visited["query"]
        found = super().query(threshold)
        self.nodes_visited["query"] = (before + self.nodes_visited["query"]) // 2
        return found


class HalvedUpdates(ThresholdForest):
    def update(self, neurons: ArrayLike, scores: ArrayLike) -> None:
        super().update(neurons, scores)
        self.nodes_visited["update"] //= 2


class HalvedBuild(ThresholdForest):
    def __init__(self, levels: list[FloatArray], width: int) -> None:
        super().__init__(levels, width)
        self.nodes_visited["build"] //= 2


class HiddenScan(ThresholdForest):
    """Counts what a search would look at, and looks at every leaf."""

    def query(self, threshold: float) -> Pairs:
        super().query(threshold)
        return np.nonzero(self.levels[0].reshape(self.n, -1)[:, : self.width] >= threshold)


class HiddenScanOfMaxima(ThresholdForest):
    """Counts what a search would look at, and looks at every maximum of 16 leaves."""

    def query(self, threshold: float) -> Pairs:
        super().query(threshold)
        i, v = np.nonzero(self.levels[1].reshape(self.n, -1) >= threshold)
        at, place = np.nonzero(self.levels[0][i, v] >= threshold)
        return i[at], 16 * v[at] + place


class CountedScan(ThresholdForest):
    """Looks at every leaf and says so."""

    def query(self, threshold: float) -> Pairs:
        self.nodes_visited["query"] += self.n * self.width
        return np.nonzero(self.levels[0].reshape(self.n, -1)[:, : self.width] >= threshold)


class StaleTop(ThresholdForest):
    """Forgets the top level in its updates."""

    def update(self, neurons: ArrayLike, scores: ArrayLike) -> None:
        top = self.levels[-1].copy()
        super().update(neurons, scores)
        self.levels[-1][:] = top


class ForgetsTies(ThresholdForest):
    def query(self, threshold: float) -> Pairs:
        i, r = super().query(threshold)
        above = self.levels[0].reshape(self.n, -1)[i, r] > threshold
        return i[above], r[above]


class FindsTwice(ThresholdForest):
    def query(self, threshold: float) -> Pairs:
        i, r = super().query(threshold)
        return np.append(i, i[-1]), np.append(r, r[-1])


class RebuildsAtEveryUpdate(ThresholdForest):
    """Forgets nothing, and says honestly that it looked at everything for each neuron."""

    def update(self, neurons: ArrayLike, scores: ArrayLike) -> None:
        super().update(neurons, scores)
        self.nodes_visited["update"] = np.size(neurons) * self.nodes_visited["build"]


@pytest.mark.parametrize(
    ("forest", "caught"),
    [
        (HalvedBuild, ["exact"]),
        (HalvedQueries, ["exact"]),
        (HalvedUpdates, ["exact"]),
        (HiddenScan, ["witness"]),
        (HiddenScanOfMaxima, ["witness"]),
        (CountedScan, ["exact", "query", "growth", "witness"]),
        (StaleTop, ["exact"]),
        (ForgetsTies, ["exact"]),
        (FindsTwice, ["exact"]),
        (RebuildsAtEveryUpdate, ["exact", "update"]),
    ],
)
def test_planted_faults_fail_the_claims_meant_for_them(forest: type[ThresholdForest], caught: list[str]) -> None:
    found = verdicts(measured(forest))
    assert [found[claim] for claim in caught] == ["fails"] * len(caught)


def test_pairs_apart_by_hand() -> None:
    fires = np.array([[True, False], [False, True]])
    assert search.pairs_apart((np.array([0, 1]), np.array([0, 1])), fires) == 0
    assert search.pairs_apart((np.array([0, 0]), np.array([0, 1])), fires) == 2
    assert search.pairs_apart((np.array([0, 0, 1]), np.array([0, 0, 1])), fires) == 1


@pytest.mark.parametrize("width", [256, 1000, 4096, 5000])
def test_the_bound_of_a_build_covers_its_closed_form_closely(width: int) -> None:
    nodes = closed_forms.build_nodes(search.N, width)
    assert 0.9 * search.build_bound(width) - 300 * search.N < nodes <= search.build_bound(width)


@pytest.mark.parametrize("thorough", [False, True])
def test_cells_are_distinct_and_plain(thorough: bool) -> None:
    cells = search.cells(Profile(thorough=thorough))
    assert len({json.dumps(cell, sort_keys=True) for cell in cells}) == len(cells)
    assert all(cell in search.cells(Profile(thorough=True)) for cell in cells)
