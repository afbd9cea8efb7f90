"""The claims about the time of a solve: verdicts on hand-made timings, and cells by a clock that counts calls."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy import linalg

from fast.all_pairs import AllTrial
from fast.gauss_newton import EventRun, TreeRun, TreeTrial
from fast.regression import solve_conjugate
from fast.watched_pairs import Trial
from reference.notation import FloatArray
from reference.regression import Solution
from verify import seeds
from verify.claims import solve_time
from verify.experiment import CodeUnderTest, Inputs, Profile, Result
from verify.faults import solve_time as planted
from verify.faults.fault import Fault
from verify.faults.solve_time import FAULTS

Results = list[tuple[Inputs, Result]]


def simulated(share: float = 0.9, spread: float = 0.0, right: bool = True) -> Results:
    """Make timings in which a solve takes such a share of what it may, in its quickest round."""
    results: Results = []
    for cell in solve_time.cells(Profile()):
        own = share * solve_time.PARTS[cell["part"]].most * np.exp(spread * (cell["seed"] - 1))
        results.append((cell, {"solve": [1e3, own], "bare": [1.0, 5.0], "counted": 3, "right": right}))
    return results


@pytest.mark.parametrize(
    ("results", "verdict"),
    [
        (simulated(), "holds"),
        (simulated(1.1), "fails"),
        (simulated(1.0, spread=2.0), "undecided"),
        (simulated(right=False), "invalid"),
    ],
)
def test_verdicts_follow_the_least_times(results: Results, verdict: str) -> None:
    findings = solve_time.EXPERIMENT.decide(results)
    assert [finding.claim for finding in findings] == [claim.id for claim in solve_time.CLAIMS]
    assert {finding.verdict for finding in findings} == {verdict}
    solve_time.plot(Figure(), results)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = {name: replace(part, n=24, seeds=1, rounds=2) for name, part in solve_time.PARTS.items()}
    monkeypatch.setattr(solve_time, "PARTS", parts)
    for name in ("SPARSE_WIDTH", "TREE_WIDTH"):
        monkeypatch.setattr(solve_time, name, 1 << 10)
    monkeypatch.setattr(solve_time, "INPUTS_D", 24)


def planted_in(part: str) -> list[Fault]:
    faults = [fault for fault in FAULTS if f"solve_time.{part}" in fault.caught_by]
    assert faults
    return faults


def measured(code: CodeUnderTest, part: str) -> Result:
    cell = {"part": part, "seed": 0}
    result = solve_time.measure(cell, seeds.generator(0, "solve_time", cell), code)
    json.dumps(result, allow_nan=False)
    return result


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("part", list(solve_time.PARTS))
def test_a_small_cell_solves_and_its_bare_work_is_what_is_counted(part: str) -> None:
    result = measured(CodeUnderTest(), part)
    assert result["right"]
    assert 1 <= result["counted"] < 24
    assert [len(result[name]) for name in ("solve", "bare")] == [2, 2]
    for fault in planted_in(part):  # they come to the same, and count the same
        faulty = measured(fault.code, part)
        assert (faulty["right"], faulty["counted"]) == (True, result["counted"])


def stops_early(G: FloatArray, rhs: FloatArray) -> Solution:
    return solve_conjugate(G, rhs, accuracy=1e-2)


@pytest.mark.usefixtures("small")
def test_a_solution_that_does_not_solve_is_no_evidence() -> None:
    assert not measured(CodeUnderTest(solve_conjugate=stops_early), "conjugate")["right"]


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("part", ["conjugate", "first", "rest", "two_layer", "deep"])
def test_hidden_work_lengthens_the_solve_alone(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that moves by 1 with every call of a routine that a planted fault hides."""
    now = [0.0]
    monkeypatch.setattr(solve_time, "clock", lambda: now[0])

    def moving(routine: Any) -> Any:  # noqa: ANN401
        def call(*given: Any, **options: Any) -> Any:  # noqa: ANN401
            now[0] += 1
            return routine(*given, **options)

        return call

    monkeypatch.setattr(linalg, "eigvalsh", moving(linalg.eigvalsh))
    monkeypatch.setattr(linalg, "cholesky", moving(linalg.cholesky))
    monkeypatch.setattr(planted, "cholesky_factor", moving(planted.cholesky_factor))
    true = measured(CodeUnderTest(), part)
    for fault in planted_in(part):
        faulty = measured(fault.code, part)
        assert faulty["bare"] == true["bare"]
        assert min(faulty["solve"]) > min(true["solve"])


class ShortSteps(EventRun):
    def _try(self, g: FloatArray) -> Trial | AllTrial:
        return super()._try(0.9 * g)


class ShortStepsOnManyInputs(TreeRun):
    def _try(self, g: FloatArray) -> TreeTrial:
        return super()._try(0.9 * g if self.X.shape[1] > solve_time.TREE_D else g)


@pytest.mark.usefixtures("small")
def test_a_step_that_goes_astray_is_no_evidence() -> None:
    assert not measured(CodeUnderTest(start_events=ShortSteps), "two_layer")["right"]
    assert not measured(CodeUnderTest(start=ShortStepsOnManyInputs), "inputs")["right"]


@pytest.mark.parametrize("thorough", [False, True])
def test_cells_are_distinct_and_plain(thorough: bool) -> None:
    assert solve_time.EXPERIMENT.timed
    cells = solve_time.cells(Profile(thorough=thorough))
    assert len({json.dumps(cell, sort_keys=True) for cell in cells}) == len(cells)
    assert {cell["part"] for cell in cells} == set(solve_time.PARTS)
