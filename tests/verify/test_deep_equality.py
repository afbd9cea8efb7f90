"""The deep equality claims: verdicts on hand-made errors, failures on either side, and planted faults."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

import fast.multi_layer_gauss_newton
import reference.multi_layer_gauss_newton
from fast.multi_layer import ImplicitMultiLayerNetwork
from fast.multi_layer_gauss_newton import MultiLayerRun, State
from reference.multi_layer import MultiLayerNetwork
from reference.notation import DivergenceError, FloatArray, SingularGramError
from reference.signals import DeadSignalError
from reference.trace import Trace
from verify import comparison, seeds
from verify.claims import deep_equality
from verify.claims.deep_equality import WAYS, point
from verify.experiment import CodeUnderTest, Inputs, Profile, Result
from verify.faults.deep_equality import BiasedSketch, Ridge, SinglePrecision
from verify.faults.deep_routines import (
    LosesFactor,
    NoProjection,
    StaleJacobian,
    Step09,
    forgetful,
    one_less,
    train_by,
    train_last_layer_with_its_shift_frozen,
    train_on,
)

Results = list[tuple[Inputs, Result]]
CELLS: list[Inputs] = [
    {**point("random", 6, 5, 300, 0.05, 2, (1, 2), budget=7), "seed": 0},
    {**point("pairs", 6, 5, 301, 0.05, 3, (3,), law="uniform"), "seed": 0},
    {**point("random", 6, 5, 300, 0.2, 2, (1, 2), normalized=True), "seed": 1},
]


def measured(code: CodeUnderTest | None = None, cells: list[Inputs] = CELLS) -> Results:
    code = CodeUnderTest() if code is None else code
    results = [(cell, deep_equality.measure(cell, seeds.generator(0, "deep_equality", cell), code)) for cell in cells]
    plain: Results = json.loads(json.dumps(results, allow_nan=False))
    return plain


def verdicts(results: Results) -> dict[str, str]:
    return {finding.claim.split(".")[1]: finding.verdict for finding in deep_equality.EXPERIMENT.decide(results)}


def made(error: float = 0.3, *, trained: bool = True, **worst: float) -> tuple[Inputs, Result]:
    result: Result = {"one_step": {"step": worst.get("one_step", error)}, "trained": trained}
    for name in WAYS:
        result[name] = dict.fromkeys(comparison.QUANTITIES, error)
        result[name]["dense weights"] = worst.get(name, error)
    return CELLS[0], result


def test_the_true_code_holds_and_draws() -> None:
    results = measured()
    findings = deep_equality.EXPERIMENT.decide(results)
    assert [finding.claim for finding in findings] == [claim.id for claim in deep_equality.CLAIMS]
    assert {finding.verdict for finding in findings} == {"holds"}
    figure = Figure()
    deep_equality.plot(figure, results)
    figure.canvas.draw()
    assert len(figure.axes[0].get_legend().get_texts()) == len(WAYS)


@pytest.mark.parametrize("claim", ["one_step", *WAYS])
def test_one_run_beyond_its_bound_refutes_a_claim(claim: str) -> None:
    assert set(verdicts([made(), made()]).values()) == {"holds"}
    found = verdicts([made(), made(**{claim: 1.01})])
    assert found.pop(claim) == "fails"
    assert set(found.values()) == {"holds"}


def test_runs_that_never_train_are_no_evidence() -> None:
    assert set(verdicts([made(0.0, trained=False)] * 2).values()) == {"invalid"}
    findings = deep_equality.decide([made(0.0, trained=False), made()])
    assert {finding.verdict for finding in findings} == {"holds"}
    assert "1 of the runs stopped" in findings[0].domain


def faulty(run: type[MultiLayerRun], **options: float) -> CodeUnderTest:
    return CodeUnderTest(deep_train=partial(train_by, run, **options))


class OneLayer(MultiLayerRun):
    """Forgets the layers above the lowest trained one in its step."""

    def _try(self, g: FloatArray) -> State:
        trial = super()._try(g)
        kept = [*trial.layers[: self.lowest], *self.state.layers[self.lowest :]]
        return self._arrive(tuple(kept), trial.scores, trial.coefficients, trial.rounding)


class Stray(MultiLayerRun):
    """Moves a neuron that never fires; no prediction changes."""

    def _network(self) -> ImplicitMultiLayerNetwork:
        network = super()._network()
        first = self.initial.weights[0].copy()
        first[np.argmin((self.X @ first.T).max(axis=0))] *= 1 + 1e-9
        weights = replace(self.initial, weights=(first, *self.initial.weights[1:]))
        moved = network.layers[0].copy()
        moved.initial = first
        return ImplicitMultiLayerNetwork(weights, (moved, *network.layers[1:]))


def leaking(network: MultiLayerNetwork, X: FloatArray, y: FloatArray, **options: Any) -> Trace[Any]:  # noqa: ANN401
    """Report the labels as predictions."""
    return replace(fast.multi_layer_gauss_newton.train(network, X, y, **options), predictions=y)


@pytest.mark.parametrize(
    ("code", "caught"),
    [
        pytest.param(faulty(Step09), ["one_step", "cholesky", "sketch", "normalized", "resumed"], id="step-0.9"),
        pytest.param(faulty(Ridge), ["one_step", "cholesky", "normalized"], id="ridge-1e-6"),
        pytest.param(faulty(SinglePrecision), ["one_step"], id="float32-gram"),
        pytest.param(faulty(StaleJacobian), ["cholesky", "sketch", "normalized", "resumed"], id="stale"),
        pytest.param(faulty(OneLayer), ["one_step", "cholesky", "sketch", "normalized", "resumed"], id="one-layer"),
        pytest.param(faulty(NoProjection), ["one_step", "normalized"], id="no-projection"),
        pytest.param(
            CodeUnderTest(deep_train=partial(train_on, LosesFactor)),
            ["cholesky", "sketch", "resumed"],
            id="folded-factor-lost",
        ),
        pytest.param(faulty(Stray), ["one_step"], id="stray-neuron"),
        pytest.param(faulty(MultiLayerRun, accuracy=1e-3), ["sketch"], id="loose-solver"),
        pytest.param(faulty(BiasedSketch), ["sketch"], id="biased-sketch"),
        pytest.param(CodeUnderTest(deep_train=leaking), ["one_step"], id="leaked-labels"),
        pytest.param(CodeUnderTest(deep_train=forgetful), ["resumed"], id="forgets-what-it-learnt"),
        pytest.param(CodeUnderTest(deep_train=one_less), ["one_step", "resumed"], id="one-less"),
    ],
)
def test_planted_faults_fail_the_claims_meant_for_them(code: CodeUnderTest, caught: list[str]) -> None:
    found = verdicts(measured(code))
    assert [found[claim] for claim in caught] == ["fails"] * len(caught)


def test_a_shift_that_is_not_rescaled_fails_the_last_layer() -> None:
    found = verdicts(measured(CodeUnderTest(deep_train=train_last_layer_with_its_shift_frozen)))
    assert (found["last_layer"], found["cholesky"]) == ("fails", "holds")


def test_the_harness_of_the_faults_is_sound() -> None:
    assert set(verdicts(measured(faulty(MultiLayerRun))).values()) == {"holds"}


def raising(error: Exception) -> Callable[..., Trace[Any]]:
    def train(*args: object, **options: object) -> Trace[Any]:
        raise error

    return train


@pytest.mark.parametrize(
    "error", [SingularGramError("G"), DeadSignalError("dies"), DivergenceError("diverged", np.array([1.0, 1e4]))]
)
@pytest.mark.parametrize("side", ["deep_train", "deep_reference_train"])
def test_an_error_on_one_side_alone_is_inequality(side: str, error: Exception) -> None:
    found = verdicts(measured(replace(CodeUnderTest(), **{side: raising(error)})))
    # Without a run of the reference there is nothing to compare with.
    assert set(found.values()) == {"fails" if side == "deep_train" else "invalid"}


def test_the_same_error_on_both_sides_is_equal() -> None:
    both = raising(DeadSignalError("dies"))
    (cell, result), *_ = measured(CodeUnderTest(deep_train=both, deep_reference_train=both))
    assert not result["trained"]
    # `made` trains, so that there is evidence.
    assert set(verdicts([(cell, result), made()]).values()) == {"holds"}


def test_both_sides_may_be_the_reference() -> None:
    def train(network: MultiLayerNetwork, X: FloatArray, y: FloatArray, **options: Any) -> Trace[Any]:  # noqa: ANN401
        mine = {key: options[key] for key in ("trained_layers", "iterations")}
        return reference.multi_layer_gauss_newton.train(network, X, y, **mine)

    for finding in deep_equality.decide(measured(CodeUnderTest(deep_train=train))):
        assert finding.estimate == 0


@pytest.mark.parametrize("thorough", [False, True])
def test_cells_are_distinct_and_every_claim_has_some(thorough: bool) -> None:
    cells = deep_equality.cells(Profile(thorough=thorough))
    assert len({json.dumps(cell, sort_keys=True) for cell in cells}) == len(cells)
    plain = [cell for cell in cells if not cell["normalized"]]
    assert {tuple(cell["layers"]) == (cell["depth"],) for cell in plain} == {False, True}
    assert {cell["depth"] for cell in cells} == {1, 2, 3, 4}
    assert any(cell["budget"] == 1 for cell in plain)
