"""Families of synthetic problems, named by what makes them hard (labels are +-1 throughout).

- ``random``: unit inputs drawn uniformly, random labels. Easy: the Gram matrix has a condition number near 1.5.
- ``pairs``: the inputs come in pairs at angle 0.3, random labels.
- ``twins``: pairs at angle 0.1 with equal labels.
- ``clash``: pairs at angle 0.1 with random labels, so about half of the pairs must be torn apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from reference.notation import FloatArray, InputError

Family = Literal["random", "pairs", "twins", "clash"]
ANGLES: dict[str, float] = {"pairs": 0.3, "twins": 0.1, "clash": 0.1}


@dataclass(frozen=True, eq=False)
class Problem:
    """Unit inputs ``X`` (n, d), labels ``y`` (n,), and points ``unseen`` (n, d) that are not trained on."""

    X: FloatArray
    y: FloatArray
    unseen: FloatArray


def unit_rows(n: int, d: int, rng: np.random.Generator) -> FloatArray:
    """Draw ``n`` points uniformly on the unit sphere in ``d`` dimensions."""
    points = rng.standard_normal((n, d))
    rows: FloatArray = points / np.linalg.norm(points, axis=1, keepdims=True)
    return rows


def rotate_towards(x: FloatArray, away: FloatArray, angle: float) -> FloatArray:
    """Rotate each unit row of ``x`` by ``angle`` in the plane that it spans with the same row of ``away``."""
    normal = away - np.sum(away * x, axis=1, keepdims=True) * x
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    rotated: FloatArray = np.cos(angle) * x + np.sin(angle) * normal
    return rotated


def make(family: str, n: int, d: int, rng: np.random.Generator, *, angle: float | None = None) -> Problem:
    """Draw one problem.

    Parameters
    ----------
    family : {"random", "pairs", "twins", "clash"}
        See the module docstring.
    n, d : int
        Data points and input dimension; ``d >= 2``. For odd ``n`` the last point has no partner.
    rng : numpy.random.Generator
        Source of randomness.
    angle : float, optional
        Angle of a pair in radians, in place of the family's own.

    Returns
    -------
    Problem

    Raises
    ------
    InputError
        Unknown family, or ``d < 2``.
    """
    if family != "random" and family not in ANGLES:
        raise InputError(f"family is {family!r}; pass one of random, {', '.join(ANGLES)}")
    if n < 1 or d < 2:
        raise InputError(f"n is {n} and d is {d}; pass n >= 1 and d >= 2")
    y: FloatArray = 2.0 * rng.integers(0, 2, size=n).astype(np.float64) - 1.0
    unseen = unit_rows(n, d, rng)
    if family == "random":
        return Problem(unit_rows(n, d, rng), y, unseen)
    centres = unit_rows((n + 1) // 2, d, rng)
    partners = rotate_towards(centres, unit_rows(len(centres), d, rng), ANGLES[family] if angle is None else angle)
    X = np.stack([centres, partners], axis=1).reshape(-1, d)[:n]
    if family == "twins":
        y = np.repeat(y[: len(centres)], 2)[:n]
    return Problem(X, y, unseen)
