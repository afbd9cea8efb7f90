"""Planted faults for the claims about time: loops that are slow by the clock, one that cheats it, a false control."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from fast.all_pairs import AllTrial
from fast.baselines import DenseRun
from fast.gauss_newton import EventRun, TreeRun
from fast.two_layer import StartingNetwork, score_blocks
from fast.watched_pairs import Trial
from reference.notation import FloatArray
from verify.claims import time
from verify.experiment import Experiment, Finding, Inputs, Result
from verify.faults.fault import Fault


class SortingTrees(TreeRun):
    """Sorts all scores in every iteration."""

    def _look(self) -> None:
        np.sort(self.forest.levels[0].reshape(self.forest.n, -1), axis=1)
        super()._look()


class ScanningEvents(EventRun):
    """Multiplies all weights with the data in every iteration."""

    def _try(self, g: FloatArray) -> Trial | AllTrial:
        for _ in score_blocks(self.initial.weights, self.X):
            pass
        return super()._try(g)


class EarlyTrees(TreeRun):
    """Takes all its steps where it is begun for the first time on a network, and only shows them when asked."""

    done: ClassVar[dict[str, Any]] = {}

    def __init__(self, network: StartingNetwork, X: ArrayLike, y: ArrayLike) -> None:
        if self.done.get("given") is not network:
            super().__init__(network, X, y)
            while len(self.residual_norms) < 2 + time.ROUNDS:
                super().iterate()
            self.done.update(given=network, norms=self.residual_norms)
        self.residual_norms = self.done["norms"][:1]

    def iterate(self) -> None:
        """Show a step."""
        self.residual_norms.append(self.done["norms"][len(self.residual_norms)])


class DawdlingDense(DenseRun):
    """Looks at all its neurons five times in every iteration; every number is right."""

    def iterate(self) -> None:
        """Take one step."""
        super().iterate()
        for _ in range(4):
            self._scan()
            self.residual_norms.pop()


class ShortStepsWhenWide(EventRun):
    """Steps a thousandth short, but only at a width at which no run is compared with a dense one."""

    def _try(self, g: FloatArray) -> Trial | AllTrial:
        return super()._try(g * (1 - 1e-3 * (self.initial.width >= 1 << max(time.EXPONENTS))))


def decide_with_another_control(results: Sequence[tuple[Inputs, Result]]) -> list[Finding]:
    """Decide with a control that takes 1.3 times as long as its twin."""
    differing = []
    for inputs, result in results:
        iteration = {**result["iteration"], "control": [1.3 * seconds for seconds in result["iteration"]["compacted"]]}
        differing.append((inputs, {**result, "iteration": iteration}))
    return time.decide(differing)


def another_control(experiment: Experiment) -> Experiment:
    """Put that decision in the place of the experiment's."""
    return replace(experiment, decide=decide_with_another_control)


def some(inputs: Inputs) -> bool:
    """Take three seeds."""
    return bool(inputs["seed"] < 3)


FAULTS = (
    Fault(
        "slow-loops",
        "Every iteration of the tree path sorts all scores; every one of the event path multiplies all weights.",
        "cost",
        {
            "time.dense": "fails",
            "time.growth": "fails",
            "time.crossover": "fails",
            "time.events_dense": "fails",
            "time.events_compacted": "fails",
            "time.events_start": "fails",
            "time.events_many": "fails",
            "time.late": "fails",
        },
        {"start": SortingTrees, "start_events": ScanningEvents},
        only=some,
    ),
    Fault(
        "work-before-the-clock",
        "The tree path takes all its steps before it is timed.",
        "cost",
        {"time.paper": "fails", "time.compacted": "fails", "time.start": "fails"},
        {"start": EarlyTrees},
        only=some,
    ),
    Fault(
        "opponents-dawdle",
        "The dense and the compacted loop look at all their neurons five times in every iteration.",
        "cost",
        {"time.opponents": "fails"},
        {"start_dense": DawdlingDense},
        only=some,
    ),
    Fault(
        "short-steps-when-wide",
        "The event path takes steps a thousandth short, at the largest widths alone.",
        "value",
        {claim.id: "invalid" for claim in time.CLAIMS},
        {"start_events": ShortStepsWhenWide},
        only=some,
    ),
    Fault(
        "control-that-differs",
        "The control is another loop than its twin, and takes 1.3 times as long.",
        "statistics",
        {claim.id: "invalid" for claim in time.CLAIMS},
        alter=another_control,
    ),
)
"""One fault at least for each claim, besides the one in the control."""
