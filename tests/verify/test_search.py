"""The threshold-search claims: verdicts on hand-made counts, and planted faults in the trees."""

from __future__ import annotations

import json

import numpy as np
import pytest
from matplotlib.figure import Figure

from reference.notation import IntArray
from verify import closed_forms, seeds
from verify.claims import search
from verify.experiment import CodeUnderTest, Inputs, Profile, Result
from verify.faults.fault import Fault
from verify.faults.search import FAULTS

Results = list[tuple[Inputs, Result]]
Pairs = tuple[IntArray, IntArray]
CELLS: list[Inputs] = [{"width": width, "seed": seed} for width in (256, 2048, 16384) for seed in range(3)]


def measured(code: CodeUnderTest | None = None) -> Results:
    code = CodeUnderTest() if code is None else code
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


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.id)
def test_planted_faults_fail_the_claims_meant_for_them(fault: Fault) -> None:
    found = verdicts(measured(fault.code))
    assert {claim: found[claim.split(".")[1]] for claim in fault.caught_by} == fault.caught_by


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
