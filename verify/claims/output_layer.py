"""Claim: the output layer can be trained too, at a cost that still follows the fired neurons; what it gains and loses.

What is asked. [A] trains ``W`` alone; its reviewers asked about the output weights ``a``. `reference.output_layer` and
`fast.output_layer` train both by one Gauss-Newton system.

1. ``equality``     Do both make the same residuals, predictions, weights and output weights, to 1e-7 relative? And from
   output weights other than +-1, resumed from a trained network, and after training of ``W`` alone?
2. ``halving``      Does every iteration halve the residual, down to 1e-10 of the start? One trial is one seed;
   residuals are recomputed from dense weights.
3. ``first_ratio``  In the same trials: what the first iteration leaves, over what it leaves when it moves ``W`` alone.
4. ``iterations``   Iterations to 1e-10 on clashing pairs, over those of ``W`` alone, seed by seed.
5. ``law``          Does the law below predict the first ratio?
6. ``climbs``       Beyond alpha = 1/2 the law says that the first iteration raises the residual. Does it?
7. ``exact``        Are the counters of both terms of ``G``, of the step and of the predictions what separate code
   computes from the patterns of a dense run, the flips and fired pairs those of that run, and no other counter too
   small?
8. ``width``        Does the counted work of an iteration follow ``n m Phi(-b)``?
9. ``rest``         The price: once nothing flips, does an iteration still cost a good part of the first?
10. ``witness``     After the preparation both layers of all neurons that fire nowhere are overwritten with infinities.
   Do the same bytes come out? If not, what rests on counters is invalid.

First-ratio law (ours). Take neurons that fire on ``x_j`` alone, with an excess ``s`` of density ``phi(b + s)``, half
of them of either sign. With ``t = |g_j| / sqrt(m)`` the step takes a neuron of sign 1 (for ``g_j > 0``) to the excess
``s - t`` and the output weight ``1 - t s``, one of sign -1 to ``s + t`` and ``-1 - t s``. In the products ``t^2 s``
cancels between the signs, up to ``t^2 f_j``. Where ``s < t`` the neuron has stopped to fire and ``(1 - t s)(s - t)`` is
missing, so what is left of residual ``j`` is, beside ``t^2 f_j``::

    (sqrt(m) / 2) int_0^t (1 - t s) (t - s) phi(b + s) ds        with 1 in the place of (1 - t s) for W alone

``t`` is ``m^(alpha - 1/2)`` up to logarithmic factors. Below alpha = 1/2 the factor ``1 - t s`` and the smaller ``g``
make the first ratio smaller than that of ``W`` alone; above, output weights overshoot, and it grows without bound.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import ndtr

from reference.notation import DivergenceError, FloatArray, InputError
from reference.output_layer import JointNetwork
from reference.trace import Trace
from reference.two_layer import TwoLayerNetwork, shift_for
from verify import closed_forms, problems
from verify.claims.convergence import halves, missed, worst_ratio
from verify.comparison import Run, attempt, in_two_parts, relative_error, run_errors, worst_finding
from verify.experiment import Claim, CodeUnderTest, Experiment, Finding, Inputs, Profile, Result
from verify.statistics import (
    Interval,
    contradicted,
    decide_above,
    decide_below,
    decide_inside,
    make_finding,
    proportion_interval,
    slope,
    t_interval,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Results = Sequence[tuple[Inputs, Result]]

ALPHA = 0.24
TARGET = 1e-10
MOST_ITERATIONS = 60

EQUALITY: list[Inputs] = [
    {"family": "random", "angle": None, "n": 24, "d": 8, "width": 4096, "alpha": 0.24},
    {"family": "random", "angle": None, "n": 1, "d": 2, "width": 1000, "alpha": 0.1},
    {"family": "random", "angle": None, "n": 12, "d": 6, "width": 2001, "alpha": 0.0},
    {"family": "pairs", "angle": 0.15, "n": 16, "d": 6, "width": 4095, "alpha": 0.24},
    {"family": "twins", "angle": 0.1, "n": 17, "d": 5, "width": 4096, "alpha": 0.1},
    {"family": "clash", "angle": 0.1, "n": 16, "d": 8, "width": 4096, "alpha": 0.24},
    {"family": "random", "angle": None, "n": 12, "d": 6, "width": 2000, "alpha": 0.1, "outputs": "gaussian"},
]
EQUALITY_SEEDS, EQUALITY_ITERATIONS = 2, 5
RESUMED_AFTER, RESUMED_POINTS = 2, 12
"""Iterations after which runs are resumed, and the cells in which they are."""
BLOCKS: Inputs = {"family": "random", "angle": None, "n": 24, "d": 4, "width": 12000, "alpha": 0.0, "iterations": 1}
"""Neurons fire on so many points that ``G`` is summed by BLAS, and so many do that it takes two blocks."""
TRIAL: Inputs = {"family": "random", "n": 32, "d": 16, "width": 1 << 12}
TRIALS = 60
"""0 failures in 60 trials give a one-sided 95% lower bound of 0.951 on the probability of success."""
CLASH: Inputs = {"family": "clash", "n": 32, "d": 16, "width": 1 << 12}
CLASH_SEEDS = 8
LAW: list[Inputs] = [
    {"n": 16, "d": 32, "alpha": 0.24, "width": 1 << 16},
    {"n": 16, "d": 32, "alpha": 0.4, "width": 1 << 24},
]
CLIMB: Inputs = {"n": 16, "d": 32, "alpha": 0.6, "width": 1 << 24}
LAW_SEEDS = 10
COST: Inputs = {"n": 16, "d": 32, "iterations": 6}
COST_EXPONENTS, COST_SEEDS = (12, 14, 16), 5
REST_FROM = 1 << 14
"""Below, the first iteration computes many rows afresh."""
WITNESS_EXPONENT = 14
"""Beyond, no witness runs: it needs a second run and a copy of the weights."""

SUCCESS = 0.95
FIRST_RATIO, ITERATIONS_RATIO, CLIMB_RATIO = 0.75, 2 / 3, 2.0
LAW_MARGIN, WIDTH_MARGIN, REST_MARGIN = 0.05, 0.1, 0.25
RELY_ON_COUNTS = ("output_layer.exact", "output_layer.width", "output_layer.rest")

CLAIMS = (
    Claim(
        "output_layer.equality",
        "Fast iterations on both layers equal as many reference iterations to 1e-7: residuals, predictions on training "
        "and unseen points, weights and output weights. So do runs from other output weights than +-1 and from trained "
        "networks.",
        "ours",
    ),
    Claim(
        "output_layer.halving",
        "When the output layer is trained too, every iteration on random inputs at least halves the residual, down to "
        "1e-10 of the start, in at least 95% of runs.",
        "ours; [A], Theorem 1.1, for the first layer alone",
    ),
    Claim(
        "output_layer.first_ratio",
        "At alpha = 0.24 the first iteration on both layers leaves at most three quarters of the residual that it "
        "leaves when it moves the first layer alone.",
        "ours",
    ),
    Claim(
        "output_layer.iterations",
        "On pairs of inputs at angle 0.1 with random labels, training both layers takes at most two thirds of the "
        "iterations that training the first layer alone takes.",
        "ours",
    ),
    Claim(
        "output_layer.law",
        "On random inputs the first iteration on both layers leaves the share of the residual that the first-ratio law "
        "predicts, within 5%, at alpha = 0.24 and 0.4.",
        "ours",
    ),
    Claim(
        "output_layer.climbs",
        "Beyond alpha = 1/2 training the output layer harms the first iteration: at alpha = 0.6 and width 2^24 it at "
        "least doubles the residual.",
        "ours",
    ),
    Claim(
        "output_layer.exact",
        "Counters of both terms of the Gram matrix, of the step, of predictions, flips and fired pairs equal closed "
        "forms of the patterns of a dense run, in every iteration, and no other counter is below the least work.",
        "ours",
    ),
    Claim(
        "output_layer.width",
        "At alpha = 0.24 the work of an iteration on both layers grows with the width like n m Phi(-b) or more slowly: "
        "the exponent of the ratio is at most 0.1.",
        "ours; [A], Theorem 1.1, for the first layer alone",
    ),
    Claim(
        "output_layer.rest",
        "An iteration on both layers costs at least a quarter of the first one's work, at widths from 2^14, even when "
        "no pair flips any more: all output weights move.",
        "ours",
    ),
    Claim(
        "output_layer.witness",
        "After the preparation the weights and output weights of neurons that fire nowhere have no effect on training "
        "both layers, and no product with them is formed.",
        "ours",
    ),
)


def cells(profile: Profile) -> list[Inputs]:
    """List runs to compare, trials, first iterations and counted runs; thorough takes four times the seeds."""
    more = 4 if profile.thorough else 1
    exponents = (*COST_EXPONENTS, 18, 20) if profile.thorough else COST_EXPONENTS
    plans: list[tuple[str, list[Inputs], int]] = [
        ("equality", EQUALITY, EQUALITY_SEEDS),
        ("equality", [BLOCKS], 1),
        ("halving", [TRIAL], TRIALS),
        ("iterations", [CLASH], CLASH_SEEDS),
        ("law", LAW, LAW_SEEDS),
        ("climbs", [CLIMB], LAW_SEEDS),
        ("cost", [{**COST, "width": 1 << exponent} for exponent in exponents], COST_SEEDS),
    ]
    return [
        {"part": part, **point, "seed": seed}
        for part, points, seeds in plans
        for point in points
        for seed in range(seeds * more)
    ]


def measure(inputs: Inputs, rng: np.random.Generator, code: CodeUnderTest) -> Result:
    """Measure one cell of its part."""
    width, part = inputs["width"], inputs["part"]
    shift = shift_for(width, inputs.get("alpha", ALPHA))
    problem = problems.make(
        inputs.get("family", "random"), inputs["n"], inputs["d"], rng, angle=inputs.get("angle")
    )
    if part in ("law", "climbs"):
        network = code.lazy_initialize(problem.X, width=width, shift=shift, rng=rng)
    else:
        network = code.initialize(width, inputs["d"], shift=shift, rng=rng)
    if part == "equality":
        start: TwoLayerNetwork | JointNetwork = network
        if "outputs" in inputs:
            start = JointNetwork(network.weights, rng.standard_normal((width,)), shift)
        iterations = inputs.get("iterations", EQUALITY_ITERATIONS)
        resumed = inputs["seed"] == 0 and inputs["n"] == RESUMED_POINTS
        return compare(start, problem, code, iterations=iterations, resumed=resumed)
    if part == "cost":
        return count(inputs, network, problem, code)
    if part in ("law", "climbs"):
        residuals, failure = first_residuals(network, problem, code)
        return {"residuals": residuals, "failure": failure, "predicted": predicted_first_ratio(network, problem)}
    residuals, failure = dense_residuals(network, problem, code)
    alone = attempt(
        partial(code.train, network, problem.X, problem.y, iterations=MOST_ITERATIONS, tolerance=TARGET)
    )
    return {"residuals": residuals, "failure": failure, "alone": [float(norm) for norm in alone.residual_norms]}


def compare(
    network: TwoLayerNetwork | JointNetwork,
    problem: problems.Problem,
    code: CodeUnderTest,
    *,
    iterations: int = EQUALITY_ITERATIONS,
    resumed: bool = False,
) -> Result:
    """Compare a fast run with one of the reference, and resumed ones; each error is a fraction of its bound."""
    X, y, unseen = problem.X, problem.y, problem.unseen
    run = attempt(lambda: code.start_joint(network, X, y).run(iterations, 0.0))
    expected = attempt(partial(code.joint_reference_train, network, X, y, iterations=iterations))
    errors = joint_errors(run, expected, unseen)
    if resumed:
        rest = iterations - RESUMED_AFTER
        train = partial(code.joint_train, X=X, y=y)
        run = attempt(partial(in_two_parts, train, network, RESUMED_AFTER, rest))
        errors |= joint_errors(run, expected, unseen, " of a resumed run")
        if isinstance(network, TwoLayerNetwork):
            first = code.train(network, X, y, iterations=RESUMED_AFTER).network
            run = attempt(partial(train, first, iterations=rest))
            after = attempt(partial(code.joint_reference_train, first.to_dense(), X, y, iterations=rest))
            errors |= joint_errors(run, after, unseen, " after the first layer alone")
    return {"trained": isinstance(expected, Trace), "errors": errors}


def joint_errors(run: Run, expected: Run, unseen: FloatArray, what: str = "") -> dict[str, float]:
    """Compare two runs, output weights included; ``what`` is added to the names of the errors."""
    errors = run_errors(run, expected, unseen)
    if isinstance(run, Trace) and isinstance(expected, Trace):
        mine, theirs = (each.network.to_dense().output_weights for each in (run, expected))
        errors["output weights"] = relative_error(mine, theirs)
    return {part + what: error for part, error in errors.items()}


def dense_residuals(network: Any, problem: problems.Problem, code: CodeUnderTest) -> tuple[list[float], str]:  # noqa: ANN401
    """Train both layers to `TARGET`; recompute every residual from the dense network."""
    run = code.start_joint(network, problem.X, problem.y)
    norms = [float(np.linalg.norm(network.predict(problem.X) - problem.y))]
    try:
        while len(norms) <= MOST_ITERATIONS and norms[-1] > TARGET * norms[0]:
            run.iterate()
            norms.append(float(np.linalg.norm(run.network().to_dense().predict(problem.X) - problem.y)))
    except (InputError, DivergenceError) as failure:
        return norms, type(failure).__name__
    return norms, ""


def first_residuals(network: Any, problem: problems.Problem, code: CodeUnderTest) -> tuple[list[float], str]:  # noqa: ANN401
    """Take one iteration on both layers; recompute the residuals before and after it."""
    before = float(np.linalg.norm(network.predict(problem.X) - problem.y))
    run = code.start_joint(network, problem.X, problem.y)
    try:
        run.iterate()
    except DivergenceError as failure:
        return [float(norm) for norm in failure.residual_norms], ""  # more than a hundredfold: a climb, not a failure
    except InputError as failure:
        return [before], type(failure).__name__
    return [before, float(np.linalg.norm(run.network().predict(problem.X) - problem.y))], ""


def predicted_first_ratio(network: Any, problem: problems.Problem) -> float:  # noqa: ANN401
    """Evaluate the first-ratio law of the module docstring for one instance."""
    X, y, m, b = problem.X, problem.y, network.width, network.shift
    excess = X @ network.weights.T - b
    fires = excess >= 0
    E = np.where(fires, excess, 0.0)
    f = E @ network.signs / math.sqrt(m)
    A = fires.astype(np.float64)
    g = np.linalg.solve(((X @ X.T) * (A @ A.T) + E @ E.T) / m, f - y)
    t = np.abs(g) / math.sqrt(m)
    left = np.sign(g) * math.sqrt(m) / 2 * missed_by_both(t, b) + t**2 * f
    return float(np.linalg.norm(left) / np.linalg.norm(f - y))


def missed_by_both(t: FloatArray, b: float) -> FloatArray:
    """Compute ``int_0^t (1 - t s) (t - s) phi(b + s) ds``.

    Examples
    --------
    >>> s = np.linspace(0, 1.5, 100001)
    >>> density = np.exp(-((2 + s) ** 2) / 2) / np.sqrt(2 * np.pi)
    >>> exact = np.trapezoid((1 - 1.5 * s) * (1.5 - s) * density, s)
    >>> bool(abs(exact - missed_by_both(np.array(1.5), 2.0)) < 1e-10)
    True
    """

    def density(s: FloatArray) -> FloatArray:
        return np.asarray(np.exp(-s * s / 2) / math.sqrt(2 * math.pi))

    # int_0^t s (t - s) phi(b + s) ds, by parts.
    mass = ndtr(-b) - ndtr(-b - t)
    by_output = (b + t) * density(np.asarray(b)) - b * density(b + t) - (1 + b * (b + t)) * mass
    both: FloatArray = missed(t, b) - t * by_output
    return both


class DenseRun:
    """Plain training of both layers that keeps every pattern; separate code, and the judge of the counters.

    Parameters
    ----------
    network : StartingNetwork
        Not modified.
    problem : Problem
        Data and labels.

    Attributes
    ----------
    fires, ever : ndarray (n, u) of bool
        The pairs that fire now, and those that have ever fired.
    """

    def __init__(self, network: Any, problem: problems.Problem) -> None:  # noqa: ANN401
        self.problem, self.shift, self.scale = problem, network.shift, math.sqrt(network.width)
        self.weights, self.outputs = network.weights.copy(), network.signs.copy()
        self.excess = problem.X @ self.weights.T - self.shift
        self.fires = self.ever = self.excess >= 0

    def iterate(self) -> None:
        """Take one step; only neurons that fire have a gradient."""
        X, y = self.problem.X, self.problem.y
        moved = np.flatnonzero(self.fires.any(axis=0))
        E, weighted = np.maximum(self.excess[:, moved], 0), self.fires[:, moved] * self.outputs[moved]
        residual = E @ self.outputs[moved] / self.scale - y
        g = np.linalg.solve(((X @ X.T) * (weighted @ weighted.T) + E @ E.T) / self.scale**2, residual)
        self.weights[moved] -= weighted.T @ (g[:, np.newaxis] * X) / self.scale
        self.outputs[moved] -= g @ E / self.scale
        self.excess[:, moved] = X @ self.weights[moved].T - self.shift
        self.fires = self.excess >= 0
        self.ever = self.ever | self.fires


def count(inputs: Inputs, network: Any, problem: problems.Problem, code: CodeUnderTest) -> Result:  # noqa: ANN401
    """Run the fast and the dense code side by side, and pair what the fast one counts with what it should."""
    run, dense = code.start_joint(network, problem.X, problem.y), DenseRun(network, problem)
    result: Result = {"counts": [], "equal": [], "least": [], "witness": None}
    for _ in range(inputs["iterations"]):
        before = dense.fires
        try:
            run.iterate()
        except (InputError, DivergenceError):
            break  # what is missing counts as wrong
        dense.iterate()
        counts, fan = dict(run.counts[-1]), before.sum(axis=0, dtype=np.int64)
        pairs, after, squares = int(fan.sum()), int(dense.fires.sum()), int(fan @ fan)
        equal = {
            "gram": closed_forms.joint_gram_work(before),
            "step": 2 * pairs,
            "predict": after,
            "flips": int(np.count_nonzero(before != dense.fires)),
            "active_pairs": after,
        }
        least = {"compare": pairs, "look": pairs, "drift": squares}
        result["counts"].append(counts)
        result["equal"].append({name: [counts.get(name, -1), value] for name, value in equal.items()})
        result["least"].append({name: [counts.get(name, -1), value] for name, value in least.items()})
    if inputs["width"] <= 1 << WITNESS_EXPONENT:
        result["witness"] = ignores_poison(run, network, problem, dense, code)
    return result


def ignores_poison(
    honest: Any,  # noqa: ANN401
    network: TwoLayerNetwork,
    problem: problems.Problem,
    dense: DenseRun,
    code: CodeUnderTest,
) -> bool:
    """Poison the neurons that never fired, after the preparation; tell whether the same bytes come out."""
    weights, outputs = network.weights.copy(), network.signs.copy()
    run = code.start_joint(JointNetwork(weights, outputs, network.shift), problem.X, problem.y)
    silent = ~dense.ever.any(axis=0)
    weights[silent] = np.inf * (-1.0) ** np.arange(network.dim)
    outputs[silent] = np.inf
    try:
        # Infinite weights of both signs make any product with them invalid, even one whose result is thrown away.
        with np.errstate(invalid="raise"):
            for _ in honest.counts:
                run.iterate()
    except (InputError, DivergenceError, ArithmeticError):
        return False
    same_residuals: bool = run.residual_norms == honest.residual_norms
    return same_residuals and run.residual.tobytes() == honest.residual.tobytes()


def decide(results: Results) -> list[Finding]:
    """Decide part by part; withdraw what rests on counters that the witness contradicts."""
    trials = _part(results, "halving")
    findings = [
        _find_equality(_part(results, "equality")),
        _find_halving(trials),
        _find_first_ratio(trials),
        _find_iterations(_part(results, "iterations")),
        _find_law(_part(results, "law")),
        _find_climbs(_part(results, "climbs")),
        _find_exact(_part(results, "cost")),
        _find_width(_part(results, "cost")),
        _find_rest(_part(results, "cost")),
    ]
    witness = _find_witness(_part(results, "cost"))
    if witness.verdict == "fails":
        findings = [contradicted(finding) if finding.claim in RELY_ON_COUNTS else finding for finding in findings]
    return [*findings, witness]


def _part(results: Results, part: str) -> list[tuple[Inputs, Result]]:
    return [(inputs, result) for inputs, result in results if inputs["part"] == part]


def _domain(results: Results, law: str = "random inputs", alpha: float = ALPHA) -> str:
    inputs = results[0][0]
    exponents = sorted({int(math.log2(i["width"])) for i, _ in results})
    widths = f"2^{exponents[0]}" + (f"..2^{exponents[-1]}" if len(exponents) > 1 else "")
    seeds = len({i["seed"] for i, _ in results})
    return f"n={inputs['n']}, d={inputs['d']}, m={widths}, alpha={alpha}, {law}, labels +-1, {seeds} seeds"


def _find_equality(results: Results) -> Finding:
    domain = (
        f"{len(results)} runs of {EQUALITY_ITERATIONS} iterations, one at m=12000: random, pairs, twins and clash data "
        "down to angle 0.1; n=1..24, d=2..8, m=1000..12000, alpha=0..0.24; output weights +-1 and Gaussian"
    )
    if not any(result["trained"] for _, result in results):
        reason = "The reference stopped with an error in every run, so there was nothing to compare."
        return make_finding("output_layer.equality", None, "invalid", margin="<= 1", domain=domain, reason=reason)
    errors = [(error, part, inputs) for inputs, result in results for part, error in result["errors"].items()]
    return worst_finding("output_layer.equality", errors, domain)


def _find_halving(results: Results) -> Finding:
    successes = sum(halves(result) for _, result in results)
    interval = proportion_interval(successes, len(results), confidence=0.9)
    worst = float(np.median([min(worst_ratio(result), 1e300) for _, result in results]))
    steps = float(np.mean([len(result["residuals"]) - 1 for _, result in results]))
    alone = float(np.mean([len(result["alone"]) - 1 for _, result in results]))
    return make_finding(
        "output_layer.halving",
        interval,
        decide_above(interval, SUCCESS),
        margin=f">= {SUCCESS} of trials (one-sided 95%)",
        domain=_domain(results),
        reason=f"{successes} of {len(results)} trials halve in every iteration; median worst ratio {worst:.3g}; mean "
        f"number of iterations {steps:.2f}, with the first layer alone {alone:.2f}.",
    )


def _find_first_ratio(results: Results) -> Finding:
    interval = t_interval([_log_ratio(r["residuals"]) - _log_ratio(r["alone"]) for _, r in results])
    return make_finding(
        "output_layer.first_ratio",
        interval,
        decide_below(interval, math.log(FIRST_RATIO)),
        margin=f"<= log {FIRST_RATIO}",
        domain=_domain(results),
        reason=f"Mean log of the first ratio of both layers over that of the first alone, seed by seed; t-interval. "
        f"The quotient is {_exp(interval)}.",
    )


def _find_iterations(results: Results) -> Finding:
    # A run on both layers that does not get there counts as the most iterations; one on the first alone is no evidence.
    both = [len(r["residuals"]) - 1 if _finished(r["residuals"]) else MOST_ITERATIONS for _, r in results]
    alone = [len(r["alone"]) - 1 if len(r["alone"]) > 1 and _finished(r["alone"]) else math.nan for _, r in results]
    interval = t_interval(np.log(both) - np.log(alone))
    return make_finding(
        "output_layer.iterations",
        interval,
        decide_below(interval, math.log(ITERATIONS_RATIO)),
        margin=f"<= log {ITERATIONS_RATIO:.3g}",
        domain=_domain(results, "pairs at angle 0.1"),
        reason=f"Mean log of iterations to 1e-10 of the start over those of the first layer alone, seed by seed; "
        f"t-interval. On average {np.mean(both):.1f} and {np.mean(alone):.1f}; the quotient is {_exp(interval)}.",
    )


def _find_law(results: Results) -> Finding:
    intervals = {}
    for point in LAW:
        own = [r for i, r in results if i["alpha"] == point["alpha"]]
        gaps = [_log_ratio(r["residuals"]) - math.log(r["predicted"]) for r in own]
        # Two intervals that shall hold together.
        intervals[point["alpha"]] = t_interval(gaps, confidence=0.975)
    worst = max(intervals, key=lambda alpha: _farthest(intervals[alpha]))
    return make_finding(
        "output_layer.law",
        intervals[worst],
        decide_inside(intervals[worst], -LAW_MARGIN, LAW_MARGIN),
        margin=f"within +-{LAW_MARGIN} of 0 at both alphas",
        domain=" and ".join(_domain([(i, r) for i, r in results if i["alpha"] == a], alpha=a) for a in intervals),
        reason=f"Mean of log(measured / predicted first ratio) at alpha={worst}, the farther from 0; 97.5% t-interval.",
    )


def _find_climbs(results: Results) -> Finding:
    interval = t_interval([_log_ratio(r["residuals"]) for _, r in results])
    predicted = math.exp(float(np.mean([math.log(r["predicted"]) for _, r in results])))
    return make_finding(
        "output_layer.climbs",
        interval,
        decide_above(interval, math.log(CLIMB_RATIO)),
        margin=f">= log {CLIMB_RATIO:g}",
        domain=_domain(results, alpha=CLIMB["alpha"]),
        reason=f"Mean log of the first ratio, t-interval over seeds: the residual is multiplied by {_exp(interval)}; "
        f"the law says {predicted:.3g}.",
    )


def _find_exact(results: Results) -> Finding:
    wrong, total, example = 0, 0, ""
    for inputs, result in results:
        for iteration in range(inputs["iterations"]):
            if iteration >= len(result["counts"]):
                wrong, total, example = wrong + 1, total + 1, f"; e.g. iteration {iteration} stopped at {inputs}"
                continue
            pairs = [(*item, "equal") for item in result["equal"][iteration].items()]
            pairs += [(*item, "least") for item in result["least"][iteration].items()]
            for name, (found, true), kind in pairs:
                total += 1
                if found != true if kind == "equal" else found < true:
                    wrong += 1
                    sign = "instead of" if kind == "equal" else "below"
                    example = f"; e.g. {name} {found} {sign} {true} in iteration {iteration} at {inputs}"
    share = wrong / total
    return make_finding(
        "output_layer.exact",
        Interval(share, share, share),
        "fails" if wrong else "holds",
        margin="= 0 (share that differs)",
        domain=_domain(results),
        reason=f"{wrong} of {total} counters are wrong{example}.",
    )


def _find_width(results: Results) -> Finding:
    slopes = []
    for own in _seeds(results):
        works = [math.fsum(map(_work, r["counts"])) / max(len(r["counts"]), 1) / _law(i) for i, r in own]
        logs = [math.log(work) if work > 0 else math.nan for work in works]
        slopes.append(slope([math.log(i["width"]) for i, _ in own], logs)[0])
    interval = t_interval(slopes)
    last = [_work(r["counts"][-1]) / _law(i) for i, r in results if r["counts"]]
    return make_finding(
        "output_layer.width",
        interval,
        decide_below(interval, WIDTH_MARGIN),
        margin=f"<= {WIDTH_MARGIN:g}",
        domain=_domain(results),
        reason="Slope of log(work / (n m Phi(-b))) against log m, mean work of the iterations without the solve; "
        f"t-interval over seeds. The last iteration does {np.mean(last or [math.nan]):.2g} times n m Phi(-b).",
    )


def _find_rest(results: Results) -> Finding:
    results = [(i, r) for i, r in results if i["width"] >= REST_FROM]
    # Unlike min, numpy's lets no NaN go by.
    ratios = [float(np.min([_rest_ratio(result) for _, result in own])) for own in _seeds(results)]
    interval = t_interval(ratios)
    return make_finding(
        "output_layer.rest",
        interval,
        decide_above(interval, REST_MARGIN),
        margin=f">= {REST_MARGIN:g}",
        domain=_domain(results),
        reason="Work of the last iteration that found the pattern at rest over that of the first, without the solve, "
        "the smallest ratio of a seed; t-interval over seeds.",
    )


def _find_witness(results: Results) -> Finding:
    own = [(inputs, result) for inputs, result in results if result["witness"] is not None]
    noticed = sum(not result["witness"] for _, result in own)
    share = noticed / len(own)
    return make_finding(
        "output_layer.witness",
        Interval(share, share, share),
        "fails" if noticed else "holds",
        margin="= 0 (share of runs that noticed)",
        domain=_domain(own),
        reason=f"{noticed} of {len(own)} runs noticed that what they must not read was overwritten.",
    )


def _seeds(results: Results) -> list[list[tuple[Inputs, Result]]]:
    """Group cells by seed."""
    return [
        [(i, r) for i, r in results if i["seed"] == seed] for seed in sorted({inputs["seed"] for inputs, _ in results})
    ]


def _work(counts: dict[str, int]) -> float:
    """Sum the work of one iteration, all but the solve, which depends on ``n`` alone."""
    return float(sum(work for phase, work in counts.items() if phase not in ("solve", "active_pairs")))


def _law(inputs: Inputs) -> float:
    """Return ``n m Phi(-b)`` at ``b = sqrt(2 alpha ln m)``, typed again here."""
    return float(inputs["n"] * inputs["width"] * ndtr(-math.sqrt(2 * ALPHA * math.log(inputs["width"]))))


def _rest_ratio(result: Result) -> float:
    counts = result["counts"]
    rested = [now for then, now in pairwise(counts) if then.get("flips") == 0 == now.get("flips")]
    return _work(rested[-1]) / _work(counts[0]) if rested and _work(counts[0]) > 0 else math.nan


def _log_ratio(norms: Sequence[float]) -> float:
    return math.log(norms[1] / norms[0]) if len(norms) > 1 and min(norms[:2]) > 0 else math.nan


def _finished(norms: Sequence[float]) -> bool:
    return norms[-1] <= TARGET * norms[0]


def _farthest(interval: Interval) -> float:
    """Return how far an interval reaches from 0; one that is not a number reaches farthest."""
    reach = max(-interval.low, interval.high)
    return math.inf if math.isnan(reach) else reach


def _exp(interval: Interval) -> str:
    return "{:.3g} [{:.3g}, {:.3g}]".format(*(math.exp(x) for x in (interval.estimate, interval.low, interval.high)))


def plot(figure: Figure, results: Results) -> None:
    """Draw the residuals of some runs with both layers and with the first alone, and the work of every iteration."""
    left, right = figure.subplots(1, 2)
    for index, (part, label) in enumerate((("halving", "random"), ("iterations", "pairs at angle 0.1"))):
        for number, (_, result) in enumerate(_part(results, part)[:6]):
            for name, style, what in (("residuals", "-", "both layers"), ("alone", ":", "first alone")):
                norms = np.maximum(np.array(result[name]) / result[name][0], 1e-17)
                text = f"{label}, {what}" if not number else None
                left.semilogy(norms, style, color=f"C{index}", marker="", linewidth=0.8, label=text)
    left.set(xlabel="iteration", ylabel="residual / initial residual", ylim=(1e-17, 1e3))
    left.legend(frameon=False, fontsize="small", loc="upper right")
    cost = _part(results, "cost")
    for width in sorted({inputs["width"] for inputs, _ in cost}):
        own = [(i, r) for i, r in cost if i["width"] == width]
        steps = range(min(len(result["counts"]) for _, result in own))
        shares = [max(float(np.mean([_work(r["counts"][step]) / _law(i) for i, r in own])), 1e-3) for step in steps]
        right.semilogy([step + 1 for step in steps], shares, "o-", markersize=3, label=f"m = 2^{int(math.log2(width))}")
    right.set(xlabel="iteration", ylabel="work / (n m Phi(-b))", ylim=(1, 100))
    right.legend(frameon=False, fontsize="small", loc="upper right")


EXPERIMENT = Experiment(
    name="output_layer",
    title="Training the output layer too",
    claims=CLAIMS,
    cells=cells,
    measure=measure,
    decide=decide,
    plot=plot,
)
