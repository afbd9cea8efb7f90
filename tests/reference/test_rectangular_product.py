"""The schoolbook product: every entry from its definition, and the count of what it multiplies."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference.notation import InputError
from reference.rectangular_product import multiplications, multiply
from verify.strategies import generators

sizes = st.integers(1, 9)


@given(sizes, sizes, sizes, generators)
def test_every_entry_is_the_sum_that_defines_it(p: int, q: int, r: int, rng: np.random.Generator) -> None:
    A, B = rng.integers(-99, 100, (p, q)), rng.integers(-99, 100, (q, r))
    C = multiply(A, B)
    assert C.shape == (p, r)
    for i in range(p):
        for j in range(r):
            assert C[i, j] == sum(int(A[i, k]) * int(B[k, j]) for k in range(q))


@given(sizes, sizes, sizes)
def test_the_count_is_one_for_each_term(p: int, q: int, r: int) -> None:
    assert multiplications(p, q, r) == sum(1 for _ in np.ndindex(p, q, r))


def test_inputs_stay_as_they_are_and_the_result_is_new() -> None:
    A, B = np.arange(6.0).reshape(2, 3), np.arange(3.0).reshape(3, 1)
    A.flags.writeable = B.flags.writeable = False
    np.testing.assert_array_equal(multiply(A, B), [[5.0], [14.0]])
    np.testing.assert_array_equal(A, np.arange(6.0).reshape(2, 3))


@pytest.mark.parametrize(
    ("A", "B", "words"),
    [
        (np.ones((2, 3)), np.ones((2, 3)), "A has 3 columns but B has 2 rows"),
        (np.ones(3), np.ones((3, 1)), "A has shape"),
        (np.ones((3, 1)), np.ones(3), "B has shape"),
        (np.ones((1, 2)), [[np.nan], [1.0]], "B has a NaN or infinite entry"),
        (np.ones((0, 2)), np.ones((2, 2)), "A is empty"),
    ],
)
def test_bad_matrices_are_refused(A: object, B: object, words: str) -> None:
    with pytest.raises(InputError, match=words):
        multiply(A, B)


@pytest.mark.parametrize(("size", "words"), [(0, "q is 0"), (1.5, "q is 1.5"), (True, "q is True")])
def test_bad_sizes_are_refused(size: object, words: str) -> None:
    with pytest.raises(InputError, match=words):
        multiplications(2, size, 3)


def test_sizes_may_be_numpy_s_and_each_is_named() -> None:
    assert type(multiplications(np.int64(2), np.int64(3), np.int64(4))) is int
    for name, sizes in (("p", (0, 1, 1)), ("q", (1, 0, 1)), ("r", (1, 1, 0))):
        with pytest.raises(InputError, match=f"^{name} is 0; pass a whole number"):
            multiplications(*sizes)
