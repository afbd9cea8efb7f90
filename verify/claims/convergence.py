"""Claim: every iteration at least halves the residual; where that is true, where not, and how small the first ratio is.

What is asked. Theorem 1.1 of [A] says that on wide enough networks and separated data every iteration halves the
residual. One *trial* is one seed: its own data and weights, one run until the residual is 1e-10 of the start. It
succeeds when every iteration halves. After each iteration the run's network is written out, and its residual is
recomputed from the dense weights by the reference's own prediction, never taken from the run's report.

- ``random``: uniform unit inputs, where the assumptions are closest to true: trials must succeed.
- ``pairs``, ``clash``: correlated inputs. The width that the theorem asks for is out of reach, and the claim is that
  trials do *not* succeed at the widths measured; the worst ratio says by how much.
- ``narrow``: random inputs, but a width far below the theorem's.
- ``gradient``: gradient descent with its best constant learning rate on *pairs*. Gauss-Newton itself misses single
  halvings there, so the test is a milder one, which it passes: to halve on average over 10 iterations.
- ``first_ratio``, ``first_slope``: how large the first ratio is, against a law.

First-ratio law (ours). With ``G g = f - y``, a neuron that fires on ``x_j`` alone drifts by ``-m^(-1/2) a_r g_j``; the
linear model misses it only if its score falls below ``b``. Scores have density ``phi`` just above ``b``, half of the
signs point down, so what is left of residual ``j`` is, with ``t = |g_j| / sqrt(m)``::

    (sqrt(m) / 2) H(t),    H(t) = int_0^t (t - s) phi(b + s) ds
                                = (t + b) (Phi(b + t) - Phi(b)) + phi(b + t) - phi(b)

For small ``t`` that is ``phi(b) g_j^2 / (4 sqrt(m))``: the first ratio falls like ``b / (sqrt(m) Phi(-b))``. Neurons
that fire on two points are left out, so the law speaks for random inputs only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtr

from reference.notation import DivergenceError, FloatArray, NothingFiresError, SingularGramError
from reference.two_layer import TwoLayerNetwork, activation_pattern, shift_for
from verify import problems
from verify.experiment import Claim, CodeUnderTest, Experiment, Finding, Inputs, Profile, Result
from verify.statistics import (
    Interval,
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

ALPHA = 0.24
N, D = 32, 16
TARGET = 1e-10
"""A trial ends when the residual is this multiple of the initial one."""
MOST_ITERATIONS = 40
GRADIENT_ITERATIONS = 10
TRIALS = 60
"""0 failures in 60 trials give a one-sided 95% lower bound of 0.951 on the probability of success."""
SUCCESS, RARELY = 0.95, 0.05
WIDTHS = {"random": 1 << 13, "pairs": 1 << 12, "clash": 1 << 11, "narrow": 1 << 7, "gradient": 1 << 12}
RATIO_WIDTHS = [1 << exponent for exponent in (10, 12, 14, 16)]
RATIO_SEEDS = 10
LEVEL_MARGIN, SLOPE_MARGIN = 0.05, 0.05

CLAIMS = (
    Claim(
        "convergence.random",
        "On random inputs every iteration at least halves the residual, down to 1e-10 of the start, "
        "in at least 95% of runs.",
        "[A], Theorem 1.1",
    ),
    Claim(
        "convergence.pairs",
        "On pairs of inputs at angle 0.3 some iteration does not halve the residual at this width, "
        "in at least 95% of runs.",
        "[A], Theorem 1.1, outside its assumptions; ours",
    ),
    Claim(
        "convergence.clash",
        "On pairs at angle 0.1 with random labels some iteration does not halve the residual at this width, "
        "in at least 95% of runs.",
        "[A], Theorem 1.1, outside its assumptions; ours",
    ),
    Claim(
        "convergence.narrow",
        "On random inputs, but with only 4 neurons a data point, the success of a trial is no longer reliable: "
        "its probability is below 0.95.",
        "[A], Theorem 1.1, outside its assumptions; ours",
    ),
    Claim(
        "convergence.gradient",
        "Gradient descent with its best constant learning rate does not halve the residual on pairs of inputs at "
        "angle 0.3, not even on average over 10 iterations, in at least 95% of runs.",
        "ours",
    ),
    Claim(
        "convergence.first_ratio",
        "On random inputs the first iteration leaves the share of the residual that the first-ratio law predicts, "
        "within 5%.",
        "ours",
    ),
    Claim(
        "convergence.first_slope",
        "The first-ratio law holds at every width alike: the ratio of measured to predicted first contraction "
        "has exponent 0, within 0.05.",
        "ours",
    ),
)


def cells(profile: Profile) -> list[Inputs]:
    """List the trials of every family, and the widths and seeds of the first-ratio law."""
    more = 4 if profile.thorough else 1
    trials = [
        {"family": family, "width": width, "seed": seed}
        for family, width in WIDTHS.items()
        for seed in range(TRIALS * more)
    ]
    ratios = [
        {"family": "first_ratio", "width": width, "seed": seed}
        for width in RATIO_WIDTHS
        for seed in range(RATIO_SEEDS * more)
    ]
    return trials + ratios


def measure(inputs: Inputs, rng: np.random.Generator, code: CodeUnderTest) -> Result:
    """Run one trial; report the residuals of the dense network after each iteration."""
    family, width = inputs["family"], inputs["width"]
    law = {"narrow": "random", "gradient": "pairs", "first_ratio": "random"}.get(family, str(family))
    problem = problems.make(law, N, D, rng)
    network = code.initialize(width, D, shift=shift_for(width, ALPHA), rng=rng)
    if family == "first_ratio":
        predicted = predicted_first_ratio(network, problem.X, problem.y)
        residuals, failure = dense_residuals(network, problem, 1, gauss_newton(network, problem, code))
        return {"residuals": residuals, "failure": failure, "predicted": predicted}
    if family == "gradient":
        networks, iterations = gradient_descent(network, problem, code), GRADIENT_ITERATIONS
    else:
        networks, iterations = gauss_newton(network, problem, code), MOST_ITERATIONS
    residuals, failure = dense_residuals(network, problem, iterations, networks)
    return {"residuals": residuals, "failure": failure}


def dense_residuals(
    network: TwoLayerNetwork, problem: problems.Problem, iterations: int, networks: Iterator[TwoLayerNetwork]
) -> tuple[list[float], str]:
    """Take the dense network after each iteration; recompute every residual from it."""
    norms = [float(np.linalg.norm(network.predict(problem.X) - problem.y))]
    try:
        while len(norms) <= iterations and norms[-1] > TARGET * norms[0]:
            norms.append(float(np.linalg.norm(next(networks).predict(problem.X) - problem.y)))
    except (NothingFiresError, SingularGramError, DivergenceError) as failure:
        return norms, type(failure).__name__
    return norms, ""


def gauss_newton(
    network: TwoLayerNetwork, problem: problems.Problem, code: CodeUnderTest
) -> Iterator[TwoLayerNetwork]:
    """Train on the tree path; yield the network after each iteration."""
    run = code.start(network, problem.X, problem.y)
    while True:
        run.iterate()
        yield run.trace(0.0).network.to_dense()


def gradient_descent(
    network: TwoLayerNetwork, problem: problems.Problem, code: CodeUnderTest
) -> Iterator[TwoLayerNetwork]:
    """Take steps of gradient descent with the learning rate that is best at the start; yield the networks."""
    eigenvalues = np.linalg.eigvalsh(gram(network, problem.X))
    rate = float(2 / (eigenvalues[-1] + eigenvalues[0]))
    while True:
        network = code.train_gradient_descent(
            network, problem.X, problem.y, iterations=1, learning_rate=rate
        ).network.to_dense()
        yield network


def gram(network: TwoLayerNetwork, X: FloatArray) -> FloatArray:
    """Compute ``G = (X X^T) o (A A^T) / m``: typed again, and much cheaper than from the Jacobian."""
    A = activation_pattern(network, X).astype(np.float64)
    G: FloatArray = (X @ X.T) * (A @ A.T) / network.width
    return G


def predicted_first_ratio(network: TwoLayerNetwork, X: FloatArray, y: FloatArray) -> float:
    """Evaluate the first-ratio law of the module docstring for one instance."""
    residual = network.predict(X) - y
    drift = np.abs(np.linalg.solve(gram(network, X), residual)) / np.sqrt(network.width)
    left = np.sqrt(network.width) / 2 * missed(drift, network.shift)
    return float(np.linalg.norm(left) / np.linalg.norm(residual))


def missed(t: FloatArray, b: float) -> FloatArray:
    """Compute ``H(t) = int_0^t (t - s) phi(b + s) ds``.

    Examples
    --------
    >>> s = np.linspace(0, 0.5, 100001)
    >>> density = np.exp(-((2 + s) ** 2) / 2) / np.sqrt(2 * np.pi)
    >>> bool(abs(np.trapezoid((0.5 - s) * density, s) - missed(np.array(0.5), 2.0)) < 1e-10)
    True
    """

    def density(s: FloatArray) -> FloatArray:
        return np.asarray(np.exp(-s * s / 2) / np.sqrt(2 * np.pi))

    # Upper tails: far out they keep their digits, where ndtr(b) is 1.
    H: FloatArray = (t + b) * (ndtr(-b) - ndtr(-b - t)) + density(b + t) - density(np.asarray(b))
    return H


def worst_ratio(result: Result) -> float:
    """Return the largest ratio of successive residuals, infinite for a run that failed."""
    norms = np.array(result["residuals"])
    if result["failure"] or len(norms) < 2:
        return float("inf")
    return float((norms[1:] / norms[:-1]).max())


def halves(result: Result) -> bool:
    """Tell whether a trial succeeds: every ratio at most 1/2, and the target reached."""
    norms = result["residuals"]
    return worst_ratio(result) <= 0.5 and norms[-1] <= TARGET * norms[0]


def halves_on_average(result: Result) -> bool:
    """Tell whether the residual fell as far as `GRADIENT_ITERATIONS` halvings would bring it."""
    norms = result["residuals"]
    return not result["failure"] and norms[-1] <= norms[0] * 0.5**GRADIENT_ITERATIONS


def decide(results: Sequence[tuple[Inputs, Result]]) -> list[Finding]:
    """Count the trials that succeed, family by family; compare first ratios with the law, seed by seed."""
    findings = [_decide_family(family, results) for family in WIDTHS]
    return findings + _decide_first_ratio(results)


def _decide_family(family: str, results: Sequence[tuple[Inputs, Result]]) -> Finding:
    trials = [(inputs, result) for inputs, result in results if inputs["family"] == family]
    succeeds = halves_on_average if family == "gradient" else halves
    successes = sum(succeeds(result) for _, result in trials)
    interval = proportion_interval(successes, len(trials), confidence=0.9)
    worst = np.median([worst_ratio(result) for _, result in trials])
    iterations = np.median([len(result["residuals"]) - 1 for _, result in trials])
    failed = sum(bool(result["failure"]) for _, result in trials)
    when = f"on average over {GRADIENT_ITERATIONS} iterations" if family == "gradient" else "in every iteration"
    reason = f"{successes} of {len(trials)} trials halve {when}; median worst ratio {worst:.3g}"
    reason += f", median {iterations:.0f} iterations" if family != "gradient" else ""
    reason += f"; {failed} stopped with an error." if failed else "."
    if family == "random":
        verdict, margin = decide_above(interval, SUCCESS), f">= {SUCCESS} of trials (one-sided 95%)"
    else:
        most = SUCCESS if family == "narrow" else RARELY
        verdict, margin = decide_below(interval, most), f"<= {most} of trials (one-sided 95%)"
    if family == "gradient" and any(r["failure"] or r["residuals"][-1] >= r["residuals"][0] for _, r in trials):
        # Slow is the finding; an opponent that does not descend at all is a broken one.
        verdict, reason = "invalid", f"In some trial gradient descent did not descend. {reason}"
    width = trials[0][0]["width"]
    domain = f"n={N}, d={D}, m={width}, alpha={ALPHA}, {len(trials)} trials"
    return make_finding(f"convergence.{family}", interval, verdict, margin=margin, domain=domain, reason=reason)


def _decide_first_ratio(results: Sequence[tuple[Inputs, Result]]) -> list[Finding]:
    seeds: dict[int, list[tuple[float, float]]] = {}
    for inputs, result in results:
        if inputs["family"] == "first_ratio":
            ratio = worst_ratio(result)
            seeds.setdefault(inputs["seed"], []).append((np.log(inputs["width"]), np.log(ratio / result["predicted"])))
    level = t_interval([float(np.mean([gap for _, gap in points])) for points in seeds.values()])
    trend = t_interval([slope(*zip(*points, strict=True))[0] for points in seeds.values()])
    domain = (
        f"n={N}, d={D}, m=2^{RATIO_WIDTHS[0].bit_length() - 1}..2^{RATIO_WIDTHS[-1].bit_length() - 1}, "
        f"alpha={ALPHA}, random inputs, {len(seeds)} seeds"
    )
    return [
        _first_finding("first_ratio", "Mean", level, LEVEL_MARGIN, domain),
        _first_finding("first_slope", "Slope in log m", trend, SLOPE_MARGIN, domain),
    ]


def _first_finding(name: str, what: str, interval: Interval, margin: float, domain: str) -> Finding:
    return make_finding(
        f"convergence.{name}",
        interval,
        decide_inside(interval, -margin, margin),
        margin=f"within +-{margin} of 0",
        domain=domain,
        reason=f"{what} of log(measured / predicted first ratio), t-interval over seeds.",
    )


def plot(figure: Figure, results: Sequence[tuple[Inputs, Result]]) -> None:
    """Draw the residuals of some trials of every family, and the first ratios against the law."""
    left, right = figure.subplots(1, 2)
    for index, family in enumerate(WIDTHS):
        runs = [result["residuals"] for inputs, result in results if inputs["family"] == family][:8]
        for number, norms in enumerate(runs):
            left.semilogy(
                np.array(norms) / norms[0],
                color=f"C{index}",
                marker="",
                linewidth=0.8,
                label=family if number == 0 else None,
            )
    steps = np.arange(0, 34)
    left.semilogy(steps, 0.5**steps, "--", color="black", marker="", label="halving")
    left.set(xlabel="iteration", ylabel="residual / initial residual", ylim=(1e-11, 1e4))
    left.legend(frameon=False, ncols=2, loc="upper right")
    points = [(i["width"], worst_ratio(r), r["predicted"]) for i, r in results if i["family"] == "first_ratio"]
    widths, ratios, predicted = map(np.array, zip(*points, strict=True))
    right.loglog(widths, ratios, "o", markersize=3, alpha=0.6, label="measured, one point per seed")
    line = np.unique(widths)
    law = [float(predicted[widths == width].mean()) for width in line]
    right.loglog(line, law, "-", color="C1", marker="", label="first-ratio law, mean over seeds")
    right.axhline(0.5, linestyle="--", color="black", linewidth=0.8, label="one half")
    right.set_xscale("log", base=2)
    right.set(xlabel="width m", ylabel="residual after / before the first iteration")
    right.legend(frameon=False, loc="lower left")


EXPERIMENT = Experiment(
    name="convergence",
    title="Every iteration halves the residual, where it does",
    claims=CLAIMS,
    cells=cells,
    measure=measure,
    decide=decide,
    plot=plot,
)
