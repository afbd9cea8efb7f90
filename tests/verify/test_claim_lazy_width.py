"""The lazy-width claims: what is measured, verdicts on known truths, and faulty samplers caught by measurement."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from functools import cache, partial
from typing import Literal

import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy.special import ndtr, ndtri
from scipy.stats import multivariate_normal

from fast.lazy_width import LazyNetwork
from reference.two_layer import TwoLayerNetwork, initialize
from verify.claims import lazy_width
from verify.experiment import CodeUnderTest, Inputs, Profile, Result
from verify.faults.fault import Fault
from verify.faults.lazy_width import FAULTS, Defect, draw

Results = list[tuple[Inputs, Result]]
PART = {"fired": "tails", "shared": "tails", "law": "tails", "signs": "tails"} | {
    "touched": "repeats",
    "spread": "repeats",
    "first_ratio": "ratios",
    "extended": "extended",
    "missing": "extended",
}
EXTENDED = {"lazy_width.extended", "lazy_width.missing"}


@cache
def measured(defect: Defect | Literal["project"], part: str) -> str:
    """Measure a part at a few seeds; a string, so that no test can change what another sees."""
    cells = [cell for cell in lazy_width.cells(Profile()) if cell["part"] == part and cell["seed"] < 8]
    if part == "tails":
        cells = [cell for cell in cells if cell["width"] in (2**14, 2**16, 2**50) and cell["seed"] < 4]
    under_test = CodeUnderTest()
    if defect != "project":
        under_test = CodeUnderTest(lazy_initialize=partial(draw, defect=defect))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lazy_width, "REPEATS", 400)
        patch.setattr(lazy_width, "RATIO_REPEATS", 5)
        rngs = map(np.random.default_rng, range(len(cells)))
        results = [(cell, lazy_width.measure(cell, rng, under_test)) for cell, rng in zip(cells, rngs, strict=True)]
    return json.dumps(results, allow_nan=False)


def simulated(changes: Callable[[Inputs], Result] = lambda _: {}) -> Results:
    """Make results that follow the laws up to small errors, with changes to some numbers."""
    rng = np.random.default_rng(5)
    results: Results = []
    for cell in lazy_width.cells(Profile()):
        noise = 1 + 0.002 * rng.standard_normal(4)
        if cell["part"] == "tails":
            shared = 2048 * lazy_width.shared_given_fired(lazy_width.shift_at(cell["width"]), 0.3)
            along, across = (rng.multinomial(2048, np.full(50, 0.02)).tolist() for _ in range(2))
            result = {"fired": 2048 * noise[0], "shared": shared * noise[1], "along": along, "across": across}
            result["sign_row"] = 0.005 * rng.standard_normal()
        elif cell["part"] == "extended":
            shared = 2048 * lazy_width.shared_given_fired(lazy_width.shift_at(cell["width"]), 0.3)
            result = {"fired": 2048 * noise[0], "shared": shared * noise[1], "missed": 0.3 * noise[2]}
            result |= {"unseen": 2048 * noise[3], "warned": True, "refused": True}
        elif cell["part"] == "repeats":
            result = {"lazy_mean": 50 * noise[0], "full_mean": 50 * noise[1]}
            result |= {"lazy_variance": 40 * noise[2] ** 20, "full_variance": 40 * noise[3] ** 20}
        else:
            result = {"lazy_log_ratio": -1.5 * noise[0], "full_log_ratio": -1.5 * noise[1], "dense_apart": 1e-15}
        results.append((cell, result | changes(cell)))
    return results


def verdicts(results: Results) -> dict[str, str]:
    return {finding.claim.split(".")[1]: finding.verdict for finding in lazy_width.EXPERIMENT.decide(results)}


def verdicts_of(defect: Defect | Literal["project"], part: str) -> dict[str, str]:
    """Put measured cells of one part in the place of simulated ones; keep the verdicts that rest on them."""
    others = [(cell, result) for cell, result in simulated() if cell["part"] != part]
    found = verdicts([(cell, result) for cell, result in json.loads(measured(defect, part))] + others)
    return {claim: verdict for claim, verdict in found.items() if PART[claim] == part}


@pytest.mark.parametrize("width", [2**14, 2**30, 2**50])
def test_the_shift_lets_the_stated_number_fire(width: int) -> None:
    assert width * math.erfc(lazy_width.shift_at(width) / math.sqrt(2)) / 2 == pytest.approx(2048, rel=1e-12)


@pytest.mark.parametrize("shift", [-1.0, 0.0, 1.0, 2.5])
@pytest.mark.parametrize("angle", [0.3, 1.2, 2.0])
def test_the_bivariate_tail_against_another_routine(shift: float, angle: float) -> None:
    correlation = math.cos(angle)
    law = multivariate_normal(cov=[[1, correlation], [correlation, 1]], abseps=1e-12, releps=1e-12)
    joint = law.cdf([-shift, -shift])
    assert lazy_width.shared_given_fired(shift, angle) * ndtr(-shift) == pytest.approx(float(joint), rel=1e-6)


def test_the_bivariate_tail_far_out_by_sampling_it() -> None:
    rng = np.random.default_rng(0)
    along = -ndtri(ndtr(-7.0) * (1 - rng.random(400_000)))
    other = math.cos(0.3) * along + math.sin(0.3) * rng.standard_normal(400_000)
    share = float((other >= 7.0).mean())
    assert lazy_width.shared_given_fired(7.0, 0.3) == pytest.approx(share, abs=4 * math.sqrt(share / 400_000))


def test_tails_are_measured_by_the_definition(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lazy_width, "N", 4)
    kept: list[LazyNetwork] = []

    def lazy_initialize(X: np.ndarray, *, width: int, shift: float, rng: np.random.Generator) -> LazyNetwork:
        kept.append(draw(X, width=width, shift=shift, rng=rng))
        return kept[0]

    under_test = CodeUnderTest(lazy_initialize=lazy_initialize)
    result = lazy_width.measure({"part": "tails", "width": 2**16, "seed": 0}, np.random.default_rng(3), under_test)
    (network,) = kept
    X, W, b = network.points, network.weights, network.shift
    fires = [[float(w @ x) >= b for w in W] for x in X]
    assert result["fired"] == sum(map(sum, fires)) / 4
    both = [sum(one and other for one, other in zip(fires[i], fires[i + 1], strict=True)) for i in (0, 2)]
    assert result["shared"] == sum(both) / 2
    v = (X[2] - math.cos(0.3) * X[3]) / math.sin(0.3)
    last = [w for w, fired in zip(W, fires[3], strict=True) if fired]
    along = [math.erfc(float(w @ X[3]) / math.sqrt(2)) / math.erfc(b / math.sqrt(2)) for w in last]
    across = [math.erfc(-float(w @ v) / math.sqrt(2)) / 2 for w in last]
    for name, values in (("along", along), ("across", across)):
        assert result[name] == np.histogram(values, bins=50, range=(0, 1))[0].tolist()
        assert sum(result[name]) == len(last)
    expected = np.sum((np.arange(len(W)) - (len(W) - 1) / 2) * network.signs)
    expected /= math.sqrt(sum((r - (len(W) - 1) / 2) ** 2 for r in range(len(W))) * len(W))
    assert result["sign_row"] == pytest.approx(float(expected), abs=1e-12)


@pytest.mark.parametrize(
    "fault",
    [each for each in FAULTS if each.caught_by.keys() & EXTENDED or each.id == "dense-not-rescaled"],
    ids=lambda fault: fault.id,
)
def test_what_is_wrong_with_further_points_and_dense_forms_is_caught(fault: Fault) -> None:
    part = PART[next(iter(fault.caught_by)).removeprefix("lazy_width.")]
    cells = [cell for cell in lazy_width.cells(Profile()) if cell["part"] == part and cell["seed"] < 4]
    results = [(cell, lazy_width.measure(cell, np.random.default_rng(cell["seed"]), fault.code)) for cell in cells]
    others = [(cell, result) for cell, result in simulated() if cell["part"] != part]
    found = verdicts(others + results)
    assert {claim: found[claim.split(".")[1]] for claim in fault.caught_by} == fault.caught_by


def test_true_laws_hold_and_findings_come_in_order() -> None:
    findings = lazy_width.EXPERIMENT.decide(simulated())
    assert [finding.claim for finding in findings] == [claim.id for claim in lazy_width.CLAIMS]
    assert {finding.verdict for finding in findings} == {"holds"}


@pytest.mark.parametrize("part", ["tails", "repeats", "ratios", "extended"])
@pytest.mark.parametrize("sampler", ["project", "none"])
def test_sound_samplers_fail_nothing(sampler: Literal["project", "none"], part: str) -> None:
    found = verdicts_of(sampler, part)
    assert set(found.values()) <= {"holds", "undecided"}
    for claim in found.keys() - {"law", "touched"}:  # so few seeds are too few for these two
        assert found[claim] == "holds", (claim, found)


@pytest.mark.parametrize(
    ("defect", "claim"),
    [
        ("duplicates", "fired"),
        ("duplicates", "shared"),
        ("duplicates", "touched"),
        ("poisson", "spread"),
        ("fixed", "spread"),
        ("beyond", "law"),
        ("unprojected", "law"),
        ("first signs", "signs"),
        ("short", "fired"),
        ("short", "touched"),
        ("all signs", "first_ratio"),
    ],
)
def test_a_faulty_sampler_fails_the_claim_meant_for_it(defect: Defect, claim: str) -> None:
    assert verdicts_of(defect, PART[claim])[claim] == "fails"


@pytest.mark.parametrize(
    ("part", "change", "caught"),
    [
        ("tails", {"fired": 2048 * 1.02}, "fired"),
        ("tails", {"shared": 900.0}, "shared"),
        ("tails", {"along": [45, *[41] * 48, 35]}, None),
        ("tails", {"across": [80, *[40] * 49]}, "law"),
        ("tails", {"sign_row": 0.03}, "signs"),
        ("repeats", {"lazy_mean": 51.0}, "touched"),
        ("repeats", {"lazy_variance": 50.0}, "spread"),
        ("ratios", {"full_log_ratio": -1.6}, "first_ratio"),
        ("ratios", {"dense_apart": 1e-8}, "first_ratio"),
        ("extended", {"fired": 2048 * 1.02}, "extended"),
        ("extended", {"shared": 900.0}, "extended"),
        ("extended", {"unseen": 2048 * 0.98}, "extended"),
        ("extended", {"missed": 1.1}, "missing"),
        ("extended", {"warned": False}, "missing"),
        ("extended", {"refused": False}, "missing"),
    ],
)
def test_planted_numbers_fail_their_claim_alone(part: str, change: Result, caught: str | None) -> None:
    found = verdicts(simulated(lambda cell: change if cell["part"] == part else {}))
    assert {claim for claim, verdict in found.items() if verdict == "fails"} == ({caught} if caught else set())


def test_points_that_share_nothing_are_no_evidence() -> None:
    found = verdicts(simulated(lambda cell: {"shared": 0.0} if cell["part"] == "extended" else {}))
    assert found["extended"] == "invalid"


def test_the_seed_is_the_unit_of_evidence() -> None:
    results: Results = [({"part": "tails", "seed": seed}, {"x": x}) for seed, x in ((0, 1), (1, 5), (0, 3), (2, 7))]
    assert lazy_width.per_seed(results, lambda _, result: result["x"]) == [2.0, 5.0, 7.0]


def test_the_band_is_that_of_dvoretzky_kiefer_and_wolfowitz() -> None:
    even, odd = [1] * 50, [6, 2, *[1] * 44, *[0] * 4]
    interval = lazy_width.largest_distance([({}, {"along": even, "across": odd}), ({}, {"along": even, "across": odd})])
    # The steeper law reaches 8 of 52 after two bins and 51 of 52 where 0.9 is due; 2 exp(-2 N e^2) is 2.5% for each.
    band = math.sqrt(math.log(2 / 0.025) / (2 * 100))
    assert interval.estimate == pytest.approx(max(8 / 52 - 0.04, *(abs((6 + k) / 52 - k / 50) for k in range(2, 47))))
    assert interval.high - interval.estimate == pytest.approx(band)
    assert interval.low == max(0, interval.estimate - band)


def test_networks_in_which_nothing_fires_are_no_evidence() -> None:
    nothing = {"fired": 0.0, "shared": 0.0, "along": [0] * 50, "across": [0] * 50}
    found = verdicts(simulated(lambda cell: nothing if cell["part"] == "tails" else {"lazy_mean": 0.0}))
    assert [found[claim] for claim in ("fired", "shared", "law", "touched")] == ["invalid"] * 4


def test_an_empty_network_is_measured_all_the_same() -> None:
    def lazy_initialize(X: np.ndarray, *, width: int, shift: float, rng: np.random.Generator) -> LazyNetwork:
        return LazyNetwork(np.empty((0, 8)), np.empty(0), shift, width, X)

    under_test = CodeUnderTest(lazy_initialize=lazy_initialize)
    result = lazy_width.measure({"part": "tails", "width": 2**16, "seed": 0}, np.random.default_rng(0), under_test)
    assert (result["fired"], result["shared"], result["sign_row"]) == (0.0, 0.0, 0.0)


def test_ratios_come_from_one_step_of_each_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lazy_width, "RATIO_REPEATS", 2)
    rng = np.random.default_rng(1)
    widths: list[int] = []

    class Norms:
        def __init__(self, network: TwoLayerNetwork | LazyNetwork) -> None:
            widths.append(network.width)
            self.network = network
            self.residual_norms = [4.0, 1.0 if isinstance(network, LazyNetwork) else 2.0]

    def train(network: TwoLayerNetwork, X: np.ndarray, y: np.ndarray, *, iterations: int) -> Norms:
        assert (X.shape, y.shape, iterations) == ((16, 8), (16,), 1)
        return Norms(network)

    result = lazy_width.measure({"part": "ratios", "seed": 0}, rng, CodeUnderTest(train=train, initialize=initialize))
    assert result.pop("dense_apart") == pytest.approx(0, abs=1e-12)
    assert result == {"lazy_log_ratio": -math.log(4), "full_log_ratio": -math.log(2)}
    assert widths == [2**14] * 4


@pytest.mark.parametrize("thorough", [False, True])
def test_cells_are_distinct_and_plain(thorough: bool) -> None:
    cells = lazy_width.cells(Profile(thorough=thorough))
    assert len({json.dumps(cell, sort_keys=True) for cell in cells}) == len(cells)
    assert all(cell in cells for cell in lazy_width.cells(Profile()))


def test_plot_shows_every_cell_and_both_laws() -> None:
    figure = Figure()
    lazy_width.plot(figure, simulated())
    figure.canvas.draw()
    counts, laws = figure.axes
    assert [len(line.get_xdata()) for line in counts.get_lines()[:2]] == [6 * lazy_width.SEEDS] * 2
    assert [text.get_text() for text in laws.get_legend().get_texts()] == ["along the point", "across the point"]
