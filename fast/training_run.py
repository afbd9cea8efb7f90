"""What every fast training run shares: the record, the rule that makes one iteration, the safeguarded step.

Mathematics: the loop of `reference.gauss_newton` and the decisions of `reference.safeguard`, over any model that can
solve ``G g = f - y``, try a step ``-J^T g`` without taking it, take it, and go back to where it was. The two-layer runs
of `fast.gauss_newton` and the deep ones of `fast.multi_layer_gauss_newton` fill in how.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Generic, Literal, TypeVar, get_args

import numpy as np
from numpy.typing import ArrayLike

from fast.regression import solve_cholesky, solve_conjugate
from reference.notation import (
    FloatArray,
    InputError,
    SingularGramError,
    breakdown_explained,
    check_labels,
    check_residual,
    unfinished,
)
from reference.regression import check_accuracy
from reference.safeguard import (
    DAMPING,
    LOOK_AHEAD,
    Move,
    Step,
    allowance_after,
    crept,
    length,
    next_move,
    stall_message,
)
from reference.trace import Network, Trace

Solver = Literal["cholesky", "sketch", "conjugate"]
Counts = dict[str, int]

TrialT = TypeVar("TrialT")
SavedT = TypeVar("SavedT")
NetworkT = TypeVar("NetworkT", bound=Network)


class TrainingRun(ABC, Generic[TrialT, SavedT, NetworkT]):
    """A training run in progress: one `iterate` per step.

    Parameters
    ----------
    X : ndarray (n, d)
        Data points, checked. Kept, so not the caller's array.
    y : array_like (n,)
        Labels.
    solver : {"cholesky", "sketch", "conjugate"}
        How ``G g = f - y`` is solved.
    step : {"full", "safeguarded"}
        See `reference.safeguard`.
    accuracy : float
        Relative residual at which ``solver="sketch"`` and ``"conjugate"`` stop.

    Attributes
    ----------
    told : ndarray (n, d)
        The data points that a message speaks of: ``X``, unless that is made from them.
    residual : ndarray (n,)
        ``f - y`` now.
    residual_norms : list of float
        Its norm at the start and after each step.
    counts, preparation_counts
        Work of each iteration so far, and before the first.
    """

    def __init__(self, X: FloatArray, y: ArrayLike, *, solver: Solver, step: Step, accuracy: float) -> None:
        self.X = self.told = X
        self.y = check_labels(y, len(X))
        if solver not in get_args(Solver):
            raise InputError(f"solver is {solver!r}; pass 'cholesky', 'sketch' or 'conjugate'")
        if step not in ("full", "safeguarded"):
            raise InputError(f"step is {step!r}; pass 'full' or 'safeguarded'")
        self.solver = solver
        self.safeguarded = step == "safeguarded"
        self.allowance, self.stopped = LOOK_AHEAD, ""
        check_accuracy(accuracy)
        self.accuracy = accuracy
        self.counts: list[Counts] = []
        self.preparation_counts: Counts = {}
        self.residual_norms: list[float] = []
        self.residual = self.y
        self._phases: Counts = {}

    def run(self, iterations: int, tolerance: float) -> Trace[NetworkT]:
        """Iterate until the tolerance or the number of iterations is reached."""
        while unfinished(self.residual_norms, iterations, tolerance) and not self.stopped:
            self.iterate()
        return self.trace(tolerance)

    def iterate(self) -> None:
        """Take one Gauss-Newton step.

        Raises
        ------
        NothingFiresError
            A data point on which nothing fires.
        SingularGramError
            ``G`` is singular to working precision. Only without the safeguard.
        DivergenceError
            The residual grew out of bounds, or had grown when one of the two above occurred. Likewise.
        """
        self._phases = {}
        if self.safeguarded:
            self._check_every_point_fires()
            move = self._take_safeguarded_step()
        else:
            with breakdown_explained(self.residual_norms):
                self._check_every_point_fires()
                g = self._solve()
            self._take(self._try(g))
        self.residual_norms.append(self._known_norm(self.residual))
        if not self.safeguarded:
            check_residual(self.residual_norms, self.y)
        elif move == "stall" or crept(self.residual_norms):
            condition = float(np.linalg.cond(self._gram()))
            self.stopped = stall_message(self.told, self.y, self.residual_norms, condition, move)
        self.counts.append(self._phases | self._state_counts())

    def trace(self, tolerance: float) -> Trace[NetworkT]:
        """Return the run so far."""
        converged = self.residual_norms[-1] <= tolerance * self.residual_norms[0]
        return Trace(
            self._network(),
            np.array(self.residual_norms),
            self.residual + self.y,
            converged,
            list(self.counts),  # the run may go on
            self.preparation_counts,
            "" if converged else self.stopped,
        )

    def _take_safeguarded_step(self) -> Move:
        """Try, look ahead, shorten: whatever `reference.safeguard.next_move` says, until something is kept."""
        current: float = self.residual_norms[-1]
        saved: SavedT | None = None
        try:
            first = self._direction()
        except SingularGramError:
            return "stall"
        trial = self._try(first)
        ahead: list[float] = [self._norm_after(trial)]
        shortened: list[float] = []
        while True:
            move = next_move(current, ahead, shortened, self.allowance)
            if move == "advance":
                saved = self._save() if saved is None else saved
                self._take(trial)
                try:
                    trial = self._try(self._direction())
                    ahead.append(self._norm_after(trial))
                except SingularGramError:
                    ahead.append(np.inf)
                continue
            if move == "accept":
                self._take(trial)
                break
            if saved is not None:
                self._restore(saved)
                saved = None
            if move == "stall":
                break
            trial = self._try(length(shortened) * first)
            shortened.append(self._norm_after(trial))
        self.allowance = allowance_after(self.allowance, ahead, shortened)
        return move

    def _direction(self) -> FloatArray:
        """Solve ``G g = f - y``, damped where ``G`` is singular.

        Raises
        ------
        SingularGramError
            ``G`` is 0, so that no step changes anything: of a normalized layer a single neuron fires on every point.
        """
        try:
            return self._solve()
        except SingularGramError:
            G = self._gram()
            self._count(solve=len(G) ** 3 // 3)
            return solve_cholesky(G + DAMPING * np.trace(G) * np.eye(len(G)), self.residual)

    def _solve_conjugate(self) -> FloatArray:
        """Solve ``G g = f - y`` without a factor."""
        solution = solve_conjugate(self._gram(), self.residual, accuracy=self.accuracy)
        self._count(solve=solution.work)
        return solution.solution

    def _count(self, **phases: int) -> None:
        """Add to the work of this iteration."""
        for phase, work in phases.items():
            self._phases[phase] = self._phases.get(phase, 0) + work

    def _known_norm(self, residual: FloatArray) -> float:
        """Compute a norm, but none smaller than rounding lets us know; a recurrence may well arrive at 0."""
        return max(float(np.linalg.norm(residual)), min(self._rounding(), self.residual_norms[-1]))

    def _rounding(self) -> float:
        """Return the size below which a residual is no more than rounding; 0 where it was computed afresh."""
        return 0.0

    def _start(self) -> None:
        """Note the first residual."""
        self.residual_norms.append(float(np.linalg.norm(self.residual)))
        check_residual(self.residual_norms, self.y)

    # What each kind of run does its own way

    @abstractmethod
    def _check_every_point_fires(self) -> None:
        """Raise `NothingFiresError` if some data point has a zero gradient."""

    @abstractmethod
    def _gram(self) -> FloatArray:
        """Compute ``G``."""

    @abstractmethod
    def _solve(self) -> FloatArray:
        """Solve ``G g = f - y``."""

    @abstractmethod
    def _try(self, g: FloatArray) -> TrialT:
        """Prepare the step ``W - J^T g``; nothing moves yet."""

    @abstractmethod
    def _norm_after(self, trial: TrialT) -> float:
        """Compute the residual norm after it, infinite when it would leave some data point without a firing neuron."""

    @abstractmethod
    def _take(self, trial: TrialT) -> None:
        """Take the step that was tried last."""

    @abstractmethod
    def _save(self) -> SavedT:
        """Keep what is needed to come back here."""

    @abstractmethod
    def _restore(self, saved: SavedT) -> None:
        """Come back to where `_save` was called."""

    @abstractmethod
    def _state_counts(self) -> Counts:
        """Say how large the present state is, for the record of an iteration."""

    @abstractmethod
    def _network(self) -> NetworkT:
        """Return the network as it is now."""
