"""The sparsity claims: measurement against the definition, verdicts on known truths and planted faults."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.figure import Figure

from fast.threshold_search import ThresholdForest
from reference.two_layer import initialize
from verify import problems
from verify.claims import sparsity
from verify.experiment import CodeUnderTest, Inputs, Profile, Result
from verify.faults.sparsity import ForgetfulForest, InventiveForest, with_constant_045

Results = list[tuple[Inputs, Result]]


def simulated(count: Callable[[float], float], *, noise: float = 0.005, largest: int = 20) -> Results:
    """Make results in which ``count(m)`` neurons fire, up to a relative error per cell."""
    rng = np.random.default_rng(5)
    return [
        (
            {"width": 1 << exponent, "seed": seed},
            {"fired": count(2.0**exponent) * math.exp(noise * rng.standard_normal()), "wrong_pairs": 0},
        )
        for exponent in range(sparsity.SMALLEST, largest + 1)
        for seed in range(sparsity.SEEDS)
    ]


def verdicts(results: Results) -> dict[str, str]:
    return {finding.claim.split(".")[1]: finding.verdict for finding in sparsity.EXPERIMENT.decide(results)}


def law(m: float) -> float:
    return m * math.erfc(math.sqrt(0.24 * math.log(m))) / 2  # Phi(-b) = erfc(b / sqrt(2)) / 2


def law_at(alpha: float) -> Callable[[float], float]:
    return lambda m: m * math.erfc(math.sqrt(alpha * math.log(m))) / 2


@pytest.mark.parametrize("width", [2, 1000, 2**20, 2**40])
def test_law_is_the_gaussian_tail(width: int) -> None:
    assert sparsity.law(width) == pytest.approx(law(width), rel=1e-12)


def test_measure_counts_fired_pairs_by_the_definition(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sparsity, "FEWEST_NEURONS", 400)
    monkeypatch.setattr(sparsity, "BLOCK", 64)  # the last block is a partial one
    result = sparsity.measure({"width": 200, "seed": 0}, np.random.default_rng(3), CodeUnderTest())
    rng = np.random.default_rng(3)
    fired = 0
    for _ in range(2):
        X = problems.make("random", sparsity.N, sparsity.D, rng).X
        network = initialize(200, sparsity.D, shift=math.sqrt(0.48 * math.log(200)), rng=rng)
        fired += sum(float(w @ x) >= network.shift for w in network.weights for x in X)
    assert result == {"fired": fired / (2 * sparsity.N), "wrong_pairs": 0, "networks": 2}
    json.dumps(result, allow_nan=False)


def test_the_true_law_holds() -> None:
    assert set(verdicts(simulated(law)).values()) == {"holds"}
    findings = sparsity.EXPERIMENT.decide(simulated(law))
    assert [finding.claim for finding in findings] == [claim.id for claim in sparsity.CLAIMS]


@pytest.mark.parametrize(
    ("count", "caught"),
    [
        pytest.param(lambda m: law(m) + 0.001 * m, "level", id="hidden-scan"),
        pytest.param(lambda m: law(m) + 0.001 * m, "slope", id="hidden-scan-slope"),
        pytest.param(law_at(0.225), "level", id="constant-0.45"),
        pytest.param(lambda m: m * law(2**15) / 2**15, "slope", id="frozen-shift"),
        pytest.param(lambda m: m * law(2**15) / 2**15, "exponent", id="frozen-shift-exponent"),
        pytest.param(lambda m: m / 30, "exponent", id="linear"),
        pytest.param(lambda m: m / math.log(m), "exponent", id="m/log"),
        pytest.param(lambda m: m / math.log(m) ** 4, "exponent", id="m/log^4"),
        pytest.param(lambda m: m**1.1, "sublinear", id="superlinear"),
        pytest.param(lambda m: 0.97 * law(m), "level", id="drops-3%"),
    ],
)
def test_planted_laws_fail_the_claim_meant_for_them(count: Callable[[float], float], caught: str) -> None:
    assert verdicts(simulated(count))[caught] == "fails"


def test_a_linear_law_is_never_called_sublinear() -> None:
    assert verdicts(simulated(lambda m: m / 30))["sublinear"] != "holds"
    assert verdicts(simulated(lambda m: m / math.log(m) ** 4))["sublinear"] != "holds"


def test_a_short_noisy_range_is_undecided() -> None:
    assert verdicts(simulated(law, noise=0.03, largest=14))["exponent"] == "undecided"


def test_no_fired_neurons_are_no_evidence() -> None:
    found = verdicts(simulated(lambda m: 0.0))
    assert [found[part] for part in ("level", "slope", "sublinear", "exponent")] == ["invalid"] * 4


@pytest.mark.parametrize("forest", [ForgetfulForest, InventiveForest])
def test_a_faulty_forest_fails_the_exact_claim(forest: type[ThresholdForest]) -> None:
    code = CodeUnderTest(forest=forest)
    result = sparsity.measure({"width": 1 << 12, "seed": 0}, np.random.default_rng(0), code)
    assert result["wrong_pairs"] > 0
    (first, sound), *others = simulated(law)
    assert verdicts([(first, {**sound, "wrong_pairs": result["wrong_pairs"]}), *others])["exact"] == "fails"


def test_a_wrong_shift_fails_level_by_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sparsity, "FEWEST_NEURONS", 1 << 15)

    def measured(code: CodeUnderTest) -> str:
        inputs = [{"width": 1 << e, "seed": s} for e in (10, 11, 12, 13) for s in range(4)]
        rng = np.random.default_rng(0)
        return verdicts([(i, sparsity.measure(i, rng, code)) for i in inputs])["level"]

    assert measured(CodeUnderTest()) == "holds"
    assert measured(CodeUnderTest(initialize=with_constant_045)) == "fails"


@pytest.mark.parametrize("thorough", [False, True])
def test_cells_are_distinct_and_plain(thorough: bool) -> None:
    cells = sparsity.cells(Profile(thorough=thorough))
    texts = {json.dumps(cell, sort_keys=True) for cell in cells}
    assert len(texts) == len(cells)
    seeds = sparsity.SEEDS_THOROUGH if thorough else sparsity.SEEDS
    assert {cell["seed"] for cell in cells} == set(range(seeds))


def test_thorough_adds_cells_and_keeps_the_others() -> None:
    thorough = sparsity.cells(Profile(thorough=True))
    assert all(cell in thorough for cell in sparsity.cells(Profile()))


def test_plot_shows_the_law_and_every_seed() -> None:
    figure = Figure()
    sparsity.plot(figure, simulated(law))
    figure.canvas.draw()
    counts, ratios = figure.axes
    labels = [text.get_text() for text in counts.get_legend().get_texts()]
    assert "law m Phi(-b)" in labels
    assert len(ratios.get_lines()) == sparsity.SEEDS + 1
