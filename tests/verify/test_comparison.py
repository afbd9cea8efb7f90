"""Comparing two runs: errors by hand, runs that stop, weights of any number of layers."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from reference.multi_layer import MultiLayerNetwork
from reference.notation import DivergenceError
from reference.trace import Trace
from verify import comparison


def test_relative_error_by_hand() -> None:
    ones = np.ones(3)
    assert comparison.relative_error(ones + np.array([0, 2e-7, 0]), ones) == pytest.approx(2.0, rel=1e-6)
    assert comparison.relative_error(ones, np.ones(4)) == comparison.UNEQUAL
    assert comparison.relative_error(ones, np.zeros(3)) == comparison.UNEQUAL
    assert comparison.relative_error(np.zeros(3), np.zeros(3)) == 0
    broken = np.array([1.0, np.nan, 1.0])
    assert comparison.relative_error(ones, broken) == comparison.relative_error(broken, ones) == comparison.UNEQUAL


@pytest.mark.parametrize("errors", [[math.nan, 0.5], [0.5, math.nan], [0.5, math.inf]])
def test_no_error_that_is_not_finite_hides_behind_another(errors: list[float]) -> None:
    assert comparison.largest(errors) == comparison.UNEQUAL


def test_the_largest_of_nothing_is_no_error_of_0() -> None:
    with pytest.raises(ValueError, match="zero-size"):
        comparison.largest([])


def stopped(*residuals: float) -> comparison.Stopped:
    return comparison.Stopped("DivergenceError", np.array(residuals))


def test_runs_that_diverge_are_compared_up_to_there() -> None:
    unseen = np.eye(2)
    assert set(comparison.run_errors(stopped(1.0, 9.0), stopped(1.0, 9.0), unseen).values()) == {0.0}
    errors = comparison.run_errors(stopped(1.0, 9.0), stopped(1.0, 9.0 + 1.8e-6), unseen)
    assert errors["residuals"] == pytest.approx(2.0, rel=1e-6)
    longer = comparison.run_errors(stopped(1.0, 9.0, 8.0), stopped(1.0, 9.0), unseen)
    assert longer["residuals"] == comparison.UNEQUAL


def test_an_error_is_noted_with_its_residuals() -> None:
    attempted = comparison.attempt(raising(DivergenceError("training diverged", np.array([1.0, 1e4]))))
    assert isinstance(attempted, comparison.Stopped)
    assert (attempted.error, attempted.residual_norms.tolist()) == ("DivergenceError", [1.0, 1e4])


def raising(error: Exception) -> Callable[[], Trace]:
    def train() -> Trace:
        raise error

    return train


def trace(*weights: np.ndarray) -> Trace:
    network = MultiLayerNetwork(weights, np.ones(3), 0.0)
    return Trace(network, np.ones(2), np.ones(2), False, [])


def test_every_layer_counts_by_its_own_scale() -> None:
    first, second = 100 * np.ones((3, 2)), np.eye(3)
    moved = second.copy()
    moved[1, 2] = 3e-7
    errors = comparison.run_errors(trace(first, moved), trace(first, second), np.eye(2))
    assert errors["dense weights"] == pytest.approx(3.0, rel=1e-6)
    assert errors["residuals"] == errors["training predictions"] == 0
    fewer = comparison.run_errors(trace(first), trace(first, second), np.eye(2))
    assert set(fewer.values()) == {comparison.UNEQUAL}


def test_rows_that_moved() -> None:
    start, clear = np.zeros((3, 2)), np.array([True, True, False])
    moved = np.array([[0.0, 1e-300], [0.0, 0.0], [1.0, 0.0]])
    assert comparison.moved_alike(moved, moved, start, clear)
    assert not comparison.moved_alike(moved, start, start, clear)
    assert comparison.moved_alike(moved, moved * [[1], [1], [0]], start, clear)
