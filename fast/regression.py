"""Solving ``G g = f - y``: by Cholesky, by the sketch-preconditioned iteration, and without any factor.

Mathematics: `reference.regression`. ``S J^T = Q R`` makes ``M = R^-T G R^-1`` well conditioned, whatever the
condition of ``G``, and ``G`` enters only through products ``J (J^T g)``. Two iterations on ``M z = R^-T
rhs``::

    paper       best gradient step on ||M z - R^-T rhs||^2    factor (k^2 - 1) / (k^2 + 1)          2 products
    conjugate   conjugate gradients                           factor (sqrt k - 1) / (sqrt k + 1)    1 product

per step, with ``k`` the condition number of ``M``; at ``k = 2``, typical of `fast.sketch.default_size`, 0.6
against 0.17.

Source: van den Brand, Peng, Song and Weinstein (ITCS 2021), used by [A]; Hestenes and Stiefel (1952).

Departures from the paper
1. The default is ``conjugate``: same preconditioner, same stopping rule, about 7 times fewer products.
2. Best step length and rounding floor, as in `reference.regression`.
3. Both iterations update the residual by recurrence. When that says "done", the residual is computed afresh,
   and the iteration starts again from it if it does not agree: so the stopping rule is always met by a true
   residual.

Cost with ``p`` fired pairs: ``2 p d`` for each product, ``2 s n^2`` for the factor, ``n^2`` for each pair of
triangular solves. Cholesky: ``n^3 / 3`` once ``G`` is there. A sketch cannot avoid ``n^3``, since ``s >= n``.
`solve_conjugate` does (ours): conjugate gradients on ``G`` itself, scaled by its diagonal, ``n^2`` a step and about
``sqrt(kappa(G)) / 2`` steps for each factor e; few where data are well separated.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike
from scipy import linalg

from reference.notation import FloatArray, InputError, as_float_array
from reference.regression import (
    Solution,
    check_accuracy,
    check_progress,
    check_sketched,
    check_system,
    condition_limit,
    rounding_floor,
    singular_gram,
)

Method = Literal["conjugate", "paper"]


class Rows(Protocol):
    """The rows of a Jacobian, as far as solving ``J J^T g = rhs`` needs them."""

    @property
    def n(self) -> int:
        """Number of rows."""
        ...

    @property
    def trace(self) -> float:
        """Trace of ``G = J J^T``."""
        ...

    @property
    def longest_sum(self) -> int:
        """Most terms in a sum that rounding errors of a product with ``G`` come from."""
        ...

    @property
    def product_work(self) -> int:
        """Multiply-adds of one product with ``G``."""
        ...

    def multiply_gram(self, g: FloatArray) -> FloatArray:
        """Compute ``G g``: (n,)."""
        ...


ACCURACY = 1e-13
"""Default relative residual, near the rounding floor of a well conditioned system."""


def solve_cholesky(G: ArrayLike, rhs: ArrayLike) -> FloatArray:
    """Solve ``G g = rhs`` to rounding, by a Cholesky factor.

    Parameters
    ----------
    G : array_like (n, n)
        Gram matrix; symmetric. Not modified.
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
        ``G`` is not positive definite, or its estimated 1-norm condition number is at least
        `reference.regression.condition_limit`.

    Examples
    --------
    >>> solve_cholesky([[2.0, 0.0], [0.0, 4.0]], [2.0, 2.0])
    array([1. , 0.5])
    """
    G, rhs = check_system(G, rhs)
    solution: FloatArray = linalg.cho_solve((cholesky_factor(G)[0], False), rhs, check_finite=False)
    return solution


def cholesky_factor(G: FloatArray) -> tuple[FloatArray, float]:
    """Factor ``G = R^T R`` and make sure that it is far enough from singular.

    Parameters
    ----------
    G : ndarray (n, n)
        Symmetric. Not modified.

    Returns
    -------
    factor : ndarray (n, n)
        ``R``, upper triangular.
    condition : float
        Estimate of the 1-norm condition number of ``G``.

    Raises
    ------
    SingularGramError
        As for `solve_cholesky`.
    """
    try:
        factor: FloatArray = linalg.cholesky(G, check_finite=False)
    except linalg.LinAlgError:
        raise singular_gram(np.inf, len(G)) from None
    return factor, _check_condition(factor, G)


class WarmCholesky:
    """Solve ``G g = rhs`` for a ``G`` that drifts: conjugate gradients on the last Cholesky factor (ours).

    With ``R^T R`` an earlier ``G``, the preconditioned matrix ``R^-T G R^-1`` is near the identity, and one
    iteration costs ``n^2`` for the product and ``n^2`` for the triangular solves. When `most_iterations` of them do not
    suffice, a new factor is made. The solution is accurate to rounding either way: the iteration ends at a residual
    computed afresh that is within `reference.regression.rounding_floor`.

    A ``G`` that has become singular must not pass for the old one's sake. An old factor of ``H`` serves while
    ``||G - H|| ||H^-1|| <= 1/4``: then no eigenvalue of ``G`` is below three quarters of the smallest of ``H`` (Weyl).

    Attributes
    ----------
    work : int
        Multiply-adds so far.
    """

    def __init__(self) -> None:
        self._factor: FloatArray | None = None
        self._factored = np.empty((0, 0))
        self._inverse_norm = np.inf
        self.work = 0

    def solve(self, G: FloatArray, rhs: FloatArray) -> FloatArray:
        """Solve for one right-hand side.

        Parameters
        ----------
        G : ndarray (n, n)
            Gram matrix; symmetric. Kept, and not modified: neither must the caller.
        rhs : ndarray (n,)
            Right-hand side.

        Returns
        -------
        ndarray (n,)

        Raises
        ------
        SingularGramError
            As for `solve_cholesky`, of a matrix that the old factor does not serve.
        """
        if self._factor is not None and np.linalg.norm(G - self._factored) * self._inverse_norm <= 0.25:
            # Right-hand sides of size one, so that no norm overflows or vanishes; by a power of 2, without rounding.
            exponent = np.frexp(np.abs(rhs).max())[1]
            g = self._iterate(G, np.ldexp(rhs, -exponent))
            if g is not None:
                return np.asarray(np.ldexp(g, exponent))
        self._factor, condition = cholesky_factor(G)
        self._factored, self._inverse_norm = G, condition / float(np.linalg.norm(G, 1))
        self.work += len(G) ** 3 // 3 + len(G) ** 2
        return self._solve_factor(rhs)

    def _iterate(self, G: FloatArray, rhs: FloatArray) -> FloatArray | None:
        """Run conjugate gradients; return nothing if they take too long."""
        trace = float(np.trace(G))
        g = self._solve_factor(rhs)
        residual = rhs - G @ g
        self.work += 2 * G.size
        direction, decrease = np.zeros(len(g)), np.inf
        most = most_iterations(len(G))
        if _foreseen(rhs, residual, rounding_floor(trace, g)) > most:
            return None
        for _ in range(most):
            # Far from convergence the floor that belongs to a small g is too strict, never too loose.
            if np.linalg.norm(residual) <= rounding_floor(trace, g):
                residual = rhs - G @ g
                if np.linalg.norm(residual) <= 2 * rounding_floor(trace, g):
                    return g
            preconditioned = self._solve_factor(residual)
            previous, decrease = decrease, float(residual @ preconditioned)
            direction = preconditioned + decrease / previous * direction
            image = G @ direction
            curvature = float(direction @ image)
            if not curvature > 0:
                return None
            g = g + decrease / curvature * direction
            residual = residual - decrease / curvature * image
            self.work += 2 * G.size
        return None

    def _solve_factor(self, rhs: FloatArray) -> FloatArray:
        solution: FloatArray = linalg.cho_solve((self._factor, False), rhs, check_finite=False)
        return solution


def _foreseen(rhs: FloatArray, residual: FloatArray, floor: float) -> float:
    """Guess how many iterations it takes to the floor, when the first solve turned ``rhs`` into ``residual``.

    If each further one did as well, ``log(floor / residual) / log(residual / rhs)``; conjugate gradients need half.
    """
    start, left = float(np.linalg.norm(rhs)), float(np.linalg.norm(residual))
    if left <= floor:
        return 0.0
    return np.log(floor / left) / np.log(left / start) / 2 if floor > 0 and left < start else np.inf


def most_iterations(n: int) -> int:
    """Return how many iterations of ``2 n^2`` cost about half of a factor of ``n^3 / 3``.

    Examples
    --------
    >>> most_iterations(120)
    10
    """
    return max(2, n // 12)


def preconditioner(sketched: ArrayLike) -> FloatArray:
    """Factor the sketched Jacobian, ``S J^T = Q R``, and return ``R``.

    Parameters
    ----------
    sketched : array_like (s, n)
        ``S J^T`` with ``s >= n``. Not modified.

    Returns
    -------
    ndarray (n, n)
        Upper triangular; ``R^T R`` stands in for ``G``.

    Raises
    ------
    InputError
        ``s < n``, NaN or infinite entries.
    SingularGramError
        ``R^T R`` is singular to working precision.
    """
    sketched = check_sketched(sketched)
    factor: FloatArray = linalg.qr(sketched, mode="r", check_finite=False)[0][: sketched.shape[1]]
    if not np.diag(factor).all():
        raise singular_gram(np.inf, len(factor))
    _check_condition(factor, factor.T @ factor)
    return factor


def solve_sketched(
    jacobian: Rows,
    sketched: ArrayLike,
    rhs: ArrayLike,
    *,
    accuracy: float = ACCURACY,
    method: Method = "conjugate",
) -> Solution:
    """Solve ``J J^T g = rhs`` by the sketch-preconditioned iteration, without forming ``G``.

    Parameters
    ----------
    jacobian : FiredJacobian or TensorJacobian
        ``J``, ``n`` rows.
    sketched : array_like (s, n)
        ``S J^T``, from `fast.sketch.sketch_jacobian`.
    rhs : array_like (n,)
        Right-hand side. Not modified.
    accuracy : float
        Stop at ``||G g - rhs|| <= accuracy ||rhs||``, or at the rounding floor when that is larger.
    method : {"conjugate", "paper"}
        Conjugate gradients, or the paper's gradient steps.

    Returns
    -------
    Solution
        The last entry of ``residual_history`` is a true residual, the others are by recurrence.

    Raises
    ------
    InputError
        Wrong shapes, NaN or infinite entries, unknown method, an accuracy out of range; or no convergence.
    SingularGramError
        See `preconditioner`.
    """
    sketched, rhs = check_sketched(sketched), as_float_array("the right-hand side", rhs, 1)
    n = jacobian.n
    if not n == sketched.shape[1] == len(rhs):
        raise InputError(
            f"the Jacobian has {n} rows, the sketch {sketched.shape[1]} columns and the right-hand side "
            f"{len(rhs)} entries; all three must be n"
        )
    if method not in ("conjugate", "paper"):
        raise InputError(f'method is {method!r}; pass "conjugate" or "paper"')
    check_accuracy(accuracy)
    operator = _Preconditioned(jacobian, preconditioner(sketched))
    step = _conjugate if method == "conjugate" else _descend
    g, history = _iterate(operator, rhs, step, accuracy)
    # Two triangular solves for each product are counted as one product with an (n, n) matrix.
    work = 2 * sketched.size * n + operator.products * (jacobian.product_work + n * n)
    return Solution(g, len(history) - 1, history, operator.products, work)


def solve_conjugate(G: ArrayLike, rhs: ArrayLike, *, accuracy: float = ACCURACY) -> Solution:
    """Solve ``G g = rhs`` by conjugate gradients scaled by the diagonal of ``G``: no factor, no ``n^3`` (ours).

    Parameters
    ----------
    G : array_like (n, n)
        Gram matrix; symmetric, with a positive diagonal. Not modified.
    rhs : array_like (n,)
        Right-hand side. Not modified.
    accuracy : float
        Stop at ``||G g - rhs|| <= accuracy ||rhs||``, or at the rounding floor when that is larger.

    Returns
    -------
    Solution
        As from `solve_sketched`.

    Raises
    ------
    InputError
        Wrong shapes, NaN or infinite entries, an accuracy out of range; or no convergence.
    SingularGramError
        ``G`` is not positive definite along the way, or ``trace(G) ||g|| / ||rhs||``, which is at most ``n`` times its
        condition number, reaches `reference.regression.condition_limit`.

    Examples
    --------
    >>> solve_conjugate([[2.0, 0.0], [0.0, 4.0]], [2.0, 2.0]).solution
    array([1. , 0.5])
    """
    G, rhs = check_system(G, rhs)
    check_accuracy(accuracy)
    n = len(rhs)
    if not (np.diag(G) > 0).all():
        raise singular_gram(np.inf, n)
    operator = _Scaled(_Explicit(G), np.sqrt(np.diag(G)))
    g, history = _iterate(operator, rhs, _conjugate, accuracy)
    condition = float(np.trace(G) * np.linalg.norm(g)) / (history[0] or 1.0)
    if not condition < condition_limit(n):
        raise singular_gram(condition, n)
    return Solution(g, len(history) - 1, history, operator.products, operator.products * n * n)


def _iterate(
    operator: _Operator, rhs: FloatArray, step: _Steps, accuracy: float
) -> tuple[FloatArray, FloatArray]:
    """Iterate until the true residual passes; returns ``g`` and the residual norms."""
    n, longest_sum, trace = len(rhs), operator.rows.longest_sum, operator.rows.trace
    # Right-hand sides of size one, so that no norm overflows or vanishes.
    size = float(np.abs(rhs).max()) or 1.0
    rhs = rhs / size
    g, residual = np.zeros(n), rhs
    history = [float(np.linalg.norm(rhs))]

    def allowance() -> float:
        return max(accuracy * history[0], rounding_floor(trace, g, terms=longest_sum))

    while history[-1] > allowance():
        restart, restarted_at = g, history[-1]
        for correction, norm in step(operator, residual):
            g = restart + correction
            history.append(norm)
            check_progress(history)
            # Half the allowance, so that the fresh residual passes although it differs a little.
            if norm <= allowance() / 2:
                break
        residual = rhs - operator.multiply_gram(g)
        history[-1] = float(np.linalg.norm(residual))
        if allowance() < history[-1] > restarted_at / 2:
            # Roundings that all fall the same way add up to eps times the number of terms, not its square root.
            if history[-1] <= rounding_floor(trace, g, terms=longest_sum**2):
                break
            raise InputError(
                f"rounding errors stop the iteration at residual {history[-1] * size:.1e}, "
                f"from {history[0] * size:.1e}; ask for less accuracy or use the Cholesky solver"
            )
    return size * g, size * np.array(history)


class _Operator(ABC):
    """Products with ``G``, which it counts, and solves with a factor ``R`` of what stands in for it."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.products = 0

    def multiply_gram(self, g: FloatArray) -> FloatArray:
        self.products += 1
        return self.rows.multiply_gram(g)

    @abstractmethod
    def solve(self, vector: FloatArray, *, transposed: bool) -> FloatArray:
        """Solve ``R z = vector``, or ``R^T z = vector``."""


_Steps = Callable[[_Operator, FloatArray], Iterator[tuple[FloatArray, float]]]


class _Preconditioned(_Operator):
    """With a triangular factor."""

    def __init__(self, rows: Rows, factor: FloatArray) -> None:
        super().__init__(rows)
        self.factor = factor

    def solve(self, vector: FloatArray, *, transposed: bool) -> FloatArray:
        solution: FloatArray = linalg.solve_triangular(
            self.factor, vector, trans="T" if transposed else "N", check_finite=False
        )
        return solution


class _Scaled(_Operator):
    """With a diagonal one."""

    def __init__(self, rows: Rows, diagonal: FloatArray) -> None:
        super().__init__(rows)
        self.diagonal = diagonal

    def solve(self, vector: FloatArray, *, transposed: bool) -> FloatArray:
        del transposed
        return vector / self.diagonal


class _Explicit:
    """``G`` itself, in the place of the rows of a Jacobian."""

    def __init__(self, G: FloatArray) -> None:
        self.G = G
        self.n = self.longest_sum = len(G)
        self.trace = float(np.trace(G))
        self.product_work = G.size

    def multiply_gram(self, g: FloatArray) -> FloatArray:
        product: FloatArray = self.G @ g
        return product


def _conjugate(operator: _Operator, residual: FloatArray) -> Iterator[tuple[FloatArray, float]]:
    """Yield the correction to ``g`` and the norm of the residual left, after each conjugate gradient step."""
    correction = np.zeros(len(residual))
    direction, decrease = np.zeros(len(residual)), np.inf
    while True:
        half = operator.solve(residual, transposed=True)
        previous, decrease = decrease, float(half @ half)
        direction = operator.solve(half, transposed=False) + decrease / previous * direction
        image = operator.multiply_gram(direction)
        curvature = float(direction @ image)
        if not curvature > 0:
            raise singular_gram(np.inf, len(residual))
        step = decrease / curvature
        correction = correction + step * direction
        residual = residual - step * image
        yield correction, float(np.linalg.norm(residual))


def _descend(operator: _Operator, residual: FloatArray) -> Iterator[tuple[FloatArray, float]]:
    """Yield the same after each gradient step of the best length on ``||M z - R^-T residual||^2 / 2``."""
    correction = np.zeros(len(residual))
    while True:
        half = operator.solve(residual, transposed=True)
        gradient = operator.solve(
            operator.multiply_gram(operator.solve(half, transposed=False)), transposed=True
        )
        direction = operator.solve(gradient, transposed=False)
        image = operator.multiply_gram(direction)
        slope = operator.solve(image, transposed=True)
        step = float(half @ slope) / float(slope @ slope)
        correction = correction + step * direction
        residual = residual - step * image
        yield correction, float(np.linalg.norm(residual))


def _check_condition(factor: FloatArray, matrix: FloatArray) -> float:
    """Estimate the condition of ``matrix = factor^T factor``, ``factor`` upper triangular; stop near a singular one."""
    reciprocal, _ = linalg.lapack.dpocon(factor, np.linalg.norm(matrix, 1))
    condition = np.inf if reciprocal == 0 else 1 / float(reciprocal)
    if not condition < condition_limit(len(matrix)):
        raise singular_gram(condition, len(matrix))
    return condition
