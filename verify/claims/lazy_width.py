"""Claim: drawing only the neurons that fire is, in distribution, drawing all of them and dropping the rest.

Mathematics (ours; the proof is in `fast.lazy_width`). Unit points in pairs at one angle, weights ``w ~ N(0, I_d)``,
shift ``b`` with ``m Phi(-b) = K``. In a full draw, and so in a lazy one::

    fired on a point                 Bin(m, q),  q = Phi(-b)                               mean K
    fired on both points of a pair   Bin(m, q c),  c = P(z_2 >= b | z_1 >= b), correlation cos(angle)
    given that w fires on x          Phi(-<w, x>) / q  and  Phi(<w, v>)  uniform on [0, 1],  v a unit vector across x
    signs                            independent of the row

These laws need no full draw, so they are asked for at widths up to 2^50. What has no closed form (how many neurons fire
on some point, in mean and in variance; the first residual ratio) is compared with full draws on the same data at
widths where those are cheap:

1. ``fired``        Is ``log(fired / K)`` zero on average?
2. ``shared``       Is ``log(shared / (K c))``? A neuron that two draws produce is counted twice here.
3. ``law``          Are the two uniform laws met? Largest distance of the distribution functions, over both.
4. ``signs``        Is the correlation of a neuron's sign with its row number zero?
5. ``touched``      Does as large a number of neurons fire somewhere as in full draws?
6. ``spread``       Does that number vary as much? Its mean would not tell a binomial from a Poisson or a fixed number.
7. ``first_ratio``  Is the residual ratio of the first Gauss-Newton step the same? And does a network that took it, when
   it is written out as a dense one (`LazyNetwork.to_dense`), predict the same as before?

Of networks that were drawn for one point of each pair, so that the others are further points:

8. ``extended``     Extended by the others (`LazyNetwork.extend`), do they meet the first two laws, as if all points had
   been given at the start? And given the others as ``unseen`` at the start, so long that ``K`` neurons fire on each
   where ``K / 8`` fire on a unit point, are those ``K`` there?
9. ``missing``      Before it is extended, a network predicts the other points without the neurons that it lacks. Is the
   mean square of what they add no more than `LazyNetwork.missing_deviation` says? Does a warning come with such a
   prediction, and none with one of points that were given? Is training on the others refused?

How it is measured
1. The unit of evidence is a seed: fresh data, fresh draws. Each claim is that a difference lies within a margin; "not
   significantly different" would reward small samples.
2. For `law` neurons are independent given the data, so the band of Dvoretzky, Kiefer and Wolfowitz with Massart's
   (1990) constant holds for the pooled neurons; two laws share the error rate. Distances are taken at the edges of
   `BINS` bins.
3. The bivariate tail ``c`` is integrated here by a general routine, apart from the code that computes kernels.

Cost of a cell: 10 to 400 ms.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.integrate import quad
from scipy.special import ndtr, ndtri

from reference.notation import FloatArray, InputError
from verify import problems, statistics
from verify.experiment import Claim, CodeUnderTest, Experiment, Finding, Inputs, Profile, Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from fast.lazy_width import LazyNetwork

SEEDS, SEEDS_THOROUGH = 16, 100
ERROR_RATE = 0.05

N, D = 16, 8
FIRED = 2048
"""``K``, neurons that fire on a point on average."""
UNIT_FIRED = FIRED // 8
"""Likewise where unseen points are longer than unit ones, so that ``K`` neurons fire on those."""
LOG_WIDTHS = (14, 16, 20, 30, 40, 50)
LOG_EXTENDED = (20, 40)
"""At 2^14 two of the 16 points are fired on by a neuron on average, so that all neurons have to be drawn."""
ANGLE = problems.ANGLES["pairs"]
BINS = 50

REPEATED_N, REPEATED_D, REPEATED_WIDTH, REPEATED_SHIFT, REPEATS = 4, 3, 200, 1.1, 600
RATIO_WIDTH, RATIO_ALPHA, RATIO_REPEATS = 1 << 14, 0.24, 10

FIRED_MARGIN, SHARED_MARGIN = 0.01, 0.02
LAW_MARGIN = 0.01
SIGNS_MARGIN = 0.01
TOUCHED_MARGIN, SPREAD_MARGIN = 0.01, 0.15
RATIO_MARGIN = 0.03
DENSE_MARGIN = 1e-9
"""Predictions, of labels +-1, may differ by this; rounding makes some 1e-15."""

CLAIMS = (
    Claim(
        "lazy_width.fired",
        "In networks of which only the fired neurons are drawn, m Phi(-b) neurons fire on a data point, within 1%, "
        "at widths up to 2^50.",
        "ours",
    ),
    Claim(
        "lazy_width.shared",
        "In such networks, as many neurons fire on both points of a pair as the bivariate normal tail says, within 2%, "
        "at widths up to 2^50.",
        "ours",
    ),
    Claim(
        "lazy_width.law",
        "The weights of the neurons that fire on a point follow the normal tail along it and the normal law across "
        "it: no distribution function is off by more than 0.01.",
        "ours",
    ),
    Claim(
        "lazy_width.signs",
        "The sign of a neuron says nothing about its place in the network: their correlation is 0, within 0.01.",
        "ours",
    ),
    Claim(
        "lazy_width.touched",
        "As many neurons fire on some data point as in full draws on the same data, on average, within 1%.",
        "ours",
    ),
    Claim(
        "lazy_width.spread",
        "The number of neurons that fire on some data point varies from draw to draw as it does in full draws: "
        "the log of the ratio of the variances is 0, within 0.15.",
        "ours",
    ),
    Claim(
        "lazy_width.first_ratio",
        "The first Gauss-Newton step shrinks the residual of such a network as much as that of a full draw on the same "
        "data: the mean log ratios agree within 0.03. Written out as a dense network, it then predicts the same.",
        "ours",
    ),
    Claim(
        "lazy_width.extended",
        "In networks drawn for one point of each pair and extended by the other, as many neurons fire on a point, "
        "within 1%, and on both points of a pair, within 2%, as if all points had been given at once. On unseen points "
        "given at the start, longer than unit ones, as many fire as the law says, within 1%.",
        "ours",
    ),
    Claim(
        "lazy_width.missing",
        "What the neurons that a network lacks would add to predictions on other points is, in mean square, no more "
        "than it says. A warning comes with such predictions, and training on those points is refused.",
        "ours",
    ),
)


def shift_at(width: int, fired: int = FIRED) -> float:
    """Return the shift at which so many of ``m`` neurons fire on a unit point on average, ``K`` by default.

    Examples
    --------
    >>> bool(abs(2**40 * ndtr(-shift_at(2**40)) - 2048) < 1e-6)
    True
    """
    return -float(ndtri(fired / width))


@cache
def shared_given_fired(shift: float, angle: float) -> float:
    """Integrate ``c = P(z_2 >= b | z_1 >= b)`` at correlation ``cos(angle)`` over ``z_1``.

    Examples
    --------
    At ``b = 0`` the two half-planes overlap in a wedge of ``pi - angle``.

    >>> round(shared_given_fired(0.0, 1.0), 12) == round((np.pi - 1.0) / np.pi, 12)
    True
    """

    def integrand(z: float) -> float:
        density = math.exp(-(z * z - shift * shift) / 2)
        return density * float(ndtr((z * math.cos(angle) - shift) / math.sin(angle)))

    scale = math.exp(-shift * shift / 2) / math.sqrt(2 * math.pi) / float(ndtr(-shift))
    near, _ = quad(integrand, shift, shift + 2, epsabs=0, epsrel=1e-11, limit=200)
    far, _ = quad(integrand, shift + 2, shift + 12, epsabs=1e-14, epsrel=1e-9, limit=200)
    return scale * float(near + far)


def cells(profile: Profile) -> list[Inputs]:
    """List the widths, then the comparisons with full draws, each for every seed."""
    seeds = range(SEEDS_THOROUGH if profile.thorough else SEEDS)
    tails = [{"part": "tails", "width": 1 << log, "seed": seed} for log in LOG_WIDTHS for seed in seeds]
    extended = [{"part": "extended", "width": 1 << log, "seed": seed} for log in LOG_EXTENDED for seed in seeds]
    return tails + extended + [{"part": part, "seed": seed} for part in ("repeats", "ratios") for seed in seeds]


def measure(inputs: Inputs, rng: np.random.Generator, code: CodeUnderTest) -> Result:
    """Measure one cell of the part that its inputs name."""
    if inputs["part"] == "tails":
        return measure_tails(inputs["width"], rng, code)
    if inputs["part"] == "extended":
        return measure_extended(inputs["width"], rng, code)
    return (measure_repeats if inputs["part"] == "repeats" else measure_ratios)(rng, code)


def measure_tails(width: int, rng: np.random.Generator, code: CodeUnderTest) -> Result:
    """Draw one lazy network and reduce it to counts, histograms and a correlation."""
    X = problems.make("pairs", N, D, rng).X
    shift = shift_at(width)
    network = code.lazy_initialize(X, width=width, shift=shift, rng=rng)
    scores = X @ network.weights.T
    fires = scores >= shift
    x, partner = X[-1], X[-2]
    across = partner - (partner @ x) * x
    on_last = network.weights[fires[-1]]
    along_law = np.minimum(ndtr(-scores[-1, fires[-1]]) / (FIRED / width), 1)
    across_law = ndtr(on_last @ across / np.linalg.norm(across))
    row = np.arange(len(network.signs)) - (len(network.signs) - 1) / 2
    return {
        "fired": float(fires.sum(axis=1).mean()),
        "shared": float((fires[::2] & fires[1::2]).sum(axis=1).mean()),
        "along": histogram(along_law),
        "across": histogram(across_law),
        "sign_row": float(row @ network.signs / max(np.linalg.norm(row) * math.sqrt(len(row)), 1e-300)),
    }


def measure_extended(width: int, rng: np.random.Generator, code: CodeUnderTest) -> Result:
    """Draw a lazy network for one point of each pair and extend it by the other; draw one with the other unseen."""
    X = problems.make("pairs", N, D, rng).X
    shift = shift_at(width)
    network = code.lazy_initialize(X[::2], width=width, shift=shift, rng=rng)
    extended = network.extend(X[1::2], rng=rng)
    fires = np.greater_equal(X @ extended.weights.T, shift)
    before, warned = predict(network, X[1::2])
    after, warned_of_given = predict(extended, X[1::2])
    return {
        "fired": float(fires[1::2].sum(axis=1).mean()),
        "shared": float((fires[::2] & fires[1::2]).sum(axis=1).mean()),
        "missed": float(np.mean(((after - before) / network.missing_deviation(X[1::2])) ** 2)),
        "warned": warned and not warned_of_given,
        "refused": refuses(network, X[1::2], code),
        "unseen": fired_on_unseen(X, width, rng, code),
    }


def predict(network: LazyNetwork, X: FloatArray) -> tuple[FloatArray, bool]:
    """Predict, and tell whether a warning came with it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        return network.predict(X), any(issubclass(each.category, UserWarning) for each in caught)


def refuses(network: object, X: FloatArray, code: CodeUnderTest) -> bool:
    """Tell whether a network refuses to be trained on these points."""
    try:
        code.train(network, X, np.ones(len(X)), iterations=1)
    except InputError:
        return True
    return False


def fired_on_unseen(X: FloatArray, width: int, rng: np.random.Generator, code: CodeUnderTest) -> float:
    """Draw a lazy network for one point of each pair, the other unseen and longer; count what fires on such a one."""
    shift = shift_at(width, UNIT_FIRED)
    unseen = shift / shift_at(width) * X[1::2]
    network = code.lazy_initialize(X[::2], width=width, shift=shift, rng=rng, unseen=unseen)
    return float((unseen @ network.weights.T >= shift).sum(axis=1).mean())


def histogram(uniform: FloatArray) -> list[int]:
    """Count numbers that should be uniform on [0, 1] in equal bins."""
    return [int(count) for count in np.histogram(uniform, bins=BINS, range=(0.0, 1.0))[0]]


def measure_repeats(rng: np.random.Generator, code: CodeUnderTest) -> Result:
    """Count the neurons that fire on some point in many small networks on the same data, lazy and full."""
    X = problems.make("pairs", REPEATED_N, REPEATED_D, rng).X

    def touched(network: object) -> int:
        return int((X @ network.weights.T >= REPEATED_SHIFT).any(axis=0).sum())  # type: ignore[attr-defined]

    lazy, full = [], []
    for _ in range(REPEATS):
        lazy.append(touched(code.lazy_initialize(X, width=REPEATED_WIDTH, shift=REPEATED_SHIFT, rng=rng)))
        full.append(touched(code.initialize(REPEATED_WIDTH, REPEATED_D, shift=REPEATED_SHIFT, rng=rng)))
    return {
        "lazy_mean": float(np.mean(lazy)),
        "full_mean": float(np.mean(full)),
        "lazy_variance": float(np.var(lazy, ddof=1)),
        "full_variance": float(np.var(full, ddof=1)),
    }


def measure_ratios(rng: np.random.Generator, code: CodeUnderTest) -> Result:
    """Take the first Gauss-Newton step from many networks on the same data, lazy and full."""
    problem = problems.make("random", N, D, rng)
    shift = math.sqrt(2 * RATIO_ALPHA * math.log(RATIO_WIDTH))

    def first_step(network: object) -> tuple[Any, float]:
        trace = code.train(network, problem.X, problem.y, iterations=1)
        return trace.network, math.log(trace.residual_norms[1] / trace.residual_norms[0])

    lazy, full = [], []
    for _ in range(RATIO_REPEATS):
        trained, log_ratio = first_step(code.lazy_initialize(problem.X, width=RATIO_WIDTH, shift=shift, rng=rng))
        lazy.append(log_ratio)
        full.append(first_step(code.initialize(RATIO_WIDTH, D, shift=shift, rng=rng))[1])
    apart = np.abs(trained.to_dense().predict(problem.X) - trained.predict(problem.X)).max()
    return {
        "lazy_log_ratio": float(np.mean(lazy)),
        "full_log_ratio": float(np.mean(full)),
        "dense_apart": float(apart),
    }


Results = Sequence[tuple[Inputs, Result]]


def select(results: Results, part: str) -> Results:
    """Keep the cells of one part."""
    return [(inputs, result) for inputs, result in results if inputs["part"] == part]


def per_seed(results: Results, value: Callable[[Inputs, Result], float]) -> list[float]:
    """Average a number over the cells of each seed."""
    groups: dict[int, list[float]] = {}
    for inputs, result in results:
        groups.setdefault(inputs["seed"], []).append(value(inputs, result))
    return [float(np.mean(group)) for group in groups.values()]


def log_quotient(numerator: float, denominator: float) -> float:
    """Return ``log(numerator / denominator)``; minus infinity for 0, which decisions call invalid."""
    return math.log(numerator / denominator) if numerator > 0 and denominator > 0 else -math.inf


def off_the_fired_law(inputs: Inputs, result: Result) -> float:
    """Return ``log(fired / K)``."""
    return log_quotient(result["fired"], FIRED)


def off_the_shared_law(inputs: Inputs, result: Result) -> float:
    """Return ``log(shared / (K c))``."""
    return log_quotient(result["shared"], FIRED * shared_given_fired(shift_at(inputs["width"]), ANGLE))


def off_the_unseen_law(inputs: Inputs, result: Result) -> float:
    """Return ``log(fired / K)`` of unseen points."""
    return log_quotient(result["unseen"], FIRED)


def largest_distance(tails: Results) -> statistics.Interval:
    """Take the larger distance from uniform of the two pooled laws, with its band."""
    pooled = [np.sum([result[name] for _, result in tails], axis=0) for name in ("along", "across")]
    count = min(int(histogram.sum()) for histogram in pooled)
    if count == 0:
        return statistics.NOT_A_NUMBER
    grid = np.arange(1, BINS + 1) / BINS
    distance = max(float(np.abs(np.cumsum(bins) / bins.sum() - grid).max()) for bins in pooled)
    band = math.sqrt(math.log(2 * len(pooled) / ERROR_RATE) / (2 * count))
    return statistics.Interval(distance, max(0.0, distance - band), distance + band)


def decide(results: Results) -> list[Finding]:
    """Decide the claims, each from the cells of its part."""
    tails, repeats, ratios, extended = (select(results, part) for part in ("tails", "repeats", "ratios", "extended"))
    tails_domain, repeats_domain, ratios_domain, extended_domain = domains(results)
    law = largest_distance(tails)
    return [
        _within(0, per_seed(tails, off_the_fired_law), FIRED_MARGIN, tails_domain, "Mean of log(fired / K)"),
        _within(1, per_seed(tails, off_the_shared_law), SHARED_MARGIN, tails_domain, "Mean of log(shared / (K c))"),
        statistics.make_finding(
            CLAIMS[2].id,
            law,
            statistics.decide_below(law, LAW_MARGIN),
            margin=f"<= {LAW_MARGIN}",
            domain=tails_domain,
            reason="Larger of two distances between distribution functions, neurons pooled; "
            "Dvoretzky-Kiefer-Wolfowitz band at 95% for both together.",
        ),
        _within(
            3,
            per_seed(tails, lambda _, result: float(result["sign_row"])),
            SIGNS_MARGIN,
            tails_domain,
            "Correlation of sign and row number, averaged over widths",
        ),
        _within(
            4,
            per_seed(repeats, lambda _, result: log_quotient(result["lazy_mean"], result["full_mean"])),
            TOUCHED_MARGIN,
            repeats_domain,
            "Log of the ratio of the mean counts",
        ),
        _within(
            5,
            per_seed(repeats, lambda _, result: log_quotient(result["lazy_variance"], result["full_variance"])),
            SPREAD_MARGIN,
            repeats_domain,
            "Log of the ratio of the variances",
        ),
        _find_ratio(ratios, ratios_domain),
        _find_extended(extended, extended_domain),
        _find_missing(extended, extended_domain),
    ]


def _find_ratio(results: Results, domain: str) -> Finding:
    """Compare the mean ratios; a network that predicts otherwise when it is dense fails at once."""
    values = per_seed(results, lambda _, result: float(result["lazy_log_ratio"] - result["full_log_ratio"]))
    apart = [result["dense_apart"] for _, result in results]
    finding = _within(6, values, RATIO_MARGIN, domain, "Difference of the mean log ratios")
    return replace(
        finding,
        verdict=finding.verdict if all(each <= DENSE_MARGIN for each in apart) else "fails",
        reason=f"{finding.reason} Dense networks predict otherwise by at most {max(apart):.1g}.",
    )


def _find_extended(results: Results, domain: str) -> Finding:
    """Take the worst of the three laws, each as a share of its margin."""
    laws = (
        (off_the_fired_law, FIRED_MARGIN),
        (off_the_shared_law, SHARED_MARGIN),
        (off_the_unseen_law, FIRED_MARGIN),
    )
    intervals = [
        statistics.t_interval(
            [value / margin for value in per_seed(results, law)], confidence=1 - ERROR_RATE / len(laws)
        )
        for law, margin in laws
    ]
    worst = max(
        intervals,
        key=lambda each: max(abs(each.low), abs(each.high)) if math.isfinite(each.estimate) else math.inf,
    )
    return statistics.make_finding(
        "lazy_width.extended",
        worst,
        statistics.decide_inside(worst, -1, 1),
        margin="within +-1 of 0 (share of the margin)",
        domain=domain,
        reason=f"Worst of log(fired / K), on added and on unseen points, over {FIRED_MARGIN:g} and log(shared / (K c)) "
        f"over {SHARED_MARGIN:g}; 95% intervals for all together.",
    )


def _find_missing(results: Results, domain: str) -> Finding:
    """Compare what is missing with the bound; a network that keeps silent about it, or is trained, fails at once."""
    interval = statistics.t_interval(per_seed(results, lambda _, result: float(result["missed"])))
    warned, refused = (sum(bool(result[name]) for _, result in results) for name in ("warned", "refused"))
    return statistics.make_finding(
        "lazy_width.missing",
        interval,
        statistics.decide_below(interval, 1.0) if warned == refused == len(results) else "fails",
        margin="<= 1 (share of the bound on the mean square)",
        domain=domain,
        reason=f"Mean over points and widths, 95% interval over {len({i['seed'] for i, _ in results})} seeds; "
        f"{warned} of {len(results)} networks warned as they should, {refused} refused training.",
    )


def _within(claim: int, values: list[float], margin: float, domain: str, what: str) -> Finding:
    interval = statistics.t_interval(values, confidence=1 - ERROR_RATE)
    return statistics.make_finding(
        CLAIMS[claim].id,
        interval,
        statistics.decide_inside(interval, -margin, margin),
        margin=f"within +-{margin} of 0",
        domain=domain,
        reason=f"{what}, 95% interval over {len(values)} seeds.",
    )


def domains(results: Results) -> tuple[str, str, str, str]:
    """Say for which sizes, data and shift the verdicts of each part speak."""
    seeds = len({inputs["seed"] for inputs, _ in results})
    widths, extended = (", ".join(f"2^{log}" for log in logs) for logs in (LOG_WIDTHS, LOG_EXTENDED))
    return (
        f"n={N}, d={D}, m={widths}, shift such that m Phi(-b)={FIRED}, pairs at angle {ANGLE}, {seeds} seeds",
        f"n={REPEATED_N}, d={REPEATED_D}, m={REPEATED_WIDTH}, b={REPEATED_SHIFT}, pairs at angle {ANGLE}, "
        f"{REPEATS} lazy and {REPEATS} full draws a seed, {seeds} seeds",
        f"n={N}, d={D}, m=2^{int(math.log2(RATIO_WIDTH))}, b=sqrt(2 alpha ln m) at alpha={RATIO_ALPHA}, random unit "
        f"inputs, labels +-1, {RATIO_REPEATS} lazy and {RATIO_REPEATS} full draws a seed, {seeds} seeds",
        f"n={N // 2} and {N // 2} more, d={D}, m={extended}, shift such that m Phi(-b)={FIRED} ({UNIT_FIRED} where "
        f"points are unseen), pairs at angle {ANGLE}, {seeds} seeds",
    )


def plot(figure: Figure, results: Results) -> None:
    """Draw how far the counts are off their laws at each width, and the two laws of the weights."""
    counts, laws = figure.subplots(2, 1)
    tails = select(results, "tails")
    width = np.array([inputs["width"] for inputs, _ in tails], dtype=np.float64)
    for name, off, aside in (("fired", off_the_fired_law, 0.85), ("shared", off_the_shared_law, 1.18)):
        values = np.array([off(inputs, result) for inputs, result in tails])
        counts.semilogx(width * aside, 100 * np.expm1(values), "o", markersize=3, alpha=0.6, label=name)
    counts.axhline(0, color="tab:gray")
    counts.set_xscale("log", base=2)
    counts.set_xlabel("width m")
    counts.set_ylabel("off the law (%)")
    counts.legend(ncols=2, loc="lower left", bbox_to_anchor=(0, 1))
    edges = np.arange(BINS + 1) / BINS
    for name in ("along", "across"):
        bins = np.sum([result[name] for _, result in tails], axis=0)
        distance = np.concatenate([[0.0], np.cumsum(bins) / bins.sum()]) - edges
        laws.plot(edges, distance, label=f"{name} the point")
    for margin in (-LAW_MARGIN, LAW_MARGIN):
        laws.axhline(margin, color="tab:gray", linestyle="--")
    laws.set_xlabel("probability under the law")
    laws.set_ylabel("measured minus law")
    laws.legend(frameon=False)


EXPERIMENT = Experiment(
    name="lazy_width",
    title="Drawing only the neurons that fire changes nothing",
    claims=CLAIMS,
    cells=cells,
    measure=measure,
    decide=decide,
    plot=plot,
)
