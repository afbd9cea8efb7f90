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
from reference.two_layer import initialize
from verify import seeds
from verify.claims import regression
from verify.experiment import Inputs, Profile, Result, Verdict
from verify.faults.fault import Fault
from verify.faults.regression import FAULTS

HONEST = {
    "sketch_jacobian": fast_sketch.sketch_jacobian,
    "solve_sketched": fast_regression.solve_sketched,
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
        ("regression.iterations", lambda angle: angle.update(steps=[30, 60, 90])),
        ("regression.linear", lambda angle: angle.update(steps=[5, 20, 60])),
        ("regression.condition", lambda angle: angle.update(preconditioned=11.0)),
        ("regression.independent", lambda angle: angle.update(preconditioned=angle["condition"] ** 0.2)),
    ],
)
def test_each_claim_can_fail(claim: str, change: Callable[[Result], None]) -> None:
    assert verdicts(edited(change))[claim] == "fails"


def test_no_steps_at_all_is_no_evidence() -> None:
    assert verdicts(edited(lambda angle: angle.update(steps=[0, 0, 0])))["regression.linear"] == "invalid"


def test_worst_factor_looks_at_every_window() -> None:
    history = np.array([1.0, 0.5, 0.4, 0.3, 0.2, 0.1, 0.4])
    assert regression._worst_factor(history) == pytest.approx(0.8)
    assert regression._worst_factor(history[:3]) == pytest.approx(0.4)


def test_plot_draws_two_panels() -> None:
    figure = Figure()
    regression.plot(figure, honest()[:4])
    assert len(figure.axes) == 2
