"""Every tolerance of the harness, derived once and never typed at the place of use.

Each is a count of roundings times the unit roundoff ``eps = 2^-53``, times the condition that amplifies them, times
``SAFETY``. Comparisons report their error as a fraction of the bound.
"""

from __future__ import annotations

import math

from reference.notation import UNIT_ROUNDOFF

SAFETY = 64
"""Covers the constants that the bounds below leave out."""

RUN = 1e-7
"""Largest relative difference of two whole runs that agree (the project's stated requirement)."""


def kink_band(weight_norm: float, point_norm: float, shift: float) -> float:
    """Return how close ``<w, x>`` may be to ``b`` for two correct codes to disagree on whether the neuron fires.

    An inner product is rounded by at most about ``eps |w| |x|``, and the comparison sees that beside ``|b|``.
    """
    return SAFETY * 2 * UNIT_ROUNDOFF * (weight_norm * point_norm + abs(shift))


def one_step(condition: float, scale: float) -> float:
    """Bound the difference of predictions after one step from the same state: ``64 eps kappa(G)`` times the scale."""
    return SAFETY * 2 * UNIT_ROUNDOFF * condition * scale


def matrix_product(terms: int, scale: float) -> float:
    """Bound the difference of two sums of ``terms`` products whose magnitudes sum to ``scale``."""
    return SAFETY * UNIT_ROUNDOFF * math.sqrt(max(terms, 1)) * scale
