"""The cost claims on many layers: verdicts on planted counters, hidden scans, copies and opponents, on a small grid."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

import fast.multi_layer_baselines
import fast.multi_layer_gauss_newton
from fast.multi_layer_gauss_newton import MultiLayerRun, State
from reference.multi_layer import initialize
from reference.multi_layer_gauss_newton import train as reference_train
from reference.notation import FloatArray, NothingFiresError, SingularGramError
from reference.trace import Trace
from verify import problems, seeds
from verify.claims import deep_cost
from verify.experiment import CodeUnderTest, Inputs, Profile, Result
from verify.faults.deep_routines import (
    HiddenScan,
    WholeProducts,
    copied,
    start_on,
    train_by,
    train_on,
)

Results = list[tuple[Inputs, Result]]
Counts = dict[str, int]
Train = Callable[..., Trace]


TERMS: list[Inputs] = [
    {"width": 1 << 9, "n": 8},
    {"width": 1 << 9, "n": 64},
    {"width": 1 << 9, "d": 8},
    {"width": 1 << 9, "d": 256},
    {"width": 1 << 11, "n": 8, "d": 8, "alpha": 0.4},
]


@pytest.fixture(scope="module", autouse=True)
def small_grid() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(deep_cost, "EXPONENTS", (9, 10, 11))
        patch.setattr(deep_cost, "SEEDS", 6)
        patch.setattr(deep_cost, "SEEDS_CHECKED", 5)
        patch.setattr(deep_cost, "SLOPE_MARGIN", 0.12)  # few seeds and short
        patch.setattr(deep_cost, "TERMS", TERMS)
        patch.setattr(deep_cost, "SHAPES", [deep_cost.SHAPES[i] for i in (2, 4, 7, 8, 10, 11)])
        patch.setattr(deep_cost, "SEEDS_SHAPES", 1)
        patch.setattr(deep_cost, "SETTLED", deep_cost.SETTLED[:2])
        patch.setattr(deep_cost, "ONCE", [{**once, "width": 1 << 10, "n": 8} for once in deep_cost.ONCE[:3]])
        yield


def measured(code: CodeUnderTest, cells: list[Inputs]) -> Results:
    results = [(cell, deep_cost.measure(cell, seeds.generator(0, "deep_cost", cell), code)) for cell in cells]
    plain: Results = json.loads(json.dumps(results, allow_nan=False))
    return plain


@pytest.fixture(scope="module")
def sound(small_grid: None) -> Results:
    return measured(CodeUnderTest(), deep_cost.cells(Profile()))


def verdicts(results: Results) -> dict[str, str]:
    return {finding.claim.split(".")[1]: finding.verdict for finding in deep_cost.EXPERIMENT.decide(results)}


def test_the_true_code_holds_and_draws(sound: Results) -> None:
    findings = deep_cost.EXPERIMENT.decide(sound)
    assert [finding.claim for finding in findings] == [claim.id for claim in deep_cost.CLAIMS]
    assert {finding.claim: finding.verdict for finding in findings if finding.verdict != "holds"} == {}
    figure = Figure()
    deep_cost.plot(figure, sound)
    figure.canvas.draw()


def altered(
    results: Results, change: Callable[[Counts, Inputs], None], *, which: str = "counts", expected: bool = False
) -> Results:
    """Change the counters of every iteration; with ``expected`` their closed forms alike."""
    results = copy.deepcopy(results)
    for inputs, result in results:
        for counts in result.get(which, []) + (result.get("expected", []) if expected else []):
            change(counts, inputs)
    return results


def multiply(phase: str, factor: Callable[[Inputs], float]) -> Callable[[Counts, Inputs], None]:
    def change(counts: Counts, inputs: Inputs) -> None:
        counts[phase] = int(counts.get(phase, 0) * factor(inputs))

    return change


def scan(share: float) -> Callable[[Counts, Inputs], None]:
    def change(counts: Counts, inputs: Inputs) -> None:
        counts["gram"] += int(share * inputs["n"] * inputs["width"] ** 2)

    return change


def power(exponent: float) -> Callable[[Inputs], float]:
    return lambda inputs: (inputs["width"] / 2**10) ** exponent


@pytest.mark.parametrize(
    ("change", "caught"),
    [
        pytest.param(multiply("forward", lambda i: 4), "forward_level", id="forward-often"),
        pytest.param(multiply("forward", power(0.8)), "forward_slope", id="forward-m^2"),
        pytest.param(multiply("forward", lambda i: 1.05), "settled", id="forward-more-than-back"),
        pytest.param(multiply("backward", lambda i: 1.5), "backward_level", id="backward-often"),
        pytest.param(multiply("backward", power(0.48)), "backward_slope", id="backward-m^2"),
        pytest.param(multiply("backward", power(-0.48)), "backward_slope", id="backward-too-slow"),
        pytest.param(scan(0.01), "forbidden", id="scan-of-1%"),
    ],
)
def test_work_that_its_own_closed_form_admits_fails_by_its_law(
    sound: Results, change: Callable[[Counts, Inputs], None], caught: str
) -> None:
    found = verdicts(altered(sound, change, expected=True))
    assert found[caught] == "fails"
    assert {found[claim] for claim in ("exact", "dense", "once", "witness")} == {"holds"}


@pytest.mark.parametrize(
    ("factor", "caught", "verdict"),
    [
        pytest.param(lambda i: 1.25, "start_level", "fails", id="often"),
        pytest.param(lambda i: 0.8, "start_level", "fails", id="seldom"),
        pytest.param(power(0.24), "start_slope", "fails", id="m^2"),
        pytest.param(lambda i: 1.25 ** ((-1) ** i["seed"]), "start_level", "undecided", id="seeds-disagree"),
    ],
)
def test_a_start_off_its_law_does_not_hold(
    sound: Results, factor: Callable[[Inputs], float], caught: str, verdict: str
) -> None:
    results = copy.deepcopy(sound)
    for inputs, result in results:
        if "start" in result:
            result["start"] *= factor(inputs)
    found = verdicts(results)
    assert found[caught] == verdict
    assert {found[claim] for claim in ("exact", "dense", "once", "witness", "forward_level", "settled")} == {"holds"}


@pytest.mark.parametrize(
    "phase", ["forward", "backward", "factors", "fold", "gram", "step", "fire", "active_pairs", "rank"]
)
def test_a_halved_counter_fails_exact(sound: Results, phase: str) -> None:
    assert verdicts(altered(sound, multiply(phase, lambda i: 0.5)))["exact"] == "fails"


def test_a_phase_that_no_closed_form_knows_fails_exact(sound: Results) -> None:
    assert verdicts(altered(sound, lambda counts, inputs: counts.update(rest=1)))["exact"] == "fails"


def test_a_phase_that_counts_nothing_has_no_law(sound: Results) -> None:
    found = verdicts(altered(sound, multiply("forward", lambda i: 0)))
    assert [found[claim] for claim in ("exact", "forward_level", "forward_slope")] == ["fails", "invalid", "invalid"]


def test_no_work_at_all_is_no_evidence_on_terms(sound: Results) -> None:
    results = altered(sound, lambda counts, inputs: None)
    for _, result in results:
        if "counts" in result:
            result["counts"] = []
    found = verdicts(results)
    assert (found["exact"], found["forward_level"], found["forbidden"]) == ("fails", "invalid", "invalid")


@pytest.mark.parametrize("part", ["level", "slope"])
def test_seeds_that_disagree_leave_a_law_undecided(sound: Results, part: str) -> None:
    def factor(inputs: Inputs) -> float:
        return float(1.5 if part == "level" else power(0.6)(inputs)) ** ((-1) ** inputs["seed"])

    assert verdicts(altered(sound, multiply("backward", factor), expected=True))[f"backward_{part}"] == "undecided"


def test_noise_beyond_the_margin_leaves_the_forbidden_term_undecided(sound: Results) -> None:
    noisy = altered(sound, multiply("fire", lambda i: i["width"] / 64 if i["seed"] % 2 else 0.3), expected=True)
    assert verdicts(noisy)["forbidden"] == "undecided"


@pytest.mark.parametrize("phase", ["scan", "backward", "gram", "solve", "step"])
@pytest.mark.parametrize("which", deep_cost.OPPONENTS)
def test_a_doubled_counter_of_an_opponent_fails_exact(sound: Results, which: str, phase: str) -> None:
    assert verdicts(altered(sound, multiply(phase, lambda i: 2), which=which))["exact"] == "fails"


@pytest.mark.parametrize(("share", "spread", "verdict"), [(0.7, 0, "fails"), (1, 0.7, "undecided"), (1.5, 0, "fails")])
def test_the_dense_loop_must_be_convicted_of_what_it_does(
    sound: Results, share: float, spread: float, verdict: str
) -> None:
    def change(counts: Counts, inputs: Inputs) -> None:
        counts["scan"] = int(counts["scan"] * (share + spread * (inputs["seed"] - 2) / 2))

    assert verdicts(altered(sound, change, which="dense"))["dense"] == verdict


def test_a_noticed_poison_withdraws_what_rests_on_counts(sound: Results) -> None:
    noticed = copy.deepcopy(sound)
    noticed[3][1]["witness"] = False
    found = verdicts(noticed)
    assert found["witness"] == "fails"
    assert {found[claim.split(".")[1]] for claim in deep_cost.RELY_ON_COUNTS} == {"invalid"}
    assert {found[claim] for claim in ("exact", "dense", "once")} == {"holds"}


def caught_by(sound: Results, code: CodeUnderTest, sweep: str = "width", **wanted: object) -> dict[str, str]:
    """Measure one cell with other code, put it in the place of a sound one, and decide."""
    place = next(
        at
        for at, (inputs, _) in enumerate(sound)
        if inputs["sweep"] == sweep and all(inputs[name] == value for name, value in wanted.items())
    )
    (other,) = measured(code, [sound[place][0]])
    return verdicts([*sound[:place], other, *sound[place + 1 :]])


def trained(run: type[MultiLayerRun]) -> CodeUnderTest:
    return CodeUnderTest(deep_train=partial(train_by, run), start_deep=run)


class Modest(MultiLayerRun):
    """Reports half of what it reads on the way back."""

    def iterate(self) -> None:
        super().iterate()
        self.counts[-1]["backward"] //= 2


class ScansLowest(MultiLayerRun):
    """Multiplies by the whole of the lowest matrix, whose scores it keeps, and throws the product away."""

    def _try(self, g: FloatArray) -> State:
        _ = self.X @ self.state.layers[0].initial.T
        return super()._try(g)


class ReadsColumns(MultiLayerRun):
    """Looks at every weight, and lets the result depend on it."""

    def _take(self, trial: State) -> None:
        super()._take(trial)
        self.residual = self.residual + float(np.isinf(trial.layers[1].initial).any())


class ReadsLowest(MultiLayerRun):
    def _take(self, trial: State) -> None:
        super()._take(trial)
        self.residual = self.residual + float(np.isinf(trial.layers[0].initial).any())


@pytest.mark.parametrize("run", [HiddenScan, ScansLowest, ReadsColumns, ReadsLowest])
def test_a_hidden_scan_is_caught_by_the_witness_alone(sound: Results, run: type[MultiLayerRun]) -> None:
    found = caught_by(sound, trained(run))
    assert found["witness"] == "fails"
    assert found["exact"] == "holds"
    assert found["forbidden"] == "invalid"


class ScansBelow(MultiLayerRun):
    """Sends the points through the layers below again, whose signals it has."""

    def _try(self, g: FloatArray) -> State:
        _ = self.X @ self.initial.weights[0].T
        return super()._try(g)


def test_a_hidden_scan_of_the_layers_below_is_caught_too(sound: Results) -> None:
    found = caught_by(sound, trained(ScansBelow), "shapes", trained=[2])
    assert (found["witness"], found["exact"]) == ("fails", "holds")


def test_whole_products_where_many_fire_are_no_offence(sound: Results) -> None:
    witnessed = {inputs["alpha"]: "witness" in result for inputs, result in sound if inputs["sweep"] == "shapes"}
    assert witnessed == {0.05: False, 0.1: False, 0.24: True}


def test_a_halved_counter_in_the_loop_fails_exact(sound: Results) -> None:
    found = caught_by(sound, trained(Modest))
    assert (found["exact"], found["witness"]) == ("fails", "holds")


class ShortStep(MultiLayerRun):
    def _try(self, g: FloatArray) -> State:
        return super()._try(0.5 * g)


def test_a_run_that_goes_elsewhere_fails_exact(sound: Results) -> None:
    assert caught_by(sound, trained(ShortStep))["exact"] == "fails"


@pytest.mark.parametrize("extra", [-1, 1])
def test_another_number_of_iterations_fails_exact(sound: Results, extra: int) -> None:
    def train(*args: Any, iterations: int, **options: Any) -> Trace:  # noqa: ANN401
        return fast.multi_layer_gauss_newton.train(*args, iterations=iterations + extra, **options)

    assert caught_by(sound, CodeUnderTest(deep_train=train))["exact"] == "fails"


class SilentlyRelaid(MultiLayerRun):
    def _prepare(self, layers: list[Any]) -> State:
        state = super()._prepare(layers)
        self.preparation_counts["relaid"] = 0
        return state


class ReadsTwice(MultiLayerRun):
    def _prepare(self, layers: list[Any]) -> State:
        super()._prepare(layers)
        return super()._prepare(layers)


class Forgets(MultiLayerRun):
    """Hands back the caller's matrices in place of those that were re-laid, so that the next run copies again."""

    def _network(self) -> Any:  # noqa: ANN401
        network = super()._network()
        for layer, W in zip(network.layers, network.initial.weights, strict=True):
            layer.initial = W
        return network


class WritesWeights(MultiLayerRun):
    def _take(self, trial: State) -> None:
        super()._take(trial)
        W = self.initial.weights[1].view()
        base = W if W.base is None else W.base
        base.flags.writeable = True
        base[0, 0] += 1e-9  # type: ignore[index]


@pytest.mark.parametrize(
    ("run", "rows"),
    [(SilentlyRelaid, True), (ReadsTwice, False), (Forgets, True), (WritesWeights, False)],
)
def test_a_start_that_copies_reads_or_writes_more_fails_once(
    sound: Results, run: type[MultiLayerRun], rows: bool
) -> None:
    assert caught_by(sound, trained(run), "once", rows=rows)["once"] == "fails"


def test_matrices_copied_before_the_start_fail_once(sound: Results) -> None:
    assert caught_by(sound, CodeUnderTest(deep_train=copied), "once", rows=False)["once"] == "fails"


def test_whole_products_are_caught_by_counter_and_witness(sound: Results) -> None:
    code = CodeUnderTest(deep_train=partial(train_on, WholeProducts), start_deep=partial(start_on, WholeProducts))
    found = caught_by(sound, code)
    assert (found["exact"], found["witness"]) == ("fails", "fails")


def modest(*args: Any, **options: Any) -> Trace:  # noqa: ANN401
    """Report a tenth of what the dense loop does."""
    trace = fast.multi_layer_baselines.train_multi_layer_dense(*args, **options)
    return replace(trace, counts=[{phase: work // 10 for phase, work in counts.items()} for counts in trace.counts])


def dense_loop(*args: Any, rank_budget: int | None = None, **options: Any) -> Trace:  # noqa: ANN401
    return fast.multi_layer_baselines.train_multi_layer_dense(*args, **options)


def dense_start(*args: Any, rank_budget: int | None = None, **options: Any) -> Any:  # noqa: ANN401
    return fast.multi_layer_baselines.MultiLayerDenseRun(*args, **options)


def test_dense_in_the_place_of_the_fast_loop_and_modest_in_the_place_of_dense_both_fail(sound: Results) -> None:
    cells = [inputs for inputs, _ in sound if inputs["sweep"] in deep_cost.FITTED and inputs["width"] < 1 << 11]
    code = CodeUnderTest(
        deep_train=dense_loop,
        start_deep=dense_start,
        deep_train_dense=modest,
    )
    found = verdicts([*measured(code, cells), *(each for each in sound if each[0]["sweep"] in ("once", "settled"))])
    assert [found[claim] for claim in ("exact", "forbidden", "dense")] == ["fails"] * 3
    assert {found["forward_level"], found["start_level"]} == {"invalid"}  # it has no such phase


def test_networks_on_which_no_run_goes_through_are_drawn_anew_until_it_gives_up() -> None:
    draws = []

    def draw(*args: Any, shift: float, **options: Any) -> Any:  # noqa: ANN401
        draws.append(1)
        return initialize(*args, shift=9.0, **options)  # nothing fires

    for sweep in ("shapes", "once"):
        draws.clear()
        cell = {**deep_cost.POINT, **deep_cost.SHAPES[0], "sweep": sweep, "width": 64, "seed": 0}
        with pytest.raises(NothingFiresError):
            measured(CodeUnderTest(deep_initialize=draw), [cell])
        assert len(draws) == deep_cost.MOST_REDRAWS


class Stops(MultiLayerRun):
    def iterate(self) -> None:
        raise SingularGramError("G is singular")


def test_a_run_that_stops_where_one_by_the_definitions_goes_through_has_done_nothing(sound: Results) -> None:
    for sweep, claim in (("width", "exact"), ("terms", "exact"), ("shapes", "exact"), ("once", "once")):
        found = caught_by(sound, trained(Stops), sweep)
        assert found[claim] == "fails"
        assert {found[other] for other in ("dense", "witness")} == {"holds"}
    assert caught_by(sound, trained(Stops), "settled")["settled"] == "invalid"


def test_a_loop_that_always_stops_is_no_evidence_for_anything(sound: Results) -> None:
    found = verdicts(measured(trained(Stops), [inputs for inputs, _ in sound if inputs["width"] < 1 << 11]))
    assert {claim for claim, verdict in found.items() if verdict == "fails"} == {"exact", "once"}
    assert {found[claim] for claim in found.keys() - {"exact", "once"}} == {"invalid"}


def test_a_run_with_steps_so_large_that_they_are_written_out_early_is_drawn_anew() -> None:
    cell = {**deep_cost.POINT, **deep_cost.SHAPE, "sweep": "shapes", "width": 1 << 10, "alpha": 0.4, "seed": 0}
    folds = []

    def train(*args: object, **options: object) -> Trace:
        trace: Trace = CodeUnderTest().deep_train(*args, **options)
        folds.append([counts["fold"] > 0 for counts in trace.counts])
        return trace

    result = deep_cost.measure(cell, seeds.generator(25, "deep_cost", cell), CodeUnderTest(deep_train=train))
    assert folds == [[False, True, False], [False, False, False]]
    assert result["witness"]
    for counts, expected in zip(result["counts"], result["expected"], strict=True):
        assert {**counts, **expected} == counts


@pytest.mark.parametrize("normalized", [False, True])
def test_the_dense_run_takes_the_reference_steps(normalized: bool) -> None:
    rng = np.random.default_rng(3)
    problem = problems.make("random", 5, 6, rng)
    network = initialize(200, 6, 3, shift=0.3, rng=rng, normalized=normalized)
    states, read, columns = deep_cost.dense_run(network, problem, [1, 3], 2)
    after = reference_train(network, problem.X, problem.y, trained_layers=[1, 3], iterations=2).network
    assert (len(states), len(read), len(columns)) == (3, 2, 2)
    for now, expected in ((states[0], network), (states[2], after)):
        signals = deep_cost.reference.multi_layer.forward(expected, problem.X)
        assert now[0].all()
        assert [fires.tolist() for fires in now[1:]] == [fires.tolist() for fires in signals.fires]


def test_laws_by_their_formulas() -> None:
    k = 2**11 * math.erfc(math.sqrt(0.24 * math.log(2**11))) / 2
    assert deep_cost.fired_law(2**11) == pytest.approx(k, rel=1e-12)
    inputs = {"width": 2**11, "n": 3}
    assert deep_cost.phase_law("start", inputs) == deep_cost.phase_law("forward", inputs)
    assert deep_cost.phase_law("start", inputs) == pytest.approx(3 * k * 2**11)
    assert deep_cost.phase_law("backward", inputs) == pytest.approx(3 * k * k)


@pytest.mark.parametrize("thorough", [False, True])
def test_cells_are_distinct_and_plain(thorough: bool) -> None:
    cells = deep_cost.cells(Profile(thorough=thorough))
    assert len({json.dumps(cell, sort_keys=True) for cell in cells}) == len(cells)
    assert all(cell in deep_cost.cells(Profile(thorough=True)) for cell in cells)
