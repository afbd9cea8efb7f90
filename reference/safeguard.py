"""The decisions of the safeguarded Gauss-Newton step: which trial to make next, what to accept, when to give up.

Mathematics. From the accepted weights ``W`` with residual ``r = f(W) - y`` and direction ``g``, the safeguarded step

1. tries the full step ``W - J^T g`` and keeps it when the residual has fallen;
2. otherwise goes on from there by full steps, on trial, and keeps the first point whose residual is below ``||r||``;
3. otherwise returns to ``W`` and tries ``W - s J^T g`` with ``s = 1/2, 1/4, ...``, and keeps the first that is lower.

What is kept is one iteration, so no iteration raises the residual. In exact arithmetic and away from kinks some shorter
step lowers it: ``f`` is piecewise linear in ``W``, so where ``G g = r`` the residual is ``(1 - s) r`` for small ``s``.

*Fallen* means ``||r_new|| <= (1 - s / 10^4) ||r||`` (Armijo 1966; the constant is that of Dennis and Schnabel 1983).
Number 2 is the watchdog of Chamberlain, Lemarechal, Pedersen and Powell (1982), with a longer leash. It is
there because full steps on nearly parallel data climb first and then converge, while a method that refuses every
climb creeps along and stops; Levenberg-Marquardt damping creeps too (measured).

Departures from these sources
1. The leash is `LOOK_AHEAD` steps or a residual `CLIMB_ALLOWED` times ``||r||``, and is halved after each failure until
   a look-ahead succeeds: on data where climbing does not help it soon costs nothing.
2. A trial after which no neuron fires on some data point counts as infinitely bad: that point could not be trained any
   more. A full step that halves the residual is taken with this one exception.
3. Where ``G`` is singular, ``G + lambda I`` with ``lambda = DAMPING trace(G)`` takes its place (Levenberg 1944). Its
   condition number is at most ``1 + 1 / DAMPING``, since no eigenvalue of ``G`` exceeds the trace, and the residual
   falls along the resulting direction too: the slope of ``||r||^2 / 2`` is ``-r^T G (G + lambda I)^-1 r <= 0``.

These are pure functions of residual norms, so that two codes that measure the same residuals take the same decisions.

Cost: one evaluation of the residual per trial, one solve per full step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from reference.notation import UNIT_ROUNDOFF, FloatArray, closest_pair

Step = Literal["full", "safeguarded"]
Move = Literal["accept", "advance", "shorten", "stall"]

SUFFICIENT_DECREASE = 1e-4
"""A step of length ``s`` must lower the residual by at least this share of ``s``."""

LOOK_AHEAD = 30
"""Full steps that may follow on trial when the first did not lower the residual. On badly separated data ten were often
too few, and sixty brought no further run to its end."""

CLIMB_ALLOWED = 1000.0
"""A trial whose residual exceeds this multiple of the accepted one is not followed further. Runs on clashing pairs at
angle 0.003 came back from beyond 100."""

HALVINGS = 30
"""Step lengths tried along one direction. Even the shortest, ``2^-30``, must lower the residual by some 800 times its
unit roundoff, so that rounding is not mistaken for progress."""

DAMPING = 1e-10
"""Multiple of ``trace(G)`` that is added to the diagonal of a singular ``G``."""

STALL_WINDOW = 20
"""Iterations over which progress is judged."""

STALL_RATIO = 0.95
"""A run whose residual stays above this share of what it was `STALL_WINDOW` iterations before has stalled. The slowest
run seen to succeed came down to 0.89 in its worst window; no run beyond 0.95 did, though given 400 iterations."""


def next_move(current: float, ahead: Sequence[float], shortened: Sequence[float], allowance: int) -> Move:
    """Decide what follows the newest trial of an iteration.

    Parameters
    ----------
    current : float
        Residual norm at the accepted weights.
    ahead : sequence of float
        Residual norms after 1, 2, ... full steps on trial, at least one; infinite for a trial that left some data
        point without a firing neuron.
    shortened : sequence of float
        Residual norms after steps of length 1/2, 1/4, ... from the accepted weights; likewise.
    allowance : int
        How many full steps may follow the first.

    Returns
    -------
    {"accept", "advance", "shorten", "stall"}
        Keep the newest trial; take one more full step from it; return to the accepted weights and try the next
        shorter step (`length`); return to them and give up.

    Examples
    --------
    >>> next_move(8.0, [4.0], [], 30), next_move(8.0, [9.0], [], 30), next_move(8.0, [9.0, 7.0], [], 30)
    ('accept', 'advance', 'accept')
    >>> next_move(8.0, [9.0], [], 0), next_move(8.0, [9.0], [8.5], 0), next_move(8.0, [9.0], [8.5, 7.0], 0)
    ('shorten', 'shorten', 'accept')
    """
    if not shortened:
        if fallen(current, ahead[-1], 1.0):
            return "accept"
        follow = len(ahead) <= allowance and ahead[-1] <= CLIMB_ALLOWED * current
        return "advance" if follow else "shorten"
    if fallen(current, shortened[-1], length(shortened) * 2):
        return "accept"
    return "shorten" if len(shortened) < HALVINGS else "stall"


def fallen(current: float, trial: float, step_length: float) -> bool:
    """Tell whether a trial lowers the residual enough: ``trial <= (1 - step_length / 10^4) current``."""
    return trial <= (1 - SUFFICIENT_DECREASE * step_length) * current


def length(shortened: Sequence[float]) -> float:
    """Return the length of the next shorter step: half of the last one.

    Parameters
    ----------
    shortened : sequence of float
        Residual norms of the shorter steps tried so far.

    Returns
    -------
    float

    Examples
    --------
    >>> length([]), length([8.5])
    (0.5, 0.25)
    """
    return 0.5 ** (len(shortened) + 1)


def allowance_after(allowance: int, ahead: Sequence[float], shortened: Sequence[float]) -> int:
    """Return the allowance of the next iteration; a run starts with `LOOK_AHEAD`.

    Parameters
    ----------
    allowance : int
        The one of this iteration.
    ahead, shortened : sequence of float
        Its trials; see `next_move`.

    Returns
    -------
    int
        Half of it when looking ahead failed, `LOOK_AHEAD` when it succeeded, the same when the first step was kept.

    Examples
    --------
    >>> allowance_after(8, [9.0], [7.0]), allowance_after(8, [9.0, 7.0], []), allowance_after(8, [4.0], [])
    (4, 30, 8)
    """
    if shortened:
        return allowance // 2
    return LOOK_AHEAD if len(ahead) > 1 else allowance


def crept(residual_norms: Sequence[float]) -> bool:
    """Tell whether the last `STALL_WINDOW` iterations achieved next to nothing.

    Parameters
    ----------
    residual_norms : sequence of float
        Residuals at the start and after each iteration.

    Returns
    -------
    bool

    Examples
    --------
    >>> crept([1.0] + 19 * [0.99]), crept([1.0] + 20 * [0.99]), crept([1.0] + 20 * [0.9])
    (False, True, False)
    """
    if len(residual_norms) <= STALL_WINDOW:
        return False
    return residual_norms[-1] > STALL_RATIO * residual_norms[-1 - STALL_WINDOW]


def stall_message(X: FloatArray, y: FloatArray, residual_norms: Sequence[float], condition: float, move: Move) -> str:
    """Say in one sentence where a run stalled, why, and what to do; see ``Trace.stopped``.

    Parameters
    ----------
    X : ndarray (n, d)
        Data points.
    y : ndarray (n,)
        Labels.
    residual_norms : sequence of float
        Residuals at the start and after each iteration, the stalled one included.
    condition : float
        Condition number of ``G`` at the end; infinite when it is singular.
    move : {"accept", "stall"}
        How the last iteration ended: by a step, though a small one, or by none.

    Returns
    -------
    str

    Examples
    --------
    >>> X, y = np.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]]), np.array([1.0, -1.0, 1.0])
    >>> print(stall_message(X, y, [2.0, 1.0, 1.0], 1e9, "stall"))
    stalled at iteration 2 with residual 1, 0.5 of the start: no step lowered it, neither full ones nor shorter ones \
down to length 2^-30; the closest data points are rows 0 and 1 (distance 0.632, labels 1 and -1) and the condition \
number of the Gram matrix is 1e+09: widen the network, lower alpha, or separate the data (centre it, drop \
near-duplicates)
    """
    first, last, iteration = residual_norms[0], residual_norms[-1], len(residual_norms) - 1
    place = f"at iteration {iteration} with residual {last:.3g}, {last / first if first else 1:.3g} of the start"
    # The measure of rounding of `check_residual`.
    if last <= 1e6 * UNIT_ROUNDOFF * max(first, float(np.linalg.norm(y))):
        return (
            f"stopped {place}: what is left is rounding error, which no step lowers; "
            "pass a tolerance to stop before it"
        )
    if move == "stall":
        cause = f"no step lowered it, neither full ones nor shorter ones down to length 2^-{HALVINGS}"
    else:
        cause = f"the last {STALL_WINDOW} iterations lowered it by less than {1 - STALL_RATIO:.0%}"
    delta, i, j = closest_pair(X)
    pair = f"the closest data points are rows {i} and {j} (distance {delta:.3g}, labels {y[i]:.3g} and {y[j]:.3g}) and "
    return (
        f"stalled {place}: {cause}; "
        f"{pair if len(X) > 1 else ''}the condition number of the Gram matrix is {condition:.1g}: "
        "widen the network, lower alpha, or separate the data (centre it, drop near-duplicates)"
    )
