"""Strassen's product: equal to the schoolbook, with the stated number of multiplications and the stated error."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fast.rectangular_product
from fast.rectangular_product import error_bound, multiplications, multiply
from reference import rectangular_product as reference
from reference.notation import UNIT_ROUNDOFF, FloatArray, InputError
from verify.strategies import generators

sizes = st.one_of(st.integers(1, 40), st.sampled_from([1, 2, 16, 17, 31, 32, 37, 61, 64]))
leaves = st.integers(1, 12)
SHAPES = [
    *itertools.product((1, 2, 3, 8, 13), repeat=3),
    (1, 40, 40),
    (40, 1, 40),
    (61, 7, 53),
    (7, 61, 8),
    (32, 16, 32),
    (37, 41, 43),
]


def whole_numbers(rng: np.random.Generator, *shape: int) -> FloatArray:
    """Draw entries whose products and sums are exact in float64, so that only equality will do."""
    return rng.integers(-1000, 1001, shape).astype(float)


class Scalar:
    """A number that counts the multiplications it takes part in."""

    multiplied = 0

    def __init__(self, value: int) -> None:
        self.value = value

    def __add__(self, other: Scalar) -> Scalar:
        return Scalar(self.value + other.value)

    def __sub__(self, other: Scalar) -> Scalar:
        return Scalar(self.value - other.value)

    def __mul__(self, other: Scalar) -> Scalar:
        Scalar.multiplied += 1
        return Scalar(self.value * other.value)


def scalars(M: FloatArray) -> np.ndarray[Any, Any]:
    return np.array([[Scalar(int(entry)) for entry in row] for row in M], dtype=object)


def exact_error(C: FloatArray, A: FloatArray, B: FloatArray) -> float:
    """Return the largest error of ``C`` as a product of ``A`` and ``B``, by rational arithmetic."""
    left = [[Fraction(x) for x in row] for row in A.tolist()]
    right = [[Fraction(x) for x in column] for column in B.T.tolist()]
    return float(
        max(
            abs(Fraction(C[i, j].item()) - sum(x * y for x, y in zip(row, column, strict=True)))
            for i, row in enumerate(left)
            for j, column in enumerate(right)
        )
    )


def flip_one(broken: int) -> Callable[[np.ufunc, np.ufunc], Callable[..., Any]]:
    """Return a maker of sums of which the one with number ``broken``, of all that are made, has the wrong sign."""
    calls = itertools.count()
    return lambda right, wrong: lambda x, y, out: (wrong if next(calls) == broken else right)(x, y, out=out)


@given(sizes, sizes, sizes, leaves, generators)
def test_it_equals_the_reference(p: int, q: int, r: int, leaf: int, rng: np.random.Generator) -> None:
    A, B = whole_numbers(rng, p, q), whole_numbers(rng, q, r)
    np.testing.assert_array_equal(multiply(A, B, leaf=leaf), reference.multiply(A, B))


@pytest.mark.parametrize("leaf", [1, 3])
def test_the_count_is_exact_for_the_scalars_that_are_multiplied(leaf: int) -> None:
    rng = np.random.default_rng(0)
    for p, q, r in SHAPES:
        A, B = whole_numbers(rng, p, q), whole_numbers(rng, q, r)
        Scalar.multiplied = 0
        depth = fast.rectangular_product._halvings(p, q, r, leaf)
        C = fast.rectangular_product._product(scalars(A), scalars(B), depth, np.matmul)
        assert Scalar.multiplied == multiplications(p, q, r, leaf=leaf), (p, q, r)
        np.testing.assert_array_equal([[entry.value for entry in row] for row in C], A @ B)


@given(sizes, sizes, sizes, leaves)
def test_the_count_is_exact_for_the_leaves_that_are_called(p: int, q: int, r: int, leaf: int) -> None:
    counted = []

    def product(A: FloatArray, B: FloatArray, out: FloatArray) -> None:
        counted.append(A.size * B.shape[1])
        np.matmul(A, B, out=out)

    multiply(np.ones((p, q)), np.ones((q, r)), leaf=leaf, product=product)
    assert sum(counted) == multiplications(p, q, r, leaf=leaf) <= reference.multiplications(p, q, r)
    if min(p, q, r) < 2 * leaf:
        assert len(counted) == 1, "one product, and nothing beside it"


@pytest.mark.parametrize("depth", range(8))
def test_squares_of_a_leaf_times_a_power_of_two_take_seven_to_the_depth_leaves(depth: int) -> None:
    side = 5 << depth
    assert multiplications(side, side, side, leaf=5) == 7**depth * 125


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 500))
def test_little_is_missed_at_the_edges(p: int, q: int, r: int, leaf: int) -> None:
    depth = max((min(p, q, r) // leaf).bit_length() - 1, 0)
    ideal = Fraction(7, 8) ** depth * p * q * r
    assert ideal <= multiplications(p, q, r, leaf=leaf) <= ideal + Fraction(3, leaf) * p * q * r


@given(
    st.integers(1, 17),
    st.integers(1, 17),
    st.integers(1, 17),
    st.integers(1, 6),
    st.sampled_from(["normal", "positive", "rows", "inner", "far", "tiny"]),
    generators,
)
def test_the_error_stays_within_its_bound(
    p: int, q: int, r: int, leaf: int, kind: str, rng: np.random.Generator
) -> None:
    A, B = rng.standard_normal((p, q)), rng.standard_normal((q, r))
    if kind == "positive":
        A, B = np.abs(A), np.abs(B)
    elif kind == "rows":
        A *= 10.0 ** rng.integers(-150, 1, (p, 1))
        B *= 10.0 ** rng.integers(-150, 1, r)
    elif kind == "inner":  # every product is of order 1, but not every entry
        scale = 10.0 ** rng.integers(-8, 9, q)
        A, B = A * scale, B / scale[:, np.newaxis]
    elif kind == "far":
        A *= 10.0 ** rng.integers(-12, 13, (p, q))
    elif kind == "tiny":  # products underflow
        A, B = 1e-160 * A, 1e-161 * B
    assert exact_error(multiply(A, B, leaf=leaf), A, B) <= error_bound(A, B, leaf=leaf)


def test_the_bound_is_the_theorem_for_squares_and_grows_twelvefold() -> None:
    side, leaf = 24, 3
    A = np.ones((side, side))
    theorem = (side / leaf) ** np.log2(12) * (leaf**2 + 5 * leaf) - 5 * side
    # In units of the rounding error: beside it, the absolute tolerance of approx is no tolerance but a hole.
    assert error_bound(A, A, leaf=leaf) / UNIT_ROUNDOFF == pytest.approx(1.01 * theorem, rel=1e-12)
    assert error_bound(A, A, leaf=side) / UNIT_ROUNDOFF == pytest.approx(1.01 * side**2, rel=1e-12)


def test_the_bound_adds_the_strip_of_inner_columns_that_is_multiplied_beside() -> None:
    # Two halvings of 15 inner columns: 12 in blocks of 3, and a strip of 3.
    bound = error_bound(np.ones((8, 15)), np.ones((15, 8)), leaf=2)
    assert bound / UNIT_ROUNDOFF == pytest.approx(1.01 * (12**2 * (3**2 + 5 * 3) - 5 * 12 + 3**2 + 15), rel=1e-12)


@pytest.mark.parametrize("depth", [0, 1, 2, 3])
def test_the_bound_does_not_depend_on_the_outer_sides(depth: int) -> None:
    for q in (8, 13):
        bounds = {error_bound(np.ones((p, q)), np.ones((q, p)), leaf=8 >> depth) for p in (8, 30)}
        assert len(bounds) == 1


@pytest.mark.parametrize("leaf", [2, 4, 8])
def test_any_wrong_sign_exceeds_the_bound(leaf: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    A, B = rng.standard_normal((16, 19)), rng.standard_normal((19, 17))
    add, subtract = np.add, np.subtract
    for broken in range(10):  # each sum of blocks at the top of the recursion
        flipping = flip_one(broken)
        with monkeypatch.context() as patch:
            patch.setattr(fast.rectangular_product.np, "add", flipping(add, subtract))
            patch.setattr(fast.rectangular_product.np, "subtract", flipping(subtract, add))
            C = multiply(A, B, leaf=leaf)
        assert exact_error(C, A, B) > 1e6 * error_bound(A, B, leaf=leaf), broken


def test_one_leaf_in_single_precision_exceeds_the_bound() -> None:
    rng = np.random.default_rng(2)
    A, B = rng.standard_normal((2, 16, 16))
    calls = itertools.count()

    def product(A: FloatArray, B: FloatArray, out: FloatArray) -> None:
        out[:] = (A.astype(np.float32) if next(calls) == 0 else A) @ B

    assert exact_error(multiply(A, B, leaf=8), A, B) <= error_bound(A, B, leaf=8)
    assert exact_error(multiply(A, B, leaf=8, product=product), A, B) > error_bound(A, B, leaf=8)


@given(sizes, sizes, sizes, generators)
def test_any_memory_layout_is_read_and_none_is_written(p: int, q: int, r: int, rng: np.random.Generator) -> None:
    A, B = whole_numbers(rng, p, q), whole_numbers(rng, q, r)
    wide = whole_numbers(rng, 3 * p, 2 * q)
    wide[::3, ::-2] = A
    layouts = [
        (A, B),
        (np.asfortranarray(A), B),
        (A, np.asfortranarray(B)),
        (wide[::3, ::-2], B[:, ::-1][:, ::-1]),
        (A.astype(int), B.astype(np.int16)),
        (A.tolist(), B.tolist()),
    ]
    for left, right in layouts:
        for M in (left, right):
            if isinstance(M, np.ndarray):
                M.flags.writeable = False
        C = multiply(left, right, leaf=2)
        np.testing.assert_array_equal(C, A @ B)
        assert C.flags.c_contiguous
        assert C.flags.writeable


def test_a_matrix_may_be_multiplied_by_its_own_transpose() -> None:
    A = whole_numbers(np.random.default_rng(3), 21, 18)
    np.testing.assert_array_equal(multiply(A, A.T, leaf=3), A @ A.T)


def test_the_strip_reaches_every_panel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast.rectangular_product, "PANEL", 5)
    rng = np.random.default_rng(4)
    A, B = whole_numbers(rng, 26, 13), whole_numbers(rng, 13, 12)
    np.testing.assert_array_equal(multiply(A, B, leaf=3), A @ B)


def test_the_default_leaf_is_plain_blas_below_twice_its_size() -> None:
    calls = []
    side = 2 * fast.rectangular_product.LEAF - 1
    multiply(np.ones((side, 1)), np.ones((1, side)), product=lambda A, B, out: calls.append(A.shape))
    assert calls == [(side, 1)]


@pytest.mark.parametrize(
    ("A", "B", "leaf", "words"),
    [
        (np.ones((2, 3)), np.ones((2, 3)), 1, "A has 3 columns but B has 2 rows"),
        (np.ones(3), np.ones((3, 1)), 1, "A has shape"),
        (np.ones((1, 2)), [[np.inf], [1.0]], 1, "B has a NaN or infinite entry"),
        (np.ones((2, 0)), np.ones((0, 2)), 1, "A is empty"),
        (np.eye(2), np.eye(2), 0, "leaf is 0"),
        (np.eye(2), np.eye(2), 2.0, "leaf is 2.0"),
    ],
)
def test_bad_arguments_are_refused(A: object, B: object, leaf: object, words: str) -> None:
    for routine in (multiply, error_bound):
        with pytest.raises(InputError, match=words):
            routine(A, B, leaf=leaf)


def test_sums_that_overflow_are_refused_and_the_remedy_works() -> None:
    A, B = np.full((4, 4), 1e308), 1e-308 * np.eye(4)
    for left, right in ((A, B), (B, A)):
        with pytest.raises(InputError, match="overflows; rescale them, or pass a leaf above 2"):
            multiply(left, right, leaf=2)
        np.testing.assert_array_equal(multiply(left, right, leaf=3), left @ right)


@pytest.mark.parametrize("sides", list(itertools.permutations((4, 6, 7))))
def test_the_remedy_names_half_of_the_shortest_side(sides: tuple[int, int, int]) -> None:
    p, q, r = sides
    with pytest.raises(InputError, match=r"pass a leaf above 2, which makes no sums of blocks$"):
        multiply(np.full((p, q), 1e308), np.full((q, r), 1e-308), leaf=2)


def test_large_entries_that_do_not_overflow_are_multiplied() -> None:
    A = np.full((4, 4), 2.0**1020)
    np.testing.assert_array_equal(multiply(A, np.eye(4), leaf=2), A)


def test_a_product_that_overflows_is_refused() -> None:
    with pytest.raises(InputError, match=r"overflows; rescale them$"):
        multiply([[1e200]], [[1e200]])


def test_a_bound_beyond_all_floats_is_infinite() -> None:
    assert error_bound([[1e200]], [[1e200]]) == np.inf


@pytest.mark.parametrize(("sizes", "words"), [((0, 1, 1), "p is 0"), ((1, 1.5, 1), "q is 1.5"), ((1, 1, True), "r is")])
def test_bad_sizes_are_refused(sizes: tuple[Any, Any, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        multiplications(*sizes)
