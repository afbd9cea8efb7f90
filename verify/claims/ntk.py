"""Claims about the shifted neural tangent kernel ``K`` and about the limit exponent.

``ntk.rate``, ``ntk.level``. The shift ``b`` is fixed while ``m`` grows, since ``K`` itself depends on ``b``:
only then is there a limit to tend to. The norm is Frobenius', because its law is exact at every ``m``:
neurons are independent, and one fires on both of a pair of points with probability ``P_ij``, so::

    E ||G - K||_F^2 = v / m,        v = sum_ij <x_i, x_j>^2 P_ij (1 - P_ij)

Estimated per seed: the least-squares slope of ``log ||G - K||_F`` against ``log m`` (target -1/2), and the
mean over ``m`` of ``m ||G - K||_F^2 / v`` (target 1, which a slope alone would miss). Intervals over seeds
for each shift, at a level that makes the error rate of all shifts together 5%; the claim holds when it holds
at every shift. Errors are stored and drawn in units of ``Phi(-b)``.

``ntk.routes``. Three routes to ``K``, compared in all pairs: the reference (Gauss-Legendre on halved
intervals), the code under test (one double-exponential rule), and a closed form with Owen's T function (Owen
1956), typed here::

    P = Phi(-b) - 2 T(b, ||x - z|| / ||x + z||)

Differences are absolute, in units of the diagonal ``Phi(-b)``, because the closed form subtracts. A fourth
route, wide random networks, is ``ntk.rate``.

``ntk.lambda_min``. One trial is one data set, at several sizes and shifts; it succeeds when the smallest
eigenvalue of ``K`` lies between the bounds every time. A bound admits no exception, so one failure decides;
with none, the trials must show that more than 95% of such data sets succeed.

``ntk.identities``, ``ntk.exponent``. Algebra by SymPy, and two constants of the code beside it: its ``c_b`` against
the derived one, evaluated to 50 digits at `MOMENT_SHIFTS`, and its shift against the ``b`` whose limit is taken, at
widths up to ``2^1000``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtr, owens_t

from reference.notation import UNIT_ROUNDOFF, FloatArray, closest_pair
from reference.shifted_ntk import lambda_min_bounds
from reference.shifted_ntk import shifted_ntk as reference_shifted_ntk
from verify import problems
from verify.comparison import largest
from verify.experiment import Claim, CodeUnderTest, Experiment, Finding, Inputs, Profile, Result, Verdict
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

    from verify.symbolic import Identity

Results = Sequence[tuple[Inputs, Result]]

RATE_SHIFTS = (0.0, 1.0, 2.0)
RATE_N, RATE_D = 24, 8
RATE_SEEDS, THOROUGH_RATE_SEEDS = 48, 96
SMALLEST_WIDTH, LARGEST_WIDTH, THOROUGH_LARGEST_WIDTH = 2**8, 2**15, 2**17
SLOPE_MARGIN = (-0.55, -0.45)
LEVEL_MARGIN = (0.8, 1.2)  # of the square: the error itself to about 10%
ERROR_RATE = 0.05

ROUTE_SHIFTS = (-1.0, 0.0, 0.001, 0.1, 0.49, 0.51, 1.0, 2.0, 4.0, 6.0)
ROUTE_SEEDS, THOROUGH_ROUTE_SEEDS = 3, 30

MOMENT_SHIFTS = (-1.0, 0.0, 0.5, 1.0, 2.0, 4.0)
BOUND_FAMILIES = ("random", "pairs", "twins")  # clash has the inputs of twins; labels do not enter
BOUND_SIZES = ((2, 2), (16, 2), (32, 8), (64, 32))  # n, d
BOUND_ALPHAS, BOUND_WIDTH = (0.0, 0.1, 0.24, 0.5), 2**20
BOUND_SEEDS, THOROUGH_BOUND_SEEDS = 20, 200
BOUND_CONFIDENCE, BOUND_SHARE = 0.90, 0.95

CLAIMS = (
    Claim(
        "ntk.rate",
        "At a fixed shift the Gram matrix of a random network tends to the shifted NTK like m^(-1/2): the "
        "slope of log error against log m is -1/2.",
        "[A], shifted NTK; rate ours (law of large numbers)",
    ),
    Claim(
        "ntk.level",
        "The mean squared distance of Gram matrix and shifted NTK equals its exact value "
        "sum_ij <x_i, x_j>^2 P_ij (1 - P_ij) / m.",
        "ours",
    ),
    Claim(
        "ntk.routes",
        "Three routes to the shifted NTK (two quadratures and a closed form) agree to rounding for all pairs "
        "of points, nearly equal, equal and opposite ones included.",
        "ours",
    ),
    Claim(
        "ntk.lambda_min",
        "The smallest eigenvalue of the shifted NTK lies between exp(-b^2/2) delta / (100 n^2) and "
        "exp(-b^2/2) for delta-separated data.",
        "Song, Yang, Zhang (NeurIPS 2021)",
    ),
    Claim(
        "ntk.identities",
        "Theory: the Jacobian of one neuron away from the kink, the constant c_b, the derivative of the joint firing "
        "probability in the correlation and the quadrature's integrand are as stated; and the code's c_b is that.",
        "[A], Definition 2.6; [B]; ours; derived with SymPy",
    ),
    Claim(
        "ntk.exponent",
        "Theory: with b = sqrt(2 alpha ln m), log(m Phi(-b)) / log m tends to 1 - alpha, by Mills' ratio; and the "
        "code's shift is that b.",
        "[A], Theorem 1.1 (exponent of m); derived with SymPy",
    ),
)


def cells(profile: Profile) -> list[Inputs]:
    """List what to measure; see the module docstring."""
    rate_seeds = THOROUGH_RATE_SEEDS if profile.thorough else RATE_SEEDS
    largest = THOROUGH_LARGEST_WIDTH if profile.thorough else LARGEST_WIDTH
    widths = [SMALLEST_WIDTH * 2**i for i in range(int(math.log2(largest // SMALLEST_WIDTH)) + 1)]
    route_seeds = THOROUGH_ROUTE_SEEDS if profile.thorough else ROUTE_SEEDS
    bound_seeds = THOROUGH_BOUND_SEEDS if profile.thorough else BOUND_SEEDS
    rate = [
        {"part": "rate", "shift": shift, "widths": widths, "seed": seed}
        for shift in RATE_SHIFTS
        for seed in range(rate_seeds)
    ]
    routes = [{"part": "routes", "seed": seed} for seed in range(route_seeds)]
    bounds = [
        {"part": "bounds", "family": family, "seed": seed}
        for family in BOUND_FAMILIES
        for seed in range(bound_seeds)
    ]
    return [*rate, *routes, *bounds, {"part": "symbolic"}]


def measure(inputs: Inputs, rng: np.random.Generator, code: CodeUnderTest) -> Result:
    """Measure one cell."""
    if inputs["part"] == "rate":
        return measure_rate(inputs, rng, code)
    if inputs["part"] == "routes":
        return measure_routes(rng, code)
    if inputs["part"] == "bounds":
        return measure_bounds(inputs, rng, code)
    return measure_symbolic(code)


def joint_probability(X: FloatArray, shift: float) -> FloatArray:
    """Compute all ``P_ij`` in closed form (Owen 1956): the oracle.

    Parameters
    ----------
    X : ndarray (n, d)
        Unit rows.
    shift : float
        ``b``.

    Returns
    -------
    ndarray (n, n)
        Absolute error a few roundings of ``Phi(-b)``.

    Examples
    --------
    >>> joint_probability(np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]]), 0.0)[0]
    array([0.5 , 0.  , 0.25])
    """
    apart = np.linalg.norm(X[:, np.newaxis] - X, axis=2)
    together = np.linalg.norm(X[:, np.newaxis] + X, axis=2)
    with np.errstate(divide="ignore"):
        tangent = apart / together  # of half the angle; infinite for opposite points, where T has its limit
    P: FloatArray = ndtr(-shift) - 2 * owens_t(shift, tangent)
    return P


def route_tolerance(shift: float) -> float:
    """Allow this difference of two routes, in units of ``Phi(-b)``.

    Each route rounds a sum of up to about 400 terms in sequence (or thousands in pairs) and truncates an
    integral at about 100 roundings: 512 together. The exponent ``b^2 / (2 sin^2 v)`` and the argument of
    ``Phi`` each pass a relative error of a few roundings on, multiplied by ``b^2``: 16.

    Parameters
    ----------
    shift : float
        ``b``.

    Returns
    -------
    float

    Examples
    --------
    >>> f"{route_tolerance(0.0):.1e} {route_tolerance(6.0):.1e}"
    '5.7e-14 1.2e-13'
    """
    return (512 + 16 * shift**2) * UNIT_ROUNDOFF


def measure_rate(inputs: Inputs, rng: np.random.Generator, code: CodeUnderTest) -> Result:
    """Measure ``||G - K||_F / Phi(-b)`` and its exact root mean square at each width."""
    shift, widths = inputs["shift"], inputs["widths"]
    X = problems.make("pairs", RATE_N, RATE_D, rng).X
    K = code.shifted_ntk(X, shift)
    P = joint_probability(X, shift)
    variance = float(((X @ X.T) ** 2 * P * (1 - P)).sum())
    scale = float(ndtr(-shift))
    errors, spectra = [], []
    for width in widths:
        G = code.gram(code.initialize(width, RATE_D, shift=shift, rng=rng), X)
        errors.append(float(np.linalg.norm(G - K)) / scale)
        spectra.append(np.linalg.eigvalsh(G)[::-1].tolist())
    result: Result = {
        "errors": errors,
        "predicted": [math.sqrt(variance / width) / scale for width in widths],
    }
    if inputs["seed"] == 0:  # for the plot
        result |= {"gram_eigenvalues": spectra, "kernel_eigenvalues": np.linalg.eigvalsh(K)[::-1].tolist()}
    return result


def hard_geometry(rng: np.random.Generator) -> FloatArray:
    """Draw unit rows with pairs at angles from 1e-8 to 1, equal rows and (nearly) opposite ones."""
    angles = 10.0 ** np.arange(-8, 1)
    pairs = [problems.make("pairs", 2, 5, rng, angle=angle).X for angle in angles]
    X = np.concatenate([*pairs, -pairs[0], -pairs[4][:1], pairs[8][:1]])
    return np.asarray(X / np.linalg.norm(X, axis=1, keepdims=True))


def measure_routes(rng: np.random.Generator, code: CodeUnderTest) -> Result:
    """Measure the largest disagreement of each pair of routes, as a fraction of its tolerance."""
    worst = {"reference, fast": 0.0, "reference, closed form": 0.0, "fast, closed form": 0.0}
    for shift in ROUTE_SHIFTS:
        X = hard_geometry(rng)
        allowance = route_tolerance(shift) * float(ndtr(-shift))
        slow, fast = reference_shifted_ntk(X, shift), code.shifted_ntk(X, shift)
        closed = (X @ X.T) * joint_probability(X, shift)
        for name, one, other in (
            ("reference, fast", slow, fast),
            ("reference, closed form", slow, closed),
            ("fast, closed form", fast, closed),
        ):
            worst[name] = largest([worst[name], np.abs(one - other).max() / allowance])
    return dict(worst)


def measure_bounds(inputs: Inputs, rng: np.random.Generator, code: CodeUnderTest) -> Result:
    """Measure the smallest eigenvalue over its lower and its upper bound, and over its rounding error."""
    over_low, over_high, over_rounding = [], [], []
    for n, d in BOUND_SIZES:
        X = problems.make(inputs["family"], n, d, rng).X
        delta = closest_pair(X)[0]
        for alpha in BOUND_ALPHAS:
            shift = math.sqrt(2 * alpha * math.log(BOUND_WIDTH))
            eigenvalues = np.linalg.eigvalsh(code.shifted_ntk(X, shift))
            low, high = lambda_min_bounds(shift, delta, n)
            over_low.append(float(eigenvalues[0] / low))
            over_high.append(float(eigenvalues[0] / high))
            over_rounding.append(float(low / (8 * n * UNIT_ROUNDOFF * eigenvalues[-1])))
    return {
        "least over lower bound": float(np.min(over_low)),
        "greatest over upper bound": float(np.max(over_high)),
        "lower bound over rounding": float(np.min(over_rounding)),
    }


def measure_symbolic(code: CodeUnderTest) -> Result:
    """Derive the identities, and compare two constants of the code; report by name whether each holds."""
    from verify import symbolic  # loads SymPy, which every worker would do

    exponent = (*symbolic.mills_ratio(), symbolic.limit_exponent())
    moment = symbolic.relu_second_moment()
    return {
        "identities": {
            identity.name: identity.holds
            for identity in (
                *symbolic.neuron_jacobian(),
                moment,
                *symbolic.tail_derivative(),
                symbolic.quadrature(),
            )
        }
        | {"c_b of the code": same_moment(moment, code)},
        "exponent": {identity.name: identity.holds for identity in exponent}
        | {"b of the code": same_shift(code)},
    }


def same_moment(moment: Identity, code: CodeUnderTest) -> bool:
    """Tell whether the code's ``c_b`` is the derived one, to the rounding of a difference of two terms."""
    import sympy as sp

    (b,) = moment.stated.free_symbols
    for shift in MOMENT_SHIFTS:
        # The derived form is 0/0 at b = 0; the stated one equals it and is not.
        exact = float(moment.stated.subs(b, sp.Rational(shift)).evalf(50))
        allowance = (512 + 16 * shift**2) * UNIT_ROUNDOFF * (1 + shift**2) * float(ndtr(-shift))
        if not abs(code.second_moment(shift) - exact) <= allowance:
            return False
    return True


def same_shift(code: CodeUnderTest) -> bool:
    """Tell whether the code's shift is ``sqrt(2 alpha ln m)`` to rounding, from narrow to unreachable widths."""
    pairs = [(width, alpha) for width in (2, 1000, 2**20, 2**50, 2**1000) for alpha in BOUND_ALPHAS]
    expected = [math.sqrt(2 * alpha * math.log(width)) for width, alpha in pairs]
    return bool(np.allclose([code.shift_for(*pair) for pair in pairs], expected, rtol=8 * UNIT_ROUNDOFF, atol=0.0))


def decide(results: Results) -> list[Finding]:
    """Decide the claims, in the order of `CLAIMS`."""
    rate = select(results, "rate")
    return [
        decide_rate(rate),
        decide_level(rate),
        decide_routes(select(results, "routes")),
        decide_bounds(select(results, "bounds")),
        decide_symbolic("ntk.identities", "identities", select(results, "symbolic")),
        decide_symbolic("ntk.exponent", "exponent", select(results, "symbolic")),
    ]


def select(results: Results, part: str) -> Results:
    """Keep the cells of one part of the experiment."""
    return [(inputs, result) for inputs, result in results if inputs["part"] == part]


def worst_shift(
    per_seed: dict[float, list[float]], margin: tuple[float, float]
) -> tuple[float, Interval, Verdict]:
    """Find the shift whose interval reaches furthest from the margin's middle, and the verdict on all shifts.

    Parameters
    ----------
    per_seed : dict
        For each shift one number per seed.
    margin : (float, float)
        Where the truth is claimed to lie.

    Returns
    -------
    (float, Interval, Verdict)
    """
    confidence = 1 - ERROR_RATE / len(per_seed)
    middle = (margin[0] + margin[1]) / 2
    intervals = {shift: t_interval(values, confidence=confidence) for shift, values in per_seed.items()}
    verdicts = [decide_inside(interval, *margin) for interval in intervals.values()]
    order: tuple[Verdict, ...] = ("invalid", "fails", "undecided", "holds")
    verdict = next(word for word in order if word in verdicts)
    worst = max(
        intervals, key=lambda shift: max(abs(intervals[shift].low - middle), abs(intervals[shift].high -
        middle))
    )
    return worst, intervals[worst], verdict


def rate_domain(rate: Results) -> str:
    """Say what the claims about the rate speak for."""
    widths = rate[0][0]["widths"]
    shifts = sorted({inputs["shift"] for inputs, _ in rate})
    return (
        f"n={RATE_N}, d={RATE_D}, m={widths[0]}..{widths[-1]}, shifts {', '.join(f'{b:g}' for b in shifts)}, "
        f"family pairs, {len(rate) // len(shifts)} seeds per shift"
    )


def decide_rate(rate: Results) -> Finding:
    """Decide ``ntk.rate`` from the slope of each seed."""
    slopes: dict[float, list[float]] = {}
    for inputs, result in rate:
        steepness, _ = slope(np.log(inputs["widths"]), log_or_nan(result["errors"]))
        slopes.setdefault(inputs["shift"], []).append(steepness)
    shift, interval, verdict = worst_shift(slopes, SLOPE_MARGIN)
    return make_finding(
        "ntk.rate",
        interval,
        verdict,
        margin=f"slope within [{SLOPE_MARGIN[0]}, {SLOPE_MARGIN[1]}] at every shift",
        domain=rate_domain(rate),
        reason=f"furthest from -1/2 is shift {shift:g}: slope {interval.estimate:.3f} (95% for all shifts)",
    )


def log_or_nan(values: Sequence[float]) -> FloatArray:
    """Take logarithms; of 0, a NaN, which makes a claim invalid: no random network is at its limit."""
    array = np.asarray(values, dtype=np.float64)
    return np.log(np.where(array > 0, array, np.nan))


def decide_level(rate: Results) -> Finding:
    """Decide ``ntk.level`` from each seed's mean squared ratio of error and exact root mean square."""
    levels: dict[float, list[float]] = {}
    for inputs, result in rate:
        ratio = np.asarray(result["errors"]) / np.asarray(result["predicted"])
        levels.setdefault(inputs["shift"], []).append(float(np.mean(ratio**2)))
    shift, interval, verdict = worst_shift(levels, LEVEL_MARGIN)
    return make_finding(
        "ntk.level",
        interval,
        verdict,
        margin=f"mean squared error over its exact value within [{LEVEL_MARGIN[0]}, {LEVEL_MARGIN[1]}] "
        "at every shift",
        domain=rate_domain(rate),
        reason=f"furthest from 1 is shift {shift:g}: {interval.estimate:.3f} (95% for all shifts)",
    )


def decide_routes(routes: Results) -> Finding:
    """Decide ``ntk.routes``: rounding is no sampling error, so the largest disagreement decides as it is."""
    worst = {name: max(result[name] for _, result in routes) for name in routes[0][1]}
    name = max(worst, key=lambda key: worst[key])
    largest = Interval(worst[name], worst[name], worst[name])
    return make_finding(
        "ntk.routes",
        largest,
        decide_below(largest, 1.0),
        margin="largest disagreement <= 1 times (512 + 16 b^2) 2^-53 Phi(-b)",
        domain=f"n=22, d=5, angles 1e-8 to 1, equal and opposite points, shifts {ROUTE_SHIFTS[0]:g}.."
        f"{ROUTE_SHIFTS[-1]:g}, {len(routes)} seeds",
        reason=f"the routes that differ most are {name}: {worst[name]:.2g} of the allowance",
    )


def decide_bounds(bounds: Results) -> Finding:
    """Decide ``ntk.lambda_min`` from the share of data sets whose every eigenvalue lies within the bounds."""
    lows = [result["least over lower bound"] for _, result in bounds]
    highs = [result["greatest over upper bound"] for _, result in bounds]
    inside = sum(low >= 1 and high <= 1 for low, high in zip(lows, highs, strict=True))
    share = proportion_interval(inside, len(bounds), confidence=BOUND_CONFIDENCE)
    verdict: Verdict = "undecided" if share.low < BOUND_SHARE else "holds"
    if inside < len(bounds):
        verdict = "fails"
    if min(result["lower bound over rounding"] for _, result in bounds) < 1:
        verdict = "invalid"  # some lower bound is below the rounding error of an eigenvalue
    sizes = ", ".join(f"({n}, {d})" for n, d in BOUND_SIZES)
    alphas = ", ".join(f"{alpha:g}" for alpha in BOUND_ALPHAS)
    return make_finding(
        "ntk.lambda_min",
        share,
        verdict,
        margin=f"no data set outside, and more than {BOUND_SHARE:.0%} inside at one-sided 95%",
        domain=f"(n, d) = {sizes}; b = sqrt(2 alpha ln {BOUND_WIDTH}), alpha {alphas}; "
        f"families {', '.join(BOUND_FAMILIES)} (clash: inputs as twins); {len(bounds)} data sets",
        reason=f"{inside} of {len(bounds)} inside; at the tightest, {min(lows):.3g} times the lower bound "
        f"and {max(highs):.3g} times the upper bound",
    )


def decide_symbolic(claim: str, part: str, cells_of_part: Results) -> Finding:
    """Decide a claim of algebra: every identity must simplify to 0."""
    outcome: dict[str, bool] = cells_of_part[0][1][part]
    broken = [name for name, holds in outcome.items() if not holds]
    return make_finding(
        claim,
        None,
        "fails" if broken else "holds",
        margin="every difference simplifies to 0; the code's constant equal to rounding",
        domain="m -> oo at any alpha > 0" if part == "exponent" else "all real arguments away from the kink",
        reason=f"not confirmed: {'; '.join(broken)}"
        if broken
        else f"{len(outcome) - 1} identities derived, all differences are 0; the code's constant is the derived one",
    )


def plot(figure: Figure, results: Results) -> None:
    """Draw the error against its law, and the eigenvalues of ``G`` at growing ``m`` beside those of ``K``."""
    rate = select(results, "rate")
    left, right = figure.subplots(1, 2)
    for number, shift in enumerate(RATE_SHIFTS):
        here = [(inputs, result) for inputs, result in rate if inputs["shift"] == shift]
        widths, colour = here[0][0]["widths"], f"C{number}"
        for _, result in here:
            left.loglog(widths, result["errors"], ".", color=colour, alpha=0.3)
        law = np.sqrt(np.mean([np.square(result["predicted"]) for _, result in here], axis=0))
        left.loglog(widths, law, color=colour, label=f"b = {shift:g}")
    left.set(xlabel="width m", ylabel="||G - K|| / Phi(-b)", title="Gram matrix tends to K (line: exact law)")
    left.legend()
    inputs, shown = next(cell for cell in rate if cell[0]["shift"] == RATE_SHIFTS[1] and cell[0]["seed"] == 0)
    rank = np.arange(1, RATE_N + 1)
    chosen = range(0, len(inputs["widths"]), 2)
    for position, index in enumerate(chosen):
        shade = str(0.85 - 0.6 * position / len(chosen))
        right.semilogy(
            rank, shown["gram_eigenvalues"][index], color=shade, label=f"G, m = {inputs['widths'][index]}"
        )
    right.semilogy(rank, shown["kernel_eigenvalues"], "C3--", label="K")
    right.set(xlabel="rank", ylabel="eigenvalue", title=f"Eigenvalues at b = {RATE_SHIFTS[1]:g}")
    right.legend(fontsize="small")


EXPERIMENT = Experiment(
    name="ntk",
    title="Shifted neural tangent kernel",
    claims=CLAIMS,
    cells=cells,
    measure=measure,
    decide=decide,
    plot=plot,
)
