"""Claim: many layers trained on the fast path and by the reference make the same predictions, residual for residual.

What is asked, from the same start on the same data
1. ``one_step``    After one step, do predictions differ by at most ``64 eps kappa(G)`` times their scale, and did the
   same neurons of the same layers move? Neurons closer to the kink than rounding may go either way.
2. ``cholesky``, ``sketch``  Several layers, or a lower one: do all residuals, the predictions on training and on unseen
   points and the dense weights of every layer agree to 1e-7 relative?
3. ``last_layer``  The last layer alone is a two-layer problem and goes through that machinery, with either solver.
4. ``normalized``  The same for networks whose signals are scaled to length 1, with either solver.
5. ``resumed``     Training goes on from a trained network, as it was left, with other data and labels. Does it equal
   the reference on the dense weights of that network?

How runs are compared is said in `verify.comparison`. A cell enters the claims that fit it; a claim is invalid if the
reference stops with an error in all of its cells. Some cells have a rank budget so small that factors are folded in
every iteration. Uniform weights come row by row, Gaussian ones column by column. Unseen points are of length 1
and shorter.

Cost of a cell: about ``30 L n m^2`` multiply-adds of the reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

import reference.multi_layer
from reference.multi_layer import MultiLayerNetwork
from reference.two_layer import shift_for
from verify import problems, tolerances
from verify.comparison import (
    MARGIN,
    UNEQUAL,
    Run,
    Stopped,
    attempt,
    moved_alike,
    plot_errors,
    prediction_error,
    run_errors,
    step_error,
    stopped_alike,
    worst_finding,
)
from verify.experiment import Claim, CodeUnderTest, Experiment, Finding, Inputs, Profile, Result
from verify.statistics import make_finding

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ITERATIONS, RESUMED_AFTER, RESUMED_FOR = 5, 2, 3
SHORTER = 0.8
"""Unseen points of this length are compared by themselves: their predictions are of another size."""
SEEDS = 2
SOLVERS = ("cholesky", "sketch")
WAYS = ("cholesky", "sketch", "last_layer", "normalized", "resumed")
"""The claims on whole runs."""


def point(
    family: str,
    n: int,
    d: int,
    width: int,
    alpha: float,
    depth: int,
    layers: tuple[int, ...],
    *,
    law: str = "gaussian",
    normalized: bool = False,
    budget: int | None = None,
) -> Inputs:
    """Make one point of the grid."""
    return {
        "family": family,
        "n": n,
        "d": d,
        "width": width,
        "alpha": alpha,
        "depth": depth,
        "layers": list(layers),
        "law": law,
        "normalized": normalized,
        "budget": budget,
    }


GRID: list[Inputs] = [
    point("random", 16, 16, 1000, 0.1, 2, (1, 2)),
    point("random", 16, 16, 1000, 0.1, 2, (1,)),
    point("random", 24, 8, 777, 0.0, 2, (1, 2), law="uniform", budget=40),
    point("pairs", 12, 8, 801, 0.05, 3, (1, 2, 3)),
    point("random", 10, 12, 701, 0.05, 3, (1, 3), law="uniform", budget=1),
    point("twins", 13, 5, 801, 0.05, 3, (2, 3), budget=30),
    point("random", 12, 12, 600, 0.0, 3, (2,)),
    point("clash", 12, 12, 1000, 0.05, 2, (1, 2), budget=30),
    point("random", 1, 2, 400, 0.1, 2, (1, 2)),
    point("random", 16, 16, 1000, 0.3, 1, (1,)),
    point("pairs", 16, 16, 1000, 0.1, 2, (2,)),
    point("clash", 12, 12, 701, 0.05, 3, (3,), law="uniform"),
    point("random", 16, 16, 1000, 0.3, 2, (1, 2), normalized=True),
    point("random", 12, 16, 701, 0.24, 3, (1, 2, 3), normalized=True, budget=20),
    point("pairs", 16, 8, 801, 0.1, 3, (3,), law="uniform", normalized=True),
    point("twins", 12, 8, 400, 0.1, 2, (1,), normalized=True),
    point("clash", 12, 12, 1000, 0.1, 2, (1, 2), law="uniform", normalized=True, budget=1),
    point("random", 16, 16, 1000, 0.3, 1, (1,), normalized=True),
    point("random", 12, 16, 512, 0.03, 4, (1, 2, 3, 4)),
    point("random", 12, 16, 512, 0.1, 4, (2, 4), normalized=True),
    point("random", 8, 8, 200, 0.0, 2, (1, 2)) | {"shift": -0.5},
]
SUBSETS: list[Inputs] = [
    point("random", 12, 16, width, alpha, depth, layers, normalized=normalized)
    for width, depths, alphas in (
        (512, (1, 2, 3, 4), (0.03, 0.1)),
        (2048, (1, 2), (0.03, 0.1)),
        (4096, (1, 2, 3, 4), (0.1, 0.3)),
    )
    for normalized, alpha in zip((False, True), alphas, strict=True)
    for depth in depths
    for size in range(1, depth + 1)
    for layers in combinations(range(1, depth + 1), size)
]
"""Every subset of the layers of every depth; in a thorough run, for one seed."""

SAME = "agree to 1e-7: residuals, predictions on training and on unseen points, and the weights of every layer."
CLAIMS = (
    Claim(
        "deep_equality.one_step",
        "One fast step of a network of one to four layers and one reference step from the same state make the same "
        "predictions up to rounding, and move the same neurons of the same layers.",
        "ours",
    ),
    Claim(
        "deep_equality.cholesky",
        f"Fast iterations on some or all of up to four layers, with the Cholesky solver, and the reference's {SAME}",
        "ours",
    ),
    Claim("deep_equality.sketch", "So do those with the tensor-sketched solver.", "ours"),
    Claim(
        "deep_equality.last_layer",
        "Training the last layer alone by the two-layer algorithms equals the reference to 1e-7 as well, with either "
        "solver.",
        "ours",
    ),
    Claim(
        "deep_equality.normalized",
        "Networks whose signals are scaled to length 1 train on the fast path as by the reference, to 1e-7, with "
        "either solver.",
        "ours",
    ),
    Claim(
        "deep_equality.resumed",
        "Training that goes on from a trained network with other data and labels, its factors kept, equals the "
        "reference on that network's dense weights, to 1e-7.",
        "[B], fine-tuning of a pre-trained network; ours",
    ),
)


def cells(profile: Profile) -> list[Inputs]:
    """List the grid, each point for some seeds."""
    seeds = SEEDS * (6 if profile.thorough else 1)
    subsets = [{**each, "seed": 0} for each in SUBSETS if each not in GRID] if profile.thorough else []
    return [*({**each, "seed": seed} for each in GRID for seed in range(seeds)), *subsets]


def measure(inputs: Inputs, rng: np.random.Generator, code: CodeUnderTest) -> Result:
    """Run both sides in every way that fits the cell; report each error as a fraction of its bound."""
    problem = problems.make(inputs["family"], inputs["n"], inputs["d"], rng)
    network = draw_network(inputs, rng, code)
    layers, budget = tuple(inputs["layers"]), inputs["budget"]
    on_data = {"X": problem.X, "y": problem.y, "trained_layers": layers}
    expected = attempt(partial(code.deep_reference_train, network, **on_data, iterations=ITERATIONS))
    errors = {}
    for solver in SOLVERS:
        train = partial(code.deep_train, network, **on_data, iterations=ITERATIONS, solver=solver, rank_budget=budget)
        run = attempt(partial(train, rng=rng))
        shorter = prediction_error(run, expected, SHORTER * problem.unseen)
        errors[solver] = run_errors(run, expected, problem.unseen) | {"predictions on shorter points": shorter}
    worst = {quantity: max(errors[solver][quantity] for solver in SOLVERS) for quantity in errors["cholesky"]}
    if inputs["normalized"]:
        result: Result = {"normalized": worst}
    elif layers == (inputs["depth"],):
        result = {"last_layer": worst}
    else:
        result = dict(errors)
    result["trained"] = not isinstance(expected, Stopped)
    result["one_step"] = {"step": one_step_error(network, problem, layers, code)}
    result["resumed"] = resumed_errors(network, problem, layers, budget, rng, code)
    return result


def draw_network(inputs: Inputs, rng: np.random.Generator, code: CodeUnderTest) -> MultiLayerNetwork:
    """Draw a network, with uniform weights of the same variance if the cell says so."""
    width, d, depth = inputs["width"], inputs["d"], inputs["depth"]
    shift = inputs.get("shift", shift_for(width, inputs["alpha"]))
    network: MultiLayerNetwork = code.deep_initialize(
        width, d, depth, shift=shift, rng=rng, normalized=inputs["normalized"]
    )
    if inputs["law"] == "uniform":
        weights = tuple(rng.uniform(-np.sqrt(3), np.sqrt(3), W.shape) for W in network.weights)
        network = MultiLayerNetwork(weights, network.signs, shift, network.normalized)
    return network


def one_step_error(
    network: MultiLayerNetwork, problem: problems.Problem, layers: tuple[int, ...], code: CodeUnderTest
) -> float:
    """Return the error of the predictions after one step over its bound, `UNEQUAL` when other neurons moved."""
    run, expected = (
        attempt(partial(train, network, problem.X, problem.y, trained_layers=layers, iterations=1))
        for train in (code.deep_train, code.deep_reference_train)
    )
    if isinstance(run, Stopped) or isinstance(expected, Stopped):
        return stopped_alike(run, expected)
    signals = reference.multi_layer.forward(network, problem.X)
    mine, theirs = (each.network.to_dense().weights for each in (run, expected))
    for layer, W in enumerate(network.weights):
        scores = signals.hidden[layer] @ W.T
        band = tolerances.kink_band(
            float(np.linalg.norm(W, axis=1).max()),
            float(np.linalg.norm(signals.hidden[layer], axis=1).max()),
            network.shift,
        )
        clear = np.asarray((np.abs(scores - network.shift) > band).all(axis=0))
        if not moved_alike(mine[layer], theirs[layer], W, clear):
            return UNEQUAL
    condition = float(np.linalg.cond(reference.multi_layer.gram(network, problem.X, layers)))
    return step_error(run, expected, condition, problem.y)


def resumed_errors(
    network: MultiLayerNetwork,
    problem: problems.Problem,
    layers: tuple[int, ...],
    budget: int | None,
    rng: np.random.Generator,
    code: CodeUnderTest,
) -> dict[str, float]:
    """Train, then go on with other data and labels; compare with the reference on the dense weights in between."""
    first: Run = attempt(
        partial(
            code.deep_train,
            network,
            problem.X,
            problem.y,
            trained_layers=layers,
            iterations=RESUMED_AFTER,
            rank_budget=budget,
        )
    )
    if isinstance(first, Stopped):
        dense = partial(code.deep_reference_train, network, problem.X, problem.y, trained_layers=layers)
        return run_errors(first, attempt(partial(dense, iterations=RESUMED_AFTER)), problem.unseen)
    y = rng.choice([-1.0, 1.0], size=len(problem.y))
    on_data = {"X": problem.unseen, "y": y, "trained_layers": layers, "iterations": RESUMED_FOR}
    run = attempt(partial(code.deep_train, first.network, **on_data, rank_budget=budget))
    expected = attempt(partial(code.deep_reference_train, first.network.to_dense(), **on_data))
    return run_errors(run, expected, problem.X)


def decide(results: Sequence[tuple[Inputs, Result]]) -> list[Finding]:
    """Take the worst error of each claim over the cells that fit it."""
    return [_find(name, [(i, r) for i, r in results if name in r]) for name in ("one_step", *WAYS)]


def _find(name: str, results: Sequence[tuple[Inputs, Result]]) -> Finding:
    def ends(key: str) -> str:
        values = [inputs[key] for inputs, _ in results]
        return f"{key}={min(values)}" if min(values) == max(values) else f"{key}={min(values)}..{max(values)}"

    if not any(result["trained"] for _, result in results):
        reason = "The reference stopped with an error in every run, so there was nothing to compare."
        return make_finding(f"deep_equality.{name}", None, "invalid", margin=MARGIN, domain="", reason=reason)
    families = ", ".join(dict.fromkeys(inputs["family"] for inputs, _ in results))
    steps = {"one_step": 1, "resumed": RESUMED_FOR}.get(name, ITERATIONS)
    stopped = sum(not result["trained"] for _, result in results)
    domain = (
        f"{len(results)} runs: {families} data; {', '.join(map(ends, ('n', 'd', 'width', 'alpha', 'depth')))}; "
        f"{steps} iteration{'s' if steps > 1 else ''}"
    )
    shifts = [inputs["shift"] for inputs, _ in results if "shift" in inputs]
    if shifts:
        domain += f"; {len(shifts)} with shift {shifts[0]} in place of alpha's"
    if stopped:
        domain += f"; {stopped} of the runs stopped with an error on both sides"
    errors = [(error, part, inputs) for inputs, result in results for part, error in result[name].items()]
    return worst_finding(f"deep_equality.{name}", errors, domain)


def plot(figure: Figure, results: Sequence[tuple[Inputs, Result]]) -> None:
    """Draw every error as a fraction of its bound."""
    plot_errors(figure, results, WAYS)


EXPERIMENT = Experiment(
    name="deep_equality",
    title="Many layers: fast and reference make the same predictions",
    claims=CLAIMS,
    cells=cells,
    measure=measure,
    decide=decide,
    plot=plot,
)
