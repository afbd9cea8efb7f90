"""The claims on lazy weights: verdicts on planted losses, aliases and counters."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy import sparse

from fast.low_rank import LowRankWeights
from reference.notation import FloatArray, IntArray
from verify import seeds
from verify.claims import low_rank
from verify.experiment import CodeUnderTest, Inputs, Profile, Result
from verify.faults.deep_routines import LosesFactor
from verify.faults.low_rank import DenseFactors, EagerFolds, HalvedReads, StaleColumns, WholeFolds, WritesNaN

Results = list[tuple[Inputs, Result]]
POINTS = [{"width": 1 << 9, "alpha": 0.24}, {"width": 1 << 9, "alpha": 0.4}]


@pytest.fixture(scope="module", autouse=True)
def small_grid() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(low_rank, "SEEDS", 2)
        patch.setattr(low_rank, "SEEDS_LAZY", 3)
        patch.setattr(low_rank, "POINTS", POINTS)
        patch.setattr(low_rank, "CROSSING", (0.3, 0.7))  # two seeds
        yield


def measured(code: CodeUnderTest, cells: list[Inputs]) -> Results:
    results = [(cell, low_rank.measure(cell, seeds.generator(0, "low_rank", cell), code)) for cell in cells]
    plain: Results = json.loads(json.dumps(results, allow_nan=False))
    return plain


@pytest.fixture(scope="module")
def sound(small_grid: None) -> Results:
    return measured(CodeUnderTest(), low_rank.cells(Profile()))


def verdicts(results: Results) -> dict[str, str]:
    return {finding.claim.split(".")[1]: finding.verdict for finding in low_rank.EXPERIMENT.decide(results)}


def test_the_true_code_holds_and_draws(sound: Results) -> None:
    findings = low_rank.EXPERIMENT.decide(sound)
    assert [finding.claim for finding in findings] == [claim.id for claim in low_rank.CLAIMS]
    assert {finding.claim: finding.verdict for finding in findings if finding.verdict != "holds"} == {}
    assert 0 < float(findings[0].estimate or 0) < 1
    figure = Figure()
    low_rank.plot(figure, sound)
    figure.canvas.draw()


class SharedBlock(LowRankWeights):
    """Adds to the block that its copies look at, too."""

    def add_block(self, rows: IntArray, columns: IntArray, block: FloatArray) -> None:
        before = self.block
        super().add_block(rows, columns, block)
        if before.size and before.shape == self.block.shape:
            before[:] = self.block


class ForgetsFactors(LowRankWeights):
    def multiply_at(self, P: sparse.csr_array, pattern: sparse.csr_array) -> FloatArray:
        kept, self.left, self.right = (self.left, self.right), self.left[:-1], self.right[:-1]
        answer = super().multiply_at(P, pattern)
        self.left, self.right = kept
        return answer


class SinglePrecision(LowRankWeights):
    def multiply(self, H: sparse.csr_array) -> FloatArray:
        return super().multiply(H).astype(np.float32).astype(np.float64)


class Late(LowRankWeights):
    """Applies an update only when the next one comes."""

    def add(self, left: sparse.csr_array, right: sparse.csr_array) -> None:
        last = vars(self).get("last", (left[:0], right[:0]))
        self.last = (left, right)
        super().add(*last)


class WritesInitial(LowRankWeights):
    """Gives right answers from the caller's matrix, which it changes."""

    def add(self, left: sparse.csr_array, right: sparse.csr_array) -> None:
        self.initial += (left.T @ right).toarray()


@pytest.mark.parametrize(
    "weights", [LosesFactor, SharedBlock, ForgetsFactors, SinglePrecision, StaleColumns, WritesNaN, Late, WritesInitial]
)
def test_weights_that_err_fail_lazy(sound: Results, weights: type[LowRankWeights]) -> None:
    lazy = [inputs for inputs, _ in sound if inputs["part"] == "lazy"]
    others = [each for each in sound if each[0]["part"] != "lazy"]
    found = verdicts([*measured(CodeUnderTest(low_rank=weights), lazy), *others])
    assert found["lazy"] == "fails"
    assert {verdict for claim, verdict in found.items() if claim != "lazy"} == {"holds"}


def altered(results: Results, phase: str, change: Callable[[str, int], float], *, expected: bool = True) -> Results:
    """Change a counter of every iteration under every budget; with ``expected`` its closed form alike."""
    results = copy.deepcopy(results)
    for _, result in results:
        for which in ("work", "expected") if expected else ("work",):
            for budget, work in result.get(which, {}).items():
                work[phase] = [int(change(budget, count)) for count in work[phase]]
    return results


@pytest.mark.parametrize("phase", low_rank.PHASES)
def test_a_halved_counter_fails_rank(sound: Results, phase: str) -> None:
    assert verdicts(altered(sound, phase, lambda budget, count: count / 2, expected=False))["rank"] == "fails"


@pytest.mark.parametrize(
    ("phase", "change", "claim", "verdict"),
    [
        ("factors", lambda budget, count: 3 * count, "crossing", "fails"),
        ("factors", lambda budget, count: 0, "crossing", "invalid"),
        ("fold", lambda budget, count: count * (2 if budget == "full" else 1), "fold", "fails"),
        ("fold", lambda budget, count: count * (0.9 if budget == "quarter" else 1), "fold", "fails"),
        ("fold", lambda budget, count: count * (2 if budget == "default" else 1), "waiting", "fails"),
        ("fold", lambda budget, count: count * (budget != "default"), "waiting", "invalid"),
        ("factors", lambda budget, count: count * (3 if budget == "default" else 1), "waiting", "fails"),
        ("fold", lambda budget, count: count + (budget == "default"), "short", "fails"),
        ("fold", lambda budget, count: count / 20, "short", "fails"),
    ],
)
def test_work_that_its_own_closed_form_admits_fails_by_its_size(
    sound: Results, phase: str, change: Callable[[str, int], float], claim: str, verdict: str
) -> None:
    found = verdicts(altered(sound, phase, change))
    assert (found[claim], found["rank"]) == (verdict, "holds")


@pytest.mark.parametrize(("claim", "phase"), [("waiting", "fold"), ("short", "factors")])
def test_seeds_that_disagree_leave_a_ratio_undecided(sound: Results, claim: str, phase: str) -> None:
    results = copy.deepcopy(sound)
    for inputs, result in results:
        if inputs["part"] != "lazy" and inputs["seed"]:
            result["work"]["default"][phase] = [4 * count for count in result["work"]["default"][phase]]
    assert verdicts(results)[claim] == "undecided"


def test_seeds_that_disagree_leave_the_crossing_undecided(sound: Results) -> None:
    results = copy.deepcopy(sound)
    for inputs, result in results:
        if inputs["part"] == "run" and inputs["seed"]:
            result["work"]["never"]["factors"] = [3 * count for count in result["work"]["never"]["factors"]]
    assert verdicts(results)["crossing"] == "undecided"


class CountsNothing(LowRankWeights):
    def __init__(self, *args: Any, **options: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **options)
        self.work = dict.fromkeys(low_rank.PHASES, 0)

    def fold(self) -> None:
        before = dict(self.work)
        super().fold()
        self.work.update(before)


@pytest.mark.parametrize(
    ("weights", "caught"),
    [
        (CountsNothing, ("rank", "fold", "short")),
        (HalvedReads, ("rank",)),
        (DenseFactors, ("rank", "crossing")),
        (WholeFolds, ("rank", "fold")),
        (EagerFolds, ("short", "waiting")),
    ],
)
def test_wrong_counts_and_wrong_costs_fail_wherever_they_should_appear(
    sound: Results, weights: type[LowRankWeights], caught: tuple[str, ...]
) -> None:
    cells = [inputs for inputs, _ in sound if inputs["part"] != "lazy"]
    lazy = [each for each in sound if each[0]["part"] == "lazy"]
    found = verdicts([*lazy, *measured(CodeUnderTest(low_rank=weights), cells)])
    assert [found[claim] for claim in caught] == ["fails"] * len(caught)


@pytest.mark.parametrize(("claim", "phases"), [("crossing", ("factors",)), ("short", low_rank.PHASES)])
@pytest.mark.parametrize("alpha", [0.24, 0.4])
def test_one_point_without_a_number_is_no_evidence(
    sound: Results, claim: str, phases: tuple[str, ...], alpha: float
) -> None:
    results = copy.deepcopy(sound)
    for inputs, result in results:
        if inputs["part"] == "run" and inputs["alpha"] == alpha:
            for work in result["work"].values():
                work |= {phase: [0] * len(work[phase]) for phase in phases}
    assert verdicts(results)[claim] == "invalid"


@pytest.mark.parametrize("factors", [[7, 8], [0, 1]])
def test_no_crossing_is_not_a_number(factors: list[int]) -> None:
    assert math.isnan(low_rank.crossing({"factors": factors, "read": [6, 6]}))


@pytest.mark.parametrize("thorough", [False, True])
def test_cells_are_distinct_and_plain(thorough: bool) -> None:
    cells = low_rank.cells(Profile(thorough=thorough))
    assert len({json.dumps(cell, sort_keys=True) for cell in cells}) == len(cells)
    assert all(cell in low_rank.cells(Profile(thorough=True)) for cell in cells)
