"""Whether the sketched iteration solves ``G g = f - y`` as fast as claimed, for any condition of ``G``.

One seed: for each angle, fresh inputs in pairs at that angle, fresh weights and a fresh TensorSketch of the
size that training uses. ``G`` and the condition numbers come from the dense reference, and so does the
residual of the final solution: the iteration's own record is believed only where that agrees. Once the paper's
iteration is compared with its reference, on the dense Jacobian: solutions and residuals to 1e-7, while both go on.

The residual ``||G g - rhs||`` is not the norm in which each step must shrink: on close pairs the first step
may raise it. So "geometric" is decided over every five consecutive steps. Seeds are the unit: a seed violates
a claim when one of its angles does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from fast.sketch import default_size
from reference.gram import gram
from reference.jacobian import jacobian as dense_jacobian
from reference.notation import FloatArray, InputError
from reference.regression import Solution, rounding_floor
from reference.sketch import draw_tensor_sketch
from reference.two_layer import activation_pattern, shift_for
from verify.claims.embedding import fired_jacobian
from verify.comparison import UNEQUAL, relative_error
from verify.experiment import Claim, CodeUnderTest, Experiment, Finding, Inputs, Profile, Result
from verify.problems import make
from verify.statistics import (
    Interval,
    decide_below,
    decide_inside,
    make_finding,
    proportion_interval,
    slope,
    t_interval,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

POINTS, DIM, WIDTH, ALPHA = 16, 8, 2048, 0.1
ANGLES = (0.02, 0.05, 0.15, 0.4, 1.0)
COMPARED = 0.15
"""Angle at which the reference solves, too, for the first seed."""
SEEDS = {False: 48, True: 400}
"""Seeds in the default and in the thorough profile."""
ACCURACIES = (1e-4, 1e-8, 1e-12)
WINDOW, WINDOW_FACTOR = 5, 0.5
"""Any five consecutive steps must at least halve the residual."""
CONDITION_BOUND = 10.0
VIOLATION_RATE = 0.1
STEPS_PER_DECADE = 6.0
"""At condition number 2 the paper's iteration needs ln(10) / ln(5 / 3) = 4.5 steps for each decimal digit."""
LINEAR_MARGIN = 0.1
SLOPE_MARGIN = 0.05
ERROR_RATE = 0.05


def cells(profile: Profile) -> list[Inputs]:
    """List the seeds."""
    return [{"seed": seed} for seed in range(SEEDS[profile.thorough])]


def measure(inputs: Inputs, rng: np.random.Generator, code: CodeUnderTest) -> Result:
    """Solve one system per angle; returns condition numbers, steps, worst factors and true residuals."""
    return {
        "angles": [_measure_angle(angle, rng, code, inputs["seed"] == 0 and angle == COMPARED) for angle in ANGLES]
    }


def _measure_angle(angle: float, rng: np.random.Generator, code: CodeUnderTest, compared: bool) -> Result:
    problem = make("pairs", POINTS, DIM, rng, angle=angle)
    network = code.initialize(WIDTH, DIM, shift=shift_for(WIDTH, ALPHA), rng=rng)
    jacobian = fired_jacobian(network, problem.X)
    draw = draw_tensor_sketch(default_size(POINTS), WIDTH, DIM, rng=rng)
    sketched = code.sketch_jacobian(draw, jacobian)
    G, rhs = gram(network, problem.X), network.predict(problem.X) - problem.y
    runs = [
        code.solve_sketched(jacobian, sketched, rhs, accuracy=accuracy, method="paper")
        for accuracy in ACCURACIES
    ]
    conjugate = code.solve_sketched(jacobian, sketched, rhs, accuracy=ACCURACIES[-1], method="conjugate")
    last = (runs[-1], conjugate)
    longest = int(activation_pattern(network, problem.X).sum(axis=1).max())
    trace, size = float(np.trace(G)), float(np.linalg.norm(rhs))
    result: Result = {
        "angle": angle,
        "condition": float(np.linalg.cond(G)),
        "preconditioned": _preconditioned_condition(G, sketched),
        "steps": [int(run.iterations) for run in runs],
        "conjugate_steps": int(conjugate.iterations),
        "factors": [_worst_factor(run.residual_history) for run in last],
        "residuals": [float(np.linalg.norm(G @ run.solution - rhs)) / size for run in last],
        "rounding": [rounding_floor(trace, run.solution, terms=longest) / size for run in last],
        "history": [float(norm) for norm in runs[-1].residual_history / runs[-1].residual_history[0]],
    }
    # Beyond that bound another claim fails, and the reference would take thousands of steps.
    if compared and result["preconditioned"] <= CONDITION_BOUND:
        J = dense_jacobian(network, problem.X)
        try:
            expected = code.reference_solve_sketched(J, sketched, rhs, accuracy=ACCURACIES[-1])
            result["apart"] = _difference(runs[-1], expected)
        except InputError:
            result["apart"] = UNEQUAL
    return result


def _difference(run: Solution, expected: Solution) -> float:
    """Compare solutions, and residuals step by step; one goes on to half the accuracy, which takes a window at most."""
    if abs(run.iterations - expected.iterations) > WINDOW:
        return UNEQUAL
    steps = min(run.iterations, expected.iterations) + 1
    mine, theirs = (each.residual_history[:steps] for each in (run, expected))
    return max(relative_error(run.solution, expected.solution), relative_error(mine, theirs))


def _preconditioned_condition(G: FloatArray, sketched: FloatArray) -> float:
    R = np.asarray(np.linalg.qr(sketched, mode="r"))
    half = np.linalg.solve(R.T, G)
    return float(np.linalg.cond(np.linalg.solve(R.T, half.T)))


def _worst_factor(history: FloatArray) -> float:
    """Return the largest ratio of two residuals `WINDOW` steps apart; of the ends in a shorter run."""
    apart = min(WINDOW, len(history) - 1)
    return float(np.max(history[apart:] / history[: len(history) - apart]))


def decide(results: Sequence[tuple[Inputs, Result]]) -> list[Finding]:
    """Decide from one number per seed for each claim."""
    seeds = [result["angles"] for _, result in results]
    return [
        _decide_geometric(seeds),
        _decide_steps(seeds),
        _decide_linear(seeds),
        _decide_condition(seeds),
        _decide_independent(seeds),
    ]


def _domain(seeds: Sequence[list[Result]]) -> str:
    return (
        f"n={POINTS}, d={DIM}, m={WIDTH}, alpha={ALPHA}, pairs at {', '.join(map(str, ANGLES))} rad, "
        f"Gaussian weights, TensorSketch of {default_size(POINTS)} rows, {len(seeds)} seeds"
    )


def _solved(angle: Result) -> bool:
    """Tell whether both methods reached twice the accuracy, or the rounding of ``G g`` where that is larger."""
    allowed = [max(2 * ACCURACIES[-1], rounding) for rounding in angle["rounding"]]
    return all(norm <= most for norm, most in zip(angle["residuals"], allowed, strict=True))


def _violations(violated: list[bool]) -> Interval:
    return proportion_interval(sum(violated), len(violated), confidence=1 - ERROR_RATE)


def _decide_geometric(seeds: Sequence[list[Result]]) -> Finding:
    worst = [max(factor for angle in seed for factor in angle["factors"]) for seed in seeds]
    solved = [all(_solved(angle) for angle in seed) for seed in seeds]
    interval = _violations(
        [not (factor <= WINDOW_FACTOR and ok) for factor, ok in zip(worst, solved, strict=True)]
    )
    apart = max((angle["apart"] for seed in seeds for angle in seed if "apart" in angle), default=0.0)
    return make_finding(
        "regression.geometric",
        interval,
        decide_below(interval, VIOLATION_RATE) if apart <= 1 else "fails",
        margin=f"rate of seeds that violate it <= {VIOLATION_RATE}",
        domain=_domain(seeds),
        reason=f"the worst factor over {WINDOW} steps was {max(worst):.3f}; {sum(solved)} of {len(seeds)} "
        f"seeds passed with residuals recomputed from the dense G; the reference differs by {apart:.2g} of the bound",
    )


def _decide_steps(seeds: Sequence[list[Result]]) -> Finding:
    digits = -np.log10(ACCURACIES)
    rates = [max(slope(digits, np.array(angle["steps"], dtype=float))[0] for angle in seed) for seed in seeds]
    interval = t_interval(rates, confidence=1 - ERROR_RATE)
    conjugate = np.mean([angle["conjugate_steps"] for seed in seeds for angle in seed]) / digits[-1]
    return make_finding(
        "regression.iterations",
        interval,
        decide_below(interval, STEPS_PER_DECADE),
        margin=f"<= {STEPS_PER_DECADE} steps per factor of ten, at the worst angle of a seed",
        domain=_domain(seeds),
        reason=f"conjugate gradients on the same system took {conjugate:.2f} steps per factor of ten",
    )


def _decide_linear(seeds: Sequence[list[Result]]) -> Finding:
    # Accuracies are equally spaced in the logarithm, so a straight line takes as many steps late as early.
    steps = np.array([[angle["steps"] for angle in seed] for seed in seeds], dtype=float).sum(axis=1)
    early, late = steps[:, 1] - steps[:, 0], steps[:, 2] - steps[:, 1]
    interval = t_interval(late / early, confidence=1 - ERROR_RATE) if early.all() else None
    return make_finding(
        "regression.linear",
        interval,
        "invalid" if interval is None else decide_inside(interval, 1 - LINEAR_MARGIN, 1 + LINEAR_MARGIN),
        margin=f"within +-{LINEAR_MARGIN} of 1",
        domain=_domain(seeds),
        reason=f"steps from {ACCURACIES[1]:.0e} to {ACCURACIES[2]:.0e} over those from {ACCURACIES[0]:.0e} "
        f"to {ACCURACIES[1]:.0e}, summed over the angles",
    )


def _decide_condition(seeds: Sequence[list[Result]]) -> Finding:
    worst = [max(angle["preconditioned"] for angle in seed) for seed in seeds]
    interval = _violations([not condition <= CONDITION_BOUND for condition in worst])
    before = max(angle["condition"] for seed in seeds for angle in seed)
    return make_finding(
        "regression.condition",
        interval,
        decide_below(interval, VIOLATION_RATE),
        margin=f"rate of seeds that violate it <= {VIOLATION_RATE}",
        domain=_domain(seeds),
        reason=f"the largest condition number was {max(worst):.2f}, and {before:.0f} before preconditioning",
    )


def _decide_independent(seeds: Sequence[list[Result]]) -> Finding:
    def logarithms(name: str, seed: list[Result]) -> FloatArray:
        return np.log([angle[name] for angle in seed])

    slopes = [slope(logarithms("condition", seed), logarithms("preconditioned", seed))[0] for seed in seeds]
    interval = t_interval(slopes, confidence=1 - ERROR_RATE)
    return make_finding(
        "regression.independent",
        interval,
        decide_inside(interval, -SLOPE_MARGIN, SLOPE_MARGIN),
        margin=f"within +-{SLOPE_MARGIN} of 0",
        domain=_domain(seeds),
        reason="slope, per seed, of the log condition number after preconditioning on that before",
    )


def plot(figure: Figure, results: Sequence[tuple[Inputs, Result]]) -> None:
    """Draw the paper's residuals step by step, and the condition numbers before and after."""
    left, right = figure.subplots(1, 2)
    for _, result in results[:8]:
        for index, angle in enumerate(result["angles"]):
            left.semilogy(angle["history"], color=f"C{index}", linewidth=0.6)
    for index, value in enumerate(ANGLES):
        points = [result["angles"][index] for _, result in results]
        right.loglog(
            [point["condition"] for point in points],
            [point["preconditioned"] for point in points],
            ".",
            markersize=3,
            label=f"angle {value}",
        )
    left.set_xlabel("step")
    left.set_ylabel("relative residual, paper's iteration")
    right.axhline(CONDITION_BOUND, color="black", linewidth=1)
    right.set_xlabel("condition number of G")
    right.set_ylabel("after preconditioning")
    right.set_ylim(bottom=1)
    right.legend()


SOURCE = "van den Brand, Peng, Song and Weinstein (ITCS 2021), as used by [A]"

EXPERIMENT = Experiment(
    name="regression",
    title="The sketched iteration solves for the Gauss-Newton step",
    claims=(
        Claim(
            "regression.geometric",
            f"The residual falls geometrically: any {WINDOW} consecutive steps at least halve it, "
            f"down to a relative {ACCURACIES[-1]:.0e} or rounding, by the paper's iteration and by conjugate "
            "gradients; the former equals its reference to 1e-7, step by step.",
            SOURCE,
        ),
        Claim(
            "regression.iterations",
            f"The paper's iteration takes at most {STEPS_PER_DECADE:.0f} steps per factor of ten.",
            SOURCE,
        ),
        Claim(
            "regression.linear",
            "The number of steps grows linearly in log(1 / accuracy).",
            SOURCE,
        ),
        Claim(
            "regression.condition",
            f"After preconditioning the condition number is at most {CONDITION_BOUND:.0f}, "
            "also on close pairs.",
            SOURCE + "; sketch size: ours",
        ),
        Claim(
            "regression.independent",
            "The condition number after preconditioning does not depend on that of G.",
            SOURCE,
        ),
    ),
    cells=cells,
    measure=measure,
    decide=decide,
    plot=plot,
)
