"""The exact solve against known answers; the textbook iteration against its own convergence theory."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference.notation import FloatArray, InputError, SingularGramError
from reference.regression import (
    STEPS_ALLOWED,
    check_progress,
    check_system,
    condition_limit,
    paper_accuracy,
    preconditioner,
    rounding_floor,
    solve_exact,
    solve_sketched,
)
from reference.sketch import draw_gaussian, to_matrix

seeds = st.integers(0, 2**32 - 1)
conditions = st.sampled_from([1.0, 1e2, 1e4])


def make_problem(
    seed: int, n: int, condition: float, columns: int = 40
) -> tuple[FloatArray, FloatArray, np.random.Generator]:
    """A Jacobian with singular values from 1 down to ``condition ** -0.5``, and a right-hand side."""
    rng = np.random.default_rng(seed)
    left = np.linalg.qr(rng.standard_normal((n, n)))[0]
    right = np.linalg.qr(rng.standard_normal((columns, n)))[0]
    return (left * np.geomspace(1, condition**-0.5, n)) @ right.T, rng.standard_normal(n), rng


@given(seeds, st.integers(1, 8), conditions)
def test_exact_solution_satisfies_the_equation(seed: int, n: int, condition: float) -> None:
    J, rhs, _ = make_problem(seed, n, condition)
    G = J @ J.T
    g = solve_exact(G, rhs)
    assert np.linalg.norm(G @ g - rhs) <= rounding_floor(np.trace(G), g) + 1e-15 * np.linalg.norm(rhs)


def test_condition_limit_separates_solvable_from_singular() -> None:
    limit = condition_limit(2)
    np.testing.assert_allclose(solve_exact(np.diag([1.0, 1.01 / limit]), [1.0, 1.0]), [1.0, limit / 1.01])
    with pytest.raises(
        SingularGramError, match=r"condition number 2\.3e\+15, limit 2\.3e\+15.*drop near-duplicates"
    ):
        solve_exact(np.diag([1.0, 0.99 / limit]), [1.0, 1.0])


@pytest.mark.parametrize(
    "solve",
    [
        pytest.param(lambda e: preconditioner([[1.0, 0.5], [0.0, e]]), id="R"),
        pytest.param(lambda e: solve_exact([[1.0, 0.5], [0.5, 0.25 + e * e]], [1.0, 1.0]), id="G = R^T R"),
    ],
)
def test_condition_is_judged_by_the_1_norm(solve: Callable[[float], FloatArray]) -> None:
    # That of G is 9 / (4 e^2) in the 1-norm, and 25 / (16 e^2) in the 2-norm.
    limit = condition_limit(2)
    assert np.isfinite(solve((2.7 / limit) ** 0.5)).all()
    with pytest.raises(SingularGramError, match=r"singular to working precision \(condition number"):
        solve((1.9 / limit) ** 0.5)


def test_a_condition_at_the_limit_itself_is_singular() -> None:
    R = np.diag([1.0, 1.0, 1.0, 2.0**-25])
    assert condition_limit(4) == 2.0**50
    with pytest.raises(SingularGramError):
        solve_exact(R @ R, np.ones(4))
    with pytest.raises(SingularGramError):
        preconditioner(R)


@given(seeds, st.integers(1, 8), st.integers(8, 30))
def test_preconditioner_is_a_triangular_square_root(seed: int, n: int, size: int) -> None:
    sketched = np.random.default_rng(seed).standard_normal((size, n))
    R = preconditioner(sketched)
    np.testing.assert_array_equal(R, np.triu(R))
    np.testing.assert_allclose(R.T @ R, sketched.T @ sketched, rtol=0, atol=1e-13 * size)


@given(seeds, st.integers(1, 8), conditions)
def test_an_exact_sketch_needs_a_single_step(seed: int, n: int, condition: float) -> None:
    J, rhs, _ = make_problem(seed, n, condition)
    solution = solve_sketched(J, J.T, rhs, accuracy=1e-8)
    assert solution.iterations == 1
    assert solution.products == 3


@given(seeds, st.integers(2, 8), conditions)
def test_every_step_contracts_as_the_condition_number_predicts(seed: int, n: int, condition: float) -> None:
    J, rhs, rng = make_problem(seed, n, condition)
    sketched = to_matrix(draw_gaussian(6 * n, J.shape[1], rng=rng)) @ J.T
    R = np.linalg.qr(sketched, mode="r")
    M = np.linalg.solve(R.T, np.linalg.solve(R.T, J @ J.T).T)
    kappa = np.linalg.cond(M)
    factor = (kappa**2 - 1) / (kappa**2 + 1)
    previous = np.linalg.norm(np.linalg.solve(R.T, rhs))
    for digits in range(1, 6):
        # Runs to increasing accuracy share their steps, so each shows the state after its last one.
        solution = solve_sketched(J, sketched, rhs, accuracy=10.0**-digits)
        residual = J @ (J.T @ solution.solution) - rhs
        assert solution.residual_history[-1] == pytest.approx(np.linalg.norm(residual), rel=1e-6)
        assert solution.residual_history[-1] <= 10.0**-digits * solution.residual_history[0]
        assert len(solution.residual_history) == solution.iterations + 1
        assert np.linalg.norm(np.linalg.solve(R.T, residual)) <= previous * factor**solution.iterations * (
            1 + 1e-6
        )


@given(seeds, st.integers(1, 8), st.sampled_from([0.01, 30.0]))
def test_a_distorted_sketch_changes_the_speed_and_not_the_answer(
    seed: int, n: int, distortion: float
) -> None:
    J, rhs, rng = make_problem(seed, n, 1e2)
    sketched = J.T * rng.uniform(1, 1.2, size=n) * distortion
    solution = solve_sketched(J, sketched, rhs, accuracy=1e-11)
    np.testing.assert_allclose(
        solution.solution, solve_exact(J @ J.T, rhs), rtol=0, atol=1e-8 * np.linalg.norm(rhs)
    )


def test_the_unit_step_converges_below_the_distortion_of_the_paper_and_not_above() -> None:
    J, rhs, _ = make_problem(0, 4, 1e2)
    fine = solve_sketched(J, J.T * np.sqrt(0.75), rhs, accuracy=1e-10, step_length=1.0)
    assert fine.residual_history[-1] <= 1e-10 * fine.residual_history[0]
    # All eigenvalues of M are 4/3: each step multiplies the residual by |1 - 16/9|.
    np.testing.assert_allclose(fine.residual_history[1:4] / fine.residual_history[:3], 7 / 9, rtol=1e-6)
    with pytest.raises(InputError, match=r"did not converge.*draw a longer sketch"):
        solve_sketched(J, J.T * np.sqrt(0.65), rhs, accuracy=1e-10, step_length=1.0)


def test_an_accuracy_below_rounding_stops_at_the_floor() -> None:
    J, rhs, rng = make_problem(0, 6, 1e4)
    solution = solve_sketched(J, to_matrix(draw_gaussian(60, 40, rng=rng)) @ J.T, rhs, accuracy=1e-30)
    assert solution.residual_history[-1] <= rounding_floor(float(np.sum(J * J)), solution.solution)


def test_nothing_to_solve_takes_no_step() -> None:
    solution = solve_sketched([[1.0, 0.0]], [[1.0]], [0.0], accuracy=0.5)
    assert (solution.iterations, solution.products, solution.solution.tolist()) == (0, 0, [0.0])


@pytest.mark.parametrize(
    ("lambda_min", "n", "expected"), [(0.25, 4, 0.25 / 6), (1.0, 4, 0.5 / 6), (0.25, 1, 0.25 / 6)]
)
def test_paper_accuracy_takes_the_smaller_term(lambda_min: float, n: int, expected: float) -> None:
    assert paper_accuracy(lambda_min, n) == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: solve_exact(np.eye(2), [1.0]), r"pass \(n, n\) and \(n,\)"),
        (lambda: solve_exact([[np.nan]], [1.0]), "NaN or infinite"),
        (lambda: solve_exact([[0.0]], [1.0]), r"\(it is not positive definite, limit"),
        (lambda: solve_exact([[1.0, 2.0], [2.0, 1.0]], [1.0, 1.0]), "not positive definite"),
        (lambda: preconditioner(np.ones((1, 2))), "1 rows for 2 data points.*several rows per data point"),
        (lambda: preconditioner(np.ones((3, 2))), "singular to working precision"),
        (lambda: preconditioner(np.zeros((3, 2))), "singular to working precision"),
        (lambda: solve_sketched(np.eye(2), np.eye(2), [1.0], accuracy=0.1), "all three must be n"),
        (lambda: solve_sketched(np.eye(2), np.eye(2), [1.0, 1.0], accuracy=0.0), "between 0 and 1"),
        (lambda: paper_accuracy(0.0, 1), "positive eigenvalue"),
        (lambda: paper_accuracy(1.0, 0), "n >= 1"),
        (lambda: solve_exact([1.0], [1.0]), r"^G has shape \(1,\)"),
        (lambda: solve_exact([[1.0]], [[1.0]]), "^the right-hand side has shape"),
        (lambda: preconditioner([1.0]), "^the sketched Jacobian has shape"),
        (lambda: solve_sketched([1.0], [[1.0]], [1.0], accuracy=0.1), "^the Jacobian has shape"),
        (lambda: solve_sketched([[1.0]], [[1.0]], [[1.0]], accuracy=0.1), "^the right-hand side has shape"),
        (lambda: solve_sketched(np.eye(2), np.ones((3, 1)), [1.0, 1.0], accuracy=0.1), "all three must be n"),
        (lambda: solve_sketched(np.eye(2), np.eye(2), [1.0, 1.0], accuracy=1.0), "between 0 and 1"),
    ],
)
def test_bad_arguments_are_named(call: Callable[..., object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()


def test_work_is_counted_from_the_sizes_of_the_arrays() -> None:
    J, rhs, rng = make_problem(0, 4, 1e2)
    solution = solve_sketched(J, to_matrix(draw_gaussian(24, 40, rng=rng)) @ J.T, rhs, accuracy=1e-8)
    assert solution.iterations > 1
    assert solution.products == 3 * solution.iterations
    assert solution.work == 24 * 4 * 4 + solution.products * (2 * 4 * 40 + 2 * 4**3)


@pytest.mark.parametrize("size", [2.0**-900, 2.0**900])
def test_right_hand_sides_of_any_size_are_solved_alike(size: float) -> None:
    J, rhs, rng = make_problem(0, 4, 1e2)
    sketched = to_matrix(draw_gaussian(24, 40, rng=rng)) @ J.T
    plain, scaled = (solve_sketched(J, sketched, factor * rhs, accuracy=1e-8) for factor in (1.0, size))
    np.testing.assert_allclose(scaled.solution / size, plain.solution, rtol=1e-14)
    np.testing.assert_allclose(scaled.residual_history / size, plain.residual_history, rtol=1e-12)
    assert plain.residual_history[0] == pytest.approx(float(np.linalg.norm(rhs)))


def test_the_rounding_floor_is_its_formula() -> None:
    g = np.array([3.0, 4.0])
    assert rounding_floor(7.0, g) == 2 * 2.0**-52 * 7.0 * 5.0
    assert rounding_floor(7.0, g, terms=9) == 3 * rounding_floor(7.0, g)


def test_an_iteration_ends_when_it_takes_too_long_or_grows_too_far() -> None:
    check_progress([1.0] * STEPS_ALLOWED)
    check_progress([2.0, 2e20])
    message = rf"residual 1.0e\+00 after {STEPS_ALLOWED} steps, from 1.0e\+00; draw a longer sketch"
    with pytest.raises(InputError, match=message):
        check_progress([1.0] * (STEPS_ALLOWED + 1))
    for last in (2.1e20, np.nan):
        with pytest.raises(InputError, match="did not converge"):
            check_progress([2.0, last])


def test_a_gram_matrix_is_symmetric_up_to_rounding() -> None:
    for off, size in ((1e-9, 1.0), (1e-9, 1e20)):
        check_system(size * np.array([[1.0, 0.5], [0.5 + off, 1.0]]), [1.0, 1.0])
    check_system([[1e20, 0.0], [1e7, 1e20]], [1.0, 1.0])
    for matrix in ([[1.0, 0.5], [0.5 + 1e-7, 1.0]], [[1.0, 0.0], [1e-10, 1.0]], [[1e-9, 0.0], [1e-12, 1e-9]]):
        with pytest.raises(InputError, match="G is not symmetric; pass a Gram matrix"):
            check_system(matrix, [1.0, 1.0])


@pytest.mark.parametrize("step_length", [0.0, -1.0, np.nan, np.inf])
def test_a_step_must_be_positive(step_length: float) -> None:
    with pytest.raises(InputError, match=r"step_length is .*; pass a positive number, or None"):
        solve_sketched([[1.0]], [[1.0]], [1.0], accuracy=0.1, step_length=step_length)
