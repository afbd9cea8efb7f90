"""The kernel's claims hold on the project's code, and planted faults flip the claims that must catch them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from fast.shifted_ntk import shifted_ntk
from reference.notation import FloatArray
from reference.shifted_ntk import shifted_ntk as reference_shifted_ntk
from verify import seeds
from verify.claims import ntk
from verify.experiment import CodeUnderTest, Profile
from verify.faults import ntk as planted

WIDTHS = [2**8, 2**9, 2**10, 2**11, 2**12]

Measured = list[tuple[dict[str, Any], dict[str, Any]]]


def measure(part: str, code: CodeUnderTest | None = None, *, seeds_below: int = 1000) -> Measured:
    """Measure one part of the experiment, at smaller widths than by default."""
    results = []
    for inputs in ntk.cells(Profile()):
        if inputs["part"] != part or inputs.get("seed", 0) >= seeds_below:
            continue
        if part == "rate":
            inputs = inputs | {"widths": WIDTHS}
        result = ntk.measure(inputs, seeds.generator(0, "ntk", inputs), code or CodeUnderTest())
        results.append((inputs, json.loads(json.dumps(result))))
    return results


@pytest.fixture(scope="module")
def rate() -> Measured:
    return measure("rate")


@pytest.fixture(scope="module")
def bounds() -> Measured:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ntk, "BOUND_SIZES", ((2, 2), (16, 2), (24, 8)))
        return measure("bounds")


def test_every_claim_holds_and_is_named_in_order(rate: Measured, bounds: Measured) -> None:
    findings = ntk.decide([*rate, *measure("routes"), *bounds, *measure("symbolic")])
    assert [finding.claim for finding in findings] == [claim.id for claim in ntk.EXPERIMENT.claims]
    assert {finding.claim: finding.verdict for finding in findings} == {
        claim.id: "holds" for claim in ntk.EXPERIMENT.claims
    }


def test_plot_draws_two_panels(rate: Measured) -> None:
    figure = Figure()
    ntk.plot(figure, rate)
    assert len(figure.axes) == 2
    assert len(figure.axes[1].lines) == 1 + (len(WIDTHS) + 1) // 2


def test_cells_are_distinct_json_and_more_when_thorough() -> None:
    default, thorough = ntk.cells(Profile()), ntk.cells(Profile(thorough=True))
    assert len({json.dumps(inputs, sort_keys=True) for inputs in default}) == len(default)
    assert len(thorough) > 3 * len(default)


def kernel_at_wrong_shift(X: FloatArray, shift: float) -> FloatArray:
    return shifted_ntk(X, 1.05 * shift)


@pytest.mark.parametrize(
    ("decide", "fault"),
    [
        (ntk.decide_rate, {"shifted_ntk": planted.scaled_kernel}),
        (ntk.decide_rate, {"initialize": planted.frozen_width}),
        (ntk.decide_rate, {"gram": planted.gram_without_half}),
        (ntk.decide_level, {"initialize": planted.copied_neurons}),
        (ntk.decide_level, {"initialize": planted.narrow_weights}),
        (ntk.decide_level, {"shifted_ntk": kernel_at_wrong_shift}),
    ],
    ids=lambda value: next(iter(value.values())).__name__ if isinstance(value, dict) else value.__name__,
)
def test_planted_faults_in_the_rate(decide: Callable[..., Any], fault: dict[str, Any]) -> None:
    finding = decide(measure("rate", replace(CodeUnderTest(), **fault), seeds_below=12))
    assert finding.verdict == "fails", finding


@pytest.mark.parametrize("fault", [planted.rounded_kernel, planted.nan_at_opposite_points, kernel_at_wrong_shift])
def test_planted_faults_in_the_routes(fault: Callable[..., Any]) -> None:
    finding = ntk.decide_routes(measure("routes", replace(CodeUnderTest(), shifted_ntk=fault), seeds_below=1))
    assert finding.verdict == "fails"
    assert "fast" in finding.reason


def test_planted_fault_in_the_bounds() -> None:
    code = replace(CodeUnderTest(), shifted_ntk=planted.kernel_without_shift)
    finding = ntk.decide_bounds(measure("bounds", code, seeds_below=2))
    assert finding.verdict == "fails"


def test_too_few_data_sets_are_undecided_and_rounding_is_invalid(bounds: Measured) -> None:
    assert ntk.decide_bounds(bounds[:30]).verdict == "undecided"
    inputs, result = bounds[0]
    drowned = [(inputs, result | {"lower bound over rounding": 0.5}), *bounds[1:]]
    assert ntk.decide_bounds(drowned).verdict == "invalid"


def test_an_exact_hit_is_invalid_not_a_perfect_rate(rate: Measured) -> None:
    hit = [(inputs, result | {"errors": [0.0] * len(WIDTHS)}) for inputs, result in rate]
    assert ntk.decide_rate(hit).verdict == "invalid"


@pytest.mark.parametrize(
    ("claim", "fault"),
    [
        ("identities", {"second_moment": planted.second_moment_off}),
        ("exponent", {"shift_for": planted.shift_with_constant_045}),
    ],
)
def test_planted_faults_in_the_constants(claim: str, fault: dict[str, Any]) -> None:
    results = measure("symbolic", replace(CodeUnderTest(), **fault))
    findings = [ntk.decide_symbolic(f"ntk.{part}", part, results) for part in ("identities", "exponent")]
    assert {finding.claim: finding.verdict for finding in findings} == {
        f"ntk.{part}": "fails" if part == claim else "holds" for part in ("identities", "exponent")
    }
    assert "of the code" in next(finding.reason for finding in findings if finding.verdict == "fails")


def test_a_broken_identity_is_named() -> None:
    cell = ({"part": "symbolic"}, {"exponent": {"first": True, "second": False}})
    finding = ntk.decide_symbolic("ntk.exponent", "exponent", [cell])
    assert finding.verdict == "fails"
    assert "second" in finding.reason
    assert "first" not in finding.reason


@pytest.mark.parametrize("shift", ntk.ROUTE_SHIFTS)
def test_oracle_agrees_with_the_reference_on_hard_geometry(shift: float) -> None:
    X = ntk.hard_geometry(np.random.default_rng(1))
    difference = (X @ X.T) * ntk.joint_probability(X, shift) - reference_shifted_ntk(X, shift)
    assert np.abs(difference).max() <= ntk.route_tolerance(shift) * ntk.joint_probability(X, shift)[0, 0]
