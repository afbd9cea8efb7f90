"""Faults in the sketched solver and its preconditioner."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

import reference.regression
from fast import regression, sketch
from fast.jacobian import FiredJacobian
from fast.regression import Method
from reference.notation import FloatArray
from reference.regression import Solution
from reference.sketch import TensorSketchDraw
from verify.experiment import Inputs
from verify.faults.fault import Fault

LARGE_RIDGE, SMALL_RIDGE = 0.1, 3.0
"""In units of the largest and of the smallest eigenvalue."""
HALFWAY = 1e-6


def few_seeds(inputs: Inputs) -> bool:
    """Keep a quarter of the seeds."""
    return bool(inputs["seed"] < 12)


def loosely(
    jacobian: FiredJacobian, sketched: FloatArray, rhs: FloatArray, *, accuracy: float, method: Method
) -> Solution:
    """Stop at 10,000 times the accuracy asked for."""
    return regression.solve_sketched(jacobian, sketched, rhs, accuracy=min(1e4 * accuracy, 0.5), method=method)


def from_recurrence(
    jacobian: FiredJacobian, sketched: FloatArray, rhs: FloatArray, *, accuracy: float, method: Method
) -> Solution:
    """Return a solution that is off by 1e-9, with the record of the right one."""
    solution = regression.solve_sketched(jacobian, sketched, rhs, accuracy=accuracy, method=method)
    return replace(solution, solution=solution.solution * (1 + 1e-9))


def reference_loosely(J: FloatArray, sketched: FloatArray, rhs: FloatArray, *, accuracy: float) -> Solution:
    """Stop at 10,000 times the accuracy asked for, in the reference."""
    return reference.regression.solve_sketched(J, sketched, rhs, accuracy=min(1e4 * accuracy, 0.5))


def with_a_new_start(
    jacobian: FiredJacobian, sketched: FloatArray, rhs: FloatArray, *, accuracy: float, method: Method
) -> Solution:
    """Throw a solution of 1e-6 away and start again when more is asked for; all steps are counted."""
    solution = regression.solve_sketched(jacobian, sketched, rhs, accuracy=accuracy, method=method)
    if accuracy >= HALFWAY:
        return solution
    wasted = regression.solve_sketched(jacobian, sketched, rhs, accuracy=HALFWAY, method=method)
    return replace(solution, iterations=solution.iterations + wasted.iterations)


def mixed_up(draw: TensorSketchDraw, jacobian: FiredJacobian) -> FloatArray:
    """Sketch one data point nearly like another: far from an embedding."""
    sketched = sketch.sketch_jacobian(draw, jacobian).copy()
    sketched[:, 0] = sketched[:, -1] + 0.3 * sketched[:, 0]
    return np.asarray(sketched)


def conjugate_only(
    jacobian: FiredJacobian, sketched: FloatArray, rhs: FloatArray, *, accuracy: float, method: Method
) -> Solution:
    """Use conjugate gradients whatever is asked for: they get through where the paper's iteration would give up."""
    return regression.solve_sketched(jacobian, sketched, rhs, accuracy=accuracy)


def damped(draw: TensorSketchDraw, jacobian: FiredJacobian) -> FloatArray:
    """Add a ridge to the preconditioner that drowns small eigenvalues."""
    sketched = sketch.sketch_jacobian(draw, jacobian)
    ridge = np.sqrt(LARGE_RIDGE) * np.linalg.norm(sketched, 2) * np.eye(sketched.shape[1])
    return np.concatenate([sketched, ridge])


def slightly_damped(draw: TensorSketchDraw, jacobian: FiredJacobian) -> FloatArray:
    """Add a ridge to the preconditioner that is a few times the smallest eigenvalue."""
    sketched = sketch.sketch_jacobian(draw, jacobian)
    ridge = np.sqrt(SMALL_RIDGE) * np.linalg.norm(sketched, -2) * np.eye(sketched.shape[1])
    return np.concatenate([sketched, ridge])


FAULTS: tuple[Fault, ...] = (
    Fault(
        "solver-stops-early",
        "The sketched solver stops at 10,000 times the accuracy asked for.",
        "value",
        {"regression.geometric": "fails"},
        {"solve_sketched": loosely},
        only=few_seeds,
    ),
    Fault(
        "reference-solver-stops-early",
        "The reference of the sketched solver stops at 10,000 times the accuracy asked for.",
        "value",
        {"regression.geometric": "fails"},
        {"reference_solve_sketched": reference_loosely},
        only=few_seeds,
    ),
    Fault(
        "solver-believes-its-recurrence",
        "The solution is off by 1e-9 while the recurrence of its residual says 1e-12.",
        "value",
        {"regression.geometric": "fails"},
        {"solve_sketched": from_recurrence},
        only=few_seeds,
    ),
    Fault(
        "solver-starts-again",
        "Beyond an accuracy of 1e-6 the solver throws its solution away and starts again.",
        "cost",
        {"regression.linear": "fails"},
        {"solve_sketched": with_a_new_start},
        only=few_seeds,
    ),
    Fault(
        "mixed-up-sketch",
        "The sketch of one data point is nearly that of another, which conjugate gradients hide.",
        "value",
        {"regression.condition": "fails"},
        {"sketch_jacobian": mixed_up, "solve_sketched": conjugate_only},
        only=few_seeds,
    ),
    Fault(
        "ridge-in-the-preconditioner",
        "A ridge drowns the small eigenvalues of the preconditioner, which conjugate gradients hide.",
        "cost",
        {"regression.condition": "fails", "regression.independent": "fails"},
        {"sketch_jacobian": damped, "solve_sketched": conjugate_only},
        only=few_seeds,
    ),
    Fault(
        "small-ridge-in-the-preconditioner",
        "A ridge of three times the smallest eigenvalue is added to the preconditioner, which slows the solver down.",
        "cost",
        {"regression.geometric": "fails", "regression.iterations": "fails"},
        {"sketch_jacobian": slightly_damped},
        only=few_seeds,
    ),
)
