"""The shifted neural tangent kernel: what the Gram matrix tends to as the width grows.

Mathematics. By the law of large numbers over the neurons, at the Gaussian start and at a fixed shift ``b``::

    G[i, j] = <x_i, x_j> (share of neurons that fire on both)  ->  K[i, j] = <x_i, x_j> P

``P = P(z_1 >= b, z_2 >= b)`` with ``z_1 = <w, x_i>``, ``z_2 = <w, x_j>``: standard normal, with correlation
``rho = <x_i, x_j>``. The derivative of ``P`` in ``rho`` is the density at ``(b, b)`` (`verify.symbolic`
proves it), so integrating from ``rho = -1``, where ``z_2 = -z_1``::

    P = P(|z_1| <= -b) + int_{-1}^{rho} exp(-b^2 / (1 + s)) / (2 pi sqrt(1 - s^2)) ds

The first term is 0 unless ``b < 0``. Substituting ``s = -cos 2v`` removes the square root::

    P = P(|z_1| <= -b) + (1 / pi) int_0^psi exp(-b^2 / (2 sin^2 v)) dv,      psi = (pi - angle(x_i, x_j)) / 2

At ``psi = pi / 2`` (equal points) this is ``Phi(-b)`` by the formula of Craig (1991); at ``b = 0`` it is
``psi / pi``; at ``psi = pi / 4`` (orthogonal points, independent ``z``) it is ``Phi(-b)^2``.

Quadrature. The integrand increases in ``v``, so the part below ``psi / 2^53`` is less than 2^-53 of the
whole. The rest is cut at ``psi / 2, psi / 4, ...``; each piece has a Gauss-Legendre rule of its own. Nothing
is ever subtracted, so the *relative* error stays small for opposite points and large shifts, where ``P`` is
tiny: below 1e-13 while ``|b| / sin(psi) <= 12``, which covers ``b = 6`` from equal points to points 120
degrees apart, and below 1e-10 down to ``P = 1e-280``.

Sources: [A] (shifted NTK); Song, Yang, Zhang (NeurIPS 2021) for the bounds on the smallest eigenvalue; [A],
conference version, Theorem 5.1 for the width.

Departures from the papers
1. They only need a bound on the smallest eigenvalue of ``K``; the choice of formula and quadrature is ours.
2. Rows are normalized first: data off unit length by a rounding error have the kernel of their directions.

Cost: ``n^2 / 2`` pairs with 3,392 evaluations of the integrand each.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from reference.notation import UNIT_LENGTH_SLACK, FloatArray, InputError, as_float_array

PIECES = 53
"""Halvings of the interval; what is left is below one rounding error."""
NODES = 64
"""Gauss-Legendre nodes per piece, enough for the steepest integrand whose integral float64 can hold."""


def _halving_rule() -> tuple[FloatArray, FloatArray]:
    """Nodes and weights on (0, 1): Gauss-Legendre on [1/2, 1], [1/4, 1/2], and so on."""
    nodes, weights = np.polynomial.legendre.leggauss(NODES)  # on (-1, 1)
    ends = 0.5 ** np.arange(PIECES)[:, np.newaxis]  # piece p is [ends[p] / 2, ends[p]]
    return (ends * (3 + nodes) / 4).ravel(), (ends * weights / 4).ravel()


_RULE_NODES, _RULE_WEIGHTS = _halving_rule()


def check_unit_rows(X: ArrayLike) -> FloatArray:
    """Check that rows are finite and of unit length, and remove their rounding error; equal rows are allowed.

    Parameters
    ----------
    X : array_like (n, d)
        Data points.

    Returns
    -------
    ndarray (n, d)
        New array; the rows divided by their lengths.

    Raises
    ------
    InputError
        NaN or infinite entries, or a row not of unit length.

    Examples
    --------
    >>> check_unit_rows([[1.0, 0.0], [0.6, 0.8]])
    array([[1. , 0. ],
           [0.6, 0.8]])
    """
    data = as_float_array("X", X, 2)
    lengths = np.linalg.norm(data, axis=1)
    worst = int(np.argmax(np.abs(lengths - 1)))
    if abs(lengths[worst] - 1) > UNIT_LENGTH_SLACK:
        raise InputError(
            f"row {worst} of X has length {lengths[worst]:.6g}, not 1; drop zero rows, then normalize: "
            "X / np.linalg.norm(X, axis=1, keepdims=True)"
        )
    rows: FloatArray = data / lengths[:, np.newaxis]
    return rows


def firing_probability(shift: float) -> float:
    """Return ``Phi(-b)``, the probability that a Gaussian neuron fires on a unit row.

    Parameters
    ----------
    shift : float
        ``b``.

    Returns
    -------
    float

    Examples
    --------
    >>> firing_probability(0.0)
    0.5
    """
    return math.erfc(shift / math.sqrt(2)) / 2


def joint_firing_probability(x: FloatArray, z: FloatArray, shift: float) -> float:
    """Compute ``P``, the probability that a Gaussian neuron fires on both of two unit rows.

    Parameters
    ----------
    x, z : ndarray (d,)
        Unit rows.
    shift : float
        ``b``.

    Returns
    -------
    float

    Examples
    --------
    Two thirds of a right angle apart, without a shift: the half planes share a third of the circle.

    >>> round(joint_firing_probability(np.array([1.0, 0.0]), np.array([0.5, np.sqrt(0.75)]), 0.0), 15)
    0.333333333333333
    """
    # From sum and difference of the rows: an arc cosine loses half the digits for close pairs.
    psi = math.atan2(float(np.linalg.norm(x + z)), float(np.linalg.norm(x - z)))
    opposite = max(0.0, math.erf(-shift / math.sqrt(2)))
    if psi == 0:
        return opposite
    with np.errstate(under="ignore", over="ignore"):  # exp(-inf) = 0 is the answer to rounding
        integrand = np.exp(-((shift / np.sin(psi * _RULE_NODES)) ** 2) / 2)
        return opposite + psi * float(_RULE_WEIGHTS @ integrand) / math.pi


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
    Without a shift a neuron fires on half of all directions, and on opposite points never at once.

    >>> shifted_ntk([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]], 0.0)
    array([[ 0.5, -0. ,  0. ],
           [-0. ,  0.5,  0. ],
           [ 0. ,  0. ,  0.5]])
    """
    rows = check_unit_rows(X)
    shift = float(as_float_array("shift", shift, 0))
    n = len(rows)
    K = np.zeros((n, n))
    for i in range(n):
        K[i, i] = firing_probability(shift)
        for j in range(i):
            K[i, j] = K[j, i] = float(rows[i] @ rows[j]) * joint_firing_probability(rows[i], rows[j], shift)
    return K


def lambda_min_bounds(shift: float, separation: float, n: int) -> tuple[float, float]:
    """Bound the smallest eigenvalue of ``K`` for separated data (Song, Yang, Zhang, NeurIPS 2021).

    ``exp(-b^2 / 2) delta / (100 n^2) <= lambda_min(K) <= exp(-b^2 / 2)``.

    Parameters
    ----------
    shift : float
        ``b >= 0``.
    separation : float
        ``delta > 0``; see `reference.notation.closest_pair`. Up to sign, no two unit rows are further apart
        than sqrt(2), so anything larger (infinity for a single row) counts as sqrt(2).
    n : int
        Data points.

    Returns
    -------
    (float, float)
        Lower and upper bound.

    Raises
    ------
    InputError
        ``shift`` negative, ``separation`` not positive, ``n`` below 1.

    Examples
    --------
    >>> lambda_min_bounds(0.0, 1.0, 10)
    (0.0001, 1.0)
    """
    if not (math.isfinite(shift) and shift >= 0 and separation > 0 and n >= 1):
        raise InputError(
            f"shift is {shift}, separation is {separation} and n is {n}; pass a finite shift >= 0, n >= 1 "
            "and the separation of distinct rows, which is positive"
        )
    high = math.exp(-(shift**2) / 2)
    return high * min(separation, math.sqrt(2)) / (100 * n**2), high


def theorem_width(lambda_min: float, n: int, d: int, failure: float) -> float:
    """Return the width that the convergence theorem asks for, up to its unstated constant.

    ``max(lambda^-4 n^4, lambda^-2 n^2 d log(16 n / rho))`` ([A], conference version, Theorem 5.1, with the
    constant of its Omega set to 1).

    Parameters
    ----------
    lambda_min : float
        ``lambda``, the smallest eigenvalue of ``K``; positive.
    n, d : int
        Data points and input dimension.
    failure : float
        ``rho``, the failure probability allowed; in (0, 1).

    Returns
    -------
    float
        A width; usually far beyond any machine, so not rounded to an integer; infinite beyond float64.

    Raises
    ------
    InputError
        An argument out of range.

    Examples
    --------
    >>> theorem_width(0.5, 10, 1, 0.1)  # the first term: 2^4 10^4
    160000.0
    """
    if not (math.isfinite(lambda_min) and lambda_min > 0):
        raise InputError(
            f"lambda_min is {lambda_min}; the theorem needs a positive one: drop equal or opposite rows "
            "of X, or lower the shift"
        )
    if n < 1 or d < 1 or not 0 < failure < 1:
        raise InputError(f"n is {n}, d is {d}, failure is {failure}; pass n >= 1, d >= 1 and 0 < failure < 1")
    ratio = np.float64(n / lambda_min)  # a NumPy number, so that an overflow is infinite and no exception
    with np.errstate(over="ignore"):
        return float(max(ratio**4, ratio**2 * d * math.log(16 * n / failure)))
