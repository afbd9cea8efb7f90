"""Faults that `verify.claims.sensitivity` must catch."""

from __future__ import annotations

from typing import Any

import numpy as np

import fast.gauss_newton
from fast.jacobian import FiredJacobian
from fast.sketch import sketch_jacobian
from reference.notation import FloatArray
from reference.trace import Trace
from reference.two_layer import TwoLayerNetwork
from verify.faults.fault import Fault
from verify.faults.opponents import train_by_short_steps


def rounds_labels(
    network: TwoLayerNetwork, X: FloatArray, y: FloatArray, **options: Any  # noqa: ANN401
) -> Trace[Any]:
    """Train on labels rounded to one decimal."""
    return fast.gauss_newton.train(network, X, np.round(y, 1), **options)


def ignores_the_shift(
    network: TwoLayerNetwork, X: FloatArray, y: FloatArray, **options: Any  # noqa: ANN401
) -> Trace[Any]:
    """Train with a plain ReLU, whatever the shift."""
    return fast.gauss_newton.train(TwoLayerNetwork(network.weights, network.signs, 0.0), X, y, **options)


class SketchAndSolve(fast.gauss_newton.EventRun):
    """Takes the sketched Gram matrix for the Gram matrix, instead of for a preconditioner."""

    def _solve_sketched(self, jacobian: FiredJacobian) -> FloatArray:
        sketched = sketch_jacobian(self.draw, jacobian)
        self._count(sketch=sketched.size, solve=len(self.X) ** 3)
        return np.asarray(np.linalg.solve(sketched.T @ sketched, self.residual))


class SquaresItsWork(fast.gauss_newton.EventRun):
    """Records the square of the sketch's work."""

    def _count(self, **phases: int) -> None:
        if "sketch" in phases:
            phases["sketch"] **= 2
        super()._count(**phases)


class LooseSolver(fast.gauss_newton.EventRun):
    """Stops at the fourth root of the accuracy asked for."""

    def __init__(self, *problem: Any, accuracy: float, **options: Any) -> None:  # noqa: ANN401
        super().__init__(*problem, accuracy=accuracy**0.25, **options)


class ExactSolver(fast.gauss_newton.EventRun):
    """Solves to rounding, whatever accuracy is asked for."""

    def __init__(self, *problem: Any, accuracy: float, **options: Any) -> None:  # noqa: ANN401
        del accuracy
        super().__init__(*problem, **options)


FAULTS: tuple[Fault, ...] = (
    Fault(
        "labels-rounded",
        "Training rounds the labels to one decimal.",
        "value",
        {"sensitivity.scale_law": "fails"},
        {"train": rounds_labels},
    ),
    Fault(
        "sensitivity-short-steps",
        "Training takes a fifth of every step.",
        "value",
        {"sensitivity.shift": "fails", "sensitivity.scale": "fails", "sensitivity.same_shift": "fails"},
        {"train": train_by_short_steps},
    ),
    Fault(
        "shift-ignored",
        "Training uses a plain ReLU, whatever the shift.",
        "value",
        {"sensitivity.sparse": "fails", "sensitivity.small_scale": "fails"},
        {"train": ignores_the_shift},
    ),
    Fault(
        "sketch-and-solve",
        "The sketch is taken for the Jacobian itself.",
        "value",
        {"sensitivity.sketch": "fails"},
        {"start_events": SketchAndSolve},
    ),
    Fault(
        "sketch-work-squared",
        "The work of sketching is squared.",
        "cost",
        {"sensitivity.sketch_work": "fails"},
        {"start_events": SquaresItsWork},
    ),
    Fault(
        "solver-looser-than-asked",
        "The solver stops at the fourth root of the accuracy asked for.",
        "value",
        {"sensitivity.accuracy": "fails"},
        {"start_events": LooseSolver},
    ),
    Fault(
        "accuracy-ignored",
        "The solver solves to rounding, whatever accuracy is asked for.",
        "cost",
        {"sensitivity.loose": "fails"},
        {"start_events": ExactSolver},
    ),
)
