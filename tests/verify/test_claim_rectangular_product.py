"""The claims about the fast rectangular product hold for the project's own, and fail with a planted fault."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from fast.rectangular_product import LEAF, multiplications, multiply
from reference.notation import FloatArray
from verify import seeds
from verify.claims import rectangular_product as claims
from verify.experiment import CodeUnderTest, Finding, Inputs, Profile, Result, Verdict
from verify.faults.rectangular_product import (
    behind_the_counter,
    first_panel_again,
    schoolbook,
    single_precision,
    small_bound,
    vacuous_bound,
    without_strips,
    wrong_block,
)

Results = list[tuple[Inputs, Result]]


def measured(**faults: Callable[..., object]) -> Results:
    """Measure the count at one leaf, the exponent, and one seed of each kind of entries."""
    code = replace(CodeUnderTest(), **faults)
    chosen = [i for i in claims.cells(Profile()) if i.get("seed", 0) == 0 and i.get("leaf", 4) == 4]
    return [(i, claims.measure(i, seeds.generator(0, "rectangular_product", i), code)) for i in chosen]


def findings(**faults: Callable[..., object]) -> dict[str, Finding]:
    found = claims.decide(measured(**faults))
    assert [finding.claim for finding in found] == [claim.id for claim in claims.CLAIMS]
    return {finding.claim.partition(".")[2]: finding for finding in found}


def verdicts(**faults: Callable[..., object]) -> dict[str, Verdict]:
    return {part: finding.verdict for part, finding in findings(**faults).items()}


def not_a_number(A: FloatArray, B: FloatArray, *, leaf: int = 1, product: Callable[..., Any] = np.matmul) -> FloatArray:
    return np.full((len(A), B.shape[1]), np.nan)


def test_every_claim_holds() -> None:
    found = findings()
    assert {finding.verdict for finding in found.values()} == {"holds"}
    assert found["exponent"].estimate == pytest.approx(np.log2(7))
    assert found["count"].estimate == 0
    assert 1e-4 < found["error"].estimate < 1
    assert "largest error was" in found["error"].reason


@pytest.mark.parametrize(
    ("faults", "expected"),
    [
        ({"rectangular_product": schoolbook}, ("fails", "fails", "holds")),
        (
            {"rectangular_product": lambda A, B, leaf=LEAF, **rest: multiply(A, B, leaf=2 * leaf, **rest)},
            ("fails", "fails", "holds"),
        ),
        ({"rectangular_product": behind_the_counter}, ("fails", "holds", "holds")),
        ({"rectangular_product": partial(multiply, leaf=1 << 62)}, ("fails", "holds", "holds")),
        ({"rectangular_multiplications": partial(multiplications, leaf=1 << 62)}, ("fails", "holds", "holds")),
        ({"rectangular_product": wrong_block}, ("holds", "holds", "fails")),
        ({"rectangular_product": first_panel_again}, ("holds", "holds", "fails")),
        ({"rectangular_product": single_precision}, ("holds", "holds", "fails")),
        ({"rectangular_product": not_a_number}, ("fails", "invalid", "fails")),
        ({"rectangular_multiplications": without_strips}, ("fails", "holds", "holds")),
        ({"rectangular_error_bound": small_bound}, ("holds", "holds", "fails")),
        ({"rectangular_error_bound": vacuous_bound}, ("holds", "holds", "fails")),
    ],
    ids=[
        "schoolbook",
        "stops early",
        "multiplies elsewhere",
        "never halves by default",
        "counts no halving by default",
        "wrong block",
        "first panel again",
        "single precision",
        "NaN",
        "wrong count",
        "small bound",
        "vacuous bound",
    ],
)
def test_a_planted_fault_is_caught(faults: dict[str, Callable[..., object]], expected: tuple[Verdict, ...]) -> None:
    assert tuple(verdicts(**faults).values()) == expected


def test_the_domain_has_strips_and_products_without_halving() -> None:
    depths = {claims.halvings(*shape, leaf) for shape in claims.ERROR_SHAPES for leaf in claims.ERROR_LEAVES}
    assert depths == {0, 1, 2, 3, 4} & depths
    assert {0, 1, 2} <= depths
    assert any(claims.theorem(*shape, 12) != claims.theorem(*shape, 64) for shape in claims.ERROR_SHAPES)


@pytest.mark.parametrize("kind", claims.KINDS)
def test_entries_are_whole_numbers_that_float64_holds(kind: str) -> None:
    A, B = claims.draw(kind, 30, 20, 25, np.random.default_rng(0))
    for M in (A, B):
        np.testing.assert_array_equal(M, np.rint(M))
        assert np.abs(M).max() < 2**53
    if kind in ("rows", "inner"):
        axis = 1 if kind == "rows" else 0
        largest = np.abs(A).max(axis=axis)
        assert largest.max() > 2**12 * largest.min()


def test_exact_error_sees_the_last_unit() -> None:
    A, B = claims.draw("normal", 5, 7, 6, np.random.default_rng(1))
    exact = np.array([[sum(int(A[i, k]) * int(B[k, j]) for k in range(7)) for j in range(6)] for i in range(5)])
    rounded = exact.astype(float)
    apart = [abs(int(x) - y) for x, y in zip(rounded.flat, exact.flat, strict=True)]
    assert claims.exact_error(rounded, A, B) == max(apart)


def test_plot_draws_counts_and_errors() -> None:
    figure = Figure()
    claims.plot(figure, measured())
    assert [axes.get_ylabel() for axes in figure.axes] == ["multiplications", "largest error over bound"]


def test_profiles_differ_in_cells_only() -> None:
    ordinary, thorough = (claims.cells(Profile(flag)) for flag in (False, True))
    assert len(thorough) > len(ordinary)
    assert [i for i in ordinary if i["part"] in ("default", "error")] == [i for i in thorough if i in ordinary]
