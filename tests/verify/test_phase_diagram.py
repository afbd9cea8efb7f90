"""The phase diagram: the search against its definition, verdicts on hand-made diagrams, and planted faults."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

import fast.baselines
import fast.gauss_newton
import reference.gauss_newton
from reference.notation import DivergenceError, FloatArray, NothingFiresError, SingularGramError
from reference.trace import Trace
from reference.two_layer import TwoLayerNetwork, initialize, shift_for
from verify import problems, seeds
from verify.claims import phase_diagram
from verify.claims.phase_diagram import Place, Trial
from verify.experiment import CodeUnderTest, Inputs, Profile, Result
from verify.faults import loops

Results = list[tuple[Inputs, Result]]
Train = Callable[..., Trace]
Law = Callable[[float, Place], float]


def law(alpha: float, place: Place) -> float:
    """Give log2 of a width that grows like ``angle^-4`` and doubles with every 0.05 of alpha."""
    return 4.5 + 20 * alpha + 4 * math.log2(0.8 / (0.8 if place is None else place))


def simulated(law: Law = law, *, gap: float = 15.0, noise: float = 0.5, confirmed: bool = True) -> Results:
    """Make a diagram from a law; beyond the largest width, and in the cells out of reach, trials are beyond."""
    rng = np.random.default_rng(2)
    results: Results = []
    for cell in phase_diagram.cells(Profile()):
        width = round(law(cell["alpha"], cell["angle"]) + noise * rng.standard_normal())
        beyond = width > cell["largest"] or (cell["alpha"], cell["angle"]) in phase_diagram.OUT_OF_REACH
        smallest = None if beyond else max(width, phase_diagram.SMALLEST)
        result = {
            "smallest": smallest,
            "asked": (cell["largest"] if smallest is None else smallest) + gap,
            "confirmed": None if beyond else confirmed,
        }
        results.append((cell, result))
    return results


def changed(results: Results, change: Callable[[Inputs], Result | None]) -> Results:
    return [(inputs, {**result, **(change(inputs) or {})}) for inputs, result in results]


def verdicts(results: Results) -> dict[str, str]:
    return {finding.claim.split(".")[1]: finding.verdict for finding in phase_diagram.EXPERIMENT.decide(results)}


BEYOND: Result = {"smallest": None, "confirmed": None}


def test_simulated_truth_holds_in_the_order_of_the_claims() -> None:
    findings = phase_diagram.EXPERIMENT.decide(simulated())
    assert [finding.claim for finding in findings] == [claim.id for claim in phase_diagram.CLAIMS]
    assert {finding.verdict for finding in findings} == {"holds"}


def shallow(power: float) -> Law:
    """Let the width grow like ``angle^(-4 power)``."""
    return lambda alpha, place: law(alpha, None) + power * (law(alpha, place) - law(alpha, None))


@pytest.mark.parametrize(
    ("results", "claim", "verdict"),
    [
        pytest.param(simulated(lambda a, p: 9.0), "separation", "fails", id="flat"),
        pytest.param(simulated(lambda a, p: 0.5), "separation", "undecided", id="flat-below-all-widths"),
        pytest.param(simulated(shallow(0.5)), "separation", "fails", id="angle^-2"),
        pytest.param(simulated(shallow(0.75), noise=1.5), "separation", "undecided", id="angle^-3"),
        pytest.param(simulated(lambda a, p: law(0.1, p)), "alpha", "fails", id="alpha-does-not-matter"),
        pytest.param(simulated(lambda a, p: law(a / 2, p) + 1, noise=2), "alpha", "undecided", id="10-doublings"),
        pytest.param(simulated(gap=9.0), "theorem", "fails", id="theorem-nearly-met"),
        pytest.param(simulated(gap=10.0), "theorem", "holds", id="theorem-at-its-margin"),
        pytest.param(simulated(lambda a, p: law(a, p) + 12), "theorem", "fails", id="nothing-found-at-0.24"),
    ],
)
def test_planted_diagrams_flip_the_claim_meant_for_them(results: Results, claim: str, verdict: str) -> None:
    assert verdicts(results)[claim] == verdict


@pytest.mark.parametrize(("reaching", "verdict"), [(2, "holds"), (3, "undecided"), (14, "fails")])
def test_the_limit_follows_the_number_that_reach_it(reaching: int, verdict: str) -> None:
    left = [reaching]

    def change(inputs: Inputs) -> Result | None:
        if (inputs["alpha"], inputs["angle"]) not in phase_diagram.OUT_OF_REACH or not left[0]:
            return None
        left[0] -= 1
        return {"smallest": 16, "confirmed": True}

    assert verdicts(changed(simulated(), change))["limit"] == verdict


def test_every_group_of_a_slope_must_pass() -> None:
    def law_of_one(alpha: float, place: Place) -> float:
        return law(alpha, 0.7 if alpha == 0.1 else place)

    assert verdicts(simulated(law_of_one))["separation"] == "fails"


def test_a_diagram_all_beyond_supports_nothing() -> None:
    found = verdicts(changed(simulated(), lambda i: BEYOND))
    assert found == {"separation": "undecided", "alpha": "undecided", "theorem": "fails", "limit": "holds"}


def test_a_trial_beyond_that_could_undo_a_slope_leaves_it_undecided() -> None:
    def change(inputs: Inputs) -> Result | None:
        return BEYOND if (inputs["alpha"], inputs["angle"], inputs["seed"]) == (0.05, 0.7, 3) else None

    def high(alpha: float, place: Place) -> float:
        return 16 if alpha == 0.05 and place == 0.2 else law(alpha, place)

    results = simulated(high, noise=0)
    assert verdicts(results)["separation"] == "holds"
    assert verdicts(changed(results, change))["separation"] != "holds"
    assert phase_diagram.admitted("holds", [phase_diagram.Fit(-9.0, open=True, conservative=False)]) == "undecided"


def test_trials_beyond_at_small_angles_only_steepen_the_fit() -> None:
    hard = changed(simulated(), lambda i: BEYOND if i["alpha"] < 0.2 and i["angle"] == 0.2 else None)
    assert verdicts(hard)["separation"] == "holds"


def test_trials_beyond_in_the_middle_are_idle_for_separation() -> None:
    hard = changed(simulated(), lambda i: BEYOND if i["angle"] == 0.45 and i["seed"] == 3 else None)
    assert verdicts(hard)["separation"] == "holds"


def test_one_seed_without_a_width_on_independent_inputs_leaves_the_theorem_undecided() -> None:
    def one(alpha: float) -> Results:
        place = (alpha, None, 0)
        return changed(simulated(), lambda i: BEYOND if (i["alpha"], i["angle"], i["seed"]) == place else None)

    assert verdicts(one(0.24))["theorem"] == "undecided"
    assert verdicts(one(0.4))["theorem"] == "holds", "of which the claim does not speak"


def test_a_cell_that_some_seed_does_not_find_says_nothing_of_the_theorem() -> None:
    def change(inputs: Inputs) -> Result | None:
        if (inputs["alpha"], inputs["angle"]) != (0.1, 0.3):
            return None
        return BEYOND if inputs["seed"] == phase_diagram.SEEDS - 1 else {"asked": 0.0}

    finding = phase_diagram.EXPERIMENT.decide(changed(simulated(), change))[2]
    assert finding.verdict == "holds"
    sound = phase_diagram.EXPERIMENT.decide(simulated())[2]
    counts = [int(each.reason.split(" of 20 cells")[0]) for each in (sound, finding)]
    assert counts[0] == counts[1] + 1


def test_a_width_that_dense_networks_do_not_confirm_withdraws_what_rests_on_it() -> None:
    def change(inputs: Inputs) -> Result | None:
        return {"confirmed": False} if (inputs["alpha"], inputs["angle"], inputs["seed"]) == (0.1, 0.7, 1) else None

    one = changed(simulated(), change)
    assert verdicts(one) == {"separation": "invalid", "alpha": "invalid", "theorem": "invalid", "limit": "holds"}


@given(
    x=st.lists(st.integers(-9, 9), min_size=3, max_size=6, unique=True),
    steep=st.sampled_from([-0.4, 0.0, 0.4]),
    sign=st.sampled_from([-1, 1]),
    data=st.data(),
)
def test_a_fit_called_conservative_is(x: list[int], steep: float, sign: int, data: st.DataObject) -> None:
    size = len(x)
    further = data.draw(st.lists(st.floats(0, 50), min_size=size, max_size=size))
    beyond = data.draw(st.lists(st.booleans(), min_size=size, max_size=size))
    widths = [max(4, round(7 + steep * value)) for value in x]
    trials = [Trial(None if out else width, 12, 40.0, None) for width, out in zip(widths, beyond, strict=True)]
    found = phase_diagram.fit([float(value) for value in x], trials, sign)
    # The truth of an open trial: one doubling more than the largest width, or the least width, or further out.
    truth = [
        13 + more if out else width - (more if width == 4 else 0)
        for width, out, more in zip(widths, beyond, further, strict=True)
    ]
    assert found.open == (any(beyond) or 4 in [w for w, out in zip(widths, beyond, strict=True) if not out])
    if found.conservative:
        assert sign * float(np.polyfit(x, truth, 1)[0]) >= sign * found.slope - 1e-9
    if not found.open:
        assert found.slope == pytest.approx(float(np.polyfit(x, widths, 1)[0]), abs=1e-9)


@pytest.mark.parametrize(
    ("smallest", "conservative"),
    [
        ([4, 9, 14], {1: True, -1: False}),  # the truth at the left may be lower
        ([14, 9, 4], {1: False, -1: True}),
        ([None, 9, 5], {1: False, -1: True}),  # the truth at the left may be higher
        ([5, 9, None], {1: True, -1: False}),
        ([5, 9, 14], {1: True, -1: True}),
    ],
)
def test_which_open_trials_leave_a_fit_conservative(
    smallest: list[int | None], conservative: dict[int, bool]
) -> None:
    trials = [Trial(width, 16, 40.0, None) for width in smallest]
    for sign, expected in conservative.items():
        assert phase_diagram.fit([0.0, 1.0, 2.0], trials, sign).conservative == expected


def test_the_order_of_the_cells_does_not_matter() -> None:
    results = simulated()
    mixed = [results[i] for i in np.random.default_rng(0).permutation(len(results))]
    assert phase_diagram.EXPERIMENT.decide(mixed) == phase_diagram.EXPERIMENT.decide(results)


def converging(ratios: list[float]) -> Trace:
    norms = np.cumprod([1.0, *ratios])
    network = TwoLayerNetwork(np.ones((1, 2)), np.ones(1), 0.0)
    return Trace(network, norms, np.zeros(1), True, [], {})


@pytest.mark.parametrize(
    ("ratios", "expected"),
    [
        ([0.5] * 27, True),
        ([0.1, 1e-8], True),
        ([0.51, 1e-9], False),
        ([1e-3, 0.6, 1e-9], False),
        ([0.5] * 26, False),  # never reached the target
    ],
)
def test_a_run_must_halve_every_time_and_arrive(ratios: list[float], expected: bool) -> None:
    def train(network: TwoLayerNetwork, X: FloatArray, y: FloatArray, *, iterations: int, tolerance: float) -> Trace:
        assert (iterations, tolerance) == (27, 1e-8)
        return converging(ratios)

    problem = problems.make("pairs", 4, 3, np.random.default_rng(0))
    network = initialize(8, 3, shift=0.0, rng=np.random.default_rng(0))
    assert phase_diagram.halves(network, problem, CodeUnderTest(train=train)) == expected


@pytest.mark.parametrize("error", [NothingFiresError, SingularGramError, DivergenceError])
def test_a_run_that_stops_with_an_error_does_not_halve(error: type[Exception]) -> None:
    def train(*args: object, **options: object) -> Trace:
        raise DivergenceError("diverged", np.ones(2)) if error is DivergenceError else error("stopped")

    problem = problems.make("pairs", 4, 3, np.random.default_rng(0))
    network = initialize(8, 3, shift=0.0, rng=np.random.default_rng(0))
    code = CodeUnderTest(train=train)
    assert not phase_diagram.halves(network, problem, code)
    assert not phase_diagram.halves_densely(network, problem, code)


@given(pattern=st.lists(st.booleans(), min_size=5, max_size=5))
def test_the_smallest_width_is_the_last_before_the_first_failure(pattern: list[bool]) -> None:
    seen: list[TwoLayerNetwork] = []

    def train(network: TwoLayerNetwork, X: FloatArray, y: FloatArray, **options: float) -> Trace:
        if "tolerance" in options:
            seen.append(network)
        good = pattern[int(math.log2(network.width)) - 4]
        return replace(converging([0.1, 1e-8] if good else [0.9]), network=network)

    inputs = {"angle": 0.3, "alpha": 0.1, "largest": 8, "seed": 0}
    result = phase_diagram.measure(inputs, np.random.default_rng(1), CodeUnderTest(train=train))
    widths = [e for e in range(4, 9) if all(pattern[each - 4] for each in range(e, 9))]
    assert result["smallest"] == (min(widths) if widths else None)
    assert (result["confirmed"] is None) == (not widths)
    for wide, narrow in pairwise(seen):
        assert narrow.width * 2 == wide.width
        assert np.array_equal(narrow.weights, wide.weights[: narrow.width])
        assert np.array_equal(narrow.signs, wide.signs[: narrow.width])
    assert [network.shift for network in seen] == [shift_for(network.width, 0.1) for network in seen]


def test_the_theorem_width_by_its_formula() -> None:
    # Orthogonal inputs: K is cos(90 degrees) = 0 off its diagonal Phi(-b).
    tail = math.erfc(1.5 / math.sqrt(2)) / 2
    assert phase_diagram.asked_width(np.eye(6), 1.5) == pytest.approx((6 / tail) ** 4, rel=1e-9)
    # 60 degrees apart, no shift: K = [[1/2, 1/6], [1/6, 1/2]], so lambda = 1/3.
    pair = np.array([[1.0, 0.0], [0.5, math.sqrt(0.75)]])
    assert phase_diagram.asked_width(pair, 0.0) == pytest.approx(6**4, rel=1e-9)
    # One input in many dimensions, a neuron that always fires: the other term, d log(16 / 0.05).
    assert phase_diagram.asked_width(np.eye(50)[:1], -30.0) == pytest.approx(50 * math.log(320), rel=1e-9)


@pytest.mark.parametrize("place", phase_diagram.PLACES)
@pytest.mark.parametrize("alpha", phase_diagram.ALPHAS)
def test_the_theorem_asks_for_more_at_larger_widths(place: Place, alpha: float) -> None:
    X = problems.make("random" if place is None else "pairs", 16, 16, np.random.default_rng(0), angle=place).X
    asked = [phase_diagram.asked_width(X, shift_for(1 << e, alpha)) for e in (4, 10, 17, 20)]
    assert asked == sorted(asked)
    if alpha >= 0.25:
        assert all(width > 2**e for width, e in zip(asked, (4, 10, 17, 20), strict=True))


def measured(code: CodeUnderTest | None = None, *, largest: int = 12, trials: int = 3) -> Results:
    results: Results = []
    for alpha in phase_diagram.ALPHAS:
        for place in phase_diagram.PLACES:
            for seed in range(trials):
                cell = {"angle": place, "alpha": alpha, "largest": largest, "seed": seed}
                rng = seeds.generator(0, "phase_diagram", cell)
                results.append((cell, phase_diagram.measure(cell, rng, CodeUnderTest() if code is None else code)))
    plain: Results = json.loads(json.dumps(results, allow_nan=False))
    return plain


def test_the_true_code_end_to_end() -> None:
    results = measured(largest=11, trials=2)
    assert all(result["confirmed"] is not False for _, result in results)
    # Two seeds and these widths are too few for the other claims.
    assert {"fails", "invalid"}.isdisjoint(verdicts(results).values())
    figure = Figure()
    phase_diagram.plot(figure, results)
    figure.canvas.draw()


@pytest.mark.parametrize(("place", "alpha"), [(None, 0.1), (0.7, 0.24), (0.45, 0.05)])
def test_the_dense_reference_finds_the_same_smallest_width(place: Place, alpha: float) -> None:
    inputs = {"angle": place, "alpha": alpha, "largest": 9, "seed": 0}
    fast_result, slow_result = (
        phase_diagram.measure(inputs, np.random.default_rng(5), CodeUnderTest(train=train))
        for train in (fast.gauss_newton.train, reference.gauss_newton.train)
    )
    assert fast_result == slow_result
    assert fast_result["confirmed"]


TIMID = partial(loops.train, events=loops.TimidEvents)
RECURRENT = partial(loops.train, events=loops.RecurrentEvents)


def hiding(network: TwoLayerNetwork, X: FloatArray, y: FloatArray, **options: float) -> Trace:
    """Report that every iteration halves even where it does not; the end is true."""
    trace = fast.baselines.train_compacted(network, X, y, **options)
    norms = trace.residual_norms[0] * 0.5 ** np.arange(len(trace.residual_norms))
    return replace(trace, residual_norms=np.minimum(norms, trace.residual_norms))


@pytest.mark.parametrize(
    ("train", "expected"),
    [
        pytest.param(TIMID, {"separation": "undecided", "alpha": "undecided", "theorem": "fails"}, id="step-0.4"),
        pytest.param(
            RECURRENT,
            {"separation": "invalid", "alpha": "invalid", "theorem": "invalid", "limit": "fails"},
            id="residual-from-the-recurrence",
        ),
        pytest.param(hiding, {"theorem": "invalid"}, id="hides-slow-iterations"),
    ],
)
def test_faulty_training_flips_its_claims(train: Train, expected: dict[str, str]) -> None:
    found = verdicts(measured(CodeUnderTest(train=train), largest=11, trials=2))
    assert {claim: found[claim] for claim in expected} == expected


def test_a_shift_that_ignores_alpha_fails_the_alpha_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phase_diagram, "shift_for", lambda width, alpha: shift_for(width, 0.1))
    monkeypatch.setattr(phase_diagram, "SMALLEST", 2)
    results = measured(CodeUnderTest(train=fast.baselines.train_compacted), largest=10, trials=4)
    assert verdicts(results)["alpha"] == "fails"


@pytest.mark.parametrize("thorough", [False, True])
def test_cells_are_distinct_and_plain(thorough: bool) -> None:
    cells = phase_diagram.cells(Profile(thorough=thorough))
    assert len({json.dumps(cell, sort_keys=True) for cell in cells}) == len(cells)
    assert {cell["seed"] for cell in cells} == set(range(phase_diagram.SEEDS))


def test_plot_prints_every_cell() -> None:
    figure = Figure()
    phase_diagram.plot(figure, simulated())
    figure.canvas.draw()
    (axes,) = figure.axes
    texts = [text.get_text() for text in axes.texts]
    assert len(texts) == len(phase_diagram.ALPHAS) * len(phase_diagram.PLACES)
    assert sum(text.startswith(">16\n") for text in texts) >= len(phase_diagram.OUT_OF_REACH)


def test_spread_names_both_ends() -> None:
    trials = [Trial(None, 17, 50.0, None), Trial(12, 17, 40.0, True), Trial(14, 17, 40.0, True)]
    assert phase_diagram.spread(trials) == "12 to >17"
    assert phase_diagram.spread(trials[1:2]) == "12"
    assert phase_diagram.middle_of(trials) == 14
