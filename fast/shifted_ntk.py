"""The shifted neural tangent kernel, all pairs of data points at once.

Mathematics (see `reference.shifted_ntk`)::

    K[i, j] = <x_i, x_j> P,    P = P(|z| <= -b) + (1 / pi) int_0^psi exp(-b^2 / (2 sin^2 v)) dv

with ``psi = arctan(||x_i + x_j|| / ||x_i - x_j||)``. The angle is all that distinguishes one pair from
another, so one rule on (0, 1), scaled by ``psi``, serves them all. It is the double-exponential rule of
Takahasi and Mori (1974), the trapezoidal rule after ``v = psi / (1 + exp(-pi sinh t))``: it converges
exponentially although the integrand has an essential singularity at 0, which a plain Gauss rule feels when
``b`` is small. (The reference cuts the interval instead; the two share no nodes.)

Accuracy: that of the reference, relative error of ``P`` below 1e-13 while ``|b| / sin(psi) <= 12``, and below
2e-12 down to ``P = 1e-280``, also for nearly equal and nearly opposite points.

Cost: ``n^2 / 2`` pairs times 153 nodes (409 when ``0 < |b| < 1/2``), vectorized over the pairs; memory a few
times ``n^2``.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial.distance import cdist, pdist
from scipy.special import erf, ndtr

from reference.notation import FloatArray, as_float_array
from reference.shifted_ntk import check_unit_rows

COARSE, FINE = 1 / 24, 1 / 64
"""Steps of the trapezoidal rule; the fine one where the singularity matters, ``0 < |b| < SMALL_SHIFT``."""
SMALL_SHIFT = 0.5
LAST = 3.2
"""Range of ``t``: beyond it the weights are below 1e-16 of their sum."""
SMALLEST_SINE = 1e-100
"""Stands in for sin(0), at opposite points only; far below the sine of any other node."""


def double_exponential_rule(step: float) -> tuple[FloatArray, FloatArray]:
    """Make the nodes and weights of the double-exponential rule on (0, 1).

    Parameters
    ----------
    step : float
        Distance of neighbouring ``t``.

    Returns
    -------
    nodes, weights : ndarray (q,)

    Examples
    --------
    >>> nodes, weights = double_exponential_rule(1 / 24)
    >>> round(float(weights @ np.log(nodes)), 12)  # a singularity at 0 does no harm
    -1.0
    """
    last = int(LAST / step)
    t = step * np.arange(-last, last + 1)
    odds = np.exp(-math.pi * np.sinh(t))
    nodes = 1 / (1 + odds)
    weights = step * math.pi * np.cosh(t) * odds * nodes**2
    return nodes, weights


def joint_firing_probability(psi: FloatArray, shift: float) -> FloatArray:
    """Compute ``P`` for each angle.

    Parameters
    ----------
    psi : ndarray (p,)
        Half of (pi minus the angle of the pair); 0 for opposite, pi / 2 for equal points.
    shift : float
        ``b``.

    Returns
    -------
    ndarray (p,)

    Examples
    --------
    >>> joint_firing_probability(np.array([0.0, np.pi / 4, np.pi / 2]), 0.0)
    array([0.  , 0.25, 0.5 ])
    """
    nodes, weights = double_exponential_rule(FINE if 0 < abs(shift) < SMALL_SHIFT else COARSE)
    integral = np.zeros_like(psi)
    with np.errstate(under="ignore", over="ignore"):  # exp(-inf) = 0 is the answer to rounding
        for node, weight in zip(nodes, weights, strict=True):
            sine = np.maximum(np.sin(psi * node), SMALLEST_SINE)
            integral += weight * np.exp(-((shift / sine) ** 2) / 2)
        probability: FloatArray = max(0.0, float(erf(-shift / math.sqrt(2)))) + psi * integral / math.pi
    return probability


def shifted_ntk(X: ArrayLike, shift: float) -> FloatArray:
    """Compute the shifted NTK ``K[i, j] = <x_i, x_j> P(z_1 >= b, z_2 >= b)``.

    Parameters
    ----------
    X : array_like (n, d)
        Unit rows; equal and opposite rows are allowed, ``K`` is then singular.
    shift : float
        ``b``; any finite number.

    Returns
    -------
    ndarray (n, n)
        Symmetric; the diagonal is ``Phi(-b)``.

    Raises
    ------
    InputError
        NaN or infinite entries, rows not of unit length.

    Examples
    --------
    >>> shifted_ntk([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]], 0.0)
    array([[0.5, 0. , 0. ],
           [0. , 0.5, 0. ],
           [0. , 0. , 0.5]])
    """
    rows = check_unit_rows(X)
    shift = float(as_float_array("shift", shift, 0))
    n = len(rows)
    pair = np.triu_indices(n, 1)  # the order of pdist
    # From sums and differences of rows: an arc cosine loses half the digits for close pairs.
    psi = np.arctan2(cdist(rows, -rows)[pair], pdist(rows))
    K = np.zeros((n, n))
    K[pair] = (rows @ rows.T)[pair] * joint_firing_probability(psi, shift)
    K += K.T
    np.fill_diagonal(K, ndtr(-shift))
    return K
