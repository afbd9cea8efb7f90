"""The regression claims hold for the project's solver, and fail for solvers with a planted fault."""

from collections.abc import Callable
from copy import deepcopy
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.figure import Figure

from fast import regression as fast_regression
from fast import sketch as fast_sketch
from reference import regression as reference_regression
from reference.notation import InputError
from reference.regression import Solution
from reference.two_layer import initialize
from verify import seeds
from verify.claims import regression
from verify.comparison import UNEQUAL
from verify.experiment import Inputs, Profile, Result, Verdict
from verify.faults.fault import Fault
from verify.faults.regression import FAULTS

HONEST = {
    "sketch_jacobian": fast_sketch.sketch_jacobian,
    "solve_sketched": fast_regression.solve_sketched,
    "reference_solve_sketched": reference_regression.solve_sketched,
    "initialize": initialize,
}
IDS = [claim.id for claim in regression.EXPERIMENT.claims]


def measure(count: int, **faults: Callable[..., object]) -> list[tuple[Inputs, Result]]:
    code = SimpleNamespace(**{**HONEST, **faults})
    cells = regression.cells(Profile())[:count]
    return [
        (inputs, regression.measure(inputs, seeds.generator(0, "regression", inputs), code))
        for inputs in cells
    ]


@cache
def honest() -> list[tuple[Inputs, Result]]:
    """As many results as the default profile has, from four measured seeds."""
    return measure(4) * 12


def verdicts(results: list[tuple[Inputs, Result]]) -> dict[str, Verdict]:
    findings = regression.decide(results)
    assert [finding.claim for finding in findings] == IDS
    return {finding.claim: finding.verdict for finding in findings}


def edited(change: Callable[[Result], None]) -> list[tuple[Inputs, Result]]:
    results = deepcopy(honest())
    for _, result in results:
        for angle in result["angles"]:
            change(angle)
    return results


def test_every_claim_holds() -> None:
    assert set(verdicts(honest()).values()) == {"holds"}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.id)
def test_planted_faults_fail_the_claims_meant_for_them(fault: Fault) -> None:
    found = verdicts(measure(2, **fault.routines) * 24)
    assert {claim: found[claim] for claim in fault.caught_by} == fault.caught_by


@pytest.mark.parametrize(
    ("claim", "change"),
    [
        ("regression.geometric", lambda angle: angle.update(factors=[0.6, 0.1])),
        ("regression.geometric", lambda angle: angle.update(residuals=[1e-13, float("nan")])),
        ("regression.geometric", lambda angle: angle.update(residuals=[1e-13, 2.1e-12], rounding=[1e-12, 1e-12])),
        ("regression.geometric", lambda angle: angle.update(apart=1.01)),
        ("regression.iterations", lambda angle: angle.update(steps=[30, 60, 90])),
        ("regression.linear", lambda angle: angle.update(steps=[5, 20, 60])),
        ("regression.condition", lambda angle: angle.update(preconditioned=11.0)),
        ("regression.independent", lambda angle: angle.update(preconditioned=angle["condition"] ** 0.2)),
    ],
)
def test_each_claim_can_fail(claim: str, change: Callable[[Result], None]) -> None:
    assert verdicts(edited(change))[claim] == "fails"


@pytest.mark.parametrize(("residual", "verdict"), [(3.9e-12, "holds"), (4.1e-12, "fails")])
def test_the_rounding_of_the_products_is_allowed_and_no_more(residual: float, verdict: str) -> None:
    found = edited(lambda angle: angle.update(residuals=[1e-13, residual], rounding=[1e-12, 4e-12]))
    assert verdicts(found)["regression.geometric"] == verdict


def test_no_steps_at_all_is_no_evidence() -> None:
    assert verdicts(edited(lambda angle: angle.update(steps=[0, 0, 0])))["regression.linear"] == "invalid"


def test_worst_factor_looks_at_every_window() -> None:
    history = np.array([1.0, 0.5, 0.4, 0.3, 0.2, 0.1, 0.4])
    assert regression._worst_factor(history) == pytest.approx(0.8)
    assert regression._worst_factor(history[:3]) == pytest.approx(0.4)


def solved(solution: list[float], history: list[float]) -> Solution:
    return Solution(np.array(solution), len(history) - 1, np.array(history), 0, 0)


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (solved([1.0, 2.0], [1.0, 0.5, 0.1]), 0.0),
        (solved([1.0, 2.0], [1.0, 0.5]), 0.0),
        (solved([1.0, 2.0], [1.0, 0.5, 0.1, *[0.05] * 5]), 0.0),
        (solved([1.0, 2.0], [1.0, 0.5, 0.1, *[0.05] * 6]), UNEQUAL),
        (solved([1.0, 2.000004], [1.0, 0.5, 0.1]), 20.0),
        (solved([1.0, 2.0], [1.0, 0.500003, 0.1]), 30.0),
    ],
)
def test_the_reference_is_compared_step_by_step(other: Solution, expected: float) -> None:
    run = solved([1.0, 2.0], [1.0, 0.5, 0.1])
    assert regression._difference(run, other) == pytest.approx(expected, rel=1e-4)


def test_a_reference_that_gives_up_is_unequal() -> None:
    def give_up(*args: object, **options: object) -> Solution:
        raise InputError("the sketched iteration did not converge")

    assert verdicts(measure(2, reference_solve_sketched=give_up) * 24)["regression.geometric"] == "fails"


def test_plot_draws_two_panels() -> None:
    figure = Figure()
    regression.plot(figure, honest()[:4])
    assert len(figure.axes) == 2
