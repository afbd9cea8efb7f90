"""Symbols, shape checks and errors that every other module shares.

Symbol table, one for both papers
---------------------------------
========  =================  ==========================================================================
symbol    shape              meaning
========  =================  ==========================================================================
``n``     int                data points
``d``     int                input dimension
``m``     int                neurons in the hidden layer (the *width*)
``b``     float              shift of the ReLU; a neuron *fires* when ``<w_r, x_i> >= b``
``alpha`` float              sparsity exponent: ``b = sqrt(2 alpha ln m)`` lets at most ``m^(1-alpha)`` fire
``X``     (n, d)             data, one unit row ``x_i`` per point
``y``     (n,)               labels
``W``     (m, d)             weights, one row ``w_r`` per neuron; the only thing that is trained
``a``     (m,)               fixed signs, -1 or +1
``U``     (n, m)             pre-activations, ``U[i, r] = <w_r, x_i>``
``A``     (n, m) bool        activation pattern, ``A[i, r] = (U[i, r] >= b)``
``J``     (n, m d)           Jacobian of the predictions; block ``r`` of row ``i`` is ``df_i / dw_r``
``G``     (n, n)             Gram matrix ``J J^T``
``K``     (n, n)             shifted neural tangent kernel, the limit of ``G`` as ``m`` grows
``f``     (n,)               predictions
``g``     (n,)               Gauss-Newton solution of ``G g = f - y``
``S``     (s, N)             sketch: a short wide random matrix
``k``     int                neurons that fire on one data point
``delta`` float              separation of the data: smallest distance of two rows, up to sign
========  =================  ==========================================================================

The two papers are [A] Deng, Hu, Song, Weinstein, Zhuo (arXiv 2208.04508) and [B] Song, Zhang, Zhang
(arXiv 2112.07628). All arithmetic is float64.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]
BoolArray = NDArray[np.bool_]

UNIT_ROUNDOFF = float(np.finfo(np.float64).eps) / 2
"""Largest relative error of one rounded float64 operation."""

UNIT_LENGTH_SLACK = 1e-6
"""How far a data row's length may be from 1. Rows normalized in float32 pass; rows never normalized do not."""

DIVERGENCE_FACTOR = 1e3
"""A run whose residual exceeds this multiple of the initial residual has diverged."""


class InputError(ValueError):
    """The input cannot be used as it is; the message names the cause and the remedy."""


class NothingFiresError(InputError):
    """No neuron fires on some data point, so its prediction cannot be trained."""


class SingularGramError(InputError):
    """The Gram matrix is singular to working precision, so the Gauss-Newton step is undefined."""


class DivergenceError(ArithmeticError):
    """Training diverged. ``residual_norms`` holds the residuals up to and including the bad one."""

    def __init__(self, message: str, residual_norms: FloatArray) -> None:
        super().__init__(message)
        self.residual_norms = residual_norms


def as_float_array(name: str, value: ArrayLike, ndim: int) -> FloatArray:
    """Convert to a finite float64 array of the stated number of dimensions, without copying if possible.

    Parameters
    ----------
    name : str
        What to call the array in an error.
    value : array_like
        Real numbers.
    ndim : int
        Required number of dimensions.

    Returns
    -------
    ndarray of float64
        ``value`` itself when it already qualifies. It is never written to.

    Raises
    ------
    InputError
        Not numeric, wrong number of dimensions, empty, NaN or infinite.
    """
    given = np.asarray(value)
    if given.dtype.kind not in "fiub":
        raise InputError(f"{name} has dtype {given.dtype}; pass real numbers (float64)")
    if given.ndim != ndim:
        raise InputError(f"{name} has shape {given.shape}; pass an array of {ndim} dimension(s)")
    if given.size == 0:
        raise InputError(f"{name} is empty (shape {given.shape}); pass at least one entry")
    array: FloatArray = given.astype(np.float64, copy=False)
    # The sum is finite when all entries are (barring overflow), and costs no temporary of the array's size.
    with np.errstate(over="ignore", invalid="ignore"):
        suspicious = not np.isfinite(array.sum())
    if suspicious and not np.isfinite(array).all():
        where = tuple(int(index) for index in np.argwhere(~np.isfinite(array))[0])
        raise InputError(
            f"{name} has a NaN or infinite entry at index {where}; remove or replace such entries first"
        )
    return array


def check_points(X: ArrayLike, dim: int) -> FloatArray:
    """Check points to predict on: finite, two-dimensional, ``dim`` columns; any length, any number.

    Parameters
    ----------
    X : array_like (n, d)
        Points.
    dim : int
        Input dimension of the network.

    Returns
    -------
    ndarray (n, d)

    Raises
    ------
    InputError
        See `as_float_array`; or the wrong number of columns.
    """
    points = as_float_array("X", X, 2)
    if points.shape[1] != dim:
        raise InputError(f"X has {points.shape[1]} columns but the network takes {dim} inputs; make them equal")
    return points


def check_data(X: ArrayLike) -> FloatArray:
    """Check training inputs: finite unit rows, no two equal or opposite.

    Parameters
    ----------
    X : array_like (n, d)
        Data points, one per row.

    Returns
    -------
    ndarray (n, d)

    Raises
    ------
    InputError
        See `as_float_array`; zero rows, rows not of unit length, separation 0.
    """
    data = as_float_array("X", X, 2)
    lengths = np.linalg.norm(data, axis=1)
    if not lengths.all():
        raise InputError(f"row {int(np.argmin(lengths))} of X is zero; drop it, or add a constant column to X")
    off = np.abs(lengths - 1)
    if off.max() > UNIT_LENGTH_SLACK:
        worst = int(np.argmax(off))
        raise InputError(
            f"row {worst} of X has length {lengths[worst]:.6g}, not 1; "
            "normalize: X / np.linalg.norm(X, axis=1, keepdims=True)"
        )
    delta, i, j = closest_pair(data)
    if delta <= 64 * UNIT_ROUNDOFF:
        raise InputError(
            f"rows {i} and {j} of X are equal or opposite (separation 0), so no width can fit both; "
            "drop one of them, or merge them and average their labels"
        )
    return data


def check_labels(y: ArrayLike, n: int) -> FloatArray:
    """Check labels: a finite vector with one entry per data point.

    Parameters
    ----------
    y : array_like (n,)
        Labels.
    n : int
        Number of data points.

    Returns
    -------
    ndarray (n,)

    Raises
    ------
    InputError
        See `as_float_array`; or the wrong length.
    """
    labels = as_float_array("y", y, 1)
    if labels.shape != (n,):
        raise InputError(f"y has {labels.size} entries but X has {n} rows; pass one label per row")
    return labels


def check_run(iterations: int, tolerance: float) -> None:
    """Check the two arguments that bound a training run.

    Parameters
    ----------
    iterations : int
        At most this many steps; at least 0.
    tolerance : float
        Stop at this multiple of the initial residual; in [0, 1).

    Raises
    ------
    InputError
        Out of range or of the wrong type.
    """
    if isinstance(iterations, bool) or not isinstance(iterations, (int, np.integer)) or iterations < 0:
        raise InputError(f"iterations is {iterations!r}; pass a whole number, 0 or more")
    if not (np.isreal(tolerance) and 0 <= tolerance < 1):
        raise InputError(f"tolerance is {tolerance!r}; pass a number in [0, 1)")


def check_generator(rng: object) -> np.random.Generator:
    """Check that randomness comes from a `numpy.random.Generator`.

    Parameters
    ----------
    rng : Generator
        Source of randomness.

    Returns
    -------
    Generator

    Raises
    ------
    InputError
        Anything else, ``None`` included.
    """
    if not isinstance(rng, np.random.Generator):
        raise InputError(f"rng is {rng!r}; pass a numpy.random.Generator, for instance np.random.default_rng(0)")
    return rng


def check_every_point_fires(fired: NDArray[np.integer[Any]]) -> None:
    """Stop when some data point has no neuron firing on it.

    Parameters
    ----------
    fired : ndarray (n,) of int
        Number of neurons that fire on each data point.

    Raises
    ------
    NothingFiresError
        Names the first such data point.
    """
    silent = np.flatnonzero(fired == 0)
    if silent.size:
        raise NothingFiresError(
            f"no neuron fires on data point {int(silent[0])} ({silent.size} such point(s)), so its gradient is zero; "
            "widen the network or lower the shift (a smaller alpha)"
        )


def check_residual(residual_norms: list[float]) -> None:
    """Stop a run whose last residual is not finite or has outgrown the first one.

    Parameters
    ----------
    residual_norms : list of float
        Residuals so far, the newest last.

    Raises
    ------
    DivergenceError
        The newest residual is not finite, or beyond `DIVERGENCE_FACTOR` times the first.
    """
    first, last = residual_norms[0], residual_norms[-1]
    if np.isfinite(last) and last <= DIVERGENCE_FACTOR * first:
        return
    raise DivergenceError(
        f"training diverged: after iteration {len(residual_norms) - 1} the residual is {last:.3g}, from {first:.3g} "
        "at the start; widen the network, lower alpha, or separate the data (centre it, drop near-duplicates)",
        np.array(residual_norms),
    )


def unfinished(residual_norms: list[float], iterations: int, tolerance: float) -> bool:
    """Tell whether a run should take another step.

    Parameters
    ----------
    residual_norms : list of float
        Residuals at the start and after each step so far.
    iterations : int
        At most this many steps.
    tolerance : float
        Stop at this multiple of the initial residual; 0 never stops early, not even at a residual of exactly 0, so
        that two codes whose roundings differ return traces of equal length.

    Returns
    -------
    bool
    """
    if len(residual_norms) > iterations:
        return False
    return tolerance == 0 or residual_norms[-1] > tolerance * residual_norms[0]


def closest_pair(X: FloatArray) -> tuple[float, int, int]:
    """Find the separation ``delta`` of the data and the pair of rows that attains it.

    ``delta`` is the minimum over ``i < j`` of ``min(||x_i - x_j||, ||x_i + x_j||)``.

    Parameters
    ----------
    X : ndarray (n, d)
        Unit rows.

    Returns
    -------
    (float, int, int)
        ``(delta, i, j)`` with ``i < j``; ``(inf, 0, 0)`` for a single row.

    Examples
    --------
    >>> closest_pair(np.array([[1.0, 0.0], [0.0, 1.0], [-0.6, -0.8]]))  # rows 1 and 2 are nearly opposite
    (0.6324555320336759, 1, 2)
    """
    best = (float("inf"), 0, 0)
    for i in range(len(X) - 1):
        later = X[i + 1 :]
        # Differences, not inner products: sqrt(2 - 2 <x, z>) loses half the digits for close pairs.
        distances = np.minimum(np.linalg.norm(later - X[i], axis=1), np.linalg.norm(later + X[i], axis=1))
        j = int(np.argmin(distances))
        if distances[j] < best[0]:
            best = (float(distances[j]), i, i + 1 + j)
    return best
