"""All pairs at once against one pair at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fast import shifted_ntk as module
from fast.shifted_ntk import COARSE, FINE, double_exponential_rule, joint_firing_probability, shifted_ntk
from reference.notation import InputError
from reference.shifted_ntk import joint_firing_probability as one_pair
from reference.shifted_ntk import shifted_ntk as reference_shifted_ntk
from verify.problems import make, unit_rows

generators = st.integers(0, 2**32 - 1).map(np.random.default_rng)
shifts = st.one_of(st.sampled_from([0.0, 0.49, 0.5, -0.5]), st.floats(1e-6, 6.0), st.floats(-3.0, -0.01))


def test_rule_integrates_polynomials_and_a_flat_singularity() -> None:
    for step in (1 / 24, 1 / 64):
        nodes, weights = double_exponential_rule(step)
        for power in range(6):
            assert weights @ nodes**power == pytest.approx(1 / (power + 1), rel=1e-14)
        # int_0^1 exp(-1 / v) / v^2 dv = 1 / e
        flat = np.exp(-1 / np.maximum(nodes, 1e-3)) / nodes**2
        assert weights @ flat == pytest.approx(1 / math.e, rel=1e-13)


@given(psi=st.floats(0.02, math.pi / 2), shift=shifts)
def test_one_pair_to_relative_accuracy(psi: float, shift: float) -> None:
    x, z = np.array([0.0, 1.0]), np.array([math.sin(2 * psi), -math.cos(2 * psi)])
    expected = one_pair(x, z, shift)
    steep = abs(shift) / math.sin(psi)
    if expected > 1e-280:
        allowance = 1e-13 if steep <= 12 else 1e-10
        found = joint_firing_probability(np.array([psi]), shift)[0]
        assert found == pytest.approx(expected, rel=allowance, abs=0)


@given(
    rng=generators,
    n=st.integers(1, 8),
    d=st.integers(2, 6),
    log_angle=st.floats(-8.0, 0.0),
    turned=st.booleans(),
    shift=shifts,
)
def test_same_as_reference(
    rng: np.random.Generator, n: int, d: int, log_angle: float, turned: bool, shift: float
) -> None:
    X = make("pairs", n, d, rng, angle=10**log_angle).X
    if turned:
        X[::2] *= -1  # nearly opposite pairs
    before = X.copy()
    K, expected = shifted_ntk(X, shift), reference_shifted_ntk(X, shift)
    assert np.array_equal(X, before)
    assert np.array_equal(K, K.T)
    assert np.abs(K - expected).max() <= 1e-13 * K[0, 0]


def test_equal_opposite_and_single_rows() -> None:
    K = shifted_ntk([[0.6, 0.8], [0.6, 0.8], [-0.6, -0.8]], 1.0)
    assert K[0, 1] == pytest.approx(K[0, 0], rel=1e-14)
    assert K[0, 2] == 0.0
    assert shifted_ntk([[1.0]], 0.0) == [[0.5]]
    assert np.array_equal(shifted_ntk(np.eye(2), 1e300), np.zeros((2, 2)))


def test_kernel_of_many_points_is_positive_definite() -> None:
    X = unit_rows(200, 16, np.random.default_rng(3))
    assert np.linalg.eigvalsh(shifted_ntk(X, 2.0))[0] > 0


@pytest.mark.parametrize(
    ("X", "shift", "message"),
    [
        ([[1.0, np.inf]], 1.0, "NaN or infinite entry at index"),
        ([[1.0, 0.0], [0.0, 0.0]], 1.0, "row 1 of X has length 0"),
        ([[3.0, 4.0]], 1.0, "length 5, not 1.*normalize"),
        ([1.0, 0.0], 1.0, "pass an array of 2"),
        ([[1.0]], math.nan, "shift has a NaN"),
    ],
)
def test_bad_input(X: object, shift: float, message: str) -> None:
    with pytest.raises(InputError, match=message):
        shifted_ntk(X, shift)  # type: ignore[arg-type]


@pytest.mark.parametrize(("step", "count"), [(COARSE, 153), (FINE, 409)])
def test_the_rule_has_the_nodes_that_the_cost_speaks_of(step: float, count: int) -> None:
    nodes, weights = double_exponential_rule(step)
    assert nodes.shape == weights.shape == (count,)
    np.testing.assert_allclose(nodes + nodes[::-1], 1, rtol=1e-15)
    np.testing.assert_allclose(weights, weights[::-1], rtol=1e-14)


def test_the_fine_rule_is_for_small_shifts_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[float] = []

    def rule(step: float) -> tuple[np.ndarray, np.ndarray]:
        steps.append(step)
        return double_exponential_rule(step)

    monkeypatch.setattr(module, "double_exponential_rule", rule)
    for shift in (0.0, 1e-9, -1e-9, 0.49, -0.49, 0.5, -0.5, 2.0):
        joint_firing_probability(np.array([0.5]), shift)
    assert steps == [COARSE, FINE, FINE, FINE, FINE, COARSE, COARSE, COARSE]


def test_a_tiny_probability_is_no_floating_point_error() -> None:
    with np.errstate(all="raise"):
        assert 0 < joint_firing_probability(np.array([math.pi / 4]), 20.0)[0] < 1e-170
        assert joint_firing_probability(np.array([0.0, 1e-3]), 1e200).tolist() == [0.0, 0.0]
        assert joint_firing_probability(np.array([0.0]), -1.0)[0] == pytest.approx(math.erf(1 / math.sqrt(2)))
