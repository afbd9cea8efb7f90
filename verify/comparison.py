"""Two training runs side by side: their errors as fractions of bounds, and the verdict on the worst of them.

A run is a `Trace`, or `Stopped` when one of the project's errors ended it. A run that stops equals one that stops with
the same error, after the same residuals, and differs from every other. Errors are reported as a fraction of their
bound: at most 1 means equal. A claim of equality is about all runs, so one larger error refutes it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, SupportsFloat

import numpy as np

from reference.notation import BoolArray, DivergenceError, FloatArray, InputError
from reference.trace import Trace
from verify import tolerances
from verify.experiment import Finding, Inputs, Result
from verify.statistics import Interval, decide_below, make_finding

if TYPE_CHECKING:
    from matplotlib.figure import Figure

QUANTITIES = ("residuals", "training predictions", "unseen predictions", "dense weights")
UNEQUAL = 1e300
"""Stands for an error without a size, such as a different number of residuals or an error raised; JSON has no
infinity."""
MARGIN = "<= 1 (error as a fraction of its bound)"


@dataclass(frozen=True, eq=False)
class Stopped:
    """A training run that an error stopped: the error's name, and the residuals up to there if it tells them."""

    error: str
    residual_norms: FloatArray


Run = Trace[Any] | Stopped
"""What a training run came to."""


def attempt(train: Callable[[], Trace[Any]]) -> Run:
    """Train, or note the error that stopped the run."""
    try:
        return train()
    except (InputError, DivergenceError) as failure:
        return Stopped(type(failure).__name__, np.array(getattr(failure, "residual_norms", [])))


def largest(errors: Iterable[SupportsFloat]) -> float:
    """Return the largest error; `UNEQUAL` where one is not finite. Python's `max` passes over a NaN that is not first.

    Examples
    --------
    >>> largest([0.5, 2.0]), largest([0.5, float("nan")]) == UNEQUAL
    (2.0, True)
    """
    worst = float(np.max([float(error) for error in errors]))
    return worst if math.isfinite(worst) else UNEQUAL


def residuals_apart(longest: Sequence[float], others: Iterable[tuple[Sequence[float], int]]) -> float:
    """Compare the residual norms of loops that were only timed: a loop that does not train proves nothing by the clock.

    Parameters
    ----------
    longest : sequence of float
        Residual norms of the loop that went farthest, that of the start first.
    others : iterable of (sequence of float, int)
        Those of the others, and how many iterations each was asked for.

    Returns
    -------
    float
        Largest difference as a share of the start. `UNEQUAL` where a loop stopped short or a norm is no number.

    Examples
    --------
    >>> residuals_apart([2.0, 1.0, 0.5], [([2.0, 1.0], 1), ([2.0, 1.25, 0.5], 2)])
    0.125
    >>> residuals_apart([2.0, 1.0], [([2.0], 1)]) == UNEQUAL
    True
    """
    worst = 0.0
    for norms, iterations in others:
        if len(norms) != iterations + 1 or len(norms) > len(longest):
            return UNEQUAL
        error = float(np.max(np.abs(np.subtract(norms, longest[: len(norms)])))) / longest[0]
        worst = max(worst, error) if np.isfinite(error) else UNEQUAL
    return worst


def in_two_parts(train: Callable[..., Trace[Any]], network: Any, first: int, second: int) -> Trace[Any]:  # noqa: ANN401
    """Train for ``first`` iterations, then for ``second`` more from the trained network; return both as one run.

    Between the parts stands the residual with which the second one starts.
    """
    before = train(network, iterations=first)
    after = train(before.network, iterations=second)
    return replace(after, residual_norms=np.concatenate([before.residual_norms[:-1], after.residual_norms]))


def run_errors(run: Run, expected: Run, unseen: FloatArray) -> dict[str, float]:
    """Compare two whole runs, quantity by quantity."""
    if isinstance(run, Stopped) and isinstance(expected, Stopped) and run.error == expected.error:
        errors = dict.fromkeys(QUANTITIES, 0.0)
        if expected.residual_norms.size:
            errors["residuals"] = relative_error(run.residual_norms, expected.residual_norms)
        return errors
    if isinstance(run, Stopped) or isinstance(expected, Stopped):
        return dict.fromkeys(QUANTITIES, UNEQUAL)
    mine, theirs = (
        (r.residual_norms, r.predictions, r.network.predict(unseen), *matrices(r.network.to_dense()))
        for r in (run, expected)
    )
    if len(mine) != len(theirs):
        return dict.fromkeys(QUANTITIES, UNEQUAL)
    errors_of_all = list(map(relative_error, mine, theirs))
    weights = len(QUANTITIES) - 1
    return dict(zip(QUANTITIES, [*errors_of_all[:weights], max(errors_of_all[weights:])], strict=True))


def matrices(network: Any) -> tuple[FloatArray, ...]:  # noqa: ANN401
    """Return the weights of a dense network, layer by layer."""
    return network.weights if isinstance(network.weights, tuple) else (network.weights,)


def relative_error(mine: FloatArray, theirs: FloatArray) -> float:
    """Return the largest difference over the bound ``RUN`` times the largest entry.

    `UNEQUAL` for different shapes, and where an entry of either is not finite.
    """
    if mine.shape != theirs.shape or not (np.isfinite(mine).all() and np.isfinite(theirs).all()):
        return UNEQUAL
    scale = max(float(np.abs(theirs).max()), float(np.finfo(np.float64).tiny))
    return min(float(np.abs(mine - theirs).max()) / (tolerances.RUN * scale), UNEQUAL)


def stopped_alike(run: Run, expected: Run) -> float:
    """Judge two runs of which at least one stopped: 0 when both did with the same error, else `UNEQUAL`."""
    same = isinstance(run, Stopped) and isinstance(expected, Stopped) and run.error == expected.error
    return 0.0 if same else UNEQUAL


def step_error(run: Trace[Any], expected: Trace[Any], condition: float, y: FloatArray) -> float:
    """Return the error of the predictions after one step over its bound ``64 eps kappa(G)`` times their scale."""
    if not np.isfinite(run.predictions).all():
        return UNEQUAL
    scale = float(np.abs(expected.predictions).max() + np.abs(y).max())
    error = float(np.abs(run.predictions - expected.predictions).max())
    return min(error / tolerances.one_step(condition, scale), UNEQUAL)


def moved_alike(mine: FloatArray, theirs: FloatArray, start: FloatArray, clear: BoolArray) -> bool:
    """Tell whether the same rows of a weight matrix moved, among those that are ``clear`` of the kink (m,)."""
    moved, should_move = ((start != W).any(axis=1) for W in (mine, theirs))
    return not ((moved != should_move) & clear).any()


def worst_finding(claim: str, errors: Sequence[tuple[float, str, Inputs]], domain: str) -> Finding:
    """Decide a claim of equality from all its errors, each with the part of the run and the cell it belongs to."""
    sizes = [error for error, _, _ in errors]
    worst, part, where = max(errors, key=lambda error: error[0])
    interval = Interval(worst, min(sizes), worst)
    verdict = decide_below(interval, 1.0)
    at = ", ".join(f"{key}={value}" for key, value in where.items() if value is not None)
    return make_finding(
        claim,
        interval,
        # A bound on all runs: one run beyond it refutes the claim.
        "fails" if verdict == "undecided" else verdict,
        margin=MARGIN,
        domain=domain,
        reason=f"The largest error is {worst:.2g} of its bound, in the {part} at {at}.",
    )


def plot_errors(figure: Figure, results: Sequence[tuple[Inputs, Result]], ways: Sequence[str]) -> None:
    """Draw every error of whole runs as a fraction of its bound; a cell may lack some of the ``ways``."""
    axes = figure.subplots()
    step = 0.6 / max(len(ways), 1)
    for index, name in enumerate(ways):
        for place, quantity in enumerate(QUANTITIES):
            errors = [max(result[name][quantity], 1e-12) for _, result in results if name in result]
            axes.semilogy(
                np.full(len(errors), place + step * index),
                errors,
                "os^vD"[index],
                color=f"C{index}",
                alpha=0.6,
                label=name.replace("_", " ") if place == 0 else None,
            )
    axes.axhline(1, linestyle="--", color="black", linewidth=0.8)
    axes.set_xticks(np.arange(len(QUANTITIES)) + step * (len(ways) - 1) / 2, QUANTITIES)
    axes.set_ylabel("error / bound")
    axes.legend(frameon=False, ncols=len(ways), loc="lower center", bbox_to_anchor=(0.5, 1))
