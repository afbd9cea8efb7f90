"""The equality claims: verdicts on hand-made errors, failures on either side, and planted faults."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

import fast.gauss_newton
import reference.gauss_newton
from fast.gauss_newton import Solver, TreeRun
from fast.gram import shared_counts
from fast.jacobian import FiredJacobian
from fast.regression import solve_cholesky
from fast.threshold_search import ThresholdForest
from reference.notation import DivergenceError, FloatArray, InputError, NothingFiresError, SingularGramError
from reference.trace import Trace
from reference.two_layer import TwoLayerNetwork, initialize
from verify import seeds
from verify.claims import equality
from verify.experiment import CodeUnderTest, Inputs, Profile, Result

Results = list[tuple[Inputs, Result]]
Option = int | str | np.random.Generator
CELLS: list[Inputs] = [
    {"family": "random", "angle": None, "n": 8, "d": 5, "width": 1000, "alpha": 0.1, "law": "gaussian", "seed": 0},
    {"family": "twins", "angle": 0.15, "n": 5, "d": 4, "width": 1201, "alpha": 0.1, "law": "uniform", "seed": 1},
]


def measured(code: CodeUnderTest | None = None) -> Results:
    code = CodeUnderTest() if code is None else code
    results = [(cell, equality.measure(cell, seeds.generator(0, "equality", cell), code)) for cell in CELLS]
    plain: Results = json.loads(json.dumps(results, allow_nan=False))
    return plain


def verdicts(results: Results) -> dict[str, str]:
    return {finding.claim.split(".")[1]: finding.verdict for finding in equality.EXPERIMENT.decide(results)}


def made(error: float = 0.3, *, trained: bool = True, **worst: float) -> tuple[Inputs, Result]:
    result: Result = {"one_step": worst.get("one_step", error), "trained": trained}
    for solver in ("cholesky", "sketch"):
        result[solver] = dict.fromkeys(equality.QUANTITIES, error)
        result[solver]["dense weights"] = worst.get(solver, error)
    return CELLS[0], result


def test_the_true_code_holds_and_draws() -> None:
    results = measured()
    findings = equality.EXPERIMENT.decide(results)
    assert [finding.claim for finding in findings] == [claim.id for claim in equality.CLAIMS]
    assert {finding.verdict for finding in findings} == {"holds"}
    figure = Figure()
    equality.plot(figure, results)
    figure.canvas.draw()
    assert [text.get_text() for text in figure.axes[0].get_xticklabels()] == list(equality.QUANTITIES)


@pytest.mark.parametrize("claim", ["one_step", "cholesky", "sketch"])
def test_one_run_beyond_its_bound_refutes_a_claim(claim: str) -> None:
    assert set(verdicts([made(), made()]).values()) == {"holds"}
    found = verdicts([made(), made(**{claim: 1.01})])
    assert found.pop(claim) == "fails"
    assert set(found.values()) == {"holds"}


def test_runs_that_never_train_are_no_evidence() -> None:
    assert set(verdicts([made(0.0, trained=False)] * 2).values()) == {"invalid"}
    assert set(verdicts([made(0.0, trained=False), made()]).values()) == {"holds"}


def test_a_finding_names_the_worst_cell() -> None:
    inputs, result = made(cholesky=7.0)
    reason = equality.decide([made(), ({**inputs, "seed": 5}, result)])[1].reason
    assert "7 of its bound, in the dense weights at family=random" in reason
    assert "seed=5" in reason


def faulty(run: type[TreeRun], *, extra: int = 0, **options: float) -> CodeUnderTest:
    """Put another loop, or another number of its iterations, in the place of the tree path."""

    def train(
        network: TwoLayerNetwork,
        X: FloatArray,
        y: FloatArray,
        *,
        iterations: int,
        search: str,
        solver: Solver = "cholesky",
        rng: np.random.Generator | None = None,
    ) -> Trace[Any]:
        progress = run(network, X, y, solver=solver, rng=rng, **options)
        for _ in range(iterations + extra):
            progress.iterate()
        trace = progress.trace(0.0)
        return replace(trace, residual_norms=trace.residual_norms[: iterations + 1])

    return replace(CodeUnderTest(), train=train)


class ShortStep(TreeRun):
    def _step(self, jacobian: FiredJacobian, g: FloatArray) -> dict[str, int]:
        return super()._step(jacobian, 0.9 * g)


class StaleSet(TreeRun):
    """Steps with the pairs that fired one iteration ago."""

    def _look(self) -> dict[str, int]:
        counts = super()._look()
        now = self.fired
        self.fired, self.newest = getattr(self, "newest", now), now
        return counts


class Ridge(TreeRun):
    def _solve(self, jacobian: FiredJacobian) -> tuple[FloatArray, dict[str, int]]:
        G = self.inner_products * shared_counts(jacobian)[0] / self.forest.width
        return solve_cholesky(G + 1e-6 * np.eye(len(G)), self.residual), {}


class SinglePrecision(TreeRun):
    def _solve(self, jacobian: FiredJacobian) -> tuple[FloatArray, dict[str, int]]:
        G = self.inner_products * shared_counts(jacobian)[0] / self.forest.width
        return solve_cholesky(G.astype(np.float32).astype(np.float64), self.residual), {}


class Forgetful(TreeRun):
    """Loses every hundredth pair."""

    def _look(self) -> dict[str, int]:
        def query(threshold: float) -> list[np.ndarray]:
            found = ThresholdForest.query(self.forest, threshold)
            return [index[np.arange(len(index)) % 100 != 99] for index in found]

        self.forest.query = query  # type: ignore[method-assign]
        return super()._look()


class LeakedLabels(TreeRun):
    """Reports the labels as its predictions."""

    def trace(self, tolerance: float) -> Trace[Any]:
        return replace(super().trace(tolerance), predictions=self.y)


class Stray(TreeRun):
    """Moves a neuron that never fires; no prediction changes."""

    def trace(self, tolerance: float) -> Trace[Any]:
        trace = super().trace(tolerance)
        end = trace.network.to_dense()
        weights = end.weights.copy()
        silent = np.flatnonzero((weights @ self.X.T < end.shift - 1).all(axis=1))[0]
        weights[silent] *= 1 + 1e-9
        return replace(trace, network=TwoLayerNetwork(weights, end.signs, end.shift))


@pytest.mark.parametrize(
    ("code", "caught"),
    [
        pytest.param(faulty(ShortStep), ["one_step", "cholesky", "sketch"], id="step-0.9"),
        pytest.param(faulty(StaleSet), ["cholesky", "sketch"], id="stale-set"),
        pytest.param(faulty(Ridge), ["one_step", "cholesky"], id="ridge-1e-6"),
        pytest.param(faulty(SinglePrecision), ["one_step"], id="float32-gram"),
        pytest.param(faulty(Forgetful), ["one_step", "cholesky", "sketch"], id="drops-1%"),
        pytest.param(faulty(TreeRun, extra=-1), ["one_step", "cholesky", "sketch"], id="one-iteration-less"),
        pytest.param(faulty(TreeRun, extra=1), ["one_step"], id="one-iteration-more"),
        pytest.param(faulty(TreeRun, accuracy=1e-3), ["sketch"], id="loose-solver"),
        pytest.param(faulty(LeakedLabels), ["one_step"], id="leaked-labels"),
        pytest.param(faulty(Stray), ["one_step"], id="stray-neuron"),
    ],
)
def test_planted_faults_fail_the_claims_meant_for_them(code: CodeUnderTest, caught: list[str]) -> None:
    found = verdicts(measured(code))
    assert [found[claim] for claim in caught] == ["fails"] * len(caught)


def test_the_harness_of_the_faults_is_sound() -> None:
    assert set(verdicts(measured(faulty(TreeRun))).values()) == {"holds"}


ERRORS = {
    "singular": SingularGramError("G is singular"),
    "silent": NothingFiresError("no neuron fires"),
    "unsolved": InputError("the sketched solver does not converge"),
    "diverged": DivergenceError("training diverged", np.array([1.0, 1e4])),
}


def raising(error: Exception) -> Callable[..., Trace[Any]]:
    def train(*args: object, **options: object) -> Trace[Any]:
        raise error

    return train


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
def test_an_error_on_the_fast_side_alone_is_inequality(error: Exception) -> None:
    assert set(verdicts(measured(CodeUnderTest(train=raising(error)))).values()) == {"fails"}


def test_an_error_on_the_reference_side_alone_is_inequality() -> None:
    _, second = measured()
    (_, broken), _ = measured(CodeUnderTest(reference_train=raising(ERRORS["singular"])))
    assert broken["one_step"] == equality.UNEQUAL
    assert set(verdicts([(CELLS[0], broken), second]).values()) == {"fails"}


def test_the_same_error_on_both_sides_is_equal_and_another_one_is_not() -> None:
    def shifted(width: int, dim: int, *, shift: float, rng: np.random.Generator) -> TwoLayerNetwork:
        return initialize(width, dim, shift=9.0, rng=rng)

    silent = measured(CodeUnderTest(initialize=shifted))
    assert [result["trained"] for _, result in silent] == [False, False]
    assert set(verdicts([silent[0], made()]).values()) == {"holds"}
    assert set(verdicts(silent).values()) == {"invalid"}
    other = measured(CodeUnderTest(initialize=shifted, train=raising(ERRORS["diverged"])))
    assert set(verdicts([other[0], made()]).values()) == {"fails"}


def test_predictions_that_are_not_finite_are_unequal() -> None:
    def train(network: TwoLayerNetwork, X: FloatArray, y: FloatArray, **options: Option) -> Trace[Any]:
        trace = fast.gauss_newton.train(network, X, y, **options)
        return replace(trace, predictions=np.full(len(y), np.nan))

    assert set(verdicts(measured(CodeUnderTest(train=train))).values()) == {"fails"}


def test_relative_error_by_hand() -> None:
    ones = np.ones(3)
    assert equality.relative_error(ones + np.array([0, 2e-7, 0]), ones) == pytest.approx(2.0, rel=1e-6)
    assert equality.relative_error(ones, np.ones(4)) == equality.UNEQUAL
    assert equality.relative_error(ones, np.zeros(3)) == equality.UNEQUAL
    assert equality.relative_error(np.zeros(3), np.zeros(3)) == 0


def test_both_sides_may_be_the_reference() -> None:
    def train(
        network: TwoLayerNetwork, X: FloatArray, y: FloatArray, *, iterations: int, **options: Option
    ) -> Trace[Any]:
        return reference.gauss_newton.train(network, X, y, iterations=iterations)

    for finding in equality.decide(measured(CodeUnderTest(train=train))):
        assert finding.estimate == 0


@pytest.mark.parametrize("thorough", [False, True])
def test_cells_are_distinct_and_plain(thorough: bool) -> None:
    cells = equality.cells(Profile(thorough=thorough))
    assert len({json.dumps(cell, sort_keys=True) for cell in cells}) == len(cells)
    assert all(cell in equality.cells(Profile(thorough=True)) for cell in cells)
