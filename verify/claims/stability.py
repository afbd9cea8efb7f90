"""Claim: the wider the network, the less training moves; weights stay near their start and fewer pairs flip.

Mathematics. The proofs need the Gram matrix to stay near its start, which it does while weights stay within
a small radius and few pairs (neuron, data point) *flip* between firing and not firing. How small follows
from one linearized step, computed from the start alone (``K`` is the shifted NTK, ``A``, ``W``, ``f`` at
the start)::

    K g = f - y,     D_r = - m^(-1/2) a_r sum_i A_ir g_i x_i          predicted change of w_r
    R_1 = max_r ||D_r||                                               predicted radius
    F_1 = number of pairs whose firing differs at W and at W + D      predicted flips

On random inputs ``K ~ Phi(-b) I`` and ``|f_i - y_i| ~ 1``, so ``|g_i| ~ 1 / Phi(-b)``: every data point
pushes its neurons by ``e = 1 / (sqrt(m) Phi(-b))``. One neuron fires on few points at once: on
``j`` orthogonal ones with probability about ``m^(-alpha j)``, so hardly any does for ``j > 1 / alpha``.
Hence::

    R ~ e                                      slope in log m: tends to -1/2 + alpha, not to -1/2
    flips / fired pairs ~ e phi(b) / Phi(-b)   while e b is small: only scores within e of b can cross it

At the widths used here this is not yet little: from three quarters of the fired pairs down to 40% flip.
(Flips in both directions, over the pairs that fire at the start.)

Source: the roles of radius and flips are [A]'s (Theorem 5.1 rests on them); laws and constants are ours.

What is asked, with ``R`` and flips measured between start and end of a whole run
1. ``falls``      Does ``R`` fall as ``m`` grows?
2. ``radius``     At the rate ``1 / (sqrt(m) Phi(-b))``?
3. ``within``     Does every neuron stay within ``2 R_1``? Steps that halve the residual move at most
                  ``1 + 1/2 + ... = 2`` times the first one, as far as the pattern persists.
4. ``flips``      Does the share of fired pairs that flip fall as ``m`` grows?
5. ``predicted``  Are there as many flips as ``F_1`` foretells?

A run counts only if the dense network, evaluated here from the final weights, fits the labels to ``FITTED``
of the initial residual; otherwise the evidence is invalid. Weights that never moved would be stable too.

Cost of a cell: one training run and ``3 n m d`` multiply-adds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtr, owens_t

from reference.notation import DivergenceError, FloatArray
from reference.two_layer import TwoLayerNetwork
from verify import problems, statistics
from verify.experiment import Claim, CodeUnderTest, Experiment, Finding, Inputs, Profile, Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ALPHA = 0.24
N, D = 32, 16
SEEDS, SEEDS_THOROUGH = 7, 30
SMALLEST, LARGEST, LARGEST_THOROUGH = 11, 16, 19
"""Widths are the powers of two from ``2^SMALLEST``; below it a push ``e`` reaches a standard deviation."""
ITERATIONS = 25
TOLERANCE = 1e-8
FITTED = 1e-7
"""Largest final residual, as a multiple of the first, recomputed from dense weights."""

SLOPE_MARGIN = 0.1
RADIUS_FACTOR = 2.0
PROBABILITY = 0.9
FLIP_MARGIN = 0.2

OURS = "[A], Theorem 5.1 rests on it; law and constants are ours"
CLAIMS = (
    Claim("stability.falls", "The largest change of any neuron's weights falls as the width grows.", OURS),
    Claim(
        "stability.radius",
        "The largest change of any neuron's weights falls like 1 / (sqrt(m) Phi(-b)): "
        "the ratio's exponent is 0, within 0.1.",
        OURS,
    ),
    Claim(
        "stability.within",
        "With probability at least 0.9 every neuron stays within twice the radius "
        "that one linearized step predicts.",
        OURS,
    ),
    Claim("stability.flips", "The share of fired pairs that flip falls as the width grows.", OURS),
    Claim(
        "stability.predicted",
        "The number of pairs that flip is the number that one linearized step predicts, "
        "within a factor of e^0.2.",
        OURS,
    ),
)


def shift_at(width: int) -> float:
    """Return ``b = sqrt(2 alpha ln m)``, typed again here."""
    return math.sqrt(2 * ALPHA * math.log(width))


def push(width: int) -> float:
    """Return ``e = 1 / (sqrt(m) Phi(-b))``, how far one data point pushes each neuron that fires on it.

    Examples
    --------
    >>> round(push(2**16), 2)
    0.37
    """
    return float(1 / (math.sqrt(width) * ndtr(-shift_at(width))))


def flip_share(width: int) -> float:
    """Return ``e phi(b) / Phi(-b)``: the law for flips over fired pairs, up to a constant."""
    b = shift_at(width)
    return float(push(width) * math.exp(-b * b / 2) / math.sqrt(2 * math.pi) / ndtr(-b))


def kernel(X: FloatArray, shift: float) -> FloatArray:
    """Compute the shifted NTK from Owen's T function: ``P = Phi(-b) - 2 T(b, sqrt((1 - rho) / (1 + rho)))``.

    Examples
    --------
    Two orthogonal points share no kernel; a point meets itself with ``Phi(-b)``, here ``Phi(0) = 1/2``.

    >>> kernel(np.eye(2), 0.0)
    array([[0.5, 0. ],
           [0. , 0.5]])
    """
    # 1 - rho from differences: a square root of rounding errors would cost half the digits of close pairs.
    gap = np.sum((X[:, np.newaxis] - X) ** 2, axis=2) / 2
    joint = ndtr(-shift) - 2 * owens_t(shift, np.sqrt(gap / (2 - gap)))
    K: FloatArray = (1 - gap) * joint
    return K


def linearized_step(network: TwoLayerNetwork, X: FloatArray, y: FloatArray) -> FloatArray:
    """Predict the change ``D`` (m, d) of all weights from the start alone."""
    g = np.linalg.solve(kernel(X, network.shift), network.predict(X) - y)
    fires = network.weights @ X.T >= network.shift
    scale = -network.signs / math.sqrt(len(network.signs))
    step: FloatArray = scale[:, np.newaxis] * ((fires * g) @ X)
    return step


def cells(profile: Profile) -> list[Inputs]:
    """List the widths, each for every seed; largest first, so that a pool of workers ends evenly."""
    largest, seeds = (LARGEST_THOROUGH, SEEDS_THOROUGH) if profile.thorough else (LARGEST, SEEDS)
    return [
        {"width": 1 << exponent, "seed": seed}
        for exponent in range(largest, SMALLEST - 1, -1)
        for seed in range(seeds)
    ]


def measure(inputs: Inputs, rng: np.random.Generator, code: CodeUnderTest) -> Result:
    """Train one network; compare its final dense weights with the start and the linearized step."""
    width = inputs["width"]
    problem = problems.make("random", N, D, rng)
    X, y = problem.X, problem.y
    start = code.initialize(width, D, shift=shift_at(width), rng=rng)
    try:
        trace = code.train(start, X, y, iterations=ITERATIONS, tolerance=TOLERANCE, search="tree")
    except DivergenceError:
        return {"fitted": False}
    end = trace.network.to_dense()
    step = linearized_step(start, X, y)
    before = start.weights @ X.T >= start.shift
    after = end.weights @ X.T >= start.shift
    predicted = (start.weights + step) @ X.T >= start.shift
    residual = float(np.linalg.norm(end.predict(X) - y) / np.linalg.norm(start.predict(X) - y))
    return {
        "fitted": residual <= FITTED,
        "radius": float(np.linalg.norm(end.weights - start.weights, axis=1).max()),
        "predicted_radius": float(np.linalg.norm(step, axis=1).max()),
        "fired": int(np.count_nonzero(before)),
        "flips": int(np.count_nonzero(before != after)),
        "predicted_flips": int(np.count_nonzero(before != predicted)),
    }


def by_seed(results: Sequence[tuple[Inputs, Result]]) -> list[dict[str, FloatArray]]:
    """Group the cells: for each seed one array per quantity, in order of width."""
    groups: dict[int, list[dict[str, float]]] = {}
    for inputs, result in results:
        groups.setdefault(inputs["seed"], []).append({"width": inputs["width"], **result})
    tables = [sorted(group, key=lambda row: row["width"]) for group in groups.values()]
    return [{name: np.array([row[name] for row in rows], float) for name in rows[0]} for rows in tables]


def decide(results: Sequence[tuple[Inputs, Result]]) -> list[Finding]:
    """Reduce each seed to slopes and a level; decide the five claims over seeds."""
    domain = describe_domain(results)
    useless = sum(not is_evidence(result) for _, result in results)
    if useless:
        reason = f"In {useless} of {len(results)} runs the labels miss {FITTED:g}, or no pair flips."
        return [Finding(claim.id, "invalid", None, None, "all runs fit", domain, reason) for claim in CLAIMS]
    seeds = by_seed(results)
    over = f"95% interval over {len(seeds)} seeds"
    return [
        _find_falls(seeds, domain, over),
        _find_radius(seeds, domain, over),
        _find_within(results, domain),
        _find_flips(seeds, domain, over),
        _find_predicted(seeds, domain, over),
    ]


def is_evidence(result: Result) -> bool:
    """Tell whether a run fits its labels and moved enough to be compared in logarithms."""
    return bool(result["fitted"] and result["flips"] and result["predicted_flips"])


def _slopes(seeds: list[dict[str, FloatArray]], ratios: list[FloatArray]) -> statistics.Interval:
    fits = [statistics.slope(np.log(s["width"]), np.log(r)) for s, r in zip(seeds, ratios, strict=True)]
    return statistics.t_interval([steepness for steepness, _ in fits])


def _find_falls(seeds: list[dict[str, FloatArray]], domain: str, over: str) -> Finding:
    interval = _slopes(seeds, [s["radius"] for s in seeds])
    widths = seeds[0]["width"]
    expected, _ = statistics.slope(np.log(widths), np.log(along(push, widths)))
    return statistics.make_finding(
        "stability.falls",
        interval,
        statistics.decide_below(interval, 0.0),
        margin="< 0",
        domain=domain,
        reason=f"Slope of log R against log m, {over}; 1 / (sqrt(m) Phi(-b)) has slope {expected:.3f} here.",
    )


def _find_radius(seeds: list[dict[str, FloatArray]], domain: str, over: str) -> Finding:
    interval = _slopes(seeds, [s["radius"] / along(push, s["width"]) for s in seeds])
    return statistics.make_finding(
        "stability.radius",
        interval,
        statistics.decide_inside(interval, -SLOPE_MARGIN, SLOPE_MARGIN),
        margin=f"within +-{SLOPE_MARGIN} of 0",
        domain=domain,
        reason=f"Slope of log(R sqrt(m) Phi(-b)) against log m, {over}.",
    )


def _find_within(results: Sequence[tuple[Inputs, Result]], domain: str) -> Finding:
    # Every cell draws its own weights and data, so every cell is a trial.
    ratios = [result["radius"] / result["predicted_radius"] for _, result in results]
    stays = sum(ratio <= RADIUS_FACTOR for ratio in ratios)
    interval = statistics.proportion_interval(stays, len(ratios))
    return statistics.make_finding(
        "stability.within",
        interval,
        statistics.decide_above(interval, PROBABILITY),
        margin=f">= {PROBABILITY}",
        domain=domain,
        reason=f"{stays} of {len(ratios)} runs stay within; the worst reaches {max(ratios):.2f} predictions.",
    )


def _find_flips(seeds: list[dict[str, FloatArray]], domain: str, over: str) -> Finding:
    ratios = [s["flips"] / s["fired"] for s in seeds]
    interval = _slopes(seeds, ratios)
    first, *_, last = np.mean(ratios, axis=0)
    shares = f"from {first:.2f} to {last:.2f}"
    return statistics.make_finding(
        "stability.flips",
        interval,
        statistics.decide_below(interval, 0.0),
        margin="< 0",
        domain=domain,
        reason=f"Slope of log(flips / fired pairs) against log m, {over}; the share goes {shares}.",
    )


def _find_predicted(seeds: list[dict[str, FloatArray]], domain: str, over: str) -> Finding:
    interval = statistics.t_interval([np.log(s["flips"] / s["predicted_flips"]).mean() for s in seeds])
    return statistics.make_finding(
        "stability.predicted",
        interval,
        statistics.decide_inside(interval, -FLIP_MARGIN, FLIP_MARGIN),
        margin=f"within +-{FLIP_MARGIN} of 0",
        domain=domain,
        reason=f"Mean over widths of log(flips / predicted flips), {over}.",
    )


def along(function: Callable[[int], float], widths: FloatArray) -> FloatArray:
    """Evaluate a law at every width."""
    return np.array([function(int(width)) for width in widths])


def describe_domain(results: Sequence[tuple[Inputs, Result]]) -> str:
    """Say for which sizes, data and shift the verdicts speak."""
    widths = [inputs["width"] for inputs, _ in results]
    seeds = len({inputs["seed"] for inputs, _ in results})
    return (
        f"n={N}, d={D}, m=2^{int(math.log2(min(widths)))}..2^{int(math.log2(max(widths)))}, "
        f"b=sqrt(2 alpha ln m) at alpha={ALPHA}, random unit inputs and labels, {seeds} seeds, "
        f"runs to {TOLERANCE:g} of the initial residual"
    )


def plot(figure: Figure, results: Sequence[tuple[Inputs, Result]]) -> None:
    """Draw the radius and the share of flipped pairs against the width, with prediction and law."""
    left, right = figure.subplots(1, 2)
    seeds = by_seed([(inputs, result) for inputs, result in results if is_evidence(result)])
    for index, s in enumerate(seeds):
        series = [
            (left, s["radius"], "o", "tab:blue", "largest change R"),
            (left, s["predicted_radius"], "x", "tab:green", "one linearized step"),
            (right, s["flips"] / s["fired"], "o", "tab:blue", "flips / fired pairs"),
            (right, s["predicted_flips"] / s["fired"], "x", "tab:green", "one linearized step"),
        ]
        for axes, values, marker, color, label in series:
            name = label if index == 0 else None
            axes.loglog(s["width"], values, marker, markersize=4, alpha=0.6, color=color, label=name)
    for axes, law, measured, label in (
        (left, push, [s["radius"] for s in seeds], "law, scaled to the points"),
        (right, flip_share, [s["flips"] / s["fired"] for s in seeds], "law, scaled to the points"),
    ):
        widths = np.concatenate([s["width"] for s in seeds])
        # The laws hold up to a constant, taken here from the points.
        constant = np.exp(np.mean(np.log(np.concatenate(measured)) - np.log(along(law, widths))))
        line = np.unique(widths)
        axes.loglog(line, constant * along(law, line), color="tab:orange", label=label)
        axes.set_xscale("log", base=2)
        axes.set_xlabel("width m")
        axes.set_ylim(0.75 * axes.get_ylim()[0], None)
        axes.legend(frameon=False, loc="lower left")
    left.set_ylabel("largest change of a neuron's weights")
    right.set_ylabel("share of fired pairs")


EXPERIMENT = Experiment(
    name="stability",
    title="Wider networks move less",
    claims=CLAIMS,
    cells=cells,
    measure=measure,
    decide=decide,
    plot=plot,
)
