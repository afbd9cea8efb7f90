from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference.notation import InputError
from verify.problems import ANGLES, make, rotate_towards, unit_rows
from verify.strategies import generators

FAMILIES = ["random", *ANGLES]


def angle_between(x: np.ndarray, z: np.ndarray) -> float:
    """Measure an angle without the arccosine, which loses half the digits of small ones."""
    return 2 * math.atan2(float(np.linalg.norm(x - z)), float(np.linalg.norm(x + z)))


@given(st.sampled_from(FAMILIES), st.integers(1, 9), st.integers(2, 6), generators)
def test_every_family_has_unit_inputs_and_signs_as_labels(
    family: str, n: int, d: int, rng: np.random.Generator
) -> None:
    problem = make(family, n, d, rng)
    assert problem.X.shape == problem.unseen.shape == (n, d)
    assert problem.y.shape == (n,)
    assert set(problem.y) <= {-1.0, 1.0}
    for points in (problem.X, problem.unseen):
        np.testing.assert_allclose(np.linalg.norm(points, axis=1), 1, rtol=1e-14)
    assert not np.isin(problem.unseen[:, 0], problem.X[:, 0]).any()


@given(st.sampled_from(sorted(ANGLES)), st.integers(2, 9), generators, st.none() | st.floats(0.01, 1.5))
def test_pairs_are_at_their_angle(family: str, n: int, rng: np.random.Generator, angle: float | None) -> None:
    problem = make(family, n, 4, rng, angle=angle)
    for first in range(0, n - 1, 2):
        found = angle_between(problem.X[first], problem.X[first + 1])
        assert found == pytest.approx(ANGLES[family] if angle is None else angle, abs=1e-13)
        if family == "twins":
            assert problem.y[first] == problem.y[first + 1]


def test_the_angles_are_the_stated_ones() -> None:
    assert ANGLES == {"pairs": 0.3, "twins": 0.1, "clash": 0.1}


def test_labels_are_fair_and_those_of_a_clash_differ_in_half_of_the_pairs() -> None:
    problem = make("clash", 4000, 3, np.random.default_rng(0))
    assert abs(problem.y.mean()) < 0.05
    assert abs((problem.y[::2] != problem.y[1::2]).mean() - 0.5) < 0.05


def test_unit_rows_prefer_no_direction() -> None:
    points = unit_rows(20_000, 3, np.random.default_rng(1))
    np.testing.assert_allclose(points.mean(axis=0), 0, atol=0.02)
    np.testing.assert_allclose(points.T @ points / len(points), np.eye(3) / 3, atol=0.02)


def test_rotation_by_hand() -> None:
    x, away = np.array([[1.0, 0.0]]), np.array([[0.6, 0.8]])
    np.testing.assert_allclose(rotate_towards(x, away, math.pi / 6), [[math.sqrt(3) / 2, 0.5]], rtol=1e-15)
    np.testing.assert_allclose(rotate_towards(x, away, 0.0), x)


def test_the_same_generator_makes_the_same_problem() -> None:
    one, two = (make("pairs", 5, 3, np.random.default_rng(2)) for _ in range(2))
    for name in ("X", "y", "unseen"):
        assert getattr(one, name).tolist() == getattr(two, name).tolist()


@pytest.mark.parametrize(
    ("family", "n", "d", "message"),
    [
        ("triples", 4, 3, "family is 'triples'; pass one of random, pairs, twins, clash"),
        ("random", 0, 3, "n is 0 and d is 3; pass n >= 1 and d >= 2"),
        ("random", 4, 1, "n is 4 and d is 1; pass n >= 1 and d >= 2"),
    ],
)
def test_impossible_problems_are_refused(family: str, n: int, d: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make(family, n, d, np.random.default_rng(0))
