"""Tolerances: above the rounding errors that do occur, measured exactly, and not far above."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from reference.gram import gram
from reference.two_layer import initialize
from verify import problems, tolerances
from verify.strategies import generators


def exact_product(w: np.ndarray, x: np.ndarray) -> Fraction:
    return sum((Fraction(a) * Fraction(b) for a, b in zip(w.tolist(), x.tolist(), strict=True)), Fraction(0))


@given(st.integers(1, 64), st.floats(1e-3, 1e3), generators)
def test_the_kink_band_covers_the_rounding_of_an_inner_product(d: int, scale: float, rng: np.random.Generator) -> None:
    w, x = scale * rng.standard_normal(d), rng.standard_normal(d)
    error = abs(Fraction(float(w @ x)) - exact_product(w, x))
    band = tolerances.kink_band(float(np.linalg.norm(w)), float(np.linalg.norm(x)), 0.0)
    assert error <= band
    # Nor is it so wide that it would excuse a wrong pattern.
    assert band <= 1e-13 * np.linalg.norm(w) * np.linalg.norm(x)


@given(st.integers(1, 500), generators)
def test_matrix_product_covers_the_rounding_of_a_sum(terms: int, rng: np.random.Generator) -> None:
    a, b = rng.standard_normal(terms), rng.standard_normal(terms)
    forwards = float(np.sum(a * b))
    backwards = float(np.cumsum((a * b)[::-1])[-1])
    allowed = tolerances.matrix_product(terms, float(np.abs(a * b).sum()))
    assert abs(forwards - backwards) <= allowed
    assert abs(Fraction(forwards) - exact_product(a, b)) <= allowed


@given(st.sampled_from(["random", "pairs", "clash"]), generators)
def test_one_step_covers_two_ways_to_solve(family: str, rng: np.random.Generator) -> None:
    problem = problems.make(family, 8, 6, rng)
    network = initialize(2000, 6, shift=0.5, rng=rng)
    G, residual = gram(network, problem.X), network.predict(problem.X) - problem.y
    solved, inverted = np.linalg.solve(G, residual), np.linalg.inv(G) @ residual
    bound = tolerances.one_step(float(np.linalg.cond(G)), float(np.abs(residual).max()))
    assert np.abs(G @ (solved - inverted)).max() <= bound
    assert bound < 1e-9


def test_tolerances_by_hand() -> None:
    eps = 2.0**-53
    assert tolerances.kink_band(2.0, 3.0, -4.0) == 64 * 2 * eps * 10
    assert tolerances.one_step(10.0, 2.0) == 64 * 2 * eps * 20
    assert tolerances.matrix_product(9, 2.0) == 64 * eps * 3 * 2
    assert tolerances.matrix_product(0, 2.0) == tolerances.matrix_product(1, 2.0)
    assert tolerances.RUN == 1e-7
