"""Training loops with one defect each, for the faults of several experiments."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fast.all_pairs import AllTrial
from fast.gauss_newton import EventRun, TreeRun
from fast.two_layer import ImplicitNetwork, StartingNetwork
from fast.watched_pairs import Trial
from reference.notation import FloatArray
from reference.trace import Trace

RIDGE = 1e-3


def train(
    network: StartingNetwork,
    X: FloatArray,
    y: FloatArray,
    *,
    iterations: int,
    tolerance: float = 0.0,
    search: str = "events",
    events: Callable[..., EventRun] = EventRun,
    tree: Callable[..., TreeRun] = TreeRun,
) -> Trace[ImplicitNetwork]:
    """Train as `fast.gauss_newton.train` does, by other runs.

    Parameters
    ----------
    network, X, y, iterations, tolerance, search
        As there.
    events, tree : callable
        What takes the place of `EventRun` and of `TreeRun`.

    Returns
    -------
    Trace
    """
    run = (events if search == "events" else tree)(network, X, y)
    return run.run(iterations, tolerance)


class ShortEvents(EventRun):
    """Takes 0.9 of every step."""

    def _solve(self) -> FloatArray:
        return 0.9 * super()._solve()


class TimidEvents(EventRun):
    """Takes 0.4 of every step."""

    def _solve(self) -> FloatArray:
        return 0.4 * super()._solve()


class RidgeEvents(EventRun):
    """Solves with a ridge on ``G`` that does not shrink as the width grows."""

    def _gram(self) -> FloatArray:
        G: FloatArray = super()._gram() + RIDGE * np.eye(len(self.X))
        return G


class RecurrentEvents(EventRun):
    """Believes that a step does what the linear model says."""

    def _take(self, trial: Trial | AllTrial) -> None:
        expected: FloatArray = self.residual - self._gram() @ trial.g
        super()._take(trial)
        self.residual = expected
