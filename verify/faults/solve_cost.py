"""Faults that `verify.claims.solve_cost` must catch."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

import fast.gauss_newton
from reference.notation import FloatArray
from reference.regression import Solution
from reference.trace import Trace
from verify.faults.fault import Fault
from verify.faults.opponents import records_a_share


def factors_secretly(*problem: Any, solver: str, **options: Any) -> Trace[Any]:  # noqa: ANN401
    """Train with a Cholesky factor where none is asked for."""
    solver = "cholesky" if solver == "conjugate" else solver
    return fast.gauss_newton.train(*problem, solver=solver, **options)  # type: ignore[arg-type]


def ends_early(*problem: Any, solver: str, iterations: int, **options: Any) -> Trace[Any]:  # noqa: ANN401
    """Take two iterations where the solver makes no factor."""
    most = min(iterations, 2) if solver == "conjugate" else iterations
    return fast.gauss_newton.train(*problem, solver=solver, iterations=most, **options)  # type: ignore[arg-type]


def solve_by_descent(G: FloatArray, rhs: FloatArray) -> Solution:
    """Solve by steepest descent instead of conjugate gradients: as many steps as the condition number, not its root."""
    g, residual = np.zeros(len(rhs)), rhs.copy()
    history = [float(np.linalg.norm(rhs))]
    while history[-1] > 1e-13 * history[0] and len(history) < 20_000:
        image = G @ residual
        step = float(residual @ residual) / float(residual @ image)
        g, residual = g + step * residual, residual - step * image
        history.append(float(np.linalg.norm(residual)))
    return Solution(g, len(history) - 1, np.array(history), len(history) - 1, (len(history) - 1) * G.size)


FAULTS: tuple[Fault, ...] = (
    Fault(
        "solver-records-little",
        "Training records a two-thousandth of its work.",
        "cost",
        {"solve_cost.early": "fails", "solve_cost.sketch": "fails"},
        {"train": partial(records_a_share, train=fast.gauss_newton.train, share=0.0005)},
    ),
    Fault(
        "conjugate-factors-secretly",
        "The solver without a factor makes one.",
        "cost",
        {"solve_cost.exponent": "fails", "solve_cost.cheaper": "fails"},
        {"train": factors_secretly},
    ),
    Fault(
        "descent-for-conjugate",
        "Steepest descent stands in for conjugate gradients.",
        "cost",
        {"solve_cost.condition": "fails"},
        {"solve_conjugate": solve_by_descent},
    ),
    Fault(
        "conjugate-stops-early",
        "Iterative solvers stop at a relative residual of a thousandth.",
        "value",
        {"solve_cost.equal": "fails"},
        {"train": partial(fast.gauss_newton.train, accuracy=1e-3)},
    ),
    Fault(
        "conjugate-ends-early",
        "Without a factor training ends after two iterations.",
        "value",
        {"solve_cost.equal": "fails"},
        {"train": ends_early},
    ),
)
