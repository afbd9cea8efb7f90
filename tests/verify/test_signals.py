"""The claims on signals: draws against their law, verdicts on hand-made numbers, and planted faults."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy.integrate import quad
from scipy.stats import kstest, norm

import reference.multi_layer
import reference.signals
from reference.multi_layer import MultiLayerNetwork
from reference.signals import second_moment, spread, wide_enough
from reference.two_layer import shift_for
from verify import seeds
from verify.claims import signals
from verify.experiment import CodeUnderTest, Inputs, Profile, Result
from verify.faults.deep_routines import never_normalized
from verify.faults.signals import (
    gain_without_shift,
    layers_alike,
    lowered_shift,
    moment_without_shift,
    spread_of_two_layers,
)
from verify.problems import unit_rows

Results = list[tuple[Inputs, Result]]


def verdicts(results: Results) -> dict[str, str]:
    return {finding.claim.split(".")[1]: finding.verdict for finding in signals.EXPERIMENT.decide(results)}


def simulated(change: Callable[[Inputs], Result] = lambda inputs: {}, *, noise: float = 0.005) -> Results:
    """Make results in which every claim holds; ``change`` replaces some numbers of a cell."""
    rng = np.random.default_rng(3)
    results: Results = []
    for inputs in signals.cells(Profile()):
        kind = inputs["kind"]
        off = (noise * rng.standard_normal(6)).tolist()
        if kind in ("law", "third"):
            layers = range(1, signals.DEPTH + 1)
            predicted = [signals.first_order_spread(inputs["width"], inputs["alpha"], layer) for layer in layers]
            errors = zip(predicted, off[3:5] + off[5:], strict=True)
            spreads = [each * math.exp(error) if each < 0.5 else None for each, error in errors]
            result: Result = {
                "networks": 400,
                "norm": off[:3],
                "mean": [1.0 + off[0], 3.0, 50.0],
                "dead": [0.0, 0.1, 0.3],
                "spread": spreads,
                "predicted_spread": predicted,
                "predicted_gain": 2.0,
                "gain": 2.0 * math.exp(off[5]),
            }
        elif kind == "healthy":
            result = {"width": 256 // inputs["share"], "deaths": 0 if inputs["share"] == 1 else 9, "trials": 10}
        elif kind == "normalized":
            result = {"plain": 6, "normalized": 0, "networks": 6}
        else:
            result = {"norm": off[:3], "fired": off[3:], "correlation": 0.5}
        results.append((inputs, {**result, **change(inputs)}))
    return results


def test_simulated_truth_holds_in_the_order_of_the_claims() -> None:
    findings = signals.EXPERIMENT.decide(simulated())
    assert [finding.claim for finding in findings] == [claim.id for claim in signals.CLAIMS]
    assert {finding.verdict for finding in findings} == {"holds"}


def of_kind(kind: str, **numbers: Any) -> Callable[[Inputs], Result]:  # noqa: ANN401
    return lambda inputs: numbers if inputs["kind"] == kind else {}


@pytest.mark.parametrize(
    ("change", "claim", "verdict"),
    [
        (of_kind("law", norm=[0.0, 0.07, 0.0]), "norm", "fails"),
        (of_kind("matrices", norm=[0.0, 0.0, -0.07]), "norm", "fails"),
        (of_kind("law", norm=[None] * 3), "norm", "invalid"),
        (of_kind("matrices", fired=[0.04, 0.0, 0.0]), "fired", "fails"),
        (lambda i: {"correlation": 1.1} if i["kind"] == "matrices" and not i["seed"] else {}, "fired", "fails"),
        (of_kind("law", mean=[1.0, 1.2, 1.0]), "drifts", "fails"),
        (of_kind("law", spread=[0.1, 0.3, None]), "spread", "fails"),
        (of_kind("law", spread=[None] * 3), "spread", "invalid"),
        (of_kind("third", predicted_spread=[0.087, 0.144, 1.0]), "spread", "fails"),
        (of_kind("law", predicted_spread=[1.0] * 3), "spread", "fails"),
        (of_kind("law", gain=2.2), "gain", "fails"),
        (of_kind("law", gain=None), "gain", "invalid"),
        (of_kind("normalized", normalized=2), "normalized", "fails"),
        (of_kind("normalized", plain=4), "normalized", "fails"),
        (of_kind("normalized", normalized=1), "normalized", "undecided"),
        (lambda i: {"deaths": 3} if i.get("share") == 1 else {}, "healthy", "fails"),
        (lambda i: {"deaths": 3} if i.get("share") == 1 and i["normalized"] else {}, "healthy", "fails"),
        (lambda i: {"deaths": 4} if i.get("share") == signals.TOO_NARROW else {}, "healthy", "fails"),
        (lambda i: {"deaths": 1} if i.get("share") == 1 else {}, "healthy", "undecided"),
    ],
)
def test_numbers_off_the_law_flip_the_claim_meant_for_them(
    change: Callable[[Inputs], Result], claim: str, verdict: str
) -> None:
    found = verdicts(simulated(change))
    assert found.pop(claim) == verdict
    assert set(found.values()) == {"holds"}


def test_the_typed_prediction_is_that_of_the_code() -> None:
    points = [(width, alpha, layer) for width in (512, 8192) for alpha in (0.01, 0.1, 0.4) for layer in (1, 2, 3)]
    typed = [signals.first_order_spread(*point) for point in points]
    assert typed == pytest.approx([spread(m, shift_for(m, alpha), layer) for m, alpha, layer in points], rel=1e-9)
    assert signals.first_order_spread(signals.THIRD[1], signals.THIRD[0], signals.DEPTH) < signals.SMALL_SPREAD


@pytest.mark.parametrize("copies", ["later", "transposed", "symmetric", "first"])
def test_matrices_that_depend_on_each_other_correlate(copies: str) -> None:
    first, second, third = (np.random.default_rng(seed).standard_normal((64, 64)) for seed in range(3))
    assert signals.largest_correlation((first[:, :8], second, third)) < 1
    if copies == "symmetric":
        third = np.triu(third) + np.triu(third, 1).T
    else:
        third = {"later": second, "transposed": second.T, "first": first}[copies]
    assert signals.largest_correlation((first[:, :8], second, third)) > 1


def test_noise_leaves_the_means_undecided() -> None:
    found = verdicts(simulated(noise=0.1))
    assert (found["norm"], found["fired"], found["spread"]) == ("undecided",) * 3


def test_a_drawn_layer_is_the_layer_of_a_matrix() -> None:
    rng = np.random.default_rng(0)
    width, b, length = 64, 1.2, 0.9
    squares, fired = signals.draw_layer(np.full(2000, length**2), width, b, rng, CodeUnderTest())
    c = (width * reference.signals.second_moment(b)) ** -0.5
    scores = length * rng.standard_normal((2000, width))
    direct = (c * np.maximum(scores - b, 0)) ** 2
    assert kstest(squares, direct.sum(axis=1)).pvalue > 0.01
    assert fired.mean() == pytest.approx((scores >= b).sum(axis=1).mean(), rel=0.03)


def test_dead_signals_stay_dead() -> None:
    squares, fired = signals.draw_layer(np.zeros(3), 1000, 0.5, np.random.default_rng(0), CodeUnderTest())
    assert squares.tolist() == fired.tolist() == [0, 0, 0]


@pytest.mark.parametrize("length", [0.7, 1.0, 1.6])
def test_the_means_are_their_integrals(length: float) -> None:
    b = 1.3

    def moment(s: float) -> float:
        return float(quad(lambda z: (s * z - b) ** 2 * norm.pdf(z), b / s, 12)[0])

    expected = moment(length) / moment(1.0)
    assert signals.mean_square(np.array([length]), b)[0] == pytest.approx(expected, rel=1e-7)
    assert signals.chance(np.array([length]), b)[0] == pytest.approx(norm.sf(b / length), rel=1e-12)


@pytest.mark.parametrize(("width", "normalized"), [(384, False), (48, True)])
def test_signals_die_in_drawn_networks_as_often_as_in_real_ones(width: int, normalized: bool) -> None:
    """The standard error of a difference of two shares of 200 is at most 0.05."""
    alpha, depth, networks = 0.24, 2, 200
    rng = np.random.default_rng(5)
    code = CodeUnderTest()
    drawn = [signals.signals_die(width, alpha, depth, rng, code, normalized=normalized) for _ in range(networks)]
    shift, real = shift_for(width, alpha), []
    for _ in range(networks):
        X = unit_rows(signals.N, signals.D, rng)
        network = reference.multi_layer.initialize(
            width, signals.D, depth, shift=shift, rng=rng, normalized=normalized
        )
        real.append(not all(count.all() for count in reference.multi_layer.forward(network, X).fired()))
    assert 0.25 < np.mean(real) < 0.9
    assert np.mean(drawn) == pytest.approx(np.mean(real), abs=0.15)


SMALL: list[Inputs] = [
    {"kind": "law", "alpha": 0.1, "width": 1 << 12},
    {"kind": "law", "alpha": 0.4, "width": 1 << 12},
    {"kind": "third", "alpha": 0.01, "width": 1 << 10},
    {"kind": "healthy", "alpha": 0.1, "depth": 2, "normalized": False, "share": 1},
    {"kind": "healthy", "alpha": 0.1, "depth": 2, "normalized": False, "share": 32},
    {"kind": "healthy", "alpha": 0.24, "depth": 2, "normalized": True, "share": 1},
    {"kind": "healthy", "alpha": 0.24, "depth": 2, "normalized": True, "share": 32},
    {"kind": "normalized", "alpha": 0.4, "width": 1 << 9, "depth": 2},
    {"kind": "matrices", "alpha": 0.1, "width": 1 << 8},
]


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "HEALTHY", ((0.1, 2, False), (0.24, 2, True)))
    monkeypatch.setattr(signals, "CURED", (0.4, 1 << 9, 2))
    monkeypatch.setattr(signals, "MATRICES", ((0.1, 1 << 8),))
    monkeypatch.setattr(signals, "MATRIX_NETWORKS", 8)
    monkeypatch.setattr(signals, "FIRED", 5e4)


def measured(code: CodeUnderTest | None = None, *, kinds: str = "law third healthy normalized matrices") -> Results:
    code = CodeUnderTest() if code is None else code
    cells = [{**each, "seed": seed} for each in SMALL if each["kind"] in kinds for seed in range(4)]
    results = [(cell, signals.measure(cell, seeds.generator(0, "signals", cell), code)) for cell in cells]
    plain: Results = json.loads(json.dumps(results, allow_nan=False))
    return plain


@pytest.mark.usefixtures("few")
def test_the_true_code_end_to_end() -> None:
    results = measured()
    # Four seeds are too few for claims this sharp.
    assert {"fails", "invalid"}.isdisjoint(verdicts(results).values())
    figure = Figure()
    signals.plot(figure, results)
    figure.canvas.draw()


def others(kind: str) -> Results:
    return [(inputs, result) for inputs, result in simulated() if inputs["kind"] != kind]


def heavy(*args: Any, **options: Any) -> MultiLayerNetwork:  # noqa: ANN401
    network = reference.multi_layer.initialize(*args, **options)
    return replace(network, weights=tuple(1.3 * W for W in network.weights))


def without_shift(*args: Any, **options: Any) -> MultiLayerNetwork:  # noqa: ANN401
    return reference.multi_layer.initialize(*args, **{**options, "shift": 0.0})


def scaled(routine: Callable[..., Any], factor: float, *args: Any, **options: Any) -> Any:  # noqa: ANN401
    value = routine(*args, **options)
    return type(value)(factor * value)


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize(
    ("field", "routine", "kind", "caught"),
    [
        pytest.param("deep_initialize", heavy, "matrices", "norm", id="weights"),
        pytest.param("deep_initialize", lowered_shift, "matrices", "fired", id="shift"),
        pytest.param("deep_initialize", layers_alike, "matrices", "fired", id="layers-alike"),
        pytest.param("deep_initialize", never_normalized, "normalized", "normalized", id="not-normalized"),
        pytest.param("deep_initialize", without_shift, "normalized", "normalized", id="no-shift"),
        pytest.param("second_moment", partial(scaled, second_moment, 1.2), "law", "norm", id="constant"),
        pytest.param("second_moment", partial(scaled, second_moment, 0.3), "law", "drifts", id="first-layer"),
        pytest.param("second_moment", moment_without_shift, "law", "drifts", id="constant-without-shift"),
        pytest.param("signal_spread", partial(scaled, spread, 1.3), "law", "spread", id="spread"),
        pytest.param("signal_spread", spread_of_two_layers, "third", "spread", id="spread-of-two-layers"),
        pytest.param("signal_gain", gain_without_shift, "law", "gain", id="gain"),
        pytest.param("wide_enough", partial(scaled, wide_enough, 0.125), "healthy", "healthy", id="too-narrow"),
        pytest.param("wide_enough", partial(scaled, wide_enough, 16), "healthy", "healthy", id="too-wide"),
    ],
)
def test_faults_fail_the_claim_meant_for_them(
    field: str, routine: Callable[..., Any], kind: str, caught: str
) -> None:
    code = replace(CodeUnderTest(), **{field: routine})
    assert verdicts(others(kind) + measured(code, kinds=kind))[caught] == "fails"


@pytest.mark.parametrize("thorough", [False, True])
def test_cells_are_distinct_and_plain(thorough: bool) -> None:
    cells = signals.cells(Profile(thorough=thorough))
    assert len({json.dumps(cell, sort_keys=True) for cell in cells}) == len(cells)
    assert all(cell in signals.cells(Profile(thorough=True)) for cell in cells)
