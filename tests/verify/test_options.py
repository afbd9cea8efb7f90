"""Options, opponents and sketches: verdicts on made-up errors, and planted faults."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
from matplotlib.figure import Figure

from reference.trace import Trace
from verify import seeds
from verify.claims import options
from verify.comparison import Stopped
from verify.experiment import CodeUnderTest, Inputs, Profile, Result
from verify.faults.fault import Fault, check
from verify.faults.options import FAULTS

Results = list[tuple[Inputs, Result]]


def measured(code: CodeUnderTest, only: Callable[[Inputs], bool]) -> Results:
    cells = [inputs for inputs in options.cells(Profile()) if only(inputs)]
    results = [(inputs, options.measure(inputs, seeds.generator(0, "options", inputs), code)) for inputs in cells]
    plain: Results = json.loads(json.dumps(results, allow_nan=False))
    return plain


def verdicts(results: Results) -> dict[str, str]:
    return {finding.claim: finding.verdict for finding in options.EXPERIMENT.decide(results)}


def test_the_true_code_holds_and_draws() -> None:
    results = measured(CodeUnderTest(), lambda inputs: bool(inputs["seed"] == 0))
    assert verdicts(results) == {claim.id: "holds" for claim in options.CLAIMS}
    figure = Figure()
    options.plot(figure, results)
    figure.canvas.draw()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.id)
def test_planted_faults_fail_the_claims_meant_for_them(fault: Fault) -> None:
    found = verdicts(measured(fault.code, fault.only or (lambda inputs: bool(inputs["seed"] == 0))))
    assert {claim: found[claim] for claim in fault.caught_by} == fault.caught_by


def test_every_claim_has_a_fault() -> None:
    check([options.EXPERIMENT], FAULTS)


def made(error: float, **evidence: bool) -> Results:
    result: Result = {name: {"residuals": error} for name in options.NAMES}
    return [({**options.BOTH, "seed": 0}, {**result, "trained": True, "climbed": True, **evidence})]


def test_one_error_beyond_its_bound_refutes() -> None:
    assert set(verdicts(made(0.9)).values()) == {"holds"}
    assert set(verdicts(made(0.9) + made(1.1)).values()) == {"fails"}


def test_without_runs_or_climbs_there_is_no_evidence() -> None:
    assert set(verdicts([]).values()) == {"invalid"}
    assert verdicts(made(0.0, climbed=False))["options.safeguarded"] == "invalid"
    found = verdicts(made(0.0, trained=False))
    assert [found[f"options.{name}"] for name in ("conjugate", "parallel", "small")] == ["invalid"] * 3
    assert (found["options.sketches"], found["options.files"]) == ("holds", "holds")


def run(*norms: float, converged: bool = False, stopped: str = "") -> Trace[Any]:
    return Trace(cast(Any, None), np.array(norms), np.zeros(1), converged, [], stopped=stopped)


CLIMBING, FALLING, FAILED = run(1.0, 2.0, 0.1), run(1.0, 0.5, 0.1), Stopped("DivergenceError", np.array([]))


def test_full_steps_climb_until_rounding_is_left() -> None:
    assert options.climbs(CLIMBING)
    assert options.climbs(FAILED)
    assert not options.climbs(FALLING)
    assert not options.climbs(run(1.0, 1e-12, 2e-12))


@pytest.mark.parametrize(
    ("guarded", "plain", "right"),
    [
        (run(1.0, 0.4), CLIMBING, True),
        (run(1.0, 0.4), FAILED, True),
        (run(1.0, 0.7), CLIMBING, False),
        (run(1.0, 0.5), FALLING, True),
        (run(1.0, 0.4), FALLING, False),
        (run(1.0, 0.4, 0.4, stopped="no step"), CLIMBING, True),
        (run(1.0, 0.4, stopped="crept"), CLIMBING, False),
        (run(1.0, 0.5, stopped="crept"), FALLING, False),
        (run(1.0, 0.5, converged=True), FALLING, False),
        (FAILED, FAILED, True),
        (FAILED, CLIMBING, False),
    ],
)
def test_a_safeguarded_run_equals_full_steps_or_comes_far(guarded: Any, plain: Any, right: bool) -> None:  # noqa: ANN401
    assert (options.rescue_error(guarded, plain, lambda: run(1.0, 0.7, 0.6)) <= 1) is right


def test_a_safeguarded_run_that_needs_longer_goes_on() -> None:
    assert options.rescue_error(run(1.0, 0.7), CLIMBING, lambda: run(1.0, 0.7, 0.4)) == 0


@pytest.mark.parametrize(
    ("norms", "converged", "right"), [((1.0, 0.1), True, True), ((1.0, 0.2), True, False), ((1.0, 0.1), False, False)]
)
def test_a_run_says_truly_whether_it_converged(norms: tuple[float, ...], converged: bool, right: bool) -> None:
    assert options.truly_converged(run(*norms, converged=converged), 0.1) is right
