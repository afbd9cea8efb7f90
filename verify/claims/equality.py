"""Claim: the fast paths and the reference make the same predictions, residual for residual.

What is asked, from the same start on the same data, of both searches: the trees of [A] and the event-driven path
1. ``one_step``  After one step, do predictions differ by at most ``64 eps kappa(G)`` times their scale, and did the
   same neurons move? Pairs closer to the kink than rounding (``verify.tolerances.kink_band``) may go either way. Is a
   network taken from a run the same to the bit after the run has gone on? Is the Gram matrix of many points, and
   that of many neurons, what the definition says?
2. ``cholesky``, ``sketch`` (trees) and ``events``, ``events_sketch``  After the last iteration, do all residuals, the
   predictions on training and on unseen points and the dense weights agree to 1e-7 relative? In small cells also
   when training is resumed from the trained network, whose Gram matrix is compared, too; and do compacted Gauss-Newton
   and gradient descent equal their references?

How runs are compared, and when one equals another, is said in `verify.comparison`; if the reference always stops there
is no evidence. The cells cover random, pair, twin and clash data down to angle 0.1, uniform and Gaussian weights,
widths that are no power of two and one above 2^16, alpha from 0 to 0.24, a negative shift, one data point, points on a
circle (d = 2), more points than inputs, and the digits as they are, not centred, for ten iterations.

The digits, and 280 points, are too large for the reference (10 s a run). There `fast.baselines.train_dense` stands in
for it: dense, blocked, and held to the reference by its own tests.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

import reference.two_layer
from reference.trace import Trace
from reference.two_layer import TwoLayerNetwork, shift_for
from verify import loading, problems, tolerances
from verify.claims.convergence import gram
from verify.comparison import (
    MARGIN,
    UNEQUAL,
    Run,
    Stopped,
    attempt,
    in_two_parts,
    moved_alike,
    plot_errors,
    relative_error,
    run_errors,
    step_error,
    stopped_alike,
    worst_finding,
)
from verify.experiment import Claim, CodeUnderTest, Experiment, Finding, Inputs, Profile, Result
from verify.statistics import make_finding

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ITERATIONS, DIGITS_ITERATIONS, MANY_ITERATIONS = 5, 10, 2
RESUMED_AFTER = 2
WAYS = {
    "cholesky": ("tree", "cholesky"),
    "sketch": ("tree", "sketch"),
    "events": ("events", "cholesky"),
    "events_sketch": ("events", "sketch"),
}
"""The claims on whole runs: search and solver."""
SEEDS = 2
GRID: list[Inputs] = [
    {"family": "random", "angle": None, "n": 32, "d": 16, "width": 8192, "alpha": 0.24, "law": "gaussian"},
    {"family": "random", "angle": None, "n": 96, "d": 32, "width": 3072, "alpha": 0.24, "law": "gaussian"},
    {"family": "random", "angle": None, "n": 1, "d": 2, "width": 1000, "alpha": 0.1, "law": "gaussian"},
    {"family": "random", "angle": None, "n": 2, "d": 3, "width": 70000, "alpha": 0.1, "law": "gaussian"},
    {"family": "random", "angle": None, "n": 2, "d": 3, "width": 9000, "alpha": 0.0, "law": "gaussian", "shift": -1.0},
    {"family": "random", "angle": None, "n": 3, "d": 2, "width": 20000, "alpha": 0.0, "law": "gaussian"},
    {"family": "random", "angle": None, "n": 24, "d": 8, "width": 3001, "alpha": 0.0, "law": "uniform"},
    {"family": "pairs", "angle": 0.15, "n": 32, "d": 8, "width": 8191, "alpha": 0.24, "law": "gaussian"},
    {"family": "twins", "angle": 0.15, "n": 17, "d": 5, "width": 8192, "alpha": 0.1, "law": "uniform"},
    {"family": "twins", "angle": 0.1, "n": 32, "d": 16, "width": 8192, "alpha": 0.24, "law": "gaussian"},
    {"family": "clash", "angle": 0.1, "n": 24, "d": 8, "width": 8192, "alpha": 0.24, "law": "gaussian"},
    {"family": "circle", "angle": 0.4, "n": 7, "d": 2, "width": 8192, "alpha": 0.24, "law": "gaussian"},
    {"family": "digits", "angle": None, "n": 100, "d": 64, "width": 4096, "alpha": 0.1, "law": "gaussian"},
]
MANY: Inputs = {
    "family": "random", "angle": None, "n": 280, "d": 32, "width": 1024, "alpha": 0.1, "law": "gaussian"
}
"""More points than 8 bits can number."""
FEW_POINTS, FEW_NEURONS = 8, 8192
"""Cells up to this size are small: there more is compared."""
WIDE_POINTS, WIDE_NEURONS = 64, (1 << 19) + (1 << 10)
"""More entries than `fast.gram.DENSE_BLOCK`."""
EQUAL = "equal as many reference iterations to 1e-7: residuals, predictions on training and unseen points, weights."

CLAIMS = (
    Claim(
        "equality.one_step",
        "One fast step, by trees or event-driven, and one reference step from the same state make the same predictions "
        "up to rounding, and move the same neurons. A network taken from a run stays the same as the run goes on. Gram "
        "matrices of 280 points and of 2^19 neurons are those of the definition.",
        "ours",
    ),
    Claim(
        "equality.cholesky",
        f"Fast iterations with the trees and the Cholesky solver {EQUAL} So do compacted iterations, gradient descent "
        "and runs resumed from a trained network, whose Gram matrix is that of the definition.",
        "ours",
    ),
    Claim("equality.sketch", "Fast iterations with the trees and the sketched solver equal them as well.", "ours"),
    Claim(
        "equality.events",
        f"Event-driven iterations with the Cholesky solver {EQUAL} So do runs resumed from a trained network.",
        "ours",
    ),
    Claim(
        "equality.events_sketch",
        "Event-driven iterations with the sketched solver equal them as well.",
        "ours",
    ),
)


def cells(profile: Profile) -> list[Inputs]:
    """List the grid, each point for some seeds, and many points."""
    more = 4 if profile.thorough else 1
    grid = [{**point, "seed": seed} for point in GRID for seed in range(SEEDS * more)]
    return grid + [{**MANY, "seed": seed} for seed in range(more)]


def measure(inputs: Inputs, rng: np.random.Generator, code: CodeUnderTest) -> Result:
    """Run both sides; report each error as a fraction of its bound."""
    d, width = inputs["d"], inputs["width"]
    problem = draw_problem(inputs, rng)
    network = code.initialize(width, d, shift=inputs.get("shift", shift_for(width, inputs["alpha"])), rng=rng)
    if inputs["law"] == "uniform":
        network = TwoLayerNetwork(rng.uniform(-np.sqrt(3), np.sqrt(3), (width, d)), network.signs, network.shift)
    X, y = problem.X, problem.y
    digits, many = inputs["family"] == "digits", inputs["n"] == MANY["n"]
    judge = code.train_dense if digits or many else code.reference_train
    iterations = DIGITS_ITERATIONS if digits else MANY_ITERATIONS if many else ITERATIONS
    expected = attempt(partial(judge, network, X, y, iterations=iterations))
    result: Result = {"trained": not isinstance(expected, Stopped)}
    result["one_step"] = one_step_errors(network, problem, judge, code)
    if inputs["seed"] == 0 and result["trained"] and not many:
        result["one_step"] |= {
            f"{search} kept": kept_error(start(network, X, y))
            for search, start in (("tree", code.start), ("events", code.start_events))
        }
    if many:
        result["one_step"] |= {
            "Gram matrix of many points": relative_error(code.gram(network, X), gram(network, X)),
            "Gram matrix of many neurons": wide_gram_error(code),
        }
    for name, (search, solver) in WAYS.items():
        if many and solver == "sketch":
            continue  # a sketch of 9000 rows, for what the smaller cells show
        train = partial(code.train, network, X, y, iterations=iterations, search=search, solver=solver, rng=rng)
        result[name] = run_errors(attempt(train), expected, problem.unseen)
        if solver == "cholesky" and inputs["seed"] == 0 and is_small(inputs) and isinstance(expected, Trace):
            result[name] |= resumed_errors(partial(code.train, search=search), network, problem, expected, code)
            if search == "tree":
                result[name] |= baseline_errors(network, problem, expected, code)
    return result


def is_small(inputs: Inputs) -> bool:
    """Tell whether a cell is one of those in which more is compared."""
    return bool(inputs["n"] <= FEW_POINTS and inputs["width"] <= FEW_NEURONS)


def draw_problem(inputs: Inputs, rng: np.random.Generator) -> problems.Problem:
    """Draw the data of a cell: a family of `verify.problems`, points on a circle, or a sample of the digits."""
    n, d, angle = inputs["n"], inputs["d"], inputs["angle"]
    if inputs["family"] == "digits":
        sample = loading.prepare(loading.load("digits"), rows=n, rng=rng)
        return problems.Problem(sample.X, sample.y, sample.unseen)
    if inputs["family"] == "circle":
        # Equal angles, turned at random, over less than half of the circle: no two points are opposite.
        turns = rng.uniform(0, 2 * np.pi) + angle * np.arange(n)
        y = rng.choice([-1.0, 1.0], size=n)
        return problems.Problem(np.column_stack([np.cos(turns), np.sin(turns)]), y, problems.unit_rows(n, d, rng))
    return problems.make(inputs["family"], n, d, rng, angle=angle)


def one_step_errors(
    network: TwoLayerNetwork, problem: problems.Problem, judge: Callable[..., Trace[Any]], code: CodeUnderTest
) -> dict[str, float]:
    """Compare one step of either search with the judge's."""
    expected = attempt(partial(judge, network, problem.X, problem.y, iterations=1))
    runs = {
        search: attempt(partial(code.train, network, problem.X, problem.y, iterations=1, search=search))
        for search in ("tree", "events")
    }
    return {search: one_step_error(run, expected, network, problem) for search, run in runs.items()}


def one_step_error(run: Run, expected: Run, network: TwoLayerNetwork, problem: problems.Problem) -> float:
    """Return the error of the predictions over its bound, `UNEQUAL` when different neurons moved."""
    X = problem.X
    if isinstance(run, Stopped) or isinstance(expected, Stopped):
        return stopped_alike(run, expected)
    U = reference.two_layer.preactivations(network, X)
    # At points of unit length the band is widest for the longest weights.
    longest = float(np.linalg.norm(network.weights, axis=1).max())
    clear = np.asarray((np.abs(U - network.shift) > tolerances.kink_band(longest, 1.0, network.shift)).all(axis=0))
    mine, theirs = (each.network.to_dense().weights for each in (run, expected))
    if not moved_alike(mine, theirs, network.weights, clear):
        return UNEQUAL
    A = (network.shift <= U).astype(np.float64)
    condition = float(np.linalg.cond((X @ X.T) * (A @ A.T)))
    return step_error(run, expected, condition, problem.y)


def kept_error(run: Any) -> float:  # noqa: ANN401
    """Take the network from a run after one step; return `UNEQUAL` if it changes as the run goes on."""
    run.iterate()
    kept = run.trace(0.0).network
    before = kept.to_dense().weights.tobytes()
    run.iterate()
    return 0.0 if kept.to_dense().weights.tobytes() == before else UNEQUAL


def resumed_errors(
    train: Callable[..., Trace[Any]],
    network: TwoLayerNetwork,
    problem: problems.Problem,
    expected: Trace[Any],
    code: CodeUnderTest,
) -> dict[str, float]:
    """Compare a run in two parts, and the Gram matrix of where it ends, with the run in one."""
    on_data = partial(train, X=problem.X, y=problem.y)
    run = attempt(partial(in_two_parts, on_data, network, RESUMED_AFTER, ITERATIONS - RESUMED_AFTER))
    errors = {f"{part} of a resumed run": error for part, error in run_errors(run, expected, problem.unseen).items()}
    if isinstance(run, Trace):
        G = code.gram(run.network, problem.X)
        errors["Gram matrix of a trained network"] = relative_error(G, gram(expected.network, problem.X))
    return errors


def baseline_errors(
    network: TwoLayerNetwork, problem: problems.Problem, expected: Run, code: CodeUnderTest
) -> dict[str, float]:
    """Compare compacted Gauss-Newton, and gradient descent, with the reference of each."""
    names = ("train_compacted", "train_gradient_descent", "reference_gradient_descent")
    compacted, descent, slow = (
        attempt(partial(getattr(code, name), network, problem.X, problem.y, iterations=ITERATIONS)) for name in names
    )
    return {
        f"{part} of {name}": error
        for name, run, judge in (("compacted iterations", compacted, expected), ("gradient descent", descent, slow))
        for part, error in run_errors(run, judge, problem.unseen).items()
    }


def wide_gram_error(code: CodeUnderTest) -> float:
    """Compare `gram` with its definition on a pattern too large to be written out at once.

    The points are 1, 2, ... n on a line. A neuron of weight 1 fires on the last of them alone, one of weight n on all.
    """
    n, m = WIDE_POINTS, WIDE_NEURONS
    X = np.arange(1.0, n + 1)[:, np.newaxis]
    on_all = np.arange(m) % 60 == 0
    network = TwoLayerNetwork(np.where(on_all, float(n), 1.0)[:, np.newaxis], np.ones(m), float(n))
    shared = np.full((n, n), np.count_nonzero(on_all))
    shared[-1, -1] = m
    return relative_error(code.gram(network, X), X @ X.T * shared / m)


def decide(results: Sequence[tuple[Inputs, Result]]) -> list[Finding]:
    """Take the worst error of each claim over all cells."""
    domain = (
        f"{len(results)} runs: random, pairs, twins and clash data down to angle 0.1, a circle, uncentred digits; "
        "n=1..280 (sketched 1..100), d=2..64, m=1000..70000, alpha=0..0.24 and b=-1, Gaussian and uniform weights; "
        f"{ITERATIONS} iterations, {DIGITS_ITERATIONS} on the digits and {MANY_ITERATIONS} on 280 points, where the "
        "dense loop stands in for the reference"
    )
    if not any(result["trained"] for _, result in results):
        reason = "The reference stopped with an error in every run, so there was nothing to compare."
        return [
            make_finding(claim.id, None, "invalid", margin=MARGIN, domain=domain, reason=reason) for claim in CLAIMS
        ]
    return [
        worst_finding(
            f"equality.{name}",
            [(error, part, i) for i, r in results if name in r for part, error in r[name].items()],
            domain,
        )
        for name in ("one_step", *WAYS)
    ]


def plot(figure: Figure, results: Sequence[tuple[Inputs, Result]]) -> None:
    """Draw every error as a fraction of its bound."""
    plot_errors(figure, results, tuple(WAYS))


EXPERIMENT = Experiment(
    name="equality",
    title="Fast and reference make the same predictions",
    claims=CLAIMS,
    cells=cells,
    measure=measure,
    decide=decide,
    plot=plot,
)
