"""The fine-tuning claims: verdicts on hand-made results, the true code end to end, and planted faults."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

import fast.multi_layer_baselines
import fast.multi_layer_gauss_newton
from fast.low_rank import LowRankWeights
from fast.multi_layer import ImplicitMultiLayerNetwork
from reference.multi_layer import MultiLayerNetwork, initialize
from reference.notation import DivergenceError, SingularGramError
from reference.trace import Trace
from verify import seeds
from verify.claims import fine_tuning
from verify.experiment import CodeUnderTest, Finding, Inputs, Profile, Result
from verify.faults.deep_routines import forgetful, one_less, rebuilt
from verify.problems import unit_rows

Results = list[tuple[Inputs, Result]]
SMALL = {"plain": 0.1, "normalized": 0.2}
"""Alphas at which signals live at a width of 512."""
Change = Callable[[Trace[Any]], Trace[Any]]


def run(work: int, **replaced: object) -> Result:
    return {
        "residuals": [8.0, 0.5, 1e-11],
        "stopped": None,
        "work": work,
        "phases": {"step": work},
        "start": 0,
        "relaid": 0,
        **replaced,
    }


def tuned(work: int) -> Result:
    return {
        "fast": run(work, start=1),
        "dense": run(1000),
        "compacted": run(900),
        "difference": {"residuals": 1e-14, "predictions": 1e-14, "unseen": 1e-14, "stopped": None},
        "recomputed": 1e-11,
        "shared": True,
        "frozen": True,
        "unchanged": True,
    }


def simulated() -> Results:
    """Make results in which every claim holds."""
    return [
        (
            {"network": kind, "width": 64, "seed": seed},
            {"fit": run(90, relaid=64**2), "all": tuned(80 + seed), "last": tuned(200 + seed), "unchanged": True},
        )
        for kind in fine_tuning.ALPHAS
        for seed in range(4)
    ]


def findings(results: Results) -> dict[str, Finding]:
    return {finding.claim.split(".")[1]: finding for finding in fine_tuning.EXPERIMENT.decide(results)}


def verdicts(results: Results) -> dict[str, str]:
    return {name: finding.verdict for name, finding in findings(results).items()}


def test_simulated_truth_holds_in_the_order_of_the_claims() -> None:
    found = fine_tuning.EXPERIMENT.decide(simulated())
    assert [finding.claim for finding in found] == [claim.id for claim in fine_tuning.CLAIMS]
    assert {finding.verdict for finding in found} == {"holds"}


def put(path: str, value: object) -> Callable[[Results], None]:
    """Change one number of the last cell."""

    def change(results: Results) -> None:
        place: Any = results[-1][1]
        *parts, last = path.split(".")
        for part in parts:
            place = place[part]
        place[last] = value

    return change


@pytest.mark.parametrize(
    ("path", "value", "claim", "verdict", "words"),
    [
        ("all.difference.unseen", 2e-7, "agreement", "fails", "2.0e-07 (all layers)"),
        ("last.difference.predictions", 2e-7, "agreement", "fails", "2.0e-07 (last layer)"),
        ("last.difference.stopped", "singular", "agreement", "fails", "inf (last layer)"),
        ("all.dense.residuals", [8.0, 0.5], "agreement", "fails", "inf (all layers)"),
        ("all.recomputed", 1e-8, "fits", "fails", "7 of 8 runs"),
        ("all.fast.stopped", "diverged", "fits", "fails", "7 of 8 runs"),
        ("all.fast.relaid", 4096, "built_once", "fails", "copied matrices again"),
        ("last.fast.relaid", 1, "built_once", "fails", "copied matrices again"),
        ("fit.relaid", 2 * 64**2, "built_once", "fails", "exactly once"),
        ("fit.relaid", 0, "built_once", "fails", "exactly once"),
        ("all.shared", False, "built_once", "fails", "does not share"),
        ("last.unchanged", False, "built_once", "fails", "or changed them"),
        ("unchanged", False, "built_once", "fails", "or changed them"),
        ("all.fast.work", 700, "cost", "undecided", "(normalized)"),
        ("all.fast.stopped", "diverged", "cost", "invalid", "nan (normalized)"),
        ("last.fast.stopped", "diverged", "last_layer", "fails", "ends at inf of the start"),
        ("last.recomputed", 1e-8, "last_layer", "fails", "ends at 1.3e-09 of the start"),
        ("last.frozen", False, "last_layer", "fails", "Some layer below moved"),
        ("last.fast.work", 900, "last_layer", "undecided", "(normalized)"),
    ],
)
def test_one_bad_cell_flips_its_claim(path: str, value: object, claim: str, verdict: str, words: str) -> None:
    results = simulated()
    put(path, value)(results)
    finding = findings(results)[claim]
    assert finding.verdict == verdict
    assert words in finding.reason


@pytest.mark.parametrize(("stage", "claim"), [("all", "cost"), ("last", "last_layer")])
def test_one_kind_of_network_that_costs_too_much_fails(stage: str, claim: str) -> None:
    results = simulated()
    for inputs, result in results:
        if inputs["network"] == "plain":
            result[stage]["fast"]["start"] = 500
    found = verdicts(results)
    assert found.pop(claim) == "fails"
    assert set(found.values()) == {"holds"}


def test_a_network_that_was_not_fitted_is_no_evidence() -> None:
    results = simulated()
    results[0][1]["fit"]["residuals"] = [8.0, 7.0]
    assert set(verdicts(results).values()) == {"invalid"}
    assert "1 of 8 networks could not be fitted" in findings(results)["fits"].reason


# ---- measured


def measured(code: CodeUnderTest | None = None, *, kinds: tuple[str, ...] = ("plain",), width: int = 512) -> Results:
    code = CodeUnderTest() if code is None else code
    cells = [{"network": kind, "width": width, "seed": 0} for kind in kinds]
    results = [(cell, fine_tuning.measure(cell, seeds.generator(0, "fine_tuning", cell), code)) for cell in cells]
    plain: Results = json.loads(json.dumps(results, allow_nan=False))
    return plain


def beside(results: Results) -> Results:
    """Put measured cells in the place of as many simulated ones, seed by seed; a width of 512 is no test of cost."""
    others = simulated()
    for number, (inputs, result) in enumerate(results):
        for stage in fine_tuning.STAGES:
            if stage in result and not result[stage]["fast"]["stopped"]:
                result[stage]["fast"] |= {"work": 80, "start": 1}
                result[stage]["dense"]["work"] = result[stage]["compacted"]["work"] = 1000
        others[number] = (inputs, result)
    return others


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fine_tuning, "ALPHAS", SMALL)


@pytest.fixture(scope="module")
def sound() -> Results:
    return measured(kinds=("plain", "normalized"), width=2048)


def test_the_true_code_end_to_end(sound: Results) -> None:
    results = [({**inputs, "seed": seed}, result) for seed in range(2) for inputs, result in sound]
    assert set(verdicts(results).values()) == {"holds"}
    for _, result in sound:
        assert result["fit"]["relaid"] == 2048**2
        assert fine_tuning.share(result["all"]) < fine_tuning.COST_MARGIN
    figure = Figure()
    fine_tuning.plot(figure, results)
    figure.canvas.draw()


def test_the_last_layer_of_a_plain_network_goes_through_the_two_layer_machinery(sound: Results) -> None:
    plain, normalized = (result["last"]["fast"]["phases"] for _, result in sound)
    assert "compare" in plain
    assert "compare" not in normalized


def test_a_run_that_breaks_down_can_be_drawn(sound: Results) -> None:
    results = copy.deepcopy(sound)
    del results[0][1]["all"], results[0][1]["last"]
    results[1][1]["all"]["fast"]["residuals"] = [1.0, 0.0, None]
    figure = Figure()
    fine_tuning.plot(figure, results)
    figure.canvas.draw()


def altered(change: Change, *, stages: tuple[int, ...] = (2, 3)) -> CodeUnderTest:
    """Plant a fault in the first, second and third call of the fast path as told: fit, all layers, last layer."""
    calls: list[int] = []

    def train(*arguments: object, **options: object) -> Trace[Any]:
        calls.append(1)
        trace = fast.multi_layer_gauss_newton.train(*arguments, **options)
        return change(trace) if len(calls) in stages else trace

    return replace(CodeUnderTest(), deep_train=train)


def wrong_predictions(trace: Trace[Any]) -> Trace[Any]:
    return replace(trace, predictions=trace.predictions * (1 + 1e-6))


def wrong_residual(trace: Trace[Any]) -> Trace[Any]:
    norms = trace.residual_norms.copy()
    norms[1] *= 1 + 1e-4
    return replace(trace, residual_norms=norms)


def one_step_more(trace: Trace[Any]) -> Trace[Any]:
    return replace(trace, residual_norms=np.append(trace.residual_norms, 1e-16))


def wrong_network(trace: Trace[Any]) -> Trace[Any]:
    dense = trace.network.to_dense()
    weights = (dense.weights[0] * (1 + 1e-6), *dense.weights[1:])
    return replace(trace, network=MultiLayerNetwork(weights, dense.signs, dense.shift, dense.normalized))


def copied(trace: Trace[Any]) -> Trace[Any]:
    """Copy the matrices, and do not say so."""
    layers = [layer.copy() for layer in trace.network.layers]
    for layer in layers:
        layer.initial = layer.initial.copy(order="K")
    return replace(trace, network=ImplicitMultiLayerNetwork(trace.network.initial, tuple(layers)))


def written(trace: Trace[Any]) -> Trace[Any]:
    """Change one bit of the initial weights."""
    W: LowRankWeights = trace.network.layers[1]
    W.initial[0, 0] = np.nextafter(W.initial[0, 0], np.inf)
    return trace


def relaid(trace: Trace[Any]) -> Trace[Any]:
    return replace(trace, preparation_counts={**trace.preparation_counts, "relaid": 512**2})


def hidden(trace: Trace[Any]) -> Trace[Any]:
    return replace(trace, preparation_counts={**trace.preparation_counts, "relaid": 0})


@pytest.mark.parametrize("moved", [None, 1, 2, 3])
def test_one_moved_layer_below_is_enough(moved: int | None) -> None:
    """Of a network of three layers of which the last is trained."""

    def nudged(*arguments: object, **options: object) -> Trace[Any]:
        trace = fast.multi_layer_gauss_newton.train(*arguments, **options)
        dense = trace.network.to_dense()
        weights = [W * (1 + 1e-12) if layer == moved else W for layer, W in enumerate(dense.weights, start=1)]
        return replace(trace, network=MultiLayerNetwork(weights, dense.signs, dense.shift, dense.normalized))

    rng = np.random.default_rng(0)
    X = unit_rows(4, 6, rng)
    start = fast.multi_layer_gauss_newton.train(
        initialize(64, 6, 3, shift=0.0, rng=rng), X, np.ones(4), trained_layers=(3,), iterations=0
    ).network
    code = replace(CodeUnderTest(), deep_train=nudged)
    result, _ = fine_tuning.fine_tune(start, X, np.ones(4), X, (3,), code)
    assert result["frozen"] == (moved not in (1, 2))


def test_a_network_in_which_a_signal_dies_is_drawn_anew() -> None:
    drawn: list[MultiLayerNetwork] = []

    def dead_at_first(width: int, dim: int, depth: int, **options: Any) -> MultiLayerNetwork:  # noqa: ANN401
        shift = options.pop("shift") + (9.0 if not drawn else 0.0)
        drawn.append(initialize(width, dim, depth, shift=shift, **options))
        return drawn[-1]

    rng = np.random.default_rng(0)
    cell = {"network": "normalized", "width": 512, "seed": 0}
    code = replace(CodeUnderTest(), deep_initialize=dead_at_first)
    network = fine_tuning.draw(cell, unit_rows(4, 6, rng), rng, code)
    assert len(drawn) == 2
    assert np.array_equal(network.weights[1], drawn[1].weights[1])


@pytest.mark.usefixtures("small")
def test_without_a_fault_nothing_flips() -> None:
    assert set(verdicts(beside(measured())).values()) == {"holds"}


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("change", "stages", "claim"),
    [
        (wrong_predictions, (2,), "agreement"),
        (wrong_predictions, (3,), "agreement"),
        (wrong_residual, (2,), "agreement"),
        (one_step_more, (2,), "agreement"),
        (wrong_network, (2,), "fits"),
        (wrong_network, (3,), "last_layer"),
        (copied, (2,), "built_once"),
        (copied, (3,), "built_once"),
        (written, (2,), "built_once"),
        (relaid, (2,), "built_once"),
        (hidden, (1,), "built_once"),
    ],
)
def test_planted_faults_flip_their_claims(change: Change, stages: tuple[int, ...], claim: str) -> None:
    assert verdicts(beside(measured(altered(change, stages=stages))))[claim] == "fails"


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("train", "claim"),
    [(forgetful, "agreement"), (rebuilt, "built_once"), (one_less, "fits"), (one_less, "last_layer")],
)
def test_faulty_training_flips_its_claims(train: Callable[..., Trace[Any]], claim: str) -> None:
    assert verdicts(beside(measured(CodeUnderTest(deep_train=train))))[claim] == "fails"


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    "error", [SingularGramError("singular; widen it"), DivergenceError("diverged", np.array([8.0, np.inf]))], ids=repr
)
def test_a_breakdown_of_the_fast_path_alone_flips_agreement_and_fits(error: Exception) -> None:
    def train(network: object, *arguments: object, **options: object) -> Trace[Any]:
        if isinstance(network, ImplicitMultiLayerNetwork) and options["iterations"] > 1:
            raise error
        return fast.multi_layer_gauss_newton.train(network, *arguments, **options)

    found = verdicts(beside(measured(replace(CodeUnderTest(), deep_train=train))))
    assert found == {
        "agreement": "fails",
        "fits": "fails",
        "built_once": "fails",
        "cost": "invalid",
        "last_layer": "fails",
    }


@pytest.mark.usefixtures("small")
def test_a_scan_of_all_weights_in_every_iteration_flips_the_cost() -> None:
    def scan(trace: Trace[Any]) -> Trace[Any]:
        return replace(trace, counts=[{**counts, "scan": 24 * 512**2} for counts in trace.counts])

    results = measured(altered(scan))
    assert fine_tuning.share(results[0][1]["all"]) > fine_tuning.COST_MARGIN
    assert fine_tuning.share(results[0][1]["last"]) > fine_tuning.LAST_MARGIN


def test_an_opponent_without_work_is_no_evidence() -> None:
    result = tuned(80)
    result["dense"]["work"] = 0
    assert np.isnan(fine_tuning.share(result))


@pytest.mark.usefixtures("small")
def test_a_network_that_moves_below_the_last_layer_is_caught() -> None:
    def train(*arguments: object, **options: object) -> Trace[Any]:
        options["trained_layers"] = (1, 2)
        return fast.multi_layer_gauss_newton.train(*arguments, **options)

    assert verdicts(beside(measured(replace(CodeUnderTest(), deep_train=train))))["last_layer"] == "fails"


def test_the_cheaper_opponent_counts() -> None:
    result = tuned(89)
    assert fine_tuning.share(result) == 90 / 900
    result["dense"]["work"] = 100
    assert fine_tuning.share(result) == 90 / 100


def test_a_fingerprint_sees_one_bit_and_not_the_copy() -> None:
    W = np.asfortranarray(np.random.default_rng(0).standard_normal((6, 4)))
    other = W.copy(order="F")
    assert fine_tuning.fingerprint([W]) == fine_tuning.fingerprint([other])
    other[5, 3] = np.nextafter(other[5, 3], 9)
    assert fine_tuning.fingerprint([W]) != fine_tuning.fingerprint([other])


@pytest.mark.parametrize("thorough", [False, True])
def test_cells_are_distinct_and_plain(thorough: bool) -> None:
    cells = fine_tuning.cells(Profile(thorough=thorough))
    assert len({json.dumps(cell, sort_keys=True) for cell in cells}) == len(cells)
