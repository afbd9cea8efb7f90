"""Solving ``G g = f - y``: exactly, and by the sketch-preconditioned iteration of the paper.

Mathematics. ``G = J J^T`` is (n, n), ``J`` is (n, N) with ``N = m d``. The paper avoids forming ``G`` (van
den Brand, Peng, Song and Weinstein, ITCS 2021, used by [A]). Sketch the Jacobian, factor the result, and
change variables::

    S J^T = Q R                              (s, n), R (n, n) upper triangular
    M     = R^-T G R^-1,   z = R g           so that  G g = rhs  becomes  M z = R^-T rhs
    z    <- z - step M (M z - R^-T rhs)      gradient steps on ||M z - R^-T rhs||^2 / 2

When ``S`` embeds the rows of ``J`` with distortion epsilon in the squared length, the eigenvalues of ``M``
lie in ``[1 / (1 + epsilon), 1 / (1 - epsilon)]``, whatever the condition of ``G``: the number of steps
depends on the sketch and on the accuracy only. It stops at ``||G g - rhs|| <= accuracy ||rhs||``. The
accuracy that the convergence proof asks for in the ITCS 2021 paper is `paper_accuracy`.

With ``step = 1``, the paper's, an error component of eigenvalue ``mu`` shrinks by ``1 - mu^2``: it converges
when ``mu < sqrt(2)``, which ``epsilon < 1 - 1 / sqrt(2) = 0.29`` ensures.

Departures from the paper
1. The default step is the one that makes ``||M z - R^-T rhs||`` smallest. Each step then shrinks that norm by
   at least ``(kappa^2 - 1) / (kappa^2 + 1)`` with ``kappa`` the condition number of ``M``: it converges for
   every sketch that leaves ``R`` nonsingular, however distorted, and needs to know nothing about the
   distortion.
2. It also stops when ``||G g - rhs||`` is as small as the rounding errors in computing it, see
   `rounding_floor`. No method gets further; a Cholesky solve ends there too.

Cost: ``s n^2`` for the factor, three products with ``G`` of ``2 n N`` each per step (`fast.regression` needs
two).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from reference.notation import UNIT_ROUNDOFF, FloatArray, InputError, SingularGramError, as_float_array

STEPS_ALLOWED = 10_000
"""Steps after which the iteration gives up; a good preconditioner needs fewer than a hundred."""


@dataclass(frozen=True, eq=False)
class Solution:
    """What an iterative solve returns, on both sides.

    Parameters
    ----------
    solution : ndarray (n,)
        ``g``.
    iterations : int
        Steps taken.
    residual_history : ndarray (iterations + 1,)
        ``||G g - rhs||`` at the start (``g = 0``) and after each step.
    products : int
        Products with ``G``, each one with ``J^T`` and one with ``J``.
    work : int
        Multiply-adds of the factor, the products and the triangular solves, from the sizes of the arrays.
    """

    solution: FloatArray
    iterations: int
    residual_history: FloatArray
    products: int
    work: int


def solve_exact(G: ArrayLike, rhs: ArrayLike) -> FloatArray:
    """Solve ``G g = rhs`` to rounding.

    Parameters
    ----------
    G : array_like (n, n)
        Gram matrix; symmetric.
    rhs : array_like (n,)
        ``f - y`` in training.

    Returns
    -------
    ndarray (n,)

    Raises
    ------
    InputError
        Wrong shapes, NaN or infinite entries.
    SingularGramError
        ``G`` is not positive definite, or its 1-norm condition number is at least `condition_limit`.

    Examples
    --------
    >>> solve_exact([[2.0, 0.0], [0.0, 4.0]], [2.0, 2.0])
    array([1. , 0.5])
    """
    G, rhs = check_system(G, rhs)
    try:
        np.linalg.cholesky(G)
    except np.linalg.LinAlgError:
        raise singular_gram(np.inf, len(G)) from None
    condition = float(np.linalg.cond(G, 1))
    if not condition < condition_limit(len(G)):
        raise singular_gram(condition, len(G))
    return np.asarray(np.linalg.solve(G, rhs), dtype=np.float64)


def preconditioner(sketched: ArrayLike) -> FloatArray:
    """Factor the sketched Jacobian, ``S J^T = Q R``, and return ``R``.

    Parameters
    ----------
    sketched : array_like (s, n)
        ``S J^T`` with ``s >= n``.

    Returns
    -------
    ndarray (n, n)
        Upper triangular; ``R^T R = (S J^T)^T (S J^T)`` stands in for ``G``.

    Raises
    ------
    InputError
        ``s < n``, NaN or infinite entries.
    SingularGramError
        ``R^T R`` is singular to working precision.

    Examples
    --------
    >>> np.abs(preconditioner([[3.0], [4.0]]))
    array([[5.]])
    """
    sketched = check_sketched(sketched)
    R: FloatArray = np.asarray(np.linalg.qr(sketched, mode="r"))
    n = len(R)
    condition = float(np.linalg.cond(R.T @ R, 1)) if np.diag(R).all() else np.inf
    if not condition < condition_limit(n):
        raise singular_gram(condition, n)
    return R


def solve_sketched(
    jacobian: ArrayLike,
    sketched: ArrayLike,
    rhs: ArrayLike,
    *,
    accuracy: float,
    step_length: float | None = None,
) -> Solution:
    """Solve ``J J^T g = rhs`` by the sketch-preconditioned iteration (ITCS 2021), without forming ``G``.

    Parameters
    ----------
    jacobian : array_like (n, N)
        ``J``.
    sketched : array_like (s, n)
        ``S J^T``.
    rhs : array_like (n,)
        Right-hand side.
    accuracy : float
        Stop at ``||G g - rhs|| <= accuracy ||rhs||``; in (0, 1).
    step_length : float, optional
        A fixed step, 1 for the paper's; by default the best step (departure 1).

    Returns
    -------
    Solution

    Raises
    ------
    InputError
        Wrong shapes, NaN or infinite entries, an accuracy out of range; or no convergence.
    SingularGramError
        See `preconditioner`.

    Examples
    --------
    A sketch that is off by a factor 2 in every length still gives the answer, here in a single step.

    >>> solve_sketched([[3.0, 4.0]], [[6.0], [8.0]], [50.0], accuracy=1e-12).solution.round(12)
    array([2.])
    """
    J = as_float_array("the Jacobian", jacobian, 2)
    sketched, rhs = check_sketched(sketched), as_float_array("the right-hand side", rhs, 1)
    if not len(J) == sketched.shape[1] == len(rhs):
        raise InputError(
            f"the Jacobian has {len(J)} rows, the sketch {sketched.shape[1]} columns and the right-hand side "
            f"{len(rhs)} entries; all three must be n"
        )
    check_accuracy(accuracy)
    if step_length is not None and not (np.isfinite(step_length) and step_length > 0):
        raise InputError(f"step_length is {step_length}; pass a positive number, or None for the best one")
    R = preconditioner(sketched)

    def solve(triangle: FloatArray, vector: FloatArray) -> FloatArray:
        return np.asarray(np.linalg.solve(triangle, vector))

    def multiply_gram(g: FloatArray) -> FloatArray:
        return np.asarray(J @ (J.T @ g))

    def multiply_preconditioned(z: FloatArray) -> FloatArray:
        return solve(R.T, multiply_gram(solve(R, z)))

    # Right-hand sides of size one, so that no norm overflows or vanishes.
    size = float(np.abs(rhs).max()) or 1.0
    rhs = rhs / size
    z: FloatArray = np.zeros(len(rhs))
    g, residual = z, -rhs
    history = [float(np.linalg.norm(rhs))]
    products = 0
    trace = float(np.sum(J * J))
    while history[-1] > max(accuracy * history[0], rounding_floor(trace, g)):
        preconditioned_residual = solve(R.T, residual)
        gradient = multiply_preconditioned(preconditioned_residual)
        slope = multiply_preconditioned(gradient)
        best = float(preconditioned_residual @ slope / (slope @ slope))
        z = z - (best if step_length is None else step_length) * gradient
        g = solve(R, z)
        residual = multiply_gram(g) - rhs
        history.append(float(np.linalg.norm(residual)))
        check_progress(history)
        products += 3
    work = sketched.size * len(g) + products * (2 * J.size + 2 * len(g) ** 3)
    return Solution(size * g, len(history) - 1, size * np.array(history), products, work)


def paper_accuracy(lambda_min: float, n: int) -> float:
    """Return the accuracy ``min(sqrt(lambda / n), lambda) / 6`` of the convergence proof (ITCS 2021).

    Parameters
    ----------
    lambda_min : float
        Smallest eigenvalue of the kernel, positive.
    n : int
        Number of data points.

    Returns
    -------
    float

    Raises
    ------
    InputError
        ``lambda_min`` not positive or ``n`` below 1.

    Examples
    --------
    >>> paper_accuracy(0.06, 4)
    0.01
    """
    if not (lambda_min > 0 and n >= 1):
        raise InputError(f"lambda_min is {lambda_min} and n is {n}; pass a positive eigenvalue and n >= 1")
    return float(min(np.sqrt(lambda_min / n), lambda_min) / 6)


def condition_limit(n: int) -> float:
    """Return the condition number ``1 / (n eps)``, ``eps = 2^-52``, at which ``G`` counts as singular.

    Parameters
    ----------
    n : int
        Order of the matrix.

    Returns
    -------
    float

    Examples
    --------
    >>> condition_limit(1) == 2.0**52
    True
    """
    return 1 / (n * 2 * UNIT_ROUNDOFF)


def rounding_floor(trace: float, g: FloatArray, *, terms: int = 1) -> float:
    """Return how large ``||G g - rhs||`` may be by rounding alone: ``2 eps sqrt(terms) trace(G) ||g||``.

    A sum of ``terms`` products, added one after another, errs by about ``eps sqrt(terms)`` relative to the sum of
    absolute values, and the norm of those sums is at most ``||J||_F^2 ||g|| = trace(G) ||g||``.

    Parameters
    ----------
    trace : float
        Trace of ``G``: the squared Frobenius norm of ``J``.
    g : ndarray (n,)
        The solution so far.
    terms : int
        Most products in one sum: neurons that fire on one data point, if ``G`` is applied through ``J``.

    Returns
    -------
    float
    """
    return 4 * UNIT_ROUNDOFF * float(np.sqrt(terms)) * trace * float(np.linalg.norm(g))


def singular_gram(condition: float, n: int) -> SingularGramError:
    """Make the error for a Gram matrix that is singular to working precision.

    Parameters
    ----------
    condition : float
        Its (estimated) 1-norm condition number; infinite when it is not positive definite.
    n : int
        Its order.

    Returns
    -------
    SingularGramError
    """
    found = "it is not positive definite" if np.isinf(condition) else f"condition number {condition:.1e}"
    return SingularGramError(
        f"the Gram matrix ({n} by {n}) is singular to working precision "
        f"({found}, limit {condition_limit(n):.1e}): "
        "some data points are nearly equal or opposite, or share too few fired neurons; "
        "drop near-duplicates, widen the network or lower the shift"
    )


def check_system(G: ArrayLike, rhs: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Check a square matrix and a right-hand side.

    Parameters
    ----------
    G : array_like (n, n)
        Matrix.
    rhs : array_like (n,)
        Right-hand side.

    Returns
    -------
    (ndarray (n, n), ndarray (n,))

    Raises
    ------
    InputError
        Wrong shapes, NaN or infinite entries, a matrix that is not symmetric.
    """
    matrix, vector = as_float_array("G", G, 2), as_float_array("the right-hand side", rhs, 1)
    if matrix.shape != (len(vector), len(vector)):
        raise InputError(
            f"G has shape {matrix.shape} and the right-hand side {vector.shape}; pass (n, n) and (n,)"
        )
    if not np.allclose(matrix, matrix.T, rtol=1e-8, atol=1e-12 * float(np.abs(matrix).max())):
        raise InputError("G is not symmetric; pass a Gram matrix")
    return matrix, vector


def check_sketched(sketched: ArrayLike) -> FloatArray:
    """Check a sketched Jacobian: finite, at least as many rows as columns.

    Parameters
    ----------
    sketched : array_like (s, n)
        ``S J^T``.

    Returns
    -------
    ndarray (s, n)

    Raises
    ------
    InputError
        Wrong shape, NaN or infinite entries.
    """
    matrix = as_float_array("the sketched Jacobian", sketched, 2)
    if matrix.shape[0] < matrix.shape[1]:
        raise InputError(
            f"the sketch has {matrix.shape[0]} rows for {matrix.shape[1]} data points, too few for a "
            "preconditioner; draw a sketch with several rows per data point"
        )
    return matrix


def check_accuracy(accuracy: float) -> None:
    """Check a relative accuracy.

    Parameters
    ----------
    accuracy : float
        In (0, 1).

    Raises
    ------
    InputError
        Out of range.
    """
    if not 0 < accuracy < 1:
        raise InputError(f"accuracy is {accuracy!r}; pass a number between 0 and 1")


def check_progress(history: list[float]) -> None:
    """Stop an iteration that diverges or takes too long.

    Parameters
    ----------
    history : list of float
        Residual norms so far.

    Raises
    ------
    InputError
        More than `STEPS_ALLOWED` steps, or a residual that is not finite or beyond 1e20 times the first.
    """
    if len(history) > STEPS_ALLOWED or not history[-1] <= 1e20 * history[0]:
        raise InputError(
            f"the sketched iteration did not converge: residual {history[-1]:.1e} after "
            f"{len(history) - 1} steps, from {history[0]:.1e}; draw a longer sketch or use Cholesky"
        )
