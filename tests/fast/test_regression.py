"""Both solvers against the exact reference solve, over the angle of close pairs and the sketch's quality."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import ArrayLike

from fast.jacobian import FiredJacobian
from fast.regression import (
    Method,
    WarmCholesky,
    most_iterations,
    preconditioner,
    solve_cholesky,
    solve_conjugate,
    solve_sketched,
)
from fast.sketch import default_size, sketch_jacobian
from fast.two_layer import FiredPairs
from reference import regression as reference
from reference.notation import UNIT_ROUNDOFF, FloatArray, InputError, SingularGramError
from reference.sketch import draw_tensor_sketch
from reference.two_layer import activation_pattern, initialize
from verify.problems import make

METHODS: tuple[Method, ...] = ("conjugate", "paper")
seeds = st.integers(0, 2**32 - 1)


def make_system(
    seed: int, *, n: int = 6, angle: float = 0.3, m: int = 1500, d: int = 3, size: int | None = None
) -> tuple[FiredJacobian, FloatArray, FloatArray, FloatArray]:
    rng = np.random.default_rng(seed)
    X = make("pairs", n, d, rng, angle=angle).X
    network = initialize(m, d, shift=0.5, rng=rng)
    data_index, neuron_index = np.nonzero(activation_pattern(network, X))
    jacobian = FiredJacobian(X, FiredPairs(data_index, neuron_index, n, m), network.signs[neuron_index])
    J = jacobian.to_dense()
    sketched = sketch_jacobian(draw_tensor_sketch(size or default_size(n), m, d, rng=rng), jacobian)
    return jacobian, J, sketched, rng.standard_normal(n)


def error_bound(G: FloatArray, g: FloatArray) -> float:
    return float(64 * UNIT_ROUNDOFF * len(G) * np.linalg.cond(G) * np.linalg.norm(g))


@given(seeds, st.integers(1, 12), st.floats(-5, 0))
def test_both_solvers_agree_with_the_exact_solve(seed: int, n: int, log_angle: float) -> None:
    jacobian, J, sketched, rhs = make_system(seed, n=n, angle=10**log_angle)
    G, given_rhs, given_sketch = J @ J.T, rhs.copy(), sketched.copy()
    expected = reference.solve_exact(G, rhs)
    assert np.linalg.norm(solve_cholesky(G, rhs) - expected) <= error_bound(G, expected)
    # The accuracy bounds the residual, hence the error up to ||G^-1||.
    inverse = np.linalg.norm(np.linalg.inv(G), 2)
    solution = solve_sketched(jacobian, sketched, rhs)
    difference = np.linalg.norm(solution.solution - expected)
    assert difference <= error_bound(G, expected) + 1e-13 * inverse * np.linalg.norm(rhs)
    np.testing.assert_array_equal(rhs, given_rhs)
    np.testing.assert_array_equal(sketched, given_sketch)


@given(seeds, st.integers(1, 12), st.floats(-5, 0))
def test_conjugate_gradients_agree_with_the_exact_solve(seed: int, n: int, log_angle: float) -> None:
    _, J, _, rhs = make_system(seed, n=n, angle=10**log_angle)
    G, given_rhs = J @ J.T, rhs.copy()
    expected = reference.solve_exact(G, rhs)
    solution = solve_conjugate(G, rhs)
    inverse = np.linalg.norm(np.linalg.inv(G), 2)
    allowed = error_bound(G, expected) + 1e-13 * inverse * np.linalg.norm(rhs)
    assert np.linalg.norm(solution.solution - expected) <= allowed
    assert solution.work == solution.products * n * n
    np.testing.assert_array_equal(rhs, given_rhs)


def test_conjugate_gradients_take_few_steps_whatever_the_size() -> None:
    # Condition 4: a step shrinks the error by (2 - 1) / (2 + 1), so 1e-13 takes log(2e13) / log(3) = 28 at most.
    for n in (50, 400):
        rng = np.random.default_rng(n)
        basis, _ = np.linalg.qr(rng.standard_normal((n, n)))
        G = (basis * np.linspace(1, 4, n)) @ basis.T
        assert solve_conjugate((G + G.T) / 2, rng.standard_normal(n)).iterations <= 28


@pytest.mark.parametrize("G", [np.zeros((2, 2)), np.ones((2, 2)), [[1, 1], [1, 1 + 1e-15]], [[1, 2], [2, 1]]])
def test_conjugate_gradients_notice_a_matrix_without_a_solution(G: ArrayLike) -> None:
    with pytest.raises(SingularGramError):
        solve_conjugate(G, [1.0, -1.0])


@pytest.mark.parametrize("method", METHODS)
@given(seed=seeds, log_angle=st.floats(-2, 0), digits=st.integers(1, 12))
@example(seed=1, log_angle=-2.0, digits=12)
def test_stopping_rule_holds_for_the_true_residual(
    method: Method, seed: int, log_angle: float, digits: int
) -> None:
    jacobian, J, sketched, rhs = make_system(seed, angle=10**log_angle)
    solution = solve_sketched(jacobian, sketched, rhs, accuracy=10.0**-digits, method=method)
    G, history = J @ J.T, solution.residual_history
    floor = reference.rounding_floor(float(np.trace(G)), solution.solution)
    # The iteration applies G through J, in sums of that many terms, and stops at their rounding.
    own_floor = reference.rounding_floor(float(np.trace(G)), solution.solution, terms=jacobian.longest_sum)
    true_residual = np.linalg.norm(G @ solution.solution - rhs)
    assert true_residual <= max(10.0**-digits * np.linalg.norm(rhs), own_floor) + floor
    assert history[0] == pytest.approx(np.linalg.norm(rhs), rel=1e-15)
    assert history[-1] == pytest.approx(true_residual, abs=2 * floor)
    assert len(history) == solution.iterations + 1


def test_the_paper_method_takes_the_steps_of_the_reference() -> None:
    jacobian, J, sketched, rhs = make_system(0)
    fast = solve_sketched(jacobian, sketched, rhs, accuracy=1e-6, method="paper")
    plain = reference.solve_sketched(
        J, sketched, rhs, accuracy=0.5e-6
    )  # the fast side aims at half the accuracy
    assert fast.iterations == plain.iterations
    np.testing.assert_allclose(fast.residual_history, plain.residual_history, rtol=1e-6)


def test_conjugate_gradients_take_fewer_products() -> None:
    jacobian, _, sketched, rhs = make_system(0, n=12, size=48)
    conjugate, paper = (solve_sketched(jacobian, sketched, rhs, method=method) for method in METHODS)
    assert conjugate.iterations <= 12 + 4
    assert conjugate.products < paper.products / 2


@pytest.mark.parametrize("method", METHODS)
def test_a_distorted_sketch_changes_the_speed_and_not_the_answer(method: Method) -> None:
    jacobian, J, sketched, rhs = make_system(1)
    distorted = sketched * np.array([1, 1.1, 1, 1.2, 1, 1.1])
    expected = reference.solve_exact(J @ J.T, rhs)
    good, poor = (solve_sketched(jacobian, s, rhs, method=method) for s in (sketched, distorted))
    np.testing.assert_allclose(poor.solution, expected, rtol=1e-9)
    if method == "paper":
        assert poor.iterations > good.iterations


def test_one_data_point_is_solved_in_one_step() -> None:
    jacobian, J, sketched, rhs = make_system(0, n=1)
    solution = solve_sketched(jacobian, sketched, rhs)
    assert (solution.iterations, solution.products) == (1, 2)
    np.testing.assert_allclose(solution.solution, rhs / (J @ J.T)[0, 0], rtol=1e-12)


@dataclass
class GivenProducts:
    """Rows of a Jacobian whose products with ``G`` are as inexact as a test wants them."""

    multiply_gram: Callable[[FloatArray], FloatArray]
    trace: float = 1.0
    longest_sum: int = 1
    n: int = 1
    product_work: int = 0


def one_too_long(factor: float) -> GivenProducts:
    """Make ``G = 1`` whose product in a step is too long: the fresh residual is ``1 - 1 / factor`` of the last."""
    factors = itertools.cycle([factor, 1.0])
    return GivenProducts(lambda g: next(factors) * g)


def test_fresh_residuals_may_halve_and_not_do_worse() -> None:
    solution = solve_sketched(one_too_long(2.0), [[1.0]], [1.0])
    assert (solution.iterations, solution.products) == (44, 88)  # 2^-44 < 1e-13
    assert solution.solution == 1 - 2.0**-44
    with pytest.raises(InputError, match="rounding errors stop the iteration at residual 6"):
        solve_sketched(one_too_long(2.5), [[1.0]], [1.0])
    assert solve_sketched(one_too_long(4.0), [[1.0]], [1.0], accuracy=0.75).iterations == 1


def three(longest_sum: int) -> GivenProducts:
    """Make ``G = 3`` which reads its factor to 40 bits: the residual of 1/3 is +-2^-41 or 2^-40, never less."""

    def product(g: FloatArray) -> FloatArray:
        mantissa, exponent = np.frexp(g)
        return 3 * np.ldexp(np.round(mantissa * 2.0**40), exponent - 40)

    return GivenProducts(product, trace=3.0, longest_sum=longest_sum)


def test_roundings_of_a_long_sum_end_the_iteration_and_more_than_that_is_an_error() -> None:
    # 4 u ||g|| trace(G) is just below 2^-51: the floor passes 2^-40 after 2^22 terms, or 2^11 that all fall one way.
    last = solve_sketched(three(2**11 + 1), [[2.0]], [1.0])
    assert (last.iterations, last.residual_history[-1]) == (2, 2.0**-40)
    assert solve_sketched(three(2**22 + 1), [[2.0]], [1.0]).iterations == 1
    with pytest.raises(InputError, match="rounding errors stop the iteration"):
        solve_sketched(three(2**11), [[2.0]], [1.0])


def test_the_recurrence_goes_on_to_half_the_accuracy() -> None:
    # The first step leaves (1, -1) / 4 of (1, 1).
    rows = GivenProducts(lambda g: np.array([3.0, 5.0]) * g, trace=8.0, n=2)
    taken = [solve_sketched(rows, np.eye(2), [1.0, 1.0], accuracy=a).iterations for a in (0.5, 0.499, 0.3)]
    assert taken == [1, 2, 2]


def test_the_diagonal_is_taken_off_before_conjugate_gradients() -> None:
    solution = solve_conjugate(np.diag([1.0, 100.0, 1e6]), [3.0, 1e9, 2.0])
    assert (solution.iterations, solution.products, len(solution.residual_history)) == (1, 2, 2)
    np.testing.assert_allclose(solution.solution, [3.0, 1e7, 2e-6], rtol=1e-14)


def test_preconditioner_equals_the_reference_up_to_signs() -> None:
    _, _, sketched, _ = make_system(0)
    np.testing.assert_allclose(
        np.abs(preconditioner(sketched)), np.abs(reference.preconditioner(sketched)), rtol=1e-9
    )


def test_both_sides_draw_the_line_to_singular_at_the_same_condition() -> None:
    limit = reference.condition_limit(2)
    assert np.isfinite(solve_cholesky(np.diag([1.0, 1.01 / limit]), [1.0, 1.0])).all()
    assert preconditioner(np.diag([1.0, (1.01 / limit) ** 0.5])).shape == (2, 2)
    for call in (
        lambda: solve_cholesky(np.diag([1.0, 0.99 / limit]), [1.0, 1.0]),
        lambda: preconditioner(np.diag([1.0, (0.99 / limit) ** 0.5])),
    ):
        with pytest.raises(SingularGramError, match=r"condition number 2\.3e\+15.*drop near-duplicates"):
            call()


@pytest.mark.parametrize(
    "call",
    [
        lambda: solve_cholesky(np.diag([1.0, 1.0, 1.0, 2.0**-50]), np.ones(4)),
        lambda: solve_conjugate(np.diag([2.0**51 - 1, 1.0]), [0.0, 1.0]),
        lambda: preconditioner(np.diag([1.0, 1e-200])),  # its square is 0
    ],
)
def test_a_condition_at_the_limit_and_an_infinite_one_are_singular(call: Callable[[], object]) -> None:
    with pytest.raises(SingularGramError):
        call()


def test_work_counts_factor_products_and_triangular_solves() -> None:
    jacobian, _, sketched, rhs = make_system(0)
    solution = solve_sketched(jacobian, sketched, rhs)
    per_product = 2 * len(jacobian.fired) * 3 + 36
    assert solution.work == 2 * sketched.size * 6 + solution.products * per_product
    assert solution.products >= solution.iterations + 1


def test_nothing_to_solve_takes_no_step() -> None:
    jacobian, _, sketched, rhs = make_system(0)
    solution = solve_sketched(jacobian, sketched, 0 * rhs)
    assert (solution.iterations, solution.products, solution.solution.any()) == (0, 0, False)


def test_an_accuracy_below_rounding_stops_at_the_floor() -> None:
    jacobian, J, sketched, rhs = make_system(0, angle=1e-3)
    solution = solve_sketched(jacobian, sketched, rhs, accuracy=1e-30)
    assert solution.residual_history[-1] <= reference.rounding_floor(float(np.sum(J * J)), solution.solution)


def test_rounding_errors_beyond_the_floor_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    jacobian, _, sketched, rhs = make_system(0)
    product = jacobian.matvec
    # A product in single precision: the recurrence does not notice, the fresh residual does.
    monkeypatch.setattr(jacobian, "matvec", lambda V: product(V).astype(np.float32).astype(np.float64))
    with pytest.raises(
        InputError, match=r"rounding errors stop the iteration.*ask for less accuracy"
    ):
        solve_sketched(jacobian, sketched, rhs)


def test_a_hopeless_sketch_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "STEPS_ALLOWED", 20)
    jacobian, _, sketched, rhs = make_system(0)
    with pytest.raises(InputError, match=r"did not converge.*draw a longer sketch"):
        solve_sketched(jacobian, sketched * np.geomspace(1, 100, 6), rhs, method="paper")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda J, s, r: solve_cholesky(np.eye(2), [1.0]), r"pass \(n, n\) and \(n,\)"),
        (lambda J, s, r: solve_cholesky([[np.inf]], [1.0]), "NaN or infinite"),
        (lambda J, s, r: solve_cholesky([[1.0, 2.0], [2.0, 1.0]], [1.0, 1.0]), "not positive definite"),
        (lambda J, s, r: preconditioner(np.zeros((3, 2))), "singular to working precision"),
        (
            lambda J, s, r: solve_sketched(J, s[:5], r),
            "5 rows for 6 data points.*several rows per data point",
        ),
        (lambda J, s, r: solve_sketched(J, s, r[:5]), "all three must be n"),
        (lambda J, s, r: solve_sketched(J, s, r, accuracy=1.0), "between 0 and 1"),
        (lambda J, s, r: solve_sketched(J, s, r, method="newton"), 'pass "conjugate" or "paper"'),
        (lambda J, s, r: solve_sketched(J, s, r * np.nan), "the right-hand side has a NaN or infinite"),
    ],
)
def test_bad_arguments_are_named(call: Callable[..., object], message: str) -> None:
    jacobian, _, sketched, rhs = make_system(0)
    with pytest.raises(InputError, match=message):
        call(jacobian, sketched, rhs)


def positive_matrix(n: int, rng: np.random.Generator, condition: float = 10.0) -> FloatArray:
    basis = np.linalg.qr(rng.standard_normal((n, n)))[0]
    return (basis * np.geomspace(1, condition, n)) @ basis.T


@given(seeds, st.integers(1, 80), st.sampled_from([0.0, 1e-8, 1e-3, 0.1, 1.0]), st.sampled_from([2.0, 1e4, 1e11]))
def test_a_warm_factor_gives_the_same_solution(seed: int, n: int, drift: float, condition: float) -> None:
    """However far the matrix drifts: a few conjugate gradient steps, or a new factor."""
    rng = np.random.default_rng(seed)
    G, warm = positive_matrix(n, rng, condition), WarmCholesky()
    for _ in range(4):
        G = (G + G.T) / 2
        rhs = rng.standard_normal(n)
        expected = np.linalg.solve(G, rhs)
        np.testing.assert_allclose(warm.solve(G, rhs), expected, atol=1e-13 * condition * np.linalg.norm(expected))
        G = G + drift * positive_matrix(n, rng)


def warm_works(*matrices: FloatArray) -> list[int]:
    """Multiply-adds that one warm factor takes for each of some matrices; every solution is checked."""
    rng, warm, counts = np.random.default_rng(0), WarmCholesky(), [0]
    for G in matrices:
        rhs = rng.standard_normal(len(G))
        np.testing.assert_allclose(G @ warm.solve(G, rhs), rhs, atol=1e-12)
        counts.append(warm.work)
    return np.diff(counts).tolist()


def test_a_warm_factor_saves_the_cube() -> None:
    n = 61  # whose cube is no multiple of 3
    same = np.eye(n)
    drifted = np.diag([1.1, 1.15] + [1.0] * (n - 2))
    one_step, factor, far = 1.02 * same, n**3 // 3 + n**2, 3 * same
    # The right-hand side is solved and its residual looked at; then one step for each eigenvalue that has moved.
    expected = [factor, 2 * n**2, 4 * n**2, 6 * n**2, factor, 2 * n**2]
    assert warm_works(same, same, one_step, drifted, far, far) == expected
    assert [most_iterations(n) for n in (1, 24, 35, 36, 156)] == [2, 2, 2, 3, 13]


def test_a_warm_factor_is_given_up_when_two_iterations_are_foreseen_not_to_suffice() -> None:
    n = 24  # the rounding floor is 1e-14 of the right-hand side
    for drift, expected in ((1e-3, 4 * n**2), (3e-3, n**3 // 3 + 3 * n**2)):
        assert warm_works(np.eye(n), (1 + drift) * np.eye(n))[1] == expected


@pytest.mark.parametrize(
    ("G", "direction", "limit"),
    [
        (4 * np.eye(4), np.eye(4), 0.5),  # a quarter to the bit
        (np.array([[4.0, 1.0], [1.0, 1.0]]), np.diag([1.0, 0.0]), 0.1499),  # the inverse has norm 5/3
    ],
)
def test_an_old_factor_is_tried_up_to_a_drift_of_a_quarter(G: FloatArray, direction: FloatArray, limit: float) -> None:
    only_factor = len(G) ** 3 // 3 + len(G) ** 2
    assert warm_works(G, G + limit * direction)[1] != only_factor
    assert warm_works(G, G + 1.001 * limit * direction)[1] == only_factor


def test_a_warm_factor_serves_right_hand_sides_of_any_size() -> None:
    n, warm = 60, WarmCholesky()
    rhs = np.random.default_rng(0).standard_normal(n)
    warm.solve(np.eye(n), rhs)
    for size in (1e-170, 1e170):
        np.testing.assert_allclose(warm.solve(1.02 * np.eye(n), size * rhs), size * rhs / 1.02, rtol=1e-14)
    work = warm.work
    assert not warm.solve(np.eye(n), np.zeros(n)).any()
    assert warm.work - work == 2 * n**2


def test_a_matrix_that_turns_singular_is_not_solved_with_the_old_factor() -> None:
    """Not even when the right-hand side misses the null direction, so that conjugate gradients do not notice."""
    rng = np.random.default_rng(0)
    n = 60
    values, basis = np.linalg.eigh(positive_matrix(n, rng))
    sound = (basis * values) @ basis.T
    values[0] = 0
    singular = (basis * values) @ basis.T
    for rhs in (rng.standard_normal(n), basis[:, -1]):
        warm = WarmCholesky()
        warm.solve((sound + sound.T) / 2, rhs)
        with pytest.raises(SingularGramError):
            warm.solve((singular + singular.T) / 2, rhs)
