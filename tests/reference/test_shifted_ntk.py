"""The kernel against its definition: closed forms, high-precision integrals, and networks drawn at random."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reference.gram import gram
from reference.notation import InputError
from reference.shifted_ntk import (
    NODES,
    PIECES,
    _halving_rule,
    check_unit_rows,
    firing_probability,
    joint_firing_probability,
    lambda_min_bounds,
    shifted_ntk,
    theorem_width,
)
from reference.two_layer import initialize
from verify.problems import unit_rows

generators = st.integers(0, 2**32 - 1).map(np.random.default_rng)
shifts = st.one_of(st.just(0.0), st.floats(1e-6, 6.0), st.floats(-3.0, -0.01))


def at_angle(angle: float) -> tuple[np.ndarray, np.ndarray]:
    return np.array([1.0, 0.0]), np.array([math.cos(angle), math.sin(angle)])


def conditional_integral(rho: float, shift: float) -> float:
    """Condition on z_1, unlike the code: P = int_b^oo phi(z) Phi((rho z - b) / sqrt(1 - rho^2)) dz."""
    with mpmath.workdps(60):  # quad's accuracy is absolute, and P goes down to 1e-35
        root = mpmath.sqrt(1 - mpmath.mpf(rho) ** 2)
        turn = max(shift, shift / rho) if rho > 0 else shift  # where Phi's argument changes sign
        cuts = sorted({shift, turn, turn + 1, turn + 4, shift + 2, shift + 14})
        return float(
            mpmath.quad(lambda z: mpmath.npdf(z) * mpmath.ncdf((rho * z - shift) / root), cuts, maxdegree=8)
        )


@pytest.mark.parametrize("shift", [-1.5, 0.0, 0.01, 1.0, 3.0, 6.0])
@pytest.mark.parametrize("rho", [-0.5, 0.0, 0.3, 0.8, 0.99])
def test_joint_probability_by_conditioning_to_relative_accuracy(rho: float, shift: float) -> None:
    probability = joint_firing_probability(*at_angle(math.acos(rho)), shift)
    assert probability == pytest.approx(conditional_integral(rho, shift), rel=2e-13, abs=0)


@given(shift=shifts)
def test_joint_probability_where_it_is_known(shift: float) -> None:
    fires = firing_probability(shift)
    assert joint_firing_probability(*at_angle(0.0), shift) == pytest.approx(fires, rel=1e-13)
    assert joint_firing_probability(*at_angle(math.pi / 2), shift) == pytest.approx(fires**2, rel=1e-13)
    opposite = joint_firing_probability(np.array([1.0, 0.0]), np.array([-1.0, 0.0]), shift)
    assert opposite == pytest.approx(max(0.0, 2 * fires - 1), abs=1e-15)


@given(angle=st.floats(1e-9, math.pi))
def test_without_shift_the_joint_probability_is_an_angle(angle: float) -> None:
    assert joint_firing_probability(*at_angle(angle), 0.0) == pytest.approx(
        (math.pi - angle) / (2 * math.pi), rel=1e-13, abs=1e-16
    )


def test_tiny_probabilities_keep_their_digits() -> None:
    # Nearly opposite points: the leading behaviour is (psi^3 / (pi b^2)) exp(-b^2 / (2 sin^2 psi)).
    shift, psi = 2.0, 0.06
    probability = joint_firing_probability(*at_angle(math.pi - 2 * psi), shift)
    leading = psi**3 / (math.pi * shift**2) * math.exp(-(shift**2) / (2 * math.sin(psi) ** 2))
    assert 1e-250 < probability < 1e-240
    assert probability == pytest.approx(leading, rel=5e-3)


@given(rng=generators, n=st.integers(1, 6), d=st.integers(1, 4), shift=shifts)
@settings(max_examples=25)
def test_kernel_entry_by_entry(rng: np.random.Generator, n: int, d: int, shift: float) -> None:
    X = unit_rows(n, d, rng)
    before = X.copy()
    K = shifted_ntk(X, shift)
    assert np.array_equal(X, before)
    assert np.array_equal(K, K.T)
    for i in range(n):
        assert K[i, i] == pytest.approx(math.erfc(shift / math.sqrt(2)) / 2, rel=1e-14)
        for j in range(i):
            expected = (X[i] @ X[j]) * joint_firing_probability(X[i], X[j], shift)
            assert K[i, j] == pytest.approx(expected, rel=1e-12, abs=1e-15)
    assert np.linalg.eigvalsh(K)[0] >= -1e-14 * n


def test_equal_and_opposite_rows_are_allowed() -> None:
    K = shifted_ntk([[0.6, 0.8], [0.6, 0.8], [-0.6, -0.8]], 1.0)
    assert K[0, 1] == pytest.approx(K[0, 0], rel=1e-14)
    assert K[0, 2] == 0.0


def test_rows_are_taken_by_direction() -> None:
    X = unit_rows(3, 4, np.random.default_rng(0))
    stretched = X * np.array([[1 + 9e-7], [1.0], [1 - 9e-7]])
    assert np.abs(shifted_ntk(stretched, 1.5) - shifted_ntk(X, 1.5)).max() < 1e-15


def test_shift_beyond_float64_gives_zero_not_nan() -> None:
    assert np.array_equal(shifted_ntk(np.eye(2), 1e300), np.zeros((2, 2)))


@pytest.mark.parametrize("shift", [0.0, 1.0, -0.5])
def test_gram_of_a_wide_network_is_near(shift: float) -> None:
    rng = np.random.default_rng(7)
    X = np.concatenate([unit_rows(4, 3, rng), [[1.0, 0.0, 0.0], [math.cos(0.2), math.sin(0.2), 0.0]]])
    width = 40_000
    K, G = shifted_ntk(X, shift), gram(initialize(width, 3, shift=shift, rng=rng), X)
    assert np.abs(G - K).max() < 5 * math.sqrt(0.25 / width)  # five standard deviations of a share


def test_bounds_and_width_by_hand() -> None:
    low, high = lambda_min_bounds(math.sqrt(2 * math.log(2)), 0.5, 5)
    assert (low, high) == pytest.approx((0.5 * 0.5 / 2500, 0.5), rel=1e-14)
    assert lambda_min_bounds(0.0, math.inf, 1) == (math.sqrt(2) / 100, 1.0)
    assert theorem_width(0.5, 10, 1, 0.1) == 160_000
    # The second term, with failure = 32 / e^4: 2^2 100 log(16 2 e^4 / 32) = 400 * 4.
    assert theorem_width(1.0, 2, 100, 32 / math.exp(4)) == pytest.approx(1600, rel=1e-14)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        ([[1.0, np.nan]], "^X has a NaN or infinite entry at index"),
        ([[1.0, 0.0], [0.0, 1.5]], "^row 1 of X has length 1.5, not 1"),
        ([[1.0, 0.0], [0.0, 0.0]], r"row 1 of X has length 0, not 1; drop zero rows"),
        ([[3.0, 4.0]], r"length 5, not 1.*normalize"),
        ([1.0, 0.0], r"^X has shape \(2,\)"),
    ],
)
def test_bad_rows(X: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        shifted_ntk(X, 1.0)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=message):
        check_unit_rows(X)  # type: ignore[arg-type]


@pytest.mark.parametrize("shift", [math.nan, math.inf])
def test_bad_shift(shift: float) -> None:
    with pytest.raises(InputError, match="shift has a NaN or infinite entry"):
        shifted_ntk([[1.0]], shift)
    with pytest.raises(InputError, match="pass a finite shift >= 0"):
        lambda_min_bounds(shift, 1.0, 2)


@pytest.mark.parametrize(("shift", "separation", "n"), [(-1.0, 1.0, 2), (1.0, 0.0, 2), (1.0, 1.0, 0)])
def test_bounds_need_separated_data(shift: float, separation: float, n: int) -> None:
    with pytest.raises(InputError, match="separation of distinct rows"):
        lambda_min_bounds(shift, separation, n)


def test_width_needs_a_positive_eigenvalue_and_sizes() -> None:
    with pytest.raises(InputError, match="drop equal or opposite rows of X"):
        theorem_width(0.0, 2, 2, 0.1)
    for n, d, failure in ((0, 1, 0.1), (1, 0, 0.1), (1, 1, 0.0), (1, 1, 1.0)):
        with pytest.raises(InputError, match="0 < failure < 1"):
            theorem_width(0.1, n, d, failure)


def test_arguments_at_their_bounds_are_taken() -> None:
    assert lambda_min_bounds(0.0, 1e-9, 1) == (pytest.approx(1e-11), 1.0)
    assert theorem_width(1.0, 1, 1, 0.5) == pytest.approx(math.log(32))
    assert theorem_width(1e-300, 2, 1, 0.5) == math.inf
    for eigenvalue in (math.nan, math.inf, -1.0):
        with pytest.raises(InputError, match="the theorem needs a positive one"):
            theorem_width(eigenvalue, 2, 2, 0.1)
    check_unit_rows([[1 + 0.9e-6, 0.0], [0.0, 1 - 0.9e-6]])


def test_the_rule_integrates_powers_down_to_tiny_arguments() -> None:
    nodes, weights = _halving_rule()  # made anew, so that a change of it is met here and not before all tests
    assert nodes.shape == weights.shape == (PIECES * NODES,)
    assert 0 < nodes.min() < 2.0**-PIECES * 1.01
    assert nodes.max() < 1
    for power in (0, 1, 2, 50, 127):
        assert weights @ nodes**power == pytest.approx(1 / (power + 1), rel=1e-13)


def test_a_tiny_probability_is_no_floating_point_error() -> None:
    with np.errstate(all="raise"):
        assert 0 < joint_firing_probability(*at_angle(math.pi / 2), 20.0) < 1e-170
