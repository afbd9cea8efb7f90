"""Claim: how much of the residual the first iteration leaves, and how that changes as alpha crosses 1/2.

Mathematics (ours). Write ``c_ij = <x_i, x_j>``. A step moves the score of neuron ``r`` on ``x_j`` by ``-m^(-1/2) a_r``
times the sum of ``g_i c_ij`` over the ``x_i`` that it fires on. The linear model of the step leaves no residual, so all
that is left is made by the pairs that flip::

    residual_j = m^(-1/2) sum_{r: (r, j) flips} a_r |new score of r on x_j - b|

Pair law. Take the mean over neurons and signs, and neglect neurons that take part with three data points at once. Write
``t_i = g_i / sqrt(m)``, ``D_ij = t_j + c_ij t_i``, and ``l_i = k_i / (m Phi(-b))`` for the ``k_i`` neurons that fire on
``x_i``, over their mean. With `missed` as ``H``::

    2 residual_j / sqrt(m) =  l_j sgn(t_j) H(|t_j|)                                     fires on x_j alone
        + sum_{i /= j}  sgn(D_ij) V+(|D_ij|) - sgn(t_j) V+(|t_j|)                       fires on x_i and x_j
        - sum_{i /= j}  l_i sgn(c_ij t_i) V-(|c_ij t_i|)                                fires on x_i, is dragged over
                                                                                        the threshold on x_j
    V+-(T) = int_0^T (T - s) phi(b +- s) Phi((c_ij (b +- s) - b) / sqrt(1 - c_ij^2)) ds

The last factor is the chance to fire on ``x_i`` given the score ``b +- s`` on ``x_j``.

Limits. ``Phi(-b) ~ m^-alpha / (b sqrt(2 pi))`` and ``g ~ r / Phi(-b)`` for the residual ``r`` at the start, so a drift
is ``t ~ b sqrt(2 pi) |r_j| m^(alpha - 1/2)``. Scores above ``b`` exceed it by an exponential variable of rate ``b``
(Mills); the first line alone leaves::

    ratio ~ R(z) = (1 - (1 - e^-z) / z) / 2,     z = b t = sqrt(2 pi) b^2 |r_j| m^(alpha - 1/2)
    R(z) ~ z / 4  for small z,                   R(z) -> 1/2  for large z

1. alpha < 1/2: ``z -> 0``, and the ratio falls like ``b^2 m^(alpha - 1/2)``; the other lines vanish beside the first.
   But ``ln z`` has derivative ``1 / ln m + alpha - 1/2`` by ``ln m``: until ``ln m > 1 / (1/2 - alpha)`` it grows.
2. alpha = 1/2: ``z ~ b^2`` still grows, and the first line gives 1/2. A neuron that fires on ``x_i`` has score about
   ``c_ij b`` on ``x_j``, up to ``O(1)``, and is dragged by ``sqrt(2 pi) b |c_ij r_i|``: the third line stays for those
   pairs with ``c_ij + sqrt(2 pi) |c_ij r_i| > 1``.
3. alpha > 1/2: the drift exceeds every score, ``H(t) ~ t Phi(-b)`` and ``V-(T) ~ T Phi(-b)``, so that::

       residual  ->  r - X X^T r / 2

   Of the neurons that fired on ``x_i`` one half, by sign, is driven far above the threshold on ``x_j`` and the other
   far below it: the step does half of what a network without threshold would, on all points alike. On random inputs
   with labels +-1 the mean of ``c_ij^2`` is ``1/d``, and the ratio tends to ``sqrt(1 + (n - 1) / d) / 2``: near 1/2
   only while ``n`` is far below ``d``, and above 1 once ``n > 3 d + 1``.

How it is measured
1. Networks are drawn by `fast.lazy_width`: neurons that fire on no data point do not exist. They would never move.
2. The ``k`` neurons of a point are a sample: flips scatter, which adds about ``1 / (2 k)`` to the log of the ratio. So
   each alpha has widths of its own, with ``k`` above 100, and a cell averages the logs of several networks, each with
   its own data: two, or more until `FEWEST_FIRED` neurons fired on a point. Seeds are the clusters.
3. Residuals come from the networks' own predictions before and after, never from the run's report.
4. One interval per alpha; together they err at most as often as one of 95% (Bonferroni).

Cost of a network: ``n k d`` to draw, ``n^2`` integrals of 64 nodes for the law.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtr

from reference.notation import DivergenceError, FloatArray, NothingFiresError, SingularGramError
from verify import problems, seeds
from verify.claims.convergence import missed
from verify.experiment import Claim, CodeUnderTest, Experiment, Finding, Inputs, Profile, Result
from verify.statistics import Interval, decide_above, decide_inside, make_finding, slope, t_interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from fast.two_layer import StartingNetwork

SIZES = {"random": (32, 16), "crowded": (48, 6)}
"""Data points and dimension of each family; both draw uniform unit inputs."""
EXPONENTS = {
    0.1: (11, 14, 16),
    0.2: (12, 14, 16),
    0.3: (14, 17, 19),
    0.4: (17, 20, 23),
    0.5: (22, 25, 27),
    0.6: (28, 32, 35),
    0.7: (38, 43, 46),
    0.75: (44, 47, 50),
}
"""For each alpha the widths, as exponents of 2."""
CROWDED_ALPHA, CROWDED_EXPONENT = 0.7, 42
SEEDS, SEEDS_THOROUGH = 8, 60
FEWEST_FIRED = 800
BELOW, JUST_BELOW, ABOVE, FAR_ABOVE = (0.1, 0.2, 0.3), 0.4, (0.6, 0.7, 0.75), (0.7, 0.75)

LAW_MARGIN, SLOPE_MARGIN, LIMIT_MARGIN = 0.03, 0.02, 0.03
FALLS_MARGIN, SLOW_MARGIN, STAYS_MARGIN = 0.05, 0.03, 0.01
GROWTH_MARGIN = 0.1
CONFIDENCE = 0.95

NODES, WEIGHTS = np.polynomial.legendre.leggauss(64)
"""Gauss-Legendre quadrature on [-1, 1]."""
REACH = 8.0
"""How many standard deviations the integrals reach; beyond lie 1e-15 of a normal distribution."""

CLAIMS = (
    Claim(
        "first_ratio.law",
        "On random inputs, at each of eight alphas from 0.1 to 0.75, the first iteration leaves the share of the "
        "residual that the pair law predicts, within 3%.",
        "ours",
    ),
    Claim(
        "first_ratio.slope",
        "The pair law holds at every width alike: at each of these alphas the ratio of measured to predicted share "
        "has exponent 0 in the width, within 0.02.",
        "ours",
    ),
    Claim(
        "first_ratio.falls",
        "Well below alpha = 1/2 width helps: at alpha = 0.1, 0.2 and 0.3 the share that the first iteration leaves "
        "falls as the width grows, at least as fast as m^-0.05.",
        "[A], Theorem 1.1, whose alpha ends at 0.24; the rest is ours",
    ),
    Claim(
        "first_ratio.slow",
        "Just below alpha = 1/2 width hardly helps: at alpha = 0.4, at the widths measured, the share that the first "
        "iteration leaves follows a power of m with exponent within 0.03 of 0; in the limit it would be -0.1.",
        "ours; the exponent in the limit is theory and not measured",
    ),
    Claim(
        "first_ratio.stays",
        "Above alpha = 1/2 width does not help: at alpha = 0.6, 0.7 and 0.75 the share that the first iteration "
        "leaves, relative to its limit for infinite width, does not fall as the width grows (exponent -0.01 or more).",
        "ours",
    ),
    Claim(
        "first_ratio.limit",
        "Far above alpha = 1/2, at 0.7 and 0.75, the first iteration turns the residual r into one as long as "
        "r - X X^T r / 2, within 3%: at n = 2 d about 0.86 of r, not one half.",
        "ours",
    ),
    Claim(
        "first_ratio.crowded",
        "Far above alpha = 1/2, with many random data points (n = 8 d), the first iteration makes the residual larger "
        "by a tenth or more, although the network has 2^42 neurons.",
        "ours",
    ),
)


def cells(profile: Profile) -> list[Inputs]:
    """List the widths of every alpha and the crowded setting, each for every seed; the widest first."""
    settings = [("random", alpha, exponent) for alpha, exponents in EXPONENTS.items() for exponent in exponents[::-1]]
    settings.append(("crowded", CROWDED_ALPHA, CROWDED_EXPONENT))
    return [
        {"family": family, "alpha": alpha, "width": 1 << exponent, "seed": seed}
        for family, alpha, exponent in settings
        for seed in range(SEEDS_THOROUGH if profile.thorough else SEEDS)
    ]


def measure(inputs: Inputs, rng: np.random.Generator, code: CodeUnderTest) -> Result:
    """Take one step of several networks; report the mean logs of the measured, predicted and limiting ratio."""
    alpha, width = inputs["alpha"], inputs["width"]
    shift = math.sqrt(2 * alpha * math.log(width))
    fired = width * float(ndtr(-shift))
    networks = max(2, math.ceil(FEWEST_FIRED / fired))
    logs = []
    try:
        for _ in range(networks):
            problem = problems.make("random", *SIZES[inputs["family"]], rng)
            network = code.lazy_initialize(problem.X, width=width, shift=shift, rng=rng)
            logs.append(log_ratios(network, problem, code))
    except (NothingFiresError, SingularGramError, DivergenceError) as failure:
        return {"failure": type(failure).__name__, "networks": networks}
    measured, predicted, limit = (float(column) for column in np.mean(logs, axis=0))
    return {"failure": "", "networks": networks, "measured": measured, "predicted": predicted, "limit": limit}


def log_ratios(network: StartingNetwork, problem: problems.Problem, code: CodeUnderTest) -> list[float]:
    """Return the logs of the first ratio: measured, by the pair law, and in the limit of infinite width."""
    X = problem.X
    before = np.asarray(network.predict(X) - problem.y, dtype=np.float64)
    # Almost every pair flips at large alpha; the trees mind least.
    trained = code.train(network, X, problem.y, iterations=1).network
    scores, C = X @ network.weights.T, X @ X.T
    fires = (scores >= network.shift).astype(np.float64)
    g = np.asarray(np.linalg.solve(C * (fires @ fires.T) / network.width, before), dtype=np.float64)
    after = [
        trained.predict(X) - problem.y,
        pair_law(g, C, fires.sum(axis=1), width=network.width, shift=network.shift),
        before - C @ before / 2,
    ]
    return [math.log(np.linalg.norm(residual) / np.linalg.norm(before)) for residual in after]


def pair_law(g: FloatArray, C: FloatArray, fired: FloatArray, *, width: int, shift: float) -> FloatArray:
    """Predict the residual after the first step by the pair law of the module docstring.

    Parameters
    ----------
    g : ndarray (n,)
        Gauss-Newton solution at the start.
    C : ndarray (n, n)
        Inner products ``X X^T``, below 1 in size off the diagonal.
    fired : ndarray (n,)
        Neurons that fire on each data point at the start.
    width : int
        ``m``.
    shift : float
        ``b``.

    Returns
    -------
    ndarray (n,)

    Examples
    --------
    A lone point drifts by 2; so far above the threshold few scores are, and half of the neurons have the wrong sign.

    >>> residual = pair_law(np.array([200.0]), np.eye(1), np.array([30.0]), width=10**4, shift=2.75)
    >>> round(float(residual[0] / (200.0 * 30 / 10**4)), 2)
    0.42
    """
    others = ~np.eye(len(g), dtype=bool)
    c = np.where(others, C, 0.0)
    t = (g / math.sqrt(width))[:, np.newaxis] + np.zeros_like(c)  # t[j, i] is the drift of j, its transpose that of i
    share = fired / (width * float(ndtr(-shift)))
    both, dragged = t + c * t.T, c * t.T
    alone = np.sign(g) * share * missed(np.abs(t[:, 0]), shift)
    together = np.sign(both) * flips(np.abs(both), c, shift, side=1) - np.sign(t) * flips(np.abs(t), c, shift, side=1)
    over = share * np.sign(dragged) * flips(np.abs(dragged), c, shift, side=-1)
    residual: FloatArray = math.sqrt(width) / 2 * (alone + np.where(others, together - over, 0.0).sum(axis=1))
    return residual


def flips(T: FloatArray, c: FloatArray, b: float, *, side: int) -> FloatArray:
    """Compute ``V+(T)`` (side 1) or ``V-(T)`` (side -1) of the module docstring by Gauss-Legendre quadrature.

    Parameters
    ----------
    T : ndarray
        Drifts, not negative.
    c : ndarray, same shape
        Inner products, below 1 in size.
    b : float
        Shift.
    side : {1, -1}
        Scores above or below the threshold.

    Returns
    -------
    ndarray, same shape

    Examples
    --------
    At right angles the chance to fire on the other point is ``Phi(-b)``, and what remains is `missed`.

    >>> T = np.array([0.5])
    >>> bool(abs(flips(T, np.array([0.0]), 2.0, side=1) - ndtr(-2.0) * missed(T, 2.0)) < 1e-12)
    True
    """
    # Below the threshold the scores may lie as low as -b, when the two points are nearly opposite.
    end = np.minimum(T, REACH if side > 0 else 2 * b + REACH)
    s = end[..., np.newaxis] * (NODES + 1) / 2
    score, across = b + side * s, c[..., np.newaxis]
    fires = ndtr((across * score - b) / np.sqrt(1 - across**2))
    density = np.exp(-(score**2) / 2) / math.sqrt(2 * math.pi)
    integral: FloatArray = end / 2 * (((T[..., np.newaxis] - s) * density * fires) @ WEIGHTS)
    return integral


def decide(results: Sequence[tuple[Inputs, Result]]) -> list[Finding]:
    """Reduce each seed to gaps and slopes of logs, alpha by alpha; decide the seven claims over seeds."""
    columns = {alpha: of_alpha(results, alpha) for alpha in EXPONENTS}
    widest = {alpha: columns[alpha][-1:] for alpha in FAR_ABOVE}
    count = len(columns[JUST_BELOW][0])
    at_end = np.mean([math.exp(log) for alpha in FAR_ABOVE for log in logs_of(widest[alpha], "measured")] or [np.nan])
    return [
        _find_worst(
            "law",
            {alpha: mean_of(columns[alpha], gap_to_law, len(EXPONENTS)) for alpha in EXPONENTS},
            (-LAW_MARGIN, LAW_MARGIN),
            "Mean log(measured / predicted ratio)",
            count,
        ),
        _find_worst(
            "slope",
            {alpha: slope_of(columns[alpha], gap_to_law, len(EXPONENTS)) for alpha in EXPONENTS},
            (-SLOPE_MARGIN, SLOPE_MARGIN),
            "Slope of log(measured / predicted ratio) in log m",
            count,
        ),
        _find_worst(
            "falls",
            {alpha: slope_of(columns[alpha], log_measured, len(BELOW)) for alpha in BELOW},
            (-math.inf, -FALLS_MARGIN),
            "Slope of the log of the ratio in log m",
            count,
        ),
        _find_worst(
            "slow",
            {JUST_BELOW: slope_of(columns[JUST_BELOW], log_measured, 1)},
            (-SLOW_MARGIN, SLOW_MARGIN),
            "Slope of the log of the ratio in log m",
            count,
        ),
        _find_worst(
            "stays",
            {alpha: slope_of(columns[alpha], gap_to_limit, len(ABOVE)) for alpha in ABOVE},
            (-STAYS_MARGIN, math.inf),
            "Slope of log(ratio / its limit) in log m",
            count,
        ),
        _find_worst(
            "limit",
            {alpha: mean_of(widest[alpha], gap_to_limit, len(FAR_ABOVE)) for alpha in FAR_ABOVE},
            (-LIMIT_MARGIN, LIMIT_MARGIN),
            f"Mean log(ratio / its limit) at the largest width, where the mean ratio is {at_end:.3f},",
            count,
        ),
        _find_crowded(results),
    ]


Column = list[tuple[float, Result]]
"""The seeds of one width, with the log of that width."""


def of_alpha(results: Sequence[tuple[Inputs, Result]], alpha: float) -> list[Column]:
    """Collect the results of one alpha on random inputs, width by width, increasing; seeds in order."""
    columns: dict[int, dict[int, Result]] = {}
    for inputs, result in results:
        if inputs["family"] == "random" and inputs["alpha"] == alpha:
            columns.setdefault(inputs["width"], {})[inputs["seed"]] = result
    return [[(math.log(m), columns[m][seed]) for seed in sorted(columns[m])] for m in sorted(columns)]


def log_measured(result: Result) -> float:
    """Return the mean log of the measured ratio; NaN, which decisions call invalid, for a cell that failed."""
    return math.nan if result["failure"] else float(result["measured"])


def gap_to_law(result: Result) -> float:
    """Return the mean ``log(measured / predicted)``."""
    return math.nan if result["failure"] else float(result["measured"] - result["predicted"])


def gap_to_limit(result: Result) -> float:
    """Return the mean ``log(measured / limit)``."""
    return math.nan if result["failure"] else float(result["measured"] - result["limit"])


def mean_of(columns: list[Column], quantity: Callable[[Result], float], alphas: int) -> Interval:
    """Average over the widths, seed by seed; one of ``alphas`` intervals that err together as one of 95% does."""
    table = np.array([[quantity(result) for _, result in column] for column in columns])
    return t_interval(table.mean(axis=0), confidence=1 - (1 - CONFIDENCE) / alphas)


def slope_of(columns: list[Column], quantity: Callable[[Result], float], alphas: int) -> Interval:
    """Fit a slope in log m, seed by seed; see `mean_of`."""
    slopes = [
        slope([log_m for log_m, _ in row], [quantity(result) for _, result in row])[0]
        for row in zip(*columns, strict=True)
    ]
    return t_interval(slopes, confidence=1 - (1 - CONFIDENCE) / alphas)


def logs_of(columns: list[Column], name: str) -> list[float]:
    """List one number of all cells that did not fail."""
    return [float(result[name]) for column in columns for _, result in column if not result["failure"]]


def _find_worst(
    name: str, intervals: dict[float, Interval], margin: tuple[float, float], what: str, count: int
) -> Finding:
    """Let the least favourable verdict over the alphas stand, and show the interval that reaches furthest out."""
    low, high = margin
    verdicts = {alpha: decide_inside(interval, low, high) for alpha, interval in intervals.items()}
    verdict = min(verdicts.values(), key=("invalid", "fails", "undecided", "holds").index)
    alpha = max(
        (alpha for alpha in intervals if verdicts[alpha] == verdict),
        key=lambda alpha: max(low - intervals[alpha].low, intervals[alpha].high - high),
    )
    if math.isinf(low):
        relation = f"<= {high}"
    elif math.isinf(high):
        relation = f">= {low}"
    else:
        relation = f"within +-{high} of 0"
    several = len(intervals) > 1
    which = f"alpha={alpha}" + (f", of {len(intervals)} alphas the nearest to a refutation" if several else "")
    return make_finding(
        f"first_ratio.{name}",
        intervals[alpha],
        verdict,
        margin=relation + (" at every alpha" if several else ""),
        domain=f"{describe_domain(intervals)}, {count} seeds",
        reason=f"{what} at {which}; 95% t-intervals over seeds, jointly.",
    )


def describe_domain(alphas: Iterable[float]) -> str:
    """Say for which sizes, data and shifts the verdicts speak."""
    n, d = SIZES["random"]
    widths = ", ".join(f"2^{EXPONENTS[a][0]}..2^{EXPONENTS[a][-1]} at alpha={a}" for a in alphas)
    return f"n={n}, d={d}, random unit inputs, labels +-1, m={widths}"


def _find_crowded(results: Sequence[tuple[Inputs, Result]]) -> Finding:
    crowded = [result for inputs, result in results if inputs["family"] == "crowded"]
    growth = t_interval([log_measured(result) for result in crowded], confidence=CONFIDENCE)
    limit = float(np.mean([math.exp(result["limit"]) for result in crowded if not result["failure"]] or [np.nan]))
    n, d = SIZES["crowded"]
    return make_finding(
        "first_ratio.crowded",
        growth,
        decide_above(growth, math.log1p(GROWTH_MARGIN)),
        margin=f">= log {1 + GROWTH_MARGIN}",
        domain=f"n={n}, d={d}, random unit inputs, labels +-1, m=2^{CROWDED_EXPONENT}, alpha={CROWDED_ALPHA}, "
        f"{len(crowded)} seeds",
        reason=f"Mean log of the ratio, 95% t-interval over seeds; in the limit the mean ratio is {limit:.3f}.",
    )


def typical_ratio(width: int, alpha: float, drawn: Sequence[problems.Problem]) -> float:
    """Evaluate the pair law for networks in which everything sits at its mean; average it over problems."""
    shift = math.sqrt(2 * alpha * math.log(width))
    tail = float(ndtr(-shift))
    ratios = []
    for X, y in ((problem.X, problem.y) for problem in drawn):
        law = pair_law(y / tail, X @ X.T, np.full(len(X), width * tail), width=width, shift=shift)
        ratios.append(np.linalg.norm(law) / np.linalg.norm(y))
    return float(np.mean(ratios))


def plot(figure: Figure, results: Sequence[tuple[Inputs, Result]]) -> None:
    """Draw the first ratio against alpha, and for each against the width; lines: law, dashed: 1/2, dotted: limit."""
    left, right = figure.subplots(1, 2, sharey=True)
    n, d = SIZES["random"]
    rng = seeds.generator(0, "first_ratio", "plot")
    drawn = [problems.make("random", n, d, rng)]
    for index, power in enumerate((12, 20, 30, 40, 50)):
        alphas = [float(a) for a in np.linspace(0.05, 0.8, 16) if 2.0 ** (power * (1 - a)) > 50]
        law = [typical_ratio(1 << power, a, drawn) for a in alphas]
        left.semilogy(alphas, law, "-", marker="", color=f"C{index}", label=f"law, $m = 2^{{{power}}}$")
    for index, alpha in enumerate(EXPONENTS):
        columns = of_alpha(results, alpha)
        exponents = [column[0][0] / math.log(2) for column in columns]
        shown = [[math.exp(each) for each in logs_of([column], "measured")] for column in columns]
        law = [math.exp(float(np.mean(logs_of([column], "predicted") or [np.nan]))) for column in columns]
        label = "measured, one point per seed"
        for exponent, points in zip(exponents, shown, strict=True):
            left.plot([alpha] * len(points), points, ".", color="black", alpha=0.4, label=label if not index else None)
            right.plot([exponent] * len(points), points, ".", color=f"C{index % 6}", alpha=0.5)
            label = ""
        right.plot(exponents, law, "-", marker="", color=f"C{index % 6}")
        right.annotate(f"{alpha}", (exponents[-1], law[-1]), xytext=(4, 0), textcoords="offset points", va="center")
    for axes in (left, right):
        axes.axhline(0.5, linestyle="--", marker="", color="black", linewidth=0.8)
        axes.axhline(math.sqrt(1 + (n - 1) / d) / 2, linestyle=":", marker="", color="black", linewidth=0.8)
    left.axvline(0.5, marker="", color="black", linewidth=0.5)
    left.set(xlabel="alpha", ylabel="residual after / before the first iteration", ylim=(0.03, 1.1))
    figure.legend(loc="outside lower center", ncols=3)
    right.set(xlabel="log2 of the width m", title="every alpha by width")


EXPERIMENT = Experiment(
    name="first_ratio",
    title="The first iteration on both sides of alpha = 1/2",
    claims=CLAIMS,
    cells=cells,
    measure=measure,
    decide=decide,
    plot=plot,
)
