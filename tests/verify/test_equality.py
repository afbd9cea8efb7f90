"""The equality claims: verdicts on hand-made errors, failures on either side, and planted faults."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

import fast.baselines
import fast.gauss_newton
import reference.baselines
import reference.gauss_newton
from fast.gauss_newton import EventRun, TreeRun
from reference.notation import DivergenceError, FloatArray, InputError, NothingFiresError, SingularGramError
from reference.trace import Trace
from reference.two_layer import TwoLayerNetwork, initialize, shift_for
from verify import comparison, seeds
from verify.claims import equality
from verify.experiment import CodeUnderTest, Inputs, Profile, Result
from verify.faults.equality import FAULTS, train_by
from verify.faults.fault import Fault

Results = list[tuple[Inputs, Result]]
Option = int | str | np.random.Generator
CELLS: list[Inputs] = [
    {"family": "random", "angle": None, "n": 8, "d": 5, "width": 1000, "alpha": 0.1, "law": "gaussian", "seed": 0},
    {"family": "twins", "angle": 0.15, "n": 5, "d": 4, "width": 1201, "alpha": 0.1, "law": "uniform", "seed": 1},
]


def measured(code: CodeUnderTest | None = None, cells: list[Inputs] = CELLS) -> Results:
    code = CodeUnderTest() if code is None else code
    results = [(cell, equality.measure(cell, seeds.generator(0, "equality", cell), code)) for cell in cells]
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


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.id)
def test_planted_faults_fail_the_claims_meant_for_them(fault: Fault) -> None:
    # Some faults show only in a cell of their own.
    own = [{**point, "seed": 0} for point in (*equality.GRID, equality.MANY) if point["n"] in (2, 280)]
    found = verdicts(measured(fault.code, [*CELLS, *(cell for cell in own if fault.only and fault.only(cell))]))
    assert {claim: found[claim.split(".")[1]] for claim in fault.caught_by} == fault.caught_by


def test_the_harness_of_the_faults_is_sound() -> None:
    for run in (TreeRun, EventRun):
        code = CodeUnderTest(train=partial(train_by, run=run))
        assert set(verdicts(measured(code)).values()) == {"holds"}


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


def test_many_points_are_judged_by_the_dense_loop_which_needs_no_list_of_pairs() -> None:
    cell = {**equality.MANY, "seed": 0}
    rng = np.random.default_rng(0)
    problem = equality.draw_problem(cell, rng)
    network = initialize(cell["width"], cell["d"], shift=shift_for(cell["width"], cell["alpha"]), rng=rng)
    # Above this share the dense loop keeps the whole pattern, so that a wrong list of pairs cannot mislead it.
    assert fast.baselines.DenseRun(network, problem.X, problem.y).dense_pattern is not None
    results = measured(CodeUnderTest(reference_train=raising(ERRORS["singular"])), [cell])
    assert [name for name in equality.WAYS if name in results[0][1]] == ["cholesky", "events"]
    assert max(error for part in results[0][1].values() if isinstance(part, dict) for error in part.values()) <= 1


def test_a_resumed_run_shows_where_it_began() -> None:
    def train(network: str, *, iterations: int) -> Trace[Any]:
        norms = np.arange(iterations + 1) + (10.0 if network == "start" else 20.0)
        return Trace("trained", norms, norms, False, [])  # type: ignore[arg-type]

    run = comparison.in_two_parts(train, "start", 2, 3)
    assert run.residual_norms.tolist() == [10, 11, 20, 21, 22, 23]


def test_both_sides_may_be_the_reference() -> None:
    def train(
        network: TwoLayerNetwork, X: FloatArray, y: FloatArray, *, iterations: int, **options: Option
    ) -> Trace[Any]:
        return reference.gauss_newton.train(network, X, y, iterations=iterations)

    code = CodeUnderTest(
        train=train,
        train_compacted=reference.gauss_newton.train,
        train_gradient_descent=reference.baselines.train_gradient_descent,
    )
    for finding in equality.decide(measured(code)):
        assert finding.estimate == 0


@pytest.mark.parametrize("thorough", [False, True])
def test_cells_are_distinct_and_plain(thorough: bool) -> None:
    cells = equality.cells(Profile(thorough=thorough))
    assert len({json.dumps(cell, sort_keys=True) for cell in cells}) == len(cells)
    assert all(cell in equality.cells(Profile(thorough=True)) for cell in cells)
