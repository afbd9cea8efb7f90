"""One search of the safeguarded loop on a network made up for it: what cannot be solved, what it costs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from reference.notation import FloatArray
from reference.safeguard import HALVINGS
from reference.safeguarded_run import Model, Point, Search


@dataclass
class Number:
    """A network whose only prediction is its only weight."""

    weight: float

    def predict(self, X: ArrayLike) -> FloatArray:
        return np.array([self.weight])

    def to_dense(self) -> Number:
        return self


def search(kernel: dict[float, float]) -> Search[Number]:
    """Start at weight 1 and label 0 with steps in the wrong direction; ``kernel`` is ``G`` at each weight."""
    model = Model(
        np.ones((1, 1)),
        check=lambda network: None,
        alive=lambda network: True,
        gram=lambda network: np.array([[kernel[network.weight]]]),
        move=lambda network, g: Number(network.weight + g.item()),
        work={"pattern": 2, "gram": 3, "step": 5},
    )
    start = Number(1.0)
    return Search(Point(start, np.array([1.0]), 1.0), model, np.zeros(1))


def test_a_look_ahead_ends_where_nothing_can_be_solved() -> None:
    found = search({1.0: 1.0, 2.0: 0.0})
    assert found.run(30) == "stall"
    assert found.ahead == [2.0, np.inf]
    assert found.shortened == [1 + 0.5**count for count in range(1, HALVINGS + 1)]
    # One solve at the start; at weight 2 another, and one with damping, which does not help.
    assert (found.solves, found.counts()["solve"]) == (3, 3)


def test_a_start_where_nothing_can_be_solved_is_a_stall() -> None:
    found = search({1.0: 0.0})
    assert found.run(30) == "stall"
    assert (found.solves, found.ahead, found.shortened) == (2, [], [])


def test_every_trial_is_counted() -> None:
    found = search({1.0: 1.0})
    assert found.run(0) == "stall"
    trials = 1 + HALVINGS
    assert found.counts() == {"pattern": 2 * trials, "gram": 3, "solve": 1, "step": 5 * trials}
