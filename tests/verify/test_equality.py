"""The equality claims: verdicts on hand-made errors, failures on either side, and planted faults."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

import fast.baselines
import fast.gauss_newton
import reference.gauss_newton
from fast.gauss_newton import EventRun, Search, Solver, TreeRun
from fast.regression import solve_cholesky
from fast.threshold_search import ThresholdForest
from fast.two_layer import StartingNetwork
from fast.watched_pairs import Trial, WatchedPairs
from reference.notation import DivergenceError, FloatArray, InputError, IntArray, NothingFiresError, SingularGramError
from reference.trace import Trace
from reference.two_layer import TwoLayerNetwork, initialize
from verify import comparison, seeds
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
    result: Result = {"one_step": {"tree": error, "events": worst.get("one_step", error)}, "trained": trained}
    for name in equality.WAYS:
        result[name] = dict.fromkeys(comparison.QUANTITIES, error)
        result[name]["dense weights"] = worst.get(name, error)
    return CELLS[0], result


def test_the_true_code_holds_and_draws() -> None:
    results = measured()
    findings = equality.EXPERIMENT.decide(results)
    assert [finding.claim for finding in findings] == [claim.id for claim in equality.CLAIMS]
    assert {finding.verdict for finding in findings} == {"holds"}
    figure = Figure()
    equality.plot(figure, results)
    figure.canvas.draw()
    assert [text.get_text() for text in figure.axes[0].get_xticklabels()] == list(comparison.QUANTITIES)


@pytest.mark.parametrize("claim", ["one_step", *equality.WAYS])
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


def faulty(run: type[EventRun] | type[TreeRun], *, extra: int = 0, **options: float) -> CodeUnderTest:
    """Put another loop, or another number of its iterations, in the place of its search; the other search is sound."""

    def train(
        network: TwoLayerNetwork,
        X: FloatArray,
        y: FloatArray,
        *,
        iterations: int,
        search: Search,
        solver: Solver = "cholesky",
        rng: np.random.Generator | None = None,
    ) -> Trace[Any]:
        if issubclass(run, EventRun) != (search == "events"):
            return fast.gauss_newton.train(
                network, X, y, iterations=iterations, search=search, solver=solver, rng=rng
            )
        progress = run(network, X, y, solver=solver, rng=rng, **options)
        for _ in range(iterations + extra):
            progress.iterate()
        trace = progress.trace(0.0)
        return replace(trace, residual_norms=trace.residual_norms[: iterations + 1])

    return replace(CodeUnderTest(), train=train)


class ShortStep(TreeRun):
    def _solve(self) -> FloatArray:
        return 0.9 * super()._solve()


class StaleSet(TreeRun):
    """Steps with the pairs that fired one iteration ago."""

    def _look(self) -> dict[str, int]:
        counts = super()._look()
        now = self.fired, self.jacobian
        (self.fired, self.jacobian), self.newest = getattr(self, "newest", now), now
        return counts


class Ridge(TreeRun):
    def _solve(self) -> FloatArray:
        G = self._gram()
        return solve_cholesky(G + 1e-6 * np.eye(len(G)), self.residual)


class SinglePrecision(TreeRun):
    def _gram(self) -> FloatArray:
        return super()._gram().astype(np.float32).astype(np.float64)

    def _solve(self) -> FloatArray:
        return solve_cholesky(self._gram(), self.residual)


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


class ShortEventStep(EventRun):
    def _solve(self) -> FloatArray:
        return 0.9 * super()._solve()


class Lists(WatchedPairs):
    """Never goes over to dense arrays, however many pairs must be watched."""

    most = 2.0


class CertificateOff(Lists):
    """Watches only what fires at the start, and believes that no other pair ever will."""

    def __init__(
        self, network: StartingNetwork, X: FloatArray, inner_products: FloatArray, band: float, **options: float
    ) -> None:
        super().__init__(network, X, inner_products, 0.0, **options)

    def _certify(self, *args: object) -> tuple[IntArray, FloatArray, IntArray]:
        none = np.empty(0, dtype=np.intp)
        return none, np.empty(0), none


class DropsFlips(Lists):
    """Loses every hundredth flip, the first of a step included."""

    def try_step(self, g: FloatArray) -> Trial:
        trial = super().try_step(g)
        return replace(trial, flips=trial.flips[np.arange(len(trial.flips)) % 100 != 0])


class StaleCounts(Lists):
    """Keeps the shared-fired counts of the start."""

    def take(self, trial: Trial) -> None:
        before = self.shared.copy()
        super().take(trial)
        self.shared[:] = before


class NoCorrection(Lists):
    """Predicts as if no pair had flipped."""

    def try_step(self, g: FloatArray) -> Trial:
        return replace(super().try_step(g), predictions=self.predictions - self.gram() @ g)


def watching(fault: type[WatchedPairs]) -> CodeUnderTest:
    class Faulty(EventRun):
        watch = fault

    return faulty(Faulty)


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
        pytest.param(faulty(ShortEventStep), ["one_step", "events", "events_sketch"], id="events-step-0.9"),
        pytest.param(watching(CertificateOff), ["events", "events_sketch"], id="events-certificate-off"),
        pytest.param(watching(DropsFlips), ["events", "events_sketch"], id="events-drops-flips"),
        pytest.param(watching(StaleCounts), ["events"], id="events-stale-counts"),
        pytest.param(watching(NoCorrection), ["one_step", "events"], id="events-no-correction"),
        pytest.param(faulty(EventRun, extra=-1), ["one_step", "events", "events_sketch"], id="events-one-less"),
        pytest.param(faulty(EventRun, accuracy=1e-3), ["events_sketch"], id="events-loose-solver"),
    ],
)
def test_planted_faults_fail_the_claims_meant_for_them(code: CodeUnderTest, caught: list[str]) -> None:
    found = verdicts(measured(code))
    assert [found[claim] for claim in caught] == ["fails"] * len(caught)


def test_the_harness_of_the_faults_is_sound() -> None:
    for run in (TreeRun, EventRun):
        assert set(verdicts(measured(faulty(run))).values()) == {"holds"}


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
    assert set(broken["one_step"].values()) == {comparison.UNEQUAL}
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


def test_data_off_the_families() -> None:
    rng = np.random.default_rng(0)
    circle = equality.draw_problem({"family": "circle", "n": 5, "d": 2, "angle": 0.4}, rng)
    np.testing.assert_allclose((circle.X[1:] * circle.X[:-1]).sum(axis=1), np.cos(0.4))
    np.testing.assert_allclose(np.linalg.norm(circle.X, axis=1), 1)
    digits = equality.draw_problem({"family": "digits", "n": 9, "d": 64, "angle": None}, rng)
    assert digits.X.shape == (9, 64)
    # Not centred: pixels are dark or darker, never negative.
    assert digits.X.min() == 0


def test_the_digits_are_judged_by_the_dense_loop() -> None:
    cell: Inputs = {
        "family": "digits", "angle": None, "n": 12, "d": 64, "width": 1500, "alpha": 0.1, "law": "gaussian", "seed": 0
    }  # fmt: skip
    iterations = []

    def dense(*args: Any, **options: Any) -> Trace[Any]:  # noqa: ANN401
        iterations.append(options["iterations"])
        return fast.baselines.train_dense(*args, **options)

    code = CodeUnderTest(train_dense=dense, reference_train=raising(ERRORS["singular"]))
    results = [(cell, equality.measure(cell, seeds.generator(0, "equality", cell), code))]
    assert set(verdicts(results).values()) == {"holds"}
    assert sorted(iterations) == [1, 10]


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
