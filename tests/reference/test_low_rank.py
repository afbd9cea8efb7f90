from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import ArrayLike

from reference.low_rank import EagerWeights
from reference.notation import InputError
from verify.strategies import generators


@given(generators, st.integers(1, 4), st.integers(1, 5), st.integers(1, 3))
def test_updates_and_products_follow_the_definition_entry_by_entry(
    rng: np.random.Generator, p: int, q: int, k: int
) -> None:
    initial, left, right = rng.standard_normal((p, q)), rng.standard_normal((k, p)), rng.standard_normal((k, q))
    H, P = rng.standard_normal((2, q)), rng.standard_normal((2, p))
    weights = EagerWeights(initial)
    weights.add(left, right)
    W = [[initial[r, s] + math.fsum(left[:, r] * right[:, s]) for s in range(q)] for r in range(p)]
    np.testing.assert_allclose(weights.to_dense(), W, atol=1e-14)
    for i in range(2):
        for r in range(p):
            assert weights.multiply(H)[i, r] == pytest.approx(math.fsum(W[r] * H[i]), abs=1e-13)
        for s in range(q):
            assert weights.multiply_transposed(P)[i, s] == pytest.approx(
                math.fsum(W[r][s] * P[i, r] for r in range(p)), abs=1e-13
            )


def test_the_start_is_copied_and_so_is_the_answer() -> None:
    initial = np.eye(2)
    weights = EagerWeights(initial)
    weights.add([[1.0, 1.0]], [[1.0, 1.0]])
    weights.to_dense()[:] = 7
    np.testing.assert_array_equal(initial, np.eye(2))
    np.testing.assert_array_equal(weights.matrix, [[2.0, 1.0], [1.0, 2.0]])


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match=r"pass \(k, 2\) and \(k, 2\)"):
        EagerWeights(np.eye(2)).add([[1.0, 1.0]], [[1.0, 1.0, 1.0]])


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ([[1.0, 1.0, 1.0]], [[1.0, 1.0]]),
        ([[1.0, 1.0]], [[1.0, 1.0, 1.0]]),
        ([[1.0, 1.0]], [[1.0, 1.0], [1.0, 1.0]]),
    ],
)
def test_one_shape_that_does_not_fit_is_enough(left: list[list[float]], right: list[list[float]]) -> None:
    with pytest.raises(InputError, match=r"pass \(k, 2\) and \(k, 2\) with the same k"):
        EagerWeights(np.eye(2)).add(left, right)


@pytest.mark.parametrize("bad", [[1.0, 1.0], [[np.nan, 1.0]]], ids=["a vector", "NaN"])
def test_the_message_names_the_matrix(bad: ArrayLike) -> None:
    weights, good = EagerWeights(np.eye(2)), [[1.0, 1.0]]
    calls: list[tuple[str, Callable[[], object]]] = [
        ("initial", lambda: EagerWeights(bad)),
        ("left", lambda: weights.add(bad, good)),
        ("right", lambda: weights.add(good, bad)),
        ("H", lambda: weights.multiply(bad)),
        ("P", lambda: weights.multiply_transposed(bad)),
    ]
    for name, call in calls:
        with pytest.raises(InputError, match=f"^{name} has "):
            call()
