"""Claim: the fast path and the reference make the same predictions, residual for residual.

What is asked, from the same start on the same data
1. ``one_step``  After one step, do predictions differ by at most ``64 eps kappa(G)`` times their scale, and did the
   same neurons move? Pairs closer to the kink than rounding (``verify.tolerances.kink_band``) may go either way.
2. ``cholesky``, ``sketch``  After five steps, do all residuals, the predictions on training and on unseen points and
   the dense weights agree to 1e-7 relative?

Errors are reported as a fraction of their bound, the largest over all cells: at most 1 means equal, and one larger
error refutes the claim. A run that stops with one of the project's errors equals a run that stops with the same one,
and differs from every other; if the reference always stops there is no evidence. The cells cover random, pair and twin
data down to angle 0.15, uniform and Gaussian weights, widths that are no power of two, alpha from 0 to 0.24, one data
point, and more points than inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

import reference.gram
import reference.two_layer
from reference.notation import DivergenceError, FloatArray, InputError
from reference.trace import Trace
from reference.two_layer import TwoLayerNetwork, shift_for
from verify import problems, tolerances
from verify.experiment import Claim, CodeUnderTest, Experiment, Finding, Inputs, Profile, Result
from verify.statistics import Interval, decide_below, make_finding

Run = Trace[Any] | str
"""What a training run came to: its trace, or the name of the error that stopped it."""

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ITERATIONS = 5
QUANTITIES = ("residuals", "training predictions", "unseen predictions", "dense weights")
UNEQUAL = 1e300
"""Stands for an error without a size, such as a different number of residuals or an error raised; JSON has no
infinity."""
SEEDS = 3
MARGIN = "<= 1 (error as a fraction of its bound)"
GRID: list[Inputs] = [
    {"family": "random", "angle": None, "n": 32, "d": 16, "width": 8192, "alpha": 0.24, "law": "gaussian"},
    {"family": "random", "angle": None, "n": 96, "d": 32, "width": 4096, "alpha": 0.24, "law": "gaussian"},
    {"family": "random", "angle": None, "n": 1, "d": 2, "width": 1000, "alpha": 0.1, "law": "gaussian"},
    {"family": "random", "angle": None, "n": 3, "d": 2, "width": 20000, "alpha": 0.0, "law": "gaussian"},
    {"family": "random", "angle": None, "n": 24, "d": 8, "width": 3001, "alpha": 0.0, "law": "uniform"},
    {"family": "pairs", "angle": 0.15, "n": 32, "d": 8, "width": 8191, "alpha": 0.24, "law": "gaussian"},
    {"family": "twins", "angle": 0.15, "n": 17, "d": 5, "width": 8192, "alpha": 0.1, "law": "uniform"},
]

CLAIMS = (
    Claim(
        "equality.one_step",
        "One fast step and one reference step from the same state make the same predictions up to rounding, "
        "and move the same neurons.",
        "ours",
    ),
    Claim(
        "equality.cholesky",
        "Five fast iterations with the Cholesky solver equal five reference iterations to 1e-7: residuals, "
        "predictions on training and unseen points, weights.",
        "ours",
    ),
    Claim(
        "equality.sketch",
        "Five fast iterations with the sketched solver equal five reference iterations to 1e-7 as well.",
        "ours",
    ),
)


def cells(profile: Profile) -> list[Inputs]:
    """List the grid, each point for some seeds."""
    seeds = SEEDS * (4 if profile.thorough else 1)
    return [{**point, "seed": seed} for point in GRID for seed in range(seeds)]


def measure(inputs: Inputs, rng: np.random.Generator, code: CodeUnderTest) -> Result:
    """Run both sides; report each error as a fraction of its bound."""
    n, d, width = inputs["n"], inputs["d"], inputs["width"]
    problem = problems.make(inputs["family"], n, d, rng, angle=inputs["angle"])
    network = code.initialize(width, d, shift=shift_for(width, inputs["alpha"]), rng=rng)
    if inputs["law"] == "uniform":
        network = TwoLayerNetwork(rng.uniform(-np.sqrt(3), np.sqrt(3), (width, d)), network.signs, network.shift)
    X, y = problem.X, problem.y
    expected = attempt(partial(code.reference_train, network, X, y, iterations=ITERATIONS))
    result: Result = {"one_step": one_step_error(network, problem, code), "trained": not isinstance(expected, str)}
    for solver in ("cholesky", "sketch"):
        train = partial(code.train, network, X, y, iterations=ITERATIONS, search="tree", solver=solver, rng=rng)
        result[solver] = run_errors(attempt(train), expected, problem.unseen)
    return result


def attempt(train: Callable[[], Trace[Any]]) -> Run:
    """Train, or name the error that stopped the run."""
    try:
        return train()
    except (InputError, DivergenceError) as failure:
        return type(failure).__name__


def run_errors(run: Run, expected: Run, unseen: FloatArray) -> dict[str, float]:
    """Compare two whole runs, quantity by quantity."""
    if isinstance(run, str) or isinstance(expected, str):
        error = 0.0 if run == expected else UNEQUAL
        return dict.fromkeys(QUANTITIES, error)
    mine, theirs = (
        (r.residual_norms, r.predictions, r.network.predict(unseen), r.network.to_dense().weights)
        for r in (run, expected)
    )
    return dict(zip(QUANTITIES, map(relative_error, mine, theirs), strict=True))


def one_step_error(network: TwoLayerNetwork, problem: problems.Problem, code: CodeUnderTest) -> float:
    """Compare one step: the error of the predictions over its bound, `UNEQUAL` when different neurons moved."""
    X, y = problem.X, problem.y
    expected = attempt(partial(code.reference_train, network, X, y, iterations=1))
    trace = attempt(partial(code.train, network, X, y, iterations=1, search="tree"))
    if isinstance(trace, str) or isinstance(expected, str):
        return 0.0 if trace == expected else UNEQUAL
    if not np.isfinite(trace.predictions).all():
        return UNEQUAL
    U = reference.two_layer.preactivations(network, X)
    # At points of unit length the band is widest for the longest weights.
    longest = float(np.linalg.norm(network.weights, axis=1).max())
    clear = np.abs(U - network.shift) > tolerances.kink_band(longest, 1.0, network.shift)
    moved = (trace.network.to_dense().weights != network.weights).any(axis=1)
    should_move = (expected.network.weights != network.weights).any(axis=1)
    if ((moved != should_move) & clear.all(axis=0)).any():
        return UNEQUAL
    condition = float(np.linalg.cond(reference.gram.gram(network, X)))
    scale = float(np.abs(expected.predictions).max() + np.abs(y).max())
    error = float(np.abs(trace.predictions - expected.predictions).max())
    return min(error / tolerances.one_step(condition, scale), UNEQUAL)


def relative_error(mine: FloatArray, theirs: FloatArray) -> float:
    """Return the largest difference over the bound ``RUN`` times the largest entry; `UNEQUAL` for different shapes."""
    if mine.shape != theirs.shape or not np.isfinite(mine).all():
        return UNEQUAL
    scale = max(float(np.abs(theirs).max()), float(np.finfo(np.float64).tiny))
    return min(float(np.abs(mine - theirs).max()) / (tolerances.RUN * scale), UNEQUAL)


def decide(results: Sequence[tuple[Inputs, Result]]) -> list[Finding]:
    """Take the worst error of each claim over all cells."""
    domain = (
        f"{len(results)} runs: random, pairs and twins data down to angle 0.15, n=1..96, d=2..32, m=1000..20000, "
        "alpha=0..0.24, Gaussian and uniform weights"
    )
    if not any(result["trained"] for _, result in results):
        reason = "The reference stopped with an error in every run, so there was nothing to compare."
        return [
            make_finding(claim.id, None, "invalid", margin=MARGIN, domain=domain, reason=reason) for claim in CLAIMS
        ]
    findings = [_finding("one_step", [(r["one_step"], "predictions", i) for i, r in results], domain)]
    for solver in ("cholesky", "sketch"):
        errors = [(error, quantity, i) for i, r in results for quantity, error in r[solver].items()]
        findings.append(_finding(solver, errors, domain))
    return findings


def _finding(name: str, errors: list[tuple[float, str, Inputs]], domain: str) -> Finding:
    sizes = [error for error, _, _ in errors]
    worst, quantity, where = max(errors, key=lambda error: error[0])
    interval = Interval(worst, min(sizes), worst)
    verdict = decide_below(interval, 1.0)
    at = ", ".join(f"{key}={value}" for key, value in where.items() if value is not None)
    return make_finding(
        f"equality.{name}",
        interval,
        # A bound on all runs: one run beyond it refutes the claim.
        "fails" if verdict == "undecided" else verdict,
        margin=MARGIN,
        domain=domain,
        reason=f"The largest error is {worst:.2g} of its bound, in the {quantity} at {at}.",
    )


def plot(figure: Figure, results: Sequence[tuple[Inputs, Result]]) -> None:
    """Draw every error as a fraction of its bound."""
    axes = figure.subplots()
    for index, solver in enumerate(("cholesky", "sketch")):
        for place, quantity in enumerate(QUANTITIES):
            errors = [max(result[solver][quantity], 1e-12) for _, result in results]
            axes.semilogy(
                np.full(len(errors), place + 0.2 * index),
                errors,
                "os"[index],
                color=f"C{index}",
                alpha=0.6,
                label=solver if place == 0 else None,
            )
    axes.axhline(1, linestyle="--", color="black", linewidth=0.8)
    axes.set_xticks(np.arange(len(QUANTITIES)) + 0.1, QUANTITIES)
    axes.set_ylabel("error / bound")
    axes.legend(frameon=False)


EXPERIMENT = Experiment(
    name="equality",
    title="Fast and reference make the same predictions",
    claims=CLAIMS,
    cells=cells,
    measure=measure,
    decide=decide,
    plot=plot,
)
