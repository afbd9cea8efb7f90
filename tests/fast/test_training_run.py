"""The loop of every fast run, on networks made up for it, beside the safeguarded loop of `reference`."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from numpy.typing import ArrayLike

from fast.training_run import Counts, Solver, TrainingRun
from reference.notation import DivergenceError, FloatArray, InputError, NothingFiresError, SingularGramError
from reference.regression import solve_exact
from reference.safeguard import Step
from reference.safeguarded_run import Model, take_safeguarded_steps

X = np.eye(3)


@dataclass(frozen=True, eq=False)
class Curve:
    """A network whose three predictions are ``M w + c sin(w)``; it fires where ``w_0`` is at least ``least``."""

    weights: FloatArray
    M: FloatArray
    c: float = 0.0
    least: float = -np.inf

    def predict(self, X: ArrayLike) -> FloatArray:
        predictions: FloatArray = self.M @ self.weights + self.c * np.sin(self.weights)
        return predictions

    def to_dense(self) -> Curve:
        return self

    def alive(self) -> bool:
        return bool(self.weights[0] >= self.least)

    def check(self) -> None:
        if not self.alive():
            raise NothingFiresError("nothing fires; lower the bound")

    def jacobian(self) -> FloatArray:
        return self.M + self.c * np.diag(np.cos(self.weights))

    def gram(self) -> FloatArray:
        J = self.jacobian()
        return J @ J.T

    def moved(self, g: FloatArray) -> Curve:
        return replace(self, weights=self.weights - self.jacobian().T @ g)


class CurveRun(TrainingRun[Curve, Curve, Curve]):
    """Counts 9 for a solve, as the loop does for a damped one, and 1 for a trial."""

    def __init__(
        self,
        start: Curve,
        y: ArrayLike,
        *,
        floor: float = 0.0,
        solver: Solver = "cholesky",
        step: Step = "full",
        accuracy: float = 1e-12,
    ) -> None:
        super().__init__(X, y, solver=solver, step=step, accuracy=accuracy)
        self.here, self.floor = start, floor
        self.saves = 0
        self.preparation_counts["made"] = 1
        self.residual = start.predict(X) - self.y
        self._start()

    def _check_every_point_fires(self) -> None:
        self.here.check()

    def _gram(self) -> FloatArray:
        return self.here.gram()

    def _solve(self) -> FloatArray:
        if self.solver == "conjugate":
            return self._solve_conjugate()
        self._count(solve=9)
        return solve_exact(self._gram(), self.residual)

    def _try(self, g: FloatArray) -> Curve:
        self._count(trial=1)
        return self.here.moved(g)

    def _norm_after(self, trial: Curve) -> float:
        return float(np.linalg.norm(trial.predict(X) - self.y)) if trial.alive() else np.inf

    def _take(self, trial: Curve) -> None:
        self.here = trial
        self.residual = trial.predict(X) - self.y

    def _save(self) -> Curve:
        self.saves += 1
        return self.here

    def _restore(self, saved: Curve) -> None:
        self._take(saved)

    def _rounding(self) -> float:
        return self.floor or super()._rounding()

    def _state_counts(self) -> Counts:
        return {"weights": 3}

    def _network(self) -> Curve:
        return self.here


def curve(seed: int, flat: bool = False) -> tuple[Curve, FloatArray]:
    rng = np.random.default_rng(seed)
    M = rng.standard_normal((3, 3))
    if flat:
        M[2] = M[1]
    start = Curve(rng.standard_normal(3), M, 0.0 if flat else rng.uniform(0, 3), rng.choice([-np.inf, -1.0, 0.0]))
    start.weights[0] = abs(start.weights[0])
    return start, 2 * rng.standard_normal(3)


def assert_same_as_reference(start: Curve, y: FloatArray, iterations: int = 8, tolerance: float = 0.0) -> CurveRun:
    """Compare residuals, and how many trials, systems and Gram matrices every iteration took."""
    model = Model(X, Curve.check, Curve.alive, Curve.gram, Curve.moved, work={"pattern": 1, "gram": 0, "step": 0})
    expected = take_safeguarded_steps(start, model, y, iterations=iterations, tolerance=tolerance)
    run = CurveRun(start, y, step="safeguarded")
    trace = run.run(iterations, tolerance)
    np.testing.assert_allclose(trace.residual_norms, expected.residual_norms, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(trace.predictions, expected.predictions, rtol=1e-9, atol=1e-12)
    assert [(c.get("trial", 0), 3 * c["solve"]) for c in trace.counts] == [
        (c["pattern"], c["solve"]) for c in expected.counts
    ]
    assert (trace.converged, trace.stopped) == (expected.converged, expected.stopped)
    return run


def test_safeguarded_steps_are_those_of_the_reference() -> None:
    runs = [assert_same_as_reference(*curve(seed), tolerance=0.1 * (seed % 2)) for seed in range(30)]
    # Every kind of step is among them: one look-ahead, several, a shorter leash, the end of a run.
    assert {min(run.saves, 2) for run in runs} == {0, 1, 2}
    assert {30, 15, 7} < {run.allowance for run in runs}
    assert {run.stopped[:7] for run in runs} == {"", "stopped", "stalled"}


def line(*diagonal: float, floor: float = 0.0) -> CurveRun:
    """Start at weights of 1 with labels 0 and predictions ``diagonal * weights``."""
    return CurveRun(Curve(np.ones(3), np.diag(diagonal)), np.zeros(3), floor=floor)


def test_a_singular_system_is_damped() -> None:
    run = line(2.0, 4.0, 0.0)
    np.testing.assert_allclose(run._direction(), [2 / (4 + 2e-9), 4 / (16 + 2e-9), 0], rtol=1e-14)
    assert run._phases == {"solve": 18}
    assert isinstance(run._phases["solve"], int)
    flat = Curve(np.ones(3), np.zeros((3, 3)))
    with pytest.raises(SingularGramError):
        CurveRun(flat, np.ones(3))._direction()
    run = assert_same_as_reference(flat, np.ones(3))
    assert run.counts == [{"solve": 18, "weights": 3}]
    assert run.stopped.startswith("stalled at iteration 1")


def test_a_look_ahead_ends_where_nothing_can_be_solved() -> None:
    """From 1 the first step, in the wrong direction, leads to 2; there all derivatives are 0."""

    class Trap(Curve):
        def jacobian(self) -> FloatArray:
            return 0 * self.M if self.weights[0] > 1.9 else self.M

        def moved(self, g: FloatArray) -> Curve:
            return replace(self, weights=self.weights + self.jacobian().T @ g)

    run = CurveRun(Trap(np.ones(3), np.eye(3)), np.zeros(3), step="safeguarded")
    trace = run.run(3, 0.0)
    assert trace.residual_norms.tolist() == [3**0.5, 3**0.5]
    assert trace.counts == [{"solve": 27, "trial": 31, "weights": 3}]
    assert run.here.weights.tolist() == [1, 1, 1]
    assert (run.saves, run.allowance) == (1, 15)
    assert trace.stopped.startswith("stalled at iteration 1 with residual 1.73, 1 of the start: no step lowered it")
    assert trace.stopped.count("condition number of the Gram matrix is 1:") == 1


class Halving(CurveRun):
    """Takes half of every step, so that norms are powers of 2."""

    def _try(self, g: FloatArray) -> Curve:
        return super()._try(g / 2)


@pytest.mark.parametrize("step", ["full", "safeguarded"])
def test_a_run_converges_at_the_tolerance_itself_and_returns_what_it_reached(step: Step) -> None:
    start = Curve(np.array([4.0, 0.0, 0.0]), np.eye(3))
    trace = Halving(start, np.zeros(3), step=step).run(9, 0.25)
    assert trace.residual_norms.tolist() == [4.0, 2.0, 1.0]
    assert (trace.converged, trace.stopped) == (True, "")
    assert trace.network.weights.tolist() == [1.0, 0.0, 0.0]
    assert trace.counts == [{"solve": 9, "trial": 1, "weights": 3}] * 2
    assert trace.preparation_counts == {"made": 1}
    for iterations, norms in ((0, [4.0]), (1, [4.0, 2.0])):
        trace = Halving(start, np.ones(3), step=step).run(iterations, 0.25)
        assert not trace.converged
        assert len(trace.residual_norms) == len(norms)
        np.testing.assert_allclose(trace.predictions, trace.network.weights, rtol=1e-15)


def test_a_run_that_stopped_as_it_converged_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fast.training_run.crept", lambda norms: len(norms) > 2)
    run = Halving(Curve(np.array([4.0, 0.0, 0.0]), np.eye(3)), np.zeros(3), step="safeguarded")
    assert run.run(9, 0.0).stopped.startswith("stalled at iteration 2 with residual 1, 0.25 of the start")
    assert run.trace(0.25).stopped == ""


def test_what_breaks_down_in_a_full_step_is_told() -> None:
    silent = Curve(np.ones(3), np.eye(3), least=2.0)
    steps: tuple[Step, ...] = ("full", "safeguarded")
    for step in steps:
        with pytest.raises(NothingFiresError, match="lower the bound"):
            CurveRun(silent, np.zeros(3), step=step).iterate()
    run = line(1.0, 1.0, 0.0)
    with pytest.raises(SingularGramError):
        run.iterate()
    run.residual_norms = [1.0, 2.0]
    with pytest.raises(DivergenceError, match=r"from 1 at the start \(the Gram matrix"):
        run.iterate()
    run = line(1.0, 1.0, 1.0)
    run.residual_norms = [1e-9]
    run._try = lambda g: replace(run.here, weights=np.full(3, 1e3))  # type: ignore[method-assign]
    with pytest.raises(DivergenceError, match="after iteration 1"):
        run.iterate()
    with np.errstate(over="ignore"), pytest.raises(InputError, match="first residual overflows"):
        CurveRun(silent, np.full(3, 1e200))


def test_no_norm_is_known_better_than_to_rounding() -> None:
    run = line(1.0, 1.0, 1.0, floor=0.5)
    assert [run._known_norm(np.full(1, norm)) for norm in (0.25, 0.75)] == [0.5, 0.75]
    run.residual_norms.append(0.375)  # a floor that rises lifts no residual
    assert run._known_norm(np.full(1, 0.25)) == 0.375
    assert run.run(3, 0.0).residual_norms.tolist()[1:] == [0.375] * 3
    assert line(1.0, 1.0, 1.0).run(1, 0.0).residual_norms[1] == 0.0


def test_conjugate_gradients_stop_at_the_accuracy_asked_for() -> None:
    for accuracy, products in ((0.5, 1), (1e-12, 3)):
        start = Curve(np.ones(3), np.array([[3.0, 1.0, 0.0], [0.0, 2.0, 0.5], [0.0, 0.0, 1.0]]))
        run = CurveRun(start, np.zeros(3), solver="conjugate", accuracy=accuracy)
        g = run._solve()
        assert run._phases["solve"] >= 9 * products
        assert np.linalg.norm(run._gram() @ g - run.residual) <= accuracy * np.linalg.norm(run.residual)
    with pytest.raises(InputError, match="accuracy is 2"):
        CurveRun(start, np.zeros(3), accuracy=2)
    with pytest.raises(InputError, match="y has 2 entries but X has 3 rows"):
        CurveRun(start, np.zeros(2))
