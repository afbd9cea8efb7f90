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

from collections.abc import Iterator
from contextlib import contextmanager
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

DIVERGENCE_FACTOR = 100.0
"""A run whose residual exceeds this multiple of the initial residual has diverged. Runs on nearly parallel inputs with
different labels do climb to 30 times the start and come back; none was seen to come back from 100."""


class InputError(ValueError):
    """The input cannot be used as it is; the message names the cause and the remedy."""


class NothingFiresError(InputError):
    """No neuron fires on some data point, so its prediction cannot be trained."""


class SingularGramError(InputError):
    """The Gram matrix is singular to working precision, so the Gauss-Newton step is undefined."""


class DivergenceError(ArithmeticError):
    """Training diverged. ``residual_norms`` holds the residuals up to and including the bad one."""

    def __init__(self, message: str, residual_norms: FloatArray) -> None:
        super().__init__(message, residual_norms)
        self.residual_norms = residual_norms

    def __str__(self) -> str:
        return str(self.args[0])


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
    try:
        given = np.asarray(value)
    except ValueError:
        raise InputError(f"{name} is ragged; pass rows of equal length") from None
    if given.dtype.kind not in "fiub":
        raise InputError(f"{name} has dtype {given.dtype}; pass real numbers (float64)")
    if given.ndim != ndim:
        hint = ", for instance by its method ravel()" if ndim == 1 and given.size == max(given.shape, default=0) else ""
        raise InputError(f"{name} has shape {given.shape}; pass an array of {ndim} dimension(s){hint}")
    if given.size == 0:
        raise InputError(f"{name} is empty (shape {given.shape}); pass at least one entry")
    array: FloatArray = given.astype(np.float64, copy=False)
    # The sum is finite when all entries are (barring overflow), and costs no temporary of the array's size.
    with np.errstate(over="ignore", invalid="ignore"):
        suspicious = not np.isfinite(array.sum())
    if suspicious and not np.isfinite(array).all():
        where = tuple(int(index) for index in np.argwhere(~np.isfinite(array))[0])
        place = f" at index {where}" if ndim else ""
        raise InputError(f"{name} has a NaN or infinite entry{place}; remove or replace such entries first")
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
    with np.errstate(over="ignore"):
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
    if not (isinstance(tolerance, (int, float, np.number)) and 0 <= float(tolerance) < 1):
        raise InputError(f"tolerance is {tolerance!r}; pass a number in [0, 1)")


def check_threshold(threshold: float) -> float:
    """Check a threshold: a real number, which may be infinite.

    Parameters
    ----------
    threshold : float
        ``tau``.

    Returns
    -------
    float

    Raises
    ------
    InputError
        NaN, or no real number.
    """
    if not isinstance(threshold, (int, float, np.integer, np.floating)) or np.isnan(threshold):
        raise InputError(f"threshold is {threshold!r}; pass a real number that is not NaN")
    return float(threshold)


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


def check_residual(residual_norms: list[float], labels: FloatArray) -> None:
    """Stop a run whose first residual is not finite, or whose last one has outgrown the first.

    Parameters
    ----------
    residual_norms : list of float
        Residuals so far, the newest last.
    labels : ndarray (n,)
        ``y``. A first residual that is mere rounding beside the labels is no measure of growth.

    Raises
    ------
    InputError
        The first residual is not finite.
    DivergenceError
        The newest residual is not finite, or beyond `DIVERGENCE_FACTOR` times the first.
    """
    first, last = residual_norms[0], residual_norms[-1]
    if not np.isfinite(first):
        raise InputError("the first residual overflows; labels, weights or shift are too large: rescale them")
    rounding = 1e6 * UNIT_ROUNDOFF * float(np.linalg.norm(labels))
    if not last <= DIVERGENCE_FACTOR * max(first, rounding):
        raise diverged(residual_norms, "")


def diverged(residual_norms: list[float], cause: str) -> DivergenceError:
    """Make the error for a run that diverged.

    Parameters
    ----------
    residual_norms : list of float
        Residuals so far, the newest last.
    cause : str
        What broke down in the end, if anything did.

    Returns
    -------
    DivergenceError
    """
    return DivergenceError(
        f"training diverged: after iteration {len(residual_norms) - 1} the residual is {residual_norms[-1]:.3g}, "
        f"from {residual_norms[0]:.3g} at the start{f' ({cause})' if cause else ''}; "
        "widen the network, lower alpha, or separate the data (centre it, drop near-duplicates)",
        np.array(residual_norms),
    )


@contextmanager
def breakdown_explained(residual_norms: list[float]) -> Iterator[None]:
    """Report a step that breaks down after the residual has grown as the divergence that it is.

    Parameters
    ----------
    residual_norms : list of float
        Residuals before the step.

    Raises
    ------
    DivergenceError
        In place of a `NothingFiresError` or `SingularGramError` in a run whose residual exceeds its first one.
    """
    try:
        yield
    except (NothingFiresError, SingularGramError) as breakdown:
        if residual_norms[-1] > residual_norms[0]:
            cause = str(breakdown).partition(";")[0]
            raise diverged(residual_norms, cause) from breakdown
        raise


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
