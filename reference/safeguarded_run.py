"""The safeguarded Gauss-Newton loop over any kind of network: trials, look-ahead, shorter steps.

Mathematics: `reference.safeguard` decides; here its decisions are carried out. What the loop has to know of a kind of
network is its `Model`: the Gram matrix, the step ``W - J^T g``, and whether it still fires, for two layers or for many.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from reference.notation import FloatArray, SingularGramError, check_residual, unfinished
from reference.regression import solve_exact
from reference.safeguard import (
    DAMPING,
    LOOK_AHEAD,
    Move,
    allowance_after,
    crept,
    length,
    next_move,
    stall_message,
)
from reference.trace import Network, Trace

NetworkT = TypeVar("NetworkT", bound=Network)


@dataclass(frozen=True, eq=False)
class Model(Generic[NetworkT]):
    """What the loop has to know of a kind of network, on given data points.

    Parameters
    ----------
    X : ndarray (n, d)
        Data points.
    check : callable
        ``check(network)`` raises `NothingFiresError` if no neuron fires on some data point.
    alive : callable
        ``alive(network)`` tells whether some neuron fires on every data point.
    gram : callable
        ``gram(network)`` computes ``G`` (n, n).
    move : callable
        ``move(network, g)`` makes the step ``W - J^T g``.
    work : dict
        Multiply-adds: ``pattern`` and ``step`` of one trial, ``gram`` of one ``G``.
    """

    X: FloatArray
    check: Callable[[NetworkT], None]
    alive: Callable[[NetworkT], bool]
    gram: Callable[[NetworkT], FloatArray]
    move: Callable[[NetworkT, FloatArray], NetworkT]
    work: dict[str, int]


@dataclass(frozen=True, eq=False)
class Point(Generic[NetworkT]):
    """Weights that a safeguarded run has reached, on trial or for good.

    Parameters
    ----------
    network : Network
        The weights.
    residual : ndarray (n,)
        ``f - y``.
    norm : float
        ``||f - y||``; infinite when no neuron fires on some data point, which bars the weights from being kept.
    """

    network: NetworkT
    residual: FloatArray
    norm: float


def take_safeguarded_steps(
    network: NetworkT, model: Model[NetworkT], y: FloatArray, *, iterations: int, tolerance: float
) -> Trace[NetworkT]:
    """Repeat the safeguarded step; see `reference.safeguard`.

    Parameters
    ----------
    network : Network
        Where to start. Not modified.
    model : Model
        Of its kind, on the data.
    y : ndarray (n,)
        Labels.
    iterations : int
        At most this many steps.
    tolerance : float
        Stop at this multiple of the first residual.

    Returns
    -------
    Trace

    Raises
    ------
    InputError
        The first residual is not finite.
    NothingFiresError
        A data point on which no neuron fires at the start.
    """
    residual = network.predict(model.X) - y
    here = Point(network, residual, float(np.linalg.norm(residual)))
    residual_norms = [here.norm]
    check_residual(residual_norms, y)
    counts: list[dict[str, int]] = []
    allowance, stopped = LOOK_AHEAD, ""
    while unfinished(residual_norms, iterations, tolerance) and not stopped:
        model.check(here.network)
        search = Search(here, model, y)
        move = search.run(allowance)
        if move == "accept":
            here = search.newest
        residual_norms.append(here.norm)
        counts.append(search.counts())
        allowance = allowance_after(allowance, search.ahead, search.shortened)
        if move == "stall" or crept(residual_norms):
            condition = float(np.linalg.cond(model.gram(here.network)))
            stopped = stall_message(model.X, y, residual_norms, condition, move)
    converged = residual_norms[-1] <= tolerance * residual_norms[0]
    stopped = "" if converged else stopped
    return Trace(here.network, np.array(residual_norms), here.residual + y, converged, counts, stopped=stopped)


class Search(Generic[NetworkT]):
    """One safeguarded iteration: trials from ``start`` until one is kept or none is left.

    Parameters
    ----------
    start : Point
        The accepted weights.
    model : Model
        Of their kind, on the data.
    y : ndarray (n,)
        Labels.

    Attributes
    ----------
    newest : Point
        The newest trial.
    ahead : list of float
        Residual norms after 1, 2, ... full steps.
    shortened : list of float
        Residual norms after steps of length 1/2, 1/4, ... from ``start``.
    solves : int
        Systems solved, those found singular included.
    """

    def __init__(self, start: Point[NetworkT], model: Model[NetworkT], y: FloatArray) -> None:
        self.start, self.model, self.y = start, model, y
        self.newest = start
        self.ahead: list[float] = []
        self.shortened: list[float] = []
        self.solves = 0

    def run(self, allowance: int) -> Move:
        """Make trials until `next_move` says to keep the newest or to give up.

        Parameters
        ----------
        allowance : int
            How many full steps may follow the first.

        Returns
        -------
        {"accept", "stall"}
        """
        try:
            first = self.direction(self.start)
        except SingularGramError:
            return "stall"
        self.newest = self.moved(self.start, first)
        self.ahead.append(self.newest.norm)
        while True:
            move = next_move(self.start.norm, self.ahead, self.shortened, allowance)
            if move == "advance":
                try:
                    self.newest = self.moved(self.newest, self.direction(self.newest))
                    self.ahead.append(self.newest.norm)
                except SingularGramError:
                    self.ahead.append(np.inf)
            elif move == "shorten":
                self.newest = self.moved(self.start, length(self.shortened) * first)
                self.shortened.append(self.newest.norm)
            else:
                return move

    def direction(self, point: Point[NetworkT]) -> FloatArray:
        """Solve ``G g = f - y``, or ``(G + DAMPING trace(G) I) g = f - y`` where ``G`` is singular; returns (n,).

        Raises
        ------
        SingularGramError
            ``G`` is 0, so that no step changes anything: of a normalized layer a single neuron fires on every point.
        """
        G = self.model.gram(point.network)
        self.solves += 1
        try:
            return solve_exact(G, point.residual)
        except SingularGramError:
            self.solves += 1
            return solve_exact(G + DAMPING * np.trace(G) * np.eye(len(G)), point.residual)

    def moved(self, point: Point[NetworkT], g: FloatArray) -> Point[NetworkT]:
        """Make the step ``W - J^T g`` from a point and look at where it leads."""
        network = self.model.move(point.network, g)
        residual = network.predict(self.model.X) - self.y
        norm = float(np.linalg.norm(residual)) if self.model.alive(network) else np.inf
        return Point(network, residual, norm)

    def counts(self) -> dict[str, int]:
        """Count the multiply-adds of all trials."""
        trials, full_steps, work = len(self.ahead) + len(self.shortened), len(self.ahead), self.model.work
        return {
            "pattern": trials * work["pattern"],
            "gram": full_steps * work["gram"],
            "solve": self.solves * len(self.y) ** 3,
            "step": trials * work["step"],
        }
